"""The seven expressions, their order, and the names that datasets give them."""

from __future__ import annotations

from collections.abc import Mapping

from fergen_bench.error import BenchError

EXPRESSIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""The label space and its one order, which is that of RAF-DB."""

SPLITS = ("train", "val", "test")
"""The parts of a domain, in the order in which tables show them."""

ALIASES: Mapping[str, str] = {
    alias: name
    for name, aliases in {
        "surprise": ("surprise", "surprised", "suprise", "su"),
        "fear": ("fear", "fearful", "afraid", "fe", "af"),
        "disgust": ("disgust", "disgusted", "di"),
        "happiness": ("happiness", "happy", "ha"),
        "sadness": ("sadness", "sad", "unhappy", "sa"),
        "anger": ("anger", "angry", "an"),
        "neutral": ("neutral", "normal", "ne"),
    }.items()
    for alias in aliases
}
"""Spellings met in public datasets, in lower case. `af` is afraid (KDEF), never angry."""

VOTES = tuple(f"votes_{name}" for name in EXPRESSIONS)
"""Columns of labels.csv where several people labelled each face."""


def expression_index(name: str, place: str) -> int:
    """The one function through which labels enter: a name or an alias → its index. place: where it stands, for the
    error.
    """
    try:
        return EXPRESSIONS.index(ALIASES[name.strip().lower()])
    except KeyError:
        raise BenchError(
            f"{place}: {name!r} is no expression; the seven are {', '.join(EXPRESSIONS)}. "
            f'Map other names with labels = {{ {name} = "…" }}'
        ) from None


# ------------------------------------------------------------------------------------------------------------------ the
# prepared form


def absent_from(counts: Mapping[str, int]) -> list[str]:
    """The expressions of which a part has no face. counts: its faces by expression."""
    return [name for name in EXPRESSIONS if not counts.get(name)]
