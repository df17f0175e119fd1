"""Records as tables count them: without near-duplicates, and with a mark at targets that no audit supports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import SPEC, example_predictions, finished

from fergen_bench.datasets.standing import NOT_AUDITED
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.run import digest_of
from fergen_bench.records import counting, store


def test_unseen_targets_of_a_suite_that_is_not_configured_are_not_audited(project: Project) -> None:
    (record,), faults = counting.counted([finished()], project)
    source, unseen = record.cells
    assert (source.relation, source.audited, source.mark) == ("source", True, "")
    assert (unseen.relation, unseen.audited, unseen.mark) == ("unseen", False, NOT_AUDITED)
    assert (unseen.confusion, faults) == (finished().cells[1].confusion, [])


def test_unseen_targets_of_a_suite_with_distinct_domains_need_no_audit(project: Project) -> None:
    spec = replace(SPEC, suite="synth5-tiny", sources=("web",), fingerprints={"web": "f1"})
    spec = replace(spec, targets={"web": "f1", "film": "f2"}, relations={"web": "source", "film": "unseen"})
    (record,), _ = counting.counted([finished(spec)], project)
    assert [(cell.relation, cell.audited, cell.mark) for cell in record.cells] == [
        ("source", True, ""),
        ("unseen", True, ""),
    ]


def test_load_all_finds_the_project_of_a_folder(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = project.results / "runs"
    store.save(finished(), runs)
    monkeypatch.chdir("/")
    (record,), faults = counting.load_all(runs)
    assert (record.spec, record.cells[1].audited, faults) == (SPEC, False, [])


def test_a_cell_is_counted_again_without_some_images() -> None:
    predictions = example_predictions(20)  # equal logits: expression 0 is predicted for every image
    cell = finished().cells[1]
    again = counting.recounted(SPEC, cell, predictions, {0: "b/0", 7: "b/7"})
    assert again is not None
    assert again.count == 18
    assert np.array(again.confusion)[:, 0].tolist() == [1, 3, 3, 3, 3, 3, 2]
    assert again.excluded == digest_of(["b/0", "b/7"])
    assert (again.relation, again.left_out) == ("unseen", (0, 7))


@pytest.mark.parametrize("left_out", [{}, {20: "b/20"}])
def test_a_cell_is_not_counted_again_without_its_predictions(left_out: dict[int, str], tmp_path: Path) -> None:
    predictions = example_predictions(20) if left_out else None  # an index behind the last image
    assert counting.recounted(SPEC, finished().cells[1], predictions, left_out) is None
