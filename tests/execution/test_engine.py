"""Runs that another process finished or executes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
from running import execute_on, make_plan, numbers, plan_noted, trainings

from fergen_bench.data.corruption import VERSION
from fergen_bench.execution import local
from fergen_bench.execution import plan as planning
from fergen_bench.execution.engine import in_method
from fergen_bench.experiment import run
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import Protocol


def test_a_line_of_an_error_that_was_caught_is_not_where_a_run_failed(lab: Project) -> None:
    job = make_plan(lab).runs[0]
    caught = f'Traceback (most recent call last):\n  File "{job.method_file}", line 3, in fit\nValueError: caught\n'
    elsewhere = 'Traceback (most recent call last):\n  File "runner.py", line 9, in run_one\nRuntimeError: it broke\n'
    here = f'Traceback (most recent call last):\n  File "{job.method_file}", line 14, in fit\nRuntimeError: it broke\n'
    assert in_method(job, caught + elsewhere) == ""
    assert in_method(job, caught + here) == f" ({job.method_file}:14)"


@pytest.mark.slow
def test_two_commands_on_one_folder_share_the_work(noted_lab: Project) -> None:
    command = "from fergen_bench.cli import main; main()"
    asked = [
        "run",
        "--method",
        "noted",
        "--set",
        "seconds=0.5",
        "--seeds",
        "0",
        "--sources",
        "web,film",
        "--no-track",
        "--jobs",
        "1",
    ]
    processes = [
        subprocess.Popen([sys.executable, "-c", command, *asked], stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert set(trainings(noted_lab).values()) == {1}
    assert len(numbers(noted_lab)) == len(trainings(noted_lab)) == 2
    assert not list((noted_lab.results / "unfinished").iterdir())


def test_a_run_made_meanwhile_is_not_made_again_but_rerun_is_rerun(noted_lab: Project) -> None:
    plan = plan_noted(noted_lab, [0], ["web"])
    execute_on(plan, noted_lab, local.InProcess())
    (late,) = execute_on(plan, noted_lab, local.InProcess())
    assert late.record is not None
    assert sum(trainings(noted_lab).values()) == 1
    execute_on(plan_noted(noted_lab, [0], ["web"], rerun=True), noted_lab, local.InProcess())
    assert sum(trainings(noted_lab).values()) == 2


def test_a_run_made_meanwhile_for_other_targets_is_not_overwritten(noted_lab: Project) -> None:
    plan = plan_noted(noted_lab, [0], ["web"])
    narrow = Protocol(about="x", sources=["web"], targets=["wild"], seeds=[0])
    suite = noted_lab.suite("synth5-tiny")
    planned = outline(narrow, "p", suite, [noted_lab.method("noted")], Request())
    execute_on(planning.make_plan(noted_lab, planned, planning.PlanOptions()), noted_lab, local.InProcess())
    (outcome,) = execute_on(plan, noted_lab, local.InProcess())
    assert "another process finished this run meanwhile" in (outcome.refused or "")


def test_a_run_made_meanwhile_without_the_shifts_is_not_taken_for_them(noted_lab: Project) -> None:
    plan = plan_noted(noted_lab, [0], ["web"])
    execute_on(plan, noted_lab, local.InProcess())
    shifts = [run.Corruption("web", "blur", 1.0, 10, VERSION)]
    late = replace(plan, missing=tuple(replace(job, corruptions=shifts) for job in plan.missing))
    (outcome,) = execute_on(late, noted_lab, local.InProcess())
    assert "with other targets or other options" in (outcome.refused or "")
