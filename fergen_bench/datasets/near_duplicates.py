"""Finds faces that are one picture: equal after decoding, or nearly so. In bounded memory, and never all pairs.

Three stages. Exact: equal bytes in the same size. Near: a 64-bit perceptual hash of each face and of its mirror image;
a band join finds every pair of hashes that differ in at most DISTANCE bits. Refinement: the correlation of the edges of
the two faces, reduced to 32 x 32 grey pixels, or a similarity that the caller supplies, decides which are twins.

What DISTANCE and CORRELATION rest on, from five rendered domains and two sets of photographs:
- JPEG of quality 40, 48 pixels, greyness, and all three at once move the hash by at most 4 bits in 99 of 100 faces,
  brightness x 1.2 and gamma 1.3 by at most 6 (10 where much of a face is white already). Of a million pairs of
  unrelated aligned faces, 5 to 150 lie within 6 bits.
- After these changes the edges of 700 faces correlate at 0.97 or more (0.943 where much was white). Of all pairs of
  20,000 rendered faces that lie within 6 bits none reaches 0.945; of 18,648 pairs of different people drawn in one
  pose, light and expression, one reaches 0.96. The grey levels themselves divide less well: 0.937 and more against up
  to 0.967.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import SPLITS
from fergen_bench.error import BenchError
from fergen_bench.files.atomic import atomically
from fergen_bench.files.bounded import map_array, read_arrays
from fergen_bench.files.pool import worker_pool
from fergen_bench.progress import Progress
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.audit import Refinement

VERSION = 1
"""Raised when a face gets another sketch, so that those that were kept are made anew."""
DISTANCE = 6
"""Bits by which the hashes of twins may differ."""
CORRELATION = 0.96
"""Least correlation of the edges of twins, where pixels decide."""
CANDIDATE_CORRELATION = 0.7
"""The same for pairs that a caller's similarity is asked about: room for a watermark and a crop moved by a pixel."""
CLEAN = 3
"""Bands that are the same in twins: with DISTANCE + CLEAN bands, DISTANCE bits can spoil all but CLEAN of them."""
REACH = 1024
"""Neighbours that a face is compared with in one bucket, on each side. Only buckets larger than this are curtailed."""
CROWD = 64
"""Equal faces of which all pairs are listed; of more, each with the first of every domain and split."""
SIDE = 32
SKETCHES = "sketches"
"""The faces as grey uint8 (N, 32, 32), in a file for as long as the search runs."""
KEPT_BYTES = 1 << 30
"""Bytes of the arrays of a sketch that is kept: 40 a face."""
FLAT = 1.0
"""Standard deviation in grey levels below which a face has no picture to compare."""
BLOCK_BYTES = 8 << 20
PAIRS = 4096  # looked at together; bounds the memory

Task = TypeVar("Task")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Faces:
    """The faces of several domains, numbered through."""

    domains: tuple[Domain, ...]
    starts: np.ndarray  # number of each domain's first face, int64 (domains + 1,)
    parts: tuple[tuple[str, str], ...]  # every (domain, split) that has faces
    part: np.ndarray  # place in parts of every face, int64 (N,)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def place(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Numbers → (place of the domain, row in it)."""
        domain = np.searchsorted(self.starts, numbers, "right") - 1
        return domain, numbers - self.starts[domain]


@dataclass(frozen=True)
class Found:
    """Pairs of twins, each once, the smaller number first, ordered by their numbers."""

    pairs: np.ndarray  # int64 (n, 2), numbers in Faces
    near: np.ndarray  # bool (n,); the others are exact
    distance: np.ndarray  # bits, int64 (n,)
    similarity: np.ndarray  # float64 (n,)
    notes: tuple[str, ...]  # what was not compared, and why; one sentence each


class _Block(NamedTuple):
    """Some rows of one domain, for one process."""

    folder: Path
    start: int
    stop: int
    number: int  # of the first row
    scratch: Path


class _Join(NamedTuple):
    """One table of the band join, for one process."""

    scratch: Path
    clean: tuple[int, ...]  # the bands that must be the same
    least: float  # correlation
    part: bool  # only pairs between some of the domains are wanted


def number_faces(domains: Sequence[Domain]) -> Faces:
    """The faces of domains in the order given."""
    parts: list[tuple[str, str]] = []
    part: list[np.ndarray] = []
    for domain in domains:
        count = len(domain.ids)
        if len(domain.faces) != count:
            raise BenchError(
                f"{domain.folder}: faces.npy holds {many(len(domain.faces), 'face')}, labels.csv "
                f"{many(count, 'row')}; prepare {domain.name} again"
            )
        here = np.full(count, -1)
        for split in SPLITS:
            rows = domain.rows(split)
            if len(rows):
                here[rows] = len(parts)
                parts.append((domain.name, split))
        part.append(here)
    starts = np.cumsum([0, *(len(here) for here in part)])
    return Faces(tuple(domains), starts, tuple(parts), np.concatenate([np.empty(0, np.int64), *part]))


def find_twins(
    faces: Faces,
    scratch: Path,
    processes: int,
    progress: Progress,
    refinement: Refinement | None = None,
    wanted: np.ndarray | None = None,
    kept: Path | None = None,
) -> Found:
    """Return all twins among the faces.

    Args:
        scratch: An empty folder that takes one kilobyte a face while this runs.
        wanted: bool (D, D), symmetric: the pairs of domains between which twins are wanted; all where it is None.
        kept: A folder where the sketches of each domain are kept, so that its faces are read once.

    Time: linear in the faces for the hashes, sorting for the join; only the number of pairs that are truly alike by
    chance grows faster. Memory: some 100 bytes a face, and the pairs that are found.
    """
    digests, codes, contrast = _sketches(faces, scratch, processes, progress, kept)
    _, first, classes = np.unique(digests, return_index=True, return_inverse=True)
    flat = contrast < FLAT
    chosen = np.sort(first[~flat[first]])  # one of each class of equal faces
    np.save(scratch / "codes.npy", codes[:, chosen])
    np.save(scratch / "chosen.npy", chosen)

    if wanted is not None:
        # Equal faces are compared once for all of the domains that they stand in.
        stands_in = np.zeros((len(first), len(faces.domains)), bool)
        stands_in[classes, faces.place(np.arange(len(faces)))[0]] = True
        np.save(scratch / "stands_in.npy", stands_in[classes[chosen]])
        np.save(scratch / "partners.npy", (stands_in @ wanted)[classes[chosen]])
    least = CORRELATION if refinement is None else CANDIDATE_CORRELATION
    cleans = combinations(range(DISTANCE + CLEAN), CLEAN)
    tables = [_Join(scratch, clean, least, wanted is not None) for clean in cleans]
    progress("comparing", 0, len(faces))
    answers, curtailed = [], 0
    for done, (answer, omitted) in enumerate(_mapped(_join, tables, processes), start=1):
        answers.append(answer)
        curtailed += omitted
        progress("comparing", len(faces) * done // len(tables), len(faces))
    pairs, distance, similarity = _distinct(np.concatenate(answers), len(faces))
    if refinement is not None:
        similarity = _refined(faces, pairs, refinement, progress)
        keep = similarity >= refinement.limit
        pairs, distance, similarity = pairs[keep], distance[keep], similarity[keep]

    notes = []
    if flat.any():
        faces_of_one_level = many(int(flat.sum()), "face")
        notes.append(f"Of {faces_of_one_level} of one grey level only equal copies are found, not near-duplicates.")
    if curtailed:
        notes.append(
            f"{many(curtailed, 'comparison', 'were')} not made: where more than {REACH:,} hashes share {CLEAN} "
            f"bands, each was compared with the {REACH:,} next to it."
        )
    crowds = int((np.bincount(classes) > CROWD).sum()) if len(classes) else 0
    if crowds:
        notes.append(
            f"{many(crowds, 'picture', 'stand')} more than {CROWD} times in these domains; of their pairs, each face "
            "is listed with the first of every domain and split."
        )
    found = _expanded(pairs, distance, similarity, classes, faces.part, tuple(notes))
    if wanted is None:
        return found
    here = wanted[tuple(faces.place(found.pairs)[0].T)]
    return replace(
        found,
        pairs=found.pairs[here],
        near=found.near[here],
        distance=found.distance[here],
        similarity=found.similarity[here],
    )


# ------------------------------------------------------------------------------------------------------------- sketches


def _sketches(
    faces: Faces, scratch: Path, processes: int, progress: Progress, kept: Path | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Digests (N,), hashes of the faces and of their mirror images uint64 (2, N), contrast (N,). Writes SKETCHES."""
    with (scratch / SKETCHES).open("wb") as file:
        file.truncate(len(faces) * SIDE * SIDE)
    digests = np.empty(len(faces), "S16")
    codes, contrast = np.empty((2, len(faces)), np.uint64), np.empty(len(faces))
    blocks, fresh = [], []
    for domain, start, stop in zip(faces.domains, faces.starts[:-1].tolist(), faces.starts[1:].tolist(), strict=True):
        if kept is not None and (sketch := _kept(kept, domain)) is not None:
            with (scratch / SKETCHES).open("r+b") as file:
                file.seek(start * SIDE * SIDE)
                for row in range(0, stop - start, PAIRS):
                    file.write(sketch["grey"][row : row + PAIRS].tobytes())
            digests[start:stop] = np.ascontiguousarray(sketch["digests"]).view("S16").ravel()
            codes[:, start:stop], contrast[start:stop] = sketch["codes"], sketch["contrast"]
            continue
        fresh.append((domain, start, stop))
        step = max(1, BLOCK_BYTES // max(1, int(np.prod(domain.faces.shape[1:]))))
        for row in range(0, stop - start, step):
            blocks.append(_Block(domain.folder, row, min(row + step, stop - start), start + row, scratch))
    total = sum(stop - start for _, start, stop in fresh)
    done = 0
    progress("reading", done, total)
    for block, answer in zip(blocks, _mapped(_sketch, blocks, processes), strict=True):
        count = block.stop - block.start
        here = slice(block.number, block.number + count)
        digests[here], codes[:, here], contrast[here] = answer
        done += count
        progress("reading", done, total)
    if kept is None:
        return digests, codes, contrast
    for domain, start, stop in fresh:
        arrays: dict[str, np.ndarray] = {
            "digests": np.ascontiguousarray(digests[start:stop]).view(np.uint8).reshape(-1, 16),
            "codes": codes[:, start:stop],
            "contrast": contrast[start:stop],
        }
        _keep(kept, domain, arrays, scratch / SKETCHES, start)
    return digests, codes, contrast


def kept_files(kept: Path, fingerprint: str) -> tuple[Path, Path]:
    """Return the two files in which the sketches of a domain are kept."""
    stem = f"{fingerprint}-v{VERSION}"
    return kept / f"{stem}.npz", kept / f"{stem}.npy"


def _kept(kept: Path, domain: Domain) -> dict[str, np.ndarray] | None:
    """Return the sketches that were kept of a domain; None where there are none, or damaged ones."""
    small, grey = kept_files(kept, domain.fingerprint)
    count = len(domain.ids)
    shapes = {"digests": (count, 16), "codes": (2, count), "contrast": (count,), "grey": (count, SIDE, SIDE)}
    try:
        found = {**read_arrays(small, KEPT_BYTES), "grey": map_array(grey)}
        return found if {name: array.shape for name, array in found.items()} == shapes else None
    except (OSError, ValueError):
        return None


def _keep(kept: Path, domain: Domain, arrays: dict[str, np.ndarray], sketches: Path, start: int) -> None:
    kept.mkdir(parents=True, exist_ok=True)
    small, grey = kept_files(kept, domain.fingerprint)
    count = len(arrays["contrast"])
    if not count:  # nothing can be mapped
        return
    pixels = np.memmap(sketches, np.uint8, "r", start * SIDE * SIDE, (count, SIDE, SIDE))
    with atomically(grey) as draft, draft.open("wb") as file:
        np.save(file, pixels)
    with atomically(small) as draft, draft.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _sketch(block: _Block) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    # Opened anew for each block, so that the pages of earlier ones are given back.
    pixels = np.array(np.load(block.folder / "faces.npy", mmap_mode="r")[block.start : block.stop])
    size = str(pixels.shape[1:]).encode()
    digests = np.array([hashlib.blake2b(size + face.tobytes(), digest_size=16).digest() for face in pixels], "S16")
    small = reduced(pixels)
    # Not through a memory map: a full disk would end the process there, and is an error here.
    with (block.scratch / SKETCHES).open("r+b") as file:
        file.seek(block.number * SIDE * SIDE)
        file.write(small.tobytes())
    codes = np.stack([perceptual_hash(small), perceptual_hash(small[:, :, ::-1])])
    return digests, codes, small.std((1, 2))


def reduced(faces: np.ndarray) -> np.ndarray:
    """uint8 (n, height, width, 3) → grey uint8 (n, 32, 32), each pixel a weighted mean of those it covers."""
    grey = (faces.reshape(-1, 3).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)).reshape(
        faces.shape[:3]
    )
    small = _reducer(faces.shape[1]) @ grey @ _reducer(faces.shape[2]).T
    return np.rint(small).clip(0, 255).astype(np.uint8)


def perceptual_hash(small: np.ndarray) -> np.ndarray:
    """uint8 (n, 32, 32) → uint64 (n,): which of the 64 lowest frequencies of its cosine transform exceed their median.

    Half of the bits are set, so two hashes differ in an even number of bits.
    """
    waves = _cosines()
    spectrum = (waves @ small.astype(np.float32) @ waves.T).reshape(len(small), 64)
    bits = spectrum > np.median(spectrum, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").ravel().astype(np.uint64)


@cache
def _reducer(size: int) -> np.ndarray:
    """(32, size): a triangle filter, as wide as the reduction."""
    scale = size / SIDE
    centres = (np.arange(SIDE) + 0.5) * scale
    away = np.abs(np.arange(size) + 0.5 - centres[:, None]) / max(1.0, scale)
    weights = np.clip(1 - away, 0, None)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


@cache
def _cosines() -> np.ndarray:
    """(8, 32): the lowest frequencies of the orthonormal cosine transform (DCT-II)."""
    waves = np.cos(np.pi / SIDE * (np.arange(SIDE) + 0.5) * np.arange(8)[:, None]) * np.sqrt(2 / SIDE)
    waves[0] /= np.sqrt(2)
    return waves.astype(np.float32)


# ----------------------------------------------------------------------------------------------------------------- join

_PAIR = np.dtype([("first", np.int64), ("second", np.int64), ("distance", np.int64), ("similarity", np.float64)])


def bands() -> list[tuple[int, int]]:
    """(lowest bit, bits) of the bands into which a hash is cut."""
    cuts = np.linspace(0, 64, DISTANCE + CLEAN + 1).round().astype(int).tolist()
    return [(low, high - low) for low, high in pairwise(cuts)]


def close_pairs(codes: np.ndarray, clean: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, int]:
    """Pairs of hashes within DISTANCE whose first CLEAN common bands are `clean`: int64 (n, 2), and their distance.
    Over all choices of bands each pair is found once. Also the number of comparisons that were not made.

    The bands that must agree become the highest bits; what agrees in them stands together after sorting.
    """
    cut = bands()
    ordered = [*clean, *(band for band in range(len(cut)) if band not in clean)]
    words = np.zeros_like(codes)
    for band in ordered:
        low, width = cut[band]
        words = (words << np.uint64(width)) | ((codes >> np.uint64(low)) & np.uint64((1 << width) - 1))
    order = np.argsort(words)
    words = words[order]
    keys = words >> np.uint64(64 - sum(cut[band][1] for band in clean))

    lefts, rights = [], []
    active = np.arange(len(words))
    for offset in range(1, REACH + 1):
        active = active[: np.searchsorted(active, len(words) - offset)]
        active = active[keys[active] == keys[active + offset]]
        if not len(active):
            break
        close = np.bitwise_count(words[active] ^ words[active + offset]) <= DISTANCE
        lefts.append(order[active[close]])
        rights.append(order[active[close] + offset])
    sizes = np.unique(keys, return_counts=True)[1]
    over = sizes[sizes > REACH] - REACH
    omitted = int((over * (over - 1) // 2).sum())
    if not lefts:
        return np.empty((0, 2), np.int64), np.empty(0, np.int64), omitted
    pairs = np.stack([np.concatenate(lefts), np.concatenate(rights)], axis=1)
    difference = codes[pairs[:, 0]] ^ codes[pairs[:, 1]]
    here = np.ones(len(pairs), bool)
    for band in set(range(max(clean))) - set(clean):
        low, width = cut[band]
        here &= (difference >> np.uint64(low)) & np.uint64((1 << width) - 1) != 0
    return pairs[here], np.bitwise_count(difference[here]).astype(np.int64), omitted


def _join(task: _Join) -> tuple[np.ndarray, int]:
    """Candidates of one table that correlate enough, and the number of comparisons that were not made."""
    codes, chosen = np.load(task.scratch / "codes.npy"), np.load(task.scratch / "chosen.npy")
    pairs, distance, omitted = close_pairs(codes.ravel(), task.clean)
    # The second half of the hashes is of mirror images. A pair of two of them says what its originals say already.
    turned = pairs >= len(chosen)
    members = pairs % max(1, len(chosen))
    keep = ~turned.all(1) & (members[:, 0] != members[:, 1])
    if task.part:
        stands_in, partners = np.load(task.scratch / "stands_in.npy"), np.load(task.scratch / "partners.npy")
        keep &= (stands_in[members[:, 0]] & partners[members[:, 1]]).any(1)
    members, distance, turned = np.sort(members[keep], axis=1), distance[keep], turned[keep].any(1)

    found = np.empty(len(members), _PAIR)
    if not len(found):
        return found, omitted
    sketches = np.memmap(task.scratch / SKETCHES, np.uint8, "r").reshape(-1, SIDE, SIDE)
    found["first"], found["second"] = chosen[members[:, 0]], chosen[members[:, 1]]
    found["distance"] = distance
    for start in range(0, len(found), PAIRS):
        here = slice(start, start + PAIRS)
        first, second = sketches[found["first"][here]], sketches[found["second"][here]]
        second = np.where(turned[here, None, None], second[:, :, ::-1], second)
        found["similarity"][here] = correlation(first, second)
    return found[found["similarity"] >= task.least], omitted


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Of the edges of two faces, both uint8 (n, 32, 32), in -1..1; 0 where one has none."""
    one, two = _edges(first), _edges(second)
    size = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return (one * two).sum(1) / np.where(size > 0, size, np.inf)


def _edges(small: np.ndarray) -> np.ndarray:
    """float32 (n, 1568): the slopes of the smoothed grey levels along both axes, less their means."""
    grey = small.astype(np.float32)
    grey = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    grey = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    slopes = np.stack([grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1], grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]], axis=1)
    flat = slopes.reshape(len(small), -1)
    return flat - flat.mean(1, keepdims=True)


def _distinct(found: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs once each, in order; of a pair that is alike both plain and mirrored, what is more alike."""
    key = found["first"] * count + found["second"]
    found = found[np.lexsort((found["distance"], -found["similarity"], key))]
    key = np.sort(key)
    found = found[np.diff(key, prepend=-1) > 0]
    return np.stack([found["first"], found["second"]], axis=1), found["distance"], found["similarity"]


def _refined(faces: Faces, pairs: np.ndarray, refinement: Refinement, progress: Progress) -> np.ndarray:
    similarity = np.empty(len(pairs))
    for start in range(0, len(pairs), PAIRS):
        here = pairs[start : start + PAIRS]
        progress("refining", 2 * start, 2 * len(pairs))
        similarity[start : start + len(here)] = refinement.similarity(
            faces.domains, np.stack(faces.place(here), axis=-1)
        )
    if len(pairs):
        progress("refining", 2 * len(pairs), 2 * len(pairs))
    return similarity


# --------------------------------------------------------------------------------------------------- classes of equals


def _expanded(
    pairs: np.ndarray,
    distance: np.ndarray,
    similarity: np.ndarray,
    classes: np.ndarray,
    part: np.ndarray,
    notes: tuple[str, ...],
) -> Found:
    """Pairs between classes of equal faces → pairs of faces, with those inside the classes."""
    by_class = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes) if len(classes) else np.empty(0, np.int64)
    ends = np.cumsum(sizes)

    def members(number: int) -> list[int]:
        return by_class[ends[classes[number]] - sizes[classes[number]] : ends[classes[number]]].tolist()

    exact = [pair for end in ends[sizes > 1] for pair in _within(members(int(by_class[end - 1])), part)]
    alone = (sizes[classes[pairs]] == 1).all(1)
    listed = [pairs[alone], np.array(exact, np.int64).reshape(-1, 2)]
    origin = [np.flatnonzero(alone), np.full(len(exact), -1)]
    for place in np.flatnonzero(~alone):
        more = list(_between(members(int(pairs[place, 0])), members(int(pairs[place, 1])), part))
        listed.append(np.array(more, np.int64))
        origin.append(np.full(len(more), place))
    everything, source = np.sort(np.concatenate(listed), axis=1), np.concatenate(origin)
    order = np.lexsort((everything[:, 1], everything[:, 0]))
    everything, source = everything[order], source[order]
    near = source >= 0
    # Exact twins take the value appended at the end.
    return Found(everything, near, np.append(distance, 0)[source], np.append(similarity, 1.0)[source], notes)


def _within(members: list[int], part: np.ndarray) -> Iterator[tuple[int, int]]:
    if len(members) <= CROWD:
        yield from combinations(members, 2)
        return
    firsts = _firsts(members, part)
    yield from {(min(a, b), max(a, b)) for a in members for b in firsts if a != b}


def _between(first: list[int], second: list[int], part: np.ndarray) -> Iterator[tuple[int, int]]:
    if len(first) * len(second) <= CROWD:
        yield from product(first, second)
        return
    yield from {*product(first, _firsts(second, part)), *product(_firsts(first, part), second)}


def _firsts(members: list[int], part: np.ndarray) -> list[int]:
    """The first member in each domain and split: a face that has a twin there has this one."""
    found: dict[int, int] = {}
    for member in members:
        found.setdefault(int(part[member]), member)
    return list(found.values())


def _mapped(work: Callable[[Task], Answer], tasks: Sequence[Task], processes: int) -> Iterator[Answer]:
    """Answers in the order of the tasks."""
    if processes <= 1:
        yield from map(work, tasks)
        return
    with worker_pool(processes) as pool:
        try:
            yield from pool.map(work, tasks)
        except BrokenProcessPool:
            raise BenchError(
                "a process of the audit was killed; the machine may have run out of memory: use fewer processes"
            ) from None
