"""Search over many source sentences: batches by length, results in the order of the sources."""

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

MAXIMUM_WIDENING = 1.4  # factor by which the beam of a sentence with terms may be wider than usual


class BatchSearch:
    """The package's own `SearchEngine`: a model, fused where possible, over batches of similar length on one device."""

    def __init__(self, model: Decodable, *, device: torch.device) -> None:
        """`model` is on `device` and in evaluation mode, and its weights do not change as long as this is used."""
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
    """The n-best hypotheses of each source (ids without `</s>`); an empty source has an empty list.

    With `method="sample"` they are samples, likeliest first; with `"minimum_risk"` all `settings.samples` samples, in
    no order. A sample depends on the source and the seed, not on the other sources. On a CPU, batches are searched in
    parallel, each by one thread, since the products of one step are too small for several threads. `batch_done` is
    called after each batch, from the caller's thread, and may raise to leave the rest.
    """
    constraints = constraints or Constraints()
    results: list[list[Hypothesis]] = [[] for _ in sources]
    jobs = list(_jobs(sources, settings, constraints))

    def run(job: _Job) -> None:
        for index, hypotheses in zip(job.indices, _search(model, sources, job, constraints, device), strict=True):
            results[index] = hypotheses

    with contextlib.closing(_in_parallel(run, jobs, device)) as done:
        for _ in done:
            if batch_done is not None:
                batch_done()
    return results


@dataclass(frozen=True)
class _Job:
    """Sources of similar length that are searched together, in the same way."""

    indices: list[int]
    settings: Search


def _jobs(sources: Sequence[Sequence[int]], settings: Search, constraints: Constraints) -> Iterator[_Job]:
    """Batches by width of the beam and by length; a source without a token is in none."""
    nonempty = [index for index, source in enumerate(sources) if len(source)]
    if not nonempty:
        return
    longest = max(len(sources[index]) for index in nonempty)
    widths: dict[int, list[int]] = {}
    for index in nonempty:
        # A width of 0 stands for the usual one, without terms.
        forms = () if constraints.terms is None else constraints.terms[index]
        widths.setdefault(_beam_width(forms, settings) if forms else 0, []).append(index)
    for width, indices in sorted(widths.items()):
        adjusted = msgspec.structs.replace(settings, beam=width) if width else settings
        rows = adjusted.beam if adjusted.method == "beam" else max(adjusted.samples, adjusted.nbest)  # of a source
        budget = max(adjusted.batch_tokens // rows, longest + 1)
        lengths = np.array([len(sources[index]) for index in indices], dtype=np.int64)
        for batch in length_batches(lengths, budget=budget):
            yield _Job([indices[position] for position in batch], adjusted)


def _beam_width(terms: Forms, settings: Search) -> int:
    """Wide enough for a hypothesis with each number of the terms' tokens, up to `MAXIMUM_WIDENING`."""
    tokens = sum(max(len(form) for form in forms) for forms in terms)
    return max(settings.beam, 2, min(tokens + 1, int(MAXIMUM_WIDENING * settings.beam)))


def _search(
    model: Decodable, sources: Sequence[Sequence[int]], job: _Job, constraints: Constraints, device: torch.device
) -> list[list[Hypothesis]]:
    job_sources = [sources[index] for index in job.indices]
    source = pad([[*ids, EOS] for ids in job_sources]).to(device)
    prefixes = [[*constraints.prefixes[index]] for index in job.indices] if constraints.prefixes is not None else []
    if job.settings.method != "beam":
        return _sample(model, job_sources, source, prefixes, job.settings, constraints.rules)
    rules = [*constraints.rules, *([Prefix(_padded(prefixes).to(device))] if any(prefixes) else [])]
    terms_of_sources = [constraints.terms[index] for index in job.indices] if constraints.terms is not None else []
    terms = None
    if any(terms_of_sources) and constraints.word_boundaries is not None:
        terms = Terms(terms_of_sources, constraints.word_boundaries.to(device))
    return beam(model, source, job.settings, rules=rules, terms=terms)


def _padded(prefixes: Sequence[Sequence[int]]) -> Tensor:
    """Prefixes as a tensor (B, P), -1 after the end of the shorter ones."""
    longest = max(len(prefix) for prefix in prefixes)
    return torch.tensor([[*prefix, *[-1] * (longest - len(prefix))] for prefix in prefixes])


def _sample(
    model: Decodable,
    job_sources: Sequence[Sequence[int]],
    source: Padded,
    prefixes: Sequence[Sequence[int]],
    settings: Search,
    rules: Sequence[Rule],
) -> list[list[Hypothesis]]:
    """Samples for each source, each from a stream of random numbers of its own."""
    count = settings.nbest if settings.method == "sample" else settings.samples
    rows = torch.arange(len(job_sources), device=source.ids.device).repeat_interleave(count)
    begins = prefixes or [[] for _ in job_sources]
    prompts = [[BOS, *begins[row]] for row in rows.tolist()]
    numbers = [_stream_number(ids) + index for ids in job_sources for index in range(count)]
    limits = [limit for limit in maximum_lengths(source, settings, len(job_sources)) for _ in range(count)]
    samples = sample(
        model,
        prompts,
        search=settings,
        source=Padded(source.ids[rows], source.mask[rows]),
        rules=rules,
        numbers=numbers,
        limits=limits,
    )
    hypotheses = [
        Hypothesis((*begins[row], *rest.ids), rest.log_prob, _score(rest, settings), rest.finished)
        for row, rest in zip(rows.tolist(), samples, strict=True)
    ]
    lists = [hypotheses[first : first + count] for first in range(0, len(hypotheses), count)]
    if settings.method == "sample":
        return [sorted(hypotheses, key=lambda hypothesis: -hypothesis.score) for hypotheses in lists]
    return lists


def _score(hypothesis: Hypothesis, settings: Search) -> float:
    return length_normalised(
        hypothesis.log_prob,
        length=len(hypothesis.ids) + hypothesis.finished,
        reward=settings.length_reward,
        normalisation=settings.length_normalisation,
    )


def _stream_number(ids: Sequence[int]) -> int:
    """The number of a source's first random stream, by its ids alone: equal sources have equal samples."""
    digest = hashlib.sha256(np.array(ids, dtype="<i4").tobytes()).digest()
    return int.from_bytes(digest[:6], "little") << 8


def _in_parallel(
    run: Callable[[_Job], None], jobs: Sequence[_Job], device: torch.device
) -> Generator[None, None, None]:
    """Run the jobs and yield after each; those that have not started when this is closed are never run."""
    threads = torch.get_num_threads()
    if device.type != "cpu" or threads == 1 or len(jobs) < 2:
        yield from map(run, jobs)
        return
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
            yield from pool.map(run, jobs)  # raises what a thread raised; closing it cancels jobs that have not started
    finally:
        torch.set_num_threads(threads)
