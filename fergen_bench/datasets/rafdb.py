"""Read RAF-DB, basic expressions (Li, Deng, Du, CVPR 2017).

RAF-DB has 15,339 aligned faces of 100×100 pixels and lacks a validation split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fergen_bench.datasets.boxes import with_box
from fergen_bench.datasets.class_folders import CLASSES, SPLITS, has_split_classes, split_class_folders
from fergen_bench.datasets.columns import labelled_lines
from fergen_bench.datasets.files import Files, at, entries, first_file, folders, images
from fergen_bench.datasets.gathering import Gathering, expression_of
from fergen_bench.datasets.list_files import lists_in
from fergen_bench.datasets.numbering import LEFT_OUT, label_map
from fergen_bench.datasets.reader import Dataset, Face, Fault, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split
from fergen_bench.datasets.text_files import first_line, table
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

LABELS = {"1": "surprise", "2": "fear", "3": "disgust", "4": "happiness", "5": "sadness", "6": "anger", "7": "neutral"}
FROM_ZERO = {
    "0": "surprise",
    "1": "fear",
    "2": "disgust",
    "3": "happiness",
    "4": "sadness",
    "5": "anger",
    "6": "neutral",
}
ROOTS = ("RAF_DB/RAF_DB/basic", "raf-basic", "RAF/basic")
ALIGNED, ORIGINAL = "Image/aligned", "Image/original"
LIST = "list_patition_label.txt"  # the owner's spelling
NAME = re.compile(r"(train|test)_\d+(_aligned)?", re.IGNORECASE)
SUFFIX = re.compile(r".*_([0-7])", re.IGNORECASE)

# ----------------------------------------------------------------------------------------- lists of `train_00001.jpg 5`


def _lists(base: Path, *names: str, columns: int = 2) -> list[Path]:
    """Return the owner's lists, in EmoLabel or next to it.

    Lists with three columns in their first line are another layout than lists with any other number of columns.
    """
    found = (first_file(base, f"EmoLabel/{name}", name) for name in names or (LIST,))
    return [path for path in found if path is not None and _fits_columns(path, columns)]


def _fits_columns(path: Path, columns: int) -> bool:
    found = len(first_line(path).split())
    return found > 1 and (found == 3) == (columns == 3)


def _aligned(base: Path) -> bool:
    return at(base, ALIGNED).is_dir()


def _read_rows(
    lists: Sequence[Path],
    listing: Listing,
    gathering: Gathering,
    image_of: Callable[[str], Path],
    settings: DomainSettings,
) -> None:
    """Add the faces of lines `train_00001.jpg 5`.

    Args:
        lists: The lists.
        listing: The listing.
        gathering: Receives the faces.
        image_of: Returns the path of an image, given the owner's name without `_aligned`.
        settings: The choices of the user.
    """
    lines, column = labelled_lines(lists, listing.labels, settings)
    if column is not None:
        listing.notes.append(column)
    for _, place, name, native in lines:
        stem = PurePosixPath(name.replace("\\", "/")).stem
        if (match := NAME.fullmatch(stem)) is None:
            raise BenchError(f"{place}: {name!r} is not a name of RAF-DB; expected one like train_00001 or test_0001")
        gathering.add(place, image_of(stem.removesuffix("_aligned")), native, match[1].lower())


SPLIT_LISTS = ("list_train_label.txt", "list_test_label.txt")


def _fits_lists(base: Path, names: tuple[str, ...] = (), columns: int = 2) -> bool:
    return _aligned(base) and bool(_lists(base, *names, columns=columns))


def _read_lists(base: Path, settings: DomainSettings, names: tuple[str, ...] = (), columns: int = 2) -> Listing:
    """Read lists of images in Image/aligned. A file that is missing or not listed is a fault."""
    listing, folder = Listing(), at(base, ALIGNED)
    gathering = Gathering(listing, base, label_map(LABELS, settings))
    lists = _lists(base, *names, columns=columns)
    _read_rows(lists, listing, gathering, lambda stem: folder / f"{stem}_aligned.jpg", settings)
    gathering.close(folder)
    return listing


def _read_original(base: Path, settings: DomainSettings) -> Listing:
    """Read whole photographs, or faces where the pack has boxes, Annotation/boundingbox/train_00001.txt.

    The boxes are not the owner's: users of the dataset made them with a detector (CD-FER-Benchmark#22).
    """
    listing, files = Listing(), Files(base)
    folder, boxes = at(base, ORIGINAL), at(base, "Annotation/boundingbox")
    gathering = Gathering(listing, base, label_map(LABELS, settings))
    _read_rows(_lists(base), listing, gathering, lambda stem: folder / f"{stem}.jpg", settings)
    gathering.close(folder)
    if not any(NAME.fullmatch(Path(entry.name).stem) for entry in entries(boxes, base, ".txt")):
        listing.notes.append("Image/original has whole photographs, and face boxes are missing: faces are not cropped.")
        return listing
    box_file = {face.id: boxes / f"{PurePosixPath(face.id).stem}.txt" for face in listing.faces}
    boxed = [face for face in listing.faces if files.has(box_file[face.id])]
    listing.dropped += Counter({"no face box": len(listing.faces) - len(boxed)})  # drops a count of 0
    listing.faces = [found for face in boxed for found in with_box(face, box_file[face.id], listing)]
    listing.notes.append("Faces are cut out with the boxes in Annotation/boundingbox, which are not the owner's.")
    return listing


# ------------------------------------------------------------------------------------ lists whose paths are others' own


def _by_name(base: Path) -> dict[str, Path]:
    """Return name → image for images below a base with a name of the owner's; an image in two folders is refused."""
    found: dict[str, Path] = {}
    for image in images(base, base):
        name = _lower_ending(image.name)
        if NAME.fullmatch(image.stem) and (other := found.setdefault(name, image)) != image:
            raise BenchError(f"{image}: this face is in {other.parent} too. Name a folder that has each face once")
    return found


def _numbering(natives: set[str], settings: DomainSettings, place: Path, listing: Listing) -> Mapping[str, str]:
    """Return the meaning of numbers: 0..6 where there is a 0 and no 7, 1..7 where there is a 7 and no 0."""
    if natives <= set(settings.labels) or settings.numbering is not None:
        return label_map(LABELS, settings)
    zero, seven = "0" in natives, "7" in natives
    if zero == seven:
        have = "both 0 and 7 are" if zero else "neither 0 nor 7 is"
        raise BenchError(
            f"{place}: {have} among the labels, so they may count from 0 or from 1. Set numbering to 0-based or to "
            f"1-based, or labels to the meaning of every one of {', '.join(sorted(natives))} (options of data "
            f"prepare, keys of bench.toml)"
        )
    listing.about["labels"] = "0..6" if zero else "1..7"
    return label_map(FROM_ZERO if zero else LABELS, settings)


def _is_path_line(line: str) -> bool:
    name, _, label = line.rpartition(" ")
    stem = PurePosixPath(name.replace("\\", "/")).stem
    return label.strip().isdigit() and stem.endswith("_aligned") and NAME.fullmatch(stem) is not None


def _path_lists(base: Path) -> list[Path]:
    return [*lists_in(base, _is_path_line), *lists_in(at(base, "EmoLabel"), _is_path_line)]


def _anywhere(root: Path) -> Callable[[str], Path]:
    """Return a function from the owner's name to its aligned image, in any folder below root."""
    found = _by_name(root)
    return lambda stem: found.get(f"{stem}_aligned.jpg", root / f"{stem}_aligned.jpg")


def _read_path_list(base: Path, settings: DomainSettings) -> Listing:
    """Read lists such as `/home/…/train_00001_aligned.jpg 4`.

    The folders are another machine's; only the file name counts.
    """
    lists = _path_lists(base)
    root = settings.images or (base.parent if base.is_file() else base)
    listing = Listing(about={"lists": [path.name for path in lists]})
    lines, _ = labelled_lines(lists, label_map({**FROM_ZERO, **LABELS}, settings), settings)
    labels = _numbering({line.native for line in lines}, settings, lists[0], listing)
    gathering = Gathering(listing, root, labels)
    _read_rows(lists, listing, gathering, _anywhere(root), settings)
    gathering.close()
    return listing


def _is_flat(base: Path) -> bool:
    if _aligned(base) or not _lists(base):
        return False
    parts = [part for root in (".", "raf-db") for part in folders(at(base, root), base)]
    places = [part for part in parts if part.name.casefold() in SPLITS]
    return any(NAME.fullmatch(Path(entry.name).stem) for place in places for entry in entries(place, base))


def _read_flat(base: Path, settings: DomainSettings) -> Listing:
    """Read images in flat folders train and valid, with labels and splits from the owner's list."""
    listing = Listing(
        notes=["Such copies are often aligned again, which changes published accuracies by up to ten points."]
    )
    gathering = Gathering(listing, base, label_map(LABELS, settings))
    _read_rows(_lists(base), listing, gathering, _anywhere(base), settings)
    gathering.close(base)
    return listing


# -------------------------------------------------------------------------------------------------------- class folders


def _owner_split(name: str) -> str | None:
    match = re.match(r"(train|test)_\d", name.rpartition("/")[2], re.IGNORECASE)
    return match[1].lower() if match else None


def _in_class_folders(base: Path, settings: DomainSettings, listing: Listing) -> list[Face]:
    """Return faces of {split}/{class}/. RAF-DB has only a test split, so val is test where test is missing."""
    names = {folder.name.casefold() for folder in folders(base, base)}
    splits = SPLITS
    if not any(SPLITS.get(name) == "test" for name in names):
        splits = {name: "test" if split == "val" else split for name, split in SPLITS.items()}
        listing.notes.append(
            "A folder test is missing; RAF-DB does not have a validation split, so val is its test split."
        )
    faces = list(split_class_folders(base, label_map(LABELS, settings), listing, splits))
    for face in faces:
        if (owner := _owner_split(face.id)) not in (None, face.split):
            what = f"{face.file} is of the owner's {owner} split, but lies in {face.split}."
            listing.faults.append(Fault("extra", face.id, what))
    if faces and not any(_owner_split(face.id) for face in faces):
        listing.notes.append("The file names do not show if these splits are the owner's.")
    if any(face.split == "val" for face in faces):
        listing.notes.append("RAF-DB does not have a validation split; the one here is not the owner's.")
    return faces


def _read_folders(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing()
    listing.faces = _in_class_folders(base, settings, listing)
    return listing


def _read_kaggle(base: Path, settings: DomainSettings) -> Listing:
    """Read DATASET/{train,test}/{1..7}/ with train_labels.csv and test_labels.csv.

    The labels of the csv files may differ from those of the folders.
    """
    listing = _read_folders(at(base, "DATASET"), settings)
    labels = label_map(LABELS, settings)
    for split in ("train", "test"):
        path = first_file(base, f"{split}_labels.csv")
        if path is None:
            listing.notes.append(f"{split}_labels.csv is missing; the labels are those of the folders.")
            continue
        faces = {_lower_ending(face.id.rpartition("/")[2]): face for face in listing.faces if face.split == split}
        named: set[str] = set()
        for place, row in table(path, ["label"]):
            name = PurePosixPath(row.get("image") or next((row[key] for key in row if key != "label"), "")).name
            expression = expression_of(row["label"], labels, place)
            named.add(_lower_ending(name))
            if (face := faces.get(_lower_ending(name))) is None:
                if expression != LEFT_OUT:
                    listing.faults.append(Fault("missing", place, f"{name} is listed, but is not in DATASET/{split}."))
            elif face.expression != expression:
                what = f"{name} is {expression} here and {face.expression} by its folder. The folder counts."
                listing.faults.append(Fault("label", place, what))
        listing.faults += [
            Fault("extra", face.id, f"{face.file} exists, but {path.name} does not name it.")
            for name, face in faces.items()
            if name not in named
        ]
    return listing


def _lower_ending(name: str) -> str:
    """Return a file name with its ending in lower case."""
    path = PurePosixPath(name)
    return path.stem + path.suffix.lower()


def _is_split(base: Path) -> bool:
    return has_split_classes(base, base, CLASSES | LABELS.keys())


# --------------------------------------------------------------------------------------------------- labels in the name


def _has_suffixes(base: Path) -> bool:
    names = [Path(entry.name).stem for entry in entries(base, base, ".jpg")]
    return bool(names) and all(map(SUFFIX.fullmatch, names))


def _read_suffix(base: Path, settings: DomainSettings) -> Listing:
    """Read images such as img001_4.jpg, whose names contain the label."""
    found = [(Path(entry.path), SUFFIX.fullmatch(Path(entry.name).stem)) for entry in entries(base, base, ".jpg")]
    return _without_splits([(str(path), path, match[1]) for path, match in found if match], base, base, settings)


def _read_labels_file(base: Path, settings: DomainSettings) -> Listing:
    """Read images/ and labels.txt with lines `name label`."""
    path, folder = at(base, "labels.txt"), at(base, "images")
    rows = [
        (place, folder / PurePosixPath(name.replace("\\", "/")).name, native)
        for _, place, name, native in labelled_lines([path], label_map({**FROM_ZERO, **LABELS}, settings), settings)[0]
    ]
    return _without_splits(rows, folder, path, settings)


def _without_splits(rows: list[tuple[str, Path, str]], folder: Path, source: Path, settings: DomainSettings) -> Listing:
    """Return a listing of (place, image, native label) rows. A split is drawn unless all names contain the owner's."""
    listing = Listing()
    gathering = Gathering(listing, folder, _numbering({row[2] for row in rows}, settings, source, listing))
    for place, image, native in rows:
        gathering.add(place, image, native, _owner_split(image.name) or "")
    gathering.close(folder)
    if not all(face.split for face in listing.faces):
        draw_test_split(listing, settings)
        listing.notes.append(f"The splits are unknown; {settings.test_share:g} of each expression is the test split.")
    return listing


DATASET = Dataset(
    name="rafdb",
    title="RAF-DB",
    layouts=(
        Layout(
            "raf-official",
            f"Image/aligned/train_00001_aligned.jpg, EmoLabel/{LIST}",
            _fits_lists,
            _read_lists,
            roots=ROOTS,
            uses=("columns",),
            parts=(ALIGNED, f"EmoLabel/{LIST}"),
        ),
        Layout(
            "raf-split-lists",
            "Image/aligned/train_00001_aligned.jpg, EmoLabel/list_train_label.txt, EmoLabel/list_test_label.txt",
            partial(_fits_lists, names=SPLIT_LISTS),
            partial(_read_lists, names=SPLIT_LISTS),
            roots=ROOTS,
            uses=("columns",),
            parts=(ALIGNED, *(f"EmoLabel/{name}" for name in SPLIT_LISTS)),
        ),
        Layout(
            "raf-adacm-list",
            f"Image/aligned/train_00001_aligned.jpg, EmoLabel/{LIST} with three columns",
            partial(_fits_lists, columns=3),
            partial(_read_lists, columns=3),
            roots=ROOTS,
            uses=("columns",),
        ),
        Layout(
            "raf-kaggle",
            "DATASET/{train,test}/{1..7}/*.jpg, train_labels.csv, test_labels.csv",
            lambda base: _is_split(at(base, "DATASET")),
            _read_kaggle,
            roots=("raf-db-dataset",),
        ),
        Layout(
            "raf-imagefolder",
            "{train,val,valid,test,train_set,val_set}/{1..7 or expression}/*.jpg",
            _is_split,
            _read_folders,
        ),
        Layout("raf-flat", f"{{train,valid}}/train_00001_aligned.jpg, {LIST}", _is_flat, _read_flat, roots=("raf-db",)),
        Layout(
            "raf-pathlist-0based",
            "*.txt with lines `/any/path/train_00001_aligned.jpg 4` (0..6), the images anywhere below",
            lambda base: bool(_path_lists(base)),
            _read_path_list,
            roots=ROOTS,
            uses=("images", "columns"),
        ),
        Layout(
            "raf-suffix", "img001_4.jpg, the label at the end of the name", _has_suffixes, _read_suffix, official=False
        ),
        Layout(
            "raf-labels",
            "images/*.jpg, labels.txt with lines `name label`",
            lambda base: first_file(base, "labels.txt") is not None and at(base, "images").is_dir(),
            _read_labels_file,
            official=False,
        ),
        Layout(
            "raf-original",
            f"Image/original/train_00001.jpg, EmoLabel/{LIST}: whole photographs",
            lambda base: at(base, ORIGINAL).is_dir() and bool(_lists(base)),
            _read_original,
            asked_only=True,
            roots=ROOTS,
            crop="whole photographs",
        ),
    ),
    request=(
        "Write from an address of your institution to the owners, who ask for non-commercial research only: "
        "http://www.whdeng.cn/RAF/model1.html"
    ),
    expected={
        "train": {
            "surprise": 1290,
            "fear": 281,
            "disgust": 717,
            "happiness": 4772,
            "sadness": 1982,
            "anger": 705,
            "neutral": 2524,
        },
        "test": {
            "surprise": 329,
            "fear": 74,
            "disgust": 160,
            "happiness": 1185,
            "sadness": 478,
            "anger": 162,
            "neutral": 680,
        },
    },
)
