"""Fixtures of datasets whose pixels carry their expression, so that a mixed-up label or a box beside the face shows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from fergen_bench.datasets.reader import Dataset, Face, Listing
from fergen_bench.domain import EXPRESSIONS
from fergen_bench.settings import DomainSettings

STEP = 30
Box = tuple[int, int, int, int]


def level(expression: str, number: int = 0) -> int:
    """The grey of a face: the expression in steps of 30, the number (0 to 9) in ones."""
    return 10 + STEP * EXPRESSIONS.index(expression) + number % 10


def write(
    path: Path,
    expression: str,
    number: int = 0,
    size: tuple[int, int] = (12, 12),
    mode: str = "RGB",
    box: Box | None = None,
) -> Path:
    """A flat grey image; with a box (left, top, right, bottom), the face is in it and white is around it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pixels = np.full((height, width), level(expression, number) if box is None else 255, np.uint8)
    if box is not None:
        left, top, right, bottom = box
        pixels[top:bottom, left:right] = level(expression, number)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def shown(face: Face) -> str:
    """The expression that the pixels of a face carry."""
    assert face.file is not None
    with Image.open(face.file) as image:
        grey = np.asarray(image.convert("L"), np.int64)
    if face.box is not None:
        left, top, width, height = (round(value) for value in face.box)
        grey = grey[top : top + height, left : left + width]
    assert grey.size
    assert np.ptp(grey) <= 2, "the box is not the face's"
    return EXPRESSIONS[(int(np.median(grey)) - 5) // STEP]


def read(dataset: Dataset, path: Path, **settings: object) -> tuple[str, Listing]:
    """The layout that is found and what it lists; every face is checked against its pixels."""
    made = DomainSettings(path=path, **settings)  # type: ignore[arg-type]
    layout, base = dataset.layout(path, made.layout)
    listing = layout.read(base, made)
    for face in listing.faces:
        assert shown(face) == face.expression, face
    assert len({face.id for face in listing.faces}) == len(listing.faces)
    return layout.name, listing


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
