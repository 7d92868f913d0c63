"""What `seqkit.load` gives is what the run is."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.errors import ConfigError
from seqkit.inference.loader import load
from seqkit.inference.translator import Translator
from seqkit.inference.writer import Writer
from tests.support.writer import tiny_run


def test_a_translation_run_is_a_translator_and_several_are_an_ensemble(trained: Path) -> None:
    alone, pair = load(trained, device="cpu"), load(trained, trained, device="cpu")
    assert isinstance(alone, Translator)
    assert isinstance(pair, Translator)
    assert [len(alone.models), len(pair.models)] == [1, 2]


def test_a_language_model_is_a_writer_and_never_an_ensemble(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, "lines")
    assert isinstance(load(run, device="cpu"), Writer)
    with pytest.raises(ConfigError, match="does not translate"):
        load(run, run, device="cpu")
