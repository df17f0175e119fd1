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
    """Runs what is missing, wherever the engine makes runs.

    A run that fails leaves its trace in results/failed and does not stop the others. After bad input that other runs
    would meet as well (a method file that cannot be loaded, weights that cannot be fetched) those are given up, and so
    they are when a second run fails at the same line of the method's file; after a full disk all are. A run that
    succeeded, was refused or was killed from outside does not count as the first: its log may name such a line too.
    """
    given_up: set[str] = set()
    failed: set[tuple[str, str]] = set()  # what failed runs were made of, and the line of the method's file
    full = False

    def conclude(outcome: Outcome) -> None:
        nonlocal full
        full |= outcome.stops
        made_of = _ingredients(outcome.job)
        where = in_method(outcome.job, outcome.log) if outcome.failure and not outcome.killed else ""
        if outcome.everywhere or (where and (made_of, where) in failed):
            given_up.add(made_of)
        failed.add((made_of, where))
        trace = failure_path(project, outcome.job.spec)
        if outcome.record is None:
            why = outcome.refused or outcome.failure
            with suppress(OSError):  # where the disk is full, the sentence on the screen has to do
                trace.parent.mkdir(parents=True, exist_ok=True)
                trace.write_text(f"{outcome.job.spec.title}\n{why}\n\n{outcome.log}", encoding="utf-8")
            finished(outcome, None)
        else:
            trace.unlink(missing_ok=True)
            finished(outcome, store.load(outcome.record))

    def wanted(job: Job) -> bool:
        return not full and _ingredients(job) not in given_up

    run_all(plan.missing, engine, wanted, listen, conclude)


def _ingredients(job: Job) -> str:
    """What runs share that differ in sources and seed alone."""
    return json.dumps([job.method_file, dict(job.spec.parameters)], sort_keys=True, default=str)


def failure_path(project: Project, spec: Run) -> Path:
    return project.results / "failed" / f"{spec.slug}.txt"
