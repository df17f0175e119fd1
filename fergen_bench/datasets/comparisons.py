"""Compare pairs of domains for near-duplicates, and store the result of each comparison.

A comparison belongs to two domains in one state each, or to one domain and itself. It is stored under the fingerprints
of these states, so it is valid in every suite. Reading a comparison needs the standard library only.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from fergen_bench.data.labels import SPLITS
from fergen_bench.error import BenchError
from fergen_bench.files.atomic import atomically
from fergen_bench.files.bounded import is_file_name, parse_json, read_bytes

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.data.domain import Domain
    from fergen_bench.datasets.near_duplicates import FoundPairs, Refinement
    from fergen_bench.datasets.sketches import ImageIndex
    from fergen_bench.progress import Progress

FORMAT = 1
MOST_BYTES = 256 << 20
"""Largest size of a stored comparison, which is enough for two million pairs."""
PIXELS = "correlation of edges in 32 x 32 grey pixels"
NOT_FOUND = (
    "Crops of a picture to 92 % of its side or less are not found, and of those to 95 % only 6 %, so two releases of a "
    "dataset in different crops look unrelated"
)
"""The limit of what a comparison finds. benchmarks/README.md, Audit, describes the measurement."""

STARTING_SECONDS = 3.0
"""Time until the worker processes of a comparison have started."""
BYTES_READ, IMAGES_JOINED = 30e6, 4000.0
"""Bytes of images read, and images compared, per second. benchmarks/README.md, Audit, describes the measurement."""


class Rule(NamedTuple):
    """The rule by which two images count as near-duplicates."""

    refined_by: str
    similarity: float  # the smallest
    distance: int  # bits by which perceptual hashes may differ


class Side(NamedTuple):
    """One image of a pair."""

    split: str
    row: int  # among the images of its split
    id: str


class Pair(NamedTuple):
    """Two images that are near-duplicates."""

    a: Side
    b: Side
    kind: Literal["exact", "near"]
    distance: int  # bits by which the hashes differ
    similarity: float  # as the refinement measures it; 1 for exact copies


@dataclass(frozen=True)
class State:
    """A domain at the time of a comparison."""

    name: str
    fingerprint: str
    images: Mapping[str, int]  # split → number of images


@dataclass(frozen=True)
class Comparison:
    """The near-duplicates between two domains, or within one domain, where a and b are equal."""

    a: State
    b: State
    rule: Rule
    notes: tuple[str, ...]  # a sentence for each kind of comparison that was skipped
    pairs: tuple[Pair, ...]

    def near(self, state: str, part: str, parts: Iterable[str]) -> dict[int, str]:
        """Return the images of a split of one domain that have a near-duplicate in splits of the other domain.

        Args:
            state: Fingerprint of the one domain.
            part: The split of it whose images are returned.
            parts: The splits of the other domain that count.

        Returns:
            Row among the images of the split → id.
        """
        wanted = set(parts)
        found: dict[int, str] = {}
        for pair in self.pairs:
            for mine, own, other in ((self.a, pair.a, pair.b), (self.b, pair.b, pair.a)):
                if mine.fingerprint == state and own.split == part and other.split in wanted:
                    found[own.row] = own.id
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the content of the file in which the comparison is stored."""
        a, b = (
            {"name": state.name, "fingerprint": state.fingerprint, "faces": dict(state.images)}
            for state in (self.a, self.b)
        )
        return {"format": FORMAT, "a": a, "b": b, "how": self.rule, "notes": self.notes, "pairs": self.pairs}


class Comparisons:
    """A folder of stored comparisons, each in a file named after the fingerprints of its two domains.

    Attributes:
        folder: The folder.
        faults: A sentence for each file that was needed and cannot be read. Such a file counts as absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[str] = []
        self._read: dict[Path, Comparison | None] = {}

    def find(self, one: str, other: str) -> Comparison | None:
        """Return the comparison of two states, given their fingerprints, or None where none is stored."""
        path = self._path(one, other)
        return None if path is None else self._load(path)

    def stale(self, name: str, state: str) -> bool:
        """Return True where a domain of this name was compared in other states, but never in this one."""
        known = [
            side.fingerprint
            for path in (sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ())
            if (found := self._load(path)) is not None
            for side in (found.a, found.b)
            if side.name == name
        ]
        return bool(known) and state not in known

    def add(self, comparison: Comparison) -> None:
        """Store a comparison, replacing an earlier one of the same states.

        Raises:
            BenchError: A fingerprint cannot be part of a file name.
        """
        path = self._path(comparison.a.fingerprint, comparison.b.fingerprint)
        if path is None:
            raise BenchError(
                f"{comparison.a.name}: {comparison.a.fingerprint!r} cannot be a fingerprint. Prepare "
                f"{comparison.a.name} again"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomically(path) as draft:
            draft.write_text(json.dumps(comparison.to_json(), ensure_ascii=False) + "\n", encoding="utf-8")
        self._read[path] = comparison

    def _path(self, one: str, other: str) -> Path | None:
        if not (is_file_name(one) and is_file_name(other)):
            return None
        first, second = sorted((one, other))
        return self.folder / f"{first}-{second}.json"

    def _load(self, path: Path) -> Comparison | None:
        if path not in self._read:
            try:
                self._read[path] = _read(path) if path.is_file() else None
            except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
                self.faults.append(
                    f"{path}: this comparison cannot be read ({error}), so its domains count as not audited. Compare "
                    f"them again with fergen-bench data audit"
                )
                self._read[path] = None
        return self._read[path]


def _read(path: Path) -> Comparison:
    content = parse_json(read_bytes(path, MOST_BYTES))
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {str(content['format'])[:20]}, not {FORMAT}")
    a, b = (State(content[side]["name"], content[side]["fingerprint"], content[side]["faces"]) for side in "ab")
    pairs = tuple(Pair(Side(*first), Side(*second), *rest) for first, second, *rest in content["pairs"])
    for pair in pairs:
        for state, side in ((a, pair.a), (b, pair.b)):
            if type(side.row) is not int or not 0 <= side.row < state.images[side.split]:
                raise ValueError(f"{state.name} {str(side.split)[:20]} has no row {str(side.row)[:20]}")
    if path.stem != f"{a.fingerprint}-{b.fingerprint}":
        raise ValueError("its states are not those of its name")
    return Comparison(a, b, Rule(*content["how"]), tuple(content["notes"]), pairs)


def current_rule(refinement: Refinement | None = None) -> Rule:
    """Return the rule that a comparison made now follows."""
    from fergen_bench.datasets.near_duplicates import CORRELATION, DISTANCE

    if refinement is None:
        return Rule(PIXELS, CORRELATION, DISTANCE)
    return Rule(refinement.name, refinement.limit, DISTANCE)


def pairs_of(states: Iterable[str]) -> list[tuple[str, str]]:
    """Return all pairs of states, including each state with itself."""
    return [(min(pair), max(pair)) for pair in combinations_with_replacement(dict.fromkeys(states), 2)]


def estimated_seconds(domains: Iterable[Domain], sketch_store: Path) -> float:
    """Return the approximate duration of a comparison of domains, from the number and size of their images."""
    from fergen_bench.datasets.sketches import stored_files

    seconds = STARTING_SECONDS
    for domain in domains:
        height, width = domain.about["size"]
        images = sum(sum(counts.values()) for counts in domain.about["counts"].values())
        read = all(file.is_file() for file in stored_files(sketch_store, domain.fingerprint))
        seconds += images / IMAGES_JOINED + (0 if read else images * height * width * 3 / BYTES_READ)
    return seconds


def compare(
    wanted: Iterable[tuple[str, str]],
    domains: Sequence[Domain],
    store: Comparisons,
    sketch_store: Path | None,
    processes: int,
    progress: Progress,
    refinement: Refinement | None = None,
) -> None:
    """Find the near-duplicates between pairs of domains, and store them.

    Args:
        wanted: Pairs of fingerprints; a fingerprint with itself means the near-duplicates within a domain.
        domains: The domains with these fingerprints, each once.
        store: Where the comparisons are stored.
        sketch_store: Folder of the sketches of images, so that images are read once; None stores no sketches.
        processes: Number of worker processes.
        progress: Called with the stage, the images done and the total.
        refinement: The similarity that decides; None decides by pixels.

    Raises:
        BenchError: The folder cannot be written, a domain is damaged, or a worker process was killed.
    """
    import numpy as np

    from fergen_bench.datasets.near_duplicates import find_near_duplicates
    from fergen_bench.datasets.sketches import index_images

    ordered = {(min(pair), max(pair)) for pair in wanted}
    states = [domain.fingerprint for domain in domains]
    between = np.array([[(min(one, other), max(one, other)) in ordered for other in states] for one in states])
    with working_in(store.folder):
        scratch = Path(tempfile.mkdtemp(prefix=".scratch-", dir=store.folder))
        try:
            index = index_images(domains)
            found = find_near_duplicates(index, scratch, processes, progress, refinement, between, sketch_store)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        pairs = _by_states(index, found)
        known = {domain.fingerprint: state_of(domain) for domain in domains}
        for one, other in sorted(ordered):
            of_pair = tuple(sorted(pairs.get((one, other), ())))
            store.add(Comparison(known[one], known[other], current_rule(refinement), found.notes, of_pair))


def state_of(domain: Domain) -> State:
    """Return the present state of a domain."""
    images = {split: count for split in SPLITS if (count := len(domain.rows(split)))}
    return State(domain.name, domain.fingerprint, images)


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Create a folder to work in, and turn a failure to write into one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise BenchError(
            f"{folder}: the audit cannot be written: {error.strerror or error}{where}. During the audit this disk "
            f"needs about two kilobytes per image"
        ) from None


def _by_states(index: ImageIndex, found: FoundPairs) -> dict[tuple[str, str], list[Pair]]:
    """Return the pairs by the fingerprints of their domains, sorted; within a domain the smaller side comes first."""
    domain, row = index.locate(found.pairs)
    row_in_split = [_rows_in_splits(one) for one in index.domains]

    def side(pair: int, number: int) -> tuple[str, Side]:
        of, at = domain[pair, number], row[pair, number]
        split = index.parts[index.part[found.pairs[pair, number]]][1]
        owner = index.domains[of]
        return owner.fingerprint, Side(split, int(row_in_split[of][at]), str(owner.ids[at]))

    pairs: dict[tuple[str, str], list[Pair]] = {}
    for pair, (near, distance, similarity) in enumerate(
        zip(found.near.tolist(), found.distance.tolist(), found.similarity.tolist(), strict=True)
    ):
        (state_a, first), (state_b, second) = sorted((side(pair, 0), side(pair, 1)))
        kind: Literal["exact", "near"] = "near" if near else "exact"
        pairs.setdefault((state_a, state_b), []).append(Pair(first, second, kind, distance, round(similarity, 4)))
    return pairs


def _rows_in_splits(domain: Domain) -> np.ndarray:
    """Return the row of each image of a domain among the images of its split, int64 (N,)."""
    import numpy as np

    found = np.zeros(len(domain.ids), np.int64)
    for split in SPLITS:
        rows = domain.rows(split)
        found[rows] = np.arange(len(rows))
    return found
