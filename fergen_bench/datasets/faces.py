"""How files become faces: what a native label means, each face once, class folders, lists of `path label`, and splits
where the owner gave none.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.data.labels import ALIASES, EXPRESSIONS
from fergen_bench.data.source import disjoint_share
from fergen_bench.datasets.columns import first_name, labelled_lines
from fergen_bench.datasets.files import Files, entries, first_line, folders, images, inside, packed, text_of
from fergen_bench.datasets.kinds import IMAGES, kind_of
from fergen_bench.datasets.numbering import (
    CONTEMPT,
    LEFT_OUT,
    Labels,
    UnknownNumbers,
    is_number,
    label_map,
    own_numbers,
    plain,
)
from fergen_bench.datasets.reader import Box, Face, Fault, Layout, Listing
from fergen_bench.error import BenchError, NeedsKey
from fergen_bench.files.bounded import printable
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

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
"""Names of folders (in lower case) that are splits."""

CLASSES = frozenset({*ALIASES, CONTEMPT})
"""Names of class folders (in lower case) that need no map."""


SYNONYMS: Mapping[str, str] = {
    word: name
    for name, words in {
        "surprise": ("amazed", "amazement", "astonished", "shock", "shocked"),
        "fear": ("scared", "fright", "frightened", "terror", "terrified", "anxious"),
        "disgust": ("revulsion", "aversion", "yuck"),
        "happiness": ("joy", "joyful", "smile", "smiling", "laughing", "cheerful", "glad"),
        "sadness": ("sorrow", "grief", "crying", "depressed"),
        "anger": ("rage", "furious", "annoyed"),
        "neutral": ("calm", "expressionless", "neutrality"),
    }.items()
    for word in words
}
"""Words that people use for expressions: suggested where one is met, never taken."""


def expression_of(native: str, labels: Labels, place: str) -> str:
    """A native label → an expression, or LEFT_OUT. labels: the dataset's or the user's map, consulted before the usual
    names. A number that means nothing is UnknownNumbers.
    """
    native = printable(native)
    for key in (native, native.casefold(), plain(native)):
        if key in labels:
            return labels[key]
    name = native.strip().casefold()
    if name == CONTEMPT:
        return LEFT_OUT
    if name in ALIASES:
        return ALIASES[name]
    if is_number(plain(native)):
        raise UnknownNumbers(plain(native), place, {}, own_numbers(labels))
    meant = _near_expression(name) or "…"
    fault = f"{place}: '{native}' is no expression here; expected {', '.join(labels) or ', '.join(EXPRESSIONS)}. "
    fault += "Say what it is with" if meant != "…" else "Say which of the seven it is with"
    key, mark = (f"'{native}'", "'") if "\\" in native else (f'"{native}"', "")  # neither escapes it in such quotes
    in_toml = f'labels = {{ {key} = "{meant}" }}, or "" to leave it out'
    on_command_line = f"--labels {mark}{native}={meant}{mark}, or --labels {mark}{native}={mark} to leave it out"
    if not native.strip() or set(native) & set(",= "):  # what the option cannot say
        on_command_line = f"{in_toml}, in a table of bench.toml"
    raise NeedsKey(fault, in_toml, on_command_line)


class Labelling:
    """Says what native labels mean, and counts them in a listing. Of numbers that mean nothing all are found first."""

    def __init__(self, listing: Listing, labels: Labels) -> None:
        self._listing, self._labels = listing, labels
        self._unknown: UnknownNumbers | None = None
        listing.labels = labels

    def expression(self, native: str, split: str, place: str, faces: int = 1) -> str:
        """A native label of so many faces → an expression, or LEFT_OUT."""
        self._listing.natives.setdefault(split, Counter())[plain(native)] += faces
        try:
            return expression_of(native, self._labels, place)
        except UnknownNumbers as error:
            self._unknown = self._unknown or error
            return LEFT_OUT

    def close(self) -> None:
        """Refuses the numbers that mean nothing."""
        if (error := self._unknown) is not None:
            raise UnknownNumbers(error.native, error.place, self._listing.natives, error.own)


def _near_expression(name: str) -> str | None:
    """The expression that a label in lower case, which is no usual name, may mean: a guess to be shown, never used."""
    from difflib import get_close_matches

    guesses = {alias: meant for alias, meant in {**ALIASES, **SYNONYMS}.items() if len(alias) > 2}
    return next((guesses[near] for near in get_close_matches(name, guesses, n=1, cutoff=0.7)), None)


class Gathering:
    """Adds the faces that files name to a listing, each once. What its label leaves out is counted; a missing image, a
    face that is named twice and, if asked for, an image that nothing names are faults.
    """

    def __init__(self, listing: Listing, root: Path, labels: Labels, reasons: Mapping[str, str] | None = None) -> None:
        """root: where the ids of faces begin. reasons: native labels → what they are called where they are left out."""
        self._listing, self._root, self._reasons = listing, root, reasons or {}
        self._labelling = Labelling(listing, labels)
        self._files = Files(root)
        self._named: set[Path] = set()
        self._first: dict[str, tuple[str, str, str]] = {}
        self._other_endings = 0

    def add(
        self,
        place: str,
        wanted: Path,
        native: str,
        split: str,
        *,
        number: int | None = None,
        box: Box | None = None,
        unusable: str | None = None,
        subject: str | None = None,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """The face of a row. place: file:line. wanted: its image, as the row says; another ending is allowed. number:
        tells the faces of one image apart. unusable: why the row is left out although its label is not.
        """
        expression = self._labelling.expression(native, split, place)
        image = self._image(wanted)
        file = image or wanted
        name = file.relative_to(self._root).as_posix()
        face_id = name if number is None else f"{name}#{number}"
        first, before, meant = self._first.setdefault(face_id, (place, native, expression))
        if first != place:
            what = f"{place}: {face_id} is listed twice, as {native} here and as {before} at {first}, which counts."
            self._listing.faults.append(Fault("duplicate" if meant == expression else "label", place, what))
            self._listing.dropped["listed twice" if meant == expression else "listed twice, with two labels"] += 1
        elif expression == LEFT_OUT:
            self._listing.dropped[self._reasons.get(plain(native), native)] += 1
        elif unusable is not None:
            self._listing.dropped[unusable] += 1
        elif image is None:
            self._listing.faults.append(Fault("missing", place, f"{name} is listed, but is not in {self._root}."))
        else:
            self._other_endings += image != wanted
            if box is not None:
                self._listing.places[face_id] = place
            face = Face(face_id, split, expression, native, image, box=box, subject=subject, extra=extra)
            self._listing.faces.append(face)

    def leave_out(self, wanted: Path, reason: str) -> None:
        """Counts a row without a label."""
        self._image(wanted)
        self._listing.dropped[reason] += 1

    def _image(self, wanted: Path) -> Path | None:
        image = self._files.image(wanted)
        self._named.add(image or wanted)
        return image

    def close(self, *everything: Path) -> None:
        """Says what shows only in the end. everything: folders of which every image should have been named."""
        self._labelling.close()
        if self._other_endings:
            note = (
                f"{many(self._other_endings, 'image', 'have')} another ending than the list says, such as png for bmp."
            )
            self._listing.notes.append(note)
        for image in (
            image for folder in everything for image in images(folder, self._root, self._listing.passed_over)
        ):
            if image not in self._named:
                where = image.relative_to(self._root).as_posix()
                self._listing.faults.append(Fault("extra", where, f"{image} is there, but nothing names it."))


# -------------------------------------------------------------------------------------------------------- class folders


def has_classes(folder: Path, root: Path, names: Collection[str] = CLASSES) -> bool:
    """Whether a folder holds a folder whose name is a known label."""
    return any(inner.name in names or inner.name.casefold() in names for inner in folders(folder, root))


def has_split_classes(base: Path, root: Path, names: Collection[str] = CLASSES) -> bool:
    """Whether a folder holds folders such as train/happy."""
    return any(has_classes(part, root, names) for part in folders(base, root) if part.name.casefold() in SPLITS)


def split_folders(base: Path, root: Path, splits: Mapping[str, str] = SPLITS) -> dict[str, Path]:
    """split → the folder of that name in a base. Two for one split are refused."""
    found: dict[str, Path] = {}
    for folder in folders(base, root):
        if (split := splits.get(folder.name.casefold())) is not None and (
            other := found.setdefault(split, folder)
        ) != folder:
            raise BenchError(f"{folder}: {other.name} stands beside it, and both mean {split}; remove one")
    return found


def class_folders(folder: Path, base: Path, split: str, labels: Labels, listing: Listing) -> Iterator[Face]:
    """The images in the class folders of a folder. Contempt and what the user leaves out is counted. An unknown or an
    empty class folder is refused; an image in no class folder is a fault. base: where ids begin.
    """
    labelling = Labelling(listing, labels)
    stray_files(folder, base, listing)
    for place in folders(folder, base):
        found = images(place, base, listing.passed_over)
        expression = labelling.expression(place.name, split, str(place), len(found))
        if expression == LEFT_OUT:
            listing.dropped[printable(place.name.casefold())] += len(found)
        elif not found:
            remedy = f"unpack {archives[0]}" if (archives := packed(place)) else "remove it if there really are none"
            raise BenchError(f"{place}: this class folder holds no images; {remedy}")
        else:
            for image in found:
                yield Face(image.relative_to(base).as_posix(), split, expression, place.name, image)
    labelling.close()


def stray_files(folder: Path, root: Path, listing: Listing) -> None:
    """Counts the files that stand beside class folders or splits. An image is a fault."""
    for entry in entries(folder, root, passed_over=listing.passed_over):
        if entry.is_dir():
            continue
        if (kind := kind_of(entry.path)) == "image":
            where = Path(entry.path).relative_to(root).as_posix()
            listing.faults.append(Fault("extra", where, f"{entry.path} is in no class folder."))
        elif kind != "data":
            listing.passed_over.add(entry.path, kind)


def split_class_folders(
    base: Path, labels: Labels, listing: Listing, splits: Mapping[str, str] = SPLITS
) -> Iterator[Face]:
    """The images of folders like train/happy/1.jpg. splits: names of folders in lower case → train, val or test."""
    parts = split_folders(base, base, splits)
    if not {"train", "test"} & set(parts):
        raise BenchError(f"{base}: has {', '.join(part.name for part in parts.values())} but neither train nor test")
    beside(base, base, parts.values(), listing)
    for split, part in parts.items():
        yield from class_folders(part, base, split, labels, listing)


def beside(folder: Path, root: Path, known: Collection[Path], listing: Listing) -> None:
    """A fault for every folder beside those that are read, and for every image."""
    others = (other for other in folders(folder, root) if other not in known)
    listing.faults += (
        Fault("extra", str(other), f"{other} is no part with class folders, and is not read.") for other in others
    )
    stray_files(folder, root, listing)


def with_box(face: Face, path: Path, listing: Listing) -> Iterator[Face]:
    """The face with the box in a file; none, and a fault, where that holds no box."""
    try:
        yield replace(face, box=box_of(path))
    except BenchError as error:
        listing.faults.append(Fault("unreadable", str(path), str(error)))


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

LISTS = frozenset({".txt", ".lst", ".list"})
_ENDINGS = "|".join(re.escape(suffix) for suffix in sorted(IMAGES))
_LINE = re.compile(rf"\S.*({_ENDINGS})([\s,;|]+\S+)+", re.IGNORECASE)


def names_an_image(line: str) -> bool:
    """Whether a line is like `a/b.jpg 3`; other columns and marks between them are for the reader to refuse."""
    return _LINE.fullmatch(line) is not None


def lists_in(place: Path, fits: Callable[[str], bool] = names_an_image) -> list[Path]:
    """The lists in a folder, by name: text files whose first line fits. Or the one that is named itself."""
    if place.is_file():
        return [place] if place.suffix.lower() != ".csv" and fits(first_line(place)) else []
    texts = [Path(e.path) for e in entries(place, place) if e.is_file() and Path(e.name).suffix.lower() in LISTS]
    return [path for path in texts if fits(first_line(path))]


def split_named(name: str, splits: Mapping[str, str] = SPLITS) -> str | None:
    """The split that a name says between other signs than letters, such as train for list_train_label. None where it
    says none, or two.
    """
    named = {splits[word] for word in re.split(r"[^a-z]+", name.casefold()) if word in splits}
    return named.pop() if len(named) == 1 else None


def read_lists(
    base: Path,
    settings: DomainSettings,
    labels: Labels,
    splits: Mapping[str, str] = SPLITS,
    fits: Callable[[str], bool] = names_an_image,
    reasons: Mapping[str, str] | None = None,
) -> Listing:
    """Faces of lists of `path label`. A split is what the list's name says (sfew_train.txt), else what the folders of
    a path say (Val_Aligned_Faces/…), else a share is taken. A face of a test list and another is a test face.
    """
    lists = lists_in(base, fits)
    named = {path: split_named(path.stem, splits) for path in lists}
    if (other := next((path for path in lists if named[path] is None), None)) and len(lists) > 1:
        raise BenchError(
            f"{other}: is one of {len(lists)} lists, but its name says neither train, val nor test; name the one list "
            f"that is meant"
        )
    lists.sort(key=lambda path: ("test", "val", "train", None).index(named[path]))
    root = settings.images or _start(lists[0])
    if not root.is_dir():
        fault = f"{root}: there is no such folder; say where the paths of the list begin with"
        raise NeedsKey(fault, "images = …", "--images")
    listing = Listing(about={"lists": [path.name for path in lists], "splits": "as given"})
    used = label_map(labels, settings)
    lines, column = labelled_lines(lists, used, settings)
    if column is not None:
        listing.notes.append(column)
    gathering = Gathering(listing, root, used, reasons)
    split_of = cache(lambda word: split_named(word, splits))  # the same few names for every face
    for path, place, name, native in lines:
        image = inside(root, name, place, movable=True)
        words = (path.stem, *image.relative_to(root).parts[:-1])
        split = next(filter(None, map(split_of, words)), "")
        gathering.add(place, image, native, split, subject=subject_of(image.name, settings.subject, place))
    gathering.close()
    listing.require_faces(lists[0] if len(lists) == 1 else base)
    unsplit = [face for face in listing.faces if not face.split]
    if unsplit and len(unsplit) < len(listing.faces):
        one = next(face for face in listing.faces if face.split)
        raise BenchError(
            f"{lists[0]}: {one.id} is of the {one.split} split, but nothing says of which {unsplit[0].id} is; name the "
            f"lists, or the folders, train, val and test"
        )
    if unsplit:
        listing.faces = with_splits(unsplit, settings)
        listing.about["splits"] = generated_splits(settings)
        listing.notes.append(f"The list says no splits; {settings.test_share:g} of each expression is the test split.")
    if {face.split for face in listing.faces} == {"val"}:
        raise BenchError(f"{base}: has lists for val but for neither train nor test")
    return listing


def _start(path: Path) -> Path:
    """Where the paths in a list begin: beside it, or in the folder beside it that holds the first of them."""
    place, name = first_name(path)
    home = path.parent
    if Files(home).image(inside(home, name, place, movable=True)) or os.path.isabs(name):
        return home
    return next((start for start in folders(home, home) if Files(start).image(inside(start, name, place))), home)


def list_layout(labels: Labels, splits: Mapping[str, str] = SPLITS, roots: tuple[str, ...] = ()) -> Layout:
    """Lists as the code of CAFE reads them. labels: what the numbers mean, which differs between datasets."""
    numbers = ", ".join(f"{number} {name}" for number, name in labels.items())
    return Layout(
        "list-file",
        f"*.txt with lines `relative/path.jpg label` ({numbers})",
        lambda path: bool(lists_in(path)),
        lambda base, settings: read_lists(base, settings, labels, splits),
        official=False,
        roots=roots,
        uses=("images", "columns", "subject"),
    )


# --------------------------------------------------------------------------------------------------------------- splits


def with_splits(faces: Sequence[Face], settings: DomainSettings) -> list[Face]:
    """Faces of a dataset without a split of its owner's: a share of every expression becomes the test split, seeded,
    and no subject is in both. A split without faces is refused.
    """
    import numpy as np

    labels = np.array([EXPRESSIONS.index(face.expression) for face in faces], np.int64)
    subjects = np.array([face.subject if face.subject is not None else face.id for face in faces])
    test = set(disjoint_share(labels, subjects, settings.test_share, "test split", settings.split_seed).tolist())
    if faces and len(test) in {0, len(faces)}:
        raise BenchError(_unsplittable(len(np.unique(subjects)), "train" if test else "test", len(faces), settings))
    return [replace(face, split="test" if place in test else "train") for place, face in enumerate(faces)]


def _unsplittable(subjects: int, split: str, faces: int, settings: DomainSettings) -> str:
    """Why a split without faces is all that can be made."""
    people = f"{subjects:,} subject" + "s" * (subjects != 1)
    found = f"there {'is' if subjects == 1 else 'are'} {people}"
    remedy = "divide the faces into train and test yourself"
    if settings.subject is not None:
        found = f"the pattern subject = {settings.subject!r} finds {people}"
        remedy = f"write one that tells people apart, or {remedy}"
    if subjects > 1:
        remedy = f"take another share than test_share = {settings.test_share:g}, or {remedy}"
    return (
        f"{settings.path}: the {split} split would have no faces: {found} in {faces:,} face{'s' * (faces != 1)}, and "
        f"nobody may be in both splits; {remedy}"
    )


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
