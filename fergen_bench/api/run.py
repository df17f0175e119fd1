"""Resolve the options of a run, plan its runs, execute those without a record, and return the results."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.api.display import Display, display
from fergen_bench.api.options import RunOptions, from_keywords
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.wording import many, near

if TYPE_CHECKING:
    from fergen_bench.api.results import Results
    from fergen_bench.data.suite import Suite
    from fergen_bench.execution.engine import Engine, Outcome
    from fergen_bench.execution.fleet import Fleet
    from fergen_bench.execution.plan import Plan
    from fergen_bench.experiment.method_file import MethodFile
    from fergen_bench.experiment.outline import Outline, Planned
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.protocol import Protocol
    from fergen_bench.experiment.run import Precision, Run
    from fergen_bench.records.record import RunRecord


def run(*, project: Project | str | Path | None = None, progress: bool = True, **options: Any) -> Results:
    """Run what is missing of a protocol, and return the results of all its runs.

    The call does what `fergen-bench run` does: it prepares the domains, plans the runs, executes those without a record
    on the engine chosen by the options, and mirrors the records to MLflow unless `track=False`.

    Args:
        project: The project, or a folder in it. Default: that of the working directory.
        progress: Show bars in a terminal and in a notebook. Elsewhere the call prints nothing.
        **options: The fields of `RunOptions`, such as `methods=["cafe"]`, `suite="synth5"`, `protocol="leave-none"`,
            `seeds=[0]`, `parameters={"gate": "linear"}`, `jobs=0`. docs/python.md lists all of them.

    Returns:
        The results of the runs of this call, whether they were executed now or before.

    Raises:
        BenchError: An option, a file or a method is at fault, or a run failed. Runs that succeeded have records.
        TypeError: A keyword does not exist.
    """
    from fergen_bench.api.results import load
    from fergen_bench.records.collection import RecordFolder

    chosen: RunOptions = from_keywords(options)
    where = open_project(project)
    resolved = resolve(chosen, where)
    with display(progress) as shown:
        shown.shown = resolved.planned.shown
        plan = make_plan(resolved, shown)
        for note in plan.notes:
            shown.note(note)
        for warning in plan.warnings:
            warnings.warn(warning, UserWarning, stacklevel=2)
        finished = execute(resolved, plan, shown) if plan.missing else mirror_recounted(resolved, plan, shown)
    if finished.stopped:
        raise KeyboardInterrupt
    if finished.failed:
        raise BenchError(_failures(where, finished, len(plan.missing)))
    stored = RecordFolder(where.results / "runs")
    keys = {job.spec.key for job in plan.runs}
    return load(where, stored, plan.suite.name, include_near_duplicates=chosen.include_near_duplicates, keys=keys)


def open_project(project: Project | str | Path | None) -> Project:
    """Return a project: the one given, that of a folder, or that of the working directory."""
    from fergen_bench.experiment.project import Project, find_project

    return project if isinstance(project, Project) else find_project(None if project is None else Path(project))


@dataclass(frozen=True)
class Resolved:
    """The values that options resolve to before any domain is prepared."""

    options: RunOptions
    project: Project
    suite: Suite
    methods: tuple[MethodFile, ...]
    planned: Planned
    fleet: Fleet
    device: str
    precision: Precision

    @property
    def prepared(self) -> bool:
        """True where all domains of the runs are prepared."""
        return self.project.is_prepared(self.suite, self.planned.domains)

    @property
    def elsewhere(self) -> bool:
        """True where other machines execute the runs."""
        return self.options.ray is not None or self.options.slurm is not None

    @property
    def outlines(self) -> Sequence[Outline]:
        """The runs of the shard."""
        first, step = self.options.shard
        return self.planned.outlines[first - 1 :: step]


def resolve(options: RunOptions, project: Project) -> Resolved:
    """Resolve the names in options to methods, protocol, suite, engine, device and precision.

    Raises:
        BenchError: A name does not exist, or options contradict each other.
    """
    from fergen_bench.execution.fleet import Fleet, resolve_device, resolve_precision
    from fergen_bench.experiment.outline import Request, outline
    from fergen_bench.experiment.protocol import read_protocol

    wanted = check_device(options.device or project.settings.device)
    path = project.protocol_path(options.protocol)
    protocol = read_protocol(path)
    suite = project.suite(options.suite or protocol.suite or project.settings.suite)
    if suite.synthetic and protocol.embedded is not None and not (options.suite or protocol.suite):
        suite = project.suite(protocol.embedded)
    files, unread, everyone = _methods(project, protocol, path, options.methods)
    changes = dict(options.parameters)
    if options.backbone is not None:
        changes["backbone"] = options.backbone
        _refuse_without_backbone(files)
    fleet = Fleet(
        options.jobs,
        project.settings.jobs,
        options.gpus_per_run,
        options.ray,
        options.cpus_per_run,
        None if options.slurm is None else dict(options.slurm),
    )
    device = resolve_device(wanted, fleet.gpus)
    precision = resolve_precision(options.precision or project.settings.precision, device)
    request = Request(
        options.seeds,
        options.sources,
        options.targets,
        options.selection,
        changes,
        precision,
        options.views,
        options.prior,
    )
    planned = outline(protocol, str(path), suite, files, request, skip_unfit=everyone, find=project.method)
    planned = replace(planned, notes=(*planned.notes, *unread))
    return Resolved(options, project, suite, tuple(files), planned, fleet, device, precision)


def check_device(name: str) -> str:
    """Return the name of a device, or raise BenchError where it cannot be one."""
    if name not in {"auto", "cpu", "cuda"} and not (name.startswith("cuda:") and name[5:].isdigit()):
        raise BenchError(f"--device: {name!r} is not a device. Write auto, cpu, cuda or cuda:1.")
    return name


def _methods(
    project: Project, protocol: Protocol, path: Path, named: Sequence[str]
) -> tuple[list[MethodFile], list[str], bool]:
    """Return the methods that were named, else the protocol's own.

    Returns:
        The method files; a note for each file that cannot be read; and whether the protocol means every method, in
        which case methods that do not fit are left out instead of refused.
    """
    from fergen_bench.experiment.protocol import EVERY

    own = protocol.names(str(path), project.methods())  # raises for a misspelt method, whichever are named
    names = named or own
    if not names:
        raise BenchError(f"name a method with --method{did_you_mean('', project.methods())} See: fergen-bench list")
    everyone = not named and EVERY in protocol.method
    files, unread = [], []
    for name in dict.fromkeys(names):
        try:
            files.append(project.method(name))
        except BenchError as error:
            if not everyone:
                raise
            unread.append(f"left out: {error}")
    return files, unread, everyone


def _refuse_without_backbone(methods: Iterable[MethodFile]) -> None:
    for method in methods:
        networks = [parameter.name for parameter in method.parameters if parameter.network]
        if "backbone" not in networks:
            has = f". It has {' and '.join(f'--set {network}=…' for network in networks)}." if networks else "."
            raise BenchError(f"--backbone: the method {method.name} has no parameter backbone{has}")


# --------------------------------------------------------------------------------------------------------------- plan


def make_plan(resolved: Resolved, shown: Display) -> Plan:
    """Prepare the domains, and find the runs without a record.

    Raises:
        BenchError: Weights of a missing run are neither on this machine nor within reach, or a domain cannot be
            prepared.
    """
    from fergen_bench.api.results import records_at
    from fergen_bench.execution import plan

    options, project, prepared = resolved.options, resolved.project, resolved.prepared
    if not prepared:  # where it is prepared, the weights of runs with a record do not matter
        check_weights(resolved, resolved.planned.runs, shown)
    made = plan.make_plan(
        project,
        resolved.planned,
        plan.PlanOptions(
            device=resolved.device,
            gpu_threads=resolved.fleet.threads(resolved.device),
            shard=(options.shard[0], options.shard[1]),
            rerun=options.rerun,
            offered=None if options.records is None else records_at(options.records, project),
            dry_run=options.dry_run,
            allow_missing_class=options.allow_missing_class,
            include_near_duplicates=options.include_near_duplicates,
            audit=project.settings.audit and options.audit,
            keep_models=options.keep_models,
            profile=options.profile,
        ),
        shown.preparation,
    )
    if prepared:
        check_weights(resolved, [job.spec for job in made.missing], shown)
    return made


def check_weights(resolved: Resolved, runs: Iterable[Run], shown: Display) -> None:
    """Raise before any run where published weights are neither on this machine nor within reach.

    Args:
        resolved: Where the runs execute: other machines may have weights that this one lacks. A dry run only warns.
        runs: The runs to execute.
        shown: Receives a note about weights that will be downloaded.
    """
    from fergen_bench.networks import hub

    networks = dict.fromkeys(
        (f"--set {parameter}=", str(run.parameters[parameter]))
        for run in runs
        for parameter, digest in run.weights.items()
        if digest.startswith("published:")
    )
    hub.refuse_wrong_activation(name for _, name in networks)
    if resolved.elsewhere or not networks:
        return
    try:
        for note in hub.require(networks):
            shown.note(note)
    except BenchError as error:
        if not resolved.options.dry_run:
            raise
        shown.warn(str(error))


# ------------------------------------------------------------------------------------------------------------ execute


@dataclass
class Finished:
    """The outcome of executing a plan."""

    records: list[RunRecord] = field(default_factory=list)  # of the runs that ended well, counted as a report does
    failed: list[Outcome] = field(default_factory=list)
    seconds: float = 0.0
    stopped: bool = False  # by Ctrl-C
    begun: int = 0  # runs that stopped after a saved epoch
    unmirrored: int = 0  # records that MLflow lacks after a stop


def execute(resolved: Resolved, plan: Plan, shown: Display) -> Finished:
    """Execute the missing runs of a plan, and mirror their records."""
    from fergen_bench.api import mirror
    from fergen_bench.execution import run_plan
    from fergen_bench.records.counting import collapse_note

    project, track = resolved.project, resolved.options.track
    engine = resolved.fleet.engine(resolved.device, len(plan.missing), project.results)
    count = counting(project, resolved.options.include_near_duplicates)
    following = mirror.follow(project, shown.warn)
    beside = track and not _in_process(engine)
    finished, began, noted = Finished(), time.monotonic(), set[str]()
    shown.begin(len(plan.missing))

    def conclude(outcome: Outcome, record: RunRecord | None) -> None:
        if record is None:
            finished.failed.append(outcome)
            shown.say(f"{outcome.job.spec.called(shown.shown)}: {_failure(project, outcome)}", style="red")
        else:
            record = count(record)
            finished.records.append(record)
            for note in _notes_on_weights(record):
                if note not in noted:
                    noted.add(note)
                    shown.note(note)
            if beside:
                following.add(record)
        shown.end(outcome.job.spec, summary(record) if record else None)
        if record is not None and outcome.job.profile:
            shown.say(_profile(outcome.job.profile_path))

    try:
        run_plan.execute(plan, project, engine, lambda job, message: shown.listen(job.spec, message), conclude)
    except KeyboardInterrupt:
        finished.stopped, finished.unmirrored = True, following.close(patience=0)
        finished.begun = sum(job.spec.unfinished_path(project.results / "runs").is_file() for job in plan.missing)
    finished.seconds = time.monotonic() - began
    if said := collapse_note(finished.records):
        shown.note(said)
    if track and not finished.stopped:
        late = [] if beside else finished.records
        for record in (*map(count, plan.recounted), *late):
            following.add(record)
        with shown.busy("mirroring to MLflow"):
            mirror.finish(following, shown.warn)
    return finished


def _in_process(engine: Engine) -> bool:
    """Return True where runs use the global random generators of this process, which another thread could disturb."""
    from fergen_bench.execution.local import InProcess

    return isinstance(engine, InProcess)


def mirror_recounted(resolved: Resolved, plan: Plan, shown: Display) -> Finished:
    """Mirror the records that a plan without missing runs counted again."""
    from fergen_bench.api import mirror

    if resolved.options.track:
        following = mirror.follow(resolved.project, shown.warn)
        count = counting(resolved.project, resolved.options.include_near_duplicates)
        for record in plan.recounted:
            following.add(count(record))
        with shown.busy("mirroring to MLflow"):
            mirror.finish(following, shown.warn)
    return Finished()


def counting(project: Project, include_near_duplicates: bool) -> Callable[[RunRecord], RunRecord]:
    """Return a function that counts a record as a report does: with the near-duplicates and overlaps known now."""
    from fergen_bench.datasets.comparisons import Comparisons
    from fergen_bench.records.collection import RecordFolder
    from fergen_bench.records.counting import counted

    comparisons, stored = Comparisons(project.comparisons), RecordFolder(project.results / "runs")

    def count(record: RunRecord) -> RunRecord:
        (found,), _ = counted([record], project, stored, include_near_duplicates, comparisons)
        return found

    return count


def _failure(project: Project, outcome: Outcome) -> str:
    from fergen_bench.execution import run_plan

    trace = run_plan.failure_path(project, outcome.job.spec)
    return f"{outcome.refused or outcome.failure}" + (f"\n  trace: {near(trace)}" if trace.exists() else "")


def _failures(project: Project, finished: Finished, runs: int) -> str:
    """Return the sentence of a call of which some runs failed."""
    first = finished.failed[0]
    more = f"\nand {many(len(finished.failed) - 1, 'run')} more" if len(finished.failed) > 1 else ""
    return (
        f"{many(runs - len(finished.records), 'run', of=runs)} did not end; the others have records. "
        f"{first.job.spec.title}: {_failure(project, first)}{more}"
    )


def _notes_on_weights(record: RunRecord) -> Iterator[str]:
    """Yield the notes of a run on the weights of its networks, with warnings of the libraries that loaded them."""
    for network in record.networks.values():
        for note in network.get("notes", ()):
            yield f"the weights of {network['name']}: {note}"


def _profile(path: Path) -> str:
    """Return the shares of a run's time, from its profile."""
    import json

    try:
        about = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
    except OSError:  # only corruptions were scored, from a checkpoint
        return "  no step of this run was profiled"

    def shares(kind: str) -> str:
        traced = about[kind]
        phases = {**traced["phases"], "other": traced["seconds"] - sum(traced["phases"].values())}
        said = ", ".join(f"{name} {100 * took / traced['seconds']:.0f} %" for name, took in phases.items())
        return f"  {kind}, {1000 * traced['seconds'] / traced['steps']:.1f} ms a step while traced: {said}"

    lines = [shares(kind) for kind in ("training", "scoring") if kind in about]
    evaluation = f"  evaluation: {100 * about['evaluation'] / about['seconds']:.0f} % of the run's time"
    return "\n".join([*lines, evaluation, f"  traces: {near(path)}.*.json.gz (ui.perfetto.dev)"])


def summary(record: RunRecord) -> str:
    """Return the scores of a run in words: accuracy on its own domain, and the mean over unseen ones."""
    import numpy as np

    from fergen_bench.metric import accuracy
    from fergen_bench.report.rounding import tenth

    def mean(relation: str) -> str | None:
        scores = [accuracy(np.array(cell.confusion)) for cell in record.cells if cell.relation == relation]
        return tenth(100 * float(np.mean(scores))) if scores else None

    took = f"({record.seconds['fit']:.0f} s)"
    if not record.cells:
        scores = [entry["val_accuracy"] for entry in record.history if "val_accuracy" in entry]
        return f"held-out {tenth(100 * scores[-1])} {took}" if scores else f"done {took}"
    unseen, own = mean("unseen"), mean("source")
    if unseen is None:
        unseen = "— (its targets are seen)" if mean("seen") else "— (no other domain is scored)"
    elif (without := sum(not cell.audited for cell in record.cells)) > 0:
        every = without == sum(cell.relation == "unseen" for cell in record.cells)
        unseen += " (not audited)" if every else f" ({many(without, 'target')} not audited)"
    return f"in-domain {own or '— (not scored)'}, unseen {unseen} {took}"
