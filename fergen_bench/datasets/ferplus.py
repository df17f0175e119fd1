"""FERPlus: ten votes for each face of FER2013, and the rules that make a label of them.

The official code's rules (microsoft/FERPlus) are told apart by name, because published numbers differ by which was
used. Votes are joined to images by the image's name, never by a row number: the two differ for nearly every face.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.faces import (
    Gathering,
    has_split_classes,
    lists_in,
    read_lists,
    split_class_folders,
    split_folders,
)
from fergen_bench.datasets.fer2013 import PART_IN_NAME, image_rows, image_table, split_of
from fergen_bench.datasets.files import at, first_file, images, inside, list_file, nearest, table, whole_number
from fergen_bench.datasets.numbering import CONTEMPT, LEFT_OUT, label_map
from fergen_bench.datasets.reader import Dataset, Face, Fault, Layout, Listing
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings, LabelRule

COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""What is voted for, in the files' order. NF: not a face."""
EMOTIONS = 8
"""The first columns are emotions."""
NO_MAJORITY = ""
"""The label of votes that a rule finds too scattered."""
Votes = tuple[int, ...]
"""Ten numbers, in the order of COLUMNS."""

VOTES_FILE = "fer2013new.csv"
PARTS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
"""The official folders → splits."""
OFFICIAL_NAME = re.compile(r"^fer(\d{7})$")
FIRST_VALID, FIRST_TEST = 28638, 32220
"""The first number in an official file name that is of the validation part, and of the test part."""
CANONICAL = {str(number): name for number, name in enumerate(EXPRESSIONS)}
"""The ids of the list files that CAFE reads."""


# ---------------------------------------------------------------------------------------------------------------- rules


def label_of(votes: Sequence[int], rule: LabelRule) -> str:
    """One of COLUMNS, or NO_MAJORITY. Of equal votes the first column wins. The faces whose label is unknown or NF
    have no place in the dataset.

    majority, probability and multi-target are those of the official code, which first strikes out every single vote,
    and which labels validation and test by majority whatever the rule for train; here one rule labels all three parts.
    argmax8 and argmax10 are the plain maximum over the emotions, and over all ten columns.
    """
    if rule == "argmax8":
        return COLUMNS[_largest(votes[:EMOTIONS])] if any(votes[:EMOTIONS]) else "NF"
    if rule == "argmax10":
        return COLUMNS[_largest(votes)]
    votes = [number if number > 1 else 0 for number in votes]
    kept = {"majority": _majority, "probability": _probable, "multi-target": _targets}[rule](votes)
    return COLUMNS[_largest(kept)] if any(kept) else NO_MAJORITY


def _largest(votes: Sequence[int]) -> int:
    return max(range(len(votes)), key=votes.__getitem__)


def _majority(votes: Sequence[int]) -> Sequence[int]:
    """All votes, if one column has more than half of them; else none."""
    return votes if 2 * max(votes) > sum(votes) else ()


def _probable(votes: Sequence[int]) -> Sequence[int]:
    """The largest columns, those of one size together, until they hold three quarters of the votes or are three; none,
    if they hold no more than half of the votes, or are four. Once unknown or NF comes up the search ends, and its votes
    are kept only if no emotion came before it.
    """
    left, kept, total = list(votes), [0] * len(votes), sum(votes)
    reached = taken = 0
    while 4 * reached < 3 * total and taken < 3:
        most = max(left)
        for place in [place for place, number in enumerate(left) if number == most]:
            reached, left[place] = reached + most, 0
            is_emotion = place < EMOTIONS
            if is_emotion or not any(kept):
                kept[place], taken = most, taken + 1
            if not is_emotion:
                reached = total
                break
    return kept if 2 * sum(kept) > total and taken <= 3 else ()


def _targets(votes: Sequence[int]) -> Sequence[int]:
    """The columns that hold 30 % of the votes each; none, if they hold no more than half together."""
    kept = [number if 10 * number >= 3 * sum(votes) else 0 for number in votes]
    return kept if 2 * sum(kept) > sum(votes) else ()


# ---------------------------------------------------------------------------------------------------------------- votes


class Ballot(NamedTuple):
    """A row of one of the two official files of votes."""

    place: str  # file:line
    name: str  # of the image; empty where it is not a face
    split: str
    votes: Votes


def ballots(path: Path) -> Iterator[Ballot]:
    """The rows of fer2013new.csv, in its order, which is that of fer2013.csv."""
    for place, row in table(path, ("Usage", "Image name", *COLUMNS)):
        yield Ballot(place, row["Image name"], split_of(row["Usage"], place), _votes(row, place))


def part_ballots(path: Path, split: str) -> Iterator[Ballot]:
    """The rows of one part's label.csv, which has no header: name, box, ten votes."""
    for place, row in table(path, ("file name", "box", *COLUMNS), header=("file name", "box", *COLUMNS)):
        yield Ballot(place, row["file name"], split, _votes(row, place))


def _votes(row: Mapping[str, str], place: str) -> Votes:
    return tuple(whole_number(row[column], 0, 10, place, f"the votes for {column}") for column in COLUMNS)


class Sources(NamedTuple):
    """The files of votes in a copy."""

    fer2013new: Path | None
    label_csv: Mapping[str, Path]  # split → label.csv

    def choose(self, settings: DomainSettings, base: Path, listing: Listing) -> str:
        """The file of votes that counts, recorded in the listing."""
        there = [name for name, file in (("fer2013new", self.fer2013new), ("label.csv", self.label_csv)) if file]
        if not there:
            raise BenchError(
                f"{base}: there are no votes; put {VOTES_FILE} of github.com/microsoft/FERPlus there, without which "
                f"these images have no FERPlus labels"
            )
        source = settings.label_source or there[0]
        if source not in there:
            raise BenchError(
                f"{base}: label_source is {source!r}, which is not there; put it there or take label_source = "
                f'"{there[0]}"'
            )
        if settings.label_source is None and source != "fer2013new":
            listing.notes.append(
                f"The votes are those of label.csv, because {VOTES_FILE} is not there; the two differ for 1,602 images."
            )
        listing.about |= {"label_rule": settings.label_rule, "label_source": source}
        return source

    def ballots(self, source: str) -> Iterator[Ballot]:
        if source == "fer2013new" and self.fer2013new is not None:
            yield from ballots(self.fer2013new)
        elif source == "label.csv":
            for split, path in self.label_csv.items():
                yield from part_ballots(path, split)


INNER = ("*/*",)
"""Votes, images and their csv may each lie in a folder or two of its own."""


def sources(base: Path) -> Sources:
    """The files of votes in a folder, or in folders in it."""
    holder = nearest(base, lambda folder: first_file(folder, VOTES_FILE) is not None, INNER)
    parts = {**split_folders(base, base), **_parts(base)}
    found = {split: path for split, part in parts.items() if (path := first_file(part, "label.csv")) is not None}
    return Sources(None if holder is None else at(holder, VOTES_FILE), found)


def _parts(base: Path) -> dict[str, Path]:
    """split → FER2013Train, FER2013Valid or FER2013Test, in the folder or in a folder in it."""
    holder = nearest(base, lambda folder: any(at(folder, part).is_dir() for part in PARTS), INNER)
    places = {} if holder is None else {split: at(holder, part) for part, split in PARTS.items()}
    return {split: place for split, place in places.items() if place.is_dir()}


def _pixels(base: Path) -> Path | None:
    """The csv of pixels in a folder, or in a folder in it."""
    holder = nearest(base, lambda folder: image_table(folder) is not None, INNER)
    return None if holder is None else image_table(holder)


def _label(ballot: Ballot, settings: DomainSettings, listing: Listing) -> str | None:
    """The expression that the votes mean. None, and counted as dropped, where they mean none of the seven."""
    label = label_of(ballot.votes, settings.label_rule)
    if not ballot.name:
        listing.dropped["no image name"] += 1
    elif label == NO_MAJORITY:
        listing.dropped["no majority"] += 1
    elif label in {"unknown", "NF"}:
        listing.dropped["unknown or not a face"] += 1
    elif label == CONTEMPT:
        listing.dropped[CONTEMPT] += 1
    else:
        return label
    return None


def _columns(votes: Votes) -> dict[str, str]:
    """The votes as columns of labels.csv, the seven expressions first, in their order."""
    order = (*EXPRESSIONS, *COLUMNS[EMOTIONS - 1 :])
    return {f"votes_{column}": str(votes[COLUMNS.index(column)]) for column in order}


# -------------------------------------------------------------------------------------------------------------- layouts


def _read_csv(base: Path, settings: DomainSettings) -> Listing:
    """Images and names are joined row by row, as the owner made them, and held to agree in the part of each row. The
    votes are then found by name. Both rows of a name that occurs twice are kept, with the row in the second one's id.
    """
    pixels_file, found = _pixels(base), sources(base)
    if pixels_file is None or found.fer2013new is None:
        raise BenchError(
            f"{base}: holds the images of FER2013 without {VOTES_FILE}, which names them; put that file of "
            f"github.com/microsoft/FERPlus beside them"
        )
    listing = Listing()
    source = found.choose(settings, base, listing)
    by_name = {ballot.name: ballot for ballot in found.ballots(source)} if source == "label.csv" else None
    named: set[str] = set()
    seen: set[str] = set()
    number = -1
    for number, (image, ballot) in enumerate(zip_longest(image_rows(pixels_file), ballots(found.fer2013new))):
        if image is None or ballot is None:
            longer, shorter = (pixels_file, found.fer2013new) if ballot is None else (found.fer2013new, pixels_file)
            raise BenchError(
                f"{longer} has more rows than the {number:,} of {shorter}; the two are joined row by row, so both must "
                f"be as published, with 35,887 rows"
            )
        place, _, split, pixels = image
        if split != ballot.split:
            raise BenchError(
                f"{place}: this row is of the {split} part, but of the {ballot.split} part at {ballot.place}; the two "
                f"files are joined row by row, so both must be in the published order"
            )
        if by_name is not None and ballot.name:  # label.csv has one row for a name, and means the first image
            if ballot.name in named or ballot.name not in by_name:
                listing.dropped["named like an earlier row" if ballot.name in named else "not in label.csv"] += 1
                continue
            named.add(ballot.name)
            ballot = by_name[ballot.name]
        expression = _label(ballot, settings, listing)
        if expression is None:
            continue
        face_id = ballot.name
        if face_id in seen:
            face_id = f"{ballot.name}#row{number}"
            listing.faults.append(Fault("duplicate", place, f"{ballot.name} names an earlier row, too; both are kept"))
        seen.add(face_id)
        listing.faces.append(Face(face_id, split, expression, expression, pixels=pixels, extra=_columns(ballot.votes)))
    listing.require_faces(pixels_file)
    listing.expected = EXPECTED.get((source, settings.label_rule), {})
    return listing


def _has_images(path: Path) -> bool:
    """Only where images are in the folders: the official repository has them with nothing but label.csv inside."""
    return path.is_dir() and any(images(part, path) for part in _parts(path).values())


def _read_images(base: Path, settings: DomainSettings) -> Listing:
    """The official generator wrote one file per name, so of two rows of one name the later one's image is there, and
    its votes count.
    """
    listing, parts, found = Listing(), _parts(base), sources(base)
    source = found.choose(settings, base, listing)
    last: dict[str, Ballot] = {}
    for ballot in found.ballots(source):
        if not ballot.name:
            listing.dropped["no image name"] += 1
        elif ballot.split in parts:
            listing.dropped["overwritten by a later row"] += ballot.name in last
            last[ballot.name] = ballot
    if source == "label.csv" and "fer0033120.png" in last:
        listing.notes.append(
            f"fer0033120.png shows no face, because the official generator overwrites it, though label.csv has "
            f"emotions for it; only {VOTES_FILE} knows."
        )
    for split in sorted({ballot.split for ballot in last.values()} ^ set(PARTS.values())):
        listing.notes.append(f"There is no {split} part: no folder, or no votes, for its images.")
    there = {image for part in parts.values() for image in images(part, base, listing.passed_over)}
    named = {inside(parts[ballot.split], ballot.name, ballot.place): ballot for ballot in last.values()}
    for image, ballot in named.items():
        expression = _label(ballot, settings, listing)
        if expression is None:
            continue
        if image not in there:
            listing.faults.append(Fault("missing", ballot.place, f"{ballot.name} is not in {image.parent}"))
            continue
        columns = _columns(ballot.votes)
        listing.faces.append(Face(ballot.name, ballot.split, expression, expression, file=image, extra=columns))
    for image in sorted(there - named.keys()):
        listing.faults.append(Fault("extra", image.relative_to(base).as_posix(), f"no votes name {image}."))
    listing.require_faces(base)
    listing.dropped += Counter()  # without zeros
    listing.expected = _less_overwritten(EXPECTED.get((source, settings.label_rule), {}), source)
    return listing


def _read_folders(base: Path, settings: DomainSettings) -> Listing:
    """Labels come from the folders, as the pack's maker gave them: the plain maximum over the emotions of label.csv, by
    its test part. Where a file of votes lies beside them, labels that it contradicts are faults.
    """
    listing = Listing(about={"label_rule": "as the folders say"})
    for face in split_class_folders(base, label_map({}, settings), listing):
        if PART_IN_NAME.match(face.id.rpartition("/")[2]):
            raise BenchError(
                f"{face.file}: this is FER2013, with labels of its own; its files cannot be joined to FERPlus's votes "
                f"by name. Prepare it as fer2013, or take fer2013.csv with {VOTES_FILE}"
            )
        listing.faces.append(face)
    listing.require_faces(base)
    by_name = _named_apart(listing)
    _compare(listing, by_name, base, "argmax8", settings)
    listing.expected = EXPECTED["label.csv", "argmax8"]
    return listing


def _named_apart(listing: Listing) -> dict[str, list[Face]]:
    """Official name → faces; says how many names are not the owner's, and which faces lie in another part than their
    name is of.
    """
    by_name: dict[str, list[Face]] = {}
    for face in listing.faces:
        stem = Path(face.id).stem
        if (number := OFFICIAL_NAME.match(stem)) is None:
            continue
        by_name.setdefault(stem, []).append(face)
        if len(by_name[stem]) > 1:
            what = f"the same name is at {by_name[stem][0].id}; one of them is a copy"
            listing.faults.append(Fault("duplicate", face.id, what))
        own = _split_of_number(int(number[1]))
        if own != face.split:
            what = f"this face is of FERPlus's {own} part by its number, but of {face.split} here"
            listing.faults.append(Fault("label", face.id, what))
    other = len(listing.faces) - sum(map(len, by_name.values()))
    if other:
        listing.notes.append(
            f"{many(other, 'name', 'are', of=len(listing.faces))} not FERPlus's own (fer0000000.png): this copy was "
            f"augmented or renamed, or it is another dataset."
        )
    return by_name


def _split_of_number(number: int) -> str:
    return "train" if number < FIRST_VALID else "val" if number < FIRST_TEST else "test"


def _compare(
    listing: Listing, faces: Mapping[str, Sequence[Face]], base: Path, rule: LabelRule, settings: DomainSettings
) -> None:
    """Faults for the faces whose label is not what the votes in this copy, if there are any, mean by a rule."""
    found = sources(base)
    if found.fer2013new is None and not found.label_csv:
        return
    source = settings.label_source or ("label.csv" if found.label_csv else "fer2013new")
    for ballot in found.ballots(source):
        meant = label_of(ballot.votes, rule)
        for face in faces.get(Path(ballot.name).stem, ()):
            if face.expression != meant:
                what = f"is {face.native_label} here, and {meant or 'without a majority'} by {rule} of {ballot.place}"
                listing.faults.append(Fault("label", face.id, what))


def _read_list(base: Path, settings: DomainSettings) -> Listing:
    """Lines of `path id`. The ids are CAFE's, surprise 0 to neutral 6, unless labels say otherwise."""
    unknown = next((path for path in lists_in(base) if path.name.startswith("ferplus_")), None)
    if unknown is not None and not settings.labels and settings.numbering is None:
        raise BenchError(
            f"{unknown}: what the numbers in this list mean was never published; set numbering to a known order, such "
            f"as ferplus-0-based, or labels to what each means (options of data prepare, keys of bench.toml)"
        )
    listing = read_lists(base, settings, {} if settings.labels else CANONICAL)
    listing.about["label_rule"] = "as the lists say"
    if not settings.labels and settings.numbering is None:
        listing.notes.append("The ids of the lists are read as CAFE's: surprise 0, fear 1, … neutral 6.")
    _compare(listing, _named_apart(listing), base, settings.label_rule, settings)
    return listing


def _ran_lists(base: Path) -> list[Path]:
    names = (f"dlib_ferplus_{part}_center_crop_range_list.txt" for part in ("train", "val"))
    return [path for name in names if (path := first_file(base, name)) is not None]


def _read_ran(base: Path, settings: DomainSettings) -> Listing:
    """Lines of `class/name crops`: the class folder is a column of the votes, and the number behind counts a face's
    crops; it is no label. The list called val holds faces of the test part, so the split is that of the number in the
    name.
    """
    listing = Listing(about={"label_rule": "as the folders say"}, expected={})
    root = settings.images or base
    labels = {str(number): name if name != CONTEMPT else LEFT_OUT for number, name in enumerate(COLUMNS[:EMOTIONS])}
    gathering = Gathering(listing, root, label_map(labels, settings), {"7": CONTEMPT})
    for path in _ran_lists(base):
        for place, listed, (crops,) in list_file(path):
            whole_number(crops, 1, 1000, place, "the number of crops")
            image = inside(root, listed, place, movable=True)
            number = OFFICIAL_NAME.match(image.stem)
            if number is None:
                raise BenchError(f"{place}: {image.name[:40]!r} is no name of FERPlus; expected one like fer0000001")
            gathering.add(place, image, image.parent.name, _split_of_number(int(number[1])))
    gathering.close()
    listing.require_faces(base)
    _compare(listing, _named_apart(listing), base, settings.label_rule, settings)
    return listing


# --------------------------------------------------------------------------------------------------------------- counts


def _counts(*rows: tuple[int, ...]) -> dict[str, dict[str, int]]:
    """Faces of train, val and test per expression, each in the order of EXPRESSIONS."""
    return {
        split: dict(zip(EXPRESSIONS, row, strict=True))
        for split, row in zip(("train", "val", "test"), rows, strict=True)
    }


EXPECTED: Mapping[tuple[str, str], Mapping[str, Mapping[str, int]]] = {
    ("fer2013new", "majority"): _counts(
        (3149, 532, 119, 7287, 3014, 2100, 8740), (415, 62, 24, 865, 351, 287, 1182), (396, 83, 18, 893, 384, 273, 1090)
    ),
    ("fer2013new", "argmax10"): _counts(
        (3562, 652, 191, 7528, 3515, 2467, 10309),
        (456, 74, 34, 899, 412, 319, 1335),
        (444, 93, 23, 928, 444, 325, 1262),
    ),
    ("fer2013new", "argmax8"): _counts(
        (3588, 656, 194, 7539, 3549, 2478, 10388),
        (459, 75, 36, 899, 418, 320, 1347),
        (446, 94, 23, 929, 448, 326, 1278),
    ),
    ("label.csv", "majority"): _counts(
        (3136, 536, 116, 7284, 3022, 2098, 8733), (411, 60, 25, 862, 348, 289, 1180), (394, 86, 16, 892, 382, 269, 1083)
    ),
    ("label.csv", "argmax10"): _counts(
        (3557, 655, 191, 7526, 3530, 2463, 10295),
        (458, 71, 32, 899, 415, 325, 1329),
        (447, 97, 20, 928, 446, 321, 1258),
    ),
    ("label.csv", "argmax8"): _counts(
        (3583, 659, 195, 7537, 3559, 2476, 10377),
        (461, 72, 34, 899, 419, 326, 1341),
        (450, 98, 21, 929, 449, 322, 1274),
    ),
}
"""(source of the votes, rule) → split → expression → rows. fer2013new counts a name that occurs twice twice."""


def _less_overwritten(counts: Mapping[str, Mapping[str, int]], source: str) -> dict[str, dict[str, int]]:
    """What is left of the rows as files: fer0006953, fer0011785 and fer0008403 occur twice in fer2013new.csv, and
    fer0033120 holds the image of its second row, which is not a face.
    """
    less = {split: dict(classes) for split, classes in counts.items()}
    if source == "fer2013new" and less:
        for split, expression in (("train", "neutral"), ("train", "sadness"), ("train", "anger"), ("test", "neutral")):
            less[split][expression] -= 1
    return less


DATASET = Dataset(
    name="ferplus",
    title="FERPlus",
    layouts=(
        Layout(
            "ferplus-csv",
            f"fer2013.csv or icml_face_data.csv, and {VOTES_FILE} beside it",
            lambda path: _pixels(path) is not None,
            _read_csv,
            parts=("fer2013.csv", VOTES_FILE),
            uses=("label_rule", "label_source"),
        ),
        Layout(
            "ferplus-ms-png",
            f"FER2013{{Train,Valid,Test}}/fer0000000.png with label.csv in each, or {VOTES_FILE} beside them",
            _has_images,
            _read_images,
            uses=("label_rule", "label_source"),
        ),
        Layout(
            "ferplus-kaggle-folders",
            "{train,validation,test}/{angry,contempt,disgust,fear,happy,neutral,sad,surprise}/fer0000000.png",
            lambda path: has_split_classes(path, path),
            _read_folders,
            uses=("label_source",),
        ),
        Layout(
            "ferplus-list",
            "*train*.txt, *test*.txt: lines of `path id`, ids in CAFE's order",
            lambda path: bool(lists_in(path)),
            _read_list,
            official=False,
            uses=("images", "columns", "subject", "label_rule", "label_source"),
        ),
        Layout(
            "ferplus-ran-list",
            "dlib_ferplus_{train,val}_center_crop_range_list.txt: lines of `0/fer0000001 6`, and 0/fer0000001.png",
            lambda path: bool(_ran_lists(path)),
            _read_ran,
            uses=("images", "label_rule", "label_source"),
        ),
    ),
    request=(
        "Images: Kaggle's FER2013 competition. Votes: fer2013new.csv of github.com/microsoft/FERPlus, to be put beside."
    ),
    expected=EXPECTED["fer2013new", "majority"],
)
