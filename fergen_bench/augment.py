"""Augmentation of whole batches on the device, with randomness per face.

What happens to a face depends on the run, the epoch and the face: not on its batch, the batch size or the number of
processes. Images are (B, 3, height, width); draws come from `SampleDraws`.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench.draws import counters, seed_of, uniform


class SampleDraws:
    """Random numbers for the faces of one batch, by name."""

    def __init__(self, index: Tensor, *names: object) -> None:
        self._counter = counters(index.long(), seed_of(*names))

    def uniform(self, name: str) -> Tensor:
        """float32 (B,) in [0, 1)."""
        return uniform(self._counter, name)

    def chance(self, name: str, probability: float) -> Tensor:
        """bool (B,)"""
        return self.uniform(name) < probability


def add_noise(images: Tensor, noise: Tensor) -> Tensor:
    """uint8 images plus noise in grey levels, clipped and truncated to uint8 (so half a level darker on average, as in
    the reference).
    """
    return (images + noise).clamp(0, 255).to(torch.uint8)


def random_noise(images: Tensor, draws: SampleDraws, probability: float = 0.5, variance: float = 30.0) -> Tensor:
    """Gaussian noise on a share of the faces, uint8 → uint8. variance: in squared grey levels.

    Each face cuts its noise from one long strip of normal numbers at an offset of its own.
    """
    shape, length = images.shape[1:], images[0].numel()
    strip = _normal_strip(images.device.type, images.device.index, length)
    offset = (draws.uniform("noise.offset") * (len(strip) - length)).long()
    noise = strip.as_strided((len(strip) - length + 1, length), (1, 1))[offset].view(-1, *shape) * math.sqrt(variance)
    return torch.where(draws.chance("noise", probability)[:, None, None, None], add_noise(images, noise), images)


@cache
def _normal_strip(device: str, index: int | None, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed_of("noise strip"))
    return torch.randn(length + (1 << 21), generator=generator).to(
        torch.device(device, index) if index is not None else device
    )


def random_flip(images: Tensor, draws: SampleDraws, probability: float = 0.5) -> Tensor:
    """Mirrors a share of the faces."""
    return torch.where(draws.chance("flip", probability)[:, None, None, None], images.flip(3), images)


def erase(images: Tensor, boxes: Tensor, value: Tensor) -> Tensor:
    """Fills a box per image. boxes: int64 (B, 4) as top, left, height, width; height 0 erases nothing. value: broadcast
    over images.
    """
    height, width = images.shape[-2:]
    top, left, tall, wide = (boxes[:, place, None] for place in range(4))
    row, column = torch.arange(height, device=images.device)[None], torch.arange(width, device=images.device)[None]
    inside = ((row >= top) & (row < top + tall))[:, :, None] & ((column >= left) & (column < left + wide))[:, None, :]
    return torch.where(inside[:, None], value.to(images.dtype), images)


def random_boxes(
    shape: torch.Size,
    draws: SampleDraws,
    probability: float = 0.5,
    area: tuple[float, float] = (0.02, 0.25),
    aspect: tuple[float, float] = (0.3, 3.3),
) -> Tensor:
    """Boxes for `erase`, drawn as torchvision's RandomErasing draws them: up to ten tries for a box that fits. int64
    (B, 4).
    """
    height, width = shape[-2:]
    boxes: Tensor | None = None
    for attempt in range(10):
        size = height * width * (area[0] + (area[1] - area[0]) * draws.uniform(f"erase.area{attempt}"))
        ratio = torch.exp(
            math.log(aspect[0]) + math.log(aspect[1] / aspect[0]) * draws.uniform(f"erase.aspect{attempt}")
        )
        tall, wide = (size * ratio).sqrt().round().long(), (size / ratio).sqrt().round().long()
        top = (draws.uniform(f"erase.top{attempt}") * (height - tall + 1)).long()
        left = (draws.uniform(f"erase.left{attempt}") * (width - wide + 1)).long()
        fits = (tall < height) & (wide < width)
        found = torch.stack([top, left, tall, wide], 1) * fits[:, None]
        boxes = found if boxes is None else torch.where((boxes[:, 2] > 0)[:, None], boxes, found)
    assert boxes is not None
    return boxes * draws.chance("erase", probability)[:, None]


def beta_draws(concentration: float, count: int, generator: torch.Generator) -> Tensor:
    """Shares from Beta(concentration, concentration): float32 (count,), on the CPU. torch draws none from a generator
    of one's own.
    """
    numbers = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    return torch.from_numpy(numbers.beta(concentration, concentration, count)).float()


def crop(images: Tensor, boxes: Tensor) -> Tensor:
    """A box of each image, enlarged to the image's own size (bicubic; its edge looks at the pixels beyond the box).
    images: uint8, or float in 0..1; boxes: int64 (B, 4) as top, left, height, width. Float in 0..1.
    """
    images = images.float() / 255.0 if images.dtype == torch.uint8 else images
    height, width = images.shape[-2:]
    box = boxes.to(images)
    # Pixel centres of the result, as places in the image: -1 is its first edge, 1 its last.
    row = (torch.arange(height, device=images.device) + 0.5) / height
    column = (torch.arange(width, device=images.device) + 0.5) / width
    y = 2.0 * (box[:, 0, None] + row * box[:, 2, None]) / height - 1.0
    x = 2.0 * (box[:, 1, None] + column * box[:, 3, None]) / width - 1.0
    grid = torch.stack([x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], 3)
    cut = functional.grid_sample(images, grid, "bicubic", padding_mode="border", align_corners=False)
    return cut.clamp(0.0, 1.0)


def random_crop_boxes(
    shape: torch.Size,
    draws: SampleDraws,
    area: tuple[float, float] = (0.5, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Boxes for `crop`, drawn as torchvision's RandomResizedCrop draws them: up to ten tries for a box that fits, else
    the whole image. int64 (B, 4).
    """
    height, width = shape[-2:]
    whole = torch.tensor([0, 0, height, width])
    boxes: Tensor | None = None
    for attempt in range(10):
        size = height * width * (area[0] + (area[1] - area[0]) * draws.uniform(f"crop.area{attempt}"))
        ratio = torch.exp(
            math.log(aspect[0]) + math.log(aspect[1] / aspect[0]) * draws.uniform(f"crop.aspect{attempt}")
        )
        wide, tall = (size * ratio).sqrt().round().long(), (size / ratio).sqrt().round().long()
        fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
        top = (draws.uniform(f"crop.top{attempt}") * (height - tall + 1)).long()
        left = (draws.uniform(f"crop.left{attempt}") * (width - wide + 1)).long()
        found = torch.stack([top, left, tall, wide], 1) * fits[:, None]
        boxes = found if boxes is None else torch.where((boxes[:, 2] > 0)[:, None], boxes, found)
    assert boxes is not None
    return torch.where((boxes[:, 2] > 0)[:, None], boxes, whole.to(boxes))


def random_crop(images: Tensor, draws: SampleDraws, area: tuple[float, float] = (0.5, 1.0)) -> Tensor:
    """A random box of each image, of a share of its area within `area`, at the image's own size. Float in 0..1."""
    return crop(images, random_crop_boxes(images.shape, draws, area))
