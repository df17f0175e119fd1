"""Generate domains of any size within seconds, for the other scripts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import finish_prepared

DRAWN = 2048


def blobs(count: int, size: int, seed: int = 0) -> np.ndarray:
    """Return smooth coloured images, about as hard for JPEG as faces: uint8 (count, size, size, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    drawn = [np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)) for picture in coarse]
    grain = random.normal(0.0, 4.0, (min(count, 64), size, size, 3))
    return np.stack([(face + grain[i % len(grain)]).clip(0, 255).astype(np.uint8) for i, face in enumerate(drawn)])


def generated_domain(folder: Path, name: str, size: int, train: int, test: int = 0, drawn: int = DRAWN) -> Domain:
    """Return a prepared domain whose first `drawn` images are generated; the others are black.

    On most file systems the black images need no space. Reading them costs as much as reading others from the page
    cache.
    """
    if (folder / name / "domain.json").is_file():
        return Domain(folder / name)
    folder.mkdir(parents=True, exist_ok=True)
    count = train + test
    draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    faces = np.lib.format.open_memmap(draft / "faces.npy", "w+", np.uint8, (count, size, size, 3))
    faces[: min(drawn, count)] = blobs(min(drawn, count), size)
    faces.flush()
    del faces
    columns = {
        "id": [f"{row:07}" for row in range(count)],
        "expression": [EXPRESSIONS[row % len(EXPRESSIONS)] for row in range(count)],
        "split": ["train"] * train + ["test"] * test,
    }
    return Domain(finish_prepared(draft, folder / name, name, columns, {"dataset": "generated"}))


def as_jpegs(domain: Domain, folder: Path, count: int) -> list[tuple[Path, int]]:
    """Write the first images of a domain as JPEG files, and return paths and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for row in range(min(count, len(domain.labels))):
        path = folder / f"{row:06}.jpg"
        if not path.exists():
            Image.fromarray(domain.faces[row]).save(path, quality=92)
        files.append((path, int(domain.labels[row])))
    return files
