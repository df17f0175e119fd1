"""Read any dataset with a csv file: a row for each face, with columns for the image, its label and more."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.class_folders import SPLITS
from fergen_bench.datasets.fer2013 import PARTS
from fergen_bench.datasets.files import entries, image_root, inside
from fergen_bench.datasets.gathering import Gathering
from fergen_bench.datasets.numbering import label_map
from fergen_bench.datasets.reader import Box, Dataset, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split, subject_of
from fergen_bench.datasets.text_files import table
from fergen_bench.error import BenchError, NeedsKey, did_you_mean

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

BOX, CORNERS = ("left", "top", "width", "height"), ("left", "top", "right", "bottom")
USUAL: Mapping[str, tuple[str, ...]] = {
    "image": ("image", "file", "path", "filename", "file_name", "filepath", "file_path", "image_path", "image_name"),
    "label": ("label", "emotion", "expression"),
    "split": ("split", "usage"),
    "subject": ("subject", "subject_id", "person"),
    **{side: (side,) for side in dict.fromkeys((*BOX, *CORNERS))},
}
"""Role of a column → its usual names, in lower case."""
SPLIT_VALUES: Mapping[str, str] = {**SPLITS, **PARTS}


def _tables(path: Path) -> list[Path]:
    """Return the csv files in a folder, or the one that the path names."""
    if path.is_file():
        return [path] if path.suffix.lower() == ".csv" else []
    return [Path(e.path) for e in entries(path, path) if e.is_file() and e.name.lower().endswith(".csv")]


def _columns(path: Path, chosen: Mapping[str, str]) -> dict[str, str]:
    """Return role → column name, from the settings and from the usual names."""
    for role in chosen:
        if role not in USUAL:
            raise BenchError(f"columns: {role!r} is not a role of a column{did_you_mean(role, USUAL)}")
    first = next(table(path, ()), None)
    if first is None:
        raise BenchError(f"{path}: the first line is the only one; expected a row for each face")
    _, row = first
    there = {name.casefold(): name for name in row}
    found: dict[str, str] = {}
    for role, usual in USUAL.items():
        names = (chosen[role].strip().casefold(),) if role in chosen else usual
        name = next((there[name] for name in names if name in there), None)
        if name is not None:
            found[role] = name
        elif role in chosen or role in {"image", "label"}:
            if len(row) == 1:
                next(table(path, (role,)))  # raises where the delimiter is another one
            raise NeedsKey(
                f"{path}: no column is named {chosen.get(role, ' or '.join(usual[:3]))}; found "
                f"{', '.join(row)[:80]!r}. Name the column of the {role} with",
                f'columns = {{ {role} = "…" }}',
                f"--columns {role}=…",
            )
    sides = next((sides for sides in (BOX, CORNERS) if set(sides) <= set(found)), ())
    if not sides and (half := [side for side in (*BOX, *CORNERS) if side in chosen]):
        missing = ", ".join(
            side for side in (CORNERS if {"right", "bottom"} & set(chosen) else BOX) if side not in found
        )
        raise BenchError(f"{path}: a box needs four columns, and {half[0]} lacks {missing}. Name all four")
    found = {role: name for role, name in found.items() if role in sides or role not in {*BOX, *CORNERS}}
    return found


def _read(base: Path, settings: DomainSettings) -> Listing:
    """Read the rows of a csv; an image with several boxes yields several faces."""
    path, *others = _tables(base)
    if others:
        raise BenchError(
            f"{base}: this folder has {len(others) + 1} csv files, such as {path.name}. Name the one that is meant"
        )
    columns = _columns(path, settings.columns)
    if "subject" in columns and settings.subject is not None:
        fault = f"{path}: subject has no effect: the column {columns['subject']} gives the subjects."
        raise NeedsKey(fault, "Remove subject = …", "Remove --subject")
    root = image_root(settings, path.parent, path.name)
    listing = Listing(about={"splits": "as given"})
    gathering = Gathering(listing, root, label_map({}, settings))
    boxes_of: dict[Path, dict[Box | None, int | None]] = {}
    for place, row in table(path, list(columns.values())):
        image = inside(root, row[columns["image"]], place, movable=True)
        split = _split(row[columns["split"]], place) if "split" in columns else "train"
        box = _box(row, columns, place) if BOX[0] in columns else None
        boxes = boxes_of.setdefault(image, {})
        number = boxes.setdefault(box, len(boxes) + 1 if boxes else None)
        subject = row[columns["subject"]] if "subject" in columns else subject_of(image.name, settings.subject, place)
        native = row[columns["label"]]
        gathering.add(place, image, native, split, number=number, box=box, subject=subject or None)
    gathering.close()
    listing.require_faces(path)
    if "split" not in columns:
        draw_test_split(listing, settings)
    elif not {"train", "test"} & {face.split for face in listing.faces}:
        raise BenchError(f"{path}: the column {columns['split']} has val in every row; expected train or test too")
    return listing


def _split(text: str, place: str) -> str:
    if (value := text.casefold()) in SPLIT_VALUES:
        return SPLIT_VALUES[value]
    raise BenchError(f"{place}: {text[:40]!r} is not a split; expected train, val or test")


def _box(row: Mapping[str, str], columns: Mapping[str, str], place: str) -> Box:
    numbers = []
    for side in BOX if "width" in columns else CORNERS:
        try:
            number = float(row[columns[side]])
        except ValueError:
            number = math.nan
        if not math.isfinite(number) or (side in {"width", "height"} and number <= 0):
            raise BenchError(f"{place}: {columns[side]} is {row[columns[side]][:40]!r}; expected a number of pixels")
        numbers.append(number)
    left, top, across, down = numbers
    if "width" in columns:
        return left, top, across, down
    if across <= left or down <= top:
        raise BenchError(
            f"{place}: the box ends at {across:g}, {down:g} before it begins at {left:g}, {top:g}. Write it as left, "
            f"top, right, bottom"
        )
    return left, top, across - left, down - top


DATASET = Dataset(
    name="csv",
    title="a csv file",
    layouts=(
        Layout(
            "csv",
            "a csv file with a first line such as image,label,split",
            lambda path: bool(_tables(path)),
            _read,
            uses=("images", "columns", "subject"),
        ),
    ),
)
