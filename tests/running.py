"""Helpers that plan and execute runs of small methods."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

from fergen_bench.data.domain import Domain
from fergen_bench.datasets.comparisons import Comparison, Comparisons, Pair, Rule, Side, State
from fergen_bench.execution import fleet, run_plan
from fergen_bench.execution import plan as planning
from fergen_bench.execution.engine import Engine, Outcome
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import Protocol
from fergen_bench.records import counting, store
from fergen_bench.records.record import RunRecord

METHOD = '''"""A method for tests."""
from dataclasses import dataclass
import os, time
import torch
from fergen_bench import Method
@dataclass
class Probe(Method):
    kind: str = "fine"
    def fit(self, source, ctx):
        print("methods may print")
        ctx.save_array("noise", torch.arange(3))
        if self.kind == "huge": ctx.save_array("huge", torch.zeros(2**22, 2))
        self.noise = torch.rand(7, generator=ctx.generator("noise")) + torch.rand(7)
        if self.kind == "error": raise RuntimeError("it broke")
        if self.kind == "killed": os.kill(os.getpid(), 9)
        if self.kind == "slow": time.sleep(60)
    def predict(self, images):
        logits = images.float().mean((2, 3)) @ torch.ones(3, 7) * self.noise
        if self.kind == "nan": logits[0, 0] = float("nan")
        if self.kind == "shape": logits = logits[:, :6]
        if self.kind == "whole": logits = (100 * logits).long()
        return logits
    def inspect(self, images):
        return {"colour": images.float().mean((2, 3))}
'''


WEB = {"sources": ["web"], "targets": ["web", "film"]}


@pytest.fixture
def lab(project: Project) -> Project:
    """Return a project with the method probe."""
    folder = project.root / "methods"
    folder.mkdir()
    (folder / "probe.py").write_text(METHOD)
    return project


def make_plan(
    project: Project, changes: dict[str, Any] | None = None, protocol: dict[str, Any] | None = None, **options: Any
) -> planning.Plan:
    """Plan runs of the method probe, or another, on synth5-tiny."""
    suite = project.suite("synth5-tiny")
    asked = Protocol.model_validate(
        {"about": "x", "sources": ["web", "film"], "targets": ["web", "film"], "seeds": [0], **(protocol or {})}
    )
    planned = outline(
        asked, "p.yaml", suite, [project.method(options.pop("method", "probe"))], Request(settings=changes or {})
    )
    return planning.make_plan(project, planned, planning.PlanOptions(**options))


def execute(plan: planning.Plan, project: Project, slots: int) -> list[tuple[Outcome, RunRecord | None]]:
    """Execute the missing runs of a plan, in this process where slots is 0."""
    ended: list[tuple[Outcome, RunRecord | None]] = []
    engine = fleet.Fleet(slots).engine("cpu", 100, project.results)
    run_plan.execute(
        plan, project, engine, lambda job, message: None, lambda outcome, entry: ended.append((outcome, entry))
    )
    return ended


def write_audit(project: Project, near: int, *targets: str, part: str = "train") -> None:
    """Comparisons by which the first faces of the targets' test splits have near-duplicates in faces of web."""
    suite, store = project.suite("synth5-tiny"), Comparisons(project.comparisons)
    opened = {name: Domain(folder) for name, folder in project.prepared(suite, ["web", *targets]).items()}
    states = {name: State(name, one.fingerprint, {"train": 300, "test": 100}) for name, one in opened.items()}
    for name in targets:
        ids = opened[name].ids[opened[name].rows("test")].tolist()
        sides = [(states[name], states["web"])]
        pairs = [(Side("test", place, ids[place]), Side(part, place % 100, "x")) for place in range(near)]
        if states[name].fingerprint > states["web"].fingerprint:
            sides, pairs = [(states["web"], states[name])], [(other, one) for one, other in pairs]
        found = tuple(Pair(*pair, "near", 2, 0.99) for pair in pairs)
        store.add(Comparison(*sides[0], Rule("x", 0.96, 6), (), found))


def faces_scored(project: Project, plan: planning.Plan) -> list[int]:
    """Return the number of images scored on each target."""
    found = store.find(plan.runs[0].spec, project.results / "runs")
    assert found is not None
    return [cell.count for cell in found.cells]


def counted(project: Project, records: Iterable[RunRecord], include: bool = False) -> list[RunRecord]:
    """Return records as a report counts them."""
    return counting.counted(records, project, project.results / "runs", include)[0]


def stored(project: Project, plan: planning.Plan) -> RunRecord:
    """Return the record of the first run of a plan."""
    found = store.find(plan.runs[0].spec, project.results / "runs")
    assert found is not None
    return found


def wait_for(condition: Any, seconds: float = 30) -> bool:
    """Return True once a condition holds, or False after some seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return False


NOTED = '''"""A method for tests: notes every training, and takes its time."""
import os, time
from dataclasses import dataclass
from pathlib import Path
import torch
from fergen_bench import Method
@dataclass
class Noted(Method):
    seconds: float = 0.0
    def fit(self, source, ctx):
        with open(Path(__file__).parents[1] / "trainings", "a") as notes:
            notes.write(f"{source.names[0]} {ctx.seed} {os.environ.get('CUDA_VISIBLE_DEVICES', '-')}\\n")
        print("GPU", os.environ.get("CUDA_VISIBLE_DEVICES", "-"), "threads", os.environ.get("OMP_NUM_THREADS", "-"))
        time.sleep(self.seconds)
        self.noise = torch.rand(7, generator=ctx.generator("noise")) + torch.rand(7)
    def predict(self, images):
        return images.float().mean((2, 3)) @ torch.ones(3, 7) * self.noise
'''


@pytest.fixture
def noted_lab(project: Project) -> Project:
    """Return a project with the method noted, which notes every training."""
    folder = project.root / "methods"
    folder.mkdir()
    (folder / "noted.py").write_text(NOTED)
    return project


def plan_noted(lab: Project, seeds: list[int], sources: list[str], **options: Any) -> planning.Plan:
    """Plan runs of the method noted on synth5-tiny."""
    asked = Protocol(about="x", sources=sources, targets=["web", "film"], seeds=seeds)
    settings = options.pop("settings", {})
    planned = outline(asked, "p", lab.suite("synth5-tiny"), [lab.method("noted")], Request(settings=settings))
    return planning.make_plan(lab, planned, planning.PlanOptions(**options))


def execute_on(plan: planning.Plan, lab: Project, engine: Engine) -> list[Outcome]:
    """Execute the missing runs of a plan on an engine."""
    ended: list[Outcome] = []
    run_plan.execute(plan, lab, engine, lambda job, message: None, lambda outcome, entry: ended.append(outcome))
    return ended


def numbers(lab: Project) -> dict[str, Any]:
    """Return cells and logits of every record, bit by bit."""
    records, faults = counting.load_all(lab.results / "runs")
    assert not faults
    found = {}
    for entry in records:
        said = store.RecordFile.open(entry.spec.path(lab.results / "runs")).predictions()
        found[entry.spec.key] = entry.cells, {name: part.logits.tobytes() for name, part in said.items()}
    return found


def trainings(lab: Project) -> Counter[str]:
    """Return how often each training took place."""
    return Counter((lab.root / "trainings").read_text().splitlines())
