"""Local copies and dataset folders become the same plain files; an incomplete copy becomes none."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from data_scripts import multi30k
from seqkit.errors import DataError

PAIRS = {
    "train": [("A dog runs.", "Ein Hund läuft."), ("Two men.", "Zwei\tMänner.")],
    "val": [("A cat.", "Eine Katze.")],
    "test_2016_flickr": [("A bird.", "Ein Vogel.")],
}
SIZES = {name: len(pairs) for name, pairs in PAIRS.items()}


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    for name, pairs in PAIRS.items():
        for side, language in enumerate(("en", "de")):
            text = "".join(f"{pair[side]}\n" for pair in pairs)
            (folder / f"{name}.{language}.gz").write_bytes(gzip.compress(text.encode()))
    return folder


@pytest.fixture(params=["jsonl", "parquet"])
def hub(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the shape of the dataset on the hub."""
    folder = tmp_path / "hub"
    folder.mkdir()
    for name, pairs in PAIRS.items():
        path = folder / f"{name.partition('_')[0]}.{request.param}"
        rows = [{"en": source, "de": target} for source, target in pairs]
        if request.param == "jsonl":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        else:
            import pyarrow  # type: ignore[import-untyped, unused-ignore]
            import pyarrow.parquet  # type: ignore[import-untyped, unused-ignore]

            pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return folder


def check_written(out: Path) -> None:
    assert len(list(out.iterdir())) == 6
    for name, pairs in PAIRS.items():
        for side, language in enumerate(("en", "de")):
            lines = (out / f"{name}.{language}").read_bytes().decode().split("\n")
            assert lines == [*(pair[side] for pair in pairs), ""]


def test_a_local_copy_becomes_plain_files(copy: Path, tmp_path: Path) -> None:
    multi30k.main(["--from", str(copy), "--out", str(tmp_path / "out")], sizes=SIZES)
    check_written(tmp_path / "out")


@pytest.mark.slow
def test_a_dataset_becomes_the_same_files(hub: Path, tmp_path: Path) -> None:
    places = ["--hub", str(hub), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "out")]
    multi30k.main(places, sizes=SIZES)
    check_written(tmp_path / "out")


def test_a_wrong_count_writes_nothing(copy: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the original has 29000"):
        multi30k.main(["--from", str(copy), "--out", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_sides_of_different_length_are_refused(copy: Path) -> None:
    (copy / "val.de.gz").write_bytes(gzip.compress(b"a\nb\n"))
    with pytest.raises(DataError, match=r"val\.en has 1 lines, val\.de 2"):
        multi30k.from_folder(copy)


def test_what_cannot_be_fetched_points_to_a_local_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets  # type: ignore[import-untyped, unused-ignore]

    def unreachable(*_: object, **__: object) -> object:
        raise ConnectionError("no route to the hub\nand a long story")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(DataError, match="no route to the hub") as error:
        multi30k.main(["--out", str(tmp_path / "out")])
    assert str(error.value).count("\n") == 1
    assert "--from DIR" in str(error.value)


def test_a_dataset_without_the_columns_is_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "test"):
        (tmp_path / f"{name}.jsonl").write_text('{"en": "a", "fr": "b"}\n', encoding="utf-8")
    with pytest.raises(DataError, match="columns en and de"):
        multi30k.main(["--hub", str(tmp_path), "--cache", str(tmp_path / "cache")])
