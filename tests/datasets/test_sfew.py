"""SFEW 2.0 in every layout that is known, its pixels carrying the labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fergen_bench.datasets.sfew import DATASET, LABELS
from fergen_bench.error import BenchError
from greyfaces import Box, counts, draw, each, faults, read

ALL = {"train": each(2), "test": each(1)}
ALPHABETICAL = list(LABELS)


def name(number: int) -> str:
    return f"AboutABoy_{number:09d}_{number:08d}.png"


def class_folders(
    train: Path, val: Path, size: tuple[int, int] = (14, 18), box: Box | None = None, suffix: str = ".png"
) -> None:
    """Two faces of each expression in train, one in val."""
    for number in range(21):
        native = ALPHABETICAL[number % 7]
        folder = (train if number < 14 else val) / native
        draw((folder / name(number)).with_suffix(suffix), LABELS[native], number, size, box=box)


def official(root: Path) -> None:
    class_folders(root / "Train" / "Train_Aligned_Faces", root / "Val" / "Val_Aligned_Faces")
    unlabelled(root)


def unlabelled(root: Path) -> None:
    for number in range(3):
        draw(root / "Test" / "Test_Aligned_Faces" / name(90 + number), "fear")


def val_new(root: Path) -> None:
    class_folders(root / "Train" / "Train_Aligned_Faces", root / "Val" / "Val_Aligned_Faces_new" / "Val_Aligned_Faces")
    unlabelled(root)


def flat_root(root: Path) -> None:
    class_folders(root / "Train_Aligned_Faces", root / "Val_Aligned_Faces")


def kaggle(root: Path) -> None:
    class_folders(root / "Train", root / "Val")
    unlabelled(root)


def boxed(root: Path) -> None:
    for part, suffix in (("Train", ".png"), ("Val", ".jpg")):
        other = root / "unused"
        places = (root / part / "imgs", other) if part == "Train" else (other, root / part / "imgs")
        class_folders(*places, size=(72, 57), box=(16, 8, 40, 40), suffix=suffix)
        for image in (root / part / "imgs").rglob("*_*"):
            for kind in ("Bboxs", "Landmarks_5"):
                path = root / part / "Annotations" / kind / image.parent.name / f"{image.stem}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("24 14 46 42\n" if kind == "Bboxs" else "1 2\n" * 5)
        for image in other.rglob("*_*"):
            image.unlink()


def table(root: Path) -> None:
    rows = ["image_name,label,emotion,original_split"]
    for number in range(21):
        native = ALPHABETICAL[number % 7]
        draw(root / "sfew2.0_images" / name(number), LABELS[native], number)
        rows.append(f"{name(number)},{number % 7},{native},{'Train' if number < 14 else 'Val'}_Aligned_Faces")
    (root / "sfew_2.0_labels.csv").write_text("\n".join(rows))


def one_list(root: Path) -> None:
    """As CAFE has it: one list, the splits in the folders."""
    class_folders(root / "faces" / "Train_Aligned_Faces", root / "faces" / "Val_Aligned_Faces")
    rows = [
        f"{image.relative_to(root).as_posix()} {ALPHABETICAL.index(image.parent.name)}"
        for image in sorted(root.rglob("*.png"))
    ]
    (root / "SFEW2_label.txt").write_text("\n".join(rows))


def lists(root: Path) -> None:
    rows: dict[str, list[str]] = {"sfew_train": [], "sfew_val": []}
    for number in range(21):
        native = ALPHABETICAL[number % 7]
        draw(root / "faces" / name(number), LABELS[native], number)
        rows["sfew_train" if number < 14 else "sfew_val"].append(f"faces/{name(number)} {number % 7}")
    for stem, lines in rows.items():
        (root / f"{stem}.txt").write_bytes("\r\n".join(lines).encode())


LAYOUTS: dict[str, tuple[Callable[[Path], None], str, int]] = {
    "official": (official, "sfew-official", 3),
    "the newer Val archive": (val_new, "sfew-val-new", 3),
    "flat": (flat_root, "sfew-flat-root", 0),
    "kaggle": (kaggle, "sfew-kaggle", 3),
    "boxes": (boxed, "sfew-frames-boxes", 0),
    "csv": (table, "sfew-csv", 0),
    "CAFE's list": (one_list, "list-file", 0),
    "lists": (lists, "list-file", 0),
}


@pytest.mark.parametrize("case", LAYOUTS)
@pytest.mark.parametrize("root", ["", "SFEW", "datasetsfew"])
def test_each_layout_is_found_and_gives_the_same_faces(tmp_path: Path, case: str, root: str) -> None:
    make, expected, dropped = LAYOUTS[case]
    make(tmp_path / root)
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == (expected, ALL)
    assert not listing.faults
    assert sum(listing.dropped.values()) == dropped
    assert read(DATASET, tmp_path, layout=expected)[1].faces == listing.faces


def test_the_test_part_without_labels_is_left_out_and_noted(tmp_path: Path) -> None:
    official(tmp_path)
    _, listing = read(DATASET, tmp_path)
    assert listing.dropped == {"Test, without labels": 3}
    assert listing.notes == ["3 images in Test are left out: its labels are withheld. Val is scored."]


def test_a_missing_part_is_noted(tmp_path: Path) -> None:
    class_folders(tmp_path / "Train" / "Train_Aligned_Faces", tmp_path / "elsewhere")
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("sfew-official", {"train": each(2)})
    assert "Val/Val_Aligned_Faces is missing" in listing.notes[0]


@pytest.mark.parametrize(
    ("one", "two", "names"),
    [
        (official, val_new, None),
        (official, kaggle, "sfew-official and sfew-kaggle"),
        (official, flat_root, None),
        (flat_root, table, None),
        (kaggle, boxed, "sfew-kaggle and sfew-frames-boxes"),
    ],
)
def test_two_layouts_at_once(
    tmp_path: Path, one: Callable[[Path], None], two: Callable[[Path], None], names: str | None
) -> None:
    one(tmp_path)
    two(tmp_path)
    if names is None:  # the first holds all that the second holds
        assert counts(read(DATASET, tmp_path)[1]) == ALL
    else:
        with pytest.raises(BenchError, match=f"2 layouts of SFEW 2.0 fit, {names}. Choose one with --layout"):
            read(DATASET, tmp_path)


def test_a_second_layout_with_another_face_is_refused(tmp_path: Path) -> None:
    official(tmp_path)
    flat_root(tmp_path)
    draw(tmp_path / "Val_Aligned_Faces" / "Sad" / name(99), "sadness")
    with pytest.raises(BenchError, match="fit, sfew-official and sfew-flat-root"):
        read(DATASET, tmp_path)


def test_a_box_is_left_top_right_bottom(tmp_path: Path) -> None:
    boxed(tmp_path)
    _, listing = read(DATASET, tmp_path)
    assert {face.box for face in listing.faces} == {(24.0, 14.0, 22.0, 28.0)}
    assert listing.about["boxes"] == "Annotations/Bboxs (of a detector, not the owner's)"


def test_frames_without_a_box_are_counted_and_boxes_without_a_frame_are_faults(tmp_path: Path) -> None:
    boxed(tmp_path)
    boxes = tmp_path / "Train" / "Annotations" / "Bboxs" / "Angry"
    (boxes / name(0)).with_suffix(".txt").rename((boxes / name(500)).with_suffix(".txt"))
    _, listing = read(DATASET, tmp_path)
    assert counts(listing)["train"]["anger"] == 1
    assert listing.dropped == {"no face box": 1}
    assert [kind for kind, _ in faults(listing)] == ["missing"]


@pytest.mark.parametrize(
    "text", ["", "1 2 3", "1 2 3 4 5 6", "a b c d", "9 9 9 20", "9 9 20 8", "nan 1 2 3", "1 1 2 inf", "1 1 2 1e30"]
)
def test_a_file_without_a_box_is_named(tmp_path: Path, text: str) -> None:
    boxed(tmp_path)
    path = (tmp_path / "Train" / "Annotations" / "Bboxs" / "Angry" / name(0)).with_suffix(".txt")
    path.write_text(text)
    (fault,) = read(DATASET, tmp_path)[1].faults
    assert fault.kind == "unreadable"
    assert fault.what.startswith(
        f"{path}: this file does not contain a face box; expected four numbers, left top right bottom"
    )


def test_a_detectors_score_behind_the_box_is_allowed(tmp_path: Path) -> None:
    boxed(tmp_path)
    path = (tmp_path / "Train" / "Annotations" / "Bboxs" / "Angry" / name(0)).with_suffix(".txt")
    path.write_text("24\n14\n46\n42\n0.999\n")
    assert counts(read(DATASET, tmp_path)[1]) == ALL


def test_frames_without_boxes_need_the_layout_option(tmp_path: Path) -> None:
    class_folders(tmp_path / "Train", tmp_path / "Val", (72, 57))
    with pytest.raises(
        BenchError, match=r"this image has 72×57 pixels, so these seem to be whole frames.*--layout sfew-frames"
    ):
        read(DATASET, tmp_path)
    _, listing = read(DATASET, tmp_path, layout="sfew-frames")
    assert counts(listing) == ALL
    assert listing.notes == ["These are whole frames of films: faces are not cropped."]


def test_frames_next_to_aligned_faces_or_in_imgs_need_the_layout_option(tmp_path: Path) -> None:
    official(tmp_path)
    class_folders(tmp_path / "Train", tmp_path / "Val", (72, 57))
    _, listing = read(DATASET, tmp_path, layout="sfew-frames")
    assert counts(listing) == ALL
    assert listing.dropped["train_aligned_faces"] == 14
    class_folders(tmp_path / "x" / "Train" / "imgs", tmp_path / "x" / "Val" / "imgs", (72, 57))
    with pytest.raises(BenchError, match="not a known layout of SFEW"):
        read(DATASET, tmp_path / "x")
    assert counts(read(DATASET, tmp_path / "x", layout="sfew-frames")[1]) == ALL


def test_the_csv_is_compared_with_the_images(tmp_path: Path) -> None:
    table(tmp_path)
    path = tmp_path / "sfew_2.0_labels.csv"
    rows = path.read_text().splitlines()
    rows[1] = rows[1].replace(".png", "")  # without its suffix
    rows[2] = rows[2].replace(name(1), name(77))
    rows += [f"{name(3)},0,Happy,Train_Aligned_Faces", f"{name(50)},,,Test_Aligned_Faces"]
    path.write_bytes("\r\n".join(rows).encode())
    _, listing = read(DATASET, tmp_path)
    assert counts(listing)["train"]["anger"] == 2
    assert {fault.kind: fault.where for fault in listing.faults} == {
        "missing": f"{path}:3",
        "extra": f"sfew2.0_images/{name(1)}",
        "duplicate": f"{path}:23",
    }
    assert listing.dropped == {"Test, without labels": 1, "listed twice": 1}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (("Train_Aligned_Faces", "Somewhere"), r"labels\.csv:2: original_split is 'Somewhere'; expected Train_Aligned"),
        (("Angry", "Cross"), r"labels\.csv:2: 'Cross' is not a known expression"),
        (("AboutABoy_000000000", "../x"), r"labels\.csv:2: .* leads out of"),
        (("original_split", "part"), r"labels\.csv:1: the first line must name the columns, and original_split is mis"),
        ((",", ";"), r"labels\.csv:1: columns are divided by ';' here; expected commas"),
    ],
)
def test_a_bad_csv_is_named(tmp_path: Path, spoil: tuple[str, str], message: str) -> None:
    table(tmp_path)
    path = tmp_path / "sfew_2.0_labels.csv"
    path.write_text(path.read_text().replace(*spoil))
    with pytest.raises(BenchError, match=message):
        read(DATASET, tmp_path)


def test_a_list_may_be_named_itself(tmp_path: Path) -> None:
    lists(tmp_path)
    assert counts(read(DATASET, tmp_path / "sfew_train.txt")[1]) == {"train": each(2)}


def test_a_list_without_splits_gets_a_test_split(tmp_path: Path) -> None:
    lists(tmp_path)
    (tmp_path / "sfew_val.txt").unlink()
    (tmp_path / "sfew_train.txt").rename(tmp_path / "SFEW2_label.txt")
    _, listing = read(DATASET, tmp_path, test_share=0.5)
    assert counts(listing) == {"train": each(1), "test": each(1)}
    assert listing.notes == ["The list lacks splits; 0.5 of each expression is the test split."]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f"faces/{name(1)} 7",
            r"sfew_train\.txt:15: '7' is not a known expression; the labels of this layout are 0 to 6 .*every",
        ),
        (f"../faces/{name(1)} 1", r"sfew_train\.txt:15: .* leads out of"),
        (f"/faces/{name(1)} 1", r"sfew_train\.txt:15: .* is an absolute path that does not lie in"),
        (f"faces/{name(1)}", r"sfew_train\.txt:15: expected 2 columns"),
    ],
)
def test_a_bad_line_of_a_list_is_named(tmp_path: Path, line: str, message: str) -> None:
    lists(tmp_path)
    with (tmp_path / "sfew_train.txt").open("a") as file:
        file.write(f"\n{line}")
    with pytest.raises(BenchError, match=message):
        read(DATASET, tmp_path)


def test_an_unknown_and_an_empty_class_folder_are_refused(tmp_path: Path) -> None:
    official(tmp_path)
    folder = tmp_path / "Train" / "Train_Aligned_Faces"
    (folder / "Joy").mkdir()
    with pytest.raises(BenchError, match=r"Joy: 'Joy' is not a known expression"):
        read(DATASET, tmp_path)
    (folder / "Joy").rmdir()
    for image in (folder / "Sad").iterdir():
        image.unlink()
    with pytest.raises(BenchError, match=r"Sad: this class folder does not contain images"):
        read(DATASET, tmp_path)


def test_the_paper_scored_the_training_faces() -> None:
    assert DATASET.scored == {"cafe": "train"}
    assert sum(DATASET.expected["test"].values()) == 431
