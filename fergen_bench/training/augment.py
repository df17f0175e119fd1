"""Augment whole batches of images on the device, with random numbers that belong to each image.

The augmentation of an image depends on the run, the epoch and the image. Where an image may appear several times in an
epoch, it depends on the position in the epoch in place of the image. It depends neither on the batch that the image is
in nor on the batch size. Images are (B, 3, height, width); random numbers come from `SampleDraws`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from copy import copy
from functools import cache, reduce

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench.data.randomness import counters, seed_of, uniform


class SampleDraws:
    """Named random numbers for the images of one batch.

    One draw takes a dozen operations on a few numbers, and one box takes hundreds. The batches that `split` returns
    therefore share their draws, which are computed when the first batch requests them. The numbers do not change.

    Args:
        index: The images' indices in their split, or in the epoch, int64 (B,).
        *names: Names of the random stream, such as the run and the epoch.
    """

    def __init__(self, index: Tensor, *names: object) -> None:
        self._counter = counters(index.long(), seed_of(*names))
        self._whole: SampleDraws | None = None
        self._rows = slice(None)
        self._shared: dict[Hashable, Tensor] = {}

    def split(self, sizes: Sequence[int]) -> list[SampleDraws]:
        """Return the draws of consecutive batches of these sizes."""
        parts, start = [], 0
        for size in sizes:
            part = copy(self)
            part._whole, part._rows = self, slice(start, start + size)
            parts.append(part)
            start += size
        return parts

    def together(self, key: Hashable, make: Callable[[SampleDraws], Tensor]) -> Tensor:
        """Compute a tensor from draws alone, once for all batches that were split from the same draws.

        Args:
            key: Identifies the result; it must contain everything that the result depends on.
            make: Computes the result, one row per image, from the draws that it is given.

        Returns:
            The rows of this batch. They are shared with other batches and must not be modified in place.
        """
        if self._whole is None:
            return make(self)
        if key not in self._whole._shared:
            self._whole._shared[key] = make(self._whole)
        return self._whole._shared[key][self._rows]

    def uniform(self, name: str) -> Tensor:
        """Return one uniform number in [0, 1) per image, float32 (B,)."""
        return self.together(name, lambda draws: uniform(draws._counter, name))

    def chance(self, name: str, probability: float) -> Tensor:
        """Return True with the given probability for each image, bool (B,)."""
        return self.uniform(name) < probability


def add_noise(images: Tensor, noise: Tensor) -> Tensor:
    """Add noise in grey levels to uint8 images, clip, and truncate to uint8.

    Truncation makes an image half a grey level darker on average, as in the reference implementation.
    """
    return (images + noise).clamp_(0, 255).to(torch.uint8)


def random_noise(images: Tensor, draws: SampleDraws, probability: float = 0.5, variance: float = 30.0) -> Tensor:
    """Add Gaussian noise to a share of the images.

    The noise of an image is a window of one long strip of normal numbers, at a random offset.

    Args:
        images: uint8 (B, 3, height, width).
        draws: The images' random numbers.
        probability: The share of images that get noise.
        variance: The variance of the noise, in squared grey levels.

    Returns:
        uint8 images of the same shape.
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
    """Mirror a share of the images horizontally."""
    return torch.where(draws.chance("flip", probability)[:, None, None, None], images.flip(3), images)


def random_flip_or_noise(images: Tensor, draws: SampleDraws, probability: float = 0.5) -> Tensor:
    """Mirror a share of the uint8 images or add Gaussian noise to them, never both.

    The released code of SCN and of RUL augments in this way.
    """
    mirrored = draws.chance("flip or noise", 0.5)[:, None, None, None]
    changed = torch.where(mirrored, images.flip(3), random_noise(images, draws, 1.0))
    return torch.where(draws.chance("changed", probability)[:, None, None, None], changed, images)


def random_turn_and_shift(
    images: Tensor, draws: SampleDraws, probability: float = 0.2, degrees: float = 20.0, shift: float = 1 / 7
) -> Tensor:
    """Rotate a share of the images, then shift them by whole pixels; pixels from outside the image are black.

    The nearest pixel is taken, as in torchvision's RandomRotation and RandomCrop with padding. The default shift is
    that of a 224-pixel crop from an image with a border of 32 pixels.

    Args:
        images: (B, C, height, width) of any dtype.
        draws: The images' random numbers.
        probability: The share of images that are changed.
        degrees: The largest rotation, in either direction.
        shift: The largest shift, as a share of the image's side.

    Returns:
        Images of the same shape and dtype.
    """
    height, width = images.shape[-2:]
    angle = torch.deg2rad(degrees * (2 * draws.uniform("turn") - 1))[:, None, None]
    rows = torch.arange(height, device=images.device, dtype=torch.float32)[None, :, None]
    columns = torch.arange(width, device=images.device, dtype=torch.float32)[None, None]
    moved = [
        ((2 * round(shift * side) + 1) * draws.uniform(f"shift.{name}")).floor() - round(shift * side)
        for name, side in (("top", height), ("left", width))
    ]
    # Compute where each pixel of the result comes from: undo the shift first, then the rotation about the centre.
    y = rows + moved[0][:, None, None]
    x = columns + moved[1][:, None, None]
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    y, x = y - (height - 1) / 2, x - (width - 1) / 2
    from_y = (angle.cos() * y + angle.sin() * x + (height - 1) / 2).round().long()
    from_x = (angle.cos() * x - angle.sin() * y + (width - 1) / 2).round().long()
    inside &= (from_y >= 0) & (from_y < height) & (from_x >= 0) & (from_x < width)
    pixel = from_y.clamp(0, height - 1) * width + from_x.clamp(0, width - 1)
    moved_pixels = images.flatten(2).gather(2, pixel.flatten(1)[:, None].expand(-1, images.shape[1], -1))
    changed = torch.where(inside[:, None], moved_pixels.view(images.shape), torch.zeros_like(images))
    return torch.where(draws.chance("turn and shift", probability)[:, None, None, None], changed, images)


def random_erase(images: Tensor, draws: SampleDraws, probability: float, value: Tensor, name: str = "erase") -> Tensor:
    """Convert images to float32 in 0..1 and fill a random box of a share of them with one colour.

    Args:
        images: uint8 (B, 3, height, width).
        draws: The images' random numbers.
        probability: The share of images in which a box is filled.
        value: The colour in 0..1, broadcast over the images, such as a network's mean (3, 1, 1).
        name: Name of the boxes' random stream; a second view of the same images needs another name.

    Returns:
        float32 (B, 3, height, width).
    """
    return erase(images.float() / 255.0, random_boxes(images.shape, draws, probability, name=name), value)


def erase(images: Tensor, boxes: Tensor, value: Tensor) -> Tensor:
    """Fill one box of each image.

    Args:
        images: (B, C, height, width).
        boxes: Top, left, height and width of each box, int64 (B, 4); height 0 erases nothing.
        value: The colour, broadcast over the images.

    Returns:
        Images of the same shape and dtype.
    """
    height, width = images.shape[-2:]
    top, left, tall, wide = (boxes[:, column, None] for column in range(4))
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
    """Draw boxes for `erase` as torchvision's RandomErasing does: the first of ten tries that fits.

    Args:
        shape: Shape of the images, (..., height, width).
        draws: The images' random numbers.
        probability: The share of images that get a box.
        area: Range of the box's area, as a share of the image's.
        aspect: Range of height over width, drawn on a logarithmic scale.
        name: Name of the boxes' random stream; a second view of the same images needs another name.

    Returns:
        Top, left, height and width, int64 (B, 4); all 0 without a box.
    """
    height, width = shape[-2:]
    key = ("boxes", height, width, probability, area, aspect, name)

    def boxes(draws: SampleDraws) -> Tensor:
        found = _fitting_boxes(height, width, draws, area, aspect, name)
        return found * draws.chance(name, probability)[:, None]

    return draws.together(key, boxes)


def random_crop_boxes(
    shape: torch.Size,
    draws: SampleDraws,
    area: tuple[float, float] = (0.5, 1.0),
    aspect: tuple[float, float] = (3 / 4, 4 / 3),
) -> Tensor:
    """Draw boxes for `crop` as torchvision's RandomResizedCrop does: the first of ten tries that fits, else the image.

    Args:
        shape: Shape of the images, (..., height, width).
        draws: The images' random numbers.
        area: Range of the box's area, as a share of the image's.
        aspect: Range of width over height, drawn on a logarithmic scale.

    Returns:
        Top, left, height and width, int64 (B, 4).
    """
    height, width = shape[-2:]
    key = ("crop boxes", height, width, area, aspect)

    def boxes(draws: SampleDraws) -> Tensor:
        found = _fitting_boxes(height, width, draws, area, aspect, "crop", crop=True)
        return torch.where(found[:, 2:3] > 0, found, torch.tensor([0, 0, height, width]).to(found))

    return draws.together(key, boxes)


def _fitting_boxes(
    height: int,
    width: int,
    draws: SampleDraws,
    area: tuple[float, float],
    aspect: tuple[float, float],
    name: str,
    crop: bool = False,
) -> Tensor:
    """Return the first of ten random boxes that fits, else zeros, int64 (B, 4).

    A box to be erased is smaller than the image, and its aspect is height over width. The box of a crop may be as large
    as the image, and its aspect is width over height.
    """
    attempts = []
    for attempt in range(10):
        size = height * width * (area[0] + (area[1] - area[0]) * draws.uniform(f"{name}.area{attempt}"))
        ratio = torch.exp(
            math.log(aspect[0]) + math.log(aspect[1] / aspect[0]) * draws.uniform(f"{name}.aspect{attempt}")
        )
        tall, wide = (size * ratio).sqrt().round().long(), (size / ratio).sqrt().round().long()
        fits = (tall < height) & (wide < width)
        if crop:
            tall, wide = wide, tall
            fits = (wide > 0) & (wide <= width) & (tall > 0) & (tall <= height)
        top = (draws.uniform(f"{name}.top{attempt}") * (height - tall + 1)).long()
        left = (draws.uniform(f"{name}.left{attempt}") * (width - wide + 1)).long()
        attempts.append(torch.stack([top, left, tall, wide], 1) * fits[:, None])
    return reduce(lambda boxes, later: torch.where(boxes[:, 2:3] > 0, boxes, later), attempts)


def beta_draws(concentration: float, count: int, generator: torch.Generator) -> Tensor:
    """Draw shares from Beta(concentration, concentration), float32 (count,) on the CPU.

    torch's own Beta distribution does not take a generator, so numpy draws from a seed that the generator gives.
    """
    numbers = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
    return torch.from_numpy(numbers.beta(concentration, concentration, count)).float()


def crop(images: Tensor, boxes: Tensor) -> Tensor:
    """Enlarge a box of each image to the image's own size by bicubic interpolation.

    At the edge of a box the interpolation uses the pixels beyond it.

    Args:
        images: (B, 3, height, width), uint8 or float in 0..1.
        boxes: Top, left, height and width, int64 (B, 4).

    Returns:
        float32 in 0..1, of the same shape.
    """
    images = images.float() / 255.0 if images.dtype == torch.uint8 else images
    height, width = images.shape[-2:]
    box = boxes.to(images)
    # Centres of the result's pixels in coordinates of the image, in which -1 is its first edge and 1 its last.
    row = (torch.arange(height, device=images.device) + 0.5) / height
    column = (torch.arange(width, device=images.device) + 0.5) / width
    y = 2.0 * (box[:, 0, None] + row * box[:, 2, None]) / height - 1.0
    x = 2.0 * (box[:, 1, None] + column * box[:, 3, None]) / width - 1.0
    grid = torch.stack([x[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], 3)
    cut = functional.grid_sample(images, grid, "bicubic", padding_mode="border", align_corners=False)
    return cut.clamp(0.0, 1.0)


def random_crop(images: Tensor, draws: SampleDraws, area: tuple[float, float] = (0.5, 1.0)) -> Tensor:
    """Enlarge a random box of each image to the image's own size.

    Args:
        images: (B, 3, height, width), uint8 or float in 0..1.
        draws: The images' random numbers.
        area: Range of the box's area, as a share of the image's.

    Returns:
        float32 in 0..1, of the same shape.
    """
    return crop(images, random_crop_boxes(images.shape, draws, area))
