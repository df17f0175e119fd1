"""The features of a rendered face: beard, mouth, forehead, nose, eyes, brows and glasses.

Each feature is drawn in a small window around the point of the head that carries it; this is most of the renderer's
speed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from fergen_bench.synth.canvas import Canvas, Head, Window, cover, crease, ellipse_distance, rgb, soft_spot, total
from fergen_bench.synth.geometry import (
    Eye,
    Mouth,
    brow_height,
    brow_inward,
    eye_shape,
    mouth_centre,
    mouth_shape,
    nose_base,
)

WHITE_OF_EYE, PUPIL, LASHES = (0.93, 0.91, 0.89), (0.03, 0.03, 0.03), (0.10, 0.07, 0.06)
IRISES = ((0.20, 0.12, 0.07), (0.35, 0.23, 0.12), (0.30, 0.40, 0.25), (0.30, 0.45, 0.60))
TEETH, TONGUE, THROAT, ROUGE = (0.93, 0.90, 0.84), (0.62, 0.25, 0.25), (0.16, 0.05, 0.05), (0.72, 0.16, 0.22)


def draw_beard(canvas: Canvas, head: Head) -> None:
    """Draw a beard around the mouth, within the head."""
    face = canvas.face
    x, y = canvas.pose.anchor(0.0, mouth_centre(face)).local(canvas.u, canvas.v)
    around_mouth = -(ellipse_distance(x, y, 0.30, 0.17) - 1) * 0.15
    distance = torch.maximum(y - (0.06 + 0.9 * (x.abs() - 0.42).clamp_min(0.0)), around_mouth)
    stubble = (0.75 + 0.25 * canvas.texture("fine", "beard.stubble")).clamp_(0, 1)
    coverage = cover(distance, 7.0) * head.coverage * face.beard * stubble
    canvas.blend(face.colour("hair") * 0.9, coverage.clamp_(0, 1))


def draw_mouth(canvas: Canvas, head: Head) -> None:
    """Draw cheeks, folds and chin, then lips, teeth and tongue."""
    face = canvas.face
    window = canvas.window(canvas.pose.anchor(0.0, mouth_centre(face)), 0.02, 0.66, 0.72)
    on_head = window.pick(head.coverage)
    shape = mouth_shape(face, torch.where(window.x > 0, 1.0, -1.0))
    _shade_around_mouth(canvas, window, on_head, shape)
    lips = _lip_edges(canvas, window, shape)
    _draw_lips(canvas, window, lips)
    open_mouth = _draw_inside_of_mouth(canvas, window, shape, lips)
    seam = soft_spot((window.y - lips.line).abs() * lips.sharp * 0.75) * lips.within * (1 - open_mouth) * 0.62
    window.blend(face.colour("skin") * 0.28, seam)
    window.darken(soft_spot((window.y - lips.outer_down + 0.03).abs() / 0.035) * lips.middle * 0.20 * on_head)
    window.put_back()


def _shade_around_mouth(canvas: Canvas, window: Window, on_head: Tensor, mouth: Mouth) -> None:
    """Shade three folds: from the wing of the nose past the corner, below the corner, and the chin with AU17's dimples.

    Then lighten the raised cheeks, and colour them.
    """
    face, au = canvas.face, canvas.face.units
    x, y, aside = window.x, window.y, window.x.abs()
    smile, frown = au[12] * (1 + face.asymmetry * torch.sign(x)), au[15] * (1 + face.asymmetry * torch.sign(x))
    fold = (0.05 + 0.175 * face.age + 0.55 * smile + 0.6 * au[10] + 0.6 * au[9] + 0.15 * au[6]).clamp(0, 1.2) * 0.42
    start = (face.nose_width + 0.05, 0.30 - 0.03 * smile + 0.05 * au[10] + 0.03 * au[9])
    shade = crease(aside, y, start, (mouth.width + 0.07 + 0.03 * smile, 0.03 + 0.3 * mouth.corner), 0.035, fold)
    below = (0.35 * frown + 0.12 * face.age).clamp(0, 1) * 0.6
    start = (mouth.width + 0.01, 0.7 * mouth.corner)
    shade = shade + crease(aside, y, start, (mouth.width + 0.05, 0.7 * mouth.corner - 0.09), 0.035, below)
    chin_y = -0.24 - 0.13 * au[26]
    shade = shade + soft_spot(ellipse_distance(x, y - chin_y, 0.16, 0.045)) * (0.12 + 0.4 * au[17])
    dimples = window.pick(canvas.texture("fine", "chin.dimples")).clamp(0, 1.5)
    shade = shade + (0.17 - ellipse_distance(x, y - chin_y + 0.08, 1.0, 1.0)).clamp_(0, 1) * 1.76 * au[17] * dimples
    raised = soft_spot(ellipse_distance(aside - 0.40, y - 0.34 - 0.05 * au[6], 0.17, 0.13)) * 0.16
    raised = raised * (au[6] + 0.5 * smile)
    window.pixels *= (1 - (shade * on_head).clamp_(0, 0.75) + raised * on_head)[:, None]
    blush = face.cheek_colour * on_head * soft_spot(ellipse_distance(aside - 0.42, y - 0.28, 0.2, 0.16))
    window.pixels[:, 0] += blush


class _Lips(NamedTuple):
    """Edges of the lips at each pixel of the mouth's window."""

    sharp: Tensor  # sharpness of the edges
    width: Tensor  # from the middle of the mouth to the corner
    across: Tensor  # 0 in the middle of the mouth, 1 at the corner
    middle: Tensor  # 1 in the middle, 0 at the corner
    within: Tensor  # coverage between the corners
    line: Tensor  # height at which the closed lips meet
    inner_up: Tensor
    inner_down: Tensor
    outer_up: Tensor
    outer_down: Tensor


def _lip_edges(canvas: Canvas, window: Window, mouth: Mouth) -> _Lips:
    au, aside = canvas.face.units, window.x.abs()
    across = aside / mouth.width
    middle = (1 - (across * across).clamp_max(1.4)).clamp_min(0.0)
    line = mouth.line(across)
    inner_up, inner_down = line + mouth.opening_up * middle.sqrt(), line - mouth.opening_down * middle.sqrt()
    bow = 1 - 0.28 * soft_spot(aside / 0.07)
    outer_up = inner_up + mouth.upper_lip * middle.pow(0.7) * bow + 0.02 * au[10] * middle
    outer_down = inner_down - mouth.lower_lip * middle.pow(0.65)
    sharp = 0.9 * canvas.sharpness
    within = cover((across - 1) * mouth.width, sharp)
    return _Lips(sharp, mouth.width, across, middle, within, line, inner_up, inner_down, outer_up, outer_down)


def _draw_lips(canvas: Canvas, window: Window, lips: _Lips) -> None:
    """Draw the moustache and the lips."""
    face, y, sharp = canvas.face, window.y, lips.sharp
    skin = face.colour("skin")
    moustache = (
        cover(y - lips.outer_up - 0.10, 0.4 * sharp)
        * cover(lips.outer_up + 0.005 - y, sharp)
        * cover((lips.across - 1.05) * lips.width, 0.4 * sharp)
    )
    window.blend(face.colour("hair") * 0.9, moustache * face.moustache)
    colour = torch.lerp(skin * rgb((0.84, 0.58, 0.58)), rgb(ROUGE).expand_as(skin), face.make_up[:, None])
    upper_side = (y > lips.line).float() * 0.10
    coverage = cover(y - lips.outer_up, sharp) * cover(lips.outer_down - y, sharp) * lips.within
    window.blend(colour * (1.03 - upper_side)[:, None], coverage)


def _draw_inside_of_mouth(canvas: Canvas, window: Window, mouth: Mouth, lips: _Lips) -> Tensor:
    """Draw throat, tongue and teeth, and return the coverage of the open mouth."""
    face, au, y, sharp = canvas.face, canvas.face.units, window.y, lips.sharp
    open_mouth = cover(y - lips.inner_up, sharp) * cover(lips.inner_down - y, sharp) * lips.within
    window.blend(rgb(THROAT), open_mouth)
    floor = mouth.line(0.0) - mouth.opening_down
    distance = ellipse_distance(window.x, y - floor, 0.6 * mouth.width, 0.4 * mouth.opening_down + 0.02)
    tongue = cover((distance - 1) * 0.1, sharp)
    window.blend(rgb(TONGUE), tongue * open_mouth * (6 * mouth.opening_down).clamp(0, 1) * 0.8)
    shown = (0.022 + 0.05 * au[12] + 0.045 * au[10] + 0.03 * au[9]).clamp_max(0.085)
    upper_teeth = (
        open_mouth
        * cover(lips.inner_up - shown - y, sharp)
        * cover((lips.across - 0.93) * mouth.width, sharp)
        * face.teeth
    )
    bared = au[16] + au[20] + au[4] * au[26]
    gap = 0.03 * au[16] + 0.028 * au[20] + 0.02 * au[4] * au[26]
    lower_teeth = (
        open_mouth
        * cover(y - lips.inner_down - gap, sharp)
        * cover((lips.across - 0.8) * mouth.width, sharp)
        * (bared > 0.15).float()
    )
    window.blend(rgb(TEETH), torch.maximum(upper_teeth, lower_teeth))
    return open_mouth


def draw_forehead(canvas: Canvas, head: Head) -> None:
    """Draw lines across the forehead (AU1, AU2, age) and furrows between the brows (AU4, AU9)."""
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(0.0, face.brow_y + 0.16), -0.02, 0.40, 0.66)
    x, y, aside = window.x, window.y, window.x.abs()
    depth = (0.12 * face.age + 0.55 * au[1] * au[2].clamp(0, 1) + 0.25 * au[1] + 0.20 * au[2]).clamp(0, 1)
    bent = y + 0.25 * x * x - 0.03 * au[1] * soft_spot(aside / 0.2) * (1 - au[2]).clamp(0, 1)
    lines = (
        total(soft_spot((bent - height).abs() / 0.022) for height in (0.02, 0.11, 0.20))
        * soft_spot(aside / (0.22 + 0.2 * au[2])).sqrt()
        * depth
        * 0.42
    )
    furrow = (0.8 * au[4] + 0.12 * face.age + 0.3 * au[9]).clamp(0, 1) * 0.55
    between = crease(aside, y, (0.055 - 0.02 * au[4], -0.10), (0.045, -0.30), 0.028, furrow)
    between = between + soft_spot(ellipse_distance(x, y + 0.2, 0.08, 0.12)) * 0.22 * au[4]
    window.darken(((lines + between) * window.pick(head.coverage)).clamp_(0, 0.7))
    window.put_back()


def draw_nose(canvas: Canvas) -> None:
    """Draw the bridge with its shine, the wings, wrinkles (AU9) and nostrils."""
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(0.0, nose_base(face), lift=0.10), 0.10, 0.46, 0.44)
    x, y, aside = window.x, window.y, window.x.abs()
    width, length = face.nose_width * (1 + 0.14 * au[9] + 0.08 * au[12] + 0.08 * au[10]), face.nose_length
    dark_side = torch.where(face.light_x > 0, -x, x)
    on_bridge = ((y + 0.02) * 20).clamp_(0, 1) * ((length - y) * 6).clamp_(0, 1)
    bridge = (
        soft_spot((dark_side - 0.05 - 0.10 * (1 - (y / length).clamp(0, 1))).abs() / 0.06)
        * on_bridge
        * (0.10 + 0.24 * face.light_x.abs())
    )
    shine = soft_spot(aside / 0.035) * ((length - y) * 8).clamp_(0, 1) * ((y + 0.03) * 20).clamp_(0, 1) * 0.10
    wings = crease(
        aside, y, (0.95 * width, 0.065 + 0.02 * au[9]), (0.9 * width, -0.03), 0.035, torch.full_like(width, 0.38)
    )
    wings = wings + 0.30 * soft_spot((y + 0.055).abs() / 0.03) * ((width - aside) * 15).clamp_(0, 1)
    wrinkles = (
        total(soft_spot((y - height + 0.12 * aside).abs() / 0.02) for height in (0.20, 0.27, 0.34))
        * 0.45
        * au[9]
        * soft_spot(aside / 0.11)
    )
    window.pixels *= (1 - (bridge + wings + wrinkles).clamp_(0, 0.7) + shine)[:, None]
    distance = (ellipse_distance(aside - 0.48 * width, y + 0.016, 0.042, 0.022) - 1) * 0.022
    nostrils = cover(distance, 0.7 * canvas.sharpness)
    window.blend(face.colour("skin") * 0.22, nostrils * 0.75)
    window.put_back()


def draw_eye_and_brow(canvas: Canvas, head: Head, side: float) -> None:
    """Draw an eye with its surroundings, the brow and half of the glasses.

    Args:
        canvas: The image.
        head: The drawn head.
        side: -1 for the eye on the left of the image, 1 for the right one.
    """
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(side * face.eye_x, face.eye_y), 0.10, 0.50, 0.46)
    x, on_head = window.x * side, window.pick(head.coverage)  # x grows outwards
    eye = eye_shape(face, side)
    across = x / eye.width
    middle = (1 - across * across).clamp_min(0.0)
    tilt = (face.eye_tilt - 0.02 * au[1]) * x
    lids = _Lids(x, across, middle, eye.upper * middle.pow(0.75) + tilt, tilt - eye.lower * middle)
    _shade_around_eye(canvas, window, on_head, eye, lids)
    _draw_eyeball(canvas, window, eye, lids, side)
    _draw_brow(canvas, window, on_head, x, side)
    _draw_glasses(canvas, window, x)
    window.put_back()


class _Lids(NamedTuple):
    """Edges of the lids at each pixel of the eye's window."""

    x: Tensor  # grows outwards
    across: Tensor  # -1 at the inner corner, 1 at the outer corner
    middle: Tensor  # 1 in the middle, 0 at the corners
    upper: Tensor
    lower: Tensor


def _shade_around_eye(canvas: Canvas, window: Window, on_head: Tensor, eye: Eye, lids: _Lids) -> None:
    """Shade the socket, the pouch under the eye, crow's feet and the lid crease."""
    face, au, x, y, sharp = canvas.face, canvas.face.units, lids.x, window.y, 0.9 * canvas.sharpness
    shade = soft_spot(ellipse_distance(x, y - 0.03, 0.27, 0.17)) * (0.16 + 0.10 * au[4] + 0.06 * au[9])
    pouch = (0.10 + 0.30 * au[6] + 0.25 * au[7] + 0.22 * au[9] + 0.25 * face.age).clamp(0, 1) * 0.42
    start = (-0.7 * eye.width, -eye.lower - 0.055 + 0.015 * au[6])
    end = (0.8 * eye.width, -eye.lower - 0.035 + 0.02 * au[6])
    shade = shade + crease(x, y, start, end, 0.028, pouch)
    feet = (0.75 * au[6] + 0.2 * face.age) * 0.38
    for inner, outer in ((0.02, 0.07), (-0.02, -0.03), (-0.05, -0.11)):
        shade = shade + crease(x, y, (eye.width + 0.03, inner), (eye.width + 0.13, outer), 0.02, feet)
    lid_crease = soft_spot((y - lids.upper - 0.035 + 0.01 * au[5]).abs() * sharp * 0.55)
    shade = shade + lid_crease * (lids.middle > 0).float() * 0.26
    window.darken((shade * on_head).clamp_(0, 0.75))


def _draw_eyeball(canvas: Canvas, window: Window, eye: Eye, lids: _Lids, side: float) -> None:
    """Draw the white of the eye, iris, pupil, glint, lids and lashes."""
    face, x, y, sharp = canvas.face, lids.x, window.y, 0.9 * canvas.sharpness
    within = cover((lids.across.abs() - 1) * eye.width, sharp)
    ball = cover(y - lids.upper, sharp) * cover(lids.lower - y, sharp) * within
    window.blend(rgb(WHITE_OF_EYE), ball)
    look_x, look_y = face.gaze_x * side * 0.05, face.gaze_y * 0.03 + 0.006
    distance = ellipse_distance(x - look_x, y - look_y, 1.0, 1.0)
    iris = cover(distance - face.iris, sharp) * ball
    palette = torch.tensor(IRISES)[(face.iris_colour.flatten() ** 2 * 3.99).long()]
    window.blend(palette[:, :, None, None], iris)
    window.blend(rgb(PUPIL), cover(distance - 0.48 * face.iris, sharp) * ball)
    glint = cover(ellipse_distance(x - look_x - 0.025, y - look_y - 0.03, 1.0, 1.0) - 0.016, sharp) * iris
    window.blend(rgb((1.0, 1.0, 1.0)), glint * 0.9)
    pixel = 0.5 / canvas.sharpness
    outer = cover((lids.across.abs() - 1.06) * eye.width, sharp)
    upper_line = soft_spot((y - lids.upper).abs() / (0.014 + pixel)) * outer * 0.80
    lower_line = soft_spot((y - lids.lower).abs() / (0.008 + pixel)) * within * 0.35
    window.blend(rgb(LASHES), torch.maximum(upper_line, lower_line))


def _draw_brow(canvas: Canvas, window: Window, on_head: Tensor, x: Tensor, side: float) -> None:
    face, y = canvas.face, window.y
    along = (x + brow_inward(face)) / face.brow_width
    outward = 1 - ((1 - along) * 0.5).clamp(-0.2, 1.2)
    thickness = (
        face.brow_thickness
        * (1.15 - 0.55 * outward.clamp(0, 1))
        * (1 - (along.abs() - 0.75).clamp_min(0.0) * 2).clamp_min(0.1)
    )
    brow = torch.maximum((y - brow_height(face, side, along)).abs() - thickness, (along.abs() - 1) * face.brow_width)
    window.blend(face.colour("hair") * 0.62, cover(brow, 0.9 * canvas.sharpness) * 0.88 * on_head)


def _draw_glasses(canvas: Canvas, window: Window, x: Tensor) -> None:
    face, y, sharp = canvas.face, window.y, 0.9 * canvas.sharpness
    radius, rim = face.glasses_radius, face.glasses_rim
    round_lens = ellipse_distance(x, y, radius, 0.82 * radius) - 1
    square_lens = torch.maximum(x.abs() / radius, y.abs() / (0.8 * radius)) - 1
    lens = torch.lerp(round_lens, square_lens, 0.8 * face.glasses_square) * radius
    bridge = torch.maximum((y - 0.03).abs() - 0.6 * rim, torch.maximum(x + radius, -(x + face.eye_x)))
    temple = torch.maximum((y - 0.04).abs() - 0.6 * rim, radius - x)
    frame = torch.minimum(torch.minimum(lens.abs() - rim, bridge), temple)
    colour = face.glasses_colour[:, None]
    window.blend(0.4 * colour, cover(lens, sharp) * face.glasses * (0.07 + 0.83 * face.sunglasses))
    window.blend(colour, cover(frame, sharp) * face.glasses)
