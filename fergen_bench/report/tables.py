"""Build leaderboards and matrices from records, as data frames; `leaderboard.py` formats them.

A leaderboard ranks only what was measured under the same conditions: one suite, profile, class set, selection, number
of sources and fraction of data, and with unlabelled training or test images of the target or without. Numbers are in
per cent. A mean over cells exists only where all of the cells do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.run import percent
from fergen_bench.metric import METRICS, collapsed_of_many
from fergen_bench.records.frame import SOURCE_VAL, cells_frame
from fergen_bench.records.record import RunRecord
from fergen_bench.report.averages import Columns, by_row, mean, seed_means, spread
from fergen_bench.report.data import Data, described
from fergen_bench.report.rounding import tenth

Item = TypeVar("Item")

NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
"""The names of metrics in tables and texts."""

CONDITIONS = ["suite", "synthetic", "profile", "selection", "sources", "fraction", "adaptation", "online"]

ROW = ["method", "pretraining"]

CELL = ["source", "target", "adapted_to"]
"""The columns that identify a cell of a row and seed. A method that adapts is scored on its source once for each target
it adapted to; a matrix shows the mean of these.
"""

ONE_CLASS = "one class"
"""The mark of a cell whose faces are nearly all predicted as one expression, see `metric.collapsed`."""

ABOVE = "above one annotator"
"""The mark of an accuracy above the agreement of a single annotator with the labels of the target."""

ANNOTATOR_ROW = "single annotator"
"""The name of the row below a table with the agreement of a single annotator with the labels."""

NOT_COMPARED = "not compared"
"""The standing of a row that cannot be compared with the best."""

CALIBRATION = ["ece", "ece_tempered", "ece_floor"]
"""The calibration errors of a cell with predictions, see `Evidence.calibrated`."""

MEANS = ["in_domain", "all", "unseen", "worst"]
"""The means of a leaderboard's row."""


@dataclass(frozen=True)
class Board:
    """The methods that may be ranked against each other."""

    suite: str
    synthetic: bool
    profile: str
    selection: str
    sources: int
    fraction: float
    adaptation: bool  # whether its runs saw the training images of their target, without labels
    online: bool  # whether its methods adapted to the test images of a target while they predicted them
    table: pd.DataFrame  # one row per method and pre-training, best mean over unseen targets first
    cells: pd.DataFrame  # its cells
    data: Data = field(default_factory=dict)  # its domains
    only: str = ""  # the filter that its records passed, in words

    @property
    def finished(self) -> bool:
        """Return True for the section of models that were not trained here."""
        return self.sources == 0

    @property
    def axes(self) -> str:
        """Return what the rows and columns of a matrix are, in words."""
        return "scored on column" if self.finished else "trained on row, scored on column"

    @property
    def title(self) -> str:
        """Return the suite and the conditions in one line."""
        kind = "synthetic faces" if self.synthetic else "real faces"
        parts = ["finished models"] if self.finished else self._training()
        parts += [f"{self.profile} splits"]
        parts += [] if self.fraction == 1 or self.finished else [f"{percent(self.fraction)} of the data"]
        filtered = f"; only {self.only}" if self.only else ""
        return f"{self.suite} ({kind}): {', '.join(parts)}{filtered}"

    def _training(self) -> list[str]:
        """Return the sources and the checkpoint in words."""
        count = "one source" if self.sources == 1 else f"{self.sources} sources"
        trained = f"trained on {count}" + (" with unlabelled target images" if self.adaptation else "")
        trained += ", adapted online to the unlabelled test images" if self.online else ""
        last = self.selection == "last"
        return [trained, "last checkpoint" if last else "checkpoint best on held-out source images"]

    def names(self) -> dict[tuple[str, str], str]:
        """Return the name of each row: the method, with the mark of its pre-training where one method has several."""
        pairs = list(zip(self.table.method, self.table.pretraining, strict=True))
        several = {method for method, _ in pairs if sum(other == method for other, _ in pairs) > 1}
        return {
            (method, kind): f"{method} [{self.marks[kind]}]" if method in several else method for method, kind in pairs
        }

    @cached_property
    def marks(self) -> dict[str, str]:
        """Return letters for the kinds of pre-training."""
        kinds = list(dict.fromkeys(self.table.pretraining))
        return dict(zip(kinds, letters(len(kinds)), strict=True))

    def rows(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield name and cells of every row, best first."""
        names = self.names()
        for (method, kind), name in names.items():
            yield name, self.cells[(self.cells.method == method) & (self.cells.pretraining == kind)]

    @cached_property
    def targets(self) -> list[str]:
        """Return the targets in the order of the suite."""
        return ordered(self.cells.source, self.cells.target)[1]

    @cached_property
    def asked(self) -> int:
        """Return the number of cells of a complete seed."""
        return len(self.cells.drop_duplicates(CELL))

    def seeds(self, row: Any) -> str:
        """Return the number of seeds in the means of a row: 3; or 2 (55/75 cells), where other seeds are incomplete.

        If no seed is complete, return the number of seeds that were begun: 1 (5/25 cells).
        """
        whole = row.cells == row.asked
        return str(row.seeds) if whole else f"{row.seeds or row.asked // self.asked} ({row.cells}/{row.asked} cells)"

    def unseen_cells(self, row: Any) -> str:
        """Return the number of cells of complete seeds in a row's unseen mean: 60, or 60 (4 not audited)."""
        return f"{row.unseen_cells}" + (f" ({row.unseen_not_audited} not audited)" if row.unseen_not_audited else "")

    @property
    def slug(self) -> str:
        """Return the beginning of the names of the leaderboard's files."""
        parts = [
            self.suite,
            "finished" if self.finished else f"{self.sources}-sources" if self.sources > 1 else "",
            "adaptation" if self.adaptation else "",
            "online" if self.online else "",
            "" if self.selection == "last" or self.finished else self.selection,
        ]
        parts += ["" if self.profile == "official" else self.profile]
        parts += ["" if self.fraction == 1 else percent(self.fraction).replace("%", "percent")]
        return "-".join(part for part in parts if part)


def scored_cells(records: Sequence[RunRecord]) -> pd.DataFrame:
    """Return the cells of records, see `cells_frame`, with `collapsed`.

    `collapsed` is the expression that was predicted for nearly all faces of a cell, see `metric.collapsed`; else "".
    """
    confusions = [cell.confusion for record in records for cell in record.cells]
    places = collapsed_of_many(np.array(confusions)) if confusions else []
    found = pd.Series(["" if place is None else EXPRESSIONS[place] for place in places], dtype=object)
    return cells_frame(records).assign(collapsed=found)


def boards(cells: pd.DataFrame, metric: str) -> Iterator[Board]:
    """Yield one leaderboard per set of conditions.

    Real faces come before synthetic ones, one source before several, the share of the data with the most rows before
    the others, and methods that adapted to their target, by training or online, after the others. Finished models come
    last.
    """
    if cells.empty:
        return
    order = {
        "synthetic": True,
        "finished": True,
        "online": True,
        "adaptation": True,
        "sources": True,
        "rows": False,
        "fraction": False,
    }
    names = cells.method + " " + cells.pretraining
    cells = cells.assign(
        finished=cells.sources == 0, rows=names.groupby([cells[name] for name in CONDITIONS]).transform("nunique")
    )
    cells = cells.sort_values([*order], ascending=[*order.values()], kind="stable").drop(columns=["finished", "rows"])
    for conditions, group in cells.groupby(CONDITIONS, sort=False):
        # Records of early versions lack this fact about the same faces.
        group = group.assign(annotator=group.groupby("target").annotator.transform("max"))
        asked = group.drop_duplicates(CELL)
        rows = [_summary(name, rows, len(asked), metric) for name, rows in by_row(group, ROW, group.columns).items()]
        table = pd.DataFrame(rows).sort_values(
            ["unseen", "all", "in_domain"], ascending=False, na_position="last", ignore_index=True
        )
        yield Board(**dict(zip(CONDITIONS, conditions, strict=True)), table=table, cells=group)


def with_data(some: Iterable[Board], records: Iterable[RunRecord], only: str = "") -> Iterator[Board]:
    """Yield leaderboards with the descriptions of their domains. The records may contain others than theirs.

    Args:
        some: The leaderboards.
        records: Records.
        only: The filter that the records passed, in words.
    """
    by_key = {record.spec.key: record for record in records}
    for board in some:
        domains = [*board.cells.source.str.split("+").explode(), *board.cells.adapted_to]
        sources, targets = ordered(pd.Series(domains), board.cells.target)
        known = described(by_key[key] for key in dict.fromkeys(board.cells.key) if key in by_key)
        data = {n: known[n] for n in dict.fromkeys((*targets, *sources)) if n in known}
        yield replace(board, data=data, only=only)


def _summary(name: tuple[str, ...], rows: Columns, asked: int, metric: str) -> dict[str, object]:
    """Return one line of a leaderboard: means of each complete seed, then mean and spread over seeds.

    Args:
        name: The method and the pre-training.
        rows: The cells of the row.
        asked: The number of cells of a complete seed.
        metric: The name of the metric.
    """
    whole = complete_columns(rows, asked)
    unseen = whole["relation"] == "unseen"
    by_seed = seed_means(whole, metric)
    devices = sorted(set(rows["device"]))
    seconds = dict(zip(rows["key"], rows["fit_seconds"], strict=True))
    once = np.unique(whole["key"], return_index=True)[1]
    once.sort()
    return {
        "method": name[0],
        "base_method": rows["base_method"][0],
        "pretraining": name[1],
        **{column: mean(by_seed[column]) for column in MEANS},
        **{f"{column}_sd": spread(by_seed[column]) for column in MEANS},
        # The columns below are filled in by verdicts.judged.
        **{f"{mean}_{end}": np.nan for mean in MEANS for end in ("low", "high")},
        **{f"unseen_domains_{end}": np.nan for end in ("low", "high")},
        "standing": NOT_COMPARED,
        "standing_reason": "",
        "p": np.nan,
        "seeds": len(set(whole["seed"])),
        "cells": len(rows["seed"]),
        "asked": asked * len(set(rows["seed"])),
        "unseen_cells": int(unseen.sum()),
        "unseen_not_audited": int((~whole["audited"]).sum()),
        "near_duplicates_left_out": int(rows["left_out"].sum()),
        "seen_share": rows["seen_share"][0],
        "device": "; ".join(devices),
        "fit_seconds": mean(np.array([*seconds.values()])) if len(devices) == 1 else np.nan,
        "texts": len(set(rows["digest"])),
        "base_texts": len(set(rows["base_digest"]) - {""}),
        **{name: _mean_of_all(whole[name][once]) for name in SOURCE_VAL},
        **_beside(whole, unseen),
        **{f"unseen_{name}_{part}": value for name in METRICS for part, value in _UNJUDGED.items()},
    }


_UNJUDGED: dict[str, object] = {
    **dict.fromkeys(("sd", "low", "high", "domains_low", "domains_high"), np.nan),
    "standing": NOT_COMPARED,
    "standing_reason": "",
    "p": np.nan,
}
"""The columns of the unseen mean under one metric, filled in by verdicts.judged."""


def domains_of(source: str) -> list[str]:
    """Return the domains of a source: web+film → web, film."""
    return source.split("+")


def unevenly_scored(cells: pd.DataFrame) -> list[str]:
    """Return the targets that runs with the same source score on different faces.

    This happens if near-duplicates could be left out of some of the runs alone.
    """
    kinds = cells.groupby(["target", "source"], sort=False).faces.nunique()
    return [str(target) for target in dict.fromkeys(target for target, _ in kinds.index[kinds > 1])]


def complete(cells: pd.DataFrame, asked: int) -> pd.DataFrame:
    """Return the cells of a row's seeds that have the full number of cells."""
    whole = _in_complete_seeds(cells.seed.to_numpy(), asked)
    return cells if whole.all() else cells[whole]


def complete_columns(cells: Columns, asked: int) -> Columns:
    """Return the same cells as `complete`, from columns."""
    whole = _in_complete_seeds(cells["seed"], asked)
    return cells if whole.all() else {name: column[whole] for name, column in cells.items()}


def _in_complete_seeds(seeds: np.ndarray, asked: int) -> np.ndarray:
    _, place, sizes = np.unique(seeds, return_inverse=True, return_counts=True)
    return np.asarray(sizes[place] == asked)


def _beside(cells: Columns, unseen: np.ndarray) -> dict[str, float]:
    """Return means over unseen targets of all other measures of a cell.

    A recall is the mean of the cells with faces of the expression; a calibration error exists only where all cells have
    one.

    Args:
        cells: The cells of complete seeds.
        unseen: The cells of unseen targets, bool (cells,).
    """
    names = [*METRICS, *(f"recall_{name}" for name in EXPRESSIONS)]
    found = {name: mean(cells[name][unseen]) for name in names}
    found |= {name: _mean_of_all(cells[name][unseen]) for name in CALIBRATION if name in cells}
    return {f"unseen_{name}": value for name, value in found.items()}


def _mean_of_all(values: np.ndarray) -> float:
    """Return the mean of values; nan where one of them is nan, and without any."""
    return float(values.mean()) if len(values) else np.nan


class Place(NamedTuple):
    """A number of a matrix: mean and spread over seeds, and its mark, such as "seen (declared)"."""

    target: str
    value: float
    sd: float
    relation: str
    mark: str


@dataclass(frozen=True)
class Matrix:
    """The source x target matrix of one method, in the order of the suite.

    Gaps measure the loss on unseen faces. The gaps of targets compare trainings on the same faces, so they do not
    depend on the difficulty of the target itself.
    """

    mean: pd.DataFrame  # over seeds
    spread: pd.DataFrame  # over seeds; nan below two
    relation: pd.DataFrame
    marks: pd.DataFrame  # the mark of each number; "" for most
    unseen: pd.Series  # by source: the mean over unseen targets
    source_gaps: pd.Series  # accuracy on a source itself minus the mean over unseen targets of the same training
    target_gaps: pd.Series  # accuracy on a target of the training on it minus the mean of trainings elsewhere
    annotator: pd.Series  # by target: the agreement of a single annotator with its labels; nan where unknown

    @property
    def has_annotator(self) -> bool:
        """Return True where the agreement of a single annotator is known for some target."""
        return bool(self.annotator.notna().any())

    def lines(self) -> Iterator[tuple[str, list[Place], float, float]]:
        """Yield the name of each source, its numbers, its mean over unseen targets and its gap."""
        frames = (frame.to_numpy() for frame in (self.mean, self.spread, self.relation, self.marks))
        for source, *parts, unseen, gap in zip(self.mean.index, *frames, self.unseen, self.source_gaps, strict=True):
            yield source, [Place(*place) for place in zip(self.mean.columns, *parts, strict=True)], unseen, gap


def matrix(cells: pd.DataFrame, metric: str) -> Matrix:
    """Return the matrix of one method's cells."""
    sources, targets = ordered(cells.source, cells.target)
    pairs = cells.groupby(["source", "target"])
    seeds = cells.groupby(["source", "target", "seed"])[metric].mean().groupby(["source", "target"])
    frames = (seeds.mean(), seeds.std(ddof=1), pairs.relation.first(), _marks(cells))
    mean, spread, relation, said = (frame.unstack().reindex(index=sources, columns=targets) for frame in frames)
    own, unseen = mean.where(relation == "source"), mean.where(relation == "unseen")
    by_source, by_target = (own.mean(axis=axis) - unseen.mean(axis=axis) for axis in (1, 0))
    annotator = annotators(cells, metric).reindex(targets)
    above = mean.gt(annotator, axis=1).map({True: ABOVE, False: ""}.get)
    marks = said.fillna("").combine(above, lambda one, other: one.str.cat(other, ", ").str.strip(", "))
    return Matrix(mean, spread, relation, marks, unseen.mean(axis=1), by_source, by_target, annotator)


def annotators(cells: pd.DataFrame, metric: str) -> pd.Series:
    """Return the agreement of a single annotator with the labels of each target, in per cent; nan where unknown.

    An agreement is an accuracy, and is compared with no other metric.
    """
    found = cells.groupby("target", sort=False).annotator.max().astype(float)
    return found if metric == "accuracy" else found * np.nan


def annotator_means(board: Board, metric: str) -> dict[str, float]:
    """Return the agreement of a single annotator, averaged over the same cells as each mean of a leaderboard's row.

    A mean exists where the agreement is known for all of its targets; "worst" is a mean over one target, which differs
    between rows, and has none. The result is empty without any mean.
    """
    of = annotators(board.cells, metric)
    if of.isna().all():
        return {}
    cells = board.cells.drop_duplicates(CELL)
    own, unseen = (cells[cells.relation == relation] for relation in ("source", "unseen"))
    everything = cells.drop_duplicates(["source", "target"])
    parts = {"in_domain": own, "all": everything, "unseen": unseen}
    found = {name: part.target.map(of).astype(float).mean(skipna=False) for name, part in parts.items()}
    return {} if pd.Series(found).isna().all() else {**found, "worst": np.nan}


def _marks(cells: pd.DataFrame) -> pd.Series:
    """Return the mark of each source and target."""
    if "collapsed" not in cells:
        return cells.groupby(["source", "target"]).mark.first()
    said = cells.assign(collapsed=cells.collapsed.ne("").map({True: ONE_CLASS, False: ""}))
    marks = said.groupby(["source", "target"])[["mark", "collapsed"]].max()
    return marks.apply(lambda pair: ", ".join(filter(None, pair)), axis=1)


def ordered(sources: pd.Series, targets: pd.Series) -> tuple[list[str], list[str]]:
    """Return both in the order of the records' targets, which is that of the suite."""
    columns = list(dict.fromkeys(targets))
    rows = sorted(
        dict.fromkeys(sources), key=lambda name: (columns.index(name) if name in columns else len(columns), name)
    )
    return rows, columns


def comparable(parts: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return for each row the cells of seeds that have all cells of the first row: other means are not comparable."""
    first = next(iter(parts.values()))
    wanted = first.drop_duplicates(CELL)[CELL]
    complete = {}
    for name, cells in parts.items():
        shared = cells.merge(wanted, on=CELL)
        counts = shared.groupby("seed").target.transform("size")
        complete[name] = shared[counts == len(wanted)]
    return {name: cells for name, cells in complete.items() if len(cells)}


def letters(count: int) -> list[str]:
    """Return marks for footnotes: a, b, … z, aa, ab."""
    return [("" if i < 26 else chr(96 + i // 26)) + chr(97 + i % 26) for i in range(count)]


def number(value: float, spread: float = float("nan")) -> str:
    """Return 61.4, 61.4 ± 0.3, or — for nan."""
    return tenth(value) if pd.isna(spread) else f"{tenth(value)} ± {tenth(spread)}"


def by_share(items: Iterable[Item], board_of: Callable[[Item], Board]) -> list[list[Item]]:
    """Group items whose leaderboards differ only in the share of the data.

    Args:
        items: Such as views, in the order of their leaderboards: the share with the most rows first.
        board_of: Returns the leaderboard of an item.
    """
    sets: dict[tuple[Any, ...], list[Item]] = {}
    for item in items:
        same = tuple(getattr(board_of(item), name) for name in CONDITIONS if name != "fraction")
        sets.setdefault(same, []).append(item)
    return list(sets.values())
