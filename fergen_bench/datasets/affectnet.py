"""AffectNet, manually annotated (Mollahosseini, Hasani, Mahoor, IEEE TAC 10(1), 2019), as seven classes.

Its owner published a training and a validation set and no test set. Everybody scores the validation set, and so it is
the test split here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.reader import (
    CONTEMPT,
    LEFT_OUT,
    SPLITS,
    Box,
    Dataset,
    Face,
    Fault,
    Files,
    Layout,
    Listing,
    Once,
    class_folders,
    entries,
    expression_of,
    folders,
    images,
    inside,
    list_file,
    roots,
    table,
    whole_number,
    with_splits,
)
from fergen_bench.domain import ALIASES
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings

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
"""Native labels without a place among the seven → what their owner calls them."""
TEST_IS_VALIDATION = "the owner's validation set, which everybody scores: AffectNet has no public test set"


def _expression(native: str, settings: DomainSettings, place: str, listing: Listing) -> str:
    """The expression of a native label; one that is left out is counted."""
    expression = expression_of(
        native, {**NATIVE, **dict.fromkeys(NOT_ONE_OF_SEVEN, LEFT_OUT), **settings.labels}, place
    )
    if expression == LEFT_OUT:
        listing.dropped[NOT_ONE_OF_SEVEN.get(native, native)] += 1
    return expression


def _require_faces(listing: Listing, split: str, path: Path) -> None:
    """Refuses a list of which nothing is left."""
    if any(face.split == split for face in listing.faces):
        return
    reasons = [f"{count:,} {reason}" for reason, count in listing.dropped.items()]
    missing = [fault for fault in listing.faults if fault.kind == "missing"]
    if missing:
        reasons.append(f"{len(missing):,} missing: {missing[0].where} {missing[0].what}")
    raise BenchError(
        f"{path}: no row of it is a face that can be used ({', '.join(reasons) or 'it has none'}); see that it belongs "
        f"to the images beside it"
    )


# ----------------------------------------------------------------------------------------------------- original release

PICTURES = "Manually_Annotated_Images"
LISTS = "Manually_Annotated_file_lists"
NESTED = "Manually_Annotated"
NEEDED = ("subDirectory_filePath", "face_x", "face_y", "face_width", "face_height", "expression")
HEADER = (*NEEDED[:5], "facial_landmarks", "expression", "valence", "arousal")
UNREADABLE = "without readable numbers"
NO_BOX = "without a face box"


def _pictures(base: Path) -> Path | None:
    places = (base / PICTURES, base / NESTED / PICTURES)
    return next((place for place in places if place.is_dir()), None)


def _rows(base: Path, name: str) -> Path | None:
    """training.csv or validation.csv, also under the other name it goes by."""
    places = (base / LISTS, base, base / NESTED / LISTS, base / NESTED)
    paths = (place / file for place in places for file in (f"{name}.csv", f"Manually_{name}.csv"))
    return next((path for path in paths if path.is_file()), None)


def _find_original(path: Path) -> Path | None:
    return next((base for base in roots(path) if _pictures(base) or (base / LISTS).is_dir()), None)


def _read_original(base: Path, settings: DomainSettings) -> Listing:
    """Whole photographs with the face's box in a csv of nine columns, which may lack its first line."""
    pictures = _pictures(base)
    if pictures is None:
        raise BenchError(f"{base}: the lists of AffectNet are here, but not their images; expected {PICTURES}/")
    listing = Listing(about={"test": TEST_IS_VALIDATION})
    files, once, listed, other_ending = Files(pictures), Once(listing), set[str](), 0
    # Validation first: a face that both lists name is scored, not trained on.
    for split, name in (("test", "validation"), ("train", "training")):
        path = _rows(base, name)
        if path is None:
            raise BenchError(f"{base}: there is no {name}.csv, neither in {LISTS}/ nor beside it; AffectNet needs both")
        for place, row in table(path, NEEDED, HEADER):
            wanted = inside(pictures, row["subDirectory_filePath"], place)
            listed.add(_stem(wanted))
            labelled = _row_label(row, settings, place, listing)
            if labelled is None:
                continue
            native, expression, box = labelled
            found = files.image(wanted)
            if found is None:
                what = f"{row['subDirectory_filePath']} is not in {pictures}"
                listing.faults.append(Fault("missing", place, what))
                continue
            other_ending += found != wanted
            once.add(Face(wanted.relative_to(pictures).as_posix(), split, expression, native, found, box=box), place)
        _require_faces(listing, split, path)
    if other_ending:
        listing.notes.append(f"{other_ending:,} images have another ending than the list says, such as png for bmp.")
    listing.faults += [
        Fault("extra", str(file), "is in neither list") for file in files.images() if _stem(file) not in listed
    ]
    return listing


def _stem(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def _row_label(
    row: Mapping[str, str], settings: DomainSettings, place: str, listing: Listing
) -> tuple[str, str, Box] | None:
    """(native label, expression, box), or None where the row is no face of the seven, which is counted.

    The box is left, top, width, height: columns face_x to face_x + face_width, rows face_y to face_y + face_height.
    """
    if _number(row["expression"]) is None:
        listing.dropped[UNREADABLE] += 1
        return None
    native = str(whole_number(row["expression"], 0, 10, place, "expression"))
    expression = _expression(native, settings, place, listing)
    if expression == LEFT_OUT:
        return None
    left, top, width, height = (_number(row[name]) for name in ("face_x", "face_y", "face_width", "face_height"))
    if left is None or top is None or width is None or height is None:
        listing.dropped[UNREADABLE] += 1
        return None
    if width <= 0 or height <= 0:
        listing.dropped[NO_BOX] += 1
        return None
    return native, expression, (left, top, width, height)


def _number(text: str) -> float | None:
    """A finite number, or None for NULL and anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


# --------------------------------------------------------------------------------------------------------- 2021 release

LARGEST_ANNOTATION = 4096
"""Bytes; a file of one value has some 130."""


def _find_2021(path: Path) -> Path | None:
    parts = [(part, kind) for part in ("train_set", "val_set") for kind in ("images", "annotations")]
    return next((base for base in roots(path) if any((base / part / kind).is_dir() for part, kind in parts)), None)


def _read_2021(base: Path, settings: DomainSettings) -> Listing:
    """Crops of 224×224 with one npy file of one value per image."""
    listing = Listing(about={"test": TEST_IS_VALIDATION})
    for part, split in (("train_set", "train"), ("val_set", "test")):
        pictures, annotations = base / part / "images", base / part / "annotations"
        for needed in (pictures, annotations):
            if not needed.is_dir():
                raise BenchError(
                    f"{needed}: this folder is missing; AffectNet of 2021 has images and annotations in train_set and "
                    f"in val_set"
                )
        ending = "_exp.npy"
        annotated = {entry.name.removesuffix(ending): entry.path for entry in entries(annotations, base, ending)}
        for image in images(pictures, base):
            annotation = annotated.pop(image.stem, None)
            if annotation is None:
                what = f"is not there, so {image.name} has no label and is left out"
                listing.faults.append(Fault("missing", str(annotations / f"{image.stem}{ending}"), what))
                continue
            native = str(annotation_label(annotation))
            expression = _expression(native, settings, annotation, listing)
            if expression != LEFT_OUT:
                listing.faces.append(Face(image.relative_to(base).as_posix(), split, expression, native, image))
        for stem in annotated:
            listing.faults.append(Fault("missing", str(pictures / f"{stem}.jpg"), "is not there, but is annotated"))
        _require_faces(listing, split, annotations)
    return listing


def annotation_label(path: str) -> int:
    """The label in an npy file of one value, which may be text, bytes, an integer or a float, with or without a
    dimension.
    """
    try:
        with open(path, "rb") as file:
            content = file.read(LARGEST_ANNOTATION + 1)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    text = _value(content)
    if text is None:
        raise BenchError(f"{path}: is no npy file with one value in it; unpack this file of AffectNet again")
    return whole_number(text, 0, 7, path, "the expression")


@lru_cache(maxsize=256)
def _value(content: bytes) -> str | None:
    """The one value of an npy file as text, or None where it is none. A release has one content per label, so that
    hundreds of thousands of files cost as many look-ups.
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

NAMES = frozenset({*ALIASES, CONTEMPT})


def _top(path: Path, classes: Callable[[str], bool]) -> tuple[Path, dict[str, Path]] | None:
    """The folder that holds train and val (or the like) with class folders in them, and these by split."""
    for top in roots(path, "full_res", "seven_emotions"):
        parts: dict[str, Path] = {}
        for folder in folders(top, path):
            split = SPLITS.get(folder.name.casefold())
            if split is None or not any(classes(below.name.casefold()) for below in folders(folder, path)):
                continue
            if split in parts:
                raise BenchError(f"{folder}: {parts[split].name} stands beside it, and both mean {split}; remove one")
            parts[split] = folder
        if parts:
            return top, parts
    return None


def _of_kaggle(parts: Mapping[str, Path]) -> bool:
    return "test" in parts and "val" not in parts


def _find_native(path: Path) -> Path | None:
    return path if _top(path, NATIVE.__contains__) else None


def _find_named(path: Path) -> Path | None:
    found = _top(path, NAMES.__contains__)
    return path if found and not _of_kaggle(found[1]) else None


def _find_train_test(path: Path) -> Path | None:
    found = _top(path, NAMES.__contains__)
    return path if found and _of_kaggle(found[1]) else None


def _read_native(base: Path, settings: DomainSettings) -> Listing:
    return _read_parts(base, settings, NATIVE, "val")


def _read_named(base: Path, settings: DomainSettings) -> Listing:
    return _read_parts(base, settings, {}, "val")


def _read_train_test(base: Path, settings: DomainSettings) -> Listing:
    listing = _read_parts(base, settings, {}, "test")
    listing.notes.append("This pack from Kaggle has a split of its own: its scores are not AffectNet's.")
    listing.about["test"] = "the pack's own split, not the owner's"
    return listing


def _read_parts(base: Path, settings: DomainSettings, native: Mapping[str, str], scored: str) -> Listing:
    """Class folders below train and another part. native: the dataset's own names of class folders."""
    found = _top(base, NATIVE.__contains__ if native else NAMES.__contains__)
    if found is None:
        raise BenchError(f"{base}: there are no class folders below train and {scored}")
    top, parts = found
    for needed in ("train", scored):
        if needed not in parts:
            raise BenchError(
                f"{top}: has class folders in {', '.join(part.name for part in parts.values())}, but not in {needed}; "
                f"AffectNet is read with train and val, and val is scored, because its owner published no test set"
            )
    listing = Listing()
    if "val" not in parts or "test" not in parts:
        splits = {"train": "train", scored: "test"}
        listing.about["test"] = TEST_IS_VALIDATION
    else:
        splits = {split: split for split in parts}
        listing.about["test"] = "this copy's own: AffectNet has no public test set"
        listing.notes.append(f"{parts['test']} is this copy's own test part: AffectNet has no public test set.")
    for part, split in splits.items():
        if native and not (parts[part] / "0").is_dir():
            raise BenchError(
                f"{parts[part]}: there is no class folder 0, which is neutral; folders 1 to 7 would be RAF-DB's, not "
                f"AffectNet's"
            )
        for image, expression, label in class_folders(parts[part], base, part, {**native, **settings.labels}, listing):
            listing.faces.append(Face(image.relative_to(base).as_posix(), split, expression, label, image))
    if (contempt := listing.dropped.pop("7", None)) is not None:
        listing.dropped[CONTEMPT] += contempt
    for folder in folders(top, base):
        if folder not in parts.values():
            listing.faults.append(Fault("extra", str(folder), "is no part with class folders, and is not read"))
    return listing


# ----------------------------------------------------------------------------------------- a pack that is not AffectNet

KAGGLE_96 = "aff-kaggle-96"


def _find_kaggle_96(path: Path) -> Path | None:
    for base in roots(path):
        if (base / "labels.csv").is_file() and any(place.name.casefold() in NAMES for place in folders(base, base)):
            return base
    return None


def _read_kaggle_96(base: Path, settings: DomainSettings) -> Listing:
    """29,042 faces of 96×96 whose labels a network made, under the name of AffectNet. Whoever points at it by mistake
    would report a score that nobody can compare, so that it is read only where its name is given.
    """
    if settings.layout != KAGGLE_96:
        raise BenchError(
            f"{base}: this is a pack from Kaggle whose labels were made by a network (its folders and its labels.csv "
            f"disagree) and which has no official split: a score on it is no score on AffectNet; to read it "
            f"nevertheless, say --layout {KAGGLE_96}"
        )
    listing = Listing(about={"labels": "made by a network, not AffectNet's"})
    for image, expression, label in class_folders(base, base, "the pack", settings.labels, listing):
        listing.faces.append(Face(image.relative_to(base).as_posix(), "train", expression, label, image))
    expressions = {face.id: face.expression for face in listing.faces}
    files, disagreeing = Files(base), 0
    for place, row in table(base / "labels.csv", ("pth", "label")):
        path = inside(base, row["pth"], place)
        expression = expression_of(row["label"], settings.labels, place)
        folder = expressions.get(path.relative_to(base).as_posix(), LEFT_OUT)
        if not files.has(path):
            listing.faults.append(Fault("missing", place, f"{row['pth']} is not in {base}"))
        elif folder != expression:
            disagreeing += 1
            what = f"says {row['label']} of {row['pth']}; the folder is kept"
            listing.faults.append(Fault("label", place, what))
    listing.notes.append("A network made these labels: they are not AffectNet's, and scores on them are not either.")
    listing.notes.append(f"The folder gives the label; labels.csv says something else of {disagreeing:,} faces.")
    listing.faces = with_splits(listing.faces, settings)
    return listing


# ---------------------------------------------------------------------------------------------------------------- lists

LINE = re.compile(r"\S.*\.(jpe?g|png|bmp|tiff?|webp|gif)[\s,;|]+\S+", re.IGNORECASE)


def _lists(base: Path) -> dict[str, Path]:
    """Lists of paths and labels by split, which their names tell: sota_test7.txt."""
    found: dict[str, Path] = {}
    for path in [base] if base.is_file() else [Path(entry.path) for entry in entries(base, base, ".txt")]:
        named = re.search(r"train|val|test", path.stem.casefold())
        if named is None or not LINE.fullmatch(_first_line(path)):
            continue
        if named[0] in found:
            raise BenchError(f"{path}: {found[named[0]].name} is a list of {named[0]} too; remove or rename one")
        found[named[0]] = path
    return found


def _first_line(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.readline(4096).decode("utf-8-sig", errors="replace").strip()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None


def _find_list(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix == ".txt" and _lists(path) else None
    return next((base for base in roots(path) if _lists(base)), None)


def _read_list(base: Path, settings: DomainSettings) -> Listing:
    """Lines of a path and a native label, as CAFE's evaluation reads. Its one list has test faces only."""
    lists = _lists(base)
    if "val" in lists and "test" not in lists:
        lists["test"] = lists.pop("val")
    listing = Listing(about={"test": f"the list {lists['test'].name}" if "test" in lists else "none"})
    if "test" not in lists:
        raise BenchError(f"{base}: has a list of training faces only; AffectNet needs one whose name holds val or test")
    if "train" not in lists:
        listing.notes.append("There is no list of training faces: this domain can be a target, not a source.")
    once = Once(listing)
    for split in ("test", "val", "train"):
        if split not in lists:
            continue
        path = lists[split]
        start = settings.images or _start(path)
        files = Files(start)
        for place, name, (label,) in list_file(path):
            wanted = inside(start, name, place)
            native = str(whole_number(label, 0, 7, place, "the label"))
            expression = _expression(native, settings, place, listing)
            if expression == LEFT_OUT:
                continue
            found = files.image(wanted)
            if found is None:
                listing.faults.append(Fault("missing", place, f"{name} is not in {start}"))
                continue
            once.add(Face(wanted.relative_to(start).as_posix(), split, expression, native, found), place)
        _require_faces(listing, split, path)
    return listing


def _start(path: Path) -> Path:
    """Where the paths in a list begin: beside it, or in the folder beside it that holds the first of them."""
    place, name, _ = next(list_file(path))
    beside = path.parent
    starts = [start for start in (beside, *folders(beside, beside)) if Files(start).image(inside(start, name, place))]
    return starts[0] if starts else beside


DATASET = Dataset(
    name="affectnet",
    title="AffectNet-7 (manually annotated)",
    layouts=(
        Layout(
            "aff-original",
            "Manually_Annotated_Images/<number>/<name>.jpg, Manually_Annotated_file_lists/{training,validation}.csv",
            _find_original,
            _read_original,
        ),
        Layout(
            "aff-2021",
            "{train_set,val_set}/images/<number>.jpg, {train_set,val_set}/annotations/<number>_exp.npy",
            _find_2021,
            _read_2021,
        ),
        Layout("aff-folders-native", "{train,val}/{0..7}/*", _find_native, _read_native),
        Layout("aff-folders-named", "{train,val}/{Anger,Contempt,…,Surprise}/*", _find_named, _read_named),
        Layout(
            "aff-kaggle-tt",
            "{Train,Test}/{Anger,Contempt,…,Surprise}/*",
            _find_train_test,
            _read_train_test,
            official=False,
        ),
        Layout(
            KAGGLE_96,
            "{anger,contempt,…,surprise}/*, labels.csv (only where it is named)",
            _find_kaggle_96,
            _read_kaggle_96,
            official=False,
        ),
        Layout("list-file", "*{train,val,test}*.txt with lines such as `689/737db2.jpg 3`", _find_list, _read_list),
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
