"""The five domains of synth5 and the way their labels are made. Numpy only.

Each domain has the statistics of one kind of real dataset. The values were adjusted by eye and on the in-domain
accuracy of a small network trained from scratch (a domain that cannot be learned measures nothing), before any other
method was run on them. They are frozen since: a changed value raises `synth.VERSION`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import Draws
from fergen_bench.synth.scene import Columns, Scene, sample_circumstances, sample_expression, sample_identity
from fergen_bench.synth.style import Constant, Humped, Normal, Sometimes, Style, Uniform

VOTERS = 10
_SCENES = 1
"""Version of people, expressions, circumstances and labels, as part of the name of their random streams."""


@dataclass(frozen=True)
class World:
    """One domain of the suite. Priors are weights in the order of EXPRESSIONS; train and test are numbers of images."""

    about: str
    style: Style
    train: int
    test: int
    prior: tuple[float, ...]
    test_prior: tuple[float, ...]
    label_noise: float = 0.0  # share of train labels replaced by a likely confusion
    voted: bool = False  # train labels are the majority of ten votes


WORLDS: dict[str, World] = {
    "web": World(
        about="aligned colour photographs from the web, imbalanced, few wrong labels (the kind of RAF-DB)",
        style=Style(),
        train=3000,
        test=1000,
        prior=(0.105, 0.023, 0.058, 0.39, 0.16, 0.057, 0.207),
        test_prior=(0.107, 0.024, 0.052, 0.386, 0.156, 0.053, 0.222),
        label_noise=0.03,
    ),
    "grey48": World(
        about="small grey faces, loosely aligned, labelled by ten votes (the kind of FERPlus)",
        style=Style(
            scale=Normal(0.90, 0.08),
            shift_x=Normal(0.0, 0.05),
            shift_y=Normal(0.0, 0.05),
            roll=Normal(0.0, 0.12),
            yaw=Normal(0.0, 0.25),
            pitch=Normal(0.0, 0.11),
            light_azimuth=Uniform(-1.6, 1.6),
            ambient=Uniform(0.4, 0.7),
            diffuse=Uniform(0.3, 0.7),
            grey=Constant(1.0),
            resolution=Constant(0.75),
            blur=Uniform(0.3, 0.9),
            noise=Uniform(0.008, 0.03),
            jpeg=Uniform(0.01, 0.06),
            gamma=Normal(0.95, 0.15),
            contrast=Normal(1.12, 0.15),
            occluder=Sometimes(0.06, Constant(1.0)),
            intensity=Humped(2.0, 1.5, 0.4, 1.2),
            ambiguity=Sometimes(0.16, Uniform(0.15, 0.45)),
            hair_lengths=(0.1, 0.5, 0.2, 0.2),
            glasses=0.12,
        ),
        train=3000,
        test=1000,
        prior=(0.125, 0.023, 0.007, 0.265, 0.125, 0.085, 0.36),
        test_prior=(0.12, 0.025, 0.01, 0.27, 0.12, 0.085, 0.355),
        voted=True,
    ),
    "wild": World(
        about="a larger crawl in colour: wide pose, occlusion, strong light, many wrong labels, balanced test (the "
        "kind of AffectNet)",
        style=Style(
            scale=Normal(0.88, 0.05),
            shift_x=Normal(0.0, 0.03),
            shift_y=Normal(-0.02, 0.03),
            roll=Normal(0.0, 0.10),
            yaw=Normal(0.0, 0.30),
            pitch=Normal(0.0, 0.13),
            light_azimuth=Uniform(-1.6, 1.6),
            ambient=Uniform(0.4, 0.7),
            diffuse=Uniform(0.3, 0.75),
            exposure=Normal(1.0, 0.14),
            warmth=Normal(0.0, 0.12),
            blur=Uniform(0.2, 0.8),
            noise=Uniform(0.004, 0.03),
            jpeg=Uniform(0.0, 0.06),
            contrast=Normal(1.08, 0.12),
            occluder=Sometimes(0.12, Constant(1.0)),
            backdrop_saturation=Uniform(0.1, 0.75),
            intensity=Humped(2.0, 1.5, 0.45, 1.2),
            ambiguity=Sometimes(0.18, Uniform(0.15, 0.45)),
            stray_units=Constant(0.09),
            skin_tone=(1.0, 1.0),
            glasses=0.22,
            sunglasses=0.25,
            beard=0.28,
        ),
        train=4000,
        test=1000,
        prior=(0.13, 0.09, 0.09, 0.24, 0.14, 0.15, 0.16),
        test_prior=(1, 1, 1, 1, 1, 1, 1),
        label_noise=0.12,
    ),
    "film": World(
        about="a small set of dark film stills: hard light, strong pose, motion blur, grain, acted expressions (the "
        "kind of SFEW)",
        style=Style(
            scale=Normal(0.84, 0.05),
            shift_x=Normal(0.0, 0.035),
            shift_y=Normal(-0.02, 0.035),
            roll=Normal(0.0, 0.14),
            yaw=Normal(0.0, 0.34),
            pitch=Normal(0.0, 0.15),
            light_azimuth=Uniform(-1.5, 1.5),
            light_elevation=Normal(0.35, 0.40),
            ambient=Uniform(0.20, 0.42),
            diffuse=Uniform(0.5, 1.0),
            backdrop_light=Uniform(0.25, 0.70),
            exposure=Normal(0.98, 0.14),
            warmth=Normal(0.04, 0.16),
            vignette=Uniform(0.1, 0.7),
            blur=Uniform(0.3, 0.9),
            motion=Sometimes(0.35, Uniform(0.5, 1.6)),
            grain=Uniform(0.01, 0.05),
            noise=Uniform(0.005, 0.025),
            jpeg=Uniform(0.01, 0.05),
            gamma=Normal(1.08, 0.12),
            contrast=Normal(1.05, 0.12),
            lift=Normal(-0.01, 0.03),
            occluder=Sometimes(0.10, Constant(1.0)),
            intensity=Humped(2.0, 1.5, 0.45, 1.2),
            ambiguity=Sometimes(0.18, Uniform(0.15, 0.45)),
            stray_units=Constant(0.09),
            open_mouth=Sometimes(0.20, Uniform(0.3, 0.8)),
            skin_tone=(1.0, 2.2),
            hair_lengths=(0.10, 0.35, 0.25, 0.30),
            beard=0.25,
            acting=0.4,
        ),
        train=2000,
        test=1000,
        prior=(0.10, 0.09, 0.07, 0.19, 0.17, 0.19, 0.19),
        test_prior=(0.13, 0.11, 0.05, 0.17, 0.17, 0.18, 0.19),
        label_noise=0.06,
    ),
    "scrape": World(
        about="low-resolution scrapes, part grey, over-sharpened and compressed, mostly happy or neutral (the kind of "
        "MMA)",
        style=Style(
            scale=Normal(0.94, 0.07),
            shift_x=Normal(0.0, 0.045),
            shift_y=Normal(0.0, 0.045),
            roll=Normal(0.0, 0.10),
            yaw=Normal(0.0, 0.26),
            pitch=Normal(0.0, 0.10),
            grey=Sometimes(0.45, Constant(1.0)),
            resolution=Uniform(0.5, 0.8),
            jpeg=Uniform(0.03, 0.12),
            noise=Uniform(0.005, 0.03),
            exposure=Normal(1.12, 0.16),
            warmth=Normal(0.0, 0.10),
            gamma=Normal(0.88, 0.14),
            contrast=Normal(1.18, 0.18),
            sharpen=Sometimes(0.4, Uniform(0.3, 1.2)),
            occluder=Sometimes(0.08, Constant(1.0)),
            intensity=Humped(1.9, 1.6, 0.4, 1.2),
            ambiguity=Sometimes(0.16, Uniform(0.15, 0.45)),
            hair_lengths=(0.10, 0.35, 0.20, 0.35),
            beard=0.14,
        ),
        train=3000,
        test=1000,
        prior=(0.07, 0.05, 0.03, 0.38, 0.09, 0.05, 0.33),
        test_prior=(0.07, 0.05, 0.03, 0.38, 0.09, 0.05, 0.33),
        label_noise=0.10,
    ),
}

# Weights of wrong labels: rows are expressions shown, columns are labels given, both in the order of EXPRESSIONS.
_CONFUSION = np.array(
    [
        [0, 3, 0.5, 0.5, 0.3, 0.3, 1],
        [3, 0, 0.7, 0.3, 1, 0.7, 0.6],
        [0.3, 0.7, 0, 0.3, 1, 2.5, 1],
        [0.7, 0.2, 0.3, 0, 0.3, 0.2, 2.5],
        [0.2, 0.7, 1, 0.2, 0, 0.8, 2.5],
        [0.3, 0.7, 2.5, 0.2, 0.8, 0, 1.5],
        [0.7, 0.3, 0.6, 1.5, 2, 1, 0],
    ]
)


def stream(domain: str, split: str) -> tuple[object, ...]:
    """Return the names of the random stream of one split of the suite."""
    return ("synth5", _SCENES, domain, split)


def compose(domain: str, split: str, index: np.ndarray, overrides: Mapping[str, float] | None = None) -> Scene:
    """Return scenes of a domain's split, with columns for the expression shown and the label given.

    Args:
        domain: The name of a world.
        split: "train" or "test".
        index: The rows, integers (N,).
        overrides: Factors of `Style` at a fixed value, for factor sweeps. Everything else stays the same.
    """
    world = WORLDS[domain]
    style = world.style.with_factors(overrides) if overrides else world.style
    draws = Draws(index, *stream(domain, split))
    shown = draws.choice("expression", world.test_prior if split == "test" else world.prior)
    columns = {
        **sample_identity(draws, style),
        **sample_expression(draws, style, shown),
        **sample_circumstances(draws, style),
        "expression": shown,
    }
    columns |= _labels(draws, world, columns) if split == "train" else {"label": shown}
    return Scene(columns, draws)


def _labels(draws: Draws, world: World, columns: Columns) -> Columns:
    """Return the labels of simulated annotators, and the votes in domains that have them."""
    shown = columns["expression"]
    if world.voted:
        votes = _votes(draws, columns)
        ties = np.stack([draws.uniform(f"label.tie_{name}") for name in EXPRESSIONS], 1)
        return {
            "label": (votes + 1e-3 * ties).argmax(1),
            **{f"votes_{name}": votes[:, k] for k, name in enumerate(EXPRESSIONS)},
        }
    wrong = draws.chance("label.wrong", world.label_noise)
    return {"label": np.where(wrong, draws.choice("label.taken_for", _CONFUSION[shown]), shown)}


def _votes(draws: Draws, columns: Columns) -> np.ndarray:
    """Return ten votes per image (N, 7). Weak expressions get votes for neutral, mixed ones for the second one."""
    chances = _chances(columns)
    rows = np.arange(len(chances))
    votes = np.zeros_like(chances)
    for voter in range(VOTERS):
        votes[rows, draws.choice(f"label.vote{voter}", chances)] += 1
    return votes


def _chances(columns: Columns) -> np.ndarray:
    """Return the probabilities of one vote (N, 7)."""
    shown, second, ambiguity = columns["expression"], columns["second_expression"], columns["ambiguity"]
    rows, neutral = np.arange(len(shown)), EXPRESSIONS.index("neutral")
    overlooked = np.clip((0.62 - columns["intensity"]) / 0.5, 0.0, 0.7) * (shown != neutral)
    chances = np.zeros((len(shown), len(EXPRESSIONS)))
    chances[rows, shown] += (1 - overlooked) * (1 - 0.9 * ambiguity)
    chances[:, neutral] += overlooked * (1 - 0.9 * ambiguity)
    chances[rows, second] += 0.9 * ambiguity
    found: np.ndarray = 0.93 * chances + 0.01
    return found


def single_annotator(domain: str, count: int) -> float:
    """Return the probability that one simulated annotator gives a test face its label, the true expression.

    The annotator is one of those that label the training images: it gives a wrong label as often as they do, or is one
    of the ten voters.

    Args:
        domain: The name of a world.
        count: The number of test faces, the first ones of the world.
    """
    world = WORLDS[domain]
    if not world.voted:
        return 1.0 - world.label_noise  # a wrong label is never the expression shown
    columns = compose(domain, "test", np.arange(count)).columns
    return float(_chances(columns)[np.arange(count), columns["label"]].mean())
