"""Measure the time and memory of the audit, and the share of planted near-duplicates that it finds.

    python benchmarks/audit.py [--faces 10000 50000 100000] [--processes 2] [--domain FOLDER …] [--crops 300]

It generates two prepared domains with images of 48 pixels. Each image is a mixture of two images of the embedded suite
(or of the named prepared domains), cropped, lit from a side and with noise. A few are mixtures of the same two and
count as other pairs. One in a hundred has a copy: unchanged, as a JPEG of quality 60, a sixth darker, or mirrored.

With --crops it measures instead the share of images that are found in another crop, over so many images of each domain.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path

import numpy as np
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import write_prepared
from fergen_bench.datasets.audit import Audit, audit_domains
from fergen_bench.datasets.comparisons import Comparisons
from fergen_bench.experiment.project import Project
from fergen_bench.synth import DOMAINS

SIZE, BLOCK, EVERY = 48, 500, 100
SHARES = (0.98, 0.95, 0.92, 0.85)
"""Shares of the side of an image that crops have."""
KINDS = ("equal", "jpeg", "darker", "mirrored")


def main() -> None:
    """Measure audits of several sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, nargs="+", default=[10_000, 50_000, 100_000])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--domain", type=Path, nargs="+", help="prepared domains whose images are mixed")
    parser.add_argument("--crops", type=int, help="images of each domain that are cropped")
    choices = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fergen-bench-audit-") as name:
        folders = choices.domain
        if folders is None:
            project = Project(Path(name), configured=False)
            folders = list(project.prepared(project.suite("synth5-tiny"), DOMAINS).values())
        if choices.crops is not None:
            measure_crops([Domain(folder) for folder in folders], choices.crops, choices.processes, Path(name))
            return
        seeds = np.concatenate([_small(Domain(folder)) for folder in folders])
        print(f"made of {len(seeds):,} faces", flush=True)
        for count in choices.faces:
            measure(seeds, count, choices.processes, Path(name))


def measure(seeds: np.ndarray, count: int, processes: int, folder: Path) -> None:
    """Print one line: time, rate, memory, and the share of planted near-duplicates found, by kind."""
    originals = count * EVERY // (EVERY + 1)
    copies = count - originals
    faces = np.concatenate([*_different(seeds, originals)])
    copied = np.random.default_rng(1).permutation(originals)[:copies]
    kinds = [KINDS[index % len(KINDS)] for index in range(copies)]
    doubles = np.stack([_copy(faces[row], kind) for row, kind in zip(copied, kinds, strict=True)])
    one, two = _domain(folder / "one", "train", faces), _domain(folder / "two", "test", doubles)

    with ProcessPoolExecutor(
        1, mp_context=get_context("spawn")
    ) as fresh:  # so that the memory of this process is not counted
        audit, took, reading, memory = fresh.submit(audited, one, two, folder / f"audit-{count}", processes).result()
    found = {(row.id_a, row.id_b) for row in audit.pairs}
    planted = {(str(row), str(index)): kind for index, (row, kind) in enumerate(zip(copied, kinds, strict=True))}
    hits = Counter(kind for pair, kind in planted.items() if pair in found)
    print(
        f"{count:,} faces: {took:.1f} s, {count / took:,.0f} faces/s (reading {reading:.1f} s, the rest "
        f"{took - reading:.1f} s); peak memory {memory} MB, all processes together; "
        f"found {sum(hits.values()):,} of {copies:,} planted near-duplicates ("
        + ", ".join(f"{kind} {hits[kind]} of {kinds.count(kind)}" for kind in KINDS)
        + f"), and {len(found - set(planted)):,} other pairs",
        *audit.notes,
        sep="\n  ",
        flush=True,
    )


def measure_crops(domains: Sequence[Domain], most: int, processes: int, folder: Path) -> None:
    """Print the share of images that are found in crops with a share of the side, centred and off-centre."""
    cases = [(share, moved) for share in SHARES for moved in (False, True)]
    found: Counter[tuple[float, bool]] = Counter()
    total = 0
    for number, domain in enumerate(domains):
        random = np.random.default_rng(number)
        rows = np.sort(random.permutation(len(domain.faces))[:most])
        faces = np.asarray(domain.faces[rows])
        one = _domain(folder / f"one-{number}", "train", faces)
        for share, moved in cases:
            cropped = np.stack([_cropped(face, share, moved, random) for face in faces])
            two = _domain(folder / f"two-{number}-{share}-{moved}", "test", cropped)
            audit = audited(one, two, folder / f"audit-{number}-{share}-{moved}", processes)[0]
            pairs = {(row.id_a, row.id_b) for row in audit.pairs if row.domain_a != row.domain_b}
            found[share, moved] += sum((str(row), str(row)) in pairs for row in range(len(faces)))
        total += len(faces)
    for share, moved in cases:
        where = "anywhere" if moved else "centred"
        hits = found[share, moved]
        print(f"{share:.0%} of the side, {where}: {hits:,} of {total:,} ({hits / total:.1%})")


def _cropped(face: np.ndarray, share: float, moved: bool, random: np.random.Generator) -> np.ndarray:
    """Return a square of an image, at the size of the image."""
    side = round(share * len(face))
    space = len(face) - side
    top, left = random.integers(0, space + 1, 2) if moved else (space // 2, space // 2)
    part = Image.fromarray(face[top : top + side, left : left + side])
    return np.asarray(part.resize((len(face), len(face)), Image.Resampling.BICUBIC))


def audited(one: Path, two: Path, folder: Path, processes: int) -> tuple[Audit, float, float, int]:
    """Return the audit, its seconds, the seconds for reading, and the peak memory in MB with all workers."""
    began: dict[str, float] = {}
    peaks: dict[int | str, int] = {}

    def progress(what: str, done: int, total: int) -> None:
        began.setdefault(what, time.perf_counter())
        for process in ("self", *(child.pid for child in active_children() if child.pid)):
            status = Path(f"/proc/{process}/status")
            line = next(
                (line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM")), None
            )
            peaks[process] = int(line.split()[1]) // 1024 if line else peaks.get(process, 0)

    start = time.perf_counter()
    domains = [Domain(one), Domain(two)]
    store = Comparisons(folder.with_name(f"{folder.name}-comparisons"))
    audit = audit_domains("benchmark", domains, folder, store, None, processes, progress)
    took = time.perf_counter() - start
    workers = sorted(peak for process, peak in peaks.items() if process != "self")[-processes:]
    return audit, took, began["comparing"] - began["reading"], peaks["self"] + sum(workers)


def _small(domain: Domain) -> np.ndarray:
    """Return the images of a domain at 64 pixels."""
    return np.stack(
        [
            np.asarray(Image.fromarray(np.asarray(face)).resize((64, 64), Image.Resampling.BICUBIC))
            for face in domain.faces
        ]
    )


def _different(seeds: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Yield blocks of different images."""
    random = np.random.default_rng(0)
    grain = random.normal(0, 3, (1 << 20) + SIZE * SIZE * 3).astype(np.float32)
    across = np.linspace(-1, 1, SIZE, dtype=np.float32)
    for start in range(0, count, BLOCK):
        number = min(BLOCK, count - start)
        first, second = random.integers(0, len(seeds), (2, number))
        share = random.uniform(0.3, 0.5, (number, 1, 1, 1)).astype(np.float32)
        mixed = seeds[first] * (1 - share) + seeds[second] * share
        left, top = random.integers(0, 64 - SIZE + 1, (2, number))
        rows, columns = np.arange(SIZE)[None, :, None], np.arange(SIZE)[None, None, :]
        cropped = mixed[np.arange(number)[:, None, None], top[:, None, None] + rows, left[:, None, None] + columns]
        slope = random.normal(0, 15, (2, number, 1, 1)).astype(np.float32)
        light = slope[0] * across[:, None] + slope[1] * across
        contrast = random.uniform(0.6, 1.2, (number, 1, 1, 1)).astype(np.float32)
        noise = np.stack([grain[at : at + SIZE * SIZE * 3] for at in random.integers(0, 1 << 20, number)])
        faces = (cropped - 128) * contrast + 128 + light[..., None] + noise.reshape(cropped.shape)
        yield faces.clip(0, 255).astype(np.uint8)


def _copy(face: np.ndarray, kind: str) -> np.ndarray:
    if kind == "jpeg":
        file = io.BytesIO()
        Image.fromarray(face).save(file, "JPEG", quality=60)
        return np.asarray(Image.open(file))
    return {"equal": face, "darker": (face * 0.83).astype(np.uint8), "mirrored": face[:, ::-1]}[kind]


def _domain(folder: Path, split: str, faces: np.ndarray) -> Path:
    columns: dict[str, Sequence[str]] = {
        "id": [str(row) for row in range(len(faces))],
        "expression": [EXPRESSIONS[row % 7] for row in range(len(faces))],
        "split": [split] * len(faces),
    }
    return write_prepared(folder, folder.name, [faces], columns, {})


if __name__ == "__main__":
    main()
