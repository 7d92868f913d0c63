"""TOML at the edges of the settings: parsing within bounds, the line of each key, values as TOML writes them."""

from __future__ import annotations

import re
import tomllib

import msgspec

__all__ = ["line_numbers", "parse", "write"]

# The parser's memory grows with the square of the parts of a dotted key.
LONG_KEY = re.compile(r"""(?<![\w"'-])(?:[\w"'-]+[ \t]*\.[ \t]*){32}""")
TOKEN = re.compile(
    r"""\"{3}(?:\\.|[^\\])*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'[^'\n]*'|\#[^\n]*|[^"'\#\[\]{}\n]+|.""",
    re.DOTALL,
)
KEY_PART = re.compile(r"""\s*("[^"]*"|'[^']*'|[\w-]+)\s*(\.?)""")


def parse(text: str) -> dict[str, object]:
    """Parse TOML; raises ValueError, in the parser's words, for what is not TOML or would exhaust the parser."""
    if long := LONG_KEY.search(text):
        line = text.count("\n", 0, long.start()) + 1
        raise ValueError(f"Too many parts in a key (at line {line}, column 1)")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("Nested too deeply") from None


def write(value: object) -> str:
    """A plain value, or a list of them, as TOML; JSON writes the same, but for DEL, which it lets stand bare."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(write, value))}]"
    return msgspec.json.encode(value).decode().replace("\x7f", "\\u007f")


def line_numbers(text: str) -> dict[tuple[str, ...], int]:
    """The line on which each table and key of a valid TOML text stands first, by its path.

    What stands inside an inline table is not listed: its table is.
    """
    numbers: dict[tuple[str, ...], int] = {}
    section: tuple[str, ...] = ()
    statement: list[str] = []
    line = first = 1
    depth = 0
    for match in TOKEN.finditer(text + "\n"):
        token = match[0]
        if token == "\n" and depth == 0:
            written = "".join(statement).strip()
            header = written.startswith("[")
            path = _key_path(written.lstrip("["))
            if header:
                section = path
            numbers.setdefault(path if header else (*section, *path), first)
            statement, first = [], line + 1
        else:
            depth += (token in ("[", "{")) - (token in ("]", "}"))
            statement.append(token)
        line += token.count("\n")
    return numbers


def _key_path(written: str) -> tuple[str, ...]:
    path: list[str] = []
    position = 0
    while part := KEY_PART.match(written, position):
        path.append(part[1].strip("\"'"))
        position = part.end()
        if not part[2]:
            break
    return tuple(path)
