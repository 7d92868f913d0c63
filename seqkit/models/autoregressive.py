"""What every neural model that predicts token by token shares: one way from features to logits and to probabilities."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.layers.embedding import OutputLayer
from seqkit.layers.stack import LayerStack
from seqkit.state import Features, LogProbs, Memory, State, Step

__all__ = ["Autoregressive", "SelfAttentionStack"]


class SelfAttentionStack(Protocol):
    """The part of a model that reads the tokens so far by layers of self-attention."""

    layers: LayerStack
    norm: nn.Module

    def enter(self, tokens: Tensor, place: int) -> Tensor:
        """What the first layer reads: tokens (N, T), the first of which stands at `place` -> (N, T, D)."""
        ...


class Autoregressive(nn.Module):
    """A `Trainable`: a subclass gives `start`, `features` and the output layer."""

    output: OutputLayer

    @property
    def self_attention(self) -> SelfAttentionStack | None:
        """What reads the tokens so far, if that is self-attention alone: `engine/fused_transformer.py` then decodes."""
        return None

    def encode(self, source: Padded) -> Tensor:
        """A source (B, S) as vectors (B, S, D), for models that have one."""
        raise NotImplementedError

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Memory and a first state."""
        raise NotImplementedError

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        """tokens (N, T) -> what the output layer reads, (N, T, D), and the new state."""
        raise NotImplementedError

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """tokens (N, T) -> logits (N, T, V) and the new state."""
        features = self.features(tokens, memory, state)
        return Step(self.output(features.hidden), features.state)

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        """What `advance` gives to `targets` (N, T) after `inputs` (N, T), in nats, without whole logits."""
        features = self.features(inputs, memory, state)
        return LogProbs(self.output.log_probs(features.hidden, targets), features.state)
