"""What readers find on the disk: the folder in which a layout begins, what is in folders, and the lines of lists and
tables. All of it comes from strangers: whatever is wrong is a BenchError with the file and the line, and no path may
lead out of the folder that the user named.
"""

from __future__ import annotations

import csv
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

from fergen_bench.error import BenchError
from fergen_bench.untrusted import read_text

IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif"})


def nearest(path: Path, fits: Callable[[Path], bool], roots: Iterable[str] = ()) -> Path | None:
    """The place that fits: the path itself, or else the nearest of the roots below it. Two that are equally near are
    refused, and so are links that lead out of the path.

    roots: folders such as RAF/basic, or patterns such as */*. The path may be any folder on the way, so that basic is
    looked for, too.
    """
    if fits(path):
        return path
    tails = {"/".join(parts[start:]) for root in roots for parts in [root.split("/")] for start in range(len(parts))}
    for depth in sorted({tail.count("/") for tail in tails}):
        places = {place for tail in tails if tail.count("/") == depth for place in path.glob(tail) if place.is_dir()}
        visible = (place for place in sorted(places) if "/." not in f"/{place.relative_to(path).as_posix()}")
        found = [place for place in visible if fits(place)]
        if len(found) > 1:
            raise BenchError(f"{path}: holds two copies, {found[0]} and {found[1]}; name the one that is meant")
        if found:
            entries(found[0], path)  # refuses links that lead out
            return found[0]
    return None


def entries(folder: Path, root: Path, ending: str = "") -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing where there is no such folder. Hidden files are passed over. ending: only
    names that end so.

    Refused: a folder that may not be read, names that differ only in case (another machine would see one file), and
    links that lead out of root, the folder itself among them, or in a circle.
    """
    top, here = Path(os.path.realpath(root)), Path(os.path.realpath(folder))
    if not here.is_relative_to(top):
        raise BenchError(f"{folder}: a link on this path leads out of {root}; put the files themselves there")
    try:
        visible = (entry for entry in os.scandir(folder) if entry.name.endswith(ending) and entry.name[0] != ".")
        found = sorted(visible, key=lambda entry: entry.name)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
            return []
        raise BenchError(f"{folder}: cannot be read: {error.strerror}; see to its permissions") from None
    seen: dict[str, str] = {}
    for entry in found:
        if (other := seen.setdefault(entry.name.casefold(), entry.name)) != entry.name:
            raise BenchError(
                f"{folder}: {other} and {entry.name} differ only in case; rename or remove one, so that every machine "
                f"sees the same"
            )
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not target.is_relative_to(top):
                raise BenchError(f"{entry.path}: this link leads out of {root}; put the files themselves there")
            if here.is_relative_to(target) or target.is_symlink():
                raise BenchError(f"{entry.path}: this link leads back to where it stands; remove it")
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
        elif is_image(entry.name):
            found.append(Path(entry.path))
    return found


def is_image(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGES


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
        self._known: dict[Path, dict[str, list[str]]] = {}

    def has(self, path: Path) -> bool:
        return path.name in self._same_stem(path)

    def image(self, path: Path) -> Path | None:
        """The file; or, where only its ending differs from what a list says, the one image of that name."""
        alike = self._same_stem(path)
        if path.name in alike:
            return path
        found = [name for name in alike if is_image(name)]
        return path.with_name(found[0]) if len(found) == 1 else None

    def _same_stem(self, path: Path) -> list[str]:
        """Names of files that differ from the path in their ending at most."""
        folder = path.parent
        if (known := self._known.get(folder)) is None:
            known = self._known[folder] = {}
            for entry in entries(folder, self._root):
                if not entry.is_dir():
                    known.setdefault(os.path.splitext(entry.name)[0], []).append(entry.name)
        return known.get(os.path.splitext(path.name)[0], [])


def first_file(root: Path, *names: str) -> Path | None:
    """The first of some files that is there below root."""
    files = Files(root)
    return next((root / name for name in names if files.has(root / name)), None)


# --------------------------------------------------------------------------------------------------------------- tables


def text_of(path: Path) -> str:
    """The text of a file, with or without a byte order mark, whatever its line ends."""
    try:
        return read_text(path)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BenchError(f"{path}: is no text file (byte {error.start} is not UTF-8)") from None
    except ValueError as error:
        raise BenchError(f"{path}: is no list or table: {error}") from None


def first_line(path: Path) -> str:
    """The first line of a text file that is not blank, as far as a look at its beginning shows it."""
    try:
        with path.open("rb") as file:
            start = file.read(4096).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    return next((line.strip() for line in start.splitlines() if line.strip()), "")


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
