"""Helpers that plan and execute runs of small methods."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from filelock import FileLock

import fergen_bench as fb
from fergen_bench import cli
from fergen_bench.data.domain import Domain
from fergen_bench.datasets.comparisons import Comparison, Comparisons, Pair, Rule, Side, State
from fergen_bench.execution import fleet, run_plan
from fergen_bench.execution import plan as planning
from fergen_bench.execution.engine import Engine, Outcome
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import Protocol
from fergen_bench.experiment.run import Job
from fergen_bench.records import counting, store
from fergen_bench.records.collection import RecordFolder
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


MINE = '''"""Mine."""
from dataclasses import dataclass
import torch
from fergen_bench import Method
@dataclass
class Mine(Method):
    shift: float = 0.0  # of the logits
    def fit(self, source, ctx):
        self.counts = torch.from_numpy(source.train.counts).float()
    def predict(self, images):
        return self.counts.expand(len(images), 7) + self.shift
'''


FOLLOW = '''"""An online method for tests: the mean of all images so far, and a random number, are in its logits."""
from dataclasses import dataclass
import torch
from fergen_bench import OnlineMethod
@dataclass
class Follow(OnlineMethod):
    base: str = "mine"
    weight: float = 1.0  # of the state
    def start(self, base, ctx):
        self.base_method = base
        self.reset()
    def reset(self):
        self.seen, self.total = 0, 0.0
    def predict(self, images):
        self.seen += len(images)
        self.total += images.float().mean((1, 2, 3)).sum()
        state = self.weight * (self.total / self.seen + torch.rand(()))
        return self.base_method.predict(images) + state * images.float().mean((2, 3)) @ torch.ones(3, 7)
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
        asked,
        "p.yaml",
        suite,
        [project.method(options.pop("method", "probe"))],
        Request(settings=changes or {}),
        find=project.method,
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
    return counting.counted(records, project, RecordFolder(project.results / "runs"), include)[0]


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


@pytest.fixture
def mine(project: Project) -> Project:
    """Return a project with the method mine."""
    (project.root / "methods").mkdir()
    (project.root / "methods" / "mine.py").write_text(MINE)
    return project


LOOKING = """
import json, sys, time
from pathlib import Path
from fergen_bench.experiment.run import Job
from fergen_bench.records import claim
job = Job.from_json(json.load(open(sys.argv[1])))
place = claim._lock_path(job.spec, Path(job.runs))
place.parent.mkdir(parents=True, exist_ok=True)
print("looking", flush=True)
while True:
    if not claim.is_claimed(job.spec, Path(job.runs)):
        place.touch()  # as a process that was killed leaves it
"""


@contextmanager
def another_looks(job: Job, folder: Path) -> Iterator[None]:
    """Let another process check a claim continuously."""
    (folder / "looked-at.json").write_text(json.dumps(job.to_json()))
    command = [sys.executable, "-c", LOOKING, str(folder / "looked-at.json")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "looking\n"
    try:
        yield
    finally:
        assert process.poll() is None
        process.kill()
        process.wait()
        process.stdout.close()


PROBES = ["linear_probe", "nearest_prototype"]


PROBE_RUN: dict[str, Any] = {"seeds": [0], "sources": ["web", "film"], "jobs": 0, "track": False}


def made_once(factory: pytest.TempPathFactory, name: str, cache: Path, make: Callable[[], None]) -> Path:
    """Return a project folder that `make`, called in it, fills once for all processes of pytest-xdist."""
    root = (factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.mktemp("projects")) / name
    with FileLock(f"{root}.lock"):
        if not (root / "complete").exists():
            root.mkdir()
            (root / "bench.toml").write_text(f'suite = "synth5-tiny"\ncache = "{cache}"\ndevice = "cpu"\n')
            with contextlib.chdir(root):
                make()
            (root / "complete").touch()
    return root


@pytest.fixture(scope="session")
def probe_runs(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Return a folder with the records of two methods on two sources."""
    root = made_once(tmp_path_factory, "probes", cache, lambda: fb.run(methods=PROBES, **PROBE_RUN))
    return root / "results" / "runs"


@pytest.fixture
def results(project: Project, probe_runs: Path, sketched: None) -> fb.Results:
    """Return the results in a project of its own."""
    shutil.copytree(probe_runs, project.results / "runs")
    return fb.run(methods=PROBES, **PROBE_RUN)


@pytest.fixture(scope="session")
def kept_run(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Return a folder with `runs`, a trained network's record and checkpoint, its model.onnx and what that printed."""

    def train_and_export() -> None:
        training = {"parameters": {"epochs": 1}, "selection": "source-val", "keep_models": True}
        fb.run(methods="full_finetune", **training, **{**PROBE_RUN, "sources": ["web"], "targets": ["web", "film"]})
        (record,) = Path("results", "runs").glob("*/*/*.json")
        export = ["export", str(record), "--to", "results/model.onnx"]
        Path("results", "export.txt").write_text(CliRunner().invoke(cli.app, export, catch_exceptions=False).output)

    return made_once(tmp_path_factory, "kept", cache, train_and_export) / "results"


@pytest.fixture
def exported(project: Project, kept_run: Path) -> Path:
    """Return the record of a run with a checkpoint, in a project whose root contains its model.onnx."""
    shutil.copytree(kept_run / "runs", project.results / "runs")
    shutil.copy(kept_run / "model.onnx", project.root / "model.onnx")
    (record,) = (project.results / "runs").glob("*/*/*.json")
    return record
