"""Read KDEF (Lundqvist, Flykt, Öhman, 1998): 70 people, seven posed expressions, five angles, two sessions, unsplit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.files import entries, folders, images
from fergen_bench.datasets.gathering import add_named_face
from fergen_bench.datasets.kinds import kind_of
from fergen_bench.datasets.reader import Dataset, Fault, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

NATIVE: Mapping[str, str] = {
    "AF": "fear",  # afraid
    "AN": "anger",
    "DI": "disgust",
    "HA": "happiness",
    "NE": "neutral",
    "SA": "sadness",
    "SU": "surprise",
}
NAME = re.compile(r"(?P<session>[AB])(?P<subject>[FM]\d\d)(?P<native>AF|AN|DI|HA|NE|SA|SU)(?P<angle>S|HL|HR|FL|FR)")
"""The parts of AF01ANS are session A, woman 01, anger and straight."""
MISNAMED = {"AF31V": "AF31SAHL", "AM31H": "AM31SUHR"}
"""Two files as the owner distributes them → the names that are missing in their folders."""


def _fits(path: Path) -> bool:
    """Return True for files in one folder, or in one folder per person and session (AF01)."""
    places = [path, *(place for place in folders(path, path) if re.fullmatch(r"(?i)[AB][FM]\d\d", place.name))]
    found = (Path(entry.path) for place in places for entry in entries(place, path))
    return any(NAME.fullmatch(_name(file)) and kind_of(file) == "image" for file in found)


def _name(image: Path) -> str:
    """Return the correct name of a file, without its ending, in upper case."""
    stem = image.stem.upper()
    return MISNAMED.get(stem, stem)


def _read(base: Path, settings: DomainSettings) -> Listing:
    """Read images, whose names contain subject and label.

    All five angles are included, also full profiles: the domain is what its owner published. The columns `angle` and
    `session` of labels.csv select one part.
    """
    listing, named = Listing(), dict[str, Path]()
    for image in images(base, base, listing.passed_over):
        match = NAME.fullmatch(_name(image))
        if match is None:
            listing.faults.append(Fault("extra", str(image), "is not named like AF01ANS.JPG, and is left out"))
            continue
        if (other := named.setdefault(match[0], image)) != image:
            what = f"{image} repeats {other}, by its name, and is left out."
            listing.faults.append(Fault("duplicate", str(image), what))
            continue
        extra = {"session": match["session"], "angle": match["angle"]}
        labels = {**NATIVE, **settings.labels}
        add_named_face(listing, image, base, labels, match["native"], match["subject"], extra)
    renamed = [f"{image.name} as {name}" for name, image in named.items() if image.stem.upper() in MISNAMED]
    if renamed:
        listing.notes.append(f"Files that the owner misnamed are read: {', '.join(renamed)}.")
    listing.notes.append("Two of the five angles, FL and FR, are full profiles; `angle` in labels.csv identifies them.")
    draw_test_split(listing, settings)
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
