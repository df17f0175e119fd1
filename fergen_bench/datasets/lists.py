"""Read any dataset of lists: text files with lines `path label`, one for each split or one for all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.list_files import lists_in, read_lists
from fergen_bench.datasets.reader import Dataset, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings


def _any(line: str) -> bool:
    """Accept any file that is named as a list, so that its errors are reported."""
    return True


def _read(base: Path, settings: DomainSettings) -> Listing:
    """Read lists; where every face is a training face, as in a list train.txt alone, draw a test split."""
    listing = read_lists(base, settings, {}, fits=_any)
    if {face.split for face in listing.faces} == {"train"}:
        draw_test_split(listing, settings)
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
