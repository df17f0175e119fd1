"""Average the values of groups.

A row of a leaderboard has few cells, and a table many rows: pandas would take most of its time to prepare such groups.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import pandas as pd

Value = TypeVar("Value", bound=Hashable)


def coded(values: Iterable[Value]) -> tuple[list[Value], np.ndarray]:
    """Return the distinct values in the order of their appearance, and the position of each value among them."""
    places: dict[Value, int] = {}
    codes = np.array([places.setdefault(value, len(places)) for value in values], int)
    return list(places), codes


def mean(values: np.ndarray) -> float:
    """Return the mean of the values that are not nan; nan without any."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else np.nan


def spread(values: np.ndarray) -> float:
    """Return the standard deviation of a sample, of the values that are not nan; nan below two."""
    known = values[~np.isnan(values)]
    return float(known.std(ddof=1)) if len(known) > 1 else np.nan


def group_means(codes: np.ndarray, count: int, values: np.ndarray) -> np.ndarray:
    """Return the mean of the values of each group that are not nan; nan for a group without any.

    Args:
        codes: The group of each value, an integer below `count`, (N,).
        count: The number of groups.
        values: The values, (N,).
    """
    known = ~np.isnan(values)
    sums = np.bincount(codes[known], values[known], count)
    sizes = np.bincount(codes[known], minlength=count)
    return np.divide(sums, sizes, out=np.full(count, np.nan), where=sizes > 0)


Columns = Mapping[str, np.ndarray]
"""Columns of cells by name, as arrays (cells,): pandas takes much longer to select from a small table."""


def by_row(cells: pd.DataFrame, row: Sequence[str], names: Iterable[str]) -> dict[tuple[str, ...], Columns]:
    """Return columns of the cells of each row, in the order in which the rows appear.

    Args:
        cells: The cells of all rows.
        row: The columns that identify a row.
        names: The columns to return.
    """
    rows, codes = coded(zip(*(cells[name].to_numpy(object) for name in row), strict=True))
    columns = {name: cells[name].to_numpy() for name in names}
    return {one: {name: column[codes == number] for name, column in columns.items()} for number, one in enumerate(rows)}


def seed_means(cells: Columns | pd.DataFrame, metric: str) -> dict[str, np.ndarray]:
    """Return the means of a leaderboard's row for each seed: `in_domain`, `all`, `unseen` and `worst`.

    Args:
        cells: The cells of complete seeds.
        metric: The name of the metric.
    """
    scores, seeds = np.asarray(cells[metric]), np.asarray(cells["seed"])
    relation, targets = np.asarray(cells["relation"], object), np.asarray(cells["target"], object)
    pairs = np.fromiter(zip(cells["source"], targets, strict=True), object, len(scores))

    def by(groups: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        names, codes = coded(groups[chosen])
        return group_means(codes, len(names), scores[chosen])

    found: dict[str, list[float]] = {name: [] for name in ("in_domain", "all", "unseen", "worst")}
    for seed in np.unique(seeds):
        own, unseen = ((seeds == seed) & (relation == kind) for kind in ("source", "unseen"))
        found["in_domain"].append(mean(scores[own]))
        found["all"].append(mean(by(pairs, seeds == seed)))
        found["unseen"].append(mean(scores[unseen]))
        found["worst"].append(np.fmin.reduce(by(targets, unseen), initial=np.nan))
    return {name: np.array(values, float) for name, values in found.items()}
