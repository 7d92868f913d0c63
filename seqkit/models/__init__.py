"""Models, built from settings: encoders, decoders, encoder-decoders, language models, labellers, ensembles."""

from seqkit.models.build import Sizes, build
from seqkit.models.seq2seq import EncoderDecoder

__all__ = ["EncoderDecoder", "Sizes", "build"]
