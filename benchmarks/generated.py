"""Domains of generated faces for the other scripts: as many and as large as asked for, in a moment."""

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
    """Smooth coloured pictures, about as hard for JPEG as faces are: uint8 (count, size, size, 3)."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    drawn = [np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)) for picture in coarse]
    grain = random.normal(0.0, 4.0, (min(count, 64), size, size, 3))
    return np.stack([(face + grain[i % len(grain)]).clip(0, 255).astype(np.uint8) for i, face in enumerate(drawn)])


def generated_domain(folder: Path, name: str, size: int, train: int, test: int = 0, drawn: int = DRAWN) -> Domain:
    """A prepared domain. Its first `drawn` faces are drawn; the others are black, and on most file systems take no
    room: reading them costs what reading others from the page cache costs.
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
        "id": [f"{place:07}" for place in range(count)],
        "expression": [EXPRESSIONS[place % len(EXPRESSIONS)] for place in range(count)],
        "split": ["train"] * train + ["test"] * test,
    }
    return Domain(finish_prepared(draft, folder / name, name, columns, {"dataset": "generated"}))


def as_jpegs(domain: Domain, folder: Path, count: int) -> list[tuple[Path, int]]:
    """The first faces of a domain as files, with their labels."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for place in range(min(count, len(domain.labels))):
        path = folder / f"{place:06}.jpg"
        if not path.exists():
            Image.fromarray(domain.faces[place]).save(path, quality=92)
        files.append((path, int(domain.labels[place])))
    return files
