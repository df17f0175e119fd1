"""CK+: sequences with a label each, and the pack of crops."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.ckplus import DATASET
from fergen_bench.datasets.reader import Listing
from fergen_bench.error import BenchError
from greyfaces import draw, read

NATIVE = ("neutral", "anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")
SIX = [name for name in EXPRESSIONS if name != "neutral"]


def sequence(images: Path, labels: Path, subject: str, number: int, native: int | None, frames: int = 4) -> None:
    """Neutral first, something between that must not be read, the expression last."""
    place = f"{subject}/{number:03}"
    (labels / place).mkdir(parents=True, exist_ok=True)
    for frame in range(1, frames + 1):
        shown = "neutral" if frame == 1 else NATIVE[native] if frame == frames and native is not None else "between"
        draw(images / place / f"{subject}_{number:03}_{frame:08}.png", shown, number)
    if native is not None:
        (labels / place / f"{subject}_{number:03}_{frames:08}_emotion.txt").write_text(f"   {native:.7e}\n")


def ckplus(images: Path, labels: Path, subjects: int = 10) -> None:
    """Subjects with a sequence of each expression, and one without a label (the first)."""
    for subject in range(subjects):
        sequence(images, labels, f"S{subject:03}", 1, None, frames=11)
        for native in range(1, 8):
            sequence(images, labels, f"S{subject:03}", native + 1, native)
    (images / "S000" / ".DS_Store").touch()


def together(listing: Listing) -> Counter[str]:
    return Counter(face.expression for face in listing.faces)


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("cohn-kanade-images", "Emotion"),
        ("CK+/cohn-kanade-images", "CK+/Emotion"),
        ("extended-cohn-kanade-images/cohn-kanade-images", "Emotion_labels/Emotion"),
    ],
)
def test_the_peak_of_every_labelled_sequence_and_one_neutral_face_a_subject(
    tmp_path: Path, images: str, labels: str
) -> None:
    ckplus(tmp_path / images, tmp_path / labels)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "ckplus-official"
    assert together(listing) == dict.fromkeys(EXPRESSIONS, 10)
    assert listing.dropped == {"sequence without a label": 10, "contempt": 10}
    assert not listing.faults
    neutral = [face for face in listing.faces if face.expression == "neutral"]
    assert len({face.subject for face in neutral}) == 10
    assert {face.id.split("/")[-1] for face in neutral if face.subject == "S003"} == {"S003_002_00000001.png"}


def test_no_subject_is_in_two_splits(tmp_path: Path) -> None:
    ckplus(tmp_path / "cohn-kanade-images", tmp_path / "Emotion")
    faces = read(DATASET, tmp_path)[1].faces
    train, test = ({face.subject for face in faces if face.split == split} for split in ("train", "test"))
    assert len(test) == 2
    assert not train & test


def test_a_label_without_frames_is_named(tmp_path: Path) -> None:
    ckplus(tmp_path / "cohn-kanade-images", tmp_path / "Emotion", 5)
    for frame in (tmp_path / "cohn-kanade-images/S001/002").iterdir():
        frame.unlink()
    for frame in (tmp_path / "cohn-kanade-images/S002/003").iterdir():
        frame.unlink()
    (tmp_path / "cohn-kanade-images/S002/003").rmdir()
    _, listing = read(DATASET, tmp_path)
    assert [(fault.kind, Path(fault.where).name) for fault in listing.faults] == [
        ("missing", "S001_002_00000004_emotion.txt"),
        ("missing", "003"),
    ]
    assert together(listing)["anger"] == 4


def label(root: Path) -> Path:
    (path,) = (root / "Emotion/S001/002").iterdir()
    return path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: label(r).write_text("8.0"), r"S001_002_.*_emotion\.txt: the expression is '8\.0'; expected a whole"),
        (
            lambda r: label(r).write_text(""),
            r"_emotion\.txt: the expression is ''; expected a whole number from 0 to 7",
        ),
        (lambda r: label(r).write_bytes(b"\xff"), r"_emotion\.txt: this is not a text file"),
        (lambda r: (label(r).parent / "b_emotion.txt").touch(), r"S001/002: this folder has 2 labels of one sequence"),
        (
            lambda r: (r / "Emotion").rename(r / "labels"),
            r"expected cohn-kanade-images/ and Emotion/ \(the labels\) her",
        ),
        (
            lambda r: [file.unlink() for file in (r / "Emotion").rglob("*.txt")],
            r"Emotion: none of its faces can be used .*sequence without a label",
        ),
    ],
)
def test_bad_labels_are_refused(tmp_path: Path, spoil: Callable[[Path], object], message: str) -> None:
    ckplus(tmp_path / "cohn-kanade-images", tmp_path / "Emotion", 3)
    spoil(tmp_path)
    try:
        (fault,) = read(DATASET, tmp_path)[1].faults
        assert fault.kind == "unreadable"
        said = fault.what
    except BenchError as error:
        said = str(error)
    assert re.search(message, said)


def crops(root: Path) -> Path:
    """The pack from Kaggle: three last frames of a sequence as three crops."""
    for folder in ("anger", "contempt", "disgust", "fear", "happy", "sadness", "surprise"):
        shown = "happiness" if folder == "happy" else folder
        for number in range(15):
            draw(root / folder / f"S{number // 3:03}_001_{number:08}.png", shown, number, size=(48, 48))
    return root


@pytest.mark.parametrize("nesting", [".", "CK+48"])
def test_the_pack_of_crops(tmp_path: Path, nesting: str) -> None:
    crops(tmp_path / nesting)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "ckplus48-kaggle"
    assert together(listing) == dict.fromkeys(SIX, 15)
    assert listing.dropped == {"contempt": 15}
    train, test = ({face.subject for face in listing.faces if face.split == split} for split in ("train", "test"))
    assert len(test) == 1
    assert not train & test
    assert len(listing.notes) == 1


def test_crops_without_a_subject_in_their_names_are_noted(tmp_path: Path) -> None:
    crops(tmp_path)
    (tmp_path / "fear/S000_001_00000000.png").rename(tmp_path / "fear/a.png")
    _, listing = read(DATASET, tmp_path)
    assert listing.notes[-1].startswith("1 name does not begin with a subject")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("joy", r"joy: 'joy' is not a known expression"),
        ("neutral", r"neutral: this class folder does not contain images"),
    ],
)
def test_bad_class_folders_are_refused(tmp_path: Path, folder: str, message: str) -> None:
    (crops(tmp_path) / folder).mkdir()
    with pytest.raises(BenchError, match=message):
        read(DATASET, tmp_path)
