"""A section of the page of findings: its words, its table and its figure, from records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

import fergen_bench as fb
from fergen_bench.report.canvas import Figure, blank, sns, styled
from fergen_bench.report.comparison import range_text
from fergen_bench.report.rounding import tenth

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference"
BASE = "synth5-all"
TRUNK = "full_finetune (learning_rate=0.004, backbone=synth-trunk)"
OWN = ("keep_and_train",)
IMAGENET = "tf_efficientnet_lite0"
"""Part of the name of rows over the network that benchmarks/imagenet.py writes."""


@dataclass(frozen=True)
class Finding:
    """A section of the page.

    Attributes:
        question: The heading.
        answer: The first paragraph; its first sentence is the answer.
        command: The command that repeats the runs.
        table: A table below the answer, or None.
        figure: A figure, or None.
        name: The file name of the figure, without its ending.
        caption: What the figure shows.
    """

    question: str
    answer: str
    command: str
    table: pd.DataFrame | None = None
    figure: Figure | None = None
    name: str = ""
    caption: str = ""


Section = Callable[[fb.Results], Finding | None]


def apart(second: str, first: str, compared: fb.Compared) -> str:
    """Return a sentence without its full stop: where the second row stands against the first, by their interval."""
    low, high = compared.interval
    size = f"{tenth(abs(compared.difference))} points"
    if np.isnan(low):
        return f"{second} differs from {first} by {tenth(compared.difference, signed=True)} points"
    if low > 0 or high < 0:
        word = "above" if low > 0 else "below"
        return f"{second} is {size} {word} {first} ({confidence(compared)})"
    return (
        f"{second} is not significantly different from {first} "
        f"({tenth(compared.difference, signed=True)} points, {confidence(compared)})"
    )


def confidence(compared: fb.Compared) -> str:
    """Return the interval of a difference as text, which says so where it holds for one training of each source."""
    one_seed = ", for these trainings" if np.isnan(compared.p) else ""
    return f"95 %: {range_text(*compared.interval)}{one_seed}"


def trainings(seeds: Iterable[int]) -> str:
    """Return the number of trainings of each source in words, from the number of seeds of each row."""
    counts = sorted(set(seeds))
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} trainings"
    return "one training" if counts == [1] else f"{counts[0]} trainings"


_BOARDS: dict[int, tuple[fb.Results, pd.DataFrame]] = {}


def leaderboard(results: fb.Results) -> pd.DataFrame:
    """Return all leaderboards of the results, which are computed once."""
    if id(results) not in _BOARDS:
        _BOARDS[id(results)] = results, results.leaderboard()
    return _BOARDS[id(results)][1]


def rows(results: fb.Results, names: Sequence[str], **conditions: object) -> pd.DataFrame:
    """Return the rows of leaderboards with these names, in this order, indexed by name; without those that are missing.

    Args:
        results: The results.
        names: Names of rows, as tables have them.
        **conditions: Values of columns, such as fraction="50%".
    """
    frame = leaderboard(results)
    for column, value in conditions.items():
        frame = frame[frame[column] == value]
    frame = frame[frame.unseen.notna()].drop_duplicates("method").set_index("method")
    return frame.loc[[name for name in names if name in frame.index]]


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns of a table from rows of leaderboards, as text."""
    return pd.DataFrame(
        {
            "row": frame.index,
            "unseen": [tenth(value) for value in frame.unseen],
            "95 %": ranges(frame),
            "standing": list(frame.standing),
            "in-domain": [tenth(value) for value in frame.in_domain],
            "worst unseen": [tenth(value) for value in frame.worst],
            "seeds": [str(value) for value in frame.seeds],
        }
    )


def ranges(frame: pd.DataFrame) -> list[str]:
    """Return the intervals of rows' means on unseen domains as a column of text."""
    return [f"{tenth(low)} to {tenth(high)}" for low, high in zip(frame.unseen_low, frame.unseen_high, strict=True)]


def differences(results: fb.Results, first: str, others: Sequence[str]) -> dict[str, fb.Compared]:
    """Return the comparisons of rows with one row, without the rows that are missing; none where that row is."""
    there = set(leaderboard(results).method)
    known = [name for name in others if name in there and name != first] if first in there else []
    return {name: results.compare(first, name) for name in known}


def forest(names: Sequence[str], values: Sequence[float], limits: Sequence[tuple[float, float]], label: str) -> Figure:
    """Draw values with their intervals, one line each, the first on top; a line at 0 if they are differences."""
    with styled():
        figure = blank(6.4, 0.7 + 0.22 * len(names), "constrained")
        axes = figure.subplots()
        for place, (value, (low, high)) in enumerate(zip(values, limits, strict=True)):
            axes.plot([low, high], [place, place], color="#555555", lw=1.2)
            axes.plot([value], [place], "o", color="#0072b2", ms=4)
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlabel(label)
        if min(low for low, _ in limits) < 0 < max(high for _, high in limits):
            axes.axvline(0, color="#999999", lw=0.8, zorder=0)
        sns.despine(figure)
    return figure


def forest_of(found: Mapping[str, fb.Compared], label: str) -> Figure:
    """Draw the difference of each row with its interval; see `forest`."""
    several = found.values()
    return forest(list(found), [one.difference for one in several], [one.interval for one in several], label)


def signed(found: Mapping[str, fb.Compared]) -> tuple[list[str], list[str]]:
    """Return the differences of rows and their intervals as two columns of text."""
    several = found.values()
    return [tenth(one.difference, signed=True) for one in several], [range_text(*one.interval) for one in several]


def paired_seeds(found: Mapping[str, fb.Compared]) -> list[str]:
    """Return the number of seeds that each row shares with the one it is compared with, as a column of text."""
    return [str(one.found.seeds) for one in found.values()]


def short(name: str) -> str:
    """Return the name of a row without its parameters."""
    return name.split(" (")[0]
