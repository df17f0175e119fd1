"""`fb.run` executes what is missing, and raises where a run fails."""

from __future__ import annotations

import pytest

import fergen_bench as fb
from fergen_bench.experiment.project import Project


def test_run_returns_the_results_of_its_runs_and_repeats_none(results: fb.Results, project: Project) -> None:
    assert [record.spec.method for record in results.records] == ["linear_probe"] * 2 + ["nearest_prototype"] * 2
    files = {path: path.stat().st_mtime_ns for path in (project.results / "runs").rglob("*.json")}
    assert len(files) == 4
    again = fb.run(methods="linear_probe", seeds=[0], sources=["web"], jobs=0, track=False)
    assert [record.spec.sources for record in again.records] == [("web",)]
    assert files == {path: path.stat().st_mtime_ns for path in (project.results / "runs").rglob("*.json")}
    assert not (project.results / "mlflow.db").exists()


def test_a_failing_run_raises_and_the_others_have_records(project: Project) -> None:
    (project.root / "methods").mkdir()
    (project.root / "methods" / "mine.py").write_text(
        "from dataclasses import dataclass\nimport torch\nfrom fergen_bench import Method\n"
        "@dataclass\nclass Mine(Method):\n    def fit(self, source, ctx):\n        1 / (ctx.seed - 1)\n"
        "    def predict(self, images):\n        return torch.zeros(len(images), 7)\n"
    )
    with pytest.raises(fb.BenchError, match=r"1 of 2 runs did not end; .* mine on web, seed 1: ZeroDivisionError"):
        fb.run(methods=["mine"], seeds=[0, 1], sources=["web"], jobs=0, track=False)
    assert len(list((project.results / "runs").rglob("*.json"))) == 1
