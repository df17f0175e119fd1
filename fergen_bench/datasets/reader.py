"""Define the contract of a reader: a dataset has layouts, and a layout recognises a folder and lists its faces.

A reader does not decode images. It lists the faces with their labels and reports what is wrong with the folder;
`prepare.py` decodes. Readers are built from `files.py`, `class_folders.py`, `gathering.py` and `list_files.py`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fergen_bench.datasets.files import at, folders, following_links, nearest, packed, similar, unpack_first
from fergen_bench.datasets.kinds import PassedOver, is_archive
from fergen_bench.datasets.numbering import UnknownNumbers, check_numbers
from fergen_bench.error import BenchError, NeedsKey, did_you_mean
from fergen_bench.files.bounded import printable
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels of the image file."""


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
    subject: str | None = None  # the person in the image, where known
    extra: Mapping[str, str] | None = None  # more columns of labels.csv, such as votes

    def __post_init__(self) -> None:
        for key in ("id", "native_label", "subject"):
            text = getattr(self, key)
            if text is not None and not text.isprintable():
                object.__setattr__(self, key, printable(text))


FaultKind = Literal["missing", "extra", "label", "relabelled", "duplicate", "split-overlap", "unreadable"]


@dataclass(frozen=True)
class Fault:
    """A defect of a copy that does not prevent the rest from being read."""

    kind: FaultKind  # such as a listed file that is missing, a file that is not listed, an image in two splits
    where: str  # file, or file:line
    what: str  # one sentence

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", printable(self.where))
        object.__setattr__(self, "what", printable(self.what))

    def __str__(self) -> str:
        return self.what if self.where in self.what else f"{self.where}: {self.what}"


@dataclass
class Listing:
    """The faces of a copy, and everything else that a reader finds."""

    faces: list[Face] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # reason → number of faces that were left out
    faults: list[Fault] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)  # files that are not read
    natives: dict[str, Counter[str]] = field(
        default_factory=dict
    )  # split → native label → faces, including those left out
    places: dict[str, str] = field(default_factory=dict)  # id of a face with a box → file:line that gives it
    labels: Mapping[str, str] = field(default_factory=dict)  # native label → expression
    notes: list[str] = field(default_factory=list)  # one sentence each, for the user
    about: dict[str, object] = field(default_factory=dict)  # more content of domain.json
    expected: Mapping[str, Mapping[str, int]] | None = None  # counts, where they are not the dataset's
    split_drawn: bool = False  # the test split was drawn, so test_share and split_seed have an effect

    def require_faces(self, place: Path | str, split: str | None = None) -> None:
        """Refuse a listing without faces, or without faces of a split.

        Args:
            place: The file or folder that was read, for the error.
            split: train, val or test; None means any.

        Raises:
            NeedsKey: There are no such faces.
        """
        if any(split in (None, face.split) for face in self.faces):
            return
        reasons = [f"{count:,} left out: {reason}" for reason, count in self.dropped.items()]
        advice = ("Check labels = { … }", "Check --labels") if reasons else ("Check that it is complete",) * 2
        if missing := [fault for fault in self.faults if fault.kind == "missing"]:
            reasons.append(f"{len(missing):,} missing, such as {missing[0].where}: {missing[0].what}")
            where = "Check that the images are there, or name their folder with"
            advice = (f"{where} images = …", f"{where} --images")
        raise NeedsKey(f"{place}: none of its faces can be used ({'; '.join(reasons) or 'it has none'}).", *advice)


@dataclass(frozen=True)
class Layout:
    """One form in which a dataset lies on disks."""

    name: str
    shape: str  # its files, for messages and docs: "Image/aligned/*.jpg, EmoLabel/list_patition_label.txt"
    fits: Callable[[Path], bool]  # returns True where the layout begins in a folder
    read: Callable[[Path, DomainSettings], Listing]  # folder, settings → listing
    official: bool = True  # its splits are the owner's
    asked_only: bool = False  # only read where its name is given, since it is seldom meant, such as whole photographs
    roots: tuple[str, ...] = ()  # folders in which it is unpacked, such as RAF/basic
    crop: str = ""  # how faces are cropped, where neither boxes nor names show it
    parts: tuple[str, ...] = ()  # files and folders that it requires, to name a missing one
    uses: tuple[str, ...] = ()  # the settings among OPTIONAL that it reads


OPTIONAL = ("images", "columns", "label_rule", "label_source", "subject")
"""Settings that only some layouts read, and that the others refuse."""


@dataclass(frozen=True)
class Dataset:
    """A dataset as its owner defines it.

    Counts are split → expression → faces. The split is `all` where the owner published none, and the expression is
    `all` where only a total is known.
    """

    name: str
    title: str
    layouts: tuple[Layout, ...]
    request: str = ""  # how to get it, one sentence
    expected: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    scored: Mapping[str, str] = field(
        default_factory=dict
    )  # split profile → the split that is scored, where it is not test

    def layout(self, path: Path, wanted: str | None = None) -> tuple[Layout, Path]:
        """Return the layout of a copy and the folder in which it begins.

        The layout begins in the path itself, in one of its roots, or in the only folder there, as archives unpack.
        Where several layouts fit, the first one is returned if it has all faces of the others.

        Args:
            path: The folder or file that the user named.
            wanted: Name of a layout, or None to recognise it.

        Raises:
            BenchError: No layout fits, several fit, or the path cannot be read.
        """
        known = {layout.name: layout for layout in self.layouts}
        if wanted is not None and wanted not in known:
            raise BenchError(f"{path}: {self.name} does not have a layout {wanted!r}{did_you_mean(wanted, known)}")
        asked = self.layouts if wanted is None else (known[wanted],)
        try:
            tried = [layout for layout in asked if wanted is not None or not layout.asked_only]
            found = next(filter(None, (_fitting(tried, place) for place in _unpacked(path))), [])
            glimpse = _glimpse(path)
        except OSError as error:
            raise BenchError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
        if not found:
            if nearly := _nearly(self, asked, path) or _part_of_copy(self, path):
                raise BenchError(nearly)
            shapes = "".join(
                f"\n  {layout.name}: {layout.shape}" + (" (only with --layout)" if layout.asked_only else "")
                for layout in asked
            )
            raise BenchError(
                f"{path}: this is not a known layout of {self.title}. {glimpse}{unpack_first(path, path)}; "
                f"expected one of{shapes}"
            )
        if len(found) > 1 and not _first_holds_all(found, path):
            names = " and ".join(layout.name for layout, _ in found)
            raise BenchError(
                f"{path}: {len(found)} layouts of {self.title} fit, {names}. Choose one with --layout, or layout = … "
                f"in "
                f"bench.toml"
            )
        return found[0]


def read(kind: Dataset, settings: DomainSettings) -> tuple[Layout, Listing]:
    """Return the layout and the faces of a copy of a dataset.

    Args:
        kind: The dataset.
        settings: The location and the choices of the user.

    Raises:
        BenchError: The copy cannot be read, has no faces or has two faces with one id, or a setting has no effect.
    """
    with following_links(settings.follow_links):
        return _read(kind, settings)


def _read(kind: Dataset, settings: DomainSettings) -> tuple[Layout, Listing]:
    layout, base = kind.layout(settings.path, settings.layout)
    _refuse_unread(kind, layout, settings)
    try:
        listing = layout.read(base, settings)
    except OSError as error:
        raise BenchError(f"{error.filename or base}: cannot be read: {error.strerror}") from None
    except UnknownNumbers as error:
        raise error.of(kind.title, kind.expected) from None
    from fergen_bench.datasets.boxes import settle_boxes

    settle_boxes(listing)
    expected = kind.expected if listing.expected is None else listing.expected
    check_numbers(str(base), kind.title, listing.natives, listing.labels, expected, settings)
    if any(fault.kind == "missing" for fault in listing.faults):
        for archive in packed(base, settings.path):
            listing.passed_over.add(archive, "archive")
    listing.require_faces(f"{base} ({kind.title}, layout {layout.name})")
    _refuse_without_effect(listing, settings)
    twice = [name for name, count in Counter(face.id for face in listing.faces).items() if count > 1]
    if twice:
        raise BenchError(
            f"{base}: {many(len(twice), 'name', 'belong')} to several faces, such as {twice[0]}. Give them different "
            f"names"
        )
    if shared := _in_both(listing.faces):
        listing.notes.append(
            f"{many(len(shared), 'subject', 'are')} in the test split and in another split, such as "
            f"{shared[0]}: scores on them mean less for people never seen."
        )
    return layout, listing


def _refuse_unread(kind: Dataset, layout: Layout, settings: DomainSettings) -> None:
    """Refuse a setting that the layout does not read, since it would have no effect."""
    for key in OPTIONAL:
        default = type(settings).model_fields[key].get_default(call_default_factory=True)
        if key not in layout.uses and getattr(settings, key) != default:
            raise _unused(settings, key, f"{kind.title} in the layout {layout.name} does not use it")


def _refuse_without_effect(listing: Listing, settings: DomainSettings) -> None:
    """Refuse a setting that has no effect on the faces that were found."""
    defaults = type(settings).model_fields
    if settings.margin and settings.crop is None and not any(face.box is not None for face in listing.faces):
        raise _unused(settings, "margin", "it widens boxes, and none of these faces has a box")
    for key in ("test_share", "split_seed"):
        if not listing.split_drawn and getattr(settings, key) != defaults[key].get_default():
            raise _unused(settings, key, "it draws a test split, and these faces have a split already")


def _unused(settings: DomainSettings, key: str, why: str) -> NeedsKey:
    """Return the error for a setting without effect."""
    fault = f"{settings.path}: {key} has no effect: {why}."
    return NeedsKey(fault, f"Remove {key} = …", f"Remove --{key.replace('_', '-')}")


def _nearly(kind: Dataset, layouts: Iterable[Layout], path: Path) -> str | None:
    """Return a sentence about the layout that is most nearly complete, or None where no part of any exists."""
    if path.is_file():
        return None
    near: list[tuple[int, Layout, Path, list[str]]] = []
    for layout in layouts:
        for place in _unpacked(path):
            base = nearest(place, lambda folder: bool(_present(layout, folder)), layout.roots)  # noqa: B023
            if layout.parts and base is not None:
                missing = [part for part in layout.parts if part not in _present(layout, base)]
                near.append((len(missing), layout, base, missing))
    if not near:
        return None
    _, layout, base, missing = min(near, key=lambda found: found[0])
    if not missing:
        return None
    others = [other for other in kind.layouts if other.asked_only and other.fits(base)]
    instead = "".join(f", or read {other.shape} with --layout {other.name}" for other in others)
    fault = (
        f"{base}: {' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing, without which it is not "
        f"{kind.title} in the layout {layout.name}"
    )
    alike = {part: found for part in missing if (found := similar(base, part)) is not None}
    fault += "".join(f". Rename {found.relative_to(base)} to {part}" for part, found in alike.items())
    rest = [part for part in missing if part not in alike]
    if not rest:
        return fault
    them = "it" if len(missing) == 1 else " and ".join(rest) if alike else "them"
    return f"{fault}. Put {them} there{instead}{unpack_first(base, path)}"


def _part_of_copy(kind: Dataset, path: Path) -> str | None:
    """Return a sentence about the copy of which the path is a part, at most two folders up, or None."""
    whole = Path(os.path.abspath(path))
    for layout in kind.layouts if kind.request else ():
        shape = re.sub(r"(\w*)\{([^}]*)\}", lambda m: " ".join(m[1] + name for name in m[2].split(",")), layout.shape)
        names = re.findall(r"[\w.-]+", shape.casefold())
        for folder in whole.parents[:2]:
            with suppress(OSError, BenchError):  # nobody chose the folder above, so its faults do not matter
                if whole.relative_to(folder).parts[0].casefold() in names and layout.fits(folder):
                    return (
                        f"{path}: this is a part of a copy of {kind.title} in the layout {layout.name}. Name the "
                        f"folder above, {folder}"
                    )
    return None


def _present(layout: Layout, base: Path) -> list[str]:
    return [part for part in layout.parts if at(base, part).exists()]


def _in_both(faces: Iterable[Face]) -> list[str]:
    """Return the subjects of which faces are in the test split and in another split."""
    of: dict[bool, set[str]] = {True: set(), False: set()}
    for face in faces:
        if face.subject is not None:
            of[face.split == "test"].add(face.subject)
    return sorted(of[True] & of[False])


def _unpacked(path: Path) -> Iterator[Path]:
    """Yield the path, its only subfolder, and the only subfolder of that."""
    place = path
    for _ in range(3):
        yield place
        inner = folders(place, path)
        if len(inner) != 1:
            return
        place = inner[0]


def _fitting(layouts: Iterable[Layout], path: Path) -> list[tuple[Layout, Path]]:
    """Return the layouts that a path has, with their folders."""
    bases = ((layout, nearest(path, layout.fits, layout.roots)) for layout in layouts)
    return [(layout, base) for layout, base in bases if base is not None]


def _first_holds_all(found: Sequence[tuple[Layout, Path]], path: Path) -> bool:
    """Return True where the first of several layouts is official and has every face of the others.

    A face counts if it is the same file or a copy of the same name, with the same expression in the same split.
    """
    from fergen_bench.datasets.settings import DomainSettings

    if not found[0][0].official:
        return False
    try:
        first, *others = (layout.read(base, DomainSettings(path=path)).faces for layout, base in found)
    except BenchError:
        return False  # the full error comes when the user names the layout
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
    """Return the beginning of a sentence about the content of a folder."""
    if path.is_file():
        return f"It is one file{' that is packed' if is_archive(path.name) else ''}"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(path))
    if not names:
        return "The folder is empty"
    return "The folder has " + ", ".join(names[:6]) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "")
