"""The generic reader: a folder with one folder per expression, with or without train, val and test above them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.reader import (
    CONTEMPT,
    IMAGES,
    SPLITS,
    Dataset,
    Face,
    Fault,
    Layout,
    Listing,
    class_folders,
    entries,
    folders,
    with_splits,
)
from fergen_bench.domain import ALIASES, EXPRESSIONS
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings


def is_split_into_classes(folder: Path) -> bool:
    """Whether there are folders such as train/happy in it."""
    return any(
        inner.name.casefold() in ALIASES or inner.name.casefold() == CONTEMPT
        for part in folders(folder, folder)
        if part.name.lower() in SPLITS
        for inner in folders(part, folder)
    )


def split_faces(base: Path, labels: Mapping[str, str], listing: Listing) -> Iterator[tuple[Path, str, str, str]]:
    """(image, expression, native label, split) of folders like train/happy/1.jpg. A folder beside train, val and test
    that is none of them is refused; images in them that lie in no class folder are a fault.
    """
    parts = [part for part in folders(base, base) if part.name.lower() in SPLITS]
    if other := next((folder for folder in folders(base, base) if folder not in parts), None):
        raise BenchError(
            f"{other}: stands beside {parts[0].name}, but is no split; expected only train, val and test there"
        )
    if not {"train", "test"} & {SPLITS[part.name.lower()] for part in parts}:
        raise BenchError(f"{base}: has {', '.join(part.name for part in parts)} but neither train nor test")
    for part in parts:
        split = SPLITS[part.name.lower()]
        for entry in entries(part, base):
            if not entry.is_dir() and Path(entry.name).suffix.lower() in IMAGES:
                listing.faults.append(Fault("extra", f"{part.name}/{entry.name}", "this image is in no class folder"))
        for image, expression, native in class_folders(part, base, split, labels, listing):
            yield image, expression, native, split


def subject_of(name: str, pattern: str | None, place: str) -> str | None:
    """Who is shown, by the pattern of the settings in a file's name; None where there is no pattern."""
    if pattern is None:
        return None
    match = re.search(pattern, name)
    if match is None or not match[1]:
        raise BenchError(
            f"{place}: the pattern subject = {pattern!r} finds no subject in this name; it needs one (group) that "
            f"matches every name"
        )
    return match[1]


def generated_splits(settings: DomainSettings) -> str:
    """How splits came about that no owner gave, for domain.json."""
    return f"{settings.test_share:g} of each expression, seed {settings.split_seed}"


def _has_splits(folder: Path) -> bool:
    return any(part.name.lower() in SPLITS for part in folders(folder, folder))


def _read_given(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing(about={"splits": "as given"})
    for image, expression, native, split in split_faces(base, settings.labels, listing):
        listing.faces.append(_face(image, base, split, expression, native, settings))
    return _filled(listing, base)


def _read_unsplit(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing(about={"splits": generated_splits(settings)})
    for image, expression, native in class_folders(base, base, "the dataset", settings.labels, listing):
        listing.faces.append(_face(image, base, "train", expression, native, settings))
    listing.faces = with_splits(_filled(listing, base).faces, settings)
    return listing


def _face(image: Path, base: Path, split: str, expression: str, native: str, settings: DomainSettings) -> Face:
    name = image.relative_to(base).as_posix()
    subject = subject_of(image.name, settings.subject, str(image))
    return Face(name, split, expression, native, file=image, subject=subject)


def _filled(listing: Listing, base: Path) -> Listing:
    if not listing.faces:
        raise BenchError(
            f"{base}: there are no class folders; expected {', '.join(EXPRESSIONS)} (or usual names for them), alone "
            f"or under train and test"
        )
    return listing


DATASET = Dataset(
    name="folder",
    title="class folders",
    layouts=(
        Layout(
            "split-folders",
            "{train,val,test}/{surprise,fear,disgust,happiness,sadness,anger,neutral}/* (or usual names for them)",
            lambda path: path if path.is_dir() and _has_splits(path) else None,
            _read_given,
        ),
        Layout(
            "class-folders",
            "{surprise,fear,disgust,happiness,sadness,anger,neutral}/* (or usual names for them)",
            lambda path: path if path.is_dir() and not _has_splits(path) else None,
            _read_unsplit,
            official=False,
        ),
    ),
)
