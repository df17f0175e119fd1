"""Execute many runs at a time: on this machine (local), on Ray (on_ray) or on Slurm (on_slurm).

Every engine but one executes each run in a process of its own, below a `Worker`, so that a crash ends one run only. The
module does not import torch: the driver stays small and quick.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fergen_bench.error import RunError
from fergen_bench.experiment.run import Job
from fergen_bench.records.claim import finished_since_planned, is_claimed

POLL = 2.0
"""Seconds between two checks of a run that another process executes."""


@dataclass(frozen=True)
class Outcome:
    """The end of a run: a record, a refusal for bad input, or a failure.

    Attributes:
        job: The run.
        record: Path of the record, or None.
        refused: Sentence about the bad input.
        everywhere: True where other runs with the same method and parameters would be refused, too.
        stops: True where no run can succeed before the disk or the memory has room again.
        failure: Sentence about the failure.
        killed: True where the process was killed from outside; the same run may succeed elsewhere, or later.
        elsewhere: True where another process executes this run.
        log: Standard error of the worker during the run.
    """

    job: Job
    record: Path | None
    refused: str | None = None
    everywhere: bool = False
    stops: bool = False
    failure: str | None = None
    killed: bool = False
    elsewhere: bool = False
    log: str = ""


Listen = Callable[[Job, dict[str, Any]], None]
"""listen(job, message) receives the messages of a worker while it works. Several threads call it."""


class Engine(Protocol):
    """Executes runs."""

    @property
    def slots(self) -> int:
        """The number of runs that it accepts at a time."""

    def start(self, job: Job, listen: Listen) -> None:
        """Start a run, or queue it.

        Args:
            job: The run.
            listen: Receives the progress of the run, from engines that transmit it.
        """

    def ended(self, timeout: float | None) -> list[Outcome]:
        """Return the runs that ended since the last call, after waiting for one.

        Args:
            timeout: Seconds to wait at most; None waits until one ends.

        Returns:
            The ended runs; an empty list, at once, where nothing runs.
        """

    def stop(self) -> None:
        """End all runs and release all resources."""


def run_all(
    jobs: Sequence[Job],
    engine: Engine,
    wanted: Callable[[Job], bool],
    listen: Listen,
    finished: Callable[[Outcome], None],
) -> None:
    """Execute every job that is still wanted when its turn comes.

    A failing run does not stop the others. A run that another process executes now is left to that process. A run that
    starts from the fitted method of another one starts after it. Leaving early (Ctrl-C) ends all workers.

    Args:
        jobs: The runs.
        engine: Executes them.
        wanted: Returns False for a job that should not start any more.
        listen: Receives the messages of the workers.
        finished: Receives every run that ended.
    """
    queue, running = deque(jobs), 0
    unfinished = {job.spec.key for job in jobs}

    def conclude(outcome: Outcome) -> None:
        unfinished.discard(outcome.job.spec.key)
        finished(outcome)

    try:
        while queue or running:
            elsewhere: list[Job] = []
            early: list[Job] = []
            while queue and running < engine.slots:
                job = queue.popleft()
                if not wanted(job):
                    unfinished.discard(job.spec.key)
                    continue
                if job.spec.base is not None and job.spec.base.key in unfinished:
                    early.append(job)
                    continue
                try:
                    made = finished_since_planned(job)
                except RunError as error:
                    conclude(Outcome(job, None, refused=str(error)))
                    continue
                if made is not None:
                    conclude(Outcome(job, made))
                elif is_claimed(job.spec, Path(job.runs)):
                    elsewhere.append(job)
                else:
                    engine.start(job, listen)
                    running += 1
            queue.extend((*elsewhere, *early))
            if elsewhere and not running:
                time.sleep(POLL)
            for outcome in engine.ended(POLL if elsewhere else None):
                running -= 1
                if outcome.elsewhere:
                    queue.append(outcome.job)
                else:
                    conclude(outcome)
    finally:
        engine.stop()


class Worker:
    """A process that executes runs, one after another; see `fergen_bench.execution.worker`."""

    def __init__(self, threads: int, environment: Mapping[str, str] | None = None) -> None:
        """Start the process.

        Args:
            threads: CPU threads of a run.
            environment: Environment variables that differ from those of this process.
        """
        # A process that is still ending there must not make the removal fail.
        self._folder = tempfile.TemporaryDirectory(prefix="fergen-bench-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name, "log.txt")
        with self._log.open("ab") as errors:
            self._process = subprocess.Popen(
                # -P: nothing is imported from the working directory, where a random.py would break every worker.
                [sys.executable, "-P", "-m", "fergen_bench.execution.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env={
                    **os.environ,
                    "PYTHONIOENCODING": "utf-8",  # for messages and log, whatever the locale
                    "OMP_NUM_THREADS": str(threads),
                    "MKL_NUM_THREADS": str(threads),
                    **(environment or {}),
                },
                # A session of its own: Ctrl-C, and Slurm's warning before it takes the machine away, reach the driver
                # alone, which then ends the workers in order.
                start_new_session=True,
            )

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def alive(self) -> bool:
        """True while the process can execute a run."""
        return self._process.poll() is None

    def run(self, job: Job, listen: Listen) -> Outcome:
        """Execute a run.

        Args:
            job: The run.
            listen: Receives the messages of the worker.
        """
        process, last, code = self._process, dict[str, Any](), None
        assert process.stdout is not None
        assert process.stdin is not None
        start = self._log.stat().st_size
        with suppress(BrokenPipeError):  # the process was killed just now
            process.stdin.write(json.dumps(job.to_json()) + "\n")
            process.stdin.flush()
        for line in process.stdout:
            message = json.loads(line)
            if "ended" in message:
                code = message["ended"]
                break
            last = message
            listen(job, last)
        code = process.wait() if code is None else code
        text = self._log.read_bytes()[start:].decode(errors="replace")
        if "record" in last:
            return Outcome(job, Path(last["record"]), log=text)
        if "elsewhere" in last:
            return Outcome(job, None, elsewhere=True, log=text)
        if "refused" in last:
            return Outcome(job, None, last["refused"], everywhere=last["everywhere"], stops=last["stops"], log=text)
        killed = code in (-signal.SIGKILL, -signal.SIGTERM) if os.name == "posix" else False
        return Outcome(job, None, failure=_reason(code, text) + in_method(job, text), killed=killed, log=text)

    def kill(self) -> None:
        """End the process and its fork at once."""
        if os.name != "posix":
            self._process.kill()
        elif self.alive:
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the process, and remove its files."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):  # it may contain a job that the process never read
                pipe.close()
        self._folder.cleanup()


def in_method(job: Job, log: str) -> str:
    """Return the line of the method file where a run failed, for the end of a sentence.

    Only the last traceback counts: those before it belong to errors that the method caught.

    Args:
        job: The run.
        log: Standard error of its worker.

    Returns:
        Path and line in parentheses; "" where the last traceback does not pass through the method file.
    """
    last = log.rpartition("Traceback (most recent call last)")[2]
    lines = re.findall(rf'File "{re.escape(job.method_file)}", line (\d+)', last)
    return f" ({job.method_file}:{lines[-1]})" if lines else ""


def _reason(code: int, log: str) -> str:
    """Return a sentence about why a worker ended."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process was killed ({name})" + (
            "; the machine may have run out of memory: lower --jobs" if name == "SIGKILL" else ""
        )
    lines = [line for line in log.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"the process ended with status {code}"
