"""The generic reader of lists: text files of lines `path label`, one for each split or one for all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.folder import generated_splits, subject_of
from fergen_bench.datasets.reader import (
    LEFT_OUT,
    SPLITS,
    Dataset,
    Face,
    Fault,
    Files,
    Layout,
    Listing,
    entries,
    expression_of,
    inside,
    list_file,
    with_splits,
)
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings

SUFFIXES = (".txt", ".lst", ".list")


def split_named(path: Path) -> str | None:
    """The split that a list's name says, such as train for list_train_label.txt. None where it says none, or two."""
    named = {SPLITS[word] for word in re.split(r"[^a-z]+", path.stem.lower()) if word in SPLITS}
    return named.pop() if len(named) == 1 else None


def listed_faces(
    lists: Mapping[Path, str | None], root: Path, labels: Mapping[str, str], settings: DomainSettings, listing: Listing
) -> None:
    """Adds the faces of lists, each with its split or none, to the listing. Their paths begin at root."""
    if not root.is_dir():
        raise BenchError(f"{root}: there is no such folder; say where the paths of the list begin with images = …")
    files = Files(root)
    seen: dict[Path, str] = {}
    for path, split in lists.items():
        for place, name, (native,) in list_file(path):
            if native not in labels and re.fullmatch(r"[-+]?\d+(\.\d*)?", native):
                raise BenchError(
                    f"{place}: the label is the number {native[:20]}; say what each number means with labels = "
                    f'{{ "{native[:20]}" = "anger", … }}, or "" to leave it out'
                )
            expression = expression_of(native, labels, place)
            image = inside(root, name, place)
            if expression == LEFT_OUT:
                listing.dropped[native] += 1
            elif image in seen:
                listing.dropped["listed twice"] += 1
                listing.faults.append(Fault("duplicate", place, f"{name} is listed already at {seen[image]}"))
            elif not files.has(image):
                listing.faults.append(Fault("missing", place, f"{name} is not in {root}"))
            else:
                seen[image] = place
                subject = subject_of(image.name, settings.subject, place)
                face_id = image.relative_to(root).as_posix()
                listing.faces.append(Face(face_id, split or "train", expression, native, file=image, subject=subject))


def _find(path: Path) -> Path | None:
    if path.is_file():
        return path if path.suffix.lower() != ".csv" else None
    return path if path.is_dir() and _lists(path) else None


def _lists(folder: Path) -> list[Path]:
    return [
        Path(entry.path)
        for entry in entries(folder, folder)
        if entry.is_file() and Path(entry.name).suffix.lower() in SUFFIXES
    ]


def _read(path: Path, settings: DomainSettings) -> Listing:
    """The base is one list, or a folder of one list, or of lists each of which names its split."""
    paths = [path] if path.is_file() else _lists(path)
    given = {one: split_named(one) for one in paths} if len(paths) > 1 else dict.fromkeys(paths)
    if other := next((one for one, split in given.items() if split is None and len(paths) > 1), None):
        raise BenchError(
            f"{other}: is one of {len(paths)} lists, but its name says neither train, val nor test; name the one list "
            f"that is meant"
        )
    if len(paths) > 1 and not {"train", "test"} & set(given.values()):
        raise BenchError(f"{path}: has lists for val but for neither train nor test")
    listing = Listing(about={"splits": "as given" if len(paths) > 1 else generated_splits(settings)})
    listed_faces(given, settings.images or paths[0].parent, settings.labels, settings, listing)
    if not listing.faces:
        raise BenchError(nothing_left(paths[0] if len(paths) == 1 else path, listing))
    if len(paths) == 1:
        listing.faces = with_splits(listing.faces, settings)
    return listing


def nothing_left(path: Path, listing: Listing) -> str:
    """Why a file that names images gives no faces."""
    missing = [fault for fault in listing.faults if fault.kind == "missing"]
    if missing:
        return (
            f"{path}: none of the {len(missing):,} images it names is there ({missing[0].where}: {missing[0].what}); "
            f"say where their paths begin with images = …"
        )
    return f"{path}: every face in it is left out by its label; see to labels = {{ … }}"


DATASET = Dataset(
    name="list",
    title="a list",
    layouts=(
        Layout(
            "list", "a text file of lines `path label`, or a folder of such files for train, val and test", _find, _read
        ),
    ),
)
