"""What all exports share: which models can be exported, how many positions they need, and complete folders or none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

import msgspec

from seqkit.errors import ConfigError
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.settings import Data, Model, Pairs, Transformer
from seqkit.storage.manifest import publish
from seqkit.text.codec import Codecs
from seqkit.text.tokenizers import SentencePieceTokenizer

__all__ = ["ExportableModel", "exportable_model", "publishing", "unsupported", "write_text_layer"]


class ExportableModel(NamedTuple):
    """A translation model that is about to be exported, on the CPU."""

    loaded: TrainedModel
    model: EncoderDecoder
    settings: Transformer
    data: Pairs

    @property
    def positions(self) -> int:
        """The number of positions that the longest source and the longest translation need."""
        return 1 + max(2 * self.data.maximum_length, self.loaded.recipe.search.maximum_length)

    @property
    def facts(self) -> dict[str, object]:
        """The origin of the exported model, for its manifest."""
        return {"name": self.loaded.recipe.name, **self.loaded.facts}


def unsupported(setting: str, tool: str, remedy: str) -> ConfigError:
    """The error for a model with a setting that the tool does not support."""
    return ConfigError(f"{setting} does not fit {tool}", f"only a model trained with {remedy} can be exported to it")


def exportable_model(run: Path, folder: Path, *, tool: str, overwrite: bool) -> ExportableModel:
    """Read the model to be exported, after a check that `folder` can be written.

    Raises ConfigError if the model is no Transformer for translation, or if `folder` exists and may not be replaced;
    ModelError if there is no sound model.
    """
    if folder.exists():
        if not overwrite:
            raise ConfigError(f"{folder} exists", "--overwrite replaces it")
        if not folder.is_dir() or (any(folder.iterdir()) and not (folder / "config.json").exists()):
            raise ConfigError(f"{folder} holds something that is not an export", "choose another folder")
    loaded = load(run)
    recipe = loaded.recipe
    if loaded.purpose != "translation":
        raise unsupported(f'data.kind = "{_kind(recipe.data)}"', tool, 'data.kind="pairs"')
    if not isinstance(recipe.model, Transformer):
        raise unsupported(f'model.kind = "{_kind(recipe.model)}"', tool, 'model.kind="transformer"')
    return ExportableModel(loaded, cast(EncoderDecoder, loaded.model), recipe.model, cast(Pairs, recipe.data))


@contextlib.contextmanager
def publishing(folder: Path, exportable: ExportableModel) -> Iterator[Path]:
    """Yield an empty folder, which becomes `folder` when the body succeeds and is removed when it raises.

    Raises ResourceError if the disk cannot take it.
    """
    needed = sum(weight.nbytes for weight in exportable.model.parameters())
    with publish(folder, facts=exportable.facts, needed=needed) as partial:
        yield partial


def _kind(section: Data | Model) -> object:
    return msgspec.to_builtins(section)["kind"]


def write_text_layer(folder: Path, codecs: Codecs) -> None:
    """Write the tokenizers: as SentencePiece models, or for other kinds as our own `codec/`."""
    sides = {"sentencepiece.model": codecs.source}
    if not codecs.joint:
        sides = {"source.spm": codecs.source, "target.spm": codecs.target}
    for name, codec in sides.items():
        if isinstance(codec.tokenizer, SentencePieceTokenizer):
            (folder / name).write_bytes(codec.tokenizer.model)
    if not all(isinstance(codec.tokenizer, SentencePieceTokenizer) for codec in sides.values()):
        codecs.save(folder / "codec")
