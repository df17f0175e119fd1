"""Records as tables count them: without near-duplicates, and with a mark at targets that no audit supports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import SPEC, example_predictions, finished

from fergen_bench.datasets.pretraining import PriorExposure
from fergen_bench.datasets.standing import NOT_AUDITED, PRETRAINED, Standing
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.run import digest_of
from fergen_bench.records import counting, store
from fergen_bench.records.counting import pretrained, seen_before
from fergen_bench.records.record import RunRecord


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


def networked(record: RunRecord, name: str, digest: str) -> RunRecord:
    """Return a record of real faces whose backbone is a network."""
    spec = replace(
        record.spec,
        synthetic=False,
        parameters={**record.spec.parameters, "backbone": name},
        weights={"backbone": digest},
    )
    return replace(record, spec=spec, networks={"backbone": {"name": name.partition("//")[0], "digest": digest}})


def test_pretraining_has_seen_a_target_may_have_or_has_not() -> None:
    record = finished(replace(SPEC, targets={"ferplus": "f"}, relations={"ferplus": "unseen"}))

    def saw(name: str, digest: str, declared: dict[str, list[str]], dataset: str = "ferplus") -> str:
        return pretrained(networked(record, name, digest), dataset, declared).saw

    assert saw("timm:resnet18.tv_in1k", "published:resnet18.tv_in1k", {}) == "no"
    assert saw("open_clip:ViT-B-32/openai", "published:openai", {}) == "unknown"
    assert saw("timm:resnet18//me/w.pth", "abcdef0123456789", {}) == "unknown"
    assert saw("timm:resnet18//me/w.pth", "abcdef0123456789", {"w.pth": ["fer2013"]}) == "yes"
    assert saw("timm:resnet18//me/w.pth", "abcdef0123456789", {"w.pth": ["fer2013"]}, "rafdb") == "no"
    assert pretrained(replace(record, networks={}), "ferplus", {}).saw == "no"
    rendered = networked(record, "open_clip:ViT-B-32/openai", "published:openai")
    assert pretrained(replace(rendered, spec=replace(rendered.spec, synthetic=True)), "folder", {}).saw == "no"


def test_an_unseen_target_that_pretraining_contained_is_seen_and_scored_whole() -> None:
    unseen = Standing("unseen", "1 left out", left_out={3: "d"}, share=0.05)
    stood = seen_before(unseen, PriorExposure("yes", "trained on affectnet"))
    assert (stood.relation, stood.mark, stood.left_out, stood.share) == ("seen", PRETRAINED, {}, 0.05)
    assert seen_before(unseen, PriorExposure("unknown", "who knows")) is unseen
    own = Standing("source")
    assert seen_before(own, PriorExposure("yes", "trained on affectnet")) is own
