"""Read AffectNet, manually annotated (Mollahosseini, Hasani, Mahoor, IEEE TAC 10(1), 2019), as seven classes.

Its owner published a training and a validation set but no test set. The literature scores the validation set, and so it
is the test split here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.class_folders import (
    class_folders,
    has_classes,
    has_split_classes,
    report_others,
    split_folders,
)
from fergen_bench.datasets.files import Files, at, entries, first_file, folders, images, inside, unpack_first
from fergen_bench.datasets.gathering import Gathering, Labelling, expression_of
from fergen_bench.datasets.list_files import lists_in, read_lists
from fergen_bench.datasets.numbering import CONTEMPT, LEFT_OUT, is_number, label_map, next_step, spelled
from fergen_bench.datasets.reader import Box, Dataset, Face, Fault, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split
from fergen_bench.datasets.text_files import table, whole_number
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

NATIVE: Mapping[str, str] = {
    "0": "neutral",
    "1": "happiness",
    "2": "sadness",
    "3": "surprise",
    "4": "fear",
    "5": "disgust",
    "6": "anger",
    "7": LEFT_OUT,
}
NOT_ONE_OF_SEVEN: Mapping[str, str] = {"7": CONTEMPT, "8": "none", "9": "uncertain", "10": "non-face"}
"""Native label that is not one of the seven → its name by the owner."""
LARGEST_LABEL = 11
"""Largest label of the owner, 10, where it is counted from 1."""
TEST_IS_VALIDATION = "the owner's validation set, which the literature scores: AffectNet lacks a public test set"


def _labels(settings: DomainSettings) -> Mapping[str, str]:
    return label_map({**NATIVE, **dict.fromkeys(NOT_ONE_OF_SEVEN, LEFT_OUT)}, settings)


def _reasons(settings: DomainSettings) -> Mapping[str, str]:
    """Return label → its name by the owner, for the labels that are left out in the numbering of the settings."""
    first = int((settings.numbering or "").endswith("1-based"))
    shifted = {str(int(native) + first): name for native, name in NOT_ONE_OF_SEVEN.items()}
    return {native: name for native, name in shifted.items() if native not in settings.labels}


# ----------------------------------------------------------------------------------------------------- original release

PICTURES = "Manually_Annotated_Images"
LISTS = "Manually_Annotated_file_lists"
NESTED = "Manually_Annotated"
NEEDED = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
HEADER = (*NEEDED[:5], "facial_landmarks", "expression", "valence", "arousal")
UNREADABLE = "without readable numbers"
NO_BOX = "without a face box"


def _pictures(base: Path) -> Path | None:
    places = (at(base, place) for place in (PICTURES, f"{NESTED}/{PICTURES}"))
    return next((place for place in places if place.is_dir()), None)


def _rows(base: Path, name: str) -> Path | None:
    """Return the path of training.csv or validation.csv, also under its other name Manually_…."""
    places = (f"{LISTS}/", "", f"{NESTED}/{LISTS}/", f"{NESTED}/")
    return first_file(base, *(place + file for place in places for file in (f"{name}.csv", f"Manually_{name}.csv")))


def _read_original(base: Path, settings: DomainSettings) -> Listing:
    """Read whole photographs and the face boxes in a csv of nine columns, which may lack its first line."""
    pictures = _pictures(base)
    if pictures is None:
        raise BenchError(
            f"{base}: this folder has the lists of AffectNet, but not their images; expected {PICTURES}/"
            f"{unpack_first(base, base)}"
        )
    listing = Listing(about={"test": TEST_IS_VALIDATION})
    gathering = Gathering(listing, pictures, _labels(settings), _reasons(settings))
    # Read validation first: a face in both lists is a test face and not a training face.
    for split, name in (("test", "validation"), ("train", "training")):
        path = _rows(base, name)
        if path is None:
            raise BenchError(
                f"{base}: {name}.csv is missing, both in {LISTS}/ and next to it. AffectNet needs both lists"
                f"{unpack_first(base, base)}"
            )
        for place, row in table(path, NEEDED, HEADER):
            wanted = inside(pictures, row["subDirectory_filePath"], place)
            if _number(row["expression"]) is None:
                gathering.leave_out(wanted, UNREADABLE)
                continue
            native = str(whole_number(row["expression"], 0, LARGEST_LABEL, place, "expression"))
            box = _box(row)
            unusable = UNREADABLE if box is None else NO_BOX if min(box[2:]) <= 0 else None
            gathering.add(place, wanted, native, split, box=box, unusable=unusable)
        listing.require_faces(path, split)
    gathering.close(pictures)
    return listing


def _box(row: Mapping[str, str]) -> Box | None:
    """Return left, top, width and height.

    The box covers the columns face_x to face_x + face_width and the rows face_y to face_y + face_height.
    """
    left, top, width, height = (_number(row[name]) for name in ("face_x", "face_y", "face_width", "face_height"))
    if left is None or top is None or width is None or height is None:
        return None
    return left, top, width, height


def _number(text: str) -> float | None:
    """Return a finite number, or None for NULL and anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------------- 2021 release

LARGEST_ANNOTATION = 4096
"""Largest size of an annotation in bytes; a file of one value has about 130."""


def _is_2021(path: Path) -> bool:
    return any(
        at(path, f"{part}/{kind}").is_dir() for part in ("train_set", "val_set") for kind in ("images", "annotations")
    )


def _read_2021(base: Path, settings: DomainSettings) -> Listing:
    """Read crops of 224×224 pixels, with one npy file of one value per image."""
    listing = Listing(about={"test": TEST_IS_VALIDATION})
    labelling, reasons = Labelling(listing, label_map(NATIVE, settings)), _reasons(settings)
    for part, split in (("train_set", "train"), ("val_set", "test")):
        pictures, annotations = at(base, f"{part}/images"), at(base, f"{part}/annotations")
        for needed in (pictures, annotations):
            if not needed.is_dir():
                raise BenchError(
                    f"{needed}: this folder is missing. AffectNet of 2021 has images and annotations in train_set and "
                    f"in val_set{unpack_first(base, base)}"
                )
        ending = "_exp.npy"
        annotated = {entry.name[: -len(ending)]: entry.path for entry in entries(annotations, base, ending)}
        for image in images(pictures, base, listing.passed_over):
            annotation = annotated.pop(image.stem, None)
            if annotation is None:
                what = f"is missing, so {image.name} lacks a label and is left out"
                listing.faults.append(Fault("missing", str(annotations / f"{image.stem}{ending}"), what))
                continue
            try:
                native = str(annotation_label(annotation))
            except BenchError as error:
                listing.faults.append(Fault("unreadable", annotation, str(error)))
                continue
            expression = labelling.expression(native, split, annotation)
            if expression == LEFT_OUT:
                listing.dropped[reasons.get(native, native)] += 1
            else:
                listing.faces.append(Face(image.relative_to(base).as_posix(), split, expression, native, image))
        for stem in annotated:
            listing.faults.append(Fault("missing", str(pictures / f"{stem}.jpg"), "is missing, but is annotated"))
        labelling.close()
        listing.require_faces(annotations, split)
    return listing


def annotation_label(path: str) -> int:
    """Return the label in an npy file of one value.

    The value may be text, bytes, an integer or a float, with or without a dimension.

    Args:
        path: The file.

    Raises:
        BenchError: The file cannot be read or has another content.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_ANNOTATION + 1)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    text = _value(content)
    if text is None:
        raise BenchError(f"{path}: this is not an npy file with one value. Unpack this file of AffectNet again")
    return whole_number(text, 0, LARGEST_LABEL, path, "the expression")


@lru_cache(maxsize=256)
def _value(content: bytes) -> str | None:
    """Return the one value of an npy file as text, or None where the file has another content.

    A release has one content per label, so hundreds of thousands of files cost as many look-ups.
    """
    from io import BytesIO

    import numpy as np

    if len(content) > LARGEST_ANNOTATION or not content.startswith(b"\x93NUMPY"):
        return None
    try:
        array = np.load(BytesIO(content), allow_pickle=False)
        value = array.item()
        return value.decode() if isinstance(value, bytes) else str(value)
    except Exception:  # a damaged header makes numpy raise whatever Python's own parser raises
        return None


# -------------------------------------------------------------------------------------------------------- class folders

TOPS = (".", "full_res", "seven_emotions")
"""Folders that may lie between a copy and its train and val; links in them may lead to the images next to them."""


def _top(path: Path, native: bool) -> Path | None:
    """Return the folder that contains train and val, or other splits, with class folders in them."""
    names = (NATIVE,) if native else ()
    tops = (at(path, top) for top in TOPS)
    return next((top for top in tops if has_split_classes(top, path, *names)), None)


def _is_train_test(path: Path) -> bool:
    top = _top(path, native=False)
    parts = {} if top is None else split_folders(top, path)
    return "test" in parts and "val" not in parts


def _read_train_test(base: Path, settings: DomainSettings) -> Listing:
    listing = _read_parts(base, settings, native=False, scored="test")
    listing.notes.append("This pack from Kaggle has a split of its own: its scores are not AffectNet's.")
    listing.about["test"] = "the pack's own split, not the owner's"
    return listing


def _read_parts(base: Path, settings: DomainSettings, native: bool, scored: str = "val") -> Listing:
    """Read class folders below train and another part; `native` means that folders are named by AffectNet's numbers."""
    top = _top(base, native)
    assert top is not None
    parts = split_folders(top, base)
    for needed in ("train", scored):
        if needed not in parts:
            raise BenchError(
                f"{top}: {needed} with class folders is missing; found "
                f"{', '.join(part.name for part in parts.values())}. "
                f"AffectNet needs train and val, and val is scored, because its owner did not publish a test set"
            )
    listing = Listing(about={"test": TEST_IS_VALIDATION})
    report_others(top, base, parts.values(), listing)
    splits = {"train": "train", scored: "test"}
    if "val" in parts and "test" in parts:
        splits = {split: split for split in parts}
        listing.about["test"] = "this copy's own: AffectNet lacks a public test set"
        listing.notes.append(f"{parts['test']} is this copy's own test part: AffectNet lacks a public test set.")
    labels = label_map(NATIVE if native else {}, settings)
    for part, split in splits.items():
        if native:
            _require_zero(parts[part], base, settings)
        listing.faces += class_folders(parts[part], base, split, labels, listing)
    for number, reason in _reasons(settings).items():
        if (count := listing.dropped.pop(number, None)) is not None:
            listing.dropped[reason] += count
    return listing


def _require_zero(part: Path, base: Path, settings: DomainSettings) -> None:
    """Refuse numbered folders without 0, since they may count from 1, unless the settings give their meaning."""
    natives = set(filter(is_number, (folder.name for folder in folders(part, base))))
    if "0" in natives or settings.numbering is not None or natives <= set(settings.labels):
        return
    rafdb = ". RAF-DB's folders are 1 to 7, prepared as rafdb" if natives <= set(map(str, range(1, 8))) else ""
    raise BenchError(
        f"{part}: there is no class folder 0, which is AffectNet's neutral; found {spelled(natives)}{rafdb}"
        f"{next_step(natives, NATIVE)}"
    )


# ----------------------------------------------------------------------------------------- a pack that is not AffectNet


def _read_kaggle_96(base: Path, settings: DomainSettings) -> Listing:
    """Read 29,042 faces of 96×96 pixels with labels by a network, under the name of AffectNet.

    A user who names this pack by mistake would report a score that cannot be compared, so it is read only by its name.
    """
    listing = Listing(about={"labels": "by a network, not AffectNet's"})
    listing.faces += class_folders(base, base, "train", label_map({}, settings), listing)
    expressions = {face.id: face.expression for face in listing.faces}
    files, disagreeing = Files(base), 0
    for place, row in table(at(base, "labels.csv"), ("pth", "label")):
        path = files.image(inside(base, row["pth"], place))
        expression = expression_of(row["label"], settings.labels, place)
        folder = LEFT_OUT if path is None else expressions.get(path.relative_to(base).as_posix(), LEFT_OUT)
        if path is None:
            listing.faults.append(Fault("missing", place, f"{row['pth']} is not in {base}"))
        elif folder != expression:
            disagreeing += 1
            what = f"labels {row['pth']} {row['label']}; the label of its folder counts"
            listing.faults.append(Fault("label", place, what))
    listing.notes.append("A network predicted these labels: they are not AffectNet's, and neither are scores on them.")
    listing.notes.append(f"The folder gives the label; labels.csv differs for {many(disagreeing, 'face')}.")
    draw_test_split(listing, settings)
    return listing


# ---------------------------------------------------------------------------------------------------------------- lists


def _read_list(base: Path, settings: DomainSettings) -> Listing:
    """Read lines of a path and a native label, as CAFE's evaluation does; its only list has test faces."""
    listing = read_lists(base, settings, NATIVE, reasons=_reasons(settings))
    if listing.about["splits"] != "as given":
        raise BenchError(f"{base}: the split to score is unknown. Name the list, or its folders, val or test")
    splits = {face.split for face in listing.faces}
    if "test" not in splits:
        listing.faces = [replace(face, split="test") if face.split == "val" else face for face in listing.faces]
    if splits == {"train"}:
        raise BenchError(
            f"{base}: this folder has a list of training faces only. Add one whose name contains val or test"
        )
    if "train" not in splits:
        listing.notes.append("A list of training faces is missing: this domain can be a target, not a source.")
    listing.about["test"] = "as in the lists"
    return listing


DATASET = Dataset(
    name="affectnet",
    title="AffectNet-7 (manually annotated)",
    layouts=(
        Layout(
            "aff-original",
            "Manually_Annotated_Images/<number>/<name>.jpg, Manually_Annotated_file_lists/{training,validation}.csv",
            lambda path: _pictures(path) is not None or at(path, LISTS).is_dir(),
            _read_original,
        ),
        Layout(
            "aff-2021",
            "{train_set,val_set}/images/<number>.jpg, {train_set,val_set}/annotations/<number>_exp.npy",
            _is_2021,
            _read_2021,
        ),
        Layout(
            "aff-folders-native",
            "{train,val}/{0..7}/*",
            lambda path: _top(path, native=True) is not None,
            partial(_read_parts, native=True),
        ),
        Layout(
            "aff-folders-named",
            "{train,val}/{Anger,Contempt,…,Surprise}/*",
            lambda path: _top(path, native=False) is not None and not _is_train_test(path),
            partial(_read_parts, native=False),
        ),
        Layout(
            "aff-kaggle-tt",
            "{Train,Test}/{Anger,Contempt,…,Surprise}/*",
            _is_train_test,
            _read_train_test,
            official=False,
        ),
        Layout(
            "aff-kaggle-96",
            "{anger,contempt,…,surprise}/*, labels.csv: labels by a network, not the owner's split",
            lambda path: first_file(path, "labels.csv") is not None and has_classes(path, path),
            _read_kaggle_96,
            official=False,
            asked_only=True,
        ),
        Layout(
            "list-file",
            "*{train,val,test}*.txt with lines such as `689/737db2.jpg 3`",
            lambda path: bool(lists_in(path)),
            _read_list,
            uses=("images", "columns", "subject"),
        ),
    ),
    request=(
        "A lab manager or professor signs the licence at mohammadmahoor.com/affectnet; it is for research only, and "
        "students ask through their supervisor."
    ),
    expected={
        "train": {
            "surprise": 14_090,
            "fear": 6_378,
            "disgust": 3_803,
            "happiness": 134_415,
            "sadness": 25_459,
            "anger": 24_882,
            "neutral": 74_874,
        },
        "test": dict.fromkeys(("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), 500),
    },
)
