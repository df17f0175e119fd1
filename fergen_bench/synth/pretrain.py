"""Train the two packaged networks again.

    python -m fergen_bench.synth.pretrain encoder      # the frozen face encoder, about 50 minutes on two cores
    python -m fergen_bench.synth.pretrain trunk        # the trunk initialisation, about 10 minutes

Both networks learn from renders of a world of their own: other seeds, other people, poses and styles spread wider than
in the five domains, action units switched on independently of each other. Neither network sees an expression label, and
action units are not targets.

- encoder: image-text contrast (InfoNCE) with a "caption" of the face, and regression of that caption. A caption is a
  description without words for emotions: 22 landmarks (in the image, in the upright head, and relative to their eye or
  mouth), pose, and identity attributes. The landmarks weigh most. The backdrop is left out, because it solves the
  contrast alone.
- trunk: the same losses with identity attributes only.

A rule that was fixed beforehand selects the epoch without the five domains. For the encoder it is the epoch with the
best mean R2 of a ridge regression from features to the true action units, on renders of the pretraining world that
training did not use. For the trunk it is the last epoch.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench.data.randomness import Draws, seed_of
from fergen_bench.files.pool import worker_pool
from fergen_bench.synth.geometry import landmarks
from fergen_bench.synth.networks import FaceEncoder, Trunk, normalise, to_channels_last
from fergen_bench.synth.render import render
from fergen_bench.synth.scene import (
    ACTION_UNITS,
    STRONGEST,
    Columns,
    Scene,
    sample_circumstances,
    sample_identity,
    unit_columns,
)
from fergen_bench.synth.style import Constant, Humped, Normal, Sometimes, Style, Uniform

VERSION = 1
SEED = 0
SIZE = 64

PRETRAINING_WORLD = Style(
    scale=Uniform(0.62, 1.15),
    shift_x=Normal(0.0, 0.06, limit=0.18),
    shift_y=Normal(-0.01, 0.06, limit=0.18),
    roll=Normal(0.0, 0.20),
    yaw=Normal(0.0, 0.40),
    pitch=Normal(0.0, 0.17),
    gaze=Normal(0.0, 0.50),
    light_azimuth=Uniform(-2.0, 2.0),
    light_elevation=Normal(0.38, 0.45),
    ambient=Humped(1.6, 1.2, 0.18, 0.80),
    diffuse=Uniform(0.2, 1.05),
    specular=Uniform(0.0, 0.3),
    backdrop_light=Uniform(0.2, 1.2),
    backdrop_saturation=Uniform(0.0, 1.0),
    backdrop_value=Uniform(0.05, 1.0),
    exposure=Humped(2.0, 1.8, 0.60, 1.60),
    warmth=Normal(0.0, 0.16),
    vignette=Sometimes(0.3, Uniform(0.0, 0.8)),
    blur=Humped(1.0, 2.0, 0.15, 1.2),
    motion=Sometimes(0.15, Uniform(0.3, 1.8)),
    resolution=Sometimes(0.4, Uniform(0.4, 1.0), otherwise=1.0),
    grain=Sometimes(0.25, Uniform(0.0, 0.06)),
    noise=Humped(1.0, 1.8, 0.0, 0.04),
    grey_noise=Sometimes(0.3, Constant(1.0)),
    jpeg=Sometimes(0.4, Uniform(0.0, 0.14)),
    gamma=Uniform(0.5, 1.45),
    contrast=Uniform(0.65, 1.7),
    lift=Normal(0.0, 0.05),
    grey=Sometimes(0.3, Uniform(0.3, 1.0)),
    sharpen=Sometimes(0.3, Uniform(-0.5, 1.5)),
    occluder=Sometimes(0.12, Constant(1.0)),
    asymmetry=Normal(0.0, 0.14),
    teeth=Uniform(0.4, 1.0),
    skin_tone=(1.0, 1.1),
    hair_colours=(1, 1, 1, 1, 1, 1, 1, 1),
    hair_lengths=(0.20, 0.30, 0.25, 0.25),
    glasses=0.22,
    sunglasses=0.15,
    beard=0.25,
)


def stream(purpose: str) -> tuple[object, ...]:
    """Return the names of the random stream of one purpose, which differs from the streams of the five domains."""
    return ("synth pretraining", VERSION, purpose)


def compose(purpose: str, index: np.ndarray) -> Scene:
    """Return scenes of the pretraining world."""
    draws = Draws(index, *stream(purpose))
    columns = {**sample_identity(draws, PRETRAINING_WORLD), **sample_circumstances(draws, PRETRAINING_WORLD)}
    return Scene({**columns, **unit_columns(_free_action_units(draws))}, draws)


def _free_action_units(draws: Draws) -> np.ndarray:
    """Return action units (N, 17) that are independent of each other, so without a meaning; 12 % are nearly at rest."""
    strength = [
        draws.chance(f"unit.on{unit}", 0.06 if unit == 43 else 0.30)
        * draws.uniform(f"unit.strength{unit}", 0.2, STRONGEST)
        for unit in ACTION_UNITS
    ]
    return np.stack(strength, 1) * np.where(draws.chance("unit.rest", 0.12), 0.1, 1.0)[:, None]


# ------------------------------------------------------------------------------------------------------------- captions

_NUMBERS = [
    "head_width",
    "head_bottom",
    "jaw",
    "eye_width",
    "eye_opening",
    "brow_thickness",
    "nose_width",
    "upper_lip",
    "age",
    "make_up",
    "glasses",
    "sunglasses",
    "beard",
    "moustache",
    "hairline",
    "skin_r",
    "skin_g",
    "skin_b",
    "hair_r",
    "hair_g",
    "hair_b",
]
_POSE = ["yaw", "pitch", "roll", "scale", "shift_x", "shift_y"]
_PARTS = ([0, 1, 2, 3, 8, 9, 10], [4, 5, 6, 7, 11, 12, 13], [14, 15, 16, 17, 18, 19, 20, 21])
"""Indices of landmarks that belong together: left eye and brow, right eye and brow, mouth with nose base and chin."""
_CENTRES = ([0, 1], [4, 5], [14, 15])
"""Indices of the landmarks whose middle is the origin of each part: the corners of the eye, of the mouth."""


def identity_caption(columns: Columns) -> np.ndarray:
    """Return the identity attributes of scenes, (N, 24)."""
    lengths = [(columns["hair_length"] == length).astype(float) for length in (0, 2, 3)]
    return np.stack([columns[name] for name in _NUMBERS] + lengths, 1)


def face_caption(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Return captions (N, 162) and the weight of each entry in the regression, (162,).

    The entries are landmarks in three frames, pose and identity attributes.
    """
    picture, head = landmarks(scene)
    parts = head.copy()
    for members, centre in zip(_PARTS, _CENTRES, strict=True):
        parts[:, members] -= head[:, centre].mean(1, keepdims=True)
    blocks = [
        (picture.reshape(len(scene), -1), 1.0),
        (head.reshape(len(scene), -1), 2.5),
        (parts.reshape(len(scene), -1), 2.5),
        (np.stack([scene.columns[name] for name in _POSE], 1), 1.0),
        (identity_caption(scene.columns), 0.5),
    ]
    return np.concatenate([block for block, _ in blocks], 1), np.concatenate(
        [np.full(block.shape[1], weight) for block, weight in blocks]
    )


# ------------------------------------------------------------------------------------------------------------ rendering


def _render_block(block: tuple[str, int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    purpose, start, stop = block
    scene = compose(purpose, np.arange(start, stop))
    units = np.stack([scene.columns[f"au{unit}"] for unit in ACTION_UNITS], 1)
    faces = np.ascontiguousarray(render(scene, SIZE).transpose(0, 3, 1, 2))
    return faces, face_caption(scene)[0].astype(np.float32), units.astype(np.float32)


def render_pool(purpose: str, count: int, processes: int = 2) -> tuple[Tensor, Tensor, np.ndarray]:
    """Return images uint8 (N, 3, 64, 64), captions float32 (N, 162), and true action units (N, 17) for the probe."""
    block = 2048
    jobs = [(purpose, start, min(start + block, count)) for start in range(0, count, block)]
    with worker_pool(processes) as pool:
        parts = list(pool.map(_render_block, jobs))
    faces, captions, units = (np.concatenate(part) for part in zip(*parts, strict=True))
    return torch.from_numpy(faces), torch.from_numpy(captions), units


# ------------------------------------------------------------------------------------------------------------- training


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, apart from the world above."""

    purpose: str
    network: type[FaceEncoder] | type[Trunk]
    faces: int
    epochs: int
    contrast: float  # weight of the InfoNCE loss
    regression: float = 8.0  # weight of the smooth L1 loss
    batch: int = 128
    learning_rate: float = 2e-3
    weight_decay: float = 0.02
    warm_up: float = 0.08


RECIPES = {
    "encoder": Recipe("encoder", FaceEncoder, faces=96_000, epochs=15, contrast=0.25),
    "trunk": Recipe("trunk", Trunk, faces=48_000, epochs=9, contrast=1.0),
}
IDENTITY_ENTRIES = 24
FEATURE_DEVIATION = 0.45
"""Deviation of the encoder's scaled features, about that of the features of CLIP ViT-B/32."""


class Captioned(nn.Module):
    """An image network with a text tower for captions, and a regression from features to captions."""

    def __init__(self, network: nn.Module, features: int, entries: int) -> None:
        super().__init__()
        self.network = network
        self.text = nn.Sequential(nn.Linear(entries, 512), nn.ReLU(), nn.Linear(512, 256))
        self.image = nn.Linear(features, 256)
        self.regression = nn.Linear(features, entries)
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def losses(self, images: Tensor, captions: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return InfoNCE in both directions (Radford et al., ICML 2021) and the weighted smooth L1 loss of captions.

        Args:
            images: Normalised images, float (B, 3, 64, 64).
            captions: Standardised captions, float (B, entries).
            weights: The weight of each entry, float (entries,).
        """
        features = self.network(images)
        image, text = (
            functional.normalize(self.image(features), dim=1),
            functional.normalize(self.text(captions), dim=1),
        )
        similarity = self.log_scale.clamp(max=4.6).exp() * image @ text.T
        same = torch.arange(len(images))
        contrast = (functional.cross_entropy(similarity, same) + functional.cross_entropy(similarity.T, same)) / 2
        regression = functional.smooth_l1_loss(self.regression(features), captions, reduction="none")
        return contrast, (regression * weights).mean()


def jitter(images: Tensor, generator: torch.Generator) -> Tensor:
    """Augment images (B, 3, 64, 64): gain, cast, negative, swapped channels, grey, noise, an erased box."""
    count = len(images)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    def sometimes(probability: float) -> Tensor:
        return (torch.rand(count, 1, 1, 1, generator=generator) < probability).float()

    images = images * (1 + 0.25 * normal(count, 1, 1, 1)).clamp(0.4, 1.6) + 0.25 * normal(count, 3, 1, 1) * sometimes(
        0.5
    )
    images = images * (1 - 2 * sometimes(0.06))
    images = torch.lerp(images, images[:, torch.randperm(3, generator=generator)], sometimes(0.10))
    images = torch.lerp(images, images.mean(1, keepdim=True).expand_as(images), sometimes(0.15))
    strength = 0.12 * torch.rand(count, 1, 1, 1, generator=generator) * sometimes(0.4)
    images = images + strength * normal(*images.shape)
    top, left = torch.randint(0, 48, (2,), generator=generator).tolist()
    height, width = torch.randint(8, 22, (2,), generator=generator).tolist()
    box = images[:, :, top : top + height, left : left + width]
    box.copy_(torch.lerp(box, normal(count, 3, 1, 1).expand_as(box), sometimes(0.15)))
    return images


@torch.no_grad()
def features_of(network: nn.Module, faces: Tensor) -> np.ndarray:
    """Return the features of images uint8 (N, 3, 64, 64), float (N, 512), in evaluation mode."""
    network.eval()
    parts = [
        network(normalise(faces[i : i + 256]).contiguous(memory_format=torch.channels_last))
        for i in range(0, len(faces), 256)
    ]
    return torch.cat(parts).numpy()


def action_unit_probe(features: np.ndarray, units: np.ndarray, fitted_on: int) -> np.ndarray:
    """Return the R2 of each action unit under a ridge regression from features.

    Args:
        features: Features, float (N, 512).
        units: True action units, float (N, 17).
        fitted_on: Number of first rows to fit on. R2 is measured on the others.
    """
    centre, spread = features[:fitted_on].mean(0), features[:fitted_on].std(0) + 1e-6
    inputs = np.concatenate([(features - centre) / spread, np.ones((len(features), 1))], 1).astype(np.float64)
    fit, test = slice(None, fitted_on), slice(fitted_on, None)
    gram = inputs[fit].T @ inputs[fit] + 10.0 * np.eye(inputs.shape[1])
    predicted = inputs[test] @ np.linalg.solve(gram, inputs[fit].T @ units[fit])
    return 1 - ((predicted - units[test]) ** 2).mean(0) / units[test].var(0)


def train(recipe: Recipe, folder: Path, threads: int) -> None:
    """Train by a recipe and write <purpose>.safetensors (fp16) and <purpose>.log.

    Args:
        recipe: The network and its training.
        folder: The folder of both files.
        threads: Number of threads of torch.
    """
    torch.set_num_threads(threads)
    folder.mkdir(parents=True, exist_ok=True)
    started, cpu = time.time(), time.process_time()
    with (folder / f"{recipe.purpose}.log").open("w") as log:
        data = _training_data(recipe)
        _write_entry(
            log,
            recipe=recipe.purpose,
            faces=recipe.faces,
            epochs=recipe.epochs,
            threads=threads,
            torch=torch.__version__,
            rendered_in_s=round(time.time() - started, 1),
        )
        torch.manual_seed(seed_of(*stream(recipe.purpose), SEED))
        model = Captioned(to_channels_last(recipe.network()), recipe.network.features, data.captions.shape[1])
        steps = recipe.epochs * (recipe.faces // recipe.batch)
        optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, recipe.learning_rate, total_steps=steps, pct_start=recipe.warm_up
        )
        generator = torch.Generator().manual_seed(seed_of(*stream(recipe.purpose), SEED, "order and jitter"))
        best = -np.inf
        for epoch in range(1, recipe.epochs + 1):
            contrast, regression = _train_epoch(recipe, model, data, optimizer, schedule, generator)
            features = features_of(model.network, data.probe_faces)
            r2 = action_unit_probe(features, data.probe_units, fitted_on=6000)
            units = {str(unit): round(float(value), 3) for unit, value in zip(ACTION_UNITS, r2, strict=True)}
            losses = {"contrast": round(contrast, 4), "regression": round(regression, 4)}
            _write_entry(log, epoch=epoch, **losses, probe_r2=round(float(r2.mean()), 4), per_unit=units)
            minutes, core_minutes = (time.time() - started) / 60, (time.process_time() - cpu) / 60
            _write_entry(log, epoch=epoch, minutes=round(minutes, 1), core_minutes=round(core_minutes, 1))
            if recipe.network is Trunk or r2.mean() > best:
                best = r2.mean()
                path = folder / f"{recipe.purpose}.safetensors"
                _save(model.network, path, epoch, float(best), float(features.std()))
                _write_entry(log, epoch=epoch, kept=True)


class _Data(NamedTuple):
    faces: Tensor
    captions: Tensor  # standardised
    importance: Tensor  # weight of each entry of a caption
    probe_faces: Tensor
    probe_units: np.ndarray


def _training_data(recipe: Recipe) -> _Data:
    faces, captions, _ = render_pool(recipe.purpose, recipe.faces)
    probe_faces, _, probe_units = render_pool("probe", 8000)
    _, weights = face_caption(compose(recipe.purpose, np.arange(2)))
    if recipe.network is Trunk:
        captions, weights = captions[:, -IDENTITY_ENTRIES:], np.ones(IDENTITY_ENTRIES)
    captions = ((captions - captions.mean(0)) / captions.std(0).clamp_min(1e-6)).clamp(-4, 4)
    return _Data(faces, captions, torch.from_numpy(weights).float(), probe_faces, probe_units)


def _train_epoch(
    recipe: Recipe,
    model: Captioned,
    data: _Data,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Train for one epoch and return the means of both losses."""
    model.train()
    totals = np.zeros(2)
    for rows in _batches(recipe, generator):
        images = jitter(normalise(data.faces[rows]), generator).contiguous(memory_format=torch.channels_last)
        contrast, regression = model.losses(images, data.captions[rows], data.importance)
        optimizer.zero_grad()
        (recipe.contrast * contrast + recipe.regression * regression).backward()
        optimizer.step()
        schedule.step()
        totals += contrast.item(), regression.item()
    totals /= recipe.faces // recipe.batch
    return totals[0], totals[1]


def _write_entry(log: TextIO, **entry: Any) -> None:
    line = json.dumps(entry)
    print(line, flush=True)
    log.write(line + "\n")
    log.flush()


def _batches(recipe: Recipe, generator: torch.Generator) -> Iterator[Tensor]:
    order = torch.randperm(recipe.faces, generator=generator)
    yield from order[: recipe.faces // recipe.batch * recipe.batch].view(-1, recipe.batch)


def _save(network: nn.Module, path: Path, epoch: int, probe: float, deviation: float) -> None:
    state = {
        name: value.detach().clone()
        for name, value in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    if isinstance(network, FaceEncoder):
        for name in ("project.weight", "project.bias"):
            state[name] *= FEATURE_DEVIATION / deviation
    state = {name: value.half().contiguous() for name, value in state.items()}
    metadata = {"world": str(VERSION), "seed": str(SEED), "epoch": str(epoch), "probe_r2": f"{probe:.4f}"}
    save_file(state, path, metadata=metadata)


def main() -> None:
    """Train one of the packaged networks from the command line."""
    parser = argparse.ArgumentParser(description="Train one of the packaged networks again.")
    parser.add_argument("recipe", choices=sorted(RECIPES))
    parser.add_argument(
        "--folder", type=Path, default=Path(__file__).parent / "weights", help="where the weights and the log go"
    )
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    train(RECIPES[arguments.recipe], arguments.folder, arguments.threads)


if __name__ == "__main__":
    main()
