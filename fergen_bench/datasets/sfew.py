"""SFEW 2.0: Dhall, Ramana Murthy, Goecke, Joshi, Gedeon, ICMI 2015. Stills of films; the aligned faces are 143×181 PNG.

The labels of its Test part are withheld, so Val is the test split. Train has 891 aligned faces of 958 frames, Val 431
of 436: the owner's detector missed the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.reader import (
    LEFT_OUT,
    SPLITS,
    Dataset,
    Face,
    Fault,
    Files,
    Layout,
    Listing,
    class_folders,
    entries,
    expression_of,
    images,
    inside,
    table,
)
from fergen_bench.datasets.shapes import base_below, box_of, classes, first_of, has_classes, list_layout, split_of_name
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings

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
"""Labels in lists: the order of the class folders' names."""
PARTS = {"train": "train", "val": "test"}
ROOTS = ("SFEW", "datasetsfew")
TABLE, TABLE_IMAGES = "sfew_2.0_labels.csv", "sfew2.0_images"

OFFICIAL = {"train": "Train/Train_Aligned_Faces", "test": "Val/Val_Aligned_Faces"}
VAL_NEW = {"train": "Train/Train_Aligned_Faces", "test": "Val/Val_Aligned_Faces_new/Val_Aligned_Faces"}
FLAT = {"train": "Train_Aligned_Faces", "test": "Val_Aligned_Faces"}
PLAIN = {"train": "Train", "test": "Val"}
BOXED = {"train": "Train/imgs", "test": "Val/imgs"}
NOT_CLASSES = {"Train_Aligned_Faces": LEFT_OUT, "Val_Aligned_Faces": LEFT_OUT, "Val_Aligned_Faces_new": LEFT_OUT}
"""Folders of aligned faces that stand beside those of whole frames."""


def _finder(
    places: Mapping[str, str], apart: Callable[[Path], bool] = lambda base: True
) -> Callable[[Path], Path | None]:
    """Finds class folders in one of the places. apart: what else tells the layout from others."""

    def fits(base: Path) -> bool:
        return apart(base) and any(has_classes(base / place, LABELS) for place in places.values())

    return lambda path: base_below(path, ROOTS, fits)


def _read(places: Mapping[str, str], base: Path, settings: DomainSettings) -> Listing:
    """Faces of the class folders in the places of the splits."""
    listing = Listing()
    for split, place in places.items():
        if not (base / place).is_dir():
            listing.notes.append(f"{base / place} is not there, so there are no faces of the {split} split.")
            continue
        listing.faces += classes(base / place, base, split, {**LABELS, **settings.labels}, listing)
    _without_test(base, listing)
    return listing


def _without_test(base: Path, listing: Listing) -> None:
    """Counts the faces of Test, whose labels are withheld, as dropped."""
    found = [
        image
        for name in ("Test", "Test_Aligned_Faces")
        if (base / name).is_dir()
        for image in images(base / name, base)
    ]
    if found:
        listing.dropped["Test, without labels"] += len(found)
        listing.notes.append(f"{len(found):,} images in Test are left out: their labels are withheld. Val is scored.")


def _read_plain(base: Path, settings: DomainSettings) -> Listing:
    """{Train,Val}/{class}/ of aligned faces. Frames of a film, which lie in the same folders, are wider than high."""
    listing = _read(PLAIN, base, settings)
    for split in PLAIN:
        face = next((face for face in listing.faces if face.split == split), None)
        size = _size(face.file) if face and face.file else None
        if size is not None and size[0] > size[1]:
            raise BenchError(
                f"{face.file if face else base}: is {size[0]}×{size[1]} pixels, so these seem to be whole frames, not "
                f"aligned faces; get Train_Aligned_Faces and Val_Aligned_Faces, or take them whole with --layout "
                f"sfew-frames"
            )
    return listing


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image, by its header."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _find_frames(path: Path) -> Path | None:
    return _finder(PLAIN)(path) or _finder(BOXED)(path)


def _read_frames(base: Path, settings: DomainSettings) -> Listing:
    """{Train,Val}/{class}/ or {Train,Val}/imgs/{class}/, whole."""
    labels = {**NOT_CLASSES, **settings.labels}
    places = PLAIN if has_classes(base / "Train", LABELS) or has_classes(base / "Val", LABELS) else BOXED
    listing = _read(places, base, settings.model_copy(update={"labels": labels}))
    listing.notes.append("These are whole frames of films: faces are not cropped.")
    return listing


def _has_boxes(base: Path) -> bool:
    return any((base / part / "Annotations" / "Bboxs").is_dir() for part in ("Train", "Val"))


def _read_boxed(base: Path, settings: DomainSettings) -> Listing:
    """Frames with a text file each that holds a face box: left, top, right, bottom. Frames without are dropped."""
    listing, files = Listing(about={"boxes": "Annotations/Bboxs (of a detector, not the owner's)"}), Files(base)
    for split, place in BOXED.items():
        boxes, used = (base / place).parent / "Annotations" / "Bboxs", set()
        if not (base / place).is_dir():
            listing.notes.append(f"{base / place} is not there, so there are no faces of the {split} split.")
            continue
        labels = {**LABELS, **settings.labels}
        for image, expression, native in class_folders(base / place, base, split, labels, listing):
            box = boxes / native / f"{image.stem}.txt"
            used.add(box)
            if not files.has(box):
                listing.dropped["no face box"] += 1
                continue
            identity = image.relative_to(base).as_posix()
            listing.faces.append(Face(identity, split, expression, native, image, box=box_of(box)))
        for box in sorted(boxes.rglob("*.txt")):
            if box not in used:
                listing.faults.append(Fault("missing", str(box), f"{box} is there, but the frame it is of is not."))
    if listing.dropped["no face box"]:
        listing.notes.append(f"{listing.dropped['no face box']:,} frames have no face box, and are left out.")
    listing.notes.append("Faces are cut out with the boxes in Annotations/Bboxs, which are not the owner's.")
    _without_test(base, listing)
    return listing


def _find_table(path: Path) -> Path | None:
    return base_below(path, ROOTS, lambda base: (base / TABLE).is_file() and (base / TABLE_IMAGES).is_dir())


def _read_table(base: Path, settings: DomainSettings) -> Listing:
    """One csv with the name of the expression and of the split, one flat folder. The csv's numbers are not used."""
    listing, files, named = Listing(), Files(base), set()
    labels, folder = {**LABELS, **settings.labels}, base / TABLE_IMAGES
    entries(base, base)
    seen: dict[str, tuple[str, str]] = {}
    for place, row in table(base / TABLE, ["image_name", "emotion", "original_split"]):
        image = inside(folder, row["image_name"], place)
        if not files.has(image) and files.has(image.with_name(f"{image.name}.png")):
            image = image.with_name(f"{image.name}.png")
        named.add(image)
        part = split_of_name(row["original_split"], SPLITS)
        if part == "test":
            listing.dropped["Test, without labels"] += 1
            continue
        if part is None:
            raise BenchError(
                f"{place}: original_split is {row['original_split'][:40]!r}; expected Train_Aligned_Faces or "
                f"Val_Aligned_Faces"
            )
        expression = expression_of(row["emotion"], labels, place)
        if not first_of(image.name, place, row["emotion"], seen, listing):
            continue
        if expression == LEFT_OUT:
            listing.dropped[row["emotion"].casefold()] += 1
        elif not files.has(image):
            listing.faults.append(Fault("missing", place, f"{image} is listed, but is not there."))
        else:
            identity = image.relative_to(base).as_posix()
            listing.faces.append(Face(identity, PARTS[part], expression, row["emotion"], image))
    listing.faults += [
        Fault("extra", str(image.relative_to(base)), f"{image} is there, but {TABLE} does not name it; it is left out.")
        for image in images(folder, base)
        if image not in named
    ]
    return listing


def _is_old(base: Path) -> bool:
    return (base / OFFICIAL["test"]).is_dir() or not (base / VAL_NEW["test"]).is_dir()


CLASSES = "{Angry,Disgust,Fear,Happy,Neutral,Sad,Surprise}"
DATASET = Dataset(
    name="sfew",
    title="SFEW 2.0",
    layouts=(
        Layout(
            "sfew-official",
            f"Train/Train_Aligned_Faces/{CLASSES}/*.png, Val/Val_Aligned_Faces/…",
            _finder(OFFICIAL, _is_old),
            partial(_read, OFFICIAL),
        ),
        Layout(
            "sfew-val-new",
            f"Train/Train_Aligned_Faces/{CLASSES}/*.png, Val/Val_Aligned_Faces_new/Val_Aligned_Faces/…",
            _finder(VAL_NEW, lambda base: (base / VAL_NEW["test"]).is_dir()),
            partial(_read, VAL_NEW),
        ),
        Layout(
            "sfew-flat-root",
            f"Train_Aligned_Faces/{CLASSES}/*.png, Val_Aligned_Faces/…",
            _finder(FLAT),
            partial(_read, FLAT),
        ),
        Layout("sfew-kaggle", f"{{Train,Val}}/{CLASSES}/*: aligned faces", _finder(PLAIN), _read_plain),
        Layout(
            "sfew-frames-boxes",
            f"{{Train,Val}}/imgs/{CLASSES}/*, {{Train,Val}}/Annotations/Bboxs/{CLASSES}/*.txt",
            _finder(BOXED, _has_boxes),
            _read_boxed,
        ),
        Layout("sfew-csv", f"{TABLE}, {TABLE_IMAGES}/*.png", _find_table, _read_table),
        list_layout(NUMBERS, ROOTS, {**SPLITS, "val": "test", "valid": "test", "validation": "test"}),
        Layout(
            "sfew-frames",
            f"{{Train,Val}}/{CLASSES}/* or {{Train,Val}}/imgs/{CLASSES}/*: whole frames, no boxes",
            _find_frames,
            _read_frames,
            asked_only=True,
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
