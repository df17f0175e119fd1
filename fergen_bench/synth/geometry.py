"""The geometry of a face: a turned ellipsoid with features anchored on it, moved by action units.

The renderer draws these shapes and the pretraining takes its landmarks from them, so both describe the same face. All
values are float32 arrays of shape (B, 1, 1), which broadcast over pixels. The head frame has its origin between the
eyes' height and the nose, x to the right of the image, y up; half the head's height is 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fergen_bench.data.elementary import cos, sin
from fergen_bench.synth.scene import Scene

DEPTH = 0.80
"""Depth of the ellipsoid that carries the features, in head units."""
JAW_DROP = 0.13
"""Distance by which AU26 at full strength lowers the chin, in head units."""


class Fields:
    """The columns of a scene as attributes, float32 (B, 1, 1)."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self.units = _Units(self)

    def __len__(self) -> int:
        return len(self._scene)

    def __getattr__(self, name: str) -> np.ndarray:
        try:
            column = self._scene.columns[name]
        except KeyError:
            raise AttributeError(f"this scene lacks the factor {name!r}") from None
        self.__dict__[name] = values = column.astype(np.float32)[:, None, None]
        return values

    def angle(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return cosine and sine of an angle of the scene, each (B, 1, 1)."""
        column = self._scene.columns[name][:, None, None]
        return cos(column).astype(np.float32), sin(column).astype(np.float32)

    def colour(self, name: str) -> np.ndarray:
        """Return a colour of the scene, (B, 3, 1, 1)."""
        return np.stack([getattr(self, f"{name}_{letter}") for letter in "rgb"], 1)

    def rows(self, selection: np.ndarray) -> Fields:
        """Return the columns of some of the images."""
        return Fields(self._scene.rows(selection))


class _Units:
    """The intensity of each action unit by its number, (B, 1, 1)."""

    def __init__(self, face: Fields) -> None:
        self._face = face

    def __getitem__(self, unit: int) -> np.ndarray:
        intensity: np.ndarray = getattr(self._face, f"au{unit}")
        return intensity


class Anchor(NamedTuple):
    """A point of the turned head, and the Jacobian that maps steps on the face to steps in the head frame."""

    x: np.ndarray
    y: np.ndarray
    xx: np.ndarray
    xy: np.ndarray
    yx: np.ndarray
    yy: np.ndarray


class Pose:
    """Position and rotation of the head in the image."""

    def __init__(self, face: Fields) -> None:
        self.face = face
        self.cos_roll, self.sin_roll = face.angle("roll")
        self.cos_yaw, self.sin_yaw = face.angle("yaw")
        self.cos_pitch, self.sin_pitch = face.angle("pitch")

    def anchor(self, x: np.ndarray | float, y: np.ndarray, lift: float = 0.0) -> Anchor:
        """Return a point of the frontal face, `lift` above the ellipsoid, after the turn (parallel projection)."""
        width, height = self.face.head_width * 1.12, 1.25
        flat = np.sqrt((1 - (x / width) ** 2 - (y / height) ** 2).clip(0.08, None))
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

    def to_frame(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map the head frame to the image, where both axes run from -1 to 1 and y points up."""
        face = self.face
        return (x * self.cos_roll - y * self.sin_roll) * face.scale + face.shift_x, (
            x * self.sin_roll + y * self.cos_roll
        ) * face.scale + face.shift_y

    def to_head(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map the image to the head frame.

        Args:
            x: Columns of the image, (B, 1, width) or (1, 1, width).
            y: Rows of the image, (B, height, 1) or (1, height, 1).

        Returns:
            Coordinates in the head frame, each (B, height, width).
        """
        u, v = self._upright(x, y)
        return u * self.cos_roll + v * self.sin_roll, v * self.cos_roll - u * self.sin_roll

    def to_face(self, anchor: Anchor, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map the image to coordinates on the face around a point, with foreshortening. Takes what `to_head` takes."""
        determinant = anchor.xx * anchor.yy - anchor.xy * anchor.yx
        determinant = np.where(abs(determinant) < 0.15, np.float32(0.15), determinant)
        # The inverse of the Jacobian after the roll: one sum for each pixel and axis.
        cos_roll, sin_roll = self.cos_roll / determinant, self.sin_roll / determinant
        u, v = self._upright(x, y)
        u -= anchor.x * self.cos_roll - anchor.y * self.sin_roll
        v -= anchor.x * self.sin_roll + anchor.y * self.cos_roll
        return (
            u * (anchor.yy * cos_roll + anchor.xy * sin_roll) + v * (anchor.yy * sin_roll - anchor.xy * cos_roll),
            v * (anchor.xx * cos_roll - anchor.yx * sin_roll) - u * (anchor.xx * sin_roll + anchor.yx * cos_roll),
        )

    def _upright(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return coordinates of the image in head units around the head's origin, before the roll is undone."""
        return (x - self.face.shift_x) / self.face.scale, (y - self.face.shift_y) / self.face.scale


class Eye(NamedTuple):
    """The shape of an eye, in head units."""

    width: np.ndarray
    upper: np.ndarray  # height of the upper lid over the eye's centre
    lower: np.ndarray  # depth of the lower lid below it


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
    return Eye(face.eye_width, face.eye_opening * 1.12 * upper.clip(0.06, None), face.eye_opening * 0.72 * lower)


def brow_height(face: Fields, side: float, along: np.ndarray | float) -> np.ndarray:
    """Return the height of the brow over the eye's centre, at `along` from -1 (inner end) to 1 (outer end)."""
    au, uneven = face.units, 1 + face.asymmetry_brow * side
    along = np.asarray(along, np.float32)
    inner = ((1 - along) * 0.5).clip(-0.2, 1.2)
    outer = 1 - inner
    arch = (1 - along * along).clip(-0.5, None)
    height = (face.brow_y - face.eye_y) + face.brow_arch * arch + face.brow_tilt * along
    steep = inner * np.sqrt(abs(inner).clip(None, 1.0))
    raised = (0.125 * au[1]) * steep + (0.100 * au[2]) * (outer + 0.25) + 0.015 * au[1]
    # AU1 with AU4 gives the oblique brow of sadness and fear. AU1 weakens the lowering, or both would look angry.
    lowering = 0.085 * au[4] * (1 - 0.8 * au[1].clip(0, 1))
    lowered = lowering * (1.15 * inner - 0.05) + 0.015 * au[4]
    return height + uneven * raised - lowered - (0.03 * au[9]) * (0.4 + inner) - (0.02 * au[6]) * outer


def brow_inward(face: Fields) -> np.ndarray:
    """Return the distance by which AU4 moves the brow towards the middle."""
    return 0.02 + 0.035 * face.units[4]


class Mouth(NamedTuple):
    """The shape of one side of the mouth around its centre, in head units."""

    width: np.ndarray
    corner: np.ndarray  # lift of the corners
    bulge: np.ndarray  # lift of the middle of the line between the lips
    opening_up: np.ndarray
    opening_down: np.ndarray
    upper_lip: np.ndarray
    lower_lip: np.ndarray

    def line(self, across: np.ndarray | float) -> np.ndarray:
        """Return the height of the line between the lips at a position across: 0 in the middle, 1 at the corner."""
        square = np.asarray(across, np.float32) ** 2
        return self.corner * (square.clip(None, 1.4) - 0.38) + self.bulge * (1 - square).clip(0.0, None)


def mouth_shape(face: Fields, side: float) -> Mouth:
    """Return the shape of the mouth on one side; smiles and frowns may be uneven.

    Args:
        face: The scene's columns.
        side: -1 on the left of the image, 1 on the right, 0 for the mean of both.
    """
    au = face.units
    uneven = 1 + face.asymmetry * side
    smile, frown = au[12] * uneven, au[15] * uneven
    parted = au[25].clip(0, 1)
    round_drop = (au[26] * (1 - au[12].clip(0, 1))).clip(0, 1)
    width = face.mouth_width * (
        1 + 0.27 * smile + 0.24 * au[20] - 0.12 * au[23] - 0.10 * round_drop - 0.05 * au[17] + 0.04 * au[10]
    )
    corner = face.mouth_curve + 0.105 * smile - 0.10 * frown - 0.035 * au[20] - 0.02 * au[9]
    bulge = 0.045 * au[17] + 0.03 * au[10] + 0.02 * au[9] - 0.018 * au[16]
    opening_up = 0.022 * au[25] + 0.045 * au[10] * parted + 0.02 * au[26] + 0.025 * au[12] * parted
    opening_down = 0.042 * au[25] + 0.20 * au[26] + 0.05 * au[16] * parted + 0.03 * au[12] * parted
    upper_lip = face.upper_lip * (1 - 0.35 * au[12] - 0.62 * au[23] - 0.25 * au[20] + 0.10 * au[10]).clip(0.15, None)
    lower_lip = face.lower_lip * (
        1 - 0.25 * au[12] - 0.62 * au[23] - 0.25 * au[20] + 0.25 * au[16] + 0.10 * au[15]
    ).clip(0.15, None)
    return Mouth(width, corner, bulge, opening_up, opening_down, upper_lip, lower_lip)


def mouth_centre(face: Fields) -> np.ndarray:
    """Return the height of the mouth's centre."""
    return face.mouth_y - 0.03 * face.units[26]


def nose_base(face: Fields) -> np.ndarray:
    """Return the height of the base of the nose."""
    return face.eye_y - face.nose_length - 0.02 + 0.03 * face.units[9] + 0.015 * face.units[10]


def chin(face: Fields) -> np.ndarray:
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


def landmarks(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return the 22 landmarks in the image and in the head frame, each float32 (B, 22, 2)."""
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
    centre, middle = mouth_centre(face), np.zeros_like(face.eye_x)
    for side in sides:
        mouth = mouth_shape(face, side)
        points.append(pose.anchor(side * mouth.width, centre + mouth.line(1.0)))
    mouth = mouth_shape(face, 0.0)
    upper, lower = mouth.line(0.0) + mouth.opening_up, mouth.line(0.0) - mouth.opening_down
    for height in (upper, lower, upper + mouth.upper_lip, lower - mouth.lower_lip):
        points.append(pose.anchor(middle, centre + height))
    points += [pose.anchor(middle, nose_base(face), lift=0.10), pose.anchor(middle, -0.98 * chin(face))]

    head = np.stack([np.concatenate([p.x, p.y], 2)[:, 0] for p in points], 1)
    frame = np.stack([np.concatenate(pose.to_frame(p.x, p.y), 2)[:, 0] for p in points], 1)
    return frame, head
