"""The base of neural models that predict token by token: logits and log-probabilities from features."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from seqkit.batch import Padded
from seqkit.layers.embedding import OutputLayer
from seqkit.layers.stack import LayerStack
from seqkit.state import Features, LogProbs, Memory, State, Step

__all__ = ["Autoregressive", "SelfAttentionStack"]


class SelfAttentionStack(Protocol):
    """The part of a model that reads the tokens so far by layers of causal self-attention."""

    layers: LayerStack
    norm: nn.Module

    def embed(self, tokens: Tensor, start: int) -> Tensor:
        """The input of the first layer: tokens (N, T), the first of which is at position `start` -> (N, T, D)."""
        ...


class Autoregressive(nn.Module):
    """A `Trainable`; a subclass defines `start`, `features` and the output layer."""

    output: OutputLayer

    @property
    def self_attention(self) -> SelfAttentionStack | None:
        """The part that reads the tokens so far, if it is made of self-attention alone: see `fused_transformer`."""
        return None

    def encode(self, source: Padded) -> Tensor:
        """Encode a source (B, S) as vectors (B, S, D); only for models that have one."""
        raise NotImplementedError

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        """Encode a source: memory and a first state, a row a sentence."""
        raise NotImplementedError

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        """tokens (N, T) -> the input of the output layer, (N, T, D), and the new state."""
        raise NotImplementedError

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """tokens (N, T) -> logits (N, T, V) and the new state."""
        features = self.features(tokens, memory, state)
        return Step(self.output(features.hidden), features.state)

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        """What `advance` gives to `targets` (N, T) after `inputs` (N, T), in nats, without whole logits."""
        features = self.features(inputs, memory, state)
        return LogProbs(self.output.log_probs(features.hidden, targets), features.state)
