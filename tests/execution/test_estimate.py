"""The duration of missing runs follows from records of comparable ones."""

from __future__ import annotations

from dataclasses import replace

import pytest
from running import execute, make_plan, stored

from fergen_bench.data.domain import Domain
from fergen_bench.execution.estimate import BEGINNING, estimate
from fergen_bench.experiment.project import Project


def test_time_is_proportional_to_images_and_runs_are_distributed_over_slots(
    lab: Project, web: Domain, film: Domain
) -> None:
    done = make_plan(lab, protocol={"sources": ["web"]})
    execute(done, lab, 0)
    record = replace(stored(lab, done), seconds={"fit": 30.0, "score": 2.0})
    plan = make_plan(lab, protocol={"sources": ["web", "film"], "seeds": [0, 1]})  # web with seed 0 is done
    assert len(plan.missing) == 3
    of_web, of_film = BEGINNING + 30 + 2, BEGINNING + 30 * len(film.rows("train")) / len(web.rows("train")) + 2
    for slots, seconds in ((1, of_web + 2 * of_film), (3, of_web)):
        found = estimate(plan, [record], slots)
        assert found.seconds == pytest.approx(seconds)
        assert not found.unknown


def test_only_records_of_the_same_precision_are_comparable(lab: Project) -> None:
    done = make_plan(lab, protocol={"sources": ["web"]})
    execute(done, lab, 0)
    record, plan = stored(lab, done), make_plan(lab, protocol={"sources": ["film"]})
    in_bf16 = replace(record, spec=replace(record.spec, precision="bf16"))
    assert estimate(plan, [record], 1).unknown == ()
    found = estimate(plan, [in_bf16], 1)
    assert (found.seconds, found.unknown) == (None, ("probe",))
