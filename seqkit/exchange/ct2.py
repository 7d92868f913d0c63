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

__all__ = ["Exported", "export_ct2"]

TOOL = "CTranslate2"
OLDEST = [4, 6, 3]  # before, its encoders had no rotary positions
POSITIONS = 2048  # places in the table of positions at least, so that long lines are no error

Array = NDArray[np.float32]


class Exported(NamedTuple):
    """How the converted model agrees with ours: in float32, and as it was quantised."""

    exact: Agreement
    quantised: Agreement | None


def export_ct2(run: Path, folder: Path, *, quantization: str = "float32", overwrite: bool = False) -> Exported:
    """Convert the model of a run or model folder for CTranslate2; checked in float32 before it is quantised.

    Raises ConfigError if the model does not fit or the tool is missing, ModelError if the tool does something else with
    the model, ResourceError if the folder cannot be written. No folder is left then.
    """
    leaving = exportable_model(run, folder, tool=TOOL, overwrite=overwrite)
    _check_words(leaving.loaded.codecs)
    tool = _tool()
    codecs, sources = leaving.loaded.codecs, sentences_of(leaving.loaded)
    with publishing(folder, leaving) as partial:
        _write(tool, leaving, partial, "float32")
        exact = agreement(leaving.model, _Loaded(tool, partial, codecs, "float32"), sources)
        verify(exact, TOOL)
        quantised = None
        if quantization != "float32":
            _write(tool, leaving, partial, quantization)
            quantised = agreement(leaving.model, _Loaded(tool, partial, codecs, "default"), sources)
        write_text_layer(partial, codecs)
        (partial / "README.txt").write_text(ct2_readme(leaving, folder.name), encoding="utf-8")
    return Exported(exact, quantised)


def _tool() -> Any:
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
    """CTranslate2 is told words, not ids: refuse those that look like special tokens."""
    for codec in (codecs.source, codecs.target):
        for word in codec.vocabulary.tokens[len(SPECIAL_TOKENS) :]:
            if word in SPECIAL_TOKENS:
                raise ConfigError(
                    f"the vocabulary has a word {word}, which CTranslate2 would take for the special token",
                    "write it otherwise in the training text, and train again",
                )


def _write(tool: Any, leaving: ExportableModel, folder: Path, quantization: str) -> None:
    specification = _specification(tool, leaving)
    specification.validate()
    specification.optimize(quantization=quantization)
    specification.save(str(folder))


class _Loaded:
    """The converted model in CTranslate2, asked by ids."""

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
        found = self.translator.translate_batch(
            self._words(self.codecs.source, sources),
            beam_size=1,
            max_input_length=0,
            max_decoding_length=longest,
            min_decoding_length=0,  # else nothing is ever translated to nothing
            suppress_sequences=[[SPECIAL_TOKENS[PAD]], [SPECIAL_TOKENS[BOS]]],
        )
        return [[ids[token] for token in one.hypotheses[0]] for one in found]

    def log_probs(self, sources: Sentences, targets: Sentences) -> list[list[float]]:
        """The log-probability of each token of each target and of its `</s>`."""
        scored = self.translator.score_batch(
            self._words(self.codecs.source, sources), self._words(self.codecs.target, targets), max_input_length=0
        )
        return [list(one.log_probs) for one in scored]

    def _words(self, codec: Codec, sentences: Sentences) -> list[list[str]]:
        return [codec.tokens(ids) for ids in sentences]


def _specification(tool: Any, leaving: ExportableModel) -> Any:
    """The model in the tool's own terms."""
    specs, settings, codecs = tool.specs, leaving.settings, leaving.loaded.codecs
    encoder, decoder = leaving.model.encoder, leaving.model.decoder
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
    # Attention to the source as `seqkit` shows it: the mean over the heads of the last layer but one.
    watched = {"alignment_layer": max(0, settings.decoder_layers - 2), "alignment_heads": settings.heads}
    specification = specs.TransformerSpec(
        specs.TransformerEncoderSpec(settings.encoder_layers, settings.heads, **shape),
        specs.TransformerDecoderSpec(settings.decoder_layers, settings.heads, **shape, **watched),
    )
    places = max(POSITIONS, leaving.positions)
    for ours, theirs, embeddings in (
        (encoder, specification.encoder, specification.encoder.embeddings[0]),
        (decoder, specification.decoder, specification.decoder.embeddings),
    ):
        embeddings.weight = _array(ours.embedding.weight)
        theirs.scale_embeddings = True
        if settings.positions != "rotary":
            theirs.position_encodings.encodings = _table(ours.positions, places, settings.width)
        if settings.norm == "pre":
            _norm(theirs.layer_norm, ours.norm)
        for layer, target in zip(ours.layers, theirs.layer, strict=True):
            assert isinstance(layer, EncoderLayer | DecoderLayer)
            _layer(target, layer)
    _linear(specification.decoder.projection, [leaving.model.output])
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
    """Several maps of one input as one; a map without bias has one of zeros."""
    target.weight = np.concatenate([_array(each.weight) for each in maps])
    biases = (each.weight.new_zeros(len(each.weight)) if each.bias is None else each.bias for each in maps)
    target.bias = np.concatenate([_array(bias) for bias in biases])


def _norm(target: Any, norm: Any) -> None:
    target.gamma, target.beta = _array(norm.weight), _array(norm.bias)


def _table(positions: nn.Module, count: int, width: int) -> Array:
    """What is added to token vectors at each place; behind the last that was learnt, its vector again, as here."""
    if isinstance(positions, LearnedPositions):
        places = torch.arange(max(count, len(positions.weight))).clamp(max=len(positions.weight) - 1)
        return _array(positions.weight[places])
    return _array(sinusoids(count, width))


def _array(tensor: Tensor) -> Array:
    # A copy: the library quantises in place.
    return tensor.detach().to(torch.float32).numpy().copy()
