"""Every token of a text is scored once, from the context that was asked for, whatever the batches."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from seqkit.batch import Padded
from seqkit.data.datasets import Encoded
from seqkit.engine.token_scores import (
    Blocks,
    Context,
    describe_context,
    dynamic_log_probs,
    line_sums,
    pair_log_probs,
    token_features,
    token_log_probs,
    token_stream,
)
from seqkit.errors import ConfigError
from seqkit.models.build import Sizes, build
from seqkit.models.ngram import NGramModel
from seqkit.search.forced_score import forced_scores
from seqkit.settings import Model, NGram, Recurrent, RecurrentLanguageModel, Transformer, TransformerLanguageModel
from seqkit.state import LogProbs, Memory, State, Step, map_state
from seqkit.text.vocabulary import BOS, EOS

CPU = torch.device("cpu")
VOCABULARY = 9
LENGTHS = (4, 0, 1, 9, 0, 2, 6, 3)
LINES = Encoded.from_lists(
    [np.random.default_rng(0).integers(3, VOCABULARY, size=length).tolist() for length in LENGTHS]
)
STREAM = token_stream(LINES)  # 33 tokens
SETTINGS: dict[str, Model] = {
    "lstm": RecurrentLanguageModel(width=6, embedding=5, layers=2),
    "transformer": TransformerLanguageModel(width=8, heads=2, feed_forward=8, layers=2),
    "ngram": NGram(order=3),
}
CONTEXTS: list[Context] = ["lines", "whole", Blocks(8, 4), Blocks(7, 0), Blocks(5, 4), Blocks(100, 50), Blocks(1, 0)]
every_kind = pytest.mark.parametrize("kind", SETTINGS)
every_context = pytest.mark.parametrize("context", CONTEXTS, ids=str)
close = partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)


def model_of(kind: str) -> Any:
    settings = SETTINGS[kind]
    if isinstance(settings, NGram):
        torch.set_default_dtype(torch.float64)  # in which counts become probabilities
        try:
            return NGramModel.fit(settings, [STREAM], vocabulary=VOCABULARY).eval()
        finally:
            torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    model = build(settings, Sizes(VOCABULARY, VOCABULARY, joint=True))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.double().eval()


@torch.no_grad()
def read(model: Any, before: list[int], tokens: list[int]) -> list[float]:
    """The log-probability of each token after those before it, by one pass over all of them."""
    ids = [*before, *tokens]
    logits = model.advance(torch.tensor([ids[:-1]]), *model.start(None)).logits[0].log_softmax(1)
    return [float(logits[len(before) - 1 + place, token]) for place, token in enumerate(tokens)]


@every_kind
@every_context
def test_the_budget_changes_nothing(kind: str, context: Context) -> None:
    model = model_of(kind)
    expected = token_log_probs(model, LINES, context, device=CPU)
    assert expected.shape == STREAM.shape
    assert (expected < 0).all()
    for budget in (1, 3, 8, 17, 64):
        close(token_log_probs(model, LINES, context, device=CPU, budget=budget), expected)


@every_kind
def test_the_whole_text_is_one_long_pass(kind: str) -> None:
    model = model_of(kind)
    close(token_log_probs(model, LINES, "whole", device=CPU, budget=7), read(model, [BOS], STREAM.tolist()))


@every_kind
def test_a_line_has_its_forced_score(kind: str) -> None:
    model = model_of(kind)
    values = token_log_probs(model, LINES, "lines", device=CPU, budget=12)
    scored = forced_scores(model, None, [LINES[i].tolist() for i in range(len(LINES))])
    # `score` sums in float32.
    np.testing.assert_allclose(values, [value for each in scored for value in each.log_probs], rtol=1e-5)
    np.testing.assert_allclose(line_sums(values, LINES), [each.log_prob for each in scored], rtol=1e-5)
    close(values, [value for i in range(len(LINES)) for value in read(model, [BOS], [*LINES[i].tolist(), EOS])])


@every_kind
@pytest.mark.parametrize(("size", "overlap"), [(8, 4), (7, 0), (5, 4), (1, 0), (33, 5), (34, 5), (32, 31), (20, 10)])
def test_a_token_is_predicted_from_its_block(kind: str, size: int, overlap: int) -> None:
    """Spelt out: a block begins every `size - overlap` tokens and reads the token before it, too."""
    model, text = model_of(kind), [BOS, *STREAM.tolist()]
    expected: list[float] = []
    begin = 0
    while len(expected) < len(STREAM):
        block = text[begin : begin + size + 1]
        values = read(model, block[:1], block[1:])
        expected += values if begin == 0 else values[overlap:]
        begin += size - overlap
    close(token_log_probs(model, LINES, Blocks(size, overlap), device=CPU, budget=16), expected)


class Witness:
    """Notes how often each token is asked for and how much it is predicted from; ids are places in the text."""

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor]] = []

    def start(self, source: Padded | None) -> tuple[Memory, State]:
        return None, None

    def advance(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        raise NotImplementedError

    def log_probs(self, inputs: Tensor, targets: Tensor, memory: Memory, state: State) -> LogProbs:
        read = 0 if state is None else int(state[0, 0])
        seen = read + torch.arange(1, inputs.shape[1] + 1).expand_as(inputs)
        self.calls.append((inputs, targets))
        return LogProbs(seen.double(), seen[:, -1:])


@given(st.integers(1, 80), st.integers(1, 20), st.integers(0, 19), st.integers(1, 60))
def test_every_token_has_at_least_the_overlap_before_it(count: int, size: int, overlap: int, budget: int) -> None:
    overlap %= size
    lines = Encoded.from_lists([list(range(3, 2 + count))])
    seen = token_log_probs(Witness(), lines, Blocks(size, overlap), device=CPU, budget=budget)
    first = min(size, count)
    assert seen[:first].tolist() == list(range(1, first + 1))
    assert (seen[first:] > overlap).all()  # the overlap, and the token before the block
    assert (seen <= size).all()
    whole = token_log_probs(Witness(), lines, "whole", device=CPU, budget=budget)
    assert whole.tolist() == list(range(1, count + 1))


@given(st.integers(1, 80), st.integers(1, 20), st.integers(0, 19), st.integers(1, 60))
def test_a_call_stays_within_the_budget_and_no_block_is_read_twice(
    count: int, size: int, overlap: int, budget: int
) -> None:
    overlap %= size
    witness = Witness()
    lines = Encoded.from_lists([list(range(3, 2 + count))])
    token_log_probs(witness, lines, Blocks(size, overlap), device=CPU, budget=budget)
    assert all(targets.numel() <= max(budget, size) for _, targets in witness.calls)
    rows = [row.tolist() for _, targets in witness.calls for row in targets]
    assert len({str(row) for row in rows}) == len(rows) == max(1, -(-(count - overlap) // (size - overlap)))
    witness = Witness()
    token_log_probs(witness, LINES, "lines", device=CPU, budget=budget)
    assert all(targets.numel() <= budget or len(targets) == 1 for _, targets in witness.calls)
    assert sum(len(targets) for _, targets in witness.calls) == len(LINES)


@every_kind
@every_context
@pytest.mark.parametrize("world", [2, 3, 11])
def test_shares_together_are_the_whole(kind: str, context: Context, world: int) -> None:
    model = model_of(kind)
    expected = token_log_probs(model, LINES, context, device=CPU, budget=9)
    parts = [token_log_probs(model, LINES, context, device=CPU, budget=9, share=(r, world)) for r in range(world)]
    close(sum(parts), expected)
    assert sum(int((part != 0).sum()) for part in parts) == len(expected)  # each token by one process


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
@every_context
def test_features_are_what_the_output_layer_reads(kind: str, context: Context) -> None:
    model = model_of(kind)
    rows = token_features(model, LINES, context, device=CPU, budget=9)
    with torch.no_grad():
        found = model.output.log_probs(torch.from_numpy(rows)[None].double(), torch.from_numpy(STREAM)[None].long())
    expected = token_log_probs(model, LINES, context, device=CPU)
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-5, atol=1e-6)  # features are kept in float32


LEARNING: list[Context] = ["lines", "whole", Blocks(8, 4), Blocks(100, 50)]


@pytest.mark.parametrize("kind", ["lstm", "transformer"])
@pytest.mark.parametrize("context", LEARNING, ids=str)
def test_a_model_that_learns_while_it_is_scored_is_spelt_out(kind: str, context: Context) -> None:
    """Score a piece, then one step down the gradient of its mean loss; what is scored with it does not know of it."""
    model, again = model_of(kind), model_of(kind)
    found = dynamic_log_probs(model, LINES, context, rate=0.1, segment=5, device=CPU)
    match context:
        case "lines":
            ends = [int(end) + 1 for end in np.flatnonzero(STREAM == EOS)]
            cuts = [(begin, begin, end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
        case "whole":
            cuts = [(begin, begin, min(begin + 5, 33)) for begin in range(0, 33, 5)]
        case Blocks(size, overlap):
            count = max(1, -(-(33 - overlap) // (size - overlap)))
            begins = [i * (size - overlap) for i in range(count)]
            cuts = [(begin, begin + overlap * (begin > 0), min(begin + size, 33)) for begin in begins]
    text, expected, state = [BOS, *STREAM.tolist()], [], None
    for begin, counted, end in cuts:
        inputs = torch.tensor([[BOS, *text[begin + 1 : end]] if context == "lines" else text[begin:end]])
        values, state = again.log_probs(inputs, torch.tensor([text[begin + 1 : end + 1]]), None, state)
        state = map_state(Tensor.detach, state) if context == "whole" else None
        own = values[0, counted - begin :]
        expected += own.tolist()
        again.zero_grad()
        (-own.mean()).backward()
        with torch.no_grad():
            for parameter in again.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    close(found, expected)


def test_learning_while_scoring_leaves_the_model_alone_and_helps_on_a_text_that_repeats() -> None:
    model = model_of("lstm").train()
    before = [parameter.clone() for parameter in model.parameters()]
    lines = Encoded.from_lists([[3, 5, 4, 8]] * 30)
    fixed = token_log_probs(model, lines, "whole", device=CPU)
    learnt = dynamic_log_probs(model, lines, "whole", rate=0.3, segment=10, device=CPU)
    close(learnt[:10], fixed[:10])
    assert learnt[75:].mean() > fixed[75:].mean() + 0.5
    assert model.training
    assert all(torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


def test_what_was_counted_cannot_learn_while_it_is_scored() -> None:
    with pytest.raises(ConfigError, match="counted"):
        dynamic_log_probs(model_of("ngram"), LINES, "whole", rate=0.1, segment=5, device=CPU)


@pytest.mark.parametrize("context", [Blocks(4, 4), Blocks(4, 9), Blocks(4, -1)], ids=str)
def test_blocks_that_count_nothing_are_refused(context: Blocks) -> None:
    with pytest.raises(ConfigError, match="overlap"):
        token_log_probs(model_of("lstm"), LINES, context, device=CPU)


@pytest.mark.parametrize("settings", [Recurrent(width=6, embedding=5), Transformer(width=8, heads=2, feed_forward=8)])
def test_translations_have_their_forced_score(settings: Model) -> None:
    torch.manual_seed(1)
    model: Any = build(settings, Sizes(VOCABULARY, VOCABULARY, joint=True)).double().eval()
    sources = Encoded.from_lists([LINES[i].tolist() for i in reversed(range(len(LINES)))])
    found = [pair_log_probs(model, sources, LINES, device=CPU, budget=budget) for budget in (1, 16, 4096)]
    close(found[1], found[0])
    close(found[2], found[0])
    expected = []
    for i in range(len(LINES)):
        ids = torch.tensor([[*sources[i].tolist(), EOS]])
        (each,) = forced_scores(model, Padded(ids, torch.ones_like(ids) > 0), [LINES[i].tolist()])
        expected.append(each.log_probs)
    np.testing.assert_allclose(found[0], [value for each in expected for value in each], rtol=1e-5)
    np.testing.assert_allclose(line_sums(found[0], LINES), [sum(each) for each in expected], rtol=1e-5)


@given(st.lists(st.lists(st.integers(3, 99), max_size=5), min_size=1, max_size=9))
def test_a_stream_is_every_line_and_its_end(lists: list[list[int]]) -> None:
    lines = Encoded.from_lists(lists)
    stream = token_stream(lines)
    assert stream.tolist() == [token for line in lists for token in (*line, EOS)]
    assert line_sums(stream.astype(np.float64), lines).tolist() == [sum(line) + EOS for line in lists]


def test_nothing_has_no_sums() -> None:
    assert line_sums(np.zeros(0), Encoded.from_lists([])).shape == (0,)


def test_contexts_have_words() -> None:
    assert describe_context("lines") == "each line alone"
    assert describe_context(Blocks(8, 4)) == "blocks of 8 tokens, 4 of them read and not counted"
    assert "whole" in describe_context("whole")


def test_scoring_makes_no_gradient_and_leaves_the_mode_alone() -> None:
    model = model_of("lstm")
    for mode in (True, False):
        model.train(mode)
        token_log_probs(model, LINES, "lines", device=CPU)
        assert model.training is mode
    assert all(parameter.grad is None for parameter in model.parameters())
