"""Many source sentences through one search: batches by length, results in the order of the sources."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import msgspec
import numpy as np
import torch
from torch import Tensor

from seqkit.batch import Padded, pad
from seqkit.data.batching import length_batches
from seqkit.engine.fused_transformer import fused
from seqkit.engine.search_engine import Constraints
from seqkit.search.beam import beam, maximum_lengths
from seqkit.search.hypothesis import BOS, EOS, Hypothesis, length_normalised
from seqkit.search.rules import Prefix, Rule
from seqkit.search.sample import sample
from seqkit.search.terms import Forms, Terms
from seqkit.settings import Search
from seqkit.state import Decodable

__all__ = ["BatchSearch", "search_batches"]

WIDEST = 1.4  # times its usual width a beam may have to hold a sentence's terms


class BatchSearch:
    """The package's own `SearchEngine`: a model, fused where it can be, and batches of similar length on one device."""

    def __init__(self, model: Decodable, *, device: torch.device) -> None:
        """`model` is on `device`, in evaluation mode, and keeps its weights for as long as this is used."""
        self.model = model
        self.device = device
        self._fused: dict[str, Decodable] = {}  # by the search's precision

    def search(
        self,
        sources: Sequence[Sequence[int]],
        settings: Search,
        constraints: Constraints | None = None,
        *,
        batch_done: Callable[[], object] | None = None,
    ) -> list[list[Hypothesis]]:
        """The n-best hypotheses of each source: see `search_batches`."""
        precision = settings.precision
        if precision not in self._fused:
            self._fused[precision] = fused(self.model, products=torch.bfloat16 if precision == "bf16" else None)
        return search_batches(
            self._fused[precision],
            sources,
            settings,
            device=self.device,
            constraints=constraints,
            batch_done=batch_done,
        )


def search_batches(
    model: Decodable,
    sources: Sequence[Sequence[int]],
    settings: Search,
    *,
    device: torch.device,
    constraints: Constraints | None = None,
    batch_done: Callable[[], object] | None = None,
) -> list[list[Hypothesis]]:
    """The n-best hypotheses of each source (ids without `</s>`); an empty source gets an empty list.

    With `method="sample"` they are draws, likeliest first; with `"minimum_risk"` all `settings.samples` draws, in no
    order. What is drawn depends on the source and the seed, not on the other sources. On a CPU, batches go side by
    side, one a thread: the products of one step are too small to share out well. `batch_done` is called after each
    batch, from the caller's thread, and may raise to leave the rest.
    """
    constraints = constraints or Constraints()
    found: list[list[Hypothesis]] = [[] for _ in sources]
    jobs = list(_jobs(sources, settings, constraints))

    def run(job: _Job) -> None:
        for index, hypotheses in zip(job.indices, _search(model, sources, job, constraints, device), strict=True):
            found[index] = hypotheses

    with contextlib.closing(_side_by_side(run, jobs, device)) as done:
        for _ in done:
            if batch_done is not None:
                batch_done()
    return found


@dataclass(frozen=True)
class _Job:
    """Sources of similar length that are searched together, in the same way."""

    indices: list[int]
    settings: Search


def _jobs(sources: Sequence[Sequence[int]], settings: Search, constraints: Constraints) -> Iterator[_Job]:
    """Batches by width of the beam and length; a source without a token is in none."""
    filled = [index for index, source in enumerate(sources) if len(source)]
    if not filled:
        return
    longest = max(len(sources[index]) for index in filled)
    widths: dict[int, list[int]] = {}
    for index in filled:
        # A width of 0 stands for the usual one, without terms.
        forms = () if constraints.terms is None else constraints.terms[index]
        widths.setdefault(_width(forms, settings) if forms else 0, []).append(index)
    for width, indices in sorted(widths.items()):
        own = msgspec.structs.replace(settings, beam=width) if width else settings
        hypotheses = own.beam if own.method == "beam" else max(own.samples, own.nbest)
        budget = max(own.batch_tokens // hypotheses, longest + 1)
        lengths = np.array([len(sources[index]) for index in indices], dtype=np.int64)
        for batch in length_batches(lengths, budget=budget):
            yield _Job([indices[place] for place in batch], own)


def _width(terms: Forms, settings: Search) -> int:
    """Wide enough for a hypothesis with each number of the terms' tokens, as far as that is affordable."""
    tokens = sum(max(len(form) for form in forms) for forms in terms)
    return max(settings.beam, 2, min(tokens + 1, int(WIDEST * settings.beam)))


def _search(
    model: Decodable, sources: Sequence[Sequence[int]], job: _Job, constraints: Constraints, device: torch.device
) -> list[list[Hypothesis]]:
    read = [sources[index] for index in job.indices]
    source = pad([[*ids, EOS] for ids in read]).to(device)
    prefixes = [[*constraints.prefixes[index]] for index in job.indices] if constraints.prefixes is not None else []
    if job.settings.method != "beam":
        return _draw(model, read, source, prefixes, job.settings, constraints.rules)
    rules = [*constraints.rules, *([Prefix(_filled(prefixes).to(device))] if any(prefixes) else [])]
    chosen = [constraints.terms[index] for index in job.indices] if constraints.terms is not None else []
    terms = None
    if any(chosen) and constraints.word_boundaries is not None:
        terms = Terms(chosen, constraints.word_boundaries.to(device))
    return beam(model, source, job.settings, rules=rules, terms=terms)


def _filled(prefixes: Sequence[Sequence[int]]) -> Tensor:
    """Prefixes (B, P), -1 after the end of the shorter ones."""
    longest = max(len(prefix) for prefix in prefixes)
    return torch.tensor([[*prefix, *[-1] * (longest - len(prefix))] for prefix in prefixes])


def _draw(
    model: Decodable,
    read: Sequence[Sequence[int]],
    source: Padded,
    prefixes: Sequence[Sequence[int]],
    settings: Search,
    rules: Sequence[Rule],
) -> list[list[Hypothesis]]:
    """Draws from the model for each source, each with random numbers of its own."""
    count = settings.nbest if settings.method == "sample" else settings.samples
    rows = torch.arange(len(read), device=source.ids.device).repeat_interleave(count)
    begun = prefixes or [[] for _ in read]
    prompts = [[BOS, *begun[row]] for row in rows.tolist()]
    numbers = [_number(ids) + draw for ids in read for draw in range(count)]
    limits = [most for most in maximum_lengths(source, settings, len(read)) for _ in range(count)]
    drawn = sample(
        model,
        prompts,
        search=settings,
        source=Padded(source.ids[rows], source.mask[rows]),
        rules=rules,
        numbers=numbers,
        limits=limits,
    )
    whole = [
        Hypothesis((*begun[row], *each.ids), each.log_prob, _score(each, settings), each.finished)
        for row, each in zip(rows.tolist(), drawn, strict=True)
    ]
    lists = [whole[first : first + count] for first in range(0, len(whole), count)]
    return [sorted(each, key=lambda one: -one.score) if settings.method == "sample" else each for each in lists]


def _score(drawn: Hypothesis, settings: Search) -> float:
    return length_normalised(
        drawn.log_prob,
        length=len(drawn.ids) + drawn.finished,
        reward=settings.length_reward,
        normalisation=settings.length_normalisation,
    )


def _number(ids: Sequence[int]) -> int:
    """A number that stands for a source: the same text is drawn alike wherever it stands."""
    digest = hashlib.sha256(np.array(ids, dtype="<i4").tobytes()).digest()
    return int.from_bytes(digest[:6], "little") << 8


def _side_by_side(
    run: Callable[[_Job], None], jobs: Sequence[_Job], device: torch.device
) -> Generator[None, None, None]:
    """Run the jobs, and pause after each that is done; those that have not begun when this is closed never do."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(jobs) < 2:
        yield from map(run, jobs)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
            yield from pool.map(run, jobs)  # raises what a thread raised; closing it takes back what has not begun
    finally:
        torch.set_num_threads(threads)
