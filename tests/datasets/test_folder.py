"""Class folders of any dataset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from touched import read, touch

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import folder
from fergen_bench.datasets.reader import read as read_whole
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Ten files of each expression, of five people, in class folders with usual names."""
    names = ("Suprise", "Afraid", "disgusted", "HA", "sad", "Angry", "NE")
    touch(*(tmp_path / "faces" / name / f"p{number % 5}_{number}.png" for name in names for number in range(10)))
    return tmp_path / "faces"


# -------------------------------------------------------------------------------------------------------- class folders


def test_class_folders_without_splits_get_one(faces: Path) -> None:
    listing = read(folder.DATASET, faces)
    assert Counter((face.split, face.expression) for face in listing.faces) == {
        **{("train", name): 8 for name in EXPRESSIONS},
        **{("test", name): 2 for name in EXPRESSIONS},
    }
    assert listing.about == {"splits": "0.2 of each expression, seed 0"}
    first = next(face for face in listing.faces if face.id == "Suprise/p0_0.png")
    assert (first.expression, first.native_label, first.file) == ("surprise", "Suprise", faces / "Suprise" / "p0_0.png")
    assert not folder.DATASET.layout(faces)[0].official
    other = read(folder.DATASET, faces, split_seed=1)
    assert [face.split for face in listing.faces] != [face.split for face in other.faces]
    assert listing.faces == read(folder.DATASET, faces).faces


def test_subjects_are_found_in_names_and_never_split(faces: Path) -> None:
    listing = read(folder.DATASET, faces, subject=r"^(p\d)_", test_share=0.4)
    people = {part: {face.subject for face in listing.faces if face.split == part} for part in ("train", "test")}
    assert people["test"]
    assert people["train"] | people["test"] == {f"p{number}" for number in range(5)}
    assert not people["train"] & people["test"]


def test_splits_that_are_there_are_kept(faces: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(faces.rglob("*.png"))):
        part = ("train", "Valid", "test")[number % 3]
        touch(tmp_path / "split" / part / path.parent.name / "inner" / path.name)
    listing = read(folder.DATASET, tmp_path / "split")
    assert Counter(face.split for face in listing.faces) == {"train": 24, "val": 23, "test": 23}
    assert listing.about == {"splits": "as given"}
    assert folder.DATASET.layout(tmp_path / "split")[0].official


def test_subjects_in_two_given_splits_are_noted(faces: Path, tmp_path: Path) -> None:
    for path in sorted(faces.rglob("*.png")):
        part = "test" if path.name.startswith(("p0", "p1")) else "train"
        touch(tmp_path / "split" / part / path.parent.name / path.name)
    settings = DomainSettings(path=tmp_path / "split", subject=r"^(p\d)_")
    assert not read_whole(folder.DATASET, settings)[1].notes
    touch(tmp_path / "split" / "train" / "HA" / "p1_late.png")
    (note,) = read_whole(folder.DATASET, settings)[1].notes
    assert note.startswith("1 subject is in the test split and in another split, such as p1")


def test_own_names_are_mapped_or_left_out_and_counted(faces: Path) -> None:
    (faces / "HA").rename(faces / "joy")
    (faces / "NE").rename(faces / "bored")
    (faces / "sad").rename(faces / "contempt")
    listing = read(folder.DATASET, faces, labels={"joy": "happiness", "bored": ""})
    assert Counter(face.expression for face in listing.faces)["happiness"] == 10
    assert not {"neutral", "sadness"} & {face.expression for face in listing.faces}
    assert listing.dropped == {"bored": 10, "contempt": 10}


def empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda f: (f / "joy").mkdir(), {}, r"faces/joy: 'joy' is not a known expression; .* Map it with labels = "),
        (lambda f: empty(f / "HA"), {}, r"faces/HA: this class folder does not contain images. Remove it if"),
        (lambda f: (f / "train").mkdir(), {}, r"faces/Afraid: this folder lies next to train, but is not a split"),
        (lambda f: touch(f / "HA" / "P0_0.PNG"), {}, r"faces/HA: P0_0\.PNG and p0_0\.png differ only in case"),
        (lambda f: (f / "HA" / "p.png").symlink_to("/etc/hostname"), {}, r"HA/p\.png: this link leads out of "),
        (
            lambda f: None,
            {"subject": r"x(\d)"},
            r"p0_0\.png: the pattern subject = .* does not find a subject in this name",
        ),
    ],
)
def test_bad_class_folders_are_refused(faces: Path, spoil: Any, options: dict[str, Any], message: str) -> None:
    spoil(faces)
    with pytest.raises(BenchError, match=message):
        read(folder.DATASET, faces, **options)


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="class folders are missing; expected surprise, fear"):
        read(folder.DATASET, tmp_path)
    touch(tmp_path / "val" / "happy" / "1.png")
    with pytest.raises(BenchError, match="has val but neither train nor test"):
        read(folder.DATASET, tmp_path)
    touch(tmp_path / "train" / "1.png")
    (tmp_path / "val").rename(tmp_path / ".val")
    with pytest.raises(BenchError, match="class folders are missing"):
        read(folder.DATASET, tmp_path)
