"""How much code a reader has to read: the functions that one step, one sentence and one perplexity call.

python tests/benchmarks/lines_read.py [--files]

A small translation run and a small language model are trained first. Lines are those of the functions called, without
blank lines, comments and docstrings. The path is what leads from a batch to the update, or from a text to the answer.
It enters the other chapters by one call each: the making of batches, the network, the kernels, and the callbacks around
a step. "files" counts those of which at least ten lines are read.
"""

from __future__ import annotations

import argparse
import ast
import io
import sys
import tempfile
import threading
import tokenize
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType

import seqkit
from seqkit.config import build
from seqkit.demo import reverse
from seqkit.inference.evaluation import ScoringOptions, score_files
from seqkit.inference.translator import Translator
from seqkit.runs.session import train
from seqkit.settings import Recipe
from seqkit.training.trainer import Callback, Trainer, Update

ROOT = Path(seqkit.__file__).parent
# Of a room, or of a file of it.
CHAPTERS = {
    "models": "network",
    "layers": "network",
    "engine/fused_transformer.py": "network",
    "kernels": "kernels",
    "data": "batches",
    "tasks": "batches",
    "storage": "callbacks",
    "training/callbacks.py": "callbacks",
    "training/reporting.py": "callbacks",
    "training/saving.py": "callbacks",
}
STAY = 10  # lines of a file from which on a reader stays in it


class Calls:
    """The functions of the package that are called while `on`, in threads that begin after this too."""

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()
        self.on = False
        sys.setprofile(self._note)
        threading.setprofile(self._note)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if self.on and event == "call" and frame.f_code.co_filename.startswith(str(ROOT)):
            self.codes.add(frame.f_code)

    def lines(self) -> dict[Path, int]:
        """Lines to read, by file."""
        wanted: defaultdict[Path, set[int]] = defaultdict(set)
        for code in self.codes:
            path = Path(code.co_filename)
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef | ast.Lambda) and node.lineno <= code.co_firstlineno + 8:
                    first = min([node.lineno, *(item.lineno for item in getattr(node, "decorator_list", []))])
                    if first == code.co_firstlineno:
                        wanted[path] |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
        return {path: len(numbers & _code_lines(path)) for path, numbers in wanted.items()}


def _code_lines(path: Path) -> set[int]:
    """The numbers of lines that hold code: no blank ones, comments or docstrings."""
    text = path.read_text(encoding="utf-8")
    skipped = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    numbers: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in skipped:
            numbers |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            numbers -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return numbers


def recipes_in(folder: Path) -> tuple[Recipe, Recipe]:
    """A small translation run of words spelt backwards, and a language model of the same words."""
    pairs = reverse(120, seed=1)
    for name, part in (("train", pairs[:100]), ("dev", pairs[100:])):
        rows = "".join(f"{source}\t{target}\n" for source, target in part)
        (folder / f"{name}.tsv").write_text(rows, encoding="utf-8")
        (folder / f"{name}.txt").write_text("".join(f"{source}\n" for source, _ in part), encoding="utf-8")
    train_settings = {"steps": 10, "processes": 1, "batch_tokens": 256, "validate_every": 10}
    translation = {
        "data": {"train": [str(folder / "train.tsv")], "dev": [str(folder / "dev.tsv")]},
        "text": {"kind": "words", "split": "spaces"},
        "model": {"kind": "transformer", "width": 128, "encoder_layers": 1, "decoder_layers": 1},
        "train": train_settings,
    }
    language = {
        "data": {"kind": "stream", "train": [str(folder / "train.txt")]},
        "text": {"kind": "characters"},
        "model": {"kind": "recurrent_language_model", "width": 128, "embedding": 128},
        "train": train_settings,
    }
    return build(translation, where="lines_read"), build(language, where="lines_read")


class OneStep(Callback):
    """Notes what the fifth step calls, from the batch to the update."""

    def __init__(self, calls: Calls) -> None:
        self.calls = calls

    def stepped(self, trainer: Trainer, step: Update) -> None:
        """Switch on after the fourth step, off after the fifth."""
        self.calls.on = trainer.progress.step == 4


def measured(what: Callable[[], object]) -> Calls:
    """The calls of a piece of work."""
    calls = Calls()
    calls.on = True
    what()
    calls.on = False
    return calls


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true", help="list the files of each path")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, step = Path(name), Calls()
        translation, language = recipes_in(folder)
        train(translation, out=folder / "run", device="cpu", callbacks=[OneStep(step)])
        train(language, out=folder / "language", device="cpu")
        translator = Translator.load(folder / "run", device="cpu")
        list(translator.translate(["a b"]))  # what is made once is there
        sentence = measured(lambda: list(translator.translate(["c a t"])))
        text = [str(folder / "dev.txt")]
        perplexity = measured(lambda: score_files([folder / "language"], text, ScoringOptions(), device="cpu"))
    rows = []
    for what, calls in (("one training step", step), ("one sentence", sentence), ("one perplexity", perplexity)):
        chapters: defaultdict[str, dict[Path, int]] = defaultdict(dict)
        for path, count in calls.lines().items():
            inside = path.relative_to(ROOT)
            chapter = CHAPTERS.get(inside.as_posix()) or CHAPTERS.get(inside.parts[0], "path")
            chapters[chapter][inside] = count
        for chapter, files in sorted(chapters.items(), key=lambda item: item[0] != "path"):
            stayed = sum(count >= STAY for count in files.values())
            rows.append((what, chapter, str(stayed), str(len(files)), str(sum(files.values()))))
            if arguments.files:
                print(what, chapter, *(f"\n  {path}: {count}" for path, count in sorted(files.items())))
    for row in [("what", "chapter", "files", "touched", "lines"), *rows]:
        print(f"{row[0]:20} {row[1]:10} {row[2]:>6} {row[3]:>8} {row[4]:>6}")


if __name__ == "__main__":
    main()
