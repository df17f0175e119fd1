"""Logits that a method returns."""

from __future__ import annotations

import pytest
from running import execute, make_plan

from fergen_bench.experiment.project import Project


@pytest.mark.parametrize("slots", [0, 1])
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "probe.py: predict returned NaN or infinite logits on web"),
        ("shape", "probe.py: predict must return logits of the shape (100, 7), not (100, 6)"),
        ("whole", "probe.py: predict must return floating-point logits, not torch.int64"),
    ],
)
def test_wrong_logits_are_refused(lab: Project, kind: str, message: str, slots: int) -> None:
    ended = execute(make_plan(lab, {"kind": kind}), lab, slots)
    assert message in (ended[0][0].refused or "")
    assert make_plan(lab, {"kind": kind}).missing
