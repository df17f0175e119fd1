"""What a reader is: a dataset knows the layouts in which people have it; a layout finds itself below a path and lists
faces.

A reader never opens an image. It says which faces there are, what they are labelled, and what is wrong with the folder;
`prepare.py` decodes. Files of datasets come from strangers: every fault in them is a BenchError with file and line, and
no path may lead out of the folder that the user named.
"""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from fergen_bench.domain import ALIASES, EXPRESSIONS, disjoint_share
from fergen_bench.error import BenchError, did_you_mean

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})
CONTEMPT = "contempt"
"""The eighth class of some datasets, dropped in every seven-class task."""
LEFT_OUT = ""
"""What a label maps to when its faces are no part of the domain."""
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
}
"""Names of folders (in lower case) that are splits."""

Box = tuple[float, float, float, float]
"""left, top, width, height, in pixels of the image file"""


@dataclass(frozen=True, slots=True)
class Face:
    """One face of a domain, as its dataset describes it."""

    id: str  # unique in the domain: the file below the root, or the dataset's own name of the face
    split: str  # train, val or test
    expression: str  # one of EXPRESSIONS
    native_label: str  # as the dataset writes it
    file: Path | None = None  # the image; or, where images stand in a table:
    pixels: bytes | None = None  # a square of grey levels, row by row
    box: Box | None = None  # the face in the image, where the image is not the face
    subject: str | None = None  # who is shown, where the dataset says
    extra: Mapping[str, str] | None = None  # more columns of labels.csv, such as votes


FaultKind = Literal["missing", "extra", "label", "duplicate", "unreadable"]


@dataclass(frozen=True)
class Fault:
    """Something about a copy that is not as it should be, and does not keep the rest from being read."""

    kind: FaultKind  # a listed file that is missing; a file nobody lists; labels that disagree; …
    where: str  # file, or file:line
    what: str  # one sentence


@dataclass
class Listing:
    """What a layout holds."""

    faces: list[Face] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # why faces were left out → how many
    faults: list[Fault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what the reader should know, one sentence each
    about: dict[str, object] = field(default_factory=dict)  # choices that made the labels: more keys of domain.json
    expected: Mapping[str, Mapping[str, int]] | None = None  # counts under these choices, where not the dataset's own


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset lies on disks."""

    name: str
    shape: str  # the files that make it, for messages and docs: "Image/aligned/*.jpg, EmoLabel/list_patition_label.txt"
    find: Callable[[Path], Path | None]  # the layout's base below a path, or None
    read: Callable[[Path, DomainSettings], Listing]  # base, settings → faces
    official: bool = True  # whether its splits are the owner's
    asked_only: bool = False  # never found by itself: what it reads is seldom what is meant, such as whole photographs


@dataclass(frozen=True)
class Dataset:
    """A dataset as its owner defines it. Counts: split → expression → faces; the split is `all` where the owner gave
    none, and so is the expression where only the number of all faces is known.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    request: str = ""  # how to get it, one sentence
    expected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    scored: Mapping[str, str] = field(default_factory=dict)  # profile → the part that is scored, where it is not test

    def layout(self, path: Path, wanted: str | None = None) -> tuple[Layout, Path]:
        """The layout below a path, and its base. None, or two at once, are refused; where the first holds all that the
        others hold, it is the one.
        """
        known = {layout.name: layout for layout in self.layouts}
        if wanted is not None and wanted not in known:
            raise BenchError(f"{self.name} has no layout {wanted!r}{did_you_mean(wanted, known)}")
        asked = self.layouts if wanted is None else (known[wanted],)
        try:
            tried = [layout for layout in asked if wanted is not None or not layout.asked_only]
            found = [(layout, base) for layout in tried if (base := layout.find(path)) is not None]
            glimpse = _glimpse(path)
        except OSError as error:
            raise BenchError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
        if not found:
            shapes = "".join(
                f"\n  {layout.name}: {layout.shape}" + (" (only with --layout)" if layout.asked_only else "")
                for layout in asked
            )
            raise BenchError(
                f"{path} holds no layout of {self.title} that is known here. It holds {glimpse}; expected one "
                f"of{shapes}"
            )
        if len(found) > 1 and not _first_holds_all(found, path):
            names = " and ".join(layout.name for layout, _ in found)
            raise BenchError(
                f"{path} holds {len(found)} layouts of {self.title} at once, {names}; say which with --layout, or "
                f"layout = … in bench.toml"
            )
        return found[0]


def read(kind: Dataset, settings: DomainSettings) -> tuple[Layout, Listing]:
    """The faces of a copy of a dataset. A copy without faces, or with two of one name, is refused."""
    layout, base = kind.layout(settings.path, settings.layout)
    listing = layout.read(base, settings)
    if not listing.faces:
        dropped = "; ".join(f"{count:,} left out: {reason}" for reason, count in listing.dropped.items())
        missing = sum(fault.kind == "missing" for fault in listing.faults)
        raise BenchError(
            f"{base}: no face of {kind.title} is left in the layout {layout.name}"
            f"{f' ({dropped})' if dropped else ''}{f'; {missing:,} listed files are missing' if missing else ''}"
        )
    twice = [name for name, count in Counter(face.id for face in listing.faces).items() if count > 1]
    if twice:
        raise BenchError(
            f"{base}: {len(twice):,} faces have the name of another, such as {twice[0]}; names must differ"
        )
    return layout, listing


def _first_holds_all(found: Sequence[tuple[Layout, Path]], path: Path) -> bool:
    """Whether the first of several layouts is official, and every face of the others is in it, with the same expression
    in the same split: the same file, or a copy of its name.
    """
    from fergen_bench.settings import DomainSettings

    if not found[0][0].official:
        return False
    try:
        first, *others = (layout.read(base, DomainSettings(path=path)).faces for layout, base in found)
    except BenchError:
        return False  # said in full when the layout is asked for by name
    known: dict[Path | str, set[tuple[str, str]]] = {}
    for face in first:
        for key in (face.file or face.id, face.file.name if face.file else face.id):
            known.setdefault(key, set()).add((face.expression, face.split))
    return all(
        known.get(face.file or face.id, known.get(face.file.name if face.file else face.id))
        == {(face.expression, face.split)}
        for other in others
        for face in other
    )


def _glimpse(path: Path) -> str:
    """The first names in a folder, for messages."""
    if path.is_file():
        return "one file"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(path))
    if not names:
        return "nothing"
    return ", ".join(names[:6]) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "")


# ---------------------------------------------------------------------------------------------------------------- files


def entries(folder: Path, root: Path, ending: str = "") -> list[os.DirEntry[str]]:
    """What is in a folder, by name; hidden files are passed over. ending: only names that end so.

    Refused: a folder that may not be read, names that differ only in case (another machine would see one file), and
    links that lead out of root, the folder itself among them.
    """
    if not folder.resolve().is_relative_to(root.resolve()):
        raise BenchError(f"{folder}: a link on this path leads out of {root}; put the files themselves there")
    try:
        visible = (entry for entry in os.scandir(folder) if entry.name.endswith(ending) and entry.name[0] != ".")
        found = sorted(visible, key=lambda entry: entry.name)
    except OSError as error:
        raise BenchError(f"{folder}: cannot be read: {error.strerror}; see to its permissions") from None
    seen: dict[str, str] = {}
    for entry in found:
        if (other := seen.setdefault(entry.name.casefold(), entry.name)) != entry.name:
            raise BenchError(
                f"{folder}: {other} and {entry.name} differ only in case; rename or remove one, so that every machine "
                f"sees the same"
            )
        if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(root.resolve()):
            raise BenchError(f"{entry.path}: this link leads out of {root}; put the files themselves there")
    return found


def folders(folder: Path, root: Path) -> list[Path]:
    """Its subfolders, by name."""
    return [Path(entry.path) for entry in entries(folder, root) if entry.is_dir()]


def images(folder: Path, root: Path) -> list[Path]:
    """Image files in a folder and below it, by their suffix, in the order of their names."""
    found: list[Path] = []
    for entry in entries(folder, root):
        if entry.is_dir():
            found += images(Path(entry.path), root)
        elif os.path.splitext(entry.name)[1].lower() in IMAGES:
            found.append(Path(entry.path))
    return found


def below(path: Path, fits: Callable[[Path], bool], depth: int = 2) -> Path | None:
    """The folder that fits: the one named, or else the only one on the first level below it that has any. Two on one
    level are refused.
    """
    level = [path] if path.is_dir() else []
    for _ in range(depth + 1):
        found = [folder for folder in level if fits(folder)]
        if len(found) > 1:
            raise BenchError(f"{path} holds two copies, {found[0]} and {found[1]}; name the one that is meant")
        if found:
            return found[0]
        level = [inner for folder in level for inner in folders(folder, path)]
    return None


def roots(path: Path, *names: str) -> Iterator[Path]:
    """Folders in which a layout may begin, nearest first: the path, its subfolders of these names, and the same in a
    folder that is the only one there, as archives unpack.
    """
    root = path
    while path.is_dir() and len(path.relative_to(root).parts) < 3:
        yield path
        below = folders(path, root)
        yield from (path / name for name in names if path / name in below)
        if len(below) != 1:
            return
        path = below[0]


def inside(root: Path, relative: str, place: str) -> Path:
    """A path that a file of the dataset names, below root. One that leads out of it is refused. place: file:line."""
    pure = PurePosixPath(relative.strip().replace("\\", "/"))
    if not pure.name or "\0" in relative:
        raise BenchError(f"{place}: there is no file name where one is expected")
    if pure.is_absolute() or ".." in pure.parts or re.match(r"^[A-Za-z]:", relative):
        raise BenchError(f"{place}: {relative!r} leads out of {root}; paths must lie below it")
    return root / pure


class Files:
    """The files below a folder, looked up many times: each folder is read once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, frozenset[str]] = {}

    def has(self, path: Path) -> bool:
        folder = path.parent
        if folder not in self._known:
            there = os.path.isdir(folder)  # False for a name that no file can have
            names = frozenset(e.name for e in entries(folder, self._root) if not e.is_dir()) if there else frozenset()
            self._known[folder] = names
        return path.name in self._known[folder]

    def image(self, path: Path) -> Path | None:
        """The file; or, where only its ending differs from what a list says, the one image of that name."""
        if self.has(path):
            return path
        endings = (spelling for ending in sorted(IMAGES) for spelling in (ending, ending.upper()))
        found = [other for ending in endings if self.has(other := path.with_suffix(ending))]
        return found[0] if len(found) == 1 else None

    def images(self) -> list[Path]:
        """All images in the folders that were asked about."""
        return [
            folder / name
            for folder, names in sorted(self._known.items())
            for name in sorted(names)
            if os.path.splitext(name)[1].lower() in IMAGES
        ]


# --------------------------------------------------------------------------------------------------------------- labels


def expression_of(native: str, labels: Mapping[str, str], place: str) -> str:
    """A native label → an expression, or LEFT_OUT. labels: the dataset's or the user's map, consulted before the usual
    names.
    """
    for key in (native, native.casefold()):
        if key in labels:
            return labels[key]
    name = native.strip().casefold()
    if name == CONTEMPT:
        return LEFT_OUT
    if name in ALIASES:
        return ALIASES[name]
    raise BenchError(
        f"{place}: {native!r} is no expression here; expected {', '.join(labels) or ', '.join(EXPRESSIONS)}. Say what "
        f'it is with labels = {{ "{native}" = "anger" }}, or "" to leave it out'
    )


def class_folders(
    folder: Path, root: Path, split: str, labels: Mapping[str, str], listing: Listing
) -> Iterator[tuple[Path, str, str]]:
    """(image, expression, native label) of every image in the class folders of a folder. Contempt and what the user
    leaves out is counted in the listing as dropped. An unknown or an empty class folder is refused.
    """
    for place in folders(folder, root):
        expression = expression_of(place.name, labels, str(place))
        found = images(place, root)
        if expression == LEFT_OUT:
            listing.dropped[place.name.casefold()] += len(found)
            continue
        if not found:
            raise BenchError(f"{place}: this class folder holds no images; remove it if {split} really has none")
        for image in found:
            yield image, expression, place.name


class Once:
    """Adds faces to a listing, each image once: a second row for one is counted, and named where it disagrees."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing
        self._known: dict[str, tuple[str, str]] = {}

    def add(self, face: Face, place: str) -> None:
        before, expression = self._known.setdefault(face.id, (place, face.expression))
        if before == place:
            self._listing.faces.append(face)
            return
        self._listing.dropped["listed a second time"] += 1
        if expression != face.expression:
            what = f"says {face.expression} of {face.id}, which {before} calls {expression}; the first is kept"
            self._listing.faults.append(Fault("label", place, what))


def with_splits(faces: Sequence[Face], settings: DomainSettings) -> list[Face]:
    """Faces of a dataset without a split of its owner's: a share of every expression becomes the test split, seeded,
    and no subject is in both.
    """
    import numpy as np

    labels = np.array([EXPRESSIONS.index(face.expression) for face in faces], np.int64)
    subjects = np.array([face.subject if face.subject is not None else face.id for face in faces])
    test = set(disjoint_share(labels, subjects, settings.test_share, "test split", settings.split_seed).tolist())
    return [replace(face, split="test" if place in test else "train") for place, face in enumerate(faces)]


# --------------------------------------------------------------------------------------------------------------- tables


def text_of(path: Path) -> str:
    """The text of a file, with or without a byte order mark, whatever its line ends."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BenchError(f"{path}: is no text file (byte {error.start} is not UTF-8)") from None


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """(file:line, line) of every line that is not blank."""
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def list_file(path: Path, columns: int = 2) -> Iterator[tuple[str, str, list[str]]]:
    """(file:line, name, the other columns) of a file of lines like `train_00001.jpg 5`. A name may hold blanks."""
    empty = True
    for place, line in lines_of(path):
        parts = line.strip().rsplit(maxsplit=columns - 1)
        if len(parts) < columns:
            raise BenchError(
                f"{place}: expected {columns} columns with blanks between them, such as `train_00001.jpg 5`; found "
                f"{line.strip()[:60]!r}"
            )
        empty = False
        yield place, parts[0], parts[1:]
    if empty:
        raise BenchError(f"{path}: is empty; expected lines such as `train_00001.jpg 5`")


def table(
    path: Path, needed: Sequence[str], header: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """(file:line, row by column name) of a csv file. needed: columns it must have, in any case and with any blanks
    around. header: the columns of a file that may come without its first line.
    """
    names: list[str] | None = None
    canonical = {name.casefold(): name for name in needed}
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, skipinitialspace=True)
            for row in rows:
                line = rows.line_num
                if not any(cell.strip() for cell in row):
                    continue
                place = f"{path}:{line}"
                if names is None:
                    names = [canonical.get(cell.strip().casefold(), cell.strip()) for cell in row]
                    if twice := [name for name in needed if names.count(name) > 1]:
                        raise BenchError(f"{place}: two columns are named {twice[0]}; rename one")
                    if set(needed) <= set(names):
                        continue
                    if header is None or len(row) != len(header) or set(needed) & set(names):
                        raise BenchError(_header_fault(place, row, needed))
                    names = list(header)
                if len(row) != len(names):
                    raise BenchError(f"{place}: has {len(row)} columns where the first line has {len(names)}")
                yield place, dict(zip(names, (cell.strip() for cell in row), strict=True))
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BenchError(f"{path}: is no text file (byte {error.start} is not UTF-8)") from None
    except csv.Error as error:
        raise BenchError(f"{path}:{line + 1}: is no valid csv: {error}") from None
    if names is None:
        raise BenchError(f"{path}: is empty; expected a csv with the columns {', '.join(needed)}")


def _header_fault(place: str, row: Sequence[str], needed: Iterable[str]) -> str:
    if len(row) == 1 and any(mark in row[0] for mark in ";\t|"):
        mark = next(mark for mark in ";\t|" if mark in row[0])
        return f"{place}: columns are divided by {mark!r} here; expected commas"
    missing = [name for name in needed if name.casefold() not in {cell.strip().casefold() for cell in row}]
    return (
        f"{place}: the first line must name the columns, and {', '.join(missing)} is not among them; found "
        f"{', '.join(row)[:80]!r}"
    )


def whole_number(text: str, low: int, high: int, place: str, what: str) -> int:
    """An integer in low..high, also where it is written as 3.0."""
    try:
        value = float(text)
        if value.is_integer() and low <= value <= high:
            return int(value)
    except ValueError:
        pass
    raise BenchError(f"{place}: {what} is {text[:40]!r}; expected a whole number from {low} to {high}")
