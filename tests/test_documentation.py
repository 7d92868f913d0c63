"""What the documentation shows is what happens."""

from __future__ import annotations

import doctest
from pathlib import Path

from seqkit.inference import translator


def test_the_examples_of_the_translator_run(trained: Path) -> None:
    names = {**vars(translator), "run": trained}
    examples = doctest.DocTestParser().get_doctest(translator.__doc__ or "", names, "translator", None, 0)
    assert len(examples.examples) > 5
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(examples, out=told.append)
    assert not told, "".join(told)
