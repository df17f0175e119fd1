"""Read FER2013: 35,887 faces of 48 × 48 grey pixels in one csv, or in class folders with the part in the file name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.class_folders import has_split_classes, split_class_folders, split_folders
from fergen_bench.datasets.files import first_file
from fergen_bench.datasets.gathering import Labelling
from fergen_bench.datasets.numbering import LEFT_OUT, label_map
from fergen_bench.datasets.reader import Dataset, Face, Fault, Layout, Listing
from fergen_bench.datasets.text_files import table
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

SIDE = 48
LEVELS = {str(level): level for level in range(256)}
"""Text → grey level. A look-up takes two thirds of the time of int(), for 83 million levels."""
NATIVE = {"0": "anger", "1": "disgust", "2": "fear", "3": "happiness", "4": "sadness", "5": "surprise", "6": "neutral"}
PARTS: Mapping[str, str] = {"training": "train", "publictest": "val", "privatetest": "test"}
"""The owner's part, in lower case → split."""
TABLES = ("fer2013.csv", "icml_face_data.csv")
PART_IN_NAME = re.compile(r"^(Training|PublicTest|PrivateTest)_\d+", re.IGNORECASE)
A_TEST_PART = 3_589
"""Number of faces of PublicTest, and of PrivateTest; a folder with more contains both."""


def split_of(usage: str, place: str) -> str:
    """Return the split of a part in the column Usage; `place` is the file and line."""
    if (part := usage.strip().casefold()) in PARTS:
        return PARTS[part]
    raise BenchError(f"{place}: Usage is {usage[:40]!r}; expected Training, PublicTest or PrivateTest")


def pixels_of(text: str, place: str) -> bytes:
    """Return a square of grey levels, row by row.

    Args:
        text: 2,304 numbers from 0 to 255, separated by blanks.
        place: The file and line, for the error.

    Raises:
        BenchError: The text is something else.
    """
    try:
        pixels = bytes(map(LEVELS.__getitem__, text.split()))
    except KeyError:
        pixels = b""
    if len(pixels) != SIDE * SIDE:
        raise BenchError(
            f"{place}: pixels must be {SIDE * SIDE:,} whole numbers from 0 to 255 with blanks between them; found "
            f"{len(text.split()):,} that begin {text[:20]!r}"
        )
    return pixels


def image_table(path: Path) -> Path | None:
    """Return the csv of pixels in a folder, or the one that the path names, or None.

    The csv is fer2013.csv, or else icml_face_data.csv, which has the same columns.
    """
    if path.is_file():
        return path if path.name.casefold() in TABLES else None
    return first_file(path, *TABLES)


def image_rows(path: Path, needed: Sequence[str] = ()) -> Iterator[tuple[str, dict[str, str], str, bytes]]:
    """Yield (file:line, row, split, pixels) of the csv of pixels, one row at a time.

    Args:
        path: The csv.
        needed: Columns that it must have besides pixels and Usage.
    """
    for place, row in table(path, ("pixels", "Usage", *needed)):
        yield place, row, split_of(row["Usage"], place), pixels_of(row["pixels"], place)


def _read_csv(base: Path, settings: DomainSettings) -> Listing:
    """Read the csv; the id of a face is its row, because FER2013 does not have names."""
    path = image_table(base)
    assert path is not None
    listing = Listing()
    labelling = Labelling(listing, label_map(NATIVE, settings))
    for number, (place, row, split, pixels) in enumerate(image_rows(path, ["emotion"])):
        native = row["emotion"]
        expression = labelling.expression(native, split, place)
        if expression == LEFT_OUT:
            listing.dropped[native] += 1
        else:
            listing.faces.append(Face(f"row{number:05d}", split, expression, native, pixels=pixels))
    labelling.close()
    listing.require_faces(path)
    return listing


def _read_folders(base: Path, settings: DomainSettings) -> Listing:
    """Read class folders.

    The part in a file name counts where there is one, because packs with only train and test merge two parts.
    """
    listing = Listing()
    moved: Counter[tuple[str, str]] = Counter()
    unnamed = 0
    undivided = _undivided_test(base)
    seen: dict[str, str] = {}
    for face in split_class_folders(base, label_map({}, settings), listing):
        name = face.id.rpartition("/")[2]
        if (part := PART_IN_NAME.match(name)) is None:
            unnamed += 1
            listing.faces.append(face)
            continue
        own = PARTS[part[1].casefold()]
        moved[face.split, own] += own != face.split
        if (other := seen.setdefault(name, face.id)) != face.id:
            listing.faults.append(Fault("duplicate", face.id, f"the same name is at {other}; one of them is a copy"))
        listing.faces.append(replace(face, split=own))
    for (folder, own), count in sorted(moved.items()):
        if count:
            faces = many(count, f"face of the folder {folder}", "are")
            listing.notes.append(f"{faces} taken as {own}, by their file names.")
    if unnamed:
        tested = sum(face.split == "test" for face in listing.faces)
        contains = "contains" if tested > A_TEST_PART else "may contain"
        merged = f", and {undivided.name} {contains} both of its test parts" if undivided else ""
        listing.notes.append(
            f"{many(unnamed, 'name', 'do', of=len(listing.faces))} not begin with FER2013's part (Training_, "
            f"PublicTest_, PrivateTest_), so the folder decides the split{merged}."
        )
    return listing


def _undivided_test(base: Path) -> Path | None:
    """Return the folder test where it is the only test folder, since it then contains both of the owner's parts."""
    parts = split_folders(base, base)
    test = parts.get("test")
    return test if test is not None and "val" not in parts and test.name.casefold() not in PARTS else None


DATASET = Dataset(
    name="fer2013",
    title="FER2013",
    layouts=(
        Layout(
            "fer2013-csv",
            "fer2013.csv or icml_face_data.csv: emotion, pixels, Usage",
            lambda path: image_table(path) is not None,
            _read_csv,
            roots=("*/*",),
        ),
        Layout(
            "fer2013-folders",
            "{train,validation,test} or {Training,PublicTest,PrivateTest}/{angry,…,surprise}/*.jpg",
            lambda path: has_split_classes(path, path),
            _read_folders,
        ),
    ),
    request="Kaggle, competition “Challenges in Representation Learning: Facial Expression Recognition Challenge”.",
    expected={
        "train": {
            "surprise": 3171,
            "fear": 4097,
            "disgust": 436,
            "happiness": 7215,
            "sadness": 4830,
            "anger": 3995,
            "neutral": 4965,
        },
        "val": {
            "surprise": 415,
            "fear": 496,
            "disgust": 56,
            "happiness": 895,
            "sadness": 653,
            "anger": 467,
            "neutral": 607,
        },
        "test": {
            "surprise": 416,
            "fear": 528,
            "disgust": 55,
            "happiness": 879,
            "sadness": 594,
            "anger": 491,
            "neutral": 626,
        },
    },
)
