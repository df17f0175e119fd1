"""The renderer: scenes → faces, a batch at a time, in torch.

2.5-D and analytic. Parts are signed distances with anti-aliased edges; each is drawn in the coordinates of the point of
the turned ellipsoid that carries it. Head, hair, neck, beard, light and occluder are drawn over the whole picture;
eyes, mouth, nose and forehead in small windows around them, which is most of the speed. `camera.expose` turns the
painting into the picture that a camera and a file would have kept. A picture depends on its own scene only: not on the
batch, the number of threads or the order of calls.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from fergen_bench.synth import camera, textures
from fergen_bench.synth.geometry import (
    DEPTH,
    JAW_DROP,
    Anchor,
    Fields,
    Pose,
    brow_height,
    brow_inward,
    eye_shape,
    mouth_centre,
    mouth_shape,
    nose_base,
)
from fergen_bench.synth.scene import Scene

WHITE_OF_EYE, PUPIL, LASHES = (0.93, 0.91, 0.89), (0.03, 0.03, 0.03), (0.10, 0.07, 0.06)
IRISES = ((0.20, 0.12, 0.07), (0.35, 0.23, 0.12), (0.30, 0.40, 0.25), (0.30, 0.45, 0.60))
TEETH, TONGUE, THROAT, ROUGE = (0.93, 0.90, 0.84), (0.62, 0.25, 0.25), (0.16, 0.05, 0.05), (0.72, 0.16, 0.22)


@torch.no_grad()
def render(scene: Scene, size: int) -> Tensor:
    """A batch of scenes → uint8 RGB (B, 3, size, size). size: a multiple of 8."""
    return camera.expose(_paint(scene, size), scene)


def _paint(scene: Scene, size: int) -> Tensor:
    """The painted scene before the camera: float (B, 3, size, size), mostly within 0..1."""
    canvas = _Canvas(scene, size)
    _backdrop(canvas)
    hair = _Hair(canvas)
    hair.behind()
    _body(canvas)
    head = _head(canvas)
    _beard(canvas, head)
    _mouth(canvas, head)
    _forehead(canvas, head)
    _nose(canvas, head)
    for side in (-1.0, 1.0):
        _eye_and_brow(canvas, head, side)
    hair.in_front()
    _light(canvas, head, hair)
    _occluder(canvas)
    return canvas.pixels


# ---------------------------------------------------------------------------------------------------------------- tools


def _cover(distance: Tensor, sharpness: Tensor | float) -> Tensor:
    """Signed distance (negative inside) → coverage in 0..1. sharpness: pixels per unit of distance."""
    return (0.5 - distance * sharpness).clamp_(0.0, 1.0)


def _spot(distance: Tensor) -> Tensor:
    """A soft spot: 1 in the middle, 0 from distance 1 on."""
    return (1 - distance).clamp_(0.0, 1.0)


def _ellipse(x: Tensor, y: Tensor, width: Tensor | float, height: Tensor | float) -> Tensor:
    """Distance from the middle, 1 on the ellipse."""
    return torch.sqrt((x / width) ** 2 + (y / height) ** 2 + 1e-8)


def _crease(x: Tensor, y: Tensor, start: _Point, end: _Point, width: float, depth: Tensor) -> Tensor:
    """A soft line from start to end that fades towards its end: how much it darkens, at most `depth`."""
    (x0, y0), (x1, y1) = start, end
    along_x, along_y, dx, dy = x1 - x0, y1 - y0, x - x0, y - y0
    place = ((dx * along_x + dy * along_y) / (along_x * along_x + along_y * along_y + 1e-6)).clamp_(0.0, 1.0)
    distance = torch.sqrt((dx - along_x * place) ** 2 + (dy - along_y * place) ** 2 + 1e-8)
    return _spot(distance / width) * depth * (1 - 0.35 * place)


_Point = tuple[Tensor | float, Tensor | float]


def _rgb(colour: tuple[float, float, float]) -> Tensor:
    return torch.tensor(colour)[None, :, None, None]


class _Canvas:
    """The whole picture, and the coordinates of its pixels in the head frame."""

    def __init__(self, scene: Scene, size: int) -> None:
        self.scene, self.size, self.face = scene, size, Fields(scene)
        self.pose = Pose(self.face)
        axis = (torch.arange(size, dtype=torch.float32) + 0.5) * (2.0 / size) - 1
        self.x, self.y = axis[None, None, :], -axis[None, :, None]
        self.u, self.v = self.pose.to_head(self.x, self.y)
        self.sharpness = size / 2.0 * self.face.scale  # pixels per head unit
        self.pixels = torch.empty(len(scene), 3, size, size)
        # How far yaw and pitch move what lies in front of the turning axis, for the parts drawn without an anchor.
        self.aside, self.up = 0.45 * DEPTH * self.pose.sin_yaw, -0.5 * DEPTH * self.pose.sin_pitch

    def texture(self, kind: str, name: str) -> Tensor:
        return textures.cut(kind, self.scene.draws, name, self.size)

    def blend(self, colour: Tensor, coverage: Tensor) -> None:
        self.pixels.lerp_(colour, coverage[:, None])

    def window(self, anchor: Anchor, lift: float, height: float, width: float) -> _Window:
        """A window of the given share of the picture, `lift` head units above the anchor, moved inside the picture."""
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
        return _Window(self, index, local_x, local_y, pixels)


class _Window:
    """A part of the picture in the coordinates of one feature, drawn apart and put back."""

    def __init__(self, canvas: _Canvas, index: Tensor, x: Tensor, y: Tensor, pixels: Tensor) -> None:
        self.canvas, self.index, self.x, self.y, self.pixels = canvas, index, x, y, pixels

    def pick(self, full: Tensor) -> Tensor:
        """The window's part of a map (B, size, size)."""
        return torch.gather(full.reshape(len(full), -1), 1, self.index).view_as(self.x)

    def blend(self, colour: Tensor, coverage: Tensor) -> None:
        self.pixels.lerp_(colour, coverage[:, None])

    def darken(self, share: Tensor) -> None:
        self.pixels *= (1 - share)[:, None]

    def put_back(self) -> None:
        flat = self.pixels.flatten(2)
        self.canvas.pixels.view(*flat.shape[:2], -1).scatter_(2, self.index[:, None].expand(-1, 3, -1), flat)


# ------------------------------------------------------------------------------------------------------------ the whole
# picture


def _backdrop(canvas: _Canvas) -> None:
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
    """Hair behind the head (drawn first) and the fringe in front of it (drawn over the features)."""

    def __init__(self, canvas: _Canvas) -> None:
        self.canvas, face = canvas, canvas.face
        length = face.hair_length
        self.grows, self.medium, self.long = (length >= 1).float(), (length >= 2).float(), (length >= 3).float()
        self.width = face.head_width * (1.13 + 0.04 * length.clamp(0, 2)) + 0.02
        self.across = canvas.u + 0.35 * canvas.aside
        self.streaks = 0.13 * canvas.texture("streaks", "hair.streaks")
        self.colour = face.colour("hair")

    def _cap(self, height: Tensor) -> Tensor:
        return (_ellipse(self.across, self.canvas.v - 0.12, self.width, height) - 1) * self.width

    def behind(self) -> None:
        canvas = self.canvas
        reach = torch.maximum(canvas.v - 0.12, -canvas.v - (0.25 + 0.33 * self.medium + 1.2 * self.long))
        curtain = torch.maximum(self.across.abs() - self.width * (1 + 0.06 * self.long), reach) + (1 - self.medium) * 9
        distance = torch.minimum(self._cap(canvas.face.head_top + 0.06), curtain)
        self.coverage = _cover(distance, canvas.sharpness) * self.grows
        canvas.blend(self.colour * 0.8 * (1 + self.streaks[:, None]), self.coverage)

    def in_front(self) -> None:
        canvas, face = self.canvas, self.canvas.face
        across = canvas.u - 0.4 * _sway(canvas, torch.zeros_like(canvas.u)) - canvas.aside
        height = canvas.v + 0.35 * canvas.pose.sin_pitch
        swept = 0.9 * face.fringe.clamp_min(0.0) * (across - 0.6 * face.parting) ** 2
        line = face.hairline - swept - 0.55 * across * across + 0.30 * face.parting * across + 0.25 * self.streaks
        distance = torch.maximum(line - height, torch.maximum(self._cap(face.head_top + 0.04), -0.2 - canvas.v))
        canvas.blend(
            self.colour * (1 + 1.3 * self.streaks[:, None]), _cover(distance, 0.6 * canvas.sharpness) * self.grows
        )


def _body(canvas: _Canvas) -> None:
    face, u, v = canvas.face, canvas.u, canvas.v
    skin, middle = face.colour("skin"), -0.2 * canvas.aside
    neck = torch.maximum((u - middle).abs() - 0.54 * face.head_width, v + 0.55)
    canvas.blend(skin * 0.72, _cover(neck, canvas.sharpness))
    canvas.blend(face.colour("cloth"), _cover(_ellipse(u - middle, v + 2.05, 1.55, 0.72) - 1, canvas.sharpness))
    for side in (-1.0, 1.0):
        ear_x = side * 0.98 * face.head_width * canvas.pose.cos_yaw - 0.55 * canvas.aside
        ear = (_ellipse(u - ear_x, v - 0.1 * canvas.up, 0.11, 0.19) - 1) * 0.11
        in_sight = (-side * canvas.pose.sin_yaw > -0.25).float() * (1 - 0.8 * (face.hair_length >= 2).float())
        canvas.blend(skin * 0.86, _cover(ear, canvas.sharpness) * in_sight)


class _Head(NamedTuple):
    coverage: Tensor
    x: Tensor  # -1..1 across the head at this height
    y: Tensor
    radius: Tensor  # 1 on the outline


def _sway(canvas: _Canvas, low: Tensor) -> Tensor:
    """The lower face moves with the yaw, the skull less."""
    return canvas.aside * (0.15 + 0.55 * low) - 0.22 * canvas.aside


def _head(canvas: _Canvas) -> _Head:
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
    coverage = _cover((radius - 1) * 0.8, canvas.sharpness)
    blotches = 0.025 * canvas.texture("middle", "skin.blotches") + 0.02 * face.age * canvas.texture(
        "small", "skin.pores"
    )
    canvas.blend(face.colour("skin") * (1 + blotches[:, None]), coverage)
    return _Head(coverage, x, y, radius)


def _light(canvas: _Canvas, head: _Head, hair: _Hair) -> None:
    """Lambert's law on the ellipsoid, a highlight, and the backdrop's own light."""
    face = canvas.face
    z = (1 - head.radius * head.radius).clamp_min(0.0).sqrt()
    facing = (head.x.clamp(-1, 1) * face.light_x + head.y.clamp(-1, 1) * face.light_y + z * face.light_z).clamp_min_(
        0.0
    )
    highlight = (0.9 * z + 0.3 * head.x * face.light_x - 0.86).clamp_min_(0.0) * 2.2 * face.specular * head.coverage
    person = torch.maximum(head.coverage, hair.coverage)
    shade = face.backdrop_light * (1 - person) + (face.ambient + face.diffuse * facing) * person
    canvas.pixels = canvas.pixels * shade[:, None] + highlight[:, None]


def _occluder(canvas: _Canvas) -> None:
    """A hand-coloured or coloured ellipse or box before the face."""
    face = canvas.face
    cos, sin = torch.cos(face.occluder_angle), torch.sin(face.occluder_angle)
    dx, dy = canvas.x - face.occluder_x, canvas.y - face.occluder_y
    x, y = dx * cos + dy * sin, dy * cos - dx * sin
    ellipse = (_ellipse(x, y, face.occluder_width, face.occluder_height) - 1) * face.occluder_height
    box = torch.maximum(x.abs() - face.occluder_width, y.abs() - face.occluder_height)
    coverage = _cover(torch.where(face.occluder_box > 0.5, box, ellipse), canvas.size / 2) * face.occluder
    canvas.blend(face.colour("occluder") * (1 + 0.12 * canvas.texture("middle", "occluder.texture")[:, None]), coverage)


# ----------------------------------------------------------------------------------------------------------------- face
# features


def _beard(canvas: _Canvas, head: _Head) -> None:
    face = canvas.face
    x, y = canvas.pose.anchor(0.0, mouth_centre(face)).local(canvas.u, canvas.v)
    around_mouth = -(_ellipse(x, y, 0.30, 0.17) - 1) * 0.15
    distance = torch.maximum(y - (0.06 + 0.9 * (x.abs() - 0.42).clamp_min(0.0)), around_mouth)
    stubble = (0.75 + 0.25 * canvas.texture("fine", "beard.stubble")).clamp_(0, 1)
    coverage = _cover(distance, 7.0) * head.coverage * face.beard * stubble
    canvas.blend(face.colour("hair") * 0.9, coverage.clamp_(0, 1))


def _mouth(canvas: _Canvas, head: _Head) -> None:
    """Cheeks, folds and chin, then lips, teeth and tongue."""
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(0.0, mouth_centre(face)), 0.02, 0.66, 0.72)
    x, y, aside = window.x, window.y, window.x.abs()
    on_head = window.pick(head.coverage)
    mouth = mouth_shape(face, torch.where(x > 0, 1.0, -1.0))
    smile, frown = au[12] * (1 + face.asymmetry * torch.sign(x)), au[15] * (1 + face.asymmetry * torch.sign(x))

    # Folds: from the wing of the nose to beside the corner; below the corner; the chin, pushed up and dimpled by AU17.
    fold = (0.05 + 0.175 * face.age + 0.55 * smile + 0.6 * au[10] + 0.6 * au[9] + 0.15 * au[6]).clamp(0, 1.2) * 0.42
    start = (face.nose_width + 0.05, 0.30 - 0.03 * smile + 0.05 * au[10] + 0.03 * au[9])
    shade = _crease(aside, y, start, (mouth.width + 0.07 + 0.03 * smile, 0.03 + 0.3 * mouth.corner), 0.035, fold)
    below = (0.35 * frown + 0.12 * face.age).clamp(0, 1) * 0.6
    shade = shade + _crease(
        aside,
        y,
        (mouth.width + 0.01, 0.7 * mouth.corner),
        (mouth.width + 0.05, 0.7 * mouth.corner - 0.09),
        0.035,
        below,
    )
    chin_y = -0.24 - 0.13 * au[26]
    shade = shade + _spot(_ellipse(x, y - chin_y, 0.16, 0.045)) * (0.12 + 0.4 * au[17])
    dimples = window.pick(canvas.texture("fine", "chin.dimples")).clamp(0, 1.5)
    shade = shade + (0.17 - _ellipse(x, y - chin_y + 0.08, 1.0, 1.0)).clamp_(0, 1) * 1.76 * au[17] * dimples
    raised = _spot(_ellipse(aside - 0.40, y - 0.34 - 0.05 * au[6], 0.17, 0.13)) * 0.16 * (au[6] + 0.5 * smile)
    window.pixels *= (1 - (shade * on_head).clamp_(0, 0.75) + raised * on_head)[:, None]
    window.pixels[:, 0] += face.cheek_colour * on_head * _spot(_ellipse(aside - 0.42, y - 0.28, 0.2, 0.16))

    across = aside / mouth.width
    middle = (1 - (across * across).clamp_max(1.4)).clamp_min(0.0)
    line = mouth.line(across)
    inner_up, inner_down = line + mouth.opening_up * middle.sqrt(), line - mouth.opening_down * middle.sqrt()
    bow = 1 - 0.28 * _spot(aside / 0.07)
    outer_up = inner_up + mouth.upper_lip * middle.pow(0.7) * bow + 0.02 * au[10] * middle
    outer_down = inner_down - mouth.lower_lip * middle.pow(0.65)
    sharp = 0.9 * canvas.sharpness
    within = _cover((across - 1) * mouth.width, sharp)

    skin, hair = face.colour("skin"), face.colour("hair")
    moustache = (
        _cover(y - outer_up - 0.10, 0.4 * sharp)
        * _cover(outer_up + 0.005 - y, sharp)
        * _cover((across - 1.05) * mouth.width, 0.4 * sharp)
    )
    window.blend(hair * 0.9, moustache * face.moustache)
    lips = torch.lerp(skin * _rgb((0.84, 0.58, 0.58)), _rgb(ROUGE).expand_as(skin), face.make_up[:, None])
    upper_side = (y > line).float() * 0.10
    window.blend(
        lips * (1.03 - upper_side)[:, None], _cover(y - outer_up, sharp) * _cover(outer_down - y, sharp) * within
    )

    open_mouth = _cover(y - inner_up, sharp) * _cover(inner_down - y, sharp) * within
    window.blend(_rgb(THROAT), open_mouth)
    floor = mouth.line(0.0) - mouth.opening_down
    tongue = _cover((_ellipse(x, y - floor, 0.6 * mouth.width, 0.4 * mouth.opening_down + 0.02) - 1) * 0.1, sharp)
    window.blend(_rgb(TONGUE), tongue * open_mouth * (6 * mouth.opening_down).clamp(0, 1) * 0.8)
    shown = (0.022 + 0.05 * au[12] + 0.045 * au[10] + 0.03 * au[9]).clamp_max(0.085)
    upper_teeth = (
        open_mouth * _cover(inner_up - shown - y, sharp) * _cover((across - 0.93) * mouth.width, sharp) * face.teeth
    )
    bared = au[16] + au[20] + au[4] * au[26]
    gap = 0.03 * au[16] + 0.028 * au[20] + 0.02 * au[4] * au[26]
    lower_teeth = (
        open_mouth
        * _cover(y - inner_down - gap, sharp)
        * _cover((across - 0.8) * mouth.width, sharp)
        * (bared > 0.15).float()
    )
    window.blend(_rgb(TEETH), torch.maximum(upper_teeth, lower_teeth))
    window.blend(skin * 0.28, _spot((y - line).abs() * sharp * 0.75) * within * (1 - open_mouth) * 0.62)
    window.darken(_spot((y - outer_down + 0.03).abs() / 0.035) * middle * 0.20 * on_head)
    window.put_back()


def _forehead(canvas: _Canvas, head: _Head) -> None:
    """Lines across (AU1, AU2, age) and furrows between the brows (AU4, AU9)."""
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(0.0, face.brow_y + 0.16), -0.02, 0.40, 0.66)
    x, y, aside = window.x, window.y, window.x.abs()
    depth = (0.12 * face.age + 0.55 * au[1] * au[2].clamp(0, 1) + 0.25 * au[1] + 0.20 * au[2]).clamp(0, 1)
    bent = y + 0.25 * x * x - 0.03 * au[1] * _spot(aside / 0.2) * (1 - au[2]).clamp(0, 1)
    lines = (
        _total(_spot((bent - height).abs() / 0.022) for height in (0.02, 0.11, 0.20))
        * _spot(aside / (0.22 + 0.2 * au[2])).sqrt()
        * depth
        * 0.42
    )
    furrow = (0.8 * au[4] + 0.12 * face.age + 0.3 * au[9]).clamp(0, 1) * 0.55
    between = _crease(aside, y, (0.055 - 0.02 * au[4], -0.10), (0.045, -0.30), 0.028, furrow)
    between = between + _spot(_ellipse(x, y + 0.2, 0.08, 0.12)) * 0.22 * au[4]
    window.darken(((lines + between) * window.pick(head.coverage)).clamp_(0, 0.7))
    window.put_back()


def _nose(canvas: _Canvas, head: _Head) -> None:
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(0.0, nose_base(face), lift=0.10), 0.10, 0.46, 0.44)
    x, y, aside = window.x, window.y, window.x.abs()
    width, length = face.nose_width * (1 + 0.14 * au[9] + 0.08 * au[12] + 0.08 * au[10]), face.nose_length
    dark_side = torch.where(face.light_x > 0, -x, x)
    on_bridge = ((y + 0.02) * 20).clamp_(0, 1) * ((length - y) * 6).clamp_(0, 1)
    bridge = (
        _spot((dark_side - 0.05 - 0.10 * (1 - (y / length).clamp(0, 1))).abs() / 0.06)
        * on_bridge
        * (0.10 + 0.24 * face.light_x.abs())
    )
    shine = _spot(aside / 0.035) * ((length - y) * 8).clamp_(0, 1) * ((y + 0.03) * 20).clamp_(0, 1) * 0.10
    wings = _crease(
        aside, y, (0.95 * width, 0.065 + 0.02 * au[9]), (0.9 * width, -0.03), 0.035, torch.full_like(width, 0.38)
    )
    wings = wings + 0.30 * _spot((y + 0.055).abs() / 0.03) * ((width - aside) * 15).clamp_(0, 1)
    wrinkles = (
        _total(_spot((y - height + 0.12 * aside).abs() / 0.02) for height in (0.20, 0.27, 0.34))
        * 0.45
        * au[9]
        * _spot(aside / 0.11)
    )
    window.pixels *= (1 - (bridge + wings + wrinkles).clamp_(0, 0.7) + shine)[:, None]
    nostrils = _cover((_ellipse(aside - 0.48 * width, y + 0.016, 0.042, 0.022) - 1) * 0.022, 0.7 * canvas.sharpness)
    window.blend(face.colour("skin") * 0.22, nostrils * 0.75)
    window.put_back()


def _eye_and_brow(canvas: _Canvas, head: _Head, side: float) -> None:
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(side * face.eye_x, face.eye_y), 0.10, 0.50, 0.46)
    x, y = window.x * side, window.y  # x grows outwards
    on_head, sharp = window.pick(head.coverage), 0.9 * canvas.sharpness
    eye = eye_shape(face, side)
    across = x / eye.width
    middle = (1 - across * across).clamp_min(0.0)
    tilt = (face.eye_tilt - 0.02 * au[1]) * x
    upper_lid, lower_lid = eye.upper * middle.pow(0.75) + tilt, tilt - eye.lower * middle

    # Socket, pouch under the eye, crow's feet, lid crease.
    shade = _spot(_ellipse(x, y - 0.03, 0.27, 0.17)) * (0.16 + 0.10 * au[4] + 0.06 * au[9])
    pouch = (0.10 + 0.30 * au[6] + 0.25 * au[7] + 0.22 * au[9] + 0.25 * face.age).clamp(0, 1) * 0.42
    start, end = (
        (-0.7 * eye.width, -eye.lower - 0.055 + 0.015 * au[6]),
        (0.8 * eye.width, -eye.lower - 0.035 + 0.02 * au[6]),
    )
    shade = shade + _crease(x, y, start, end, 0.028, pouch)
    feet = (0.75 * au[6] + 0.2 * face.age) * 0.38
    for inner, outer in ((0.02, 0.07), (-0.02, -0.03), (-0.05, -0.11)):
        shade = shade + _crease(x, y, (eye.width + 0.03, inner), (eye.width + 0.13, outer), 0.02, feet)
    shade = shade + _spot((y - upper_lid - 0.035 + 0.01 * au[5]).abs() * sharp * 0.55) * (middle > 0).float() * 0.26
    window.darken((shade * on_head).clamp_(0, 0.75))

    # Eyeball, lids and lashes.
    within = _cover((across.abs() - 1) * eye.width, sharp)
    ball = _cover(y - upper_lid, sharp) * _cover(lower_lid - y, sharp) * within
    window.blend(_rgb(WHITE_OF_EYE), ball)
    look_x, look_y = face.gaze_x * side * 0.05, face.gaze_y * 0.03 + 0.006
    distance = _ellipse(x - look_x, y - look_y, 1.0, 1.0)
    iris = _cover(distance - face.iris, sharp) * ball
    palette = torch.tensor(IRISES)[(face.iris_colour.flatten() ** 2 * 3.99).long()]
    window.blend(palette[:, :, None, None], iris)
    window.blend(_rgb(PUPIL), _cover(distance - 0.48 * face.iris, sharp) * ball)
    glint = _cover(_ellipse(x - look_x - 0.025, y - look_y - 0.03, 1.0, 1.0) - 0.016, sharp) * iris
    window.blend(_rgb((1.0, 1.0, 1.0)), glint * 0.9)
    pixel = 0.5 / canvas.sharpness
    upper_line = (
        _spot((y - upper_lid).abs() / (0.014 + pixel)) * _cover((across.abs() - 1.06) * eye.width, sharp) * 0.80
    )
    lower_line = _spot((y - lower_lid).abs() / (0.008 + pixel)) * within * 0.35
    window.blend(_rgb(LASHES), torch.maximum(upper_line, lower_line))

    along = (x + brow_inward(face)) / face.brow_width
    outward = 1 - ((1 - along) * 0.5).clamp(-0.2, 1.2)
    thickness = (
        face.brow_thickness
        * (1.15 - 0.55 * outward.clamp(0, 1))
        * (1 - (along.abs() - 0.75).clamp_min(0.0) * 2).clamp_min(0.1)
    )
    brow = torch.maximum((y - brow_height(face, side, along)).abs() - thickness, (along.abs() - 1) * face.brow_width)
    window.blend(face.colour("hair") * 0.62, _cover(brow, sharp) * 0.88 * on_head)
    _glasses(canvas, window, x)
    window.put_back()


def _glasses(canvas: _Canvas, window: _Window, x: Tensor) -> None:
    face, y, sharp = canvas.face, window.y, 0.9 * canvas.sharpness
    radius, rim = face.glasses_radius, face.glasses_rim
    round_lens = _ellipse(x, y, radius, 0.82 * radius) - 1
    square_lens = torch.maximum(x.abs() / radius, y.abs() / (0.8 * radius)) - 1
    lens = torch.lerp(round_lens, square_lens, 0.8 * face.glasses_square) * radius
    bridge = torch.maximum((y - 0.03).abs() - 0.6 * rim, torch.maximum(x + radius, -(x + face.eye_x)))
    temple = torch.maximum((y - 0.04).abs() - 0.6 * rim, radius - x)
    frame = torch.minimum(torch.minimum(lens.abs() - rim, bridge), temple)
    colour = face.glasses_colour[:, None]
    window.blend(0.4 * colour, _cover(lens, sharp) * face.glasses * (0.07 + 0.83 * face.sunglasses))
    window.blend(colour, _cover(frame, sharp) * face.glasses)


def _total(parts: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(parts)).sum(0)
