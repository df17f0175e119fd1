"""Shapes that layouts of several datasets share: class folders below split folders, and lists of `path label`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fergen_bench.datasets.reader import (
    CONTEMPT,
    IMAGES,
    LEFT_OUT,
    SPLITS,
    Face,
    Fault,
    FaultKind,
    Files,
    Layout,
    Listing,
    class_folders,
    entries,
    expression_of,
    folders,
    inside,
    list_file,
    text_of,
    with_splits,
)
from fergen_bench.domain import ALIASES
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings

Labels = Mapping[str, str]
"""native label → expression, or LEFT_OUT"""


def base_below(path: Path, roots: Iterable[str], fits: Callable[[Path], bool]) -> Path | None:
    """The folder that fits among the roots in which a dataset is unpacked, such as RAF/basic. The user may point at any
    folder on the way. Two that fit are refused.
    """
    tails = dict.fromkeys(("", *(tail for root in roots for tail in _tails(root))))
    found = [place for place in (path / tail for tail in tails) if fits(place)]
    if len(found) > 1:
        raise BenchError(f"{path}: holds the same layout twice, in {found[0]} and {found[1]}; name one of the two")
    if found and not found[0].resolve().is_relative_to(path.resolve()):
        raise BenchError(f"{found[0]}: this link leads out of {path}; put the files themselves there, or name them")
    return found[0] if found else None


def _tails(root: str) -> Iterator[str]:
    """a/b/c → a/b/c, b/c, c"""
    parts = PurePosixPath(root).parts
    for start in range(len(parts)):
        yield "/".join(parts[start:])


def has_classes(folder: Path, labels: Labels) -> bool:
    """Whether a folder holds a folder whose name is a known label."""
    known = {*labels, *ALIASES, CONTEMPT}
    return folder.is_dir() and any(
        entry.is_dir() and {entry.name, entry.name.casefold()} & known for entry in os.scandir(folder)
    )


def has_split_classes(base: Path, labels: Labels, splits: Collection[str] = SPLITS) -> bool:
    """Whether a folder holds folders of splits that hold class folders."""
    return base.is_dir() and any(
        entry.name.casefold() in splits and has_classes(Path(entry.path), labels) for entry in os.scandir(base)
    )


def split_class_folders(
    base: Path, labels: Labels, listing: Listing, splits: Mapping[str, str] = SPLITS
) -> Iterator[Face]:
    """Every image of `{split}/{class}/` below a base. splits: names of folders in lower case → train, val or test."""
    for folder in folders(base, base):
        split = splits.get(folder.name.casefold())
        if split is None:
            listing.notes.append(f"{folder} is no split, and is left out.")
            continue
        yield from classes(folder, base, split, labels, listing)


def classes(folder: Path, base: Path, split: str, labels: Labels, listing: Listing) -> Iterator[Face]:
    """Every image in the class folders of a folder."""
    for image, expression, native in class_folders(folder, base, split, labels, listing):
        yield Face(image.relative_to(base).as_posix(), split, expression, native, image)


def box_of(path: Path) -> tuple[float, float, float, float]:
    """The box in a file of `left top right bottom`, in pixels, with or without a detector's score behind (as the
    readers of CD-FER-Benchmark take it) → left, top, width, height.
    """
    try:
        left, top, right, bottom, *score = (float(word) for word in text_of(path).split())
        if len(score) <= 1 and max(map(abs, (left, top, right, bottom))) < 1e6 and left < right and top < bottom:
            return left, top, right - left, bottom - top
    except ValueError:
        pass
    raise BenchError(
        f"{path}: is no face box; expected four numbers, left top right bottom, of a box that is not empty"
    )


# ---------------------------------------------------------------------------------------------------------------- lists

_LINE = re.compile(rf"\S.*({'|'.join(re.escape(suffix) for suffix in sorted(IMAGES))})(\s+\S+)+\s*", re.IGNORECASE)


def first_line(path: Path) -> str:
    """The first line of a text file that is not blank, as far as a look at its beginning shows it."""
    with path.open("rb") as file:
        start = file.read(4096).decode("utf-8-sig", errors="replace")
    return next((line.strip() for line in start.splitlines() if line.strip()), "")


def lists_in(folder: Path, fits: Callable[[str], bool] = lambda line: _LINE.fullmatch(line) is not None) -> list[Path]:
    """Text files directly in a folder whose first line fits, by name; by default one like `a/b.jpg 3`."""
    if not folder.is_dir():
        return []
    texts = sorted(entry.name for entry in os.scandir(folder) if entry.is_file() and entry.name.endswith(".txt"))
    return [folder / name for name in texts if not name.startswith(".") and fits(first_line(folder / name))]


def split_of_name(name: str, splits: Mapping[str, str]) -> str | None:
    """The split whose name stands in a name between other signs than letters: Train_Aligned_Faces, sfew_train."""
    return next((splits[word] for word in re.split(r"[^a-z]+", name.casefold()) if word in splits), None)


def list_layout(labels: Labels, roots: Iterable[str] = (), splits: Mapping[str, str] = SPLITS) -> Layout:
    """Lists of `relative/path label`, as the code of CAFE reads them. A split is what the list's name says
    (sfew_train.txt), else what the folders of a path say (Val_Aligned_Faces/…), else a share is taken.

    labels: what the numbers mean, which differs between datasets.
    """
    numbers = ", ".join(f"{number} {name}" for number, name in labels.items() if number.isdigit())

    def find(path: Path) -> Path | None:
        if path.is_file():
            return path if _LINE.fullmatch(first_line(path)) else None
        return base_below(path, ("", *roots), lambda base: bool(lists_in(base)))

    def read(base: Path, settings: DomainSettings) -> Listing:
        lists = [base] if base.is_file() else lists_in(base)
        root = settings.images or (base.parent if base.is_file() else base)
        entries(lists[0].parent, lists[0].parent)  # refuses links and twins among the lists
        return _read_lists(lists, root, {**labels, **settings.labels}, splits, settings)

    return Layout("list-file", f"*.txt with lines `relative/path.jpg label` ({numbers})", find, read, official=False)


def _read_lists(
    lists: list[Path], root: Path, labels: Labels, splits: Mapping[str, str], settings: DomainSettings
) -> Listing:
    listing, files = Listing(about={"lists": [path.name for path in lists]}), Files(root)
    seen: dict[str, tuple[str, str]] = {}
    unsplit: list[Face] = []
    for path in lists:
        for place, name, (native,) in list_file(path):
            image = inside(root, name, place)
            identity = image.relative_to(root).as_posix()
            expression = expression_of(native, labels, place)
            if not first_of(identity, place, native, seen, listing):
                continue
            if expression == LEFT_OUT:
                listing.dropped[native] += 1
            elif not files.has(image):
                listing.faults.append(Fault("missing", place, f"{image} is listed, but is not there."))
            else:
                words = (path.stem, *PurePosixPath(identity).parts[:-1])
                split = next((split for word in words if (split := split_of_name(word, splits))), None)
                face = Face(identity, split or "", expression, native, image)
                (listing.faces if split else unsplit).append(face)
    if unsplit and listing.faces:
        raise BenchError(
            f"{lists[0]}: {listing.faces[0].id} is of the {listing.faces[0].split} split, but nothing says of which "
            f"{unsplit[0].id} is; name the lists, or the folders, train, val and test"
        )
    if unsplit:
        listing.faces = with_splits(unsplit, settings)
        listing.notes.append(f"The list says no splits; {settings.test_share:g} of each expression is the test split.")
    return listing


def first_of(name: str, place: str, label: str, seen: dict[str, tuple[str, str]], listing: Listing) -> bool:
    """Whether this is the first line for a file. Another is a fault, and the first counts. seen: name → (place, label)
    of the lines before.
    """
    first, before = seen.setdefault(name, (place, label))
    if first == place:
        return True
    fault: FaultKind = "duplicate" if before == label else "label"
    what = f"{name} is listed twice; the first time with {before} at {first}, here with {label}. The first counts."
    listing.faults.append(Fault(fault, place, what))
    return False
