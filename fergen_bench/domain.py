"""A prepared dataset: faces, labels, splits, fingerprint; and what is made of domains: splits, sources, suites.

A prepared domain is a folder with
- faces.npy: uint8 (N, height, width, 3), RGB, read as a memory map;
- labels.csv: id, expression, split (train, val or test), and what else the dataset knows (subject, votes, native label,
  …);
- domain.json: name, how it was prepared, counts, fingerprint. Everything after preparation sees only this.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from fergen_bench.error import BenchError
from fergen_bench.untrusted import MOST_SETTINGS, is_file_name, map_array, parse_json, read_bytes, read_text
from fergen_bench.wording import many

if TYPE_CHECKING:
    import numpy as np
    import torch

Place = TypeVar("Place")

EXPRESSIONS = ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")
"""The label space and its one order, which is that of RAF-DB."""

SPLITS = ("train", "val", "test")
"""The parts of a domain, in the order in which tables show them."""

ALIASES: Mapping[str, str] = {
    alias: name
    for name, aliases in {
        "surprise": ("surprise", "surprised", "suprise", "su"),
        "fear": ("fear", "fearful", "afraid", "fe", "af"),
        "disgust": ("disgust", "disgusted", "di"),
        "happiness": ("happiness", "happy", "ha"),
        "sadness": ("sadness", "sad", "unhappy", "sa"),
        "anger": ("anger", "angry", "an"),
        "neutral": ("neutral", "normal", "ne"),
    }.items()
    for alias in aliases
}
"""Spellings met in public datasets, in lower case. `af` is afraid (KDEF), never angry."""

VOTES = tuple(f"votes_{name}" for name in EXPRESSIONS)
"""Columns of labels.csv where several people labelled each face."""

MOST_LABELS = 1 << 30
"""Bytes of the labels of a prepared domain: those of AffectNet have fifty million."""

HOLD_OUT = 0.1
"""Share of a source's train split that is held out as its validation part where the dataset has none."""


def expression_index(name: str, place: str) -> int:
    """The one function through which labels enter: a name or an alias → its index. place: where it stands, for the
    error.
    """
    try:
        return EXPRESSIONS.index(ALIASES[name.strip().lower()])
    except KeyError:
        raise BenchError(
            f"{place}: {name!r} is no expression; the seven are {', '.join(EXPRESSIONS)}. "
            f'Map other names with labels = {{ {name} = "…" }}'
        ) from None


@dataclass(frozen=True)
class Suite:
    """A fixed exam: ordered domains with one label space, and the networks and the recipe that methods use on it by
    default.
    """

    name: str
    domains: tuple[str, ...]
    backbone: str
    trunk: str
    recipe: str = "default"
    profile: str = "official"
    synthetic: bool = False
    overlaps: frozenset[frozenset[str]] = field(default_factory=frozenset)  # pairs of domains that share images
    distinct: str = ""  # why no two of its domains can share an image, where that needs no audit
    about: str = ""

    def relation(self, sources: Sequence[str], target: str) -> str:
        """ "source", "seen" (shares images with a source) or "unseen"."""
        if target in sources:
            return "source"
        return "seen" if any(frozenset((source, target)) in self.overlaps for source in sources) else "unseen"


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


@dataclass(frozen=True)
class Source:
    """What a method may learn from: no test split is in it.

    train: all faces of the sources' train splits. fit and val: the same, divided: `val` is the datasets' own validation
    part, or a stratified hold-out of train that shares no subject with `fit`.
    """

    names: tuple[str, ...]
    train: Split
    fit: Split
    val: Split


def open_source(domains: Sequence[Domain], seed: int, fraction: float = 1.0) -> Source:
    """A source of one or more domains. fraction: the share of each expression of each domain's train split that is
    used: a smaller one is part of a larger one.
    """
    import numpy as np

    train, fit, val = [], [], []
    for domain in domains:
        everything, held = domain.rows("train"), Piece(domain, domain.rows("val"), "val")
        if len(held.rows):
            rest = rows = _nested_subset(domain, everything, held.rows, fraction, seed)
        else:
            # Held out of all faces whatever the fraction, so that a smaller fit is part of a larger one too.
            kept = _hold_out(domain, everything, seed)
            rows = _nested_subset(domain, everything, kept, fraction, seed)
            kept = np.intersect1d(rows, kept)
            held = Piece(domain, kept if len(kept) else _hold_out(domain, rows, seed), "train")
            if not len(held.rows):
                raise BenchError(
                    f"{domain.folder}: the train split of {domain.name} shows one subject only, so no face can be held "
                    f"out for validation; add a val split"
                )
            rest = np.setdiff1d(rows, held.rows)
        train.append(Piece(domain, rows, "train"))
        fit.append(Piece(domain, rest, "train"))
        val.append(held)
    return Source(tuple(domain.name for domain in domains), Split(tuple(train)), Split(tuple(fit)), Split(tuple(val)))


def _nested_subset(domain: Domain, rows: np.ndarray, held: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The first share of each expression in a fixed order, so that a smaller fraction is part of a larger one. The
    faces that are held out stand evenly in that order: every fraction has the same share of them.
    """
    import numpy as np

    if fraction >= 1.0:
        return rows
    order = rows[shuffled(len(rows), "fraction", domain.name, seed)]
    chosen = []
    for label in range(len(EXPRESSIONS)):
        members = order[domain.labels[order] == label]
        out = np.isin(members, held)
        place = np.where(out, (out.cumsum() - 0.5) / max(1, out.sum()), ((~out).cumsum() - 0.5) / max(1, (~out).sum()))
        members = members[np.argsort(place, kind="stable")]
        chosen.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen))


def _hold_out(domain: Domain, rows: np.ndarray, seed: int) -> np.ndarray:
    """A tenth of every expression, whole subjects at a time."""
    return rows[disjoint_share(domain.labels[rows], domain.subjects[rows], HOLD_OUT, "hold out", domain.name, seed)]


def shuffled(count: int, *names: object) -> np.ndarray:
    """0 .. count - 1 in an order that depends on the names only."""
    import numpy as np

    from fergen_bench.draws import counters, seed_of

    return np.argsort(counters(np.arange(count), seed_of(*names)), kind="stable")


def disjoint_share(labels: np.ndarray, subjects: np.ndarray, share: float, *names: object) -> np.ndarray:
    """Positions of a share of every expression that takes subjects whole or not at all, ascending; of all faces, where
    that would be none of any expression. names: the seed.
    """
    import numpy as np

    open_places = np.round(share * np.bincount(labels, minlength=len(EXPRESSIONS))).astype(int)
    faces_of: dict[str, list[int]] = {}
    for position in shuffled(len(labels), *names):
        faces_of.setdefault(subjects[position], []).append(position)

    def take(room: np.ndarray, most: int) -> list[int]:
        """Whole subjects, while there is room for all of their expressions and for so many faces in all."""
        taken: list[int] = []
        for positions in faces_of.values():
            needed = np.bincount(labels[positions], minlength=len(EXPRESSIONS))
            if len(taken) + len(positions) <= most and (needed <= room).all():
                taken += positions
                room = room - needed
        return taken

    taken = take(open_places, len(labels))
    if not taken:  # too few of every expression: a share of all, and never the last face of one
        taken = take(np.bincount(labels, minlength=len(EXPRESSIONS)) - 1, round(share * len(labels)))
    if not taken and len(faces_of) > 1:
        taken = min(faces_of.values(), key=len)
    return np.sort(np.array(taken, np.int64))


# ------------------------------------------------------------------------------------------------------------------ the
# prepared form


def absent_from(counts: Mapping[str, int]) -> list[str]:
    """The expressions of which a part has no face. counts: its faces by expression."""
    return [name for name in EXPRESSIONS if not counts.get(name)]


def read_about(folder: Path) -> dict[str, Any]:
    """domain.json of a prepared domain."""
    try:
        about = parse_json(read_bytes(folder / "domain.json", 16 * MOST_SETTINGS))
        if not isinstance(about, dict):
            raise ValueError("it is no mapping")
        if absent := [key for key in ("name", "size", "counts", "fingerprint") if key not in about]:
            raise ValueError(f"it does not say {absent[0]}")
        sizes, counts = about["size"], about["counts"]
        if not is_file_name(about["name"]) or not is_file_name(about["fingerprint"]):
            raise ValueError("its name or its fingerprint cannot be one")
        if not isinstance(sizes, list) or len(sizes) != 2 or any(type(side) is not int for side in sizes):
            raise ValueError("its size is not two whole numbers")
        if not all(set(faces) == set(EXPRESSIONS) for faces in counts.values()):
            raise ValueError("its counts are not of the seven expressions")
        if any(type(n) is not int or not 0 <= n < 1 << 40 for faces in counts.values() for n in faces.values()):
            raise ValueError("its counts are no counts")
        if other := [key for key in ("scored", "labels", "left_out") if not isinstance(about.get(key, {}), dict)]:
            raise ValueError(f"its {other[0]} is no mapping")
        if not isinstance(about.get("margin", 0.0), int | float):
            raise ValueError("its margin is no number")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BenchError(f"{folder} is not a prepared domain: its domain.json cannot be read ({error})") from None
    return about


def scored_part(about: Mapping[str, Any], profile: str, is_source: bool) -> str:
    """The part of a domain that is scored: test, unless a profile names another for runs that were not trained on it.
    about: its domain.json.
    """
    part: str = "test" if is_source else about.get("scored", {}).get(profile, "test")
    return part


def is_prepared(folder: Path) -> bool:
    return (folder / "domain.json").is_file()


def write_prepared(
    folder: Path, name: str, faces: Iterable[np.ndarray], columns: Mapping[str, Sequence[Any]], about: Mapping[str, Any]
) -> Path:
    """Writes a prepared domain whole: into a folder beside it, which takes its place in one step.

    faces: blocks of uint8 (n, height, width, 3), in the order of the columns; only one of them is held at a time.
    columns: at least id, expression (names), split.
    """
    import shutil
    import tempfile

    import numpy as np

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        stored, done = None, 0
        for block in faces:
            if stored is None:
                shape = (len(columns["id"]), *block.shape[1:])
                stored = np.lib.format.open_memmap(draft / "faces.npy", "w+", np.uint8, shape)
            stored[done : done + len(block)] = block
            done += len(block)
        if stored is None or done != len(stored):
            raise ValueError(f"{many(done, 'face')} for {many(len(columns['id']), 'row')}")
        stored.flush()
        del stored
        return finish_prepared(draft, folder, name, columns, about)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def finish_prepared(
    draft: Path, folder: Path, name: str, columns: Mapping[str, Sequence[Any]], about: Mapping[str, Any]
) -> Path:
    """Adds labels.csv and domain.json to a draft that holds all faces in faces.npy, and puts it in folder's place: the
    folder is the old one or the new one, never a part.
    """
    import numpy as np

    from fergen_bench.atomic import exchange_folder

    with (draft / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    counts: dict[str, dict[str, int]] = {}
    for split, expression in zip(columns["split"], columns["expression"], strict=True):
        counts.setdefault(split, dict.fromkeys(EXPRESSIONS, 0))[expression] += 1
    size = list(np.load(draft / "faces.npy", mmap_mode="r").shape[1:3])
    described = {"name": name, **about, "size": size, "counts": counts, "fingerprint": fingerprint_of(draft)}
    (draft / "domain.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    for path in draft.iterdir():  # on the disk before it counts as prepared, whatever happens to the machine
        with path.open("rb+") as stored:
            os.fsync(stored.fileno())
    exchange_folder(draft, folder)
    return folder


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over faces and labels, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for name in ("faces.npy", "labels.csv"):
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]
