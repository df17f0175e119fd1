"""RAF-DB in every layout that is known, its pixels carrying the labels."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.rafdb import DATASET
from fergen_bench.error import BenchError
from greyfaces import counts, draw, each, faults, read

ALL = {"train": each(2), "test": each(1)}


def owner() -> Iterator[tuple[str, str, int]]:
    """(stem, expression, label 1..7) of 14 training and 7 test faces, as the owner names them."""
    for number in range(14):
        yield f"train_{number + 1:05d}", EXPRESSIONS[number % 7], number % 7 + 1
    for number in range(7):
        yield f"test_{number + 1:04d}", EXPRESSIONS[6 - number], 7 - number


def aligned(folder: Path) -> None:
    for number, (stem, expression, _) in enumerate(owner()):
        draw(folder / f"{stem}_aligned.jpg", expression, number)


def lines(path: Path, rows: list[str], end: str = "\n") -> None:
    """A text file without a final newline."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(end.join(rows).encode())


def owner_list(path: Path, part: str = "", extra: str = "") -> None:
    lines(path, [f"{stem}.jpg {label}{extra}" for stem, _, label in owner() if stem.startswith(part)])


def official(root: Path) -> Path:
    aligned(root / "Image" / "aligned")
    owner_list(root / "EmoLabel" / "list_patition_label.txt")
    return root


def split_lists(root: Path) -> None:
    aligned(root / "Image" / "aligned")
    owner_list(root / "EmoLabel" / "list_train_label.txt", "train")
    owner_list(root / "EmoLabel" / "list_test_label.txt", "test")


def three_columns(root: Path) -> None:
    aligned(root / "Image" / "aligned")
    owner_list(root / "EmoLabel" / "list_patition_label.txt", extra=" 2")


def class_folders(root: Path, train: str = "train", test: str = "test", named: bool = False) -> None:
    for number, (stem, expression, label) in enumerate(owner()):
        folder = root / (train if stem.startswith("train") else test) / (expression if named else str(label))
        draw(folder / f"{stem}_aligned.jpg", expression, number)


def kaggle(root: Path) -> None:
    class_folders(root / "DATASET")
    for part in ("train", "test"):
        rows = [f"{stem}_aligned.jpg,{label}" for stem, _, label in owner() if stem.startswith(part)]
        lines(root / f"{part}_labels.csv", ["image,label", *rows])


def flat(root: Path) -> None:
    for number, (stem, expression, _) in enumerate(owner()):
        folder = root / ("train" if stem.startswith("train") else "valid")
        draw(folder / f"{stem}_aligned.jpg", expression, number)
    owner_list(root / "list_patition_label.txt")


def path_list(root: Path, end: str = "\n", first: int = 0) -> None:
    aligned(root / "Image" / "aligned")
    for part in ("train", "test"):
        rows = [
            f"/home/somebody/raf-basic/Image/aligned/{stem}_aligned.jpg {label - 1 + first}"
            for stem, _, label in owner()
            if stem.startswith(part)
        ]
        lines(root / f"{part}.txt", rows, end)


LAYOUTS: dict[str, Callable[[Path], object]] = {
    "raf-official": official,
    "raf-split-lists": split_lists,
    "raf-adacm-list": three_columns,
    "raf-kaggle": kaggle,
    "raf-imagefolder": class_folders,
    "raf-flat": flat,
    "raf-pathlist-0based": path_list,
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_layout_is_found_and_gives_the_same_faces(tmp_path: Path, name: str) -> None:
    LAYOUTS[name](tmp_path)
    found, listing = read(DATASET, tmp_path)
    assert found == name
    assert counts(listing) == ALL
    assert not listing.faults
    assert not listing.dropped
    assert {face.native_label for face in listing.faces} <= set("01234567")
    assert read(DATASET, tmp_path, layout=name)[1].faces == listing.faces


@pytest.mark.parametrize("root", ["", "basic", "raf-basic", "RAF/basic", "RAF_DB/RAF_DB/basic", "RAF_DB/basic"])
def test_the_owners_pack_is_found_below_its_usual_folders(tmp_path: Path, root: str) -> None:
    official(tmp_path / root)
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("raf-official", ALL)
    assert listing.faces[0].id == "Image/aligned/train_00001_aligned.jpg"


def test_the_kaggle_pack_is_found_below_its_folder(tmp_path: Path) -> None:
    kaggle(tmp_path / "raf-db-dataset")
    assert read(DATASET, tmp_path)[0] == "raf-kaggle"


def test_two_packs_below_one_path_are_refused(tmp_path: Path) -> None:
    official(tmp_path / "basic")
    official(tmp_path / "raf-basic")
    with pytest.raises(BenchError, match=r"has two copies, .* and .*. Name the one that is meant"):
        read(DATASET, tmp_path)


def test_the_flat_copy_of_mfer_is_found_below_raf_db_and_with_the_list_in_emolabel(tmp_path: Path) -> None:
    flat(tmp_path / "raf-db")
    (tmp_path / "EmoLabel").mkdir()
    (tmp_path / "raf-db" / "list_patition_label.txt").rename(tmp_path / "EmoLabel" / "list_patition_label.txt")
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("raf-flat", ALL)
    assert "up to ten points" in listing.notes[0]


@pytest.mark.parametrize(("train", "test"), [("train_set", "val_set"), ("train", "val"), ("train", "valid")])
@pytest.mark.parametrize("named", [True, False])
def test_without_a_test_folder_the_validation_folder_is_the_test_split(
    tmp_path: Path, train: str, test: str, named: bool
) -> None:
    class_folders(tmp_path, train, test, named)
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("raf-imagefolder", ALL)
    assert not listing.faults
    assert "val is its test split" in listing.notes[0]


def test_a_validation_split_of_another_maker_is_noted(tmp_path: Path) -> None:
    class_folders(tmp_path)
    draw(tmp_path / "val" / "1" / "train_99999_aligned.jpg", "surprise")
    _, listing = read(DATASET, tmp_path)
    assert counts(listing) == {**ALL, "val": {"surprise": 1}}
    assert [kind for kind, _ in faults(listing)] == ["extra"]
    assert any("does not have a validation split" in note for note in listing.notes)


def test_a_test_face_in_the_train_folder_is_a_fault(tmp_path: Path) -> None:
    class_folders(tmp_path)
    draw(tmp_path / "train" / "1" / "test_0007_flipped.jpg", "surprise")
    _, listing = read(DATASET, tmp_path)
    ((kind, what),) = faults(listing)
    assert kind == "extra"
    assert "is of the owner's test split, but lies in train" in what


def test_names_without_a_split_are_noted(tmp_path: Path) -> None:
    draw(tmp_path / "train" / "fear" / "a.jpg", "fear")
    draw(tmp_path / "test" / "fear" / "b.jpg", "fear")
    assert "do not show if these splits are the owner's" in read(DATASET, tmp_path)[1].notes[0]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_paths_of_a_list_are_another_machines(tmp_path: Path, end: str) -> None:
    path_list(tmp_path, end)
    _, listing = read(DATASET, tmp_path)
    assert counts(listing) == ALL
    assert listing.about["labels"] == "0..6"
    # Pointed at one list, with the images named.
    found, listing = read(DATASET, tmp_path / "train.txt", images=tmp_path / "Image")
    assert (found, counts(listing)) == ("raf-pathlist-0based", {"train": each(2)})
    assert listing.faces[0].id == "aligned/train_00001_aligned.jpg"


def test_a_list_that_counts_from_one_is_recognised_by_its_labels(tmp_path: Path) -> None:
    path_list(tmp_path, first=1)
    _, listing = read(DATASET, tmp_path)
    assert counts(listing) == ALL
    assert listing.about["labels"] == "1..7"


def test_labels_that_may_count_from_zero_or_one_are_not_guessed(tmp_path: Path) -> None:
    path_list(tmp_path)
    for path in tmp_path.glob("*.txt"):
        rows = [row for row in path.read_text().splitlines() if row[-1] != "0"]
        lines(path, rows)
    with pytest.raises(
        BenchError, match=r"neither 0 nor 7 is among the labels.*Set numbering to 0-based or to 1-based"
    ):
        read(DATASET, tmp_path)
    said = {str(number): name for number, name in enumerate(EXPRESSIONS)}
    assert counts(read(DATASET, tmp_path, labels=said)[1])["train"] == {name: 2 for name in EXPRESSIONS[1:]}
    lines(tmp_path / "train.txt", ["/x/train_00001_aligned.jpg 0", "/x/train_00002_aligned.jpg 7"])
    with pytest.raises(BenchError, match="both 0 and 7 are among the labels"):
        read(DATASET, tmp_path)


def test_a_listed_file_that_is_nowhere_is_missing(tmp_path: Path) -> None:
    path_list(tmp_path)
    (tmp_path / "Image" / "aligned" / "train_00003_aligned.jpg").unlink()
    _, listing = read(DATASET, tmp_path)
    assert len(listing.faces) == 20
    assert faults(listing) == [("missing", f"train_00003_aligned.jpg is listed, but is not in {tmp_path}.")]


def test_a_face_in_two_places_is_refused_where_only_its_name_counts(tmp_path: Path) -> None:
    path_list(tmp_path)
    draw(tmp_path / "again" / "train_00003_aligned.jpg", "disgust")
    with pytest.raises(BenchError, match=r"train_00003_aligned.jpg: this face is in .* too"):
        read(DATASET, tmp_path)


def test_two_lists_for_one_face_are_a_fault_and_the_first_counts(tmp_path: Path) -> None:
    path_list(tmp_path)
    rows = [f"/x/{stem}_aligned.jpg {label % 7}" for stem, _, label in owner() if stem.startswith("train")]
    lines(tmp_path / "train_noise.txt", rows)
    _, listing = read(DATASET, tmp_path)
    assert counts(listing) == ALL
    assert {kind for kind, _ in faults(listing)} == {"label"}
    assert len(listing.faults) == 14


def test_what_the_list_and_the_folder_do_not_share_is_a_fault(tmp_path: Path) -> None:
    official(tmp_path)
    folder = tmp_path / "Image" / "aligned"
    (folder / "test_0002_aligned.jpg").unlink()
    draw(folder / "test_0002_flipped.jpg", "anger")
    path = tmp_path / "EmoLabel" / "list_patition_label.txt"
    path.write_text(path.read_text() + "\n\ntrain_00001.jpg 1\ntrain_00002.jpg 5\n")
    _, listing = read(DATASET, tmp_path)
    assert len(listing.faces) == 20
    where = {fault.kind: fault.where for fault in listing.faults}
    assert where == {
        "missing": f"{path}:16",
        "extra": "Image/aligned/test_0002_flipped.jpg",
        "duplicate": f"{path}:23",
        "label": f"{path}:24",
    }


def test_aligned_faces_precede_photographs_which_need_the_layout_option(tmp_path: Path) -> None:
    official(tmp_path)
    for number, (stem, expression, _) in enumerate(owner()):
        draw(tmp_path / "Image" / "original" / f"{stem}.jpg", expression, number, (40, 30))
    found, listing = read(DATASET, tmp_path)
    assert found == "raf-official"
    assert all("aligned" in face.id for face in listing.faces)
    _, listing = read(DATASET, tmp_path, layout="raf-original")
    assert counts(listing) == ALL
    assert all(face.id.startswith("Image/original/") and face.box is None for face in listing.faces)
    assert "faces are not cropped" in listing.notes[0]
    shutil.rmtree(tmp_path / "Image" / "aligned")
    with pytest.raises(BenchError, match=r"Image/aligned is missing, .*. Put it there, or read .*raf-original"):
        read(DATASET, tmp_path)


def test_photographs_are_cropped_where_there_are_boxes(tmp_path: Path) -> None:
    owner_list(tmp_path / "EmoLabel" / "list_patition_label.txt")
    for number, (stem, expression, _) in enumerate(owner()):
        draw(tmp_path / "Image" / "original" / f"{stem}.jpg", expression, number, (64, 48), box=(16, 8, 24, 32))
        lines(tmp_path / "Annotation" / "boundingbox" / f"{stem}.txt", ["18.0 10.0 38.0 38.0"])
    (tmp_path / "Annotation" / "boundingbox" / "train_00001.txt").unlink()
    _, listing = read(DATASET, tmp_path, layout="raf-original")
    assert len(listing.faces) == 20
    assert listing.dropped == {"no face box": 1}
    assert listing.faces[0].box == (18.0, 10.0, 20.0, 28.0)


def test_noise_files_beside_the_list_are_not_read(tmp_path: Path) -> None:
    official(tmp_path)
    lines(tmp_path / "EmoLabel" / "noise01.txt", [f"{stem}.jpg {label % 7 + 1}" for stem, _, label in owner()])
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("raf-official", ALL)


@pytest.mark.parametrize("name", ["raf-split-lists", "raf-kaggle", "raf-imagefolder", "raf-pathlist-0based"])
def test_the_owners_layout_precedes_one_whose_faces_it_has(tmp_path: Path, name: str) -> None:
    LAYOUTS[name](tmp_path)
    official(tmp_path)
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("raf-official", ALL)
    assert read(DATASET, tmp_path, layout=name)[0] == name


def other_label(root: Path) -> None:
    path = root / "EmoLabel" / "list_train_label.txt"
    path.write_text(path.read_text().replace("train_00001.jpg 1", "train_00001.jpg 2"))


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("raf-split-lists", other_label),
        ("raf-kaggle", lambda root: draw(root / "DATASET" / "train" / "1" / "train_00001_flipped.jpg", "surprise")),
        ("raf-imagefolder", lambda root: (root / "train" / "1").rename(root / "train" / "0")),
        (
            "raf-pathlist-0based",
            lambda root: lines(root / "train.txt", [f"/x/train_{n + 1:05d}_aligned.jpg {6 - n}" for n in range(7)]),
        ),
    ],
)
def test_two_layouts_that_differ_are_refused(tmp_path: Path, name: str, spoil: Callable[[Path], object]) -> None:
    LAYOUTS[name](tmp_path)
    official(tmp_path)
    spoil(tmp_path)
    with pytest.raises(BenchError, match=f"2 layouts of RAF-DB fit, raf-official and {name}. Choose one"):
        read(DATASET, tmp_path)


def test_the_kaggle_tables_are_compared_with_the_folders(tmp_path: Path) -> None:
    kaggle(tmp_path)
    path = tmp_path / "train_labels.csv"
    rows = path.read_text().splitlines()
    rows[2] = "train_00002_aligned.jpg,5"  # fear by its folder
    rows[3] = "train_90000_aligned.jpg,3"  # and train_00003 is not named
    lines(path, rows, "\r\n")
    (tmp_path / "test_labels.csv").unlink()
    _, listing = read(DATASET, tmp_path)
    assert counts(listing) == ALL
    assert {fault.kind: fault.where for fault in listing.faults} == {
        "label": f"{path}:3",
        "missing": f"{path}:4",
        "extra": "train/3/train_00003_aligned.jpg",
    }
    assert "test_labels.csv is missing" in listing.notes[0]


@pytest.mark.parametrize("header", ["image,label", "Image , Label", "label,image", "file,label"])
def test_the_name_of_the_kaggle_tables_first_column_does_not_matter(tmp_path: Path, header: str) -> None:
    kaggle(tmp_path)
    for path in tmp_path.glob("*.csv"):
        rows = [row.split(",") for row in path.read_text().splitlines()[1:]]
        turned = header.startswith("label")
        lines(path, [header, *(",".join(reversed(row) if turned else row) for row in rows)])
    assert not read(DATASET, tmp_path)[1].faults


def test_labels_in_file_names(tmp_path: Path) -> None:
    for number in range(35):
        draw(tmp_path / f"img{number:03d}_{number % 7}.jpg", EXPRESSIONS[number % 7], number)
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("raf-suffix", {"train": each(4), "test": each(1)})
    assert listing.about["labels"] == "0..6"
    assert "The splits are unknown" in listing.notes[0]


def test_a_labels_file_beside_images(tmp_path: Path) -> None:
    rows = []
    for number, (stem, expression, label) in enumerate(owner()):
        draw(tmp_path / "images" / f"{stem}.jpg", expression, number)
        rows.append(f"{stem}.jpg {label}")
    lines(tmp_path / "labels.txt", [*rows, "train_77777.jpg 4"])
    draw(tmp_path / "images" / "more.jpg", "fear")
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("raf-labels", ALL)
    assert [kind for kind, _ in faults(listing)] == ["missing", "extra"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            "train_00001.jpg 0",
            r"list_patition_label\.txt:22: '0' is not a known expression; the labels of this layout are 1 to 7 .*every",
        ),
        ("train_00001.jpg 8", r":22: '8' is not a known expression"),
        ("img_1.jpg 3", r":22: 'img_1\.jpg' is not a name of RAF-DB; expected one like train_00001 or test_0001"),
        ("train_00001.jpg", r":22: expected 2 columns"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, row: str, message: str) -> None:
    official(tmp_path)
    path = tmp_path / "EmoLabel" / "list_patition_label.txt"
    path.write_text(f"{path.read_text()}\n{row}")
    with pytest.raises(BenchError, match=message):
        read(DATASET, tmp_path)


def test_faces_that_the_user_leaves_out_are_counted(tmp_path: Path) -> None:
    official(tmp_path)
    _, listing = read(DATASET, tmp_path, labels={"7": ""})
    assert listing.dropped == {"7": 3}
    assert not listing.faults


def test_the_expected_counts_are_those_of_the_owners_list() -> None:
    assert {split: sum(per.values()) for split, per in DATASET.expected.items()} == {"train": 12_271, "test": 3_068}
