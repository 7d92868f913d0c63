"""Tokens in, labels out: a trained labeller as a function of sentences.

    labeller = Labeller.load("runs/names")
    for labels in labeller.label(["Florence left Paris ."]):
        print(labels)                                   # ["B-PER", "O", "B-LOC", "O"]

As many lists come out as sentences went in, in their order, each with one label a token; batching is private.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch

from seqkit.errors import ModelError
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.settings import Labelled, Pairs
from seqkit.system.device import device_of
from seqkit.tasks.labelling_task import encode, longest_piece, predict, spell

__all__ = ["WINDOW", "Labeller"]

WINDOW = 2000  # sentences that are sorted by length together, and the most that are kept waiting for each other


class Labeller:
    """A trained model with both of its vocabularies, ready to label."""

    def __init__(self, loaded: TrainedModel, *, device: torch.device) -> None:
        """`loaded.model` is on `device` and in evaluation mode, as `run.load` gives it.

        Raises ModelError if it does not label.
        """
        model, data = loaded.model, loaded.recipe.data
        if not isinstance(model, SequenceLabeller) or not isinstance(data, Labelled):
            other = "translate" if isinstance(data, Pairs) else "generate"
            raise ModelError(f"{loaded.path} holds no labelling model", f"seqkit {other} {loaded.path} uses it")
        self.loaded, self.model = loaded, model
        self.device = device
        self.longest = longest_piece(loaded.recipe, data)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Labeller:
        """Read a run folder, whose best checkpoint is taken, or a `model/` folder.

        Raises ModelError when there is no sound model, ConfigError for a device that is not there.
        """
        place = device_of(device)
        return cls(load(Path(path), device=place), device=place)

    def label(self, sentences: Iterable[str | Sequence[str]]) -> Iterator[list[str]]:
        """The labels of each sentence, window by window; text is cut into tokens at its white space, lists are cut.

        A sentence without tokens has no labels. Those of more than `longest` tokens are read in pieces of that length.
        """
        waiting = iter(sentences)
        codecs = self.loaded.codecs
        while window := list(islice(waiting, WINDOW)):
            cut = [sentence.split() if isinstance(sentence, str) else sentence for sentence in window]
            tokens = encode(codecs.source, cut)
            yield from spell(codecs.target, predict(self.model, tokens, longest=self.longest, device=self.device))
