"""Tests of the profiler of a run."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from fergen_bench.networks.profiler import TRACED, WARM_UP, Profiler, each, phase


def test_phases_of_traced_steps_are_in_the_summary_and_the_trace(tmp_path: Path) -> None:
    profiler = Profiler(tmp_path / "run", torch.device("cpu"))
    for _ in each("data", range(WARM_UP["training"] + TRACED["training"] + 2)):
        profiler.step("training")
        with phase("forward"):
            torch.ones(8, 8) @ torch.ones(8, 8)
    with profiler.evaluating():
        pass
    profiler.write(fit=2.0, score=1.0)
    summary = json.loads((tmp_path / "run.json").read_text())
    assert summary["seconds"] == 3.0
    assert summary["evaluation"] >= 1.0
    assert summary["training"]["steps"] == TRACED["training"]
    assert {"data", "forward"} <= summary["training"]["phases"].keys()
    assert (tmp_path / "run.training.json.gz").is_file()
