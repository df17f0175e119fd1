"""Build the view of a leaderboard: all that a reader sees of it. Every writer prints this view.

The terminal, leaderboard.md, .csv and .tex, the page and `Results.leaderboard()` differ in layout alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.records.record import RunRecord
from fergen_bench.report import data
from fergen_bench.report.notes import board_cautions, board_facts, has_intervals, missing_notes
from fergen_bench.report.rounding import tenth
from fergen_bench.report.statistics import Evidence, judged
from fergen_bench.report.tables import CONDITIONS, NAMES, Board, Matrix, boards, matrix, number, scored_cells, with_data

COLUMNS = {"in_domain": "in-domain", "all": "all targets", "unseen": "unseen", "worst": "worst unseen"}
"""The means of a leaderboard, and the heading of the column of each."""


@dataclass(frozen=True)
class Mean:
    """A mean of a row, in per cent.

    Attributes:
        value: The mean over the row's complete seeds; nan where the row has none.
        sd: The standard deviation over seeds; nan for fewer than two.
        low: The lower end of the 95 % interval; nan where predictions are missing.
        high: Its upper end.
    """

    value: float
    sd: float
    low: float
    high: float

    @property
    def text(self) -> str:
        """Return the mean as text: 61.4 ± 0.3, or 61.4 for one seed, or — for nan."""
        return number(self.value, self.sd)

    @property
    def has_interval(self) -> bool:
        """Return True if both ends of the interval are numbers."""
        return not (pd.isna(self.low) or pd.isna(self.high))

    @property
    def interval(self) -> str:
        """Return the interval as text: 79.8–81.2, or — without an interval."""
        return f"{tenth(self.low)}–{tenth(self.high)}" if self.has_interval else "—"


@dataclass(frozen=True)
class Line:
    """A row of a leaderboard as readers see it.

    Attributes:
        name: The method, with the mark of its pre-training where one method has several.
        method: The method with its changed parameters.
        pretraining: The networks that it starts from, in words.
        mark: The letter of its pre-training.
        side_mark: The letter where it follows the name; "" where the name contains it or all rows share it.
        means: By the keys of COLUMNS.
        standing: best, tied, behind or "".
        seeds: The number of complete seeds.
        seeds_text: That number, with the number of cells where some are missing.
        cells: Cells with a score.
        asked: The number of cells that the row has once every seed is complete.
        unseen_cells: Cells in the unseen mean.
        unseen_cells_text: That number, and how many of them are not audited.
        not_audited: Whether some cell of the unseen mean is not audited.
        fit_seconds: Mean seconds of one training; nan for runs on different devices.
        ece: Expected calibration error on unseen targets, in points; nan without predictions.
        ece_tempered: The same after temperature scaling.
    """

    name: str
    method: str
    pretraining: str
    mark: str
    side_mark: str
    means: Mapping[str, Mean]
    standing: str
    seeds: int
    seeds_text: str
    cells: int
    asked: int
    unseen_cells: int
    unseen_cells_text: str
    not_audited: bool
    fit_seconds: float
    ece: float
    ece_tempered: float


@dataclass(frozen=True)
class LeaderboardView:
    """A leaderboard as readers see it: its rows, matrices and title, with raw and formatted values."""

    board: Board
    metric: str

    @property
    def title(self) -> str:
        """Return the suite and the conditions of the leaderboard, in one line."""
        return self.board.title

    @property
    def metric_name(self) -> str:
        """Return the name of the metric as readers know it."""
        return NAMES[self.metric]

    @cached_property
    def has_intervals(self) -> bool:
        """Return True where some row has an interval; otherwise writers omit the column."""
        return has_intervals(self.board)

    @property
    def has_several_marks(self) -> bool:
        """Return True if the rows differ in pre-training."""
        return len(self.board.marks) > 1

    @cached_property
    def rows(self) -> tuple[Line, ...]:
        """Return the rows, best first."""
        return tuple(self._lines())

    def _lines(self) -> Iterator[Line]:
        board, names = self.board, self.board.names()
        for row in board.table.itertuples():
            name, mark = names[row.method, row.pretraining], board.marks[row.pretraining]
            yield Line(
                name=name,
                method=row.method,
                pretraining=row.pretraining,
                mark=mark,
                side_mark=mark if self.has_several_marks and name == row.method else "",
                means={column: _mean(row, column) for column in COLUMNS},
                standing=row.standing,
                seeds=row.seeds,
                seeds_text=board.seeds(row),
                cells=row.cells,
                asked=row.asked,
                unseen_cells=row.unseen_cells,
                unseen_cells_text=board.unseen_cells(row),
                not_audited=bool(row.unseen_not_audited),
                fit_seconds=row.fit_seconds,
                ece=getattr(row, "unseen_ece", np.nan),
                ece_tempered=getattr(row, "unseen_ece_tempered", np.nan),
            )

    def facts(self, mean: str = "the unseen mean") -> list[str]:
        """Return how to read the leaderboard, pre-training first. mean: the means that have intervals."""
        return board_facts(self.board, mean)

    @cached_property
    def cautions(self) -> list[str]:
        """Return sentences on what may mislead a reader."""
        return board_cautions(self.board)

    @property
    def notes(self) -> list[str]:
        """Return facts and cautions."""
        return [*self.facts(), *self.cautions]

    @property
    def missing(self) -> list[str]:
        """Return sentences on trainings and cells that other rows have and a row lacks."""
        return missing_notes(self.board)

    @property
    def data_table(self) -> list[list[str]]:
        """Return head and lines of the table of the domains; empty where nothing is recorded."""
        return [list(data.HEAD), *data.rows(self.board.data)] if self.board.data else []

    @cached_property
    def matrices(self) -> tuple[tuple[str, Matrix], ...]:
        """Return the name and the matrix of each row, best first."""
        return tuple((name, matrix(cells, self.metric)) for name, cells in self.board.rows())


def _mean(row: Any, column: str) -> Mean:
    return Mean(*(getattr(row, column + part) for part in ("", "_sd", "_low", "_high")))


def leaderboard_views(
    records: Sequence[RunRecord], runs: Path, metric: str = "accuracy"
) -> tuple[list[LeaderboardView], Evidence]:
    """Build the views of all leaderboards of some records.

    Args:
        records: Current records of one suite, counted as `records.counting.counted` counts them.
        runs: The folder of the records, in which the stored predictions are.
        metric: accuracy, balanced_accuracy or macro_f1.

    Returns:
        The views, real faces first, and the evidence: the stored predictions from which intervals and ties come, with a
        sentence in `faults` for each file that cannot be read.
    """
    evidence = Evidence(records, runs)
    cells = evidence.calibrated(scored_cells(records))
    ranked = with_data(judged(boards(cells, metric), evidence, metric), records)
    return [LeaderboardView(board, metric) for board in ranked], evidence


def leaderboard_frame(views: Iterable[LeaderboardView]) -> pd.DataFrame:
    """Return all leaderboards under each other as one table, with every condition in a column.

    `frame.to_csv(path, index=False, float_format="%.4f")` gives the report's leaderboard.csv.

    Args:
        views: From `leaderboard_views`.

    Returns:
        One row per method and pre-training of each leaderboard: means with `_sd`, `_low` and `_high`, in per cent.
        Empty for no view.
    """
    frames = []
    for view in views:
        conditions = {name: getattr(view.board, name) for name in CONDITIONS}
        frames.append(view.board.table.assign(**conditions, metric=view.metric).drop(columns=["texts"]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
