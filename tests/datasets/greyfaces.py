"""Draw flat grey faces whose level encodes their expression and a number.

A wrong label, or a box next to the face, then shows in the pixels.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.reader import Dataset, Face, Listing
from fergen_bench.datasets.settings import DomainSettings

STEP = 32
OTHER = 250
"""The level of pixels that must not be read."""
Box = tuple[int, int, int, int]
"""left, top, width, height"""


def level(expression: str, number: int = 0) -> int:
    """Its grey level: 32 per expression, 4 per number (below 7). What is none of the seven is nearly white."""
    return 10 + STEP * EXPRESSIONS.index(expression) + 4 * (number % 7) if expression in EXPRESSIONS else OTHER


def draw(
    path: Path,
    expression: str,
    number: int = 0,
    size: tuple[int, int] = (12, 12),
    box: Box | None = None,
    mode: str = "RGB",
) -> None:
    """Writes a flat grey image; with a box, the face is in it and white is around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left, top, width, height = box or (0, 0, *size)
    image = Image.new("L", size, 255)
    image.paste(level(expression, number), (left, top, left + width, top + height))
    image.convert(mode).save(path)


def pixels(face: Face) -> np.ndarray:
    """Return the grey levels of a face: its image, or the crop of its box."""
    assert face.file is not None
    with Image.open(face.file) as image:
        if face.box is None:
            return np.asarray(image.convert("L"), np.int64)
        left, top, width, height = (round(edge) for edge in face.box)
        return np.asarray(image.convert("L").crop((left, top, left + width, top + height)), np.int64)


def shows_what_it_says(face: Face) -> bool:
    """Return True where every pixel of a face has the level of its expression."""
    shown = pixels(face)
    low = level(face.expression)
    return shown.size > 0 and int(np.ptp(shown)) <= 2 and bool((shown >= low - 2).all() and (shown <= low + 26).all())


def read(dataset: Dataset, path: Path, layout: str | None = None, **settings: object) -> tuple[str, Listing]:
    """(name of the layout that was found, what it holds). Every face is held against its pixels."""
    found, base = dataset.layout(path, layout)
    listing = found.read(base, DomainSettings(path=path, layout=layout, **settings))  # type: ignore[arg-type]
    wrong = [face for face in listing.faces if not shows_what_it_says(face)]
    assert not wrong, wrong[:3]
    assert len({face.id for face in listing.faces}) == len(listing.faces)
    assert {face.expression for face in listing.faces} <= set(EXPRESSIONS)
    assert {face.split for face in listing.faces} <= {"train", "val", "test"}
    return found.name, listing


def counts(listing: Listing) -> dict[str, dict[str, int]]:
    """Split → expression → faces."""
    found: dict[str, Counter[str]] = {}
    for face in listing.faces:
        found.setdefault(face.split, Counter())[face.expression] += 1
    return {split: dict(per) for split, per in found.items()}


def each(number: int) -> dict[str, int]:
    return dict.fromkeys(EXPRESSIONS, number)


def faults(listing: Listing) -> list[tuple[str, str]]:
    """(kind, what) of the faults."""
    return [(fault.kind, fault.what) for fault in listing.faults]
