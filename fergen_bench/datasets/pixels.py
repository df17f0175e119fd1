"""One face of a listing → pixels. PIL's decoders and its bicubic filter are the reference: other resizers give other
bits (OpenCV's differ in a quarter of all values), so the resizer's name stands in domain.json.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fergen_bench.datasets.reader import Box, Face
from fergen_bench.wording import many

RESIZER = "PIL bicubic"
LARGEST_NATIVE = 224
"""Faces keep their size up to this side, and are resized to it where they have none in common."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM")
"""What is decoded, by content, whatever a file's name ends in. PIL knows more, some with the help of other programs."""

MOST_PIXELS = 89_478_485
"""Where PIL begins to warn of files that are small and unpack to something huge."""


class Unreadable(Exception):
    """Says why a face cannot be shown; the file is named by whoever knows it."""


def face_pixels(face: Face, size: int, margin: float = 0.0, emulate_bgr: bool = False) -> np.ndarray:
    """uint8 (size, size, 3), RGB; or BGR where published code is emulated. A face that is no square is squashed, as the
    reference code does. margin: for faces with a box, the share of its side that is added on each side.
    """
    image = _open(face)
    if face.box is not None:
        image = image.crop(_edges(face.box, margin, *image.size))
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    pixels = np.asarray(image)
    return pixels[..., ::-1] if emulate_bgr else pixels


def own_side(face: Face) -> int | None:
    """The side of a square face that may keep its size, from the file's header; LARGEST_NATIVE for all others, and None
    for what cannot be read.
    """
    if face.box is not None:
        return LARGEST_NATIVE
    try:
        if face.pixels is not None:
            return min(_side(face.pixels), LARGEST_NATIVE)
        with _decoder(_file(face)) as image:
            return image.width if image.width == image.height <= LARGEST_NATIVE else LARGEST_NATIVE
    except Unreadable:
        return None


def _open(face: Face) -> Image.Image:
    """The whole image, upright, RGB."""
    if face.pixels is not None:
        side = _side(face.pixels)
        return Image.frombytes("L", (side, side), face.pixels).convert("RGB")
    with _decoder(_file(face)) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        # Pixels that are loaded outlive the file. Transparency is dropped, as the reference code and cv2.imread do.
        return image if image.mode == "RGB" else _eight_bit(image).convert("RGB")


def _file(face: Face) -> Path:
    if face.file is None:
        raise ValueError(f"{face.id}: a face has either a file or pixels")
    return face.file


def _side(pixels: bytes) -> int:
    side = math.isqrt(len(pixels))
    if not side or side * side != len(pixels):
        raise Unreadable(f"{many(len(pixels), 'grey level')}, which make no square")
    return side


@contextmanager
def _decoder(path: Path) -> Iterator[Image.Image]:
    """An image whose header is read. Whatever a decoder raises on nonsense, now or in the block, is Unreadable."""
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable("no image of a known kind" if path.stat().st_size else "an empty file") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MOST_PIXELS:,} pixels, which no photograph of a face has") from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except Exception as error:
        raise Unreadable(f"no valid image: {type(error).__name__}: {error}") from None


def _eight_bit(image: Image.Image) -> Image.Image:
    """Sixteen-bit grey → eight bits over its range 0..65,535, where PIL would clip at 255. Others are left alone."""
    if image.mode == "F":
        raise Unreadable("floating-point levels, whose range is not known")
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise Unreadable("grey levels outside of 0 to 65,535")
    return Image.fromarray(((levels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))


def _edges(box: Box, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """left, top, right, bottom in pixels. The box's edges are each rounded to the nearest pixel edge, halves up, after
    the margin is added, and clipped to the image: whole numbers give rows top to top + height - 1.
    """
    left, top, across, down = box
    edges = (left - margin * across, top - margin * down, left + across + margin * across, top + down + margin * down)
    if all(map(math.isfinite, edges)):
        x0, y0, x1, y1 = (math.floor(edge + 0.5) for edge in edges)
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        if x0 < x1 and y0 < y1:
            return x0, y0, x1, y1
    place = ", ".join(f"{number:g}" for number in box)
    raise Unreadable(f"the box ({place}) of left, top, width, height misses the image of {width} × {height} pixels")
