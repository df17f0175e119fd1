"""A matrix of runs from a plan to records: prepare the domains, skip what is done, run the rest. Torch-free; the runs
are elsewhere.
"""

from __future__ import annotations

import heapq
import json
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from fergen_bench import hub, record
from fergen_bench.datasets import NAMED
from fergen_bench.datasets import audit as auditing
from fergen_bench.datasets.audit import Comparisons
from fergen_bench.domain import EXPRESSIONS, Domain, Suite, absent_from, read_about, scored_part
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.fanout import Engine, Listen, Outcome, in_method, run_all
from fergen_bench.fanout.local import Local, visible_gpus
from fergen_bench.fanout.on_ray import OnRay
from fergen_bench.fanout.on_slurm import OnSlurm, SlurmRequest
from fergen_bench.plugin import is_path
from fergen_bench.project import Progress, Project, available_cores
from fergen_bench.protocol import Outline, Planned, Shifts, anchored_values, specify
from fergen_bench.record import Cell, Job, Predictions, RunRecord, RunSpec, Shift, ShiftedCell
from fergen_bench.shift import VERSION
from fergen_bench.standing import Standings
from fergen_bench.weights import digest_of
from fergen_bench.wording import many
from fergen_bench.worker import make, refusal_of

GPU_THREADS = 4
"""CPU threads of a run on a GPU. A run on the CPU has one: its sums then do not depend on the machine's load or core
count.
"""


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


def resolve_device(wanted: str, gpus: float | None = None) -> str:
    """`auto` → cuda where there is a GPU, else cpu. gpus: that a run gets of another machine; None on this one."""
    there = visible_gpus() if gpus is None else gpus
    if wanted.startswith("cuda") and gpus is None and not there:
        raise BenchError(f"--device {wanted}: no GPU can be used here; leave it out, or see what nvidia-smi says")
    return ("cuda" if there else "cpu") if wanted == "auto" else wanted


@dataclass(frozen=True)
class Fleet:
    """Where the runs of a matrix are made, as the command line asks for it."""

    jobs: int | None = None  # --jobs: runs at a time on this machine; 0: in this process
    usual_jobs: int | None = None  # bench.toml's; on this machine only
    gpus_per_run: float | None = None
    ray: str | None = None  # an address, or local
    cpus_per_run: float | None = None
    slurm: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        elsewhere = "--ray" if self.ray is not None else "--slurm"
        if self.ray is not None and self.slurm is not None:
            raise BenchError("--ray and --slurm are two places to run in; choose one")
        if (self.ray is not None or self.slurm is not None) and self.jobs is not None:
            raise BenchError(f"--jobs is for this machine alone, and {elsewhere} has its own limits; leave one out")
        if self.cpus_per_run is not None and self.ray is None:
            raise BenchError("--cpus-per-run is for --ray; a Slurm job says cpus=… in --slurm")
        if self.gpus_per_run is not None and self.slurm is not None:
            raise BenchError("--gpus-per-run is not for --slurm, which gives out whole GPUs; say gpus=1 in --slurm")
        if (self.gpus_per_run or 0) > 1:
            raise BenchError(
                f"--gpus-per-run {self.gpus_per_run:g}: a run uses one GPU or a share of one; give 1, or less, such as "
                f"0.5 for two runs per GPU"
            )

    @cached_property
    def _request(self) -> SlurmRequest | None:
        return None if self.slurm is None else SlurmRequest.read(self.slurm)

    @property
    def gpus(self) -> float | None:
        """GPUs of a run where it is not this machine that counts."""
        if self._request is not None:
            return self._request.gpus
        return None if self.ray is None else self.gpus_per_run or 0

    def threads(self, device: str) -> int:
        """CPU threads of each process of a run on GPUs: its share of the cores."""
        if self._request is not None:
            return self._request.cpus
        if self.ray is not None:
            return max(1, int(self.cpus_per_run or GPU_THREADS))
        return max(1, min(GPU_THREADS, available_cores() // (self._slots(device) or 1)))

    def together(self, device: str, runs: int) -> int:
        """How many runs are made at a time; 1 where only a cluster knows."""
        if self._request is not None:
            return max(1, min(self._request.array, runs))
        return 1 if self.ray is not None else max(1, min(self._slots(device), runs))

    def describe(self, device: str, runs: int) -> str:
        """For the first line."""
        if self._request is not None:
            here = "on this machine, as if on Slurm" if self._request.cluster == "local" else "on Slurm"
            return f"{here}, {min(self._request.array, runs)} at a time"
        if self.ray is not None:
            return "on a Ray of this machine" if self.ray == "local" else f"on Ray at {self.ray}"
        slots = self._slots(device)
        gpus = len(visible_gpus()) if device == "cuda" else 0
        return (f"{min(slots, runs)} at a time" if slots else "in this process") + (
            f" on {gpus} GPUs" if gpus > 1 else ""
        )

    def engine(self, device: str, runs: int, results: Path) -> Engine:
        """What makes them. runs: how many there are."""
        if self._request is not None:
            return OnSlurm(self._request, results, available_cores())
        if self.ray is not None:
            cpus = self.cpus_per_run or (GPU_THREADS if device.startswith("cuda") else 1)
            return OnRay(self.ray, self.gpus_per_run or 0, cpus, results)
        slots = self._slots(device)
        # A GPU that was named is the only one, and keeps its number.
        gpus = visible_gpus() if device == "cuda" else []
        return Local(min(slots, runs), gpus) if slots else Here()

    def _slots(self, device: str) -> int:
        """Runs at a time on this machine: those asked for, else one per core, or as many as the GPUs take."""
        jobs = self.usual_jobs if self.jobs is None else self.jobs
        if self.gpus_per_run is None:
            usual = available_cores() if device == "cpu" else len(visible_gpus()) if device == "cuda" else 1
            return (usual or 1) if jobs is None else jobs
        if device != "cuda":
            raise BenchError(
                f"--gpus-per-run deals out the GPUs of this machine, and the device is {device}; leave it out"
            )
        gpus = len(visible_gpus())
        capacity = gpus * int(1 / self.gpus_per_run + 1e-6)
        if (self.jobs or 0) > capacity:
            raise BenchError(
                f"--jobs {self.jobs} with --gpus-per-run {self.gpus_per_run:g}: the GPUs here, {gpus}, take {capacity} "
                f"such runs at a time; lower one of them"
            )
        return capacity if self.jobs is None else self.jobs


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
            record_steps=project.settings.record_steps,
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

    spec: RunSpec
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

    def _whole(self, spec: RunSpec) -> RunRecord | None:
        path = spec.path(self._runs)
        if not path.exists() or record.damage(path) is None:
            return record.find(spec, self._runs)
        with self._claim(spec) as mine:
            if not mine:  # what another process is writing now will be found whole
                return None
            if (fault := record.damage(path)) is None:  # another process has just written it
                return record.find(spec, self._runs)
            where = "" if self._dry_run else f", and this is now {record.set_aside(path, self._runs)}"
            self.notes.append(f"{fault.partition(';')[0]}; the run is made again{where}")
        return None

    def _counted_again(self, done: RunRecord, spec: RunSpec, left_out: Mapping[str, Mapping[int, str]]) -> RunRecord:
        if (again := _counted_again(done, spec, left_out, self._runs)) is None:
            return done
        with self._claim(spec) as mine:
            if not mine:  # another process is making it anew
                return done
            now = record.find(spec, self._runs)
            if now is not None and now.cells != done.cells:  # another process has just counted or made it
                again = _counted_again(now, spec, left_out, self._runs)
                if again is None:
                    return now
            fresh, predictions = again
            self.recounted.append(fresh)
            if not self._dry_run:
                record.save(fresh, self._runs, predictions)
            return fresh

    def _claim(self, spec: RunSpec) -> AbstractContextManager[bool]:
        """Whether a record is this process's to change. A dry run takes nothing from another."""
        return nullcontext(True) if self._dry_run else record.claim(spec, self._runs)


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
    rows = {record.row_of(job.spec): job for job in jobs}
    paths = {job.spec.path(runs) for job in jobs}
    found = []
    for folder in dict.fromkeys(path.parent for path in paths):
        for path in folder.glob("*.json"):
            if path in paths:
                continue
            try:
                entry = record.load(path)
            except BenchError:  # a damaged one is in no table
                continue
            if not record.is_in_place(entry, path, runs):
                continue
            job = rows.get(record.row_of(entry.spec))
            if job is not None and job.spec.version == entry.spec.version and job.method_digest != entry.method_digest:
                found.append(entry)
    return found


BEGINNING = 2.0
"""Seconds that a run takes before it begins: its process loads torch."""


@dataclass(frozen=True)
class Estimate:
    """How long the runs of a plan will take, as earlier ones tell."""

    seconds: float | None  # with so many slots; None where nothing is known of any run
    unknown: tuple[str, ...]  # methods of which no earlier run tells: their runs are not counted in


def estimate(plan: Plan, records: Iterable[RunRecord], slots: int) -> Estimate:
    """Earlier runs of the same method on the same suite and kind of device, scaled: fitting by training faces and
    epochs, scoring by faces. Only those with the same networks count, and each run begins with loading torch.
    """
    cuda = {job.spec.key: job.device.startswith("cuda") for job in plan.runs}
    folders = {name: folder for job in plan.runs for name, folder in job.folders.items()}
    abouts = {name: read_about(Path(folder)) for name, folder in folders.items()}
    earlier: dict[tuple[str, bool], list[tuple[RunSpec, dict[str, float]]]] = {}
    for entry in records:
        spec = entry.spec
        # A run that told where its time went took longer than it would have.
        if spec.suite == plan.suite.name and set(spec.sources) <= set(abouts) and not entry.environment.get("profiled"):
            units = _units(spec, abouts, [cell.count for cell in entry.cells], [cell.shift for cell in entry.shifted])
            rates = {name: entry.seconds[name] / unit for name, unit in units.items() if unit and name in entry.seconds}
            # Only a run on a GPU says how much of its memory was used.
            earlier.setdefault((spec.method, "memory_mb" in entry.environment), []).append((spec, rates))
    took: list[float] = []
    unknown: dict[str, None] = {}
    for job in plan.missing:
        spec = job.spec
        known = earlier.get((spec.method, cuda[spec.key]), [])
        alike = [rates for other, rates in known if other.weights == spec.weights]
        parts = [scored_part(abouts[name], spec.profile, spec.learns_from(name)) for name in spec.targets]
        scored = [sum(abouts[name]["counts"][part].values()) for name, part in zip(spec.targets, parts, strict=True)]
        units = _units(spec, abouts, scored, job.shifts)
        wanted = {name: unit for name, unit in units.items() if unit and (name == "shift" or not job.restore)}
        told = {name: [rates[name] for rates in alike if name in rates] for name in wanted}
        if all(told.values()):
            took.append(BEGINNING + sum(float(np.median(told[name])) * unit for name, unit in wanted.items()))
        else:
            unknown[spec.method] = None
    ends = [0.0] * max(1, slots)
    for seconds in took:  # each run begins in the slot that is free first
        heapq.heapreplace(ends, ends[0] + seconds)
    return Estimate(max(ends) if took or not plan.missing else None, tuple(unknown))


def _units(
    spec: RunSpec, abouts: Mapping[str, Any], scored: Sequence[int], shifts: Sequence[Shift]
) -> dict[str, float]:
    """What the seconds of a run go by."""
    faces = sum(sum(abouts[name]["counts"].get("train", {}).values()) for name in spec.sources)
    epochs = spec.parameters.get("epochs", 1)
    return {"fit": spec.fraction * faces * epochs, "score": sum(scored), "shift": sum(shift.faces for shift in shifts)}


def _widened(spec: RunSpec, done: RunRecord, suite: Suite, domains: _Domains) -> RunSpec:
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
    done: RunRecord, spec: RunSpec, left_out: Mapping[str, Mapping[int, str]], runs: Path
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
        predictions = record.load_predictions(spec.path(runs)) if stale else {}
    except BenchError:
        return None  # the run will be made again
    fresh = {}
    for cell in stale:
        faces = left_out.get(cell.target, {})
        if (again := record.recounted(spec, cell, predictions.get(cell.target), faces)) is not None:
            fresh[cell.target] = again
            predictions[cell.target] = record.without(predictions[cell.target], faces)
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
                missing,
                opened,
                self.comparisons,
                self._project.sketches,
                available_cores(),
                progress or (lambda what, done, total: None),
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

    def excluding(self, spec: RunSpec, include: bool) -> tuple[RunSpec, dict[str, Mapping[int, str]]]:
        """The spec that says which faces are not scored, and these by place: of every target those that have a
        near-duplicate in the sources. include: none.
        """
        found: dict[str, Mapping[int, str]] = {}
        for target in () if include else spec.targets:
            sources = {name: self.fingerprints[name] for name in spec.sources}
            part = scored_part(self._abouts[target], spec.profile, spec.learns_from(target))
            if faces := self._standings.of(sources, target, self.fingerprints[target], part).left_out:
                found[target] = faces
        excluded = {target: record.digest_of(faces.values()) for target, faces in found.items()}
        return replace(spec, excluded=excluded), found

    def shifts(self, spec: RunSpec, wanted: Shifts | None) -> list[Shift]:
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


def execute(
    plan: Plan, project: Project, engine: Engine, listen: Listen, finished: Callable[[Outcome, RunRecord | None], None]
) -> None:
    """Runs what is missing, wherever the engine makes runs.

    A run that fails leaves its trace in results/failed and does not stop the others. After bad input that other runs
    would meet as well (a method file that cannot be loaded, weights that cannot be fetched) those are given up, and so
    they are when a second run fails at the same line of the method's file; after a full disk all are. A run that
    succeeded, was refused or was killed from outside does not count as the first: its log may name such a line too.
    """
    given_up: set[str] = set()
    failed: set[tuple[str, str]] = set()  # what failed runs were made of, and the line of the method's file
    full = False

    def conclude(outcome: Outcome) -> None:
        nonlocal full
        full |= outcome.stops
        made_of = _ingredients(outcome.job)
        where = in_method(outcome.job, outcome.log) if outcome.failure and not outcome.killed else ""
        if outcome.everywhere or (where and (made_of, where) in failed):
            given_up.add(made_of)
        failed.add((made_of, where))
        trace = failure_path(project, outcome.job.spec)
        if outcome.record is None:
            why = outcome.refused or outcome.failure
            with suppress(OSError):  # where the disk is full, the sentence on the screen has to do
                trace.parent.mkdir(parents=True, exist_ok=True)
                trace.write_text(f"{outcome.job.spec.title}\n{why}\n\n{outcome.log}", encoding="utf-8")
            finished(outcome, None)
        else:
            trace.unlink(missing_ok=True)
            finished(outcome, record.load(outcome.record))

    def wanted(job: Job) -> bool:
        return not full and _ingredients(job) not in given_up

    run_all(plan.missing, engine, wanted, listen, conclude)


ScoredCells = tuple[Cell | ShiftedCell, Cell | ShiftedCell]


@dataclass(frozen=True)
class Replay:
    """A record, and what its run came to when it was made again."""

    record: RunRecord
    again: RunRecord

    def differences(self) -> list[tuple[str, int, ScoredCells, int]]:
        """Of each target, and of each of its shifts: its name, its faces, the cells of the record and of the new run,
        and the faces that are in another place of the confusion matrix; at least so many were judged otherwise.
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
        """Epochs whose losses and scores on held-out faces are not those of the record."""
        timeless = [
            [{name: value for name, value in epoch.items() if name != "images_per_second"} for epoch in entry.history]
            for entry in (self.record, self.again)
        ]
        return sum(one != other for one, other in zip_longest(*timeless))


def replay(
    project: Project, path: Path, device: str, changes: Mapping[str, Any], progress: Progress, listen: Listen
) -> Replay:
    """Makes a record's run again, with a record of its own in a temporary folder. Refused where the method's version,
    the weights or the faces are not those of the record. A method file of another text is run: whether it comes to the
    same numbers is what one wants to know after a change.

    changes: where weights are on this machine, by parameter. Code comes from this project alone, by the method's name.
    """
    done = record.load(path)
    spec, method = done.spec, project.method(done.spec.method)
    if method.version != spec.version:
        raise BenchError(
            f"{path}: was made by version {spec.version} of the method {spec.method}, and {method.path} is version "
            f"{method.version}; take the file of its commit, {done.method_commit or 'which is not known'}"
        )
    for name in changes:
        if name not in spec.weights:
            raise BenchError(
                f"--set {name}: a replay takes no other parameters, only where weights are"
                f"{did_you_mean(name, spec.weights)}"
            )
    moved = anchored_values(method, method.checked(changes, "--set"), Path())
    parameters = {**method.checked(spec.parameters, str(path)), **moved}
    digests = {name: digest_of(parameters[name], f"{path}: {name}") for name in spec.weights}
    here = replace(spec, parameters=parameters, weights=digests)
    for name, digest in spec.weights.items():
        if digests[name] != digest:
            raise BenchError(
                f"{path}: was made with {digest} as {name}, and {parameters[name]} is {digests[name]}; name the right "
                f"file with --set {name}=…"
            )
    if not done.cells and not done.history:
        raise BenchError(f"{path}: has neither scores nor epochs, so nothing could be compared")
    if here.key != spec.key:
        raise BenchError(f"{path}: {method.path} reads its parameters as others than it says; it cannot be made again")
    hub.require((f"--set {name}=", parameters[name]) for name in digests if not is_path(parameters[name]))
    suite = project.suite(spec.suite)
    names = tuple(dict.fromkeys((*spec.fingerprints, *spec.targets)))
    for name in names:
        if name not in suite.domains:
            raise BenchError(f"{path}: has the domain {name}, and the suite {suite.name} here has none of that name")
    domains = _Domains(project, suite, names, progress)
    for name, state in (*spec.targets.items(), *spec.fingerprints.items()):
        if domains.fingerprints[name] != state:
            raise BenchError(f"{path}: was made on other faces of {name} than those in {domains.folders[name]}")
    again, left_out = domains.excluding(here, not spec.excluded)
    if again.excluded != spec.excluded:
        raise BenchError(
            f"{path}: leaves other faces out than the audit of {suite.name} here does; give the command that made it "
            f"once more, which counts it again, and replay that record"
        )
    with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
        job = Job(
            spec=replace(again, relations=spec.relations),
            method_file=str(method.path),
            class_name=method.class_name,
            method_digest=method.digest,
            folders={name: str(domains.folders[name]) for name in names},
            cache=str(project.cache),
            runs=str(Path(folder, "runs")),
            device=device,
            threads=1 if device == "cpu" else GPU_THREADS,
            excluded={target: sorted(faces.values()) for target, faces in left_out.items()},
            record_steps=project.settings.record_steps,
            shifts=[shift for shift in done.shifts_of(spec) if shift.version == VERSION],
        )
        engine = Here()
        engine.start(job, listen)
        (outcome,) = engine.ended(None)
        if outcome.record is None:
            raise BenchError(f"{path}: its run cannot be made again: {outcome.refused or outcome.failure}")
        return Replay(done, record.load(outcome.record))


def _ingredients(job: Job) -> str:
    """What runs share that differ in sources and seed alone."""
    return json.dumps([job.method_file, dict(job.spec.parameters)], sort_keys=True, default=str)


def failure_path(project: Project, spec: RunSpec) -> Path:
    return project.results / "failed" / f"{spec.slug}.txt"


class Here:
    """Runs in this process, one at a time: for debuggers and profilers."""

    slots = 1

    def __init__(self) -> None:
        self._ended: list[Outcome] = []

    def start(self, job: Job, listen: Listen) -> None:
        self._ended.append(self._run(job, listen))

    def ended(self, timeout: float | None) -> list[Outcome]:
        ended, self._ended = self._ended, []
        return ended

    def stop(self) -> None:
        pass

    def _run(self, job: Job, listen: Listen) -> Outcome:
        try:
            path = make(job, lambda what, done, total: listen(job, {"what": what, "done": done, "total": total}))
        except Exception as error:
            log, refusal = traceback.format_exc(), refusal_of(error)
            if refusal is not None:
                return Outcome(job, None, **refusal, log=log)
            return Outcome(job, None, failure=f"{type(error).__name__}: {error}{in_method(job, log)}", log=log)
        return Outcome(job, path, elsewhere=path is None)
