"""FER2013: the csv, the same csv with blanks in the header, and class folders with and without the part in the name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touched import touch

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.fer2013 import DATASET, image_rows
from fergen_bench.datasets.reader import Listing
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError

ORDER = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")  # ids 0 to 6
USAGES = {"Training": "train", "PublicTest": "val", "PrivateTest": "test"}


def pixels_csv(path: Path, header: str = "emotion,pixels,Usage", end: str = "\n", mark: str = "") -> None:
    """Every id in every part, level = 10 · id + part."""
    lines = [header]
    for part, usage in enumerate(USAGES):
        for native in range(7):
            cells = {"emotion": str(native), "pixels": " ".join([str(10 * native + part)] * 2304), "usage": usage}
            lines.append(",".join(cells[name.strip().lower()] for name in header.split(",")))
    path.write_bytes((mark + end.join(lines)).encode())


def read(path: Path, layout: str | None = None, **options: Any) -> Listing:
    found, base = DATASET.layout(path, layout)
    return found.read(base, DomainSettings(path=path, **options))


@pytest.mark.parametrize(
    ("name", "header", "end", "mark"),
    [
        ("fer2013.csv", "emotion,pixels,Usage", "\n", ""),
        ("fer2013.csv", "emotion,pixels,Usage", "\r\n", "\ufeff"),
        ("icml_face_data.csv", "emotion, Usage, pixels", "\n", ""),
    ],
)
@pytest.mark.parametrize("whole", [True, False])
def test_every_pixel_carries_its_expression_and_part(
    tmp_path: Path, name: str, header: str, end: str, mark: str, whole: bool
) -> None:
    (tmp_path / "fer2013").mkdir()
    file = tmp_path / "fer2013" / name
    pixels_csv(file, header, end, mark)
    listing = read(tmp_path if whole else file, "fer2013-csv")
    assert len(listing.faces) == len({face.id for face in listing.faces}) == 21
    for face in listing.faces:
        native = ORDER.index(face.expression)
        assert face.native_label == str(native)
        assert face.pixels == bytes([10 * native + list(USAGES.values()).index(face.split)]) * 2304


def test_the_numbers_expected_are_the_published_ones() -> None:
    assert [sum(row.values()) for row in DATASET.expected.values()] == [28709, 3589, 3589]
    assert all(tuple(row) == EXPRESSIONS for row in DATASET.expected.values())


def test_a_merged_test_folder_is_split_by_the_name(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "happy" / "Training_10118481.jpg")
    touch(tmp_path / "train" / "sad" / "Training_3908.jpg")
    touch(tmp_path / "test" / "angry" / "PublicTest_1.jpg")
    touch(tmp_path / "test" / "angry" / "PrivateTest_1.jpg")
    listing = read(tmp_path, "fer2013-folders")
    assert [(face.id, face.split, face.expression) for face in listing.faces] == [
        ("test/angry/PrivateTest_1.jpg", "test", "anger"),
        ("test/angry/PublicTest_1.jpg", "val", "anger"),
        ("train/happy/Training_10118481.jpg", "train", "happiness"),
        ("train/sad/Training_3908.jpg", "train", "sadness"),
    ]
    assert listing.notes == ["1 face of the folder test is taken as val, by their file names."]


def test_without_the_part_in_the_name_the_folder_decides(tmp_path: Path) -> None:
    touch(tmp_path / "archive" / "train" / "happy" / "im0.png")
    touch(tmp_path / "archive" / "test" / "surprise" / "im0.png")
    listing = read(tmp_path)
    assert [(face.split, face.expression) for face in listing.faces] == [("test", "surprise"), ("train", "happiness")]
    assert "2 of 2 names do not begin with FER2013's part" in listing.notes[0]
    assert "test may contain both of its test parts" in listing.notes[0]
    touch(tmp_path / "archive" / "validation" / "fear" / "im0.png")
    listing = read(tmp_path)
    assert listing.faces[-1].split == "val"
    assert "both" not in listing.notes[0]


@pytest.mark.parametrize(
    "names", [("Training", "PublicTest", "PrivateTest"), ("training", "publictest", "PRIVATETEST")]
)
def test_folders_named_as_the_parts_of_the_csv(tmp_path: Path, names: tuple[str, str, str]) -> None:
    for name in names:
        touch(tmp_path / name / "happy" / "0.png")
    listing = read(tmp_path)
    assert {face.id: face.split for face in listing.faces} == {
        f"{name}/happy/0.png": split for name, split in zip(names, ("train", "val", "test"), strict=True)
    }
    assert "so the folder decides the split." in listing.notes[0]
    assert not listing.faults
    (tmp_path / names[1] / "happy" / "0.png").unlink()
    (tmp_path / names[1] / "happy").rmdir()
    (tmp_path / names[1]).rmdir()
    assert "so the folder decides the split." in read(tmp_path).notes[0]  # PrivateTest alone holds one part


def test_one_name_in_two_class_folders_is_a_fault(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "happy" / "Training_1.jpg")
    touch(tmp_path / "train" / "sad" / "Training_1.jpg")
    touch(tmp_path / "train" / "Training_2.jpg")
    assert [(fault.kind, fault.where) for fault in read(tmp_path).faults] == [
        ("extra", "train/Training_2.jpg"),
        ("duplicate", "train/sad/Training_1.jpg"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("emotion,pixels,Usage", "emotion,pixels", "the first line must name the columns, and Usage is missing there"),
        ("emotion,pixels,Usage\n", "", r"csv:1: the first line must name the columns"),
        ("emotion,pixels,Usage", "emotion;pixels;Usage", "csv:1: columns are divided by ';' here; expected commas"),
        ("emotion,pixels,Usage", "emotion,pixels,Usage,usage", "two columns are named Usage. Rename one"),
        ("\n3,", "\n7,", r"fer2013.csv:5: '7' is not a known expression; the labels of this layout are 0 to 6 .*every"),
        ("PublicTest", "Validation", r"fer2013.csv:9: Usage is 'Validation'; expected Training, PublicTest or Priv"),
        ("\n0,0 0", "\n0,0 -1", r"fer2013.csv:2: pixels must be 2,304 whole numbers from 0 to 255"),
        ("\n0,0 0", "\n0,0 0 0", r"fer2013.csv:2: pixels must be 2,304 .* found 2,305 that begin"),
        ("\n0,0 0", "\n0,0 1.5", r"fer2013.csv:2: pixels must be 2,304"),
        ("\n0,0 0", "\n0,0,0", r"fer2013.csv:2: has 4 columns where the first line has 3"),
    ],
)
def test_a_bad_csv_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "fer2013.csv"
    pixels_csv(path)
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(BenchError, match=message):
        read(tmp_path)


def test_other_bad_copies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="not a known layout of FER2013"):
        read(tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    pixels_csv(tmp_path / "a" / "fer2013.csv")
    pixels_csv(tmp_path / "b" / "fer2013.csv")
    with pytest.raises(BenchError, match=r"has two copies, .*/a and .*/b. Name the one that is meant"):
        read(tmp_path)
    (tmp_path / "a" / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    with pytest.raises(BenchError, match=r"fer2013\.csv: none of its faces can be used"):
        read(tmp_path / "a")
    touch(tmp_path / "c" / "train" / "happy" / "Training_1.jpg")
    (tmp_path / "c" / "train" / "bored").mkdir()
    with pytest.raises(BenchError, match="train/bored: 'bored' is not a known expression"):
        read(tmp_path / "c")


@settings(max_examples=60, derandomize=True)
@given(
    text=st.text(alphabet=st.one_of(st.sampled_from('0123 ,"\n'), st.characters(codec="utf-8"))),
    header=st.sampled_from(["", "emotion,pixels,Usage\n", "emotion,pixels,Usage\n3," + "0 " * 2304]),
)
def test_any_text_gives_faces_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, text: str, header: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any_pixels.csv"
    path.write_text(header + text, encoding="utf-8")
    with suppress(BenchError):
        assert all(len(pixels) == 2304 for _, _, _, pixels in image_rows(path, ["emotion"]))
