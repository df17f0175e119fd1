"""Read the ten votes per image of FERPlus, and turn them into a label by one of the published rules.

Published numbers differ by rule, so the rules of the official code (microsoft/FERPlus) have names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.class_folders import split_folders
from fergen_bench.datasets.fer2013 import split_of
from fergen_bench.datasets.files import at, first_file, nearest, unpack_first
from fergen_bench.datasets.numbering import CONTEMPT
from fergen_bench.datasets.reader import Listing
from fergen_bench.datasets.text_files import table, whole_number
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings, LabelRule

COLUMNS = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt", "unknown", "NF")
"""The options of a voter, in the order of the files. NF means not a face."""
EMOTIONS = 8
"""Number of columns that are emotions; they come first."""
NO_MAJORITY = ""
"""The label of votes that are too scattered for a rule."""
Votes = tuple[int, ...]
"""Ten numbers, in the order of COLUMNS."""

VOTES_FILE = "fer2013new.csv"
PARTS = {"FER2013Train": "train", "FER2013Valid": "val", "FER2013Test": "test"}
"""Official folder → split."""
INNER = ("*/*",)
"""Votes, images and their csv may each lie one or two folders deep."""


# ---------------------------------------------------------------------------------------------------------------- rules


def label_of(votes: Sequence[int], rule: LabelRule) -> str:
    """Return the label that a rule derives from votes.

    Of equal votes the first column wins. Faces with the label unknown or NF do not belong to the dataset.

    The rules majority, probability and multi-target are those of the official code, which first removes every single
    vote. The official code labels validation and test by majority whatever the rule for train; here one rule labels
    all three parts. The rules argmax8 and argmax10 are the plain maximum over the emotions, and over all ten columns.

    Args:
        votes: Ten numbers, in the order of COLUMNS.
        rule: Name of the rule.

    Returns:
        One of COLUMNS, or NO_MAJORITY.
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
    """Return all votes if one column has more than half of them, else none."""
    return votes if 2 * max(votes) > sum(votes) else ()


def _probable(votes: Sequence[int]) -> Sequence[int]:
    """Return the largest columns, until they have three quarters of the votes or are three.

    Columns of equal size enter together. The result is empty if the columns have no more than half of the votes, or are
    four. At unknown or NF the search ends, and their votes count only if no emotion came before.
    """
    left, kept, total = list(votes), [0] * len(votes), sum(votes)
    reached = taken = 0
    while 4 * reached < 3 * total and taken < 3:
        most = max(left)
        for column in [column for column, number in enumerate(left) if number == most]:
            reached, left[column] = reached + most, 0
            is_emotion = column < EMOTIONS
            if is_emotion or not any(kept):
                kept[column], taken = most, taken + 1
            if not is_emotion:
                reached = total
                break
    return kept if 2 * sum(kept) > total and taken <= 3 else ()


def _targets(votes: Sequence[int]) -> Sequence[int]:
    """Return the columns with at least 30 % of the votes each; none, if together they have no more than half."""
    kept = [number if 10 * number >= 3 * sum(votes) else 0 for number in votes]
    return kept if 2 * sum(kept) > sum(votes) else ()


# ---------------------------------------------------------------------------------------------------------------- files


class Ballot(NamedTuple):
    """A row of one of the two official files of votes."""

    place: str  # file:line
    name: str  # of the image; empty where the image is not a face
    split: str
    votes: Votes


def ballots(path: Path) -> Iterator[Ballot]:
    """Yield the rows of fer2013new.csv, whose order is that of fer2013.csv."""
    for place, row in table(path, ("Usage", "Image name", *COLUMNS)):
        yield Ballot(place, row["Image name"], split_of(row["Usage"], place), _votes(row, place))


def part_ballots(path: Path, split: str) -> Iterator[Ballot]:
    """Yield the rows of one part's label.csv, which lacks a header and has the columns name, box and ten votes."""
    for place, row in table(path, ("file name", "box", *COLUMNS), header=("file name", "box", *COLUMNS)):
        yield Ballot(place, row["file name"], split, _votes(row, place))


def _votes(row: Mapping[str, str], place: str) -> Votes:
    return tuple(whole_number(row[column], 0, 10, place, f"the votes for {column}") for column in COLUMNS)


class VoteFiles(NamedTuple):
    """The files of votes in a copy."""

    fer2013new: Path | None
    label_csv: Mapping[str, Path]  # split → label.csv

    def choose(self, settings: DomainSettings, base: Path, listing: Listing) -> str:
        """Return the name of the file of votes that counts, and record the choice in a listing.

        Raises:
            BenchError: The copy has no votes, or not those that the settings name.
        """
        there = [name for name, file in (("fer2013new", self.fer2013new), ("label.csv", self.label_csv)) if file]
        if not there:
            raise BenchError(
                f"{base}: the votes are missing, without which these images do not have FERPlus labels. Put "
                f"{VOTES_FILE} of github.com/microsoft/FERPlus there{unpack_first(base, base)}"
            )
        source = settings.label_source or there[0]
        if source not in there:
            raise BenchError(
                f"{base}: label_source is {source!r}, but that file is missing. Put it there, or set label_source = "
                f'"{there[0]}"'
            )
        if settings.label_source is None and source != "fer2013new":
            listing.notes.append(
                f"The votes are those of label.csv, because {VOTES_FILE} is missing; the two differ for 1,602 images."
            )
        listing.about |= {"label_rule": settings.label_rule, "label_source": source}
        return source

    def ballots(self, source: str) -> Iterator[Ballot]:
        """Yield the votes of one of the files, "fer2013new" or "label.csv"."""
        if source == "fer2013new" and self.fer2013new is not None:
            yield from ballots(self.fer2013new)
        elif source == "label.csv":
            for split, path in self.label_csv.items():
                yield from part_ballots(path, split)


def vote_files(base: Path) -> VoteFiles:
    """Return the files of votes in a folder, or in folders in it."""
    folder = nearest(base, lambda folder: first_file(folder, VOTES_FILE) is not None, INNER)
    parts = {**split_folders(base, base), **part_folders(base)}
    found = {split: path for split, part in parts.items() if (path := first_file(part, "label.csv")) is not None}
    return VoteFiles(None if folder is None else at(folder, VOTES_FILE), found)


def part_folders(base: Path) -> dict[str, Path]:
    """Return split → FER2013Train, FER2013Valid or FER2013Test, in the folder or in a folder in it."""
    above = nearest(base, lambda folder: any(at(folder, part).is_dir() for part in PARTS), INNER)
    found = {} if above is None else {split: at(above, part) for part, split in PARTS.items()}
    return {split: folder for split, folder in found.items() if folder.is_dir()}


def voted_expression(ballot: Ballot, settings: DomainSettings, listing: Listing) -> str | None:
    """Return the expression that votes mean, or None where they mean none of the seven, which is counted as dropped."""
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


def vote_columns(votes: Votes) -> dict[str, str]:
    """Return votes as columns of labels.csv, with the seven expressions first, in their order."""
    order = (*EXPRESSIONS, *COLUMNS[EMOTIONS - 1 :])
    return {f"votes_{column}": str(votes[COLUMNS.index(column)]) for column in order}
