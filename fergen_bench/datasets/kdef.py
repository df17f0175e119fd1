"""KDEF (Lundqvist, Flykt, Öhman, 1998): 70 people, seven posed expressions, five angles, two sessions, no split."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.faces import LEFT_OUT, expression_of, with_splits
from fergen_bench.datasets.files import entries, folders, images
from fergen_bench.datasets.reader import Dataset, Face, Fault, Layout, Listing

if TYPE_CHECKING:
    from fergen_bench.settings import DomainSettings

NATIVE: Mapping[str, str] = {
    "AF": "fear",  # afraid
    "AN": "anger",
    "DI": "disgust",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}
NAME = re.compile(
    r"(?P<session>[AB])(?P<subject>[FM]\d\d)(?P<native>AF|AN|DI|HA|NE|SA|SU)(?P<angle>S|HL|HR|FL|FR)\.JPE?G",
    re.IGNORECASE,
)
"""AF01ANS.JPG: session A, woman 01, anger, straight"""


def _fits(path: Path) -> bool:
    """The files lie in one folder, or in one per person and session (AF01)."""
    places = [path, *(place for place in folders(path, path) if re.fullmatch(r"[AB][FM]\d\d", place.name))]
    return any(NAME.fullmatch(entry.name) for place in places for entry in entries(place, path))


def _read(base: Path, settings: DomainSettings) -> Listing:
    """The name of a file says everything. All five angles are in, full profiles too: the domain is what its owner
    published, and `angle` and `session` in labels.csv let one part be looked at alone.
    """
    listing = Listing()
    for image in images(base, base):
        match = NAME.fullmatch(image.name)
        if match is None:
            listing.faults.append(Fault("extra", str(image), "has no name such as AF01ANS.JPG, and is left out"))
            continue
        native = match["native"].upper()
        expression = expression_of(native, {**NATIVE, **settings.labels}, str(image))
        if expression == LEFT_OUT:
            listing.dropped[native] += 1
            continue
        extra = {"session": match["session"].upper(), "angle": match["angle"].upper()}
        name, subject = image.relative_to(base).as_posix(), match["subject"].upper()
        listing.faces.append(Face(name, "train", expression, native, image, subject=subject, extra=extra))
    listing.notes.append("Two of the five angles, FL and FR, are full profiles; `angle` in labels.csv tells them.")
    listing.faces = with_splits(listing.faces, settings)
    return listing


DATASET = Dataset(
    name="kdef",
    title="KDEF",
    layouts=(
        Layout(
            "kdef-official",
            "AF01/AF01ANS.JPG and so on, or in one folder",
            _fits,
            _read,
            official=False,
            roots=("KDEF",),
        ),
    ),
    request="From kdef.se, for non-commercial research.",
    expected={"all": dict.fromkeys(("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"), 700)},
)
