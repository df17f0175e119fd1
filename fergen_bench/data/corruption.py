"""Controlled shifts of the faces that are scored: one factor is moved, everything else stays as it is.

Corruptions can be made of any face, at five severities; their sizes are shares of the picture's width, so that faces of
48 and of 224 pixels are shifted alike. The factors of rendered faces are those of the renderer itself: the same person
with the same expression is drawn again with one of them at a value. Whatever is drawn at random depends on the face
alone, and not on the severity: a higher severity is the same shift, further on.

Planning and reports read the names here, so nothing heavy is loaded before faces are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from fergen_bench.data.domain import Split

VERSION = 1
"""Raised when a factor comes to other faces than before; what was scored under another version is scored again."""

CLEAN = "clean"
"""The faces as they are: what the shifted ones are compared with."""


@dataclass(frozen=True)
class Factor:
    """What can be moved."""

    about: str  # what its levels are, as an axis is labelled
    levels: tuple[float, ...] = (1, 2, 3, 4, 5)  # unless a protocol says others
    reach: tuple[float, float] = (1, 5)  # the levels that can be asked for
    rendered: bool = False  # a factor of the renderer: for its own faces only


FACTORS: Mapping[str, Factor] = {
    "occlusion-eyes": Factor("eyes covered from one side: severity"),
    "occlusion-mouth": Factor("mouth covered from one side: severity"),
    "occlusion-half": Factor("face covered from one side, up to its half: severity"),
    "blur": Factor("blur: severity"),
    "noise": Factor("noise: severity"),
    "jpeg": Factor("JPEG compression: severity"),
    "low-resolution": Factor("low resolution: severity"),
    "darkness": Factor("darkness: severity"),
    "rotation": Factor("rotation in the picture's plane: severity"),
    "pose": Factor("yaw of the head (radians)", (0.0, 0.2, 0.4, 0.6, 0.8), (-1.0, 1.0), rendered=True),
    "light": Factor("azimuth of the light (radians)", (0.0, 0.5, 1.0, 1.5), (-1.6, 1.6), rendered=True),
    "resolution": Factor("share of the pixels per side", (0.25, 0.4, 0.55, 0.75, 1.0), (0.1, 1.0), rendered=True),
    "occluder": Factor("half the width of an occluder (1: half the head)", (0.0, 0.1, 0.2, 0.3, 0.4), (0.0, 1.0), True),
    "intensity": Factor("intensity of the expression", (0.2, 0.4, 0.6, 0.8, 1.0, 1.2), (0.0, 1.2), rendered=True),
    "ambiguity": Factor("share of a second expression", (0.0, 0.1, 0.2, 0.3, 0.4, 0.5), (0.0, 0.5), rendered=True),
}
"""Noise in the labels is not among them: it changes what is learned, and predictions alone cannot show it."""


def corrupted_images(split: Split, positions: np.ndarray, factor: str, level: float) -> Tensor:
    """Return images of a split of one domain with a corruption: uint8 (n, 3, height, width) on the CPU.

    Args:
        split: The images of one domain.
        positions: Which of them, int64 (n,).
        factor: The name of a corruption among FACTORS, or CLEAN.
        level: Its severity, from 1 to 5.
    """
    from fergen_bench.data.randomness import seed_of

    if factor == CLEAN:
        return split.faces(positions)
    (piece,) = split.pieces
    seeds = [seed_of("shift", factor, piece.domain.name, face) for face in split.ids[positions]]
    return _CORRUPTIONS[factor](split.faces(positions), seeds, int(level) - 1)


# ---------------------------------------------------------------------------------------------------------- corruptions


def _cover(top: float, bottom: float, width: float, shares: Sequence[float]) -> Corruption:
    """A band of the picture, covered from one side with the picture's mean colour. top, bottom, width: as shares of the
    picture, which hold for cropped faces of the usual alignments; the side is drawn for each face.
    """

    def corrupt(faces: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
        height, across = faces.shape[2:]
        rows = slice(round(top * height), round(bottom * height))
        first = round((1 - width) / 2 * across)
        covered = max(1, round(shares[severity] * width * across))
        colours = faces.float().mean((2, 3)).round().to(faces)
        faces = faces.clone()
        for face, colour, seed in zip(faces, colours, seeds, strict=True):
            start = first if seed % 2 else across - first - covered
            face[:, rows, start : start + covered] = colour[:, None, None]
        return faces

    return corrupt


def _blur(faces: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    deviation = (0.01, 0.02, 0.035, 0.05, 0.075)[severity] * faces.shape[3]
    size = 2 * min(round(3 * deviation), (min(faces.shape[2:]) - 1) // 2) + 1
    return functional.gaussian_blur(faces, [size, size], [deviation, deviation])


def _noise(faces: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    import numpy as np
    import torch

    deviation = 255 * (0.04, 0.08, 0.13, 0.20, 0.30)[severity]
    shape = tuple(faces.shape[1:])
    drawn = np.stack([np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds])
    return (faces.float() + deviation * torch.from_numpy(drawn)).round_().clamp_(0, 255).to(torch.uint8)


def _jpeg(faces: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    """By Pillow: torchvision gives its own up."""
    import io

    import numpy as np
    import torch
    from PIL import Image

    read = []
    for face in faces.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(face).save(file, "JPEG", quality=(40, 20, 12, 7, 4)[severity])
        read.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).contiguous()


def _low_resolution(faces: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    size = list(faces.shape[2:])
    small = [max(1, round(side * (0.6, 0.45, 0.3, 0.2, 0.14)[severity])) for side in size]
    return functional.resize(functional.resize(faces, small, antialias=True), size, antialias=True)


def _darkness(faces: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.adjust_brightness(faces, (0.7, 0.5, 0.35, 0.22, 0.12)[severity])


def _rotation(faces: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    """To a side that is drawn for each face. The border is mirrored, so that no corner is black."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional

    angle = (8.0, 16.0, 24.0, 34.0, 45.0)[severity]
    height, width = faces.shape[2:]
    border = min(height, width) // 4
    padded = functional.pad(faces, [border] * 4, padding_mode="reflect")
    sides = torch.tensor([bool(seed % 2) for seed in seeds])
    turned = faces.clone()
    for side, signed in ((True, angle), (False, -angle)):
        if (sides == side).any():
            whole = functional.rotate(padded[sides == side], signed, InterpolationMode.BILINEAR)
            turned[sides == side] = functional.center_crop(whole, [height, width])
    return turned


Corruption = Callable[["Tensor", Sequence[int], int], "Tensor"]
"""faces uint8 (n, 3, height, width), a seed for each, severity from 0 to 4 → the same faces, corrupted"""

_FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
_CORRUPTIONS: Mapping[str, Corruption] = {
    "occlusion-eyes": _cover(0.32, 0.58, 0.9, _FIFTHS),
    "occlusion-mouth": _cover(0.63, 0.92, 0.7, _FIFTHS),
    "occlusion-half": _cover(0.0, 1.0, 1.0, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "low-resolution": _low_resolution,
    "darkness": _darkness,
    "rotation": _rotation,
}
