"""The doorway: what every command shares, and how each ending looks to the caller."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import click
import pytest

import seqkit.cli
from seqkit import errors
from seqkit.cli.main import COMMANDS, CommonOptions, common, main, suggest_next

Act = Callable[[], object]
Install = Callable[[Act], None]

HEAVY = ["torch", "datasets", "matplotlib", "sacrebleu", "numpy", "rich"]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make `seqkit act` do what the test wants."""

    def installed(act: Act) -> None:
        module = types.ModuleType("seqkit.cli.act")
        vars(module)["command"] = click.Command("act", callback=act, params=[click.Option(["--width"], type=int)])
        monkeypatch.setitem(sys.modules, "seqkit.cli.act", module)
        monkeypatch.setitem(COMMANDS, "act", ("seqkit.cli.act:command", "Act."))

    return installed


def raising(error: BaseException) -> Act:
    def act(width: int | None = None) -> None:
        raise error

    return act


class Told:
    """What the command was told, kept for the test."""

    value = CommonOptions()

    def __call__(self, width: int | None = None) -> None:
        self.value = common()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigError("what", "do"), 2),
        (errors.DataError("what", "do"), 3),
        (errors.ModelError("what", "do"), 4),
        (errors.ResourceError("what", "do"), 5),
        (errors.DivergenceError("what", "do"), 6),
        (errors.ThresholdError("what", "do"), 7),
        (errors.BusyError("what", "do"), 8),
    ],
)
def test_an_error_is_two_lines_and_its_code(
    install: Install, capsys: pytest.CaptureFixture[str], error: errors.SeqkitError, code: int
) -> None:
    install(raising(error))
    assert main(["act"]) == code
    assert capsys.readouterr() == ("", "seqkit: error: what\nhint: do\n")


def test_being_stopped_is_no_error(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(errors.Interrupted(signal.SIGTERM, "stopped at step 7", "the same command goes on")))
    assert main(["act"]) == 143
    assert capsys.readouterr().err == "seqkit: stopped at step 7\nhint: the same command goes on\n"
    install(raising(KeyboardInterrupt()))
    assert main(["act"]) == 130


def test_a_fault_of_ours_is_one_line_and_a_log(
    install: Install, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platformdirs

    monkeypatch.setattr(platformdirs, "user_log_path", lambda *_, **__: tmp_path)
    install(raising(KeyError("x\ny")))
    assert main(["act"]) == 1
    (log,) = tmp_path.iterdir()
    assert "Traceback" in log.read_text()
    assert capsys.readouterr().err.splitlines() == [
        "seqkit: error: this is a fault of seqkit: KeyError: 'x\\ny'",
        f"hint: please report it with {log}",
    ]
    monkeypatch.setattr(platformdirs, "user_log_path", lambda *_, **__: tmp_path / "missing")
    assert main(["act"]) == 1
    assert "--debug" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_no_fault_of_ours(install: Install, capsys: pytest.CaptureFixture[str], number: int) -> None:
    install(raising(OSError(number, os.strerror(number), "out.txt")))
    assert main(["act"]) == 5
    what, hint = capsys.readouterr().err.splitlines()
    assert what == f"seqkit: error: cannot write out.txt: {os.strerror(number)}"
    assert "make room" in hint


@pytest.mark.parametrize("error", [KeyError("x"), errors.DataError("x")])
def test_debug_shows_where_it_happened(install: Install, capsys: pytest.CaptureFixture[str], error: Exception) -> None:
    install(raising(error))
    main(["act", "--debug"])
    assert "in act" in capsys.readouterr().err


def test_names_cannot_write_to_the_terminal(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(errors.DataError("bad file \x1b[2J\u202e\r[/foo]\nnext line")))
    main(["act"])
    assert capsys.readouterr().err == "seqkit: error: bad file \\x1b[2J\\u202e\\r[/foo]\nnext line\n"


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        (["trian"], "unknown command trian", "did you mean seqkit train?"),
        (["xyzzy"], "unknown command xyzzy", "seqkit --help lists them"),
        (["config", "shw"], "unknown command shw", "did you mean seqkit config show?"),
        (["config"], "missing command (seqkit config)", "seqkit config --help shows how"),
        (["--verison"], "unknown option --verison (seqkit)", "did you mean --version?"),
        (["act", "--widht", "3"], "unknown option --widht (seqkit act)", "did you mean --width?"),
        (["act", "--no-colr"], "unknown option --no-colr (seqkit act)", "did you mean --no-color?"),
        (
            ["config", "show", "--set"],
            "option '--set' requires an argument (seqkit config show)",
            "seqkit config show --help shows how",
        ),
        (["text", "encode"], "missing argument 'FOLDER' (seqkit text encode)", "seqkit text encode --help shows how"),
    ],
)
def test_a_usage_error_is_two_lines_and_code_2(
    install: Install, capsys: pytest.CaptureFixture[str], words: list[str], what: str, hint: str
) -> None:
    install(raising(AssertionError()))
    assert main(words) == 2
    assert capsys.readouterr() == ("", f"seqkit: error: {what}\nhint: {hint}\n")


def test_a_wrong_value_says_so(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(raising(AssertionError()))
    assert main(["act", "--width", "wide"]) == 2
    assert "invalid value for '--width'" in capsys.readouterr().err


def test_a_command_that_is_not_there_spoils_no_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COMMANDS, "later", ("seqkit.cli.later:command", "Later."))
    assert main(["later"]) == 2
    assert "no command later" in capsys.readouterr().err
    assert main(["--help"]) == 0
    assert main(["config", "keys", "name"]) == 0


@pytest.mark.parametrize("words", [["-q", "act"], ["act", "-q"], ["act", "--quiet", "--width", "3"]])
def test_common_flags_stand_anywhere(install: Install, words: list[str]) -> None:
    install(told := Told())
    assert main(words) == 0
    assert told.value == CommonOptions(quiet=True)


def test_all_common_flags_are_told(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "")
    install(told := Told())
    assert main(["-v", "--debug", "act", "--no-colour"]) == 0
    assert told.value == CommonOptions(verbose=True, debug=True, plain=True)
    assert os.environ["NO_COLOR"] == "1"
    assert common() == CommonOptions()  # outside of a command


def test_after_two_dashes_no_word_is_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "keys", "--", "-q"]) == 2
    assert "no setting begins with -q" in capsys.readouterr().err


def test_the_next_command_is_named_only_to_a_person(
    install: Install, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def act(width: int | None = None) -> None:
        suggest_next("seqkit translate run")

    install(act)
    main(["act"])
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    main(["act"])
    assert "next: seqkit translate run" in capsys.readouterr().err
    main(["act", "-q"])
    assert capsys.readouterr().err == ""


def test_alone_it_gives_an_overview_on_one_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) <= 12
    assert max(map(len, shown)) <= 100
    assert sum(line.startswith("  seqkit ") for line in shown) == 7


def test_help_is_short_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    groups = {
        "": list(COMMANDS),
        "config": ["show", "keys", "diff"],
        "text": ["learn", "encode", "decode", "vocabulary"],
    }
    pages = [[], ["config"], ["text"], *([name, inner] for name in ("config", "text") for inner in groups[name])]
    for words in pages:
        assert main([*words, "--help"]) == 0
        shown = capsys.readouterr().out
        assert len(shown.splitlines()) <= 40
        assert f"\n  seqkit {' '.join(words)}" in shown
        assert "..." not in shown.partition("Commands:")[2]
    assert main(["-h"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in COMMANDS)


def test_nothing_heavy_is_imported_for_help_settings_and_mistakes() -> None:
    words = [
        [],
        ["--help"],
        ["--version"],
        ["config", "keys"],
        ["config", "show"],
        ["trian"],
        ["config", "x"],
        ["text", "-h"],
    ]
    script = (
        "import sys, json\nfrom seqkit.cli.main import main\n"
        f"codes = [main(words) for words in {words!r}]\n"
        f"print('\\n' + json.dumps([codes, sorted(set({HEAVY!r}) & set(sys.modules))]))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.splitlines()[-1]) == [[0, 0, 0, 0, 0, 2, 2, 0], []]


def test_as_a_module_it_speaks_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "seqkit", "config", "show", "name=Übung"]
    done = subprocess.run(words, capture_output=True, env=environment, check=True, cwd=tmp_path)
    assert 'name = "Übung"'.encode() in done.stdout
    assert done.stderr == b""


def test_a_reader_that_leaves_is_no_error() -> None:
    words = [sys.executable, "-m", "seqkit", "config", "keys"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_every_row_that_has_a_module_has_a_command() -> None:
    folder = Path(seqkit.cli.__file__).parent
    for module, _, attribute in (where.partition(":") for where, _ in COMMANDS.values()):
        path = folder / f"{module.rpartition('.')[2]}.py"
        if path.exists():
            assert f"def {attribute}(" in path.read_text(encoding="utf-8")
