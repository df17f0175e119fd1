"""The worker process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from running import make_plan, plan_noted

from fergen_bench.execution.engine import Worker
from fergen_bench.experiment.project import Project
from fergen_bench.records.claim import is_claimed


def test_a_worker_whose_driver_is_gone_ends(lab: Project, tmp_path: Path) -> None:
    plan = make_plan(lab, {"kind": "slow"}, {"sources": ["web"]})
    job = tmp_path / "job.json"
    job.write_text(json.dumps(plan.runs[0].to_json()))
    process = subprocess.Popen(
        [sys.executable, "-m", "fergen_bench.execution.worker", str(job)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert b"started" in process.stdout.readline()
    process.stdin.close()
    assert process.wait(timeout=30) == 3


def test_a_run_whose_process_was_killed_is_free_again(noted_lab: Project) -> None:
    (job,) = plan_noted(noted_lab, [0], ["web"], settings={"seconds": 60.0}).missing
    worker = Worker(job)
    until = time.monotonic() + 60
    while not (noted_lab.root / "trainings").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert is_claimed(job.spec, Path(job.runs))
    os.kill(worker._process.pid, signal.SIGKILL)
    outcome = worker.outcome(lambda job, message: None)
    assert outcome.killed
    assert not is_claimed(job.spec, Path(job.runs))
