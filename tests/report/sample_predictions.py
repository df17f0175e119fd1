"""Records with stored predictions that tests of statistics share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from examples import SPEC

from fergen_bench.experiment.run import Exposure
from fergen_bench.records.collection import RecordFolder
from fergen_bench.records.frame import cells_frame
from fergen_bench.records.record import HELD_OUT, Predictions, RunRecord, scored_cell
from fergen_bench.records.store import save
from fergen_bench.report import statistics

PLAIN = replace(SPEC, parameters={}, defaults={}, weights={})


DOMAINS = ("a", "b", "c")


def predictions(labels: np.ndarray, right: np.ndarray, left_out: np.ndarray | None = None) -> Predictions:
    """Logits that are right where `right` is True, and predict the next expression elsewhere."""
    logits = 3.0 * np.eye(7)[np.where(right, labels, (labels + 1) % 7)]
    return Predictions(logits, labels, np.zeros(len(labels), bool) if left_out is None else left_out)


def keep(
    runs: Path, said: Mapping[str, Predictions], source: str = "a", kept: bool = True, **changes: Any
) -> RunRecord:
    """A record made from the predictions on each target."""
    spec = replace(
        PLAIN,
        sources=(source,),
        fingerprints={source: "f"},
        targets={name: "f" for name in said if name != HELD_OUT},
        relations={name: "source" if name == source else "unseen" for name in said},
        **changes,
    )
    cells = tuple(scored_cell(spec, name, "f", said[name]) for name in spec.targets)
    record = RunRecord(
        spec, cells, (), None, {"backbone": {"name": "synth", "digest": "d1" * 8}}, {}, {"fit": 1.0}, "2026", "m"
    )
    save(record, runs, said if kept else None)
    return record


def matrix(runs: Path, method: str, skill: float, seeds: int = 2, faces: int = 300, **changes: Any) -> list[RunRecord]:
    """Every domain as a source. A face is got right with the same luck by every run, apart from noise."""
    random = np.random.default_rng(7)
    exams = {name: (random.integers(0, 7, faces), random.random(faces)) for name in DOMAINS}
    records = []
    for source in DOMAINS:
        for seed in range(seeds):
            noise = np.random.default_rng([*source.encode(), seed])
            said = {
                name: predictions(labels, luck + noise.normal(0, 0.05, faces) < skill)
                for name, (labels, luck) in exams.items()
            }
            records.append(keep(runs, said, source, method=method, seed=seed, **changes))
    return records


def elsewhere(runs: Path, said: Mapping[str, Predictions], name: str, *seen: str) -> RunRecord:
    """A record of a finished model that was trained on some of the targets."""
    record = keep(runs, said, method=f"external:{name}")
    relations = {target: "source" if target in seen else "unseen" for target in said}
    spec = replace(record.spec, sources=(), fingerprints={}, relations=relations, exposure=Exposure(seen, ()))
    cells = tuple(replace(cell, relation=relations[cell.target]) for cell in record.cells)
    finished = replace(record, spec=spec, cells=cells, networks={})
    save(finished, runs, said)
    return finished


def gathered(records: list[RunRecord], runs: Path) -> tuple[statistics.Evidence, pd.DataFrame]:
    found = statistics.Evidence(records, RecordFolder(runs))
    return found, found.calibrated(cells_frame(records))
