"""The renderer: turn scenes into images. Numpy only.

It is 2.5-dimensional and analytic. Parts are signed distances with anti-aliased edges; each is drawn in the coordinates
of the point of the turned ellipsoid that carries it. This module draws head, hair, neck, light and occluder over the
whole image; `features` draws eyes, mouth, nose and forehead in small windows. `camera.expose` turns the painted scene
into the image that a camera and a file would have stored.

An image depends on its own scene only, not on the batch, and has the same bytes on every processor and with every
version of numpy. Pixels are computed in float32 with the operations that IEEE 754 rounds in one way only: sums,
products, quotients, square roots, comparisons and rounding to integers, in a fixed order. Other functions come from
`elementary` or from tables, and matrix products from `camera.exact_product`, where every sum is exact. Keep to these:
`exp`, `sin`, `power`, `sum`, `mean` and `@` of numpy differ in the last bits.
"""

from __future__ import annotations

import numpy as np

from fergen_bench.synth import camera
from fergen_bench.synth.canvas import Canvas, Head, blend, cover, ellipse_distance
from fergen_bench.synth.features import draw_beard, draw_eye_and_brow, draw_forehead, draw_mouth, draw_nose
from fergen_bench.synth.geometry import JAW_DROP, Fields
from fergen_bench.synth.scene import Scene
from fergen_bench.synth.textures import cut

CHUNK = 16
"""Number of images drawn together at 64 pixels: few enough for a processor's cache."""


def render(scene: Scene, size: int) -> np.ndarray:
    """Render scenes.

    Args:
        scene: The scenes of B images.
        size: Side of the images in pixels, a multiple of 8.

    Returns:
        RGB images, uint8 (B, size, size, 3).
    """
    images = np.empty((len(scene), size, size, 3), np.uint8)
    together = max(1, CHUNK * 64**2 // size**2)
    for start in range(0, len(scene), together):
        rows = slice(start, start + together)
        part = scene.rows(rows)
        images[rows] = camera.expose(_paint(part, size), part)
    return images


def _paint(scene: Scene, size: int) -> np.ndarray:
    """Return the painted scenes before the camera, float32 (B, 3, size, size), mostly within 0..1."""
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
    slope = canvas.texture("large", "backdrop.texture")
    slope *= 0.35
    slope += face.backdrop_x * canvas.x + (face.backdrop_y * canvas.y + 0.5)
    slope.clip(0.0, 1.0, out=slope)
    first = face.colour("backdrop0")
    np.multiply(face.colour("backdrop1") - first, slope[:, None], out=canvas.pixels)
    canvas.pixels += first
    blobs = canvas.texture("middle", "backdrop.blob_texture")
    blobs -= face.backdrop_level
    blobs *= 3
    blobs.clip(0.0, 1.0, out=blobs)
    blobs *= face.backdrop_blobs
    blend(canvas.pixels, face.colour("backdrop2"), blobs)


class _Hair:
    """Hair behind the head, drawn first, and the fringe in front of it, drawn over the features."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas, face = canvas, canvas.face
        length = face.hair_length
        self.grows, self.medium, self.long = ((length >= least).astype(np.float32) for least in (1, 2, 3))
        self.width = face.head_width * (1.13 + 0.04 * length.clip(0, 2)) + 0.02
        self.across = canvas.u + 0.35 * canvas.aside
        self.streaks = canvas.texture("streaks", "hair.streaks")
        self.streaks *= 0.13
        self.colour = face.colour("hair")

    def _cap(self, height: np.ndarray, rows: slice) -> np.ndarray:
        distance = ellipse_distance(self.across[:, rows], self.canvas.v[:, rows] - 0.12, self.width, height)
        distance -= 1
        distance *= self.width
        return distance

    def behind(self) -> None:
        canvas = self.canvas
        reach = np.maximum(canvas.v - 0.12, -(0.25 + 0.33 * self.medium + 1.2 * self.long) - canvas.v)
        curtain = np.maximum(abs(self.across) - self.width * (1 + 0.06 * self.long), reach)
        curtain += (1 - self.medium) * 9
        distance = np.minimum(self._cap(canvas.face.head_top + 0.06, slice(None)), curtain)
        self.coverage = cover(distance, canvas.sharpness)
        self.coverage *= self.grows
        blend(canvas.pixels, self.colour * 0.8, self.coverage, 1 + self.streaks)

    def in_front(self) -> None:
        canvas, face = self.canvas, self.canvas.face
        rows = canvas.rows_where(-0.2, np.inf)
        across = canvas.u[:, rows] + (0.4 * 0.07 - 1) * canvas.aside  # the head's outline sways by -0.07 at the top
        height = canvas.v[:, rows] + 0.35 * canvas.pose.sin_pitch
        streaks = self.streaks[:, rows]
        swept = (across - 0.6 * face.parting) ** 2 * (0.9 * face.fringe.clip(0.0, None))
        line = across * (0.30 * face.parting - 0.55 * across) + face.hairline - swept + 0.25 * streaks
        cap = np.maximum(self._cap(face.head_top + 0.04, rows), -0.2 - canvas.v[:, rows])
        coverage = cover(np.maximum(line - height, cap), 0.6 * canvas.sharpness)
        coverage *= self.grows
        blend(canvas.pixels[:, :, rows], self.colour, coverage, 1 + 1.3 * streaks)


def _body(canvas: Canvas) -> None:
    face, u, v = canvas.face, canvas.u, canvas.v
    skin, middle = face.colour("skin"), -0.2 * canvas.aside
    rows = canvas.rows_where(-np.inf, -0.55)
    neck = np.maximum(abs(u[:, rows] - middle) - 0.54 * face.head_width, v[:, rows] + 0.55)
    blend(canvas.pixels[:, :, rows], skin * 0.72, cover(neck, canvas.sharpness))
    rows = canvas.rows_where(-2.77, -1.33)
    cloth = ellipse_distance(u[:, rows] - middle, v[:, rows] + 2.05, 1.55, 0.72) - 1
    blend(canvas.pixels[:, :, rows], face.colour("cloth"), cover(cloth, canvas.sharpness))
    for side in (-1.0, 1.0):
        ear_x = side * 0.98 * face.head_width * canvas.pose.cos_yaw - 0.55 * canvas.aside
        window = canvas.spot(ear_x, 0.1 * canvas.up, 0.19)
        ear = (ellipse_distance(window.x, window.y, 0.11, 0.19) - 1) * 0.11
        in_sight = (-side * canvas.pose.sin_yaw > -0.25) * (1 - 0.8 * (face.hair_length >= 2).astype(np.float32))
        window.blend(skin * 0.86, cover(ear, canvas.sharpness) * in_sight)
        window.put_back()


def _head(canvas: Canvas) -> Head:
    face, v = canvas.face, canvas.v
    upper = (v > 0).astype(np.float32)
    low = (-v).clip(0.0, 1.15)
    # The lower face moves sideways with the yaw more than the skull.
    sway = low * (0.55 * canvas.aside) - 0.07 * canvas.aside
    narrow = low * low * (face.jaw * (1 - 0.6 * face.squareness))
    width = (1 - narrow) * (face.head_width * (1 + 0.06 * abs(canvas.pose.sin_yaw)))
    tilt = canvas.pose.sin_pitch
    bottom = (face.head_bottom + JAW_DROP * face.units[26]) * (1 - 0.12 * tilt.clip(-0.6, 0.6))
    top = face.head_top * (1 + 0.04 * tilt)
    x, y = (canvas.u - sway) / width, v / (bottom + upper * (top - bottom))
    square = y * y
    square *= 1 + (square - 1) * (1 - upper) * (0.7 * face.squareness)
    square += x * x
    square += 1e-6
    coverage = cover((np.sqrt(square) - 1) * 0.8, canvas.sharpness)
    blotches = canvas.texture("middle", "skin.blotches") * 0.025 + 1
    blotches += canvas.texture("small", "skin.pores") * (0.02 * face.age)
    blend(canvas.pixels, face.colour("skin"), coverage, blotches)
    return Head(coverage, x, y, square)


def _light(canvas: Canvas, head: Head, hair: _Hair) -> None:
    """Light the image: Lambert's law on the ellipsoid, a highlight, and the backdrop's own light."""
    face = canvas.face
    z = np.sqrt((1 - head.square).clip(0.0, None))
    facing = head.x.clip(-1.0, 1.0) * face.light_x + head.y.clip(-1.0, 1.0) * face.light_y
    facing += z * face.light_z
    facing.clip(0.0, None, out=facing)
    highlight = 0.9 * z + head.x * (0.3 * face.light_x) - 0.86
    highlight.clip(0.0, None, out=highlight)
    highlight *= head.coverage
    highlight *= 2.2 * face.specular
    person = np.maximum(head.coverage, hair.coverage)
    facing *= face.diffuse
    facing += face.ambient - face.backdrop_light
    facing *= person
    facing += face.backdrop_light
    canvas.pixels *= facing[:, None]
    canvas.pixels += highlight[:, None]


def _occluder(canvas: Canvas) -> None:
    """Draw an ellipse or a box in front of some faces, in the colour of a hand or in another one."""
    hidden = np.flatnonzero(canvas.face.occluder)
    if not len(hidden):
        return
    face: Fields = canvas.face.rows(hidden)
    cos, sin = face.angle("occluder_angle")
    dx, dy = canvas.x - face.occluder_x, canvas.y - face.occluder_y
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    ellipse = (ellipse_distance(x, y, face.occluder_width, face.occluder_height) - 1) * face.occluder_height
    box = np.maximum(abs(x) - face.occluder_width, abs(y) - face.occluder_height)
    coverage = cover(np.where(face.occluder_box > 0.5, box, ellipse), canvas.size / 2) * face.occluder
    texture = cut("middle", canvas.scene.draws.rows(hidden), "occluder.texture", canvas.size)
    pixels = canvas.pixels[hidden]
    blend(pixels, face.colour("occluder"), coverage, 1 + 0.12 * texture)
    canvas.pixels[hidden] = pixels
