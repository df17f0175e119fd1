"""JAFFE: everything is in the names."""

from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.jaffe import DATASET
from fergen_bench.error import BenchError
from greyfaces import counts, draw, read

CODES = {
    "AN": "anger",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}


def jaffe(root: Path) -> Path:
    """Ten people, two faces of each expression."""
    number = 0
    for subject in ("KA", "KL", "KM", "KR", "MK", "NA", "NM", "TM", "UY", "YM"):
        for code, expression in CODES.items():
            for take in (1, 2):
                number += 1
                draw(root / f"{subject}.{code}{take}.{number}.tiff", expression, take)
    (root / "README").write_text("about")
    return root


@pytest.mark.parametrize("nesting", [".", "jaffe"])
def test_names_give_expression_and_subject(tmp_path: Path, nesting: str) -> None:
    jaffe(tmp_path / nesting)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "jaffe-official"
    assert counts(listing)["train"] == dict.fromkeys(EXPRESSIONS, 16)
    assert counts(listing)["test"] == dict.fromkeys(EXPRESSIONS, 4)
    train, test = ({face.subject for face in listing.faces if face.split == split} for split in ("train", "test"))
    assert len(train | test) == 10
    assert not train & test
    assert next(face for face in listing.faces if face.id == "KA.AN1.1.tiff").subject == "KA"
    assert not listing.faults


def test_names_without_a_label_are_reported(tmp_path: Path) -> None:
    draw(jaffe(tmp_path) / "KA.XX1.9.tiff", "fear")
    (fault,) = read(DATASET, tmp_path)[1].faults
    assert (fault.kind, fault.where) == ("extra", str(tmp_path / "KA.XX1.9.tiff"))


def test_an_expression_may_be_left_out(tmp_path: Path) -> None:
    _, listing = read(DATASET, jaffe(tmp_path), labels={"FE": ""})
    assert listing.dropped == {"FE": 20}
    assert "fear" not in counts(listing)["train"]


def test_another_folder_is_not_taken_for_it(tmp_path: Path) -> None:
    draw(tmp_path / "KA.tiff", "fear")
    with pytest.raises(BenchError, match=r"not a known layout of JAFFE.* The folder has KA\.tiff; expected one of"):
        read(DATASET, tmp_path)
