"""Test images with one factor changed: a corruption of any image, or a rendered image at another parameter value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fergen_bench.data.corruption import FACTORS, corrupted_images
from fergen_bench.error import BenchError
from fergen_bench.synth.render import render
from fergen_bench.synth.scene import Scene
from fergen_bench.synth.worlds import compose

if TYPE_CHECKING:
    from fergen_bench.data.domain import Split

_STYLE = {"pose": "yaw", "light": "light_azimuth"}
"""Factors that have another name in the renderer."""


def images_at(split: Split, positions: np.ndarray, factor: str, level: float) -> Tensor:
    """Return images of a split with a factor at a level, uint8 (n, 3, height, width) on the CPU.

    Args:
        split: Images of one domain.
        positions: Positions in the split, int64 (n,).
        factor: A name in FACTORS, or CLEAN.
        level: A severity from 1 to 5, or a value of the renderer's parameter.

    Raises:
        BenchError: The factor is a parameter of the renderer, and the images were not rendered.
    """
    if factor in FACTORS and FACTORS[factor].rendered:
        (piece,) = split.pieces
        return _rendered(piece.domain.name, piece.part, split.ids[positions], factor, level, split.size[0])
    return corrupted_images(split, positions, factor, level)


def _rendered(domain: str, part: str, ids: np.ndarray, factor: str, level: float, size: int) -> Tensor:
    """Render images again with a factor at a level.

    The level of an occluder is its size. Its position is the random one that the image's scene has with an occluder.
    """
    try:
        index = np.array([int(name.removeprefix(f"{part}-")) for name in ids])
    except ValueError:
        raise BenchError(
            f"{domain}: its images are not those of synth5, so they cannot be rendered with {factor}"
        ) from None
    overrides = {"occluder": float(level > 0)} if factor == "occluder" else {_STYLE.get(factor, factor): level}
    scene = compose(domain, part, index, overrides)
    if factor == "occluder" and level > 0:
        sizes = {name: np.full(len(index), float(level)) for name in ("occluder_width", "occluder_height")}
        scene = Scene({**scene.columns, **sizes}, scene.draws)
    return torch.from_numpy(render(scene, size)).permute(0, 3, 1, 2).contiguous()
