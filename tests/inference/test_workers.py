"""Processes that translate side by side: the same translations in their order, the same errors, no process left."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

from seqkit.errors import ConfigError, ResourceError
from seqkit.inference import workers as workers_module
from seqkit.inference.glossary import Glossary
from seqkit.inference.translation import Line
from seqkit.inference.translator import Translator
from seqkit.inference.workers import Workers
from seqkit.settings import Search
from tests.support.translating import LINES, searching


@pytest.mark.slow
def test_they_say_what_one_translator_says(
    trained: Path, translator: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several windows, each shared out; and with all that a line and a request may ask for."""
    monkeypatch.setattr(workers_module, "WINDOW", 20)
    glossary = Glossary({"h": ("q r",)})
    lines = [Line(line, prefix="z" if number % 3 == 0 else "") for number, line in enumerate(["", *LINES, " "] * 2)]
    search = searching(translator, beam=2)
    alone = list(translator.translate(lines, search=search, glossary=glossary, explain=True))
    with Workers([trained], count=2, glossary=glossary) as workers:
        shared = list(workers.translate(lines, search=search, explain=True))
    assert [found.text for found in shared] == [found.text for found in alone]
    assert [found.missing for found in shared] == [found.missing for found in alone]
    for one, other in zip(alone, shared, strict=True):
        assert one.token_scores == pytest.approx(other.token_scores, abs=1e-4)


@pytest.mark.slow
def test_what_goes_wrong_in_a_worker_is_told_as_ever(trained: Path) -> None:
    (workers := Workers([trained], count=1)).__enter__()
    search = Search(nbest=9, beam=2)
    with pytest.raises(ConfigError, match="nbest is 9") as told:
        list(workers.translate([Line("h a t")], search=search))
    assert told.value.hint == "set search.beam to 9 or more"
    [good] = workers.translate([Line("h a t")], search=Search())  # the worker is none the worse for it
    assert good.text
    for process in list(workers._pool._processes.values()):
        process.kill()
    with pytest.raises(ResourceError, match="worker process was lost"):
        list(workers.translate([Line("h a t")], search=Search()))
    workers.__exit__(None, None, None)


@pytest.mark.slow
def test_workers_leave_with_a_parent_that_is_killed(trained: Path) -> None:
    program = (
        "import sys, time\n"
        "from seqkit.inference.workers import Workers\n"
        "if __name__ == '__main__':\n"
        "    workers = Workers([sys.argv[1]], count=1)\n"
        "    workers._ready.result()\n"
        "    print(*workers._pool._processes, flush=True)\n"
        "    time.sleep(600)\n"
    )
    script = trained.parent / "parent.py"
    script.write_text(program, encoding="utf-8")
    with subprocess.Popen([sys.executable, str(script), str(trained)], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while Path(f"/proc/{child}").exists() and "Z" not in state_of(child):
        assert time.monotonic() < deadline, "the worker outlives its parent"
        time.sleep(0.1)


def state_of(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    return "Z"
