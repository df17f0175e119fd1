"""Faces on sheets of channels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from test_details import one
from test_page import made

from fergen_bench.data.domain import Domain
from fergen_bench.report.page.sheets import ShownFaces


def test_faces_of_real_people_are_named_and_not_shown(web: Domain, tmp_path: Path) -> None:
    record = made(tmp_path, "cafe", 1.0, "web", 0)
    cell = replace(record.cells[0], fingerprint=web.fingerprint)
    record = replace(record, cells=(cell, *record.cells[1:]))
    entry = one()
    channels, note = ShownFaces(lambda name: web).strips(entry, record)
    assert note == ""
    assert channels[0]["picture"].startswith("data:image/jpeg;base64,")
    split = web.split("test")
    assert channels[1]["ids"] == split.ids[[2, 3]].tolist()
    real = Domain(web.folder, "web")
    real.about = {**web.about, "synthetic": False}
    channels, note = ShownFaces(lambda name: real).strips(entry, record)
    assert "report --faces" in note
    assert [bool(channel["picture"]) for channel in channels] == [False, False]
    assert channels[0]["ids"]
    channels, note = ShownFaces(lambda name: real, show_real=True).strips(entry, record)
    assert channels[0]["picture"]
    assert "not shown" in ShownFaces(lambda name: web, left=10).strips(entry, record)[1]
    assert "are not here" in ShownFaces().strips(entry, record)[1]
