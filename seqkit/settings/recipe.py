"""The whole recipe: one field per section."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from seqkit.settings.base import HARMLESS, Settings
from seqkit.settings.data import Data
from seqkit.settings.labelling import LabellerSettings, TransformerLabeller
from seqkit.settings.language import LanguageModelSettings, TransformerLanguageModel
from seqkit.settings.model import Transformer, TranslationSettings
from seqkit.settings.search import Search
from seqkit.settings.text import SentencePiece, Text
from seqkit.settings.train import Train

__all__ = ["Model", "Recipe", "SelfAttention"]

Model = TranslationSettings | LanguageModelSettings | LabellerSettings
SelfAttention = Transformer | TransformerLanguageModel | TransformerLabeller  # whose layers all attend to their input


class Recipe(Settings, frozen=True, kw_only=True):
    """An experiment: what is read, how it becomes ids, what is trained and how, and how it is searched."""

    name: Annotated[str, Meta(min_length=1, description="what the run is called; it goes to runs/NAME"), HARMLESS] = (
        "run"
    )
    out: Annotated[str | None, Meta(description="run folder; `--out` comes before it, runs/NAME after"), HARMLESS] = (
        None
    )
    data: Data
    text: Text = SentencePiece()
    model: Model = Transformer()
    train: Train = Train()
    search: Annotated[Search, HARMLESS] = Search()
