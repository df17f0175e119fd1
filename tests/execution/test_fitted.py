"""Checkpoints are found by path or key and restored, or the next step is named."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from running import METHOD

from conftest import Bench
from fergen_bench import BenchError
from fergen_bench.data.domain import Domain
from fergen_bench.execution.fitted import find_record, open_fitted
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.run import Precision
from fergen_bench.metric import fit_temperature
from fergen_bench.records import store
from fergen_bench.records.record import HELD_OUT
from fergen_bench.records.store import RecordFile

FROZEN = '''"""A frozen network, and a random direction of each expression that is not in the checkpoint."""
from dataclasses import dataclass
import torch
from fergen_bench import Context, GradientMethod
@dataclass
class Probe(GradientMethod):
    epochs: int = 1
    def build(self, ctx):
        self.encoder = ctx.backbone("synth-trunk")
        self._directions = torch.randn(self.encoder.features, 7, generator=ctx.generator("directions"))
        return torch.nn.Linear(7, 7)
    def loss(self, batch):
        return torch.nn.functional.cross_entropy(self.logits(batch.images).float(), batch.labels)
    def logits(self, images):
        return self.model(self.encoder(images) @ self._directions)
'''

RUN = ("run", "--method", "probe", "--sources", "web", "--targets", "web", "--seeds", "0", "--no-track", "-j", "0")


@pytest.fixture
def recorded(project: Project, bench: Bench) -> Path:
    """Return the record of a run of a small method, with a checkpoint and predictions on held-out images."""
    (project.root / "methods").mkdir()
    (project.root / "methods" / "probe.py").write_text(METHOD)
    assert bench(*RUN, "--selection", "source-val", "--keep-models").code == 0
    (path,) = (project.results / "runs").glob("*/*/*.json")
    return path


def test_a_record_is_found_by_its_path_its_checkpoint_and_its_key(project: Project, recorded: Path) -> None:
    key = recorded.stem.rpartition("-")[2]
    for name in (recorded, recorded.with_suffix(".safetensors"), key, key[:5]):
        assert find_record(project, name) == recorded
    for name in (key[:3], "0" * 12 if key[0] != "0" else "1" * 12, "no/such.json"):
        with pytest.raises(BenchError, match=r"record"):
            find_record(project, name)


def test_a_key_of_two_records_names_both(project: Project, recorded: Path) -> None:
    key = recorded.stem.rpartition("-")[2]
    (recorded.parent / f"web-s1-{key}.json").write_text("{}")
    with pytest.raises(BenchError, match="2 records have keys that begin so: web-s0"):
        find_record(project, key)


def test_a_restored_method_predicts_what_the_record_has(project: Project, recorded: Path, web: Domain) -> None:
    model = open_fitted(project, recorded, "cpu")
    with torch.no_grad():
        logits = model.method.predict(web.split("test").faces()).numpy()
    stored = RecordFile.open(recorded).predictions()
    np.testing.assert_array_equal(logits.argmax(1), stored["web"].logits.argmax(1))
    held = stored[HELD_OUT]
    assert model.calibration == (fit_temperature(*held.scored), len(held.labels))


def test_a_record_without_a_checkpoint_or_of_another_version_is_refused(
    project: Project, recorded: Path, bench: Bench
) -> None:
    record = store.load(recorded)
    with pytest.raises(BenchError, match="a finished run takes no other parameters"):
        open_fitted(project, recorded, "cpu", {"kind": "fine"})
    (project.root / "methods" / "probe.py").write_text(METHOD.replace("    kind:", "    version = 2\n    kind:"))
    with pytest.raises(BenchError, match="was made by version 1 of the method probe"):
        open_fitted(project, recorded, "cpu")
    store.save(replace(record, files={}), project.results / "runs", anew=True)
    with pytest.raises(BenchError, match="lacks a checkpoint beside it; repeat its run with --keep-models --rerun"):
        open_fitted(project, recorded, "cpu")


def test_a_file_that_is_no_record_is_named_with_the_next_step(project: Project) -> None:
    path = project.root / "model.pt"
    path.write_bytes(b"PK")
    with pytest.raises(BenchError, match=r"model\.pt: is neither a record nor its checkpoint; name a record's \.json"):
        find_record(project, path)


def test_a_parameter_that_the_method_got_later_has_its_default(
    project: Project, recorded: Path, web: Domain, bench: Bench
) -> None:
    (project.root / "methods" / "probe.py").write_text(
        METHOD.replace("    def fit", "    later: int = 7\n    def fit", 1)
    )
    model = open_fitted(project, recorded, "cpu")
    assert vars(model.method)["later"] == 7
    with torch.no_grad():
        logits = model.method.predict(web.split("test").faces()).numpy()
    np.testing.assert_array_equal(logits.argmax(1), RecordFile.open(recorded).predictions()["web"].logits.argmax(1))
    result = bench("run", "--replay", str(recorded))
    assert (result.code, "Equal: every confusion matrix" in result.out) == (0, True), result.err


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_restored_method_has_the_precision_and_the_random_streams_of_its_run(
    project: Project, bench: Bench, web: Domain, precision: Precision
) -> None:
    (project.root / "methods").mkdir()
    (project.root / "methods" / "probe.py").write_text(FROZEN)
    assert bench(*RUN, "--keep-models", "--precision", precision).code == 0
    (path,) = (project.results / "runs").glob("*/*/*.json")
    shutil.rmtree(project.cache / "features", ignore_errors=True)
    faces = web.split("test").faces()

    def logits(asked: Precision | None = None) -> np.ndarray:
        with torch.no_grad():
            found = open_fitted(project, path, "cpu", precision=asked).method.predict(faces).numpy()
        return (found - found.max(1, keepdims=True)).astype(np.float16)  # as records have them

    stored, whole = RecordFile.open(path).predictions()["web"].logits, logits("fp32")
    np.testing.assert_array_equal(logits(), stored)
    assert np.array_equal(whole, stored) == (precision == "fp32")
    record = store.load(path)
    of_a_gpu = replace(record, environment=record.environment | {"cuda": "12.8"})
    store.save(of_a_gpu, project.results / "runs")
    np.testing.assert_array_equal(logits(), whole)  # fp16 there, to which fp32 is nearest here
