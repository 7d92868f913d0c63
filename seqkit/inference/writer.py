"""Text in, more text out: a trained language model as a function from prompts to texts.

    writer = Writer.load("runs/timemachine")
    for generated in writer.generate(["The Time Traveller "] * 3, search=Search(temperature=0.8)):
        print(generated.text)

A model of a stream goes on over line ends, which its texts have as line breaks; for a model of lines they end a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import msgspec
import torch

from seqkit.engine.fused_transformer import fused
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.search.beam import beam
from seqkit.search.hypothesis import Hypothesis
from seqkit.search.rules import Ban
from seqkit.search.sample import sample, stream
from seqkit.settings import Recipe, Search, Stream
from seqkit.state import Decodable
from seqkit.system.device import device_of
from seqkit.text.vocabulary import BOS, EOS, UNKNOWN

__all__ = ["Generated", "Writer"]

KNOWN = Ban((UNKNOWN,))
UNFINISHED = "\ufffd"  # decoded from bytes that are not yet a whole character


@dataclass(frozen=True)
class Generated:
    """A prompt and its continuation."""

    prompt: str  # unchanged
    text: str  # the prompt, as the model read it, and the continuation
    ids: tuple[int, ...]  # of the continuation; of a model of lines without `</s>`
    log_prob: float  # of the continuation, and of `</s>` if it is finished, in nats
    finished: bool  # False: cut at the maximum length


class Writer:
    """A trained language model with its text layer, ready to write."""

    def __init__(self, loaded: TrainedModel, *, device: torch.device) -> None:
        """`loaded.model` is on `device` and in evaluation mode, as `trained_model.load` gives it.

        Raises ModelError if it is no language model.
        """
        loaded.require("language")
        self.loaded, self.model = loaded, fused(cast(Decodable, loaded.model))
        self.device = device
        self.codec = loaded.codecs.target
        self.endless = isinstance(loaded.recipe.data, Stream)
        self.context = _context(loaded.recipe)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Writer:
        """Read a run folder, whose best checkpoint is taken, or a `model/` folder.

        Raises ModelError when there is no sound language model, ConfigError for a device that is not there.
        """
        resolved = device_of(device)
        return cls(load(Path(path), device=resolved), device=resolved)

    def generate(self, prompts: Sequence[str], *, search: Search, first: int = 0) -> list[Generated]:
        """Go on once from each prompt; give a prompt several times for several samples.

        A text depends on its prompt, its number (`first` + its place in the list) and the seed, not on the other
        prompts. Unknown tokens are never drawn. Raises ConfigError for settings out of range.
        """
        ids = [self._encode(prompt) for prompt in prompts]
        hypotheses = sample(
            self.model,
            ids,
            search=search,
            rules=[KNOWN],
            endless=self.endless,
            context=self.context,
            first=first,
            device=self.device,
        )
        return [self._generated(*parts) for parts in zip(prompts, ids, hypotheses, strict=True)]

    def stream(self, prompt: str, *, search: Search, number: int = 0) -> Iterator[str]:
        """The text that `generate` gives to this prompt as the one with that number, in pieces: first the prompt."""
        ids = self._encode(prompt)
        drawn = stream(
            self.model,
            ids,
            search=search,
            number=number,
            rules=[KNOWN],
            endless=self.endless,
            context=self.context,
            device=self.device,
        )
        *lines, last = self._lines(ids[1:])
        yield from (self.codec.decode(line) + "\n" for line in lines)
        written = self.codec.decode(last).rstrip(UNFINISHED)
        yield written
        for token in drawn:
            if token == EOS:
                yield self.codec.decode(last)[len(written) :] + "\n"
                last, written = [], ""
                continue
            last.append(token)
            text = self.codec.decode(last)
            if not text.endswith(UNFINISHED):
                yield text[len(written) :]
                last = last[-1:]  # the text of a token depends on the one before it alone
                written = self.codec.decode(last)
        yield self.codec.decode(last)[len(written) :]

    def search(self, prompt: str, *, search: Search) -> list[Generated]:
        """The `search.nbest` likeliest ways to go on from a prompt, to the end of its line, best first.

        Raises ConfigError for settings that cannot be met.
        """
        ids = self._encode(prompt)
        read = ids
        if self.context is not None:  # half of it for the prompt, half for the continuation
            half = max(1, self.context // 2)
            read = ids[-half:]
            longest = max(min(search.maximum_length, half), search.minimum_length + 1)
            search = msgspec.structs.replace(search, maximum_length=longest)
        with self.device:
            [nbest] = beam(self.model, None, search, prompt=read)
        return [self._generated(prompt, ids, hypothesis) for hypothesis in nbest]

    def _encode(self, prompt: str) -> list[int]:
        """The ids of a prompt after `<s>`, or for a stream after the end of a line."""
        if not self.endless:
            return [BOS, *self.codec.encode(prompt)]
        return [id for line in prompt.split("\n") for id in (EOS, *self.codec.encode(line))]

    def _lines(self, ids: Sequence[int]) -> list[list[int]]:
        """Ids split at the ends of lines."""
        lines: list[list[int]] = [[]]
        for id in ids:
            if id == EOS:
                lines.append([])
            else:
                lines[-1].append(id)
        return lines

    def _generated(self, prompt: str, ids: Sequence[int], hypothesis: Hypothesis) -> Generated:
        lines = self._lines([*ids[1:], *hypothesis.ids])
        text = "\n".join(self.codec.decode(line) for line in lines)
        return Generated(prompt, text, hypothesis.ids, hypothesis.log_prob, hypothesis.finished)


def _context(recipe: Recipe) -> int | None:
    """The most tokens that the model sees before the next one, by its training or its positions; None: no limit."""
    model, data = recipe.model, recipe.data
    if model.carries_state or not model.trained:  # its state has a fixed size, however long the text
        return None
    return data.window if isinstance(data, Stream) else model.reach
