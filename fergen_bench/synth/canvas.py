"""Tools of the renderer: soft shapes, the canvas of the whole image, and windows around single features."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from fergen_bench.data.elementary import power
from fergen_bench.synth import textures
from fergen_bench.synth.geometry import DEPTH, Anchor, Fields, Pose
from fergen_bench.synth.scene import Scene

Point = tuple[np.ndarray | float, np.ndarray | float]
"""x and y of a point."""


def cover(distance: np.ndarray, sharpness: np.ndarray | float) -> np.ndarray:
    """Return the coverage, 0..1, of pixels at a signed distance (negative inside) from an edge.

    Args:
        distance: The distance of each pixel from the edge.
        sharpness: Pixels per unit of distance.
    """
    coverage = distance * -sharpness
    coverage += 0.5
    return coverage.clip(0.0, 1.0, out=coverage)


def soft_spot(distance: np.ndarray) -> np.ndarray:
    """Return a soft spot: 1 at distance 0, falling to 0 at distance 1 and beyond."""
    spot = 1 - distance
    return spot.clip(0.0, 1.0, out=spot)


def ellipse_distance(x: np.ndarray, y: np.ndarray, width: np.ndarray | float, height: np.ndarray | float) -> np.ndarray:
    """Return the distance from the centre of an ellipse, 1 on its outline."""
    distance, other = x / width, y / height
    distance *= distance
    other *= other
    distance += other
    distance += 1e-8
    return np.sqrt(distance, out=distance)


def crease(x: np.ndarray, y: np.ndarray, start: Point, end: Point, width: float, depth: np.ndarray) -> np.ndarray:
    """Return how much a soft line from start to end darkens each pixel, at most `depth`; it fades towards its end."""
    (x0, y0), (x1, y1) = start, end
    along_x, along_y, dx, dy = x1 - x0, y1 - y0, x - x0, y - y0
    per_length = 1 / (along_x * along_x + along_y * along_y + 1e-6)
    along = dx * (along_x * per_length)
    along += dy * (along_y * per_length)
    along.clip(0.0, 1.0, out=along)
    dx -= along_x * along
    dy -= along_y * along
    dx *= dx
    dy *= dy
    dx += dy
    dx += 1e-8
    shade = soft_spot(np.sqrt(dx, out=dx) / width)
    shade *= depth
    along *= -0.35
    along += 1
    shade *= along
    return shade


def rgb(colour: tuple[float, float, float]) -> np.ndarray:
    """Return a colour as an array (1, 3, 1, 1)."""
    return np.array(colour, np.float32)[None, :, None, None]


def blend(pixels: np.ndarray, colour: np.ndarray, coverage: np.ndarray, brightness: np.ndarray | None = None) -> None:
    """Blend a colour over pixels, in place.

    Args:
        pixels: Pixels, (B, 3, height, width).
        colour: A colour for each image or for all, (B or 1, 3, 1, 1).
        coverage: Values in 0..1, (B, height, width).
        brightness: Factor on the colour at each pixel, (B, height, width).
    """
    pixels *= (1 - coverage)[:, None]
    pixels += colour * (coverage if brightness is None else coverage * brightness)[:, None]


@cache
def _powers(exponent: float) -> tuple[np.ndarray, np.ndarray]:
    return with_slopes(power(np.arange(_STEPS + 1) / _STEPS, exponent))


_STEPS = 1024


def with_slopes(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a table of a function's values and their differences along the last axis, for `interpolate`, float32."""
    slopes = np.diff(values, axis=-1, append=values[..., -1:])
    return values.astype(np.float32), slopes.astype(np.float32)


def interpolate(table: tuple[np.ndarray, np.ndarray], position: np.ndarray) -> np.ndarray:
    """Return a function between the entries of its table.

    Args:
        table: Values and slopes as returned by `with_slopes`: (N,) for all images, or (B, N).
        position: Positions in the table, 0 to N - 1, (B, …). They are overwritten.
    """
    values, slopes = table
    index = position.astype(np.int32)
    position -= index.astype(np.float32)
    if values.ndim > 1:
        first = np.arange(0, values.size, values.shape[1], dtype=np.int32)
        index += first.reshape(-1, *[1] * (index.ndim - 1))
    # The positions are valid; clipping is the fastest of numpy's three modes.
    position *= slopes.take(index, mode="clip")
    position += values.take(index, mode="clip")
    return position


def power_of_root(root: np.ndarray, exponent: float) -> np.ndarray:
    """Return the square of numbers in 0..1 to the power of `exponent` from a table, to 2e-5, given their roots."""
    return interpolate(_powers(2 * exponent), root * _STEPS)


class Canvas:
    """The whole image, and the coordinates of its pixels in the head frame. Arrays are float32."""

    def __init__(self, scene: Scene, size: int) -> None:
        self.scene, self.size, self.face = scene, size, Fields(scene)
        self.pose = Pose(self.face)
        axis = _axis(np.arange(size), size)
        self.x, self.y = axis[None, None, :], -axis[None, :, None]
        self.u, self.v = self.pose.to_head(self.x, self.y)
        self.sharpness = size / 2.0 * self.face.scale  # in pixels per head unit
        self.pixels = np.empty((len(scene), 3, size, size), np.float32)
        # Shift of parts in front of the turning axis with yaw and pitch, for parts that are drawn without an anchor.
        self.aside, self.up = 0.45 * DEPTH * self.pose.sin_yaw, -0.5 * DEPTH * self.pose.sin_pitch

    def texture(self, kind: str, name: str) -> np.ndarray:
        """Return a piece of a noise bank for each image, (B, size, size)."""
        return textures.cut(kind, self.scene.draws, name, self.size)

    def rows_where(self, lowest: float, highest: float) -> slice:
        """Return the rows of the image in which some pixel's height in the head frame lies in a range.

        A pixel is added on both sides for the soft edge of what is drawn there.
        """
        edge = 1 / self.sharpness.min()
        bottom, top = self.v.min((0, 2)), self.v.max((0, 2))
        rows = np.flatnonzero((bottom < highest + edge) & (top > lowest - edge))
        return slice(rows[0], rows[-1] + 1) if len(rows) else slice(0)

    def window(self, anchor: Anchor, lift: float, height: float, width: float) -> Window:
        """Return a window around an anchor, with the coordinates of the face around it.

        Args:
            anchor: The point that the window's coordinates are relative to.
            lift: Height of the window's centre above the anchor, in head units.
            height: Share of the image's height.
            width: Share of the image's width.
        """
        rows, columns = (max(6, round(share * self.size)) for share in (height, width))
        window = Window(self, self.pose.to_frame(anchor.x, anchor.y + lift), rows, columns)
        window.x, window.y = self.pose.to_face(anchor, *window.frame())
        return window

    def spot(self, x: np.ndarray, y: np.ndarray, radius: float) -> Window:
        """Return a window around a point of the head frame, with the coordinates of that frame around the point.

        Args:
            x: The point, (B, 1, 1).
            y: The point, (B, 1, 1).
            radius: Distance from the point that the window contains, in head units.
        """
        side = min(self.size, math.ceil(2 * radius * self.sharpness.max()) + 4)
        window = Window(self, self.pose.to_frame(x, y), side, side)
        u, v = self.pose.to_head(*window.frame())
        window.x, window.y = u - x, v - y
        return window


class Window:
    """A copy of a part of the image, in the coordinates of one feature. `put_back` writes it into the image."""

    x: np.ndarray
    y: np.ndarray

    def __init__(self, canvas: Canvas, centre: tuple[np.ndarray, np.ndarray], rows: int, columns: int) -> None:
        self.canvas, self.shape, half = canvas, (rows, columns), canvas.size / 2
        x, y = (coordinate[:, 0, 0] for coordinate in centre)
        left = np.rint((x + 1) * half - columns / 2).clip(0, canvas.size - columns).astype(int)
        top = np.rint((1 - y) * half - rows / 2).clip(0, canvas.size - rows).astype(int)
        self.corners = list(zip(top.tolist(), left.tolist(), strict=True))
        self._top, self._left = top[:, None, None], left[:, None, None]
        self.pixels = self.pick(canvas.pixels)

    def frame(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the window's columns and rows in the image, whose axes run from -1 to 1."""
        rows, columns = self.shape
        x = _axis(self._left + np.arange(columns), self.canvas.size)
        return x, -_axis(self._top + np.arange(rows)[:, None], self.canvas.size)

    def pick(self, full: np.ndarray) -> np.ndarray:
        """Return the window's part of a map of the image, (B, …, size, size)."""
        rows, columns = self.shape
        part = np.empty((*full.shape[:-2], rows, columns), np.float32)
        for image, (top, left) in enumerate(self.corners):
            part[image] = full[image, ..., top : top + rows, left : left + columns]
        return part

    def texture(self, kind: str, name: str) -> np.ndarray:
        """Return the window's part of the canvas's texture of this name."""
        return textures.cut(kind, self.canvas.scene.draws, name, self.canvas.size, self.corners, self.shape)

    def blend(self, colour: np.ndarray, coverage: np.ndarray, brightness: np.ndarray | None = None) -> None:
        """Blend a colour over the pixels, as `blend` does."""
        blend(self.pixels, colour, coverage, brightness)

    def darken(self, share: np.ndarray) -> None:
        """Multiply the pixels by 1 - share."""
        self.pixels *= (1 - share)[:, None]

    def put_back(self) -> None:
        """Write the window's pixels into the image."""
        rows, columns = self.shape
        for image, (top, left) in enumerate(self.corners):
            self.canvas.pixels[image, :, top : top + rows, left : left + columns] = self.pixels[image]


def _axis(index: np.ndarray, size: int) -> np.ndarray:
    """Return the position of pixels along an axis from -1 to 1."""
    return ((index + 0.5) * (2.0 / size) - 1).astype(np.float32)


class Head(NamedTuple):
    """The drawn head: coverage and coordinates of each pixel."""

    coverage: np.ndarray
    x: np.ndarray  # -1..1 across the head at this height
    y: np.ndarray
    square: np.ndarray  # square of the distance from the centre, 1 on the outline
