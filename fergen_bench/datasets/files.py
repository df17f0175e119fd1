"""What readers find on the disk: the folder in which a layout begins, what is in folders, and the lines of lists and
tables. All of it comes from strangers: whatever is wrong is a BenchError with the file and the line, and no path leads
out of the folder that the user named, except through links that the user allows.
"""

from __future__ import annotations

import csv
import errno
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath

from fergen_bench.datasets.kinds import PassedOver, has_image_ending, is_archive, is_leftover, kind_of
from fergen_bench.error import BenchError, NeedsKey
from fergen_bench.files.bounded import read_text

MOST_LOOKED_INTO = 20
"""Folders of a folder that are searched for packed archives."""

_follow: ContextVar[bool] = ContextVar("follow links", default=False)


@contextmanager
def following_links(follow: bool) -> Iterator[None]:
    """Let links lead out of the folder that is read, where the user says so."""
    token = _follow.set(follow)
    try:
        yield
    finally:
        _follow.reset(token)


def nearest(path: Path, fits: Callable[[Path], bool], roots: Iterable[str] = ()) -> Path | None:
    """The place that fits: the path itself, or else the nearest of the roots below it. Two that are equally near are
    refused, and so are links that lead out of the path.

    roots: folders such as RAF/basic, in any case, or patterns such as */*. The path may be any folder on the way, so
    that basic is looked for, too.
    """
    if fits(path):
        return path
    tails = {"/".join(parts[start:]) for root in roots for parts in [root.split("/")] for start in range(len(parts))}
    for depth in sorted({tail.count("/") for tail in tails}):
        places = {place for tail in tails if tail.count("/") == depth for place in _below(path, *tail.split("/"))}
        found = [place for place in sorted(places) if fits(place)]
        if len(found) > 1:
            raise BenchError(f"{path}: holds two copies, {found[0]} and {found[1]}; name the one that is meant")
        if found:
            entries(found[0], path)  # refuses links that lead out
            return found[0]
    return None


def _below(path: Path, *names: str) -> Iterator[Path]:
    """The folders of these names, each in the one before, in any case; `*` is every name that no tool leaves."""
    if not names:
        yield path
        return
    try:
        inner = [entry for entry in os.scandir(path) if entry.is_dir()]
    except OSError:
        return
    for entry in inner:
        if folded(entry.name) == folded(names[0]) or (names[0] == "*" and not is_leftover(entry.name)):
            yield from _below(Path(entry.path), *names[1:])


def folded(name: str) -> str:
    """A name as it is compared without regard to case."""
    return composed(name).casefold()


def at(base: Path, relative: str) -> Path:
    """The file or folder at a path below a base, spelt as it is on the disk where that differs in case. The path as it
    is written where there is none.
    """
    place = base
    for name in relative.split("/"):
        exact = place / name
        place = exact if os.path.lexists(exact) else next(_same_name(place, name), exact)
    return place


def _same_name(folder: Path, name: str) -> Iterator[Path]:
    """What has a name in a folder, in any case."""
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if folded(entry.name) == folded(name):
                yield Path(entry.path)
    except OSError:
        return


def entries(
    folder: Path, root: Path, ending: str = "", passed_over: PassedOver | None = None
) -> list[os.DirEntry[str]]:
    """What is in a folder, by name; nothing where there is no such folder. What tools leave, hidden files among it, is
    not in it, and is counted in passed_over. ending: only names that end so, in any case.

    Refused: a folder that may not be read, names that differ only in case (another machine would see one file), links
    in a circle, and links that lead out of root, the folder itself among them, unless the user allows them.
    """
    top, here, follow = Path(os.path.realpath(root)), Path(os.path.realpath(folder)), _follow.get()
    if not follow and not here.is_relative_to(top):
        raise _leads_out(f"{folder}: a link on this path", root)
    try:
        found = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}:
            return []
        raise BenchError(f"{folder}: cannot be read: {error.strerror}; see to its permissions") from None
    leftovers = {entry.name for entry in found if is_leftover(entry.name)}
    if passed_over is not None:
        for name in sorted(leftovers):
            passed_over.add(folder / name, "leftover")
    found = [entry for entry in found if entry.name not in leftovers and entry.name.lower().endswith(ending)]
    seen: dict[str, str] = {}
    for entry in found:
        if (other := seen.setdefault(entry.name.casefold(), entry.name)) != entry.name:
            raise BenchError(
                f"{folder}: {other} and {entry.name} differ only in case; rename or remove one, so that every machine "
                f"sees the same"
            )
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not follow and not target.is_relative_to(top):
                raise _leads_out(f"{entry.path}: this link", root)
            if target.is_symlink() or any(place.is_relative_to(target) for place in _way_to(folder, root)):
                raise BenchError(f"{entry.path}: this link leads back to where it stands; remove it")
    return found


def _leads_out(link: str, root: Path) -> NeedsKey:
    fault = f"{link} leads out of {root}; put the files themselves there, or allow such links with"
    return NeedsKey(fault, "follow_links = true", "--follow-links")


def _way_to(folder: Path, root: Path) -> Iterator[Path]:
    """The real places of a folder and of those above it, up to root: a link to any of them leads in a circle."""
    for place in (folder, *folder.parents):
        yield Path(os.path.realpath(place))
        if place == root:
            return


def packed(path: Path, depth: int = 2) -> list[Path]:
    """The packed archives in a folder, and in those down to a depth below it; or the file itself."""
    if path.is_file():
        return [path] if is_archive(path.name) else []
    found = entries(path, path)
    archives = [Path(entry.path) for entry in found if entry.is_file() and is_archive(entry.name)]
    inner = [Path(entry.path) for entry in found if depth and entry.is_dir()][:MOST_LOOKED_INTO]
    return archives + [archive for folder in inner for archive in packed(folder, depth - 1)]


def folders(folder: Path, root: Path) -> list[Path]:
    """Its subfolders, by name."""
    return [Path(entry.path) for entry in entries(folder, root) if entry.is_dir()]


def images(folder: Path, root: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """Image files in a folder and below it, in the order of their names. passed_over: counts the others."""
    found: list[Path] = []
    for entry in entries(folder, root, passed_over=passed_over):
        if entry.is_dir():
            found += images(Path(entry.path), root, passed_over)
        elif (kind := kind_of(entry.path)) == "image":
            found.append(Path(entry.path))
        elif passed_over is not None and kind != "data":
            passed_over.add(entry.path, kind)
    return found


def inside(root: Path, relative: str, place: str, *, movable: bool = False) -> Path:
    """The path below root that a file of the dataset names, in relation to root or from the root of the disk. One that
    lies elsewhere is refused. place: file:line. movable: whether the key `images` says what root is.
    """
    text = relative.strip().replace("\\", "/")
    if not PurePosixPath(text).name or "\0" in text:
        raise BenchError(f"{place}: there is no file name where one is expected")
    if re.match(r"[A-Za-z]:", text):
        raise BenchError(
            f"{place}: {relative!r} begins with a drive of another machine; write it as a path below {root}"
        )
    fault = f"{place}: {relative!r} leads out of {root}"
    if text.startswith("/"):
        if (found := _absolute(root, text)) is not None:
            return found
        fault = f"{place}: {relative!r} is an absolute path that does not lie in {root}"
    else:
        pure = PurePosixPath(os.path.normpath(text)) if ".." in text else PurePosixPath(text)
        if ".." not in pure.parts and pure.name:
            return root / pure
    if movable:
        fault += "; say where the images are, with a folder that holds all of them, or / for the whole disk:"
        raise NeedsKey(fault, 'images = "…"', "--images …")
    raise BenchError(f"{fault}; paths must lie below it")


def _absolute(root: Path, text: str) -> Path | None:
    """A path from the root of the disk as one that begins with root, however links spell the way to it."""
    wanted = Path(os.path.normpath(text))
    if wanted.is_relative_to(above := os.path.abspath(root)):
        return root / wanted.relative_to(above)
    real = Path(os.path.realpath(wanted.parent), wanted.name)
    if real.is_relative_to(above := os.path.realpath(root)):
        return root / real.relative_to(above)
    return None


def composed(name: str) -> str:
    """A name with its accents composed: a Mac stores é as two characters where a list has one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class Files:
    """The files below a folder, looked up many times: each folder is read once. Names that differ only in how Unicode
    composes their accents are the same.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, dict[str, list[Path]]] = {}

    def has(self, path: Path) -> bool:
        return any(composed(found.name) == composed(path.name) for found in self._called(path, _stem(path.name)))

    def image(self, path: Path) -> Path | None:
        """The file of a path in a list. The list may leave out the ending, also that of a name with dots in it, or have
        another: then it is the one image of that name.
        """
        stem = _stem(path.name)
        alike = self._called(path, stem)
        for name in (path.name, composed(path.name)):
            if same := [found for found in alike if name in (found.name, composed(found.name))]:
                return same[0]
        for name in (composed(path.name), stem if has_image_ending(path.name) else ""):
            if found := [file for file in self._called(path, name) if kind_of(file) == "image"]:
                return found[0] if len(found) == 1 else None
        return None

    def _called(self, path: Path, stem: str) -> list[Path]:
        """The files beside a path that have a name without its ending."""
        folder = path.parent
        if (known := self._known.get(folder)) is None:
            known = self._known[folder] = {}
            for entry in entries(self._there(folder), self._root):
                if not entry.is_dir():
                    known.setdefault(_stem(entry.name), []).append(Path(entry.path))
        return known.get(stem, [])

    def _there(self, folder: Path) -> Path:
        """A folder as the disk spells it."""
        try:
            if str(folder).isascii() or folder.is_dir():
                return folder
        except (OSError, ValueError):
            return folder
        if folder == self._root or not folder.is_relative_to(self._root):
            return folder
        above = self._there(folder.parent)
        same = (Path(e.path) for e in entries(above, self._root) if composed(e.name) == composed(folder.name))
        return next(same, folder)


def _stem(name: str) -> str:
    return composed(os.path.splitext(name)[0])


def first_file(root: Path, *names: str) -> Path | None:
    """The first of some files that is there below root, in any case."""
    files = Files(root)
    return next((path for path in (at(root, name) for name in names) if files.has(path)), None)


# --------------------------------------------------------------------------------------------------------------- tables


def text_of(path: Path) -> str:
    """The text of a file, with or without a byte order mark, whatever its line ends."""
    try:
        return read_text(path)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BenchError(_not_utf8(path, error)) from None
    except ValueError as error:
        raise BenchError(f"{path}: is no list or table: {error}") from None


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    if error.object[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return f"{path}: is text in UTF-16, as Excel and PowerShell write it; save it as UTF-8"
    return f"{path}: is no text file (byte {error.start} is not UTF-8)"


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
        raise BenchError(_not_utf8(path, error)) from None
    except csv.Error as error:
        raise BenchError(f"{path}:{line + 1}: is no valid csv: {error}") from None
    if names is None:
        raise BenchError(f"{path}: is empty; expected a csv with the columns {', '.join(needed)}")


def _header_fault(place: str, row: Sequence[str], needed: Iterable[str]) -> str:
    if len(row) == 1 and any(mark in row[0] for mark in ";\t|"):
        mark = next(mark for mark in ";\t|" if mark in row[0])
        return f"{place}: columns are divided by {mark!r} here; expected commas: save the file as CSV with commas"
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
