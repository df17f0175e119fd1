"""Decide from the number of images per class which dataset a copy holds, and describe what is wrong with it.

A copy is identified by its counts, not by its name: packs under the name of a dataset contain other datasets, augmented
training images, or labels that a model predicted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fergen_bench.data.labels import EXPRESSIONS, SPLITS, absent_from
from fergen_bench.datasets import GENERIC, NAMED, dataset
from fergen_bench.datasets.reader import Dataset, Face, Fault, FaultKind
from fergen_bench.wording import many

Counts = Mapping[str, Mapping[str, int]]
"""split → expression → number of faces"""
LEAST = 0.5
"""A copy that has less than this share of the faces in every split is not incomplete, but another dataset."""
FEW = 20
"""With fewer faces of an expression than this a score means little: one face is more than five points."""

Level = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One sentence about a copy.

    An error means that the copy differs from what its owner distributes, or cannot be used whole. A warning means that
    scores on it mean less than they seem to.
    """

    level: Level
    what: str


def counts_of(faces: Sequence[Face]) -> dict[str, dict[str, int]]:
    """Return the number of faces per split and expression."""
    counts: dict[str, dict[str, int]] = {}
    for face in faces:
        counts.setdefault(face.split, dict.fromkeys(EXPRESSIONS, 0))[face.expression] += 1
    return {split: counts[split] for split in SPLITS if split in counts}


def count_subjects(faces: Sequence[Face]) -> int | None:
    """Return the number of known subjects, or None where no subject is known."""
    return len({face.subject for face in faces} - {None}) or None


# -------------------------------------------------------------------------------------------------------------- verdict


def verdict(kind: Dataset, found: Counts, expected: Counts | None = None, official: bool = True) -> Finding:
    """Compare the counts of a copy with those of the dataset.

    Args:
        kind: The dataset.
        found: Counts of the copy.
        expected: Counts of the dataset under the choices of the reader, such as a label rule; None means those of
            `kind`.
        official: The layout has the splits of the owner.
    """
    expected = kind.expected if expected is None else expected
    if not expected:
        return Finding("ok", f"{many(_total(found), 'face')}; there are no published counts to compare them with")
    if "all" in expected:  # the owner published no split
        found = _merged(found)
    differing = [s for s in dict.fromkeys((*expected, *found)) if not _same(found.get(s, {}), expected.get(s, {}))]
    if not differing:
        return Finding("ok", f"the counts of every class are those of {kind.title}")
    if not official and "all" not in expected:
        return Finding("error", f"this layout does not have the official split of {kind.title}")
    if (other := identify(found, but=kind.name)) is not None:
        return Finding("error", f"this is {other.title}, not {kind.title}: the counts of every class are its own")
    parts = (_difference(split, found.get(split, {}), expected.get(split, {}), kind.title) for split in differing)
    return Finding("error", "; ".join(parts))


def _difference(split: str, found: Mapping[str, int], expected: Mapping[str, int], title: str) -> str:
    """Return how a split differs from that of the owner."""
    here, there = sum(found.values()), sum(expected.values())
    if not there:
        return f"there is a split {split}, which {title} does not have"
    if here > 1.2 * there:
        return f"{split} looks augmented: {many(here, 'face')} where {there:,} are expected"
    if here == there:
        return f"{split} has the expected {many(here, 'face')}, but other labels: it was relabelled"
    return f"{split} is missing" if not here else f"{split} has {many(here, 'face')} where {there:,} are expected"


def is_another(found: Counts, expected: Counts) -> bool:
    """Return True where no split has at least half of its owner's faces and some of every class.

    Such a folder is not even a part of a copy. A single split, such as AffectNet's validation set, is a part.
    """
    if "all" in expected:
        found = _merged(found)
    for split, there in expected.items():
        here = found.get(split, {})
        enough = sum(here.values()) >= LEAST * sum(there.values())
        if enough and all(here.get(name) for name, count in there.items() if count and name != "all"):
            return False
    return bool(expected)


def identify(found: Counts, but: str = "") -> Dataset | None:
    """Return the dataset whose training or test counts are the given ones, class by class.

    Args:
        found: Counts of a copy.
        but: Name of a dataset to ignore.
    """
    for name in NAMED:
        if name == but:
            continue
        known = dataset(name, "check")
        # A total alone proves nothing; all splits that can be compared must agree class by class.
        parts = [part for part in found if "all" not in known.expected.get(part, {"all": 0})]
        if parts and all(_same(found[part], known.expected[part]) for part in parts):
            return known
    return None


def _merged(found: Counts) -> Counts:
    """Return counts with all splits added up."""
    return {"all": {name: sum(counts[name] for counts in found.values()) for name in EXPRESSIONS}}


def _same(found: Mapping[str, int], expected: Mapping[str, int]) -> bool:
    """Compare the counts of a split class by class, or only their sum where no more is known."""
    return sum(found.values()) == expected["all"] if "all" in expected else dict(found) == dict(expected)


def _total(counts: Counts) -> int:
    return sum(sum(by_class.values()) for by_class in counts.values())


# ------------------------------------------------------------------------------------------------------------- cautions


@dataclass(frozen=True)
class Remedies:
    """The advice to a user whose copy has too few faces.

    Attributes:
        own: Faces can be added, which holds for the user's own datasets only.
        expected: Counts of the owner's copy.
        generated: The test split was drawn by fergen-bench.
    """

    own: bool = True
    expected: Counts = field(default_factory=dict)
    generated: bool = False

    def of_train(self, absent: Sequence[str]) -> str:
        """Return the advice for expressions without a training face."""
        first = "add some, or learn" if self.own else "learn"
        if self._missing("train", dict.fromkeys(absent, 0)):
            first = "complete this copy, or learn"
        return (
            f"{first} from it with --allow-missing-class, and remember that no score of these expressions is fair to it"
        )

    def of_scored(self, part: str, few: Mapping[str, int]) -> str:
        """Return the advice for expressions with few faces in a split that is scored."""
        distrust = "trust no score of these expressions"
        if self.own:
            return f"add some, {'or raise test_share in bench.toml, ' if self.generated else ''}or {distrust}"
        if missing := self._missing(part, few):
            there = ", ".join(f"{count:,} of {name}" for name, count in missing.items())
            return f"its owner's copy has {there}; complete this one, or {distrust}"
        if "all" not in self.expected.get(part, {"all": 0}):
            return "its owner's copy does not have more, so the recall of these expressions is that of a few faces"
        return distrust

    def _missing(self, part: str, here: Mapping[str, int]) -> dict[str, int]:
        """Return the counts of the owner's copy that are larger than those here."""
        there = self.expected.get(part, {})
        return {name: there[name] for name, count in here.items() if there.get(name, 0) > count}


def remedies_for(name: str, expected: Counts, about: Mapping[str, Any]) -> Remedies:
    """Return the advice for a dataset.

    Args:
        name: Name of the dataset.
        expected: Counts of the owner's copy.
        about: What its reader or domain.json contains about its splits.
    """
    own = name in GENERIC and not about.get("synthetic")
    return Remedies(own, expected, about.get("splits", "as given") != "as given")


def cautions_of(about: Mapping[str, Any]) -> list[Finding]:
    """Return the cautions about a prepared domain, given its domain.json."""
    name = about.get("dataset", "folder")
    expected = about.get("expected", dataset(name, "domain.json").expected if name in NAMED else {})
    remedies = remedies_for(name, expected, about)
    return cautions(about["counts"], about.get("scored", {}), about.get("subjects"), remedies)


def cautions(
    found: Counts, scored: Mapping[str, str], subjects: int | None, remedies: Remedies = Remedies()
) -> list[Finding]:
    """Return what the numbers of faces and subjects mean for scores.

    Args:
        found: Counts of a domain.
        scored: Split profile → the split that it scores, where that is not test.
        subjects: Number of subjects, or None where unknown.
        remedies: The advice to give.
    """
    findings = []
    learned = found.get("train", {})
    if sum(learned.values()) and (absent := absent_from(learned)):
        what = f"the train split lacks faces of {', '.join(absent)}: {remedies.of_train(absent)}"
        findings.append(Finding("warning", what))
    for part in dict.fromkeys(("test", *map(str, scored.values()))):
        counts = {name: found.get(part, {}).get(name, 0) for name in EXPRESSIONS}
        few = {name: count for name, count in counts.items() if count < FEW}
        if not sum(counts.values()):
            what = f"the {part} split, which is scored, is empty: this domain can be a source, but not a target"
            findings.append(Finding("warning", what))
        elif few:
            shown = ", ".join(f"{name} ({count or 'none'})" for name, count in few.items())
            what = f"the {part} split, which is scored, has fewer than {FEW} faces of {shown}: "
            findings.append(Finding("warning", what + remedies.of_scored(part, few)))
    if subjects == 1:
        remedy = "write a pattern that distinguishes subjects" if remedies.own else "complete this copy"
        findings.append(Finding("warning", f"1 subject was found, so none can be held out for validation: {remedy}"))
    elif subjects is not None:
        findings.append(Finding("note", f"{many(subjects, 'subject', 'were')} found"))
    return findings


# --------------------------------------------------------------------------------------------------------------- faults

_SUMMARIES: Mapping[FaultKind, tuple[Level, str, str, str]] = {
    "missing": ("error", "listed file", "are", " missing"),
    "unreadable": ("error", "file", "", " cannot be read"),
    "label": ("error", "label", "disagree", ""),
    "relabelled": ("warning", "image", "have", " a copy with another label"),
    "split-overlap": (
        "warning",
        "image",
        "are",
        " in two splits, which would raise scores (runs do not score such images once fergen-bench data audit has "
        "found them)",
    ),
    "extra": ("note", "file", "are", " not listed"),
    "duplicate": ("note", "image", "are", " the same as another"),
}
"""Kind of fault → level, noun, verb and the rest of the sentence about all faults of that kind."""


def summarise(faults: Sequence[Fault], disagreeing: int | None = None) -> list[Finding]:
    """Return one sentence per kind of fault, with the first fault as an example.

    Args:
        faults: The faults.
        disagreeing: Number of labels that disagree, where `faults` has only some of them.
    """
    counts = Counter(fault.kind for fault in faults)
    counts["label"] = disagreeing or counts["label"]
    first = {fault.kind: str(fault) for fault in reversed(faults)}
    return [
        Finding(level, f"{many(counts[kind], noun, verb)}{rest}, such as: {first[kind]}")
        for kind, (level, noun, verb, rest) in _SUMMARIES.items()
        if counts[kind]
    ]


def extras(faults: Sequence[Fault]) -> list[str]:
    """Return a sentence about the files of a copy that are not read, for the notes of a prepared domain."""
    extra = [fault for fault in faults if fault.kind == "extra"]
    return [f"{finding.what.rstrip('.')}." for finding in summarise(extra)]
