"""Labels of many sentences do not depend on how they are batched, shared out or cut."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.data.datasets import Encoded
from seqkit.engine import batch_labels
from seqkit.engine.batch_labels import label_batches, label_names, longest_part, token_ids
from seqkit.settings import TransformerLabeller, Words
from seqkit.settings.text import Normaliser
from seqkit.system.device import CPU
from seqkit.text.codec import Codec
from seqkit.text.vocabulary import UNKNOWN
from tests.support.labelling import (
    DEV,
    labelled_alone,
    prepared_labelling,
)

TOKENS = st.lists(st.lists(st.text(min_size=1, max_size=3).filter(lambda text: text.split() == [text]), max_size=5))


STEPS: list[tuple[Normaliser, ...]] = [(), ("nfc",), ("nfkc", "lower", "quotes")]


@given(TOKENS, st.sampled_from(STEPS))
def test_a_token_is_one_id_whatever_becomes_of_it(sentences: list[list[str]], steps: tuple[Normaliser, ...]) -> None:
    settings = Words(split="spaces", normalise=steps, joint=False)
    codec = Codec.learn([*map(" ".join, sentences), "x"], settings)
    ids = token_ids(codec, sentences)
    assert ids.lengths.tolist() == list(map(len, sentences))
    for sentence, own in zip(sentences, (ids[i].tolist() for i in range(len(ids))), strict=True):
        for token, id in zip(sentence, own, strict=True):
            parts = codec.encode(token)
            assert id == (parts[0] if len(parts) == 1 else UNKNOWN)


def test_a_token_that_normalisation_cuts_is_unknown_and_moves_no_other() -> None:
    codec = Codec.learn(["a b"], Words(split="spaces", normalise=("nfkc",), joint=False))
    a, b = (codec.vocabulary.id(token) for token in "ab")
    accent, wide = "a\u00b4b", "\uff41"  # a space between letters with an accent on it; another form of the letter a
    assert token_ids(codec, [["a", accent, "b"], [], [wide]]).ids.tolist() == [a, UNKNOWN, b, a]


@pytest.mark.parametrize("budget", [1, 30, 4096])
def test_labels_do_not_depend_on_batches_or_processes(
    budget: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, model = prepared_labelling(tmp_path)
    sentences: list[list[str]] = [[], *DEV.tokens, [], ["zzz"], []]
    tokens = token_ids(task.codecs.source, sentences)
    monkeypatch.setattr(batch_labels, "BUDGET", budget)
    expected = labelled_alone(task, model, sentences)
    assert len({str(labels) for labels in expected}) > 8  # else the order could not be told
    assert label_names(task.codecs.target, label_batches(model, tokens, longest=99, device=CPU)) == expected
    parts = [label_batches(model, tokens, longest=99, device=CPU, share=(rank, 3)).ids for rank in range(3)]
    assert label_names(task.codecs.target, Encoded(np.sum(parts, axis=0), tokens.offsets)) == expected
    assert (np.count_nonzero(parts, axis=0) == 1).all()


def test_long_sentences_are_read_in_pieces(tmp_path: Path) -> None:
    task, model = prepared_labelling(tmp_path)
    sentence = [token for one in DEV.tokens[:3] for token in one]
    for longest in (1, 4, len(sentence) - 1, len(sentence)):
        tokens = token_ids(task.codecs.source, [["a"], sentence, ["b", "c"]])
        found = label_names(task.codecs.target, label_batches(model, tokens, longest=longest, device=CPU))
        pieces = [sentence[begin : begin + longest] for begin in range(0, len(sentence), longest)]
        assert found[1] == [label for labels in labelled_alone(task, model, pieces) for label in labels]
    assert label_batches(model, token_ids(task.codecs.source, [[]]), longest=3, device=CPU).lengths.tolist() == [0]
    assert longest_part(task.recipe, task.data) == 2 * task.data.maximum_length
    learned = TransformerLabeller(positions="learned", maximum_positions=9)
    assert longest_part(msgspec.structs.replace(task.recipe, model=learned), task.data) == 8


def test_the_caller_hears_of_every_batch_and_may_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task, model = prepared_labelling(tmp_path)
    tokens = token_ids(task.codecs.source, DEV.tokens)
    monkeypatch.setattr(batch_labels, "BUDGET", 1)
    done: list[int] = []

    def leave() -> None:
        done.append(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        label_batches(model, tokens, longest=99, device=CPU, batch_done=leave)
    assert len(done) == 1
    label_batches(model, tokens, longest=99, device=CPU, batch_done=lambda: done.append(2))
    assert len(done) > 3
