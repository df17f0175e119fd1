"""The exported model of a record gives the confusion matrices of the record."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
from PIL import Image

import fergen_bench as fb
from conftest import Bench
from fergen_bench.api.export import RUN_KEY
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.project import Project
from fergen_bench.metric import confusion_matrix
from fergen_bench.records import store

RUN = ("run", "--sources", "web", "--targets", "web,film", "--seeds", "0", "--no-track", "-j", "0", "--keep-models")


@pytest.mark.parametrize("method", ["linear_probe", "full_finetune"])
def test_an_exported_model_gives_the_confusion_of_its_record(
    project: Project, bench: Bench, web: Domain, film: Domain, method: str, request: pytest.FixtureRequest
) -> None:
    if method == "full_finetune":
        record = store.load(request.getfixturevalue("exported"))
        said = (request.getfixturevalue("kept_run") / "export.txt").read_text()
    else:
        assert bench(*RUN, "--method", method, "--selection", "source-val").code == 0
        (path,) = (project.results / "runs").glob("*/*/*.json")
        record = store.load(path)
        done = bench("export", record.spec.key, "--to", "model.onnx")
        assert done.code == 0, done.err
        said = done.out
    assert f"{record.spec.title}. Its logits differ from those of torch by" in said
    calibrated = method != "linear_probe"  # which learns from the held-out images, too
    assert ("calibrated with the temperature" in said) is calibrated
    session = onnxruntime.InferenceSession("model.onnx")
    about = json.loads(session.get_modelmeta().custom_metadata_map[RUN_KEY])
    assert (about["key"], about["sources"], about["faces"]["size"]) == (record.spec.key, ["web"], [64, 64])
    assert (about["temperature"] is not None) is calibrated
    for domain in (web, film):
        rows = domain.rows("test")
        (probabilities,) = session.run(None, {"image": np.array(domain.faces[rows])})
        cell = record.cell(domain.name)
        assert cell is not None
        found = confusion_matrix(domain.labels[rows], probabilities.argmax(1), len(EXPRESSIONS))
        assert found.tolist() == cell.confusion


def test_an_evaluation_of_the_file_gives_the_confusion_of_its_record(
    project: Project, exported: Path, web: Domain
) -> None:
    done = fb.evaluate(
        "model.onnx", suite="synth5-tiny", targets=["web", "film"], trained_on=["web"], track=False, progress=False
    )
    fitted = store.load(exported)
    assert {cell.target: cell.confusion for cell in done.record.cells} == {
        cell.target: cell.confusion for cell in fitted.cells
    }
    (project.root / "faces").mkdir()
    for row in web.rows("test")[:3]:
        Image.fromarray(np.asarray(web.faces[row])).save(project.root / "faces" / f"{row}.png")
    frames = [fb.predict("faces", model, crop="none", progress=False) for model in (exported, done.record.spec.key)]
    pd.testing.assert_frame_equal(*frames, atol=1e-5)


def test_wrong_names_are_refused(project: Project, tmp_path: Path) -> None:
    with pytest.raises(fb.BenchError, match=r"must end in \.onnx"):
        fb.export("0123456789ab", tmp_path / "model.pt")
    with pytest.raises(fb.BenchError, match="lacks a record with this key"):
        fb.export("0123456789ab", tmp_path / "model.onnx")
