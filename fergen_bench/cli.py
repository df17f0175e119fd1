"""The command line: the only reader of argv. Commands load what they need when they run; help and lists never load
torch.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fergen_bench.error import BenchError, circumstance, did_you_mean
from fergen_bench.screen import Progress, busy, console_on, duration, near

if TYPE_CHECKING:
    from rich.console import Console

    from fergen_bench.datasets.audit import Audit
    from fergen_bench.datasets.check import Check
    from fergen_bench.domain import Domain
    from fergen_bench.fanout import Engine
    from fergen_bench.matrix import Plan
    from fergen_bench.project import Project
    from fergen_bench.protocol import Outline
    from fergen_bench.record import Job, RunRecord, RunSpec
    from fergen_bench.tracking import Following, Mirror

EXAMPLES = """
\b
Examples:
  fergen-bench run --method cafe --protocol leave-none
  fergen-bench run --method cafe --method linear_probe --seeds 0,1,2 --dry-run
  fergen-bench run --method cafe --set gate=linear --sources web
  fergen-bench report
  fergen-bench new-method my_idea
"""


class _Group(click.Group):
    """Suggests the command that was meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            raise click.UsageError(f"no command {args[0]!r}{did_you_mean(args[0], self.commands)}", ctx)
        return super().resolve_command(ctx, args)


class _List(click.ParamType):  # type: ignore[type-arg]
    """Comma-separated words."""

    name = "a,b,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class _Integers(_List):
    name = "0,1,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            numbers = [int(part) for part in super().convert(value, param, ctx)]
        except ValueError:
            self.fail(f"{value!r} is no list of integers; write 0,1,2")
        if not numbers or min(numbers) < 0:
            self.fail(f"{value!r}: name at least one, none negative")
        return numbers


class _Setting(click.ParamType):  # type: ignore[type-arg]
    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        key, equals, text = value.partition("=")
        if not equals or not key:
            self.fail(f"{value!r} is no setting; write name=value")
        return key.strip().replace("-", "_"), text


class _Pairs(click.ParamType):  # type: ignore[type-arg]
    """key=value,… as a dict."""

    name = "key=value,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        return _pairs("" if param is None else param.opts[0], [part for part in value.split(",") if part.strip()])


class _Shard(click.ParamType):  # type: ignore[type-arg]
    name = "i/n"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        part, _, whole = value.partition("/")
        if not (part.isdigit() and whole.isdigit() and 1 <= int(part) <= int(whole)):
            self.fail(f"{value!r} is no share; write 2/8 for the second of eight")
        return int(part), int(whole)


def _complete(kind: str) -> Any:
    """Completion of names from the project one stands in."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
        from fergen_bench.project import find_project

        project = find_project()
        names: dict[str, Any] = {
            "method": project.methods(),
            "protocol": project.protocols(),
            "suite": project.suites(),
        }
        return sorted(name for name in names[kind] if name.startswith(incomplete))

    return complete


@click.group(
    cls=_Group, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(package_name="fergen-bench")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def app(debug: bool) -> None:
    """How good is a facial-expression method on domains it never saw, compared fairly with everything else."""


# ------------------------------------------------------------------------------------------------------------------ run

RUN_EXAMPLES = """
\b
Examples:
  fergen-bench run --method cafe                             each domain alone → all domains, three seeds
  fergen-bench run --method cafe --seeds 0 --sources web     one row of the matrix
  fergen-bench run --protocol cafe-ablation                  the method's own ablation
  fergen-bench run --method full_finetune --set backbone=scratch --set epochs=20
  fergen-bench run --method cafe --suite wild5 --backbone open_clip:ViT-B-32-quickgelu//data/clip.safetensors
"""


@app.command(epilog=RUN_EXAMPLES)
@click.option(
    "--method",
    "-m",
    "methods",
    multiple=True,
    shell_complete=_complete("method"),
    help="A method; repeat it for several.",
)
@click.option(
    "--protocol",
    "-p",
    default="leave-none",
    show_default=True,
    shell_complete=_complete("protocol"),
    help="Who trains and who is scored.",
)
@click.option(
    "--suite",
    "-s",
    shell_complete=_complete("suite"),
    help="The domains. Default: the protocol's, then bench.toml's, then synth5.",
)
@click.option(
    "--backbone", "-b", help="The encoder, as in: synth, open_clip:MODEL/TAG, timm:MODEL, …//path/to/weights."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    type=_Setting(),
    help="Another value for a parameter of the method; repeat it for several.",
)
@click.option("--seeds", type=_Integers(), help="Other seeds than the protocol's.")
@click.option("--sources", type=_List(), help="Train only on these domains, each alone.")
@click.option("--targets", type=_List(), help="Score only these domains.")
@click.option("--selection", type=click.Choice(["last", "source-val"]), help="Which checkpoint is scored.")
@click.option("--device", help="auto, cpu, cuda or cuda:1. Default: bench.toml's, then auto.")
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=0),
    help="Runs at a time. Default: one per core, or one on a GPU. 0: in this process.",
)
@click.option(
    "--shard",
    type=_Shard(),
    default=(1, 1),
    help="Only every n-th run, beginning with the i-th: share a plan between machines.",
)
@click.option(
    "--gpus-per-run",
    type=click.FloatRange(0, min_open=True),
    help="GPUs that a run gets: 0.5 puts two runs on each, 2 makes each run on two.",
)
@click.option(
    "--ray",
    is_flag=False,
    flag_value="local",
    metavar="[ADDRESS]",
    help="Run on the Ray cluster with this head; without an address, on a Ray of this machine.",
)
@click.option(
    "--cpus-per-run",
    type=click.FloatRange(0, min_open=True),
    help="With --ray: CPUs of a run. Default: 1, with a GPU 4.",
)
@click.option(
    "--slurm", type=_Pairs(), help="Run as a Slurm job array: partition=gpu,gpus=1,cpus=4,mem=16G,time=4:00:00,array=8."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--rerun", is_flag=True, help="Run also what has a record.")
@click.option(
    "--exclude-overlaps", is_flag=True, help="Do not score target faces that the audit found among the source's too."
)
@click.option("--keep-models", is_flag=True, help="Keep what was fitted beside each record, as safetensors.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Make the run of this record again, beside everything else, and say whether the numbers agree.",
)
@click.option(
    "--profile", is_flag=True, help="Tell where the time of each run goes, and trace some of its steps for Perfetto."
)
@click.option("--no-track", is_flag=True, help="Do not mirror records to MLflow.")
@click.option("--allow-missing-class", is_flag=True, help="Accept a source without faces of some expression.")
def run(
    methods: tuple[str, ...],
    protocol: str,
    suite: str | None,
    backbone: str | None,
    settings: tuple[tuple[str, str], ...],
    seeds: list[int] | None,
    sources: list[str] | None,
    targets: list[str] | None,
    selection: Any,
    device: str | None,
    jobs: int | None,
    shard: tuple[int, int],
    gpus_per_run: float | None,
    ray: str | None,
    cpus_per_run: float | None,
    slurm: dict[str, str] | None,
    dry_run: bool,
    rerun: bool,
    no_track: bool,
    allow_missing_class: bool,
    exclude_overlaps: bool,
    keep_models: bool,
    profile: bool,
    replay: Path | None,
) -> None:
    """Train on sources, score targets, keep records. What has a record already is not run again."""
    from fergen_bench import matrix, yamlfile
    from fergen_bench.project import find_project
    from fergen_bench.protocol import EVERY, Request, outline, read_protocol

    project = find_project()
    changes = {key: yamlfile.read_scalar(text) for key, text in settings}
    if backbone is not None:
        changes["backbone"] = backbone
    wanted = device or project.settings.device
    if wanted not in {"auto", "cpu", "cuda"} and not (wanted.startswith("cuda:") and wanted[5:].isdigit()):
        raise BenchError(f"--device: {wanted!r} is no device; write auto, cpu, cuda or cuda:1")
    if replay is not None:
        _refuse_beside("replay", {"device", "settings", "backbone"})
        sys.exit(_replay(project, replay, matrix.resolve_device(wanted), changes))
    path = project.protocol_path(protocol)
    asked = read_protocol(path)
    suite_meant = project.suite(suite or asked.suite or project.settings.suite)
    own = asked.names(str(path), project.methods())  # a misspelt one is refused whoever is run
    names = methods or own
    if not names:
        raise BenchError(f"name a method with --method{did_you_mean('', project.methods())}")
    everyone = not methods and EVERY in asked.method  # nobody named those for whom the protocol is not made
    files, unread = [], []
    for name in dict.fromkeys(names):
        try:
            files.append(project.method(name))
        except BenchError as error:
            if not everyone:
                raise
            unread.append(f"left out: {error}")
    for method in files if backbone is not None else ():
        networks = [parameter.name for parameter in method.parameters if parameter.network]
        if "backbone" not in networks:
            has = f"; it has {' and '.join(f'--set {network}=…' for network in networks)}" if networks else ""
            raise BenchError(f"--backbone: {method.name} has no parameter backbone{has}")
    request = Request(seeds, sources, targets, selection, changes)
    planned = outline(asked, str(path), suite_meant, files, request, skip_unfit=everyone)
    planned = replace(planned, notes=(*planned.notes, *unread))
    fleet = matrix.Fleet(jobs, project.settings.jobs, gpus_per_run, ray, cpus_per_run, slurm)
    resolved = matrix.resolve_device(wanted, fleet.gpus)
    console = console_on(stderr=True)
    if dry_run and not project.is_prepared(suite_meant, planned.domains):
        for note in (*planned.notes, "the domains are not prepared yet, so it is open which runs have records"):
            console.print(f"note: {note}", style="dim")
        outlines = planned.outlines[shard[0] - 1 :: shard[1]]
        _show_plan([(outlined.title, outlined, "?") for outlined in outlines], planned.shown)
        console_on().print(f"{len(outlines)} runs; time left: —", highlight=False)
        return
    with Progress(console) as progress:
        plan = matrix.make_plan(
            project,
            suite_meant,
            protocol,
            planned,
            resolved,
            rerun=rerun,
            shard=shard,
            allow_missing_class=allow_missing_class,
            progress=progress.preparation,
            exclude_overlaps=exclude_overlaps,
            dry_run=dry_run,
            keep_models=keep_models,
            gpu_threads=fleet.threads(resolved),
            profile=profile,
            devices=fleet.devices,
        )
    _announce(console, plan, [file.name for file in files], resolved, fleet.describe(resolved, len(plan.missing)))
    if dry_run:
        missing = {job.spec.key: "to ask about shifts" if job.restore else "to run" for job in plan.missing}
        specs = [job.spec for job in plan.runs]
        _show_plan([(spec.label, spec, missing.get(spec.key, "done")) for spec in specs], planned.shown)
        _show_estimate(project, plan, fleet.together(resolved, len(plan.missing)))
        return
    if not plan.missing:
        if not no_track:
            following = _following(console, project)
            for record in plan.recounted:
                following.add(_related(project, record))
            _await(console, following)
        console.print(
            f"Nothing to do: all {len(plan.runs)} runs have records. See them with: fergen-bench report --suite "
            f"{plan.suite.name}"
        )
        return
    engine = fleet.engine(resolved, len(plan.missing), project.results)
    sys.exit(_execute(console, project, plan, engine, planned.shown, track=not no_track))


def _refuse_beside(option: str, allowed: set[str]) -> None:
    """Refuses what was said beside an option that would do nothing there."""
    said = click.get_current_context()
    for parameter in said.command.params:
        named, source = str(parameter.name), said.get_parameter_source(str(parameter.name))
        if named not in {option, *allowed} and source is click.core.ParameterSource.COMMANDLINE:
            raise BenchError(f"{parameter.opts[0]} says nothing beside --{option}; leave it out")


def _replay(project: Project, path: Path, device: str, changes: dict[str, Any]) -> int:
    """Makes a record's run again and shows both. Returns the exit status: 0 where all confusion matrices are equal, or
    all epochs where no target was scored.
    """
    import numpy as np
    from rich.table import Table

    from fergen_bench import matrix
    from fergen_bench.metric import accuracy

    with Progress(console_on(stderr=True)) as progress:
        progress.begin(1)
        played = matrix.replay(
            project,
            path,
            device,
            changes,
            progress.preparation,
            lambda job, message: progress.listen(job.spec, message),
        )
    done, again, console = played.record, played.again, console_on()
    table = Table(title=done.spec.title, title_justify="left")
    for column in ("target", "faces", "record", "again", "faces that differ"):
        table.add_column(column, justify="left" if column == "target" else "right")
    differences = played.differences()
    for name, count, cells, moved in differences:
        both = (f"{100 * accuracy(np.array(cell.confusion)):.2f}" if count else "—" for cell in cells)
        table.add_row(name, f"{count:,}", *both, f"{moved:,}")
    if differences:
        console.print(table)
    sometimes = {"steps", "devices"}  # said where steps were not taken one by one, or by several devices
    for name in dict.fromkeys((*done.environment, *sometimes)):
        was, here = done.environment.get(name), again.environment.get(name)
        if was != here and name not in {"commit", "memory_mb"} and (name in sometimes or None not in (was, here)):
            console.print(f"note: {name} was {was or 'not said'}, and is {here or 'not said'} here", style="dim")
    if again.method_digest != done.method_digest:
        commit = done.environment.get("commit")
        console.print(
            f"note: the text of {done.spec.method}.py is another one here than at the record's commit, "
            f"{commit or 'which is not known'}, under the same version",
            style="dim",
        )
    if not differences:
        if moved := played.epochs():
            console.print(f"Not equal: {moved} of {len(done.history)} epochs came to other losses or held-out scores.")
            return 1
        console.print(f"Equal: all {len(done.history)} epochs came to the losses and held-out scores of the record.")
        return 0
    if total := sum(moved for *_, moved in differences):
        faces = sum(count for _, count, _, _ in differences)
        console.print(f"Not equal: at least {total:,} of {faces:,} faces were judged otherwise.")
        return 1
    console.print("Equal: every confusion matrix is that of the record.")
    return 0


def _announce(console: Console, plan: Plan, methods: Sequence[str], device: str, where: str) -> None:
    """The first line: everything that was resolved."""
    kind = ", synthetic faces" if plan.suite.synthetic else ""
    done = len(plan.runs) - len(plan.missing)
    together = f", {where}" if plan.missing else ""
    what = f"{plan.suite.name}{kind} · {plan.protocol} · {', '.join(methods)} · {device}"
    console.print(f"{what} · {len(plan.runs)} runs, {done} done before{together}", style="bold")
    for note in plan.notes:
        console.print(f"note: {note}", style="dim")
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow")


def _show_plan(runs: Iterable[tuple[str, Outline | RunSpec, str]], shown: Mapping[str, str]) -> None:
    """runs: what each is called, who trains and is scored, and its state. shown: what domains are called."""
    from rich.table import Table

    from fergen_bench.record import percent

    table = Table()
    for column in ("method", "trained on", "scored on", "seed", "record"):
        table.add_column(column, overflow="fold")
    for label, run, state in runs:
        share = "" if run.fraction == 1 else f"{percent(run.fraction)} of "
        sources, targets = ([shown.get(name, name) for name in names] for names in (run.sources, run.targets))
        gap = " · " if any(" " in name for name in targets) else " "
        table.add_row(label, share + " + ".join(sources), gap.join(targets) or "—", str(run.seed), state)
    console_on().print(table)


def _show_estimate(project: Project, plan: Plan, slots: int) -> None:
    """How many runs there are, how many of them are done, and how long the rest will take."""
    from fergen_bench.matrix import estimate
    from fergen_bench.record import load_all

    told = estimate(plan, load_all(project.results / "runs")[0], slots)
    left = len(plan.missing)
    text = f"{len(plan.runs)} runs, {len(plan.runs) - left} have records, {left} to do"
    if left:
        together = f", {slots} at a time" if slots > 1 else ""
        about = "—" if told.seconds is None else f"about {duration(told.seconds)}"
        more = f", and more for {', '.join(told.unknown)}" if told.unknown and told.seconds is not None else ""
        source = "no earlier run tells" if told.seconds is None else "as earlier runs on this kind of device took"
        text += f"; time left: {about}{more}{together} ({source})"
    console_on().print(text, highlight=False)


def _execute(
    console: Console, project: Project, plan: Plan, engine: Engine, shown: Mapping[str, str], track: bool
) -> int:
    """Runs what is missing, mirrors it, and sums up. Returns the exit status. shown: what domains are called."""
    import time

    from fergen_bench import matrix
    from fergen_bench.fanout import Outcome

    failed: list[Outcome] = []
    finished: list[RunRecord] = []
    started = time.monotonic()
    following = _following(console, project)
    with Progress(console, shown) as progress:
        progress.begin(len(plan.missing))

        def conclude(outcome: Outcome, record: RunRecord | None) -> None:
            if record is None:
                failed.append(outcome)
                reason = outcome.refused or outcome.failure
                where = matrix.failure_path(project, outcome.job.spec)
                trace = f"\n  trace: {near(where)}" if where.exists() else ""
                progress.say(f"{outcome.job.spec.called(shown)}: {reason}{trace}", style="red")
            else:
                record = _related(project, record)
                finished.append(record)
                # In this process a run may draw from global generators, which nothing beside it may touch.
                if track and not isinstance(engine, matrix.Here):
                    following.add(record)
            progress.end(outcome.job.spec, _short(record) if record else None)
            if record is not None and outcome.job.profile:
                progress.say(_where_time_went(outcome.job))

        try:
            matrix.execute(plan, project, engine, lambda job, message: progress.listen(job.spec, message), conclude)
        except KeyboardInterrupt:
            unmirrored = following.close(patience=0)
            progress.say(
                f"Stopped. {len(finished)} of {len(plan.missing)} runs have records; the same command goes on with the "
                f"rest" + (", and fergen-bench sync mirrors the records to MLflow." if unmirrored else ".")
            )
            return 130
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    if track:
        recounted = [_related(project, record) for record in plan.recounted]
        for record in (*recounted, *(finished if isinstance(engine, matrix.Here) else ())):
            following.add(record)
        _await(console, following)
    left = len(plan.missing) - len(finished)
    console.print(
        f"{len(finished)} runs done in {minutes} min {seconds} s"
        + (f", {left} not" if left else "")
        + f"; records in {near(project.results / 'runs')}"
    )
    if not failed:
        see = "report" if any(job.spec.targets for job in plan.runs) else "choose"
        console.print(f"See them with: fergen-bench {see} --suite {plan.suite.name}")
        return 0
    return 2 if any(outcome.refused for outcome in failed) else 1


def _where_time_went(job: Job) -> str:
    """What the profile of a run says, in shares."""
    import json

    path = job.profile_path
    try:
        about = json.loads(path.with_name(f"{path.name}.json").read_text(encoding="utf-8"))
    except OSError:  # its kept model was asked about shifts, and nothing else was done
        return "  no step of this run was profiled"

    def shares(kind: str) -> str:
        traced = about[kind]
        phases = {**traced["phases"], "other": traced["seconds"] - sum(traced["phases"].values())}
        said = ", ".join(f"{name} {100 * took / traced['seconds']:.0f} %" for name, took in phases.items())
        return f"  {kind}, {1000 * traced['seconds'] / traced['steps']:.1f} ms a step while traced: {said}"

    lines = [shares(kind) for kind in ("training", "scoring") if kind in about]
    evaluation = f"  evaluation: {100 * about['evaluation'] / about['seconds']:.0f} % of the run's time"
    return "\n".join([*lines, evaluation, f"  traces: {near(path)}.*.json.gz (ui.perfetto.dev)"])


def _short(record: RunRecord) -> str:
    """What one run came to: its own domain, and the mean over unseen ones."""
    import numpy as np

    from fergen_bench.metric import accuracy
    from fergen_bench.report.rounding import tenth

    def mean(relation: str) -> str:
        scores = [accuracy(np.array(cell.confusion)) for cell in record.cells if cell.relation == relation]
        return tenth(100 * float(np.mean(scores))) if scores else "—"

    took = f"({record.seconds['fit']:.0f} s)"
    if not record.cells:
        scores = [entry["val_accuracy"] for entry in record.history if "val_accuracy" in entry]
        return f"held-out {tenth(100 * scores[-1])} {took}" if scores else f"done {took}"
    return f"in-domain {mean('source')}, unseen {mean('unseen')} {took}"


def _related(project: Project, record: RunRecord) -> RunRecord:
    """A record with what the audit says of its targets."""
    from contextlib import suppress

    from fergen_bench.matrix import related

    with suppress(BenchError):  # of a damaged audit, which is no reason to stop the runs; the report will say it
        (record,) = related(project, [record])
    return record


def _open_mirror(project: Project) -> Mirror:
    from fergen_bench import tracking
    from fergen_bench.report import plots

    settings, results = project.settings.tracking, project.results
    uri = tracking.resolve_uri(settings.uri, results)
    models = results / "runs" if settings.models else None
    return tracking.Mirror(uri, settings.experiment, results, plots.confusion_png, models)


def _mirror_lock(project: Project) -> Path:
    """Keeps writers of the mirror apart: two commands that both create the database would destroy it."""
    project.results.mkdir(parents=True, exist_ok=True)
    return project.results / ".mlflow.lock"


def _following(console: Console, project: Project) -> Following:
    from fergen_bench.tracking import Following

    def warn(reason: str) -> None:
        console.print(f"warning: {reason}", style="yellow")

    return Following(partial(_open_mirror, project), _mirror_lock(project), warn)


def _await(console: Console, following: Following) -> None:
    """Waits a while for the mirror, and says what it has not got."""
    from fergen_bench.tracking import PATIENCE

    with busy(console, "mirroring to MLflow"):
        left = following.close()
    if left:
        console.print(
            f"warning: {left} records are not in MLflow yet ({PATIENCE:.0f} s were waited for); nothing is lost, "
            f"fergen-bench sync mirrors them",
            style="yellow",
        )


# --------------------------------------------------------------------------------------------------------------- report


@app.command()
@click.option(
    "--suite",
    "-s",
    shell_complete=_complete("suite"),
    help="The suite. Default: bench.toml's, or the only one that has records.",
)
@click.option(
    "--method", "-m", "methods", multiple=True, shell_complete=_complete("method"), help="Only these methods."
)
@click.option(
    "--metric", type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1"]), default="accuracy", show_default=True
)
@click.option("--selection", type=click.Choice(["last", "source-val"]), help="Only runs with this selection.")
@click.option(
    "--records",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Read records from here instead of results/runs.",
)
@click.option("--to", type=click.Path(path_type=Path), help="Write the files here instead of results/report.")
@click.option("--faces", is_flag=True, help="Show faces of real people on the page: for your own eyes alone.")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
def report(
    suite: str | None,
    methods: tuple[str, ...],
    metric: str,
    selection: str | None,
    records: Path | None,
    to: Path | None,
    faces: bool,
    opened: bool,
) -> None:
    """Leaderboards, matrices and plots from the records of one suite: here, in files, and on one page, index.html."""
    from fergen_bench import record as recording
    from fergen_bench.project import find_project, shipped
    from fergen_bench.report import page, published, render
    from fergen_bench.report.evidence import Evidence, judged
    from fergen_bench.report.tables import boards, scored_cells

    project, console = find_project(), console_on()
    runs = records or project.results / "runs"
    complaints: list[str] = []
    loaded, meant = _records(project, runs, suite, methods, selection, complaints)
    loaded = _scored(loaded, meant, runs)
    tables = published.read_published(shipped("results") / "published")
    own = project.results / "published"
    if own.is_dir() and own.resolve() != (shipped("results") / "published").resolve():
        tables += published.read_published(own)
    with busy(console_on(stderr=True), "reading predictions"):
        evidence = Evidence(loaded, runs)
        cells = evidence.calibrated(scored_cells(loaded))
        ranked = list(judged(boards(cells, metric), evidence, metric))
    _warn(evidence.faults)
    complaints += evidence.faults
    shifted = recording.shifted_frame(loaded)
    render.show(console, ranked, metric, tables, shifted)
    target = to or project.results / "report"
    with busy(console_on(stderr=True), "drawing"), render.replaced(target) as draft:
        ablations = _ablations(project, meant)
        files = render.write(draft, ranked, metric, tables, ablations, shifted)
        seen = page.Faces(lambda domain: _prepared_domain(project, meant, domain), faces)
        page.write(
            draft, ranked, loaded, runs, metric, evidence.reliability, files, ablations, tables, complaints, seen
        )
    written = target / "index.html"
    what = ", ".join([meant, *(f"only {name}" for name in methods[:1]), *methods[1:]])
    console.print(f"\nReport of {what}: {near(written)}, and beside it leaderboard.md, .csv, .tex and pictures")
    if opened:
        import webbrowser

        webbrowser.open(written.resolve().as_uri())


def _prepared_domain(project: Project, suite: str, name: str) -> Domain | None:
    """A domain whose faces are prepared already. A report prepares nothing."""
    from fergen_bench.domain import Domain

    try:
        known = project.suites()[suite]
        return Domain(project.prepared(known, [name])[name], name) if project.is_prepared(known, [name]) else None
    except (BenchError, KeyError):  # of a suite or dataset that is there no more
        return None


COMPARE_EXAMPLES = """
\b
Examples:
  fergen-bench compare linear_probe cafe
  fergen-bench compare cafe "cafe (gate=linear)" --metric macro_f1
  fergen-bench compare cafe scn --sources rafdb,ferplus --targets sfew
"""


@app.command(epilog=COMPARE_EXAMPLES)
@click.argument("first")
@click.argument("second")
@click.option(
    "--suite", "-s", shell_complete=_complete("suite"), help="The domains. Default: bench.toml's, or the only one."
)
@click.option(
    "--metric", type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1"]), default="accuracy", show_default=True
)
@click.option("--selection", type=click.Choice(["last", "source-val"]), help="Only runs with this selection.")
@click.option("--sources", type=_List(), help="Only runs trained on these domains; a+b for two together.")
@click.option("--targets", type=_List(), help="Only cells scored on these domains.")
@click.option(
    "--records",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Read records from here instead of results/runs.",
)
def compare(
    first: str,
    second: str,
    suite: str | None,
    metric: str,
    selection: str | None,
    sources: list[str] | None,
    targets: list[str] | None,
    records: Path | None,
) -> None:
    """Is SECOND better than FIRST on unseen domains, where, and how sure is that?

    FIRST and SECOND: rows as `fergen-bench report` prints them, such as cafe, or "cafe (gate=linear)".
    """
    from fergen_bench import record as recording
    from fergen_bench.project import find_project
    from fergen_bench.report import compare as comparing
    from fergen_bench.report import evidence, tables

    project = find_project()
    folder = records or project.results / "runs"
    loaded, meant = _records(project, folder, suite, selection=selection)
    loaded = _scored(loaded, meant, folder)
    cells = recording.cells_frame(loaded)
    for option, column, names in (("--sources", "source", sources), ("--targets", "target", targets)):
        for name in names or ():
            if name not in set(cells[column]):
                raise BenchError(f"{option}: no record of {meant} has {name!r}{did_you_mean(name, set(cells[column]))}")
        cells = cells if names is None else cells[cells[column].isin(names)]
    if cells.empty:
        raise BenchError(f"there are no such records of {meant} under {near(folder)}; make some with: fergen-bench run")
    one, other = comparing.find_rows(list(tables.boards(cells, metric)), first, second)
    keys = {*one.cells.key, *other.cells.key}
    seen = evidence.Evidence([entry for entry in loaded if entry.spec.key in keys], folder)
    _warn(seen.faults)
    comparing.show_comparison(console_on(), one, other, evidence.compare(one.cells, other.cells, seen, metric))


def _warn(faults: Iterable[str]) -> None:
    console = console_on(stderr=True)
    for fault in faults:
        console.print(f"warning: {fault}", style="yellow")


def _records(
    project: Project,
    folder: Path,
    suite: str | None,
    methods: Sequence[str] = (),
    selection: str | None = None,
    complaints: list[str] | None = None,
) -> tuple[list[RunRecord], str]:
    """The current records of one suite, with the relations of its targets as the suite has them now; and its name.

    What is wrong with records is said, and added to complaints.

    No suite named: bench.toml's where it has records, else the only one that has.
    """
    from fergen_bench import record as recording
    from fergen_bench.matrix import related

    console = console_on(stderr=True)
    everything, faults = recording.load_all(folder)
    complaints = [] if complaints is None else complaints
    complaints += faults
    _warn(faults)
    there = sorted({entry.spec.suite for entry in everything})
    meant = suite or (there[0] if len(there) == 1 else project.settings.suite)
    if meant not in there:
        if suite is None and there:
            raise BenchError(f"there are records of several suites; name one: --suite {' or '.join(there)}")
        project.suite(meant)  # a misspelt one is refused with what there is
    known = {entry.spec.method for entry in everything if entry.spec.suite == meant}
    for name in methods:
        if known and name not in known:
            raise BenchError(f"--method: there are no records of {name!r} on {meant}{did_you_mean(name, known)}")
    others = [name for name in there if name != meant]
    if others:
        console.print(f"note: there are records of {', '.join(others)} too; see them with --suite", style="dim")
    entries = [
        entry
        for entry in everything
        if entry.spec.suite == meant
        and (not methods or entry.spec.method in methods)
        and (selection is None or entry.spec.selection == selection)
    ]
    kept = recording.current(entries)
    if len(kept) < len(entries):
        left = len(entries) - len(kept)
        some = "1 record is" if left == 1 else f"{left} records are"
        complaints.append(f"{some} left out: newer ones have other defaults, versions or faces")
        console.print(f"note: {complaints[-1]}", style="dim")
    return related(project, kept), meant


def _scored(records: Sequence[RunRecord], suite: str, folder: Path) -> list[RunRecord]:
    """Those of a suite's records that scored a target. BenchError where there is none."""
    if not records:
        raise BenchError(f"there are no such records of {suite} under {near(folder)}; make some with: fergen-bench run")
    scored = [entry for entry in records if entry.cells]
    if not scored:
        raise BenchError(f"these runs scored no target; compare them with: fergen-bench choose --suite {suite}")
    return scored


def _ablations(project: Project, suite: str) -> list[Any]:
    """Protocols with several variants of one method, as the changes that records of a suite keep of them."""
    import json

    from fergen_bench.project import shipped
    from fergen_bench.protocol import Request, outline, read_protocol
    from fergen_bench.report.published import read_published_ablation
    from fergen_bench.report.render import Ablation

    found = []
    known = project.suites()
    for name, path in project.protocols().items():
        try:
            protocol = read_protocol(path)
            if len(protocol.variants) < 2 or suite not in known:
                continue
            method, *others = protocol.names(str(path), project.methods()) or (None,)
            if method is None or others:
                continue
            planned = outline(protocol, str(path), known[suite], [project.method(method)], Request())
        except BenchError:
            continue  # a protocol that does not fit this suite or these methods has no plot here
        variants = {}
        for item in planned.outlines:
            changed = {key: value for key, value in item.parameters.items() if item.defaults[key] != value}
            variants[item.variant] = json.dumps(changed, sort_keys=True)
        printed_in, printed = "", dict[str, float]()
        if name == f"{method}-ablation":
            printed_in, printed = read_published_ablation(shipped("results") / "published", method)
        found.append(Ablation(name, suite, protocol.about, method, variants, printed, printed_in))
    return found


@app.command()
@click.option(
    "--suite", "-s", shell_complete=_complete("suite"), help="The domains. Default: bench.toml's, or the only one."
)
@click.option(
    "--method", "-m", "methods", multiple=True, shell_complete=_complete("method"), help="Only these methods."
)
def choose(suite: str | None, methods: tuple[str, ...]) -> None:
    """Compare parameters on source validation, without a look at any target.

    Reads the records of runs with --selection source-val, such as those of: run --protocol learning-rate
    """
    from fergen_bench.project import find_project
    from fergen_bench.report import choosing

    project = find_project()
    records, meant = _records(project, project.results / "runs", suite, methods, "source-val")
    found = list(choosing.validation(records, _held_out(project)))
    if not found:
        raise BenchError(f"no run on {meant} has validated on its source; make some with: run --selection source-val")
    known = project.suites().get(meant)
    for part in found:
        console_on().print(choosing.shown(meant, part, known.domains if known else ()))


def _held_out(project: Project) -> Callable[[RunSpec], int | None]:
    """How many faces a run held out of its source, where the faces that it learned from are prepared here."""
    from fergen_bench.domain import open_source

    counts: dict[tuple[Any, ...], int | None] = {}

    def count(spec: RunSpec) -> int | None:
        asked = spec.suite, spec.sources, spec.seed, spec.fraction
        if asked not in counts:
            domains = [_prepared_domain(project, spec.suite, name) for name in spec.sources]
            here = [domain for domain in domains if domain and domain.fingerprint == spec.fingerprints.get(domain.name)]
            whole = len(here) == len(spec.sources)
            counts[asked] = len(open_source(here, spec.seed, spec.fraction).val) if whole else None
        return counts[asked]

    return count


@app.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--all", "everything", is_flag=True, help="Print every note, not only the first of them.")
def verify(path: Path, everything: bool) -> None:
    """Is somebody's results folder what it says? Reads only. Exit status 1 where something is wrong.

    PATH: a results folder or a copy of one, or a folder of records, such as results/runs. Keys, checksums and types are
    checked, confusions are counted again from stored predictions, and the rows of tables must have been made alike.
    """
    from rich.table import Table

    from fergen_bench.project import find_project
    from fergen_bench.verify import verify as verify_folder

    project, console = find_project(), console_on()

    def digest(method: str) -> str | None:
        try:
            return project.method(method).digest
        except BenchError:
            return None

    with busy(console_on(stderr=True), f"reading {near(path)}"):
        verdict = verify_folder(path, digest)
    table = Table(title=near(path), title_justify="left")
    for column in ("suite", "method", "version", "records", "counted again"):
        table.add_column(column, justify="left" if column in {"suite", "method"} else "right")
    for (suite, method, version), (count, recounted) in verdict.rows().items():
        table.add_row(suite, method, str(version), f"{count:,}", f"{recounted:,}")
    console.print(table)
    if verdict.domains or verdict.features:
        console.print(f"{verdict.domains} prepared domains, {verdict.features} files of features", highlight=False)
    for fault in verdict.faults:
        console.print(f"fault: {fault}", style="red")
    shown = verdict.notes if everything else verdict.notes[:10]
    for note in shown:
        console.print(f"note: {note}", style="dim")
    if len(shown) < len(verdict.notes):
        console.print(f"note: and {len(verdict.notes) - len(shown):,} more, with --all", style="dim")
    if verdict.faults:
        console.print(f"Not sound: {len(verdict.faults):,} faults in {verdict.files:,} files.")
        sys.exit(1)
    unproved = len(verdict.records) - len(verdict.recounted)
    console.print(
        f"Sound: {len(verdict.records):,} records in {verdict.files:,} files"
        + (f"; of {unproved:,} no predictions are there to count again." if unproved else ".")
    )


@app.command()
def sync() -> None:
    """Mirror every record to MLflow that is not there yet: after a server was away, or into a new one."""
    from filelock import FileLock

    from fergen_bench import matrix, tracking
    from fergen_bench import record as recording
    from fergen_bench.project import find_project

    project, console = find_project(), console_on(stderr=True)
    records, _ = recording.load_all(project.results / "runs")
    written = 0
    with busy(console, "mirroring to MLflow"), FileLock(_mirror_lock(project)):
        try:
            mirror = _open_mirror(project)
            for record in matrix.related(project, records):
                written += mirror.mirror(record)
        except tracking.TrackingError as error:
            console.print(f"{written} records written")
            raise BenchError(str(error)) from None
    uri = tracking.resolve_uri(project.settings.tracking.uri, project.results)
    console.print(f"{written} of {len(records)} records written to {uri}")


@app.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def ui(port: int) -> None:
    """MLflow's own pages for the records, on this machine only."""
    import signal
    import socket
    import subprocess
    from contextlib import suppress

    from fergen_bench import tracking
    from fergen_bench.project import find_project

    project, console = find_project(), console_on(stderr=True)
    uri = tracking.resolve_uri(project.settings.tracking.uri, project.results)
    if uri.startswith("http"):
        console.print(f"The records are mirrored to {uri}: open it in a browser.")
        return
    try:
        number = tracking.experiment_id(uri, project.settings.tracking.experiment)
    except ImportError:
        raise BenchError("mlflow is not installed; install it with: pip install mlflow") from None
    if number is None:
        raise BenchError(f"nothing is mirrored to {uri} yet; run something, or: fergen-bench sync")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise BenchError(f"--port: {port} is taken on this machine; choose another, such as {port + 1}")
    console.print(f"Open http://127.0.0.1:{port}/#/experiments/{number}/runs in half a minute. Ctrl-C ends it.")
    command, extra = tracking.server_command(uri, project.results, port)
    # The server has children of its own; however this ends, all of them end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = subprocess.Popen(command, env={**os.environ, **extra}, start_new_session=True)
    try:
        sys.exit(server.wait())
    except KeyboardInterrupt:
        sys.exit(0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)


# ----------------------------------------------------------------------------------------------------------------- list


@app.command("list")
@click.argument("what", required=False)
def list_(what: str | None) -> None:
    """What there is: methods, protocols, suites, backbones and domains.

    WHAT: one of these, to read what each of them is; or the name of a method, for its parameters, or of a protocol, for
    its file. Without it, names.
    """
    from fergen_bench.project import find_project

    project = find_project()
    kinds = {
        "methods": _list_methods,
        "protocols": _list_protocols,
        "suites": _list_suites,
        "backbones": _list_backbones,
        "domains": _list_domains,
    }
    if what is None:
        _list_names({**project.names(), "backbones": list(BACKBONES)}, kinds)
    elif what in kinds:
        kinds[what](project)
    elif what in project.methods():
        _list_parameters(project, what)
    elif what in project.protocols():
        path = project.protocols()[what]
        click.secho(near(path), dim=True)
        click.echo(path.read_text(encoding="utf-8").rstrip())
    else:
        names = project.names()
        for kind in ("suites", "domains"):
            if what in names[kind]:
                raise BenchError(f"{what} is one of the {kind}; see what each is with: fergen-bench list {kind}")
        known = [*kinds, *names["methods"], *names["protocols"]]
        raise BenchError(f"there is nothing called {what!r} to list{did_you_mean(what, known)}")


def _list_names(names: Mapping[str, Iterable[str]], kinds: Iterable[str]) -> None:
    """Without rich, which takes as long to load as all of this to show."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    for kind in kinds:
        # A name is not broken at its hyphens, and no line begins or ends with the space between two.
        text = textwrap.fill(
            "  ".join(names[kind]),
            width,
            initial_indent=" " * 11,
            subsequent_indent=" " * 11,
            break_long_words=False,
            break_on_hyphens=False,
        )
        click.echo(click.style(kind, fg="cyan") + text[len(kind) :])
    click.secho(
        "\nfergen-bench list methods (protocols, …): what each is; fergen-bench list cafe: its parameters", dim=True
    )


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, box=None, show_header=False, title_justify="left", title_style="bold", padding=(0, 2, 0, 0)
    )
    for row in rows:
        table.add_row(*(Text(cell, style="cyan" if place == 0 else "") for place, cell in enumerate(row)))
    console_on().print(table)


def _list_methods(project: Project) -> None:
    from fergen_bench.project import shipped

    rows: dict[str, list[tuple[str, str, str]]] = {}  # by what they need
    for name in sorted(project.methods()):
        try:
            method = project.method(name)
        except BenchError as error:
            rows.setdefault("cannot be read", []).append((name, str(error), ""))
            continue
        own = method.path.parent == project.root / "methods" and method.path.parent != shipped("methods")
        paper = "" if method.paper is None else method.paper.short
        about = f"{method.about}{' [yours]' if own else ''}"
        rows.setdefault(f"need {method.requirements}", []).append((name, about, paper))
    width = max(len(name) for methods in rows.values() for name, _, _ in methods)
    for place, (need, methods) in enumerate(sorted(rows.items(), key=lambda item: -len(item[1]))):
        console_on().print("" if place == 0 else "\n", end="")
        _print_table(f"Methods that {need}", [(name.ljust(width), about, paper) for name, about, paper in methods])
    console_on().print("\nParameters of one: fergen-bench list NAME", style="dim")


def _list_parameters(project: Project, name: str) -> None:
    method = project.method(name)
    recipes = {recipe: method.defaults(recipe) for recipe in method.recipes}
    rows = []
    for parameter in method.parameters:
        default = str(parameter.default)
        for recipe, values in recipes.items():
            if values[parameter.name] != parameter.default:
                default += f" ({recipe}: {values[parameter.name]})"
        rows.append((parameter.name, _readable(parameter.annotation), default, parameter.about))
    _print_table(f"{name}, version {method.version}: {method.about}", rows)
    if (paper := method.paper) is not None:
        console_on().print(f'{paper.authors}, "{paper.title}" ({paper.venue})', style="dim", highlight=False)
    console_on().print(f"needs {method.requirements} · {near(method.path)}", style="dim", highlight=False)


def _readable(annotation: str) -> str:
    """A type as people say it: Literal['adam', 'sgd'] | None → adam | sgd | None."""
    return re.sub(r"Literal\[(.*?)\]", lambda found: " | ".join(re.findall(r"'([^']*)'", found[1])), annotation)


def _list_protocols(project: Project) -> None:
    from fergen_bench.protocol import read_protocol

    def about(path: Path) -> str:
        try:
            return read_protocol(path).about
        except BenchError as error:
            return f"cannot be read: {error}"

    _print_table("Protocols", [(name, about(path)) for name, path in sorted(project.protocols().items())])


def _list_suites(project: Project) -> None:
    rows = [
        (suite.name, " ".join(suite.domains), suite.about or f"{suite.backbone}, {suite.trunk}")
        for suite in project.suites().values()
    ]
    _print_table("Suites", rows)


BACKBONES = {
    "synth": "the packaged face encoder, 512 features",
    "synth-trunk": "the packaged trunk, pretrained on identity attributes",
    "open_clip:MODEL/TAG": "any open_clip model, such as open_clip:ViT-B-32-quickgelu/openai",
    "timm:MODEL": "any timm model, such as timm:resnet18.tv_in1k",
    "…//path/to/weights": "any of them with weights from a file (.safetensors, .pt)",
    "…/scratch": "any of them with random weights",
}


def _list_backbones(project: Project) -> None:
    _print_table(
        "Backbones (for --backbone, and for parameters of the type Backbone or Trunk)", list(BACKBONES.items())
    )


def _list_domains(project: Project) -> None:
    from fergen_bench import datasets, synth
    from fergen_bench.domain import is_prepared

    tables = project.settings.domains
    own = [(name, f"{project.dataset_of(name)}, {table.path}") for name, table in tables.items()]
    own += [
        (name, f"prepared, data/{name}") for name in project.prepared_here() if name not in (*tables, *datasets.NAMED)
    ]
    rows = [(name, "rendered, in synth5") for name in synth.DOMAINS] + own
    for name in datasets.NAMED:
        if name in project.settings.domains:
            continue
        there = is_prepared(project.data / name)
        rows.append((name, f"prepared, data/{name}" if there else f"fergen-bench data prepare {name} PATH"))
    _print_table("Domains", rows)


# ----------------------------------------------------------------------------------------------------------------- data


@app.group(cls=_Group)
def data() -> None:
    """Prepare datasets and look at them."""


PREPARE_EXAMPLES = """
\b
Examples:
  fergen-bench data prepare rafdb /data/RAF_DB
  fergen-bench data prepare ferplus /data/ferplus --label-rule argmax8
  fergen-bench data prepare folder /data/lab --name lab --labels joy=happiness,contempt=
  fergen-bench data prepare csv /data/lab/faces.csv --name lab --columns image=file,label=emotion
"""


@data.command(epilog=PREPARE_EXAMPLES)
@click.argument("dataset")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--name", help="What the domain is called. Default: the dataset's name.")
@click.option("--layout", help="Which of the dataset's layouts it has. Default: the one that fits.")
@click.option(
    "--labels", type=_List(), help="Labels that are no usual name: joy=happiness,contempt= (nothing: leave it out)."
)
@click.option("--columns", type=_List(), help="For csv: image=file,label=emotion,split=usage,subject=person,…")
@click.option("--images", type=click.Path(path_type=Path), help="For csv and list: where paths in the file begin.")
@click.option("--label-rule", help="For ferplus: majority (default), probability, multi-target, argmax8 or argmax10.")
@click.option("--label-source", help="For ferplus: fer2013new or label.csv.")
@click.option("--subject", help="Regular expression with one group that finds the subject in a file's name.")
@click.option("--size", type=click.IntRange(16, 1024), help="Side of the prepared faces in pixels.")
@click.option("--margin", type=click.FloatRange(0, 1), help="Around boxes: the share of their side added on each side.")
@click.option("--emulate-bgr", is_flag=True, help="Reverse the colour channels, as published code did.")
@click.option("--allow-missing", is_flag=True, help="Leave out files that are missing or cannot be read.")
@click.option("--to", type=click.Path(path_type=Path), help="The prepared folder. Default: data/NAME in the project.")
def prepare(
    dataset: str,
    path: Path,
    name: str | None,
    to: Path | None,
    labels: list[str] | None,
    columns: list[str] | None,
    **options: Any,
) -> None:
    """Read a dataset once and keep it in the form that runs use.

    DATASET: rafdb, ferplus, affectnet, sfew, mma; mma-expw, fer2013, expw, ckplus, jaffe, kdef, caer-s; or folder, csv,
    list for faces of your own. Its layout is found; what fits none is refused.
    """
    from pydantic import ValidationError

    from fergen_bench import datasets, synth
    from fergen_bench.datasets.prepare import prepare_dataset
    from fergen_bench.datasets.reader import NeedsKey
    from fergen_bench.domain import is_prepared, read_about
    from fergen_bench.plugin import valid_name
    from fergen_bench.project import available_cores, find_project
    from fergen_bench.settings import DomainSettings

    project, console = find_project(), console_on(stderr=True)
    kind = datasets.dataset(dataset, "data prepare")
    if name is None and dataset in datasets.GENERIC:
        raise BenchError(f"data prepare {dataset}: say what the domain is called, with --name")
    name = name or dataset
    if not valid_name(name):
        raise BenchError(f"--name: {name!r} cannot be a name; use letters, digits, - and _, and begin with a letter")
    if name in synth.DOMAINS:
        raise BenchError(f"--name: {name!r} is a domain that comes with the package; choose another")
    given = {key: value for key, value in options.items() if value is not None}
    given |= {"labels": _pairs("--labels", labels), "columns": _pairs("--columns", columns)}
    given |= {"path": path, "dataset": dataset}
    try:
        settings = DomainSettings(**given)
    except ValidationError as error:
        fault = error.errors()[0]
        option = str(fault["loc"][0]).replace("_", "-")
        raise BenchError(f"--{option}: {fault['msg'].removeprefix('Value error, ')}") from None
    folder = to or project.data / name
    if name in datasets.NAMES and name != dataset:
        raise BenchError(f"--name: {name} is the name of another dataset, and wild5 would take this for it")
    if is_prepared(folder) and (there := read_about(folder).get("dataset", dataset)) != dataset:
        raise BenchError(f"{folder} holds {there}; remove it, or name another place with --to or --name")
    try:
        with Progress(console) as progress:
            prepare_dataset(name, kind, settings, folder, available_cores(), progress.preparing(name))
    except NeedsKey as error:
        raise BenchError(error.on_command_line) from None
    _describe(folder)
    about = read_about(folder)
    whole = about.get("whole") is not False
    if not whole:
        console.print(
            f"\nwarning: prepared, but this is not {kind.title} as its owner distributes it: {about['verdict']}; every "
            f"run on it says so. Expected counts: docs/datasets.md",
            style="yellow",
        )
    console.print(
        "\n" + _how_to_use(project, name, folder, ["wild5"] if name in datasets.WILD5 and whole else []), soft_wrap=True
    )


def _how_to_use(project: Project, name: str, folder: Path, shipped: list[str]) -> str:
    """What is still to be written into bench.toml before a prepared domain is in a suite. shipped: suites that come
    with the package and have it.
    """
    inside = folder.relative_to(project.root) if folder.is_relative_to(project.root) else folder
    table, lines = project.settings.domains.get(name), []
    if table is not None and (project.root / table.path.expanduser()).resolve() != folder.resolve():
        return f'The table [domains.{name}] of bench.toml goes first; to use this, write there: path = "{inside}"'
    if table is None and folder != project.data / name:
        lines += ["", f"[domains.{name}]", f'path = "{inside}"']
    suites = [*(suite for suite, of in project.settings.suites.items() if name in of.domains), *shipped]
    if not suites:
        lines += _suite_lines(project, name)
    if not lines:
        return f"{name} can be used now, in {' and '.join(suites)}."
    return "\n".join(("To use it, write into bench.toml:", *lines))


def _suite_lines(project: Project, name: str) -> list[str]:
    """A table of bench.toml for a suite with a domain and the others that there are."""
    others = (*project.settings.domains, *project.prepared_here())
    domains = ", ".join(f'"{domain}"' for domain in dict.fromkeys((name, *others)))
    suite, number = "mine", 1
    while suite in project.settings.suites:
        number += 1
        suite = f"mine{number}"
    return [
        "",
        f"[suites.{suite}]",
        f"domains = [{domains}]",
        f"# fergen-bench run --suite {suite} --method linear_probe",
    ]


def _pairs(option: str, parts: list[str] | None) -> dict[str, str]:
    """a=b,c= → {"a": "b", "c": ""}"""
    found: dict[str, str] = {}
    for part in parts or ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key or key in found:
            fault = "is named twice" if key in found else "is no pair; write name=value"
            raise BenchError(f"{option}: {part!r} {fault}")
        found[key] = value
    return found


@data.command()
@click.argument("domains", nargs=-1)
@click.option("--suite", "-s", shell_complete=_complete("suite"), help="The domains of this suite.")
@click.option("--quick", is_flag=True, help="Do not open the images: labels and names only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(domains: tuple[str, ...], suite: str | None, quick: bool, as_json: bool) -> None:
    """Say what each copy is: found and expected faces, faults, verdict. Exit status 1 where one has errors.

    DOMAINS: tables of bench.toml. Default: all of them, or those of a suite.
    """
    import json

    from fergen_bench import datasets
    from fergen_bench.datasets.check import check_copy, check_prepared
    from fergen_bench.domain import is_prepared
    from fergen_bench.project import available_cores, find_project

    project, console = find_project(), console_on(stderr=True)
    known = {name: project.root / table.path.expanduser() for name, table in project.settings.domains.items()}
    if project.data.is_dir():
        there = (place for place in sorted(project.data.iterdir()) if place.name[0] != "." and is_prepared(place))
        known |= {place.name: place for place in there if place.name not in known}
    wanted = domains or (project.suite(suite).domains if suite else tuple(known))
    if not wanted:
        raise BenchError(f"{project.root / 'bench.toml'} has no table [domains.NAME], and nothing is prepared in data/")
    checks = []
    with Progress(console) as progress:
        for name in wanted:
            if name not in known:
                raise BenchError(f"no domain {name!r} in {project.root / 'bench.toml'}{did_you_mean(name, known)}")
            kind = datasets.dataset(project.dataset_of(name), name)
            if is_prepared(known[name]):
                checks.append(check_prepared(name, kind, known[name], progress.checking(name), not quick))
                continue
            settings = project.domain_settings(name)
            reading = progress.checking(name)
            checks.append(check_copy(name, kind, settings, available_cores(), reading, not quick))
    if as_json:
        click.echo(json.dumps([entry.to_json() for entry in checks], indent=2))
    else:
        for entry in checks:
            _show_check(entry)
    sys.exit(1 if any(entry.failed for entry in checks) else 0)


def _show_check(entry: Check) -> None:
    from rich.table import Table
    from rich.text import Text

    from fergen_bench.domain import EXPRESSIONS

    console = console_on()
    console.print(f"\n{entry.domain}  {entry.dataset}, layout {entry.layout or '—'}  {entry.path}", style="bold")
    there = dict(entry.found)
    if "all" in entry.expected:  # the owner gave no split
        there["all"] = {name: sum(counts[name] for counts in entry.found.values()) for name in EXPRESSIONS}
    splits = [split for split in ("train", "val", "test", "all") if split in there or split in entry.expected]
    if there:
        table = Table()
        table.add_column("expression")
        for split in splits:
            table.add_column(f"{split} found", justify="right")
            if entry.expected:
                table.add_column("expected", justify="right")
        rows = {
            name: [(there.get(s, {}).get(name), entry.expected.get(s, {}).get(name)) for s in splits]
            for name in EXPRESSIONS
        }
        rows["all"] = [(sum(there.get(s, {}).values()), sum(entry.expected.get(s, {}).values())) for s in splits]
        for name, pairs in rows.items():
            cells = []
            for found, expected in pairs:
                differs = expected is not None and found != expected
                cells.append(Text(f"{found:,}" if found else "—", style="red" if differs else ""))
                if entry.expected:
                    cells.append(Text(f"{expected:,}" if expected else "—", style="dim"))
            table.add_row(name, *cells, end_section=name == EXPRESSIONS[-1])
        console.print(table)
    for reason, count in entry.dropped.items():
        console.print(f"  left out: {count:,} {reason}", style="dim")
    styles = {"ok": "green", "note": "", "warning": "yellow", "error": "red"}
    for finding in entry.findings:
        console.print(f"  {finding.level}: {finding.what}", style=styles[finding.level])


@data.command()
@click.option("--suite", "-s", shell_complete=_complete("suite"), help="The domains. Default: bench.toml's suite.")
@click.option("--domains", type=_List(), help="Only these domains of the suite.")
@click.option("--backbone", "-b", help="Also compare what pixels find alike by the features of this frozen encoder.")
@click.option(
    "--limit",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="With --backbone: least cosine of the features of twins.",
)
def audit(suite: str | None, domains: list[str] | None, backbone: str | None, limit: float) -> None:
    """Find faces that are one picture, within and between the domains of a suite, exactly or nearly.

    Tables then say of every target how many of its faces have a twin in the source; run --exclude-overlaps leaves them
    out.
    """
    from fergen_bench.datasets.audit import audit_domains
    from fergen_bench.domain import Domain
    from fergen_bench.project import available_cores, find_project
    from fergen_bench.weights import resolve_network

    project, console = find_project(), console_on(stderr=True)
    meant = project.suite(suite or project.settings.suite)
    for name in domains or ():
        if name not in meant.domains:
            raise BenchError(f"--domains: {meant.name} has no domain {name!r}{did_you_mean(name, meant.domains)}")
    with Progress(console) as progress:
        folders = project.prepared(meant, domains or meant.domains, progress.preparation)
        opened = [Domain(folder, name) for name, folder in folders.items()]
        refinement = None
        if backbone is not None:
            from fergen_bench.matrix import resolve_device
            from fergen_bench.runner import feature_similarity

            name = resolve_network(backbone, "Backbone", meant, "--backbone")
            device = resolve_device(project.settings.device)
            refinement = feature_similarity(name, opened, limit, project.cache, progress.preparation, device)
        folder = project.audit_folder(meant)
        found = audit_domains(meant.name, opened, folder, available_cores(), progress.preparation, refinement)
    _show_audit(found)
    picture = folder / "worst-pairs.png"
    console.print(
        f"\nEvery pair: {near(folder / 'twins.csv')}." + (f" Look at: {near(picture)}" if picture.is_file() else "")
    )


def _show_audit(found: Audit) -> None:
    from rich.table import Table

    console = console_on()
    between = [overlap for overlap in found.overlaps if overlap.a != overlap.b]
    inside = [overlap for overlap in found.overlaps if overlap.a == overlap.b]
    for title, rows in (("Twins between splits", between), ("Twins inside a split", inside)):
        if not rows:
            console.print(f"{title}: none")
            continue
        table = Table(title=title, title_justify="left")
        table.add_column("of")
        table.add_column("in")
        for column in ("exact pairs", "near pairs", "faces of the first", "faces of the second"):
            table.add_column(column, justify="right")
        for row in rows:
            numbers = (row.exact, row.near, row.faces_a, row.faces_b)
            table.add_row(str(row.a), str(row.b), *(f"{number:,}" for number in numbers))
        console.print(table)
    console.print(f"Decided by: {found.refined_by}", style="dim")
    for note in found.notes:
        console.print(f"note: {note}", style="dim")


@data.command()
@click.argument("domain")
@click.option(
    "--suite", "-s", default="synth5", show_default=True, help="For domains of the embedded suite: at which size."
)
@click.option(
    "--sheet",
    type=click.Path(path_type=Path),
    help="Write the contact sheet of the test split here, a .png or .jpg, and no other picture.",
)
def describe(domain: str, suite: str, sheet: Path | None) -> None:
    """Counts, size and fingerprint of a domain (a name, or a prepared folder), and pictures to look at.

    A histogram of its classes and ten faces of every expression from each split: a wrong label map shows at once.
    """
    from fergen_bench import synth
    from fergen_bench.domain import Suite, is_prepared
    from fergen_bench.project import find_project

    project = find_project()
    places = (Path(domain), *(() if domain in project.settings.domains else (project.data / domain,)))
    there = next((place for place in places if is_prepared(place)), None)
    if there is not None:
        folder = there
    else:
        known = [*synth.DOMAINS, *project.settings.domains]
        if domain not in known:
            known += project.prepared_here()
            raise BenchError(f"no domain {domain!r}, and no prepared folder of that name{did_you_mean(domain, known)}")
        meant = Suite("", (domain,), backbone="", trunk="")
        if domain in synth.DOMAINS:
            if suite not in synth.SUITES:
                raise BenchError(f"--suite: {domain} is a domain of {', '.join(synth.SUITES)}, not of {suite}")
            meant = synth.SUITES[suite]
        with Progress(console_on(stderr=True)) as progress:
            folder = project.prepared(meant, [domain], progress.preparation)[domain]
    _describe(folder)
    from fergen_bench.datasets.sheet import contact_sheet, contact_sheets

    if sheet is not None:
        contact_sheet(folder, sheet)
        console_on().print(f"contact sheet: {near(sheet)}")
        return
    from fergen_bench.domain import read_about
    from fergen_bench.report import plots

    place, about = project.results / "data", read_about(folder)
    with busy(console_on(stderr=True), "drawing"):
        pictures = contact_sheets(folder, place / f"{about['name']}.png")
        pictures.append(plots.save(plots.class_histogram(about), place, f"{about['name']}-classes"))
    console_on().print(f"look at: {', '.join(near(picture) for picture in pictures)}")


def _describe(folder: Path) -> None:
    from rich.table import Table

    from fergen_bench.datasets.check import cautions
    from fergen_bench.domain import EXPRESSIONS, read_about

    about, console = read_about(folder), console_on()
    hidden = {"counts", "name", "inputs", "expected", "whole"}
    shown = {key: value for key, value in about.items() if key not in hidden and value not in (None, [], {})}
    console.print(f"{about['name']}  {near(folder)}", style="bold")
    for key, value in shown.items():
        if isinstance(value, dict):
            value = ", ".join(f"{name} {count}" for name, count in value.items())
        elif isinstance(value, list) and key == "notes":
            value = "".join(f"\n    {note}" for note in value)
        console.print(f"  {key}: {value}")
    table = Table()
    table.add_column("expression")
    for split in about["counts"]:
        table.add_column(split, justify="right")
    for name in EXPRESSIONS:
        table.add_row(name, *(f"{counts[name]:,}" if counts[name] else "—" for counts in about["counts"].values()))
    table.add_section()
    table.add_row("all", *(f"{sum(counts.values()):,}" for counts in about["counts"].values()))
    console.print(table)
    for finding in cautions(about["counts"], about.get("scored", {}), about.get("subjects")):
        if finding.level == "warning":
            console.print(f"warning: {finding.what}", style="yellow")


# ----------------------------------------------------------------------------------------------------------- new-method


@app.command("new-method")
@click.argument("name")
@click.option(
    "--kind",
    type=click.Choice(["gradient", "frozen"]),
    default="gradient",
    show_default=True,
    help="Trains a network, or works on frozen features.",
)
def new_method(name: str, kind: str) -> None:
    """Write methods/NAME.py: a method that runs as it stands, to be changed."""
    from fergen_bench.plugin import valid_name
    from fergen_bench.project import find_project
    from fergen_bench.templates import method_template

    project = find_project()
    stem = name.replace("-", "_")
    if not valid_name(stem) or stem.startswith("_"):
        raise BenchError(f"{name!r} cannot be the name of a method; use letters, digits and _, and begin with a letter")
    if stem in project.methods() or (project.root / "methods" / f"{stem}.py").exists():
        raise BenchError(f"there is a method {stem!r} already; choose another name")
    path = project.root / "methods" / f"{stem}.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(method_template(stem, kind), encoding="utf-8")
    console_on().print(f"{near(path)} is written. Try it: fergen-bench run --method {stem} --protocol smoke")


@app.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell: eval "$(fergen-bench completion bash)"."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(app, {}, "fergen-bench", "_FERGEN_BENCH_COMPLETE").source())


def main() -> None:
    """The entry point: errors become one sentence and an exit status of 2."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app.main(arguments, prog_name="fergen-bench", standalone_mode=True)
    except BenchError as error:
        if debug:
            raise
        click.echo(f"fergen-bench: {error}", err=True)
        sys.exit(2)
    except BrokenPipeError:
        os._exit(0)
    except Exception as error:
        if debug:
            raise
        if (known := circumstance(error)) is not None:
            click.echo(f"fergen-bench: {known}", err=True)
            sys.exit(2)
        click.echo(
            f"fergen-bench: unexpected {type(error).__name__}: {error}. The program is at fault; --debug shows where",
            err=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
