"""Read SFEW 2.0 (Dhall, Ramana Murthy, Goecke, Joshi, Gedeon, ICMI 2015): stills of films.

Aligned faces are PNG files of 143×181 pixels. The labels of the Test part are withheld, so Val is the test split. Train
has 891 aligned faces of 958 frames, Val 431 of 436: the owner's detector missed the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.boxes import with_box
from fergen_bench.datasets.class_folders import SPLITS, class_folders, has_classes
from fergen_bench.datasets.files import Files, at, entries, first_file, folders, image_size, images, inside
from fergen_bench.datasets.gathering import Gathering
from fergen_bench.datasets.list_files import list_layout, split_named
from fergen_bench.datasets.numbering import LEFT_OUT, label_map
from fergen_bench.datasets.reader import Dataset, Fault, Layout, Listing
from fergen_bench.datasets.text_files import table
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

LABELS = {
    "Angry": "anger",
    "Disgust": "disgust",
    "Fear": "fear",
    "Happy": "happiness",
    "Neutral": "neutral",
    "Sad": "sadness",
    "Surprise": "surprise",
}
NUMBERS = {"0": "anger", "1": "disgust", "2": "fear", "3": "happiness", "4": "neutral", "5": "sadness", "6": "surprise"}
"""Labels in lists: the alphabetical order of the class folders."""
PARTS = {"train": "train", "val": "test"}
"""Val is the test split."""
ROOTS = ("SFEW", "datasetsfew")
TABLE, TABLE_IMAGES = "sfew_2.0_labels.csv", "sfew2.0_images"

OFFICIAL = {"train": "Train/Train_Aligned_Faces", "test": "Val/Val_Aligned_Faces"}
VAL_NEW = {"train": "Train/Train_Aligned_Faces", "test": "Val/Val_Aligned_Faces_new/Val_Aligned_Faces"}
FLAT = {"train": "Train_Aligned_Faces", "test": "Val_Aligned_Faces"}
PLAIN = {"train": "Train", "test": "Val"}
BOXED = {"train": "Train/imgs", "test": "Val/imgs"}
NOT_CLASSES = {"Train_Aligned_Faces": LEFT_OUT, "Val_Aligned_Faces": LEFT_OUT, "Val_Aligned_Faces_new": LEFT_OUT}
"""Folders of aligned faces that lie next to those of whole frames."""


def _fits(places: Mapping[str, str], base: Path) -> bool:
    """Return True where one of the folders of the splits has class folders."""
    return any(has_classes(at(base, place), base) for place in places.values())


def _read(places: Mapping[str, str], base: Path, settings: DomainSettings) -> Listing:
    """Read the class folders of the splits."""
    listing = Listing()
    for split, place in places.items():
        folder = at(base, place)
        if not folder.is_dir():
            listing.notes.append(f"{folder} is missing, so the {split} split is empty.")
            continue
        listing.faces += class_folders(folder, base, split, label_map(LABELS, settings), listing)
    _without_test(base, listing)
    return listing


def _without_test(base: Path, listing: Listing) -> None:
    """Count the faces of Test, whose labels are withheld, as dropped."""
    found = [image for part in ("Test", "Test_Aligned_Faces") for image in images(at(base, part), base)]
    if found:
        listing.dropped["Test, without labels"] += len(found)
        listing.notes.append(
            f"{many(len(found), 'image in Test', 'are')} left out: its labels are withheld. Val is scored."
        )


def _read_plain(base: Path, settings: DomainSettings) -> Listing:
    """Read aligned faces in {Train,Val}/{class}/.

    Frames of a film, which may lie in folders of the same names, are wider than high and are refused.
    """
    listing = _read(PLAIN, base, settings)
    for split in PLAIN:
        face = next((face for face in listing.faces if face.split == split), None)
        size = image_size(face.file) if face and face.file else None
        if size is not None and size[0] > size[1]:
            raise BenchError(
                f"{face.file if face else base}: this image has {size[0]}×{size[1]} pixels, so these seem to be whole "
                f"frames, not aligned faces. Get Train_Aligned_Faces and Val_Aligned_Faces, or take them whole with "
                f"--layout sfew-frames"
            )
    return listing


def _read_frames(base: Path, settings: DomainSettings) -> Listing:
    """Read whole frames in {Train,Val}/{class}/ or {Train,Val}/imgs/{class}/."""
    labels = {**NOT_CLASSES, **settings.labels}
    listing = _read(PLAIN if _fits(PLAIN, base) else BOXED, base, settings.model_copy(update={"labels": labels}))
    listing.notes.append("These are whole frames of films: faces are not cropped.")
    return listing


def _has_boxes(base: Path) -> bool:
    return any(at(base, f"{part}/Annotations/Bboxs").is_dir() for part in ("Train", "Val"))


def _read_boxed(base: Path, settings: DomainSettings) -> Listing:
    """Read frames with a text file each of a face box: left, top, right, bottom. Frames without a box are dropped."""
    listing, files = Listing(about={"boxes": "Annotations/Bboxs (of a detector, not the owner's)"}), Files(base)
    for split, place in BOXED.items():
        folder, used = at(base, place), set()
        boxes = at(folder.parent, "Annotations/Bboxs")
        if not folder.is_dir():
            listing.notes.append(f"{folder} is missing, so the {split} split is empty.")
            continue
        labels = label_map(LABELS, settings)
        for face in class_folders(folder, base, split, labels, listing):
            box = at(boxes, face.native_label) / f"{Path(face.file or face.id).stem}.txt"
            used.add(box)
            if files.has(box):
                listing.faces += with_box(face, box, listing)
            else:
                listing.dropped["no face box"] += 1
        for box in (Path(entry.path) for part in folders(boxes, base) for entry in entries(part, base, ".txt")):
            if box not in used:
                listing.faults.append(Fault("missing", str(box), f"{box} exists, but its frame is missing."))
    if listing.dropped["no face box"]:
        listing.notes.append(f"Left out: {many(listing.dropped['no face box'], 'frame')} without a face box.")
    listing.notes.append("Faces are cut out with the boxes in Annotations/Bboxs, which are not the owner's.")
    _without_test(base, listing)
    return listing


def _read_table(base: Path, settings: DomainSettings) -> Listing:
    """Read one csv with the names of expression and split, and one flat folder. The numbers in the csv are ignored."""
    listing, folder = Listing(), at(base, TABLE_IMAGES)
    gathering = Gathering(listing, base, label_map(LABELS, settings))
    for place, row in table(at(base, TABLE), ["image_name", "emotion", "original_split"]):
        image, part = inside(folder, row["image_name"], place), split_named(row["original_split"])
        if part == "test":
            gathering.leave_out(image, "Test, without labels")
        elif part is None:
            raise BenchError(
                f"{place}: original_split is {row['original_split'][:40]!r}; expected Train_Aligned_Faces or "
                f"Val_Aligned_Faces"
            )
        else:
            gathering.add(place, image, row["emotion"], PARTS[part])
    gathering.close(folder)
    return listing


def _is_old(base: Path) -> bool:
    return at(base, OFFICIAL["test"]).is_dir() or not at(base, VAL_NEW["test"]).is_dir()


CLASSES = "{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}"
DATASET = Dataset(
    name="sfew",
    title="SFEW 2.0",
    layouts=(
        Layout(
            "sfew-official",
            f"Train/Train_Aligned_Faces/{CLASSES}/*.png, Val/Val_Aligned_Faces/…",
            lambda base: _fits(OFFICIAL, base) and _is_old(base),
            partial(_read, OFFICIAL),
            roots=ROOTS,
        ),
        Layout(
            "sfew-val-new",
            f"Train/Train_Aligned_Faces/{CLASSES}/*.png, Val/Val_Aligned_Faces_new/Val_Aligned_Faces/…",
            lambda base: at(base, VAL_NEW["test"]).is_dir() and _fits(VAL_NEW, base),
            partial(_read, VAL_NEW),
            roots=ROOTS,
        ),
        Layout(
            "sfew-flat-root",
            f"Train_Aligned_Faces/{CLASSES}/*.png, Val_Aligned_Faces/…",
            partial(_fits, FLAT),
            partial(_read, FLAT),
            roots=ROOTS,
        ),
        Layout(
            "sfew-kaggle", f"{{Train,Val}}/{CLASSES}/*: aligned faces", partial(_fits, PLAIN), _read_plain, roots=ROOTS
        ),
        Layout(
            "sfew-frames-boxes",
            f"{{Train,Val}}/imgs/{CLASSES}/*, {{Train,Val}}/Annotations/Bboxs/{CLASSES}/*.txt",
            lambda base: _has_boxes(base) and _fits(BOXED, base),
            _read_boxed,
            roots=ROOTS,
        ),
        Layout(
            "sfew-csv",
            f"{TABLE}, {TABLE_IMAGES}/*.png",
            lambda base: first_file(base, TABLE) is not None and at(base, TABLE_IMAGES).is_dir(),
            _read_table,
            roots=ROOTS,
            parts=(TABLE, TABLE_IMAGES),
        ),
        list_layout(NUMBERS, {**SPLITS, "val": "test", "valid": "test", "validation": "test"}, ROOTS),
        Layout(
            "sfew-frames",
            f"{{Train,Val}}/{CLASSES}/* or {{Train,Val}}/imgs/{CLASSES}/*: whole frames, no boxes",
            lambda base: _fits(PLAIN, base) or _fits(BOXED, base),
            _read_frames,
            asked_only=True,
            roots=ROOTS,
            crop="whole frames",
        ),
    ),
    request="Send the licence form to the organisers of EmotiW, for research only: https://cs.anu.edu.au/few/",
    # The owner's aligned Val, counted. Its aligned Train has 891 faces in total; the counts per class are not sourced.
    expected={
        "train": {"all": 891},
        "test": {"surprise": 56, "fear": 46, "disgust": 23, "happiness": 72, "sadness": 73, "anger": 77, "neutral": 84},
    },
    # Of 19 accuracies that CAFE's paper prints for SFEW as a target, 17 are multiples of 1/891: the aligned training
    # faces. 431 and 436 fit almost none.
    scored={"cafe": "train"},
)
