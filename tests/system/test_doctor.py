"""`seqkit doctor`: every fact without a private word, and every warning where there is something to warn of."""

from __future__ import annotations

import json
import locale
import os
import shutil
import socket
import sys
import sysconfig
import tempfile
from collections import namedtuple
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from seqkit.cli.main import main
from seqkit.system import doctor, host

Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch
SECRETS = {
    "USER": "canaryuser",
    "LOGNAME": "canarylogin",
    "HF_TOKEN": "canarytoken",
    "HF_HUB_OFFLINE": "canaryoffline",
    "HF_HOME": "/canaryhub",
    "SEQKIT_CACHE": "canarycache",
    "OMP_PLACES": "canaryplaces",
    "TERM": "canaryterm",
    "LC_MESSAGES": "canarylocale",
    "NO_COLOR": "canarycolour",
}


@pytest.fixture(autouse=True)
def well(monkeypatch: Patch, tmp_path: Path) -> None:
    """A machine where nothing is wrong, whatever this one is like."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(host, "memory", lambda: host.MachineMemory(32 << 30, 16 << 30, None))
    monkeypatch.setattr(host, "processor_share", lambda: None)
    monkeypatch.setattr(host, "nvidia_driver", lambda: False)
    monkeypatch.setattr(shutil, "disk_usage", usage(free=50 << 30))
    monkeypatch.setattr(locale, "getencoding", lambda: "UTF-8")
    monkeypatch.setattr(doctor, "EXTRAS", {"matplotlib": "plot"})
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


def usage(*, free: int, below: str = "") -> Any:
    """A disk with so much room, or with plenty but for the folder that is named."""
    disk = namedtuple("disk", "total used free")

    def measured(folder: object) -> Any:
        return disk(100 << 30, 0, free if not below or str(folder) == below else 50 << 30)

    return measured


def facts(capsys: Captured) -> dict[str, Any]:
    assert main(["doctor", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def warned(capsys: Captured) -> list[str]:
    return [f"{warning['what']} / {warning['hint']}" for warning in facts(capsys)["warnings"]]


def test_where_nothing_is_wrong_nothing_is_warned_of(capsys: Captured) -> None:
    assert warned(capsys) == []


def test_the_facts_are_those_of_this_machine(capsys: Captured) -> None:
    found = facts(capsys)["facts"]
    assert found["versions"]["torch"] == torch.__version__
    assert found["versions"]["Python"].startswith(f"{sys.version_info[0]}.{sys.version_info[1]}.")
    assert found["processor"]["cores usable"].startswith(f"{host.cores()} of ")
    assert found["memory and disk"]["available"] == "16.0 GiB"
    assert found["threads"]["torch"] == str(torch.get_num_threads())
    assert (found["GPU"]["devices"] == "none") == (not torch.cuda.is_available())


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_nothing_private_is_said(words: list[str], tmp_path: Path, capsys: Captured, monkeypatch: Patch) -> None:
    """Not even where folders and messages are shown: in those of a shadowing program and of a broken library."""
    home = tmp_path / "canaryhome"
    for name, value in {**SECRETS, "HOME": str(home), "TMPDIR": str(home / "canarytemporary")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(socket, "gethostname", lambda: "canaryhost.example")
    for folder in (home / "my_canaryuser_tools" / "bin", home / "bin" / "canaryuser" / "canaryhost"):
        program(folder, "echo something else")
        monkeypatch.setenv("PATH", str(folder))
        (tmp_path / "matplotlib.py").write_text(f"raise OSError('no {home}/lib of canarylogin on canaryhost.example')")
        monkeypatch.syspath_prepend(tmp_path)
        for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
            monkeypatch.delitem(sys.modules, name)
        assert main(["doctor", *words]) == 0
        out, err = capsys.readouterr()
        assert "~/" in out  # the folders are shown
        assert "canary" not in out + err
        assert str(tmp_path) not in out + err
        assert "HF_TOKEN" in out  # the names are


def program(folder: Path, body: str) -> None:
    """An executable called seqkit."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seqkit").write_text(f"#!/bin/sh\n{body}\n")
    (folder / "seqkit").chmod(0o755)


@pytest.mark.parametrize(
    ("body", "whose"),
    [
        ("exit 3", "another program called seqkit comes first on PATH: "),
        ("from seqkit.cli.main import run", "another installation of seqkit comes first on PATH: "),
    ],
)
def test_a_namesake_on_the_path_is_named_and_not_run(
    body: str, whose: str, tmp_path: Path, capsys: Captured, monkeypatch: Patch
) -> None:
    program(tmp_path / "tools", f"touch {tmp_path}/ran; {body}")
    monkeypatch.setenv("PATH", f"{tmp_path / 'tools'}{os.pathsep}/usr/bin")
    monkeypatch.setenv("HOME", str(tmp_path))
    (warning,) = warned(capsys)
    assert warning.startswith(f"{whose}~/tools/seqkit / ")
    assert "python -m seqkit" in warning
    assert not (tmp_path / "ran").exists()


def test_our_own_program_is_no_namesake_even_through_a_link(
    tmp_path: Path, capsys: Captured, monkeypatch: Patch
) -> None:
    program(tmp_path / "venv", "from seqkit.cli.main import run")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "seqkit").symlink_to(tmp_path / "venv" / "seqkit")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path / "venv"))
    for folder in ("venv", "bin"):
        monkeypatch.setenv("PATH", str(tmp_path / folder))
        found = facts(capsys)
        assert found["warnings"] == []
        assert found["facts"]["program"]["seqkit on PATH"] == "this one"


@pytest.mark.parametrize(
    ("owner", "name", "value", "told"),
    [
        (
            host,
            "memory",
            lambda: host.MachineMemory(8 << 30, 300 << 20, 1 << 30),
            ("300 MiB of memory", "batch_tokens"),
        ),
        (host, "processor_share", lambda: 0.5, ("0.5 cores' time", "train.processes=1")),
        (host, "nvidia_driver", lambda: True, ("NVIDIA driver", "install torch")),
        (shutil, "disk_usage", usage(free=5 << 20, below="."), ("5 MiB of disk free here", "make room")),
        (locale, "getencoding", lambda: "ANSI_X3.4-1968", ("ANSI_X3.4-1968, not UTF-8", "LC_ALL=C.UTF-8")),
    ],
    ids=["memory", "share", "driver", "disk", "locale"],
)
def test_what_will_get_in_the_way_is_said_with_a_remedy(
    owner: ModuleType, name: str, value: Any, told: tuple[str, str], capsys: Captured, monkeypatch: Patch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(owner, name, value)
    (warning,) = warned(capsys)
    what, _, remedy = warning.partition(" / ")
    assert told[0] in what
    assert told[1] in remedy


def test_the_disk_of_temporary_files_is_another(capsys: Captured, monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(shutil, "disk_usage", usage(free=0, below=str(tmp_path)))
    (warning,) = warned(capsys)
    assert "temporary files" in warning
    assert "TMPDIR" in warning


@pytest.mark.parametrize(("extra", "wrong"), [(0, False), (1, True)])
def test_more_threads_than_cores(extra: int, wrong: bool, capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", f"{host.cores() + extra},2")
    assert any("OMP_NUM_THREADS" in warning for warning in warned(capsys)) == wrong


def test_a_broken_extra_is_told_from_a_missing_one(capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.setattr(doctor, "EXTRAS", {"ctranslate2": "ct2", "matplotlib": "plot"})
    there = {"ctranslate2": None, "matplotlib": "3.9"}
    original = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: there[name] if name in there else original(name))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = facts(capsys)
    (warning,) = found["warnings"]
    assert warning["what"].startswith("matplotlib 3.9 cannot be imported")
    assert found["facts"]["versions"]["matplotlib"] == "3.9, broken"
    assert found["facts"]["versions"]["ctranslate2"] == "not there: pip install '.[ct2]'"


def test_it_answers_without_torch(capsys: Captured, monkeypatch: Patch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    (warning,) = warned(capsys)
    assert warning.startswith("torch cannot be imported")


def test_every_setting_for_speed_names_a_key_that_there_is(capsys: Captured) -> None:
    from seqkit.config import build

    settings = facts(capsys)["facts"]["settings for speed (opt out by)"]
    words = [word.strip("(:)") for value in settings.values() for word in value.split() if "train." in word]
    assert len(words) == 6
    recipe = build({"data": {"train": ["x"]}}, where="the test", overrides=words)
    assert (recipe.train.keep_heap, recipe.train.cheap_dropout, recipe.train.fused_optimizer) == (False, False, False)
