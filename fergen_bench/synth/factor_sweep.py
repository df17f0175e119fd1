"""Test images with one factor moved: a corruption of any image, or a rendered image drawn again at another value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fergen_bench.data.corruption import FACTORS, corrupted_images
from fergen_bench.error import BenchError
from fergen_bench.synth.render import render
from fergen_bench.synth.scene import Scene
from fergen_bench.synth.worlds import compose

if TYPE_CHECKING:
    from torch import Tensor

    from fergen_bench.data.domain import Split

_STYLE = {"pose": "yaw", "light": "light_azimuth"}
"""Factors that the renderer calls otherwise."""


def images_at(split: Split, positions: np.ndarray, factor: str, level: float) -> Tensor:
    """Return images of a split of one domain with a factor at a level: uint8 (n, 3, height, width) on the CPU.

    Args:
        split: The images of one domain.
        positions: Which of them, int64 (n,).
        factor: A name among FACTORS, or CLEAN.
        level: A severity from 1 to 5, or a value of the renderer's parameter.

    Raises:
        BenchError: The factor is one of the renderer's, and the images were not rendered.
    """
    if factor in FACTORS and FACTORS[factor].rendered:
        (piece,) = split.pieces
        return _rendered(piece.domain.name, piece.part, split.ids[positions], factor, level, split.size[0])
    return corrupted_images(split, positions, factor, level)


def _rendered(domain: str, part: str, ids: np.ndarray, factor: str, level: float, size: int) -> Tensor:
    """The same faces, drawn again. An occluder is of the level's size, wherever it would be had the face one."""
    try:
        index = np.array([int(face.removeprefix(f"{part}-")) for face in ids])
    except ValueError:
        raise BenchError(f"{domain}: its faces are not those of synth5, so none can be drawn with {factor}") from None
    overrides = {"occluder": float(level > 0)} if factor == "occluder" else {_STYLE.get(factor, factor): level}
    scene = compose(domain, part, index, overrides)
    if factor == "occluder" and level > 0:
        sizes = {name: np.full(len(index), float(level)) for name in ("occluder_width", "occluder_height")}
        scene = Scene({**scene.columns, **sizes}, scene.draws)
    return render(scene, size)
