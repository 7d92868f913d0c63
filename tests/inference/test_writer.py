"""The writer: prompts in, texts out, each independent of its neighbours, the same whether streamed or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from seqkit.errors import ModelError
from seqkit.inference.translator import Translator
from seqkit.inference.writer import Writer
from seqkit.settings import Search
from seqkit.state import Memory, State, Step
from seqkit.text.vocabulary import BOS, EOS, UNKNOWN
from tests.support.writer import SENTENCES, tiny_run, untrained

GREEDY = Search(top_k=1, maximum_length=40)
Kind = Literal["stream", "lines"]
LINES = ["naïve café 東京 — “yes”, she said.", "hello (world)! it's 10,000 ✓ times", "a b c d e f g"] * 3


@pytest.fixture(scope="module")
def stream_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_run(tmp_path_factory.mktemp("writer"), "stream")


@pytest.fixture(scope="module")
def stream_writer(stream_run: Path) -> Writer:
    return Writer.load(stream_run, device="cpu")


@pytest.fixture(scope="module")
def line_writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    return Writer.load(tiny_run(tmp_path_factory.mktemp("writer"), "lines"), device="cpu")


def test_a_model_of_lines_ends_with_the_line(line_writer: Writer) -> None:
    for start in ("the d", "a"):
        [found] = line_writer.generate([start], search=GREEDY)
        assert found.text in SENTENCES
        assert found.finished
        assert found.text.startswith(start)
    assert {found.text for found in line_writer.generate([""] * 40, search=Search(seed=1))} >= set(SENTENCES)


def test_a_model_of_a_stream_goes_on_over_line_ends(stream_writer: Writer) -> None:
    [found] = stream_writer.generate(["the cat sat"], search=Search(top_k=1, maximum_length=60))
    whole = "\n".join(SENTENCES * 3)
    assert found.text in whole
    assert found.text.startswith("the cat sat on the mat.\nthe dog ran to the cat.\na bird")
    assert len(found.ids) == 60
    assert not found.finished


def test_a_prompt_of_several_lines_is_read_as_such(stream_writer: Writer) -> None:
    prompt = "the dog ran to the cat.\na bird sang.\n"
    [found] = stream_writer.generate([prompt], search=GREEDY)
    assert found.text.startswith(prompt + "the cat sat on the mat.\n")
    assert found.prompt == prompt


def test_a_text_begins_where_the_texts_of_its_kind_begin(stream_writer: Writer, line_writer: Writer) -> None:
    for writer, first in ((stream_writer, EOS), (line_writer, BOS)):
        for prompt in ("", "the"):
            [found] = writer.generate([prompt], search=Search(maximum_length=1))
            memory, state = writer.model.start(None)
            logits, _ = writer.model.advance(torch.tensor([[first, *writer.codec.encode(prompt)]]), memory, state)
            expected = logits[0, -1].log_softmax(0)[found.ids[0]].item()
            assert found.log_prob == pytest.approx(expected, abs=1e-4)


def test_texts_do_not_depend_on_their_neighbours(stream_writer: Writer) -> None:
    prompts = ["the ", "a bird", "", "the cat sat on"]
    search = Search(temperature=1.5, maximum_length=30, seed=7)
    together = stream_writer.generate(prompts, search=search)
    parts = [
        found
        for first in (0, 2)
        for found in stream_writer.generate(prompts[first : first + 2], search=search, first=first)
    ]
    assert [found.text for found in parts] == [found.text for found in together]
    assert len({found.text for found in stream_writer.generate(["the "] * 5, search=search)}) == 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        {"kind": "characters"},
        {"kind": "words"},
        {"kind": "words", "split": "spaces"},
        {"kind": "sentencepiece", "size": 330, "byte_fallback": True},
    ],
)
@pytest.mark.parametrize("kind", ["stream", "lines"])
def test_a_streamed_text_is_the_text(kind: Kind, text: dict[str, object]) -> None:
    writer = untrained(LINES, text=text, kind=kind)
    prompts = ["", "hello (wor", "a b\nc d", "café", "東京 ✓", " ", "\n"]

    @settings(max_examples=10, deadline=None)
    @given(prompt=st.sampled_from(prompts), seed=st.integers(0, 10_000))
    def check(prompt: str, seed: int) -> None:
        search = Search(maximum_length=40, seed=seed, temperature=1.3)
        [found] = writer.generate([prompt], search=search, first=4)
        assert "".join(writer.stream(prompt, search=search, number=4)) == found.text
        assert UNKNOWN not in found.ids
        found.text.encode()

    check()


def test_what_is_streamed_is_never_taken_back() -> None:
    writer = untrained(LINES, text={"kind": "sentencepiece", "size": 330, "byte_fallback": True})
    pieces = list(writer.stream("東京", search=Search(maximum_length=20)))
    assert pieces[0] == "東京"
    assert len(pieces) > 5


class NotedLengths:
    """Steps as a Transformer does, and notes how much it has seen."""

    def __init__(self, advance: Callable[[Tensor, Memory, State], Step]) -> None:
        self.advance = advance
        self.lengths: list[int] = []

    def __call__(self, tokens: Tensor, memory: Memory, state: State) -> Step:
        step = self.advance(tokens, memory, state)
        self.lengths.append(step.state.length)
        return step


def test_a_self_attention_model_never_sees_more_than_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"width": 8, "heads": 2, "layers": 1, "feed_forward": 8}
    model = {"kind": "transformer_language_model", "positions": "learned", "maximum_positions": 20, **sizes}
    cases: tuple[tuple[Kind, int, int], ...] = (("stream", 12, 12), ("stream", 20, 20), ("lines", 0, 20))
    for kind, window, context in cases:
        writer = untrained(LINES, text={"kind": "characters"}, kind=kind, model=model, window=window)
        assert writer.context == context
        prompts = ["hello" * 9, "a"]
        noted = NotedLengths(writer.model.advance)
        monkeypatch.setattr(writer.model, "advance", noted)
        found = writer.generate(prompts, search=Search(maximum_length=70))
        assert kind == "lines" or [len(each.ids) for each in found] == [70, 70]
        assert writer.search("hello" * 9, search=Search(beam=2, maximum_length=300))
        assert max(noted.lengths) <= context


def test_a_beam_finds_the_likeliest_lines(stream_writer: Writer, line_writer: Writer) -> None:
    for writer in (stream_writer, line_writer):
        found = writer.search("the ", search=Search(beam=4, nbest=2, length_reward=0.0, maximum_length=30))
        assert [each.finished for each in found] == [True, True]
        assert found[0].log_prob >= found[1].log_prob
        assert found[0].text in SENTENCES
        assert found[0].text != found[1].text


def test_the_best_of_a_beam_is_at_least_as_likely_as_the_greedy_choice(line_writer: Writer) -> None:
    [greedy] = line_writer.generate(["a"], search=GREEDY)
    [found] = line_writer.search("a", search=Search(beam=1, length_reward=0.0, maximum_length=40))
    assert found == replace(greedy, log_prob=found.log_prob)
    assert found.log_prob == pytest.approx(greedy.log_prob, abs=1e-4)


def test_a_model_folder_is_the_run(stream_run: Path, stream_writer: Writer) -> None:
    folder = Writer.load(stream_run / "model", device="cpu")
    search = Search(maximum_length=20)
    assert folder.generate(["the"], search=search) == stream_writer.generate(["the"], search=search)


def test_what_is_no_language_model_is_refused(trained: Path, stream_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no language model") as caught:
        Writer.load(trained, device="cpu")
    assert caught.value.hint is not None
    assert "seqkit translate" in caught.value.hint
    with pytest.raises(ModelError, match="no translation model") as caught:
        Translator.load(stream_run, device="cpu")
    assert "seqkit generate" in str(caught.value.hint)
    with pytest.raises(ModelError):
        Writer.load(tmp_path, device="cpu")
