"""Every setting of seqkit, as frozen, typed values; imports msgspec and the standard library only."""

from seqkit.settings.base import Settings
from seqkit.settings.data import Data, Pairs
from seqkit.settings.model import Mixed, Model, Plain, Recurrent, Transformer
from seqkit.settings.recipe import Recipe
from seqkit.settings.search import Search
from seqkit.settings.text import Characters, SentencePiece, Text, Words
from seqkit.settings.train import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    InverseSquareRoot,
    Linear,
    Muon,
    Optimizer,
    RMSprop,
    Schedule,
    Train,
)

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Characters",
    "Constant",
    "Cosine",
    "Data",
    "InverseSquareRoot",
    "Linear",
    "Mixed",
    "Model",
    "Muon",
    "Optimizer",
    "Pairs",
    "Plain",
    "RMSprop",
    "Recipe",
    "Recurrent",
    "Schedule",
    "Search",
    "SentencePiece",
    "Settings",
    "Text",
    "Train",
    "Transformer",
    "Words",
]
