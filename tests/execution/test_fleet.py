"""The choice of devices and engines."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import execute_on, plan_noted

from conftest import Bench
from fergen_bench.error import BenchError
from fergen_bench.execution import fleet, local, on_slurm
from fergen_bench.experiment.project import Project


def test_gpus_are_dealt_out_to_slots(noted_lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "gpu_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    asked = fleet.Fleet(gpus_per_run=0.5)
    assert fleet.resolve_device("auto", asked.gpus) == "cuda"
    assert asked.describe("cuda", 10) == "4 at a time on 2 GPUs"
    assert fleet.Fleet().describe("cuda", 10) == "2 at a time on 2 GPUs"
    assert fleet.Fleet().describe("cuda:1", 10) == "1 at a time"
    monkeypatch.setattr(fleet, "available_cores", lambda: 8)
    assert (asked.threads("cuda"), fleet.Fleet().threads("cuda"), fleet.Fleet(8).threads("cuda")) == (2, 4, 1)
    engine = asked.engine("cuda", 10, noted_lab.results)
    assert isinstance(engine, local.Local)
    assert [engine.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in range(4)] == ["GPU-a", "GPU-b"] * 2
    (outcome,) = execute_on(plan_noted(noted_lab, [0], ["web"]), noted_lab, engine)
    assert "GPU GPU-a threads 1" in outcome.log


def test_a_gpu_that_was_named_keeps_its_number(monkeypatch: pytest.MonkeyPatch, noted_lab: Project) -> None:
    monkeypatch.setattr(local, "gpu_count", lambda: 2)
    engine = fleet.Fleet().engine("cuda:1", 3, noted_lab.results)
    assert isinstance(engine, local.Local)
    assert engine.environment(0) == {}
    engine.stop()


def test_auto_is_half_precision_where_the_device_multiplies_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for native in (True, False):
        monkeypatch.setattr(fleet, "multiplies_bfloat16", lambda native=native: native)
        assert fleet.resolve_precision("auto", "cpu") == ("bf16" if native else "fp32")
        assert fleet.resolve_precision(None, "cpu") == "fp32"
        assert fleet.resolve_precision("bf16", "cpu") == "bf16"
        assert [fleet.resolve_precision(wanted, "cuda:1") for wanted in (None, "auto", "fp32")] == [
            "bf16",
            "bf16",
            "fp32",
        ]


@pytest.mark.parametrize(
    ("flags", "native"),
    [("avx512f avx512_bf16 fma", True), ("avx512f amx_bf16 amx_tile", True), ("avx2 avx512f fma", False)],
)
def test_a_processor_lists_its_products_of_bfloat16(flags: str, native: bool, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: avx512_bf16\nflags\t\t: fpu {flags}\n")
    assert fleet.multiplies_bfloat16(tmp_path / "cpuinfo") == native
    assert not fleet.multiplies_bfloat16(tmp_path / "absent")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--gpus-per-run 0.5", "--gpus-per-run distributes the GPUs of this machine, and the device is cpu"),
        ("--ray --slurm gpus=1", "--ray and --slurm are two places to run in"),
        ("--ray --jobs 2", "--jobs is for this machine alone, and --ray has its own limits"),
        ("--cpus-per-run 2", "--cpus-per-run is for --ray"),
        ("--slurm gpus=1 --gpus-per-run 0.5", "write gpus=1 in --slurm"),
        ("--slurm particion=gpu", "--slurm: no key 'particion'; did you mean partition?"),
        ("--slurm gpus=x", "--slurm: gpus=x: it must be a whole number from 0"),
        ("--slurm array=0", "--slurm: array=0: it must be a whole number from 1"),
        ("--slurm time=soon", "--slurm: time=soon: write hours:minutes:seconds"),
        ("--slurm cluster=moon", "--slurm: cluster=moon: write slurm, or local"),
        ("--slurm gpus", "--slurm: 'gpus' is not a pair"),
        ("--slurm partition=gpu", "sbatch and srun are not installed here; submit from a machine that has them"),
    ],
)
def test_what_cannot_be_is_said_in_one_sentence(
    noted_lab: Project, bench: Bench, arguments: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_slurm.shutil, "which", lambda name: None)
    answer = bench("run", "--method", "noted", "--sources", "web", "--seeds", "0", "--no-track", *arguments.split())
    assert answer.code == 2
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_more_runs_than_the_gpus_take_are_refused(monkeypatch: pytest.MonkeyPatch, noted_lab: Project) -> None:
    monkeypatch.setattr(local, "gpu_count", lambda: 2)
    with pytest.raises(BenchError, match=r"the GPUs here, 2, take 4 such runs at a time; lower one of them"):
        fleet.Fleet(jobs=5, gpus_per_run=0.5).engine("cuda", 9, noted_lab.results)
