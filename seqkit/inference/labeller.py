"""Tokens in, labels out: a trained labeller as a function of sentences.

    labeller = Labeller.load("runs/names")
    for labels in labeller.label(["Florence left Paris ."]):
        print(labels)                                   # ["B-PER", "O", "B-LOC", "O"]

There is a list for each sentence, in their order, with a label for each token; batching is private.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import cast

import torch

from seqkit.engine.batch_labels import label_batches, label_names, longest_part, token_ids
from seqkit.models.sequence_labeller import SequenceLabeller
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.settings import Labelled
from seqkit.system.device import device_of

__all__ = ["WINDOW", "Labeller"]

WINDOW = 2000  # sentences that are read before the first is answered, and that are sorted by length together


class Labeller:
    """A trained model with both of its vocabularies, ready to label."""

    def __init__(self, loaded: TrainedModel, *, device: torch.device) -> None:
        """`loaded.model` is on `device` and in evaluation mode, as `trained_model.load` gives it.

        Raises ModelError if it is not for labelling.
        """
        loaded.require("labelling")
        self.loaded, self.model = loaded, cast(SequenceLabeller, loaded.model)
        self.device = device
        self.longest = longest_part(loaded.recipe, cast(Labelled, loaded.recipe.data))

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Labeller:
        """Read a run folder, whose best checkpoint is taken, or a `model/` folder.

        Raises ModelError when there is no sound model, ConfigError for a device that is not there.
        """
        resolved = device_of(device)
        return cls(load(Path(path), device=resolved), device=resolved)

    def label(self, sentences: Iterable[str | Sequence[str]]) -> Iterator[list[str]]:
        """The labels of each sentence, window by window; a str is cut into tokens at white space, a list holds tokens.

        A sentence without tokens has no labels; one of more than `longest` tokens is read in pieces of that length.
        """
        pending = iter(sentences)
        codecs = self.loaded.codecs
        while window := list(islice(pending, WINDOW)):
            tokens = [sentence.split() if isinstance(sentence, str) else sentence for sentence in window]
            ids = token_ids(codecs.source, tokens)
            labels = label_batches(self.model, ids, longest=self.longest, device=self.device)
            yield from label_names(codecs.target, labels)
