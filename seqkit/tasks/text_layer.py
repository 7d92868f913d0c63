"""The text layer of a run: its own, one borrowed from another run, or one learnt from the training text."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec

from seqkit.files import replace_folder
from seqkit.settings import SentencePiece, Text
from seqkit.text.codec import Codec, Codecs

__all__ = ["text_layer"]


def text_layer(settings: Text, folder: Path, learn: Callable[[], Codecs]) -> Codecs:
    """The text layer in `folder`, where a run keeps its own; if there is none yet, one that is borrowed or learnt."""
    if folder.exists():
        return Codecs.load(folder)
    codecs = learn() if settings.from_ is None else _borrowed(Path(settings.from_), settings)
    partial = folder.with_name(".codec.tmp")  # a crash must not leave a folder that looks like a text layer
    shutil.rmtree(partial, ignore_errors=True)
    codecs.save(partial)
    replace_folder(partial, folder)
    return codecs


def _borrowed(path: Path, settings: Text) -> Codecs:
    """The text layer of another run, or one from `seqkit text learn`; how it is sampled is this recipe's affair."""
    codecs = Codecs.load(path / "codec" if (path / "codec").is_dir() else path)

    def ours(codec: Codec) -> Codec:
        if not (isinstance(codec.settings, SentencePiece) and isinstance(settings, SentencePiece)):
            return codec
        return replace(codec, settings=msgspec.structs.replace(codec.settings, sampling=settings.sampling))

    source = ours(codecs.source)
    return Codecs(source, source if codecs.joint else ours(codecs.target))
