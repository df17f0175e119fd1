"""The options of scoring: views of an image, and the class frequencies of the source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from examples import SPEC
from running import WEB, execute, make_plan
from scipy.special import softmax

from conftest import ROOT
from fergen_bench.data.domain import Domain, Split
from fergen_bench.data.source import Source, open_source
from fergen_bench.error import BenchError
from fergen_bench.execution.fitted import open_fitted
from fergen_bench.execution.layer import ScoringLayer
from fergen_bench.experiment.method_file import read_method
from fergen_bench.experiment.project import Project
from fergen_bench.records.record import HELD_OUT, RunRecord
from fergen_bench.records.sidecar import ARRAYS, sidecar
from fergen_bench.records.store import RecordFile
from fergen_bench.training.contract import Method
from fergen_bench.training.load import load_method

SIDED = '''"""Logits from the brightness of the left half of an image."""
from dataclasses import dataclass
import torch
from fergen_bench import Method
@dataclass
class Sided(Method):
    def fit(self, source, ctx):
        self.weight = torch.linspace(-1, 1, 7, dtype=torch.float64)
    def predict(self, images):
        left = images[..., : images.shape[3] // 2].double().mean((1, 2, 3)) / 255
        return left[:, None] * self.weight
'''


@pytest.fixture
def sided(lab: Project) -> Project:
    """Return a project with a method whose logits differ between an image and its mirror image."""
    (lab.root / "methods" / "sided.py").write_text(SIDED)
    return lab


def scored(lab: Project, **protocol: object) -> tuple[RunRecord, dict[str, np.ndarray]]:
    """Execute one run of `sided` on web; return its record, and its logits by target."""
    ((_, record),) = execute(make_plan(lab, protocol=WEB | protocol, method="sided"), lab, 0)
    assert record is not None
    predictions = RecordFile.open(record.spec.path(lab.results / "runs")).predictions()
    return record, {name: one.logits for name, one in predictions.items()}


def centred(logits: np.ndarray) -> np.ndarray:
    """Return logits with a mean of 0 for each image: records keep them in half precision, up to a constant."""
    found: np.ndarray = logits.astype(np.float64) - logits.astype(np.float64).mean(1, keepdims=True)
    return found


def halves(domain: Domain) -> tuple[np.ndarray, np.ndarray]:
    """Return the logits of `sided` for the test images of a domain, and for their mirror images."""
    faces = domain.split("test").faces().double() / 255
    middle = faces.shape[3] // 2
    left, right = (part.mean((1, 2, 3))[:, None].numpy() for part in (faces[..., :middle], faces[..., -middle:]))
    return left * np.linspace(-1, 1, 7), right * np.linspace(-1, 1, 7)


def test_logits_are_averaged_over_views_and_the_prior_is_taken_out(sided: Project, web: Domain, film: Domain) -> None:
    shares = np.log(web.split("train").counts / len(web.split("train")))
    plain, mirror = halves(film)
    for protocol, expected in (
        ({}, plain),
        ({"views": ["mirror"]}, mirror),
        ({"views": ["mirror", "plain"]}, (plain + mirror) / 2),
        ({"prior": 0.5}, plain - 0.5 * shares),
        ({"views": ["plain", "mirror"], "prior": 1.0}, (plain + mirror) / 2 - shares),
    ):
        _, logits = scored(sided, **protocol)
        np.testing.assert_allclose(centred(logits["film"]), centred(expected), atol=2e-3)


def test_held_out_images_are_scored_as_test_images_are(sided: Project) -> None:
    _, before = scored(sided, selection="source-val")
    _, after = scored(sided, selection="source-val", prior=0.5)
    moved = {target: centred(after[target]) - centred(before[target]) for target in after}
    assert set(moved) == {"web", "film", HELD_OUT}
    for target in moved:
        np.testing.assert_allclose(moved[target], np.broadcast_to(moved["web"][:1], moved[target].shape), atol=4e-3)
        assert np.ptp(moved[target][0]) > 0.1


def test_corrupted_images_are_scored_as_test_images_are(sided: Project) -> None:
    corrupted = {"factors": {"blur": [1]}, "targets": "all"}
    usual, _ = scored(sided, shifts=corrupted)
    even, _ = scored(sided, shifts=corrupted, prior=1.0)
    counts = {record.spec.prior: record.shifted[-1].confusion for record in (usual, even)}
    assert counts[0.0] != counts[1.0]


def test_class_frequencies_are_those_of_the_training_images(web: Domain, film: Domain) -> None:
    spec = replace(SPEC, prior=0.5)
    for domains, fraction in (([web], 1.0), ([web], 0.5), ([web, film], 1.0)):
        source = open_source(domains, seed=0, fraction=fraction)
        counts = np.bincount(np.concatenate([source.fit.labels, source.val.labels]), minlength=7)
        found = ScoringLayer.of(spec, source, shipped("linear_probe")).without_prior(torch.zeros(2, 7).double())
        np.testing.assert_allclose(found, np.tile(-0.5 * np.log(counts / counts.sum()), (2, 1)), atol=1e-9)


def test_class_frequencies_are_a_mean_over_sources_where_batches_have_as_many_images_of_each(
    web: Domain, film: Domain
) -> None:
    train, few = web.split("train"), film.split("train")
    few = few.subset(np.flatnonzero((few.labels < 3) & (np.arange(len(few)) % 3 == 0)))
    both = Split((*train.pieces, *few.pieces))
    source = Source(("web", "film"), both, both, both)
    each = [split.counts / len(split) for split in (train, few)]
    pooled = both.counts / len(both)
    assert np.abs(np.mean(each, 0) - pooled).max() > 0.02
    for method, expected in (
        (shipped("coral"), np.mean(each, 0)),
        (shipped("coral", pseudo_domains=2), pooled),
        (shipped("full_finetune"), pooled),
    ):
        layer = ScoringLayer.of(replace(SPEC, prior=1.0), source, method)
        np.testing.assert_allclose(layer.without_prior(torch.zeros(1, 7).double())[0], -np.log(expected), atol=1e-6)


def shipped(name: str, **changes: Any) -> Method:
    """Return a shipped method with its defaults."""
    file = read_method(ROOT / "methods" / f"{name}.py")
    return load_method(file.path, file.class_name, file.defaults("small") | changes)


def test_an_expression_without_images_counts_as_one_image(web: Domain) -> None:
    train = web.split("train")
    some = train.subset(np.flatnonzero(train.labels != 2))
    source = Source(("web",), some, some, some)
    layer = ScoringLayer.of(replace(SPEC, prior=0.5), source, shipped("linear_probe"))
    counts = np.maximum(some.counts, 1)
    found = layer.without_prior(torch.zeros(1, 7, dtype=torch.float64))
    np.testing.assert_allclose(found[0], -0.5 * np.log(counts / counts.sum()), atol=1e-9)
    assert found[0].argmax() == 2
    assert found[0, 2] - found[0].min() == pytest.approx(0.5 * np.log(counts.max()))


def test_a_checkpoint_answers_as_its_run_was_scored(sided: Project, web: Domain, tmp_path: Path) -> None:
    protocol = WEB | {"views": ["plain", "mirror"], "prior": 0.5}
    ((_, record),) = execute(make_plan(sided, protocol=protocol, method="sided", keep_models=True), sided, 0)
    assert record is not None
    path = record.spec.path(sided.results / "runs")
    expected = softmax(RecordFile.open(path).predictions()["web"].logits.astype(np.float64), 1)
    faces = web.split("test").faces()
    fitted = open_fitted(sided, path, "cpu")
    np.testing.assert_allclose(fitted.probabilities(faces.permute(0, 2, 3, 1).numpy()), expected, atol=2e-3)
    batches = [faces[:4].permute(0, 2, 3, 1).numpy(), faces[:3].permute(0, 2, 3, 1).numpy()]
    fitted.export(tmp_path / "sided.onnx", batches, {})
    session = onnxruntime.InferenceSession(str(tmp_path / "sided.onnx"))
    (found,) = session.run(["probabilities"], {"image": faces.permute(0, 2, 3, 1).numpy()})
    np.testing.assert_allclose(found, expected, atol=2e-3)
    sidecar(path, ARRAYS).unlink()
    with pytest.raises(BenchError, match="--rerun"):
        open_fitted(sided, path, "cpu")


def test_a_kept_training_is_scored_again_without_training(sided: Project) -> None:
    count = sided.root / "trainings"
    file = sided.root / "methods" / "sided.py"
    file.write_text(
        SIDED.replace("        self.weight", f"        open({str(count)!r}, 'a').write('x')\n        self.weight")
    )
    usual: dict[str, Any] = WEB | {"selection": "source-val"}
    layered = usual | {"views": ["plain", "mirror"], "prior": 0.5}
    runs = sided.results / "runs"

    def logits(**options: Any) -> dict[str, np.ndarray]:
        ((_, record),) = execute(make_plan(sided, protocol=layered, method="sided", **options), sided, 0)
        assert record is not None
        assert record.environment.get("trained_as") == (None if options else record.spec.trained.key)
        found = RecordFile.open(record.spec.path(runs)).predictions()
        return {name: one.logits for name, one in found.items()}

    execute(make_plan(sided, protocol=usual, method="sided", keep_models=True), sided, 0)
    assert count.read_text() == "x"
    restored = logits()
    assert count.read_text() == "x"
    trained = logits(rerun=True)
    assert count.read_text() == "xx"
    assert set(restored) == set(trained) == {"web", "film", HELD_OUT}
    for name, expected in trained.items():
        np.testing.assert_array_equal(restored[name], expected)


def test_a_method_that_was_edited_or_a_damaged_checkpoint_is_trained_again(sided: Project) -> None:
    execute(make_plan(sided, protocol=WEB, method="sided", keep_models=True), sided, 0)
    layered = WEB | {"prior": 0.5}
    (checkpoint,) = (sided.results / "runs").rglob("*.safetensors")
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    ((_, record),) = execute(make_plan(sided, protocol=layered, method="sided"), sided, 0)
    assert record is not None
    assert "trained_as" not in record.environment
    checkpoint.write_bytes(whole)
    (sided.root / "methods" / "sided.py").write_text(SIDED + "# edited\n")
    ((_, record),) = execute(make_plan(sided, protocol=WEB | {"prior": 0.25}, method="sided"), sided, 0)
    assert record is not None
    assert "trained_as" not in record.environment


def test_records_with_and_without_stand_beside_each_other(sided: Project) -> None:
    usual, _ = scored(sided)
    layered, _ = scored(sided, views=["plain", "mirror"], prior=0.5)
    assert usual.spec.label == "sided"
    assert layered.spec.label == "sided (views=plain+mirror, prior=0.5)"
    runs = sided.results / "runs"
    assert RecordFile.open(layered.spec.path(runs)).record.spec == layered.spec
    assert layered.spec.trained.key == usual.spec.key
    assert usual.spec.path(runs).is_file()
