"""The plan of a protocol."""

from __future__ import annotations

from running import METHOD, execute, make_plan

from fergen_bench.experiment.project import Project


def test_what_has_a_record_is_not_run_again(lab: Project) -> None:
    execute(make_plan(lab), lab, 2)
    assert make_plan(lab).missing == ()
    assert len(make_plan(lab, rerun=True).missing) == 2
    assert len(make_plan(lab, changes={"kind": "other"}).missing) == 2
    wider = make_plan(lab, protocol={"targets": ["web", "film", "wild"]})
    assert len(wider.missing) == 2


def test_shards_share_a_plan_without_overlap(lab: Project) -> None:
    whole = [job.spec.key for job in make_plan(lab, protocol={"seeds": [0, 1, 2]}).runs]
    parts = [
        [job.spec.key for job in make_plan(lab, protocol={"seeds": [0, 1, 2]}, shard=(i, 4)).runs] for i in (1, 2, 3, 4)
    ]
    assert sorted(key for part in parts for key in part) == sorted(whole)


def test_a_method_edited_under_one_version_is_said(lab: Project) -> None:
    execute(make_plan(lab), lab, 0)
    path = lab.root / "methods" / "probe.py"
    path.write_text(METHOD + "# other text\n")
    plan = make_plan(lab)
    assert plan.missing == ()
    assert "2 records were made by another text of probe's file under the same version" in plan.warnings[0]
    more = make_plan(lab, protocol={"sources": ["wild"]})
    assert len(more.missing) == 1
    assert "2 records were made by another text of probe's file" in more.warnings[0], "they would share a row"
    assert not make_plan(lab, {"kind": "other"}, {"sources": ["wild"]}).warnings
    assert not make_plan(lab, rerun=True).warnings
