"""KDEF: everything is in the names, and AF is afraid."""

from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.kdef import DATASET
from fergen_bench.error import BenchError
from greyfaces import counts, draw, read

CODES = {
    "AF": "fear",
    "AN": "anger",
    "DI": "disgust",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}
ANGLES = ("S", "HL", "HR", "FL", "FR")


def kdef(root: Path, by_person: bool = True) -> Path:
    """Six people in two sessions, five angles."""
    for person in ("F01", "F02", "F35", "M01", "M02", "M03"):
        for session in "AB":
            for code, expression in CODES.items():
                for number, angle in enumerate(ANGLES):
                    folder = root / f"{session}{person}" if by_person else root
                    draw(folder / f"{session}{person}{code}{angle}.JPG", expression, number, size=(16, 16))
    return root


@pytest.mark.parametrize(("nesting", "by_person"), [(".", True), ("KDEF_and_AKDEF/KDEF", True), ("KDEF", False)])
def test_names_give_expression_subject_session_and_angle(tmp_path: Path, nesting: str, by_person: bool) -> None:
    kdef(tmp_path / nesting, by_person)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "kdef-official"
    assert counts(listing)["train"] == dict.fromkeys(EXPRESSIONS, 50)
    assert counts(listing)["test"] == dict.fromkeys(EXPRESSIONS, 10)
    train, test = ({face.subject for face in listing.faces if face.split == split} for split in ("train", "test"))
    assert len(train | test) == 6
    assert not train & test
    face = next(face for face in listing.faces if face.id.endswith("BF35AFHL.JPG"))
    assert (face.subject, face.expression, face.extra) == ("F35", "fear", {"session": "B", "angle": "HL"})
    assert not listing.faults


def test_the_two_files_that_the_owner_misnamed_are_read(tmp_path: Path) -> None:
    kdef(tmp_path)
    draw(tmp_path / "AF31" / "AF31V.JPG", "sadness")
    draw(tmp_path / "AM31" / "am31h.jpg", "surprise")
    listing = read(DATASET, tmp_path)[1]
    found = {face.id: (face.expression, face.subject, face.extra) for face in listing.faces}
    assert found["AF31/AF31V.JPG"] == ("sadness", "F31", {"session": "A", "angle": "HL"})
    assert found["AM31/am31h.jpg"] == ("surprise", "M31", {"session": "A", "angle": "HR"})
    assert not listing.faults
    assert listing.notes[0] == ("Files that the owner misnamed are read: AF31V.JPG as AF31SAHL, am31h.jpg as AM31SUHR.")
    draw(tmp_path / "AF31" / "AF31SAHL.JPG", "sadness")  # both versions exist
    (fault,) = read(DATASET, tmp_path)[1].faults
    assert (fault.kind, Path(fault.where).name) == ("duplicate", "AF31V.JPG")


def test_malformed_names_are_named(tmp_path: Path) -> None:
    draw(kdef(tmp_path) / "AF01" / "AF01ANX.JPG", "anger")
    (fault,) = read(DATASET, tmp_path)[1].faults
    assert (fault.kind, Path(fault.where).name) == ("extra", "AF01ANX.JPG")


def test_another_folder_is_not_taken_for_it(tmp_path: Path) -> None:
    draw(tmp_path / "AF01.JPG", "fear")
    with pytest.raises(BenchError, match=r"not a known layout of KDEF.* The folder has AF01\.JPG; expected one of"):
        read(DATASET, tmp_path)
