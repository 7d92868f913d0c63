"""Every token keeps its label; what a file cannot say is refused with its place."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.data.labelled_text import LabelledText, read_labelled
from seqkit.errors import DataError

# No white space, which is all in these categories, but other invisible characters.
CHARACTERS = st.characters(exclude_categories=["C", "Z"], include_characters="\x1b\u200b\ufeff-")
WORDS = st.text(CHARACTERS, min_size=1, max_size=6)
SENTENCES = st.lists(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=4), min_size=1, max_size=4)
EXPECTED = LabelledText([["Anna", "left", "."], ["Rain"]], [["B-PER", "O", "O"], ["O"]])


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def text(sentences: list[list[tuple[str, str]]]) -> LabelledText:
    return LabelledText(
        [[token for token, _ in each] for each in sentences], [[label for _, label in s] for s in sentences]
    )


@given(SENTENCES)
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, sentences: list[list[tuple[str, str]]]
) -> None:
    path = write(tmp_path_factory.mktemp("x"), "x.conll", text(sentences).dump())
    assert read_labelled([path]) == text(sentences)


def test_a_byte_order_mark_belongs_to_a_token_or_to_the_file(tmp_path: Path) -> None:
    marked = LabelledText([["\ufeffAnna"]], [["O"]])
    assert read_labelled([write(tmp_path, "x", marked.dump())]) == marked
    assert read_labelled([write(tmp_path, "y", "\ufeffAnna\tO\n")]).tokens == [["Anna"]]


@pytest.mark.parametrize(
    "content",
    [
        "Anna\tB-PER\nleft\tO\n.\tO\n\nRain\tO\n",
        "Anna\tB-PER\nleft\tO\n.\tO\n\nRain\tO",
        "Anna\tB-PER\r\nleft\tO\r\n.\tO\r\n\r\nRain\tO\r\n\r\n",
        "\n\nAnna\tB-PER\nleft\tO\n.\tO\n\n \t\n\nRain\tO\n\n\n",
        "Anna\tNNP\tB-NP\tB-PER\nleft\tVBD\tB-VP\tO\n.\t.\t\tO\n\nRain\tNN\tB-NP\tO\n",
        "Anna NNP B-NP B-PER\nleft VBD B-VP O\n. .  O\n\nRain NN B-NP O\n",
        "Anna B-PER\nleft O\n. O\n\t\nRain O\n",
        "Anna\tin Rome\tB-PER\nleft\tO\n.\tO\n\nRain\tO\n",
        "-DOCSTART- -X- O O\n\nAnna B-PER\nleft O\n. O\n-DOCSTART-\nRain O\n",
    ],
    ids=["tabs", "no last LF", "CR", "blank lines", "columns", "spaces", "blank TAB", "space in a column", "documents"],
)
def test_every_form_says_the_same(tmp_path: Path, content: str) -> None:
    assert read_labelled([write(tmp_path, "x.conll", content)]) == EXPECTED


def test_lines_end_at_line_feeds_only(tmp_path: Path) -> None:
    """Other characters that some programs take for line ends are white space inside a token, and refused as such."""
    for end in ("\r", "\v", "\f", "\x1c", "\x85", "\u2028"):
        with pytest.raises(DataError, match=r"line 1: .* holds white space"):
            read_labelled([write(tmp_path, "x.conll", f"a{end}b\tO\nc\tO\n")])


def test_files_follow_each_other_and_share_no_sentence(tmp_path: Path) -> None:
    first = write(tmp_path, "x.gz", gzip.compress(b"Anna\tB-PER\nleft\tO\n.\tO", mtime=0))
    second = write(tmp_path, "y.xz", lzma.compress(b"Rain O\n"))
    assert read_labelled([first, str(second)]) == EXPECTED
    assert len(EXPECTED) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"x\.conll is empty"),
        ("\n \n\n", r"x\.conll holds no sentence"),
        ("-DOCSTART-\tO\n\n", r"x\.conll holds no sentence"),
        ("a\tO\n\nb\n", r"x\.conll line 3: the token 'b' has no label"),
        ("a\tO\nNew York\n", r"x\.conll line 2: the token 'New York' has no label"),
        ("a\tO\nb\t\n", r"x\.conll line 2: the token 'b' has no label"),
        ("a O\nb \n", r"x\.conll line 2: the token 'b' has no label"),
        ("a\tO\n\tO\n", r"x\.conll line 2: the token is empty"),
        ("a\tO\nNew York\tO\n", r"x\.conll line 2: the token 'New York' holds white space"),
        ("a\tO\nb\tB PER\n", r"x\.conll line 2: the label 'B PER' holds white space"),
        ("a\tO\nb\0c\tO\n", r"x\.conll line 2: the token .* holds white space"),
        (b"a\tO\n\xff\tO\n", r"x\.conll line 2 is not UTF-8 \(byte 0xff\)"),
    ],
)
def test_what_cannot_be_trusted_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_labelled([write(tmp_path, "x.conll", content)])
    assert caught.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.conll does not exist"):
        read_labelled([tmp_path / "x.conll"])


@pytest.mark.parametrize(
    ("tokens", "labels", "message"),
    [
        (["a b"], ["O"], "sentence 2: the token 'a b' holds white space"),
        (["a"], [""], "sentence 2: the label is empty"),
        (["a\0"], ["O"], "sentence 2: the token .* holds white space"),
        (["-DOCSTART-"], ["O"], "sentence 2 has the token -DOCSTART-"),
        ([], [], "sentence 2 has no tokens"),
    ],
)
def test_what_could_not_be_read_again_is_not_written(tokens: list[str], labels: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        LabelledText([["x"], tokens], [["O"], labels]).dump()


def test_a_token_without_its_label_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="zip"):
        LabelledText([["x", "y"]], [["O"]]).dump()
