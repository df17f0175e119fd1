"""Many runs at a time: in slots on this machine (local), on Ray (on_ray) or on Slurm (on_slurm). Every engine launches
the worker command, once per run, so that there is one way to run and a crash takes one run with it. Torch-free: a
driver stays small and quick.
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fergen_bench.error import RunError
from fergen_bench.experiment.run import Job
from fergen_bench.records.claim import finished_since_planned, is_claimed

POLL = 2.0
"""Seconds between two looks at a run that another process is making."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended: with a record, refused for bad input, or failed."""

    job: Job
    record: Path | None
    refused: str | None = None
    everywhere: bool = False  # other runs with the same method and parameters would be refused too
    stops: bool = False  # no run can be made before somebody makes room
    failure: str | None = None  # one sentence
    killed: bool = False  # from outside: the same run may well succeed elsewhere, or later
    elsewhere: bool = False  # another process is making this very run
    log: str = ""  # what the worker wrote to standard error


Listen = Callable[[Job, dict[str, Any]], None]
"""listen(job, message): what a worker says while it works. Called from several threads."""


class Engine(Protocol):
    """Where runs are made."""

    @property
    def slots(self) -> int:
        """Runs it takes at a time."""

    def start(self, job: Job, listen: Listen) -> None:
        """Begins a run, or queues it. listen: hears of it as far as the engine can tell."""

    def ended(self, timeout: float | None) -> list[Outcome]:
        """Runs that have ended since it was asked last; waits for one, `timeout` seconds at most. Empty at once where
        nothing runs.
        """

    def stop(self) -> None:
        """Ends what still runs, and lets everything go."""


def run_all(
    jobs: Sequence[Job],
    engine: Engine,
    wanted: Callable[[Job], bool],
    listen: Listen,
    finished: Callable[[Outcome], None],
) -> None:
    """Runs every job that is still wanted when its turn comes. What another process is making now is left to it.

    A failing run does not stop the others. Leaving early (Ctrl-C) ends all workers.
    """
    queue, running = deque(jobs), 0
    try:
        while queue or running:
            elsewhere: list[Job] = []
            while queue and running < engine.slots:
                job = queue.popleft()
                if not wanted(job):
                    continue
                try:
                    made = finished_since_planned(job)
                except RunError as error:
                    finished(Outcome(job, None, refused=str(error)))
                    continue
                if made is not None:
                    finished(Outcome(job, made))
                elif is_claimed(job.spec, Path(job.runs)):
                    elsewhere.append(job)
                else:
                    engine.start(job, listen)
                    running += 1
            queue.extend(elsewhere)
            if elsewhere and not running:
                time.sleep(POLL)
            for outcome in engine.ended(POLL if elsewhere else None):
                running -= 1
                if outcome.elsewhere:
                    queue.append(outcome.job)
                else:
                    finished(outcome)
    finally:
        engine.stop()


class Worker:
    """One run in a process of its own."""

    def __init__(self, job: Job, environment: Mapping[str, str] | None = None) -> None:
        """Launches it. environment: what differs from this process's."""
        self._job = job
        # What still dies there when it is removed need not be waited for.
        self._folder = tempfile.TemporaryDirectory(prefix="fergen-bench-", ignore_cleanup_errors=True)
        spec, self._log = Path(self._folder.name, "job.json"), Path(self._folder.name, "log.txt")
        spec.write_text(json.dumps(job.to_json()), encoding="utf-8")
        threads = str(job.threads)
        with self._log.open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                # -P: the folder one stands in is no place to import from; a random.py there would break every worker.
                [sys.executable, "-P", "-m", "fergen_bench.execution.worker", str(spec)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
                env={
                    **os.environ,
                    "PYTHONIOENCODING": "utf-8",  # of its messages and its log, whatever the locale
                    "OMP_NUM_THREADS": threads,
                    "MKL_NUM_THREADS": threads,
                    **(environment or {}),
                },
                # Of its own: Ctrl-C reaches the driver alone, which then ends the workers in good order; so does
                # Slurm's warning before it takes the machine away.
                start_new_session=True,
            )

    def outcome(self, listen: Listen) -> Outcome:
        """Waits for the end. Leaving early ends the process."""
        process, last = self._process, dict[str, Any]()
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            for line in process.stdout:
                last = json.loads(line)
                listen(self._job, last)
            code = process.wait()
            text = self._log.read_text(encoding="utf-8", errors="replace")
        finally:
            self.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
            self._folder.cleanup()
        if code == 0 and "record" in last:
            return Outcome(self._job, Path(last["record"]), log=text)
        if "elsewhere" in last:
            return Outcome(self._job, None, elsewhere=True, log=text)
        if "refused" in last:
            return Outcome(
                self._job, None, last["refused"], everywhere=last["everywhere"], stops=last["stops"], log=text
            )
        killed = code in (-signal.SIGKILL, -signal.SIGTERM) if os.name == "posix" else False
        return Outcome(
            self._job, None, failure=_reason(code, text) + in_method(self._job, text), killed=killed, log=text
        )

    def kill(self) -> None:
        self._process.kill()


def in_method(job: Job, log: str) -> str:
    """Return the last line of the method's file that the last traceback names, for the end of a sentence; empty where
    it names none. Tracebacks before the last are of errors that the method caught.
    """
    last = log.rpartition("Traceback (most recent call last)")[2]
    lines = re.findall(rf'File "{re.escape(job.method_file)}", line (\d+)', last)
    return f" ({job.method_file}:{lines[-1]})" if lines else ""


def _reason(code: int, log: str) -> str:
    """One sentence on why a worker died."""
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process was killed ({name})" + (
            "; the machine may have run out of memory: lower --jobs" if name == "SIGKILL" else ""
        )
    lines = [line for line in log.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"the process ended with status {code}"
