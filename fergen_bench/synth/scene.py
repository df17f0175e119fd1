"""Scenes: the generating factors of images, namely identity, action units and circumstances. Numpy only.

A scene is a flat table of named columns with one value per image, so that the generating factors of every image can be
stored next to its label. Lengths are in head units (half the head's height is 1), angles in radians, colours in 0..1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from fergen_bench.data.elementary import cos, power, sin
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import Draws
from fergen_bench.synth.style import Style

ACTION_UNITS = (1, 2, 4, 5, 6, 7, 9, 10, 12, 15, 16, 17, 20, 23, 25, 26, 43)
"""The action units of the Facial Action Coding System (Ekman and Friesen 1978) that are drawn; 43 closes the eyes."""

Columns = dict[str, np.ndarray]

# ------------------------------------------------------------------------------------------------------------- identity

SKIN = np.array(
    [
        [0.98, 0.86, 0.77],
        [0.95, 0.78, 0.66],
        [0.89, 0.70, 0.56],
        [0.80, 0.60, 0.45],
        [0.66, 0.46, 0.33],
        [0.50, 0.34, 0.24],
        [0.36, 0.24, 0.17],
    ]
)
HAIR = np.array(
    [
        [0.09, 0.07, 0.06],
        [0.18, 0.12, 0.09],
        [0.30, 0.19, 0.12],
        [0.48, 0.33, 0.19],
        [0.76, 0.62, 0.40],
        [0.55, 0.54, 0.53],
        [0.50, 0.20, 0.10],
        [0.82, 0.82, 0.82],
    ]
)


def sample_identity(draws: Draws, style: Style) -> Columns:
    """Return the columns of persons: shape of head and features, skin, hair, age, make-up, glasses, beard."""
    person = {**_head_and_features(draws), **_hair_and_accessories(draws, style)}
    person["sunglasses"] = person["glasses"] * draws.chance("person.sunglasses", style.sunglasses)
    grows = draws.chance("person.moustache", 0.6)
    person["moustache"] = np.where(grows, person["beard"], draws.chance("person.only_moustache", 0.05) * 0.8)

    person["skin_tone"] = draws.kumaraswamy("person.skin_tone", *style.skin_tone)
    position = person["skin_tone"] * (len(SKIN) - 1.001)
    below, share = position.astype(int), (position % 1.0)[:, None]
    tint = 1.0 + 0.05 * np.stack([draws.normal(f"person.skin_{c}") for c in "rgb"], 1)
    add_colour(person, "skin", np.clip((SKIN[below] * (1.0 - share) + SKIN[below + 1] * share) * tint, 0.08, 1.0))
    hair = HAIR[draws.choice("person.hair_colour", style.hair_colours)]
    add_colour(person, "hair", np.clip(hair * (1.0 + 0.15 * draws.normal("person.hair_shade"))[:, None], 0.03, 0.95))
    return person


def _head_and_features(draws: Draws) -> Columns:
    def normal(name: str, mean: float, deviation: float, low: float = -np.inf, high: float = np.inf) -> np.ndarray:
        return draws.clipped_normal("person." + name, mean, deviation).clip(low, high)

    return {
        "head_width": normal("head_width", 0.74, 0.05),
        "head_top": normal("head_top", 1.0, 0.05),
        "head_bottom": normal("head_bottom", 0.98, 0.06),
        "jaw": normal("jaw", 0.30, 0.10, 0.02, 0.6),
        "squareness": normal("squareness", 0.25, 0.15, 0.0, 0.6),
        "eye_y": normal("eye_y", 0.06, 0.03),
        "eye_x": normal("eye_x", 0.31, 0.025),
        "eye_width": normal("eye_width", 0.165, 0.017),
        "eye_opening": normal("eye_opening", 0.088, 0.014),
        "eye_tilt": normal("eye_tilt", 0.02, 0.05),
        "iris": normal("iris", 0.075, 0.006),
        "brow_y": normal("brow_y", 0.235, 0.028),
        "brow_width": normal("brow_width", 0.21, 0.02),
        "brow_thickness": normal("brow_thickness", 0.034, 0.010, 0.012, 0.07),
        "brow_arch": normal("brow_arch", 0.03, 0.018),
        "brow_tilt": normal("brow_tilt", -0.006, 0.020),
        "nose_length": normal("nose_length", 0.34, 0.035),
        "nose_width": normal("nose_width", 0.135, 0.022),
        "mouth_y": normal("mouth_y", -0.52, 0.03),
        "mouth_width": normal("mouth_width", 0.27, 0.028),
        "upper_lip": normal("upper_lip", 0.048, 0.014, 0.014, 0.1),
        "lower_lip": normal("lower_lip", 0.064, 0.016, 0.02, 0.12),
        "mouth_curve": normal("mouth_curve", 0.0, 0.016),
    }


def _hair_and_accessories(draws: Draws, style: Style) -> Columns:
    def uniform(name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        return draws.uniform("person." + name, low, high)

    return {
        "age": draws.kumaraswamy("person.age", 1.2, 1.6),
        "hairline": draws.normal("person.hairline", 0.62, 0.11).clip(0.36, 0.95),
        "fringe": draws.normal("person.fringe", 0.25, 0.3),
        "parting": draws.normal("person.parting", 0.0, 0.25),
        "hair_length": draws.choice("person.hair_length", style.hair_lengths).astype(float),
        "glasses": draws.chance("person.glasses", style.glasses).astype(float),
        "glasses_radius": uniform("glasses_radius", 0.17, 0.23),
        "glasses_square": uniform("glasses_square"),
        "glasses_rim": uniform("glasses_rim", 0.012, 0.035),
        "glasses_colour": uniform("glasses_colour", 0.03, 0.35),
        "beard": draws.chance("person.beard", style.beard) * uniform("beard_density", 0.25, 0.95),
        "make_up": draws.kumaraswamy("person.make_up", 1.0, 3.0),
        "iris_colour": uniform("iris_colour"),
        "cheek_colour": uniform("cheek_colour", 0.0, 0.14),
    }


# ---------------------------------------------------------------------------------------------------------- expressions

FORMS: dict[str, tuple[tuple[float, dict[int, float]], ...]] = {
    "surprise": (
        (0.45, {1: 0.8, 2: 0.8, 5: 0.7, 25: 0.7, 26: 0.7}),
        (0.30, {1: 0.9, 2: 0.9, 5: 0.9, 25: 1.0, 26: 1.1}),
        (0.25, {1: 0.8, 2: 0.8, 5: 0.6, 25: 0.3}),
    ),
    "fear": (
        (0.40, {1: 0.8, 2: 0.5, 4: 0.6, 5: 0.8, 20: 0.7, 25: 0.6, 26: 0.3}),
        (0.35, {1: 0.6, 2: 0.4, 4: 0.5, 5: 0.9, 20: 0.5, 25: 0.5, 26: 0.7}),
        (0.25, {1: 0.7, 4: 0.5, 5: 0.8, 20: 0.5, 25: 0.2}),
    ),
    "disgust": (
        (0.30, {9: 0.8, 15: 0.4, 16: 0.5, 25: 0.4}),
        (0.30, {9: 0.6, 10: 0.7, 17: 0.5, 4: 0.4}),
        (0.20, {10: 0.8, 4: 0.3, 7: 0.4, 25: 0.4}),
        (0.20, {9: 0.9, 4: 0.5, 7: 0.5, 17: 0.5, 15: 0.4}),
    ),
    "happiness": (
        (0.35, {6: 0.8, 12: 0.9, 25: 0.6}),
        (0.25, {12: 0.7}),
        (0.20, {6: 0.9, 12: 1.0, 25: 1.0, 26: 0.4}),
        (0.20, {6: 0.6, 12: 0.75}),
    ),
    "sadness": (
        (0.40, {1: 0.8, 4: 0.6, 15: 0.8, 17: 0.3}),
        (0.35, {1: 0.6, 4: 0.4, 15: 0.6, 43: 0.35}),
        (0.25, {1: 0.7, 4: 0.7, 15: 0.5, 17: 0.7, 43: 0.45}),
    ),
    "anger": (
        (0.40, {4: 0.9, 5: 0.5, 7: 0.6, 23: 0.8}),
        (0.35, {4: 0.9, 7: 0.7, 23: 0.6, 17: 0.5}),
        (0.25, {4: 0.9, 5: 0.5, 7: 0.4, 10: 0.4, 25: 0.9, 26: 0.7}),
    ),
    "neutral": ((1.0, {}),),
}
"""The forms of each expression: (weight, mean intensity of its action units), after EMFACS-style prediction tables."""

GAIN = 1.3
"""Factor on all action units. With a lower one, faces of 64 pixels show too little to learn from 3,000 examples."""
STRONGEST = 1.5


def _form_tables() -> tuple[np.ndarray, np.ndarray]:
    most = max(len(forms) for forms in FORMS.values())
    weights, units = np.zeros((len(EXPRESSIONS), most)), np.zeros((len(EXPRESSIONS), most, len(ACTION_UNITS)))
    for row, name in enumerate(EXPRESSIONS):
        for form, (weight, means) in enumerate(FORMS[name]):
            weights[row, form] = weight
            for unit, mean in means.items():
                units[row, form, ACTION_UNITS.index(unit)] = mean
    return weights, units


_WEIGHTS, _UNITS = _form_tables()


def unit_columns(units: np.ndarray) -> Columns:
    """Return one column per action unit, named au1, au2, …, from intensities (N, 17)."""
    return {f"au{unit}": units[:, index] for index, unit in enumerate(ACTION_UNITS)}


def sample_expression(draws: Draws, style: Style, expression: np.ndarray) -> Columns:
    """Return columns of action units that show expressions, and their causes.

    Args:
        draws: Random numbers, one per image.
        style: The statistics of the world.
        expression: Indices into EXPRESSIONS, integers (N,).

    Returns:
        One column per action unit, and the columns intensity, ambiguity, form and second_expression (mixed in).
    """
    neutral = EXPRESSIONS.index("neutral")
    weights = power(_WEIGHTS, style.acting)
    form = draws.choice("expression.form", weights[expression])
    second = (expression + 1 + draws.integers("expression.second", len(EXPRESSIONS) - 1)) % len(EXPRESSIONS)
    second_form = draws.choice("expression.second_form", _WEIGHTS[second])
    ambiguity = style.sample(draws, "ambiguity")
    intensity = style.sample(draws, "intensity")
    intensity = np.where(expression == neutral, 0.5 + 0.5 * intensity, intensity)

    units = (
        _UNITS[expression, form] * (1.0 - 0.55 * ambiguity)[:, None] + _UNITS[second, second_form] * ambiguity[:, None]
    )
    jitter = np.stack([1.0 + 0.22 * draws.normal(f"expression.jitter{unit}") for unit in ACTION_UNITS], 1)
    units = units * intensity[:, None] * jitter.clip(0.3, 1.6)
    stray = [
        np.maximum(0.0, draws.normal(f"expression.stray{u}")) * draws.chance(f"expression.strays{u}", 0.35)
        for u in ACTION_UNITS
    ]
    units = units + np.stack(stray, 1) * style.sample(draws, "stray_units")[:, None]

    part, drop, close = (ACTION_UNITS.index(unit) for unit in (25, 26, 43))
    speech = style.sample(draws, "open_mouth")
    units[:, part] = np.maximum(units[:, part], speech)
    units[:, drop] = np.maximum(units[:, drop], 0.45 * speech)
    units[:, close] = np.maximum(units[:, close], draws.chance("expression.blink", 0.02) * 0.9)
    units = (GAIN * units).clip(0.0, STRONGEST)
    return {
        **unit_columns(units),
        "intensity": intensity,
        "ambiguity": ambiguity,
        "form": form,
        "second_expression": second,
    }


# -------------------------------------------------------------------------------------------------------- circumstances


PLAIN_FACTORS = (
    "scale",
    "shift_x",
    "shift_y",
    "roll",
    "yaw",
    "pitch",
    "ambient",
    "diffuse",
    "specular",
    "backdrop_light",
    "exposure",
    "vignette",
    "resolution",
    "grain",
    "noise",
    "grey_noise",
    "jpeg",
    "gamma",
    "contrast",
    "lift",
    "grey",
    "sharpen",
    "occluder",
    "teeth",
    "asymmetry",
)
"""Factors of a style that are columns of a scene without further computation."""


def sample_circumstances(draws: Draws, style: Style) -> Columns:
    """Return the columns of pose, light, backdrop, occluder, camera and file."""
    scene: Columns = {name: style.sample(draws, name) for name in PLAIN_FACTORS}
    azimuth, elevation = style.sample(draws, "light_azimuth"), style.sample(draws, "light_elevation").clip(-0.6, 1.3)
    scene["light_x"] = sin(azimuth) * cos(elevation)
    scene["light_y"] = sin(elevation)
    scene["light_z"] = cos(azimuth) * cos(elevation)
    scene |= _white_and_blur(draws, style)
    scene |= _backdrop(draws, style)
    scene["asymmetry_brow"] = scene["asymmetry"] * draws.uniform("factor.asymmetry_brow", -1.5, 1.5)
    scene["asymmetry_eye"] = scene["asymmetry"] * draws.uniform("factor.asymmetry_eye", -1.0, 1.0)
    # People mostly look at the camera: the eyes turn against the head.
    scene["gaze_x"] = style.sample(draws, "gaze").clip(-1.0, 1.0) + 0.5 * sin(-scene["yaw"])
    scene["gaze_y"] = draws.normal("factor.gaze_y", 0.0, 0.4).clip(-1.0, 1.0)
    return {**scene, **_occluder(draws)}


def _white_and_blur(draws: Draws, style: Style) -> Columns:
    columns: Columns = {}
    warmth = style.sample(draws, "warmth").clip(-0.35, 0.35)
    green = 1.0 + 0.1 * draws.normal("factor.green") * np.abs(warmth)
    add_colour(columns, "white", np.stack([1.0 + warmth, green, 1.0 - warmth], 1))
    blur, motion = style.sample(draws, "blur"), style.sample(draws, "motion")
    direction = draws.uniform("factor.direction", 0.0, np.pi / 2)
    columns["blur_x"] = np.sqrt(blur**2 + (motion * cos(direction)) ** 2)
    columns["blur_y"] = np.sqrt(blur**2 + (motion * sin(direction)) ** 2)
    return columns


def _backdrop(draws: Draws, style: Style) -> Columns:
    """Return the colours and shape of the backdrop, and the colour of clothes."""
    columns: Columns = {}
    saturation, value = style.sample(draws, "backdrop_saturation"), style.sample(draws, "backdrop_value")
    second = (value * draws.uniform("backdrop.second", 0.5, 1.3)).clip(0.0, 1.0)
    third = draws.uniform("backdrop.value2", 0.1, 1.0)
    for index, brightness in enumerate((value, second, third)):
        hue = draws.uniform(f"backdrop.hue{index}")
        add_colour(columns, f"backdrop{index}", hsv(hue, saturation, brightness))
    cloth = hsv(
        draws.uniform("cloth.hue"),
        draws.uniform("cloth.saturation", 0.0, 0.8),
        draws.uniform("cloth.value", 0.05, 0.95),
    )
    add_colour(columns, "cloth", cloth)
    columns["backdrop_x"] = draws.normal("backdrop.x", 0.0, 0.3)
    columns["backdrop_y"] = draws.normal("backdrop.y", 0.0, 0.3)
    columns["backdrop_level"] = draws.uniform("backdrop.level", -0.5, 1.5)
    columns["backdrop_blobs"] = draws.uniform("backdrop.blobs")
    return columns


def _occluder(draws: Draws) -> Columns:
    angle, distance = draws.uniform("occluder.angle", 0.0, 2 * np.pi), draws.uniform("occluder.distance", 0.25, 0.75)
    columns: Columns = {
        "occluder_x": cos(angle) * distance,
        "occluder_y": 0.95 * sin(angle) * distance,
        "occluder_width": draws.uniform("occluder.width", 0.14, 0.38),
        "occluder_height": draws.uniform("occluder.height", 0.14, 0.38),
        "occluder_angle": draws.uniform("occluder.turn", 0.0, np.pi),
        "occluder_box": draws.uniform("occluder.box"),
    }
    hand = SKIN[draws.integers("occluder.skin", len(SKIN))]
    thing = hsv(
        draws.uniform("occluder.hue"),
        draws.uniform("occluder.saturation", 0.0, 0.7),
        draws.uniform("occluder.value", 0.05, 0.95),
    )
    add_colour(columns, "occluder", np.where(draws.chance("occluder.is_hand", 0.5)[:, None], hand, thing))
    return columns


def add_colour(columns: Columns, name: str, rgb: np.ndarray) -> None:
    """Add the columns name_r, name_g and name_b of colours (N, 3)."""
    for channel, letter in enumerate("rgb"):
        columns[f"{name}_{letter}"] = rgb[:, channel]


def hsv(hue: np.ndarray, saturation: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Convert hue, saturation and value in 0..1, each (N,), to RGB (N, 3)."""
    turn = np.stack([hue * 6.0 + offset for offset in (5.0, 3.0, 1.0)], 1) % 6.0
    return value[:, None] * (1.0 - saturation[:, None] * np.clip(np.minimum(turn, 4.0 - turn), 0.0, 1.0))


@dataclass(frozen=True)
class Scene:
    """All that decides the pixels of a batch of images: a column per factor, and the draws for textures and noise."""

    columns: Columns
    draws: Draws = field(repr=False)

    def __len__(self) -> int:
        return len(self.draws)

    def rows(self, selection: slice | np.ndarray) -> Scene:
        """Return some of the images."""
        return Scene({name: column[selection] for name, column in self.columns.items()}, self.draws.rows(selection))
