"""Find images that are exact or near copies of each other, in bounded memory and without comparing all pairs.

The search has three stages. Exact copies have equal pixels and equal size. Candidates have perceptual hashes that
differ in at most DISTANCE bits, also after mirroring one image; a band join finds all of them. Refinement decides which
candidates are near-duplicates: by the correlation of the edges in 32 x 32 grey pixels, or by a similarity that the
caller supplies.

DISTANCE and CORRELATION rest on five rendered domains and two sets of photographs:
- JPEG of quality 40, 48 pixels, greyness, and all three at once change at most 4 bits of the hash in 99 of 100 images;
  brightness x 1.2 and gamma 1.3 change at most 6 bits (10 where much of an image is white already). Of a million pairs
  of unrelated aligned faces, 5 to 150 lie within 6 bits.
- After these changes the edges of 700 images correlate at 0.97 or more (0.943 where much was white). Of all pairs of
  20,000 rendered faces that lie within 6 bits none reaches 0.945; of 18,648 pairs of different people drawn in one
  pose, light and expression, one reaches 0.96. The grey levels themselves divide less well: 0.937 and more against up
  to 0.967.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fergen_bench.data.domain import Domain
from fergen_bench.datasets.sketches import GREY_FILE, ROWS_AT_ONCE, SIDE, ImageIndex, map_in_processes, sketch_images
from fergen_bench.progress import Progress
from fergen_bench.wording import many

DISTANCE = 6
"""Largest number of bits by which the hashes of near-duplicates differ."""
CORRELATION = 0.96
"""Smallest correlation of the edges of near-duplicates, where pixels decide."""
CANDIDATE_CORRELATION = 0.7
"""Smallest correlation of the edges of candidates that a caller's similarity decides: it leaves room for a watermark
and for a crop moved by a pixel."""
EQUAL_BANDS = 3
"""Bands that are equal in near-duplicates: with DISTANCE + EQUAL_BANDS bands, DISTANCE bits change all but these."""
REACH = 1024
"""Neighbours on each side with which an image is compared in one bucket. Only larger buckets lose comparisons."""
CROWD = 64
"""Largest number of equal images of which all pairs are listed. In larger groups, each image is paired with the first
one of every domain and split."""
FLAT = 1.0
"""Standard deviation in grey levels below which an image has too little content to compare."""


@dataclass(frozen=True)
class Refinement:
    """A similarity that decides which candidates are near-duplicates, such as the cosine of frozen features.

    Attributes:
        name: Name of the similarity, which the audit prints.
        limit: Smallest similarity of near-duplicates.
        similarity: A function of the domains and of an int64 array (n, 2, 2) with the axes pair, side, and (domain
            index, row). It returns the similarity of each pair, float (n,).
    """

    name: str
    limit: float
    similarity: Callable[[Sequence[Domain], np.ndarray], np.ndarray]


@dataclass(frozen=True)
class FoundPairs:
    """Pairs of near-duplicates, each once, with the smaller image number first, sorted by number.

    Attributes:
        pairs: int64 (n, 2), numbers of an `ImageIndex`.
        near: bool (n,), False for exact copies.
        distance: int64 (n,), bits by which the hashes differ.
        similarity: float64 (n,), 1 for exact copies.
        notes: A sentence for each kind of comparison that was skipped, with the reason.
    """

    pairs: np.ndarray
    near: np.ndarray
    distance: np.ndarray
    similarity: np.ndarray
    notes: tuple[str, ...]

    def where(self, rows: np.ndarray) -> FoundPairs:
        """Return some of the pairs, by a bool mask (n,)."""
        return replace(
            self,
            pairs=self.pairs[rows],
            near=self.near[rows],
            distance=self.distance[rows],
            similarity=self.similarity[rows],
        )


class _Join(NamedTuple):
    """One table of the band join, processed by one process."""

    scratch: Path
    equal: tuple[int, ...]  # indices of the bands that must be equal
    least: float  # smallest correlation
    restricted: bool  # only pairs between some of the domains are wanted


def find_near_duplicates(
    index: ImageIndex,
    scratch: Path,
    processes: int,
    progress: Progress,
    refinement: Refinement | None = None,
    wanted: np.ndarray | None = None,
    sketch_store: Path | None = None,
) -> FoundPairs:
    """Return all near-duplicates among some images.

    The time is linear in the number of images for the hashes, and that of sorting for the join; only the number of
    pairs that are alike by chance grows faster. The memory is about 100 bytes per image, and the pairs that are found.

    Args:
        index: The images.
        scratch: An empty folder that takes one kilobyte per image during the search.
        processes: Number of worker processes.
        progress: Called with the stage, the images done and the total.
        refinement: The similarity that decides; None decides by the correlation of edges.
        wanted: bool (D, D), symmetric: the pairs of domains to compare; None compares all.
        sketch_store: Folder in which the sketches of each domain are stored, so that its images are read once.
    """
    sketches = sketch_images(index, scratch, processes, progress, sketch_store)
    _, first, classes = np.unique(sketches.digests, return_index=True, return_inverse=True)
    flat = sketches.contrast < FLAT
    chosen = np.sort(first[~flat[first]])  # one image of each class of equal images
    np.save(scratch / "codes.npy", sketches.hashes[:, chosen])
    np.save(scratch / "chosen.npy", chosen)
    if wanted is not None:
        # Equal images are compared once for all domains that contain them.
        contains = np.zeros((len(first), len(index.domains)), bool)
        contains[classes, index.locate(np.arange(len(index)))[0]] = True
        np.save(scratch / "contains.npy", contains[classes[chosen]])
        np.save(scratch / "partners.npy", (contains @ wanted)[classes[chosen]])
    least = CORRELATION if refinement is None else CANDIDATE_CORRELATION
    pairs, distance, similarity, omitted = _join_all(index, scratch, least, wanted is not None, processes, progress)
    if refinement is not None:
        similarity = _refine(index, pairs, refinement, progress)
        near = similarity >= refinement.limit
        pairs, distance, similarity = pairs[near], distance[near], similarity[near]
    notes = _notes(int(flat.sum()), omitted, classes)
    found = _expand(pairs, distance, similarity, classes, index.part, notes)
    return found if wanted is None else found.where(wanted[tuple(index.locate(found.pairs)[0].T)])


def _notes(flat: int, omitted: int, classes: np.ndarray) -> tuple[str, ...]:
    """Return a sentence for each kind of comparison that was skipped."""
    notes = []
    if flat:
        notes.append(f"Of {many(flat, 'image')} of one grey level only equal copies are found, not near-duplicates.")
    if omitted:
        notes.append(
            f"{many(omitted, 'comparison', 'were')} skipped: where more than {REACH:,} hashes share {EQUAL_BANDS} "
            f"bands, each was compared with the {REACH:,} next to it."
        )
    crowds = int((np.bincount(classes) > CROWD).sum()) if len(classes) else 0
    if crowds:
        notes.append(
            f"{many(crowds, 'picture', 'occur')} more than {CROWD} times in these domains; of their pairs, each image "
            "is listed with the first of every domain and split."
        )
    return tuple(notes)


# ----------------------------------------------------------------------------------------------------------------- join

_PAIR = np.dtype([("first", np.int64), ("second", np.int64), ("distance", np.int64), ("similarity", np.float64)])


def bands() -> list[tuple[int, int]]:
    """Return the lowest bit and the width in bits of each band of a hash."""
    cuts = np.linspace(0, 64, DISTANCE + EQUAL_BANDS + 1).round().astype(int).tolist()
    return [(low, high - low) for low, high in pairwise(cuts)]


def close_pairs(codes: np.ndarray, equal: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the pairs of hashes within DISTANCE whose first EQUAL_BANDS equal bands are the given ones.

    The bands that must be equal become the highest bits, so hashes that agree in them are adjacent after sorting. Over
    all choices of bands each pair is found once.

    Args:
        codes: uint64 (n,), the hashes.
        equal: Indices of the bands that must be equal.

    Returns:
        The pairs, int64 (p, 2); their distances in bits, int64 (p,); and the number of comparisons that were skipped.
    """
    cut = bands()
    words = _reordered(codes, [*equal, *(band for band in range(len(cut)) if band not in equal)])
    order = np.argsort(words)
    words = words[order]
    keys = words >> np.uint64(64 - sum(cut[band][1] for band in equal))

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
    first_time = np.ones(len(pairs), bool)
    for band in set(range(max(equal))) - set(equal):
        low, width = cut[band]
        first_time &= (difference >> np.uint64(low)) & np.uint64((1 << width) - 1) != 0
    return pairs[first_time], np.bitwise_count(difference[first_time]).astype(np.int64), omitted


def _reordered(codes: np.ndarray, order: list[int]) -> np.ndarray:
    """Return hashes with their bands in another order, the first one as the highest bits."""
    cut = bands()
    words = np.zeros_like(codes)
    for band in order:
        low, width = cut[band]
        words = (words << np.uint64(width)) | ((codes >> np.uint64(low)) & np.uint64((1 << width) - 1))
    return words


def _join_all(
    index: ImageIndex, scratch: Path, least: float, restricted: bool, processes: int, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Return pairs, distances and similarities over all tables, and the number of comparisons that were skipped."""
    choices = combinations(range(DISTANCE + EQUAL_BANDS), EQUAL_BANDS)
    tables = [_Join(scratch, equal, least, restricted) for equal in choices]
    progress("comparing", 0, len(index))
    candidates, omitted = [], 0
    for done, (found, skipped) in enumerate(map_in_processes(_join, tables, processes), start=1):
        candidates.append(found)
        omitted += skipped
        progress("comparing", len(index) * done // len(tables), len(index))
    return *_distinct(np.concatenate(candidates), len(index)), omitted


def _join(task: _Join) -> tuple[np.ndarray, int]:
    """Return the candidates of one table that correlate enough, and the number of comparisons that were skipped."""
    codes, chosen = np.load(task.scratch / "codes.npy"), np.load(task.scratch / "chosen.npy")
    pairs, distance, omitted = close_pairs(codes.ravel(), task.equal)
    # The second half of the hashes belongs to mirror images. A pair of two mirror images repeats that of the originals.
    mirrored = pairs >= len(chosen)
    members = pairs % max(1, len(chosen))
    keep = ~mirrored.all(1) & (members[:, 0] != members[:, 1])
    if task.restricted:
        contains, partners = np.load(task.scratch / "contains.npy"), np.load(task.scratch / "partners.npy")
        keep &= (contains[members[:, 0]] & partners[members[:, 1]]).any(1)
    members, distance, mirrored = np.sort(members[keep], axis=1), distance[keep], mirrored[keep].any(1)

    found = np.empty(len(members), _PAIR)
    if not len(found):
        return found, omitted
    sketches = np.memmap(task.scratch / GREY_FILE, np.uint8, "r").reshape(-1, SIDE, SIDE)
    found["first"], found["second"] = chosen[members[:, 0]], chosen[members[:, 1]]
    found["distance"] = distance
    for start in range(0, len(found), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        first, second = sketches[found["first"][rows]], sketches[found["second"][rows]]
        second = np.where(mirrored[rows, None, None], second[:, :, ::-1], second)
        found["similarity"][rows] = correlation(first, second)
    return found[found["similarity"] >= task.least], omitted


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the correlation of the edges of images, pair by pair.

    Args:
        first: uint8 (n, 32, 32).
        second: uint8 (n, 32, 32).

    Returns:
        float (n,) in -1..1; 0 where an image has no edges.
    """
    one, two = _edges(first), _edges(second)
    size = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
    return (one * two).sum(1) / np.where(size > 0, size, np.inf)


def _edges(small: np.ndarray) -> np.ndarray:
    """Return the centred slopes of the smoothed grey levels along both axes, float32 (n, 1568)."""
    grey = small.astype(np.float32)
    grey = grey[:, :-2] + 2 * grey[:, 1:-1] + grey[:, 2:]
    grey = grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]
    slopes = np.stack([grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1], grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]], axis=1)
    flat = slopes.reshape(len(small), -1)
    return flat - flat.mean(1, keepdims=True)


def _distinct(found: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each pair once, in order; of a pair that is alike both plain and mirrored, the larger similarity."""
    key = found["first"] * count + found["second"]
    found = found[np.lexsort((found["distance"], -found["similarity"], key))]
    key = np.sort(key)
    found = found[np.diff(key, prepend=-1) > 0]
    return np.stack([found["first"], found["second"]], axis=1), found["distance"], found["similarity"]


def _refine(index: ImageIndex, pairs: np.ndarray, refinement: Refinement, progress: Progress) -> np.ndarray:
    """Return the similarity of pairs by a refinement."""
    similarity = np.empty(len(pairs))
    for start in range(0, len(pairs), ROWS_AT_ONCE):
        some = pairs[start : start + ROWS_AT_ONCE]
        progress("refining", 2 * start, 2 * len(pairs))
        located = np.stack(index.locate(some), axis=-1)
        similarity[start : start + len(some)] = refinement.similarity(index.domains, located)
    if len(pairs):
        progress("refining", 2 * len(pairs), 2 * len(pairs))
    return similarity


# ---------------------------------------------------------------------------------------------- classes of equal images


def _expand(
    pairs: np.ndarray,
    distance: np.ndarray,
    similarity: np.ndarray,
    classes: np.ndarray,
    part: np.ndarray,
    notes: tuple[str, ...],
) -> FoundPairs:
    """Turn pairs between classes of equal images into pairs of images, and add the pairs inside the classes."""
    by_class = np.argsort(classes, kind="stable")
    sizes = np.bincount(classes) if len(classes) else np.empty(0, np.int64)
    ends = np.cumsum(sizes)

    def members(number: int) -> list[int]:
        return by_class[ends[classes[number]] - sizes[classes[number]] : ends[classes[number]]].tolist()

    exact = [pair for end in ends[sizes > 1] for pair in _pairs_within(members(int(by_class[end - 1])), part)]
    alone = (sizes[classes[pairs]] == 1).all(1)
    listed = [pairs[alone], np.array(exact, np.int64).reshape(-1, 2)]
    origin = [np.flatnonzero(alone), np.full(len(exact), -1)]
    for row in np.flatnonzero(~alone):
        more = list(_pairs_between(members(int(pairs[row, 0])), members(int(pairs[row, 1])), part))
        listed.append(np.array(more, np.int64))
        origin.append(np.full(len(more), row))
    everything, source = np.sort(np.concatenate(listed), axis=1), np.concatenate(origin)
    order = np.lexsort((everything[:, 1], everything[:, 0]))
    everything, source = everything[order], source[order]
    near = source >= 0
    # The index -1 of exact copies selects the value appended at the end.
    return FoundPairs(everything, near, np.append(distance, 0)[source], np.append(similarity, 1.0)[source], notes)


def _pairs_within(members: list[int], part: np.ndarray) -> Iterator[tuple[int, int]]:
    if len(members) <= CROWD:
        yield from combinations(members, 2)
        return
    firsts = _first_of_each_part(members, part)
    yield from {(min(a, b), max(a, b)) for a in members for b in firsts if a != b}


def _pairs_between(first: list[int], second: list[int], part: np.ndarray) -> Iterator[tuple[int, int]]:
    if len(first) * len(second) <= CROWD:
        yield from product(first, second)
        return
    yield from {*product(first, _first_of_each_part(second, part)), *product(_first_of_each_part(first, part), second)}


def _first_of_each_part(members: list[int], part: np.ndarray) -> list[int]:
    """Return the first member in each domain and split: an image with a near-duplicate there is paired with it."""
    found: dict[int, int] = {}
    for member in members:
        found.setdefault(int(part[member]), member)
    return list(found.values())
