"""Decode a face of a listing into pixels.

PIL's decoders and its bicubic filter are the reference. Other resizers give other bits (OpenCV's differ in a quarter of
all values), so domain.json names the resizer.
"""

from __future__ import annotations

import math
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fergen_bench.datasets.kinds import RAW, beginning, brand
from fergen_bench.datasets.reader import Box, Face
from fergen_bench.wording import many

RESIZER = "PIL bicubic"
LARGEST_NATIVE = 224
"""Faces keep their size up to this side in pixels, and are resized to it where they have different sizes."""
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
"""Formats that are decoded, by content, whatever the ending. PIL knows more, some of which need other programs."""

MOST_PIXELS = 89_478_485
"""Largest number of pixels of an image; from here on PIL warns of small files that unpack to something huge."""


Depth = Literal["8-bit", "16-bit", "float"]
WHITES: dict[Depth, tuple[int, ...]] = {
    "8-bit": (),
    "16-bit": (255, 1023, 4095, 16383, 65535),
    "float": (1, 255, 1023, 4095, 16383, 65535),
}
"""Levels that may mean white: cameras and converters write 8, 10, 12 or 14 bits of value into files of 16."""
OVERSHOOT = 0.1
"""Share of its range by which a floating-point image may leave it, as filtered images do. It is clipped."""


class Source(NamedTuple):
    """Facts about an image file that are lost when its pixels become eight bits."""

    width: int
    height: int
    depth: Depth = "8-bit"
    darkest: float = 0  # levels of the file, where it is deeper than eight bits
    brightest: float = 0
    pictures: int = 1  # frames or pages, of which the first is read

    @property
    def white(self) -> int:
        """The smallest level of WHITES that this image does not exceed."""
        slack = OVERSHOOT if self.depth == "float" else 0.0
        return next(white for white in WHITES[self.depth] if self.brightest <= white * (1 + slack))


class Unreadable(Exception):
    """A face cannot be decoded. The message lacks the file, which the caller adds."""


def face_pixels(face: Face, size: int, margin: float = 0.0, emulate_bgr: bool = False) -> np.ndarray:
    """Return only the pixels of a face; see decode_face."""
    return decode_face(face, size, margin, emulate_bgr)[0]


def decode_face(
    face: Face, size: int, margin: float = 0.0, emulate_bgr: bool = False, white: float | None = None
) -> tuple[np.ndarray, Source]:
    """Return the pixels of a face and the facts about its file.

    Args:
        face: A face of a listing.
        size: Side of the result in pixels. A face that is not square is squashed, as in the reference code.
        margin: For faces with a box, the share of its side that is added on each side.
        emulate_bgr: Return BGR instead of RGB, where published code is emulated.
        white: The level that means white in images of more than eight bits; by default the smallest that is plausible
            for this image alone. Only all images of a dataset together decide correctly; see statistics.white_levels.

    Returns:
        uint8 (size, size, 3), RGB, and the source.

    Raises:
        Unreadable: The image cannot be decoded.
    """
    image, source = open_face(face, white)
    pixels = cut(image, face.box, (size, size), margin)
    return (pixels[..., ::-1] if emulate_bgr else pixels), source


def cut(image: Image.Image, box: Box | None, size: tuple[int, int], margin: float = 0.0) -> np.ndarray:
    """Return a part of an image, or all of it, at a size.

    Args:
        image: The image, in RGB.
        box: The part; None for the whole image. What leaves the image is left out.
        size: Height and width of the result in pixels. A part of another shape is squashed.
        margin: The share of a side of the box that is added on each side.

    Returns:
        uint8 (height, width, 3).

    Raises:
        Unreadable: The box misses the image.
    """
    if box is not None:
        image = image.crop(_edges(box, margin, *image.size))
    if image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(image)


def own_side(face: Face) -> int | None:
    """Return the side in pixels of a square face that may keep its size, from the header of its file.

    Returns:
        LARGEST_NATIVE for all other faces, and None where the file cannot be read.
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


def open_face(face: Face, white: float | None = None) -> tuple[Image.Image, Source]:
    """Return the whole image of a face, upright, in RGB, and the facts about its file.

    Args:
        face: A face of a listing.
        white: The level that means white in images of more than eight bits, as in `decode_face`.

    Raises:
        Unreadable: The image cannot be decoded.
    """
    if face.pixels is not None:
        side = _side(face.pixels)
        return Image.frombytes("L", (side, side), face.pixels).convert("RGB"), Source(side, side)
    with _decoder(_file(face)) as image:
        raw_mode, pictures = _raw_mode(image), _pictures(image)
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        eight, source = _eight_bit(image, raw_mode, _file(face), white)
        # Pixels that are loaded outlive the file. Transparency is dropped, as the reference code and cv2.imread do.
        return eight if eight.mode == "RGB" else eight.convert("RGB"), source._replace(pictures=pictures)


def _file(face: Face) -> Path:
    if face.file is None:
        raise ValueError(f"{face.id}: a face has either a file or pixels")
    return face.file


def _side(pixels: bytes) -> int:
    side = math.isqrt(len(pixels))
    if not side or side * side != len(pixels):
        raise Unreadable(f"{many(len(pixels), 'grey level')}, which do not form a square")
    return side


@contextmanager
def _decoder(path: Path) -> Iterator[Image.Image]:
    """Open an image, with its header read. Any exception of a decoder, now or in the block, becomes Unreadable."""
    try:
        if path.suffix.lower() in RAW:
            raise Unreadable("a camera's raw file; convert it to JPEG or PNG")
        with warnings.catch_warnings(action="ignore"), Image.open(path, formats=_formats()) as image:
            if image.width * image.height > MOST_PIXELS:
                raise Image.DecompressionBombError
            yield image
    except Unreadable:
        raise
    except UnidentifiedImageError:
        raise Unreadable(_unidentified(path)) from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MOST_PIXELS:,} pixels, too many for a photograph of a face") from None
    except OSError as error:
        raise Unreadable(error.strerror or str(error)) from None
    except Exception as error:
        raise Unreadable(f"not a valid image: {type(error).__name__}: {error}") from None


def _pictures(image: Image.Image) -> int:
    """Return the number of frames or pages of a file. Those of an MPO are previews of one photograph."""
    return 1 if image.format == "MPO" else int(getattr(image, "n_frames", 1))


@cache
def _formats() -> tuple[str, ...]:
    """Return the formats among FORMATS that this installation of Pillow has."""
    with suppress(ImportError):
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]

        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _unidentified(path: Path) -> str:
    """Return the reason why Pillow does not recognise a file, and the remedy."""
    start = beginning(path)
    if (missing := brand(start)) is not None:
        package = "pillow-heif" if missing == "HEIC" else "Pillow 11.3 or newer"
        return f"{missing}, which this installation of Pillow cannot decode; install {package}, or convert it"
    return "not an image of a known kind" if start else "an empty file"


def _raw_mode(image: Image.Image) -> str:
    """Return the mode from which PIL unpacks an image that is not loaded yet, such as RGB;16B, or an empty text."""
    tiles = getattr(image, "tile", ())
    args = tiles[0].args if tiles else ""
    mode = args[0] if isinstance(args, tuple) and args else args
    return mode if isinstance(mode, str) else ""


def _eight_bit(image: Image.Image, raw_mode: str, path: Path, white: float | None) -> tuple[Image.Image, Source]:
    """Scale levels of 16 bits and floating-point levels from 0..white to 0..255, where PIL would clip or cut them."""
    if raw_mode[-4:-1] == ";16" and image.mode in {"RGB", "RGBA"}:
        return _eight_bit_colour(image, raw_mode, path, white)
    if image.mode != "F" and not image.mode.startswith("I"):
        return image, Source(*image.size)
    levels = np.asarray(image)
    depth: Depth = "float" if image.mode == "F" else "16-bit"
    darkest, brightest = float(levels.min()), float(levels.max())
    most = 65535 * (1 + OVERSHOOT) if depth == "float" else 65535
    if not (math.isfinite(darkest) and math.isfinite(brightest) and brightest <= most):
        raise Unreadable("grey levels outside of 0 to 65,535")
    source = Source(*image.size, depth, darkest, brightest)
    if darkest < -(OVERSHOOT * source.white if depth == "float" else 0):
        raise Unreadable(f"levels from {darkest:g} to {brightest:g}; save it with black as 0")
    scaled = _scaled(levels, source, white)
    if getattr(image, "tag_v2", {}).get(262) == 0 and depth == "16-bit":
        scaled = 255 - scaled  # a TIFF in which 0 is white: PIL turns these round in 8 bits, but not in 16
    return Image.fromarray(scaled), source


def _eight_bit_colour(image: Image.Image, raw_mode: str, path: Path, white: float | None) -> tuple[Image.Image, Source]:
    """Scale colour levels of 16 bits.

    PIL keeps the upper byte of each level, which is right where levels fill 16 bits; otherwise the lower bytes are read
    too.
    """
    upper = np.asarray(image)[..., :3]
    source = Source(*image.size, "16-bit", float(upper.min()) * 256, float(upper.max()) * 256 + 255)
    if (white or source.white) == 65535:
        return image, source
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}[raw_mode[-1]]
    args = raw_mode[:-1] + other
    with _decoder(path) as opened:
        again: Any = opened
        again.tile = [
            tile._replace(args=(args, *tile.args[1:]) if isinstance(tile.args, tuple) else args) for tile in again.tile
        ]
        try:
            again.load()
        except ValueError:
            raise Unreadable("fewer than 16 bits of value in a 16-bit file of this kind; save it as 8 bits") from None
        ImageOps.exif_transpose(again, in_place=True)
        levels = upper.astype(np.uint32) * 256 + np.asarray(again)[..., :3]
    source = Source(*image.size, "16-bit", float(levels.min()), float(levels.max()))
    return Image.fromarray(_scaled(levels, source, white)), source


def _scaled(levels: np.ndarray, source: Source, white: float | None) -> np.ndarray:
    """Return uint8 levels, 255 for white."""
    white = source.white if white is None else white
    slack = OVERSHOOT if source.depth == "float" else 0.0
    if source.brightest > white * (1 + slack):
        raise Unreadable(f"a level of {source.brightest:g}, above the {white:g} that is given as white")
    if source.depth == "float" or white != int(white):
        return np.clip(levels.astype(np.float64) * (255 / white) + 0.5, 0, 255).astype(np.uint8)
    return ((levels.astype(np.uint32) * 255 + int(white) // 2) // int(white)).astype(np.uint8)


def _edges(box: Box, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom in pixels of a box with its margin.

    The margin is added first. Then each edge is rounded to the nearest pixel edge, halves up, and clipped to the image:
    whole numbers give rows top to top + height - 1.
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
