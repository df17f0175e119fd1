"""Check a submission against its own files and against the data on this machine.

A submission whose author computed every checksum again after a change is consistent in itself. Three comparisons still
reveal the change: labels with those of the domains prepared here, method files with the digests in the records, and
scores with those of runs that `repeat` executes again.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fergen_bench.data.domain import Domain
from fergen_bench.data.numerics import NUMERICS
from fergen_bench.error import BenchError
from fergen_bench.experiment.method_file import MethodFile
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.shipped import methods_behind
from fergen_bench.records.counting import collapse_note
from fergen_bench.submission.rows import Row, incomplete, rows_of
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    from fergen_bench.progress import Progress
    from fergen_bench.records.record import RunRecord
    from fergen_bench.submission.archive import Submission

ENOUGH = 100
"""Smallest number of images for which perfect predictions, or those of another run, cannot be chance."""


@dataclass(frozen=True)
class SubmittedProject(Project):
    """A project in which the methods of a submission take the place of those of the same names.

    Attributes:
        folder: The folder of the submitted method files.
    """

    folder: Path = Path()

    def methods(self) -> dict[str, Path]:
        """Return every method file by name; submitted ones precede all others."""
        return {**super().methods(), **{path.stem: path for path in sorted(self.folder.glob("*.py"))}}


def with_methods(project: Project, submission: Submission, folder: Path) -> SubmittedProject:
    """Write the method files of a submission to an empty folder, and return the project that finds them there."""
    for name, text in submission.methods.items():
        (folder / f"{name}.py").write_bytes(text)
    return SubmittedProject(project.root, project.configured, folder)


def faults_of(
    submission: Submission, records: Sequence[RunRecord], project: SubmittedProject, progress: Progress
) -> tuple[list[str], list[str]]:
    """Return the faults of a submission beyond those of its packed records, and notes.

    Args:
        submission: The submission.
        records: Its records.
        project: The project that finds its methods; embedded suites are rendered for it where they are not yet.
        progress: Receives the progress of rendering.
    """
    rows = rows_of(records)
    faults = [*_methods(submission, records, project), *_unfinished(rows)]
    faults += [
        f"{submission.records.place(one)}: was made with numerics {one.spec.numerics}, and leaderboards have "
        f"{NUMERICS}; run it again"
        for one in records
        if one.spec.numerics != NUMERICS
    ]
    found, notes = _data(submission, records, project, progress)
    doubtful, more = _predictions(submission, records, project)
    said = collapse_note(records)
    lacking = [sentence for _, sentence in incomplete(rows)]
    return [*faults, *found, *doubtful], [*lacking, *notes, *more, *([said] if said else [])]


def _methods(submission: Submission, records: Sequence[RunRecord], project: SubmittedProject) -> Iterator[str]:
    """Yield a sentence for each method whose file is missing, wrong, or another one than the records name."""
    for name in sorted({one.spec.method for one in records}):
        of = [one for one in records if one.spec.method == name]
        place = f"{submission.path}/methods/{name}.py"
        if any(one.spec.exposure is not None for one in of):
            yield f"{submission.path}: {name} is a finished model, which no training can repeat; submit methods"
            continue
        if name not in submission.methods:
            yield f"{place}: is missing; name it with --method-file"
            continue
        try:
            file = project.method(name)
            yield from _unlike(place, file, of)
            yield from _imports(place, submission.methods[name])
        except BenchError as error:
            yield str(error)
    yield from _bases(submission, records, project)


def _bases(submission: Submission, records: Sequence[RunRecord], project: SubmittedProject) -> Iterator[str]:
    """Yield a sentence for each base of online methods whose file is missing or another one than the records name."""
    for name in sorted({one.spec.base.method for one in records if one.spec.base is not None}):
        place = f"{submission.path}/methods/{name}.py"
        if name not in project.methods():
            yield f"{place}: is missing, and online methods start from it; name it with --method-file"
            continue
        try:
            digest = project.method(name).digest
        except BenchError as error:
            yield str(error)
            continue
        of = [one for one in records if one.spec.base is not None and one.spec.base.method == name]
        if other := sum(one.base_digest not in ("", digest) for one in of):
            found = many(other, "record", of=len(of))
            yield f"{place}: differs from the file that made the base of {found}; submit that file"
        if name in submission.methods and all(one.spec.method != name for one in records):
            yield from _imports(place, submission.methods[name])


def _unlike(place: str, file: MethodFile, records: Sequence[RunRecord]) -> Iterator[str]:
    """Yield a sentence where records were made by another file, version or set of parameters of their method."""
    if other := sum(one.method_digest != file.digest for one in records):
        behind = listed(methods_behind(file.path))
        also = f", or it imports another text of {behind}" if behind else ""
        found = many(other, "record", of=len(records))
        yield f"{place}: differs from the file that made {found}{also}; submit that file"
    if versions := sorted({one.spec.version for one in records} - {file.version}):
        yield f"{place}: is version {file.version}, and records are of version {versions[0]}; submit that file"
    for parameters in {repr(one.spec.parameters): one.spec.parameters for one in records}.values():
        file.checked(parameters, place)


def _imports(place: str, text: bytes) -> Iterator[str]:
    """Yield a sentence for each import of a method file that neither Python nor an installed package provides.

    A file beside the method file is such an import: the archive lacks it, and no digest covers it.
    """
    known = {*sys.stdlib_module_names, "fergen_bench", "torch", "numpy"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            names = [f"{'.' * node.level}{node.module or ''}"]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if (first := name.partition(".")[0]) not in known and first not in _installed():
                yield (
                    f"{place}:{node.lineno}: imports {name}, which is not in an installed package; copy its code into "
                    f"the method file, or install its package"
                )


@cache
def _installed() -> frozenset[str]:
    """Return the names of the modules and packages that installed distributions provide."""
    from importlib.metadata import packages_distributions

    return frozenset(packages_distributions())


def _unfinished(rows: Sequence[Row]) -> Iterator[str]:
    """Yield a sentence for each row whose trainings do not have the same seeds, or that has no scores."""
    for row in rows:
        if row.uneven:
            yield row.uneven
        if not row.cells:
            yield f"{row.name}: has no scores; submit runs that scored a target"


def _data(
    submission: Submission, records: Sequence[RunRecord], project: Project, progress: Progress
) -> tuple[list[str], list[str]]:
    """Compare fingerprints, labels and numbers of images with the domains on this machine."""
    faults: list[str] = []
    notes: list[str] = []
    for suite_name in sorted({one.spec.suite for one in records}):
        of = [one for one in records if one.spec.suite == suite_name]
        names = sorted({name for one in of for name in (*one.spec.fingerprints, *one.spec.targets)})
        try:
            suite = project.suite(suite_name)
            if unknown := sorted(set(names) - set(suite.domains)):
                raise BenchError(f"the suite {suite_name} here has no domain {unknown[0]!r}; rename the suite")
            if not suite.synthetic and not project.is_prepared(suite, names):
                notes.append(f"{suite_name}: is not prepared here, so its images and labels cannot be compared")
                continue
            domains = {name: Domain(path, name) for name, path in project.prepared(suite, names, progress).items()}
        except BenchError as error:
            notes.append(f"{suite_name}: cannot be compared with the images here: {error}")
            continue
        for one in of:
            faults += _unlike_data(submission, one, domains)
            left_out = [cell.target for cell in one.cells if cell.excluded]
            if left_out and suite.synthetic:
                faults.append(
                    f"{submission.records.place(one)}: images of {left_out[0]} are left out as near-duplicates, and "
                    f"rendered suites have none; run it again"
                )
    return faults, notes


def _unlike_data(submission: Submission, record: RunRecord, domains: dict[str, Domain]) -> Iterator[str]:
    """Yield a sentence where a record was made or scored on other images or labels than those of the domains."""
    place = submission.records.place(record)
    for name, state in (*record.spec.fingerprints.items(), *record.spec.targets.items()):
        if domains[name].fingerprint != state:
            yield f"{place}: {name} has other images or labels in the run than here; run it on the data of the suite"
            return
    try:
        predictions = submission.records.predictions(record)
    except BenchError:
        return  # a fault of the packed records
    for cell in record.cells:
        part = record.spec.scored_part(cell.target, domains[cell.target].about)
        labels = domains[cell.target].split(part).labels
        stored = predictions.get(cell.target)
        if stored is None or not len(stored.labels):
            yield f"{place}: {cell.target} has no predictions, so its score cannot be counted again; run it again"
        elif len(stored.labels) != len(labels) or (stored.labels != labels).any():
            yield f"{place}: the labels of {cell.target} beside the predictions are not those of the domain"
        elif not cell.excluded and cell.count != len(labels):
            yield f"{place}: {cell.target} has scores of {cell.count:,} images, and the domain has {len(labels):,}"


def _predictions(
    submission: Submission, records: Sequence[RunRecord], project: SubmittedProject
) -> tuple[list[str], list[str]]:
    """Return faults and notes on predictions that no training gives: perfect ones, and those of another run."""
    faults: list[str] = []
    seeds: dict[str, int] = {}
    known: dict[tuple[str, str, str, bytes], RunRecord] = {}
    for one in records:
        try:
            predictions = submission.records.predictions(one)
        except BenchError:
            continue  # a fault of the packed records
        for target, entry in predictions.items():
            predicted = np.asarray(entry.logits).argmax(1).astype(np.uint8)
            if len(predicted) < ENOUGH:
                continue
            if np.array_equal(predicted, entry.labels):
                faults.append(
                    f"{submission.records.place(one)}: all {len(predicted):,} predictions for {target} are the labels, "
                    f"which contain errors of annotators; no method that does not read them predicts these"
                )
            first = known.setdefault((one.spec.suite, one.spec.label, target, predicted.tobytes()), one)
            if first.spec.sources != one.spec.sources and not _learns_nothing(project, one.spec.method):
                faults.append(
                    f"{submission.records.place(one)}: the predictions for {target} are those of {first.spec.title}, "
                    f"which learned from another source"
                )
            elif first.spec.seed != one.spec.seed:
                seeds[one.spec.label] = seeds.get(one.spec.label, 0) + 1
    notes = [
        f"{label}: {many(count, 'cell', 'have')} the predictions of another seed, as methods without chance do"
        for label, count in seeds.items()
    ]
    return faults, notes


def _learns_nothing(project: SubmittedProject, method: str) -> bool:
    """Return whether a method is in the section of methods that use no source."""
    try:
        return project.method(method).group == "zero-shot"
    except BenchError:
        return False
