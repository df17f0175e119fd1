"""The renderer: turn scenes into images, a batch at a time, in torch.

It is 2.5-dimensional and analytic. Parts are signed distances with anti-aliased edges; each is drawn in the coordinates
of the point of the turned ellipsoid that carries it. This module draws head, hair, neck, light and occluder over the
whole image; `features` draws eyes, mouth, nose and forehead in small windows. `camera.expose` turns the painted scene
into the image that a camera and a file would have stored. An image depends on its own scene only, not on the batch, the
number of threads or the order of calls.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fergen_bench.synth import camera
from fergen_bench.synth.canvas import Canvas, Head, cover, ellipse_distance
from fergen_bench.synth.features import draw_beard, draw_eye_and_brow, draw_forehead, draw_mouth, draw_nose
from fergen_bench.synth.geometry import JAW_DROP
from fergen_bench.synth.scene import Scene


@torch.no_grad()
def render(scene: Scene, size: int) -> Tensor:
    """Render a batch of scenes.

    Args:
        scene: The scenes of B images.
        size: Side of the images in pixels, a multiple of 8.

    Returns:
        RGB images, uint8 (B, 3, size, size).
    """
    return camera.expose(_paint(scene, size), scene)


def _paint(scene: Scene, size: int) -> Tensor:
    """Return the painted scenes before the camera, float (B, 3, size, size), mostly within 0..1."""
    canvas = Canvas(scene, size)
    _backdrop(canvas)
    hair = _Hair(canvas)
    hair.behind()
    _body(canvas)
    head = _head(canvas)
    draw_beard(canvas, head)
    draw_mouth(canvas, head)
    draw_forehead(canvas, head)
    draw_nose(canvas)
    for side in (-1.0, 1.0):
        draw_eye_and_brow(canvas, head, side)
    hair.in_front()
    _light(canvas, head, hair)
    _occluder(canvas)
    return canvas.pixels


def _backdrop(canvas: Canvas) -> None:
    face = canvas.face
    slope = (
        0.35 * canvas.texture("large", "backdrop.texture")
        + face.backdrop_x * canvas.x
        + face.backdrop_y * canvas.y
        + 0.5
    ).clamp_(0, 1)
    first = face.colour("backdrop0")
    canvas.pixels = first + (face.colour("backdrop1") - first) * slope[:, None]
    blobs = ((canvas.texture("middle", "backdrop.blob_texture") - face.backdrop_level) * 3).clamp_(
        0, 1
    ) * face.backdrop_blobs
    canvas.blend(face.colour("backdrop2"), blobs)


class _Hair:
    """Hair behind the head, drawn first, and the fringe in front of it, drawn over the features."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas, face = canvas, canvas.face
        length = face.hair_length
        self.grows, self.medium, self.long = (length >= 1).float(), (length >= 2).float(), (length >= 3).float()
        self.width = face.head_width * (1.13 + 0.04 * length.clamp(0, 2)) + 0.02
        self.across = canvas.u + 0.35 * canvas.aside
        self.streaks = 0.13 * canvas.texture("streaks", "hair.streaks")
        self.colour = face.colour("hair")

    def _cap(self, height: Tensor) -> Tensor:
        return (ellipse_distance(self.across, self.canvas.v - 0.12, self.width, height) - 1) * self.width

    def behind(self) -> None:
        canvas = self.canvas
        reach = torch.maximum(canvas.v - 0.12, -canvas.v - (0.25 + 0.33 * self.medium + 1.2 * self.long))
        curtain = torch.maximum(self.across.abs() - self.width * (1 + 0.06 * self.long), reach) + (1 - self.medium) * 9
        distance = torch.minimum(self._cap(canvas.face.head_top + 0.06), curtain)
        self.coverage = cover(distance, canvas.sharpness) * self.grows
        canvas.blend(self.colour * 0.8 * (1 + self.streaks[:, None]), self.coverage)

    def in_front(self) -> None:
        canvas, face = self.canvas, self.canvas.face
        across = canvas.u - 0.4 * _sway(canvas, torch.zeros_like(canvas.u)) - canvas.aside
        height = canvas.v + 0.35 * canvas.pose.sin_pitch
        swept = 0.9 * face.fringe.clamp_min(0.0) * (across - 0.6 * face.parting) ** 2
        line = face.hairline - swept - 0.55 * across * across + 0.30 * face.parting * across + 0.25 * self.streaks
        distance = torch.maximum(line - height, torch.maximum(self._cap(face.head_top + 0.04), -0.2 - canvas.v))
        canvas.blend(
            self.colour * (1 + 1.3 * self.streaks[:, None]), cover(distance, 0.6 * canvas.sharpness) * self.grows
        )


def _body(canvas: Canvas) -> None:
    face, u, v = canvas.face, canvas.u, canvas.v
    skin, middle = face.colour("skin"), -0.2 * canvas.aside
    neck = torch.maximum((u - middle).abs() - 0.54 * face.head_width, v + 0.55)
    canvas.blend(skin * 0.72, cover(neck, canvas.sharpness))
    canvas.blend(face.colour("cloth"), cover(ellipse_distance(u - middle, v + 2.05, 1.55, 0.72) - 1, canvas.sharpness))
    for side in (-1.0, 1.0):
        ear_x = side * 0.98 * face.head_width * canvas.pose.cos_yaw - 0.55 * canvas.aside
        ear = (ellipse_distance(u - ear_x, v - 0.1 * canvas.up, 0.11, 0.19) - 1) * 0.11
        in_sight = (-side * canvas.pose.sin_yaw > -0.25).float() * (1 - 0.8 * (face.hair_length >= 2).float())
        canvas.blend(skin * 0.86, cover(ear, canvas.sharpness) * in_sight)


def _sway(canvas: Canvas, low: Tensor) -> Tensor:
    """Return the sideways shift of the head's outline: the lower face moves with the yaw more than the skull."""
    return canvas.aside * (0.15 + 0.55 * low) - 0.22 * canvas.aside


def _head(canvas: Canvas) -> Head:
    face, v = canvas.face, canvas.v
    low = (-v).clamp(0.0, 1.15)
    width = (
        face.head_width
        * (1 - face.jaw * low * low * (1 - 0.6 * face.squareness))
        * (1 + 0.06 * canvas.pose.sin_yaw.abs())
    )
    tilt = canvas.pose.sin_pitch
    bottom = face.head_bottom + JAW_DROP * face.units[26]
    height = torch.where(v > 0, face.head_top * (1 + 0.04 * tilt), bottom * (1 - 0.12 * tilt.clamp(-0.6, 0.6)))
    x, y = (canvas.u - _sway(canvas, low)) / width, v / height
    square = y * y
    square = torch.where(v > 0, square, square * (1 + 0.7 * face.squareness * (square - 1)))
    radius = torch.sqrt(x * x + square + 1e-6)
    coverage = cover((radius - 1) * 0.8, canvas.sharpness)
    blotches = 0.025 * canvas.texture("middle", "skin.blotches") + 0.02 * face.age * canvas.texture(
        "small", "skin.pores"
    )
    canvas.blend(face.colour("skin") * (1 + blotches[:, None]), coverage)
    return Head(coverage, x, y, radius)


def _light(canvas: Canvas, head: Head, hair: _Hair) -> None:
    """Light the image: Lambert's law on the ellipsoid, a highlight, and the backdrop's own light."""
    face = canvas.face
    z = (1 - head.radius * head.radius).clamp_min(0.0).sqrt()
    facing = (head.x.clamp(-1, 1) * face.light_x + head.y.clamp(-1, 1) * face.light_y + z * face.light_z).clamp_min_(
        0.0
    )
    highlight = (0.9 * z + 0.3 * head.x * face.light_x - 0.86).clamp_min_(0.0) * 2.2 * face.specular * head.coverage
    person = torch.maximum(head.coverage, hair.coverage)
    shade = face.backdrop_light * (1 - person) + (face.ambient + face.diffuse * facing) * person
    canvas.pixels = canvas.pixels * shade[:, None] + highlight[:, None]


def _occluder(canvas: Canvas) -> None:
    """Draw an ellipse or a box in front of the face, in the colour of a hand or in another one."""
    face = canvas.face
    cos, sin = torch.cos(face.occluder_angle), torch.sin(face.occluder_angle)
    dx, dy = canvas.x - face.occluder_x, canvas.y - face.occluder_y
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    ellipse = (ellipse_distance(x, y, face.occluder_width, face.occluder_height) - 1) * face.occluder_height
    box = torch.maximum(x.abs() - face.occluder_width, y.abs() - face.occluder_height)
    coverage = cover(torch.where(face.occluder_box > 0.5, box, ellipse), canvas.size / 2) * face.occluder
    canvas.blend(face.colour("occluder") * (1 + 0.12 * canvas.texture("middle", "occluder.texture")[:, None]), coverage)
