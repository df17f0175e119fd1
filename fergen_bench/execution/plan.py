"""Plan a protocol: prepare the domains, find the records there are, and list the runs that are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.data.corruption import VERSION
from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS, absent_from
from fergen_bench.data.prepared import read_about, scored_part
from fergen_bench.datasets import NAMED
from fergen_bench.datasets import audit as auditing
from fergen_bench.datasets.audit import Comparisons
from fergen_bench.datasets.standing import Standings
from fergen_bench.error import BenchError
from fergen_bench.execution.fleet import GPU_THREADS
from fergen_bench.experiment import run
from fergen_bench.experiment.project import available_cores
from fergen_bench.experiment.protocol import specify
from fergen_bench.experiment.run import Job, Shift
from fergen_bench.progress import silent
from fergen_bench.records import counting, store
from fergen_bench.records import frame as frames
from fergen_bench.records.claim import claim
from fergen_bench.records.listing import is_in_place
from fergen_bench.records.store import RecordFile
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.data.suite import Suite
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.protocol import Outline, Planned, Shifts
    from fergen_bench.experiment.run import Run
    from fergen_bench.progress import Progress
    from fergen_bench.records.record import Predictions, RunRecord


@dataclass(frozen=True)
class Plan:
    """All runs that were asked for, and those of them that have no record yet."""

    suite: Suite
    protocol: str
    runs: tuple[Job, ...]
    missing: tuple[Job, ...]
    notes: tuple[str, ...]  # what the reader should know about the targets
    recounted: tuple[RunRecord, ...] = ()  # records whose cells leave out other faces than before
    warnings: tuple[str, ...] = ()  # what may make numbers worthless


def make_plan(
    project: Project,
    suite: Suite,
    protocol: str,
    planned: Planned,
    device: str,
    *,
    rerun: bool = False,
    shard: tuple[int, int] = (1, 1),
    allow_missing_class: bool = False,
    progress: Progress | None = None,
    include_near_duplicates: bool = False,
    audit: bool = True,
    dry_run: bool = False,
    keep_models: bool = False,
    gpu_threads: int = GPU_THREADS,
    profile: bool = False,
) -> Plan:
    """Prepares the domains and finds what is done.

    shard: (i, n) keeps every n-th run, beginning with the i-th (from 1). include_near_duplicates: faces of a target
    that have a near-duplicate in the sources are scored too; a record that has their logits is counted again, not run
    again. audit: domains that were never compared are compared first, where that is quick. dry_run: leaves all records
    as they are. keep_models: a record without its fitted method is not enough. gpu_threads: CPU threads of a run on a
    GPU. profile: the runs that are made tell where their time goes.
    """
    runs = project.results / "runs"
    domains = _Domains(project, suite, planned.domains, progress)
    notes = [*planned.notes, *domains.check(planned, allow_missing_class)]
    notes += domains.audit(planned, progress, audit and not dry_run)
    records = _Records(suite, domains, runs, rerun, include_near_duplicates, dry_run, keep_models)
    jobs, missing = [], []
    edited: list[RunRecord] = []
    for outlined in planned.outlines[shard[0] - 1 :: shard[1]]:
        found = records.find(outlined, protocol, planned.shifts)
        spec, done = found.spec, found.done
        job = Job(
            spec=spec,
            method_file=str(outlined.method.path),
            class_name=outlined.method.class_name,
            method_digest=outlined.method.digest,
            folders={name: str(domains.folders[name]) for name in dict.fromkeys((*spec.fingerprints, *spec.targets))},
            cache=str(project.cache),
            runs=str(runs),
            device=device,
            threads=1 if device == "cpu" else gpu_threads,
            excluded=found.left_out,
            # A model that was kept is kept again: one of another run must not stand beside the new record.
            keep_model=keep_models or spec.model_path(runs).is_file(),
            save_every=project.settings.save_every,
            capture_steps=project.settings.record_steps,
            shifts=found.shifts,
            restore=found.restore,
            profile=profile,
            replaces=None if done is None else done.started,
            rerun=rerun,
        )
        jobs.append(job)
        if not found.answered:
            missing.append(job)
        elif done is not None and done.method_digest != job.method_digest:
            edited.append(done)
    notes += records.notes
    if asked := sum(job.restore for job in missing):
        notes.append(
            f"models that were kept are asked about shifted faces in {asked} of the runs; nothing is trained for that"
        )
    if records.unkept:
        notes.append(
            f"of {records.unkept} of the runs that have records no model was kept: they are trained again for the "
            f"shifts; with --keep-models that will be the last time"
        )
    if records.recounted:
        how = (
            "on all faces of their targets" if include_near_duplicates else "without near-duplicates of training faces"
        )
        count = len(records.recounted)
        these = f"{many(count, 'record')} would be" if dry_run else many(count, "record", "were")
        notes.append(f"{these} counted again from stored predictions, {how}")
    if missing:
        edited += _beside_plan(jobs, runs)
    recounted, warnings = tuple(records.recounted), _of_edited(edited)
    return Plan(suite, protocol, tuple(jobs), tuple(missing), tuple(notes), recounted, warnings)


@dataclass(frozen=True)
class _Found:
    """What there is of one run already, and what is left to do."""

    spec: Run
    left_out: dict[str, list[str]]  # ids of faces that are not scored, by target
    done: RunRecord | None
    answered: bool  # nothing is left
    shifts: list[Shift]  # that the run is to be asked about
    restore: bool  # those alone are left, and the kept model can tell


class _Records:
    """The records that a plan's runs have already, and what becomes of them."""

    def __init__(
        self,
        suite: Suite,
        domains: _Domains,
        runs: Path,
        rerun: bool,
        include_near_duplicates: bool,
        dry_run: bool,
        keep_models: bool,
    ) -> None:
        self._suite, self._domains, self._runs = suite, domains, runs
        self._rerun, self._include = rerun, include_near_duplicates
        self._dry_run, self._keep_models = dry_run, keep_models
        self.notes: list[str] = []  # of damaged records
        self.recounted: list[RunRecord] = []
        self.unkept = 0  # runs that are made again for shifts, since no model was kept

    def find(self, outlined: Outline, protocol: str, wanted: Shifts | None) -> _Found:
        """Writes anew what can be counted again, and sets damaged records aside."""
        domains, runs = self._domains, self._runs
        spec = specify(outlined, self._suite, protocol, domains.fingerprints)
        spec, left_out = domains.excluding(spec, self._include)
        done = self._whole(spec)
        if done is not None and not self._rerun:
            done = self._counted_again(done, spec, left_out)
        answered = done is not None and done.answers(spec) and not self._rerun
        answered = answered and (not self._keep_models or spec.model_path(runs).is_file())
        shifts, restore = domains.shifts(spec, wanted), False
        if done is not None and answered and (unscored := [s for s in shifts if s not in done.shifts_of(spec)]):
            answered = False
            if done.method_digest == outlined.method.digest and spec.model_path(runs).is_file():
                shifts, restore = unscored, True
            else:
                self.unkept += 1
        if done is not None and not answered and not restore:
            spec, left_out = domains.excluding(_widened(spec, done, self._suite, domains), self._include)
            shifts += [s for s in done.shifts_of(spec) if s not in shifts and s.version == VERSION]
        ids = {target: sorted(faces.values()) for target, faces in left_out.items()}
        return _Found(spec, ids, done, answered, shifts, restore)

    def _whole(self, spec: Run) -> RunRecord | None:
        path = spec.path(self._runs)
        if not path.exists():
            return None
        with suppress(BenchError):
            return RecordFile.open_whole(path).record
        with self._claim(spec) as mine:
            if not mine or not path.exists():  # what another process is writing now will be found whole
                return None
            try:
                return RecordFile.open_whole(path).record  # another process has just written it
            except BenchError as error:
                where = "" if self._dry_run else f", and this is now {store.set_aside(path, self._runs)}"
                self.notes.append(f"{str(error).partition(';')[0]}; the run is made again{where}")
        return None

    def _counted_again(self, done: RunRecord, spec: Run, left_out: Mapping[str, Mapping[int, str]]) -> RunRecord:
        if (again := _counted_again(done, spec, left_out, self._runs)) is None:
            return done
        with self._claim(spec) as mine:
            if not mine:  # another process is making it anew
                return done
            now = store.find(spec, self._runs)
            # Another process may just have counted or made it.
            if now is not None and (now.cells, now.files) != (done.cells, done.files):
                again = _counted_again(now, spec, left_out, self._runs)
                if again is None:
                    return now
            fresh, predictions = again
            self.recounted.append(fresh)
            if not self._dry_run:
                store.save(fresh, self._runs, predictions)
            return fresh

    def _claim(self, spec: Run) -> AbstractContextManager[bool]:
        """Whether a record is this process's to change. A dry run takes nothing from another."""
        return nullcontext(True) if self._dry_run else claim(spec, self._runs)


def _of_edited(edited: Iterable[RunRecord]) -> tuple[str, ...]:
    """What is said of records that another text of their method's file made."""
    counts = Counter(entry.spec.method for entry in edited)
    return tuple(
        f"{many(count, 'record', 'were')} made by another text of {method}'s file under the same version, and tables "
        "show all records of it in one row; if its numbers may have changed, give the command that made them with "
        "--rerun, or raise `version` in the file"
        for method, count in counts.items()
    )


def _beside_plan(jobs: Sequence[Job], runs: Path) -> list[RunRecord]:
    """Records that no job is about, in a row of the tables with some job, and made by another text of its method."""
    rows = {frames.row_of(job.spec): job for job in jobs}
    paths = {job.spec.path(runs) for job in jobs}
    found = []
    for folder in dict.fromkeys(path.parent for path in paths):
        for path in folder.glob("*.json"):
            if path in paths:
                continue
            try:
                entry = store.load(path)
            except BenchError:  # a damaged one is in no table
                continue
            if not is_in_place(entry, path, runs):
                continue
            job = rows.get(frames.row_of(entry.spec))
            if job is not None and job.spec.version == entry.spec.version and job.method_digest != entry.method_digest:
                found.append(entry)
    return found


def _widened(spec: Run, done: RunRecord, suite: Suite, domains: _Domains) -> Run:
    """The spec with the targets that its record scored before, so that writing the record again loses none of them."""
    wanted = {*spec.targets, *(cell.target for cell in done.cells)}
    targets = [name for name in suite.domains if name in wanted]
    try:
        domains.prepare(targets)
    except BenchError as error:
        lost = " and ".join(name for name in targets if name not in spec.targets)
        raise BenchError(
            f"the record {spec.slug} has scored {lost} too, and would lose that: {error}; or move the record elsewhere"
        ) from None
    return replace(
        spec,
        targets={name: domains.fingerprints[name] for name in targets},
        relations={name: suite.relation(spec.sources, name) for name in targets},
    )


def _counted_again(
    done: RunRecord, spec: Run, left_out: Mapping[str, Mapping[int, str]], runs: Path
) -> tuple[RunRecord, dict[str, Predictions]] | None:
    """A record whose cells leave out other faces than is wanted, with those cells made anew from its predictions. None
    where there is nothing to do, or no predictions to do it with.
    """
    stale = [
        cell
        for cell in done.cells
        if spec.targets.get(cell.target) == cell.fingerprint and cell.excluded != spec.excluded.get(cell.target, "")
    ]
    try:
        predictions = RecordFile(spec.path(runs), done).predictions() if stale else {}
    except BenchError:
        return None  # the run will be made again
    fresh = {}
    for cell in stale:
        faces = left_out.get(cell.target, {})
        if (again := counting.recounted(spec, cell, predictions.get(cell.target), faces)) is not None:
            fresh[cell.target] = again
            predictions[cell.target] = counting.without(predictions[cell.target], faces)
    if not fresh:
        return None
    cells = tuple(fresh.get(cell.target, cell) for cell in done.cells)
    excluded = {cell.target: cell.excluded for cell in cells if cell.excluded}
    return replace(done, spec=replace(done.spec, excluded=excluded), cells=cells), predictions


QUICK = 60.0
"""Seconds that an audit before runs may take."""


class _Domains:
    """The prepared domains of a plan."""

    def __init__(self, project: Project, suite: Suite, names: Iterable[str], progress: Progress | None) -> None:
        self._project, self._suite, self._progress = project, suite, progress
        self.folders: dict[str, Path] = {}
        self.fingerprints: dict[str, str] = {}
        self._abouts: dict[str, dict[str, Any]] = {}
        self.prepare(names)

    def prepare(self, names: Iterable[str]) -> None:
        new = [name for name in names if name not in self.folders]
        for name, folder in self._project.prepared(self._suite, new, self._progress).items():
            about = read_about(folder)
            self.folders[name], self.fingerprints[name], self._abouts[name] = folder, about["fingerprint"], about

    def audit(self, planned: Planned, progress: Progress | None, wanted: bool) -> list[str]:
        """Compare the pairs of sources and targets that never were, where that is quick. Return notes."""
        if self._suite.distinct:
            return []
        named = {(source, target) for run in planned.outlines for source in run.sources for target in run.targets}
        states = ((self.fingerprints[one], self.fingerprints[other]) for one, other in named)
        pairs = sorted({(min(pair), max(pair)) for pair in states})
        missing = [pair for pair in pairs if self.comparisons.find(*pair) is None]
        if not missing:
            return []
        concerned = {self.fingerprints[name]: name for name in self.folders if self._in(missing, name)}
        opened = [Domain(self.folders[name], name) for name in concerned.values()]
        seconds = auditing.estimated_seconds(opened, self._project.sketches)
        command = f"fergen-bench data audit --suite {self._suite.name}"
        names = ", ".join(concerned.values())
        if not wanted or seconds >= QUICK:
            takes = f"about {seconds:.0f} s" if seconds < 90 else f"about {seconds / 60:.0f} min"
            return [
                f"not audited: nobody compared {names} for near-duplicates; that takes {takes}, once, with: {command}"
            ]
        try:
            auditing.compare(
                missing, opened, self.comparisons, self._project.sketches, available_cores(), progress or silent
            )
        except BenchError as error:
            return [f"not audited: {error}; make up for it with: {command}"]
        found = [comparison for pair in missing if (comparison := self.comparisons.find(*pair)) is not None]
        count = sum(len(comparison.pairs) for comparison in found)
        return [
            f"audited {names}, which were never compared for near-duplicates: {many(count, 'pair of faces', 'were')} "
            f"found; to see them: {command}"
        ]

    def _in(self, pairs: Iterable[tuple[str, str]], name: str) -> bool:
        return any(self.fingerprints[name] in pair for pair in pairs)

    @cached_property
    def comparisons(self) -> Comparisons:
        return Comparisons(self._project.comparisons)

    @cached_property
    def _standings(self) -> Standings:
        return Standings(self._suite, self.comparisons, self._project.settings.seen_share)

    def excluding(self, spec: Run, include: bool) -> tuple[Run, dict[str, Mapping[int, str]]]:
        """The spec that says which faces are not scored, and these by place: of every target those that have a
        near-duplicate in the sources. include: none.
        """
        found: dict[str, Mapping[int, str]] = {}
        for target in () if include else spec.targets:
            sources = {name: self.fingerprints[name] for name in spec.sources}
            part = scored_part(self._abouts[target], spec.profile, spec.learns_from(target))
            if faces := self._standings.of(sources, target, self.fingerprints[target], part).left_out:
                found[target] = faces
        excluded = {target: run.digest_of(faces.values()) for target, faces in found.items()}
        return replace(spec, excluded=excluded), found

    def shifts(self, spec: Run, wanted: Shifts | None) -> list[Shift]:
        """What a run is to be asked about shifted faces."""
        if wanted is None:
            return []
        found = []
        for target, relation in spec.relations.items():
            if wanted.targets == "all" or relation == "source":
                part = scored_part(self._abouts[target], spec.profile, spec.learns_from(target))
                faces = min(wanted.faces, sum(self._abouts[target]["counts"][part].values()))
                levels = wanted.levels().items()
                found += [Shift(target, factor, float(at), faces, VERSION) for factor, ats in levels for at in ats]
        return found

    def check(self, planned: Planned, allow_missing_class: bool) -> list[str]:
        """Refuses sources and targets without faces. A target without some expression is a note."""
        for source in dict.fromkeys(name for outlined in planned.outlines for name in outlined.sources):
            absent = self._absent(source, "train", "source")
            if absent and not allow_missing_class:
                remedy = "complete this copy" if self._abouts[source].get("dataset") in NAMED else "add some"
                raise BenchError(
                    f"the source {source} has no training faces of {', '.join(absent)}; {remedy}, or pass "
                    f"--allow-missing-class"
                )
        for target in dict.fromkeys(o.adaptation_target for o in planned.outlines if o.adaptation_target is not None):
            if not sum(self._abouts[target]["counts"].get("train", {}).values()):
                raise BenchError(
                    f"{self.folders[target]}: the domain {target} has no train split, so nothing can be adapted to it; "
                    f"leave it out with --targets"
                )
        notes = [
            f"{name} differs from the dataset that its owner distributes: {self._abouts[name]['verdict']}"
            for name in planned.domains
            if self._abouts[name].get("whole") is False
        ]
        notes += [
            f"{name} has labels that disagree ({found['total']:,}), such as: {found['lines'][0]}"
            for name in planned.domains
            if (found := self._abouts[name].get("labels_disagree"))
        ]
        exams = dict.fromkeys(
            (target, scored_part(self._abouts[target], self._suite.profile, outlined.learns_from(target)))
            for outlined in planned.outlines
            for target in outlined.targets
        )
        for target, part in exams:
            if absent := self._absent(target, part, "target"):
                notes.append(
                    f"the target {target} has no faces of {', '.join(absent)}: its balanced accuracy is over the others"
                )
            if part != "test":
                count = sum(self._abouts[target]["counts"][part].values())
                notes.append(f"profile {self._suite.profile}: {target} is scored on its {many(count, f'{part} face')}")
        return notes

    def _absent(self, name: str, part: str, role: str) -> list[str]:
        counts = self._abouts[name]["counts"].get(part, {})
        absent = absent_from(counts)
        if len(absent) == len(EXPRESSIONS):
            raise BenchError(
                f"{self.folders[name]}: the domain {name} has no {part} split, so it cannot be a {role}; leave it out "
                f"with --{role}s"
            )
        return absent
