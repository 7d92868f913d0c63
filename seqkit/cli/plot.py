"""Figures as files, by matplotlib, which is an extra."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from seqkit.cli.main import common
from seqkit.errors import ConfigError, ResourceError
from seqkit.files import replace_file
from seqkit.system.terminal import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FORMS", "Form", "empty", "rendered", "write"]

Form = Literal["png", "svg"]
FORMS: tuple[Form, ...] = ("png", "svg")


def empty(width: float, height: float) -> Figure:
    """An empty figure of that size in inches. Raises ConfigError where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ConfigError("plotting needs matplotlib", "pip install '.[plot]'") from None
    return Figure(figsize=(width, height), layout="constrained")


def rendered(figure: Figure, form: Form) -> bytes:
    """A figure as the bytes of a file, which are the same for the same figure."""
    import matplotlib

    content = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "seqkit"}):
        # Characters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(content, format=form, dpi=150, metadata={"Date": None} if form == "svg" else None)
    return content.getvalue()


def write(path: Path, content: bytes) -> None:
    """Write a file and print its path. Raises ResourceError when it cannot be written."""
    try:
        replace_file(path, content)
    except OSError as error:
        raise ResourceError(f"cannot write {path}: {error.strerror}", "the results above are right") from None
    if not common().quiet:
        click.echo(f"written to {escape(str(path))}", err=True)
