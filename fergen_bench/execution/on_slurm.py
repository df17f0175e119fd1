"""Execute runs as a Slurm job array, through submitit.

The library submitit writes the script, polls the state of the jobs, and requeues jobs that lost their machine or ran
out of time. The machines share the results folder.
"""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fergen_bench.error import BenchError, did_you_mean, reason
from fergen_bench.execution.engine import Listen, Outcome, Worker
from fergen_bench.experiment.run import Job

LARGEST_ARRAY = 1000
"""The largest array: Slurm's own limit, MaxArraySize, is 1001 unless a site raises it."""
LOOK = 1.0
"""Seconds between two checks for results on the disk; submitit polls Slurm once a minute."""


@dataclass(frozen=True)
class SlurmRequest:
    """The keys of `--slurm KEY=VALUE,…`."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    wckey: str | None = None
    mem: str = "16G"
    gpus: int = 0  # per run
    cpus: int = 4
    time: int = 240  # minutes a run may take before it is put back into the queue
    array: int = 256  # the maximum number of runs at a time
    cluster: str = "slurm"  # local: without Slurm, in processes on this machine, for a trial

    @classmethod
    def read(cls, given: Mapping[str, str]) -> SlurmRequest:
        """Read the keys and values of the option.

        Raises:
            BenchError: A key does not exist, or its value does not fit.
        """
        known = {field.name: field.type for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, text in given.items():
            if key not in known:
                raise BenchError(f"--slurm: no key {key!r}{did_you_mean(key, known)} The keys are {', '.join(known)}")
            if key == "time":
                values[key] = _minutes(text)
            elif known[key] == "int":
                least = 0 if key == "gpus" else 1
                if not text.isdigit() or int(text) < least:
                    raise BenchError(f"--slurm: {key}={text}: it must be a whole number from {least}")
                if key == "gpus" and int(text) > 1:
                    raise BenchError(f"--slurm: gpus={text}: a run uses one GPU; give gpus=1")
                values[key] = int(text)
            else:
                values[key] = text
        if values.get("cluster", "slurm") not in {"slurm", "local"}:
            raise BenchError(f"--slurm: cluster={values['cluster']}: write slurm, or local to try it without Slurm")
        return cls(**values)


def _minutes(text: str) -> int:
    """Return a time in minutes, rounded up, from minutes, M:S, H:M:S, D-H, D-H:M or D-H:M:S, as Slurm reads them."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is None:
        raise BenchError(f"--slurm: time={text}: write hours:minutes:seconds, as in 4:00:00, or minutes")
    days, *parts = (int(part) if part else None for part in found.groups())
    first, second, third = parts[0] or 0, parts[1] or 0, parts[2] or 0
    if days is None and parts[2] is None:
        seconds = first * 60 + second
    else:
        seconds = ((days or 0) * 24 + first) * 3600 + second * 60 + third
    if not seconds:
        raise BenchError(f"--slurm: time={text}: a run needs some time")
    return -(-seconds // 60)


class OnSlurm:
    """Execute runs as the jobs of an array."""

    def __init__(self, request: SlurmRequest, results: Path, cores: int) -> None:
        """Prepare the submission.

        Args:
            request: Resources of each run.
            results: The results folder; files of Slurm and submitit go into its subfolder slurm.
            cores: Cores of this machine, for a trial without Slurm.

        Raises:
            BenchError: The library submitit, or Slurm, is not installed.
        """
        try:
            import submitit
        except ImportError:
            raise BenchError(
                "--slurm: submitit is not installed; install it with: pip install 'fergen-bench[slurm]'"
            ) from None
        if request.cluster == "slurm" and (shutil.which("sbatch") is None or shutil.which("srun") is None):
            raise BenchError(
                "--slurm: sbatch and srun are not installed here; submit from a machine that has them, or try it here "
                "with: --slurm cluster=local"
            )
        # A local trial has no queue: submitit starts every job at once.
        self.slots = cores if request.cluster == "local" else sys.maxsize
        self._executor: Any = submitit.AutoExecutor(results / "slurm", cluster=request.cluster, slurm_max_num_timeout=3)
        asked = {
            name: getattr(request, name)
            for name in ("partition", "account", "qos", "constraint", "exclude", "gres", "wckey")
            if getattr(request, name) is not None
        }
        self._executor.update_parameters(
            name="fergen-bench",
            timeout_min=request.time,
            cpus_per_task=request.cpus,
            slurm_array_parallelism=request.array,
            slurm_additional_parameters={"requeue": True, "mem": request.mem},
            **({"gpus_per_node": request.gpus} if request.gpus else {}),
            **{f"slurm_{name}": value for name, value in asked.items()},
        )
        self._gathered: list[Job] = []
        self._running: list[tuple[Any, Job]] = []

    def start(self, job: Job, listen: Listen) -> None:
        """Add a run to the next array."""
        self._gathered.append(job)

    def ended(self, timeout: float | None) -> list[Outcome]:
        """Submit the next array, and return the runs that ended; see `Engine.ended`."""
        self._submit()
        until = None if timeout is None else time.monotonic() + timeout
        while self._running:
            done = [(handle, job) for handle, job in self._running if handle.done()]
            self._running = [entry for entry in self._running if entry not in done]
            if done or (until is not None and time.monotonic() >= until):
                return [self._outcome(handle, job) for handle, job in done]
            time.sleep(LOOK)
        return []

    def _submit(self) -> None:
        """Submit the collected runs: as one array, or as several where one would exceed LARGEST_ARRAY."""
        while self._gathered:
            jobs, self._gathered = self._gathered[:LARGEST_ARRAY], self._gathered[LARGEST_ARRAY:]
            try:
                with self._executor.batch():
                    handles = [self._executor.submit(_Launch(job)) for job in jobs]
            except RuntimeError as error:  # the base class of submitit's errors
                raise BenchError(f"--slurm: Slurm accepted no jobs: {reason(error, 'last')}") from None
            self._running += zip(handles, jobs, strict=True)

    def _outcome(self, handle: Any, job: Job) -> Outcome:
        try:
            outcome: Outcome = handle.result()
        except Exception as error:  # an error of submitit, or of reading a result
            failure = f"Slurm job {handle.job_id} left no result: {reason(error)}"
            return Outcome(job, None, failure=failure, log=f"{error}\n\n{handle.stderr() or ''}")
        return outcome

    def stop(self) -> None:
        """Cancel all jobs."""
        for handle, _ in self._running:
            with suppress(Exception):  # it has ended meanwhile
                handle.cancel(check=False)


class _Launch:
    """A job of the array: start the worker command on its machine."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self) -> Outcome:
        with Worker(self._job.threads) as worker:
            return worker.run(self._job, lambda job, message: None)

    def checkpoint(self) -> Any:
        """Return the same job, for the queue: the run continues from its resume state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
