"""Runs as a Slurm job array, through submitit, which writes the script, asks Slurm how jobs are, and puts those back
into the queue that were taken off their machine or ran out of time. The results folder is shared with the machines.
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
"""Slurm's own limit on an array, MaxArraySize, is 1001 unless a site raises it."""
LOOK = 1.0
"""Seconds between two looks for results on the disk; Slurm itself is asked once a minute."""


@dataclass(frozen=True)
class SlurmRequest:
    """What `--slurm KEY=VALUE,…` may ask for."""

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    gres: str | None = None
    wckey: str | None = None
    mem: str = "16G"
    gpus: int = 0  # of a run
    cpus: int = 4
    time: int = 240  # minutes a run may take before it is put back into the queue
    array: int = 256  # runs at a time, at most
    cluster: str = "slurm"  # local: try it without Slurm, in processes on this machine

    @classmethod
    def read(cls, asked: Mapping[str, str]) -> SlurmRequest:
        known = {field.name: field.type for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, text in asked.items():
            if key not in known:
                raise BenchError(f"--slurm: no key {key!r}{did_you_mean(key, known)} There are {', '.join(known)}")
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
    """Slurm's ways to write a time: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S. Rounded up to minutes."""
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
    """Runs as the jobs of an array."""

    def __init__(self, request: SlurmRequest, results: Path, cores: int) -> None:
        """results: where records are kept; what Slurm and submitit write goes to its subfolder slurm. cores: of this
        machine, for a trial without Slurm.
        """
        try:
            import submitit
        except ImportError:
            raise BenchError(
                "--slurm: submitit is not installed; install it with: pip install 'fergen-bench[slurm]'"
            ) from None
        if request.cluster == "slurm" and (shutil.which("sbatch") is None or shutil.which("srun") is None):
            raise BenchError(
                "--slurm: sbatch and srun are not found, so this is no machine to submit jobs from; go to one, or try "
                "it here with: --slurm cluster=local"
            )
        # submitit answers a local trial at once, and has no throttle for it.
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
        self._gathered.append(job)

    def ended(self, timeout: float | None) -> list[Outcome]:
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
        """Hands what was gathered to Slurm: one array, or several where it is larger than Slurm takes."""
        while self._gathered:
            jobs, self._gathered = self._gathered[:LARGEST_ARRAY], self._gathered[LARGEST_ARRAY:]
            try:
                with self._executor.batch():
                    handles = [self._executor.submit(_Launch(job)) for job in jobs]
            except RuntimeError as error:  # of which submitit's are kinds
                raise BenchError(f"--slurm: Slurm took no jobs: {reason(error, 'last')}") from None
            self._running += zip(handles, jobs, strict=True)

    def _outcome(self, handle: Any, job: Job) -> Outcome:
        try:
            outcome: Outcome = handle.result()
        except Exception as error:  # submitit's own, and whatever reading a result may raise
            failure = f"Slurm job {handle.job_id} left no result: {reason(error)}"
            return Outcome(job, None, failure=failure, log=f"{error}\n\n{handle.stderr() or ''}")
        return outcome

    def stop(self) -> None:
        for handle, _ in self._running:
            with suppress(Exception):  # it has ended meanwhile
                handle.cancel(check=False)


class _Launch:
    """What a job of the array does: launch the worker command on its machine."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(self) -> Outcome:
        return Worker(self._job).outcome(lambda job, message: None)

    def checkpoint(self) -> Any:
        """The same again: a run goes on from where its training was saved last."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
