"""Build the data of the page's script: numbers and confusions of cells, pairs of rows, provenance and files."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from fergen_bench.experiment.run import shown_value
from fergen_bench.records.collection import Records
from fergen_bench.records.record import RunRecord
from fergen_bench.report.comparison import Comparison, answer
from fergen_bench.report.leaderboard import LeaderboardView
from fergen_bench.report.pairs import compared_pairs
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import Board, Matrix, ordered


def as_json(content: Any) -> Markup:
    """Return JSON for a script element, in which no text can end the element."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


def compressed(path: Path) -> str:
    """Return the content of a file, gzip in base64, the same for the same content."""
    return base64.b64encode(gzip.compress(path.read_bytes(), mtime=0)).decode()


def row_indices(board: Board) -> dict[tuple[str, str], int]:
    """Return the index of each method and pre-training in a leaderboard, by which the script finds a row's data."""
    return {row: index for index, row in enumerate(board.names())}


def board_data(
    views: Mapping[str, LeaderboardView], records: Sequence[RunRecord], evidence: Evidence
) -> dict[str, Any]:
    """Return rows with their cells, in the order of the first metric, and the pairs of rows under each metric."""
    first = next(iter(views.values()))
    sources, targets = ordered(first.board.cells.source, first.board.cells.target)
    by_key = {record.spec.key: record for record in records}
    matrices = {
        metric: dict(zip(view.board.names(), (found for _, found in view.matrices), strict=True))
        for metric, view in views.items()
    }
    return {
        "sources": sources,
        "targets": targets,
        "title": first.title,
        "rows": [
            _row(name, cells, {metric: found[row] for metric, found in matrices.items()}, by_key)
            for row, (name, cells) in zip(first.board.names(), first.board.rows(), strict=True)
        ],
        "pairs": {metric: _pairs(view, row_indices(first.board), evidence) for metric, view in views.items()},
    }


def _row(
    name: str, cells: pd.DataFrame, by_metric: Mapping[str, Matrix], by_key: Mapping[str, RunRecord]
) -> dict[str, Any]:
    """Return a row: for each cell its numbers by metric, its runs and the sum of their confusions."""
    runs: dict[tuple[str, str], list[Any]] = {}
    for cell in cells[["source", "target", "relation", "key", "seed", "faces", *by_metric]].itertuples():
        runs.setdefault((cell.source, cell.target), []).append(cell)
    first = next(iter(by_metric.values()))
    sources, targets = (list(names) for names in (first.mean.index, first.mean.columns))
    marks = first.marks.to_numpy()
    numbers = {metric: (found.mean.to_numpy(), found.spread.to_numpy()) for metric, found in by_metric.items()}
    parts = {}
    for (source, target), own in runs.items():
        place = sources.index(source), targets.index(target)
        relation, mark = own[0].relation, marks[place]
        parts[f"{source}|{target}"] = {
            "mean": {metric: _plain(mean[place]) for metric, (mean, _) in numbers.items()},
            "sd": {metric: _plain(spread[place]) for metric, (_, spread) in numbers.items()},
            "relation": relation,
            "said": mark if relation in mark else ", ".join(filter(None, [relation, mark])),
            "runs": [
                [cell.key, cell.seed, {metric: _plain(getattr(cell, metric)) for metric in by_metric}, cell.faces]
                for cell in own
            ],
            "confusion": np.sum([_confusion(by_key[cell.key], target) for cell in own], axis=0).ravel().tolist(),
        }
    spec = by_key[cells.key.iloc[0]].spec
    return {
        "name": name,
        # The path of weights on the author's machine is private.
        "parameters": {
            parameter: str(shown_value(value, spec.weights[parameter]) if parameter in spec.weights else value)
            for parameter, value in spec.parameters.items()
        },
        "changes": list(spec.changes),
        "cells": {f"{s}|{t}": parts[f"{s}|{t}"] for s in sources for t in targets if f"{s}|{t}" in parts},
    }


def _confusion(record: RunRecord, target: str) -> np.ndarray:
    cell = record.cell(target)
    assert cell is not None
    return np.array(cell.confusion)


def _plain(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 6)  # page.js rounds as rounding.py does


def _pairs(view: LeaderboardView, places: Mapping[tuple[str, str], int], evidence: Evidence) -> dict[str, list[Any]]:
    """Return the comparison of each pair of rows, by "better row,other row"."""
    names = view.board.names()
    rows = list(names)
    found = {}
    for one, other, result in compared_pairs(view.board, evidence, view.metric):
        said = answer(names[rows[other]], names[rows[one]], result)
        found[f"{places[rows[one]]},{places[rows[other]]}"] = [said, _difference(result), _by_target(result)]
    return found


def _difference(found: Comparison) -> list[float | None]:
    """Return value, interval, p, and the interval over domains too."""
    unseen = found.unseen
    numbers = (unseen.value, unseen.low, unseen.high, unseen.p, unseen.domains_low, unseen.domains_high)
    return [None if pd.isna(number) else round(float(number), 4) for number in numbers]


def _by_target(found: Comparison) -> list[list[Any]]:
    """Return target, faces, difference, interval and corrected p of each target."""
    return [
        [row.target, row.faces, *(None if pd.isna(n) else round(float(n), 4) for n in numbers)]
        for row in found.targets.itertuples()
        for numbers in [(row.difference, row.low, row.high, row.p_holm)]
    ]


def provenance(records: Sequence[RunRecord], stored: Records) -> dict[str, Any]:
    """Return the provenance of each record. Equal environments are stored once."""
    environments: dict[str, int] = {}
    found = {}
    for record in records:
        spec = record.spec
        text = json.dumps(dict(record.environment), sort_keys=True)
        found[spec.key] = {
            "file": stored.name(record),
            "method": f"{spec.method}, version {spec.version}, numerics {spec.numerics}, {spec.precision}",
            "text": record.method_digest[:12] + (f", base {record.base_digest[:12]}" if record.base_digest else ""),
            "protocol": spec.protocol,
            "started": record.started,
            "seconds": {name: round(value, 1) for name, value in record.seconds.items()},
            "epoch": record.selected_epoch,
            "networks": [[name, net["name"], net["digest"]] for name, net in record.networks.items()],
            "learned": {name: spec.fingerprints[name] for name in spec.sources if name in spec.fingerprints},
            "adapted": spec.adaptation_target,
            "environment": environments.setdefault(text, len(environments)),
        }
    return {"records": found, "environments": [json.loads(text) for text in environments]}
