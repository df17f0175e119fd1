"""The features of a rendered face: beard, mouth, forehead, nose, eyes, brows and glasses.

Each feature is drawn in a small window around the point of the head that carries it; this is most of the renderer's
speed.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fergen_bench.synth.canvas import (
    Canvas,
    Head,
    Window,
    blend,
    cover,
    crease,
    ellipse_distance,
    power_of_root,
    rgb,
    soft_spot,
)
from fergen_bench.synth.geometry import (
    Eye,
    Mouth,
    Pose,
    brow_height,
    brow_inward,
    eye_shape,
    mouth_centre,
    mouth_shape,
    nose_base,
)
from fergen_bench.synth.textures import cut

WHITE_OF_EYE, PUPIL, LASHES = (0.93, 0.91, 0.89), (0.03, 0.03, 0.03), (0.10, 0.07, 0.06)
IRISES = ((0.20, 0.12, 0.07), (0.35, 0.23, 0.12), (0.30, 0.40, 0.25), (0.30, 0.45, 0.60))
TEETH, TONGUE, THROAT, ROUGE = (0.93, 0.90, 0.84), (0.62, 0.25, 0.25), (0.16, 0.05, 0.05), (0.72, 0.16, 0.22)


def draw_beard(canvas: Canvas, head: Head) -> None:
    """Draw a beard around the mouth, within the head, of those who have one."""
    bearded = np.flatnonzero(canvas.face.beard)
    if not len(bearded):
        return
    face = canvas.face.rows(bearded)
    pose, draws = Pose(face), canvas.scene.draws.rows(bearded)
    x, y = pose.to_face(pose.anchor(0.0, mouth_centre(face)), canvas.x, canvas.y)
    around_mouth = (1 - ellipse_distance(x, y, 0.30, 0.17)) * 0.15
    distance = np.maximum(y - (0.06 + 0.9 * (abs(x) - 0.42).clip(0.0, None)), around_mouth)
    stubble = (0.75 + 0.25 * cut("fine", draws, "beard.stubble", canvas.size)).clip(0.0, 1.0)
    coverage = cover(distance, 7.0) * head.coverage[bearded]
    coverage *= face.beard
    coverage *= stubble
    pixels = canvas.pixels[bearded]
    blend(pixels, face.colour("hair") * 0.9, coverage.clip(0.0, 1.0))
    canvas.pixels[bearded] = pixels


def draw_mouth(canvas: Canvas, head: Head) -> None:
    """Draw cheeks, folds and chin, then lips, teeth and tongue."""
    face = canvas.face
    window = canvas.window(canvas.pose.anchor(0.0, mouth_centre(face)), 0.02, 0.66, 0.72)
    on_head = window.pick(head.coverage)
    is_right = (window.x > 0).astype(np.float32)
    left, right = mouth_shape(face, -1.0), mouth_shape(face, 1.0)
    mouth = left._replace(
        width=left.width + is_right * (right.width - left.width),
        corner=left.corner + is_right * (right.corner - left.corner),
    )
    _shade_around_mouth(canvas, window, on_head, is_right, mouth)
    lips = _lip_edges(canvas, window, mouth)
    _draw_lips(canvas, window, lips)
    open_mouth = _draw_inside_of_mouth(canvas, window, mouth, lips)
    seam = soft_spot(abs(window.y - lips.line) * (lips.sharp * 0.75)) * lips.within
    seam *= (1 - open_mouth) * 0.62
    window.blend(face.colour("skin") * 0.28, seam)
    below = soft_spot(abs(window.y - lips.outer_down + 0.03) / 0.035)
    window.darken(below * lips.middle * 0.20 * on_head)
    window.put_back()


def _shade_around_mouth(
    canvas: Canvas, window: Window, on_head: np.ndarray, is_right: np.ndarray, mouth: Mouth
) -> None:
    """Shade three folds: from the wing of the nose past the corner, below the corner, and the chin with AU17's dimples.

    Then lighten the raised cheeks, and colour them.
    """
    face, au = canvas.face, canvas.face.units
    x, y, aside = window.x, window.y, abs(window.x)
    uneven = (1 - face.asymmetry) + is_right * (2 * face.asymmetry)
    smile, frown = uneven * au[12], uneven * au[15]
    level = 0.05 + 0.175 * face.age + 0.6 * au[10] + 0.6 * au[9] + 0.15 * au[6]
    fold = (level + 0.55 * smile).clip(0.0, 1.2) * 0.42
    start = (face.nose_width + 0.05, (0.30 + 0.05 * au[10] + 0.03 * au[9]) - 0.03 * smile)
    shade = crease(aside, y, start, (mouth.width + (0.03 * smile + 0.07), 0.03 + 0.3 * mouth.corner), 0.035, fold)
    below = (0.35 * frown + 0.12 * face.age).clip(0.0, 1.0) * 0.6
    corner = 0.7 * mouth.corner
    shade += crease(aside, y, (mouth.width + 0.01, corner), (mouth.width + 0.05, corner - 0.09), 0.035, below)
    down = y + (0.24 + 0.13 * au[26])  # from the chin
    shade += soft_spot(ellipse_distance(x, down, 0.16, 0.045)) * (0.12 + 0.4 * au[17])
    dimples = window.texture("fine", "chin.dimples").clip(0.0, 1.5)
    dimples *= (0.17 - ellipse_distance(x, down + 0.08, 1.0, 1.0)).clip(0.0, 1.0)
    shade += dimples * (1.76 * au[17])
    raised = soft_spot(ellipse_distance(aside - 0.40, y - (0.34 + 0.05 * au[6]), 0.17, 0.13)) * 0.16
    raised *= au[6] + 0.5 * smile
    raised *= on_head
    shade *= on_head
    window.pixels *= (1 - shade.clip(0.0, 0.75) + raised)[:, None]
    blush = soft_spot(ellipse_distance(aside - 0.42, y - 0.28, 0.2, 0.16)) * face.cheek_colour
    window.pixels[:, 0] += blush * on_head


class _Lips(NamedTuple):
    """Edges of the lips at each pixel of the mouth's window."""

    sharp: np.ndarray  # sharpness of the edges
    width: np.ndarray  # from the middle of the mouth to the corner
    across: np.ndarray  # 0 in the middle of the mouth, 1 at the corner
    middle: np.ndarray  # 1 in the middle, 0 at the corner
    within: np.ndarray  # coverage between the corners
    line: np.ndarray  # height at which the closed lips meet
    inner_up: np.ndarray
    inner_down: np.ndarray
    outer_up: np.ndarray
    outer_down: np.ndarray


def _lip_edges(canvas: Canvas, window: Window, mouth: Mouth) -> _Lips:
    au, aside = canvas.face.units, abs(window.x)
    across = aside / mouth.width
    middle = (1 - across * across).clip(0.0, 1.0)
    root = np.sqrt(middle)
    line = mouth.line(across)
    inner_up, inner_down = line + mouth.opening_up * root, line - mouth.opening_down * root
    bow = 1 - 0.28 * soft_spot(aside / 0.07)
    outer_up = inner_up + power_of_root(root, 0.7) * bow * mouth.upper_lip + middle * (0.02 * au[10])
    outer_down = inner_down - power_of_root(root, 0.65) * mouth.lower_lip
    sharp = 0.9 * canvas.sharpness
    within = cover((across - 1) * mouth.width, sharp)
    return _Lips(sharp, mouth.width, across, middle, within, line, inner_up, inner_down, outer_up, outer_down)


def _draw_lips(canvas: Canvas, window: Window, lips: _Lips) -> None:
    """Draw the moustache and the lips."""
    face, y, sharp = canvas.face, window.y, lips.sharp
    skin = face.colour("skin")
    if face.moustache.any():
        moustache = (
            cover(y - lips.outer_up - 0.10, 0.4 * sharp)
            * cover(lips.outer_up + 0.005 - y, sharp)
            * cover((lips.across - 1.05) * lips.width, 0.4 * sharp)
        )
        window.blend(face.colour("hair") * 0.9, moustache * face.moustache)
    natural = skin * rgb((0.84, 0.58, 0.58))
    colour = natural + face.make_up[:, None] * (rgb(ROUGE) - natural)
    brightness = 1.03 - 0.10 * (y > lips.line).astype(np.float32)
    coverage = cover(y - lips.outer_up, sharp) * cover(lips.outer_down - y, sharp) * lips.within
    window.blend(colour, coverage, brightness)


def _draw_inside_of_mouth(canvas: Canvas, window: Window, mouth: Mouth, lips: _Lips) -> np.ndarray:
    """Draw throat, tongue and teeth, and return the coverage of the open mouth."""
    face, au, y, sharp = canvas.face, canvas.face.units, window.y, lips.sharp
    open_mouth = cover(y - lips.inner_up, sharp) * cover(lips.inner_down - y, sharp) * lips.within
    window.blend(rgb(THROAT), open_mouth)
    floor = mouth.line(0.0) - mouth.opening_down
    distance = ellipse_distance(window.x, y - floor, 0.6 * mouth.width, 0.4 * mouth.opening_down + 0.02)
    tongue = cover((distance - 1) * 0.1, sharp)
    window.blend(rgb(TONGUE), tongue * open_mouth * ((6 * mouth.opening_down).clip(0, 1) * 0.8))
    shown = (0.022 + 0.05 * au[12] + 0.045 * au[10] + 0.03 * au[9]).clip(None, 0.085)
    upper_teeth = cover(lips.inner_up - shown - y, sharp) * cover((lips.across - 0.93) * mouth.width, sharp)
    upper_teeth *= face.teeth
    bared = au[16] + au[20] + au[4] * au[26]
    gap = 0.03 * au[16] + 0.028 * au[20] + 0.02 * au[4] * au[26]
    lower_teeth = cover(y - lips.inner_down - gap, sharp) * cover((lips.across - 0.8) * mouth.width, sharp)
    lower_teeth *= bared > 0.15
    window.blend(rgb(TEETH), np.maximum(upper_teeth, lower_teeth) * open_mouth)
    return open_mouth


def draw_forehead(canvas: Canvas, head: Head) -> None:
    """Draw lines across the forehead (AU1, AU2, age) and furrows between the brows (AU4, AU9)."""
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(0.0, face.brow_y + 0.16), -0.02, 0.40, 0.66)
    x, y, aside = window.x, window.y, abs(window.x)
    depth = (0.12 * face.age + 0.55 * au[1] * au[2].clip(0, 1) + 0.25 * au[1] + 0.20 * au[2]).clip(0, 1)
    bent = y + 0.25 * (x * x) - soft_spot(aside / 0.2) * (0.03 * au[1] * (1 - au[2]).clip(0, 1))
    lines = _parallel_lines(bent, (0.02, 0.11, 0.20), 0.022)
    lines *= np.sqrt(soft_spot(aside / (0.22 + 0.2 * au[2])))
    lines *= depth * 0.42
    furrow = (0.8 * au[4] + 0.12 * face.age + 0.3 * au[9]).clip(0, 1) * 0.55
    lines += crease(aside, y, (0.055 - 0.02 * au[4], -0.10), (0.045, -0.30), 0.028, furrow)
    lines += soft_spot(ellipse_distance(x, y + 0.2, 0.08, 0.12)) * (0.22 * au[4])
    lines *= window.pick(head.coverage)
    window.darken(lines.clip(0.0, 0.7))
    window.put_back()


def _parallel_lines(height: np.ndarray, at: tuple[float, float, float], width: float) -> np.ndarray:
    """Return soft lines at three heights."""
    first, second, third = (soft_spot(abs(height - one) / width) for one in at)
    return first + second + third


def draw_nose(canvas: Canvas) -> None:
    """Draw the bridge with its shine, the wings, wrinkles (AU9) and nostrils."""
    face, au = canvas.face, canvas.face.units
    window = canvas.window(canvas.pose.anchor(0.0, nose_base(face), lift=0.10), 0.10, 0.46, 0.44)
    x, y, aside = window.x, window.y, abs(window.x)
    width, length = face.nose_width * (1 + 0.14 * au[9] + 0.08 * au[12] + 0.08 * au[10]), face.nose_length
    dark_side = x * np.where(face.light_x > 0, np.float32(-1), np.float32(1))
    on_bridge = ((y + 0.02) * 20).clip(0.0, 1.0) * ((length - y) * 6).clip(0.0, 1.0)
    bridge = soft_spot(abs(dark_side - 0.05 - 0.10 * (1 - (y / length).clip(0.0, 1.0))) / 0.06)
    bridge *= on_bridge
    bridge *= 0.10 + 0.24 * abs(face.light_x)
    shine = soft_spot(aside / 0.035) * ((length - y) * 8).clip(0.0, 1.0) * ((y + 0.03) * 20).clip(0.0, 1.0) * 0.10
    wings = crease(
        aside, y, (0.95 * width, 0.065 + 0.02 * au[9]), (0.9 * width, -0.03), 0.035, np.full_like(width, 0.38)
    )
    wings += soft_spot(abs(y + 0.055) / 0.03) * ((width - aside) * 15).clip(0.0, 1.0) * 0.30
    wrinkles = _parallel_lines(y + 0.12 * aside, (0.20, 0.27, 0.34), 0.02)
    wrinkles *= soft_spot(aside / 0.11)
    wrinkles *= 0.45 * au[9]
    window.pixels *= (1 - (bridge + wings + wrinkles).clip(0.0, 0.7) + shine)[:, None]
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
    middle = (1 - across * across).clip(0.0, None)
    tilt = x * (face.eye_tilt - 0.02 * au[1])
    root = np.sqrt(middle)
    lids = _Lids(x, across, middle, root * np.sqrt(root) * eye.upper + tilt, tilt - middle * eye.lower)
    _shade_around_eye(canvas, window, on_head, eye, lids)
    _draw_eyeball(canvas, window, eye, lids, side)
    _draw_brow(canvas, window, on_head, x, side)
    _draw_glasses(canvas, window, x)
    window.put_back()


class _Lids(NamedTuple):
    """Edges of the lids at each pixel of the eye's window."""

    x: np.ndarray  # grows outwards
    across: np.ndarray  # -1 at the inner corner, 1 at the outer corner
    middle: np.ndarray  # 1 in the middle, 0 at the corners
    upper: np.ndarray
    lower: np.ndarray


def _shade_around_eye(canvas: Canvas, window: Window, on_head: np.ndarray, eye: Eye, lids: _Lids) -> None:
    """Shade the socket, the pouch under the eye, crow's feet and the lid crease."""
    face, au, x, y, sharp = canvas.face, canvas.face.units, lids.x, window.y, 0.9 * canvas.sharpness
    shade = soft_spot(ellipse_distance(x, y - 0.03, 0.27, 0.17)) * (0.16 + 0.10 * au[4] + 0.06 * au[9])
    pouch = (0.10 + 0.30 * au[6] + 0.25 * au[7] + 0.22 * au[9] + 0.25 * face.age).clip(0, 1) * 0.42
    start = (-0.7 * eye.width, -eye.lower - 0.055 + 0.015 * au[6])
    end = (0.8 * eye.width, -eye.lower - 0.035 + 0.02 * au[6])
    shade += crease(x, y, start, end, 0.028, pouch)
    feet = (0.75 * au[6] + 0.2 * face.age) * 0.38
    for inner, outer in ((0.02, 0.07), (-0.02, -0.03), (-0.05, -0.11)):
        shade += crease(x, y, (eye.width + 0.03, inner), (eye.width + 0.13, outer), 0.02, feet)
    lid_crease = soft_spot(abs(y - lids.upper - (0.035 - 0.01 * au[5])) * (sharp * 0.55))
    lid_crease *= lids.middle > 0
    shade += lid_crease * 0.26
    shade *= on_head
    window.darken(shade.clip(0.0, 0.75))


def _draw_eyeball(canvas: Canvas, window: Window, eye: Eye, lids: _Lids, side: float) -> None:
    """Draw the white of the eye, iris, pupil, glint, lids and lashes."""
    face, x, y, sharp = canvas.face, lids.x, window.y, 0.9 * canvas.sharpness
    from_corner = abs(lids.across)
    within = cover((from_corner - 1) * eye.width, sharp)
    ball = cover(y - lids.upper, sharp) * cover(lids.lower - y, sharp) * within
    window.blend(rgb(WHITE_OF_EYE), ball)
    look_x, look_y = face.gaze_x * side * 0.05, face.gaze_y * 0.03 + 0.006
    distance = ellipse_distance(x - look_x, y - look_y, 1.0, 1.0)
    iris = cover(distance - face.iris, sharp) * ball
    palette = np.array(IRISES, np.float32)[(face.iris_colour.ravel() ** 2 * 3.99).astype(int)]
    window.blend(palette[:, :, None, None], iris)
    window.blend(rgb(PUPIL), cover(distance - 0.48 * face.iris, sharp) * ball)
    glint = cover(ellipse_distance(x - (look_x + 0.025), y - (look_y + 0.03), 1.0, 1.0) - 0.016, sharp) * iris
    window.blend(rgb((1.0, 1.0, 1.0)), glint * 0.9)
    pixel = 0.5 / canvas.sharpness
    outer = cover((from_corner - 1.06) * eye.width, sharp)
    upper_line = soft_spot(abs(y - lids.upper) / (0.014 + pixel)) * outer * 0.80
    lower_line = soft_spot(abs(y - lids.lower) / (0.008 + pixel)) * within * 0.35
    window.blend(rgb(LASHES), np.maximum(upper_line, lower_line))


def _draw_brow(canvas: Canvas, window: Window, on_head: np.ndarray, x: np.ndarray, side: float) -> None:
    face, y = canvas.face, window.y
    along = (x + brow_inward(face)) / face.brow_width
    far = abs(along)
    outward = 1 - ((1 - along) * 0.5).clip(0.0, 1.0)
    thickness = (1.15 - 0.55 * outward) * (1 - (far - 0.75).clip(0.0, None) * 2).clip(0.1, None)
    thickness *= face.brow_thickness
    brow = np.maximum(abs(y - brow_height(face, side, along)) - thickness, (far - 1) * face.brow_width)
    window.blend(face.colour("hair") * 0.62, cover(brow, 0.9 * canvas.sharpness) * 0.88 * on_head)


def _draw_glasses(canvas: Canvas, window: Window, x: np.ndarray) -> None:
    """Draw half of the glasses of those who wear them."""
    wearing = np.flatnonzero(canvas.face.glasses)
    if not len(wearing):
        return
    face, x, y = canvas.face.rows(wearing), x[wearing], window.y[wearing]
    sharp = 0.9 * canvas.sharpness[wearing]
    radius, rim = face.glasses_radius, face.glasses_rim
    round_lens = ellipse_distance(x, y, radius, 0.82 * radius) - 1
    square_lens = np.maximum(abs(x) / radius, abs(y) / (0.8 * radius)) - 1
    lens = (round_lens + (0.8 * face.glasses_square) * (square_lens - round_lens)) * radius
    bridge = np.maximum(abs(y - 0.03) - 0.6 * rim, np.maximum(x + radius, -(x + face.eye_x)))
    temple = np.maximum(abs(y - 0.04) - 0.6 * rim, radius - x)
    frame = np.minimum(np.minimum(abs(lens) - rim, bridge), temple)
    colour, pixels = face.glasses_colour[:, None], window.pixels[wearing]
    blend(pixels, 0.4 * colour, cover(lens, sharp) * (face.glasses * (0.07 + 0.83 * face.sunglasses)))
    blend(pixels, colour, cover(frame, sharp) * face.glasses)
    window.pixels[wearing] = pixels
