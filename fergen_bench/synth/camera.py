"""Turn a painted scene into a stored image: exposure, lens, sensor, tone, sharpening, noise, compression."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

from fergen_bench.data.elementary import cos, exp, log
from fergen_bench.synth import textures
from fergen_bench.synth.canvas import interpolate, with_slopes
from fergen_bench.synth.geometry import Fields
from fergen_bench.synth.scene import Scene

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in grey (ITU-R BT.601)."""

_GRID = 2.0**24
_BAND = 16
"""Number of rows of a blurring matrix that are multiplied together."""
_DARKEST, _BRIGHTEST = 1e-4, 1.6
_TONES = 1024
"""Entries of the table of a camera's tones. They are equally far apart in the square root of the light; errors between
them are below a thousandth of a grey level."""


def exact_product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return a matrix product that does not depend on the order of its sums, nor on the library that computes it.

    Args:
        left: Multiples of 2**-24, float64 (…, n, k).
        right: Multiples of 2**-24, float64 (…, k, m). The sum of the products of absolute values is less than 32.

    Returns:
        The product, rounded to multiples of 2**-24.
    """
    # Products are multiples of 2**-48 and sums stay below 2**5, so that all of them fit the 53 bits of float64.
    return _on_grid(left @ right)


def _on_grid(values: np.ndarray) -> np.ndarray:
    """Round float64 values to multiples of 2**-24, in place."""
    values *= _GRID
    np.rint(values, out=values)
    values *= 1 / _GRID
    return values


def expose(painting: np.ndarray, scene: Scene) -> np.ndarray:
    """Return the stored images of painted scenes.

    Args:
        painting: Painted scenes, float32 (B, 3, S, S). They are overwritten.
        scene: The scenes, which decide the camera's properties.

    Returns:
        Images, uint8 (B, S, S, 3).
    """
    shot = Fields(scene)
    image = _through_the_lens(_light_on_sensor(painting, scene, shot), shot)
    image = interpolate(_tones(shot), _table_position(image))
    _make_grey(image, shot)
    _sharpen(image, shot)
    _add_noise(image, scene, shot)
    image.clip(0.0, 1.0, out=image)
    _compress(image, shot)
    image *= 255.0
    return np.rint(image, out=image).astype(np.uint8).transpose(0, 2, 3, 1)


def _light_on_sensor(image: np.ndarray, scene: Scene, shot: Fields) -> np.ndarray:
    """Apply white balance, exposure, vignette and grain in place."""
    size = image.shape[-1]
    image *= shot.colour("white") * shot.exposure[:, None]
    if shot.vignette.any():
        axis = (np.arange(size) * (2.0 / (size - 1)) - 1).astype(np.float32) ** 2
        image *= (1 - (axis + axis[:, None]) * (0.5 * shot.vignette))[:, None]
    if shot.grain.any():
        image += (textures.cut("fine", scene.draws, "camera.grain", size) * shot.grain)[:, None]
    return image.clip(0.0, _BRIGHTEST, out=image)


def _through_the_lens(image: np.ndarray, shot: Fields) -> np.ndarray:
    """Blur the image and sample it at the camera's resolution: one matrix for each axis."""
    size = image.shape[-1]
    exact = _on_grid(image.astype(np.float64))
    exact = _along_columns(_optics(size, shot.blur_y, shot.resolution), exact).swapaxes(2, 3)
    exact = _along_columns(_optics(size, shot.blur_x, shot.resolution), exact).swapaxes(2, 3)
    return exact.astype(np.float32, order="C")


def _along_columns(matrices: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Multiply the columns of images (B, 3, S, S) by one matrix per image (B, S, S), as `exact_product` does.

    The products of a few rows at a time leave out the zeros beside the band of the matrices. They are also so small
    that BLAS computes them on one thread.
    """
    product = np.empty_like(images)
    used = (matrices > 0).max(0)  # by any image
    for first in range(0, len(used), _BAND):
        rows = slice(first, first + _BAND)
        inside = np.flatnonzero(used[rows].max(0))
        band = slice(inside[0], inside[-1] + 1)
        product[:, :, rows] = matrices[:, None, rows, band] @ images[:, :, band]
    return _on_grid(product)


def _optics(size: int, blur: np.ndarray, resolution: np.ndarray) -> np.ndarray:
    """Return one matrix per image (B, size, size) for one axis: blur, sampling at `resolution`, linear interpolation.

    The kernel is a polynomial close to a Gaussian. Its values are multiples of 2**-24.

    Args:
        size: Side of the images in pixels.
        blur: Standard deviation in pixels of a 64-pixel frame, (B, 1, 1).
        resolution: Share of the pixels per side that the camera has, (B, 1, 1).
    """
    pixel = np.arange(size, dtype=np.float64)
    step = 1.0 / resolution.astype(np.float64)
    sampling = 0.45 * (step - 1).clip(0.0, None)
    reach = math.sqrt(8.0) * np.sqrt((blur * size / 64.0) ** 2 + sampling**2 + 0.30**2)
    position = (pixel[:, None] + 0.5) / step - 0.5
    before = np.floor(position)

    def kernel(sample: np.ndarray) -> np.ndarray:
        centre = ((sample + 0.5) * step - 0.5).clip(0, size - 1)
        weight = (1 - ((centre - pixel) / reach) ** 2).clip(0.0, None)
        weight *= weight
        weight = _on_grid(weight * weight)  # so that their sum is exact
        return weight / weight.sum(2, keepdims=True)

    first = kernel(before)
    if (resolution == 1).all():
        return _on_grid(first)  # every position is a sample
    return _on_grid(first + (position - before) * (kernel(before + 1) - first))


def _tones(shot: Fields) -> tuple[np.ndarray, np.ndarray]:
    """Return a table per image of what its camera makes of light: gamma, contrast and lift."""
    gamma, contrast, lift = (getattr(shot, name)[:, 0].astype(np.float64) for name in ("gamma", "contrast", "lift"))
    return with_slopes((exp(gamma * _log_of_light()) - 0.5) * contrast + 0.5 + lift)


@cache
def _log_of_light() -> np.ndarray:
    first, last = math.sqrt(_DARKEST), math.sqrt(_BRIGHTEST)
    return 2 * log(first + np.arange(_TONES) * ((last - first) / (_TONES - 1)))


def _table_position(light: np.ndarray) -> np.ndarray:
    """Return the positions of light in the table of tones, in place."""
    first, last = math.sqrt(_DARKEST), math.sqrt(_BRIGHTEST)
    light.clip(_DARKEST, _BRIGHTEST, out=light)
    np.sqrt(light, out=light)
    light -= first
    light *= (_TONES - 1) / (last - first)
    return light.clip(0.0, _TONES - 1, out=light)


def _make_grey(image: np.ndarray, shot: Fields) -> None:
    grey = np.flatnonzero(shot.grey)
    if not len(grey):
        return
    some = image[grey]
    luma = some[:, 0] * LUMA[0] + some[:, 1] * LUMA[1] + some[:, 2] * LUMA[2]
    some += (luma[:, None] - some) * shot.grey[grey][:, None]
    image[grey] = some


def _sharpen(image: np.ndarray, shot: Fields) -> None:
    """Add what a mean over 3 x 3 pixels takes away."""
    sharp = np.flatnonzero(shot.sharpen)
    if not len(sharp):
        return
    some = image[sharp]
    wide = np.pad(some, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    down = wide[:, :, :-2] + wide[:, :, 1:-1] + wide[:, :, 2:]
    mean = (down[..., :-2] + down[..., 1:-1] + down[..., 2:]) * (1 / 9)
    image[sharp] = some + (some - mean) * shot.sharpen[sharp][:, None]


def _add_noise(image: np.ndarray, scene: Scene, shot: Fields) -> None:
    if not shot.noise.any():
        return
    size = image.shape[-1]
    noise = np.stack([textures.cut("fine", scene.draws, f"camera.noise_{letter}", size) for letter in "rgb"], 1)
    equal = np.maximum(shot.grey, shot.grey_noise)  # 1 where the three channels have the same noise
    alike = np.flatnonzero(equal)
    some = noise[alike]
    noise[alike] = some + (some[:, :1] - some) * equal[alike][:, None]
    noise *= shot.noise[:, None]
    image += noise


@cache
def _cosines() -> np.ndarray:
    """Return the 8-point DCT-II matrix (orthonormal), in multiples of 2**-24."""
    row, column = np.arange(8.0)[:, None], np.arange(8.0)[None]
    matrix = cos(math.pi * (column + 0.5) * row / 8) * math.sqrt(2 / 8)
    matrix[0] /= math.sqrt(2)
    return _on_grid(matrix)


def _compress(image: np.ndarray, shot: Fields) -> None:
    """Quantise 8 x 8 blocks in the cosine domain, more coarsely at high frequencies, as JPEG does."""
    compressed = np.flatnonzero(shot.jpeg)
    if not len(compressed):
        return
    size, dct = image.shape[-1], _cosines()
    step = shot.jpeg[compressed].astype(np.float64).clip(1e-4, None)[..., None]
    frequency = np.arange(8.0)
    table = (1 + 0.55 * (frequency[:, None, None] + frequency)) * step[:, None]  # (n, 1, 8, 1, 8)
    pixels = _on_grid(image[compressed].astype(np.float64))

    def transform(values: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """Transform the blocks along both axes."""
        values = exact_product(matrix, values.reshape(-1, 8, size))
        return exact_product(values.reshape(-1, size, 8), matrix.T)

    coefficients = transform(pixels, dct).reshape(len(compressed), -1, 8, size // 8, 8)
    coefficients /= table
    np.rint(coefficients, out=coefficients)
    coefficients *= table
    restored = transform(_on_grid(coefficients), dct.T).reshape(-1, 3, size, size)
    image[compressed] = restored.clip(0.0, 1.0)
