"""Compute what the mirror in MLflow shows: metrics of records, means of rows, and the view of their table."""

from __future__ import annotations

import hashlib
import json
import math
import posixpath
import re
from collections.abc import Mapping, Sequence

from fergen_bench.experiment.run import Run
from fergen_bench.metric import METRICS
from fergen_bench.records.record import RunRecord

ROW = "fergen.row"
"""A tag of the runs that have the means of a row of the tables: the name of the row."""
VIEW = "fergen-bench"
"""The name of the stored view of the experiment: a table of the means and parameters of the rows."""
PARTS = {"unseen": ("unseen",), "in_domain": ("source",), "all": ("source", "seen", "unseen")}
"""The means of a record, and the relations of the cells in each."""


def metric_name(name: str) -> str:
    """Return the name of a loss term or score in the characters that MLflow accepts."""
    return posixpath.normpath(re.sub(r"[^\w/.\- ]", "_", name).strip("/") or "_")


def metrics_of(record: RunRecord) -> dict[str, float]:
    """Return metrics in 0..1 per target, and their means over all, in-domain and unseen targets, where defined."""
    import numpy as np

    values: dict[str, float] = {}
    for name, function in METRICS.items():
        by_target = {cell.target: function(np.array(cell.confusion)) for cell in record.cells}
        values |= {f"{name}/{target}": score for target, score in by_target.items()}
        for part, relations in PARTS.items():
            scores = [by_target[cell.target] for cell in record.cells if cell.relation in relations]
            if scores:
                values[f"{name}/mean_{part}"] = float(np.mean(scores))
                values[f"cells/{part}"] = float(len(scores))
    if record.source_val is not None:
        for name in ("accuracy", "balanced_accuracy"):
            values[f"{name}/source_val"] = METRICS[name](np.array(record.source_val))
    return {name: value for name, value in values.items() if math.isfinite(value)} | {
        f"seconds/{n}": s for n, s in record.seconds.items()
    }


def means_over_seeds(records: Sequence[tuple[str, Mapping[str, float]]]) -> dict[str, float]:
    """Return the means of a row, and their standard deviations over seeds where there are two seeds.

    Args:
        records: The seed and the metrics of each record.
    """
    import numpy as np

    found: dict[str, float] = {}
    for part in PARTS:
        sums: dict[str, dict[str, float]] = {}
        for seed, metrics in records:
            cells = metrics.get(f"cells/{part}", 0.0)
            of_seed = sums.setdefault(seed, dict.fromkeys(("cells", *METRICS), 0.0))
            of_seed["cells"] += cells
            for name in METRICS:
                of_seed[name] += cells * metrics.get(f"{name}/mean_{part}", math.nan if cells else 0.0)
        most = max((of_seed["cells"] for of_seed in sums.values()), default=0.0)
        whole = [of_seed for of_seed in sums.values() if of_seed["cells"] == most > 0]
        for name in METRICS:
            means = [of_seed[name] / most for of_seed in whole]
            if means and all(map(math.isfinite, means)):
                found[f"{name}/mean_{part}"] = float(np.mean(means))
                if len(means) > 1:
                    found[f"{name}/sd_{part}"] = float(np.std(means, ddof=1))
        if part == "unseen":
            found["seeds"] = float(len(whole))
    return found


def row_digest(spec: Run) -> str:
    """Return a digest of what the records of a row share."""
    shared: list[object] = [
        spec.label,
        spec.profile,
        spec.selection,
        spec.fraction,
        len(spec.sources),
        spec.adaptation_target is None,
    ]
    shared += spec.shared_identity()
    return hashlib.sha256(json.dumps(shared, sort_keys=True, default=str).encode()).hexdigest()[:12]


def view_state() -> str:
    """Return the state of MLflow's page that shows the means of the rows as a table, best first."""
    columns = [f"metrics.`{name}/mean_unseen`" for name in METRICS]
    columns += ["metrics.`accuracy/sd_unseen`", "metrics.`accuracy/mean_in_domain`", "metrics.`accuracy/mean_all`"]
    columns += [
        "metrics.`seeds`",
        "metrics.`records`",
        "params.`backbone`",
        "params.`learning_rate`",
        "params.`epochs`",
    ]
    state = {
        "searchFilter": f"tags.`{ROW}` LIKE '%'",
        "orderByKey": "metrics.`accuracy/mean_unseen`",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
    }
    return json.dumps(state)


def view_address(port: int, experiment: str) -> str:
    """Return the address of the table of means on MLflow's web server."""
    return f"http://127.0.0.1:{port}/#/experiments/{experiment}/runs?viewStateShareKey={VIEW}"
