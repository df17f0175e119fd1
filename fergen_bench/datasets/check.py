"""Check a copy of a dataset: its counts, its files and labels, and its pixels."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS, SPLITS
from fergen_bench.data.prepared import read_about
from fergen_bench.datasets.pixels import Source, Unreadable, decode_face
from fergen_bench.datasets.reader import Dataset, Face, Fault, Listing, read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.datasets.statistics import look, oddities, rescaled, stored, summary, white_levels, white_notes
from fergen_bench.datasets.verdict import (
    Counts,
    Finding,
    cautions,
    cautions_of,
    count_subjects,
    counts_of,
    remedies_for,
    summarise,
    verdict,
)
from fergen_bench.error import BenchError
from fergen_bench.files.bounded import printable
from fergen_bench.files.pool import worker_pool
from fergen_bench.wording import many

BLOCK = 256
SIDE = 32
"""Side in pixels at which faces are decoded for a check."""


@dataclass(frozen=True)
class Check:
    """The result of checking one copy."""

    domain: str
    dataset: str
    path: str
    layout: str | None
    found: Counts
    expected: Counts
    dropped: Mapping[str, int]
    faults: tuple[Fault, ...]
    findings: tuple[Finding, ...]
    pixels: Mapping[str, Any] = field(default_factory=dict)  # statistics, where the images were decoded

    @property
    def failed(self) -> bool:
        """True where a finding is an error."""
        return any(finding.level == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Return the check as JSON."""
        return {**asdict(self), "failed": self.failed}


@dataclass(frozen=True)
class Seen:
    """The faults, findings and statistics that the pixels of a copy yield."""

    faults: Sequence[Fault] = ()
    findings: Sequence[Finding] = ()
    pixels: Mapping[str, Any] = field(default_factory=dict)


def check_copy(
    domain: str,
    kind: Dataset,
    settings: DomainSettings,
    processes: int,
    progress: Callable[[int, int], None],
    decode: bool = True,
) -> Check:
    """Read and check a copy of a dataset.

    Args:
        domain: Name of the domain.
        kind: The dataset.
        settings: The location and the choices of the user.
        processes: Number of worker processes.
        progress: Called with the number of decoded images and the total.
        decode: Decode every image; False checks labels and names only.
    """
    if not settings.path.exists():
        return _failed(domain, kind, settings.path, BenchError(_gone(domain, settings.path)))
    try:
        layout, listing = read(kind, settings)
    except BenchError as error:
        return _failed(domain, kind, settings.path, error)
    found = counts_of(listing.faces)
    expected = kind.expected if listing.expected is None else listing.expected
    seen = _decode_all(listing, kind, settings, processes, progress) if decode else Seen()
    faults = [*listing.faults, *seen.faults]
    remedies = remedies_for(kind.name, expected, listing.about)
    findings = [
        verdict(kind, found, listing.expected, layout.official),
        *summarise(faults),
        *cautions(found, kind.scored, count_subjects(listing.faces), remedies),
        *seen.findings,
        *(Finding("note", n) for n in (*listing.notes, *listing.passed_over.sentences())),
    ]
    return Check(
        domain,
        kind.name,
        str(settings.path),
        layout.name,
        found,
        expected,
        dict(listing.dropped),
        tuple(faults),
        _settled(findings, expected),
        seen.pixels,
    )


def check_prepared(
    domain: str, kind: Dataset, folder: Path, progress: Callable[[int, int], None], decode: bool = True
) -> Check:
    """Check a prepared domain: its counts, the files that were left out, and its images.

    The images were decoded during preparation; the check compares them with each other.

    Args:
        domain: Name of the domain.
        kind: The dataset.
        folder: Folder of the prepared domain.
        progress: Called with the number of images that were read and the total.
        decode: Read every image; False checks domain.json only.
    """
    try:
        about = read_about(folder)
        seen = _compare(Domain(folder), progress) if decode else Seen(pixels=stored(about) or {})
        lines = about.get("labels_disagree", {}).get("lines", ())
        disagreeing = [Fault("label", line.partition(": ")[0], line) for line in lines]
    except BenchError as error:
        return _failed(domain, kind, folder, error)
    expected = about.get("expected", kind.expected)
    findings = [
        verdict(kind, about["counts"], expected, about.get("official_split", True)),
        *summarise([*disagreeing, *seen.faults], about.get("labels_disagree", {}).get("total")),
        *cautions_of(about),
        *_odd(seen.pixels),
    ]
    if about.get("left_out"):
        missing = many(about["left_out"]["total"], "face", "were")
        findings.append(Finding("error", f"{missing} left out, because files were missing or could not be read"))
    findings += [Finding("note", note) for note in about.get("notes", ())]
    return Check(
        domain,
        kind.name,
        str(folder),
        about.get("layout"),
        about["counts"],
        expected,
        about.get("dropped", {}),
        (*disagreeing, *seen.faults),
        _settled(findings, expected),
        seen.pixels,
    )


def _gone(domain: str, path: Path) -> str:
    """Return the sentence on a copy that does not exist."""
    shown = printable(str(path))
    step = "correct the path or remove the table"
    if shown != str(path):  # the n of C:\new, for one, became a line break
        step = "a backslash in double quotes begins an escape, so write the path in single quotes"
    return f"bench.toml: domains.{domain}.path: {shown} does not exist; {step}"


def _failed(domain: str, kind: Dataset, path: Path, error: BenchError) -> Check:
    """Return the check of a copy that cannot be read."""
    finding = Finding("error", str(error))
    return Check(domain, kind.name, str(path), None, {}, kind.expected, {}, (), (finding,))


def _settled(findings: Sequence[Finding], expected: Counts) -> tuple[Finding, ...]:
    """Return findings without an "ok" for counts that cannot be compared, where another finding is a warning."""
    first, *rest = findings
    if not expected and any(finding.level in {"warning", "error"} for finding in rest):
        first = replace(first, level="note")
    return (first, *rest)


# --------------------------------------------------------------------------------------------------------------- images


def _decode_all(
    listing: Listing, kind: Dataset, settings: DomainSettings, processes: int, progress: Callable[[int, int], None]
) -> Seen:
    """Find files that cannot be read and files that are equal bit for bit, and gather the statistics of the pixels."""
    faults: list[Fault] = []
    owners: dict[bytes, list[Face]] = defaultdict(list)
    blocks = [listing.faces[start : start + BLOCK] for start in range(0, len(listing.faces), BLOCK)]
    tables = []
    done = 0
    with worker_pool(processes) as pool:
        try:
            work = pool.map(partial(_decode, margin=settings.margin, white=settings.white), blocks)
            for block, (results, table) in zip(blocks, work, strict=True):
                for face, result in zip(block, results, strict=True):
                    if isinstance(result, str):
                        where = str(face.file or face.id)
                        faults.append(Fault("unreadable", where, f"{where}: {result}"))
                    else:
                        owners[result].append(face)
                tables.append(table)
                done += len(block)
                progress(done, len(listing.faces))
        except BrokenProcessPool:
            raise BenchError(
                "a process that decoded faces was killed, probably because memory ran out. Run the check while fewer "
                "other programs run, or with --quick"
            ) from None
    faults += _copies(owners)
    return _statistics(listing.faces, np.concatenate(tables), faults, kind, settings)


def _decode(faces: Sequence[Face], margin: float, white: float | None) -> tuple[list[bytes | str], np.ndarray]:
    """Return a digest or an error sentence for each image, and the table of their statistics."""
    results: list[bytes | str] = []
    pixels = np.zeros((len(faces), SIDE, SIDE, 3), np.uint8)
    sources: list[Source | None] = [None] * len(faces)
    for row, face in enumerate(faces):
        try:
            pixels[row], sources[row] = decode_face(face, SIDE, margin, white=white)
            content = face.pixels if face.file is None else face.file.read_bytes()
            results.append(hashlib.blake2b(repr(face.box).encode() + (content or b""), digest_size=16).digest())
        except Unreadable as error:
            results.append(str(error))
    return results, look(pixels, sources)


def _statistics(
    faces: Sequence[Face], table: np.ndarray, faults: list[Fault], kind: Dataset, settings: DomainSettings
) -> Seen:
    """Return the statistics of the pixels as a preparation would find them."""
    if np.isnan(table[:, 0]).all():
        return Seen(faults)
    try:
        whites = white_levels(faces, table, settings.white, str(settings.path))
    except BenchError as error:
        return Seen(faults, [Finding("error", str(error))], summary(faces, table, kind.name))
    pixels = summary(faces, rescaled(table, whites) if settings.white is None else table, kind.name)
    if settings.crop is not None:
        pixels.pop("sizes", None)  # whole photographs, which preparing crops
    notes = [Finding("note", note) for note in white_notes(faces, table, whites, settings.white)]
    return Seen(faults, [*_odd(pixels), *notes], pixels)


def _odd(pixels: Mapping[str, Any]) -> list[Finding]:
    return [Finding("warning", what) for what in oddities(pixels)] if pixels else []


def _compare(domain: Domain, progress: Callable[[int, int], None]) -> Seen:
    """Find images of a prepared domain that are equal pixel by pixel, and return the statistics of its pixels.

    The statistics in domain.json come from the original files and take precedence over those of the prepared images.
    """
    owners: dict[bytes, list[Face]] = defaultdict(list)
    pixels = stored(domain.about)
    faces: list[Face] = []
    tables = []
    total = len(domain.faces)
    for split in SPLITS:
        rows = domain.rows(split)
        for start in range(0, len(rows), BLOCK):
            some = rows[start : start + BLOCK].tolist()
            for row in some:
                face = Face(str(domain.ids[row]), split, EXPRESSIONS[domain.labels[row]], "")
                owners[hashlib.blake2b(domain.faces[row].tobytes(), digest_size=16).digest()].append(face)
                faces.append(face)
            if pixels is None:
                bgr = bool(domain.about.get("emulate_bgr"))
                tables.append(look(domain.faces[some], [Source(*domain.faces.shape[1:3])] * len(some), bgr))
            progress(len(faces), total)
    if pixels is None:
        pixels = summary(faces, np.concatenate(tables), str(domain.about.get("dataset"))) if faces else {}
    return Seen(_copies(owners), (), pixels)


def _copies(owners: Mapping[bytes, Sequence[Face]]) -> list[Fault]:
    """Return a fault for all but the first of the images that share a digest."""
    faults = []
    for same in owners.values():
        first, *others = sorted(same, key=lambda face: SPLITS.index(face.split))
        for face in others:
            labels = f", labelled {first.expression} and {face.expression}" * (first.expression != face.expression)
            parts = f", in {first.split} and {face.split}" * (first.split != face.split)
            what = f"{face.id} is the same image as {first.id}{parts}{labels}"
            faults.append(Fault("split-overlap" if parts else "duplicate", face.id, what))
            if labels:
                faults.append(Fault("relabelled", face.id, what))
    return faults
