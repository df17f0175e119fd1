"""Slots on this machine."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import threading
from typing import Any

import numpy as np
import pytest
from running import execute, execute_on, make_plan, plan_noted, wait_for

from fergen_bench.execution import local, run_plan
from fergen_bench.execution.local import Local
from fergen_bench.experiment.project import Project
from lasting import idle


def test_workers_and_one_process_give_the_same_numbers(lab: Project) -> None:
    plan = make_plan(lab)
    apart = {entry.spec.key: entry for _, entry in execute(plan, lab, 2) if entry}
    logits = {key: np.load(entry.spec.path(lab.results / "runs").with_suffix(".npz")) for key, entry in apart.items()}
    together = {entry.spec.key: entry for _, entry in execute(plan, lab, 0) if entry}
    assert set(apart) == set(together) == {job.spec.key for job in plan.runs}
    for key, entry in together.items():
        assert entry.cells == apart[key].cells
        again = np.load(entry.spec.path(lab.results / "runs").with_suffix(".npz"))
        for target in again:
            np.testing.assert_array_equal(logits[key][target], again[target])


def test_a_killed_worker_is_one_failed_run(lab: Project) -> None:
    ((outcome, entry),) = execute(make_plan(lab, {"kind": "killed"}, {"sources": ["web"]}), lab, 1)
    assert entry is None
    assert "SIGKILL" in (outcome.failure or "")


def workers() -> list[int]:
    """Processes of this machine that run a worker for a test and are children of this one."""
    command = ["ps", "-ww", "-o", "pid=,args=", "--ppid", str(os.getpid())]  # -ww: whatever the width of the terminal
    answer = subprocess.run(command, capture_output=True, text=True)
    found = [int(line.split()[0]) for line in answer.stdout.splitlines() if "fergen_bench.execution.worker" in line]
    return [pid for pid in found if pid not in idle()]


@pytest.mark.usefixtures("own_processes")
def test_leaving_early_ends_the_workers_and_nothing_is_torn(lab: Project) -> None:
    plan = make_plan(lab, {"kind": "slow"})
    started = threading.Event()

    def interrupt(job: Any, message: dict[str, Any]) -> None:
        if message.get("what") == "started":
            started.set()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_plan.execute(plan, lab, Local(2), interrupt, lambda outcome, entry: None)
    assert started.is_set()
    assert wait_for(lambda: not workers())
    assert not list((lab.results / "runs").rglob("*"))


@pytest.mark.usefixtures("own_processes")
def test_a_worker_that_was_killed_between_runs_is_replaced(noted_lab: Project) -> None:
    engine, jobs = local.Local(1), plan_noted(noted_lab, [0, 1, 2], ["web"]).missing
    pids = []
    for job in jobs:
        engine.start(job, lambda job, message: None)
        (outcome,) = engine.ended(None)
        assert outcome.record is not None
        pids += workers()
        if job is jobs[1]:
            os.kill(pids[-1], signal.SIGKILL)
            engine._workers[0]._process.wait()
    engine.stop()
    assert pids[0] == pids[1] != pids[2]
    assert not workers()


@pytest.mark.usefixtures("own_processes")
def test_a_process_that_cannot_be_begun_is_one_run_less(noted_lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    begin, begun = subprocess.Popen, list[str]()

    def popen(command: list[str], **options: Any) -> Any:
        begun.append(command[-1])
        if len(begun) == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return begin(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    first, second = execute_on(plan_noted(noted_lab, [0], ["web", "film"]), noted_lab, local.Local(1))
    assert "Too many open files; lower --jobs" in (first.refused or "")
    assert second.record is not None
