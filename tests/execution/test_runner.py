"""A run: its record, its predictions, and the inputs that it refuses."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import METHOD, WEB, execute, make_plan

from fergen_bench.data import source as source_module
from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.execution import runner
from fergen_bench.execution.environment import environment_of, resume_identity
from fergen_bench.experiment.project import Project
from fergen_bench.records import record, store


def test_what_a_method_saves_and_what_its_faces_come_to_stand_beside_the_record(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    job = plan.runs[0]
    arrays = store.RecordFile.open(job.spec.path(lab.results / "runs")).arrays()
    np.testing.assert_array_equal(arrays["noise"], [0, 1, 2])
    split = Domain(Path(job.folders["web"])).split("test")
    faces = split.faces(slice(0, len(split))).float().mean((2, 3)).numpy()
    expected = [faces[split.labels == place].mean(0) for place in range(7)]
    np.testing.assert_allclose(arrays["web.colour.mean"], expected, rtol=1e-3)
    np.testing.assert_array_equal(arrays["web.colour.count"], np.bincount(split.labels))
    column = arrays["web.colour.varying"][0]
    assert column == faces.var(0).argmax()
    assert arrays["web.colour.top"][0, 0] == faces[:, column].argmax()
    predictions = store.RecordFile.open(job.spec.path(lab.results / "runs")).predictions()["web"]
    np.testing.assert_array_equal(predictions.labels, split.labels)


@pytest.mark.parametrize(
    ("selection", "learned", "kept"),
    [
        ("source-val", "fit", True),
        ("source-val", "val_index", True),
        ("source-val", "train", False),
        ("last", "fit", False),
    ],
)
def test_held_out_faces_are_kept_where_they_were_not_learned_from(
    lab: Project, selection: str, learned: str, kept: bool
) -> None:
    file = lab.root / "methods" / "probe.py"
    file.write_text(METHOD.replace('print("methods', f'source.{learned}; print("methods'))
    plan = make_plan(lab, protocol=WEB | {"selection": selection})
    ((_, entry),) = execute(plan, lab, 0)
    assert entry is not None
    found = store.RecordFile.open(entry.spec.path(lab.results / "runs")).predictions()
    assert (record.HELD_OUT in found) == kept == (entry.source_val is not None)
    if kept:
        assert entry.source_val == record.confusion_of(found[record.HELD_OUT])
        source = open_source([Domain(Path(plan.runs[0].folders["web"]))], seed=0)
        np.testing.assert_array_equal(found[record.HELD_OUT].labels, source.val.labels)


def test_images_of_a_validation_part_are_scored_whatever_the_selection(
    lab: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    divided = source_module._divided

    def with_own_part(domain: Domain, seed: int, fraction: float) -> tuple[np.ndarray, np.ndarray, Any]:
        train, fit, held_out = divided(domain, seed, fraction)
        return train, fit, held_out._replace(part="val")

    monkeypatch.setattr(source_module, "_divided", with_own_part)
    file = lab.root / "methods" / "probe.py"
    file.write_text(METHOD.replace('print("methods', 'source.train; print("methods'))
    ((_, entry),) = execute(make_plan(lab, protocol=WEB | {"selection": "last"}), lab, 0)
    assert entry is not None
    assert entry.source_val is not None
    assert entry.spec.identity().keys() == make_plan(lab, protocol=WEB).runs[0].spec.identity().keys()


@pytest.mark.parametrize(
    ("selection", "asked", "refused"), [("last", "train", False), ("last", "val", True), ("source-val", "fit", True)]
)
def test_a_source_with_one_subject_is_refused_where_images_are_held_out(
    lab: Project, monkeypatch: pytest.MonkeyPatch, selection: str, asked: str, refused: bool
) -> None:
    file = lab.root / "methods" / "probe.py"
    file.write_text(METHOD.replace('print("methods', f'source.{asked}; print("methods'))
    disjoint_share = source_module.disjoint_share

    def of_one_subject(labels: np.ndarray, subjects: np.ndarray, *rest: Any) -> np.ndarray:
        return disjoint_share(labels, np.full(len(subjects), "one"), *rest)

    monkeypatch.setattr(source_module, "disjoint_share", of_one_subject)
    ((outcome, entry),) = execute(make_plan(lab, protocol=WEB | {"selection": selection}), lab, 0)
    assert ("web shows one subject only" in (outcome.refused or "")) == refused
    assert (entry is None) == refused


def test_a_method_cannot_fill_the_disk(lab: Project) -> None:
    ((outcome, _),) = execute(make_plan(lab, {"kind": "huge"}, WEB), lab, 0)
    assert "the arrays of the run exceed 16 MB" in (outcome.refused or "")


def test_a_record_says_what_happened(lab: Project) -> None:
    plan = make_plan(lab, protocol={"sources": ["web"]})
    ((_, entry),) = execute(plan, lab, 1)
    assert entry is not None
    assert [cell.relation for cell in entry.cells] == ["source", "unseen"]
    assert [cell.count for cell in entry.cells] == [100, 100]
    assert entry.environment["threads"] == 1
    assert entry.environment["torch"]
    assert entry.method_digest == lab.method("probe").digest
    assert set(entry.seconds) == {"fit", "score"}


def test_a_method_edited_between_plan_and_run_is_refused(lab: Project) -> None:
    plan = make_plan(lab)
    (lab.root / "methods" / "probe.py").write_text(METHOD + "# other text\n")
    ((outcome, _),) = execute(plan, lab, 0)
    assert "differs from the one that the runs were planned with; run again" in (outcome.refused or "")


def test_a_domain_prepared_anew_between_plan_and_run_is_refused(lab: Project, tmp_path: Path) -> None:
    """Else the numbers of the new faces would stand under the old ones' fingerprint."""
    plan = make_plan(lab, protocol={"sources": ["web"]})
    (job,) = plan.missing
    folder = shutil.copytree(job.folders["film"], tmp_path / "film")
    about = json.loads((folder / "domain.json").read_text())
    (folder / "domain.json").write_text(json.dumps({**about, "fingerprint": "other"}))
    moved = replace(job, folders={**job.folders, "film": str(folder)})
    ((outcome, _),) = execute(replace(plan, missing=(moved,)), lab, 0)
    assert "film was prepared again after the runs were planned; run again" in (outcome.refused or "")


def test_a_source_goes_by_the_name_its_suite_gives_it(lab: Project, tmp_path: Path) -> None:
    """Draws by name, such as the hold-out, do not depend on the name under which a domain was prepared."""
    path = lab.root / "methods" / "probe.py"
    path.write_text(METHOD.replace('RuntimeError("it broke")', "RuntimeError(str(source.names))"))
    plan = make_plan(lab, {"kind": "error"}, {"sources": ["web"]})
    (job,) = plan.missing
    folder = shutil.copytree(job.folders["web"], tmp_path / "copy")
    about = json.loads((folder / "domain.json").read_text())
    (folder / "domain.json").write_text(json.dumps({**about, "name": "copy"}))
    moved = replace(job, folders={**job.folders, "web": str(folder)})
    ((outcome, _),) = execute(replace(plan, missing=(moved,)), lab, 0)
    assert outcome.failure is not None
    assert outcome.failure.startswith("RuntimeError: ('web',)")


def test_a_gpu_rounds_factors_of_products_in_bf16_only_whatever_ran_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(runner, "repeatable_on_gpu", lambda: None)
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    for precision in ("fp32", "bf16", "fp32"):
        runner.prepare_device("cuda", 1, precision)
        assert torch.backends.cudnn.allow_tf32 == (precision == "bf16")


@pytest.mark.parametrize("name", ["device", "cpu_capability", "threads", "torch"])
def test_a_training_continues_only_where_its_numbers_are_the_same(lab: Project, name: str) -> None:
    job = make_plan(lab, protocol=WEB).runs[0]
    here = environment_of(job, torch.device("cpu"))
    assert resume_identity(job, here) != resume_identity(job, {**here, name: "another"})
    in_bf16 = replace(job, spec=replace(job.spec, precision="bf16"))
    assert resume_identity(job, here) != resume_identity(in_bf16, here)
