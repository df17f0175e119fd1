"""Results: the records of one suite as a report counts them, and the tables that follow from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fergen_bench.api.compared import Compared
from fergen_bench.api.display import display
from fergen_bench.api.filtering import RecordFilter
from fergen_bench.api.options import from_keywords
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.wording import listed, many, near

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from fergen_bench.experiment.project import Project
    from fergen_bench.records.collection import Records
    from fergen_bench.records.record import RunRecord
    from fergen_bench.report.choosing import Validation
    from fergen_bench.report.data import Data
    from fergen_bench.report.leaderboard import LeaderboardView
    from fergen_bench.report.statistics import Evidence
    from fergen_bench.report.tables import Board

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
"""The metrics of tables."""


class Remark(NamedTuple):
    """A sentence about records that a table does not show, or that may mislead."""

    level: Literal["note", "warning"]
    text: str


Remarks = Callable[[Remark], None]


def load_results(
    path: str | os.PathLike[str] = "results",
    suite: str | None = None,
    *,
    include_near_duplicates: bool = False,
    project: Project | str | Path | None = None,
    progress: bool = True,
    **filters: Any,
) -> Results:
    """Load the records of one suite as `fergen-bench report` counts them.

    Records that newer ones supersede are left out, and so are images with a near-duplicate in the sources. The call
    loads neither torch nor a plotting backend.

    Args:
        path: "results" for the results folder of the project; "reference" for the results committed to the repository
            ("reference/synth5/leave-none" for those of one protocol); else a results folder, a folder of records, or
            packed records: a folder, a file of rows, or a zip archive.
        suite: The suite. Default: the only one with records, else that of bench.toml.
        include_near_duplicates: Also count images with a near-duplicate in the sources.
        project: The project with the suites and audits, or a folder in it. Default: that of the working directory.
        progress: Show on a terminal that records are read.
        **filters: The fields of `RecordFilter`: `methods`, `selection`, `protocol`, `fraction`, `seeds`, `sources` and
            `targets`, such as `seeds=[0, 1]`. docs/python.md lists them.

    Raises:
        BenchError: There are no such records, or records of several suites and none is named.
        TypeError: A keyword does not exist.
    """
    from fergen_bench.api.run import open_project

    where = open_project(project)
    only = from_keywords(filters, RecordFilter, "load_results")
    with display(progress).busy("reading records"):
        return load(where, records_at(path, where), suite, only, include_near_duplicates)


def records_at(path: str | os.PathLike[str], project: Project) -> Records:
    """Return the records that a name or a path stands for; see `load_results`."""
    from fergen_bench.experiment.shipped import shipped
    from fergen_bench.records.collection import RecordFolder
    from fergen_bench.records.packed import ROWS, open_records

    name = Path(path).as_posix()
    if name == "results":
        return RecordFolder(project.results / "runs")
    folder = Path(path)
    if name.split("/")[0] == "reference" and not folder.exists():
        folder = shipped("results") / name
        if not folder.is_dir():
            folder = folder.with_name(f"{folder.name}{ROWS}")
        if not folder.exists():
            there = shipped("results") / "reference"
            if there.is_dir():
                raise BenchError(f"{name}: the committed results have no such part. Look into {near(there)}.")
            raise BenchError(f"{name}: the committed results are not installed with the package. Clone the repository.")
    if not folder.exists():
        raise BenchError(f"{name}: this folder or file does not exist. Give a results folder, results or reference.")
    return open_records(folder)


class _Remarks:
    """A list of remarks that passes each on as it comes."""

    def __init__(self, listener: Remarks) -> None:
        self.all: list[Remark] = []
        self._listener = listener

    def add(self, level: Literal["note", "warning"], texts: Iterable[str]) -> None:
        for text in texts:
            self.all.append(Remark(level, text))
            self._listener(self.all[-1])


def load(
    project: Project,
    stored: Records,
    suite: str | None = None,
    only: RecordFilter | None = None,
    include_near_duplicates: bool = False,
    keys: Collection[str] | None = None,
    remark: Remarks = lambda remark: None,
) -> Results:
    """Read the records of one suite, leave out superseded ones, and count the others as a report does.

    Args:
        project: The project whose suites and audits decide which targets are seen.
        stored: The records, see `records_at`.
        suite: The suite. Default: the only one with records, else that of bench.toml.
        only: The records to return; None for all.
        include_near_duplicates: Also count images with a near-duplicate in the sources.
        keys: Only the runs with these keys.
        remark: Receives each remark at once, also those before an error.
    """
    from fergen_bench.api.prepared import with_data
    from fergen_bench.records import counting
    from fergen_bench.records import frame as frames
    from fergen_bench.report import data

    remarks, only = _Remarks(remark), only or RecordFilter()
    everything, faults = stored.read()
    remarks.add("warning", faults)
    meant, others = _suite(project, everything, suite)
    known = {record.spec.method for record in everything if record.spec.suite == meant}
    for name in only.methods:
        if known and name not in known:
            raise BenchError(f"--method: no records of {name!r} on {meant}{did_you_mean(name, known)}")
    if others:
        remark(Remark("note", f"there are also records of {', '.join(others)}; see them with --suite"))
    records = [
        record
        for record in only.named(everything)
        if record.spec.suite == meant and (keys is None or record.spec.key in keys)
    ]
    records = with_data(project, records)
    current = frames.current(records)
    left_out = data.superseded(records, current)
    remarks.add("note", left_out)
    # After the choice of current records: which ones are superseded does not depend on the filter.
    chosen = only.chosen(current, project, meant)
    remarks.add("note", [f"only {only.text}: {many(len(chosen), 'record', of=len(current))}"] if only.text else [])
    counted, unreadable = counting.counted(chosen, project, stored, include_near_duplicates)
    remarks.add("warning", unreadable)
    reasons = {name: why for why, left in reversed(left_out.items()) for one in left for name in _names(one)}
    return Results(meant, tuple(counted), stored, project, tuple(remarks.all), reasons, only)


def _suite(project: Project, records: Sequence[RunRecord], suite: str | None) -> tuple[str, list[str]]:
    """Return the suite to read, and the other suites with records."""
    there = sorted({record.spec.suite for record in records})
    meant = suite or (there[0] if len(there) == 1 else project.settings.suite)
    if meant not in there:
        if suite is None and there:
            raise BenchError(f"there are records of several suites; name one: --suite {' or '.join(there)}")
        project.suite(meant)  # raises for a misspelt one, with the suites that exist
    return meant, [name for name in there if name != meant]


def _names(record: RunRecord) -> tuple[str, str]:
    """Return the names that a reader may give the row of a record."""
    return record.spec.method, record.spec.label


@dataclass(frozen=True, repr=False)
class Results:
    """The records of one suite as a report counts them. Made by `run` and `load_results`."""

    suite: str
    records: tuple[RunRecord, ...]
    stored: Records  # the collection of the records, with their predictions
    project: Project
    remarks: tuple[Remark, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)  # name of a row → why records of it are left out
    only: RecordFilter = field(default_factory=RecordFilter)
    _boards: dict[str, list[Board]] = field(default_factory=dict, init=False, compare=False)

    @property
    def folder(self) -> Path:
        """The folder or file of the records."""
        return self.stored.path

    @property
    def notes(self) -> list[str]:
        """Sentences about records that no table shows, or that may mislead."""
        return [remark.text for remark in self.remarks]

    @cached_property
    def scored(self) -> list[RunRecord]:
        """The records with scores on targets.

        Raises:
            BenchError: There are none.
        """
        if not self.records:
            raise BenchError(f"{near(self.folder)}: no such records of {self.suite}. Make some with: fergen-bench run")
        found = [record for record in self.records if record.cells]
        if not found:
            raise BenchError(
                f"{near(self.folder)}: these runs scored no target. Compare them with: fergen-bench choose --suite "
                f"{self.suite}"
            )
        return found

    @cached_property
    def evidence(self) -> Evidence:
        """The stored predictions, from which intervals and tests follow."""
        from fergen_bench.report.statistics import Evidence

        return Evidence(self.scored, self.stored)

    @cached_property
    def cells(self) -> pd.DataFrame:
        """One row per run and target, with the identity of the run, its metrics in per cent and the images counted."""
        from fergen_bench.records.frame import cells_frame

        return cells_frame(self.scored)

    @cached_property
    def corruptions(self) -> pd.DataFrame:
        """One row per run, target, corruption factor and level; empty where no run was scored on corruptions."""
        from fergen_bench.records.frame import shifted_frame

        return shifted_frame(self.scored)

    def boards(self, metric: str = "accuracy") -> list[Board]:
        """Return the leaderboards of the report, one per set of conditions under which methods may be ranked."""
        from fergen_bench.report.tables import boards, scored_cells, with_data
        from fergen_bench.report.verdicts import judged

        _check_metric(metric)
        if metric not in self._boards:
            cells = self.evidence.calibrated(scored_cells(self.scored))
            ranked = judged(boards(cells, metric), self.evidence, metric)
            self._boards[metric] = list(with_data(ranked, self.scored, self.only.text))
        return self._boards[metric]

    def views(self, metric: str = "accuracy") -> list[LeaderboardView]:
        """Return the leaderboards as readers see them: rows, formatted and raw values, notes and matrices."""
        from fergen_bench.report.leaderboard import LeaderboardView

        return [LeaderboardView(board, metric) for board in self.boards(metric)]

    def leaderboard(self, metric: str = "accuracy") -> pd.DataFrame:
        """Return the rows of all leaderboards, best first, as leaderboard.csv of a report has them.

        Args:
            metric: "accuracy", "balanced_accuracy" or "macro_f1".

        Returns:
            One row per method and pre-training. It has means in per cent (`in_domain`, `all`, `unseen`, `worst`), their
            standard deviations over seeds (`_sd`) and 95 % intervals (`_low`, `_high`). `standing` is best, tied,
            behind or not compared. Every metric has an unseen mean and standing, such as `unseen_macro_f1` and
            `unseen_macro_f1_standing`. The conditions of the leaderboard are `suite`, `selection`, `sources`,
            `fraction`, `adaptation` and `online`.
        """
        from fergen_bench.report.leaderboard import leaderboard_frame

        return leaderboard_frame(self.views(metric))

    def matrix(self, method: str, metric: str = "accuracy") -> pd.DataFrame:
        """Return the source × target matrix of a method: means over seeds, in per cent.

        Args:
            method: A row as tables name it, such as "cafe" or "cafe (gate=linear)".
            metric: "accuracy", "balanced_accuracy" or "macro_f1".

        Raises:
            BenchError: No row has this name, or rows of several leaderboards have it.
        """
        from fergen_bench.report.tables import matrix

        _, _, cells = self._row(method, metric)
        return matrix(cells, metric).mean.rename_axis(index="source", columns="target")

    def filtered(self, **filters: Any) -> Results:
        """Return the results of some of the records.

        Args:
            **filters: The fields of `RecordFilter`, as in `load_results`. Those that these results were loaded with
                stay unless they are given anew.

        Raises:
            BenchError: No record has one of the values.
            TypeError: A keyword does not exist.
        """
        new: RecordFilter = from_keywords(filters, RecordFilter, "filtered")
        records = new.chosen(new.named(self.records), self.project, self.suite)
        both = replace(self.only, **{name: getattr(new, name) for name in filters})
        return replace(self, records=tuple(records), only=both)

    def compare(self, first: str, second: str, metric: str = "accuracy", **filters: Any) -> Compared:
        """Compare two rows on the cells that both have.

        Args:
            first: A row as tables name it, such as "linear_probe".
            second: The row to compare with it.
            metric: "accuracy", "balanced_accuracy" or "macro_f1".
            **filters: The fields of `RecordFilter`, as in `load_results`.

        Raises:
            BenchError: A row or a domain does not exist, the rows share no unseen target, or they were run on different
                data of a domain.
            TypeError: A keyword does not exist.
        """
        from fergen_bench.report import comparison, statistics, tables

        _check_metric(metric)
        if filters:
            return self.filtered(**filters).compare(first, second, metric)
        boards = list(tables.with_data(tables.boards(self.cells, metric), self.scored, self.only.text))
        one, other = comparison.find_rows(boards, first, second, self.left_out)
        comparison.require_same_data(one, other, self.scored)
        keys = {*one.cells.key, *other.cells.key}
        seen = statistics.Evidence([record for record in self.scored if record.spec.key in keys], self.stored)
        return Compared(one, other, comparison.compare(one.cells, other.cells, seen, metric), tuple(seen.faults))

    def validation(self) -> list[Validation]:
        """Return comparisons of parameters by accuracy on images held out of the sources; see `fergen-bench choose`.

        Raises:
            BenchError: No run has a score on held-out images.
        """
        from fergen_bench.api.prepared import held_out
        from fergen_bench.report.choosing import validation

        found = list(validation(self.records, held_out(self.project)))
        if not found:
            those = " and ".join(sorted({record.spec.method for record in self.records}))
            others = f" ({those} selected something else on them, without a score)" if those else ""
            raise BenchError(
                f"no run on {self.suite} has a score on held-out images of its source{others}. Make some with: "
                f"fergen-bench run --protocol learning-rate --method …"
            )
        return found

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains of the suite, in its order; empty where the suite no longer exists."""
        suite = self.project.suites().get(self.suite)
        return suite.domains if suite else ()

    def source_data(self) -> Data:
        """Return the data of the domains that runs learned from."""
        from fergen_bench.report.data import described

        learned = {name for record in self.records for name in (*record.spec.sources, record.spec.adaptation_target)}
        return {name: one for name, one in described(self.records).items() if name in learned}

    def plot_matrix(self, method: str, metric: str = "accuracy") -> Figure:
        """Return the matrix of a method as a matplotlib figure, which a notebook shows."""
        from fergen_bench.report import figures

        board, name, cells = self._row(method, metric)
        return figures.heatmap(board, name, cells, metric)

    def plot_unseen(self, metric: str = "accuracy") -> Figure:
        """Return the means over unseen targets of the first leaderboard as a matplotlib figure."""
        from fergen_bench.report import figures

        return figures.unseen_means(self.boards(metric)[0], metric)

    def to_csv(self, path: str | os.PathLike[str]) -> None:
        """Write `cells` to a CSV file: one row per run and target. `leaderboard().to_csv` writes the leaderboard."""
        self.cells.to_csv(path, index=False, float_format="%.4f")

    def _row(self, method: str, metric: str) -> tuple[Board, str, pd.DataFrame]:
        rows = [(board, name, cells) for board in self.boards(metric) for name, cells in board.rows()]
        found = [row for row in rows if method in {row[1], row[2].method.iloc[0]}]
        if not found:
            why = (
                f": {self.left_out[method]}"
                if method in self.left_out
                else did_you_mean(method, {name for _, name, _ in rows})
            )
            raise BenchError(f"{self.suite} has no row {method!r}{why}")
        if len(found) > 1:
            where = "; ".join(f"{name} in {board.title}" for board, name, _ in found)
            raise BenchError(
                f"{method!r} names {len(found)} rows: {where}. Name one of them, or load fewer records with "
                f"load_results(…, selection=…)."
            )
        return found[0]

    def __repr__(self) -> str:
        specs = [record.spec for record in self.records]
        protocols = {spec.protocol for spec in specs} - {""}
        lines = [
            f"Results of {self.suite} in {near(self.folder)}: {many(len(specs), 'run')}",
            f"methods: {listed(sorted({spec.method for spec in specs}))}",
            f"protocols: {listed(sorted(protocols)) or 'unknown'}",
            "next: .leaderboard(), .matrix(method), .compare(method, other), .cells, .notes, .filtered(methods=…)",
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the leaderboards as HTML tables, rounded as the report rounds them."""
        import pandas as pd

        from fergen_bench.report.leaderboard import COLUMNS

        if not any(record.cells for record in self.records):
            return escape(repr(self))
        parts = []
        for view in self.views():
            rows = [
                {
                    "method": row.name,
                    **{title: row.means[column].text for column, title in COLUMNS.items()},
                    "95 % of unseen": row.means["unseen"].interval,
                    "standing": row.standing,
                }
                for row in view.rows
            ]
            table = pd.DataFrame(rows).to_html(index=False, border=0)
            notes = "<br>".join(escape(note) for note in view.notes)
            parts.append(f"<h4>{escape(view.title)}, accuracy (%)</h4>{table}<p><small>{notes}</small></p>")
        return "\n".join(parts)


def _check_metric(metric: str) -> None:
    if metric not in METRICS:
        raise BenchError(f"metric: {metric!r} is not a metric of tables{did_you_mean(metric, METRICS)}")
