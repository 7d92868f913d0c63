"""What every neural model that predicts token by token shares: one way from features to logits and to probabilities."""

from __future__ import annotations

from torch import Tensor, nn

from seqkit.layers.embedding import OutputLayer
from seqkit.state import Features, LogProbs, Memory, State, Step

__all__ = ["Autoregressive"]


class Autoregressive(nn.Module):
    """A `Trainable`: a subclass gives `start`, `features` and the output layer."""

    output: OutputLayer

    def features(self, tokens: Tensor, memory: Memory, state: State) -> Features:
        """tokens (N, T) -> what the output layer reads, (N, T, D), and the new state."""
        raise NotImplementedError

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        """tokens (N, T) -> logits (N, T, V) and the new state."""
        found = self.features(tokens, memory, state)
        return Step(self.output(found.hidden), found.state)

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        """What `advance` gives to `targets` (N, T) after `inputs` (N, T), in nats, without whole logits."""
        found = self.features(inputs, memory, state)
        return LogProbs(self.output.log_probs(found.hidden, targets), found.state)
