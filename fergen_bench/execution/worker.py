"""Execute one run in its own process: `python -m fergen_bench.execution.worker JOB.json`, which every engine launches.

It speaks JSON lines on its standard output: {"what": …, "done": …, "total": …} while it works, and at the end
{"record": path}, {"refused": sentence, "everywhere": …, "stops": …}, or {"elsewhere": true} where another process is
making this run. Whatever a method prints goes to standard error. Exit status: 0 done, 2 refused (bad input, or no
room), 1 failed, 4 elsewhere.

Standard input is a lifeline: when it closes, the process that wanted the run is gone, and so is the reason to go on.
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
    (path,) = sys.argv[1:]
    speech = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if stat.S_ISFIFO(os.fstat(0).st_mode):  # a pipe from a driver, not a terminal or /dev/null
        threading.Thread(target=_follow_lifeline, daemon=True).start()

    def say(**message: Any) -> None:
        speech.write(json.dumps(message) + "\n")
        speech.flush()

    def report(what: str, done: int, total: int) -> None:
        say(what=what, done=done, total=total)

    try:
        job = Job.from_json(json.loads(Path(path).read_text(encoding="utf-8")))
        report("started", 0, 1)
        record = make(job, report)
    except Exception as error:
        traceback.print_exc()
        if (refusal := refusal_of(error)) is not None:
            say(**refusal)
            return 2
        return 1
    if record is None:
        say(elsewhere=True)
        return 4
    say(record=str(record))
    return 0


def refusal_of(error: Exception) -> dict[str, Any] | None:
    """What is said of a run that was refused, or that the machine had no room for; None where it failed."""
    known = error if isinstance(error, BenchError) else circumstance(error)
    if known is None:
        return None
    everywhere = not isinstance(known, RunError | NoRoom)
    return {"refused": str(known), "everywhere": everywhere, "stops": isinstance(known, NoRoom)}


def make(job: Job, report: Progress) -> Path | None:
    """Makes a run, unless it was made since it was planned; its record, or None where another process is at it."""
    with claim(job.spec, Path(job.runs)) as mine:
        if not mine:
            return None
        if (made := finished_since_planned(job)) is not None:
            return made
        from fergen_bench.execution.runner import run_one  # loads torch

        return run_one(job, report)


def _follow_lifeline() -> None:
    sys.stdin.buffer.read()
    os._exit(3)


if __name__ == "__main__":
    code = main()
    # Without the interpreter's farewell: unloading torch takes longer than many runs.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
