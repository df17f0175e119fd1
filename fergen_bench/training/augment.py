"""Augmentation of whole batches on the device, with randomness per face.

What happens to a face depends on the run, the epoch and the face: not on its batch, the batch size or the number of
processes. Images are (B, 3, height, width); draws come from `SampleDraws`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench.data.randomness import counters, seed_of, uniform


class SampleDraws:
    """Random numbers for the faces of one batch, by name.

    A draw is a dozen operations on a few numbers, and a box takes hundreds: for the batches of an epoch they are made
    all at once (`split`), when the first of them asks. The numbers are the same.
    """

    def __init__(self, index: Tensor, *names: object) -> None:
        self._counter = counters(index.long(), seed_of(*names))
        self._whole: SampleDraws | None = None
        self._place = slice(None)
        self._made: dict[Hashable, Tensor] = {}

    def split(self, sizes: Sequence[int]) -> list[SampleDraws]:
        """The draws of batches of these sizes, one after another."""
        parts, start = [], 0
        for size in sizes:
            part = copy(self)
            part._whole, part._place = self, slice(start, start + size)
            parts.append(part)
            start += size
        return parts

    @staticmethod
    def joined(draws: Sequence[SampleDraws]) -> SampleDraws:
        """The draws of several batches, one after another."""
        whole = copy(draws[0])
        whole._counter = torch.cat([part._counter for part in draws])
        return whole

    def together(self, key: Hashable, make: Callable[[SampleDraws], Tensor]) -> Tensor:
        """A row per face, made of draws alone: once for all batches that were split from the same draws. key: what it
        is, with all that it depends on. It is shared, so it must not be written to.
        """
        if self._whole is None:
            return make(self)
        if key not in self._whole._made:
            self._whole._made[key] = make(self._whole)
        return self._whole._made[key][self._place]

    def uniform(self, name: str) -> Tensor:
        """float32 (B,) in [0, 1)."""
        return self.together(name, lambda draws: uniform(draws._counter, name))

    def chance(self, name: str, probability: float) -> Tensor:
        """bool (B,)"""
        return self.uniform(name) < probability


def add_noise(images: Tensor, noise: Tensor) -> Tensor:
    """uint8 images plus noise in grey levels, clipped and truncated to uint8 (so half a level darker on average, as in
    the reference).
    """
    return (images + noise).clamp_(0, 255).to(torch.uint8)


def random_noise(images: Tensor, draws: SampleDraws, probability: float = 0.5, variance: float = 30.0) -> Tensor:
    """Gaussian noise on a share of the faces, uint8 → uint8. variance: in squared grey levels.

    Each face cuts its noise from one long strip of normal numbers at an offset of its own.
    """
    shape, length = images.shape[1:], images[0].numel()
    strip = _normal_strip(images.device.type, images.device.index, length)
    offset = (draws.uniform("noise.offset") * (len(strip) - length)).long()
    noise = strip.as_strided((len(strip) - length + 1, length), (1, 1))[offset].view(-1, *shape)
    noise.mul_(math.sqrt(variance))  # in place, as fresh memory costs more than the product
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


def random_flip_or_noise(images: Tensor, draws: SampleDraws, probability: float = 0.5) -> Tensor:
    """Either mirrors a face or adds Gaussian noise to it, never both, on a share of the faces; uint8 → uint8. As SCN's
    and RUL's released code does.
    """
    mirrored = draws.chance("flip or noise", 0.5)[:, None, None, None]
    changed = torch.where(mirrored, images.flip(3), random_noise(images, draws, 1.0))
    return torch.where(draws.chance("changed", probability)[:, None, None, None], changed, images)


def random_turn_and_shift(
    images: Tensor, draws: SampleDraws, probability: float = 0.2, degrees: float = 20.0, shift: float = 1 / 7
) -> Tensor:
    """Turns a share of the faces by up to `degrees`, then moves them by up to `shift` of their side, by whole pixels;
    outside is black. The nearest pixel is taken, as torchvision's RandomRotation and RandomCrop with
    padding do; shift is that of a crop of 224 from a border of 32. Any type; the type is kept.
    """
    height, width = images.shape[-2:]
    angle = torch.deg2rad(degrees * (2 * draws.uniform("turn") - 1))[:, None, None]
    rows = torch.arange(height, device=images.device, dtype=torch.float32)[None, :, None]
    columns = torch.arange(width, device=images.device, dtype=torch.float32)[None, None]
    moved = [
        ((2 * round(shift * side) + 1) * draws.uniform(f"shift.{name}")).floor() - round(shift * side)
        for name, side in (("top", height), ("left", width))
    ]
    # Each pixel of the result looks up where it came from: first the shift is undone, then the turn about the centre.
    y = rows + moved[0][:, None, None]
    x = columns + moved[1][:, None, None]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    from_y = (angle.cos() * y + angle.sin() * x + (height - 1) / 2).round().long()
    from_x = (angle.cos() * x - angle.sin() * y + (width - 1) / 2).round().long()
    inside &= (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
    place = from_y.clamp(0, height - 1) * width + from_x.clamp(0, width - 1)
    looked_up = images.flatten(2).gather(2, place.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    changed = torch.where(inside[:, None], looked_up.view(images.shape), torch.zeros_like(images))
    return torch.where(draws.chance("turn and shift", probability)[:, None, None, None], changed, images)


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
    name: str = "erase",
) -> Tensor:
    """Boxes for `erase`, drawn as torchvision's RandomErasing draws them: up to ten tries for a box that fits. int64
    (B, 4). name: of the draws, so that a second view of a face can have a box of its own.
    """
    height, width = shape[-2:]
    key = ("boxes", height, width, probability, area, aspect, name)
    return draws.together(key, lambda draws: _boxes(height, width, draws, probability, area, aspect, name))


def _boxes(
    height: int,
    width: int,
    draws: SampleDraws,
    probability: float,
    area: tuple[float, float],
    aspect: tuple[float, float],
    name: str,
) -> Tensor:
    boxes: Tensor | None = None
    for attempt in range(10):
        size = height * width * (area[0] + (area[1] - area[0]) * draws.uniform(f"{name}.area{attempt}"))
        ratio = torch.exp(
            math.log(aspect[0]) + math.log(aspect[1] / aspect[0]) * draws.uniform(f"{name}.aspect{attempt}")
        )
        tall, wide = (size * ratio).sqrt().round().long(), (size / ratio).sqrt().round().long()
        top = (draws.uniform(f"{name}.top{attempt}") * (height - tall + 1)).long()
        left = (draws.uniform(f"{name}.left{attempt}") * (width - wide + 1)).long()
        fits = (tall < height) & (wide < width)
        found = torch.stack([top, left, tall, wide], 1) * fits[:, None]
        boxes = found if boxes is None else torch.where((boxes[:, 2] > 0)[:, None], boxes, found)
    assert boxes is not None
    return boxes * draws.chance(name, probability)[:, None]


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
    key = ("crop boxes", height, width, area, aspect)
    return draws.together(key, lambda draws: _crop_boxes(height, width, draws, area, aspect))


def _crop_boxes(
    height: int, width: int, draws: SampleDraws, area: tuple[float, float], aspect: tuple[float, float]
) -> Tensor:
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
