"""Gather everything that the page shows of one leaderboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

from fergen_bench.report import details
from fergen_bench.report.leaderboard import LeaderboardView, Line
from fergen_bench.report.page.drawings import Drawing, Drawings
from fergen_bench.report.page.embedded import row_indices
from fergen_bench.report.page.sheets import mask_sheets
from fergen_bench.report.tables import Matrix
from fergen_bench.report.targets import TargetLine, by_target

if TYPE_CHECKING:
    from fergen_bench.report.page.writer import Content

EXPLAINED = {
    "ECE": "expected calibration error on unseen targets: how far confidence is from accuracy, in points",
    "ECE, tempered": "after its logits were divided by a temperature fitted to held-out faces of the source",
}
"""Explanations of columns of the page."""

UNRANKED = {
    "source_val": "source-val",
    "source_val_balanced": "source-val, balanced",
    "ece": "ECE",
    "ece_tempered": "ECE, tempered",
}
"""Columns of a leaderboard by which no row is ranked: held-out images, and calibration on unseen targets."""


@dataclass(frozen=True)
class Forest:
    """The positions of the plot of unseen means, in per cent of its width.

    Attributes:
        ticks: Position and label of each tick of the axis.
        marks: For each row of the leaderboard the mean and the ends of its interval; None without a mean.
    """

    ticks: list[tuple[float, str]]
    marks: list[tuple[float, float, float] | None]


@dataclass(frozen=True)
class Panel:
    """A leaderboard under one metric.

    Attributes:
        view: The leaderboard.
        forest: The plot of unseen means.
        places: For each row its index under the first metric, by which the script finds its data.
        targets: The targets that are unseen for some source.
        by_target: For each row its mean on each of these.
    """

    view: LeaderboardView
    forest: Forest
    places: list[int]
    targets: list[str]
    by_target: list[TargetLine]

    @property
    def rows(self) -> list[tuple[int, Line, Matrix, TargetLine, tuple[float, float, float] | None]]:
        """Return everything about each row, best first: place, line, matrix, means by target, marks of the plot."""
        matrices = [found for _, found in self.view.matrices]
        return list(zip(self.places, self.view.rows, matrices, self.by_target, self.forest.marks, strict=True))


@dataclass(frozen=True)
class Section:
    """Everything that the page shows of one leaderboard.

    Attributes:
        id: The id of the HTML element.
        panels: By metric.
        unranked: Column → heading of the measures by which no row is ranked.
        notes: Sentences on how to read the tables, and what may mislead.
        cautions: Sentences that a reader has to know.
        recalls: Recall of each expression by row; None without any.
        partial: Rows without a seed that has all cells.
        drawings: The figures.
        masks: The parts about values that methods stored.
    """

    id: str
    panels: Mapping[str, Panel]
    unranked: Mapping[str, str]
    notes: list[str]
    cautions: list[str]
    recalls: pd.DataFrame | None
    partial: list[str]
    drawings: list[Drawing]
    masks: list[dict[str, Any]]

    @property
    def views(self) -> dict[str, LeaderboardView]:
        """Return the leaderboard under each metric."""
        return {metric: panel.view for metric, panel in self.panels.items()}

    @property
    def main(self) -> LeaderboardView:
        """Return the leaderboard under the metric of the report."""
        return next(iter(self.panels.values())).view


def sections(content: Content, drawings: Drawings) -> list[Section]:
    """Return the sections of all leaderboards."""
    by_metric = zip(*content.views.values(), strict=True)
    return [
        _section(f"b{index}", dict(zip(content.views, views, strict=True)), content, drawings)
        for index, views in enumerate(by_metric)
    ]


def _section(name: str, views: Mapping[str, LeaderboardView], content: Content, drawings: Drawings) -> Section:
    view = next(iter(views.values()))
    board = view.board
    by_key = {record.spec.key: record for record in content.records}
    rows, whole = (details.rows_of(board, by_key, whole) for whole in (False, True))
    recalls = details.recall_table(whole)
    unranked = {key: name for key, name in UNRANKED.items() if any(not pd.isna(getattr(row, key)) for row in view.rows)}
    shown = drawings.of_board(board, content.ablations)
    shown += drawings.of_trainings(board, rows, whole, recalls, content.evidence.reliability)
    masks = mask_sheets(board, rows, by_key, content.stored, drawings.folder, content.faces)
    explained = [f"{heading}: {EXPLAINED[heading]}" for heading in unranked.values() if heading in EXPLAINED]
    explained.append(f"fit, s: {view.seconds_title}")
    places = row_indices(board)
    at_the_table = {view.standing_note, view.intervals_note, view.spread_note}
    return Section(
        id=name,
        panels={metric: _panel(view, places, content) for metric, view in views.items()},
        unranked=unranked,
        notes=[*(note for note in view.facts() if note not in at_the_table), *explained],
        cautions=[*view.cautions, *view.missing],
        recalls=recalls if recalls.notna().any(axis=None) else None,
        partial=[row.name for row in view.rows if row.name not in whole],
        drawings=shown,
        masks=[{**part, "figures": [drawings.shown(*figure) for figure in part["figures"]]} for part in masks],
    )


def _panel(view: LeaderboardView, places: Mapping[tuple[str, str], int], content: Content) -> Panel:
    own = [places[row.method, row.pretraining] for row in view.rows]
    return Panel(view, _forest(view.rows), own, *by_target(view, content.evidence))


def _forest(rows: Sequence[Line]) -> Forest:
    """Place the means and intervals of rows on an axis that spans them."""
    means = [row.means["unseen"] for row in rows]
    ends = [(m.low, m.high) if m.has_interval else (m.value, m.value) for m in means]
    known = [value for pair in ends for value in pair if not pd.isna(value)] or [0.0, 100.0]
    span = max(max(known) - min(known), 1.0)
    low, high = max(0.0, min(known) - 0.04 * span), min(100.0, max(known) + 0.04 * span)
    step = next((step for step in (0.2, 0.5, 1, 2, 5, 10, 20) if (high - low) / step <= 6), 25)

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    first = -(-low // step) * step
    ticks = [first + step * index for index in range(int((high - first) // step) + 1)]
    return Forest(
        ticks=[(place(tick), f"{tick:g}" if step >= 1 else f"{tick:.1f}") for tick in ticks],
        marks=[
            None if pd.isna(mean.value) else (place(mean.value), place(low_end), place(high_end))
            for mean, (low_end, high_end) in zip(means, ends, strict=True)
        ],
    )
