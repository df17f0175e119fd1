"""The style of a world: one distribution for each factor that the scenes of the world draw. Numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np

from fergen_bench.data.randomness import Draws


@dataclass(frozen=True)
class Constant:
    """The same value for all images."""

    value: float

    def sample(self, draws: Draws, name: str) -> np.ndarray:
        """Return one value per image, (N,)."""
        return np.full(len(draws), float(self.value))


@dataclass(frozen=True)
class Uniform:
    """A uniform distribution on [low, high)."""

    low: float
    high: float

    def sample(self, draws: Draws, name: str) -> np.ndarray:
        """Return one value per image, (N,)."""
        return draws.uniform(name, self.low, self.high)


@dataclass(frozen=True)
class Normal:
    """A normal distribution, clipped at 2.5 deviations, or at `limit` on both sides of the mean."""

    mean: float
    deviation: float
    limit: float | None = None

    def sample(self, draws: Draws, name: str) -> np.ndarray:
        """Return one value per image, (N,)."""
        reach = 2.5 * self.deviation if self.limit is None else self.limit
        return draws.normal(name, self.mean, self.deviation).clip(self.mean - reach, self.mean + reach)


@dataclass(frozen=True)
class Humped:
    """A Kumaraswamy distribution stretched over [low, high]."""

    a: float
    b: float
    low: float
    high: float

    def sample(self, draws: Draws, name: str) -> np.ndarray:
        """Return one value per image, (N,)."""
        return self.low + (self.high - self.low) * draws.kumaraswamy(name, self.a, self.b)


@dataclass(frozen=True)
class Sometimes:
    """The distribution `then` with the given probability, else the constant `otherwise`."""

    probability: float
    then: Distribution
    otherwise: float = 0.0

    def sample(self, draws: Draws, name: str) -> np.ndarray:
        """Return one value per image, (N,)."""
        return np.where(
            draws.chance(name + ".happens", self.probability), self.then.sample(draws, name), self.otherwise
        )


Distribution = Constant | Uniform | Normal | Humped | Sometimes


@dataclass(frozen=True)
class Style:
    """The statistics of a world: one distribution for each factor outside the face itself.

    The defaults describe aligned photographs.
    """

    # Position and pose of the head in the image, whose coordinates run from -1 to 1
    scale: Distribution = Normal(0.86, 0.03)
    shift_x: Distribution = Normal(0.0, 0.02)
    shift_y: Distribution = Normal(-0.02, 0.02)
    roll: Distribution = Normal(0.0, 0.05)
    yaw: Distribution = Normal(0.0, 0.22)
    pitch: Distribution = Normal(0.0, 0.10)
    gaze: Distribution = Normal(0.0, 0.40)
    # Light
    light_azimuth: Distribution = Uniform(-1.2, 1.2)
    light_elevation: Distribution = Normal(0.45, 0.30)
    ambient: Distribution = Uniform(0.45, 0.70)
    diffuse: Distribution = Uniform(0.35, 0.60)
    specular: Distribution = Uniform(0.0, 0.12)
    backdrop_light: Distribution = Uniform(0.70, 1.05)
    backdrop_saturation: Distribution = Uniform(0.1, 0.5)
    backdrop_value: Distribution = Uniform(0.2, 0.9)
    # Camera and file
    exposure: Distribution = Normal(1.0, 0.08)
    warmth: Distribution = Normal(0.0, 0.05)
    vignette: Distribution = Constant(0.0)
    blur: Distribution = Uniform(0.2, 0.5)  # standard deviation in pixels of a 64-pixel image
    motion: Distribution = Constant(0.0)  # the same, along one direction
    resolution: Distribution = Constant(1.0)  # share of the image's pixels per side that the camera has
    grain: Distribution = Constant(0.0)
    noise: Distribution = Uniform(0.003, 0.015)
    grey_noise: Distribution = Constant(0.0)
    jpeg: Distribution = Uniform(0.0, 0.03)  # quantisation step of the lowest frequency
    gamma: Distribution = Normal(0.95, 0.06)
    contrast: Distribution = Normal(1.0, 0.06)
    lift: Distribution = Normal(0.0, 0.02)
    grey: Distribution = Constant(0.0)
    sharpen: Distribution = Constant(0.0)
    occluder: Distribution = Constant(0.0)
    # Expressions
    intensity: Distribution = Humped(2.2, 1.6, 0.45, 1.2)
    ambiguity: Distribution = Sometimes(0.12, Uniform(0.15, 0.40))  # share of a second expression mixed in
    stray_units: Distribution = Constant(0.06)  # size of action units that belong to no expression
    open_mouth: Distribution = Constant(0.0)  # speech: mouths open with any expression
    asymmetry: Distribution = Normal(0.0, 0.10)
    teeth: Distribution = Uniform(0.5, 1.0)
    # Persons
    skin_tone: tuple[float, float] = (1.1, 1.7)  # Kumaraswamy shape over the palette, light to dark
    hair_colours: tuple[float, ...] = (3, 3, 2.5, 1.5, 1, 0.8, 0.4, 0.5)
    hair_lengths: tuple[float, ...] = (0.15, 0.45, 0.20, 0.20)  # bald, short, medium, long
    glasses: float = 0.16
    sunglasses: float = 0.08  # of those with glasses
    beard: float = 0.20
    acting: float = 1.0  # exponent on the weights of an expression's forms; below 1, rare forms become more common

    def with_factors(self, overrides: Mapping[str, float]) -> Style:
        """Return the same world with some factors at a fixed value, such as `with_factors({"yaw": 0.4})`.

        Raises:
            KeyError: A name is not a factor.
        """
        known = {f.name for f in fields(self)}
        for name in overrides:
            if name not in known:
                raise KeyError(f"unknown factor {name!r}; known: {', '.join(sorted(known))}")
        return replace(self, **{name: Constant(value) for name, value in overrides.items()})  # type: ignore[arg-type]

    def sample(self, draws: Draws, factor: str) -> np.ndarray:
        """Return one value of a factor per image, (N,)."""
        distribution: Distribution = getattr(self, factor)
        return distribution.sample(draws, "factor." + factor)
