"""Read MMA (MMAFEDB, Kaggle), 127,680 faces of 48×48 pixels, and its part from ExpW, `mma-expw`.

By arithmetic, MMA is FER2013 (whose files have three channels) and ExpW (one channel) put together: the three-channel
counts are those of FER2013's splits, and the rest is 91,793, the size of ExpW. A model trained on FERPlus has seen the
first part.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.class_folders import has_split_classes, split_class_folders
from fergen_bench.datasets.list_files import list_layout
from fergen_bench.datasets.numbering import label_map
from fergen_bench.datasets.reader import Dataset, Face, Fault, Layout, Listing
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

LABELS = {
    "angry": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "neutral": "neutral",
    "sad": "sadness",
    "surprise": "surprise",
}
NUMBERS = {"0": "anger", "1": "disgust", "2": "fear", "3": "happiness", "4": "neutral", "5": "sadness", "6": "surprise"}
"""Labels in lists: the alphabetical order of the class folders."""
ROOTS = ("mma-facial-expression/MMAFEDB", "archive/MMAFEDB")
EXPW_NAME = re.compile(r"\d+Exp[0-6].+")
"""The parts of 17Exp1angry_actor_195.jpg are a number, the label in ExpW, and the name of the image in ExpW."""
REQUEST = "Download mahmoudima/mma-facial-expression from Kaggle and keep to the terms of its page."


def _read(base: Path, settings: DomainSettings) -> Listing:
    listing = Listing()
    listing.faces = list(split_class_folders(base, label_map(LABELS, settings), listing))
    return listing


FOLDERS = Layout(
    "mma-official",
    "{train,valid,test}/{angry,disgust,fear,happy,neutral,sad,surprise}/*.jpg",
    lambda path: has_split_classes(path, path),
    _read,
    roots=ROOTS,
)
LISTS = list_layout(NUMBERS, roots=ROOTS)


def _expw_part(layout: Layout) -> Layout:
    """Return a layout without the faces of FER2013."""

    def read(base: Path, settings: DomainSettings) -> Listing:
        listing = layout.read(base, settings)
        decided: Counter[str] = Counter()
        listing.faces = [face for face in listing.faces if _is_expw(face, decided, listing)]
        listing.about["part"] = "expw"
        listing.about["told apart by"] = dict(decided)
        listing.notes.append(
            f"The FER2013 part is left out: {many(decided['name'], 'face', 'are')} ExpW's by name, "
            f"{many(decided['channels'], 'face', 'were')} assigned by the channels of the file (three are FER2013's)."
        )
        return listing

    return replace(layout, read=read)


def _is_expw(face: Face, decided: Counter[str], listing: Listing) -> bool:
    """Return True for a face of ExpW, by its name, or else by the channels of its file; count which one decided."""
    assert face.file is not None
    if EXPW_NAME.fullmatch(face.file.stem):
        decided["name"] += 1
        return True
    channels = _channels(face.file)
    if channels is None:
        what = f"{face.file} cannot be read, so it may be of FER2013 or of ExpW; it is left out."
        listing.faults.append(Fault("unreadable", face.id, what))
        return False
    decided["channels"] += 1
    if channels > 1:
        listing.dropped["FER2013 part"] += 1
    return channels == 1


def _channels(path: Path) -> int | None:
    """Return the number of channels of an image from its header, or None where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return len(image.getbands())
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


DATASET = Dataset(
    name="mma",
    title="MMA (MMAFEDB)",
    layouts=(FOLDERS, LISTS),
    request=REQUEST,
    expected={
        "train": {
            "surprise": 8113,
            "fear": 4859,
            "disgust": 3231,
            "happiness": 28592,
            "sadness": 12223,
            "anger": 6566,
            "neutral": 29384,
        },
        "val": {
            "surprise": 1474,
            "fear": 659,
            "disgust": 656,
            "happiness": 5475,
            "sadness": 2236,
            "anger": 1017,
            "neutral": 5839,
        },
        "test": {
            "surprise": 1475,
            "fear": 691,
            "disgust": 655,
            "happiness": 5459,
            "sadness": 2177,
            "anger": 1041,
            "neutral": 5858,
        },
    },
)

_VAL_AND_TEST = {
    "surprise": 1059,
    "fear": 163,
    "disgust": 600,
    "happiness": 4580,
    "sadness": 1583,
    "anger": 550,
    "neutral": 5232,
}
EXPW_PART = Dataset(
    name="mma-expw",
    title="MMA without its FER2013 part",
    layouts=(_expw_part(FOLDERS), _expw_part(LISTS)),
    request=REQUEST,
    expected={
        "train": {
            "surprise": 4942,
            "fear": 762,
            "disgust": 2795,
            "happiness": 21377,
            "sadness": 7393,
            "anger": 2571,
            "neutral": 24419,
        },
        "val": _VAL_AND_TEST,
        "test": _VAL_AND_TEST,
    },
)
