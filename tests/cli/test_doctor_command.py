"""`seqkit doctor` prints warnings first, each with what to do, then the facts; and the same as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from seqkit.cli.main import main
from seqkit.system import doctor
from seqkit.system.doctor import Diagnosis, Finding

Captured = pytest.CaptureFixture[str]
FACTS = {"versions": {"Python": "3.11.7", "torch": "2.10.0"}, "GPU": {"devices": "none"}}
WARNING = Finding("5 MiB of disk free here", "make room")


@pytest.fixture
def diagnosed(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[Finding]:
    """A machine with these facts, and with these warnings."""
    warnings: list[Finding] = request.param
    monkeypatch.setattr(doctor, "examine", lambda: Diagnosis(warnings, FACTS))
    return warnings


@pytest.mark.parametrize("diagnosed", [[]], indirect=True)
def test_where_nothing_is_wrong_that_is_said_beside_the_facts(diagnosed: list[Finding], capsys: Captured) -> None:
    assert main(["doctor"]) == 0
    assert capsys.readouterr() == (
        "versions\n  Python  3.11.7\n  torch   2.10.0\n\nGPU\n  devices  none\n",
        "nothing will get in the way\n",
    )
    assert main(["doctor", "-q"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("diagnosed", [[WARNING], [WARNING, WARNING]], indirect=True)
def test_warnings_come_first_each_with_what_to_do(diagnosed: list[Finding], capsys: Captured) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("warning: 5 MiB of disk free here\nhint: make room\n\n")
    assert out.count("warning: ") == len(diagnosed)
    assert err == ("1 warning\n" if len(diagnosed) == 1 else "2 warnings\n")


@pytest.mark.parametrize("diagnosed", [[WARNING]], indirect=True)
def test_a_program_gets_the_same_as_json(diagnosed: list[Finding], capsys: Captured) -> None:
    assert main(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"warnings": [{"what": WARNING.what, "hint": WARNING.remedy}], "facts": FACTS}
    assert err == ""


@pytest.mark.slow
def test_a_real_ascii_locale_is_noticed() -> None:
    environment = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "seqkit", "doctor", "--json"]
    found = subprocess.run(words, env=environment, capture_output=True, check=True)
    assert any("not UTF-8" in warning["what"] for warning in json.loads(found.stdout)["warnings"])
