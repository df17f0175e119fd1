"""The worker process."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from running import METHOD, make_plan, plan_noted, wait_for

from fergen_bench.execution.engine import Worker
from fergen_bench.experiment.project import Project
from fergen_bench.records.claim import is_claimed


def test_a_worker_whose_driver_is_gone_ends(lab: Project) -> None:
    (job,) = make_plan(lab, {"kind": "slow"}, {"sources": ["web"]}).runs
    process = subprocess.Popen(
        [sys.executable, "-m", "fergen_bench.execution.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    print(json.dumps(job.to_json()), file=process.stdin, flush=True)
    assert "started" in process.stdout.readline()
    process.stdin.close()
    assert '"ended": 3' in process.stdout.read()  # the fork
    assert process.wait(timeout=30) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no forks here")
def test_a_worker_whose_driver_is_killed_while_torch_loads_ends() -> None:
    loading = (
        "import time\n"
        "from fergen_bench.execution.worker import _ending_with_driver\n"
        "with _ending_with_driver():\n"
        "    print('loading', flush=True)\n"
        "    time.sleep(300)\n"
    )
    driver = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {loading!r}])"
    process = subprocess.Popen([sys.executable, "-c", driver], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    process.kill()
    began = time.monotonic()
    assert process.stdout.read() == ""  # closed by the end of the worker
    assert time.monotonic() - began < 60


def test_outside_linux_a_worker_executes_one_run_and_ends(lab: Project) -> None:
    job, other = make_plan(lab).runs
    elsewhere = (
        "import sys, fergen_bench.execution.runner as _, fergen_bench.execution.worker as worker; "
        "sys.platform = 'darwin'; worker._exit(worker.main())"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", elsewhere], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for one in (job, other):
        print(json.dumps(one.to_json()), file=process.stdin, flush=True)
    *_, last = map(json.loads, process.stdout)
    assert last == {"record": str(job.spec.path(Path(job.runs)))}
    assert process.wait() == 0
    process.stdin.close()
    process.stdout.close()


def test_a_run_whose_process_was_killed_is_free_again(noted_lab: Project) -> None:
    (job,) = plan_noted(noted_lab, [0], ["web"], settings={"seconds": 60.0}).missing
    with Worker(1) as worker, ThreadPoolExecutor() as pool:
        outcome = pool.submit(worker.run, job, lambda job, message: None)
        assert wait_for((noted_lab.root / "trainings").exists, 60)
        assert is_claimed(job.spec, Path(job.runs))
        worker.kill()
        assert outcome.result().killed
    assert not is_claimed(job.spec, Path(job.runs))


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    """Start one worker for the tests of what its runs leave behind."""
    with Worker(1) as started:
        yield started


def test_runs_of_one_worker_share_nothing_but_what_it_loaded(lab: Project, worker: Worker) -> None:
    path = lab.root / "methods" / "probe.py"
    path.write_text(
        METHOD.replace('print("methods may print")', 'print(ctx.seed, hasattr(torch, "left")); torch.left = 1')
    )
    jobs = make_plan(lab, protocol={"sources": ["web"], "seeds": [0, 1]}).runs
    outcomes = [worker.run(job, lambda job, message: None) for job in jobs]
    assert worker.alive
    assert [outcome.log for outcome in outcomes] == ["0 False\n", "1 False\n"]
    assert all(outcome.record for outcome in outcomes)


FAULTS = {
    "os.kill(os.getpid(), 9)": "the process was killed (SIGKILL); the machine may have run out of memory: lower --jobs",
    "os.kill(os.getpid(), 11)": "the process was killed (SIGSEGV)",
    "raise SystemExit(5)": "SystemExit: 5",
    "os._exit(0)": "the process ended with status 0",
}
"""Ends of the process of a run, and how each is reported."""


def test_a_crash_ends_one_run_of_a_worker(lab: Project, worker: Worker) -> None:
    path = lab.root / "methods" / "probe.py"
    crashes = "; ".join(f"ctx.seed == {seed} and exec({fault!r})" for seed, fault in enumerate(FAULTS))
    path.write_text(METHOD.replace('print("methods may print")', crashes))
    jobs = make_plan(lab, protocol={"sources": ["web"], "seeds": [0, 1, 2, 3, 4]}).runs
    *crashed, last = [worker.run(job, lambda job, message: None) for job in jobs]
    for outcome, (fault, failure) in zip(crashed, FAULTS.items(), strict=True):
        assert outcome.failure == (f"{failure} ({path}:10)" if "raise" in fault else failure)
    assert [outcome.killed for outcome in crashed] == [True, False, False, False]
    assert last.record is not None
