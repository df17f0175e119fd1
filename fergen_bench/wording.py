"""Parts of sentences: a number with its noun, a list of names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST_LISTED = 12
"""The largest number of names that a sentence lists."""

_SINGULAR = {"are": "is", "were": "was", "have": "has", "do": "does"}


def many(count: int, noun: str, verb: str = "", *, of: int | None = None) -> str:
    """Return a number with its noun, and a verb that agrees: 1 record was; 2 files of features are; 1 of 2 runs.

    Args:
        count: How many there are.
        noun: The singular, such as "record", "file of features" or "near-duplicate".
        verb: The plural of a verb that follows, such as "were".
        of: The whole, if the count is a part of something. The noun then agrees with the whole.
    """
    whole = count if of is None else of
    number = f"{count:,}" if of is None else f"{count:,} of {of:,}"
    words = [number, noun if whole == 1 else _plural(noun)]
    if verb:
        words.append(_SINGULAR.get(verb, f"{verb}s") if count == 1 else verb)
    return " ".join(words)


def _plural(noun: str) -> str:
    head, rest = re.fullmatch(r"(.*?)( (?:of|in|on|with|without|that|from|as) .*)?", noun).groups("")  # type: ignore[union-attr]
    if re.search(r"[^aeiou]y$", head):
        return f"{head[:-1]}ies{rest}"
    return f"{head}{'es' if head.endswith(('s', 'x', 'sh', 'tch', 'nch')) else 's'}{rest}"


def listed(names: Iterable[object], most: int = MOST_LISTED) -> str:
    """Return names as part of a sentence: a; a and b; a, b and c; a, b and 12 more."""
    known = [str(name) for name in names]
    if len(known) > most + 1:  # one name more takes no more room than its number
        known[most:] = [f"{len(known) - most:,} more"]
    return " and ".join(part for part in (", ".join(known[:-1]), *known[-1:]) if part)


def in_words(value: Any) -> str:
    """Return a JSON value in plain words: yes; none; 1,234; a and b; train 3; test 4."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case dict():
            return "; ".join(f"{key} {in_words(inner)}" for key, inner in value.items())
        case list() | tuple() | set() | frozenset():
            return listed(map(in_words, sorted(value) if isinstance(value, set | frozenset) else value))
    return str(value)


def duration(seconds: float) -> str:
    """Return a time in words: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def near(path: Path) -> str:
    """Return a path relative to the working directory where it lies below, else the absolute path."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def wrapped(name: str, width: int) -> str:
    """Break a name into lines of at most `width` characters; break a longer word after a punctuation mark in it."""
    lines = [""]
    for word in name.split():
        parts = [word] if len(word) <= width else re.findall(rf".{{1,{width}}}?(?:[/:=,_-]|$)|.{{1,{width}}}", word)
        for place, part in enumerate(parts):
            joined = f"{lines[-1]} {part}" if place == 0 and lines[-1] else lines[-1] + part
            lines[-1:] = [joined] if len(joined) <= width else [line for line in (lines[-1], part) if line]
    return "\n".join(lines)
