"""The line of every key of a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fergen_bench.error import BenchError
from fergen_bench.files import toml as tomlfile

TEXT = '''# comment with a = 1
about = """
suite = "no key"
[no.table]
\\"""
more = 1"""""
raw = \'\'\'
jobs = 2
\'\'\'
one = "a = 1 # no comment"  # [no.header]
tracking.uri = "x"
tracking . "experi\\u006dent" = 'y'

[domains.lab]
path = "p"; labels = { joy = "happy", "a.b" = "fear", deep = { x = 1 } }
"quoted = key" = [
  "a", # first
  [1, 2,
   3.5],
  { k = 1979-05-27 07:32:00 },
]
'li teral' = +inf

[ "domains" . 'my lab' ]
path = "q"
[[runs]]
a = 1
[runs.inner]
b = 1
[[runs]]
a = 2
[[runs.deep]]
c = 3
[domains]
'''.replace(";", "\n")

LINES = {
    ("about",): 2,
    ("raw",): 7,
    ("one",): 10,
    ("tracking",): 11,
    ("tracking", "uri"): 11,
    ("tracking", "experiment"): 12,
    ("domains",): 35,
    ("domains", "lab"): 14,
    ("domains", "lab", "path"): 15,
    ("domains", "lab", "labels"): 16,
    ("domains", "lab", "labels", "joy"): 16,
    ("domains", "lab", "labels", "a.b"): 16,
    ("domains", "lab", "labels", "deep"): 16,
    ("domains", "lab", "labels", "deep", "x"): 16,
    ("domains", "lab", "quoted = key"): 17,
    ("domains", "lab", "quoted = key", "0"): 18,
    ("domains", "lab", "quoted = key", "1"): 19,
    ("domains", "lab", "quoted = key", "1", "0"): 19,
    ("domains", "lab", "quoted = key", "1", "1"): 19,
    ("domains", "lab", "quoted = key", "1", "2"): 20,
    ("domains", "lab", "quoted = key", "2"): 21,
    ("domains", "lab", "quoted = key", "2", "k"): 21,
    ("domains", "lab", "li teral"): 23,
    ("domains", "my lab"): 25,
    ("domains", "my lab", "path"): 26,
    ("runs",): 27,
    ("runs", "0"): 27,
    ("runs", "0", "a"): 28,
    ("runs", "0", "inner"): 29,
    ("runs", "0", "inner", "b"): 30,
    ("runs", "1"): 31,
    ("runs", "1", "a"): 32,
    ("runs", "1", "deep"): 33,
    ("runs", "1", "deep", "0"): 33,
    ("runs", "1", "deep", "0", "c"): 34,
}


def paths(content: Any) -> set[tuple[str, ...]]:
    """Every table, key and item of a content, by its path."""
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return {(str(key), *rest) for key, value in inner for rest in (paths(value) | {()})}


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_every_key_has_the_line_that_it_stands_in(tmp_path: Path, newline: str, mark: str) -> None:
    path = tmp_path / "bench.toml"
    path.write_bytes((mark + TEXT.replace("\n", newline)).encode())
    content, lines = tomlfile.read(path)
    assert content == tomllib.loads(TEXT)
    assert lines == LINES
    assert set(lines) == paths(content)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a = 1\nb = \n", 2), ("a = 1\na = 2\n", 2), ('a = 1\n\nb = """\nno end\n', 4), ('path = "C:\\Users"\n', 1)],
)
def test_a_fault_has_a_line(tmp_path: Path, text: str, line: int) -> None:
    path = tmp_path / "bench.toml"
    path.write_text(text)
    with pytest.raises(BenchError, match=rf"bench\.toml:{line}: this is not valid TOML"):
        tomlfile.read(path)


def written(value: Any, depth: int = 0) -> str:
    """A value as TOML, its lists over several lines."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{quoted(key)} = {written(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[\n" + "".join(f"{written(item)}, # ]\n" for item in value) + "]"
    return quoted(value) if isinstance(value, str) else str(value).lower()


def quoted(text: str) -> str:
    escaped = (f"\\U{ord(letter):08x}" if letter in '"\\' or letter < " " else letter for letter in text)
    return f'"{"".join(escaped)}"'


WORDS = st.text(st.sampled_from("ab.=[]{}#'\",\\\n -é"), max_size=5)
VALUES = st.recursive(
    st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=200)
@given(st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=3), max_size=3))
def test_whatever_tomllib_reads_has_lines_for_all_of_it(content: dict[str, dict[str, Any]]) -> None:
    text = "".join(
        f"[{quoted(table)}]\n" + "".join(f"{quoted(key)} = {written(value)}\n" for key, value in keys.items())
        for table, keys in content.items()
    )
    assert tomllib.loads(text) == content
    lines = tomlfile._Scanner(text).lines()
    assert set(lines) == paths(content)
    for path, line in lines.items():
        if len(path) <= 2:
            assert text.split("\n")[line - 1].lstrip("[").startswith(quoted(path[-1]))
