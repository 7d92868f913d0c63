"""Transformers fused for decoding: the same predictions from fewer and larger operations.

This is the one exception to the rule that a model decodes by the code that it is trained by: here the layers of
`layers/transformer.py` are written a second time, because a step that reads one token for each of some rows is so
little work that calls, copies and small products cost more than the arithmetic. The three projections of a layer are
one product, keys and values of all layers lie in one tensor, with room for tokens to come, which is never re-ordered,
and large matrices are laid out in advance. `tests/laws/test_fused_transformer.py` holds the two to the same
predictions, and a Transformer with a part that is not written here decodes by its own layers.

Letters: B sentences of R rows each, N = B * R, T tokens read, L layers, H heads, C positions, W >= R slots, S source
positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.kernels.packed import prepacked_linear
from seqkit.layers.attention import MultiHeadAttention
from seqkit.layers.masks import causal_mask
from seqkit.layers.positions import rotate
from seqkit.layers.transformer import DecoderLayer, EncoderLayer, FeedForward, Residual
from seqkit.models.autoregressive import Autoregressive, SelfAttentionStack
from seqkit.models.ensemble import Ensemble
from seqkit.state import Decodable, Memory, State, Step

__all__ = ["fused"]

POOL_GROWTH = 8  # positions that a pool grows by
# The parts of Transformers that are written a second time here.
SUPPORTED = {DecoderLayer, EncoderLayer, MultiHeadAttention, FeedForward, Residual, nn.LayerNorm, nn.Identity}

Product = Callable[[Tensor], Tensor]


def fused(model: Decodable, *, products: torch.dtype | None = None) -> Decodable:
    """The same model in the form that decodes fastest, as long as its weights do not change.

    Transformers, alone or in an ensemble, are fused; every other model is returned as it is, and so is a Transformer
    with a part that is not supported here. With `products` the decoders of fused ones multiply in a narrower
    arithmetic, and their predictions are only nearly the same.
    """
    if isinstance(model, Ensemble):
        return model.with_members([fused(member, products=products) for member in model.members])
    stack = model.self_attention if isinstance(model, Autoregressive) else None
    if stack is None or _unsupported_part(stack) is not None:
        return model
    return FusedTransformer(cast(Autoregressive, model), stack, products)


def _unsupported_part(stack: SelfAttentionStack) -> nn.Module | None:
    """The first part that is not written here, so that it might be computed otherwise; None if there is none."""
    parts: list[nn.Module] = [stack.norm]
    for layer in stack.layers:
        parts += [layer, *layer.children()]
        parts += [residual.norm for residual in layer.children() if isinstance(residual, Residual)]
    return next((part for part in parts if type(part) not in SUPPORTED), None)


class Source(NamedTuple):
    """The keys and values of the source for all layers."""

    keys: Tensor  # (B, L, H, S, D/H)
    values: Tensor  # (B, L, H, S, D/H)
    mask: Tensor  # (B, 1, 1, S) added to scores: 0, or -inf on padding


class Past(NamedTuple):
    """The keys and values of the tokens so far, for all layers.

    The rows of a sentence write into one pool, each into its slot, and record which entries of the pool are theirs. So
    the hypotheses of a beam are re-ordered without a key or value being copied, and attend together, in one product.
    """

    slots: Tensor  # (N, t) the slot of each token of a row in its sentence's pool
    sentences: Tensor  # (N,) the pool of each row
    write_slots: Tensor  # (N, 1) the slot that each row writes into
    pool: Tensor  # (B, L, H, 2, C, W, D/H) keys and values at C positions in W slots, filled up to `length` positions
    length: int

    @classmethod
    def of_pool(cls, slots: Tensor, pool: Tensor, length: int) -> Past:
        """The past of rows (N, t) of which each pool has equally many."""
        rows = torch.arange(len(slots), device=slots.device)
        per_sentence = max(1, len(slots) // max(1, len(pool)))
        return cls(slots, rows // per_sentence, rows[:, None] % per_sentence, pool, length)

    def with_rows(self, rows: Tensor) -> Past:
        """The past of the rows at `rows` (M,), in that order: see `state.select`."""
        slots, sentences = self.slots[rows], self.sentences[rows]
        if torch.equal(sentences, self.sentences):
            return self._replace(slots=slots)
        kept_sentences, counts = torch.unique_consecutive(sentences, return_counts=True)
        width = int(counts.amax()) if len(counts) else 1
        if bool((counts != width).any()):  # no beams: each row has a pool of its own
            kept_sentences, width = sentences, 1
        pool = self.pool
        if not torch.equal(kept_sentences, torch.arange(len(pool), device=kept_sentences.device)):
            pool = pool.index_select(0, kept_sentences)
        if pool.shape[5] < width:
            pool = F.pad(pool, (0, 0, 0, width - pool.shape[5]))
        return Past.of_pool(slots, pool, self.length)

    def with_capacity(self, capacity: int) -> Past:
        """The same past with a pool for at least `capacity` tokens."""
        # Zeros, as entries that no row attends to are still multiplied, by zero.
        growth = max(0, capacity - self.pool.shape[4])
        return self._replace(pool=F.pad(self.pool, (0, 0, 0, 0, 0, growth))) if growth else self


class FusedTransformer:
    """A Transformer as a `Decodable` for inference, made from its weights, which must not change while it is in use.

    Memory: Source, or None for a language model. State: Past, or None before the first token.
    """

    def __init__(
        self,
        model: Autoregressive,
        stack: SelfAttentionStack,
        products: torch.dtype | None = None,
    ) -> None:
        """Raises TypeError for a Transformer with a part that is not supported."""
        unsupported = _unsupported_part(stack)
        if unsupported is not None:
            name = type(unsupported).__name__
            raise TypeError(f"fused_transformer has no {name}: write it there, or decode with the model as it is")
        self.model, self.stack = model, stack
        modules = cast("Sequence[DecoderLayer | EncoderLayer]", stack.layers)
        self.layers = [_Layer(module, products) for module in modules]
        self.heads = modules[0].attention.heads
        self.width = modules[0].attention.query.weight.shape[0]
        self.norm = _norm(stack.norm) if isinstance(stack.norm, nn.LayerNorm) else None
        self.output = prepacked_linear(model.output.weight, model.output.bias, products=products)
        # The keys and values of the source for all layers are one product.
        cross = [module.cross_attention for module in modules if isinstance(module, DecoderLayer)]
        projections = [*(attention.key for attention in cross), *(attention.value for attention in cross)]
        self.source = _joint_projection(projections, few_rows=False) if projections else None

    @torch.inference_mode()
    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Encode the source: its keys and values for all layers, one row a sentence, and no state."""
        if self.source is None or source is None:
            return self.model.start(source)  # no memory for a language model, an error for a missing source
        encoded = self.model.encode(source)
        keys_and_values = self.source(encoded).view(*encoded.shape[:2], 2, len(self.layers), self.heads, -1)
        keys, values = keys_and_values.permute(2, 0, 3, 4, 1, 5).contiguous()
        mask = encoded.new_zeros(source.mask.shape).masked_fill_(~source.mask, -torch.inf)
        return Source(keys, values, mask[:, None, None]), None

    @torch.inference_mode()
    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """Read tokens (N, T), T >= 1, and predict what follows each of them: logits (N, T, V)."""
        source = cast("Source | None", memory)
        past = self._empty_past(tokens) if state is None else cast(Past, state)
        (rows, new), start = tokens.shape, past.length
        end, per_sentence = start + new, rows // max(1, len(past.pool))
        past = past if past.pool.shape[4] >= end else past.with_capacity(-(-end // POOL_GROWTH) * POOL_GROWTH)
        past = past._replace(slots=torch.cat([past.slots, past.write_slots.expand(-1, new)], dim=1), length=end)
        mask = _attention_mask(past, new)
        # The entries of all layers are sliced at once: a slice costs as much as a small product.
        new_entries = past.pool[..., start:end, :per_sentence, :].unbind(1)
        entries = past.pool[..., :end, :, :].flatten(4, 5).unbind(1)
        keys, values = ((), ()) if source is None else (source.keys.unbind(1), source.values.unbind(1))
        x = self.stack.embed(tokens, start)
        for index, layer in enumerate(self.layers):
            x = layer.attend_to_past(x, new_entries[index], entries[index], start, mask)
            if source is not None:
                x = layer.attend_to_source(x, keys[index], values[index], source.mask)
            x = layer.transform(x)
        return Step(self.output(x if self.norm is None else self.norm(x)), past)

    def _empty_past(self, tokens: Tensor) -> Past:
        """The past of rows (N, T) before their first token, with a pool for each row."""
        layers, heads, size = len(self.layers), self.heads, self.width // self.heads
        pool = self.model.output.weight.new_zeros(len(tokens), layers, heads, 2, 0, 1, size)
        return Past.of_pool(tokens.new_zeros(len(tokens), 0), pool, 0)


def _attention_mask(past: Past, new: int) -> Tensor | None:
    """The mask added to the scores of the `new` last tokens, 0 or -inf, (B, 1, R*T, C*W); None: all are 0."""
    sentences, slots, end = len(past.pool), past.pool.shape[5], past.length
    if slots == 1 and new == 1:  # the newest token may attend to everything
        return None
    device = past.slots.device
    visible = past.slots.view(sentences, -1, 1, end, 1) == torch.arange(slots, device=device)  # (B, R, 1, C, W)
    if new > 1:
        visible = visible & causal_mask(new, end, device)[:, :, None]  # (B, R, T, C, W)
    mask = past.pool.new_zeros(visible.shape).masked_fill_(~visible, -torch.inf)
    return mask.view(sentences, 1, -1, end * slots)


class _Layer:
    """The products of a layer, and the residual connections around them."""

    def __init__(self, module: DecoderLayer | EncoderLayer, products: torch.dtype | None) -> None:
        attention = module.attention
        self.rotary = attention.rotary
        self.shape = (3, attention.heads, attention.query.weight.shape[0] // attention.heads)
        self.project = _joint_projection([attention.query, attention.key, attention.value], products=products)
        self.join = _prepacked(attention.output, products)
        self.residual = _FusedResidual(module.around_attention)
        if isinstance(module, DecoderLayer):
            self.cross_query = _prepacked(module.cross_attention.query, products)
            self.cross_join = _prepacked(module.cross_attention.output, products)
            self.cross_residual = _FusedResidual(module.around_cross_attention)
        self.feed_forward = _feed_forward(module.feed_forward, products)
        self.feed_forward_residual = _FusedResidual(module.around_feed_forward)

    def attend_to_past(
        self, x: Tensor, new_entries: Tensor, entries: Tensor, start: int, mask: Tensor | None
    ) -> Tensor:
        """Causal self-attention of x (N, T, D), whose keys and values become `new_entries` (B, H, 2, T, R, D/H).

        `entries` are all that the pool then has, (B, H, 2, C*W, D/H), and `mask` says which of them a row attends to.
        """
        rows, new, sentences, per_sentence = len(x), x.shape[1], len(new_entries), new_entries.shape[4]
        projected = self.project(self.residual.sublayer_input(x))
        if self.rotary:
            rotated = projected.view(rows, new, *self.shape)[:, :, :2]  # queries and keys, (N, T, 2, H, D/H)
            rotated.copy_(rotate(rotated.flatten(2, 3).transpose(1, 2), start).transpose(1, 2).view_as(rotated))
        parts = projected.view(sentences, per_sentence, new, *self.shape)
        query = parts[:, :, :, 0].flatten(1, 2).transpose(1, 2)  # (B, H, R*T, D/H)
        new_entries.copy_(parts[:, :, :, 1:].permute(0, 4, 3, 2, 1, 5))
        keys, values = entries.unbind(2)
        attended = F.scaled_dot_product_attention(query, keys, values, mask)
        return self.residual.add(x, self.join(attended.transpose(1, 2).reshape(x.shape)))

    def attend_to_source(self, x: Tensor, keys: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """Cross-attention to each row's source: x (N, T, D), keys and values (B, H, S, D/H) -> (N, T, D)."""
        query = self.cross_query(self.cross_residual.sublayer_input(x))
        folded = query.view(len(keys), -1, *self.shape[1:]).transpose(1, 2)  # (B, H, K*T, D/H)
        attended = F.scaled_dot_product_attention(folded, keys, values, padding)
        return self.cross_residual.add(x, self.cross_join(attended.transpose(1, 2).reshape(x.shape)))

    def transform(self, x: Tensor) -> Tensor:
        """The feed-forward sub-layer: (N, T, D) -> (N, T, D)."""
        return self.feed_forward_residual.add(x, self.feed_forward(self.feed_forward_residual.sublayer_input(x)))


class _FusedResidual:
    """The residual connection around a sub-layer, as `Residual` without dropout."""

    def __init__(self, module: Residual) -> None:
        self.norm = _norm(module.norm)
        self.pre = module.pre

    def sublayer_input(self, x: Tensor) -> Tensor:
        """The input of the sub-layer, (N, T, D) -> (N, T, D)."""
        return self.norm(x) if self.pre else x

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """The sum of x and the sub-layer's output y, normed where the norm comes after: (N, T, D) each -> (N, T, D)."""
        return x + y if self.pre else self.norm(x + y)


def _norm(module: nn.LayerNorm) -> Product:
    """A norm as a function, since to call a module costs as much as the arithmetic."""
    shape, weight, bias, epsilon = module.normalized_shape, module.weight.detach(), module.bias.detach(), module.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, epsilon)


def _prepacked(module: nn.Linear, products: torch.dtype | None) -> Product:
    return prepacked_linear(module.weight, module.bias, products=products)


def _joint_projection(
    modules: Sequence[nn.Linear], *, few_rows: bool = True, products: torch.dtype | None = None
) -> Product:
    """Several linear maps of one input as one product, with their results concatenated."""
    weights: list[Tensor] = [module.weight for module in modules]
    biases: list[Tensor] = [
        module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias for module in modules
    ]
    return prepacked_linear(torch.cat(weights), torch.cat(biases), few_rows=few_rows, products=products)


def _feed_forward(module: FeedForward, products: torch.dtype | None) -> Product:
    outer = _prepacked(module.outer, products)
    if module.gate is not None:
        both = _joint_projection([module.gate, module.inner], products=products)

        def gated(x: Tensor) -> Tensor:
            gate, inner = both(x).chunk(2, dim=-1)
            return outer(F.silu(gate) * inner)

        return gated
    inner, activation = _prepacked(module.inner, products), torch.relu if module.activation == "relu" else F.gelu
    return lambda x: outer(activation(inner(x)))
