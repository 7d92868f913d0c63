"""Numbers in, modules out: encoders, decoders, and the encoder-decoder that is a `Decodable`."""

from seqkit.models.build import Sizes, build
from seqkit.models.seq2seq import EncoderDecoder

__all__ = ["EncoderDecoder", "Sizes", "build"]
