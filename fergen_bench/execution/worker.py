"""Execute one run in its own process: `python -m fergen_bench.execution.worker JOB.json`, which every engine launches.

The worker writes JSON lines to its standard output: {"what": …, "done": …, "total": …} while it works, and at the end
{"record": path}, {"refused": sentence, "everywhere": …, "stops": …}, or {"elsewhere": true} where another process
executes this run. The output of a method goes to standard error. Exit status: 0 done, 2 refused (bad input, or no room
left), 1 failed, 4 elsewhere.

Standard input shows that the driver is alive: the worker ends when it closes.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from fergen_bench.error import BenchError, NoRoom, RunError, circumstance
from fergen_bench.experiment.run import Job
from fergen_bench.progress import Progress
from fergen_bench.records.claim import claim, finished_since_planned


def main() -> int:
    """Execute the run whose job file is the only argument, and return the exit status."""
    (path,) = sys.argv[1:]
    messages = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if stat.S_ISFIFO(os.fstat(0).st_mode):  # a pipe from a driver, not a terminal or /dev/null
        threading.Thread(target=_end_with_driver, daemon=True).start()

    def send(**message: Any) -> None:
        messages.write(json.dumps(message) + "\n")
        messages.flush()

    def progress(what: str, done: int, total: int, /) -> None:
        send(what=what, done=done, total=total)

    try:
        job = Job.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
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


def _end_with_driver() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


if __name__ == "__main__":
    code = main()
    # Skip the shutdown of the interpreter: unloading torch takes longer than many runs.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
