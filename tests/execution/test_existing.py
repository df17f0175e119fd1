"""Existing records: counting again, and several processes on one folder."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import rewritten
from running import (
    WEB,
    another_looks,
    counted,
    execute,
    execute_on,
    faces_scored,
    make_plan,
    plan_noted,
    stored,
    trainings,
    write_audit,
)

from fergen_bench.execution import local
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.records import store
from fergen_bench.records.collection import RecordFolder
from fergen_bench.records.pack import pack
from fergen_bench.records.packed import open_records


def test_a_subset_of_targets_does_not_lose_the_others(lab: Project) -> None:
    runs = lab.results / "runs"
    first = make_plan(lab, protocol={"sources": ["web"], "targets": ["web", "film"]})
    execute(first, lab, 0)
    again = make_plan(lab, protocol={"sources": ["web"], "targets": ["grey48"]})
    assert list(again.missing[0].spec.targets) == ["web", "grey48", "film"]
    execute(again, lab, 0)
    found = store.find(first.runs[0].spec, runs)
    assert found is not None
    assert [cell.target for cell in found.cells] == ["web", "grey48", "film"]
    assert not make_plan(lab, protocol={"sources": ["web"], "targets": ["film"]}).missing


def test_near_duplicates_are_left_out_by_counting_again_and_a_dry_run_counts_nothing(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    whole = stored(lab, plan)
    write_audit(lab, 3, "film")
    dry = make_plan(lab, protocol=WEB, dry_run=True)
    assert dry.missing == ()
    assert dry.notes[-1].startswith("1 record would be counted again from stored predictions, without near-duplicates")
    assert faces_scored(lab, plan) == [100, 100]
    again = make_plan(lab, protocol=WEB)
    assert again.missing == ()
    assert faces_scored(lab, plan) == [100, 97]
    assert again.recounted[0].spec.excluded == again.runs[0].spec.excluded
    (cell,) = counted(lab, again.recounted)[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count) == ("unseen", "3 left out", 97)
    predictions = store.RecordFile.open(plan.runs[0].spec.path(lab.results / "runs")).predictions()["film"]
    right = predictions.logits.argmax(1) == predictions.labels
    assert np.trace(cell.confusion) == right[3:].sum()
    assert make_plan(lab, protocol=WEB).recounted == ()
    everything = make_plan(lab, protocol=WEB, include_near_duplicates=True)
    assert everything.notes[-1] == "1 record was counted again from stored predictions, on all images of their targets"
    assert stored(lab, plan).cells == whole.cells


def test_a_report_after_a_later_audit_leaves_its_near_duplicates_out_too(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    before = stored(lab, plan)
    assert counted(lab, [before])[0].cells[1].mark == ""  # rendered faces are distinct by construction
    write_audit(lab, 3, "film")
    (cell,) = counted(lab, [before])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count, cell.left_out) == ("unseen", "3 left out", 97, (0, 1, 2))
    assert faces_scored(lab, plan) == [100, 100]  # the file is as it was
    (cell,) = counted(lab, [before], include=True)[0].cells[1:]
    assert (cell.mark, cell.count) == ("3 near-duplicates scored", 100)
    logits = plan.runs[0].spec.path(lab.results / "runs").with_suffix(".npz")
    logits.unlink()
    (cell,) = counted(lab, [before])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count, cell.uncounted) == ("unseen", "3 near-duplicates scored", 100, 3)


@pytest.mark.parametrize(
    ("near", "share", "mark"),
    [
        (4, 0.05, "4 left out"),
        (5, 0.05, "seen, 5 near-duplicates"),
        (5, 0.06, "5 left out"),
        (1, 0.01, "seen, 1 near-duplicate"),
        (100, 1.0, "seen, 100 near-duplicates"),
    ],
)
def test_a_target_is_seen_from_a_share_of_its_scored_faces_on(lab: Project, near: int, share: float, mark: str) -> None:
    with (lab.root / "bench.toml").open("a") as file:
        file.write(f"seen_share = {share}\n")
    lab = find_project(lab.root)
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    write_audit(lab, near, "film")
    seen = mark.startswith("seen")
    again = make_plan(lab, protocol=WEB)
    assert faces_scored(lab, again) == [100, 100 if seen else 100 - near]  # a seen target is scored whole
    (cell,) = counted(lab, [stored(lab, again)])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.seen_share) == ("seen" if seen else "unseen", mark, share)


def test_images_shared_with_the_sources_test_split_make_a_target_seen_and_are_no_training_faces(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    write_audit(lab, 3, "film", part="test")
    (cell,) = counted(lab, [stored(lab, plan)])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count) == ("unseen", "", 100)
    write_audit(lab, 20, "film", part="test")
    (cell,) = counted(lab, [stored(lab, plan)])[0].cells[1:]
    assert (cell.relation, cell.mark, cell.count) == ("seen", "seen, 20 near-duplicates", 100)


def test_targets_that_are_scored_again_with_new_ones_leave_near_duplicates_out_too(lab: Project) -> None:
    write_audit(lab, 3, "film", "wild")
    execute(make_plan(lab, protocol=WEB), lab, 0)
    wider = make_plan(lab, protocol={"sources": ["web"], "targets": ["wild"]})
    execute(wider, lab, 0)
    assert list(wider.runs[0].spec.targets) == ["web", "wild", "film"]
    assert faces_scored(lab, wider) == [100, 97, 97]


def test_without_logits_that_can_be_read_the_run_is_made_again(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    write_audit(lab, 3, "film")
    logits = plan.runs[0].spec.path(lab.results / "runs").with_suffix(".npz")
    logits.write_bytes(logits.read_bytes()[:200])
    assert len(make_plan(lab, protocol=WEB).missing) == 1


def test_a_command_that_counts_again_while_another_looks_runs_nothing_again(noted_lab: Project, tmp_path: Path) -> None:
    plan = plan_noted(noted_lab, [0], ["web"])
    execute_on(plan, noted_lab, local.InProcess())
    write_audit(noted_lab, 3, "film")
    with another_looks(plan.runs[0], tmp_path):
        for wanted in (True, False) * 10:
            again = plan_noted(noted_lab, [0], ["web"], include_near_duplicates=not wanted)
            assert (again.missing, len(again.recounted)) == ((), 1)


def test_a_record_that_another_command_counted_again_is_not_made_again(noted_lab: Project) -> None:
    """It was planned as missing while the other command was at it."""
    execute_on(plan_noted(noted_lab, [0], ["web"]), noted_lab, local.InProcess())
    write_audit(noted_lab, 3, "film")
    counted = plan_noted(noted_lab, [0], ["web"])
    (done,) = counted.recounted
    late = replace(counted, missing=(replace(counted.runs[0], replaces=done.started),))
    (outcome,) = execute_on(late, noted_lab, local.InProcess())
    assert outcome.record is not None
    assert sum(trainings(noted_lab).values()) == 1


def test_two_commands_that_count_again_run_nothing_again(noted_lab: Project) -> None:
    plan = plan_noted(noted_lab, [0, 1, 2, 3], ["web", "film"])
    execute_on(plan, noted_lab, local.InProcess())
    write_audit(noted_lab, 3, "film")
    command = "from fergen_bench.cli import main; main()"
    asked = [
        "run",
        "--method",
        "noted",
        "--seeds",
        "0,1,2,3",
        "--sources",
        "web,film",
        "--targets",
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
    assert set(trainings(noted_lab).values()) == {1}, said
    assert all("Nothing to do" in text for text in said), said


def test_runs_in_offered_records_count_as_done_and_are_copied(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    runs, packed = lab.results / "runs", lab.root / "packed"
    whole = stored(lab, plan)
    pack(RecordFolder(runs), packed)
    runs.rename(lab.root / "before")
    offered = open_records(packed)
    dry = make_plan(lab, protocol=WEB, offered=offered, dry_run=True)
    assert (dry.missing, dry.notes[-1]) == ((), "1 record would be copied from packed")
    assert not runs.exists()
    again = make_plan(lab, protocol=WEB, offered=offered)
    assert (again.missing, again.notes[-1]) == ((), "1 record was copied from packed")
    assert stored(lab, plan).cells == whole.cells
    assert make_plan(lab, protocol=WEB).missing == ()
    assert make_plan(lab, protocol=WEB, offered=offered, rerun=True).missing
    # Images that an audit finds later are left out by the copied classes.
    write_audit(lab, 3, "film")
    assert make_plan(lab, protocol=WEB).missing == ()
    assert faces_scored(lab, plan) == [100, 97]


def test_an_unsound_offered_record_is_not_copied(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    other = lab.root / "other"
    (lab.results / "runs").rename(other)
    rewritten(plan.runs[0].spec.path(other), lambda content: content["cells"][1]["confusion"].reverse())
    again = make_plan(lab, protocol=WEB, offered=RecordFolder(other))
    assert len(again.missing) == 1
    assert any("the confusion matrix of film differs" in note and "is not copied" in note for note in again.notes)
