"""Verification of results from elsewhere.

It checks keys, checksums, types and confusion matrices against the stored predictions, and that the runs in a row of a
table are comparable. It only reads: nothing in the folder is executed or written, and links are not followed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fergen_bench.data.domain import Domain
from fergen_bench.data.facts import DataFacts, facts_of
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import fingerprint_of
from fergen_bench.error import BenchError
from fergen_bench.files.bounded import checksum, map_array, read_text
from fergen_bench.metric import confusion_matrix
from fergen_bench.records import frame as frames
from fergen_bench.records import listing
from fergen_bench.records.collection import RecordFolder, Records
from fergen_bench.records.frame import row_of
from fergen_bench.records.packed import PackedRecords, home, open_records
from fergen_bench.records.record import HELD_OUT, NUMBERS, Cell, Predictions, RunRecord
from fergen_bench.records.sidecar import CHECKPOINT, SIDECARS, record_files, sidecar
from fergen_bench.records.store import RecordFile
from fergen_bench.wording import many

RELATIONS = frozenset({"source", "seen", "unseen", "unknown"})
"""Relations of a target to the data that a finished model has seen."""

REPORTS = frozenset({".md", ".csv", ".tex", ".png", ".pdf", ".svg", ".html"})
"""Endings of the files that reports write next to the folders of suites."""


@dataclass
class Verdict:
    """The extent and the result of a verification."""

    records: list[RunRecord] = field(default_factory=list)  # the readable ones
    files: int = 0
    recounted: set[str] = field(default_factory=set)  # keys of records whose confusion matrices were counted again
    domains: int = 0
    features: int = 0
    faults: list[str] = field(default_factory=list)  # problems that make the results wrong or not comparable
    notes: list[str] = field(default_factory=list)  # parts that could not be checked, and other remarks

    def rows(self) -> dict[tuple[str, str, int], tuple[int, int]]:
        """Return the number of records, and of those counted again, by suite, method and version."""
        found: dict[tuple[str, str, int], tuple[int, int]] = {}
        for entry in self.records:
            row = (entry.spec.suite, entry.spec.label, entry.spec.version)
            count, recounted = found.get(row, (0, 0))
            found[row] = (count + 1, recounted + (entry.spec.key in self.recounted))
        return dict(sorted(found.items()))


def verify(
    path: Path | PackedRecords,
    method_digest: Callable[[str], str | None],
    prepared: Callable[[str, str], Mapping[str, Any] | None] = lambda suite, name: None,
) -> Verdict:
    """Verify a results folder, a folder of records or packed records.

    Args:
        path: The folder, such as results or results/runs; a file of rows or a zip archive; or packed records.
        method_digest: Returns the digest of a method's file on this machine, or None if the method is missing.
        prepared: Returns the content of domain.json for a suite and a domain that is prepared on this machine.

    Returns:
        The faults and notes.

    Raises:
        BenchError: The folder has no records.
    """
    verdict = Verdict()
    where, stored = (path, open_records(path)) if isinstance(path, Path) else (path.path, path)
    if isinstance(stored, PackedRecords):
        _verify_packed(stored, verdict)
    else:
        _verify_folder(where, verdict)
    current = frames.current(verdict.records)
    if old := len(verdict.records) - len(current):
        verdict.notes.append(
            f"{many(old, 'record', 'are')} obsolete and in no table: newer ones have other versions, numerics, "
            f"defaults or images"
        )
    verdict.faults += [fault for _, fault in unlike(current)]
    verdict.notes += _incomplete(current) + _environments(current)
    _verify_data(verdict, prepared)
    for name, texts in sorted(_texts(verdict.records).items()):
        here = method_digest(name)
        if here is None:
            verdict.notes.append(f"{name}: this method does not exist here, so its file cannot be compared")
        elif texts != {here}:
            verdict.notes.append(f"{name}: the file of this method here differs from the one that created its records")
    if not verdict.records and not verdict.faults:
        raise BenchError(f"{where}: this folder has no records; name a results folder, or one like results/runs")
    return verdict


def _texts(records: Iterable[RunRecord]) -> dict[str, set[str]]:
    """Return the digests of the files that made records, by method, with those of the bases of online methods."""
    found: dict[str, set[str]] = {}
    for entry in records:
        if entry.spec.exposure is None:
            found.setdefault(entry.spec.method, set()).add(entry.method_digest)
        if entry.spec.base is not None and entry.base_digest:
            found.setdefault(entry.spec.base.method, set()).add(entry.base_digest)
    return found


def _verify_packed(stored: PackedRecords, verdict: Verdict) -> None:
    """Verify packed records, whose faults name file and line."""
    verdict.records, faults = stored.read()
    verdict.faults += faults
    verdict.files = 2 * len(stored.files)
    for entry in verdict.records:
        if (name := home(entry)) != (own := stored.name(entry).rpartition(":")[0]) and Path(name).name != own:
            verdict.faults.append(f"{stored.place(entry)}: this run belongs into {name}")
        verdict.faults += _verify_entry(stored, entry, verdict)


def _verify_folder(path: Path, verdict: Verdict) -> None:
    """Verify the records, the companion files, and the cache of a results folder."""
    runs = path / "runs" if (path / "runs").is_dir() else path
    found, links = _files(runs)
    verdict.faults += [f"{link}: this is a link, which is not followed" for link in links]
    verdict.files = len(found)
    named, strays = listing.candidates(runs)
    strays += [file for file in named if file in found and not _verify_record(file, runs, verdict)]
    known = {part for file in (*named, *strays) for part in record_files(file)}
    verdict.notes += listing.name_strays(strays, runs)
    top = {file for file in found if file.parent == runs and file.suffix in REPORTS}
    verdict.notes += [f"{file}: does not belong to a record" for file in found if file not in known | top]
    _verify_cache(path / "cache", verdict)


def _files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the files and the links below a folder, sorted. Hidden ones are temporary files of a run in progress."""
    files, links = [], []
    for parent, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        for name in (*inner, *sorted(name for name in names if not name.startswith("."))):
            path = Path(parent, name)
            if path.is_symlink():
                links.append(path)
            elif name not in inner:
                files.append(path)
    return files, links


def _verify_record(path: Path, runs: Path, verdict: Verdict) -> bool:
    """Verify a file with the name of a record. Return False if its content belongs to another path."""
    try:
        file = RecordFile.open(path)
    except BenchError as error:
        verdict.faults.append(str(error).partition("; ")[0])
        return True
    if not listing.is_in_place(file.record, path, runs):
        return False
    verdict.records.append(file.record)
    _verify_files(file, verdict)
    verdict.faults += _verify_entry(RecordFolder(runs), file.record, verdict)
    return True


def _verify_entry(stored: Records, entry: RunRecord, verdict: Verdict) -> list[str]:
    """Return the faults of a record, and note where all of its confusion matrices were counted again."""
    found, counted = faults_of(stored, entry)
    if counted:
        verdict.recounted.add(entry.spec.key)
    return found


def faults_of(stored: Records, entry: RunRecord) -> tuple[list[str], bool]:
    """Return what is wrong with a record and its predictions, and whether all of its cells were counted again.

    Args:
        stored: The collection that has the record.
        entry: The record.
    """
    place, spec, faults = stored.place(entry), entry.spec, []
    if not entry.answers(spec):
        faults.append(
            f"{place}: a target of the run has no score, or a score on other images than those that the run names"
        )
    for cell in entry.cells:
        possible = {"source"} if cell.target in spec.sources else {"seen", "unseen"}
        if cell.relation not in (RELATIONS if spec.exposure is not None else possible):
            faults.append(f"{place}: {cell.target} is marked {cell.relation!r}, which is wrong")
    try:
        stored.arrays(entry)
        predictions = stored.predictions(entry)
    except BenchError as error:
        return [*faults, str(error).partition("; ")[0]], False
    if not predictions:
        return faults, False
    if entry.source_val is not None and HELD_OUT in predictions:
        fault = _difference(place, "the held-out images", entry.source_val, predictions[HELD_OUT])
        faults += [fault] if fault else []
    again = [_recounted(place, cell, predictions.get(cell.target)) for cell in entry.cells]
    return faults + [fault for fault, _ in again if fault], all(counted for _, counted in again)


def _verify_files(file: RecordFile, verdict: Verdict) -> None:
    """Compare the files next to a record with their checksums."""
    path, entry = file.path, file.record
    if not entry.files and any(map(file.has, SIDECARS)):
        verdict.notes.append(f"{path}: has no checksums of its other files, as in early versions")
    if file.has(CHECKPOINT):
        try:
            file.check(CHECKPOINT)
            verdict.faults += _verify_model(sidecar(path, CHECKPOINT))
        except BenchError as error:
            verdict.faults.append(str(error).partition("; ")[0])


def _verify_model(path: Path) -> list[str]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            list(file.keys())  # opening compares the offsets of all tensors with the size of the file
        return []
    except (OSError, SafetensorError, ValueError) as error:
        return [f"{path}: this checkpoint cannot be read ({error})"]


def _recounted(place: str, cell: Cell, stored: Predictions | None) -> tuple[str, bool]:
    """Return a sentence if a confusion matrix differs from that of the stored predictions, and whether both exist."""
    if stored is None:
        return f"{place}: {cell.target} has a score but no predictions", False
    if not len(stored.labels):
        return "", False
    return _difference(place, cell.target, cell.confusion, stored), True


def _difference(place: str, name: str, confusion: list[list[int]], stored: Predictions) -> str:
    """Return a sentence if a confusion matrix differs from that of the stored predictions, else ""."""
    logits, labels = stored.scored
    count = sum(map(sum, confusion))
    again = confusion_matrix(labels, logits.argmax(1), len(EXPRESSIONS))
    differ = int(np.abs(again - np.array(confusion)).sum()) // 2
    # Two logits whose difference is below the resolution of float16 are equal in the file.
    equal = int(((logits == logits.max(1, keepdims=True)).sum(1) > 1).sum())
    if count == len(labels) and differ <= equal:
        return ""
    where = many(differ, "image", of=count)
    return f"{place}: the confusion matrix of {name} differs from that of its predictions in {where}"


def _rows(records: Iterable[RunRecord]) -> dict[tuple[Any, ...], list[RunRecord]]:
    """Return the records of each row of the tables."""
    rows: dict[tuple[Any, ...], list[RunRecord]] = {}
    for entry in records:
        rows.setdefault(row_of(entry.spec), []).append(entry)
    return rows


def unlike(records: Iterable[RunRecord]) -> list[tuple[tuple[Any, ...], str]]:
    """Return each row of a table whose runs are not comparable, see `frame.row_of`, with a fault.

    `current` already ensures that the runs of a row share version, numerics, weights, parameters and fingerprints of
    domains.
    """
    faults = []
    for row, entries in _rows(records).items():
        loaded = [sorted((name, network["digest"]) for name, network in entry.networks.items()) for entry in entries]
        distinct = {
            "versions of the method's file": {entry.method_digest for entry in entries},
            # Records of early versions lack the digest of their base.
            "versions of the base's file": {entry.base_digest for entry in entries} - {""},
            "sets of pre-trained weights": {repr(networks) for networks in loaded},
        }
        for what, values in distinct.items():
            if len(values) > 1:
                faults.append((row, f"{row[0]}: the runs of {row[-1]} used {len(values)} {what}"))
    return faults


def _incomplete(records: list[RunRecord]) -> list[str]:
    notes = []
    for (suite, *_, label), entries in _rows(records).items():
        sources = {entry.spec.sources for entry in entries}
        seeds = {entry.spec.seed for entry in entries}
        if len(entries) < len(sources) * len(seeds):
            there = many(len(entries), "run", of=len(sources) * len(seeds))
            factors = f"{many(len(sources), 'training')} by {many(len(seeds), 'seed')}"
            notes.append(f"{suite}: {label} has {there} ({factors})")
        if len({tuple(entry.spec.targets) for entry in entries}) > 1 and len(entries[0].spec.sources) == 1:
            notes.append(f"{suite}: the runs of {label} have scores on different targets")
    return notes


def _environments(records: list[RunRecord]) -> list[str]:
    """Return a note for each package whose version differs between runs, which can change numbers slightly."""
    notes = []
    for package in (*NUMBERS, "fergen-bench"):
        found = (entry.environment.get(package) for entry in records)
        versions = sorted({str(version) for version in found if version is not None})  # None: it was not used
        if len(versions) > 1:
            notes.append(f"the runs used {package} {', '.join(versions)[:200]}")
    return notes


_OF_BYTES = ("size", "faces")
"""Facts that follow from the fingerprint of a domain."""


def _verify_data(verdict: Verdict, prepared: Callable[[str, str], Mapping[str, Any] | None]) -> None:
    """Compare the data facts in records with their scores, with each other, and with the domains prepared here."""
    unrecorded = sum(not entry.data for entry in verdict.records)
    if unrecorded:
        verdict.notes.append(f"{many(unrecorded, 'record', 'lack')} facts about the data, as in early versions")
    # suite, domain, fingerprint → the facts in records, by their repr
    recorded: dict[tuple[str, str, str], dict[str, DataFacts]] = {}
    for entry in verdict.records:
        for name, facts in entry.data.items():
            cell = entry.cell(name)
            state = entry.spec.targets.get(name, entry.spec.fingerprints.get(name, ""))
            whole = cell is not None and not cell.excluded and not cell.absent
            if cell is not None and whole and facts.scored_faces not in (None, cell.count):
                verdict.faults.append(
                    f"{entry.spec.title}: {many(cell.count, 'face', 'are')} scored of {name}, and the part has "
                    f"{facts.scored_faces:,}"
                )
            common = replace(facts, scored="", annotator=None)
            recorded.setdefault((entry.spec.suite, name, state), {}).setdefault(repr(common), common)
    for (suite, name, state), found in recorded.items():
        first, *others = found.values()
        about = prepared(suite, name)
        if about is not None:
            here = facts_of(about)
            same = about["fingerprint"] == state
            pairs = [(what, a, b) for facts in found.values() for what, a, b in facts.differences(here)]
            for what, stored, at_hand in dict.fromkeys(pairs):
                sentence = f"{suite}: {name} has the {what} {stored} in the records and {at_hand} here"
                (verdict.faults if same and what in _OF_BYTES else verdict.notes).append(sentence)
            if not same and not pairs:
                verdict.notes.append(f"{suite}: {name} has other images or labels in the records than here")
        for other in others:
            for what, a, b in first.differences(other):
                sentence = f"{suite}: records of the same {name} have the {what} {a} and {b}"
                (verdict.faults if what in _OF_BYTES else verdict.notes).append(sentence)


def _verify_cache(cache: Path, verdict: Verdict) -> None:
    """Compare prepared domains with their fingerprints, and cached features with their checksums."""
    files, links = _files(cache)
    verdict.faults += [f"{link}: this is a link, which is not followed" for link in links]
    for file in files:
        try:
            if file.name == "domain.json":
                verdict.domains += 1
                domain = Domain(file.parent)
                if len(domain.faces) != len(domain.labels):
                    raise ValueError("the numbers of its images and labels differ")
                if fingerprint_of(file.parent) != domain.fingerprint:
                    raise ValueError("its images or labels do not match its fingerprint")
            elif file.suffix == ".npy" and file.parent.parent.name == "features":
                verdict.features += 1
                map_array(file)
                expected = file.with_suffix(".sha256")
                if not expected.is_file():
                    verdict.notes.append(f"{file}: has no checksum, as in early versions")
                elif read_text(expected, 100).strip() != checksum(file):
                    raise ValueError("its checksum differs from the one that was stored with it")
        except (OSError, ValueError) as error:
            verdict.faults.append(f"{file}: this file is damaged: {error}")
        except BenchError as error:
            verdict.faults.append(str(error))
