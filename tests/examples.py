"""An example run with its record and predictions, which several test modules share."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fergen_bench.experiment.run import Run
from fergen_bench.files.bounded import checksum_of
from fergen_bench.records.record import Cell, Predictions, RunRecord

SPEC = Run(
    suite="s",
    profile="official",
    sources=("a",),
    fingerprints={"a": "f1"},
    method="cafe",
    version=1,
    parameters={"lr": 0.1, "gate": "sigmoid", "backbone": "synth//home/me/w.pt"},
    weights={"backbone": "d1"},
    seed=0,
    selection="last",
    targets={"a": "f1", "b": "f2"},
    relations={"a": "source", "b": "unseen"},
    defaults={"lr": 0.1, "gate": "linear", "backbone": "synth//home/me/w.pt"},
)


def finished(spec: Run = SPEC, **changes: Any) -> RunRecord:
    """Return a record of a run with perfect scores on all targets."""
    cells = tuple(
        Cell(name, fingerprint, spec.relations[name], np.eye(7, dtype=int).tolist())
        for name, fingerprint in spec.targets.items()
    )
    values: dict[str, Any] = {
        "cells": cells,
        "history": ({"epoch": 1, "loss": 0.5},),
        "selected_epoch": None,
        "networks": {"backbone": {"name": "synth", "digest": "d1" * 8}},
        "environment": {"torch": "2"},
        "seconds": {"fit": 1.0, "score": 0.5},
        "started": "2026-01-01T00:00:00+00:00",
        "method_digest": "m" * 64,
    }
    return RunRecord(spec=spec, **{**values, **changes})


def example_predictions(count: int, value: float = 0.5) -> Predictions:
    """Return equal logits for some images, of which the second one is not scored."""
    return Predictions(np.full((count, 7), value), np.arange(count) % 7, np.arange(count) == 1)


def litter(path: Path) -> int:
    """Create the files that sync services, file managers and people leave next to a record and its folders.

    Returns:
        The number of JSON files among them.
    """
    method, suite = path.parent, path.parent.parent
    names = (
        f"{path.stem} (1).json",
        f"{path.stem} - Copy.json",
        f"{path.stem}.sync-conflict-20260101-120000-ABCDEFG.json",
        f"{path.stem}-DESKTOP.json",
        f"{path.stem}_conflict-0a1b2c3d4e5f.json",
        "a-s9-0a1b2c3d4e5f.json",
        f"copy-{path.name}",
    )
    for name in names:
        shutil.copy(path, method / name)
    (method / f"._{path.name}").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        ")
    (method / "notes.json").write_text("{}")
    (method / ".DS_Store").write_text("x")
    for folder in (suite / f"{method.name} (1)", suite.with_name(f"{suite.name}.bak") / method.name):
        folder.mkdir(parents=True)
        shutil.copy(path, folder)
    return len(names) + 4


FINGERPRINTS = {
    "web": "d1f6495b9dbce868",
    "grey48": "29a0dfb47b4c270f",
    "wild": "01aeb6481dca2832",
    "film": "fc418741ffd0a6bb",
    "scrape": "62a60c229101e6a2",
}
"""Fingerprints of all images and labels of synth5."""


def rewritten(path: Path, change: Callable[[dict[str, Any]], None], signed: bool = True) -> None:
    """Change the file of a record, and sign it with a checksum that fits unless `signed` is false."""
    content = json.loads(path.read_text())
    content.pop("checksum")
    change(content)
    path.write_text(json.dumps({**content, "checksum": checksum_of(content)} if signed else content))
