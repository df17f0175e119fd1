"""Records with predictions, and packed folders of them, for several test modules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from examples import SPEC, finished

from fergen_bench.experiment.run import Run
from fergen_bench.records import store
from fergen_bench.records.collection import RecordFolder
from fergen_bench.records.pack import pack
from fergen_bench.records.record import HELD_OUT, Predictions, ShiftedCell, scored_cell

LABELS = np.random.default_rng(9).integers(0, 7, 40)


def made(runs: Path, spec: Run = SPEC, draw: int | None = None, **changes: Any) -> Path:
    """Write a record with the predictions that it comes from, with scores on changed images and a mask."""
    random = np.random.default_rng(spec.seed if draw is None else draw)
    said = {
        name: Predictions(random.normal(size=(40, 7)), LABELS, np.arange(40) == 3) for name in (*spec.targets, HELD_OUT)
    }
    cells = tuple(scored_cell(spec, name, state, said[name]) for name, state in spec.targets.items())
    shifted = tuple(
        ShiftedCell(name, state, spec.relations[name], "blur", 2.0, 40, 1, cells[0].confusion)
        for name, state in spec.targets.items()
    )
    mask = {
        "b.mask.mean": random.uniform(0.5, 1, (7, 8)),
        "b.mask.count": np.full(7, 4),
        "b.mask.varying": np.arange(2),
        "b.mask.top": np.ones((2, 8), int),
    }
    values = {"cells": cells, "shifted": shifted, **changes}
    return store.save(finished(spec, **values), runs, said, mask)


def results(folder: Path, seeds: int = 2) -> RecordFolder:
    """Return a folder of records of one method, a record per seed."""
    for seed in range(seeds):
        made(folder, replace(SPEC, seed=seed, protocol="p"))
    return RecordFolder(folder)


def packed(folder: Path) -> Path:
    """Return a packed folder with two runs, and the folder that they come from."""
    pack(results(folder / "runs"), folder / "packed")
    return folder / "packed"
