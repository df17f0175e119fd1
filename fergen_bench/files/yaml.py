"""YAML 1.2 with safe loading, without duplicate keys and aliases, and with the line of every key."""

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
"""The largest depth of nested lists and mappings."""


class _Loader(yaml.SafeLoader):
    """Read plain values by the core schema of YAML 1.2 and raise for duplicate keys.

    PyYAML follows YAML 1.1, where 010 is 8, 1:30 is 90, 1_0 is 10 and `no` is false. This loader raises for aliases,
    with which a few lines can expand to millions of values, and for tags other than those of plain values.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported; repeat the value", mark)
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, f"this is nested more than {DEEPEST} levels deep", mark)
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
"""The core schema of YAML 1.2: the kind, pattern and conversion of each value. Any other value is a string."""

_Loader.yaml_implicit_resolvers = {
    None: [(f"{_TAG}{kind}", re.compile(rf"(?:{form})\Z")) for kind, form, _ in _CORE]  # None: for any first character
}


def _no_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key.start_mark)
        name = loader.construct_object(key)
        if name in seen:
            raise yaml.constructor.ConstructorError(None, None, f"the key {key.value!r} occurs twice", key.start_mark)
        seen.add(name)
    return loader.construct_mapping(node, deep=True)


def _plain(loader: _Loader, node: yaml.ScalarNode) -> Any:
    """Return a null, bool, int or float; give a position to errors, such as that of a number of thousands of digits."""
    kind = node.tag.removeprefix(_TAG)
    for tag, form, meaning in _CORE:
        if tag == kind and re.fullmatch(form, node.value):
            with suppress(ValueError):
                return meaning(node.value)
    problem = f"{node.value[:40]!r} cannot be read as {kind}; put quotes around it if it is a string"
    raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


_Loader.yaml_constructors = {
    **{f"{_TAG}{kind}": _plain for kind, _, _ in _CORE},
    **{f"{_TAG}{kind}": yaml.SafeLoader.yaml_constructors[f"{_TAG}{kind}"] for kind in ("str", "seq")},
    f"{_TAG}map": _no_duplicates,
    None: yaml.SafeLoader.construct_undefined,
}


def read_scalar(text: str) -> Any:
    """Return a value as a YAML file would give it: "0.2" → 0.2, "null" → None, "none" → "none"."""
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, RecursionError):
        return text


def read(path: Path) -> tuple[Any, dict[tuple[str, ...], int]]:
    """Parse a YAML file.

    Args:
        path: The file.

    Returns:
        The content, and the line (1-based) of every key and list item by its path.

    Raises:
        BenchError: The file cannot be read or is not valid YAML.
    """
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
        for index, item in enumerate(node.value):
            # A plain value counts as a key too, because a list of names is the short form of a mapping of names.
            keys = [str(index), str(item.value)] if isinstance(item, yaml.ScalarNode) else [str(index)]
            lines |= {(*path, key): item.start_mark.line + 1 for key in keys}
            _note_lines(item, (*path, str(index)), lines)
