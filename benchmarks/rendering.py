"""Compare the renderer of synth5 with that of another checkout: faces per second, and pixels that differ.

    git worktree add --detach /tmp/version-1 69a3568        # the last commit with version 1
    python benchmarks/rendering.py --old /tmp/version-1 [--sizes 64 112 224] [--faces 160] [--rounds 5]

Both render the same faces of all five domains in turns, each in a process of its own on one thread. Times are processor
seconds, which other work on the machine disturbs less than wall time, and include scenes and tables of labels. The
ratio is that of one round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import numpy as np

from fergen_bench.synth import DOMAINS

ROOT = Path(__file__).parents[1]
RENDERING = """
import sys, time
import numpy as np
from fergen_bench.synth.prepare import Block, _render

for line in sys.stdin:
    domain, size, count, path = line.split()
    began = time.process_time()
    images, _ = _render(Block(domain, "train", 0, int(count), int(size)))
    seconds = time.process_time() - began
    np.save(path, images)
    print(seconds, flush=True)
"""
"""Version 1 has the same function."""


class Renderer:
    """A process that renders with the code of a checkout."""

    def __init__(self, checkout: Path, folder: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        python = [sys.executable, "-c", RENDERING]
        self._process = subprocess.Popen(
            python, env=environment, cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._path = folder / "faces.npy"

    def __call__(self, domain: str, size: int, count: int) -> tuple[float, np.ndarray]:
        """Return the processor seconds that the first faces of a domain take, and the faces."""
        print(domain, size, count, self._path, file=_open(self._process.stdin), flush=True)
        line = _open(self._process.stdout).readline()
        if not line:
            sys.exit("a renderer ended early")
        return float(line), np.load(self._path)


def _open(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def main() -> None:
    """Print speeds and differences for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", type=Path, required=True, help="a checkout of this repository")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 112, 224])
    parser.add_argument("--faces", type=int, default=160, help="faces of each domain at 64 pixels, fewer at others")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not (options.old / "fergen_bench" / "synth").is_dir():
        sys.exit(f"--old: {options.old} is not a checkout of fergen-bench")
    with tempfile.TemporaryDirectory() as folder:
        renderers = [Renderer(checkout.resolve(), Path(folder)) for checkout in (options.old, ROOT)]
        for size in options.sizes:
            count = max(16, options.faces * 64**2 // size**2)
            for renderer in renderers:
                renderer("web", size, 16)  # banks of noise, tables, memory
            compare(renderers, size, count, options.rounds)


def compare(renderers: list[Renderer], size: int, count: int, rounds: int) -> None:
    """Print faces per second of both renderers, and the differences between their faces."""
    speeds: list[tuple[float, float]] = []
    for _ in range(rounds):
        seconds = [0.0, 0.0]
        faces: list[list[np.ndarray]] = [[], []]
        for domain in DOMAINS:
            for side, renderer in enumerate(renderers):
                taken, images = renderer(domain, size, count)
                seconds[side] += taken
                faces[side].append(images)
        old, new = (len(DOMAINS) * count / taken for taken in seconds)
        speeds.append((old, new))
    ratios = sorted(new / old for old, new in speeds)
    old, new = (statistics.median(side) for side in zip(*speeds, strict=True))
    print(
        f"{size} px: {old:.0f} faces a processor second before, {new:.0f} now, "
        f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    )
    before, after = (np.concatenate(side).astype(np.int16) for side in faces)
    differences = np.abs(before - after)
    most = differences.reshape(len(differences), -1).max(1)
    print(
        f"   values: {(differences > 0).mean():.1e} differ, {(differences > 1).mean():.1e} by more than one level, "
        f"at most by {differences.max()}\n   {len(most):,} faces: {(most == 0).mean():.1%} are equal, "
        f"{(most > 1).mean():.1%} differ by more than one level somewhere"
    )


if __name__ == "__main__":
    main()
