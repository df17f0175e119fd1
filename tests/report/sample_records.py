"""Records and leaderboards that tests of reports share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
from examples import SPEC, finished
from rich.console import Console

from fergen_bench.data.facts import DataFacts
from fergen_bench.records.frame import cells_frame
from fergen_bench.records.record import Cell, RunRecord
from fergen_bench.report import published, tables, terminal
from fergen_bench.report.leaderboard import LeaderboardView

PLAIN = replace(SPEC, parameters={"gate": "sigmoid"}, defaults={"gate": "sigmoid"}, weights={})


def confusion(right: int, wrong: int) -> list[list[int]]:
    matrix = np.zeros((7, 7), int)
    matrix[0, 0], matrix[0, 1] = right, wrong
    return matrix.tolist()


def entry(source: str, rights: dict[str, int], seed: int = 0, seen: str = "", **changes: Any) -> RunRecord:
    """A record whose accuracies in per cent are `rights`, by target."""
    relations = {name: "source" if name == source else "seen" if name == seen else "unseen" for name in rights}
    spec = replace(PLAIN, sources=(source,), fingerprints={source: "f"}, seed=seed, relations=relations, **changes)
    cells = tuple(Cell(name, "f", relations[name], confusion(right, 100 - right)) for name, right in rights.items())
    return finished(replace(spec, targets=dict.fromkeys(rights, "f")), cells=cells)


MATRIX = [
    entry("a", {"a": 90, "b": 60, "c": 50}),
    entry("b", {"a": 70, "b": 80, "c": 40}),
    entry("c", {"a": 50, "b": 40, "c": 60}),
]


REAL = [entry("rafdb", {"rafdb": 90, "ferplus": 60, "own": 50})]


def ranked(records: list[RunRecord]) -> list[tables.Board]:
    return list(tables.boards(cells_frame(records), "accuracy"))


def board(records: list[RunRecord], metric: str = "accuracy") -> tables.Board:
    (only,) = tables.boards(cells_frame(records), metric)
    return only


def collapsing(record: RunRecord, target: str, said: int = 3) -> RunRecord:
    """The record of a run that called every face of a target the same; seven of seventy are right."""
    matrix = np.zeros((7, 7), int)
    matrix[:, said] = 10
    cells = (replace(cell, confusion=matrix.tolist()) if cell.target == target else cell for cell in record.cells)
    return replace(record, cells=tuple(cells))


def shown(
    records: list[RunRecord],
    width: int = 80,
    tabulated: list[published.Published] | None = None,
    matrices: bool = False,
) -> str:
    console = Console(file=StringIO(), width=width)
    terminal.show(console, views(ranked(records)), tabulated or [], matrices=matrices)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return text


def on(device: str, records: list[RunRecord], fit: float) -> list[RunRecord]:
    return [replace(item, environment={"device": device, "cuda": "12"}, seconds={"fit": fit}) for item in records]


def adapted(source: str, target: str, own: int, right: int, seed: int = 0) -> RunRecord:
    record = entry(source, {source: own, target: right}, seed=seed, method="coral", adaptation_target=target)
    return replace(record, spec=replace(record.spec, fingerprints={source: "f", target: "f"}))


ADAPTED = [adapted("a", "b", 90, 60), adapted("a", "c", 80, 50), adapted("b", "a", 70, 40), adapted("b", "c", 74, 46)]


def views(boards: Iterable[tables.Board], metric: str = "accuracy") -> list[LeaderboardView]:
    """Return the views of leaderboards."""
    return [LeaderboardView(board, metric) for board in boards]


def with_annotators(records: Iterable[RunRecord], shares: dict[str, float]) -> list[RunRecord]:
    """Return records whose data state the agreement of a single annotator with the labels of some targets."""
    return [
        replace(
            record, data={name: DataFacts(annotator=shares.get(name), scored="test") for name in record.spec.targets}
        )
        for record in records
    ]


KNOWN = with_annotators(MATRIX, {"a": 0.85, "b": 0.75, "c": 0.6})
