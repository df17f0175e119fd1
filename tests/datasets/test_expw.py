"""ExpW: several faces in one photograph, each in a box of its own."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.expw import DATASET
from fergen_bench.datasets.reader import Listing
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError
from greyfaces import counts, level, pixels, read

NATIVE = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")
BOXES = ((8, 24, 16, 40), (56, 8, 32, 24))
"""Two faces of one photograph: left, top, width, height, off the diagonal"""


def expw(root: Path) -> Path:
    """Thirty-five photographs, each with two faces of other expressions; gives label.lst."""
    lines = []
    for number in range(35):
        image, name = Image.new("L", (112, 80), 0), f"{NATIVE[number % 7]}_actor {number}.jpg"
        for face, (left, top, width, height) in enumerate(BOXES):
            label = (number + 3 * face) % 7
            image.paste(level(NATIVE[label], number), (left, top, left + width, top + height))
            lines.append(f"{name} {face} {top} {left} {left + width} {top + height} 22.9362 {label}")
        (root / "image" / "origin").mkdir(parents=True, exist_ok=True)
        image.save(root / "image" / "origin" / name)
    (root / "label").mkdir()
    (root / "label" / "label.lst").write_text("\n".join(lines))
    return root / "label" / "label.lst"


@pytest.mark.parametrize("nesting", [".", "ExpW"])
def test_every_face_of_a_photograph_is_cut_out_by_its_box(tmp_path: Path, nesting: str) -> None:
    expw(tmp_path / nesting)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "expw-official"
    assert not DATASET.layouts[0].official
    together = {name: counts(listing)["train"][name] + counts(listing)["test"][name] for name in EXPRESSIONS}
    assert together == dict.fromkeys(EXPRESSIONS, 10)
    assert sum(counts(listing)["test"].values()) > 5
    face = next(face for face in listing.faces if face.id == "anger_actor 0.jpg#1")
    assert (face.box, face.expression, face.extra) == ((56, 8, 32, 24), "happiness", {"confidence": "22.9362"})
    assert pixels(face).shape == (24, 32)
    assert not listing.faults


def test_no_photograph_is_in_two_splits(tmp_path: Path) -> None:
    expw(tmp_path)
    faces = read(DATASET, tmp_path, test_share=0.4)[1].faces
    photographs = [{face.file for face in faces if face.split == split} for split in ("train", "test")]
    assert all(photographs)
    assert not photographs[0] & photographs[1]


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def test_missing_extra_doubled_and_empty_are_named(tmp_path: Path) -> None:
    path = expw(tmp_path)
    with path.open("a") as file:
        file.write("\nanger_actor 0.jpg 1 8 56 88 32 1.0 2\nanger_actor 0.jpg 2 8 56 56 32 1.0 2\n")
    Image.new("L", (9, 9)).save(tmp_path / "image/origin/new.jpg")
    (tmp_path / "image/origin/disgust_actor 1.jpg").unlink()
    _, listing = read(DATASET, tmp_path)
    assert listing.dropped == {"listed twice, with two labels": 1, "without a face box": 1}
    assert [(fault.kind, Path(fault.where).name) for fault in listing.faults] == [
        ("missing", "label.lst:3"),
        ("missing", "label.lst:4"),
        ("label", "label.lst:71"),
        ("extra", "new.jpg"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("22.9362 0", "22.9362 7", r"label\.lst:1: '7' is not a known expression; the labels of this layout are 0"),
        ("24 8 24", "x 8 24", r"label\.lst:1: the top of the box is 'x'"),
        ("anger_actor 0", "../anger_actor 0", r"label\.lst:1: '\.\./anger_actor 0\.jpg' leads out of"),
        (" 0 24 8 24 64 22.9362 0", ",0,24,8,24,64,22.9362,0", r"label\.lst:1: expected 8 columns with blanks between"),
    ],
)
def test_a_bad_line_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    replace(expw(tmp_path), old, new)
    with pytest.raises(BenchError, match=message):
        read(DATASET, tmp_path)


def test_lists_without_images_are_refused(tmp_path: Path) -> None:
    expw(tmp_path)
    (tmp_path / "image/origin").rename(tmp_path / "image/other")
    with pytest.raises(BenchError, match=r"image/origin: this folder is missing. ExpW has the images of"):
        read(DATASET, tmp_path)
    (tmp_path / "image/origin").mkdir()
    with pytest.raises(
        BenchError, match=r"label\.lst: none of its faces can be used .*Check that the images are there"
    ):
        read(DATASET, tmp_path)


def lines() -> st.SearchStrategy[str]:
    cell = st.sampled_from(["0", "6", "7", "28", "-5", "1e9", "nan", "0.5", "../a.jpg", "a.jpg", "b"]) | st.text(
        max_size=5
    )
    return st.lists(st.lists(cell, min_size=6, max_size=9).map(" ".join), max_size=4).map("\n".join)


@settings(max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=lines() | st.text(max_size=60), other=st.binary(max_size=20), whole=st.booleans())
def test_arbitrary_lists_end_in_faces_or_in_one_sentence(tmp_path: Path, text: str, other: bytes, whole: bool) -> None:
    pictures, path = tmp_path / "image" / "origin", tmp_path / "label" / "label.lst"
    for folder in (pictures, path.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for picture in ("a.jpg", "b.jpg"):
        (pictures / picture).touch()
    box = b"0 28 113 226 141 22.9362 0\n"
    begin = b"a.jpg " + box + b"b.jpg " + box if whole else b""
    path.write_bytes(begin + text.encode(errors="replace") + other)
    layout, base = DATASET.layout(tmp_path)
    listing, sentence = Listing(), None
    try:
        listing = layout.read(base, DomainSettings(path=tmp_path))
    except BenchError as error:
        sentence = str(error)
    assert listing.faces if sentence is None else "label.lst" in sentence
