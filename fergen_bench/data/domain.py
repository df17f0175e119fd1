"""A prepared domain and its splits, read from disk without copies."""

from __future__ import annotations

import csv
import io
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fergen_bench.data.labels import EXPRESSIONS, VOTES, expression_index
from fergen_bench.data.prepared import read_about, scored_part
from fergen_bench.data.randomness import shuffled
from fergen_bench.error import BenchError
from fergen_bench.files.bounded import map_array, read_text
from fergen_bench.wording import many

if TYPE_CHECKING:
    import numpy as np
    import torch


Place = TypeVar("Place")

MOST_LABELS = 1 << 30
"""Bytes of the labels of a prepared domain: those of AffectNet have fifty million."""


class Domain:
    """A prepared domain, opened. name: what a suite calls it, where that is not the name it was prepared under."""

    def __init__(self, folder: Path, name: str | None = None) -> None:
        self.folder = folder
        self.about = read_about(folder)
        self.name: str = self.about["name"] if name is None else name
        self.fingerprint: str = self.about["fingerprint"]

    @cached_property
    def faces(self) -> np.ndarray:
        """uint8 (N, height, width, 3), a memory map."""
        path, count = self.folder / "faces.npy", sum(sum(faces.values()) for faces in self.about["counts"].values())
        try:
            faces = map_array(path)
            if faces.dtype != "uint8" or faces.shape != (count, *self.about["size"], 3):
                raise ValueError(
                    f"it holds {' × '.join(map(str, faces.shape))} of {faces.dtype}, and domain.json tells of others"
                )
        except (OSError, ValueError) as error:
            raise BenchError(f"{path}: these are not the faces of this domain ({error}); prepare it again") from None
        return faces

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        import numpy as np

        path, count = self.folder / "labels.csv", sum(sum(faces.values()) for faces in self.about["counts"].values())
        try:
            header, *body = csv.reader(io.StringIO(read_text(path, MOST_LABELS)))
            wanted = [name for name in ("id", "expression", "split", "subject", *VOTES) if name in header]
            if not {"id", "expression", "split"} <= set(wanted) or len(body) != count:
                raise ValueError(f"it has {many(len(body), 'row')}, or not the columns id, expression and split")
            columns = {name: [row[header.index(name)] for row in body] for name in wanted}
            for name in set(VOTES) & set(wanted):
                if not all(math.isfinite(float(votes or 0)) for votes in columns[name]):
                    raise ValueError(f"{name} holds no numbers")
        except (OSError, ValueError, IndexError, csv.Error) as error:
            raise BenchError(f"{path}: these are not the labels of this domain ({error}); prepare it again") from None
        labels = [
            expression_index(name, f"{self.folder / 'labels.csv'}:{line}")
            for line, name in enumerate(columns["expression"], start=2)
        ]
        return {**{name: np.array(values) for name, values in columns.items()}, "label": np.array(labels, np.int64)}

    @property
    def labels(self) -> np.ndarray:
        """int64 (N,), indices into EXPRESSIONS."""
        return self._columns["label"]

    @property
    def ids(self) -> np.ndarray:
        return self._columns["id"]

    @cached_property
    def soft_labels(self) -> np.ndarray:
        """Share of the votes that each expression got, float32 (N, 7); all of it where one label is all that is kept.
        Votes for what is none of the seven count for nothing.
        """
        import numpy as np

        certain = np.eye(len(EXPRESSIONS), dtype=np.float32)[self.labels]
        if not set(VOTES) <= set(self._columns):
            return certain
        # Empty cells, as in a test split that nobody voted on, are no votes.
        votes = np.stack([np.where(self._columns[name] == "", "0", self._columns[name]) for name in VOTES], 1)
        votes = votes.astype(np.float32)
        total = votes.sum(1, keepdims=True)
        return np.where(total > 0, votes / np.maximum(total, 1), certain)

    @property
    def subjects(self) -> np.ndarray:
        """Who is shown; every face is its own subject where the dataset does not say."""
        return self._columns.get("subject", self.ids)

    def rows(self, part: str) -> np.ndarray:
        """Row numbers of train, val or test."""
        import numpy as np

        return np.flatnonzero(self._columns["split"] == part)

    def split(self, part: str) -> Split:
        return Split((Piece(self, self.rows(part), part),))

    def exam(self, profile: str, is_source: bool) -> Split:
        """The faces on which a run is scored."""
        return self.split(scored_part(self.about, profile, is_source))


class Piece(NamedTuple):
    """Some rows of one part of a domain."""

    domain: Domain
    rows: np.ndarray
    part: str  # train, val or test


@dataclass(frozen=True)
class Clean:
    """Marks a batch as unchanged faces of a split, so that a frozen encoder may look its features up instead of
    computing them.
    """

    split: Split
    positions: slice
    version: int  # of the tensor when it was handed out: a batch changed in place is no longer clean


@dataclass(frozen=True)
class Split:
    """Labelled faces for one purpose: rows of one domain, or of several where a run has several sources."""

    pieces: tuple[Piece, ...]

    def __len__(self) -> int:
        return sum(len(piece.rows) for piece in self.pieces)

    @cached_property
    def labels(self) -> np.ndarray:
        """int64 (N,)."""
        import numpy as np

        return np.concatenate([piece.domain.labels[piece.rows] for piece in self.pieces])

    @cached_property
    def soft_labels(self) -> np.ndarray:
        """float32 (N, 7): see Domain.soft_labels."""
        import numpy as np

        return np.concatenate([piece.domain.soft_labels[piece.rows] for piece in self.pieces])

    @cached_property
    def ids(self) -> np.ndarray:
        """The faces' names in their domains, text (N,)."""
        import numpy as np

        return np.concatenate([piece.domain.ids[piece.rows] for piece in self.pieces])

    @cached_property
    def domain_index(self) -> np.ndarray:
        """Which piece each face comes from, int64 (N,): for methods that treat their sources apart."""
        import numpy as np

        return np.concatenate([np.full(len(piece.rows), place) for place, piece in enumerate(self.pieces)])

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width of the batches: of the largest domain among the pieces."""
        shapes = [piece.domain.faces.shape[1:3] for piece in self.pieces]
        return max(height for height, _ in shapes), max(width for _, width in shapes)

    @cached_property
    def counts(self) -> np.ndarray:
        """Faces per expression, int64 (7,)."""
        import numpy as np

        return np.bincount(self.labels, minlength=len(EXPRESSIONS))

    @property
    def bytes(self) -> int:
        height, width = self.size
        return len(self) * height * width * 3

    def subset(self, keep: np.ndarray) -> Split:
        """The faces at the given positions, in ascending order."""
        import numpy as np

        chosen, start, pieces = np.sort(keep), 0, []
        for piece in self.pieces:
            inside = chosen[(chosen >= start) & (chosen < start + len(piece.rows))] - start
            if len(inside):
                pieces.append(Piece(piece.domain, piece.rows[inside], piece.part))
            start += len(piece.rows)
        return Split(tuple(pieces))

    def faces(self, positions: np.ndarray | slice | None = None) -> torch.Tensor:
        """uint8 (n, 3, height, width) on the CPU. Domains of different sizes are enlarged to the largest (bicubic,
        antialiased).
        """
        import numpy as np
        import torch

        everything = np.arange(len(self))
        wanted = everything if positions is None else everything[positions]
        height, width = self.size
        out = np.empty((len(wanted), height, width, 3), np.uint8)
        start = 0
        for piece in self.pieces:
            here = np.flatnonzero((wanted >= start) & (wanted < start + len(piece.rows)))
            if len(here):
                out[here] = _at_size(piece.domain.faces[piece.rows[wanted[here] - start]], (height, width))
            start += len(piece.rows)
        return torch.from_numpy(out).permute(0, 3, 1, 2)

    def batches(self, device: torch.device, size: int) -> Iterator[torch.Tensor]:
        """All faces in order, in batches of `size`, marked as clean where they are as the domain keeps them."""
        places = [slice(start, min(start + size, len(self))) for start in range(0, len(self), size)]
        kept = len({piece.domain.faces.shape[1:3] for piece in self.pieces}) == 1  # nothing was enlarged
        for positions, images in zip(places, read_ahead(self.faces, places, device), strict=True):
            if kept:
                images.clean = Clean(self, positions, images._version)
            yield images


def _at_size(faces: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 (n, height, width, 3) → the same faces with another height and width (bicubic, antialiased)."""
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
    """Numbers from the host on a device; the host need not wait until they are there."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values


def read_ahead(read: Callable[[Place], torch.Tensor], places: Iterable[Place], device: torch.device) -> Iterator[Any]:
    """What `read` gives for one place after another, on a device: a torch.Tensor each. While one is used threads read
    the next, so that the device need not wait for the disk; and on the way to a GPU they lie in pinned memory, so that
    the host need not wait for the copy.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    import torch

    def fetch(place: Place) -> torch.Tensor:
        found = read(place)
        if device.type != "cuda":
            return found
        with torch.cuda.device(device):
            return found.pin_memory()

    ahead = 3 if device.type == "cuda" else 1  # a GPU is faster than one thread that gathers and pins
    coming: deque[Future[torch.Tensor]] = deque()
    with ThreadPoolExecutor(ahead) as pool:
        for place in places:
            coming.append(pool.submit(fetch, place))
            if len(coming) > ahead:
                yield coming.popleft().result().to(device, non_blocking=True)
        while coming:
            yield coming.popleft().result().to(device, non_blocking=True)


class Unlabelled:
    """Faces of one domain and nothing else: what a method that adapts is given of its target's train split.

    It holds pixels alone, neither labels nor names, and in an order that says nothing: datasets often stand sorted by
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
        """Height and width of the faces."""
        return self._size

    @property
    def bytes(self) -> int:
        height, width = self.size
        return len(self) * height * width * 3

    def faces(self, positions: np.ndarray | slice | None = None) -> torch.Tensor:
        """uint8 (n, 3, height, width) on the CPU."""
        import torch

        rows = self._rows if positions is None else self._rows[positions]
        return torch.from_numpy(_at_size(self._pixels[rows], self._size)).permute(0, 3, 1, 2)

    def at_size(self, size: tuple[int, int]) -> Unlabelled:
        """The same faces in the same order with another height and width, resized as a Split resizes (bicubic,
        antialiased) whenever they are read.
        """
        same = copy(self)
        same._size = size
        return same
