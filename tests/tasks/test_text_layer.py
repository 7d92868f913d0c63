"""The text layer of a run is learnt once, or borrowed, and then the run's own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from seqkit.settings import Characters, SentencePiece, Text
from seqkit.tasks.text_layer import text_layer
from seqkit.text.codec import Codecs

SOURCE, TARGET = ["low lower lowest", "new newer"] * 20, ["wide wider", "newest widest"] * 20


def never() -> Codecs:
    raise AssertionError("learnt again")


def learnt(settings: Text) -> Codecs:
    return Codecs.learn(SOURCE, TARGET, settings)


def test_it_is_learnt_once_and_then_read(tmp_path: Path) -> None:
    first = text_layer(Characters(), tmp_path / "codec", lambda: learnt(Characters()))
    again = text_layer(Characters(), tmp_path / "codec", never)
    assert again.target.fingerprint == first.target.fingerprint
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]


def test_a_crash_while_it_is_written_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def torn(self: Codecs, folder: Path) -> None:
        folder.mkdir()
        raise KeyboardInterrupt

    with monkeypatch.context() as crashing:
        crashing.setattr(Codecs, "save", torn)
        with pytest.raises(KeyboardInterrupt):
            text_layer(Characters(), tmp_path / "codec", lambda: learnt(Characters()))
    assert not (tmp_path / "codec").exists()
    text_layer(Characters(), tmp_path / "codec", lambda: learnt(Characters()))
    assert [path.name for path in tmp_path.iterdir()] == ["codec"]


@pytest.mark.parametrize("inside", ["", "codec"])
def test_that_of_another_run_or_of_a_folder_is_borrowed_and_kept(inside: str, tmp_path: Path) -> None:
    other = learnt(Characters())
    other.save(tmp_path / "other" / inside)
    borrowing = Characters(from_=str(tmp_path / "other"))
    borrowed = text_layer(borrowing, tmp_path / "run" / "codec", never)
    assert borrowed.target.fingerprint == other.target.fingerprint
    (tmp_path / "other").rename(tmp_path / "gone")
    assert text_layer(borrowing, tmp_path / "run" / "codec", never).target.fingerprint == other.target.fingerprint


@pytest.mark.parametrize("joint", [True, False])
def test_how_a_borrowed_one_is_sampled_is_the_recipe_s_affair(joint: bool, tmp_path: Path) -> None:
    pieces = SentencePiece(size=275, joint=joint, sampling=0.1)
    learnt(pieces).save(tmp_path / "other")
    borrowing = msgspec.structs.replace(pieces, sampling=0.3, from_=str(tmp_path / "other"))
    borrowed = text_layer(borrowing, tmp_path / "run" / "codec", never)
    for codec in (borrowed.source, borrowed.target):
        assert isinstance(codec.settings, SentencePiece)
        assert codec.settings.sampling == 0.3
    assert borrowed.joint == (borrowed.source is borrowed.target) == joint
