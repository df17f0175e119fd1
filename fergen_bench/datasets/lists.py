"""The generic reader of lists: text files of lines `path label`, one for each split or one for all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.faces import generated_splits, lists_in, read_lists, with_splits
from fergen_bench.datasets.reader import Dataset, Layout, Listing

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings


def _any(line: str) -> bool:
    """A file that is named as a list is one, so that its faults are found."""
    return True


def _read(base: Path, settings: DomainSettings) -> Listing:
    """Where every face is for training, as in a list train.txt alone, a share of them becomes the test split."""
    listing = read_lists(base, settings, {}, fits=_any)
    if {face.split for face in listing.faces} == {"train"}:
        listing.faces = with_splits(listing.faces, settings)
        listing.about["splits"] = generated_splits(settings)
    return listing


DATASET = Dataset(
    name="list",
    title="a list",
    layouts=(
        Layout(
            "list",
            "a text file of lines `path label`, or a folder of such files for train, val and test",
            lambda path: bool(lists_in(path, _any)),
            _read,
            uses=("images", "columns", "subject"),
        ),
    ),
)
