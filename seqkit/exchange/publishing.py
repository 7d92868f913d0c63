"""What all exports share: which models can leave, how far they must reach, and folders that are whole or absent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from seqkit.errors import ConfigError
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.settings import Data, Model, Pairs, Transformer
from seqkit.storage.manifest import publish
from seqkit.text.codec import Codecs
from seqkit.text.tokenizers import SentencePieceTokenizer

__all__ = ["ExportableModel", "exportable_model", "publishing", "refuse", "write_text_layer"]


class ExportableModel(NamedTuple):
    """A translation model that is about to be exported, on the CPU."""

    loaded: TrainedModel
    model: EncoderDecoder
    settings: Transformer
    data: Pairs

    @property
    def positions(self) -> int:
        """How many places the other tool must know: those of the longest source and of the longest translation."""
        return 1 + max(2 * self.data.maximum_length, self.loaded.recipe.search.maximum_length)

    @property
    def facts(self) -> dict[str, object]:
        """Where the exported model comes from."""
        return {"name": self.loaded.recipe.name, **self.loaded.facts}


def refuse(setting: str, tool: str, remedy: str) -> ConfigError:
    """What is told of a model that has no place in another tool."""
    return ConfigError(f"{setting} does not fit {tool}", f"only a model trained with {remedy} can be exported to it")


def exportable_model(run: Path, folder: Path, *, tool: str, overwrite: bool) -> ExportableModel:
    """Read the model to be exported and see that there is room for it.

    Raises ConfigError if it is no Transformer that translates, or if something is in the way; ModelError if there is no
    sound model.
    """
    if folder.exists():
        if not overwrite:
            raise ConfigError(f"{folder} exists", "--overwrite replaces it")
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / "config.json").exists()):
            raise ConfigError(f"{folder} holds something that is not an export", "choose another folder")
    loaded = load(run)
    recipe, model = loaded.recipe, loaded.model
    if not isinstance(recipe.data, Pairs) or not isinstance(model, EncoderDecoder):
        raise refuse(f'data.kind = "{_kind(recipe.data)}"', tool, 'data.kind="pairs"')
    if not isinstance(recipe.model, Transformer):
        raise refuse(f'model.kind = "{_kind(recipe.model)}"', tool, 'model.kind="transformer"')
    return ExportableModel(loaded, model, recipe.model, recipe.data)


@contextlib.contextmanager
def publishing(folder: Path, leaving: ExportableModel) -> Iterator[Path]:
    """Yield an empty folder beside `folder`, which takes its place when the body ends well and is removed if not.

    Raises ResourceError if the disk cannot take it.
    """
    needed = sum(weight.nbytes for weight in leaving.model.parameters())
    with publish(folder, facts=leaving.facts, needed=needed) as partial:
        yield partial


def _kind(section: Data | Model) -> object:
    return msgspec.to_builtins(section)["kind"]


def write_text_layer(folder: Path, codecs: Codecs) -> None:
    """What makes tokens of text: SentencePiece models, or for other tokenizers our own `codec/`."""
    sides = {"sentencepiece.model": codecs.source}
    if not codecs.joint:
        sides = {"source.spm": codecs.source, "target.spm": codecs.target}
    for name, codec in sides.items():
        if isinstance(codec.tokenizer, SentencePieceTokenizer):
            (folder / name).write_bytes(codec.tokenizer.model)
    if not all(isinstance(codec.tokenizer, SentencePieceTokenizer) for codec in sides.values()):
        codecs.save(folder / "codec")
