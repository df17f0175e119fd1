"""The boxes of faces: in pixels or in shares of the picture, with sizes or with corners; decided by looking at all."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fergen_bench.datasets.reader import Box, Face, Listing
from fergen_bench.error import BenchError

SAMPLE = 50
"""So many pictures are opened to see whether boxes lie in them."""
MOST = 0.8
"""The share of them in which corners, but no sizes, fit, from which on the boxes are corners."""


def settle_boxes(listing: Listing) -> None:
    """Turns boxes in shares of the picture into pixels, where all are; refuses some of each, and corners for sizes."""
    boxed = [face for face in listing.faces if face.box is not None and face.file is not None]
    if not boxed:
        return
    shares = [face for face in boxed if _is_share(face.box)]
    if len(shares) == len(boxed):
        listing.faces = [_in_pixels(face) for face in listing.faces]
        listing.notes.append("Boxes are given as shares of the picture, 0 to 1, and were turned into pixels.")
    elif shares:
        one, other = shares[0], next(face for face in boxed if not _is_share(face.box))
        raise BenchError(
            f"{_place(listing, one)}: the box ({_spelled(one.box)}) is in shares of the picture, 0 to 1, and that of "
            f"{_place(listing, other)} ({_spelled(other.box)}) in pixels; write all boxes in one unit"
        )
    else:
        _refuse_corners(listing, boxed)


def _is_share(box: Box | None) -> bool:
    """Whether a box of left, top, width, height lies in a picture whose sides are 1."""
    if box is None:
        return False
    left, top, width, height = box
    return (
        left >= 0 and top >= 0 and 0 < width <= 1 and 0 < height <= 1 and left + width <= 1.01 and top + height <= 1.01
    )


def _in_pixels(face: Face) -> Face:
    if face.box is None or face.file is None or (size := _size(face.file)) is None:
        return face  # a file that cannot be read is named when it is decoded
    left, top, width, height = face.box
    return replace(face, box=(left * size[0], top * size[1], width * size[0], height * size[1]))


def _refuse_corners(listing: Listing, boxed: list[Face]) -> None:
    """Refuses boxes whose width and height are the right and lower edge: as sizes they leave the picture."""
    if not all(face.box and face.box[2] > face.box[0] and face.box[3] > face.box[1] for face in boxed):
        return
    sizes = [(face, size) for face in boxed[:: len(boxed) // SAMPLE + 1] if face.file and (size := _size(face.file))]
    beyond = [face for face, (width, height) in sizes if face.box and _fits_as_corners(face.box, width, height)]
    if beyond and len(beyond) >= MOST * len(sizes):
        raise BenchError(
            f"{_place(listing, beyond[0])}: the box ({_spelled(beyond[0].box)}) of left, top, width, height leaves its "
            f"image, as {len(beyond)} of {len(sizes)} do that were looked at; as left, top, right, bottom they lie in "
            f"it. In a csv, name these columns right and bottom; elsewhere, write width and height"
        )


def _fits_as_corners(box: Box, width: int, height: int) -> bool:
    left, top, across, down = box
    return across <= width + 1 and down <= height + 1 and (left + across > width + 1 or top + down > height + 1)


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height of an image that is turned upright, by its header; None where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            turned = image.getexif().get(0x0112, 1) >= 5
            return image.size[::-1] if turned else image.size
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError):
        return None


def _place(listing: Listing, face: Face) -> str:
    return listing.places.get(face.id, str(face.file))


def _spelled(box: Box | None) -> str:
    return ", ".join(f"{number:g}" for number in box or ())
