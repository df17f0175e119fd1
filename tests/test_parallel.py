"""One run in several processes comes to what one process comes to, and ends as one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from torch import Tensor, distributed, nn

from conftest import Bench
from fergen_bench import matrix, record
from fergen_bench.error import BenchError, RunError
from fergen_bench.fanout import Outcome, Worker, local
from fergen_bench.parallel import share_out
from fergen_bench.peers import MEETING
from fergen_bench.project import Project
from fergen_bench.protocol import Protocol, Request, outline
from together import BODIES, FITS

TOGETHER = Path(__file__).with_name("together.py")
QUICK = ("synth-trunk", "timm:test_efficientnet.r160_in1k", "cafe", "mmd", "dann")
METHOD = '''"""A method for tests: the trunk, trained, and what befalls one of the processes."""
import os, signal
from dataclasses import dataclass, replace
from pathlib import Path
import torch
from fergen_bench import TrunkMethod
@dataclass
class Befallen(TrunkMethod):
    recipes = {"small": {"epochs": 3, "optimizer": "adamw", "learning_rate": 2e-3}}
    fate: str = ""
    stops: int = 0
    def fit(self, source, ctx):
        with open(Path(__file__).parents[1] / f"process-{os.environ.get('RANK', '0')}", "w") as note:
            note.write(str(os.getpid()))
        super().fit(source, ctx)
    def loss(self, batch):
        if os.environ.get("RANK") == "1" and batch.epoch == 1:
            if self.fate == "raises":
                raise ValueError("the second process alone has had enough")
            if self.fate == "is killed":
                os.kill(os.getpid(), signal.SIGKILL)
        if self.fate == "raises everywhere" and batch.epoch == 1:
            raise ValueError("enough")
        while self.fate == "stops" and batch.epoch == 1 and (Path(__file__).parents[1] / "stop").exists():
            pass
        if self.fate == "draws its own":
            drawn = torch.rand(len(batch.labels), generator=torch.Generator().manual_seed(os.getpid()))
            batch = replace(batch, labels=(7 * drawn).long())
        return super().loss(batch)
'''


def processes(count: int, arguments: list[str], folder: Path) -> list[subprocess.Popen[str]]:
    """Python with arguments, `count` times, with torchrun's variables; {rank} stands for the number of the process."""
    found = []
    for rank in range(count):
        environment = {MEETING: str(folder / "meeting"), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank)} if count > 1 else {}
        command = [sys.executable, *(argument.format(rank=rank) for argument in arguments)]
        found.append(
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                env=os.environ | (environment if count > 1 else {}),
            )
        )
    return found


Found = tuple[dict[str, Any], list[dict[str, Any]]]
"""What together.py found: in one process, and in each of two."""


def found_for(kind: str, names: list[str], cache: Path, factory: pytest.TempPathFactory) -> Found:
    # The processes of pytest-xdist share these tests; the first that comes here works for all.
    shared = factory.getbasetemp().parent if "PYTEST_XDIST_WORKER" in os.environ else factory.mktemp("found")
    files = {(count, rank): shared / kind / f"of-{count}" / f"{rank}.pt" for count, rank in ((1, 0), (2, 0), (2, 1))}
    with FileLock(shared / f"{kind}.lock"):
        if not (shared / kind).exists():
            running = []
            for count in (1, 2):
                folder = shared / kind / f"of-{count}"
                folder.mkdir(parents=True)
                running += processes(count, [str(TOGETHER), str(cache), str(folder / "{rank}.pt"), *names], folder)
            said = [process.communicate(timeout=240)[0] for process in running]
            assert [process.returncode for process in running] == [0, 0, 0], said
    alone, *several = (torch.load(file) for file in files.values())
    return alone, several


@pytest.fixture(scope="module")
def quick(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return found_for("quick", list(QUICK), cache, tmp_path_factory)


@pytest.fixture(scope="module")
def thorough(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    names = [name for name in (*BODIES, *FITS) if name not in QUICK]
    return found_for("thorough", names, cache, tmp_path_factory)


@pytest.fixture
def done(name: str, request: pytest.FixtureRequest) -> Found:
    return request.getfixturevalue("quick" if name in QUICK else "thorough")


def each(*names: str) -> pytest.MarkDecorator:
    slow = [pytest.mark.slow]
    return pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n in QUICK else slow) for n in names])


def apart(found: dict[str, Tensor], expected: dict[str, Tensor], floor: float) -> float:
    """The largest distance of a tensor, as a share of its length; or of `floor` of all, where it is shorter."""
    assert found.keys() == expected.keys()
    names = [name for name, value in expected.items() if value is not None and value.is_floating_point()]
    least = floor * torch.cat([expected[name].flatten() for name in names]).norm()
    return max(float((found[name] - expected[name]).norm() / max(expected[name].norm(), least)) for name in names)


def flat(found: dict[str, Any], path: str = "") -> dict[str, Any]:
    entries = ((f"{path}{key}", value) for key, value in found.items())
    return {name: leaf for key, value in entries for name, leaf in leaves(key, value)}


def leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    return list(flat(value, f"{name}/").items()) if isinstance(value, dict) else [(name, value)]


@each(*BODIES)
def test_gradients_and_statistics_of_a_body_are_those_of_the_whole_batch(name: str, done: Found) -> None:
    alone, (first, _) = done
    assert apart(first[name], alone[name], 1e-6) < 1e-10  # float64


@each(*FITS)
def test_a_training_comes_to_the_same(name: str, done: Found) -> None:
    alone, (first, _) = done
    # float32. Where rounding moves the input of a rectifier over 0, a whole gradient differs by some 1e-4 of its
    # length; AdamW then moves a weight whose gradient is hardly any by as much as any other.
    assert apart(first[name]["first"], alone[name]["first"], 1e-2) < 5e-3
    assert apart(first[name]["last"], alone[name]["last"], 1e-2) < 5e-2
    assert apart({"": first[name]["logits"]}, {"": alone[name]["logits"]}, 0.0) < 2e-2


@each(*BODIES, *FITS)
def test_all_processes_come_to_the_same_bits(name: str, done: Found) -> None:
    first, second = (flat(found[name]) for found in done[1])
    for key, value in first.items():
        assert torch.equal(value, second[key]) if isinstance(value, Tensor) else value == second[key], key


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    """This process, as the only one of those that make a run."""
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def test_a_body_that_draws_in_training_is_refused(group: None) -> None:
    body, faces = nn.Sequential(nn.Flatten(), nn.Dropout(0.5)), torch.rand(4, 3)
    with pytest.raises(RunError, match="Sequential draws random numbers while it is trained"):
        share_out(lambda given: given, body, faces)
    assert torch.equal(share_out(lambda given: given, body.eval(), faces), faces)


# --------------------------------------------------------------------------------------------------------- whole runs


@pytest.fixture
def lab(project: Project) -> Project:
    folder = project.root / "methods"
    folder.mkdir()
    (folder / "befallen.py").write_text(METHOD)
    return project


def planned(lab: Project, method: str, devices: int, **settings: Any) -> record.Job:
    asked = Protocol(about="x", sources=["web"], targets=["web", "film"], seeds=[0])
    outlined = outline(asked, "p", lab.suite("synth5-tiny"), [lab.method(method)], Request(settings=settings))
    (job,) = matrix.make_plan(lab, lab.suite("synth5-tiny"), "test", outlined, "cpu", rerun=True, devices=2).missing
    assert job.devices == 1  # there is but one processor
    return replace(job, devices=devices, save_every=0.0)


def made(job: record.Job, heard: list[dict[str, Any]] | None = None) -> Outcome:
    return Worker(job).outcome(lambda job, message: None if heard is None else heard.append(message))


def logits(outcome: Outcome) -> Tensor:
    assert outcome.record, outcome
    said = record.load_predictions(outcome.record)
    return torch.cat([torch.from_numpy(part.logits.astype("float32")) for part in said.values()])


def gone(lab: Project, rank: int) -> bool:
    """Whether a process that made a run has ended, at the latest in a few seconds."""
    until, place = time.monotonic() + 10, Path("/proc") / (lab.root / f"process-{rank}").read_text()
    while place.exists() and time.monotonic() < until:
        time.sleep(0.05)
    return not place.exists()


@pytest.mark.slow
def test_a_run_in_two_processes_leaves_one_record_like_that_of_one(
    lab: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "7")  # of somebody else's launcher
    one = planned(lab, "cafe", 1, epochs=1)
    expected, heard = made(one), list[dict[str, Any]]()
    (entry,), _ = record.load_all(lab.results / "runs")
    outcome = made(planned(lab, "cafe", 2, epochs=1), heard)
    assert outcome.record == expected.record, outcome
    ((again,), faults) = record.load_all(lab.results / "runs")
    assert not faults
    assert again.environment["devices"] == 2
    assert "devices" not in entry.environment
    assert again.device.startswith("2 × ")
    assert again.spec.key == entry.spec.key
    assert [message["done"] for message in heard if message.get("what") == "epoch"] == [1]  # one speaks
    for cell, other in zip(again.cells, entry.cells, strict=True):
        moved = torch.tensor(cell.confusion) - torch.tensor(other.confusion)
        assert moved.abs().sum() <= 2  # one face, judged otherwise


@pytest.mark.slow
def test_torchrun_itself_may_launch_the_worker(lab: Project, tmp_path: Path) -> None:
    job = planned(lab, "befallen", 1, epochs=1)
    (tmp_path / "job.json").write_text(json.dumps(job.to_json()))
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "fergen_bench.worker"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *torchrun, str(tmp_path / "job.json")]
    answer = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert answer.returncode == 0, answer.stderr
    said = [json.loads(line) for line in answer.stdout.splitlines()]
    assert record.load(Path(said[-1]["record"])).environment["devices"] == 2
    assert sum("record" in message for message in said) == 1


@pytest.mark.parametrize(
    ("fate", "reason"),
    [
        ("raises", "ValueError: the second process alone has had enough"),
        pytest.param("raises everywhere", "ValueError: enough", marks=pytest.mark.slow),
        pytest.param("is killed", "the process was killed (SIGKILL)", marks=pytest.mark.slow),
    ],
)
def test_a_process_that_fails_ends_the_run_with_its_reason(lab: Project, fate: str, reason: str) -> None:
    outcome = made(planned(lab, "befallen", 2, fate=fate))
    assert outcome.record is None
    assert reason in (outcome.failure or "")
    assert outcome.killed == (fate == "is killed")
    assert gone(lab, 0)
    assert gone(lab, 1)


@pytest.mark.slow
def test_processes_that_come_to_different_numbers_are_refused(lab: Project) -> None:
    outcome = made(planned(lab, "befallen", 2, fate="draws its own", epochs=1))
    assert "the 2 processes of this run came to different logits" in (outcome.refused or ""), outcome


@pytest.mark.slow
def test_bad_input_is_said_once_and_in_one_sentence(lab: Project) -> None:
    job = planned(lab, "befallen", 2)
    # A plan would refuse it; here the method itself does, in both processes.
    changed = replace(job.spec, parameters={**job.spec.parameters, "batch_size": 1})
    outcome = made(replace(job, spec=changed))
    assert "batch_size is 1; it must be 2 or more" in (outcome.refused or "")


def begun(job: record.Job) -> Worker:
    """A run that has saved its training."""
    worker, until = Worker(job), time.monotonic() + 60
    while not job.spec.unfinished_path(Path(job.runs)).exists() and time.monotonic() < until:
        time.sleep(0.05)
    return worker


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_numbers_and_leaves_no_process(lab: Project) -> None:
    expected = logits(made(planned(lab, "befallen", 2, fate="stops")))
    (lab.root / "stop").touch()
    job, heard = planned(lab, "befallen", 2, fate="stops"), list[dict[str, Any]]()
    worker = begun(job)
    os.kill(worker._process.pid, signal.SIGKILL)
    assert worker.outcome(lambda job, message: None).killed
    assert gone(lab, 0)
    assert gone(lab, 1)
    (lab.root / "stop").unlink()
    assert torch.equal(logits(made(job, heard)), expected)
    assert [message["done"] for message in heard if message.get("what") == "epoch"] == [2, 3]
    assert not job.spec.unfinished_path(Path(job.runs)).exists()


@pytest.mark.slow
def test_a_run_that_another_process_is_making_is_left_to_it(lab: Project) -> None:
    job = planned(lab, "befallen", 2, epochs=1)
    with record.claim(job.spec, Path(job.runs)) as mine:
        assert mine
        assert made(job).elsewhere
    assert not (lab.root / "process-0").exists()


@pytest.mark.slow
def test_what_two_processes_began_one_does_not_go_on_with(lab: Project) -> None:
    (lab.root / "stop").touch()
    job, heard = planned(lab, "befallen", 2, fate="stops"), list[dict[str, Any]]()
    worker = begun(job)
    worker.kill()
    worker.outcome(lambda job, message: None)
    (lab.root / "stop").unlink()
    made(replace(job, devices=1), heard)
    assert [message["done"] for message in heard if message.get("what") == "epoch"] == [1, 2, 3]


# ------------------------------------------------------------------------------------------------------- command line


def test_gpus_are_dealt_out_in_groups(lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "gpu_count", lambda: 5)
    monkeypatch.setattr(matrix, "available_cores", lambda: 8)
    fleet = matrix.Fleet(gpus_per_run=2.0)
    assert fleet.describe("cuda", 9) == "2 at a time on 5 GPUs, 2 a run"
    assert (fleet.devices, fleet.threads("cuda")) == (2, 2)
    engine = fleet.engine("cuda", 9, lab.results)
    assert isinstance(engine, local.Local)
    assert [engine.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(2)] == ["0,1", "2,3"]
    engine.stop()
    with pytest.raises(BenchError, match="takes 8 GPUs for a run, there are 5 here; lower it"):
        matrix.Fleet(gpus_per_run=8.0).describe("cuda", 9)
    with pytest.raises(BenchError, match="take 2 such runs at a time; lower one of them"):
        matrix.Fleet(jobs=3, gpus_per_run=2.0).describe("cuda", 9)
    with pytest.raises(BenchError, match="a process each, so --jobs must be 1 or more"):
        matrix.Fleet(jobs=0, gpus_per_run=2.0).describe("cuda", 9)
    assert matrix.Fleet(slurm={"gpus": "4", "cpus": "16"}).threads("cuda") == 4


def test_one_and_a_half_gpus_are_refused(lab: Project, bench: Bench) -> None:
    answer = bench("run", "--method", "befallen", "--gpus-per-run", "1.5", "--no-track")
    assert answer.code == 2
    assert "--gpus-per-run 1.5: a run gets a share of one GPU, as 0.5, or whole ones, as 2" in answer.err
