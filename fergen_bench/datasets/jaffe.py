"""JAFFE (Lyons, Akamatsu, Kamachi, Gyoba, FG 1998): 213 posed faces of ten women, without a split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.faces import expression_of, with_splits
from fergen_bench.datasets.files import entries, images
from fergen_bench.datasets.numbering import LEFT_OUT
from fergen_bench.datasets.reader import Dataset, Face, Fault, Layout, Listing

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
"""KA.AN1.39.tiff: who, which expression and the how manieth of it, number"""


def _fits(path: Path) -> bool:
    return any(NAME.fullmatch(entry.name) for entry in entries(path, path))


def _read(base: Path, settings: DomainSettings) -> Listing:
    """The name of a file says everything."""
    listing = Listing()
    for image in images(base, base, listing.passed_over):
        match = NAME.fullmatch(image.name)
        if match is None:
            what = "has no name such as KA.AN1.39.tiff, and is left out"
            listing.faults.append(Fault("extra", str(image), what))
            continue
        native, subject = match["native"].upper(), match["subject"].upper()
        expression = expression_of(native, {**NATIVE, **settings.labels}, str(image))
        if expression == LEFT_OUT:
            listing.dropped[native] += 1
            continue
        name = image.relative_to(base).as_posix()
        listing.faces.append(Face(name, "train", expression, native, image, subject=subject))
    listing.faces = with_splits(listing.faces, settings)
    return listing


DATASET = Dataset(
    name="jaffe",
    title="JAFFE",
    layouts=(Layout("jaffe-official", "KA.AN1.39.tiff and so on, in one folder", _fits, _read, official=False),),
    request="From zenodo.org/records/3451524, for non-commercial research.",
    expected={"all": {"all": 213}},
)
