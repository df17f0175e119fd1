"""Prepared domains and their splits, read from a memory map without copies."""

from __future__ import annotations

import csv
import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS, SPLITS, VOTES, expression_index
from fergen_bench.data.prepared import read_about
from fergen_bench.data.randomness import shuffled
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.files.bounded import map_array, read_text
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    import torch

    from fergen_bench.experiment.run import View

Index = TypeVar("Index")

MOST_LABELS = 1 << 30
"""Largest accepted size of labels.csv, in bytes. The labels of AffectNet take fifty million."""


class Domain:
    """An opened prepared domain.

    Args:
        folder: The folder of the prepared domain.
        name: The name of the domain in its suite. Default: the name under which it was prepared.

    Raises:
        BenchError: The folder is not a prepared domain. Images and labels are checked when they are first read.
    """

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder = folder
        self.about = read_about(folder)
        self.name: str = self.about["name"] if name is None else name
        self.fingerprint: str = self.about["fingerprint"]

    @cached_property
    def faces(self) -> np.ndarray:
        """The images, uint8 (N, height, width, 3), a memory map."""
        path, count = self.folder / "faces.npy", self._count
        try:
            faces = map_array(path)
            if faces.dtype != "uint8" or faces.shape != (count, *self.about["size"], 3):
                shape = " × ".join(map(str, faces.shape))
                raise ValueError(f"it contains {shape} of {faces.dtype}, which contradicts domain.json")
        except (OSError, ValueError) as error:
            raise BenchError(f"{path}: these are not the images of this domain ({error}); prepare it again") from None
        return faces

    @property
    def _count(self) -> int:
        return sum(sum(part.values()) for part in self.about["counts"].values())

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        path, count = self.folder / "labels.csv", self._count
        try:
            header, *body = csv.reader(io.StringIO(read_text(path, MOST_LABELS)))
            wanted = [name for name in ("id", "expression", "split", "subject", *VOTES) if name in header]
            if not {"id", "expression", "split"} <= set(wanted) or len(body) != count:
                raise ValueError(f"it has {many(len(body), 'row')}, or lacks a column of id, expression and split")
            columns = {name: [row[header.index(name)] for row in body] for name in wanted}
            for name in set(VOTES) & set(wanted):
                if not all(math.isfinite(float(votes or 0)) for votes in columns[name]):
                    raise ValueError(f"{name} contains a value that is not a number")
        except (OSError, ValueError, IndexError, csv.Error) as error:
            raise BenchError(f"{path}: these are not the labels of this domain ({error}); prepare it again") from None
        labels = [
            expression_index(name, f"{self.folder / 'labels.csv'}:{line}")
            for line, name in enumerate(columns["expression"], start=2)
        ]
        return {**{name: np.array(values) for name, values in columns.items()}, "label": np.array(labels, np.int64)}

    @property
    def labels(self) -> np.ndarray:
        """Indices into EXPRESSIONS, int64 (N,)."""
        return self._columns["label"]

    @property
    def ids(self) -> np.ndarray:
        """Names of the images, unique in the domain, text (N,)."""
        return self._columns["id"]

    @cached_property
    def soft_labels(self) -> np.ndarray:
        """Shares of the votes for each expression, float32 (N, 7); one-hot for images without votes.

        Votes for anything but the seven expressions are ignored.
        """
        certain = np.eye(len(EXPRESSIONS), dtype=np.float32)[self.labels]
        if not set(VOTES) <= set(self._columns):
            return certain
        # Empty cells, as in a test split without votes, count as zero votes.
        votes = np.stack([np.where(self._columns[name] == "", "0", self._columns[name]) for name in VOTES], 1)
        votes = votes.astype(np.float32)
        total = votes.sum(1, keepdims=True)
        return np.where(total > 0, votes / np.maximum(total, 1), certain)

    @property
    def subjects(self) -> np.ndarray:
        """Names of the persons shown, text (N,). Without that information, each image is its own subject."""
        return self._columns.get("subject", self.ids)

    def rows(self, part: str) -> np.ndarray:
        """Return the rows of "train", "val" or "test", ascending."""
        return np.flatnonzero(self._columns["split"] == part)

    def split(self, part: str) -> Split:
        """Return the images of "train", "val" or "test".

        Raises:
            BenchError: The domain has no image of this part, or no part has this name.
        """
        rows = self.rows(part)
        if not len(rows):
            sizes = {name: many(len(self.rows(name)), "image") for name in SPLITS if len(self.rows(name))}
            raise BenchError(
                f"{self.folder}: the domain {self.name} has no split {part!r}"
                f"{'' if part in SPLITS else did_you_mean(part, SPLITS).rstrip('?.')}; it has "
                f"{listed(f'{name} ({size})' for name, size in sizes.items())}"
            )
        return Split((Piece(self, rows, part),))


class Piece(NamedTuple):
    """Some rows of one part of a domain."""

    domain: Domain
    rows: np.ndarray
    part: str  # train, val or test


@dataclass(frozen=True)
class Clean:
    """Mark of a batch of unchanged images of a split; a frozen encoder reads their features from its cache.

    Attributes:
        split: The split.
        positions: The positions of the images in the split, a slice or int64 (B,).
        version: The version of the tensor when it was returned. A batch that was changed in place has a later version
            and is not clean.
        view: `plain`, or `mirror` for the images of `mirrored`.
    """

    split: Split
    positions: slice | np.ndarray
    version: int
    view: View = "plain"


def mirrored(images: torch.Tensor) -> torch.Tensor:
    """Return images with left and right exchanged; the mirror images of a clean batch are clean, too.

    Args:
        images: (B, 3, height, width).
    """
    found = images.flip(3)
    clean: Clean | None = getattr(images, "clean", None)
    if clean is not None and clean.view == "plain" and clean.version == images._version:
        found.clean = replace(clean, version=found._version, view="mirror")  # type: ignore[attr-defined]
    return found


@dataclass(frozen=True)
class Split:
    """Labelled images of one domain, or of several domains if a run has several sources."""

    pieces: tuple[Piece, ...]

    def __len__(self) -> int:
        return sum(len(piece.rows) for piece in self.pieces)

    @cached_property
    def labels(self) -> np.ndarray:
        """Indices into EXPRESSIONS, int64 (N,)."""
        return np.concatenate([piece.domain.labels[piece.rows] for piece in self.pieces])

    @cached_property
    def soft_labels(self) -> np.ndarray:
        """Shares of the votes, float32 (N, 7); see Domain.soft_labels."""
        return np.concatenate([piece.domain.soft_labels[piece.rows] for piece in self.pieces])

    @cached_property
    def ids(self) -> np.ndarray:
        """Names of the images in their domains, text (N,)."""
        return np.concatenate([piece.domain.ids[piece.rows] for piece in self.pieces])

    @cached_property
    def rows(self) -> np.ndarray:
        """Rows of the images in faces.npy and labels.csv of their domains, int64 (N,)."""
        return np.concatenate([piece.rows for piece in self.pieces])

    @cached_property
    def domain_index(self) -> np.ndarray:
        """Index of the piece that each image comes from, int64 (N,), for methods that distinguish their sources."""
        return np.concatenate([np.full(len(piece.rows), index) for index, piece in enumerate(self.pieces)])

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the batches in pixels, those of the largest domain among the pieces."""
        shapes = [piece.domain.faces.shape[1:3] for piece in self.pieces]
        return max(height for height, _ in shapes), max(width for _, width in shapes)

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of images per expression, int64 (7,)."""
        return np.bincount(self.labels, minlength=len(EXPRESSIONS))

    @property
    def bytes(self) -> int:
        """Size of all images in memory."""
        height, width = self.size
        return len(self) * height * width * 3

    def subset(self, keep: np.ndarray) -> Split:
        """Return the images at the given positions, in ascending order."""
        chosen, start, pieces = np.sort(keep), 0, []
        for piece in self.pieces:
            inside = chosen[(chosen >= start) & (chosen < start + len(piece.rows))] - start
            if len(inside):
                pieces.append(Piece(piece.domain, piece.rows[inside], piece.part))
            start += len(piece.rows)
        return Split(tuple(pieces))

    def faces(self, positions: np.ndarray | slice | None = None) -> torch.Tensor:
        """Return images, uint8 (n, 3, height, width) on the CPU.

        Images of smaller domains are enlarged to the size of the largest (bicubic, antialiased).

        Args:
            positions: The images to return, default all.
        """
        import torch

        everything = np.arange(len(self))
        wanted = everything if positions is None else everything[positions]
        height, width = self.size
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        start = 0
        for piece in self.pieces:
            inside = np.flatnonzero((wanted >= start) & (wanted < start + len(piece.rows)))
            if len(inside):
                out[inside] = _at_size(piece.domain.faces[piece.rows[wanted[inside] - start]], (height, width))
            start += len(piece.rows)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def batches(self, device: torch.device, size: int) -> Iterator[torch.Tensor]:
        """Yield all images in order, in batches of `size`; batches of images that were not enlarged are marked clean.

        Yields:
            uint8 (size, 3, height, width) on the device; the last batch may be smaller.
        """
        starts = range(0, len(self), size)
        yield from self.images_at([slice(start, min(start + size, len(self))) for start in starts], device)

    def images_at(self, batches: Sequence[slice | np.ndarray], device: torch.device) -> Iterator[torch.Tensor]:
        """Yield the images at the positions of each batch; those that were not enlarged are marked clean.

        Args:
            batches: Positions in the split, slices or int64 (B,).
            device: Device of the images.

        Yields:
            uint8 (B, 3, height, width) on the device.
        """
        same_size = len({piece.domain.faces.shape[1:3] for piece in self.pieces}) == 1
        for positions, images in zip(batches, read_ahead(self.faces, batches, device), strict=True):
            if same_size:
                images.clean = Clean(self, positions, images._version)
            yield images


def _at_size(faces: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize images uint8 (n, height, width, 3) (bicubic, antialiased)."""
    import torch
    from torch.nn import functional

    if faces.shape[1:3] == size:
        return faces
    pixels = torch.from_numpy(faces).permute(0, 3, 1, 2)
    resized: np.ndarray = (
        functional.interpolate(pixels, size, mode="bicubic", antialias=True).permute(0, 2, 3, 1).numpy()
    )
    return resized


def upload(values: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy numbers from the host to a device without waiting for the end of the copy."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def read_ahead(read: Callable[[Index], torch.Tensor], indices: Iterable[Index], device: torch.device) -> Iterator[Any]:
    """Yield the tensor that `read` returns for each index, on a device, and read the next ones in threads meanwhile.

    The device does not wait for the disk. On the way to a GPU the tensors are in pinned memory, so that the host does
    not wait for the copy.

    Args:
        read: Returns a tensor on the CPU.
        indices: The arguments of `read`, one after another.
        device: The device of the yielded tensors.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    import torch

    def fetch(index: Index) -> torch.Tensor:
        found = read(index)
        if device.type != "cuda":
            return found
        with torch.cuda.device(device):
            return found.pin_memory()

    ahead = 3 if device.type == "cuda" else 1  # a GPU is faster than one thread that gathers and pins
    coming: deque[Future[torch.Tensor]] = deque()
    with ThreadPoolExecutor(ahead) as pool:
        for index in indices:
            coming.append(pool.submit(fetch, index))
            if len(coming) > ahead:
                yield coming.popleft().result().to(device, non_blocking=True)
        while coming:
            yield coming.popleft().result().to(device, non_blocking=True)


class Unlabelled:
    """The unlabelled train images of a domain, for methods that adapt to a target.

    An object contains pixels only, neither labels nor names. The order is random, because many datasets are sorted by
    class.
    """

    def __init__(self, domain: Domain) -> None:
        rows = domain.rows("train")
        self._pixels = domain.faces
        self._rows = rows[shuffled(len(rows), "unlabelled", domain.name)]
        self._size: tuple[int, int] = domain.faces.shape[1], domain.faces.shape[2]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        return self._size

    @property
    def bytes(self) -> int:
        """Size of all images in memory."""
        height, width = self.size
        return len(self) * height * width * 3

    def faces(self, positions: np.ndarray | slice | None = None) -> torch.Tensor:
        """Return images, uint8 (n, 3, height, width) on the CPU; default: all."""
        import torch

        rows = self._rows if positions is None else self._rows[positions]
        return torch.from_numpy(_at_size(self._pixels[rows], self._size)).permute(0, 3, 1, 2)

    def at_size(self, size: tuple[int, int]) -> Unlabelled:
        """Return the same images in the same order at another height and width.

        They are resized when they are read, in the same way as those of a Split (bicubic, antialiased).
        """
        same = copy(self)
        same._size = size
        return same
