"""TOML with the line of every table, key and item, which tomllib does not report."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from fergen_bench.error import BenchError
from fergen_bench.files.bounded import MOST_SETTINGS, read_text

Lines = dict[tuple[str, ...], int]


def read(path: Path) -> tuple[dict[str, Any], Lines]:
    """Parse a TOML file.

    Args:
        path: The file.

    Returns:
        The content, and the line (1-based) of every table, key and list item by its path.

    Raises:
        BenchError: The file cannot be read or is not valid TOML.
    """
    text = ""
    try:
        text = read_text(path, MOST_SETTINGS)
        return tomllib.loads(text), _Scanner(text).lines()
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"at line (\d+)", str(error))
        line = found[1] if found else max(1, len(text.rstrip("\n").split("\n")))  # else it is at the end
        raise BenchError(f"{path}:{line}: this is not valid TOML: {error}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(f"{path}: cannot be read: {error}") from None


class _Token(NamedTuple):
    kind: str  # "string", "word", "end", or the punctuation mark itself
    text: str
    line: int


_TOKENS = re.compile(
    r"""
    (?P<string> \"{3} (?:\\.|[^\\])*? \"{3,5} | '{3} .*? '{3,5} | "(?:\\.|[^"\\])*" | '[^']*' )
    | (?P<nothing> [ \t]+ | \#[^\n]* )
    | (?P<end> \n )
    | (?P<mark> [\[\]{}=,.] )
    | (?P<word> [^\s\[\]{}=,.\#"']+ )
    """,
    re.VERBOSE | re.DOTALL,
)


class _Scanner:
    """Find the lines of keys in a text. The scanner checks nothing, since tomllib has parsed the text without error."""

    def __init__(self, text: str) -> None:
        self._tokens: list[_Token] = []
        line = 1
        for found in _TOKENS.finditer(text):
            if found.lastgroup != "nothing":
                kind = found[0] if found.lastgroup == "mark" else str(found.lastgroup)
                self._tokens.append(_Token(kind, found[0], line))
            line += found[0].count("\n")
        self._tokens.reverse()  # the next token is the last item
        self._lines: Lines = {}
        self._last: dict[tuple[str, ...], int] = {}  # the index of the last table of each array of tables

    def lines(self) -> Lines:
        table: tuple[str, ...] = ()
        while self._tokens:
            if self._next_is("end"):
                self._tokens.pop()
            elif self._next_is("["):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _next_is(self, *kinds: str) -> bool:
        """Return whether the next token is one of these marks or kinds; True at the end of the text."""
        return not self._tokens or self._tokens[-1].kind in kinds

    def _header(self) -> tuple[str, ...]:
        """Consume [a.b] or [[a.b]] and return the path of the table that begins there."""
        line = self._tokens.pop().line
        of_array = self._next_is("[")
        keys = self._keys("]")
        if of_array:
            self._tokens.pop()
        path: tuple[str, ...] = ()
        for number, key in enumerate(keys, start=1):
            path = (*path, key)
            self._lines.setdefault(path, line)
            if of_array and number == len(keys):
                self._last[path] = self._last.get(path, -1) + 1
            if path in self._last:
                path = (*path, str(self._last[path]))
        self._lines[path] = line
        return path

    def _pair(self, table: tuple[str, ...]) -> None:
        """Consume KEY = VALUE, where the key may be dotted."""
        line, path = self._tokens[-1].line, table
        for key in self._keys("="):
            path = (*path, key)
            self._lines.setdefault(path, line)
        self._value(path)

    def _keys(self, end: str) -> list[str]:
        """Consume a dotted key and the mark that ends it; return the parts of the key."""
        parts = []
        while not self._next_is(end):
            token = self._tokens.pop()
            if token.kind in ("string", "word"):
                parts.append(tomllib.loads(f"key = {token.text}")["key"] if token.kind == "string" else token.text)
        self._tokens.pop()
        return parts

    def _value(self, path: tuple[str, ...]) -> None:
        if self._next_is("["):
            self._items(path)
        elif self._next_is("{"):
            self._inline_table(path)
        else:  # a number, a date or a string, which may contain dots and spaces
            while not self._next_is(",", "]", "}", "end"):
                self._tokens.pop()

    def _items(self, path: tuple[str, ...]) -> None:
        self._tokens.pop()
        index = 0
        while not self._next_is("]"):
            if self._next_is(",", "end"):
                self._tokens.pop()
                continue
            item = (*path, str(index))
            self._lines[item] = self._tokens[-1].line
            self._value(item)
            index += 1
        self._tokens.pop()

    def _inline_table(self, path: tuple[str, ...]) -> None:
        self._tokens.pop()
        while not self._next_is("}"):
            if self._next_is(",", "end"):
                self._tokens.pop()
            else:
                self._pair(path)
        self._tokens.pop()
