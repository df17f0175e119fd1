"""Read face boxes from text files, and settle the unit and the form of the boxes of a listing.

Boxes come in pixels or as fractions of the image, with sizes or with corners. All boxes of a listing decide together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fergen_bench.datasets.files import image_size
from fergen_bench.datasets.reader import Box, Face, Fault, Listing
from fergen_bench.datasets.text_files import text_of
from fergen_bench.error import BenchError

SAMPLE = 50
"""Number of images that are opened to see if boxes lie in them."""
MOST = 0.3
"""Share of the sample in which the numbers fit as corners but not as sizes, from which on boxes count as corners."""


def with_box(face: Face, path: Path, listing: Listing) -> Iterator[Face]:
    """Yield a face with the box in a file; a file without a box yields no face and is a fault."""
    try:
        yield replace(face, box=box_of(path))
    except BenchError as error:
        listing.faults.append(Fault("unreadable", str(path), str(error)))


def box_of(path: Path) -> Box:
    """Return the box in a file of `left top right bottom` in pixels.

    The score of a detector may follow, as in the readers of CD-FER-Benchmark.

    Returns:
        Left, top, width and height.

    Raises:
        BenchError: The file has another content, or the box is empty.
    """
    try:
        left, top, right, bottom, *score = (float(word) for word in text_of(path).split())
        if len(score) <= 1 and max(map(abs, (left, top, right, bottom))) < 1e6 and left < right and top < bottom:
            return left, top, right - left, bottom - top
    except ValueError:
        pass
    raise BenchError(
        f"{path}: this file does not contain a face box; expected four numbers, left top right bottom, of a box that "
        f"is "
        f"not empty"
    )


def settle_boxes(listing: Listing) -> None:
    """Convert boxes in fractions of the image into pixels, where all boxes are such.

    Args:
        listing: A listing, which is updated.

    Raises:
        BenchError: Only some boxes are fractions, or the boxes are corners under the names of sizes.
    """
    boxed = [face for face in listing.faces if face.box is not None and face.file is not None]
    if not boxed:
        return
    shares = [face for face in boxed if _is_share(face.box)]
    if len(shares) == len(boxed):
        listing.faces = [_in_pixels(face) for face in listing.faces]
        listing.notes.append("Boxes are given as shares of the picture, 0 to 1, and were turned into pixels.")
        _refuse_corners(listing, [face for face in listing.faces if face.box is not None and face.file is not None])
    elif shares:
        one, other = shares[0], next(face for face in boxed if not _is_share(face.box))
        raise BenchError(
            f"{_place(listing, one)}: the box ({_spelled(one.box)}) is in shares of the picture, 0 to 1, and that of "
            f"{_place(listing, other)} ({_spelled(other.box)}) is in pixels. Write all boxes in one unit"
        )
    else:
        _refuse_corners(listing, boxed)


def _is_share(box: Box | None) -> bool:
    """Return True where a box can be in fractions of an image; a detected box may lie slightly outside."""
    if box is None:
        return False
    return box[2] > 0 and box[3] > 0 and all(-0.5 <= number <= 1.5 for number in box)


def _in_pixels(face: Face) -> Face:
    if face.box is None or face.file is None or (size := image_size(face.file)) is None:
        return face  # the error about a file that cannot be read comes when it is decoded
    left, top, width, height = face.box
    return replace(face, box=(left * size[0], top * size[1], width * size[0], height * size[1]))


def _refuse_corners(listing: Listing, boxed: list[Face]) -> None:
    """Refuse boxes whose width and height are the right and lower edge: as sizes they leave the image."""
    if not all(face.box and face.box[2] > face.box[0] and face.box[3] > face.box[1] for face in boxed):
        return
    some = boxed[:: len(boxed) // SAMPLE + 1]
    sizes = [(face, size) for face in some if face.file and (size := image_size(face.file))]
    beyond = [face for face, (width, height) in sizes if face.box and _fits_as_corners(face.box, width, height)]
    if beyond and len(beyond) >= MOST * len(sizes):
        raise BenchError(
            f"{_place(listing, beyond[0])}: the box ({_spelled(beyond[0].box)}) of left, top, width, height leaves its "
            f"image, as do {len(beyond)} of {len(sizes)} boxes in a sample; as left, top, right, bottom they lie in "
            f"it. In a csv, name these columns right and bottom; elsewhere, write width and height"
        )


def _fits_as_corners(box: Box, width: int, height: int) -> bool:
    left, top, across, down = box
    return across <= width + 1 and down <= height + 1 and (left + across > width + 1 or top + down > height + 1)


def _place(listing: Listing, face: Face) -> str:
    return listing.places.get(face.id, str(face.file))


def _spelled(box: Box | None) -> str:
    return ", ".join(f"{number:g}" for number in box or ())
