"""The picture and the page of the architecture show the rooms and imports of the code."""

from __future__ import annotations

import re
import sys

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import architecture

PAGE = (ROOT / "docs" / "architecture.md").read_text()


def test_the_picture_shows_the_rooms_and_imports_of_the_code() -> None:
    shown = architecture.drawn(architecture.PICTURE.read_text(encoding="utf-8"))
    assert shown == architecture.drawn(architecture.svg()), "run: python docs/architecture.py"
    rooms, arrows = shown
    assert rooms == set(architecture.modules()) - {"__main__"}
    imports = architecture.room_imports()
    assert all(target in imports[room] for room, target in arrows)


def test_arrows_that_follow_from_others_are_left_out() -> None:
    arrows = {"cli": {"records", "data", "metric"}, "records": {"data"}, "data": set(), "metric": set()}
    assert architecture.reduced(arrows) == {**arrows, "cli": {"records", "metric"}}
    assert architecture.floors(arrows) == [["cli"], ["records"], ["data", "metric"]]


def test_an_arrow_that_passes_a_floor_keeps_clear_of_its_boxes() -> None:
    rows = [["top"], ["between"], ["bottom"]]
    corners = {name: (100.0, 100.0 * index) for index, (name,) in enumerate(rows)}
    lane = re.search(r"L([\d.]+),", architecture.arrow("top", "bottom", rows, corners))
    assert lane is not None
    assert not 100 <= float(lane[1]) <= 100 + architecture.WIDTH


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`([\w./]+\.(?:py|toml))`", PAGE))))
def test_every_file_on_the_page_exists(path: str) -> None:
    assert any((folder / path).is_file() for folder in (ROOT, architecture.PACKAGE))


def test_every_room_has_a_row_on_the_page() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE))
    assert rows == set(architecture.modules()) - {"__main__"}
