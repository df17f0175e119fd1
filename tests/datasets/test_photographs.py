"""Datasets of whole photographs are recognised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from portraits import folder, portrait, prepared, warned

from fergen_bench.data.prepared import read_about
from fergen_bench.datasets import dataset, photographs
from fergen_bench.datasets.detector import has_detector
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.reader import Face
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.datasets.statistics import oddities

# ---------------------------------------------------------------------------------------------------------- photographs


@pytest.mark.parametrize(
    ("sizes", "dataset_name", "photographs_found"),
    [
        ([(1600, 1200)] * 4, "folder", 4),  # one camera
        ([(1600, 1200), (900, 1350), (640, 480), (700, 700)], "folder", 4),
        ([(640, 480)] * 4, "folder", 4),  # frames of a film
        ([(600, 900)] * 4, "folder", 4),
        ([(600, 640), (700, 560), (640, 800), (600, 900)], "folder", 4),  # large, and of varying shape
        ([(1024, 1024)] * 4, "folder", 0),  # large crops
        ([(224, 224), (180, 220), (90, 120), (300, 380)], "folder", 0),  # a detector's boxes
        ([(143, 181)] * 4, "sfew", 0),
        ([(720, 576)] * 4, "sfew", 4),
        ([(300, 420), (250, 350), (420, 470), (100, 100)], "rafdb", 3),
        ([(100, 100)] * 4, "rafdb", 0),
        ([(224, 224)] * 4, "rafdb", 0),  # made larger, but whole
    ],
)
def test_photographs_are_known_by_their_size(
    sizes: list[tuple[int, int]], dataset_name: str, photographs_found: int
) -> None:
    width, height = np.array(sizes).T
    found = photographs.sizes(width, height, dataset_name)
    assert found["photographs"] == photographs_found
    said = photographs.warning(found, None)
    assert (said is not None) == bool(photographs_found)
    assert said is None or f"{photographs_found} of 4 have the size and shape of photographs" in said


def test_the_detector_decides_where_it_finds_faces() -> None:
    large = photographs.sizes(np.full(50, 1600), np.full(50, 1200), "folder")
    crops = photographs.sizes(np.full(50, 400), np.full(50, 400), "folder")
    small, near = {"looked_at": 40, "found": 30, "small": 27}, {"looked_at": 40, "found": 30, "small": 3}
    blind = {"looked_at": 40, "found": 2, "small": 2}
    said = photographs.warning(crops, small)
    assert said is not None
    assert "a detector found a face in 30 of 40 of them, and in 90% of these it covers less than 20% of the pic" in said
    assert photographs.warning(large, near) is None
    assert photographs.warning(crops, blind) is None
    said = photographs.warning(large, blind)
    assert said is not None
    assert "50 of 50 have the size and shape of photographs. Crop the faces with data prepare --crop faces" in said


def test_whole_photographs_are_warned_of_and_boxes_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "has_detector", lambda: False)
    root = folder(tmp_path / "a", ending="jpg", count=1, size=(640, 480))
    (said,) = warned(root, tmp_path / "one")
    assert said.startswith(
        "the images look like whole photographs and not like cropped faces: they have 640 × 480 pixels"
    )
    assert "pip install 'fergen-bench[faces]'" in said
    rows = [
        f"{path.relative_to(root)},{path.parent.name},{path.parts[-3]},9,9,90,90" for path in root.glob("*/*/*.jpg")
    ]
    table = root / "faces.csv"
    table.write_text("image,label,split,left,top,width,height\n" + "\n".join(rows))
    settings = DomainSettings(path=table, dataset="csv", size=32)
    prepare_dataset("boxed", dataset("csv", "test"), settings, tmp_path / "two", 1, lambda done, total: None)
    pixels = read_about(tmp_path / "two")["pixels"]
    assert "sizes" not in pixels
    assert not any("photographs" in what for what in oddities(pixels))


def test_a_sample_is_shown_to_the_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder(tmp_path / "a", ending="jpg", size=(400, 400))
    monkeypatch.setattr(photographs, "has_detector", lambda: True)
    monkeypatch.setattr(photographs, "largest_face", lambda face: None if "fear" in face.id else 0.01)
    pixels = prepared(root, tmp_path / "one", size=32).about["pixels"]
    assert pixels["detector"]["looked_at"] == photographs.SAMPLE
    assert pixels["detector"]["found"] == pixels["detector"]["small"] < photographs.SAMPLE
    assert "covers less than 20% of the picture" in oddities(pixels)[0]
    small = folder(tmp_path / "b", size=(100, 100))
    assert "detector" not in prepared(small, tmp_path / "two").about["pixels"]


@pytest.mark.skipif(not has_detector(), reason="the extra `faces` is not installed")
def test_the_extra_detects_faces_where_it_is_installed(tmp_path: Path) -> None:
    Image.fromarray(portrait(0, (300, 300))).save(tmp_path / "a.png")
    share = photographs.largest_face(Face("a", "train", "fear", "", tmp_path / "a.png"))
    assert share is None or 0 < share <= 1
    (tmp_path / "b.png").write_bytes(b"no image")
    assert photographs.largest_face(Face("b", "train", "fear", "", tmp_path / "b.png")) is None
