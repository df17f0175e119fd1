"""Build the frames behind a leaderboard: training curves, recall by expression, reliability and the values of masks.

Functions take the records of each row by the row's name, in the order of the leaderboard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.metric import recalls
from fergen_bench.records.collection import Records
from fergen_bench.records.record import RunRecord
from fergen_bench.report.tables import Board, complete

Rows = Mapping[str, Sequence[RunRecord]]
"""The records of each row, by its name."""


def rows_of(board: Board, records: Mapping[str, RunRecord], whole: bool = False) -> dict[str, list[RunRecord]]:
    """Return the records of each row of a leaderboard.

    Args:
        board: The leaderboard.
        records: Records by key.
        whole: Return only the records of seeds that have every cell, and omit rows without such a seed, since their
            means would cover other cells.
    """
    rows = ((name, complete(cells, board.asked) if whole else cells) for name, cells in board.rows())
    return {name: [records[key] for key in cells.key.unique()] for name, cells in rows if len(cells)}


def histories(rows: Rows) -> pd.DataFrame:
    """Return one line per epoch of each run.

    Columns: row, source, seed, device, epoch, loss, val_accuracy (%) and images_per_second. A value that a method does
    not report is nan, and a method without epochs contributes nothing.
    """
    columns = ["row", "source", "seed", "device", "epoch", "loss", "val_accuracy", "images_per_second"]
    lines = [
        {
            "row": name,
            "source": "+".join(record.spec.sources),
            "seed": record.spec.seed,
            "device": record.device,
            **{column: float(entry.get(column, np.nan)) for column in columns[4:]},
        }
        for name, records in rows.items()
        for record in records
        for entry in record.history
    ]
    frame = pd.DataFrame(lines, columns=columns)
    frame.val_accuracy *= 100
    return frame


def recall_table(rows: Rows, relation: str = "unseen") -> pd.DataFrame:
    """Return the recall of each expression (%), row x expression: the mean over the cells of a relation and over seeds.

    A cell without faces of an expression does not count for that expression.
    """
    found = {}
    for name, records in rows.items():
        shares = [recalls(np.array(c.confusion)) for record in records for c in record.cells if c.relation == relation]
        found[name] = pd.DataFrame(shares, columns=list(EXPRESSIONS)).mean()
    return 100 * pd.DataFrame(found, dtype=float).T.reindex(columns=list(EXPRESSIONS))


Reliability = Mapping[tuple[str, str], tuple[np.ndarray, np.ndarray | None]]
"""By key of the run and target: the table of `metric.reliability`, before and after temperature scaling."""


def reliability_curves(rows: Rows, counted: Reliability) -> pd.DataFrame:
    """Return the accuracy of each row in bins of its confidence.

    Columns: row, relation (source or unseen), confidence (mean of the largest probability, 0..1), accuracy (0..1) and
    faces. Empty bins are left out; every face of every cell and seed of a row counts once.
    """
    lines = []
    for name, records in rows.items():
        for relation in ("source", "unseen"):
            places = [(r.spec.key, cell.target) for r in records for cell in r.cells if cell.relation == relation]
            known = [counted[place][0] for place in places if place in counted]
            for faces, confidence, right in np.sum(known, axis=0) if known else ():
                if faces:
                    lines.append((name, relation, confidence / faces, right / faces, int(faces)))
    return pd.DataFrame(lines, columns=["row", "relation", "confidence", "accuracy", "faces"])


# ---------------------------------------------------------------------------------------------------------------- masks


@dataclass(frozen=True)
class Inspected:
    """Statistics of one value from a method's `inspect`, over the faces of one target in one run.

    Attributes:
        name: The method's name for the value, such as mask.
        key: The key of the run.
        source: The training sources, joined by +.
        seed: The seed of the run.
        target: The name of the target.
        relation: source, seen or unseen.
        mean: Float (7, C), nan for an expression without faces.
        count: Int (7,).
        varying: Int (V,), the channels that vary most between faces, largest variation first.
        top: Int (V, 8), the indices in the target's scored split of the faces with the largest values.
    """

    name: str
    key: str
    source: str
    seed: int
    target: str
    relation: str
    mean: np.ndarray
    count: np.ndarray
    varying: np.ndarray
    top: np.ndarray


def inspected(records: Sequence[RunRecord], stored: Records) -> dict[str, list[Inspected]]:
    """Return the stored `inspect` statistics of runs, by the name of the value.

    Runs without any and unreadable files are skipped.
    """
    found: dict[str, list[Inspected]] = {}
    for record in records:
        try:
            arrays = stored.arrays(record)
        except BenchError:
            continue
        for entry in _inspected(record, arrays):
            found.setdefault(entry.name, []).append(entry)
    return found


def _inspected(record: RunRecord, arrays: Mapping[str, np.ndarray]) -> Iterator[Inspected]:
    parts = ("mean", "count", "varying", "top")
    for cell in record.cells:
        for kept in arrays:
            target, _, rest = kept.partition(".")
            name = rest.removesuffix(".mean")
            if target != cell.target or name == rest or not all(f"{target}.{name}.{part}" in arrays for part in parts):
                continue
            mean, count, varying, top = (arrays[f"{target}.{name}.{part}"] for part in parts)
            spec = record.spec
            identity = (name, spec.key, "+".join(spec.sources), spec.seed, target, cell.relation)
            yield Inspected(*identity, mean.astype(np.float32), count, varying, top)


def class_means(entries: Sequence[Inspected]) -> np.ndarray:
    """Return the mean of each expression over runs and targets, every face weighted equally: (7, C), nan if empty."""
    weights = np.array([entry.count for entry in entries], float)[:, :, None]
    values = np.array([np.nan_to_num(entry.mean) for entry in entries])
    with np.errstate(invalid="ignore"):
        return (weights * values).sum(0) / weights.sum(0)


def domain_means(entries: Sequence[Inspected], by: str) -> dict[str, np.ndarray]:
    """Return the mean over the seven expressions, weighted equally, by "target" or "source": (C,) each."""
    names = dict.fromkeys(getattr(entry, by) for entry in entries)
    return {
        name: np.nanmean(class_means([entry for entry in entries if getattr(entry, by) == name]), axis=0)
        for name in names
    }


def similarity(vectors: np.ndarray, channel_means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the cosines of vectors (K, C), and their correlations after the mean of each channel (C,) is subtracted.

    Values in [1/2, 1), as in masks, have cosines near 1 whatever their pattern; the correlations show the pattern. Both
    results are (K, K), with nan where a vector contains nan.
    """

    def cosines(rows: np.ndarray) -> np.ndarray:
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            units = rows / norms
        return units @ units.T

    left = vectors - channel_means
    return cosines(vectors), cosines(left - left.mean(1, keepdims=True))
