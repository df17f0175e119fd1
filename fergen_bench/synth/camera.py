"""Turn a painted scene into a stored image: exposure, lens, sensor, tone, sharpening, noise, compression."""

from __future__ import annotations

import math
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench.synth import textures
from fergen_bench.synth.scene import Scene

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""


def expose(painting: Tensor, scene: Scene) -> Tensor:
    """Return the stored images of painted scenes.

    Args:
        painting: Painted scenes, float (B, 3, S, S).
        scene: The scenes, which decide the camera's properties.

    Returns:
        Images, uint8 (B, 3, S, S).
    """
    size = painting.shape[-1]
    factor = {
        name: torch.as_tensor(column, dtype=torch.float32)[:, None, None, None]
        for name, column in scene.columns.items()
    }
    white = torch.cat([factor[f"white_{letter}"] for letter in "rgb"], 1)
    image = painting * (white * factor["exposure"])
    if (factor["vignette"] > 0).any():
        axis = torch.linspace(-1, 1, size)
        image = image * (1 - factor["vignette"] * (axis[None] ** 2 + axis[:, None] ** 2) * 0.5)
    if (factor["grain"] > 0).any():
        image = image + factor["grain"] * textures.cut("fine", scene.draws, "camera.grain", size)[:, None]
    image = image.clamp_(0.0, 1.6)

    rows = _optics(size, factor["blur_y"].flatten(), factor["resolution"].flatten())
    columns = _optics(size, factor["blur_x"].flatten(), factor["resolution"].flatten())
    image = rows[:, None] @ image @ columns.transpose(1, 2)[:, None]

    image = image.clamp_(1e-4, 1.6).pow(factor["gamma"])
    image = (image - 0.5) * factor["contrast"] + 0.5 + factor["lift"]
    grey = (image * torch.tensor(LUMA)[None, :, None, None]).sum(1, keepdim=True)
    image = torch.lerp(image, grey.expand_as(image), factor["grey"])
    if (factor["sharpen"] != 0).any():
        smooth = functional.avg_pool2d(functional.pad(image, (1, 1, 1, 1), mode="replicate"), 3, 1)
        image = image + factor["sharpen"] * (image - smooth)
    if (factor["noise"] > 0).any():
        noise = torch.stack([textures.cut("fine", scene.draws, f"camera.noise_{letter}", size) for letter in "rgb"], 1)
        noise = torch.lerp(noise, noise[:, :1].expand_as(noise), torch.maximum(factor["grey"], factor["grey_noise"]))
        image = image + factor["noise"] * noise
    image = image.clamp_(0.0, 1.0)
    if (factor["jpeg"] > 0).any():
        image = _compress(image, factor["jpeg"])
    return (image.clamp_(0.0, 1.0) * 255.0).round_().to(torch.uint8)


def _optics(size: int, blur: Tensor, resolution: Tensor) -> Tensor:
    """Return one matrix per image (B, size, size) for one axis: blur, sampling at `resolution`, linear interpolation.

    The kernel is a polynomial close to a Gaussian, which avoids the exponential.

    Args:
        size: Side of the images in pixels.
        blur: Standard deviation in pixels of a 64-pixel frame, (B,).
        resolution: Share of the pixels per side that the camera has, (B,).
    """
    pixel = torch.arange(size, dtype=torch.float32)
    step = 1.0 / resolution
    sampling = 0.45 * (step - 1).clamp_min(0.0)
    deviation = torch.sqrt((blur * size / 64.0) ** 2 + sampling**2 + 0.30**2)
    reach = (math.sqrt(8.0) * deviation)[:, None, None]
    position = (pixel[None] + 0.5) / step[:, None] - 0.5
    before = position.floor()
    share = (position - before)[:, :, None]

    def kernel(sample: Tensor) -> Tensor:
        centre = ((sample + 0.5) * step[:, None] - 0.5).clamp(0, size - 1)
        weight = (1 - ((centre[:, :, None] - pixel) / reach) ** 2).clamp_min_(0.0) ** 4
        return weight / weight.sum(2, keepdim=True)

    return torch.lerp(kernel(before), kernel(before + 1), share)


@cache
def _cosines() -> Tensor:
    """Return the 8-point DCT-II matrix (orthonormal)."""
    row, column = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    matrix = torch.cos(math.pi * (column + 0.5) * row / 8) * math.sqrt(2 / 8)
    matrix[0] /= math.sqrt(2)
    return matrix


def _compress(image: Tensor, step: Tensor) -> Tensor:
    """Quantise 8 x 8 blocks in the cosine domain, more coarsely at high frequencies, as JPEG does."""
    dct = _cosines()
    blocks = image.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    frequency = torch.arange(8.0)[:, None] + torch.arange(8.0)[None]
    table = (1 + 0.55 * frequency) * step[..., None, None].clamp_min(1e-4)
    coefficients = dct @ blocks @ dct.T
    quantised = dct.T @ ((coefficients / table).round_() * table) @ dct
    # An image without compression must stay unrounded when others in its batch are compressed.
    blocks = torch.where(step[..., None, None] > 0, quantised, blocks)
    return blocks.transpose(3, 4).flatten(4).flatten(2, 3)
