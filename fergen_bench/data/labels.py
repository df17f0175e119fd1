"""The seven expressions, their order, and the names that datasets give them."""

from __future__ import annotations

from collections.abc import Mapping

from fergen_bench.error import BenchError

EXPRESSIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""The label space. Its order is that of RAF-DB."""

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
"""Spellings in public datasets, in lower case. `af` is afraid (KDEF), never angry."""

VOTES = tuple(f"votes_{name}" for name in EXPRESSIONS)
"""Columns of labels.csv in domains whose images were labelled by several annotators."""


def meant_by(name: str, spellings: Mapping[str, str], cutoff: float) -> str | None:
    """Return the expression that an unknown name may mean, for a suggestion only; None where none is similar.

    Args:
        name: The name, in lower case.
        spellings: Expressions by the spellings that are compared. Short ones are similar to too many other words.
        cutoff: The least similarity, from 0 to 1, see `difflib.get_close_matches`.
    """
    from difflib import get_close_matches

    return next((spellings[near] for near in get_close_matches(name, spellings, n=1, cutoff=cutoff)), None)


def expression_index(name: str, place: str) -> int:
    """Return the index of an expression in EXPRESSIONS. All labels enter through this function.

    Args:
        name: An expression or one of its aliases, in any case.
        place: The file and line of the name, for the error.

    Raises:
        BenchError: The name belongs to none of the seven expressions.
    """
    try:
        return EXPRESSIONS.index(ALIASES[name.strip().lower()])
    except KeyError:
        raise BenchError(
            f"{place}: {name!r} is not an expression; the seven are {', '.join(EXPRESSIONS)}. "
            f'Map other names with labels = {{ {name} = "…" }}'
        ) from None


def absent_from(counts: Mapping[str, int]) -> list[str]:
    """Return the expressions without an image, given the number of images of each expression."""
    return [name for name in EXPRESSIONS if not counts.get(name)]
