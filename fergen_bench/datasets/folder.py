"""The generic reader: a folder with one folder per expression, with or without train, val and test above them."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fergen_bench.datasets.reader import (
    CONTEMPT,
    Dataset,
    Face,
    Fault,
    Layout,
    Listing,
    class_folders,
    entries,
    folders,
)
from fergen_bench.datasets.reader import IMAGES as IMAGE_SUFFIXES
from fergen_bench.datasets.reader import SPLITS as SPLIT_NAMES
from fergen_bench.datasets.reader import with_splits as with_generated_splits
from fergen_bench.domain import ALIASES, EXPRESSIONS, disjoint_share, write_prepared
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings

SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"}
LARGEST_NATIVE = 224
RESIZER = "PIL bicubic"
BLOCK = 64


@dataclass(frozen=True)
class Found:
    """An image file and what its place says about it."""

    path: Path
    expression: str
    native: str  # name of the class folder
    split: str | None


def prepare_folder(
    name: str, path: Path, folder: Path, settings: DomainSettings, processes: int, progress: Callable[[int, int], None]
) -> Path:
    """Reads class folders under `path` and writes the prepared domain to `folder`. progress(done, total) counts faces.

    Memory: a few blocks of faces, whatever the size of the dataset.
    """
    found = list(_find(path, settings.labels))
    if not found:
        raise BenchError(
            f"{path}: there are no class folders; expected {', '.join(EXPRESSIONS)} (or usual names for them), alone "
            f"or under train and test"
        )
    subjects = _subjects(found, settings.subject)
    splits = _splits(found, subjects, settings)
    paths = [image.path for image in found]
    progress(0, len(paths))
    columns = {
        "id": [image.path.relative_to(path).as_posix() for image in found],
        "expression": [image.expression for image in found],
        "split": splits,
        "subject": subjects,
        "native_label": [image.native for image in found],
    }
    if settings.subject is None:
        del columns["subject"]
    given = "as given" if found[0].split else f"{settings.test_share:g} of each expression, seed {settings.split_seed}"
    about = {"layout": "class folders", "profile": "official", "splits": given, "resizer": RESIZER, "synthetic": False}
    faces = _decoded(paths, settings.size or _common_size(paths), processes, progress)
    return write_prepared(folder, name, faces, columns, about)


def _decoded(
    paths: list[Path], size: int, processes: int, progress: Callable[[int, int], None]
) -> Iterator[np.ndarray]:
    """Blocks of faces in the order of the paths, decoded on several processes that stay a few blocks ahead."""
    waiting: deque[Future[np.ndarray]] = deque()
    done = 0
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        for start in range(0, len(paths), BLOCK):
            waiting.append(pool.submit(_decode, paths[start : start + BLOCK], size))
            while waiting and (len(waiting) > 4 * processes or start + BLOCK >= len(paths)):
                block = waiting.popleft().result()
                done += len(block)
                progress(done, len(paths))
                yield block


def _find(path: Path, labels: dict[str, str]) -> Iterator[Found]:
    """Image files by class folder, in the order of their names."""
    folders = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]
    parts = [folder for folder in folders if folder.name.lower() in SPLITS]
    if parts and len(parts) < len(folders):
        other = next(folder for folder in folders if folder not in parts)
        raise BenchError(
            f"{other}: stands beside {parts[0].name}, but is no split; expected only train, val and test there"
        )
    if parts and not {"train", "test"} & {SPLITS[part.name.lower()] for part in parts}:
        raise BenchError(f"{path}: has {', '.join(part.name for part in parts)} but neither train nor test")
    containers: list[Path | None] = [*parts] or [None]
    for part in containers:
        for folder in sorted((part or path).iterdir()):
            if not folder.is_dir() or folder.name.startswith("."):
                continue
            expression = _expression(folder, labels)
            if not expression:
                continue
            images = sorted(
                file for file in folder.rglob("*") if file.suffix.lower() in IMAGES and not file.name.startswith(".")
            )
            if not images:
                raise BenchError(
                    f"{folder}: this class folder holds no images; remove it if the expression is really absent"
                )
            for image in images:
                yield Found(image, expression, folder.name, SPLITS[part.name.lower()] if part else None)


def _expression(folder: Path, labels: dict[str, str]) -> str:
    """The expression a class folder stands for, or "" where the user leaves it out."""
    if folder.name in labels:
        return labels[folder.name]
    if folder.name.lower() in ALIASES:
        return ALIASES[folder.name.lower()]
    raise BenchError(
        f"{folder}: {folder.name!r} is no expression; say what it is with "
        f'labels = {{ "{folder.name}" = "anger" }}, or "" to leave it out'
    )


def _subjects(found: list[Found], pattern: str | None) -> list[str]:
    if pattern is None:
        return [str(image.path) for image in found]
    subjects = []
    for image in found:
        match = re.search(pattern, image.path.name)
        if match is None or not match.groups():
            raise BenchError(
                f"{image.path}: the pattern subject = {pattern!r} finds no subject in this name; it needs one (group) "
                f"that matches every name"
            )
        subjects.append(match[1])
    return subjects


def _splits(found: list[Found], subjects: list[str], settings: DomainSettings) -> list[str]:
    if found[0].split is not None:
        return [image.split or "train" for image in found]
    labels = np.array([EXPRESSIONS.index(image.expression) for image in found])
    test = set(
        disjoint_share(labels, np.array(subjects), settings.test_share, "test split", settings.split_seed).tolist()
    )
    return ["test" if position in test else "train" for position in range(len(found))]


def _common_size(paths: list[Path]) -> int:
    """The images' own side where all are squares of one size that is at most 224; else 224."""
    sizes = set()
    for path in paths:
        sizes.add(_open(path).size)
        if len(sizes) > 1:
            return LARGEST_NATIVE
    ((width, height),) = sizes
    return width if width == height and width <= LARGEST_NATIVE else LARGEST_NATIVE


def _open(path: Path) -> Image.Image:
    try:
        return Image.open(path)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise BenchError(
            f"{path}: this image cannot be read ({type(error).__name__}); mend or remove the file"
        ) from None


def _decode(paths: list[Path], size: int) -> np.ndarray:
    """Images → uint8 (n, size, size, 3), RGB. A face that is no square is squashed, as the reference code does."""
    faces = np.empty((len(paths), size, size, 3), np.uint8)
    for place, path in enumerate(paths):
        with _open(path) as image:
            try:
                upright = ImageOps.exif_transpose(image).convert("RGB")
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise BenchError(f"{path}: this image cannot be read ({error}); mend or remove the file") from None
        if upright.size != (size, size):
            upright = upright.resize((size, size), Image.Resampling.BICUBIC)
        faces[place] = np.asarray(upright)
    return faces


# --------------------------------------------------------------------------------------------------------------- reader


def is_split_into_classes(folder: Path) -> bool:
    """Whether there are folders such as train/happy in it."""
    return any(
        inner.name.casefold() in ALIASES or inner.name.casefold() == CONTEMPT
        for part in folders(folder, folder)
        if part.name.lower() in SPLIT_NAMES
        for inner in folders(part, folder)
    )


def split_faces(base: Path, labels: Mapping[str, str], listing: Listing) -> Iterator[tuple[Path, str, str, str]]:
    """(image, expression, native label, split) of folders like train/happy/1.jpg. A folder beside train, val and test
    that is none of them is refused; images in them that lie in no class folder are a fault.
    """
    parts = [part for part in folders(base, base) if part.name.lower() in SPLIT_NAMES]
    if other := next((folder for folder in folders(base, base) if folder not in parts), None):
        raise BenchError(
            f"{other}: stands beside {parts[0].name}, but is no split; expected only train, val and test there"
        )
    if not {"train", "test"} & {SPLIT_NAMES[part.name.lower()] for part in parts}:
        raise BenchError(f"{base}: has {', '.join(part.name for part in parts)} but neither train nor test")
    for part in parts:
        split = SPLIT_NAMES[part.name.lower()]
        for entry in entries(part, base):
            if not entry.is_dir() and Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
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
    return any(part.name.lower() in SPLIT_NAMES for part in folders(folder, folder))


def _read_given(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing(about={"splits": "as given"})
    for image, expression, native, split in split_faces(base, settings.labels, listing):
        listing.faces.append(_face(image, base, split, expression, native, settings))
    return _filled(listing, base)


def _read_unsplit(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing(about={"splits": generated_splits(settings)})
    for image, expression, native in class_folders(base, base, "the dataset", settings.labels, listing):
        listing.faces.append(_face(image, base, "train", expression, native, settings))
    listing.faces = with_generated_splits(_filled(listing, base).faces, settings)
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
