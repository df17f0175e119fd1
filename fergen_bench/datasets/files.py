"""Find the files and folders of a dataset on the disk.

Datasets come from untrusted sources: whatever is wrong raises a BenchError with the file and the line, and no path
leads out of the folder that the user named, except through links that the user allows.
"""

from __future__ import annotations

import errno
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fergen_bench.datasets.kinds import PassedOver, has_image_ending, is_archive, is_leftover, kind_of
from fergen_bench.error import BenchError, NeedsKey

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings


MOST_LOOKED_INTO = 20
"""Number of subfolders that are searched for packed archives."""

_follow: ContextVar[bool] = ContextVar("follow links", default=False)


@contextmanager
def following_links(follow: bool) -> Iterator[None]:
    """Let links lead out of the folder that is read, if the user allows it."""
    token = _follow.set(follow)
    try:
        yield
    finally:
        _follow.reset(token)


def nearest(path: Path, fits: Callable[[Path], bool], roots: Iterable[str] = ()) -> Path | None:
    """Return the folder that fits: the path itself, or else the nearest of the roots below it.

    Args:
        path: The folder that the user named.
        fits: Returns True for the folder that is wanted.
        roots: Folders such as RAF/basic, in any case, or patterns such as */*. The path may be any folder on the way,
            so basic alone is tried too.

    Returns:
        The folder, or None.

    Raises:
        BenchError: Two folders are equally near, or a link leads out of the path.
    """
    if fits(path):
        return path
    tails = {"/".join(parts[start:]) for root in roots for parts in [root.split("/")] for start in range(len(parts))}
    for depth in sorted({tail.count("/") for tail in tails}):
        places = {place for tail in tails if tail.count("/") == depth for place in _below(path, *tail.split("/"))}
        found = [place for place in sorted(places) if fits(place)]
        if len(found) > 1:
            raise BenchError(
                f"{path}: this folder has two copies, {found[0]} and {found[1]}. Name the one that is meant"
            )
        if found:
            entries(found[0], path)  # refuses links that lead out
            return found[0]
    return None


def _below(path: Path, *names: str) -> Iterator[Path]:
    """Yield the folders of these names, each in the one before, in any case.

    `*` is any name that tools do not leave.
    """
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
    """Return a name in the form in which names are compared without regard to case."""
    return composed(name).casefold()


def at(base: Path, relative: str) -> Path:
    """Return a file or folder below a base, spelt as on the disk where that differs in case.

    A path that does not exist is returned as it is written.
    """
    place = base
    for name in relative.split("/"):
        exact = place / name
        place = exact if os.path.lexists(exact) else next(_same_name(place, name), exact)
    return place


def similar(base: Path, relative: str) -> Path | None:
    """Return the file or folder below a base whose path is most like the wanted one, as images/a is like Image/a.

    Names with an ending are those of files, which must be more alike: the names of two lists may differ in one word.
    """
    from difflib import get_close_matches

    place = base
    for name in relative.split("/"):
        is_file = "." in name
        alike = [entry for entry in entries(place, base) if entry.is_dir() != is_file and not is_archive(entry.name)]
        there = {folded(entry.name): Path(entry.path) for entry in alike}
        near = get_close_matches(folded(name), there, n=1, cutoff=0.9 if is_file else 0.75)
        if not near:
            return None
        place = there[near[0]]
    return place


def _same_name(folder: Path, name: str) -> Iterator[Path]:
    """Yield the entries of a folder that have a name, in any case."""
    try:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if folded(entry.name) == folded(name):
                yield Path(entry.path)
    except OSError:
        return


def entries(
    folder: Path, root: Path, ending: str = "", passed_over: PassedOver | None = None
) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name; none where the folder does not exist.

    Files that tools leave, including hidden files, are excluded and counted in `passed_over`.

    Args:
        folder: The folder.
        root: The folder that the user named.
        ending: Only names with this ending are returned, in any case.
        passed_over: Receives the excluded files.

    Raises:
        BenchError: The folder may not be read, two names differ only in case (another machine would see one file),
            links form a circle, or a link leads out of root and the user does not allow that.
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
                f"{folder}: {other} and {entry.name} differ only in case. Rename or remove one, so that every machine "
                f"sees the same files"
            )
        if entry.is_symlink():
            target = Path(os.path.realpath(entry.path))
            if not follow and not target.is_relative_to(top):
                raise _leads_out(f"{entry.path}: this link", root)
            if target.is_symlink() or any(place.is_relative_to(target) for place in _way_to(folder, root)):
                raise BenchError(f"{entry.path}: this link leads back to its own folder. Remove it")
    return found


def _leads_out(link: str, root: Path) -> NeedsKey:
    fault = f"{link} leads out of {root}. Put the files themselves there, or allow such links with"
    return NeedsKey(fault, "follow_links = true", "--follow-links")


def _way_to(folder: Path, root: Path) -> Iterator[Path]:
    """Yield the real paths of a folder and of its parents up to root; a link to any of them forms a circle."""
    for place in (folder, *folder.parents):
        yield Path(os.path.realpath(place))
        if place == root:
            return


def packed(path: Path, root: Path, depth: int = 2) -> list[Path]:
    """Return the packed archives in a folder and in its subfolders down to a depth, or the file itself.

    Args:
        path: A folder or a file.
        root: The folder that the user named, which links may not leave.
        depth: How many levels of subfolders are searched.
    """
    if path.is_file():
        return [path] if is_archive(path.name) else []
    found = entries(path, root)
    archives = [Path(entry.path) for entry in found if entry.is_file() and is_archive(entry.name)]
    inner = [Path(entry.path) for entry in found if depth and entry.is_dir()][:MOST_LOOKED_INTO]
    return archives + [archive for folder in inner for archive in packed(folder, root, depth - 1)]


def unpack_first(path: Path, root: Path) -> str:
    """Return the end of a sentence about missing files that may still be packed; the arguments are as in `packed`."""
    return f". Unpack {', '.join(map(str, found[:3]))} first" if (found := packed(path, root)) else ""


def folders(folder: Path, root: Path) -> list[Path]:
    """Return the subfolders of a folder, sorted by name."""
    return [Path(entry.path) for entry in entries(folder, root) if entry.is_dir()]


def images(folder: Path, root: Path, passed_over: PassedOver | None = None) -> list[Path]:
    """Return the image files in a folder and below it, sorted by name; `passed_over` receives the other files."""
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
    """Return the path below root that a file of the dataset names, relative to root or absolute.

    Args:
        root: The folder of the images.
        relative: The path as the dataset gives it.
        place: The file and line, for errors.
        movable: The key `images` determines root.

    Raises:
        BenchError: The path lies elsewhere.
    """
    text = relative.strip().replace("\\", "/")
    if not PurePosixPath(text).name or "\0" in text:
        raise BenchError(f"{place}: the file name is missing. Correct the line")
    if re.match(r"[A-Za-z]:", text):
        raise BenchError(
            f"{place}: {relative!r} begins with a drive of another machine. Write it as a path below {root}"
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
        fault += ". Name a folder that contains all images, or / for the whole disk:"
        raise NeedsKey(fault, 'images = "…"', "--images …")
    raise BenchError(f"{fault}. Paths must lie below it")


def _absolute(root: Path, text: str) -> Path | None:
    """Return an absolute path as one that begins with root, whichever links lead to it, or None."""
    wanted = Path(os.path.normpath(text))
    if wanted.is_relative_to(above := os.path.abspath(root)):
        return root / wanted.relative_to(above)
    real = Path(os.path.realpath(wanted.parent), wanted.name)
    if real.is_relative_to(above := os.path.realpath(root)):
        return root / real.relative_to(above)
    return None


def composed(name: str) -> str:
    """Return a name with its accents composed: macOS stores é as two characters where a list has one."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


class Files:
    """Looks up files below a folder, and reads each folder once.

    Names that differ only in the Unicode composition of accents are equal.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[Path, dict[str, list[Path]]] = {}

    def has(self, path: Path) -> bool:
        """Return True where a file exists."""
        return any(composed(found.name) == composed(path.name) for found in self._called(path, _stem(path.name)))

    def image(self, path: Path) -> Path | None:
        """Return the image that a path in a list means, or None.

        The case of the ending is ignored. The list may also omit the ending, even if the name has dots, or give another
        one; then the path means the only image of that name.
        """
        stem = _stem(path.name)
        alike = self._called(path, stem)
        for name in (path.name, composed(path.name)):
            if same := [found for found in alike if name in (found.name, composed(found.name))]:
                return same[0]
        ending = path.suffix.lower()
        if same := [found for found in alike if found.suffix.lower() == ending and kind_of(found) == "image"]:
            return same[0] if len(same) == 1 else None
        for name in (composed(path.name), stem if has_image_ending(path.name) else ""):
            if found := [file for file in self._called(path, name) if kind_of(file) == "image"]:
                return found[0] if len(found) == 1 else None
        return None

    def _called(self, path: Path, stem: str) -> list[Path]:
        """Return the files in the folder of a path that have a given name without its ending."""
        folder = path.parent
        if (known := self._known.get(folder)) is None:
            known = self._known[folder] = {}
            for entry in entries(self._there(folder), self._root):
                if not entry.is_dir():
                    known.setdefault(_stem(entry.name), []).append(Path(entry.path))
        return known.get(stem, [])

    def _there(self, folder: Path) -> Path:
        """Return a folder as the disk spells it."""
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


def image_size(path: Path) -> tuple[int, int] | None:
    """Return the width and height of an upright image from its header, or None where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return image.size[::-1] if turned else image.size
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        return None


def image_root(settings: DomainSettings, usual: Path, listed_in: str) -> Path:
    """Return the folder to which the paths of a list or table are relative.

    Args:
        settings: The choices of the user, among them `images`.
        usual: The folder where the user does not name one.
        listed_in: Name of the list or table, for the error.

    Raises:
        NeedsKey: The folder does not exist.
    """
    root = settings.images or usual
    if not root.is_dir():
        fault = (
            f"{root}: this folder does not exist. Name the folder to which the paths of {listed_in} are relative with"
        )
        raise NeedsKey(fault, "images = …", "--images")
    return root


def first_file(root: Path, *names: str) -> Path | None:
    """Return the first of some files that exists below root, in any case, or None."""
    files = Files(root)
    return next((path for path in (at(root, name) for name in names) if files.has(path)), None)
