"""Tools of the renderer: soft shapes, the canvas of the whole image, and windows around single features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from fergen_bench.synth import textures
from fergen_bench.synth.geometry import DEPTH, Anchor, Fields, Pose
from fergen_bench.synth.scene import Scene

Point = tuple[Tensor | float, Tensor | float]
"""x and y of a point."""


def cover(distance: Tensor, sharpness: Tensor | float) -> Tensor:
    """Return the coverage, 0..1, of pixels at a signed distance (negative inside) from an edge.

    Args:
        distance: The distance of each pixel from the edge.
        sharpness: Pixels per unit of distance.
    """
    return (0.5 - distance * sharpness).clamp_(0.0, 1.0)


def soft_spot(distance: Tensor) -> Tensor:
    """Return a soft spot: 1 at distance 0, falling to 0 at distance 1 and beyond."""
    return (1 - distance).clamp_(0.0, 1.0)


def ellipse_distance(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Return the distance from the centre of an ellipse, 1 on its outline."""
    return torch.sqrt((x / width) ** 2 + (y / height) ** 2 + 1e-8)


def crease(x: Tensor, y: Tensor, start: Point, end: Point, width: float, depth: Tensor) -> Tensor:
    """Return how much a soft line from start to end darkens each pixel, at most `depth`; it fades towards its end."""
    (x0, y0), (x1, y1) = start, end
    along_x, along_y, dx, dy = x1 - x0, y1 - y0, x - x0, y - y0
    along = ((dx * along_x + dy * along_y) / (along_x * along_x + along_y * along_y + 1e-6)).clamp_(0.0, 1.0)
    distance = torch.sqrt((dx - along_x * along) ** 2 + (dy - along_y * along) ** 2 + 1e-8)
    return soft_spot(distance / width) * depth * (1 - 0.35 * along)


def rgb(colour: tuple[float, float, float]) -> Tensor:
    """Return a colour as a tensor (1, 3, 1, 1)."""
    return torch.tensor(colour)[None, :, None, None]


class Canvas:
    """The whole image, and the coordinates of its pixels in the head frame."""

    def __init__(self, scene: Scene, size: int) -> None:
        self.scene, self.size, self.face = scene, size, Fields(scene)
        self.pose = Pose(self.face)
        axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2.0 / size) - 1
        self.x, self.y = axis[None, None, :], -axis[None, :, None]
        self.u, self.v = self.pose.to_head(self.x, self.y)
        self.sharpness = size / 2.0 * self.face.scale  # in pixels per head unit
        self.pixels = torch.empty(len(scene), 3, size, size)
        # Shift of parts in front of the turning axis with yaw and pitch, for parts that are drawn without an anchor.
        self.aside, self.up = 0.45 * DEPTH * self.pose.sin_yaw, -0.5 * DEPTH * self.pose.sin_pitch

    def texture(self, kind: str, name: str) -> Tensor:
        """Return a piece of a noise bank for each image, (B, size, size)."""
        return textures.cut(kind, self.scene.draws, name, self.size)

    def blend(self, colour: Tensor, coverage: Tensor) -> None:
        """Blend a colour over the pixels, with a coverage (B, height, width) in 0..1."""
        self.pixels.lerp_(colour, coverage[:, None])

    def window(self, anchor: Anchor, lift: float, height: float, width: float) -> Window:
        """Return a window around an anchor, moved inside the image.

        Args:
            anchor: The point that the window's coordinates are relative to.
            lift: Height of the window's centre above the anchor, in head units.
            height: Share of the image's height.
            width: Share of the image's width.
        """
        rows, columns = (max(6, round(share * self.size)) for share in (height, width))
        x, y = self.pose.to_frame(anchor.x, anchor.y + lift)
        half = self.size / 2
        left = ((x + 1) * half - columns / 2).round().clamp(0, self.size - columns).long()
        top = ((1 - y) * half - rows / 2).round().clamp(0, self.size - rows).long()
        column, row = left + torch.arange(columns)[None, None, :], top + torch.arange(rows)[None, :, None]
        index = (row * self.size + column).reshape(len(self.scene), -1)
        u, v = self.pose.to_head((column + 0.5) / half - 1, 1 - (row + 0.5) / half)
        local_x, local_y = anchor.local(u, v)
        pixels = torch.gather(self.pixels.flatten(2), 2, index[:, None].expand(-1, 3, -1)).unflatten(2, (rows, columns))
        return Window(self, index, local_x, local_y, pixels)


class Window:
    """A copy of a part of the image, in the coordinates of one feature. `put_back` writes it into the image."""

    def __init__(self, canvas: Canvas, index: Tensor, x: Tensor, y: Tensor, pixels: Tensor) -> None:
        self.canvas, self.index, self.x, self.y, self.pixels = canvas, index, x, y, pixels

    def pick(self, full: Tensor) -> Tensor:
        """Return the window's part of a map (B, size, size)."""
        return torch.gather(full.reshape(len(full), -1), 1, self.index).view_as(self.x)

    def blend(self, colour: Tensor, coverage: Tensor) -> None:
        """Blend a colour over the pixels, with a coverage (B, height, width) in 0..1."""
        self.pixels.lerp_(colour, coverage[:, None])

    def darken(self, share: Tensor) -> None:
        """Multiply the pixels by 1 - share."""
        self.pixels *= (1 - share)[:, None]

    def put_back(self) -> None:
        """Write the window's pixels into the image."""
        flat = self.pixels.flatten(2)
        self.canvas.pixels.view(*flat.shape[:2], -1).scatter_(2, self.index[:, None].expand(-1, 3, -1), flat)


def total(parts: Iterable[Tensor]) -> Tensor:
    """Return the sum of tensors of one shape."""
    return torch.stack(list(parts)).sum(0)


class Head(NamedTuple):
    """The drawn head: coverage, coordinates and radius of each pixel."""

    coverage: Tensor
    x: Tensor  # -1..1 across the head at this height
    y: Tensor
    radius: Tensor  # 1 on the outline
