"""The leakage audit: which faces of domains are near-duplicates of each other, and what is kept of the answer.

A comparison is of two domains in one state each, or of a domain with itself; it is stored under the fingerprints of
these states, so that it holds in every suite. The audit of a suite is a folder to read: audit.md (counts),
near-duplicates.csv (every pair) and worst-pairs.png (the pairs to look at). Reading a comparison needs the standard
library only.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fergen_bench.data.labels import SPLITS
from fergen_bench.error import BenchError
from fergen_bench.files.atomic import atomically, exchange_folder
from fergen_bench.files.bounded import is_file_name, parse_json, read_bytes
from fergen_bench.wording import many

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.data.domain import Domain
    from fergen_bench.datasets.near_duplicates import Faces, Found
    from fergen_bench.progress import Progress

FORMAT = 1
MOST_COMPARISON = 256 << 20
"""Bytes of a stored comparison: those of two million pairs."""
PIXELS = "correlation of edges in 32 x 32 grey pixels"
CLOSEST, LEAST = 16, 8
"""Pairs on the sheet: the most alike, and those that only just count."""

BEGINNING = 3.0
"""Seconds that a comparison takes before it begins: its processes start."""
READ, JOINED = 30e6, 4000.0
"""Bytes of faces read, and faces compared, in a second: see benchmarks/README.md, Audit, for how it was measured."""


@dataclass(frozen=True)
class Refinement:
    """A similarity that decides which candidates are near-duplicates, such as the cosine of frozen features."""

    name: str  # what is compared, for the audit
    limit: float  # pairs below it are no near-duplicates
    similarity: Callable[[Sequence[Domain], np.ndarray], np.ndarray]
    """domains, int64 (n, 2, 2) → float (n,): pair, side, (place of the domain among these, row in it)"""


class How(NamedTuple):
    """The rule by which faces count as near-duplicates."""

    refined_by: str
    similarity: float  # the least
    distance: int  # bits by which perceptual hashes may differ


class Side(NamedTuple):
    """A face of a pair."""

    split: str
    place: int  # among the faces of its split
    id: str


class Pair(NamedTuple):
    """Two faces that are near-duplicates."""

    a: Side
    b: Side
    kind: Literal["exact", "near"]
    distance: int  # bits by which the hashes differ
    similarity: float  # as the refinement measures it; 1 for exact copies


@dataclass(frozen=True)
class State:
    """A domain as it was when it was compared."""

    name: str
    fingerprint: str
    faces: Mapping[str, int]  # by split


@dataclass(frozen=True)
class Comparison:
    """The near-duplicates between two domains, or within one: then a and b are the same."""

    a: State
    b: State
    how: How
    notes: tuple[str, ...]  # what was not compared, one sentence each
    pairs: tuple[Pair, ...]

    def near(self, state: str, part: str, parts: Iterable[str]) -> dict[int, str]:
        """Return the faces of a part of one domain that have a near-duplicate in parts of the other.

        Args:
            state: The fingerprint of the one domain.
            part: The split of it whose faces are returned.
            parts: The splits of the other domain that count.

        Returns:
            Place among the faces of the part → id.
        """
        wanted = set(parts)
        found: dict[int, str] = {}
        for pair in self.pairs:
            for mine, own, other in ((self.a, pair.a, pair.b), (self.b, pair.b, pair.a)):
                if mine.fingerprint == state and own.split == part and other.split in wanted:
                    found[own.place] = own.id
        return found


class Comparisons:
    """The comparisons that were ever made, each in a file of its own under the fingerprints of its domains.

    faults: a sentence for each file that was wanted and cannot be read. It counts as not there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: list[str] = []
        self._read: dict[Path, Comparison | None] = {}

    def find(self, one: str, other: str) -> Comparison | None:
        """Return the comparison of two states, by their fingerprints; None where it was never made."""
        path = self._path(one, other)
        return None if path is None else self._load(path)

    def stale(self, name: str, state: str) -> bool:
        """Return True where a domain of this name was compared in another state, and never in this one."""
        known = [
            side.fingerprint
            for path in (sorted(self.folder.glob("*.json")) if self.folder.is_dir() else ())
            if (found := self._load(path)) is not None
            for side in (found.a, found.b)
            if side.name == name
        ]
        return bool(known) and state not in known

    def add(self, comparison: Comparison) -> None:
        """Store a comparison, in the place of an earlier one of the same states."""
        path = self._path(comparison.a.fingerprint, comparison.b.fingerprint)
        if path is None:
            raise BenchError(f"{comparison.a.fingerprint!r} cannot be a fingerprint; prepare {comparison.a.name} again")
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT, **asdict(comparison)}
        with atomically(path) as draft:
            draft.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")
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
                    f"{path}: this comparison cannot be read ({error}), so its domains count as not audited; make it "
                    f"again with fergen-bench data audit"
                )
                self._read[path] = None
        return self._read[path]


def _read(path: Path) -> Comparison:
    content = parse_json(read_bytes(path, MOST_COMPARISON))
    if content["format"] != FORMAT:
        raise ValueError(f"it is of format {str(content['format'])[:20]}, not {FORMAT}")
    a, b = (State(**content[side]) for side in "ab")
    pairs = tuple(Pair(Side(*first), Side(*second), *rest) for first, second, *rest in content["pairs"])
    for pair in pairs:
        for state, side in ((a, pair.a), (b, pair.b)):
            if type(side.place) is not int or not 0 <= side.place < state.faces[side.split]:
                raise ValueError(f"{str(side.place)[:20]} is no place in {state.name} {str(side.split)[:20]}")
    if path.stem != f"{a.fingerprint}-{b.fingerprint}":
        raise ValueError("it is of other states than its name")
    return Comparison(a, b, How(*content["how"]), tuple(content["notes"]), pairs)


def how(refinement: Refinement | None = None) -> How:
    """Return the rule that a comparison follows now."""
    from fergen_bench.datasets import near_duplicates as twins

    if refinement is None:
        return How(PIXELS, twins.CORRELATION, twins.DISTANCE)
    return How(refinement.name, refinement.limit, twins.DISTANCE)


def pairs_of(states: Iterable[str]) -> list[tuple[str, str]]:
    """Return all pairs of states, those of a state with itself among them."""
    return [(min(pair), max(pair)) for pair in combinations_with_replacement(dict.fromkeys(states), 2)]


def estimated_seconds(domains: Iterable[Domain], sketches: Path) -> float:
    """Return about how long a comparison of these domains takes, by the number and size of their faces."""
    from fergen_bench.datasets import near_duplicates as twins

    seconds = BEGINNING
    for domain in domains:
        height, width = domain.about["size"]
        faces = sum(sum(counts.values()) for counts in domain.about["counts"].values())
        read = all(file.is_file() for file in twins.kept_files(sketches, domain.fingerprint))
        seconds += faces / JOINED + (0 if read else faces * height * width * 3 / READ)
    return seconds


def compare(
    wanted: Iterable[tuple[str, str]],
    domains: Sequence[Domain],
    store: Comparisons,
    sketches: Path | None,
    processes: int,
    progress: Progress,
    refinement: Refinement | None = None,
) -> None:
    """Find the near-duplicates between pairs of domains, and store them. Without a refinement pixels decide.

    Args:
        wanted: Pairs of fingerprints; one with itself for the near-duplicates within a domain.
        domains: Those that have these fingerprints, each once.
        sketches: A folder for what is read of the faces, so that they are read once.
    """
    import numpy as np

    from fergen_bench.datasets import near_duplicates as twins

    asked = {(min(pair), max(pair)) for pair in wanted}
    states = [domain.fingerprint for domain in domains]
    between = np.array([[(min(one, other), max(one, other)) in asked for other in states] for one in states])
    with _at_work(store.folder):
        scratch = Path(tempfile.mkdtemp(prefix=".scratch-", dir=store.folder))
        try:
            faces = twins.number_faces(domains)
            found = twins.find_twins(faces, scratch, processes, progress, refinement, between, sketches)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        pairs = _by_states(faces, found)
        known = {domain.fingerprint: State(domain.name, domain.fingerprint, _counts(domain)) for domain in domains}
        for one, other in sorted(asked):
            of_pair = tuple(sorted(pairs.get((one, other), ())))
            store.add(Comparison(known[one], known[other], how(refinement), found.notes, of_pair))


@contextmanager
def _at_work(folder: Path) -> Iterator[None]:
    """Make a folder to work in, and turn a full disk into one sentence."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise BenchError(
            f"{folder}: the audit cannot be made: {error.strerror or error}{where}; while it works it needs about two "
            f"kilobytes of this disk for each face"
        ) from None


def _counts(domain: Domain) -> dict[str, int]:
    return {split: count for split in SPLITS if (count := len(domain.rows(split)))}


def _by_states(faces: Faces, found: Found) -> dict[tuple[str, str], list[Pair]]:
    """Return the pairs by the fingerprints of their domains, sorted; within a domain the smaller face comes first."""
    import numpy as np

    domain, row = faces.place(found.pairs)
    ids = [one.ids for one in faces.domains]
    places = [np.zeros(len(one), np.int64) for one in ids]
    for number, one in enumerate(faces.domains):
        for split in SPLITS:
            rows = one.rows(split)
            places[number][rows] = np.arange(len(rows))

    def side(index: int, number: int) -> tuple[str, Side]:
        of, at = domain[index, number], row[index, number]
        split = faces.parts[faces.part[found.pairs[index, number]]][1]
        return faces.domains[of].fingerprint, Side(split, int(places[of][at]), str(ids[of][at]))

    pairs: dict[tuple[str, str], list[Pair]] = {}
    for index, (near, distance, similarity) in enumerate(
        zip(found.near.tolist(), found.distance.tolist(), found.similarity.tolist(), strict=True)
    ):
        (state_a, first), (state_b, second) = sorted((side(index, 0), side(index, 1)))
        kind: Literal["exact", "near"] = "near" if near else "exact"
        pairs.setdefault((state_a, state_b), []).append(Pair(first, second, kind, distance, round(similarity, 4)))
    return pairs


# ------------------------------------------------------------------------------------------------- the folder to read


class Part(NamedTuple):
    """One split of a domain."""

    domain: str
    split: str

    def __str__(self) -> str:
        return f"{self.domain} {self.split}"


class Row(NamedTuple):
    """A line of near-duplicates.csv. The first side comes first by domain, split and id."""

    domain_a: str
    split_a: str
    id_a: str
    domain_b: str
    split_b: str
    id_b: str
    kind: str
    distance: int
    similarity: float

    @property
    def sides(self) -> tuple[tuple[Part, str], tuple[Part, str]]:
        return (Part(self.domain_a, self.split_a), self.id_a), (Part(self.domain_b, self.split_b), self.id_b)


@dataclass(frozen=True)
class Overlap:
    """Near-duplicates between two parts, or inside one (then a and b are the same)."""

    a: Part
    b: Part
    exact: int  # pairs
    near: int  # pairs
    faces_a: int  # faces of a with a near-duplicate in b
    faces_b: int


@dataclass(frozen=True)
class Audit:
    """What the comparisons of a suite's domains came to."""

    folder: Path
    suite: str
    states: tuple[State, ...]  # each once
    hows: tuple[How, ...]
    notes: tuple[str, ...]
    pairs: tuple[Row, ...]
    overlaps: tuple[Overlap, ...]
    compared: int  # pairs of domains that were compared now
    known: int  # and before


def audit_domains(
    suite: str,
    domains: Sequence[Domain],
    folder: Path,
    store: Comparisons,
    sketches: Path | None,
    processes: int,
    progress: Progress,
    refinement: Refinement | None = None,
) -> Audit:
    """Compare the pairs of domains that never were, or by another rule, and write the audit of all of them: beside the
    folder first, whose place it then takes.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "audit.md").is_file():
        raise BenchError(f"{folder}: holds something that is no audit; name another folder, or empty this one")
    unique = list({domain.fingerprint: domain for domain in reversed(domains)}.values())[::-1]
    states = [domain.fingerprint for domain in unique]
    wanted, rule = pairs_of(states), how(refinement)
    missing = [pair for pair in wanted if (known := store.find(*pair)) is None or known.how != rule]
    if missing:
        concerned = [domain for domain in unique if any(domain.fingerprint in pair for pair in missing)]
        compare(missing, concerned, store, sketches, processes, progress, refinement)
    names = {domain.fingerprint: domain.name for domain in unique}
    found = [comparison for pair in wanted if (comparison := store.find(*pair)) is not None]
    rows = tuple(sorted(row for comparison in found for row in _rows(comparison, names)))
    same = [
        f"{domain.name} has the same faces and labels as {names[domain.fingerprint]}, and was compared once with it"
        for domain in domains
        if domain.name != names[domain.fingerprint]
    ]
    audit = Audit(
        folder,
        suite,
        tuple(State(domain.name, domain.fingerprint, _counts(domain)) for domain in unique),
        tuple(dict.fromkeys(comparison.how for comparison in found)),
        (*same, *dict.fromkeys(note for comparison in found for note in comparison.notes)),
        rows,
        _overlaps(rows),
        len(missing),
        len(wanted) - len(missing),
    )
    with _at_work(folder.parent):
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(audit, draft)
            _sheet(audit, unique, draft / "worst-pairs.png")
            exchange_folder(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return audit


def _rows(comparison: Comparison, names: Mapping[str, str]) -> Iterator[Row]:
    for pair in comparison.pairs:
        first, second = sorted(
            (Part(names[state.fingerprint], side.split), side.id)
            for state, side in ((comparison.a, pair.a), (comparison.b, pair.b))
        )
        yield Row(*first[0], first[1], *second[0], second[1], pair.kind, pair.distance, pair.similarity)


def _overlaps(rows: Iterable[Row]) -> tuple[Overlap, ...]:
    kinds: Counter[tuple[Part, Part, str]] = Counter()
    faces: dict[tuple[Part, Part], tuple[set[str], set[str]]] = {}
    for row in rows:
        (a, id_a), (b, id_b) = row.sides
        kinds[a, b, row.kind] += 1
        of_a, of_b = faces.setdefault((a, b), (set(), set()))
        of_a.add(id_a)
        of_b.add(id_b)
        if a == b:
            of_a.add(id_b)
            of_b.add(id_a)
    return tuple(
        Overlap(a, b, kinds[a, b, "exact"], kinds[a, b, "near"], len(of_a), len(of_b))
        for (a, b), (of_a, of_b) in sorted(faces.items())
    )


def _write(audit: Audit, folder: Path) -> None:
    with (folder / "near-duplicates.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(audit.pairs)
    (folder / "audit.md").write_text(_page(audit), encoding="utf-8")


def _page(audit: Audit) -> str:
    size = {Part(state.name, split): count for state in audit.states for split, count in state.faces.items()}
    rules = " or ".join(f"at least {rule.similarity} in {rule.refined_by}" for rule in audit.hows)
    bits = max(rule.distance for rule in audit.hows)
    lines = [
        f"# Leakage audit of {audit.suite}",
        "",
        f"{many(sum(size.values()), 'face')}. Exact copies are equal pixel by pixel. Near copies have perceptual "
        f"hashes that differ in at most {bits} of 64 bits (also mirrored), and {rules}.",
        "",
    ]
    for title, inside in (("Between domains and splits", False), ("Inside a split", True)):
        overlaps = [overlap for overlap in audit.overlaps if (overlap.a == overlap.b) == inside]
        lines += [f"## {title}", ""]
        if not overlaps:
            lines += ["No near-duplicates.", ""]
            continue
        lines += ["| A | B | exact pairs | near pairs | faces of A | faces of B |", "|---|---|--:|--:|--:|--:|"]
        for overlap in overlaps:
            shares = [
                f"{count:,} of {size[part]:,} ({count / size[part]:.1%})"
                for part, count in ((overlap.a, overlap.faces_a), (overlap.b, overlap.faces_b))
            ]
            lines.append(
                f"| {overlap.a} | {overlap.b} | {overlap.exact:,} | {overlap.near:,} | {shares[0]} | {shares[1]} |"
            )
        lines.append("")
    lines += [*(f"- {note}" for note in audit.notes), *([""] if audit.notes else [])]
    states = ", ".join(f"{state.name} {state.fingerprint}" for state in audit.states)
    return "\n".join([*lines, f"Every pair is in near-duplicates.csv. Fingerprints of the domains: {states}.", ""])


def _sheet(audit: Audit, domains: Sequence[Domain], path: Path) -> None:
    """The near pairs between different domains or splits that are most alike, and those that only just count, side by
    side. No file where there are none.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    near = [row for row in audit.pairs if row.kind == "near" and row.sides[0][0] != row.sides[1][0]]
    near.sort(key=lambda row: (-row.similarity, row.distance, row))
    rows = [*near[:CLOSEST], *near[max(CLOSEST, len(near) - LEAST) :]]
    if not rows:
        return
    side, text, columns = 96, 46, 4
    width, height = 2 * side + 28, side + text
    sheet = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    opened = {domain.name: domain for domain in domains}
    for place, row in enumerate(rows):
        left, top = place % columns * width, place // columns * height
        for number, (part, name) in enumerate(row.sides):
            domain = opened[part.domain]
            face = Image.fromarray(np.asarray(domain.faces[int(np.flatnonzero(domain.ids == name)[0])]))
            sheet.paste(face.resize((side, side), Image.Resampling.BICUBIC), (left + 4 + number * (side + 2), top + 4))
            shown = f"{part} {name}"
            shown = shown if len(shown) <= 34 else f"{shown[:10]}…{shown[-23:]}"
            pen.text((left + 4, top + side + 4 + 11 * number), shown, fill="black")
        pen.text((left + 4, top + side + 26), f"{many(row.distance, 'bit')}, {row.similarity:.4f}", fill="black")
    sheet.save(path, optimize=True)
