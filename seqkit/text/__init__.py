"""Text <-> ids: normalisation, tokenization, vocabularies; never imports torch."""

from seqkit.text.codec import Codec, Codecs
from seqkit.text.normalise import normaliser
from seqkit.text.vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS, UNKNOWN, UNKNOWN_MARK, Vocabulary

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "SPECIAL_TOKENS",
    "UNKNOWN",
    "UNKNOWN_MARK",
    "Codec",
    "Codecs",
    "Vocabulary",
    "normaliser",
]
