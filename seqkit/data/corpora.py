"""Corpora as lists of lines: plain text and TSV, compressed or not; every error names the file and the line.

    train.en + train.de      line i of one file belongs to line i of the other
    train.tsv                source TAB target; no quoting, no escapes, `NA` is a word
    news.en news.de web.tsv  several of them, read one after the other

Nothing is repaired silently: files that do not match line by line are refused, and dropped lines are counted by reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from seqkit.errors import ConfigError, DataError
from seqkit.files import decode, expand_braces, lines, open_binary

__all__ = ["BadUtf8", "MonolingualText", "ParallelText", "corpus_files", "read_lines", "read_pairs", "read_text"]

BadUtf8 = Literal["error", "skip"]
FILES_HINT = "name TSV files, or a source and its target file, as x.en x.de or x.{en,de}, and then the next"


@dataclass(frozen=True)
class ParallelText:
    """Sentence pairs: `source[i]` belongs to `target[i]`."""

    source: list[str]
    target: list[str]
    dropped: dict[str, int]  # the number of dropped pairs by reason: "blank", "bad UTF-8"
    nul: int  # NUL characters that became spaces

    def __len__(self) -> int:
        return len(self.source)


@dataclass(frozen=True)
class MonolingualText:
    """The lines of one or more files, one after the other."""

    lines: list[str]
    dropped: dict[str, int]  # the number of dropped lines by reason: "blank", "bad UTF-8"
    nul: int  # NUL characters that became spaces

    def __len__(self) -> int:
        return len(self.lines)


def read_text(files: Sequence[str], *, bad_utf8: BadUtf8 = "error", keep_blank: bool = True) -> MonolingualText:
    """Text in one language, from files read one after the other.

    Lines that are not UTF-8 are dropped with `bad_utf8="skip"`, blank lines without `keep_blank`. Raises DataError for
    files that are missing, empty or damaged, for lines that are not UTF-8, and when no line is left.
    """
    texts: list[str] = []
    dropped = {"blank": 0, "bad UTF-8": 0}
    nul = 0
    for path in (path for word in files for path in expand_braces(word)):
        side = _Side(path, None if bad_utf8 == "skip" else "data.bad_utf8=skip drops the line")
        _fill(side, path)
        blank = set() if keep_blank else _blank(side.texts) - side.bad
        texts += [text for number, text in enumerate(side.texts) if number not in side.bad | blank]
        dropped["blank"] += len(blank)
        dropped["bad UTF-8"] += len(side.bad)
        nul += side.nul
    if not texts:
        raise DataError(f"no line is left of {' '.join(files)}", "look at the files")
    return MonolingualText(texts, dropped, nul)


def read_lines(path: str | Path, *, bad_utf8: BadUtf8 = "error") -> list[str]:
    """All lines of a text file.

    `bad_utf8="skip"` drops lines that are not UTF-8, so use it only for files whose line numbers do not matter. Raises
    DataError for a missing, empty or damaged file and, unless they are skipped, for such lines.
    """
    side = _Side(str(path), None if bad_utf8 == "skip" else "convert the file to UTF-8")
    _fill(side, path)
    return [text for number, text in enumerate(side.texts) if number not in side.bad]


def read_pairs(files: Sequence[str], *, bad_utf8: BadUtf8 = "error", keep_blank: bool = False) -> ParallelText:
    """Parallel text from TSV files, or source files each followed by its target; `x.{en,de}` stands for two files.

    A pair is dropped when a side contains only white space (unless `keep_blank`, for development and test sets, whose
    line numbers matter) or, with `bad_utf8="skip"`, when a side is not UTF-8. Raises ConfigError for files that cannot
    be paired; DataError for files that are missing, empty, damaged or misaligned, for rows without exactly two fields,
    for lines that are not UTF-8, and when no pair is left of a corpus.
    """
    advice = None if bad_utf8 == "skip" else "data.bad_utf8=skip drops the pair"
    text = ParallelText([], [], {}, 0)
    for source_path, target_path in corpus_files([path for word in files for path in expand_braces(word)]):
        source, target = _Side(source_path, advice), _Side(target_path, advice)
        if source_path == target_path:
            _fill_from_table(source, target, source_path)
        else:
            _fill(source, source_path)
            _fill(target, target_path)
            _check_aligned(source, target)
        corpus = _without_dropped(source, target, keep_blank=keep_blank)
        dropped = {reason: count + text.dropped.get(reason, 0) for reason, count in corpus.dropped.items()}
        text = ParallelText(text.source + corpus.source, text.target + corpus.target, dropped, text.nul + corpus.nul)
    return text


def corpus_files(paths: Sequence[str]) -> list[tuple[str, str]]:
    """The source and the target file of each corpus; for a TSV file both are that file.

    A single file is a TSV file; of several, those whose suffix is `.tsv`. Raises ConfigError for a source file without
    a target, and where the suffixes contradict the order of sources and targets.
    """
    if len(paths) == 1:
        return [(paths[0], paths[0])]
    corpora: list[tuple[str, str]] = []
    remaining = iter(paths)
    for source in remaining:
        target = source if _is_table(source) else next(remaining, None)
        if target is None or (target != source and _is_table(target)):
            raise ConfigError(f"{source} has no target file", FILES_HINT)
        corpora.append((source, target))
    if not corpora:
        raise ConfigError("parallel text is files, and none is named", FILES_HINT)
    pairs = [corpus for corpus in corpora if not _is_table(corpus[0])]
    left, right = ({tuple(Path(pair[side]).suffixes) for pair in pairs} for side in (0, 1))
    if left & right and len(left | right) > 1:  # as in {a,b}.en {a,b}.de
        names = " ".join(paths)
        raise ConfigError(f"which of these files are sources, and which their targets? {names}", FILES_HINT)
    return corpora


def _is_table(path: str) -> bool:
    return ".tsv" in Path(path).suffixes[-2:]


@dataclass
class _Side:
    """One side of a corpus, filled line by line; it keeps bad lines, which are dropped by pairs later."""

    name: str  # the file, for errors
    advice: str | None  # the hint of the error for a line that is not UTF-8; None: such lines are recorded in `bad`
    texts: list[str] = field(default_factory=list)
    bad: set[int] = field(default_factory=set)  # the numbers of lines that are not UTF-8
    nul: int = 0

    def add(self, line: bytes) -> None:
        text, valid = decode(line)
        if not valid:
            if self.advice is not None:
                where = f"{self.name} line {len(self.texts) + 1}"
                raise DataError(f"{where} is not UTF-8 (byte 0x{_first_bad_byte(line):02x})", self.advice)
            self.bad.add(len(self.texts))
        self.nul += line.count(0)
        self.texts.append(text)


def _first_bad_byte(line: bytes) -> int:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError as error:
        return line[error.start]
    raise ValueError("the line is good UTF-8")


def _raw_lines(path: str | Path) -> Iterator[bytes]:
    with open_binary(path) as stream:
        empty = True
        for line in lines(stream, str(path)):
            empty = False
            yield line
    if empty:
        raise DataError(f"{path} is empty", "it must hold at least one line")


def _fill(side: _Side, path: str | Path) -> None:
    for line in _raw_lines(path):
        side.add(line)


def _fill_from_table(source: _Side, target: _Side, path: str) -> None:
    for number, line in enumerate(_raw_lines(path), start=1):
        match line.split(b"\t"):
            case [left, right]:
                source.add(left)
                target.add(right)
            case fields:
                count = f"{len(fields)} field{'s' if len(fields) > 1 else ''}"
                raise DataError(
                    f"{path} line {number} has {count}, not 2", "each line is a source, one TAB and a target"
                )


def _without_dropped(source: _Side, target: _Side, *, keep_blank: bool) -> ParallelText:
    bad = source.bad | target.bad
    blank = set() if keep_blank else (_blank(source.texts) | _blank(target.texts)) - bad
    dropped = {"blank": len(blank), "bad UTF-8": len(bad)}
    dropped_lines = blank | bad
    if len(dropped_lines) == len(source.texts):
        names = " and ".join(dict.fromkeys((source.name, target.name)))
        raise DataError(f"no pair is left of {names}: {len(blank)} blank, {len(bad)} bad UTF-8", "look at the files")
    sources, targets = (
        [text for number, text in enumerate(side.texts) if number not in dropped_lines] for side in (source, target)
    )
    return ParallelText(sources, targets, dropped, source.nul + target.nul)


def _blank(texts: list[str]) -> set[int]:
    return {number for number, text in enumerate(texts) if not text or text.isspace()}


def _check_aligned(source: _Side, target: _Side) -> None:
    if len(source.texts) != len(target.texts):
        line = _first_misaligned_line(_sizes(source.texts), _sizes(target.texts))
        raise DataError(
            f"{source.name} has {len(source.texts)} lines, {target.name} {len(target.texts)}",
            f"the files must match line by line; the first odd pair is near line {line}",
        )


def _sizes(texts: list[str]) -> NDArray[np.float64]:
    return np.fromiter(map(len, texts), dtype=np.float64, count=len(texts)) + 1


def _first_misaligned_line(source: NDArray[np.float64], target: NDArray[np.float64]) -> int:
    """The number of the first misaligned pair, estimated from the lengths of lines, if lines are missing in one place.

    Before that place the length ratios agree when lines are counted from the top, after it when counted from the
    bottom; the place with the smallest sum of both deviations is taken.
    """
    count = min(len(source), len(target))
    ratio = np.log(source.sum() / target.sum())
    from_top = np.abs(np.log(source[:count] / target[:count]) - ratio)
    from_bottom = np.abs(np.log(source[len(source) - count :] / target[len(target) - count :]) - ratio)
    before = np.concatenate(([0.0], np.cumsum(from_top)))
    after = from_bottom.sum() - np.concatenate(([0.0], np.cumsum(from_bottom)))
    return int(np.argmin(before + after)) + 1
