"""Reduce the images of several domains to sketches, which the search for near-duplicates compares.

A sketch has a digest of the pixels, a 64-bit perceptual hash of the image and one of its mirror image, and the image as
32 x 32 grey pixels. Blocks of images are read in several processes, so memory is bounded. The sketches of a domain are
stored under its fingerprint, so its images are read once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import SPLITS
from fergen_bench.error import BenchError
from fergen_bench.files.atomic import atomically
from fergen_bench.files.bounded import map_array, read_arrays
from fergen_bench.files.pool import worker_pool
from fergen_bench.progress import Progress
from fergen_bench.wording import many

VERSION = 1
"""Version of the sketches. Raise it when the sketch of an image changes; stored sketches are then computed again."""
SIDE = 32
GREY_FILE = "sketches"
"""File of the grey uint8 (N, 32, 32) images in the scratch folder of a search."""
MOST_STORED_BYTES = 1 << 30
"""Largest size in bytes of the arrays in a stored sketch, which take 40 bytes per image."""
BLOCK_BYTES = 8 << 20
ROWS_AT_ONCE = 4096  # bounds the memory

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ImageIndex:
    """Consecutive numbers for the images of several domains.

    Attributes:
        domains: The domains, in order.
        offsets: int64 (domains + 1,), the number of each domain's first image, and the total.
        parts: Every (domain name, split) that has images.
        part: int64 (N,), the index in `parts` of every image.
    """

    domains: tuple[Domain, ...]
    offsets: np.ndarray
    parts: tuple[tuple[str, str], ...]
    part: np.ndarray

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the domain index and the row in that domain of each image number."""
        domain = np.searchsorted(self.offsets, numbers, "right") - 1
        return domain, numbers - self.offsets[domain]


class Sketches(NamedTuple):
    """The sketches of N images; their grey pixels are in GREY_FILE."""

    digests: np.ndarray  # bytes (N,)
    hashes: np.ndarray  # uint64 (2, N), of the images and of their mirror images
    contrast: np.ndarray  # float64 (N,), standard deviation in grey levels


class _Block(NamedTuple):
    """Consecutive rows of one domain, read by one process."""

    folder: Path
    start: int
    stop: int
    number: int  # of the first row
    scratch: Path


class _Span(NamedTuple):
    """The numbers of one domain's images."""

    domain: Domain
    start: int
    stop: int


def index_images(domains: Sequence[Domain]) -> ImageIndex:
    """Number the images of domains, in the order of the domains.

    Raises:
        BenchError: A domain has another number of images than labels.
    """
    parts: list[tuple[str, str]] = []
    part: list[np.ndarray] = []
    for domain in domains:
        count = len(domain.ids)
        if len(domain.faces) != count:
            raise BenchError(
                f"{domain.folder}: faces.npy has {many(len(domain.faces), 'image')} and labels.csv has "
                f"{many(count, 'row')}. Prepare {domain.name} again"
            )
        part_of = np.full(count, -1)
        for split in SPLITS:
            rows = domain.rows(split)
            if len(rows):
                part_of[rows] = len(parts)
                parts.append((domain.name, split))
        part.append(part_of)
    offsets = np.cumsum([0, *(len(part_of) for part_of in part)])
    return ImageIndex(tuple(domains), offsets, tuple(parts), np.concatenate([np.empty(0, np.int64), *part]))


def sketch_images(index: ImageIndex, scratch: Path, processes: int, progress: Progress, store: Path | None) -> Sketches:
    """Return the sketches of all images, and write their grey pixels to GREY_FILE.

    Args:
        index: The images.
        scratch: An existing folder for GREY_FILE.
        processes: Number of worker processes.
        progress: Called with the stage, the images done and the total.
        store: Folder of stored sketches, which are read and added to; None computes all sketches and stores none.
    """
    with (scratch / GREY_FILE).open("wb") as file:
        file.truncate(len(index) * SIDE * SIDE)
    sketches = Sketches(np.empty(len(index), "S16"), np.empty((2, len(index)), np.uint64), np.empty(len(index)))
    fresh = []
    for span in map(_Span, index.domains, index.offsets[:-1].tolist(), index.offsets[1:].tolist()):
        stored = None if store is None else _read_stored(store, span.domain)
        if stored is None:
            fresh.append(span)
        else:
            _take_stored(stored, span, sketches, scratch)
    _compute(fresh, sketches, scratch, processes, progress)
    if store is not None:
        for span in fresh:
            _store(store, span, sketches, scratch)
    return sketches


def _compute(spans: list[_Span], sketches: Sketches, scratch: Path, processes: int, progress: Progress) -> None:
    """Compute the sketches of some domains in blocks."""
    blocks = []
    for domain, start, stop in spans:
        step = max(1, BLOCK_BYTES // max(1, int(np.prod(domain.faces.shape[1:]))))
        for row in range(0, stop - start, step):
            blocks.append(_Block(domain.folder, row, min(row + step, stop - start), start + row, scratch))
    done, total = 0, sum(span.stop - span.start for span in spans)
    progress("reading", done, total)
    for block, (digests, hashes, contrast) in zip(blocks, map_in_processes(_sketch, blocks, processes), strict=True):
        count = block.stop - block.start
        rows = slice(block.number, block.number + count)
        sketches.digests[rows], sketches.hashes[:, rows], sketches.contrast[rows] = digests, hashes, contrast
        done += count
        progress("reading", done, total)


# ------------------------------------------------------------------------------------------------------ stored sketches


def stored_files(store: Path, fingerprint: str) -> tuple[Path, Path]:
    """Return the paths of the two files in which the sketches of a domain are stored."""
    stem = f"{fingerprint}-v{VERSION}"
    return store / f"{stem}.npz", store / f"{stem}.npy"


def _read_stored(store: Path, domain: Domain) -> dict[str, np.ndarray] | None:
    """Return the stored sketches of a domain, or None where they are absent or damaged."""
    small, grey = stored_files(store, domain.fingerprint)
    count = len(domain.ids)
    shapes = {"digests": (count, 16), "codes": (2, count), "contrast": (count,), "grey": (count, SIDE, SIDE)}
    try:
        found = {**read_arrays(small, MOST_STORED_BYTES), "grey": map_array(grey)}
        return found if {name: array.shape for name, array in found.items()} == shapes else None
    except (OSError, ValueError):
        return None


def _take_stored(stored: dict[str, np.ndarray], span: _Span, sketches: Sketches, scratch: Path) -> None:
    with (scratch / GREY_FILE).open("r+b") as file:
        file.seek(span.start * SIDE * SIDE)
        for row in range(0, span.stop - span.start, ROWS_AT_ONCE):
            file.write(stored["grey"][row : row + ROWS_AT_ONCE].tobytes())
    rows = slice(span.start, span.stop)
    sketches.digests[rows] = np.ascontiguousarray(stored["digests"]).view("S16").ravel()
    sketches.hashes[:, rows], sketches.contrast[rows] = stored["codes"], stored["contrast"]


def _store(store: Path, span: _Span, sketches: Sketches, scratch: Path) -> None:
    store.mkdir(parents=True, exist_ok=True)
    small, grey = stored_files(store, span.domain.fingerprint)
    count = span.stop - span.start
    if not count:  # an empty file cannot be mapped
        return
    pixels = np.memmap(scratch / GREY_FILE, np.uint8, "r", span.start * SIDE * SIDE, (count, SIDE, SIDE))
    rows = slice(span.start, span.stop)
    arrays: dict[str, np.ndarray] = {
        "digests": np.ascontiguousarray(sketches.digests[rows]).view(np.uint8).reshape(-1, 16),
        "codes": sketches.hashes[:, rows],
        "contrast": sketches.contrast[rows],
    }
    with atomically(grey) as draft, draft.open("wb") as file:
        np.save(file, pixels)
    with atomically(small) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


# --------------------------------------------------------------------------------------------------- sketch of an image


def _sketch(block: _Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Open the file again for each block, so that the pages of earlier blocks are released.
    pixels = np.array(np.load(block.folder / "faces.npy", mmap_mode="r")[block.start : block.stop])
    size = str(pixels.shape[1:]).encode()
    digests = np.array([hashlib.blake2b(size + image.tobytes(), digest_size=16).digest() for image in pixels], "S16")
    small = reduce_images(pixels)
    # A full disk kills a process that writes through a memory map; a plain write raises an error instead.
    with (block.scratch / GREY_FILE).open("r+b") as file:
        file.seek(block.number * SIDE * SIDE)
        file.write(small.tobytes())
    hashes = np.stack([perceptual_hash(small), perceptual_hash(small[:, :, ::-1])])
    return digests, hashes, small.std((1, 2))


def reduce_images(images: np.ndarray) -> np.ndarray:
    """Return images as 32 x 32 grey pixels, each a weighted mean of the pixels that it covers.

    Args:
        images: uint8 (n, height, width, 3), RGB.

    Returns:
        uint8 (n, 32, 32).
    """
    grey = (images.reshape(-1, 3).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).reshape(
        images.shape[:3]
    )
    small = _reducer(images.shape[1]) @ grey @ _reducer(images.shape[2]).T
    return np.rint(small).clip(0, 255).astype(np.uint8)


def perceptual_hash(small: np.ndarray) -> np.ndarray:
    """Return the perceptual hashes of images: a bit for each of the 64 lowest frequencies of the cosine transform.

    A bit is set where the coefficient exceeds the median of the 64. Half of the bits are set, so two hashes differ in
    an even number of bits.

    Args:
        small: uint8 (n, 32, 32).

    Returns:
        uint64 (n,).
    """
    waves = _cosines()
    spectrum = (waves @ small.astype(np.float32) @ waves.T).reshape(len(small), 64)
    bits = spectrum > np.median(spectrum, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


@cache
def _reducer(size: int) -> np.ndarray:
    """Return a triangle filter of shape (32, size), as wide as the reduction."""
    scale = size / SIDE
    centres = (np.arange(SIDE) + 0.5) * scale
    away = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(1.0, scale)
    weights = np.clip(1 - away, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@cache
def _cosines() -> np.ndarray:
    """Return the lowest 8 frequencies of the orthonormal cosine transform (DCT-II), shape (8, 32)."""
    waves = np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(8)[:, None]) * np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


def map_in_processes(work: Callable[[Task], Result], tasks: Sequence[Task], processes: int) -> Iterator[Result]:
    """Yield the result of each task, in the order of the tasks.

    Args:
        work: A function that can be pickled.
        tasks: Its arguments.
        processes: Number of worker processes; with one or fewer, the tasks run in this process.

    Raises:
        BenchError: A worker process was killed.
    """
    if processes <= 1:
        yield from map(work, tasks)
        return
    with worker_pool(processes) as pool:
        try:
            yield from pool.map(work, tasks)
        except BrokenProcessPool:
            raise BenchError(
                "a process of the audit was killed, perhaps because memory ran out. Use fewer processes"
            ) from None
