"""Execute runs in processes of their own: `python -m fergen_bench.execution.worker`, which every engine starts.

The worker reads jobs from its standard input, one JSON line each, and executes each in a fork of itself. So torch is
loaded once for all runs, a crash ends one run, and a run inherits nothing from those before it. With a GPU and outside
Linux, where libraries do not survive a fork, the worker executes one job itself and ends.

It writes JSON lines to its standard output: {"what": …, "done": …, "total": …} during a run, and at its end
{"record": path}, {"refused": sentence, "everywhere": …, "stops": …}, or {"elsewhere": true} where another process
executes this run; then {"ended": exit status} about the fork. The output of a method goes to standard error. Exit
status: 0 done, 1 failed, 2 refused (bad input, or no room left), 3 the driver is gone, 4 elsewhere.

Standard input shows that the driver is alive: the worker and its fork end when it closes. While the worker loads torch,
it watches its parent instead.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fergen_bench.error import BenchError, NoRoom, RunError, circumstance
from fergen_bench.experiment.run import Job
from fergen_bench.progress import Progress
from fergen_bench.records.claim import claim, finished_since_planned

Send = Callable[..., None]
"""send(**message) writes one line to the driver."""


def main() -> int:
    """Execute the runs whose jobs come on standard input, and return the exit status of this process."""
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def send(**message: Any) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    trains = mmap.mmap(-1, 1)  # shared with the forks: 1 after a run that used an optimiser
    for line in sys.stdin.buffer:
        job = Job.from_json(json.loads(line))
        if job.device != "cpu" or sys.platform != "linux":
            return _perform(job, send)
        send(ended=_perform_in_fork(job, send, trains))
    return 0


def _perform_in_fork(job: Job, send: Send, trains: mmap.mmap) -> int:
    """Execute a run in a fork, and return its exit status, or the negative number of the signal that killed it."""
    with _ending_with_driver():
        import fergen_bench.execution.runner  # noqa: F401  loads torch, once for all forks

        if trains[0]:
            import torch._dynamo  # noqa: F401  every optimiser loads it, which takes as long as torch itself

    fork = os.fork()
    if fork == 0:
        code = 1
        try:
            code = _perform(job, send)
            trains[0] = "torch._dynamo" in sys.modules
        except BaseException:  # such as SystemExit, from a method
            traceback.print_exc()
        _exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1])


def _perform(job: Job, send: Send) -> int:
    """Execute a run, send how it ended, and return the exit status."""
    threading.Thread(target=_end_with_driver, daemon=True).start()

    def progress(what: str, done: int, total: int, /) -> None:
        send(what=what, done=done, total=total)

    try:
        progress("started", 0, 1)
        record = execute(job, progress)
    except Exception as error:
        traceback.print_exc()
        if (refusal := refusal_of(error)) is not None:
            send(**refusal)
            return 2
        return 1
    if record is None:
        send(elsewhere=True)
        return 4
    send(record=str(record))
    return 0


def refusal_of(error: Exception) -> dict[str, Any] | None:
    """Return the message about a run that was refused, or None for a failure.

    Args:
        error: The exception that ended the run: bad input, or a machine without room.
    """
    known = error if isinstance(error, BenchError) else circumstance(error)
    if known is None:
        return None
    everywhere = not isinstance(known, RunError | NoRoom)
    return {"refused": str(known), "everywhere": everywhere, "stops": isinstance(known, NoRoom)}


def execute(job: Job, progress: Progress) -> Path | None:
    """Execute a run, unless another process has finished it since it was planned.

    Args:
        job: The run.
        progress: Receives the progress of the run.

    Returns:
        The path of the record, or None where another process executes the run now.
    """
    with claim(job.spec, Path(job.runs)) as claimed:
        if not claimed:
            return None
        if (made := finished_since_planned(job)) is not None:
            return made
        from fergen_bench.execution.runner import run_one  # loads torch

        return run_one(job, progress)


@contextmanager
def _ending_with_driver() -> Iterator[None]:
    """Return a context in which this process ends a second after its driver: loading torch may take a minute.

    There is no thread in it, which a fork must not have.
    """
    driver = os.getppid()
    signal.signal(signal.SIGALRM, lambda *_: None if os.getppid() == driver else os._exit(3))
    signal.setitimer(signal.ITIMER_REAL, 1, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


def _end_with_driver() -> None:
    """Wait for the end of standard input, and end this process."""
    while os.read(0, 1):
        pass
    os._exit(3)


def _exit(code: int) -> None:
    """End this process without the shutdown of the interpreter: unloading torch takes longer than many runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    _exit(main())
