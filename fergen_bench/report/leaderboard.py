"""Build the view of a leaderboard: all that a reader sees of it. Every writer prints this view.

The terminal, leaderboard.md, .csv and .tex, the page and `Results.leaderboard()` differ in layout alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.records.collection import Records
from fergen_bench.records.record import RunRecord
from fergen_bench.report import data
from fergen_bench.report.answers import answer, disagreement
from fergen_bench.report.markers import Marker, markers
from fergen_bench.report.notes import (
    above_annotator,
    annotator_note,
    board_cautions,
    board_facts,
    calibration_note,
    has_intervals,
    intervals_note,
    missing_notes,
    spread_note,
    standing_note,
)
from fergen_bench.report.rounding import tenth
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import (
    CONDITIONS,
    NAMES,
    Board,
    Matrix,
    annotator_means,
    boards,
    matrix,
    number,
    scored_cells,
    with_data,
)
from fergen_bench.report.verdicts import judged
from fergen_bench.wording import listed

COLUMNS = {"in_domain": "in-domain", "all": "all targets", "unseen": "unseen", "worst": "worst unseen"}
"""The means of a leaderboard, and the heading of the column of each."""


@dataclass(frozen=True)
class Mean:
    """A mean of a row, in per cent.

    Attributes:
        value: The mean over the row's complete seeds; nan where the row has none.
        sd: The standard deviation over seeds; nan for fewer than two.
        low: The lower end of the 95 % interval over trainings and faces; nan where predictions are missing.
        high: Its upper end.
        domains_low: The lower end of the 95 % interval over domains too; nan for fewer than three domains, and for
            other means than the unseen one.
        domains_high: Its upper end.
    """

    value: float
    sd: float
    low: float
    high: float
    domains_low: float = np.nan
    domains_high: float = np.nan

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

    @property
    def domains_interval(self) -> str:
        """Return the interval over domains too as text: 61.0–92.1, or —."""
        return "—" if pd.isna(self.domains_low) else f"{tenth(self.domains_low)}–{tenth(self.domains_high)}"


@dataclass(frozen=True)
class Measure:
    """The mean over unseen targets under one metric.

    Attributes:
        mean: The mean.
        standing: best, tied, behind or not compared, under this metric.
        p: The corrected p of the difference from the best row; nan for this row and where rows are not compared.
    """

    mean: Mean
    standing: str
    p: float


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
        standing: best, tied, behind or not compared.
        standing_reason: The reason why it is not compared; else "".
        p: The corrected p of its difference from the best row; nan for this row and where rows are not compared.
        measures: The unseen mean under each metric.
        markers: Marks of the row, each with its reason.
        seeds: The number of complete seeds.
        seeds_text: That number, with the number of cells where some are missing.
        cells: Cells with a score.
        asked: The number of cells of the row once every seed is complete.
        unseen_cells: Cells in the unseen mean.
        unseen_cells_text: That number, and how many of them are not audited.
        not_audited: Whether some cell of the unseen mean is not audited.
        fit_seconds: Mean seconds of one run, see `records.frame.fit_seconds`; nan for runs on different devices.
        source_val: Accuracy on images held out of the sources, mean over trainings; nan unless each has it.
        source_val_balanced: Balanced accuracy on them.
        ece: Expected calibration error on unseen targets, in points; nan without predictions.
        ece_tempered: The same after temperature scaling.
        ece_floor: The error that a perfectly calibrated row would show with these confidences and numbers of faces.
    """

    name: str
    method: str
    pretraining: str
    mark: str
    side_mark: str
    means: Mapping[str, Mean]
    standing: str
    standing_reason: str
    p: float
    measures: Mapping[str, Measure]
    markers: tuple[Marker, ...]
    seeds: int
    seeds_text: str
    cells: int
    asked: int
    unseen_cells: int
    unseen_cells_text: str
    not_audited: bool
    fit_seconds: float
    source_val: float
    source_val_balanced: float
    ece: float
    ece_tempered: float
    ece_floor: float


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
    def has_source_val(self) -> bool:
        """Return True where some row has scores on held-out images; otherwise writers omit the columns."""
        return bool(self.board.table.source_val_accuracy.notna().any())

    @property
    def seconds_title(self) -> str:
        """Return the meaning of the seconds of a row, with the processors that they were measured on."""
        what = "one training, without scoring"
        if self.board.online:
            what = "adapting to all targets and predicting them, without the training of the base"
        devices = sorted(set(self.board.cells.device))
        several = "; empty for a row on several of them" if len(devices) > 1 else ""
        return f"mean seconds of {what}, on {listed(devices)}{several}"

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
        for row, (_, cells) in zip(board.table.itertuples(), board.rows(), strict=True):
            name, mark = names[row.method, row.pretraining], board.marks[row.pretraining]
            yield Line(
                name=name,
                method=row.method,
                pretraining=row.pretraining,
                mark=mark,
                side_mark=mark if self.has_several_marks and name == row.method else "",
                means={column: _mean(row, column) for column in COLUMNS},
                standing=row.standing,
                standing_reason=row.standing_reason,
                p=row.p,
                measures={name: _measure(row, name) for name in NAMES},
                markers=markers(board, row, cells),
                seeds=row.seeds,
                seeds_text=board.seeds(row),
                cells=row.cells,
                asked=row.asked,
                unseen_cells=row.unseen_cells,
                unseen_cells_text=board.unseen_cells(row),
                not_audited=bool(row.unseen_not_audited),
                fit_seconds=row.fit_seconds,
                source_val=row.source_val_accuracy,
                source_val_balanced=row.source_val_balanced_accuracy,
                ece=getattr(row, "unseen_ece", np.nan),
                ece_tempered=getattr(row, "unseen_ece_tempered", np.nan),
                ece_floor=getattr(row, "unseen_ece_floor", np.nan),
            )

    @property
    def best(self) -> int | None:
        """Return the index of the row whose standing is best; None where no row is compared."""
        return next((index for index, row in enumerate(self.rows) if row.standing == "best"), None)

    @cached_property
    def annotator(self) -> Mapping[str, float]:
        """Return the agreement of a single annotator with the labels, by the keys of COLUMNS; empty where unknown.

        Each value is a mean over the same cells as that of a row, in per cent; nan where it is unknown for some target.
        """
        return annotator_means(self.board, self.metric)

    @property
    def answers(self) -> tuple[str, ...]:
        """Return a sentence on the best row under each metric, that of the leaderboard first."""
        return tuple(answer(self.board, name, first=name == self.metric) for name in self._metrics)

    @property
    def disagreement(self) -> str:
        """Return a sentence on metrics that disagree about the best row; "" where all agree."""
        return disagreement(self.board, self._metrics)

    @property
    def _metrics(self) -> list[str]:
        return sorted(NAMES, key=lambda name: name != self.metric)

    @property
    def intervals_note(self) -> str:
        """Return a sentence on the use of each of the two intervals; "" without intervals."""
        return intervals_note(self.board)

    @property
    def standing_note(self) -> str:
        """Return a sentence on the standings and the error that they guard against; "" where no row is compared."""
        return standing_note(self.board)

    @property
    def spread_note(self) -> str:
        """Return a sentence on ±; "" where no number has it."""
        return spread_note(self.board)

    @property
    def calibration_note(self) -> str:
        """Return a sentence on the dependence of calibration errors on the number of faces; "" without them."""
        return calibration_note(self.board)

    def facts(self) -> list[str]:
        """Return how to read the leaderboard, pre-training first."""
        return [*board_facts(self.board), *filter(None, [annotator_note(self.board, self.metric)])]

    @cached_property
    def cautions(self) -> list[str]:
        """Return sentences on what may mislead a reader."""
        return [*board_cautions(self.board), *above_annotator(self.board, self.metric)]

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
    over = ("_domains_low", "_domains_high") if column.startswith("unseen") else ()
    return Mean(*(getattr(row, column + part) for part in ("", "_sd", "_low", "_high", *over)))


def _measure(row: Any, metric: str) -> Measure:
    column = f"unseen_{metric}"
    return Measure(_mean(row, column), getattr(row, f"{column}_standing"), getattr(row, f"{column}_p"))


def leaderboard_views(
    records: Sequence[RunRecord], stored: Records, metric: str = "accuracy"
) -> tuple[list[LeaderboardView], Evidence]:
    """Build the views of all leaderboards of some records.

    Args:
        records: Current records of one suite, counted as `records.counting.counted` counts them.
        stored: The collection of the records, with their predictions.
        metric: accuracy, balanced_accuracy or macro_f1.

    Returns:
        The views, real faces first, and the evidence: the stored predictions from which intervals and ties come, with a
        sentence in `faults` for each file that cannot be read.
    """
    evidence = Evidence(records, stored)
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
        annotator = {
            f"{column}_annotator": view.annotator.get(column, np.nan) for column in ("in_domain", "all", "unseen")
        }
        table = view.board.table.assign(**conditions, only=view.board.only, metric=view.metric, **annotator)
        frames.append(table.drop(columns=["texts", "base_texts"]))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
