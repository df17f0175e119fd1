"""The leakage audit of a suite: which faces of its domains and splits are one picture, and what is kept of the answer.

An audit is a folder: audit.json (what was compared, how, and counts), twins.csv (every pair), audit.md (the counts to
read) and worst-pairs.png (the pairs to look at). Reading one needs the standard library only.
"""

from __future__ import annotations

import csv
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from fergen_bench.atomic import exchange_folder
from fergen_bench.domain import SPLITS
from fergen_bench.error import BenchError
from fergen_bench.untrusted import MOST_TEXT, parse_json, read_bytes
from fergen_bench.wording import many

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.datasets.twins import Faces, Found, Progress
    from fergen_bench.domain import Domain

FORMAT = 1
PIXELS = "correlation of edges in 32 x 32 grey pixels"
CLOSEST, LEAST = 16, 8
"""Pairs on the sheet: the most alike, and those that only just count."""
REPEAT = "make it again with fergen-bench data audit"


@dataclass(frozen=True)
class Refinement:
    """A similarity that decides which candidates are twins, such as the cosine of frozen features."""

    name: str  # what is compared, for the audit
    limit: float  # pairs below it are no twins
    similarity: Callable[[np.ndarray], np.ndarray]
    """int64 (n, 2, 2) → float (n,): pair, side, (place of the domain among those audited, row in it)"""


class Part(NamedTuple):
    """One split of a domain."""

    domain: str
    split: str

    def __str__(self) -> str:
        return f"{self.domain} {self.split}"


class Twin(NamedTuple):
    """Two faces that are one picture: a row of twins.csv. The first side comes first by domain, split and id."""

    domain_a: str
    split_a: str
    id_a: str
    domain_b: str
    split_b: str
    id_b: str
    kind: Literal["exact", "near"]
    distance: int  # bits by which the hashes differ
    similarity: float  # as the refinement measures it; 1 for exact twins

    @property
    def sides(self) -> tuple[tuple[Part, str], tuple[Part, str]]:
        return (Part(self.domain_a, self.split_a), self.id_a), (Part(self.domain_b, self.split_b), self.id_b)


@dataclass(frozen=True)
class Overlap:
    """Twins between two parts, or inside one (then a and b are the same)."""

    a: Part
    b: Part
    exact: int  # pairs
    near: int  # pairs
    faces_a: int  # faces of a with a twin in b
    faces_b: int


@dataclass(frozen=True)
class Audit:
    """What an audit found."""

    folder: Path
    suite: str
    fingerprints: Mapping[str, str]  # domain → its state when it was audited
    faces: Mapping[str, Mapping[str, int]]  # domain → split → faces
    thresholds: Mapping[str, float]
    refined_by: str
    notes: tuple[str, ...]  # what was not compared, one sentence each
    overlaps: tuple[Overlap, ...]

    def covers(self, fingerprints: Mapping[str, str]) -> bool:
        """Whether it was made for these domains in this state (domain → fingerprint); it may have seen more."""
        return all(self.fingerprints.get(name) == state for name, state in fingerprints.items())

    @cached_property
    def twins(self) -> tuple[Twin, ...]:
        """Every pair, sorted: twins.csv."""
        path = self.folder / "twins.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = csv.reader(file)
                if tuple(next(rows, ())) != Twin._fields:
                    raise ValueError("its first line is not that of an audit")
                return tuple(
                    Twin(a, b, c, d, e, f, "near" if kind == "near" else "exact", int(distance), float(alike))
                    for a, b, c, d, e, f, kind, distance, alike in rows
                )
        except (OSError, ValueError, csv.Error) as error:
            raise BenchError(f"{path}: cannot be read ({error}); {REPEAT}") from None

    def twins_of(
        self, target: str, target_part: str, sources: Iterable[str], source_parts: Sequence[str] = ("train", "val")
    ) -> frozenset[str]:
        """Ids of the target's faces that have a twin in the sources."""
        wanted, goal = {Part(source, part) for source in sources for part in source_parts}, Part(target, target_part)
        for name in (target, *(part.domain for part in wanted)):
            if name not in self.fingerprints:
                raise BenchError(f"{self.folder}: this audit does not cover {name}; {REPEAT}")
        return frozenset().union(*(self._shared.get((goal, part), ()) for part in wanted))

    @cached_property
    def _shared(self) -> dict[tuple[Part, Part], set[str]]:
        """(one part, another) → ids of the one's faces with a twin in the other."""
        shared: dict[tuple[Part, Part], set[str]] = {}
        for twin in self.twins:
            (a, id_a), (b, id_b) = twin.sides
            shared.setdefault((a, b), set()).add(id_a)
            shared.setdefault((b, a), set()).add(id_b)
        return shared

    def count(self, source: str, target: str, target_part: str = "test") -> int:
        """Faces of the target's test split (or of the part that is scored) with a twin in the source's train or val."""
        return len(self.twins_of(target, target_part, (source,)))


def load_audit(folder: Path) -> Audit | None:
    """The audit in a folder, or None where there is none."""
    path = folder / "audit.json"
    if not path.is_file():
        return None
    try:
        content = parse_json(read_bytes(path, MOST_TEXT))
        if content["format"] != FORMAT:
            raise BenchError(f"{path}: is of format {content['format']}, not {FORMAT}; {REPEAT}")
        return Audit(
            folder,
            content["suite"],
            content["fingerprints"],
            content["faces"],
            content["thresholds"],
            content["refined_by"],
            tuple(content["notes"]),
            tuple(Overlap(**{**row, "a": Part(*row["a"]), "b": Part(*row["b"])}) for row in content["overlaps"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(f"{path}: cannot be read ({error}); {REPEAT}") from None


def audit_domains(
    suite: str,
    domains: Sequence[Domain],
    folder: Path,
    processes: int,
    progress: Progress,
    refinement: Refinement | None = None,
) -> Audit:
    """Finds the twins in and between prepared domains, and writes the audit whole: beside the folder first, whose place
    it then takes. Without a refinement the correlation of pixels decides.
    """
    from fergen_bench.datasets import twins

    if folder.exists() and any(folder.iterdir()) and not (folder / "audit.json").is_file():
        raise BenchError(f"{folder}: holds something that is no audit; name another folder, or empty this one")
    draft = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        scratch = draft / "scratch"
        scratch.mkdir()
        faces = twins.number_faces(domains)
        found = twins.find_twins(faces, scratch, processes, progress, refinement)
        shutil.rmtree(scratch)

        pairs = _twins(faces, found)
        audit = Audit(
            folder,
            suite,
            {domain.name: domain.fingerprint for domain in domains},
            {
                domain.name: {split: count for split in SPLITS if (count := len(domain.rows(split)))}
                for domain in domains
            },
            {"distance": twins.DISTANCE, "similarity": refinement.limit if refinement else twins.CORRELATION},
            refinement.name if refinement else PIXELS,
            found.notes,
            _overlaps(pairs),
        )
        _write(audit, pairs, draft)
        _sheet(pairs, domains, draft / "worst-pairs.png")
        exchange_folder(draft, folder)
        return audit
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise BenchError(
            f"{folder}: the audit cannot be made: {error.strerror or error}{where}; while it works it needs about one "
            f"kilobyte of this disk for each face"
        ) from None
    finally:
        if draft is not None:
            shutil.rmtree(draft, ignore_errors=True)


def _twins(faces: Faces, found: Found) -> list[Twin]:
    """With names, each pair in the order of its sides, sorted."""
    domain, row = faces.place(found.pairs)
    ids = [one.ids for one in faces.domains]
    pairs = []
    for index, (near, distance, similarity) in enumerate(
        zip(found.near.tolist(), found.distance.tolist(), found.similarity.tolist(), strict=True)
    ):
        first, second = sorted(
            (Part(*faces.parts[faces.part[number]]), str(ids[domain[index, side]][row[index, side]]))
            for side, number in enumerate(found.pairs[index])
        )
        kind: Literal["exact", "near"] = "near" if near else "exact"
        pairs.append(Twin(*first[0], first[1], *second[0], second[1], kind, distance, round(similarity, 4)))
    return sorted(pairs)


def _overlaps(pairs: Iterable[Twin]) -> tuple[Overlap, ...]:
    kinds: Counter[tuple[Part, Part, str]] = Counter()
    faces: dict[tuple[Part, Part], tuple[set[str], set[str]]] = {}
    for twin in pairs:
        (a, id_a), (b, id_b) = twin.sides
        kinds[a, b, twin.kind] += 1
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


def _write(audit: Audit, pairs: Iterable[Twin], folder: Path) -> None:
    content = {"format": FORMAT, **asdict(audit)}
    del content["folder"]
    (folder / "audit.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with (folder / "twins.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Twin._fields)
        writer.writerows(pairs)
    (folder / "audit.md").write_text(_page(audit), encoding="utf-8")


def _page(audit: Audit) -> str:
    size = {Part(domain, split): count for domain, splits in audit.faces.items() for split, count in splits.items()}
    lines = [
        f"# Leakage audit of {audit.suite}",
        "",
        f"{many(sum(size.values()), 'face')}. Exact twins are equal pixel by pixel. Near twins have perceptual "
        f"hashes that differ in at most {audit.thresholds['distance']} of 64 bits (also mirrored), and at least "
        f"{audit.thresholds['similarity']} in {audit.refined_by}.",
        "",
    ]
    for title, inside in (("Between domains and splits", False), ("Inside a split", True)):
        overlaps = [overlap for overlap in audit.overlaps if (overlap.a == overlap.b) == inside]
        lines += [f"## {title}", ""]
        if not overlaps:
            lines += ["No twins.", ""]
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
    states = ", ".join(f"{name} {state}" for name, state in audit.fingerprints.items())
    return "\n".join([*lines, f"Every pair is in twins.csv. State of the domains: {states}.", ""])


def _sheet(pairs: Sequence[Twin], domains: Sequence[Domain], path: Path) -> None:
    """The near pairs between different domains or splits that are most alike, and those that only just count, side by
    side. No file where there are none.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    near = [twin for twin in pairs if twin.kind == "near" and twin.sides[0][0] != twin.sides[1][0]]
    near.sort(key=lambda twin: (-twin.similarity, twin.distance, twin))
    rows = [*near[:CLOSEST], *near[max(CLOSEST, len(near) - LEAST) :]]
    if not rows:
        return
    side, text, columns = 96, 46, 4
    width, height = 2 * side + 28, side + text
    sheet = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    opened = {domain.name: domain for domain in domains}
    for place, twin in enumerate(rows):
        left, top = place % columns * width, place // columns * height
        for number, (part, name) in enumerate(twin.sides):
            domain = opened[part.domain]
            face = Image.fromarray(np.asarray(domain.faces[int(np.flatnonzero(domain.ids == name)[0])]))
            sheet.paste(face.resize((side, side), Image.Resampling.BICUBIC), (left + 4 + number * (side + 2), top + 4))
            shown = f"{part} {name}"
            shown = shown if len(shown) <= 34 else f"{shown[:10]}…{shown[-23:]}"
            pen.text((left + 4, top + side + 4 + 11 * number), shown, fill="black")
        pen.text((left + 4, top + side + 26), f"{many(twin.distance, 'bit')}, {twin.similarity:.4f}", fill="black")
    sheet.save(path, optimize=True)
