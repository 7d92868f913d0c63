"""TOML: what is written is read back, and the lines of keys are found."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqkit.settings import toml

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN = st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT


@given(PLAIN | st.lists(PLAIN))
def test_what_is_written_is_read_back(value: object) -> None:
    found = toml.parse(f"x = {toml.write(value)}")["x"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_found_wherever_they_are_written() -> None:
    text = """# [no]
top = 1  # a = 2
many = [
  "]", # [
  2,
]
string = \"\"\"
[a]
b = 1
\"\"\"
dotted.'quoted key'."other" = { inner = 1 }
[section]
key = '''
x = 1''' # ]
[section.below]
key = "a # [ b"
last = 1"""
    toml.parse(text)
    assert toml.line_numbers(text) == {
        (): 1,
        ("top",): 2,
        ("many",): 3,
        ("string",): 7,
        ("dotted", "quoted key", "other"): 11,
        ("section",): 12,
        ("section", "key"): 13,
        ("section", "below"): 15,
        ("section", "below", "key"): 16,
        ("section", "below", "last"): 17,
    }


@given(st.dictionaries(TEXT.filter(lambda key: '"' not in key and "\\" not in key and key), PLAIN, max_size=5))
def test_each_key_has_its_own_line(table: dict[str, object]) -> None:
    written = {key: toml.write(key) for key in table}
    keys = [key for key in table if written[key] == f'"{key}"']  # the others are escaped
    text = "\n".join(f"{written[key]} = {toml.write(table[key])}" for key in keys)
    found = toml.line_numbers(text)
    assert [found[key.strip("\"'"),] for key in keys if key.strip("\"'") == key] == [
        line for line, key in enumerate(keys, 1) if key.strip("\"'") == key
    ]


@given(st.text())
def test_any_text_is_parsed_or_a_value_error(text: str) -> None:
    toml.line_numbers(text)
    with suppress(ValueError):
        toml.parse(text)


@pytest.mark.parametrize("text", ["a" + ".a" * 10**5 + "=1", "a = {" + '"b" . ' * 10**5, "a=" + "[" * 10**5])
def test_depth_is_bounded(text: str) -> None:
    with pytest.raises(ValueError, match=r"Too many parts|Nested too deeply"):
        toml.parse(text)
