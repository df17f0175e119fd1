"""Compare the preparation of a dataset with plain loops over PIL and cv2, in images per second and core.

    python benchmarks/prepare.py [--repeats 5]

All three write (N, side, side, 3) uint8 into a file. They alternate on the same generated files. Processor time counts,
that of workers included: on a busy machine the ratios are more reliable. cv2 is not a dependency of fergen-bench: pip
install opencv-python-headless. Its resizer gives other pixels, so its column shows the gain of another decoder, not a
replacement.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from fergen_bench.datasets.prepare import prepare
from fergen_bench.datasets.reader import Face, Listing
from fergen_bench.datasets.settings import DomainSettings

CASES = (
    ("350 px JPEG → 224", 350, "jpg", 224, 200),
    ("100 px JPEG at its size", 100, "jpg", 100, 800),
    ("48 px grey PNG at its size", 48, "png", 48, 1200),
)
"""what, side of the files, their ending, side of the faces, files"""


def generate(folder: Path, side: int, ending: str, count: int) -> list[Path]:
    """Smooth noise with a little grain: files of the size that photographs have."""
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).resize((side, side), 3)
        grain = random.integers(-6, 7, (side, side, 1))
        image = Image.fromarray((np.asarray(coarse).astype(int) + grain).clip(0, 255).astype(np.uint8))
        paths.append(folder / f"{number:05d}.{ending}")
        (image.convert("L") if ending == "png" else image).save(paths[-1])
    return paths


def ours(paths: list[Path], size: int, folder: Path) -> None:
    faces = [Face(path.name, "train", "neutral", "0", file=path) for path in paths]
    settings = DomainSettings(path=folder, size=size)
    prepare("benchmark", Listing(faces=faces), {}, settings, folder / f"ours{time.time_ns()}", 1, lambda *_: None)


def plain_pil(paths: list[Path], size: int, folder: Path) -> None:
    faces = np.lib.format.open_memmap(folder / "pil.npy", "w+", np.uint8, (len(paths), size, size, 3))
    for row, path in enumerate(paths):
        faces[row] = np.asarray(Image.open(path).convert("RGB").resize((size, size), Image.Resampling.BICUBIC))
    faces.flush()


def plain_cv2(paths: list[Path], size: int, folder: Path) -> None:
    import cv2

    cv2.setNumThreads(1)
    faces = np.lib.format.open_memmap(folder / "cv2.npy", "w+", np.uint8, (len(paths), size, size, 3))
    for row, path in enumerate(paths):
        image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        faces[row] = cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
    faces.flush()


def cpu_seconds() -> float:
    """User and system time of this process and of the workers that have ended."""
    return sum(os.times()[:4])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    runs: dict[str, Callable[[list[Path], int, Path], None]] = {"prepare": ours, "PIL loop": plain_pil}
    try:
        import cv2  # noqa: F401

        runs["cv2 loop"] = plain_cv2
    except ImportError:
        print("without cv2: pip install opencv-python-headless to compare with it")
    print(
        f"images per second of a core's time, median of {repeats} (least to most); ratio to the PIL loop of its round"
    )
    starts = []
    for name, side, ending, size, count in CASES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            paths = generate(folder, side, ending, count)
            kilobytes = statistics.mean(path.stat().st_size for path in paths) / 1000
            rates: dict[str, list[float]] = {label: [] for label in runs}
            for _ in range(repeats):
                before = cpu_seconds()
                ours(paths[:1], size, folder)
                starts.append(cpu_seconds() - before)
                for label, run in runs.items():
                    before = cpu_seconds()
                    run(paths, size, folder)
                    spent = cpu_seconds() - before - (starts[-1] if run is ours else 0)
                    rates[label].append(count / spent)
        print(f"\n{name} (about {kilobytes:.0f} kB each, {count} files)", flush=True)
        for label, values in rates.items():
            ratio = statistics.median(a / b for a, b in zip(values, rates["PIL loop"], strict=True))
            print(
                f"  {label:10} {statistics.median(values):6.0f} ({min(values):.0f} to {max(values):.0f})  × {ratio:.2f}"
            )
    print(f"\nprepare takes {statistics.median(starts):.2f} s more to start and to load a worker, whatever the count")


if __name__ == "__main__":
    main()
