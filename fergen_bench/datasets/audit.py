"""Audit the domains of a suite for images that occur in two domains or in two splits, and write the result.

The audit of a suite is a folder: audit.md has the counts, near-duplicates.csv every pair, and worst-pairs.png the pairs
that are worth a look.
"""

from __future__ import annotations

import csv
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fergen_bench.datasets.comparisons import (
    NOT_FOUND,
    Comparison,
    Comparisons,
    Rule,
    State,
    compare,
    current_rule,
    pairs_of,
    state_of,
    working_in,
)
from fergen_bench.error import BenchError
from fergen_bench.files.atomic import exchange_folder
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.data.domain import Domain
    from fergen_bench.datasets.near_duplicates import Refinement
    from fergen_bench.progress import Progress

CLOSEST, FARTHEST = 16, 8
"""Pairs on the contact sheet: the most similar ones, and those that are just similar enough."""


class Part(NamedTuple):
    """One split of a domain."""

    domain: str
    split: str

    def __str__(self) -> str:
        return f"{self.domain} {self.split}"


class Row(NamedTuple):
    """A row of near-duplicates.csv, whose first side comes first by domain, split and id."""

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
        """The part and the id of each image."""
        return (Part(self.domain_a, self.split_a), self.id_a), (Part(self.domain_b, self.split_b), self.id_b)


@dataclass(frozen=True)
class Overlap:
    """Near-duplicates between two parts, or within one part, where a and b are equal."""

    a: Part
    b: Part
    exact: int  # pairs
    near: int  # pairs
    images_a: int  # images of a with a near-duplicate in b
    images_b: int


@dataclass(frozen=True)
class Audit:
    """The near-duplicates in the domains of a suite."""

    folder: Path
    suite: str
    states: tuple[State, ...]  # each once
    rules: tuple[Rule, ...]
    notes: tuple[str, ...]
    pairs: tuple[Row, ...]
    overlaps: tuple[Overlap, ...]
    compared: int  # pairs of domains compared by this audit
    known: int  # pairs of domains compared before


def audit_domains(
    suite: str,
    domains: Sequence[Domain],
    folder: Path,
    store: Comparisons,
    sketch_store: Path | None,
    processes: int,
    progress: Progress,
    refinement: Refinement | None = None,
) -> Audit:
    """Compare the pairs of domains that have no comparison by the present rule, and write the audit of all pairs.

    The audit is written to a temporary folder, which then replaces an earlier audit.

    Args:
        suite: Name of the suite.
        domains: The domains of the suite.
        folder: Folder of the audit.
        store: Stored comparisons, which are read and added to.
        sketch_store: Folder of the sketches of images; None stores no sketches.
        processes: Number of worker processes.
        progress: Called with the stage, the images done and the total.
        refinement: The similarity that decides; None decides by pixels.

    Raises:
        BenchError: The folder has other content or cannot be written, or a domain cannot be compared.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "audit.md").is_file():
        raise BenchError(f"{folder}: this folder has other content than an audit. Choose another folder, or empty it")
    unique = list({domain.fingerprint: domain for domain in reversed(domains)}.values())[::-1]
    wanted, rule = pairs_of(domain.fingerprint for domain in unique), current_rule(refinement)
    missing = [pair for pair in wanted if (known := store.find(*pair)) is None or known.rule != rule]
    if missing:
        concerned = [domain for domain in unique if any(domain.fingerprint in pair for pair in missing)]
        compare(missing, concerned, store, sketch_store, processes, progress, refinement)
    found = [comparison for pair in wanted if (comparison := store.find(*pair)) is not None]
    audit = _assembled(suite, domains, unique, folder, found, len(missing))
    with working_in(folder.parent):
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(audit, draft)
            _draw_worst_pairs(audit, unique, draft / "worst-pairs.png")
            exchange_folder(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return audit


def _assembled(
    suite: str,
    domains: Sequence[Domain],
    unique: Sequence[Domain],
    folder: Path,
    found: Sequence[Comparison],
    compared: int,
) -> Audit:
    """Return the audit that comparisons amount to."""
    names = {domain.fingerprint: domain.name for domain in unique}
    rows = tuple(sorted(row for comparison in found for row in _rows(comparison, names)))
    same = [
        f"{domain.name} has the same images and labels as {names[domain.fingerprint]}; the two were compared as one"
        for domain in domains
        if domain.name != names[domain.fingerprint]
    ]
    return Audit(
        folder,
        suite,
        tuple(map(state_of, unique)),
        tuple(dict.fromkeys(comparison.rule for comparison in found)),
        (*same, *dict.fromkeys(note for comparison in found for note in comparison.notes)),
        rows,
        _overlaps(rows),
        compared,
        len(found) - compared,
    )


def _rows(comparison: Comparison, names: Mapping[str, str]) -> Iterator[Row]:
    for pair in comparison.pairs:
        first, second = sorted(
            (Part(names[state.fingerprint], side.split), side.id)
            for state, side in ((comparison.a, pair.a), (comparison.b, pair.b))
        )
        yield Row(*first[0], first[1], *second[0], second[1], pair.kind, pair.distance, pair.similarity)


def _overlaps(rows: Iterable[Row]) -> tuple[Overlap, ...]:
    kinds: Counter[tuple[Part, Part, str]] = Counter()
    images: dict[tuple[Part, Part], tuple[set[str], set[str]]] = {}
    for row in rows:
        (a, id_a), (b, id_b) = row.sides
        kinds[a, b, row.kind] += 1
        of_a, of_b = images.setdefault((a, b), (set(), set()))
        of_a.add(id_a)
        of_b.add(id_b)
        if a == b:
            of_a.add(id_b)
            of_b.add(id_a)
    return tuple(
        Overlap(a, b, kinds[a, b, "exact"], kinds[a, b, "near"], len(of_a), len(of_b))
        for (a, b), (of_a, of_b) in sorted(images.items())
    )


# -------------------------------------------------------------------------------------------------------------- writing


def _write(audit: Audit, folder: Path) -> None:
    with (folder / "near-duplicates.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row._fields)
        writer.writerows(audit.pairs)
    (folder / "audit.md").write_text(_markdown(audit), encoding="utf-8")


def _markdown(audit: Audit) -> str:
    size = {Part(state.name, split): count for state in audit.states for split, count in state.images.items()}
    rules = " or ".join(f"at least {rule.similarity} in {rule.refined_by}" for rule in audit.rules)
    bits = max(rule.distance for rule in audit.rules)
    lines = [
        f"# Leakage audit of {audit.suite}",
        "",
        f"{many(sum(size.values()), 'image')}. Exact copies are equal pixel by pixel. Near copies have perceptual "
        f"hashes that differ in at most {bits} of 64 bits (also mirrored), and {rules}.",
        "",
    ]
    lines += [f"{NOT_FOUND}.", ""]
    for title, inside in (("Between domains and splits", False), ("Inside a split", True)):
        overlaps = [overlap for overlap in audit.overlaps if (overlap.a == overlap.b) == inside]
        lines += [f"## {title}", "", *(_table(overlaps, size) if overlaps else ["No near-duplicates."]), ""]
    lines += [*(f"- {note}" for note in audit.notes), *([""] if audit.notes else [])]
    states = ", ".join(f"{state.name} {state.fingerprint}" for state in audit.states)
    return "\n".join([*lines, f"near-duplicates.csv lists every pair. Fingerprints of the domains: {states}.", ""])


def _table(overlaps: Iterable[Overlap], size: Mapping[Part, int]) -> list[str]:
    lines = ["| A | B | exact pairs | near pairs | images of A | images of B |", "|---|---|--:|--:|--:|--:|"]
    for overlap in overlaps:
        shares = [
            f"{count:,} of {size[part]:,} ({count / size[part]:.1%})"
            for part, count in ((overlap.a, overlap.images_a), (overlap.b, overlap.images_b))
        ]
        lines.append(
            f"| {overlap.a} | {overlap.b} | {overlap.exact:,} | {overlap.near:,} | {shares[0]} | {shares[1]} |"
        )
    return lines


def _draw_worst_pairs(audit: Audit, domains: Sequence[Domain], path: Path) -> None:
    """Draw the most similar and the least similar near copies between different domains or splits, side by side.

    Without such pairs the file is not written.
    """
    import numpy as np
    from PIL import Image, ImageDraw

    near = [row for row in audit.pairs if row.kind == "near" and row.sides[0][0] != row.sides[1][0]]
    near.sort(key=lambda row: (-row.similarity, row.distance, row))
    rows = [*near[:CLOSEST], *near[max(CLOSEST, len(near) - FARTHEST) :]]
    if not rows:
        return
    side, text, columns = 96, 46, 4
    width, height = 2 * side + 28, side + text
    sheet = Image.new("RGB", (columns * width, -(-len(rows) // columns) * height), "white")
    pen = ImageDraw.Draw(sheet)
    opened = {domain.name: domain for domain in domains}
    for index, row in enumerate(rows):
        left, top = index % columns * width, index // columns * height
        for number, (part, name) in enumerate(row.sides):
            domain = opened[part.domain]
            image = Image.fromarray(np.asarray(domain.faces[int(np.flatnonzero(domain.ids == name)[0])]))
            sheet.paste(image.resize((side, side), Image.Resampling.BICUBIC), (left + 4 + number * (side + 2), top + 4))
            shown = f"{part} {name}"
            shown = shown if len(shown) <= 34 else f"{shown[:10]}…{shown[-23:]}"
            pen.text((left + 4, top + side + 4 + 11 * number), shown, fill="black")
        pen.text((left + 4, top + side + 26), f"{many(row.distance, 'bit')}, {row.similarity:.4f}", fill="black")
    sheet.save(path, optimize=True)
