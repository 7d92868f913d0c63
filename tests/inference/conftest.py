"""The small trained translator."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.inference.translator import Translator


@pytest.fixture(scope="session")
def translator(trained: Path) -> Translator:
    """Not to be changed but by monkeypatch."""
    return Translator.load(trained, device="cpu")
