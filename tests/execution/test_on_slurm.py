"""Runs as a Slurm job array."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from running import execute_on, numbers, plan_noted

from conftest import Bench
from fergen_bench.execution import fleet, local, on_slurm
from fergen_bench.execution.on_slurm import SlurmRequest
from fergen_bench.experiment.project import Project


def test_times_are_read_as_slurm_reads_them() -> None:
    given = {"90": 90, "4:00:00": 240, "10:30": 11, "1-0": 1440, "2-3:30": 3090, "0:0:30": 1}
    assert {text: SlurmRequest.read({"time": text}).time for text in given} == given


def test_submitit_jobs_give_the_numbers_of_one_process(noted_lab: Project) -> None:
    pytest.importorskip("submitit")
    engine = fleet.Fleet(slurm={"cluster": "local", "time": "10"}).engine("cpu", 1, noted_lab.results)
    (outcome,) = execute_on(plan_noted(noted_lab, [0], ["web"]), noted_lab, engine)
    assert outcome.record
    apart = numbers(noted_lab)
    execute_on(plan_noted(noted_lab, [0], ["web"], rerun=True), noted_lab, local.InProcess())
    assert apart == numbers(noted_lab)


SLURM = {
    "sbatch": 'cp "$1" "$SCRIPTS/script.sh"; echo "Submitted batch job 77"',
    "srun": "exit 1",
    "sacct": "exit 0",
    "scancel": 'echo "$@" >> "$SCRIPTS/cancelled"',
}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write commands with the names of Slurm's that log their arguments; return the folder of the logs."""
    pytest.importorskip("submitit")
    place = tmp_path / "slurm-commands"
    place.mkdir()
    for name, body in SLURM.items():
        (place / name).write_text(f"#!/bin/sh\n{body}\n")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
    monkeypatch.setenv("SCRIPTS", str(place))
    return place


def test_the_script_that_slurm_gets(noted_lab: Project, slurm: Path) -> None:
    asked = {"partition": "gpu", "gpus": "1", "cpus": "6", "mem": "24G", "time": "4:00:00", "array": "8"}
    wanted = fleet.Fleet(slurm=asked)
    assert fleet.resolve_device("auto", wanted.gpus) == "cuda"
    assert wanted.threads("cuda") == 6
    engine = wanted.engine("cuda", 10, noted_lab.results)
    jobs = plan_noted(noted_lab, [0, 1, 2], ["web", "film"]).missing
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


def test_slurm_saying_no_is_passed_on(noted_lab: Project, slurm: Path, bench: Bench) -> None:
    (slurm / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: moon' >&2; exit 1\n")
    asked = ("run", "--method", "noted", "--sources", "web,film", "--seeds", "0", "--no-track")
    answer = bench(*asked, "--slurm", "partition=moon")
    assert answer.code == 2
    assert "--slurm: Slurm accepted no jobs: sbatch: error: invalid partition specified: moon" in answer.err


def test_a_job_that_loses_its_machine_is_launched_again_as_it_was(noted_lab: Project) -> None:
    pytest.importorskip("submitit")
    (job,) = plan_noted(noted_lab, [0], ["web"]).missing
    launch = on_slurm._Launch(job)
    assert launch.checkpoint().function is launch
