"""What a copy of a dataset is: found and expected faces, what is wrong with files and labels, and a verdict from the
counts. A copy is known by its counts per class, not by its name: packs under one name hold other datasets, augmented
training faces or labels that somebody's model made.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS, SPLITS, absent_from
from fergen_bench.data.prepared import read_about
from fergen_bench.datasets import GENERIC, NAMED, dataset
from fergen_bench.datasets.pixels import Source, Unreadable, decode_face
from fergen_bench.datasets.reader import Dataset, Face, Fault, FaultKind, Listing, read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.datasets.statistics import look, oddities, rescaled, stored, summary, white_levels, white_notes
from fergen_bench.error import BenchError
from fergen_bench.files.pool import worker_pool
from fergen_bench.wording import many

Counts = Mapping[str, Mapping[str, int]]
"""split → expression → faces"""
BLOCK = 256
SIDE = 32
"""Faces are decoded at this size in order to be checked."""
LEAST = 0.5
"""With less than this share of the faces in every split, a copy is not incomplete, but something else."""
FEW = 20
"""Fewer faces of an expression than this are too few to score it: one face is more than five points."""


@dataclass(frozen=True)
class Finding:
    """One sentence about a copy. An error means that it is not what its owner distributes, or cannot be used whole; a
    warning that scores on it say less than they seem to.
    """

    level: Literal["ok", "note", "warning", "error"]
    what: str


@dataclass(frozen=True)
class Check:
    """What is known of one copy."""

    domain: str
    dataset: str
    path: str
    layout: str | None
    found: Counts
    expected: Counts
    dropped: Mapping[str, int]
    faults: tuple[Fault, ...]
    findings: tuple[Finding, ...]
    pixels: Mapping[str, Any] = field(default_factory=dict)  # their statistics, where the images were decoded

    @property
    def failed(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "failed": self.failed}


@dataclass(frozen=True)
class Seen:
    """What the images of a copy showed."""

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
    """Reads a copy, and decodes every image of it. decode: without, only labels and names are looked at."""
    try:
        layout, listing = read(kind, settings)
    except BenchError as error:
        finding = Finding("error", str(error))
        return Check(domain, kind.name, str(settings.path), None, {}, kind.expected, {}, (), (finding,))
    found = counts_of(listing.faces)
    expected = kind.expected if listing.expected is None else listing.expected
    seen = _decoded(listing, kind, settings, processes, progress) if decode else Seen()
    faults = [*listing.faults, *seen.faults]
    findings = [
        verdict(kind, found, listing.expected, layout.official),
        *_summed_up(faults),
        *cautions(found, kind.scored, _subjects(listing.faces), _remedies(kind.name, expected, listing.about)),
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
    """The same of a domain that is prepared already: its counts, and what was left out then. Its images were decoded
    when it was made; here its faces are compared with each other. decode: without, only what domain.json says.
    """
    try:
        about = read_about(folder)
        seen = _compared(Domain(folder), progress) if decode else Seen(pixels=stored(about) or {})
        lines = about.get("labels_disagree", {}).get("lines", ())
        disagreeing = [Fault("label", line.partition(": ")[0], line) for line in lines]
    except BenchError as error:
        finding = Finding("error", str(error))
        return Check(domain, kind.name, str(folder), None, {}, kind.expected, {}, (), (finding,))
    expected = about.get("expected", kind.expected)
    findings = [
        verdict(kind, about["counts"], expected, about.get("official_split", True)),
        *_summed_up([*disagreeing, *seen.faults], about.get("labels_disagree", {}).get("total")),
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


def _settled(findings: Sequence[Finding], expected: Counts) -> tuple[Finding, ...]:
    """Faces that are compared with nothing are not ok where there is something to warn of."""
    first, *rest = findings
    if not expected and any(finding.level in {"warning", "error"} for finding in rest):
        first = replace(first, level="note")
    return (first, *rest)


def counts_of(faces: Sequence[Face]) -> dict[str, dict[str, int]]:
    """Faces per split and expression."""
    counts: dict[str, dict[str, int]] = {}
    for face in faces:
        counts.setdefault(face.split, dict.fromkeys(EXPRESSIONS, 0))[face.expression] += 1
    return {split: counts[split] for split in SPLITS if split in counts}


def _subjects(faces: Sequence[Face]) -> int | None:
    """How many people are known to be shown; None where of nobody is known who it is."""
    return len({face.subject for face in faces} - {None}) or None


@dataclass(frozen=True)
class Remedies:
    """What somebody with too few faces can do about it."""

    own: bool = True  # faces can be added; those of a dataset that somebody else distributes cannot
    expected: Counts = field(default_factory=dict)  # the counts of its owner
    generated: bool = False  # the test split was made here

    def of_train(self, absent: Sequence[str]) -> str:
        """For expressions without a training face."""
        first = "add some, or learn" if self.own else "learn"
        if self._missing("train", dict.fromkeys(absent, 0)):
            first = "complete this copy, or learn"
        return (
            f"{first} from it with --allow-missing-class, and remember that no score of these expressions is fair to it"
        )

    def of_scored(self, part: str, few: Mapping[str, int]) -> str:
        """For expressions with few faces in a part that is scored."""
        distrust = "trust no score of these expressions"
        if self.own:
            return f"add some, {'or raise test_share in bench.toml, ' if self.generated else ''}or {distrust}"
        if missing := self._missing(part, few):
            there = ", ".join(f"{count:,} of {name}" for name, count in missing.items())
            return f"its owner's copy has {there}; complete this one, or {distrust}"
        if "all" not in self.expected.get(part, {"all": 0}):
            return "its owner's copy has no more, so the recall of these expressions is that of a few faces"
        return distrust

    def _missing(self, part: str, here: Mapping[str, int]) -> dict[str, int]:
        """The counts of the owner's copy where they are larger than those here."""
        there = self.expected.get(part, {})
        return {name: there[name] for name, count in here.items() if there.get(name, 0) > count}


def _remedies(name: str, expected: Counts, about: Mapping[str, Any]) -> Remedies:
    """name: of the dataset. about: what its reader or domain.json says of its splits."""
    own = name in GENERIC and not about.get("synthetic")
    return Remedies(own, expected, about.get("splits", "as given") != "as given")


def cautions_of(about: Mapping[str, Any]) -> list[Finding]:
    """The same of a prepared domain. about: its domain.json."""
    name = about.get("dataset", "folder")
    expected = about.get("expected", dataset(name, "domain.json").expected if name in NAMED else {})
    remedies = _remedies(name, expected, about)
    return cautions(about["counts"], about.get("scored", {}), about.get("subjects"), remedies)


def cautions(
    found: Counts, scored: Mapping[str, str], subjects: int | None, remedies: Remedies = Remedies()
) -> list[Finding]:
    """What the counts of faces and subjects say about scores. scored: profile → the part that is scored, where it is
    not test.
    """
    findings = []
    learned = found.get("train", {})
    if sum(learned.values()) and (absent := absent_from(learned)):
        what = f"the train split has no faces of {', '.join(absent)}: {remedies.of_train(absent)}"
        findings.append(Finding("warning", what))
    for part in dict.fromkeys(("test", *map(str, scored.values()))):
        counts = {name: found.get(part, {}).get(name, 0) for name in EXPRESSIONS}
        few = {name: count for name, count in counts.items() if count < FEW}
        if not sum(counts.values()):
            what = f"the {part} split, which is scored, has no faces: this can be a source, but no target"
            findings.append(Finding("warning", what))
        elif few:
            shown = ", ".join(f"{name} ({count or 'none'})" for name, count in few.items())
            what = f"the {part} split, which is scored, has fewer than {FEW} faces of {shown}: "
            findings.append(Finding("warning", what + remedies.of_scored(part, few)))
    if subjects == 1:
        remedy = "write a pattern that tells people apart" if remedies.own else "complete this copy"
        findings.append(Finding("warning", f"1 subject was found, so none can be held out for validation: {remedy}"))
    elif subjects is not None:
        findings.append(Finding("note", f"{many(subjects, 'subject', 'were')} found"))
    return findings


# -------------------------------------------------------------------------------------------------------------- verdict


def verdict(kind: Dataset, found: Counts, expected: Counts | None = None, official: bool = True) -> Finding:
    """What the counts say the copy is. expected: where choices of the reader make them differ from the dataset's."""
    expected = kind.expected if expected is None else expected
    if not expected:
        return Finding("ok", f"{many(_total(found), 'face')}; there are no published counts to compare them with")
    if "all" in expected:  # the owner gave no split
        found = {"all": {name: sum(counts[name] for counts in found.values()) for name in EXPRESSIONS}}
    differing = [s for s in dict.fromkeys((*expected, *found)) if not _same(found.get(s, {}), expected.get(s, {}))]
    if not differing:
        return Finding("ok", f"the counts of every class are those of {kind.title}")
    if not official and "all" not in expected:
        return Finding("error", f"this layout does not have the official split of {kind.title}")
    if (other := identify(found, but=kind.name)) is not None:
        return Finding("error", f"this is {other.title}, not {kind.title}: the counts of every class are its own")
    said = (_difference(split, found.get(split, {}), expected.get(split, {}), kind.title) for split in differing)
    return Finding("error", "; ".join(said))


def _difference(split: str, found: Mapping[str, int], expected: Mapping[str, int], title: str) -> str:
    """How a split differs from its owner's."""
    here, there = sum(found.values()), sum(expected.values())
    if not there:
        return f"there is a split {split}, which {title} does not have"
    if here > 1.2 * there:
        return f"{split} looks augmented: {many(here, 'face')} where {there:,} are expected"
    if here == there:
        return f"{split} has the expected {many(here, 'face')}, but other labels: they were made again"
    return f"{split} is missing" if not here else f"{split} has {many(here, 'face')} where {there:,} are expected"


def is_another(found: Counts, expected: Counts) -> bool:
    """Whether no split holds at least half of its owner's faces and some of every class: no copy, not even a part of
    one. Whoever has one split alone, as AffectNet's validation set, has a part.
    """
    if "all" in expected:
        found = {"all": {name: sum(counts[name] for counts in found.values()) for name in EXPRESSIONS}}
    for split, there in expected.items():
        here = found.get(split, {})
        enough = sum(here.values()) >= LEAST * sum(there.values())
        if enough and all(here.get(name) for name, count in there.items() if count and name != "all"):
            return False
    return bool(expected)


def identify(found: Counts, but: str = "") -> Dataset | None:
    """The dataset whose training or test counts these are, class by class."""
    for name in NAMED:
        if name == but:
            continue
        known = dataset(name, "check")
        # A total alone proves nothing; all the splits that can be compared must agree class by class.
        parts = [part for part in found if "all" not in known.expected.get(part, {"all": 0})]
        if parts and all(_same(found[part], known.expected[part]) for part in parts):
            return known
    return None


def _same(found: Mapping[str, int], expected: Mapping[str, int]) -> bool:
    """Whether the counts of a split are as expected: class by class, or in all where no more is known."""
    return sum(found.values()) == expected["all"] if "all" in expected else dict(found) == dict(expected)


def _total(counts: Counts) -> int:
    return sum(sum(by_class.values()) for by_class in counts.values())


# --------------------------------------------------------------------------------------------------------------- images


def _decoded(
    listing: Listing, kind: Dataset, settings: DomainSettings, processes: int, progress: Callable[[int, int], None]
) -> Seen:
    """Files that cannot be read, files that are the same as another, bit for bit, and the statistics of the pixels."""
    faults: list[Fault] = []
    owners: dict[bytes, list[Face]] = defaultdict(list)
    blocks = [listing.faces[start : start + BLOCK] for start in range(0, len(listing.faces), BLOCK)]
    tables = []
    done = 0
    with worker_pool(processes) as pool:
        try:
            work = pool.map(partial(_looked_at, margin=settings.margin, white=settings.white), blocks)
            for block, (answers, table) in zip(blocks, work, strict=True):
                for face, answer in zip(block, answers, strict=True):
                    if isinstance(answer, str):
                        where = str(face.file or face.id)
                        faults.append(Fault("unreadable", where, f"{where}: {answer}"))
                    else:
                        owners[answer].append(face)
                tables.append(table)
                done += len(block)
                progress(done, len(listing.faces))
        except BrokenProcessPool:
            raise BenchError(
                "a process that decoded faces was ended from outside, probably for want of memory; run the check with "
                "less beside it, or with --quick"
            ) from None
    faults += _copies(owners)
    return _statistics(listing.faces, np.concatenate(tables), faults, kind, settings)


def _statistics(
    faces: Sequence[Face], table: np.ndarray, faults: list[Fault], kind: Dataset, settings: DomainSettings
) -> Seen:
    """What the pixels of a copy show, as preparing it would find it."""
    if np.isnan(table[:, 0]).all():
        return Seen(faults)
    try:
        whites = white_levels(faces, table, settings.white, str(settings.path))
    except BenchError as error:
        return Seen(faults, [Finding("error", str(error))], summary(faces, table, kind.name))
    pixels = summary(faces, rescaled(table, whites) if settings.white is None else table, kind.name)
    notes = [Finding("note", note) for note in white_notes(faces, table, whites, settings.white)]
    return Seen(faults, [*_odd(pixels), *notes], pixels)


def _odd(pixels: Mapping[str, Any]) -> list[Finding]:
    return [Finding("warning", what) for what in oddities(pixels)] if pixels else []


def _compared(domain: Domain, progress: Callable[[int, int], None]) -> Seen:
    """Faces of a prepared domain that are the same as another, pixel by pixel, and the statistics of its pixels: those
    of its domain.json, which know the files, or else those of the faces.
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
    """Of faces that share a digest, all but the first: twins where they are in another split than that."""
    faults = []
    for same in owners.values():
        first, *others = sorted(same, key=lambda face: SPLITS.index(face.split))
        for face in others:
            labels = f", labelled {first.expression} and {face.expression}" * (first.expression != face.expression)
            parts = f", in {first.split} and {face.split}" * (first.split != face.split)
            what = f"{face.id} is the same image as {first.id}{parts}{labels}"
            faults.append(Fault("twin" if parts else "duplicate", face.id, what))
            if labels:
                faults.append(Fault("relabelled", face.id, what))
    return faults


def _looked_at(faces: Sequence[Face], margin: float, white: float | None) -> tuple[list[bytes | str], np.ndarray]:
    """For each face a digest of its image, or what is wrong with it; and the statistics of all."""
    answers: list[bytes | str] = []
    pixels = np.zeros((len(faces), SIDE, SIDE, 3), np.uint8)
    sources: list[Source | None] = [None] * len(faces)
    for place, face in enumerate(faces):
        try:
            pixels[place], sources[place] = decode_face(face, SIDE, margin, white=white)
            content = face.pixels if face.file is None else face.file.read_bytes()
            answers.append(hashlib.blake2b(repr(face.box).encode() + (content or b""), digest_size=16).digest())
        except Unreadable as error:
            answers.append(str(error))
    return answers, look(pixels, sources)


def extras(faults: Sequence[Fault]) -> list[str]:
    """What stands in a copy and is not read, for the notes of a prepared domain."""
    extra = [fault for fault in faults if fault.kind == "extra"]
    return [f"{finding.what.rstrip('.')}." for finding in _summed_up(extra)]


def _summed_up(faults: Sequence[Fault], disagreeing: int | None = None) -> list[Finding]:
    """One sentence per kind of fault, with the first of them. disagreeing: how many labels disagree, where not all of
    these faults are at hand.
    """
    levels: dict[FaultKind, tuple[Literal["note", "warning", "error"], str, str, str]] = {
        "missing": ("error", "listed file", "are", " missing"),
        "unreadable": ("error", "file", "", " cannot be read"),
        "label": ("error", "label", "disagree", ""),
        "relabelled": ("warning", "image", "have", " a copy with another label"),
        "twin": (
            "warning",
            "image",
            "are",
            " in two splits, which would flatter scores (runs do not score such faces once fergen-bench data audit has "
            "found them)",
        ),
        "extra": ("note", "file", "are", " listed nowhere"),
        "duplicate": ("note", "image", "are", " the same as another"),
    }
    counts = Counter(fault.kind for fault in faults)
    counts["label"] = disagreeing or counts["label"]
    first = {fault.kind: str(fault) for fault in reversed(faults)}
    return [
        Finding(level, f"{many(counts[kind], noun, verb)}{rest}, such as: {first[kind]}")
        for kind, (level, noun, verb, rest) in levels.items()
        if counts[kind]
    ]
