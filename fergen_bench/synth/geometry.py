"""The geometry of a face: a turned ellipsoid with features anchored on it, moved by action units.

The renderer draws these shapes and the pretraining takes its landmarks from them, so both describe the same face. All
values are tensors of shape (B, 1, 1), which broadcast over pixels. The head frame has its origin between the eyes'
height and the nose, x to the right of the image, y up; half the head's height is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from fergen_bench.synth.scene import ACTION_UNITS, Scene

DEPTH = 0.80
"""Depth of the ellipsoid that carries the features, in head units."""
JAW_DROP = 0.13
"""Distance by which AU26 at full strength lowers the chin, in head units."""


class Fields:
    """The columns of a scene as attributes, tensors (B, 1, 1)."""

    def __init__(self, scene: Scene) -> None:
        self._tensors = {
            name: torch.as_tensor(column, dtype=torch.float32)[:, None, None] for name, column in scene.columns.items()
        }
        self.units = {unit: self._tensors[f"au{unit}"] for unit in ACTION_UNITS}

    def __getattr__(self, name: str) -> Tensor:
        try:
            return self._tensors[name]
        except KeyError:
            raise AttributeError(f"this scene lacks the factor {name!r}") from None

    def colour(self, name: str) -> Tensor:
        """Return a colour of the scene, (B, 3, 1, 1)."""
        return torch.stack([self._tensors[f"{name}_{letter}"] for letter in "rgb"], 1)


class Anchor(NamedTuple):
    """A point of the turned head, and the Jacobian that maps steps on the face to steps in the head frame."""

    x: Tensor
    y: Tensor
    xx: Tensor
    xy: Tensor
    yx: Tensor
    yy: Tensor

    def local(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map coordinates of the head frame to coordinates on the face around this point, with foreshortening."""
        determinant = self.xx * self.yy - self.xy * self.yx
        determinant = torch.where(determinant.abs() < 0.15, torch.full_like(determinant, 0.15), determinant)
        dx, dy = x - self.x, y - self.y
        return (self.yy * dx - self.xy * dy) / determinant, (self.xx * dy - self.yx * dx) / determinant


class Pose:
    """Position and rotation of the head in the image."""

    def __init__(self, face: Fields) -> None:
        self.face = face
        self.cos_roll, self.sin_roll = torch.cos(face.roll), torch.sin(face.roll)
        self.cos_yaw, self.sin_yaw = torch.cos(face.yaw), torch.sin(face.yaw)
        self.cos_pitch, self.sin_pitch = torch.cos(face.pitch), torch.sin(face.pitch)

    def anchor(self, x: Tensor | float, y: Tensor, lift: float = 0.0) -> Anchor:
        """Return a point of the frontal face, `lift` above the ellipsoid, after the turn (parallel projection)."""
        width, height = self.face.head_width * 1.12, 1.25
        flat = (1 - (x / width) ** 2 - (y / height) ** 2).clamp_min(0.08).sqrt()
        z = DEPTH * flat + lift
        zx, zy = -DEPTH * x / width**2 / flat, -DEPTH * y / height**2 / flat
        forward = -x * self.sin_yaw + z * self.cos_yaw
        # The head turns about an axis behind the face, so that it stays in the middle of the image.
        px = x * self.cos_yaw + z * self.sin_yaw - 0.35 * DEPTH * self.sin_yaw
        py = y * self.cos_pitch - forward * self.sin_pitch + 0.35 * DEPTH * self.sin_pitch
        fx, fy = -self.sin_yaw + zx * self.cos_yaw, zy * self.cos_yaw
        return Anchor(
            px,
            py,
            self.cos_yaw + zx * self.sin_yaw,
            zy * self.sin_yaw,
            -fx * self.sin_pitch,
            self.cos_pitch - fy * self.sin_pitch,
        )

    def to_frame(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map the head frame to the image, where both axes run from -1 to 1 and y points up."""
        face = self.face
        return (x * self.cos_roll - y * self.sin_roll) * face.scale + face.shift_x, (
            x * self.sin_roll + y * self.cos_roll
        ) * face.scale + face.shift_y

    def to_head(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Map the image to the head frame."""
        u, v = (x - self.face.shift_x) / self.face.scale, (y - self.face.shift_y) / self.face.scale
        return u * self.cos_roll + v * self.sin_roll, v * self.cos_roll - u * self.sin_roll


class Eye(NamedTuple):
    """The shape of an eye, in head units."""

    width: Tensor
    upper: Tensor  # height of the upper lid over the eye's centre
    lower: Tensor  # depth of the lower lid below it


def eye_shape(face: Fields, side: float) -> Eye:
    """Return the shape of the eye on the left (side -1) or on the right (1) of the image."""
    au, uneven = face.units, 1 + face.asymmetry_eye * side
    upper = (
        1
        + 0.62 * au[5] * uneven
        - 0.28 * au[7]
        - 0.12 * au[6]
        - 0.18 * au[9]
        - 0.10 * au[4]
        - 0.95 * au[43]
        - 0.06 * au[12]
    )
    lower = 1 + 0.18 * au[5] - 0.75 * au[7] * uneven - 0.75 * au[6] - 0.45 * au[9] - 0.25 * au[12] - 0.15 * au[43]
    return Eye(face.eye_width, face.eye_opening * 1.12 * upper.clamp_min(0.06), face.eye_opening * 0.72 * lower)


def brow_height(face: Fields, side: float, along: Tensor | float) -> Tensor:
    """Return the height of the brow over the eye's centre, at `along` from -1 (inner end) to 1 (outer end)."""
    au, uneven = face.units, 1 + face.asymmetry_brow * side
    along = torch.as_tensor(along)
    inner = ((1 - along) * 0.5).clamp(-0.2, 1.2)
    outer = 1 - inner
    height = face.brow_y - face.eye_y + face.brow_arch * (1 - along * along).clamp_min(-0.5) + face.brow_tilt * along
    raised = 0.125 * au[1] * inner * inner.abs().clamp_max(1.0).sqrt() + 0.100 * au[2] * (outer + 0.25) + 0.015 * au[1]
    # AU1 with AU4 gives the oblique brow of sadness and fear. AU1 weakens the lowering, or both would look angry.
    lowered = 0.085 * au[4] * (1.15 * inner - 0.05) * (1 - 0.8 * au[1].clamp(0, 1)) + 0.015 * au[4]
    return height + uneven * raised - lowered - 0.03 * au[9] * (0.4 + inner) - 0.02 * au[6] * outer


def brow_inward(face: Fields) -> Tensor:
    """Return the distance by which AU4 moves the brow towards the middle."""
    return 0.02 + 0.035 * face.units[4]


class Mouth(NamedTuple):
    """The shape of the mouth around its centre, in head units.

    `line` returns the height of the line between the lips at a position across: 0 in the middle, 1 at the corner.
    """

    width: Tensor
    corner: Tensor  # lift of the corners
    opening_up: Tensor
    opening_down: Tensor
    upper_lip: Tensor
    lower_lip: Tensor
    line: Callable[[Tensor | float], Tensor]


def mouth_shape(face: Fields, side: Tensor | float) -> Mouth:
    """Return the shape of the mouth on one side; smiles and frowns may be uneven.

    Args:
        face: The scene's columns.
        side: -1 on the left of the image, 1 on the right, for each pixel or landmark.
    """
    au = face.units
    uneven = 1 + face.asymmetry * side
    smile, frown = au[12] * uneven, au[15] * uneven
    parted = au[25].clamp(0, 1)
    round_drop = (au[26] * (1 - au[12].clamp(0, 1))).clamp(0, 1)
    width = face.mouth_width * (
        1 + 0.27 * smile + 0.24 * au[20] - 0.12 * au[23] - 0.10 * round_drop - 0.05 * au[17] + 0.04 * au[10]
    )
    corner = face.mouth_curve + 0.105 * smile - 0.10 * frown - 0.035 * au[20] - 0.02 * au[9]
    opening_up = 0.022 * au[25] + 0.045 * au[10] * parted + 0.02 * au[26] + 0.025 * au[12] * parted
    opening_down = 0.042 * au[25] + 0.20 * au[26] + 0.05 * au[16] * parted + 0.03 * au[12] * parted
    upper_lip = face.upper_lip * (1 - 0.35 * au[12] - 0.62 * au[23] - 0.25 * au[20] + 0.10 * au[10]).clamp_min(0.15)
    lower_lip = face.lower_lip * (
        1 - 0.25 * au[12] - 0.62 * au[23] - 0.25 * au[20] + 0.25 * au[16] + 0.10 * au[15]
    ).clamp_min(0.15)

    def line(across: Tensor | float) -> Tensor:
        square = torch.as_tensor(across * across).clamp_max(1.4)
        middle = (1 - square).clamp_min(0.0)
        return corner * (square - 0.38) + (0.045 * au[17] + 0.03 * au[10] + 0.02 * au[9] - 0.018 * au[16]) * middle

    return Mouth(width, corner, opening_up, opening_down, upper_lip, lower_lip, line)


def mouth_centre(face: Fields) -> Tensor:
    """Return the height of the mouth's centre."""
    return face.mouth_y - 0.03 * face.units[26]


def nose_base(face: Fields) -> Tensor:
    """Return the height of the base of the nose."""
    return face.eye_y - face.nose_length - 0.02 + 0.03 * face.units[9] + 0.015 * face.units[10]


def chin(face: Fields) -> Tensor:
    """Return the distance of the chin below the origin."""
    return face.head_bottom + JAW_DROP * face.units[26]


LANDMARKS = (
    *(
        f"{side} {point}"
        for side in ("left", "right")
        for point in ("eye inner", "eye outer", "lid upper", "lid lower")
    ),
    *(f"{side} brow {point}" for side in ("left", "right") for point in ("inner", "middle", "outer")),
    *(
        "left mouth corner",
        "right mouth corner",
        "upper lip inside",
        "lower lip inside",
        "upper lip outside",
        "lower lip outside",
    ),
    *("nose base", "chin"),
)
"""Names of the 22 landmarks, in the order of `landmarks`."""


def landmarks(scene: Scene) -> tuple[Tensor, Tensor]:
    """Return the 22 landmarks in the image and in the head frame, each (B, 22, 2)."""
    face = Fields(scene)
    pose = Pose(face)
    points: list[Anchor] = []
    sides = (-1.0, 1.0)
    for side in sides:
        eye = eye_shape(face, side)
        x, y = face.eye_x, face.eye_y
        points += [pose.anchor(side * (x - eye.width), y), pose.anchor(side * (x + eye.width), y)]
        points += [pose.anchor(side * x, y + eye.upper), pose.anchor(side * x, y - eye.lower)]
    for side in sides:
        for along in (-0.9, 0.0, 0.9):
            x = face.eye_x + along * face.brow_width - brow_inward(face)
            points.append(pose.anchor(side * x, face.eye_y + brow_height(face, side, along)))
    centre, middle = mouth_centre(face), torch.zeros_like(face.eye_x)
    for side in sides:
        mouth = mouth_shape(face, side)
        points.append(pose.anchor(side * mouth.width, centre + mouth.line(1.0)))
    mouth = mouth_shape(face, 0.0)
    upper, lower = mouth.line(0.0) + mouth.opening_up, mouth.line(0.0) - mouth.opening_down
    for height in (upper, lower, upper + mouth.upper_lip, lower - mouth.lower_lip):
        points.append(pose.anchor(middle, centre + height))
    points += [pose.anchor(middle, nose_base(face), lift=0.10), pose.anchor(middle, -0.98 * chin(face))]

    head = torch.stack([torch.cat([p.x.flatten(1), p.y.flatten(1)], 1) for p in points], 1)
    frame = torch.stack([torch.cat([c.flatten(1) for c in pose.to_frame(p.x, p.y)], 1) for p in points], 1)
    return frame, head
