"""Read images from class folders: folders named after an expression, alone or below train, val and test."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from fergen_bench.data.labels import ALIASES
from fergen_bench.datasets.files import entries, folders, images, packed
from fergen_bench.datasets.gathering import Labelling
from fergen_bench.datasets.kinds import kind_of
from fergen_bench.datasets.numbering import CONTEMPT, LEFT_OUT, Labels
from fergen_bench.datasets.reader import Face, Fault, Listing
from fergen_bench.error import BenchError
from fergen_bench.files.bounded import printable

SPLITS: Mapping[str, str] = {
    "train": "train",
    "training": "train",
    "train_set": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "val_set": "val",
    "test": "test",
    "testing": "test",
    "publictest": "val",  # FER2013's parts
    "privatetest": "test",
}
"""Folder name in lower case → split."""

CLASSES = frozenset({*ALIASES, CONTEMPT})
"""Names of class folders, in lower case, that need no map."""


def has_classes(folder: Path, root: Path, names: Collection[str] = CLASSES) -> bool:
    """Return True where a folder contains a folder whose name is a known label."""
    return any(inner.name in names or inner.name.casefold() in names for inner in folders(folder, root))


def has_split_classes(base: Path, root: Path, names: Collection[str] = CLASSES) -> bool:
    """Return True where a folder contains folders such as train/happy."""
    return any(has_classes(part, root, names) for part in folders(base, root) if part.name.casefold() in SPLITS)


def split_folders(base: Path, root: Path, splits: Mapping[str, str] = SPLITS) -> dict[str, Path]:
    """Return split → the folder of that split.

    Args:
        base: The folder to look into.
        root: The folder that the user named.
        splits: Folder name in lower case → split.

    Raises:
        BenchError: Two folders mean the same split.
    """
    found: dict[str, Path] = {}
    for folder in folders(base, root):
        if (split := splits.get(folder.name.casefold())) is not None and (
            other := found.setdefault(split, folder)
        ) != folder:
            raise BenchError(f"{folder}: {other.name} in the same folder also means {split}. Remove one of the two")
    return found


def class_folders(folder: Path, base: Path, split: str, labels: Labels, listing: Listing) -> Iterator[Face]:
    """Yield the images in the class folders of a folder.

    Contempt, and what the user leaves out, is counted as dropped. An image outside of class folders is a fault.

    Args:
        folder: The folder that contains class folders.
        base: The folder to which ids are relative.
        split: The split of the images.
        labels: Native label → expression.
        listing: Receives counts and faults.

    Raises:
        BenchError: A class folder is empty or has an unknown name.
    """
    labelling = Labelling(listing, labels)
    stray_files(folder, base, listing)
    for class_folder in folders(folder, base):
        name = class_folder.name
        found = images(class_folder, base, listing.passed_over)
        expression = labelling.expression(name, split, str(class_folder), len(found))
        if expression == LEFT_OUT:
            listing.dropped[printable(name.casefold())] += len(found)
        elif not found:
            archives = packed(class_folder, base)
            remedy = f"Unpack {archives[0]}" if archives else "Remove it if there really are none"
            raise BenchError(f"{class_folder}: this class folder does not contain images. {remedy}")
        else:
            for image in found:
                yield Face(image.relative_to(base).as_posix(), split, expression, name, image)
    labelling.close()


def split_class_folders(
    base: Path, labels: Labels, listing: Listing, splits: Mapping[str, str] = SPLITS
) -> Iterator[Face]:
    """Yield the images of folders such as train/happy.

    Args:
        base: The folder that contains the splits, to which ids are relative.
        labels: Native label → expression.
        listing: Receives counts and faults.
        splits: Folder name in lower case → train, val or test.

    Raises:
        BenchError: Both train and test are missing, or as in `split_folders` and `class_folders`.
    """
    parts = split_folders(base, base, splits)
    if not {"train", "test"} & set(parts):
        names = ", ".join(part.name for part in parts.values())
        raise BenchError(f"{base}: this folder has {names} but neither train nor test. Add one of them")
    report_others(base, base, parts.values(), listing)
    for split, part in parts.items():
        yield from class_folders(part, base, split, labels, listing)


def report_others(folder: Path, root: Path, known: Collection[Path], listing: Listing) -> None:
    """Add a fault for every subfolder and image of a folder that is not read.

    Args:
        folder: The folder.
        root: The folder that the user named.
        known: Subfolders that are read.
        listing: Receives the faults.
    """
    others = (other for other in folders(folder, root) if other not in known)
    listing.faults += (
        Fault("extra", str(other), f"{other} is not a split with class folders, and is not read.") for other in others
    )
    stray_files(folder, root, listing)


def stray_files(folder: Path, root: Path, listing: Listing) -> None:
    """Count the files in a folder that should contain folders only; an image is a fault."""
    for entry in entries(folder, root, passed_over=listing.passed_over):
        if entry.is_dir():
            continue
        if (kind := kind_of(entry.path)) == "image":
            where = Path(entry.path).relative_to(root).as_posix()
            listing.faults.append(Fault("extra", where, f"{entry.path} is outside of the class folders."))
        elif kind != "data":
            listing.passed_over.add(entry.path, kind)
