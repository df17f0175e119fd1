"""YAML 1.2 as this project reads it: safe, without its traps, and with the line of every key."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from fergen_bench.error import BenchError
from fergen_bench.files.bounded import MOST_SETTINGS, read_text

DEEPEST = 20
"""How far lists and mappings may be nested in each other."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads plain values as YAML 1.2's core schema does, and refuses duplicate keys.

    PyYAML's own values are those of YAML 1.1, where 010 is 8, 1:30 is 90, 1_0 is 10 and `no` is false. This loader
    knows no aliases, of which a few lines can stand for millions of values, and no tags but those of plain values.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not read here; write it out", mark)
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, f"this is nested more than {DEEPEST} deep", mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


_TAG = "tag:yaml.org,2002:"
_CORE: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
    ("null", r"~|null|Null|NULL|", lambda text: None),
    ("bool", r"true|True|TRUE|false|False|FALSE", lambda text: text.lower() == "true"),
    ("int", r"[-+]?[0-9]+", int),
    ("int", r"0o[0-7]+", lambda text: int(text[2:], 8)),
    ("int", r"0x[0-9a-fA-F]+", lambda text: int(text[2:], 16)),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", float),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", lambda text: float(text.replace(".", ""))),
)
"""The values of YAML 1.2's core schema: kind, form and meaning. Whatever has none of these forms is text."""

_Loader.yaml_implicit_resolvers = {
    None: [(f"{_TAG}{kind}", re.compile(rf"(?:{form})\Z")) for kind, form, _ in _CORE]  # None: whatever it begins with
}


def _no_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
        name = loader.construct_object(key)
        if name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


def _plain(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """A null, bool, int or float. Python's own refusals, as of a number with thousands of digits, get a place."""
    kind = node.tag.removeprefix(_TAG)
    for tag, form, meaning in _CORE:
        if tag == kind and re.fullmatch(form, node.value):
            with suppress(ValueError):
                return meaning(node.value)
    problem = f"{node.value[:40]!r} cannot be read as {kind}; put quotes around it if it is a word"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.yaml_constructors = {
    **{f"{_TAG}{kind}": _plain for kind, _, _ in _CORE},
    **{f"{_TAG}{kind}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{kind}"] for kind in ("str", "seq")},
    f"{_TAG}map": _no_duplicates,
    None: yaml.SafeLoader.construct_undefined,
}


def read_scalar(text: str) -> Any:
    """One value as it would be read in a file: "0.2" → 0.2, "none" stays a word, "null" → None."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError):
        return text


def read(path: Path) -> tuple[Any, dict[tuple[str, ...], int]]:
    """The content of a file, and the line (1-based) of every key and of every item of a list, by its path."""
    try:
        text = read_text(path, MOST_SETTINGS)
        loader = _Loader(text)
        tree = loader.get_single_node()
        content = None if tree is None else loader.construct_document(tree)
    except (OSError, ValueError, RecursionError) as error:
        raise BenchError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else f"{path}"
        raise BenchError(f"{place}: this is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    lines: dict[tuple[str, ...], int] = {}
    _note_lines(tree, (), lines)
    return content, lines


def _note_lines(node: yaml.Node | None, path: tuple[str, ...], lines: dict[tuple[str, ...], int]) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = (*path, str(key.value))
            lines[here] = key.start_mark.line + 1
            _note_lines(value, here, lines)
    elif isinstance(node, yaml.SequenceNode):
        for place, item in enumerate(node.value):
            # A word in a list is a key too: a list of names is the short form of a mapping of names.
            keys = [str(place), str(item.value)] if isinstance(item, yaml.ScalarNode) else [str(place)]
            lines |= {(*path, key): item.start_mark.line + 1 for key in keys}
            _note_lines(item, (*path, str(place)), lines)
