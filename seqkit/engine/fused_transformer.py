"""Transformers fused for decoding: the same predictions from fewer and larger operations.

This is the one exception to the rule that a model decodes by the code that it is trained by: here the layers of
`layers/transformer.py` are written a second time, because a step that reads one token for each of some rows is so
little work that calls, copies and small products cost more than the arithmetic. A layer's three projections are one
product, keys and values of all layers lie in one tensor, with room for tokens to come, which nothing re-orders, and
large matrices are laid out beforehand. `tests/laws/test_fused_transformer.py` holds the two to the same predictions,
and what this module does not know, it refuses.

Letters: B sentences of R rows each, N = B * R, T tokens read, L layers, H heads, C places, W >= R
slots, S source positions.
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

ROOM = 8  # places that a pool grows by
# What is written a second time here, or has nothing to write.
KNOWN = {DecoderLayer, EncoderLayer, MultiHeadAttention, FeedForward, Residual, nn.LayerNorm, nn.Identity}

Product = Callable[[Tensor], Tensor]


def fused(model: Decodable, *, products: torch.dtype | None = None) -> Decodable:
    """The same model as decoding is fastest with it, for as long as its weights stay as they are.

    Transformers, alone or in an ensemble, are fused; every other model comes back as it is. With `products` their
    decoders multiply in a narrower arithmetic, and predictions are only nearly the same. Raises TypeError for a
    Transformer with parts that are not known here.
    """
    if isinstance(model, Ensemble):
        return model.with_members([fused(member, products=products) for member in model.members])
    stack = model.self_attention if isinstance(model, Autoregressive) else None
    if stack is None:
        return model
    _refuse_unknown(stack)
    return FusedTransformer(cast(Autoregressive, model), stack, products)


def _refuse_unknown(stack: SelfAttentionStack) -> None:
    """Raise TypeError for any part that is computed otherwise than it is here."""
    parts: list[nn.Module] = [stack.norm]
    for layer in stack.layers:
        parts += [layer, *layer.children()]
        parts += [frame.norm for frame in layer.children() if isinstance(frame, Residual)]
    for part in parts:
        if type(part) not in KNOWN:
            name = type(part).__name__
            raise TypeError(f"fused_transformer has no {name}: write it there, or decode with the model as it is")


class Source(NamedTuple):
    """A source as all layers attend to it."""

    keys: Tensor  # (B, L, H, S, D/H)
    values: Tensor  # (B, L, H, S, D/H)
    mask: Tensor  # (B, 1, 1, S) what is added to scores: 0, or -inf on padding


class Past(NamedTuple):
    """The tokens so far as all layers attend to them.

    The rows of a sentence write into one pool, each into its slot, and are told which of the pool's entries are theirs.
    So a beam's hypotheses change places without a key or value being copied, and attend together, in one product.
    """

    slots: Tensor  # (N, t) where in its sentence's pool each token of a row stands
    sentences: Tensor  # (N,) to which pool a row belongs
    own: Tensor  # (N, 1) into which slot a row writes
    pool: Tensor  # (B, L, H, 2, C, W, D/H) keys and values of C places in W slots; only `length` places are filled
    length: int

    @classmethod
    def pooled(cls, slots: Tensor, pool: Tensor, length: int) -> Past:
        """Rows (N, t) that share pools, equally many each."""
        rows = torch.arange(len(slots), device=slots.device)
        of_sentence = max(1, len(slots) // max(1, len(pool)))
        return cls(slots, rows // of_sentence, rows[:, None] % of_sentence, pool, length)

    def with_rows(self, rows: Tensor) -> Past:
        """The rows (M,) that are named, in that order: see `state.select`."""
        slots, sentences = self.slots[rows], self.sentences[rows]
        if torch.equal(sentences, self.sentences):
            return self._replace(slots=slots)
        kept, counts = torch.unique_consecutive(sentences, return_counts=True)
        width = int(counts.amax()) if len(counts) else 1
        if bool((counts != width).any()):  # no beams: each row goes on alone
            kept, width = sentences, 1
        pool = self.pool
        if not torch.equal(kept, torch.arange(len(pool), device=kept.device)):
            pool = pool.index_select(0, kept)
        if pool.shape[5] < width:
            pool = F.pad(pool, (0, 0, 0, width - pool.shape[5]))
        return Past.pooled(slots, pool, self.length)

    def grown(self, room: int) -> Past:
        """With places for so many tokens."""
        # Zeros, not whatever was there: what no row attends to is still multiplied, by zero.
        more = max(0, room - self.pool.shape[4])
        return self._replace(pool=F.pad(self.pool, (0, 0, 0, 0, 0, more))) if more else self


class FusedTransformer:
    """A Transformer as a `Decodable` for inference: made of its weights at the time, it does not follow their changes.

    Memory: Source, or None for a language model. State: Past, or None before the first token.
    """

    def __init__(
        self,
        model: Autoregressive,
        stack: SelfAttentionStack,
        products: torch.dtype | None = None,
    ) -> None:
        self.model, self.stack = model, stack
        modules = cast("Sequence[DecoderLayer | EncoderLayer]", stack.layers)
        self.layers = [_Layer(module, products) for module in modules]
        self.heads = modules[0].attention.heads
        self.width = modules[0].attention.query.weight.shape[0]
        self.norm = _norm(stack.norm) if isinstance(stack.norm, nn.LayerNorm) else None
        self.output = prepacked_linear(model.output.weight, model.output.bias, products=products)
        # What the source is projected with: keys and values of all layers in one product.
        cross = [module.cross_attention for module in modules if isinstance(module, DecoderLayer)]
        projections = [*(attention.key for attention in cross), *(attention.value for attention in cross)]
        self.source = _joint(projections, few_rows=False) if projections else None

    @torch.inference_mode()
    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Encode the source: what all layers see of it, one row a sentence; nothing read yet."""
        if self.source is None or source is None:
            return self.model.start(source)  # a language model's nothing, or an error that says what is missing
        encoded = self.model.encode(source)
        pairs = self.source(encoded).view(*encoded.shape[:2], 2, len(self.layers), self.heads, -1)
        keys, values = pairs.permute(2, 0, 3, 4, 1, 5).contiguous()
        mask = encoded.new_zeros(source.mask.shape).masked_fill_(~source.mask, -torch.inf)
        return Source(keys, values, mask[:, None, None]), None

    @torch.inference_mode()
    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """Read tokens (N, T), T >= 1, and predict what follows each of them: logits (N, T, V)."""
        source = cast("Source | None", memory)
        past = self._empty_past(tokens) if state is None else cast(Past, state)
        (rows, new), start = tokens.shape, past.length
        end, of_sentence = start + new, rows // max(1, len(past.pool))
        past = past if past.pool.shape[4] >= end else past.grown(-(-end // ROOM) * ROOM)
        past = past._replace(slots=torch.cat([past.slots, past.own.expand(-1, new)], dim=1), length=end)
        mask = _visible(past, new)
        # What every layer sees is cut out for all of them at once: a cut costs as much as a small product.
        places = past.pool[..., start:end, :of_sentence, :].unbind(1)
        seen = past.pool[..., :end, :, :].flatten(4, 5).unbind(1)
        keys, values = ((), ()) if source is None else (source.keys.unbind(1), source.values.unbind(1))
        x = self.stack.embed(tokens, start)
        for index, layer in enumerate(self.layers):
            x = layer.attend_to_past(x, places[index], seen[index], start, mask)
            if source is not None:
                x = layer.attend_to_source(x, keys[index], values[index], source.mask)
            x = layer.transform(x)
        return Step(self.output(x if self.norm is None else self.norm(x)), past)

    def _empty_past(self, tokens: Tensor) -> Past:
        """The past of rows (N, T) that have read nothing: a sentence for each."""
        layers, heads, size = len(self.layers), self.heads, self.width // self.heads
        pool = self.model.output.weight.new_zeros(len(tokens), layers, heads, 2, 0, 1, size)
        return Past.pooled(tokens.new_zeros(len(tokens), 0), pool, 0)


def _visible(past: Past, new: int) -> Tensor | None:
    """What is added to the scores of the `new` last tokens for each entry of the pool: (B, 1, R*T, C*W); None: 0."""
    sentences, slots, end = len(past.pool), past.pool.shape[5], past.length
    if slots == 1 and new == 1:  # the newest token may see everything
        return None
    device = past.slots.device
    seen = past.slots.view(sentences, -1, 1, end, 1) == torch.arange(slots, device=device)  # (B, R, 1, C, W)
    if new > 1:
        seen = seen & causal_mask(new, end, device)[:, :, None]  # (B, R, T, C, W)
    hidden = past.pool.new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)
    return hidden.view(sentences, 1, -1, end * slots)


class _Layer:
    """A layer's products, and the norms around them."""

    def __init__(self, module: DecoderLayer | EncoderLayer, products: torch.dtype | None) -> None:
        attention = module.attention
        self.rotary = attention.rotary
        self.shape = (3, attention.heads, attention.query.weight.shape[0] // attention.heads)
        self.project = _joint([attention.query, attention.key, attention.value], products=products)
        self.join = _prepacked(attention.output, products)
        self.frame = _ResidualFrame(module.around_attention)
        if isinstance(module, DecoderLayer):
            self.cross_query = _prepacked(module.cross_attention.query, products)
            self.cross_join = _prepacked(module.cross_attention.output, products)
            self.cross_frame = _ResidualFrame(module.around_cross_attention)
        self.feed_forward = _feed_forward(module.feed_forward, products)
        self.feed_forward_frame = _ResidualFrame(module.around_feed_forward)

    def attend_to_past(self, x: Tensor, place: Tensor, seen: Tensor, start: int, mask: Tensor | None) -> Tensor:
        """Attention to the tokens so far, x (N, T, D) included: fills its `place` (B, H, 2, T, R, D/H) in the pool.

        `seen` is all that is filled, (B, H, 2, C*W, D/H), and `mask` what of it is a row's own.
        """
        rows, new, sentences, of_sentence = len(x), x.shape[1], len(place), place.shape[4]
        projected = self.project(self.frame.before(x))
        if self.rotary:
            turned = projected.view(rows, new, *self.shape)[:, :, :2]  # queries and keys, (N, T, 2, H, D/H)
            turned.copy_(rotate(turned.flatten(2, 3).transpose(1, 2), start).transpose(1, 2).view_as(turned))
        parts = projected.view(sentences, of_sentence, new, *self.shape)
        query = parts[:, :, :, 0].flatten(1, 2).transpose(1, 2)  # (B, H, R*T, D/H)
        place.copy_(parts[:, :, :, 1:].permute(0, 4, 3, 2, 1, 5))
        keys, values = seen.unbind(2)
        attended = F.scaled_dot_product_attention(query, keys, values, mask)
        return self.frame.after(x, self.join(attended.transpose(1, 2).reshape(x.shape)))

    def attend_to_source(self, x: Tensor, keys: Tensor, values: Tensor, padding: Tensor) -> Tensor:
        """Attention to the source of each row's sentence: x (N, T, D), keys and values (B, H, S, D/H) -> (N, T, D)."""
        query = self.cross_query(self.cross_frame.before(x))
        folded = query.view(len(keys), -1, *self.shape[1:]).transpose(1, 2)  # (B, H, K*T, D/H)
        attended = F.scaled_dot_product_attention(folded, keys, values, padding)
        return self.cross_frame.after(x, self.cross_join(attended.transpose(1, 2).reshape(x.shape)))

    def transform(self, x: Tensor) -> Tensor:
        """The feed-forward part: (N, T, D) -> (N, T, D)."""
        return self.feed_forward_frame.after(x, self.feed_forward(self.feed_forward_frame.before(x)))


class _ResidualFrame:
    """The norm before or after a sub-layer, and the way past it: what `Residual` does without dropout."""

    def __init__(self, module: Residual) -> None:
        self.norm = _norm(module.norm)
        self.pre = module.pre

    def before(self, x: Tensor) -> Tensor:
        """What the sub-layer reads."""
        return self.norm(x) if self.pre else x

    def after(self, x: Tensor, y: Tensor) -> Tensor:
        """Input x and the sub-layer's answer y, joined."""
        return x + y if self.pre else self.norm(x + y)


def _norm(module: nn.LayerNorm) -> Product:
    """A norm as a function: calling a module costs as much as the arithmetic."""
    shape, weight, bias, epsilon = module.normalized_shape, module.weight.detach(), module.bias.detach(), module.eps
    return lambda x: torch.layer_norm(x, shape, weight, bias, epsilon)


def _prepacked(module: nn.Linear, products: torch.dtype | None) -> Product:
    return prepacked_linear(module.weight, module.bias, products=products)


def _joint(modules: Sequence[nn.Linear], *, few_rows: bool = True, products: torch.dtype | None = None) -> Product:
    """Several linear maps of one input as one product, their results side by side."""
    weights: list[Tensor] = [module.weight for module in modules]
    biases: list[Tensor] = [
        module.weight.new_zeros(len(module.weight)) if module.bias is None else module.bias for module in modules
    ]
    return prepacked_linear(torch.cat(weights), torch.cat(biases), few_rows=few_rows, products=products)


def _feed_forward(module: FeedForward, products: torch.dtype | None) -> Product:
    outer = _prepacked(module.outer, products)
    if module.gate is not None:
        both = _joint([module.gate, module.inner], products=products)

        def gated(x: Tensor) -> Tensor:
            gate, inner = both(x).chunk(2, dim=-1)
            return outer(F.silu(gate) * inner)

        return gated
    inner, activation = _prepacked(module.inner, products), torch.relu if module.activation == "relu" else F.gelu
    return lambda x: outer(activation(inner(x)))
