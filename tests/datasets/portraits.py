"""Images with the lights and colours of a face, for the tests of pixels."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import dataset
from fergen_bench.datasets.check import check_copy, check_prepared
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.datasets.statistics import oddities

SIDE = 48


def portrait(seed: int, size: tuple[int, int] = (SIDE, SIDE)) -> np.ndarray:
    """Something with the lights and colours of a face: skin, darker eyes, noise. uint8 (height, width, 3)."""
    random = np.random.default_rng(seed)
    width, height = size
    levels = np.full((height, width), random.uniform(120, 190))
    levels[int(height * 0.3) : int(height * 0.4)] -= 60
    levels += random.normal(0, 12, (height, width))
    return np.clip(levels[..., None] + (25, 0, -25), 0, 255).astype(np.uint8)


def save8(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels).save(path)


def folder(
    root: Path,
    save: Callable[[Path, np.ndarray], None] = save8,
    change: Callable[[int, np.ndarray], np.ndarray] = lambda number, pixels: pixels,
    ending: str = "png",
    count: int = 4,
    size: tuple[int, int] = (SIDE, SIDE),
) -> Path:
    """Class folders of portraits, in two splits."""
    number = 0
    for part in ("train", "test"):
        for name in EXPRESSIONS:
            (root / part / name).mkdir(parents=True, exist_ok=True)
            for at in range(count):
                save(root / part / name / f"{name}_{at}.{ending}", change(number, portrait(number, size)))
                number += 1
    return root


def prepared(root: Path, target: Path, **settings: object) -> Domain:
    chosen = DomainSettings(path=root, dataset="folder", **settings)  # type: ignore[arg-type]
    prepare_dataset("lab", dataset("folder", "test"), chosen, target, 1, lambda done, total: None)
    return Domain(target)


def without_levels(what: str) -> str:
    """A copy is checked at another size than it is prepared in, so levels differ by a few per cent."""
    return re.sub(r"(by|is|expressions|brightest) [\d.]+", r"\1 …", what)


def warned(root: Path, target: Path, **settings: object) -> list[str]:
    """Return the warnings of preparing a folder, which checks of it and of the prepared domain repeat."""
    kind, chosen = dataset("folder", "test"), DomainSettings(path=root, **settings)  # type: ignore[arg-type]
    said = oddities(prepared(root, target, **settings).about["pixels"])
    for check in (
        check_copy("lab", kind, chosen, 1, lambda done, total: None),
        check_prepared("lab", kind, target, lambda done, total: None),
    ):
        found = [finding.what for finding in check.findings if finding.level == "warning"]
        found = [what for what in found if "split" not in what]
        assert [without_levels(what) for what in found] == [without_levels(what) for what in said]
    return said
