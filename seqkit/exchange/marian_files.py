"""The files of a Marian folder: weights, settings and tokenizer, under Marian's names.

Marian's sines stand in one half of a vector and its cosines in the other, where ours alternate. The order of the
channels between layers is arbitrary, so those of the whole model are permuted to Marian's order, which is exact.
"""

from __future__ import annotations

import msgspec
import torch
from torch import Tensor, nn

from seqkit.exchange.publishing import ExportableModel
from seqkit.layers.attention import MultiHeadAttention
from seqkit.layers.transformer import DecoderLayer, EncoderLayer
from seqkit.models.decoders import TransformerDecoder
from seqkit.models.encoders import TransformerEncoder
from seqkit.models.seq2seq import EncoderDecoder
from seqkit.text.codec import Codec
from seqkit.text.tokenizers import SentencePieceTokenizer
from seqkit.text.vocabulary import BOS, EOS, PAD, SPECIAL_TOKENS, UNKNOWN

__all__ = ["IDS", "configuration", "generation", "tokenizer_files", "weights"]

POSITIONS = 512  # at least
IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}


def weights(model: EncoderDecoder) -> dict[str, Tensor]:
    """The weights by Marian's names, in Marian's order of channels; of a tied one, the first name only."""
    encoder, decoder, output = model.encoder, model.decoder, model.output
    assert isinstance(encoder, TransformerEncoder)
    assert isinstance(decoder, TransformerDecoder)
    width = encoder.embedding.weight.shape[1]
    order = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
    source, target = encoder.embedding.weight, decoder.embedding.weight
    tensors = {"final_logits_bias": output.bias[None]}
    if source is target:
        tensors["model.shared.weight"] = source[:, order]
    else:
        tensors["model.encoder.embed_tokens.weight"] = source[:, order]
        tensors["model.decoder.embed_tokens.weight"] = target[:, order]
    if output.weight is not target:
        tensors["lm_head.weight"] = output.weight[:, order]
    for side, layers in (("encoder", encoder.layers), ("decoder", decoder.layers)):
        for index, layer in enumerate(layers):
            assert isinstance(layer, EncoderLayer | DecoderLayer)
            prefix = f"model.{side}.layers.{index}"
            tensors |= {f"{prefix}.{name}": weight for name, weight in _layer(layer, order).items()}
    return tensors


def _layer(layer: EncoderLayer | DecoderLayer, order: Tensor) -> dict[str, Tensor]:
    tensors = {
        **_attention("self_attn", layer.attention, order),
        **_norm("self_attn_layer_norm", layer.around_attention.norm, order),
        "fc1.weight": layer.feed_forward.inner.weight[:, order],
        "fc1.bias": layer.feed_forward.inner.bias,
        "fc2.weight": layer.feed_forward.outer.weight[order],
        "fc2.bias": layer.feed_forward.outer.bias[order],
        **_norm("final_layer_norm", layer.around_feed_forward.norm, order),
    }
    if isinstance(layer, DecoderLayer):
        tensors |= _attention("encoder_attn", layer.cross_attention, order)
        tensors |= _norm("encoder_attn_layer_norm", layer.around_cross_attention.norm, order)
    return tensors


def _attention(name: str, attention: MultiHeadAttention, order: Tensor) -> dict[str, Tensor]:
    return {
        f"{name}.q_proj.weight": attention.query.weight[:, order],
        f"{name}.q_proj.bias": attention.query.bias,
        f"{name}.k_proj.weight": attention.key.weight[:, order],
        f"{name}.k_proj.bias": attention.query.bias.new_zeros(len(order)),  # softmax cancels it, so ours have none
        f"{name}.v_proj.weight": attention.value.weight[:, order],
        f"{name}.v_proj.bias": attention.value.bias,
        f"{name}.out_proj.weight": attention.output.weight[order],
        f"{name}.out_proj.bias": attention.output.bias[order],
    }


def _norm(name: str, norm: nn.LayerNorm, order: Tensor) -> dict[str, Tensor]:
    return {f"{name}.weight": norm.weight[order], f"{name}.bias": norm.bias[order]}


def configuration(exportable: ExportableModel) -> bytes:
    """config.json: the shape of the model."""
    settings, codecs = exportable.settings, exportable.loaded.codecs
    shape: dict[str, object] = {}
    for side, layers in (("encoder", settings.encoder_layers), ("decoder", settings.decoder_layers)):
        shape[f"{side}_layers"] = layers
        shape[f"{side}_attention_heads"] = settings.heads
        shape[f"{side}_ffn_dim"] = settings.feed_forward
    return _json(
        {
            "architectures": ["MarianMTModel"],
            "model_type": "marian",
            "is_encoder_decoder": True,
            "d_model": settings.width,
            **shape,
            "activation_function": settings.activation,
            "dropout": settings.dropout,
            "attention_dropout": settings.attention_dropout,
            "activation_dropout": 0.0,
            "scale_embedding": True,
            "max_position_embeddings": max(POSITIONS, exportable.positions),
            "vocab_size": len(codecs.source),
            "decoder_vocab_size": len(codecs.target),
            "share_encoder_decoder_embeddings": settings.tied == "all",
            "tie_word_embeddings": settings.tied != "none",
            **IDS,
            "forced_eos_token_id": None,  # the library's own default is an id of another vocabulary
            "torch_dtype": "float32",
        }
    )


def generation(exportable: ExportableModel) -> bytes:
    """generation_config.json: the search settings of the run in the library's terms; its beam ends as ours does."""
    search = exportable.loaded.recipe.search
    beam: dict[str, object] = {"length_penalty": search.length_reward, "early_stopping": "never"}
    return _json(
        {
            **IDS,
            "suppress_tokens": [PAD, BOS],
            "max_length": 1 + search.maximum_length,  # `<s>` counts there
            "num_beams": search.beam,
            **(beam if search.beam > 1 else {}),
        }
    )


def tokenizer_files(exportable: ExportableModel) -> dict[str, bytes]:
    """The files of a MarianTokenizer, which reads SentencePiece models only: none for other tokenizers."""
    codecs = exportable.loaded.codecs
    source, target = codecs.source.tokenizer, codecs.target.tokenizer
    if not isinstance(source, SentencePieceTokenizer) or not isinstance(target, SentencePieceTokenizer):
        return {}
    files = {"source.spm": source.model, "target.spm": target.model, "vocab.json": _vocabulary(codecs.source)}
    if not codecs.joint:
        files["target_vocab.json"] = _vocabulary(codecs.target)
    settings = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": exportable.data.source,
        "target_lang": exportable.data.target,
        "separate_vocabs": not codecs.joint,
        "model_max_length": max(POSITIONS, exportable.positions),
        "pad_token": SPECIAL_TOKENS[PAD],
        "eos_token": SPECIAL_TOKENS[EOS],
        "unk_token": SPECIAL_TOKENS[UNKNOWN],
    }
    return {**files, "tokenizer_config.json": _json(settings)}


def _vocabulary(codec: Codec) -> bytes:
    return _json({token: id for id, token in enumerate(codec.vocabulary.tokens)})


def _json(content: object) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content)) + b"\n"
