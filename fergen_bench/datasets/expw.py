"""Read ExpW (Zhang, Luo, Loy, Tang, IJCV 2018): photographs from the web with several faces each, without a split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.files import at, first_file, inside
from fergen_bench.datasets.gathering import Gathering
from fergen_bench.datasets.numbering import label_map
from fergen_bench.datasets.reader import Box, Dataset, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split
from fergen_bench.datasets.text_files import list_file, whole_number
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

NATIVE: Mapping[str, str] = {
    "0": "anger",
    "1": "disgust",
    "2": "fear",
    "3": "happiness",
    "4": "sadness",
    "5": "surprise",
    "6": "neutral",
}
FARTHEST = 100_000
"""Largest coordinate in pixels; a larger number is not a position in an image."""


def _read(base: Path, settings: DomainSettings) -> Listing:
    """Read label.lst, whose columns are separated by blanks.

    The columns are image, number of the face in it, top, left, right, bottom, confidence and label. The faces of one
    photograph count as one subject, so that no photograph is in two splits.
    """
    pictures, path = at(base, "image/origin"), at(base, "label/label.lst")
    if not pictures.is_dir():
        raise BenchError(f"{pictures}: this folder is missing. ExpW has the images of label/label.lst in it")
    listing = Listing()
    gathering = Gathering(listing, pictures, label_map(NATIVE, settings))
    for place, name, (number, *edges, confidence, label) in list_file(path, columns=8):
        image, box = inside(pictures, name, place), _box(edges, place)
        gathering.add(
            place,
            image,
            label,
            "train",
            number=whole_number(number, 0, FARTHEST, place, "the number of the face"),
            box=box,
            unusable="without a face box" if box is None else None,
            subject=name,
            extra={"confidence": confidence},
        )
    gathering.close(pictures)
    listing.require_faces(path)
    draw_test_split(listing, settings)
    return listing


def _box(edges: list[str], place: str) -> Box | None:
    """Return the box of top, left, right, bottom, in this order of the file, or None where the box is empty."""
    names = ("top", "left", "right", "bottom")
    top, left, right, bottom = (
        whole_number(edge, -FARTHEST, FARTHEST, place, f"the {name} of the box")
        for edge, name in zip(edges, names, strict=True)
    )
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None


DATASET = Dataset(
    name="expw",
    title="ExpW",
    layouts=(
        Layout(
            "expw-official",
            "image/origin/*.jpg, label/label.lst",
            lambda path: first_file(path, "label/label.lst") is not None,
            _read,
            official=False,
            parts=("image/origin", "label/label.lst"),
        ),
    ),
    request="From its authors' page at mmlab.ie.cuhk.edu.hk/projects/socialrelation; for non-commercial research.",
    expected={
        "all": {
            "surprise": 7_060,
            "fear": 1_088,
            "disgust": 3_995,
            "happiness": 30_537,
            "sadness": 10_559,
            "anger": 3_671,
            "neutral": 34_883,
        }
    },
)
