"""Boxes in pixels or shares, with sizes or corners: decided over all rows, and noted or refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from fergen_bench.datasets import tables
from fergen_bench.datasets.reader import Listing, read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError

PIXELS = [(10, 20, 50, 40), (30, 10, 60, 60), (0, 0, 200, 100), (100, 40, 80, 50)]


def listing(root: Path, rows: list[tuple[float, ...]], sides: str = "left,top,width,height") -> Listing:
    lines = [f"image,label,split,{sides}"]
    for number, row in enumerate(rows):
        Image.new("L", (200, 100)).save(root / f"{number}.png")
        lines.append(f"{number}.png,sad,{'test' if number else 'train'},{','.join(map(str, row))}")
    (root / "a.csv").write_text("\n".join(lines))
    return read(tables.DATASET, DomainSettings(path=root / "a.csv"))[1]


def test_pixels_stay_as_they_are(tmp_path: Path) -> None:
    found = listing(tmp_path, PIXELS)
    assert [face.box for face in found.faces] == PIXELS
    assert not found.notes


def test_shares_of_the_picture_become_pixels_with_a_note(tmp_path: Path) -> None:
    found = listing(tmp_path, [(a / 200, b / 100, c / 200, d / 100) for a, b, c, d in PIXELS])
    assert [pytest.approx(face.box) for face in found.faces] == PIXELS
    assert any("shares of the picture" in note for note in found.notes)


def test_shares_among_pixels_are_refused_with_both_lines(tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match=r"a\.csv:4: the box \(0\.1, 0\.2, 0\.5, 0\.5\) is in shares .*a\.csv:2 \(10, 20"
    ):
        listing(tmp_path, [*PIXELS[:2], (0.1, 0.2, 0.5, 0.5)])


def test_corners_have_columns_of_their_own_and_are_refused_as_sizes(tmp_path: Path) -> None:
    corners = [(a, b, a + c, b + d) for a, b, c, d in [*PIXELS[:2], PIXELS[3], (90, 30, 90, 60)]]
    found = listing(tmp_path, corners, "left,top,right,bottom")
    assert [face.box for face in found.faces] == [*PIXELS[:2], PIXELS[3], (90, 30, 90, 60)]
    far = [(90, 40, 190, 90), (80, 30, 170, 95), (100, 50, 199, 99)]
    with pytest.raises(
        BenchError, match=r"a\.csv:2: the box \(90, 40, 190, 90\) .* as left, top, right, bottom they lie"
    ):
        listing(tmp_path, far)
    with pytest.raises(BenchError, match=r"a\.csv:3: the box ends at 20, 60 before it begins at 30, 10"):
        listing(tmp_path, [corners[0], (30, 10, 20, 60)], "left,top,right,bottom")


def test_fractional_corners_under_names_of_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"leaves its image, as do 4 of 4 .*as left, top, right, bottom they lie"):
        listing(tmp_path, [(0.4, 0.4, 0.75, 0.85)] * 4)


def test_a_detected_box_may_lie_slightly_outside(tmp_path: Path) -> None:
    found = listing(tmp_path, [(-0.02, 0.1, 0.3, 0.4), (0.8, 0.1, 0.25, 0.4)])
    assert found.faces[0].box == pytest.approx((-4, 10, 60, 40))
