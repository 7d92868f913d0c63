"""What the data scripts share: strict reading, the hub, checks before anything is written, errors in two lines."""

from __future__ import annotations

import hashlib
import http.client
import io
import logging
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from seqkit.errors import DataError, ResourceError, SeqkitError
from seqkit.files import decode, lines, open_binary, replace_file

__all__ = [
    "Pair",
    "check_sizes",
    "download",
    "hub_pairs",
    "publish",
    "publish_texts",
    "read_lines",
    "read_pairs",
    "read_text",
    "run",
]

Pair = tuple[str, str]

ENDINGS = ("", ".gz", ".xz", ".zst")


def run(main: Callable[[], None]) -> None:
    """Call `main` and leave the process; an error becomes two lines on standard error and its exit code."""
    try:
        main()
    except SeqkitError as error:
        sys.exit(_complain(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _complain(error: SeqkitError) -> int:
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def read_lines(folder: Path, *names: str) -> list[str]:
    """The lines of the first of `names` that `folder` holds, plain or compressed.

    Raises DataError if there is none, or for a line that is not UTF-8, is blank, or has a line break inside.
    """
    for name in names:
        for ending in ENDINGS:
            path = folder / f"{name}{ending}"
            if path.is_file():
                return _checked_lines(path)
    raise DataError(
        f"{folder} holds no {' or '.join(names)}", f"plain or with {', '.join(ENDINGS[1:])}; look for a misspelt folder"
    )


def _checked_lines(path: Path) -> list[str]:
    texts = []
    with open_binary(path) as stream:
        for number, line in enumerate(lines(stream, str(path)), start=1):
            text, good = decode(line)
            if not good:
                raise DataError(f"{path} line {number} is not UTF-8", "fetch the file again: the original is clean")
            texts.append(_checked(text, f"{path} line {number}"))
    return texts


def _checked(text: str, where: str) -> str:
    if "\r" in text or "\n" in text:
        raise DataError(f"{where} has a line break inside", "fetch the file again: the original is clean")
    if not text.strip():
        raise DataError(f"{where} is blank", "fetch the file again: the original has no blank lines")
    return text


def read_pairs(folder: Path, *names: str) -> list[Pair]:
    """The first two columns of a TSV file, read as `read_lines` does; further columns (licence notes) are ignored."""
    pairs = []
    for number, line in enumerate(read_lines(folder, *names), start=1):
        columns = line.split("\t")
        if len(columns) < 2 or not columns[0].strip() or not columns[1].strip():
            raise DataError(f"{folder / names[0]} line {number} is not two texts with a tab between", "is it a TSV?")
        pairs.append((columns[0], columns[1]))
    return pairs


def hub_pairs(
    repository: str, *, splits: Mapping[str, str], columns: tuple[str, str], cache: Path | None = None
) -> dict[str, list[Pair]]:
    """Pairs of a dataset of Parquet or JSONL files, from the hub or from a folder of the same shape.

    `splits` maps our name of a part to the dataset's; `cache` replaces the usual cache folder. Raises DataError when
    the dataset cannot be fetched or a split or column is not there.
    """
    from datasets import load_dataset  # type: ignore[import-untyped, unused-ignore]

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # without network, the one error below says enough
    print(f"fetching {repository}", flush=True)
    try:
        dataset = load_dataset(repository, cache_dir=None if cache is None else str(cache))
    except Exception as error:  # the hub, its transport and the file formats each have classes of their own
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(
            f"cannot fetch {repository} from the hub: {reason}", "without network, give a local copy: --from DIR"
        ) from None
    parts = {}
    for name, split in splits.items():
        if split not in dataset or not set(columns) <= set(dataset[split].column_names):
            raise DataError(f"{repository} has no split {split} with columns {' and '.join(columns)}", "see --from DIR")
        rows = zip(*(dataset[split][column] for column in columns), strict=True)
        where = f"{repository} {split} row"
        parts[name] = [
            (_checked(str(source), f"{where} {number}"), _checked(str(target), f"{where} {number}"))
            for number, (source, target) in enumerate(rows, start=1)
        ]
    return parts


def check_sizes(parts: Mapping[str, Sequence[Pair]], expected: Mapping[str, int]) -> None:
    """Raise DataError unless every part has as many pairs as is known of the original."""
    for name, count in expected.items():
        if len(parts[name]) != count:
            raise DataError(
                f"{name} has {len(parts[name])} pairs, the original has {count}",
                "the copy is cut short or another version; scores on it cannot be compared",
            )


def publish(folder: Path, files: Mapping[str, Sequence[str]]) -> None:
    """Write each file of lines as UTF-8, whole or not at all, and print its path and line count."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            replace_file(folder / name, "".join(f"{line}\n" for line in content))
            print(f"{folder / name}: {len(content)} lines")
    except OSError as error:
        raise ResourceError(f"cannot write {folder}: {error.strerror}", "choose another folder: --out DIR") from None


def download(url: str) -> bytes:
    """What stands at a URL. Raises DataError when it cannot be fetched."""
    print(f"fetching {url}", flush=True)
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            content: bytes = answer.read()
    except (OSError, http.client.HTTPException) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"cannot fetch {url}: {reason}", "without network, give a local copy: --from DIR") from None
    return content


def read_text(folder: Path | None, *names: str, url: str, sha256: str) -> str:
    """The first of `names` that `folder` holds, plain or compressed, or what stands at `url`; line ends become LF.

    Raises DataError if there is none, or if it is not the text with this SHA-256.
    """
    stream: BinaryIO
    if folder is None:
        where, stream = url, io.BytesIO(download(url))
    else:
        paths = [folder / f"{name}{ending}" for name in names for ending in ENDINGS]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            hint = f"plain or with {', '.join(ENDINGS[1:])}; look for a misspelt folder"
            raise DataError(f"{folder} holds no {' or '.join(names)}", hint)
        where, stream = str(path), open_binary(path)
    with stream:
        content = b"".join(line + b"\n" for line in lines(stream, where))
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(
            f"{where} is not the original: {len(content)} bytes with another SHA-256",
            "the copy is cut short or another edition; scores on it cannot be compared",
        )
    return content.decode()


def publish_texts(folder: Path, files: Mapping[str, str]) -> None:
    """Write each text as UTF-8, exactly as it is, whole or not at all, and print its path and length."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            replace_file(folder / name, text)
            print(f"{folder / name}: {len(text)} characters")
    except OSError as error:
        raise ResourceError(f"cannot write {folder}: {error.strerror}", "choose another folder: --out DIR") from None
