"""Read FERPlus: the images of FER2013 with ten votes each.

Votes are joined to images by the name of the image, never by a row number: the two differ for nearly every face.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.class_folders import has_split_classes, split_class_folders
from fergen_bench.datasets.fer2013 import PART_IN_NAME, image_rows, image_table
from fergen_bench.datasets.files import Files, first_file, images, inside, nearest, unpack_first
from fergen_bench.datasets.gathering import Gathering
from fergen_bench.datasets.list_files import lists_in, read_lists
from fergen_bench.datasets.numbering import CONTEMPT, LEFT_OUT, label_map
from fergen_bench.datasets.reader import Dataset, Face, Fault, Layout, Listing
from fergen_bench.datasets.text_files import list_file, whole_number
from fergen_bench.datasets.votes import (
    COLUMNS,
    EMOTIONS,
    INNER,
    PARTS,
    VOTES_FILE,
    Ballot,
    ballots,
    label_of,
    part_folders,
    vote_columns,
    vote_files,
    voted_expression,
)
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings, LabelRule

OFFICIAL_NAME = re.compile(r"^fer(\d{7})$")
FIRST_VALID, FIRST_TEST = 28638, 32220
"""The first number in an official file name that belongs to the validation part, and to the test part."""
CANONICAL = {str(number): name for number, name in enumerate(EXPRESSIONS)}
"""The ids of the list files that CAFE reads."""


# ------------------------------------------------------------------------------------------------ csv files, row by row


def _pixel_table(base: Path) -> Path | None:
    """Return the csv of pixels in a folder, or in a folder in it."""
    folder = nearest(base, lambda folder: image_table(folder) is not None, INNER)
    return None if folder is None else image_table(folder)


def _read_csv(base: Path, settings: DomainSettings) -> Listing:
    """Read images from the csv of FER2013, and their names and votes from the csv of FERPlus.

    A name that occurs twice yields two faces; the id of the second one has its row.
    """
    pixels, files = _pixel_table(base), vote_files(base)
    if pixels is None or files.fer2013new is None:
        raise BenchError(
            f"{base}: this folder has the images of FER2013 without {VOTES_FILE}, which has their names. Put that file "
            f"of github.com/microsoft/FERPlus next to them{unpack_first(base, base)}"
        )
    listing = Listing()
    source = files.choose(settings, base, listing)
    by_name = {ballot.name: ballot for ballot in files.ballots(source)} if source == "label.csv" else None
    named: set[str] = set()
    seen: set[str] = set()
    for number, (place, split, image, ballot) in enumerate(_joined(pixels, files.fer2013new)):
        if by_name is not None and ballot.name:  # label.csv has one row for a name, and means the first image
            if ballot.name in named or ballot.name not in by_name:
                listing.dropped["named like an earlier row" if ballot.name in named else "not in label.csv"] += 1
                continue
            named.add(ballot.name)
            ballot = by_name[ballot.name]
        expression = voted_expression(ballot, settings, listing)
        if expression is None:
            continue
        face_id = ballot.name
        if face_id in seen:
            face_id = f"{ballot.name}#row{number}"
            listing.faults.append(Fault("duplicate", place, f"{ballot.name} also names an earlier row; both are used"))
        seen.add(face_id)
        columns = vote_columns(ballot.votes)
        listing.faces.append(Face(face_id, split, expression, expression, pixels=image, extra=columns))
    listing.require_faces(pixels)
    listing.expected = EXPECTED.get((source, settings.label_rule), {})
    return listing


def _joined(pixels: Path, votes: Path) -> Iterator[tuple[str, str, bytes, Ballot]]:
    """Yield (file:line, split, pixels, ballot) of two csv files that the owner wrote row by row in the same order.

    Raises:
        BenchError: The files have different numbers of rows, or disagree in the part of a row.
    """
    for number, (image, ballot) in enumerate(zip_longest(image_rows(pixels), ballots(votes))):
        if image is None or ballot is None:
            longer, shorter = (pixels, votes) if ballot is None else (votes, pixels)
            raise BenchError(
                f"{longer} has more rows than the {number:,} of {shorter}, but the two are joined row by row. Use both "
                f"as published, with 35,887 rows"
            )
        place, _, split, content = image
        if split != ballot.split:
            raise BenchError(
                f"{place}: this row is of the {split} part, but {ballot.place} is of the {ballot.split} part, and the "
                f"two files are joined row by row. Use both in the published order"
            )
        yield place, split, content, ballot


# ---------------------------------------------------------------------------------------------------------- image files


def _has_images(path: Path) -> bool:
    """Return True where images lie in the folders: in the official repository these contain label.csv only."""
    return path.is_dir() and any(images(part, path) for part in part_folders(path).values())


def _read_images(base: Path, settings: DomainSettings) -> Listing:
    """Read the folders that the official generator writes.

    The generator wrote one file per name, so of two rows with one name the file has the image of the later row, whose
    votes count.
    """
    listing, parts, files = Listing(), part_folders(base), vote_files(base)
    source = files.choose(settings, base, listing)
    last: dict[str, Ballot] = {}
    for ballot in files.ballots(source):
        if not ballot.name:
            listing.dropped["no image name"] += 1
        elif ballot.split in parts:
            listing.dropped["overwritten by a later row"] += ballot.name in last
            last[ballot.name] = ballot
    if source == "label.csv" and "fer0033120.png" in last:
        listing.notes.append(
            f"fer0033120.png does not show a face, because the official generator overwrites it, though label.csv has "
            f"votes for emotions; only {VOTES_FILE} marks it."
        )
    for split in sorted({ballot.split for ballot in last.values()} ^ set(PARTS.values())):
        listing.notes.append(f"The {split} part is missing: either its folder or its votes.")
    there = {image for part in parts.values() for image in images(part, base, listing.passed_over)}
    on_disk, named = Files(base), dict[Path, Ballot]()
    for ballot in last.values():
        wanted = inside(parts[ballot.split], ballot.name, ballot.place)
        named[on_disk.image(wanted) or wanted] = ballot
    for image, ballot in named.items():
        expression = voted_expression(ballot, settings, listing)
        if expression is None:
            continue
        if image not in there:
            listing.faults.append(Fault("missing", ballot.place, f"{ballot.name} is not in {image.parent}"))
            continue
        columns = vote_columns(ballot.votes)
        listing.faces.append(Face(ballot.name, ballot.split, expression, expression, file=image, extra=columns))
    for image in sorted(there - named.keys()):
        listing.faults.append(Fault("extra", image.relative_to(base).as_posix(), f"no votes name {image}."))
    listing.require_faces(base)
    listing.dropped += Counter()  # without zeros
    listing.expected = _less_overwritten(EXPECTED.get((source, settings.label_rule), {}), source)
    return listing


def _read_folders(base: Path, settings: DomainSettings) -> Listing:
    """Read class folders, whose labels are those of the pack's maker.

    By the test part of the pack these are the plain maximum over the emotions of label.csv. Labels that differ from a
    file of votes in the copy are faults.
    """
    listing = Listing(about={"label_rule": "as the folders are named"})
    for face in split_class_folders(base, label_map({}, settings), listing):
        if PART_IN_NAME.match(face.id.rpartition("/")[2]):
            raise BenchError(
                f"{face.file}: this is FER2013, with labels of its own; its files cannot be joined to FERPlus's votes "
                f"by name. Prepare it as fer2013, or use fer2013.csv with {VOTES_FILE}"
            )
        listing.faces.append(face)
    listing.require_faces(base)
    by_name = _by_official_name(listing)
    _compare_with_votes(listing, by_name, base, "argmax8", settings)
    listing.expected = EXPECTED["label.csv", "argmax8"]
    return listing


def _by_official_name(listing: Listing) -> dict[str, list[Face]]:
    """Return official name → faces.

    The listing gets a note of the number of names that are not official, and a fault for each face that lies in
    another part than that of its name.
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


def _compare_with_votes(
    listing: Listing, faces: Mapping[str, Sequence[Face]], base: Path, rule: LabelRule, settings: DomainSettings
) -> None:
    """Add a fault for each face whose label differs from that of the votes in this copy by a rule."""
    files = vote_files(base)
    if files.fer2013new is None and not files.label_csv:
        return
    source = settings.label_source or ("label.csv" if files.label_csv else "fer2013new")
    for ballot in files.ballots(source):
        meant = label_of(ballot.votes, rule)
        for face in faces.get(Path(ballot.name).stem, ()):
            if face.expression != meant:
                what = f"is {face.native_label} here, and {meant or 'without a majority'} by {rule} of {ballot.place}"
                listing.faults.append(Fault("label", face.id, what))


# ---------------------------------------------------------------------------------------------------------------- lists


def _read_list(base: Path, settings: DomainSettings) -> Listing:
    """Read lists of `path id`, with the ids of CAFE, surprise 0 to neutral 6, unless the user maps labels."""
    unknown = next((path for path in lists_in(base) if path.name.startswith("ferplus_")), None)
    if unknown is not None and not settings.labels and settings.numbering is None:
        raise BenchError(
            f"{unknown}: the meaning of the numbers in this list was never published. Set numbering to a known order, "
            f"such as ferplus-0-based, or labels to what each means (options of data prepare, keys of bench.toml)"
        )
    listing = read_lists(base, settings, {} if settings.labels else CANONICAL)
    listing.about["label_rule"] = "as in the lists"
    if not settings.labels and settings.numbering is None:
        listing.notes.append("The ids of the lists are read as CAFE's: surprise 0, fear 1, … neutral 6.")
    _compare_with_votes(listing, _by_official_name(listing), base, settings.label_rule, settings)
    return listing


def _ran_lists(base: Path) -> list[Path]:
    names = (f"dlib_ferplus_{part}_center_crop_range_list.txt" for part in ("train", "val"))
    return [path for name in names if (path := first_file(base, name)) is not None]


def _read_ran(base: Path, settings: DomainSettings) -> Listing:
    """Read the lists of RAN, with lines of `class/name crops`.

    The class folder is a column of the votes. The number at the end counts the crops of a face and is not a label. The
    list called val has faces of the test part, so the split is that of the number in the name.
    """
    listing = Listing(about={"label_rule": "as the folders are named"}, expected={})
    root = settings.images or base
    labels = {str(number): name if name != CONTEMPT else LEFT_OUT for number, name in enumerate(COLUMNS[:EMOTIONS])}
    gathering = Gathering(listing, root, label_map(labels, settings), {"7": CONTEMPT})
    for path in _ran_lists(base):
        for place, listed, (crops,) in list_file(path):
            whole_number(crops, 1, 1000, place, "the number of crops")
            image = inside(root, listed, place, movable=True)
            number = OFFICIAL_NAME.match(image.stem)
            if number is None:
                raise BenchError(f"{place}: {image.name[:40]!r} is not a name of FERPlus; expected one like fer0000001")
            gathering.add(place, image, image.parent.name, _split_of_number(int(number[1])))
    gathering.close()
    listing.require_faces(base)
    _compare_with_votes(listing, _by_official_name(listing), base, settings.label_rule, settings)
    return listing


# --------------------------------------------------------------------------------------------------------------- counts


def _counts(*rows: tuple[int, ...]) -> dict[str, dict[str, int]]:
    """Return the counts of train, val and test, each given in the order of EXPRESSIONS."""
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
"""(source of the votes, rule) → split → expression → rows. With fer2013new a name that occurs twice counts twice."""


def _less_overwritten(counts: Mapping[str, Mapping[str, int]], source: str) -> dict[str, dict[str, int]]:
    """Return the counts of files that remain of the rows.

    In fer2013new.csv, fer0006953, fer0011785 and fer0008403 occur twice; fer0033120 has the image of its second row,
    which is not a face.
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
            lambda path: _pixel_table(path) is not None,
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
        "Images: Kaggle's FER2013 competition. Votes: fer2013new.csv of github.com/microsoft/FERPlus, to be put next "
        "to them."
    ),
    expected=EXPECTED["fer2013new", "majority"],
)
