"""What a reader is: a dataset knows the layouts in which people have it; a layout finds itself below a path and lists
faces.

A reader never opens an image. It says which faces there are, what they are labelled, and what is wrong with the folder;
`prepare.py` decodes. This is the contract; `files.py` and `faces.py` hold what readers are made of.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fergen_bench.datasets.files import at, folders, following_links, nearest, packed
from fergen_bench.datasets.kinds import PassedOver, is_archive
from fergen_bench.datasets.numbering import UnknownNumbers, check_numbers
from fergen_bench.error import BenchError, NeedsKey, did_you_mean
from fergen_bench.files.bounded import printable
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

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

    def __post_init__(self) -> None:
        for key in ("id", "native_label", "subject"):
            text = getattr(self, key)
            if text is not None and not text.isprintable():
                object.__setattr__(self, key, printable(text))


FaultKind = Literal["missing", "extra", "label", "relabelled", "duplicate", "twin", "unreadable"]


@dataclass(frozen=True)
class Fault:
    """Something about a copy that is not as it should be, and does not keep the rest from being read."""

    kind: FaultKind  # a listed file that is missing; a file nobody lists; an image in two splits; …
    where: str  # file, or file:line
    what: str  # one sentence

    def __post_init__(self) -> None:
        object.__setattr__(self, "where", printable(self.where))
        object.__setattr__(self, "what", printable(self.what))

    def __str__(self) -> str:
        return self.what if self.where in self.what else f"{self.where}: {self.what}"


@dataclass
class Listing:
    """What a layout holds."""

    faces: list[Face] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)  # why faces were left out → how many
    faults: list[Fault] = field(default_factory=list)
    passed_over: PassedOver = field(default_factory=PassedOver)  # what stands beside the faces and is not read
    natives: dict[str, Counter[str]] = field(default_factory=dict)  # split → native label → faces, also those left out
    places: dict[str, str] = field(default_factory=dict)  # id of a face with a box → file:line that gives it
    labels: Mapping[str, str] = field(default_factory=dict)  # what the native labels were taken to mean
    notes: list[str] = field(default_factory=list)  # what the reader should know, one sentence each
    about: dict[str, object] = field(default_factory=dict)  # choices that made the labels: more keys of domain.json
    expected: Mapping[str, Mapping[str, int]] | None = None  # counts under these choices, where not the dataset's own

    def require_faces(self, place: Path | str, split: str | None = None) -> None:
        """Refuses a listing without faces, or without any of a split. place: what was read."""
        if any(split in (None, face.split) for face in self.faces):
            return
        reasons = [f"{count:,} left out: {reason}" for reason, count in self.dropped.items()]
        advice = ("see to labels = { … }", "see to --labels") if reasons else ("see that it is whole",) * 2
        if missing := [fault for fault in self.faults if fault.kind == "missing"]:
            reasons.append(f"{len(missing):,} missing, such as {missing[0].where}: {missing[0].what}")
            where = "see that the images are there, or say where they are with"
            advice = (f"{where} images = …", f"{where} --images")
        raise NeedsKey(f"{place}: none of its faces can be used ({'; '.join(reasons) or 'it has none'});", *advice)


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset lies on disks."""

    name: str
    shape: str  # the files that make it, for messages and docs: "Image/aligned/*.jpg, EmoLabel/list_patition_label.txt"
    fits: Callable[[Path], bool]  # whether a path is the layout's base
    read: Callable[[Path, DomainSettings], Listing]  # base, settings → faces
    official: bool = True  # whether its splits are the owner's
    asked_only: bool = False  # never found by itself: what it reads is seldom what is meant, such as whole photographs
    roots: tuple[str, ...] = ()  # folders in which it is unpacked, such as RAF/basic
    crop: str = ""  # how faces lie in its images, where neither boxes nor names show it: whole photographs
    parts: tuple[str, ...] = ()  # the files and folders without which it is nothing, to name one that is missing
    uses: tuple[str, ...] = ()  # of OPTIONAL, the settings that it reads


OPTIONAL = ("images", "columns", "label_rule", "label_source", "subject")
"""Settings that only some layouts read, and that the others refuse."""


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
        """The layout below a path, and its base: in the path itself or a layout's roots in it, or else in the only
        folder that is there, as archives unpack. None, or two at once, are refused; where the first holds all that the
        others hold, it is the one.
        """
        known = {layout.name: layout for layout in self.layouts}
        if wanted is not None and wanted not in known:
            raise BenchError(f"{self.name} has no layout {wanted!r}{did_you_mean(wanted, known)}")
        asked = self.layouts if wanted is None else (known[wanted],)
        try:
            tried = [layout for layout in asked if wanted is not None or not layout.asked_only]
            found = next(filter(None, (_fitting(tried, place) for place in _unpacked(path))), [])
            glimpse = _glimpse(path)
        except OSError as error:
            raise BenchError(f"{error.filename or path}: cannot be read: {error.strerror}") from None
        if not found:
            if nearly := _nearly(self, asked, path):
                raise BenchError(nearly)
            shapes = "".join(
                f"\n  {layout.name}: {layout.shape}" + (" (only with --layout)" if layout.asked_only else "")
                for layout in asked
            )
            raise BenchError(
                f"{path} holds no layout of {self.title} that is known here. It holds {glimpse}{_unpack(path)}; "
                f"expected one of{shapes}"
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
        for archive in packed(base):
            listing.passed_over.add(archive, "archive")
    listing.require_faces(f"{base} ({kind.title}, layout {layout.name})")
    twice = [name for name, count in Counter(face.id for face in listing.faces).items() if count > 1]
    if twice:
        raise BenchError(
            f"{base}: {many(len(twice), 'name', 'stand')} for several faces, such as {twice[0]}; names must differ"
        )
    if shared := _in_both(listing.faces):
        listing.notes.append(
            f"{many(len(shared), 'subject', 'are')} in the test split and in what is learned from, such as "
            f"{shared[0]}: scores on them say less about people never seen."
        )
    return layout, listing


def _refuse_unread(kind: Dataset, layout: Layout, settings: DomainSettings) -> None:
    """Refuses a setting that the layout does not read, so that nobody takes it for heeded."""
    for key in OPTIONAL:
        default = type(settings).model_fields[key].get_default(call_default_factory=True)
        if key not in layout.uses and getattr(settings, key) != default:
            fault = f"{settings.path}: {kind.title} in the layout {layout.name} has no use for {key};"
            raise NeedsKey(fault, f"leave out {key} = …", f"leave out --{key.replace('_', '-')}")


def _nearly(kind: Dataset, layouts: Iterable[Layout], path: Path) -> str | None:
    """A sentence about the layout of which most is there; None where nothing of any is."""
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
    lacks, them = ("is", "it") if len(missing) == 1 else ("are", "them")
    return (
        f"{base}: {' and '.join(missing)} {lacks} missing, without which it is not {kind.title} in the layout "
        f"{layout.name}; put {them} there{instead}{_unpack(base)}"
    )


def _present(layout: Layout, base: Path) -> list[str]:
    return [part for part in layout.parts if at(base, part).exists()]


def _unpack(path: Path) -> str:
    """The end of a sentence about what is not there, where it may still be packed."""
    return f". Unpack {', '.join(map(str, found[:3]))} first" if (found := packed(path)) else ""


def _in_both(faces: Iterable[Face]) -> list[str]:
    """The subjects that are tested and learned from."""
    of: dict[bool, set[str]] = {True: set(), False: set()}
    for face in faces:
        if face.subject is not None:
            of[face.split == "test"].add(face.subject)
    return sorted(of[True] & of[False])


def _unpacked(path: Path) -> Iterator[Path]:
    """The path, the folder that is the only one in it, and the folder that is the only one in that."""
    place = path
    for _ in range(3):
        yield place
        inner = folders(place, path)
        if len(inner) != 1:
            return
        place = inner[0]


def _fitting(layouts: Iterable[Layout], path: Path) -> list[tuple[Layout, Path]]:
    """The layouts that a path holds, with their bases."""
    bases = ((layout, nearest(path, layout.fits, layout.roots)) for layout in layouts)
    return [(layout, base) for layout, base in bases if base is not None]


def _first_holds_all(found: Sequence[tuple[Layout, Path]], path: Path) -> bool:
    """Whether the first of several layouts is official, and every face of the others is in it, with the same expression
    in the same split: the same file, or a copy of its name.
    """
    from fergen_bench.datasets.settings import DomainSettings

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
        return f"one file{' that is packed' if is_archive(path.name) else ''}"
    names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in os.scandir(path))
    if not names:
        return "nothing"
    return ", ".join(names[:6]) + (f" and {len(names) - 6:,} more" if len(names) > 6 else "")
