"""Execute the missing runs of a plan on an engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.execution.engine import in_method, run_all
from fergen_bench.records import store

if TYPE_CHECKING:
    from fergen_bench.execution.engine import Engine, Listen, Outcome
    from fergen_bench.execution.plan import Plan
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.run import Job, Run
    from fergen_bench.records.record import RunRecord


def execute(
    plan: Plan, project: Project, engine: Engine, listen: Listen, finished: Callable[[Outcome, RunRecord | None], None]
) -> None:
    """Execute the missing runs of a plan.

    The log of a failed run goes to results/failed, and the other runs continue. Runs of the same method and parameters
    are skipped after bad input that they share, such as a method file that cannot be loaded or weights that cannot be
    downloaded. They are skipped, too, after a second failure at the same line of the method file. A full disk
    stops all runs. A run that succeeded, was refused or was killed from outside does not count as the first failure:
    its log may name such a line, too.

    Args:
        plan: The plan.
        project: The project, whose results folder receives the logs.
        engine: Executes the runs.
        listen: Receives the messages of the workers.
        finished: Receives every outcome, with its record if there is one.
    """
    given_up: set[str] = set()
    failed: set[tuple[str, str]] = set()  # method and parameters of failed runs, and the line of the method file
    full = False

    def conclude(outcome: Outcome) -> None:
        nonlocal full
        full |= outcome.stops
        kind = _kind(outcome.job)
        where = in_method(outcome.job, outcome.log) if outcome.failure and not outcome.killed else ""
        if outcome.everywhere or (where and (kind, where) in failed):
            given_up.add(kind)
        failed.add((kind, where))
        trace = failure_path(project, outcome.job.spec)
        if outcome.record is None:
            why = outcome.refused or outcome.failure
            with suppress(OSError):  # on a full disk, the message on the console has to suffice
                trace.parent.mkdir(parents=True, exist_ok=True)
                trace.write_text(f"{outcome.job.spec.title}\n{why}\n\n{outcome.log}", encoding="utf-8")
            finished(outcome, None)
        else:
            trace.unlink(missing_ok=True)
            finished(outcome, store.load(outcome.record))

    def wanted(job: Job) -> bool:
        return not full and _kind(job) not in given_up

    run_all(plan.missing, engine, wanted, listen, conclude)


def _kind(job: Job) -> str:
    """Return what runs share that differ in sources and seed only: method file and parameters."""
    return json.dumps([job.method_file, dict(job.spec.parameters)], sort_keys=True, default=str)


def failure_path(project: Project, spec: Run) -> Path:
    """Return the path of the log of a failed run."""
    return project.results / "failed" / f"{spec.slug}.txt"
