"""Repeat the run of a record and compare the numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fergen_bench.data.corruption import VERSION
from fergen_bench.data.numerics import NUMERICS
from fergen_bench.error import BenchError
from fergen_bench.execution.domains import PreparedDomains
from fergen_bench.execution.fitted import identified
from fergen_bench.execution.fleet import GPU_THREADS
from fergen_bench.execution.local import InProcess
from fergen_bench.experiment.run import Job, MethodCode
from fergen_bench.records import store
from fergen_bench.records.record import Cell, ShiftedCell

if TYPE_CHECKING:
    from fergen_bench.execution.engine import Listen
    from fergen_bench.experiment.project import Project
    from fergen_bench.progress import Progress
    from fergen_bench.records.record import RunRecord


ScoredCells = tuple[Cell | ShiftedCell, Cell | ShiftedCell]


@dataclass(frozen=True)
class Replay:
    """A record, and the record of the same run executed again.

    Attributes:
        record: The original record.
        again: The new record.
    """

    record: RunRecord
    again: RunRecord

    def differences(self) -> list[tuple[str, int, ScoredCells, int]]:
        """Compare the cells of both records.

        Returns:
            For each target, and each of its corruptions: its name, its number of images, the cells of both records, and
            the number of images in another cell of the confusion matrix, which is a lower bound on the number of
            predictions that differ.
        """
        shifted = {cell.shift: cell for cell in self.again.shifted}
        pairs: list[tuple[str, ScoredCells]] = []
        for cell in self.record.cells:
            other = self.again.cell(cell.target)
            assert other is not None
            pairs.append((cell.target, (cell, other)))
        for entry in self.record.shifted:
            if entry.shift in shifted:
                pairs.append((f"{entry.target}, {entry.factor} {entry.level:g}", (entry, shifted[entry.shift])))
        found = []
        for name, cells in pairs:
            was, here = (np.array(cell.confusion) for cell in cells)
            found.append((name, int(was.sum()), cells, int(np.abs(was - here).sum() + 1) // 2))
        return found

    def epochs(self) -> int:
        """Return the number of epochs whose losses or held-out scores differ."""
        timeless = [
            [{name: value for name, value in epoch.items() if name != "images_per_second"} for epoch in entry.history]
            for entry in (self.record, self.again)
        ]
        return sum(one != other for one, other in zip_longest(*timeless))


def replay(
    project: Project, path: Path, device: str, changes: Mapping[str, Any], progress: Progress, listen: Listen
) -> Replay:
    """Execute the run of a record again, with a new record in a temporary folder.

    A method file with another text is accepted: after an edit, the replay shows whether the numbers stay. The code
    comes from this project only, by the name of the method.

    Args:
        project: The project.
        path: The record.
        device: Device of the new run.
        changes: Paths of weights on this machine, by parameter.
        progress: Receives the progress of preparing domains.
        listen: Receives the progress of the run.

    Raises:
        BenchError: The numerics, the method's version, the weights or the images differ from those of the record, or
            the run fails.
    """
    done = store.load(path)
    if done.spec.exposure is not None:
        raise BenchError(
            f"{path}: this record is of a finished model, which no training made; score it again with: fergen-bench "
            f"evaluate --rerun"
        )
    method = project.method(done.spec.method)
    if not done.cells and not done.history:
        raise BenchError(f"{path}: has neither scores nor epochs, so nothing could be compared")
    of_base = {} if done.spec.base is None else {n: changes[n] for n in changes if n in done.spec.base.weights}
    here = identified(done, method, path, {n: changes[n] for n in changes if n not in of_base})
    if done.spec.numerics != NUMERICS:
        raise BenchError(
            f"{path}: was made with numerics {done.spec.numerics}, and this version of fergen-bench has numerics "
            f"{NUMERICS}; replay it with the code of its commit, {done.environment.get('commit') or 'which is unknown'}"
        )
    domains = _same_domains(project, done, path, progress)
    again, left_out = domains.excluding(here, not done.spec.excluded)
    if again.excluded != done.spec.excluded:
        raise BenchError(
            f"{path}: excludes other images than the audit of {done.spec.suite} here; repeat the command that made "
            f"it, which counts it again, and replay that record"
        )
    with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
        job = Job(
            spec=replace(again, relations=done.spec.relations, parameters=method.completed(again.parameters)),
            method_file=str(method.path),
            class_name=method.class_name,
            method_digest=method.digest,
            folders={name: str(domains.folders[name]) for name in _domain_names(done)},
            cache=str(project.cache),
            runs=str(Path(folder, "runs")),
            device=device,
            threads=1 if device == "cpu" else GPU_THREADS,
            excluded={target: sorted(faces.values()) for target, faces in left_out.items()},
            capture_steps=project.settings.record_steps,
            corruptions=[shift for shift in done.shifts_of(done.spec) if shift.version == VERSION],
        )
        if done.spec.base is not None:
            job = _with_base(project, job, done, path, of_base, listen)
        return Replay(done, store.load(_executed(job, path, listen)))


def _with_base(
    project: Project, job: Job, done: RunRecord, path: Path, changes: Mapping[str, Any], listen: Listen
) -> Job:
    """Execute the run that an online method starts from, and return the online run that starts from its checkpoint."""
    assert done.spec.base is not None
    method = project.method(done.spec.base.method)
    spec = identified(replace(done, spec=done.spec.base), method, path, changes)
    base = replace(
        job,
        spec=spec,
        method_file=str(method.path),
        class_name=method.class_name,
        method_digest=method.digest,
        folders={name: job.folders[name] for name in spec.fingerprints},
        excluded={},
        keep_model=True,
        corruptions=(),
    )
    _executed(base, path, lambda _, message: listen(job, message))
    return replace(
        job, spec=replace(job.spec, base=spec), base=MethodCode(str(method.path), method.class_name, method.digest)
    )


def _executed(job: Job, path: Path, listen: Listen) -> Path:
    """Execute a run, and return the path of its new record."""
    engine = InProcess()
    engine.start(job, listen)
    (outcome,) = engine.ended(None)
    if outcome.record is None:
        raise BenchError(f"{path}: its run cannot be repeated: {outcome.refused or outcome.failure}")
    return outcome.record


def _domain_names(done: RunRecord) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*done.spec.fingerprints, *done.spec.targets)))


def _same_domains(project: Project, done: RunRecord, path: Path, progress: Progress) -> PreparedDomains:
    """Return the domains of a record; refuse those with other images than the record's."""
    spec, suite = done.spec, project.suite(done.spec.suite)
    names = _domain_names(done)
    for name in names:
        if name not in suite.domains:
            raise BenchError(f"{path}: has the domain {name}, and the suite {suite.name} here has none of that name")
    domains = PreparedDomains(project, suite, names, progress)
    for name, state in (*spec.targets.items(), *spec.fingerprints.items()):
        if domains.fingerprints[name] != state:
            raise BenchError(f"{path}: was made on other images of {name} than those in {domains.folders[name]}")
    return domains
