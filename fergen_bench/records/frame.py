"""Records as pandas tables: one row per scored cell."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fergen_bench.experiment.run import Run
from fergen_bench.records.record import RunRecord

if TYPE_CHECKING:
    import pandas as pd


def current(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The records that belong together, in the order given: what a newer one has made obsolete is left out.

    Obsolete are runs of a row of the tables under another version, other defaults or other weights than its newest run,
    and runs and cells on a domain in another state than the newest record knows.
    """
    given = list(records)
    rows: dict[Any, Any] = {}
    states: dict[Any, str] = {}
    for record in sorted(given, key=lambda entry: entry.started, reverse=True):
        spec = record.spec
        rows.setdefault(row_of(spec), _making(spec))
        for name, fingerprint in {**spec.targets, **spec.fingerprints}.items():
            states.setdefault((spec.suite, spec.profile, name), fingerprint)
    kept = []
    for record in given:
        spec = record.spec
        fresh = {name: states[spec.suite, spec.profile, name] for name in {*spec.fingerprints, *spec.targets}}
        if rows[row_of(spec)] != _making(spec) or any(fresh[name] != was for name, was in spec.fingerprints.items()):
            continue
        cells = tuple(cell for cell in record.cells if cell.fingerprint == fresh[cell.target])
        shifted = tuple(cell for cell in record.shifted if cell.fingerprint == fresh.get(cell.target))
        kept.append(replace(record, cells=cells, shifted=shifted))
    return kept


def row_of(spec: Run) -> tuple[Any, ...]:
    """What names a row of a table."""
    return spec.suite, spec.profile, spec.selection, spec.fraction, spec.adaptation_target, spec.label


def _making(spec: Run) -> str:
    """What all runs of a row must share."""
    identity = spec.identity()
    return json.dumps([identity["version"], identity["parameters"], identity["weights"]], sort_keys=True)


def cells_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per cell, with the run's identity, the metrics (in per cent) and their counts."""
    import pandas as pd

    rows = []
    for record in records:
        run = _run_columns(record)
        for cell in record.cells:
            about = {"target": cell.target, "relation": cell.relation, "mark": cell.mark, "audited": cell.audited}
            about |= {"stale": ", ".join(cell.stale), "left_out": len(cell.left_out or ()), "uncounted": cell.uncounted}
            about |= {"seen_share": cell.seen_share}
            rows.append({**run, **about, **_score_columns(cell.confusion)})
    return pd.DataFrame(rows)


def shifted_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per shifted cell, as `cells_frame` has them for the others, with the factor and its level."""
    import pandas as pd

    rows = []
    for record in records:
        run = _run_columns(record) if record.shifted else {}
        for cell in record.shifted:
            about: dict[str, Any] = {"target": cell.target, "relation": cell.relation}
            about |= {"factor": cell.factor, "level": cell.level}
            about |= {"asked": cell.faces, "factor_version": cell.version}
            rows.append({**run, **about, **_score_columns(cell.confusion)})
    return pd.DataFrame(rows)


def _run_columns(record: RunRecord) -> dict[str, Any]:
    """What all cells of a run have in common."""
    spec = record.spec
    # A name says it all where there are no weights: synth-trunk/scratch.
    networks = (
        network["name"] if network["name"].endswith(network["digest"]) else f"{network['name']} {network['digest'][:6]}"
        for network in record.networks.values()
    )
    return {
        "suite": spec.suite,
        "synthetic": spec.synthetic,
        "profile": spec.profile,
        "selection": spec.selection,
        "method": spec.label,
        "base_method": spec.method,
        "version": spec.version,
        "digest": record.method_digest,
        "changes": json.dumps(spec.changes, sort_keys=True),
        "pretraining": ", ".join(sorted(networks)) or "none",
        "note": spec.note,
        "source": "+".join(spec.sources),
        "sources": len(spec.sources),
        "adaptation": spec.adaptation_target is not None,
        "adapted_to": spec.adaptation_target or "",
        "fraction": spec.fraction,
        "seed": spec.seed,
        "key": spec.key,
        "device": record.device,
        # A run that told where its time went took longer than it would have.
        "fit_seconds": float("nan") if record.environment.get("profiled") else record.seconds.get("fit", float("nan")),
    }


def _score_columns(confusion: list[list[int]]) -> dict[str, float]:
    import numpy as np

    from fergen_bench.data.labels import EXPRESSIONS
    from fergen_bench.metric import METRICS, recalls

    counts = np.array(confusion)
    shares = (100.0 * recalls(counts)).tolist()
    return {
        "faces": int(counts.sum()),
        **{name: 100.0 * function(counts) for name, function in METRICS.items()},
        **{f"recall_{name}": share for name, share in zip(EXPRESSIONS, shares, strict=True)},
    }
