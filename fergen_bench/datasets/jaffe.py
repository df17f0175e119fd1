"""Read JAFFE (Lyons, Akamatsu, Kamachi, Gyoba, FG 1998): 213 posed faces of ten women, without a split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.files import entries, images
from fergen_bench.datasets.gathering import add_named_face
from fergen_bench.datasets.reader import Dataset, Fault, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

NATIVE: Mapping[str, str] = {
    "AN": "anger",
    "DI": "disgust",
    "FE": "fear",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}
NAME = re.compile(r"(?P<subject>[A-Z]{2})\.(?P<native>AN|DI|FE|HA|NE|SA|SU)\d\.\d+\.\w+", re.IGNORECASE)
"""The parts of KA.AN1.39.tiff are the subject, the expression and the repetition index, and a number."""


def _fits(path: Path) -> bool:
    return any(NAME.fullmatch(entry.name) for entry in entries(path, path))


def _read(base: Path, settings: DomainSettings) -> Listing:
    """Read images, whose names contain subject and label."""
    listing = Listing()
    for image in images(base, base, listing.passed_over):
        match = NAME.fullmatch(image.name)
        if match is None:
            what = "is not named like KA.AN1.39.tiff, and is left out"
            listing.faults.append(Fault("extra", str(image), what))
            continue
        native, subject = match["native"].upper(), match["subject"].upper()
        add_named_face(listing, image, base, {**NATIVE, **settings.labels}, native, subject)
    draw_test_split(listing, settings)
    return listing


DATASET = Dataset(
    name="jaffe",
    title="JAFFE",
    layouts=(Layout("jaffe-official", "KA.AN1.39.tiff and so on, in one folder", _fits, _read, official=False),),
    request="From zenodo.org/records/3451524, for non-commercial research.",
    expected={"all": {"all": 213}},
)
