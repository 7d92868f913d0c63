"""CTranslate2: a Transformer as `ctranslate2.Translator` reads it, in float32 or quantised.

DIR/   model.bin   config.json   shared_vocabulary.json, or source_vocabulary.json and target_vocabulary.json
       sentencepiece.model, or source.spm and target.spm, or codec/: what makes tokens of text
       README.txt: how to use it   manifest.json: where it comes from, and a hash of every file
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from seqkit.errors import ConfigError, ModelError
from seqkit.exchange.parity import Agreement, Sentences, agreement, sentences_of, verify
from seqkit.exchange.publishing import ExportableModel, exportable_model, publishing, write_text_layer
from seqkit.exchange.readme import ct2_readme
from seqkit.layers.positions import LearnedPositions, sinusoids
from seqkit.layers.transformer import DecoderLayer, EncoderLayer
from seqkit.models.decoders import TransformerDecoder
from seqkit.models.encoders import TransformerEncoder
from seqkit.text.codec import Codec, Codecs
from seqkit.text.vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS, UNKNOWN

__all__ = ["Agreements", "export_ct2"]

TOOL = "CTranslate2"
OLDEST = [4, 6, 3]  # the first version whose encoders have rotary positions
POSITIONS = 2048  # rows of the table of positions at least, so that long lines are no error

Array = NDArray[np.float32]


class Agreements(NamedTuple):
    """How the converted model agrees with ours: in float32, and quantised."""

    exact: Agreement
    quantised: Agreement | None


def export_ct2(run: Path, folder: Path, *, quantization: str = "float32", overwrite: bool = False) -> Agreements:
    """Convert the model of a run or model folder for CTranslate2; checked in float32 before it is quantised.

    Raises ConfigError if the model does not fit or the tool is missing, ModelError if the converted model
    differs from ours, ResourceError if the folder cannot be written. After an error there is no folder.
    """
    exportable = exportable_model(run, folder, tool=TOOL, overwrite=overwrite)
    _check_words(exportable.loaded.codecs)
    tool = _import_tool()
    codecs, sources = exportable.loaded.codecs, sentences_of(exportable.loaded)
    with publishing(folder, exportable) as partial:
        _write(tool, exportable, partial, "float32")
        exact = agreement(exportable.model, _ConvertedModel(tool, partial, codecs, "float32"), sources)
        verify(exact, TOOL)
        quantised = None
        if quantization != "float32":
            _write(tool, exportable, partial, quantization)
            quantised = agreement(exportable.model, _ConvertedModel(tool, partial, codecs, "default"), sources)
        write_text_layer(partial, codecs)
        (partial / "README.txt").write_text(ct2_readme(exportable, folder.name), encoding="utf-8")
    return Agreements(exact, quantised)


def _import_tool() -> Any:
    try:
        import ctranslate2
        import ctranslate2.specs
    except ImportError:
        raise ConfigError("exporting to CTranslate2 needs ctranslate2", "pip install '.[ct2]'") from None
    version = ctranslate2.__version__
    if [int(number) for number in re.findall(r"\d+", version)] < OLDEST:
        raise ConfigError(f"ctranslate2 {version} is too old to be exported to", "pip install '.[ct2]'")
    return ctranslate2


def _check_words(codecs: Codecs) -> None:
    """Raise ConfigError for a word like a special token: CTranslate2 reads words, not ids, and would confuse them."""
    for codec in (codecs.source, codecs.target):
        for word in codec.vocabulary.tokens[len(SPECIAL_TOKENS) :]:
            if word in SPECIAL_TOKENS:
                raise ConfigError(
                    f"the vocabulary has a word {word}, which CTranslate2 would take for the special token",
                    "write it otherwise in the training text, and train again",
                )


def _write(tool: Any, exportable: ExportableModel, folder: Path, quantization: str) -> None:
    specification = _specification(tool, exportable)
    specification.validate()
    specification.optimize(quantization=quantization)
    specification.save(str(folder))


class _ConvertedModel:
    """The converted model as CTranslate2 loads it, for sentences of ids."""

    def __init__(self, tool: Any, folder: Path, codecs: Codecs, compute_type: str) -> None:
        self.codecs = codecs
        threads = torch.get_num_threads()
        try:
            self.translator = tool.Translator(str(folder), compute_type=compute_type, intra_threads=threads)
        except (RuntimeError, ValueError) as error:
            what = f"{TOOL} {tool.__version__} cannot load the converted model: {error}"
            raise ModelError(what, "try a newer one: pip install -U ctranslate2") from None

    def greedy(self, sources: Sentences, longest: int) -> list[list[int]]:
        """The likeliest token at each step up to `</s>`."""
        ids = {token: id for id, token in enumerate(self.codecs.target.vocabulary.tokens)}
        results = self.translator.translate_batch(
            self._words(self.codecs.source, sources),
            beam_size=1,
            max_input_length=0,
            max_decoding_length=longest,
            min_decoding_length=0,  # the default of 1 forbids empty translations
            suppress_sequences=[[SPECIAL_TOKENS[PAD]], [SPECIAL_TOKENS[BOS]]],
        )
        return [[ids[token] for token in result.hypotheses[0]] for result in results]

    def log_probs(self, sources: Sentences, targets: Sentences) -> list[list[float]]:
        """The log-probability of each token of each target and of its `</s>`."""
        results = self.translator.score_batch(
            self._words(self.codecs.source, sources), self._words(self.codecs.target, targets), max_input_length=0
        )
        return [list(result.log_probs) for result in results]

    def _words(self, codec: Codec, sentences: Sentences) -> list[list[str]]:
        return [codec.tokens(ids) for ids in sentences]


def _specification(tool: Any, exportable: ExportableModel) -> Any:
    """The model as a specification of the tool, which it can write."""
    specs, settings, codecs = tool.specs, exportable.settings, exportable.loaded.codecs
    encoder, decoder = exportable.model.encoder, exportable.model.decoder
    assert isinstance(encoder, TransformerEncoder)
    assert isinstance(decoder, TransformerDecoder)
    activations = specs.Activation
    shape: dict[str, Any] = {
        "pre_norm": settings.norm == "pre",
        "activation": {"relu": activations.RELU, "gelu": activations.GELU, "swiglu": activations.SWISH}[
            settings.activation
        ],
        "ffn_glu": settings.activation == "swiglu",
    }
    if settings.positions == "rotary":
        shape |= {"rotary_dim": settings.width // settings.heads, "rotary_interleave": False}
    # As in seqkit, the alignment is the mean over the heads of the last layer but one.
    alignment = {"alignment_layer": max(0, settings.decoder_layers - 2), "alignment_heads": settings.heads}
    specification = specs.TransformerSpec(
        specs.TransformerEncoderSpec(settings.encoder_layers, settings.heads, **shape),
        specs.TransformerDecoderSpec(settings.decoder_layers, settings.heads, **shape, **alignment),
    )
    rows = max(POSITIONS, exportable.positions)
    for ours, theirs, embeddings in (
        (encoder, specification.encoder, specification.encoder.embeddings[0]),
        (decoder, specification.decoder, specification.decoder.embeddings),
    ):
        embeddings.weight = _array(ours.embedding.weight)
        theirs.scale_embeddings = True
        if settings.positions != "rotary":
            theirs.position_encodings.encodings = _table(ours.positions, rows, settings.width)
        if settings.norm == "pre":
            _norm(theirs.layer_norm, ours.norm)
        for layer, target in zip(ours.layers, theirs.layer, strict=True):
            assert isinstance(layer, EncoderLayer | DecoderLayer)
            _layer(target, layer)
    _linear(specification.decoder.projection, [exportable.model.output])
    specification.register_source_vocabulary(list(codecs.source.vocabulary.tokens))
    specification.register_target_vocabulary(list(codecs.target.vocabulary.tokens))
    config = specification.config
    config.layer_norm_epsilon = nn.LayerNorm(1).eps
    config.unk_token, config.eos_token = SPECIAL_TOKENS[UNKNOWN], SPECIAL_TOKENS[EOS]
    config.bos_token = config.decoder_start_token = SPECIAL_TOKENS[BOS]
    config.add_source_eos = True
    return specification


def _layer(target: Any, layer: EncoderLayer | DecoderLayer) -> None:
    attention = layer.attention
    _linear(target.self_attention.linear[0], [attention.query, attention.key, attention.value])
    _linear(target.self_attention.linear[1], [attention.output])
    _norm(target.self_attention.layer_norm, layer.around_attention.norm)
    if isinstance(layer, DecoderLayer):
        attention = layer.cross_attention
        _linear(target.attention.linear[0], [attention.query])
        _linear(target.attention.linear[1], [attention.key, attention.value])
        _linear(target.attention.linear[2], [attention.output])
        _norm(target.attention.layer_norm, layer.around_cross_attention.norm)
    forward = layer.feed_forward
    if forward.gate is None:
        _linear(target.ffn.linear_0, [forward.inner])
    else:
        _linear(target.ffn.linear_0, [forward.gate])
        _linear(target.ffn.linear_0_noact, [forward.inner])
    _linear(target.ffn.linear_1, [forward.outer])
    _norm(target.ffn.layer_norm, layer.around_feed_forward.norm)


def _linear(target: Any, maps: Sequence[Any]) -> None:
    """Write several linear maps of one input as one; a map without bias gets one of zeros."""
    target.weight = np.concatenate([_array(linear.weight) for linear in maps])
    biases = (linear.weight.new_zeros(len(linear.weight)) if linear.bias is None else linear.bias for linear in maps)
    target.bias = np.concatenate([_array(bias) for bias in biases])


def _norm(target: Any, norm: Any) -> None:
    target.gamma, target.beta = _array(norm.weight), _array(norm.bias)


def _table(positions: nn.Module, rows: int, width: int) -> Array:
    """A vector for each position, (rows, width); after the last learnt one it is repeated, as in `LearnedPositions`."""
    if isinstance(positions, LearnedPositions):
        indices = torch.arange(max(rows, len(positions.weight))).clamp(max=len(positions.weight) - 1)
        return _array(positions.weight[indices])
    return _array(sinusoids(rows, width))


def _array(tensor: Tensor) -> Array:
    # A copy, because the library quantises in place.
    return tensor.detach().to(torch.float32).numpy().copy()
