"""The simulation of benchmarks/inference.py: one small table in each kind of world."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import numpy as np
import pytest

from conftest import ROOT
from fergen_bench.report import statistics

sys.path.insert(0, str(ROOT / "benchmarks"))

import inference


def test_a_simulated_table_has_the_truth_in_its_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "DRAWS", 100)
    world = inference.World("small", faces=(200,) * 5, collapsing=0.2)
    table = inference.simulated(world, np.random.default_rng(0), rows=5, seeds=2)
    means = [cells[cells.relation == "unseen"].accuracy.mean() for cells in table.cells]
    assert means == pytest.approx(table.conditional[2], abs=6)  # 200 faces a target, which all rows share
    found: Any = defaultdict(list)
    inference.measure(world, table, [1, 2], found)
    assert len(found["mean", 2]) == 5
    assert np.mean(found["mean over domains", 2]) == 1
    assert all(line.count("|") == 7 for line in inference.report(found))
