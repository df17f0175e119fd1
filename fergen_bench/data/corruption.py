"""Corruptions of test images, and the table of all factors that a factor sweep may change.

A corruption applies to any image, at five severities. Its sizes are shares of the image's width, so that images of 48
and of 224 pixels change alike. Rendered factors are parameters of the renderer: the same person with the same
expression is rendered again with one parameter at another value. All randomness depends on the image alone, not on the
severity: a higher severity is a stronger form of the same change.

Planning and reports read the names here, so this module loads torch only when images are computed.
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
"""Raised when a factor changes images in another way than before. Scores of another version are then computed again."""

CLEAN = "clean"
"""Name of the unchanged images, the reference for the corrupted ones."""


@dataclass(frozen=True)
class Factor:
    """A property of test images that a factor sweep changes.

    Attributes:
        about: Description of the levels, the label of an axis.
        levels: The levels used unless a protocol lists others.
        reach: The lowest and the highest possible level.
        rendered: The factor is a parameter of the renderer, and applies to rendered images only.
    """

    about: str
    levels: tuple[float, ...] = (1, 2, 3, 4, 5)
    reach: tuple[float, float] = (1, 5)
    rendered: bool = False


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
"""The factors by name. Label noise is not a factor: it changes training, and test images cannot show it."""


def corrupted_images(split: Split, positions: np.ndarray, factor: str, level: float) -> Tensor:
    """Return corrupted images of a split, uint8 (n, 3, height, width) on the CPU.

    Args:
        split: Images of one domain.
        positions: Positions in the split, int64 (n,).
        factor: The name of a corruption in FACTORS, or CLEAN.
        level: The severity, from 1 to 5.
    """
    from fergen_bench.data.randomness import seed_of

    if factor == CLEAN:
        return split.faces(positions)
    (piece,) = split.pieces
    # The first name of the random stream is "shift", the former name of corruptions: another name changes all noise.
    seeds = [seed_of("shift", factor, piece.domain.name, name) for name in split.ids[positions]]
    return _CORRUPTIONS[factor](split.faces(positions), seeds, int(level) - 1)


# ---------------------------------------------------------------------------------------------------------- corruptions


def _covering(top: float, bottom: float, width: float, shares: Sequence[float]) -> Corruption:
    """Return a corruption that covers a band from one side with the image's mean colour; the side is random per image.

    Args:
        top: Upper edge of the band, as a share of the height. The values fit faces cropped with common alignments.
        bottom: Lower edge of the band, as a share of the height.
        width: Width of the band, as a share of the image's width.
        shares: The covered share of the band at each severity.
    """

    def corrupt(images: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
        height, across = images.shape[2:]
        rows = slice(round(top * height), round(bottom * height))
        first = round((1 - width) / 2 * across)
        covered = max(1, round(shares[severity] * width * across))
        colours = images.float().mean((2, 3)).round().to(images)
        images = images.clone()
        for image, colour, seed in zip(images, colours, seeds, strict=True):
            start = first if seed % 2 else across - first - covered
            image[:, rows, start : start + covered] = colour[:, None, None]
        return images

    return corrupt


def _blur(images: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    deviation = (0.01, 0.02, 0.035, 0.05, 0.075)[severity] * images.shape[3]
    size = 2 * min(round(3 * deviation), (min(images.shape[2:]) - 1) // 2) + 1
    return functional.gaussian_blur(images, [size, size], [deviation, deviation])


def _noise(images: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    import numpy as np
    import torch

    deviation = 255 * (0.04, 0.08, 0.13, 0.20, 0.30)[severity]
    shape = tuple(images.shape[1:])
    drawn = np.stack([np.random.default_rng(seed).standard_normal(shape, np.float32) for seed in seeds])
    return (images.float() + deviation * torch.from_numpy(drawn)).round_().clamp_(0, 255).to(torch.uint8)


def _jpeg(images: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    """Compress with Pillow, because torchvision has deprecated its own encoder."""
    import io

    import numpy as np
    import torch
    from PIL import Image

    read = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=(40, 20, 12, 7, 4)[severity])
        read.append(np.asarray(Image.open(file)))
    return torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2).contiguous()


def _low_resolution(images: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    size = list(images.shape[2:])
    small = [max(1, round(side * (0.6, 0.45, 0.3, 0.2, 0.14)[severity])) for side in size]
    return functional.resize(functional.resize(images, small, antialias=True), size, antialias=True)


def _darkness(images: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    from torchvision.transforms.v2 import functional

    return functional.adjust_brightness(images, (0.7, 0.5, 0.35, 0.22, 0.12)[severity])


def _rotation(images: Tensor, seeds: Sequence[int], severity: int) -> Tensor:
    """Rotate each image to a random side. The border is mirrored, so that the corners do not become black."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional

    angle = (8.0, 16.0, 24.0, 34.0, 45.0)[severity]
    height, width = images.shape[2:]
    border = min(height, width) // 4
    padded = functional.pad(images, [border] * 4, padding_mode="reflect")
    sides = torch.tensor([bool(seed % 2) for seed in seeds])
    turned = images.clone()
    for side, signed in ((True, angle), (False, -angle)):
        if (sides == side).any():
            whole = functional.rotate(padded[sides == side], signed, InterpolationMode.BILINEAR)
            turned[sides == side] = functional.center_crop(whole, [height, width])
    return turned


Corruption = Callable[["Tensor", Sequence[int], int], "Tensor"]
"""Images uint8 (n, 3, height, width), a seed for each, severity from 0 to 4 → the corrupted images."""

_FIFTHS = (0.2, 0.4, 0.6, 0.8, 1.0)
_CORRUPTIONS: Mapping[str, Corruption] = {
    "occlusion-eyes": _covering(0.32, 0.58, 0.9, _FIFTHS),
    "occlusion-mouth": _covering(0.63, 0.92, 0.7, _FIFTHS),
    "occlusion-half": _covering(0.0, 1.0, 1.0, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "blur": _blur,
    "noise": _noise,
    "jpeg": _jpeg,
    "low-resolution": _low_resolution,
    "darkness": _darkness,
    "rotation": _rotation,
}
