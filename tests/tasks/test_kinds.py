"""Each kind of data has its task."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.config import build
from seqkit.settings.automatic import resolve
from seqkit.tasks import Task, prepare
from seqkit.tasks.labelling_task import LabellingTask
from seqkit.tasks.language_task import LanguageTask
from seqkit.tasks.translation_task import TranslationTask

PAIRS, LABELS = "a b\tb a\nc\tc\n", "a\tX\nb\tY\n\nc\tX\n\n"


@pytest.mark.parametrize(
    ("kind", "content", "model", "task"),
    [
        ("pairs", PAIRS, "transformer", TranslationTask),
        ("stream", "a b\nc\n", "recurrent_language_model", LanguageTask),
        ("lines", "a b\nc\n", "recurrent_language_model", LanguageTask),
        ("labelled", LABELS, "recurrent_labeller", LabellingTask),
    ],
)
def test_each_kind_of_data_has_its_task(kind: str, content: str, model: str, task: type[Task], tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text(content, encoding="utf-8")
    text = {"kind": "words", "split": "spaces", "joint": kind == "pairs"}
    tree = {"data": {"kind": kind, "train": [str(tmp_path / "train.tsv")]}, "text": text, "model": model}
    made = prepare(resolve(build(tree, where="the test")), tmp_path / "run")
    assert type(made) is task
    assert (tmp_path / "run" / "codec").is_dir()
