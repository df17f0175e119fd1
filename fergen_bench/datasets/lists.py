"""The generic reader of lists: text files of lines `path label`, one for each split or one for all."""

from __future__ import annotations

from fergen_bench.datasets.faces import lists_in, read_lists
from fergen_bench.datasets.reader import Dataset, Layout


def _any(line: str) -> bool:
    """A file that is named as a list is one, so that its faults are found."""
    return True


DATASET = Dataset(
    name="list",
    title="a list",
    layouts=(
        Layout(
            "list",
            "a text file of lines `path label`, or a folder of such files for train, val and test",
            lambda path: bool(lists_in(path, _any)),
            lambda base, settings: read_lists(base, settings, {}, fits=_any),
        ),
    ),
)
