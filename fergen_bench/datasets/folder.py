"""Read any dataset of class folders, with or without train, val and test above them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.class_folders import SPLITS, class_folders, has_classes, split_class_folders
from fergen_bench.datasets.files import folders
from fergen_bench.datasets.numbering import label_map
from fergen_bench.datasets.reader import Dataset, Face, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split, subject_of
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fergen_bench.datasets.settings import DomainSettings


def _splits(folder: Path) -> list[Path]:
    return [part for part in folders(folder, folder) if part.name.casefold() in SPLITS]


def _only_wraps(folder: Path) -> bool:
    """Return True where the only subfolder contains the classes or splits, as archives unpack."""
    inner = folders(folder, folder)
    return len(inner) == 1 and bool(has_classes(inner[0], folder) or _splits(inner[0]) or _only_wraps(inner[0]))


def _read_given(base: Path, settings: DomainSettings) -> Listing:
    """Read class folders in split folders; another folder there is refused, since it may be a class."""
    parts = _splits(base)
    if other := next((folder for folder in folders(base, base) if folder not in parts), None):
        raise BenchError(
            f"{other}: this folder lies next to {parts[0].name}, but is not a split; expected only train, val and test "
            f"there"
        )
    listing = Listing(about={"splits": "as given"})
    return _filled(listing, split_class_folders(base, label_map({}, settings), listing), base, settings)


def _read_unsplit(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing()
    found = class_folders(base, base, "train", label_map({}, settings), listing)
    draw_test_split(_filled(listing, found, base, settings), settings)
    return listing


def _filled(listing: Listing, found: Iterable[Face], base: Path, settings: DomainSettings) -> Listing:
    for face in found:
        subject = subject_of(face.id.rpartition("/")[2], settings.subject, str(face.file))
        listing.faces.append(face if subject is None else replace(face, subject=subject))
    if not listing.faces:
        raise BenchError(
            f"{base}: class folders are missing; expected {', '.join(EXPRESSIONS)} (or usual names for them), alone or "
            f"under train and test"
        )
    return listing


DATASET = Dataset(
    name="folder",
    title="class folders",
    layouts=(
        Layout(
            "split-folders",
            "{train,val,test}/{surprise,fear,disgust,happiness,sadness,anger,neutral}/* (or usual names for them)",
            lambda path: bool(_splits(path)),
            _read_given,
            uses=("subject",),
        ),
        Layout(
            "class-folders",
            "{surprise,fear,disgust,happiness,sadness,anger,neutral}/* (or usual names for them)",
            lambda path: path.is_dir() and not _splits(path) and not _only_wraps(path),
            _read_unsplit,
            official=False,
            uses=("subject",),
        ),
    ),
)
