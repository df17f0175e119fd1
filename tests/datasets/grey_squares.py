"""Images for fixtures that say what they are: a flat grey square whose level encodes the expression and a number."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

from fergen_bench.datasets.reader import Dataset, Face, Listing
from fergen_bench.domain import EXPRESSIONS
from fergen_bench.settings import DomainSettings

OTHER = 250
"""The level of what must not be read."""


def level(expression: str, number: int = 0) -> int:
    """Its grey level: 32 per expression, 4 per number (below 8). What is none of the seven is nearly white."""
    return 10 + 32 * EXPRESSIONS.index(expression) + 4 * (number % 7) if expression in EXPRESSIONS else OTHER


def square(
    path: Path, expression: str, number: int = 0, box: tuple[int, int, int, int] | None = None, size: int = 24
) -> None:
    """Writes a grey square; with a box (left, top, width, height) black but for it, and wider than high."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grey = level(expression, number)
    if box is None:
        image = Image.new("L", (size, size), grey)
    else:
        left, top, width, height = box
        image = Image.new("L", (112, 80), 0)
        image.paste(grey, (left, top, left + width, top + height))
    image.save(path)


def pixels(face: Face) -> np.ndarray:
    """What a face shows: its image, or what its box cuts out of it."""
    assert face.file is not None
    with Image.open(face.file) as image:
        if face.box is None:
            return np.asarray(image)
        left, top, width, height = (round(edge) for edge in face.box)
        return np.asarray(image.crop((left, top, left + width, top + height)))


def shows_what_it_says(face: Face) -> bool:
    """Whether every pixel of a face has one level, and that of its expression."""
    shown = pixels(face).astype(int)
    low = level(face.expression)
    return shown.size > 0 and int(np.ptp(shown)) <= 2 and bool((shown >= low - 2).all() and (shown <= low + 26).all())


def read(dataset: Dataset, path: Path, layout: str | None = None, **settings: object) -> tuple[str, Listing]:
    """(name of the layout that was found, what it holds). Every face is held against its pixels."""
    found, base = dataset.layout(path, layout)
    asked = DomainSettings(path=path, layout=layout, **settings)  # type: ignore[arg-type]
    listing = found.read(base, asked)
    wrong = [face for face in listing.faces if not shows_what_it_says(face)]
    assert not wrong, wrong[:3]
    assert len({face.id for face in listing.faces}) == len(listing.faces)
    assert {face.expression for face in listing.faces} <= set(EXPRESSIONS)
    assert {face.split for face in listing.faces} <= {"train", "val", "test"}
    return found.name, listing


def counts(faces: Iterable[Face], split: str) -> dict[str, int]:
    """Faces of a split by expression, in the order of EXPRESSIONS, without absent ones."""
    found = [face.expression for face in faces if face.split == split]
    return {name: found.count(name) for name in EXPRESSIONS if name in found}
