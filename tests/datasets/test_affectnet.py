"""AffectNet in every layout people have it in, on grey squares that show what they are."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.affectnet import DATASET, HEADER, annotation_label
from fergen_bench.datasets.reader import Face, Listing
from fergen_bench.datasets.reader import read as whole_read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError
from greyfaces import counts, draw, level, pixels, read, shows_what_it_says

NATIVE = ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")
FOLDERS = {
    "anger": "Anger",
    "contempt": "Contempt",
    "disgust": "Disgust",
    "fear": "Fear",
    "happiness": "Happiness",
    "neutral": "Neutral",
    "sadness": "Sadness",
    "surprise": "Surprise",
}
TWO_OF_EACH = dict.fromkeys(EXPRESSIONS, 2)
ONE_OF_EACH = dict.fromkeys(EXPRESSIONS, 1)


def name(number: int) -> str:
    """56 hexadecimal digits, as in the original release."""
    return f"{number:056x}"


Row = list[str]


def row(
    root: Path, number: int, native: int, box: tuple[int, int, int, int] = (64, 16, 24, 40), ending: str = "jpg"
) -> Row:
    """Writes a photograph whose face is in the box, and gives its row of the csv."""
    file = f"{number % 3 + 1}/{name(number)}.{ending}"
    draw(
        root / "Manually_Annotated_Images" / file,
        (*NATIVE, "none", "uncertain", "non-face")[native],
        number,
        (112, 80),
        box,
    )
    left, top, width, height = (str(edge) for edge in box)
    return [file, left, f"{top}.0", width, height, "1.5;2.5;3;4", str(native), "-0.5", "0.25"]


def write(path: Path, rows: list[Row], header: bool = True) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(HEADER)] * header + [",".join(cells) for cells in rows]
    path.write_text("\n".join(lines))


def original(root: Path) -> tuple[Path, Path]:
    """The original release, with two faces of each class to train on and one to test; its two lists."""
    lists = root / "Manually_Annotated_file_lists"
    train = [row(root, number, number % 8) for number in range(16)]
    write(lists / "training.csv", train)
    write(lists / "validation.csv", [row(root, 100 + number, number, (8, 24, 48, 40)) for number in range(8)])
    return lists / "training.csv", lists / "validation.csv"


def add(path: Path, cells: Row) -> None:
    with path.open("a") as file:
        file.write("\n" + ",".join(cells))


def refused(root: Path, message: str, layout: str | None = None) -> None:
    with pytest.raises(BenchError, match=message):
        read(DATASET, root, layout)


# ----------------------------------------------------------------------------------------------------- original release


def test_the_original_release_gives_the_faces_in_their_boxes(tmp_path: Path) -> None:
    original(tmp_path)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "aff-original"
    assert counts(listing)["train"] == TWO_OF_EACH
    assert counts(listing)["test"] == ONE_OF_EACH
    assert listing.dropped == {"contempt": 3}
    assert not listing.faults
    assert "validation" in str(listing.about["test"])
    face = next(face for face in listing.faces if face.split == "train" and face.native_label == "4")
    assert (face.box, face.id) == ((64.0, 16.0, 24.0, 40.0), f"2/{name(4)}.jpg")
    assert pixels(face).shape == (40, 24)
    assert abs(int(pixels(face).mean()) - level("fear", 4)) <= 2


def test_a_box_read_in_the_wrong_order_would_show(tmp_path: Path) -> None:
    """Public code cuts (face_y, face_x, width, height) as left, top, right, bottom; these fixtures detect it."""
    original(tmp_path)
    for face in read(DATASET, tmp_path)[1].faces:
        assert face.box is not None
        assert face.file is not None
        left, top, width, height = face.box
        swapped = Face(face.id, face.split, face.expression, "", face.file, box=(top, left, width, height))
        assert not shows_what_it_says(swapped)
        with Image.open(face.file) as image:
            try:
                published = np.asarray(image.crop((int(top), int(left), int(width), int(height))))
            except ValueError:  # Pillow refuses a right edge that is left of the left one
                continue
        assert published.size == 0 or abs(float(published.mean()) - level(face.expression)) > 2


@pytest.mark.parametrize(
    "move",
    [
        lambda r: (
            (r / "Manually_Annotated").mkdir()
            or (r / "Manually_Annotated_Images").rename(r / "Manually_Annotated" / "Manually_Annotated_Images")
        ),
        lambda r: [
            file.rename(r / f"Manually_{file.name}") for file in (r / "Manually_Annotated_file_lists").iterdir()
        ],
        lambda r: [file.rename(r / file.name) for file in (r / "Manually_Annotated_file_lists").iterdir()],
    ],
    ids=["nested", "renamed", "beside"],
)
def test_the_original_release_as_people_unpack_it(tmp_path: Path, move: Callable[[Path], object]) -> None:
    original(tmp_path / "AffectNet")
    move(tmp_path / "AffectNet")
    layout, listing = read(DATASET, tmp_path)
    assert layout == "aff-original"
    assert counts(listing)["train"] == TWO_OF_EACH
    assert counts(listing)["test"] == ONE_OF_EACH


def test_a_list_without_its_first_line_loses_no_face(tmp_path: Path) -> None:
    _, validation = original(tmp_path)
    validation.write_text("\n".join(validation.read_text().splitlines()[1:]))
    assert counts(read(DATASET, tmp_path)[1])["test"] == ONE_OF_EACH


def test_rows_that_are_no_face_are_counted_with_their_reason(tmp_path: Path) -> None:
    training, _ = original(tmp_path)
    for number, native in enumerate((8, 9, 10, 10), start=20):
        add(training, row(tmp_path, number, native))
    for number, (column, value) in enumerate(
        [(3, "-1"), (1, "NULL"), (4, "nan"), (6, "NULL"), (2, ""), (4, "inf")], start=30
    ):
        cells = row(tmp_path, number, 1)
        cells[column] = value
        add(training, cells)
    _, listing = read(DATASET, tmp_path)
    assert listing.dropped == {
        "contempt": 3,
        "none": 1,
        "uncertain": 1,
        "non-face": 2,
        "without a face box": 1,
        "without readable numbers": 5,
    }
    assert counts(listing)["train"] == TWO_OF_EACH
    assert not listing.faults


def test_missing_extra_and_doubled_images_are_named(tmp_path: Path) -> None:
    training, validation = original(tmp_path)
    pictures = tmp_path / "Manually_Annotated_Images"
    (pictures / f"1/{name(3)}.jpg").unlink()
    draw(pictures / f"2/{name(77)}.jpg", "fear")
    lines = training.read_text().splitlines()
    add(training, lines[2].split(","))
    add(training, lines[2].replace(",1,-0.5", ",6,-0.5").split(","))
    add(training, validation.read_text().splitlines()[1].split(","))
    _, listing = read(DATASET, tmp_path)
    assert counts(listing)["train"] == {**TWO_OF_EACH, "surprise": 1}
    assert counts(listing)["test"] == ONE_OF_EACH
    assert listing.dropped["listed twice"] == 2
    assert listing.dropped["listed twice, with two labels"] == 1
    kinds = {fault.kind: fault for fault in listing.faults}
    assert sorted(fault.kind for fault in listing.faults) == ["duplicate", "duplicate", "extra", "label", "missing"]
    assert kinds["missing"].where == f"{training}:5"
    assert kinds["extra"].where.endswith(f"{name(77)}.jpg")
    assert f"as 6 here and as 1 at {training}:3, which counts" in kinds["label"].what


def test_an_image_with_another_ending_than_in_the_list_is_found(tmp_path: Path) -> None:
    original(tmp_path)
    pictures = tmp_path / "Manually_Annotated_Images"
    for number, ending in ((3, "png"), (4, "JPG"), (5, "bmp")):
        listed = pictures / f"{number % 3 + 1}/{name(number)}.jpg"
        listed.unlink()
        draw(listed.with_suffix(f".{ending}"), NATIVE[number], number, (112, 80), (64, 16, 24, 40))
    _, listing = read(DATASET, tmp_path)
    assert counts(listing)["train"] == TWO_OF_EACH
    assert not listing.faults
    assert any("2 images have another ending" in note for note in listing.notes)


def test_a_name_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    training, _ = original(tmp_path)
    add(training, [f"{'9' * 300}/{name(3)}.jpg", "1", "2", "3", "4", "", "1", "0", "0"])
    (fault,) = read(DATASET, tmp_path)[1].faults
    assert (fault.kind, fault.where) == ("missing", f"{training}:18")


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t, v: replace(t, ",1,-0.5", ",12,-0.5"), r"training\.csv:3: expression is '12'; expected a whole nu"),
        (lambda t, v: replace(t, ",1,-0.5", ",1.5,-0.5"), r"training\.csv:3: expression is '1\.5'; expected a whole"),
        (
            lambda t, v: replace(t, "face_width", "width"),
            r"training\.csv:1: the first line must name .*face_width is mis",
        ),
        (lambda t, v: t.write_text(t.read_text().replace(";", " ").replace(",", ";")), r"csv:1: columns are divided b"),
        (lambda t, v: replace(t, "2/", "../2/"), r"training\.csv:3: '\.\./2/.*' leads out of"),
        (lambda t, v: replace(t, "2/", "/2/"), r"training\.csv:3: '/2/.*' is an absolute path that does not lie in"),
        (
            lambda t, v: v.write_text(""),
            r"validation\.csv: this file is empty; expected a csv with the columns subDirectory",
        ),
        (
            lambda t, v: v.write_text(v.read_text().splitlines()[0]),
            r"validation\.csv: none of its faces can be used .*has none",
        ),
        (lambda t, v: v.unlink(), r"validation\.csv is missing, both in Manually_Annotated_file_lists/ and"),
        (lambda t, v: t.write_bytes(b"\xff\xfe\x00"), r"training\.csv: this is text in UTF-16"),
        (
            lambda t, v: (t.parents[1] / "Manually_Annotated_Images").rename(t.parents[1] / "x"),
            r"has the lists of AffectNet, but not thei",
        ),
        (
            lambda t, v: [f.unlink() for f in t.parents[1].rglob("*.jpg")],
            r"can be used \(.*7 missing, such as .*validation\.csv",
        ),
    ],
)
def test_a_bad_list_is_refused_with_its_line(
    tmp_path: Path, spoil: Callable[[Path, Path], object], message: str
) -> None:
    spoil(*original(tmp_path))
    refused(tmp_path, message)


def test_own_labels_put_a_class_elsewhere(tmp_path: Path) -> None:
    original(tmp_path)
    layout, base = DATASET.layout(tmp_path)
    listing = layout.read(base, DomainSettings(path=tmp_path, labels={"7": "disgust", "1": ""}))
    assert counts(listing)["train"] == {**{k: 2 for k in EXPRESSIONS if k != "happiness"}, "disgust": 4}
    assert listing.dropped == {"1": 3}


# --------------------------------------------------------------------------------------------------------- 2021 release

FORMS: list[Callable[[int], object]] = [
    lambda label: str(label),  # 0-d text
    lambda label: str(label).encode(),
    lambda label: label,
    lambda label: float(label),
    lambda label: [str(label)],  # one dimension
    lambda label: np.uint8(label),
]


def annotate(part: Path, number: int, native: int, form: int = 0) -> None:
    draw(part / "images" / f"{number}.jpg", NATIVE[native], number)
    (part / "annotations").mkdir(exist_ok=True)
    np.save(part / "annotations" / f"{number}_exp.npy", np.array(FORMS[form](native)))
    for kind in ("val", "aro"):
        np.save(part / "annotations" / f"{number}_{kind}.npy", np.array("0.5"))
    np.save(part / "annotations" / f"{number}_lnd.npy", np.zeros(136))


def release_2021(root: Path) -> Path:
    for number in range(16):
        annotate(root / "train_set", 245_990 + number, number % 8, number % len(FORMS))
    for number in range(8):
        annotate(root / "val_set", number, number, (number + 3) % len(FORMS))
    return root


@pytest.mark.parametrize("nesting", [".", "AffectNet"])
def test_the_release_of_2021_is_read_with_any_annotations(tmp_path: Path, nesting: str) -> None:
    release_2021(tmp_path / nesting)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "aff-2021"
    assert counts(listing)["train"] == TWO_OF_EACH
    assert counts(listing)["test"] == ONE_OF_EACH
    assert listing.dropped == {"contempt": 3}
    assert not listing.faults
    assert "train_set/images/245990.jpg" in {face.id for face in listing.faces}


def test_images_and_annotations_without_each_other_are_named(tmp_path: Path) -> None:
    release_2021(tmp_path)
    (tmp_path / "train_set/images/245991.jpg").unlink()
    (tmp_path / "val_set/annotations/4_exp.npy").unlink()
    _, listing = read(DATASET, tmp_path)
    assert [(fault.kind, Path(fault.where).name) for fault in listing.faults] == [
        ("missing", "245991.jpg"),
        ("missing", "4_exp.npy"),
    ]
    assert counts(listing)["train"]["happiness"] == 1
    assert "fear" not in counts(listing)["test"]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", r"1_exp\.npy: this is not an npy file with one value"),
        (b"3", r"1_exp\.npy: this is not an npy file with one value"),
        (np.zeros(2), r"1_exp\.npy: this is not an npy file with one value"),
        (np.array(12), r"1_exp\.npy: the expression is '12'; expected a whole number from 0 to 11"),
        (np.array("joy"), r"1_exp\.npy: the expression is 'joy'; expected a whole number"),
        (np.array(None, dtype=object), r"1_exp\.npy: this is not an npy file with one value"),  # a pickle is not opened
        (np.zeros(10_000), r"1_exp\.npy: this is not an npy file with one value"),
    ],
)
def test_an_annotation_that_is_no_label_is_refused(tmp_path: Path, value: object, message: str) -> None:
    path = release_2021(tmp_path) / "val_set/annotations/1_exp.npy"
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        np.save(path, value)
    (fault,) = read(DATASET, tmp_path)[1].faults
    assert fault.kind == "unreadable"
    assert re.search(message, fault.what)


def test_half_of_the_release_of_2021_is_refused(tmp_path: Path) -> None:
    release_2021(tmp_path)
    (tmp_path / "val_set").rename(tmp_path / "away")
    refused(tmp_path, r"val_set/images: this folder is missing. AffectNet of 2021 has images and annotations")


def npy(label: object = "3") -> bytes:
    from io import BytesIO

    file = BytesIO()
    np.save(file, np.array(label))
    return file.getvalue()


def damaged() -> st.SearchStrategy[bytes]:
    """Arbitrary bytes, and npy files of which a piece is replaced by arbitrary bytes."""

    def spoil(whole: bytes, at: int, piece: bytes) -> bytes:
        return whole[:at] + piece + whole[at + len(piece) :]

    header = st.text(alphabet="{}()[]'<>|descrfotanhpU0123456789,: ", max_size=60).map(str.encode)
    whole = st.sampled_from([npy(), npy(b"3"), npy(3), npy(3.0), npy([3])])
    return st.binary(max_size=200) | st.builds(spoil, whole, st.integers(0, 140), st.binary(max_size=9) | header)


@settings(max_examples=300, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=damaged())
def test_arbitrary_bytes_are_a_label_or_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1_exp.npy"
    path.write_bytes(content)
    label = sentence = None
    try:
        label = annotation_label(str(path))
    except BenchError as error:
        sentence = str(error)
    assert label in range(12) if sentence is None else "1_exp.npy" in sentence


def test_annotations_are_read_in_bounded_time(tmp_path: Path) -> None:
    """At a thousand in half a second of processor time, the release's 287,651 would take two and a half minutes."""
    paths = [tmp_path / f"{number}_exp.npy" for number in range(1000)]
    for number, path in enumerate(paths):
        path.write_bytes(npy(str(number % 8)))
    start = time.process_time()
    assert [annotation_label(str(path)) for path in paths] == [number % 8 for number in range(1000)]
    assert time.process_time() - start < 0.5


# -------------------------------------------------------------------------------------------------------- class folders


def native_folders(root: Path, parts: dict[str, int]) -> Path:
    for part, number_of_each in parts.items():
        for native, expression in enumerate(NATIVE):
            for number in range(number_of_each):
                draw(root / part / str(native) / f"{native}{number}.jpg", expression, number)
    return root


def named_folders(root: Path, parts: dict[str, int], names: dict[str, str] = FOLDERS) -> Path:
    for part, number_of_each in parts.items():
        for expression, folder in names.items():
            for number in range(number_of_each):
                draw(root / part / folder / f"{number}.png", expression, number)
    return root


@pytest.mark.parametrize("val", ["val", "valid", "Validation", "val_set"])
def test_folders_of_native_numbers(tmp_path: Path, val: str) -> None:
    layout, listing = read(DATASET, native_folders(tmp_path, {"train": 2, val: 1}))
    assert layout == "aff-folders-native"
    assert counts(listing)["train"] == TWO_OF_EACH
    assert counts(listing)["test"] == ONE_OF_EACH
    assert listing.dropped == {"contempt": 3}
    assert "validation" in str(listing.about["test"])


# ---------------------------------------------------------------------------------------------------- numbers from one

FROM_ONE = [
    ({"numbering": "1-based"}, "contempt"),
    ({"numbering": "affectnet-1-based"}, "contempt"),
    ({"labels": {str(number): name for number, name in enumerate((*NATIVE[:7], ""), start=1)}}, "8"),
]


def folders_from_one(root: Path) -> None:
    native_folders(root, {"train": 2, "val": 1})
    for folder in sorted(root.glob("*/[0-7]"), reverse=True):
        folder.rename(folder.with_name(str(int(folder.name) + 1)))


def release_2021_from_one(root: Path) -> None:
    for path in release_2021(root).glob("*/annotations/*_exp.npy"):
        np.save(path, np.array(str(annotation_label(str(path)) + 1)))


def original_from_one(root: Path) -> None:
    for path in original(root):
        path.write_text(
            re.sub(r"(?m),(\d+)(,[^,]+,[^,]+)$", lambda row: f",{int(row[1]) + 1}{row[2]}", path.read_text())
        )


MAKERS = [folders_from_one, release_2021_from_one, original_from_one]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize(("chosen", "reason"), FROM_ONE)
def test_numbers_from_one_are_read_where_the_user_names_them(
    tmp_path: Path, make: Callable[[Path], object], chosen: dict[str, Any], reason: str
) -> None:
    make(tmp_path)
    _, listing = read(DATASET, tmp_path, **chosen)
    assert counts(listing) == {"train": TWO_OF_EACH, "test": ONE_OF_EACH}
    assert listing.dropped == {reason: 3}
    assert not listing.faults
    for face in listing.faces:
        assert shows_what_it_says(face)


@pytest.mark.parametrize("make", MAKERS)
def test_numbers_from_one_are_refused_with_the_way_that_works(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path)
    with pytest.raises(BenchError, match=r"1 to 8.* counted from 1, set numbering to 1-based; if not, .*1=…,.*,8=…"):
        whole_read(DATASET, DomainSettings(path=tmp_path))


def test_folders_from_one_without_contempt_need_no_eighth(tmp_path: Path) -> None:
    folders_from_one(tmp_path)
    for part in ("train", "val"):
        shutil.rmtree(tmp_path / part / "8")
    _, listing = read(DATASET, tmp_path, numbering="1-based")
    assert counts(listing) == {"train": TWO_OF_EACH, "test": ONE_OF_EACH}


def test_a_map_of_some_folders_does_not_hide_a_missing_zero(tmp_path: Path) -> None:
    folders_from_one(tmp_path)
    with pytest.raises(BenchError, match="no class folder 0"):
        read(DATASET, tmp_path, labels={"8": ""})


@pytest.mark.parametrize("make", [native_folders, named_folders])
def test_with_a_test_folder_the_parts_keep_their_names(tmp_path: Path, make: Callable[..., Path]) -> None:
    _, listing = read(DATASET, make(tmp_path, {"train": 2, "val": 1, "test": 2}))
    assert counts(listing)["val"] == ONE_OF_EACH
    assert counts(listing)["test"] == TWO_OF_EACH
    assert any("own test part" in note for note in listing.notes)


@pytest.mark.parametrize("top", [".", "full_res"])
def test_folders_of_names(tmp_path: Path, top: str) -> None:
    named_folders(tmp_path / top, {"train": 2, "val": 1})
    layout, listing = read(DATASET, tmp_path)
    assert layout == "aff-folders-named"
    assert counts(listing)["train"] == TWO_OF_EACH
    assert counts(listing)["test"] == ONE_OF_EACH
    assert listing.dropped == {"contempt": 3}


@pytest.mark.parametrize("per_image", [False, True])
def test_seven_emotions_made_of_links_inside_the_root(tmp_path: Path, per_image: bool) -> None:
    named_folders(tmp_path / "images", {"train": 2, "val": 1})
    for folder in sorted((tmp_path / "images").glob("*/*")):
        link = tmp_path / "seven_emotions" / folder.parent.name / folder.name
        link.parent.mkdir(parents=True, exist_ok=True)
        if folder.name == "Contempt":
            continue
        if per_image:
            link.mkdir()
            for file in folder.iterdir():
                (link / file.name).symlink_to(file)
        else:
            link.symlink_to(folder)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "aff-folders-named"
    assert counts(listing)["train"] == TWO_OF_EACH
    assert counts(listing)["test"] == ONE_OF_EACH
    assert not listing.dropped


def test_links_out_of_the_root_are_refused(tmp_path: Path) -> None:
    named_folders(tmp_path / "other", {"train": 1})
    named_folders(tmp_path / "mine", {"train": 1, "val": 1})
    (tmp_path / "mine/train/Afraid").symlink_to(tmp_path / "other/train/Fear")
    refused(tmp_path / "mine", r"train/Afraid: this link leads out of .*mine")


@pytest.mark.parametrize("top", [".", "archive (3)"])
def test_a_pack_with_train_and_test_is_not_called_official(tmp_path: Path, top: str) -> None:
    named_folders(tmp_path / top, {"Train": 2, "Test": 1}, {name: name for name in FOLDERS})
    (tmp_path / top / "labels.csv").write_text(",pth,label,relFCs\n")
    layout, listing = read(DATASET, tmp_path)
    assert layout == "aff-kaggle-tt"
    assert not DATASET.layout(tmp_path)[0].official
    assert counts(listing)["train"] == TWO_OF_EACH
    assert counts(listing)["test"] == ONE_OF_EACH
    assert any("split of its own" in note for note in listing.notes)


@pytest.mark.parametrize(
    ("parts", "spoil", "message"),
    [
        ({"train": 1}, None, r"val with class folders is missing; found train. AffectNet needs train and val"),
        ({"val": 1}, None, r"train with class folders is missing; found val"),
        ({"train": 1, "test": 1}, None, r"val with class folders is missing; found .*"),
        ({"train": 1, "val": 1, "valid": 1}, None, r"valid: val in the same folder also means val"),
        (
            {"train": 1, "val": 1},
            "train/8/a.jpg",
            r"train/8: '8' is not a known expression; the labels of this layout are 0 to 7 .*every",
        ),
        ({"train": 1, "val": 1}, "train/joy/a.jpg", r"train/joy: 'joy' is not a known expression"),
        ({"train": 1, "val": 1}, "val/afraid/", r"val/afraid: this class folder does not contain images. Remove it"),
        ({"train": 1, "val": 1}, "val/anger/a.jpg", r"2 layouts of AffectNet-7.* fit, aff-folders-native and"),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, parts: dict[str, int], spoil: str | None, message: str) -> None:
    native_folders(tmp_path, parts)
    if spoil is not None and spoil.endswith("/"):
        (tmp_path / spoil).mkdir()
        refused(tmp_path, message, "aff-folders-native")
        return
    if spoil is not None:
        draw(tmp_path / spoil, "fear")
    refused(tmp_path, message)


def test_folders_one_to_seven_are_not_taken_for_affectnet(tmp_path: Path) -> None:
    native_folders(tmp_path, {"train": 1, "val": 1})
    for part in ("train", "val"):
        (tmp_path / part / "0" / "00.jpg").unlink()
        (tmp_path / part / "0").rmdir()
    refused(
        tmp_path,
        r"no class folder 0, which is AffectNet's neutral; found 1 to 7\. RAF-DB's folders are 1 to 7, .* rafdb",
    )


def test_a_folder_beside_the_parts_is_named(tmp_path: Path) -> None:
    native_folders(tmp_path, {"train": 1, "val": 1})
    draw(tmp_path / "more" / "a.jpg", "fear")
    (fault,) = read(DATASET, tmp_path)[1].faults
    assert (fault.kind, fault.where) == ("extra", str(tmp_path / "more"))


def kaggle_96(root: Path) -> Path:
    rows = []
    for expression, folder in {**{name: name for name in FOLDERS}, "happiness": "happy", "sadness": "sad"}.items():
        for number in range(5):
            draw(root / folder / f"image{number:07}.png", expression, number)
            rows.append(f"{len(rows)},{folder}/image{number:07}.png,{folder},0.87")
    rows[0] = rows[0].replace("anger,0.87", "fear,0.87")
    rows.append(f"{len(rows)},happy/image0000099.png,happy,0.5")
    (root / "labels.csv").write_text("\n".join([",pth,label,relFCs", *rows]))
    return root


def test_a_pack_that_a_network_labelled_is_read_only_by_its_name(tmp_path: Path) -> None:
    kaggle_96(tmp_path)
    refused(tmp_path, r"(?s)not a known layout .*aff-kaggle-96: .* labels by a network.*only with --layout")
    layout, listing = read(DATASET, tmp_path, "aff-kaggle-96")
    assert layout == "aff-kaggle-96"
    assert counts(listing)["train"] == dict.fromkeys(EXPRESSIONS, 4)
    assert counts(listing)["test"] == ONE_OF_EACH
    assert listing.dropped == {"contempt": 5}
    assert [fault.kind for fault in listing.faults] == ["label", "missing"]
    assert "labels anger/image0000000.png fear" in listing.faults[0].what
    assert any("not AffectNet's" in note for note in listing.notes)
    assert "not AffectNet's" in str(listing.about["labels"])


def test_a_path_of_the_pack_that_leads_out_is_refused(tmp_path: Path) -> None:
    replace(kaggle_96(tmp_path) / "labels.csv", "happy/image0000099", "../happy/image0000099")
    refused(tmp_path, r"labels\.csv:42: '\.\./happy/image0000099\.png' leads out of", "aff-kaggle-96")


# ---------------------------------------------------------------------------------------------------------------- lists


def listed(root: Path, split: str, folder: str, number_of_each: int) -> Path:
    lines = []
    for native, expression in enumerate(NATIVE):
        for number in range(number_of_each):
            file = f"{number}/{split}_{native}.jpg"
            draw(root / folder / file, expression, number)
            lines.append(f"{file} {native}")
    (root / f"sota_{split}7.txt").write_text("\n".join(lines))
    return root / f"sota_{split}7.txt"


@pytest.mark.parametrize("folder", [".", "AffectNet_sota_Manually_Annotated_Images"])
def test_lists_with_native_labels(tmp_path: Path, folder: str) -> None:
    listed(tmp_path, "train", folder, 2)
    listed(tmp_path, "val", folder, 1)
    layout, listing = read(DATASET, tmp_path)
    assert layout == "list-file"
    assert counts(listing)["train"] == TWO_OF_EACH
    assert counts(listing)["test"] == ONE_OF_EACH
    assert listing.dropped == {"contempt": 3}


def test_the_list_of_test_faces_alone_makes_a_target(tmp_path: Path) -> None:
    path = listed(tmp_path, "test", ".", 1)
    for place in (tmp_path, path):
        _, listing = read(DATASET, place)
        assert counts(listing)["test"] == ONE_OF_EACH
        assert any("can be a target, not a source" in note for note in listing.notes)


def test_a_list_reads_images_from_the_folder_of_the_settings(tmp_path: Path) -> None:
    path = listed(tmp_path / "images", "test", ".", 1)
    (tmp_path / "lists").mkdir()
    path.rename(tmp_path / "lists" / path.name)
    _, listing = read(DATASET, tmp_path / "lists", images=tmp_path / "images")
    assert counts(listing)["test"] == ONE_OF_EACH


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("test_3.jpg 3", "test_3.jpg 8"),
            r"test7\.txt:4: '8' is not a known expression; the labels of this layout are 0 to 7 .*every",
        ),
        (("test_3.jpg 3", "test_3.jpg joy"), r"test7\.txt:4: 'joy' is not a known expression"),
        (("0/test_3", "../test_3"), r"test7\.txt:4: '\.\./test_3\.jpg' leads out of"),
        (("test_0.jpg 0", "test_0.jpg,0"), r"test7\.txt:1: expected 2 columns with blanks between them"),
    ],
)
def test_a_bad_line_of_a_list_is_refused(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    replace(listed(tmp_path, "test", ".", 1), *change)
    refused(tmp_path, message)


def test_a_listed_image_that_is_missing_is_named(tmp_path: Path) -> None:
    listed(tmp_path, "test", ".", 1)
    (tmp_path / "0/test_3.jpg").unlink()
    (fault,) = read(DATASET, tmp_path)[1].faults
    assert (fault.kind, fault.where) == ("missing", f"{tmp_path}/sota_test7.txt:4")


def test_nothing_known_names_what_was_expected(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg", "fear")
    refused(tmp_path, r"not a known layout of AffectNet-7.* The folder has a\.jpg; expected one of\n  aff-original: ")


# ---------------------------------------------------------------------------------------------------- arbitrary content


def cell() -> st.SearchStrategy[str]:
    usual = st.sampled_from(
        ["1/a.jpg", "2/b.jpg", "../a.jpg", "NULL", "1", "7", "8", "-1", "1e999", "nan", "", '"', "0"]
    )
    return usual | st.text(max_size=8)


def rows() -> st.SearchStrategy[str]:
    line = st.lists(cell(), min_size=7, max_size=10).map(",".join)
    lines = st.lists(line, max_size=5).map("\n".join)
    return st.text(max_size=80) | lines | lines.map(lambda text: ",".join(HEADER) + "\n" + text)


@settings(max_examples=200, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=rows(), other=st.binary(max_size=40))
def test_arbitrary_lists_end_in_faces_or_in_one_sentence(tmp_path: Path, text: str, other: bytes) -> None:
    lists = tmp_path / "Manually_Annotated_file_lists"
    if not lists.is_dir():
        original(tmp_path)
    (lists / "training.csv").write_bytes(text.encode(errors="replace") + other)
    layout, base = DATASET.layout(tmp_path)
    listing, sentence = Listing(), None
    try:
        listing = layout.read(base, DomainSettings(path=tmp_path))
    except BenchError as error:
        sentence = str(error)
    assert listing.faces if sentence is None else "training.csv" in sentence
