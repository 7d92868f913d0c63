"""Terms: found in the source as whole words, spelt as the model writes, looked for in the text that came out."""

from __future__ import annotations

from pathlib import Path

import pytest

from seqkit.errors import DataError
from seqkit.inference.glossary import Glossary, encode_terms, missing_terms, protected_terms, word_boundaries
from seqkit.settings import Characters, SentencePiece, Text, Words
from seqkit.text.codec import Codec
from seqkit.text.vocabulary import EOS, UNKNOWN

LINES = [
    "Der Hund läuft nach Hause, und die Hunde laufen mit.",
    "Die Spülmaschine ist kaputt; der Geschirrspüler nicht.",
    "Ein Hundeboot ist kein Hausboot: 3.141 mal 12 macht 37.",
    "See http://a.de/x?y=1 or write to me@b.org (soon).",
]


@pytest.fixture(scope="module", params=["pieces", "words", "characters"])
def codec(request: pytest.FixtureRequest) -> Codec:
    kinds: dict[str, Text] = {
        "pieces": SentencePiece(size=330, byte_fallback=True),
        "words": Words(split="spaces"),
        "characters": Characters(),
    }
    return Codec.learn(LINES * 5, kinds[request.param])


def test_terms_are_read_with_all_their_forms(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("dog\tHund\tHunde\n\ndish washer\tSpülmaschine\ndog\tKöter\n", encoding="utf-8")
    glossary = Glossary.load(tmp_path / "t.tsv")
    assert glossary.entries == {"dog": ("Hund", "Hunde", "Köter"), "dish washer": ("Spülmaschine",)}
    for text in ("dog\n", "dog\t\n", "\tHund\n", "a\tb\nc d\n"):
        (tmp_path / "t.tsv").write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=r"t\.tsv line \d has no form"):
            Glossary.load(tmp_path / "t.tsv")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("the dog and the dog", ["Hund"]),
        ("Dog!", ["Hund"]),
        ("dogma hotdog", []),
        ("a hot dog (dog)", ["Hotdog", "Hund"]),
        ("a hot dog", ["Hotdog"]),  # the longer term hides the shorter
        ("AI is not ai", ["KI"]),
        ("ai", []),  # written in capitals, it is found in capitals
        ("a+b. 犬小屋", ["A+B", "いぬ"]),  # no spaces around words in this script
        ("", []),
    ],
)
def test_terms_are_found_as_whole_words(text: str, found: list[str]) -> None:
    forms = {"dog": "Hund", "hot dog": "Hotdog", "AI": "KI", "a+b": "A+B", "犬": "いぬ"}
    glossary = Glossary({term: (form,) for term, form in forms.items()})
    assert [term[0] for term in glossary.terms_in(text)] == found
    assert Glossary({}).terms_in(text) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("See https://a.de/x?y=1&z=(2), or www.b.org.", ["https://a.de/x?y=1&z=(2", "www.b.org"]),
        ("write to a.b+c@d-e.co.uk.", ["a.b+c@d-e.co.uk"]),
        ("press {0} or {{name}} or ${x} or %s or %(n)d", ["{0}", "{{name}}", "${x}", "%s", "%(n)d"]),
        ("<b>bold</b>", ["<b>", "</b>"]),
        ("3.141, 12:30 and 1,000 in 1987.", ["3.141", "12:30", "1,000", "1987"]),
        ("B2B and 5th", []),
        ("7 and 7", ["7"]),
        ("nothing here: 100% sure?", ["100"]),
    ],
)
def test_what_is_no_language_is_protected(text: str, found: list[str]) -> None:
    assert [term for (term,) in protected_terms(text)] == found


def test_forms_are_spelt_so_that_they_read_as_they_should(codec: Codec) -> None:
    forms, impossible = encode_terms(codec, [("Hund", "Hunde"), ("läuft",)])
    assert impossible == []
    assert len(forms) == 2
    for term, own in zip((("Hund", "Hunde"), ("läuft",)), forms, strict=True):
        assert {codec.decode(ids).strip() for ids in own} <= set(term)
        assert all(UNKNOWN not in ids for ids in own)


def test_what_cannot_be_spelt_is_named(codec: Codec) -> None:
    forms, impossible = encode_terms(codec, [("犬",), ("Hund",)])
    if isinstance(codec.settings, SentencePiece):  # bytes can spell anything
        assert impossible == []
    else:
        assert impossible == ["犬"]
        assert len(forms) == 1


def test_a_bound_is_what_cannot_go_on_with_a_word(codec: Codec) -> None:
    flags = word_boundaries(codec)
    assert len(flags) == len(codec)
    assert flags[EOS]
    for id, token in enumerate(codec.tokens(range(len(codec)))):
        if id <= UNKNOWN or token.startswith("<0x"):
            continue
        after = codec.decode([*codec.encode("Hund"), id])
        if not isinstance(codec.settings, Words):
            assert bool(flags[id]) == (not missing_terms(after, [("Hund",)])), token


@pytest.mark.parametrize(
    ("text", "terms", "absent"),
    [
        ("Der Hund.", [("Hund", "Hunde")], []),
        ("Die Hunde.", [("Hund", "Hunde")], []),
        ("Hundeboot", [("Hund", "Hunde"), ("Boot",)], ["Hund", "Boot"]),
        ("x http://a.de/b, y", [("http://a.de/b",)], []),
        ("x http://a.de/bc y", [("http://a.de/b",)], ["http://a.de/b"]),
        ("いぬ小屋", [("いぬ",)], []),
    ],
)
def test_the_text_decides_what_is_missing(text: str, terms: list[tuple[str, ...]], absent: list[str]) -> None:
    assert missing_terms(text, terms) == absent
