"""What the settings say about themselves."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from msgspec import Meta

from seqkit.settings import Characters, Recipe, Train
from seqkit.settings.schema import REQUIRED, choices, fields, keys, words


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        (bool, "true or false"),
        (Annotated[int, Meta(ge=1)], "integer >= 1"),
        (Annotated[Annotated[float, Meta(gt=0, le=1)] | None, Meta(description="x")], "number > 0 and <= 1 or none"),
        (Annotated[str, Meta(min_length=1)], "text (not empty)"),
        (tuple[str, ...], "list of text"),
        (tuple[Literal["a", "b"], ...], "list of a, b"),
        (tuple[float, float], "list of 2 (number)"),
        (int | Literal["auto"], "integer or auto"),
    ],
)
def test_a_type_in_words(annotation: object, expected: str) -> None:
    assert words(annotation) == expected


def test_the_words_that_a_type_admits() -> None:
    assert choices(Annotated[tuple[Literal["a", "b"], ...], Meta(description="x")]) == ["a", "b"]
    assert choices(int | Literal["auto"]) == ["auto"]
    assert choices(str) == []


def test_every_key_has_a_type_and_a_meaning() -> None:
    for key in keys():
        assert key.type
        assert key.description, key.path
        assert key.default


def test_keys_stand_once_for_each_kind_and_name_its_default() -> None:
    found = {(key.path, key.kind): key.default for key in keys()}
    assert len(found) == len(keys())
    assert found["model.width", "transformer"] == "256"
    assert found["model.kind", "transformer"] == '"transformer"'
    assert found["model.kind", "recurrent"] == "-"
    assert found["data.train", "pairs"] == "required"
    assert found["train.steps", None] == "none"


def test_a_field_is_known_by_its_name_in_a_recipe() -> None:
    known = fields(Characters)
    assert known["from"].attribute == "from_"
    assert "from_" not in known
    assert fields(Recipe)["data"].default is REQUIRED


def test_none_is_a_word_only_where_no_text_can_stand() -> None:
    assert fields(Train)["steps"].optional
    assert not fields(Train)["keep"].optional
    assert not fields(Recipe)["out"].optional
