"""Records as pandas tables: one row per scored cell."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fergen_bench.experiment.run import Run
from fergen_bench.records.record import RunRecord

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


def current(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records that are not obsolete, in the given order.

    A record is obsolete if the newest run in its row of the tables has another version, other numerics, other
    defaults or other weights, or if a newer record has another fingerprint of one of the domains that it learned from.
    Cells on a target with an outdated fingerprint are removed.
    """
    given = list(records)
    rows: dict[Any, Any] = {}
    states: dict[Any, str] = {}
    shared = {id(record): (row_of(record.spec), _shared_identity(record.spec)) for record in given}
    for record in sorted(given, key=lambda entry: entry.started, reverse=True):
        spec = record.spec
        rows.setdefault(*shared[id(record)])
        for name, fingerprint in {**spec.targets, **spec.fingerprints}.items():
            states.setdefault((spec.suite, spec.profile, name), fingerprint)
    kept = []
    for record in given:
        spec = record.spec
        fresh = {name: states[spec.suite, spec.profile, name] for name in {*spec.fingerprints, *spec.targets}}
        row, identity = shared[id(record)]
        if rows[row] != identity or any(fresh[name] != was for name, was in spec.fingerprints.items()):
            continue
        cells = tuple(cell for cell in record.cells if cell.fingerprint == fresh[cell.target])
        shifted = tuple(cell for cell in record.shifted if cell.fingerprint == fresh.get(cell.target))
        whole = len(cells) == len(record.cells) and len(shifted) == len(record.shifted)
        kept.append(record if whole else replace(record, cells=cells, shifted=shifted))
    return kept


def row_of(spec: Run) -> tuple[Any, ...]:
    """Return the values that identify the row of a run in the tables."""
    return spec.suite, spec.profile, spec.selection, spec.fraction, spec.adaptation_target, spec.label


def _shared_identity(spec: Run) -> str:
    """Return the part of a run's identity that all runs of a row share, as JSON."""
    return json.dumps(spec.shared_identity(), sort_keys=True)


def cells_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return a table with a row per cell: the identity of the run, the metrics in per cent and the counts."""
    rows, confusions = [], []
    for record in records:
        run = _run_columns(record)
        for cell in record.cells:
            about = {"target": cell.target, "relation": cell.relation, "mark": cell.mark, "audited": cell.audited}
            about |= {"stale": ", ".join(cell.stale), "left_out": len(cell.left_out or ()), "uncounted": cell.uncounted}
            about |= {"seen_share": cell.seen_share, "annotator": _annotator(record, cell.target)}
            about |= {"pretraining_saw": cell.pretraining_saw, "pretraining_reason": cell.pretraining_reason}
            rows.append({**run, **about})
            confusions.append(cell.confusion)
    return _table(rows, confusions)


def shifted_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """Return a table like that of `cells_frame` with a row per corrupted cell, its factor and its level."""
    rows, confusions = [], []
    for record in records:
        run = _run_columns(record) if record.shifted else {}
        for cell in record.shifted:
            about: dict[str, Any] = {"target": cell.target, "relation": cell.relation}
            about |= {"factor": cell.factor, "level": cell.level}
            about |= {"asked": cell.faces, "factor_version": cell.version}
            rows.append({**run, **about})
            confusions.append(cell.confusion)
    return _table(rows, confusions)


def _table(rows: Sequence[Mapping[str, Any]], confusions: Sequence[list[list[int]]]) -> pd.DataFrame:
    """Return rows with equal columns as a table, with the scores of each.

    Texts are Python objects, since those of Arrow take long to select.
    """
    import pandas as pd

    if not rows:
        return pd.DataFrame()
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]} | _score_columns(confusions)
    table = pd.DataFrame(
        {name: pd.Series(of, dtype=object) if isinstance(of[0], str) else of for name, of in columns.items()}
    )
    return table.set_axis(pd.Index([*columns], dtype=object), axis=1)


def _run_columns(record: RunRecord) -> dict[str, Any]:
    """Return the columns that all cells of a run share."""
    spec = record.spec
    # The name alone suffices for networks without weights, such as synth-trunk/scratch.
    networks = {
        network["name"] if network["name"].endswith(network["digest"]) else f"{network['name']} {network['digest'][:6]}"
        for network in record.networks.values()
    }
    finished = spec.exposure is not None
    return {
        "suite": spec.suite,
        "synthetic": spec.synthetic,
        "profile": spec.profile,
        "selection": spec.selection,
        "method": spec.label,
        "base_method": spec.method,
        "version": spec.version,
        "numerics": spec.numerics,
        "precision": spec.precision,
        "views": "+".join(spec.views),
        "prior": spec.prior,
        "digest": record.method_digest,
        "base": spec.base.label if spec.base else "",
        "base_digest": record.base_digest,
        "changes": json.dumps(spec.changes, sort_keys=True),
        "pretraining": str(spec.exposure) if finished else ", ".join(sorted(networks)) or "none",
        "note": spec.note,
        # Finished models share one row of the matrix, whatever they were trained on, so that their means compare.
        "source": "their own data" if finished else "+".join(spec.sources),
        "sources": len(spec.sources),
        "adaptation": spec.adaptation_target is not None,
        "adapted_to": spec.adaptation_target or "",
        "online": spec.online,
        "fraction": spec.fraction,
        "seed": spec.seed,
        "key": spec.key,
        **source_val_columns(record.source_val),
        "device": record.device,
        "fit_seconds": fit_seconds(record),
    }


def fit_seconds(record: RunRecord) -> float:
    """Return the seconds of a run's training without scoring; nan where they are unknown.

    An online method learns while it is scored: its seconds are those of adapting to all targets and predicting them,
    without the training of its base.
    """
    # The profiler makes a run slower, so its duration does not count.
    if record.environment.get("profiled"):
        return float("nan")
    seconds = record.seconds.get("fit", float("nan"))
    return seconds + record.seconds.get("score", float("nan")) if record.spec.online else seconds


SOURCE_VAL = {"source_val_accuracy": "accuracy", "source_val_balanced_accuracy": "balanced_accuracy"}
"""The columns with a run's scores on images held out of its sources, and the metric of each."""


def source_val_columns(confusion: list[list[int]] | None) -> dict[str, float]:
    """Return the scores on held-out images, in per cent; nan where there are none."""
    import numpy as np

    from fergen_bench.metric import METRICS

    if confusion is None:
        return dict.fromkeys(SOURCE_VAL, float("nan"))
    return {column: 100.0 * METRICS[metric](np.array(confusion)) for column, metric in SOURCE_VAL.items()}


def _annotator(record: RunRecord, target: str) -> float:
    """Return the agreement of a single annotator with the labels of a target, in per cent; nan where unknown."""
    facts = record.data.get(target)
    return float("nan") if facts is None or facts.annotator is None else 100.0 * facts.annotator


def _score_columns(confusions: Sequence[list[list[int]]]) -> dict[str, np.ndarray]:
    import numpy as np

    from fergen_bench.data.labels import EXPRESSIONS
    from fergen_bench.metric import metrics_of_many, recalls

    counts = np.array(confusions)
    return {
        "faces": counts.sum((1, 2)),
        **{name: 100.0 * values for name, values in metrics_of_many(counts).items()},
        **{f"recall_{name}": share for name, share in zip(EXPRESSIONS, 100.0 * recalls(counts).T, strict=True)},
    }
