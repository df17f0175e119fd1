"""The command and the function answer photographs with a checkpoint and with its exported file alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small_models import SIDE, write_model

import fergen_bench as fb
from conftest import Bench
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import detector
from fergen_bench.datasets.detector import Detection
from fergen_bench.datasets.numbering import ORDERS
from fergen_bench.execution.fitted import open_fitted
from fergen_bench.experiment.project import Project
from fergen_bench.finished.convention import Convention


@pytest.fixture
def faces(project: Project, web: Domain) -> list[Path]:
    """Write the first test faces of web as photographs, and return their paths."""
    (project.root / "faces").mkdir()
    paths = []
    for row in web.rows("test")[:5]:
        paths.append(project.root / "faces" / f"{len(paths)}.png")
        Image.fromarray(np.asarray(web.faces[row])).save(paths[-1])
    return paths


class Middle:
    """A detector that finds one face in the middle of a picture of more than 100 pixels."""

    name = "middle 1"

    def __call__(self, image: Image.Image) -> list[Detection]:
        if image.width <= 100:
            return []
        side = 64 / detector.FRAME
        return [Detection(((image.width - side) / 2, (image.height - side) / 2, side, side), 0.9)]


def test_cropped_faces_get_the_probabilities_of_the_model(
    project: Project, exported: Path, faces: list[Path], web: Domain
) -> None:
    frame = fb.predict(project.root / "faces", exported, crop="none", at_least=0.2, progress=False)
    model = open_fitted(project, exported, "cpu")
    assert model.calibration is not None
    with torch.no_grad():
        logits = model.method.predict(torch.from_numpy(np.array(web.faces[web.rows("test")[:5]])).permute(0, 3, 1, 2))
    expected = torch.softmax(logits / model.calibration[0], 1).numpy()
    np.testing.assert_allclose(frame[list(EXPRESSIONS)], expected, atol=1e-5)
    assert frame.file.tolist() == [str(path) for path in faces]
    sure = np.where(expected.max(1) >= 0.2, np.array(EXPRESSIONS)[expected.argmax(1)], "uncertain")
    assert frame.expression.tolist() == sure.tolist()
    from_file = fb.predict([str(path) for path in faces], "model.onnx", crop="none", at_least=0.2, progress=False)
    pd.testing.assert_frame_equal(frame, from_file, atol=1e-5)


def test_the_command_answers_what_it_can_and_names_the_rest(
    project: Project, exported: Path, web: Domain, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "open_detector", Middle)
    folder = project.root / "photographs"
    folder.mkdir()
    for at, row in enumerate(web.rows("test")[:2]):
        picture = Image.new("RGB", (200, 164), (9, 9, 9))
        picture.paste(Image.fromarray(np.asarray(web.faces[row])), (68, 50))
        picture.save(folder / f"{at}.png")
    Image.new("RGB", (50, 50)).save(folder / "small.png")
    (folder / "z.jpg").write_bytes(b"\xff\xd8\xff broken")
    key = exported.stem.rpartition("-")[2]
    done = bench("predict", str(folder), "--model", key, "--to", "out/faces.csv", "--show", "seen")
    assert done.code == 1, done.err
    assert f"{folder / 'small.png'}: no face was found" in done.err
    assert f"{folder / 'z.jpg'}: cannot be read: " in done.err
    assert "2 faces of 4 files in out/faces.csv" in done.err
    assert sorted(path.name for path in Path("seen").iterdir()) == ["0.jpg", "1.jpg", "small.jpg"]
    frame = pd.read_csv("out/faces.csv")
    assert frame.file.tolist() == [str(folder / "0.png"), str(folder / "1.png")]
    assert frame[["left", "top", "width", "height"]].to_numpy().tolist() == [[70, 52, 60, 60]] * 2
    whole = fb.predict(folder / "0.png", exported, progress=False)
    Image.fromarray(np.asarray(web.faces[web.rows("test")[0]])).save("face.png")
    alone = fb.predict("face.png", exported, crop="none", progress=False)
    np.testing.assert_allclose(whole[list(EXPRESSIONS)], alone[list(EXPRESSIONS)], atol=1e-5)
    done = bench("predict", str(folder / "0.png"), "--model", "model.onnx", "--at-least", "1", "--to", "faces.json")
    assert done.code == 0, done.err
    (row,) = json.loads(Path("faces.json").read_text())
    assert (row["expression"], row["face"], row["seconds"]) == ("uncertain", 0, None)
    assert row["happiness"] == pytest.approx(frame.happiness[0], abs=1e-4)
    assert "--crop none" in bench("predict", str(folder / "small.png"), "--model", "model.onnx").err
    printed = bench("predict", str(folder / "0.png"), "--model", "model.onnx")
    assert printed.code == 0
    assert f"{folder / '0.png'}, face 0 at 70,52 60 × 60: {frame.expression[0]} ({frame.expression[0]} " in printed.out


def test_what_cannot_be_answered_at_all_ends_with_one_sentence(
    project: Project, exported: Path, bench: Bench, tmp_path: Path
) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no image")
    (tmp_path / "b.jpg").write_bytes(b"no image")
    for arguments, fault in (
        (("a.jpg",), "a.jpg: cannot be read: "),
        (("a.jpg", "b.jpg"), "none of 2 files can be read"),
        (("gone.jpg",), "gone.jpg: does not exist"),
        (("a.jpg", "--to", "x.xls"), "must end in .csv or .json"),
        (("a.jpg", "--set", "backbone=synth"), "--set: is ineffective with a finished model"),
        (("a.jpg", "--mean", "0.5"), "--mean: is ineffective with a file of export, which states it"),
    ):
        done = bench("predict", *arguments, "--model", "model.onnx", "--crop", "none")
        assert (done.code, done.err.count(fault)) == (2, 1), done.err
        assert "Traceback" not in done.err
    with pytest.raises(fb.BenchError, match="crop: 'face' is not a way to crop"):
        fb.predict("a.jpg", "model.onnx", crop="face")  # type: ignore[arg-type]
    with pytest.raises(fb.BenchError, match="at_least: 2 is not a probability"):
        fb.predict("a.jpg", "model.onnx", at_least=2)
    with pytest.raises(fb.BenchError, match="names no file; name photographs"):
        fb.predict("", "model.onnx")
    with pytest.raises(fb.BenchError, match="names no file; name photographs"):
        fb.predict([], "model.onnx")
    Path("other.pth").write_bytes(b"x")
    with pytest.raises(
        fb.BenchError, match=r"other\.pth: this file has weights without a network; name both, as timm:"
    ):
        fb.predict("a.jpg", "other.pth")
    Path("other.safetensors").write_bytes(b"x")
    with pytest.raises(
        fb.BenchError, match=r"other\.safetensors: has no record beside it, other\.json, .*; .* timm:NAME//path"
    ):
        fb.predict("a.jpg", "other.safetensors")
    import onnx

    model = onnx.load("model.onnx")
    del model.metadata_props[:]
    onnx.save(model, "bare.onnx")
    with pytest.raises(fb.BenchError, match=r"the order of its classes is not stated; name it with --classes"):
        fb.predict("a.jpg", "bare.onnx")


def test_a_file_from_elsewhere_is_read_as_stated(
    project: Project, weights: Any, faces: list[Path], bench: Bench
) -> None:
    right = Convention(classes=ORDERS["affectnet-7"], size=(SIDE, SIDE), mean=(0.5,), deviation=(0.25,))
    write_model(Path("other.onnx"), weights, right)
    write_model(Path("labelled.onnx"), weights, right, metadata=right.metadata())
    paths = [str(path) for path in faces]
    stated = ("--classes", "affectnet-7", "--mean", "0.5", "--deviation", "0.25")
    done = bench("predict", *paths, "--crop", "none", "--to", "faces.csv", "--model", "other.onnx", *stated)
    assert done.code == 0, done.err
    used = "convention: rgb 3 x 32 x 32, bilinear, 0-1, mean 0.5, deviation 0.25, nchw; classes neutral,happiness,sad"
    assert f"note: {used}" in done.err
    expected = fb.predict(paths, "labelled.onnx", crop="none", progress=False)
    found = pd.read_csv("faces.csv")
    np.testing.assert_allclose(found[list(EXPRESSIONS)], expected[list(EXPRESSIONS)], atol=1e-5)
    with pytest.warns(UserWarning, match="assumed, since nothing states it: .*no mean is subtracted"):
        bare = fb.predict(paths, "other.onnx", crop="none", progress=False, classes="affectnet-7")
    assert not np.allclose(bare[list(EXPRESSIONS)], expected[list(EXPRESSIONS)], atol=1e-3)
    with pytest.raises(TypeError, match=r"predict\(\) has no keyword 'clases'; did you mean classes"):
        fb.predict(paths, "other.onnx", clases="affectnet-7")
    with pytest.raises(TypeError, match=r"predict\(\) has no keyword 'at_leest'; did you mean at_least"):
        fb.predict(paths, "other.onnx", at_leest=0.5)


def test_a_record_states_the_convention(project: Project, exported: Path, faces: list[Path]) -> None:
    with pytest.raises(fb.BenchError, match="--classes: is ineffective with a record, which states it"):
        fb.predict(faces[0], exported, crop="none", classes="rafdb")
    fb.evaluate("model.onnx", targets="web", track=False, progress=False)
    (evaluated,) = (project.results / "runs").rglob("external@*/*.json")
    with pytest.raises(fb.BenchError, match="--set: is ineffective with a finished model"):
        fb.predict(faces[0], evaluated, crop="none", parameters={"backbone": "synth"})
