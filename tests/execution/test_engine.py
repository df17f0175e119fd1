"""Engines: GPUs dealt out, two commands on one folder, Slurm arrays, a Ray cluster that loses a node; the same numbers
everywhere.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_plan import write_audit

from conftest import Bench
from fergen_bench.data.corruption import VERSION
from fergen_bench.error import BenchError
from fergen_bench.execution import fleet, local, on_ray, on_slurm, run_plan
from fergen_bench.execution import plan as planning
from fergen_bench.execution.engine import Engine, Outcome, Worker
from fergen_bench.execution.on_slurm import SlurmRequest
from fergen_bench.experiment import run
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import Protocol
from fergen_bench.experiment.run import Job
from fergen_bench.records import counting, store
from fergen_bench.records.claim import claim, is_claimed

METHOD = '''"""A method for tests: notes every training, and takes its time."""
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
def lab(project: Project) -> Project:
    folder = project.root / "methods"
    folder.mkdir()
    (folder / "noted.py").write_text(METHOD)
    return project


def make_plan(lab: Project, seeds: list[int], sources: list[str], **options: Any) -> planning.Plan:
    asked = Protocol(about="x", sources=sources, targets=["web", "film"], seeds=seeds)
    settings = options.pop("settings", {})
    planned = outline(asked, "p", lab.suite("synth5-tiny"), [lab.method("noted")], Request(settings=settings))
    return planning.make_plan(lab, planned, planning.PlanOptions(**options))


def execute(plan: planning.Plan, lab: Project, engine: Engine) -> list[Outcome]:
    ended: list[Outcome] = []
    run_plan.execute(plan, lab, engine, lambda job, message: None, lambda outcome, entry: ended.append(outcome))
    return ended


def numbers(lab: Project) -> dict[str, Any]:
    """Of every record: its cells and its logits, to the bit."""
    records, faults = counting.load_all(lab.results / "runs")
    assert not faults
    found = {}
    for entry in records:
        said = store.RecordFile.open(entry.spec.path(lab.results / "runs")).predictions()
        found[entry.spec.key] = entry.cells, {name: part.logits.tobytes() for name, part in said.items()}
    return found


def trainings(lab: Project) -> Counter[str]:
    return Counter((lab.root / "trainings").read_text().splitlines())


# ---------------------------------------------------------------------------------------------------------- one machine


def test_gpus_are_dealt_out_to_slots(lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "gpu_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    asked = fleet.Fleet(gpus_per_run=0.5)
    assert fleet.resolve_device("auto", asked.gpus) == "cuda"
    assert asked.describe("cuda", 10) == "4 at a time on 2 GPUs"
    assert fleet.Fleet().describe("cuda", 10) == "2 at a time on 2 GPUs"
    assert fleet.Fleet().describe("cuda:1", 10) == "1 at a time"
    monkeypatch.setattr(fleet, "available_cores", lambda: 8)
    assert (asked.threads("cuda"), fleet.Fleet().threads("cuda"), fleet.Fleet(8).threads("cuda")) == (2, 4, 1)
    engine = asked.engine("cuda", 10, lab.results)
    assert isinstance(engine, local.Local)
    assert [engine.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["GPU-a", "GPU-b"] * 2
    (outcome,) = execute(make_plan(lab, [0], ["web"]), lab, engine)
    assert "GPU GPU-a threads 1" in outcome.log


def test_a_gpu_that_was_named_keeps_its_number(monkeypatch: pytest.MonkeyPatch, lab: Project) -> None:
    monkeypatch.setattr(local, "gpu_count", lambda: 2)
    engine = fleet.Fleet().engine("cuda:1", 3, lab.results)
    assert isinstance(engine, local.Local)
    assert engine.environment(0) == {}
    engine.stop()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--gpus-per-run 0.5", "--gpus-per-run deals out the GPUs of this machine, and the device is cpu"),
        ("--ray --slurm gpus=1", "--ray and --slurm are two places to run in"),
        ("--ray --jobs 2", "--jobs is for this machine alone, and --ray has its own limits"),
        ("--cpus-per-run 2", "--cpus-per-run is for --ray"),
        ("--slurm gpus=1 --gpus-per-run 0.5", "say gpus=1 in --slurm"),
        ("--slurm particion=gpu", "--slurm: no key 'particion'; did you mean partition?"),
        ("--slurm gpus=x", "--slurm: gpus=x: it must be a whole number from 0"),
        ("--slurm array=0", "--slurm: array=0: it must be a whole number from 1"),
        ("--slurm time=soon", "--slurm: time=soon: write hours:minutes:seconds"),
        ("--slurm cluster=moon", "--slurm: cluster=moon: write slurm, or local"),
        ("--slurm gpus", "--slurm: 'gpus' is no pair"),
        ("--slurm partition=gpu", "sbatch and srun are not found, so this is no machine to submit jobs from"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    lab: Project, bench: Bench, arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_slurm.shutil, "which", lambda name: None)
    answer = bench("run", "--method", "noted", "--sources", "web", "--seeds", "0", "--no-track", *arguments.split())
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_more_runs_than_the_gpus_take_are_refused(monkeypatch: pytest.MonkeyPatch, lab: Project) -> None:
    monkeypatch.setattr(local, "gpu_count", lambda: 2)
    with pytest.raises(BenchError, match=r"the GPUs here, 2, take 4 such runs at a time; lower one of them"):
        fleet.Fleet(jobs=5, gpus_per_run=0.5).engine("cuda", 9, lab.results)


# ------------------------------------------------------------------------------------- several processes, one folder


@pytest.mark.slow
def test_two_commands_on_one_folder_share_the_work(lab: Project) -> None:
    command = "from fergen_bench.cli import main; main()"
    asked = [
        "run",
        "--method",
        "noted",
        "--set",
        "seconds=0.5",
        "--seeds",
        "0",
        "--sources",
        "web,film",
        "--no-track",
        "--jobs",
        "1",
    ]
    processes = [
        subprocess.Popen([sys.executable, "-c", command, *asked], stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert set(trainings(lab).values()) == {1}
    assert len(numbers(lab)) == len(trainings(lab)) == 2
    assert not list((lab.results / "unfinished").iterdir())


def test_a_run_whose_process_was_killed_is_free_again(lab: Project) -> None:
    (job,) = make_plan(lab, [0], ["web"], settings={"seconds": 60.0}).missing
    worker = Worker(job)
    until = time.monotonic() + 60
    while not (lab.root / "trainings").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert is_claimed(job.spec, Path(job.runs))
    os.kill(worker._process.pid, signal.SIGKILL)
    outcome = worker.outcome(lambda job, message: None)
    assert outcome.killed
    assert not is_claimed(job.spec, Path(job.runs))


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
    """Another process looks all the time whether a run is being made."""
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


def test_whoever_looks_for_a_claim_keeps_nobody_from_it_and_changes_nothing(lab: Project, tmp_path: Path) -> None:
    (job,) = make_plan(lab, [0], ["web"]).missing
    runs = Path(job.runs)
    draft = job.spec.path(runs).with_name(f".{job.spec.path(runs).name}-x1y2")
    draft.parent.mkdir(parents=True)
    with another_looks(job, tmp_path):
        for _ in range(200):
            with claim(job.spec, runs) as mine:
                assert mine
                draft.touch()
            assert draft.exists(), "a look swept the draft of another process"
            time.sleep(0.001)


def test_a_command_that_counts_again_while_another_looks_runs_nothing_again(lab: Project, tmp_path: Path) -> None:
    plan = make_plan(lab, [0], ["web"])
    execute(plan, lab, local.InProcess())
    write_audit(lab, 3, "film")
    with another_looks(plan.runs[0], tmp_path):
        for wanted in (True, False) * 10:
            again = make_plan(lab, [0], ["web"], include_near_duplicates=not wanted)
            assert (again.missing, len(again.recounted)) == ((), 1)


def test_a_record_that_another_command_counted_again_is_not_made_again(lab: Project) -> None:
    """It was planned as missing while the other command was at it."""
    execute(make_plan(lab, [0], ["web"]), lab, local.InProcess())
    write_audit(lab, 3, "film")
    counted = make_plan(lab, [0], ["web"])
    (done,) = counted.recounted
    late = replace(counted, missing=(replace(counted.runs[0], replaces=done.started),))
    (outcome,) = execute(late, lab, local.InProcess())
    assert outcome.record is not None
    assert sum(trainings(lab).values()) == 1


def test_two_commands_that_count_again_run_nothing_again(lab: Project) -> None:
    plan = make_plan(lab, [0, 1, 2, 3], ["web", "film"])
    execute(plan, lab, local.InProcess())
    write_audit(lab, 3, "film")
    command = "from fergen_bench.cli import main; main()"
    asked = [
        "run",
        "--method",
        "noted",
        "--seeds",
        "0,1,2,3",
        "--sources",
        "web,film",
        "--targets",
        "web,film",
        "--no-track",
        "--jobs",
        "1",
    ]
    processes = [
        subprocess.Popen([sys.executable, "-c", command, *asked], stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert set(trainings(lab).values()) == {1}, said
    assert all("Nothing to do" in text for text in said), said


def test_a_run_made_meanwhile_is_not_made_again_but_rerun_is_rerun(lab: Project) -> None:
    plan = make_plan(lab, [0], ["web"])
    execute(plan, lab, local.InProcess())
    (late,) = execute(plan, lab, local.InProcess())
    assert late.record is not None
    assert sum(trainings(lab).values()) == 1
    execute(make_plan(lab, [0], ["web"], rerun=True), lab, local.InProcess())
    assert sum(trainings(lab).values()) == 2


def test_a_run_made_meanwhile_for_other_targets_is_not_overwritten(lab: Project) -> None:
    plan = make_plan(lab, [0], ["web"])
    narrow = Protocol(about="x", sources=["web"], targets=["wild"], seeds=[0])
    suite = lab.suite("synth5-tiny")
    planned = outline(narrow, "p", suite, [lab.method("noted")], Request())
    execute(planning.make_plan(lab, planned, planning.PlanOptions()), lab, local.InProcess())
    (outcome,) = execute(plan, lab, local.InProcess())
    assert "another process finished this run meanwhile" in (outcome.refused or "")


def test_a_run_made_meanwhile_without_the_shifts_is_not_taken_for_them(lab: Project) -> None:
    plan = make_plan(lab, [0], ["web"])
    execute(plan, lab, local.InProcess())
    shifts = [run.Corruption("web", "blur", 1.0, 10, VERSION)]
    late = replace(plan, missing=tuple(replace(job, corruptions=shifts) for job in plan.missing))
    (outcome,) = execute(late, lab, local.InProcess())
    assert "with other targets or other options" in (outcome.refused or "")


def test_a_process_that_cannot_be_begun_is_one_run_less(lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, begun = subprocess.Popen, list[str]()

    def popen(command: list[str], **options: Any) -> Any:
        begun.append(command[-1])
        if len(begun) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return begin(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    first, second = execute(make_plan(lab, [0], ["web", "film"]), lab, local.Local(1))
    assert "Too many open files; lower --jobs" in (first.refused or "")
    assert second.record is not None


@pytest.mark.slow
def test_a_kept_model_goes_along_to_a_node_that_does_not_see_the_results(lab: Project) -> None:
    execute(make_plan(lab, [0], ["web"], keep_models=True), lab, local.InProcess())
    (job,) = make_plan(lab, [0], ["web"]).runs
    shift = run.Corruption("web", "blur", 1.0, 10, VERSION)
    job = replace(job, restore=True, corruptions=[shift])
    before = store.load(job.spec.path(Path(job.runs)))
    kept = {file.name: file.read_bytes() for file in store.files_of(job.spec, Path(job.runs))}
    outcome, files = on_ray._run(job, Path(job.method_file).read_bytes(), kept, str(lab.root / "nowhere"), "token")
    assert outcome.failure is None
    assert outcome.refused is None
    path = store.receive(job, files)
    after = store.load(path)
    assert (after.cells, after.started) == (before.cells, before.started)
    assert [cell.shift for cell in after.shifted] == [shift]
    store.RecordFile.open_whole(path)
    assert sum(trainings(lab).values()) == 1


# ------------------------------------------------------------------------------------------------------------- Slurm


def test_times_are_read_as_slurm_reads_them() -> None:
    given = {"90": 90, "4:00:00": 240, "10:30": 11, "1-0": 1440, "2-3:30": 3090, "0:0:30": 1}
    assert {text: SlurmRequest.read({"time": text}).time for text in given} == given


def test_submitit_jobs_give_the_numbers_of_one_process(lab: Project) -> None:
    pytest.importorskip("submitit")
    engine = fleet.Fleet(slurm={"cluster": "local", "time": "10"}).engine("cpu", 1, lab.results)
    (outcome,) = execute(make_plan(lab, [0], ["web"]), lab, engine)
    assert outcome.record
    apart = numbers(lab)
    execute(make_plan(lab, [0], ["web"], rerun=True), lab, local.InProcess())
    assert apart == numbers(lab)


SLURM = {
    "sbatch": 'cp "$1" "$SCRIPTS/script.sh"; echo "Submitted batch job 77"',
    "srun": "exit 1",
    "sacct": "exit 0",
    "scancel": 'echo "$@" >> "$SCRIPTS/cancelled"',
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Commands with the names of Slurm's, that only note what they are asked. Gives the folder with the notes."""
    pytest.importorskip("submitit")
    place = tmp_path / "slurm-commands"
    place.mkdir()
    for name, body in SLURM.items():
        (place / name).write_text(f"#!/bin/sh\n{body}\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("SCRIPTS", str(place))
    return place


def test_the_script_that_slurm_gets(lab: Project, slurm: Path) -> None:
    asked = {"partition": "gpu", "gpus": "1", "cpus": "6", "mem": "24G", "time": "4:00:00", "array": "8"}
    wanted = fleet.Fleet(slurm=asked)
    assert fleet.resolve_device("auto", wanted.gpus) == "cuda"
    assert wanted.threads("cuda") == 6
    engine = wanted.engine("cuda", 10, lab.results)
    jobs = make_plan(lab, [0, 1, 2], ["web", "film"]).missing
    for job in jobs:
        engine.start(job, lambda job, message: None)
    assert engine.ended(0) == []
    lines = (slurm / "script.sh").read_text().splitlines()
    for line in (
        "#SBATCH --array=0-5%6",
        "#SBATCH --partition=gpu",
        "#SBATCH --gpus-per-node=1",
        "#SBATCH --cpus-per-task=6",
        "#SBATCH --mem=24G",
        "#SBATCH --time=240",
        "#SBATCH --requeue",
        "#SBATCH --signal=USR2@90",
        "#SBATCH --job-name=fergen-bench",
    ):
        assert line in lines
    engine.stop()
    assert (slurm / "cancelled").read_text().split() == [f"77_{place}" for place in range(6)]


def test_slurm_saying_no_is_passed_on(lab: Project, slurm: Path, bench: Bench) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: moon' >&2; exit 1\n")
    asked = ("run", "--method", "noted", "--sources", "web,film", "--seeds", "0", "--no-track")
    answer = bench(*asked, "--slurm", "partition=moon")
    assert answer.code == 2
    assert "--slurm: Slurm took no jobs: sbatch: error: invalid partition specified: moon" in answer.err


def test_a_job_that_loses_its_machine_is_launched_again_as_it_was(lab: Project) -> None:
    pytest.importorskip("submitit")
    (job,) = make_plan(lab, [0], ["web"]).missing
    launch = on_slurm._Launch(job)
    assert launch.checkpoint().function is launch


# --------------------------------------------------------------------------------------------------------------- Ray


def test_without_ray_it_is_said_how_to_get_it(lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BenchError, match=r"Ray is not installed; install it with: pip install 'fergen-bench\[ray\]'"):
        fleet.Fleet(ray="local").engine("cpu", 1, lab.results)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_said_at_once(lab: Project, address: str) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'fergen-bench[ray]'")
    with pytest.raises(BenchError, match=f"--ray {address}: there is no such cluster"):
        fleet.Fleet(ray=address).engine("cpu", 1, lab.results)


def ray_cluster(nodes: int) -> Any:
    """Nodes with one CPU each, and their cluster's address. The head runs nothing."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    pytest.importorskip("ray", reason="needs Ray: pip install 'fergen-bench[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    return cluster, [cluster.add_node(num_cpus=1) for _ in range(nodes)]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_ray_cluster_that_loses_a_node_ends_as_if_undisturbed(lab: Project, shared: bool) -> None:
    """shared: whether the nodes see the driver's results folder; else records come home as bytes."""
    seeds, sources = [0, 1, 2], ["web", "film"]
    plan = make_plan(lab, seeds, sources, settings={"seconds": 3.0})
    cluster, nodes = ray_cluster(2)
    try:
        engine = fleet.Fleet(ray=cluster.address).engine("cpu", len(plan.missing), lab.results)
        assert isinstance(engine, on_ray.OnRay)
        if not shared:
            engine._token = "what no file holds"
        ended: list[Outcome] = []

        def conclude(outcome: Outcome, entry: Any) -> None:
            ended.append(outcome)
            if len(ended) == 1:  # in the middle: its next run has begun, or will
                time.sleep(1)
                # Not the one that this process is attached to: on one machine it may be any of them.
                here = engine._ray.get_runtime_context().get_node_id()
                cluster.remove_node(next(node for node in nodes if node.node_id != here), allow_graceful=False)
                cluster.add_node(num_cpus=1)

        run_plan.execute(plan, lab, engine, lambda job, message: None, conclude)
    finally:
        cluster.shutdown()
    assert [outcome.failure for outcome in ended] == [None] * 6
    assert not list(lab.results.glob(".driver-*"))
    on_cluster = numbers(lab)
    assert len(on_cluster) == 6
    execute(make_plan(lab, seeds, sources, settings={"seconds": 3.0}, rerun=True), lab, local.InProcess())
    assert on_cluster == numbers(lab)


@pytest.mark.slow
def test_leaving_a_ray_of_this_machine_leaves_no_process(lab: Project) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'fergen-bench[ray]'")
    command = "from fergen_bench.cli import main; main()"
    asked = [
        "run",
        "--method",
        "noted",
        "--set",
        "seconds=120",
        "--seeds",
        "0",
        "--sources",
        "web",
        "--no-track",
        "--ray",
    ]
    process = subprocess.Popen([sys.executable, "-c", command, *asked], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (lab.root / "trainings").exists() and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command continues with the rest" in said
    (job,) = make_plan(lab, [0], ["web"], settings={"seconds": 120.0}).missing
    until = time.monotonic() + 30
    while is_claimed(job.spec, Path(job.runs)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not is_claimed(job.spec, Path(job.runs))
