"""Choose where the runs of a plan execute: devices, slots on this machine, Ray or Slurm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fergen_bench.error import BenchError
from fergen_bench.execution.local import InProcess, Local, visible_gpus
from fergen_bench.execution.on_ray import OnRay
from fergen_bench.execution.on_slurm import OnSlurm, SlurmRequest
from fergen_bench.experiment.project import available_cores

if TYPE_CHECKING:
    from fergen_bench.execution.engine import Engine
    from fergen_bench.experiment.run import Precision


GPU_THREADS = 4
"""CPU threads of a run on a GPU. A run on the CPU has one, so that its sums depend neither on the load nor on the
number of cores.
"""


def resolve_device(wanted: str, gpus: float | None = None) -> str:
    """Return the device that a name means: auto is cuda where a GPU exists, and cpu elsewhere.

    Args:
        wanted: auto, cpu, cuda or cuda:1.
        gpus: GPUs of a run on another machine; None on this one.

    Raises:
        BenchError: A GPU is wanted, and this machine has none.
    """
    there = visible_gpus() if gpus is None else gpus
    if wanted.startswith("cuda") and gpus is None and not there:
        raise BenchError(
            f"--device {wanted}: this machine has no usable GPU; leave the option out, or check nvidia-smi"
        )
    return ("cuda" if there else "cpu") if wanted == "auto" else wanted


def resolve_precision(wanted: Literal["fp32", "bf16", "auto"] | None, device: str) -> Precision:
    """Return the precision of runs.

    Args:
        wanted: fp32, bf16, or auto: bf16 where the device multiplies it natively. None is fp32 on a CPU and bf16 on a
            GPU.
        device: Device of the runs: cpu, cuda or cuda:1.
    """
    if wanted is None or wanted == "auto":
        return "bf16" if device != "cpu" or (wanted == "auto" and multiplies_bfloat16()) else "fp32"
    return wanted


def multiplies_bfloat16(processors: Path = Path("/proc/cpuinfo")) -> bool:
    """Return True where the processor of this machine has instructions for products of bfloat16 numbers.

    Args:
        processors: The file in which Linux lists the processors. On a system without it the answer is False.
    """
    try:
        lines = processors.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return False
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith("flags")), [])
    return not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


@dataclass(frozen=True)
class Fleet:
    """The machines and processes that execute the runs of a plan.

    Attributes:
        jobs: Runs at a time on this machine, from --jobs; 0 executes them in this process.
        usual_jobs: The same from bench.toml, for this machine only.
        gpus_per_run: GPUs of a run, or the share of one.
        ray: Address of a Ray cluster, or local.
        cpus_per_run: CPUs of a run on Ray.
        slurm: Keys and values of --slurm.
    """

    jobs: int | None = None
    usual_jobs: int | None = None
    gpus_per_run: float | None = None
    ray: str | None = None
    cpus_per_run: float | None = None
    slurm: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        elsewhere = "--ray" if self.ray is not None else "--slurm"
        if self.ray is not None and self.slurm is not None:
            raise BenchError("--ray and --slurm are two places to run in; choose one")
        if (self.ray is not None or self.slurm is not None) and self.jobs is not None:
            raise BenchError(f"--jobs is for this machine alone, and {elsewhere} has its own limits; leave one out")
        if self.cpus_per_run is not None and self.ray is None:
            raise BenchError("--cpus-per-run is for --ray; write cpus=… in --slurm for a Slurm job")
        if self.gpus_per_run is not None and self.slurm is not None:
            raise BenchError("--gpus-per-run is not for --slurm, which assigns whole GPUs; write gpus=1 in --slurm")
        if (self.gpus_per_run or 0) > 1:
            raise BenchError(
                f"--gpus-per-run {self.gpus_per_run:g}: a run uses one GPU or a share of one; give 1, or less, such as "
                f"0.5 for two runs per GPU"
            )

    @cached_property
    def _request(self) -> SlurmRequest | None:
        return None if self.slurm is None else SlurmRequest.read(self.slurm)

    @property
    def gpus(self) -> float | None:
        """GPUs of a run on other machines; None on this machine."""
        if self._request is not None:
            return self._request.gpus
        return None if self.ray is None else self.gpus_per_run or 0

    def threads(self, device: str) -> int:
        """Return the CPU threads of a run on a GPU: its share of the cores."""
        if self._request is not None:
            return self._request.cpus
        if self.ray is not None:
            return max(1, int(self.cpus_per_run or GPU_THREADS))
        return max(1, min(GPU_THREADS, available_cores() // (self._slots(device) or 1)))

    def together(self, device: str, runs: int) -> int:
        """Return the number of runs at a time; 1 where only a cluster can determine it."""
        if self._request is not None:
            return max(1, min(self._request.array, runs))
        return 1 if self.ray is not None else max(1, min(self._slots(device), runs))

    def describe(self, device: str, runs: int) -> str:
        """Return the machines and the number of runs at a time in words, for the first line of the output."""
        if self._request is not None:
            here = "on this machine, as if on Slurm" if self._request.cluster == "local" else "on Slurm"
            return f"{here}, {min(self._request.array, runs)} at a time"
        if self.ray is not None:
            return "on a Ray of this machine" if self.ray == "local" else f"on Ray at {self.ray}"
        slots = self._slots(device)
        gpus = len(visible_gpus()) if device == "cuda" else 0
        return (f"{min(slots, runs)} at a time" if slots else "in this process") + (
            f" on {gpus} GPUs" if gpus > 1 else ""
        )

    def engine(self, device: str, runs: int, results: Path) -> Engine:
        """Return the engine.

        Args:
            device: Device of the runs.
            runs: Number of runs.
            results: The results folder.
        """
        if self._request is not None:
            return OnSlurm(self._request, results, available_cores())
        if self.ray is not None:
            cpus = self.cpus_per_run or (GPU_THREADS if device.startswith("cuda") else 1)
            return OnRay(self.ray, self.gpus_per_run or 0, cpus, results)
        slots = self._slots(device)
        # A GPU given by its number is the only one, and keeps that number.
        gpus = visible_gpus() if device == "cuda" else []
        return Local(min(slots, runs), gpus) if slots else InProcess()

    def _slots(self, device: str) -> int:
        """Return the runs at a time on this machine: as given, else one per core, or as many as fit on the GPUs."""
        jobs = self.usual_jobs if self.jobs is None else self.jobs
        if self.gpus_per_run is None:
            usual = available_cores() if device == "cpu" else len(visible_gpus()) if device == "cuda" else 1
            return (usual or 1) if jobs is None else jobs
        if device != "cuda":
            raise BenchError(
                f"--gpus-per-run distributes the GPUs of this machine, and the device is {device}; leave it out"
            )
        gpus = len(visible_gpus())
        capacity = gpus * int(1 / self.gpus_per_run + 1e-6)
        if (self.jobs or 0) > capacity:
            raise BenchError(
                f"--jobs {self.jobs} with --gpus-per-run {self.gpus_per_run:g}: the GPUs here, {gpus}, take {capacity} "
                f"such runs at a time; lower one of them"
            )
        return capacity if self.jobs is None else self.jobs
