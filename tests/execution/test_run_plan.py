"""The execution of a plan: failures, and runs that are skipped after them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from running import METHOD, execute, make_plan

from fergen_bench.execution import plan as planning
from fergen_bench.execution import run_plan
from fergen_bench.execution.engine import Outcome
from fergen_bench.execution.local import InProcess
from fergen_bench.experiment.project import Project


@pytest.mark.parametrize("slots", [0, 1])
def test_what_every_run_would_meet_is_met_once(lab: Project, slots: int) -> None:
    ended = execute(make_plan(lab, {"kind": "shape"}, {"seeds": [0, 1, 2]}), lab, slots)
    assert len(ended) == 1


def test_what_one_run_meets_does_not_stop_the_others(lab: Project) -> None:
    ended = execute(make_plan(lab, {"kind": "nan"}, {"seeds": [0, 1]}), lab, 0)
    assert len(ended) == 4


@pytest.mark.parametrize("slots", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_method_that_fails_twice_at_one_line_is_given_up(lab: Project, slots: int) -> None:
    everywhere = {"sources": ["web", "film", "wild", "grey48"]}
    ended = execute(make_plan(lab, {"kind": "error"}, everywhere), lab, slots)
    assert len(ended) == 2
    assert len(list((lab.results / "failed").iterdir())) == 2


class Logged(InProcess):
    """Runs whose logs name the line of the method's file that `error` fails at, as a traceback that was caught does."""

    def _run(self, job: Any, listen: Any) -> Outcome:
        caught = (
            f'Traceback (most recent call last):\n  File "{job.method_file}", line 14, in fit\nValueError: caught\n'
        )
        outcome = super()._run(job, listen)
        return replace(outcome, log=caught + outcome.log)


def test_one_failure_after_successes_does_not_give_a_method_up(lab: Project) -> None:
    path = lab.root / "methods" / "probe.py"
    path.write_text(METHOD.replace('self.kind == "error"', "ctx.seed in (2, 5)"))
    assert "ctx.seed in (2, 5): raise" in path.read_text().splitlines()[13]
    plan = make_plan(lab, protocol={"sources": ["web"], "targets": ["web"], "seeds": [0, 1, 2, 3, 4, 5, 6]})
    ended: list[tuple[int, bool]] = []
    run_plan.execute(
        plan,
        lab,
        Logged(),
        lambda job, message: None,
        lambda outcome, entry: ended.append((outcome.job.spec.seed, entry is not None)),
    )
    # Seed 2 is the first failure, and 3 and 4 start; seed 5 is the second at that line, and 6 does not.
    assert ended == [(0, True), (1, True), (2, False), (3, True), (4, True), (5, False)]


def test_a_failing_run_leaves_its_trace_and_the_matrix_goes_on(lab: Project) -> None:
    broken, fine = (
        make_plan(lab, {"kind": "error"}, {"sources": ["web"]}),
        make_plan(lab, protocol={"sources": ["film"]}),
    )
    both = planning.Plan(fine.suite, "test", (*broken.runs, *fine.runs), (*broken.missing, *fine.missing), ())
    ended = execute(both, lab, 1)
    assert [entry is None for _, entry in ended] == [True, False]
    assert ended[0][0].failure == f"RuntimeError: it broke ({lab.root / 'methods' / 'probe.py'}:14)"
    (trace,) = (lab.results / "failed").iterdir()
    assert "in fit" in trace.read_text()
    assert "methods may print" in trace.read_text()
    # A run that then succeeds takes its trace away.
    path = lab.root / "methods" / "probe.py"
    path.write_text(METHOD.replace('raise RuntimeError("it broke")', "pass"))
    execute(make_plan(lab, {"kind": "error"}, {"sources": ["web"]}), lab, 1)
    assert list((lab.results / "failed").iterdir()) == []
