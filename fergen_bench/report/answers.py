"""Answer in a sentence: which row is best on unseen domains, how sure that is, and where metrics disagree."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import NAMES, NOT_COMPARED, Board
from fergen_bench.report.verdicts import BEHIND, BEST, NO_PREDICTIONS, ONE_TRAINING, OTHER_CELLS, TIED
from fergen_bench.wording import listed

MOST_NAMED = 4
"""The largest number of tied rows that a sentence names."""


def answer(board: Board, metric: str, first: bool = True) -> str:
    """Return a sentence on the best row on unseen domains under a metric.

    Args:
        board: A leaderboard of `verdicts.judged`.
        metric: The name of the metric.
        first: True for the first sentence about a leaderboard, which begins with "On unseen domains".
    """
    rows = _rows(board, metric)
    by = NAMES[metric]
    if rows.empty:
        if not first:
            return f"By {by} no row has one."
        seen = list(dict.fromkeys(board.cells.target[board.cells.relation == "seen"]))
        reason = f"; seen (in common with a source or pre-training): {listed(seen)}" if seen else ""
        return f"No row has a mean over unseen domains by {by}{reason}."
    compared = rows[rows.standing == BEST]
    top = rows.iloc[0] if compared.empty else compared.iloc[0]
    word = "highest" if compared.empty else "best"
    number = tenth(top.value) + ("" if pd.isna(top.low) else f" ({tenth(top.low)}–{tenth(top.high)})")
    said = (
        f"On unseen domains {top.label} is {word} by {by}, {number}"
        if first
        else f"By {by} {top.label} is {word}, {number}"
    )
    if len(rows) == 1:
        alone = f"On unseen domains {top.label} has {number} by {by}" if first else f"By {by} it has {number}"
        return f"{alone}{'; ' + _UNSURE[top.reason] if top.reason in _UNSURE else ''}."
    if compared.empty and _are_apart(rows):
        return f"{said}; the rows have means over different cells, which are not compared."
    if compared.empty:
        return f"{said}; {_UNSURE.get(top.reason, 'no other row can be compared with it')}."
    tied = rows[rows.standing == TIED].label.tolist()
    behind = int((rows.standing == BEHIND).sum())
    parts = [f"not significantly different: {listed(tied, MOST_NAMED)}" if tied else "", ""]
    if not tied and behind:
        parts[0] = f"significantly behind: {'the other row' if behind == 1 else f'the {behind} other rows'}"
    higher = rows[(rows.standing == NOT_COMPARED) & (rows.value > top.value)].label.tolist()
    if higher:
        parts[1] = f"higher, but not compared: {listed(higher, MOST_NAMED)}"
    return "; ".join([said, *filter(None, parts)]) + "."


def disagreement(board: Board, metrics: Sequence[str]) -> str:
    """Return a sentence on metrics that disagree about the highest row; "" where all agree."""
    best: dict[str, list[str]] = {}
    for metric in metrics:
        rows = _rows(board, metric)
        chosen = rows[rows.standing == BEST]
        if not rows.empty and not (chosen.empty and _are_apart(rows)):
            best.setdefault((rows if chosen.empty else chosen).label.iloc[0], []).append(NAMES[metric])
    if len(best) < 2:
        return ""
    said = [f"{name} by {listed(by)}" for name, by in best.items()]
    return f"The metrics disagree about the best row: {'; '.join(said)}."


_UNSURE = {
    ONE_TRAINING: "one training of each source: this holds for these trainings only",
    NO_PREDICTIONS: "without an interval, as predictions are not beside all of its records",
}


def _are_apart(rows: pd.DataFrame) -> bool:
    """Return True where some row has a mean over other cells."""
    return bool((rows.reason == OTHER_CELLS).any())


def _rows(board: Board, metric: str) -> pd.DataFrame:
    """Return label, value, interval, standing and its reason of the rows with a mean, the highest first."""
    table, column = board.table, f"unseen_{metric}"
    rows = pd.DataFrame(
        {
            "label": list(board.names().values()),
            "value": table[column].to_numpy(),
            "low": table[f"{column}_low"].to_numpy(),
            "high": table[f"{column}_high"].to_numpy(),
            "standing": table[f"{column}_standing"].to_numpy(),
            "reason": table[f"{column}_standing_reason"].to_numpy(),
        }
    )
    return rows[rows.value.notna()].sort_values("value", ascending=False, kind="stable")
