"""Claims: one process executes a run, and others see that it does."""

from __future__ import annotations

import time
from pathlib import Path

from running import another_looks, plan_noted

from fergen_bench.experiment.project import Project
from fergen_bench.records.claim import claim


def test_checking_a_claim_neither_takes_it_nor_writes(noted_lab: Project, tmp_path: Path) -> None:
    (job,) = plan_noted(noted_lab, [0], ["web"]).missing
    runs = Path(job.runs)
    draft = job.spec.path(runs).with_name(f".{job.spec.path(runs).name}-x1y2")
    draft.parent.mkdir(parents=True)
    with another_looks(job, tmp_path):
        for _ in range(200):
            with claim(job.spec, runs) as mine:
                assert mine
                draft.touch()
            assert draft.exists(), "a look swept the draft of another process"
            time.sleep(0.001)
