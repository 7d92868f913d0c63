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

import msgspec
import torch

from seqkit.engine.fused_transformer import fused
from seqkit.errors import ModelError
from seqkit.models.language_model import LanguageModel
from seqkit.models.ngram import NGramModel
from seqkit.runs.trained_model import TrainedModel, load
from seqkit.search.beam import beam
from seqkit.search.hypothesis import Hypothesis
from seqkit.search.rules import Ban
from seqkit.search.sample import sample, stream
from seqkit.settings import Labelled, Lines, Recipe, Search, Stream, TransformerLanguageModel
from seqkit.system.device import device_of
from seqkit.text.vocabulary import BOS, EOS, UNKNOWN

__all__ = ["Generated", "Writer"]

KNOWN = Ban((UNKNOWN,))
UNFINISHED = "\ufffd"  # what bytes are decoded to before the last one of their character is there


@dataclass(frozen=True)
class Generated:
    """A prompt and how it went on."""

    prompt: str  # as it came
    text: str  # the prompt, as the model read it, and what follows
    ids: tuple[int, ...]  # what follows; of a model of lines without `</s>`
    log_prob: float  # of what follows, and of `</s>` if it is finished, in nats
    finished: bool  # False: cut at the maximum length


class Writer:
    """A trained language model with its text layer, ready to write."""

    def __init__(self, loaded: TrainedModel, *, device: torch.device) -> None:
        """`loaded.model` is on `device` and in evaluation mode, as `run.load` gives it.

        Raises ModelError if it is no language model.
        """
        model, data = loaded.model, loaded.recipe.data
        if not isinstance(model, LanguageModel | NGramModel) or not isinstance(data, Stream | Lines):
            other = "label" if isinstance(data, Labelled) else "translate"
            raise ModelError(f"{loaded.path} holds no language model", f"seqkit {other} {loaded.path} uses it")
        self.loaded, self.model = loaded, fused(model)
        self.device = device
        self.codec = loaded.codecs.target
        self.endless = isinstance(data, Stream)
        self.context = _context(loaded.recipe, data)

    @classmethod
    def load(cls, path: str | Path, *, device: str = "auto") -> Writer:
        """Read a run folder, whose best checkpoint is taken, or a `model/` folder.

        Raises ModelError when there is no sound language model, ConfigError for a device that is not there.
        """
        place = device_of(device)
        return cls(load(Path(path), device=place), device=place)

    def generate(self, prompts: Sequence[str], *, search: Search, first: int = 0) -> list[Generated]:
        """Go on once from each prompt; give a prompt several times for several samples.

        A text depends on its prompt, its number (`first` + its place in the list) and the seed, not on the other
        prompts. Unknown tokens are never drawn. Raises ConfigError for settings out of range.
        """
        ids = [self._encode(prompt) for prompt in prompts]
        found = sample(
            self.model,
            ids,
            search=search,
            rules=[KNOWN],
            endless=self.endless,
            context=self.context,
            first=first,
            device=self.device,
        )
        return [self._generated(*parts) for parts in zip(prompts, ids, found, strict=True)]

    def stream(self, prompt: str, *, search: Search, number: int = 0) -> Iterator[str]:
        """The text that `generate` has for prompt `number` if it is this one, bit by bit: first the prompt."""
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
        shown = self.codec.decode(last).rstrip(UNFINISHED)
        yield shown
        for token in drawn:
            if token == EOS:
                yield self.codec.decode(last)[len(shown) :] + "\n"
                last, shown = [], ""
                continue
            last.append(token)
            text = self.codec.decode(last)
            if not text.endswith(UNFINISHED):
                yield text[len(shown) :]
                last = last[-1:]  # how a token is written depends on the one before it, and no other
                shown = self.codec.decode(last)
        yield self.codec.decode(last)[len(shown) :]

    def search(self, prompt: str, *, search: Search) -> list[Generated]:
        """The `search.nbest` likeliest ways to go on from a prompt, to the end of its line, best first.

        Raises ConfigError for settings that cannot be met.
        """
        ids = self._encode(prompt)
        read = ids
        if self.context is not None:  # half of what the model can look back on for the prompt, half for what is new
            half = max(1, self.context // 2)
            read = ids[-half:]
            longest = max(min(search.maximum_length, half), search.minimum_length + 1)
            search = msgspec.structs.replace(search, maximum_length=longest)
        with self.device:
            [found] = beam(self.model, None, search, prompt=read)
        return [self._generated(prompt, ids, hypothesis) for hypothesis in found]

    def _encode(self, prompt: str) -> list[int]:
        """What the model reads first: its texts begin with `<s>`, those of a stream after the end of a line."""
        if not self.endless:
            return [BOS, *self.codec.encode(prompt)]
        return [id for line in prompt.split("\n") for id in (EOS, *self.codec.encode(line))]

    def _lines(self, ids: Sequence[int]) -> list[list[int]]:
        """Ids cut at line ends."""
        lines: list[list[int]] = [[]]
        for id in ids:
            if id == EOS:
                lines.append([])
            else:
                lines[-1].append(id)
        return lines

    def _generated(self, prompt: str, ids: Sequence[int], found: Hypothesis) -> Generated:
        lines = self._lines([*ids[1:], *found.ids])
        text = "\n".join(self.codec.decode(line) for line in lines)
        return Generated(prompt, text, found.ids, found.log_prob, found.finished)


def _context(recipe: Recipe, data: Stream | Lines) -> int | None:
    """How many tokens the model was trained to look back on, or has positions for; None: there is no limit."""
    model = recipe.model
    if not isinstance(model, TransformerLanguageModel):
        return None
    if isinstance(data, Stream):
        return data.window
    return model.maximum_positions if model.positions == "learned" else None
