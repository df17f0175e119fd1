"""Plan a protocol: prepare its domains, find existing records, and list the runs that are missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.error import BenchError
from fergen_bench.execution.bases import bases_to_train, edited_bases, note_on_bases
from fergen_bench.execution.domains import PreparedDomains
from fergen_bench.execution.existing import ExistingRecords, RunState
from fergen_bench.execution.fleet import GPU_THREADS
from fergen_bench.experiment.run import Job, MethodCode
from fergen_bench.records import frame as frames
from fergen_bench.records import store
from fergen_bench.records.listing import is_in_place
from fergen_bench.wording import many, near

if TYPE_CHECKING:
    from fergen_bench.data.suite import Suite
    from fergen_bench.experiment.outline import Outline, Planned
    from fergen_bench.experiment.project import Project
    from fergen_bench.progress import Progress
    from fergen_bench.records.collection import Records
    from fergen_bench.records.record import RunRecord


@dataclass(frozen=True)
class PlanOptions:
    """The options of a plan, beyond the protocol and the methods.

    Attributes:
        device: Device of every run: cpu, cuda or cuda:1.
        gpu_threads: CPU threads of a run on a GPU. A run on a CPU has one.
        shard: (i, n) keeps every n-th run, beginning with the i-th (from 1).
        rerun: Run every run again, even where a record exists.
        offered: Records of other folders, which are copied where a run has none; None for no others.
        dry_run: Change no record and start no audit.
        allow_missing_class: Accept sources without training images of some expression.
        include_near_duplicates: Score target images that have a near-duplicate in the sources, too.
        audit: Search domains that were never compared for near-duplicates, where that takes less than a minute.
        keep_models: Save the fitted method beside the record; a record without one is incomplete.
        profile: Measure the phases of each run and trace some of its steps.
    """

    device: str = "cpu"
    gpu_threads: int = GPU_THREADS
    shard: tuple[int, int] = (1, 1)
    rerun: bool = False
    offered: Records | None = None
    dry_run: bool = False
    allow_missing_class: bool = False
    include_near_duplicates: bool = False
    audit: bool = True
    keep_models: bool = False
    profile: bool = False


@dataclass(frozen=True)
class Plan:
    """The runs of a protocol, and those of them that have no complete record yet.

    Attributes:
        suite: The suite of all runs.
        protocol: Name of the protocol.
        runs: All runs, each with its circumstances.
        missing: The runs that have to be executed.
        notes: Sentences about the domains, the audit and existing records.
        recounted: Records whose cells were counted again without, or with, near-duplicates.
        warnings: Sentences about what may make numbers worthless.
    """

    suite: Suite
    protocol: str
    runs: tuple[Job, ...]
    missing: tuple[Job, ...]
    notes: tuple[str, ...]
    recounted: tuple[RunRecord, ...] = ()
    warnings: tuple[str, ...] = ()


def make_plan(project: Project, planned: Planned, options: PlanOptions, progress: Progress | None = None) -> Plan:
    """Prepare the domains of a protocol and find the runs without a complete record.

    A record whose predictions are stored is counted again, not run again, where other images are to be left out.

    Args:
        project: The project, with its settings and results folder.
        planned: The outlines of all runs.
        options: Device, shard, and what to do about existing records.
        progress: Receives the progress of preparation and audit.

    Returns:
        The plan. Unless it is a dry run, records are counted again and damaged records are set aside by then.

    Raises:
        BenchError: A domain cannot be prepared, or cannot serve as a source or target.
    """
    domains = PreparedDomains(project, planned.suite, planned.domains, progress)
    notes = [*planned.notes, *domains.check(planned, options.allow_missing_class)]
    notes += domains.audit(planned, progress, options.audit and not options.dry_run)

    records = ExistingRecords(planned.suite, domains, project.results / "runs", options)
    outlines = planned.outlines[options.shard[0] - 1 :: options.shard[1]]
    # Runs that start from others come first, since those that are to be executed decide which others keep their models.
    online = {
        place: records.find(one, planned.corruptions, False)
        for place, one in enumerate(outlines)
        if one.base is not None
    }
    adapting = [outlines[place] for place, state in online.items() if not state.complete]
    bases = bases_to_train(adapting, domains.fingerprints, project.results / "runs", options.keep_models)
    notes += note_on_bases(bases, adapting)

    def found(one: Outline) -> RunState:
        key = one.run.with_fingerprints(domains.fingerprints).key
        return records.find(one, planned.corruptions, options.keep_models or key in bases)

    states = [online.get(place) or found(one) for place, one in enumerate(outlines)]
    planned_keys = {state.spec.key for state in states}
    more = [base for key, base in bases.items() if key not in planned_keys]
    chosen, states = (*more, *outlines), [*(records.find(base, None, True) for base in more), *states]
    jobs = [_job(project, domains, one, state, options) for one, state in zip(chosen, states, strict=True)]

    missing = [job for job, state in zip(jobs, states, strict=True) if not state.complete]
    notes += [*records.notes, *_notes_on_copies(records, options)]
    notes += [*_notes_on_models(missing, records), *_notes_on_counts(records, options)]
    edited = _edited(jobs, states)
    if missing:
        edited += _edited_in_same_row(jobs, project.results / "runs")
        edited += edited_bases(adapting, domains.fingerprints, project.results / "runs")
    return Plan(
        planned.suite,
        planned.protocol,
        tuple(jobs),
        tuple(missing),
        tuple(notes),
        tuple(records.recounted),
        _warnings(edited),
    )


def _job(project: Project, domains: PreparedDomains, outlined: Outline, state: RunState, options: PlanOptions) -> Job:
    """Return a run with its circumstances."""
    spec, runs, base = state.spec, project.results / "runs", outlined.base
    return Job(
        spec=spec,
        method_file=str(outlined.method.path),
        class_name=outlined.method.class_name,
        method_digest=outlined.method.digest,
        folders={name: str(domains.folders[name]) for name in dict.fromkeys((*spec.fingerprints, *spec.targets))},
        cache=str(project.cache),
        runs=str(runs),
        device=options.device,
        threads=1 if options.device == "cpu" else options.gpu_threads,
        excluded=state.left_out,
        keep_model=state.keep_model,
        save_every=project.settings.save_every,
        capture_steps=project.settings.record_steps,
        corruptions=state.corruptions,
        restore=state.restore,
        profile=options.profile,
        replaces=None if state.record is None else state.record.started,
        rerun=options.rerun,
        base=None if base is None else MethodCode(str(base.method.path), base.method.class_name, base.method.digest),
    )


def _notes_on_models(missing: Sequence[Job], records: ExistingRecords) -> list[str]:
    """Return notes on the runs that lack nothing but corruption scores."""
    notes = []
    if restored := sum(job.restore for job in missing):
        notes.append(
            f"{many(restored, 'run', 'lack')} only corruption scores, which come from {many(restored, 'checkpoint')}; "
            f"nothing is trained"
        )
    if records.without_model:
        notes.append(
            f"{many(records.without_model, 'run', 'have')} a record but no checkpoint to compute corruption scores "
            f"with, so training starts again; add --keep-models to avoid that next time"
        )
    return notes


def _notes_on_copies(records: ExistingRecords, options: PlanOptions) -> list[str]:
    """Return a note on the records that were copied from other folders."""
    if options.offered is None:
        return []
    count = records.copied
    subject = f"{many(count, 'record')} would be" if options.dry_run else many(count, "record", "were")
    return [f"{subject} copied from {near(options.offered.path)}"]


def _notes_on_counts(records: ExistingRecords, options: PlanOptions) -> list[str]:
    """Return a note on the records that were counted again from stored predictions."""
    count = len(records.recounted)
    if not count:
        return []
    how = "on all images of their targets" if options.include_near_duplicates else "without near-duplicates"
    subject = f"{many(count, 'record')} would be" if options.dry_run else many(count, "record", "were")
    return [f"{subject} counted again from stored predictions, {how}"]


def _edited(jobs: Sequence[Job], states: Sequence[RunState]) -> list[str]:
    """Return a method for each complete record that another text of its file, or of that of its base, made."""
    return [
        name
        for job, state in zip(jobs, states, strict=True)
        if state.complete and state.record is not None
        for name in _other_texts(state.record, job)
    ]


def _other_texts(record: RunRecord, job: Job) -> list[str]:
    """Return the method of a record, or its base, if the record was made by another text than a job has."""
    if record.method_digest != job.method_digest:
        return [record.spec.method]
    # Records of early versions lack the digest of their base.
    if job.base is not None and record.spec.base is not None and record.base_digest not in ("", job.base.digest):
        return [record.spec.base.method]
    return []


def _edited_in_same_row(jobs: Sequence[Job], runs: Path) -> list[str]:
    """Return a method for each record outside the plan that shares a table row with a job but not its texts."""
    rows = {frames.row_of(job.spec): job for job in jobs}
    paths = {job.spec.path(runs) for job in jobs}
    found = []
    for folder in dict.fromkeys(path.parent for path in paths):
        for path in folder.glob("*.json"):
            if path in paths:
                continue
            try:
                entry = store.load(path)
            except BenchError:  # tables show no damaged record
                continue
            if not is_in_place(entry, path, runs):
                continue
            job = rows.get(frames.row_of(entry.spec))
            if job is not None and job.spec.version == entry.spec.version:
                found += _other_texts(entry, job)
    return found


def _warnings(edited: Iterable[str]) -> tuple[str, ...]:
    """Return a warning for each method whose file was edited under one version, which is named once per record."""
    counts = Counter(edited)
    return tuple(
        f"{many(count, 'record', 'were')} made by another text of {method}'s file under the same version, and tables "
        f"show all of its records in one row; if the edit may change numbers, repeat the command of those records with "
        f"--rerun, or raise `version` in the file"
        for method, count in counts.items()
    )
