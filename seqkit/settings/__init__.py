"""Every setting of seqkit, as frozen, typed values; imports msgspec and the standard library only."""

from seqkit.settings.base import Settings
from seqkit.settings.data import Data, Labelled, Lines, Pairs, Purpose, Stream
from seqkit.settings.labelling import LabellerSettings, RecurrentLabeller, TransformerLabeller
from seqkit.settings.language import LanguageModelSettings, NGram, RecurrentLanguageModel, TransformerLanguageModel
from seqkit.settings.model import Mixed, ModelSettings, Plain, Recurrent, Transformer, TranslationSettings
from seqkit.settings.recipe import Model, Recipe, SelfAttention
from seqkit.settings.search import Normalisation, Search, Utility
from seqkit.settings.text import Characters, SentencePiece, Text, Words
from seqkit.settings.train import (
    SGD,
    Adam,
    AdamW,
    AveragedSGD,
    Constant,
    CosineDecay,
    InverseSquareRoot,
    LinearDecay,
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
    "AveragedSGD",
    "Characters",
    "Constant",
    "CosineDecay",
    "Data",
    "InverseSquareRoot",
    "Labelled",
    "LabellerSettings",
    "LanguageModelSettings",
    "LinearDecay",
    "Lines",
    "Mixed",
    "Model",
    "ModelSettings",
    "Muon",
    "NGram",
    "Normalisation",
    "Optimizer",
    "Pairs",
    "Plain",
    "Purpose",
    "RMSprop",
    "Recipe",
    "Recurrent",
    "RecurrentLabeller",
    "RecurrentLanguageModel",
    "Schedule",
    "Search",
    "SelfAttention",
    "SentencePiece",
    "Settings",
    "Stream",
    "Text",
    "Train",
    "Transformer",
    "TransformerLabeller",
    "TransformerLanguageModel",
    "TranslationSettings",
    "Utility",
    "Words",
]
