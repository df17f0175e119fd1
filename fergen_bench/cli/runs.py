"""`run`: plans, makes, replays and sums up runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fergen_bench.cli.console import Progress, console_on, duration, near
from fergen_bench.cli.mirror import following_of, wait_for
from fergen_bench.cli.parameters import Integers, Pairs, Setting, Shard, Words, complete, include_near_duplicates
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.wording import many

if TYPE_CHECKING:
    from rich.console import Console

    from fergen_bench.execution.engine import Engine
    from fergen_bench.execution.plan import Plan
    from fergen_bench.experiment.method_file import MethodFile
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.protocol import Outline, Protocol
    from fergen_bench.experiment.run import Job, Run
    from fergen_bench.records.record import RunRecord

RUN_EXAMPLES = """
\b
Examples:
  fergen-bench run --method cafe                             each domain alone → all domains, three seeds
  fergen-bench run --method cafe --seeds 0 --sources web     one row of the matrix
  fergen-bench run --protocol cafe-ablation                  the method's own ablation
  fergen-bench run --method full_finetune --set backbone=scratch --set epochs=20
  fergen-bench run --method cafe --suite wild5 --backbone open_clip:ViT-B-32-quickgelu//data/clip.safetensors
"""


@click.command(epilog=RUN_EXAMPLES)
@click.option(
    "--method",
    "-m",
    "methods",
    multiple=True,
    shell_complete=complete("method"),
    help="A method; repeat it for several.",
)
@click.option(
    "--protocol",
    "-p",
    default="leave-none",
    show_default=True,
    shell_complete=complete("protocol"),
    help="Who trains and who is scored.",
)
@click.option(
    "--suite",
    "-s",
    shell_complete=complete("suite"),
    help="The domains. Default: the protocol's, then bench.toml's, then synth5.",
)
@click.option(
    "--backbone", "-b", help="The encoder, as in: synth, open_clip:MODEL/TAG, timm:MODEL, …//path/to/weights."
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    type=Setting(),
    help="Another value for a parameter of the method; repeat it for several.",
)
@click.option("--seeds", type=Integers(), help="Other seeds than the protocol's.")
@click.option("--sources", type=Words(), help="Train only on these domains, each alone.")
@click.option("--targets", type=Words(), help="Score only these domains.")
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
    type=Shard(),
    default=(1, 1),
    help="Only every n-th run, beginning with the i-th: share a plan between machines.",
)
@click.option(
    "--gpus-per-run",
    type=click.FloatRange(0, min_open=True),
    help="The share of a GPU per run: 0.5 puts two runs on each GPU.",
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
    "--slurm", type=Pairs(), help="Run as a Slurm job array: partition=gpu,gpus=1,cpus=4,mem=16G,time=4:00:00,array=8."
)
@click.option("--dry-run", is_flag=True, help="Print the plan and stop.")
@click.option("--rerun", is_flag=True, help="Run also what has a record.")
@include_near_duplicates
@click.option("--no-audit", is_flag=True, help="Do not compare domains for near-duplicates that were never compared.")
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
    include_near_duplicates: bool,
    no_audit: bool,
    keep_models: bool,
    profile: bool,
    replay: Path | None,
) -> None:
    """Train on sources, score targets, keep records. What has a record already is not run again."""
    from fergen_bench.execution.fleet import Fleet, resolve_device
    from fergen_bench.execution.plan import make_plan
    from fergen_bench.experiment.project import find_project
    from fergen_bench.experiment.protocol import Request, outline, read_protocol
    from fergen_bench.files import yaml as yamlfile

    project = find_project()
    changes = {key: yamlfile.read_scalar(text) for key, text in settings}
    if backbone is not None:
        changes["backbone"] = backbone
    wanted = device or project.settings.device
    if wanted not in {"auto", "cpu", "cuda"} and not (wanted.startswith("cuda:") and wanted[5:].isdigit()):
        raise BenchError(f"--device: {wanted!r} is no device; write auto, cpu, cuda or cuda:1")
    if replay is not None:
        _refuse_beside("replay", {"device", "settings", "backbone"})
        sys.exit(_replay(project, replay, resolve_device(wanted), changes))
    path = project.protocol_path(protocol)
    asked = read_protocol(path)
    suite_meant = project.suite(suite or asked.suite or project.settings.suite)
    if suite_meant.synthetic and asked.embedded is not None and not (suite or asked.suite):
        suite_meant = project.suite(asked.embedded)
    files, unread, everyone = _asked_methods(project, asked, path, methods)
    if backbone is not None:
        _refuse_without_backbone(files)
    request = Request(seeds, sources, targets, selection, changes)
    planned = outline(asked, str(path), suite_meant, files, request, skip_unfit=everyone)
    planned = replace(planned, notes=(*planned.notes, *unread))
    fleet = Fleet(jobs, project.settings.jobs, gpus_per_run, ray, cpus_per_run, slurm)
    resolved = resolve_device(wanted, fleet.gpus)
    console = console_on(stderr=True)
    elsewhere, prepared = ray is not None or slurm is not None, project.is_prepared(suite_meant, planned.domains)
    if not prepared:  # else those of runs that have records do not matter
        _check_weights(console, planned.outlines, elsewhere, dry_run)
    if dry_run and not prepared:
        for note in (*planned.notes, "the domains are not prepared yet, so it is open which runs have records"):
            console.print(f"note: {note}", style="dim")
        outlines = planned.outlines[shard[0] - 1 :: shard[1]]
        _show_plan([(outlined.title, outlined, "?") for outlined in outlines], planned.shown)
        console_on().print(f"{many(len(outlines), 'run')}; time left: —", highlight=False)
        return
    with Progress(console) as progress:
        plan = make_plan(
            project,
            suite_meant,
            protocol,
            planned,
            resolved,
            rerun=rerun,
            shard=shard,
            allow_missing_class=allow_missing_class,
            progress=progress.preparation,
            include_near_duplicates=include_near_duplicates,
            audit=project.settings.audit and not no_audit,
            dry_run=dry_run,
            keep_models=keep_models,
            gpu_threads=fleet.threads(resolved),
            profile=profile,
        )
    if prepared:
        _check_weights(console, [job.spec for job in plan.missing], elsewhere, dry_run)
    _announce(console, plan, [file.name for file in files], resolved, fleet.describe(resolved, len(plan.missing)))
    if dry_run:
        missing = {job.spec.key: "to ask about shifts" if job.restore else "to run" for job in plan.missing}
        specs = [job.spec for job in plan.runs]
        _show_plan([(spec.label, spec, missing.get(spec.key, "done")) for spec in specs], planned.shown)
        _show_estimate(project, plan, fleet.together(resolved, len(plan.missing)))
        return
    count = _counting(project, include_near_duplicates)
    if not plan.missing:
        if not no_track:
            following = following_of(console, project)
            for record in plan.recounted:
                following.add(count(record))
            wait_for(console, following)
        done = (
            "the one run has a record" if len(plan.runs) == 1 else f"all {many(len(plan.runs), 'run', 'have')} records"
        )
        console.print(f"Nothing to do: {done}. See them with: fergen-bench report --suite {plan.suite.name}")
        return
    engine = fleet.engine(resolved, len(plan.missing), project.results)
    sys.exit(_execute(console, project, plan, engine, planned.shown, count, track=not no_track))


def _asked_methods(
    project: Project, protocol: Protocol, path: Path, named: Sequence[str]
) -> tuple[list[MethodFile], list[str], bool]:
    """The methods that were named, else the protocol's own; what is said of those that cannot be read; and whether it
    is simply every method there is: then nobody named those for whom the protocol is not made.
    """
    from fergen_bench.experiment.protocol import EVERY

    own = protocol.names(str(path), project.methods())  # a misspelt one is refused whoever is run
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


def _check_weights(console: Console, runs: Iterable[Outline | Run], elsewhere: bool, dry_run: bool) -> None:
    """Refuse runs whose published weights are neither on this machine nor within reach, before anything is prepared.

    Args:
        console: where it is said which weights will be downloaded.
        runs: that would be made.
        elsewhere: whether other machines make them; what is there is not known here.
        dry_run: whether nothing is made; then it is only said.
    """
    from fergen_bench.networks import hub

    networks = dict.fromkeys(
        (f"--set {parameter}=", str(run.parameters[parameter]))
        for run in runs
        for parameter, digest in run.weights.items()
        if digest.startswith("published:")
    )
    hub.refuse_wrong_activation(name for _, name in networks)
    if elsewhere or not networks:
        return
    try:
        for note in hub.require(networks):
            console.print(f"note: {note}", style="dim")
    except BenchError as error:
        if not dry_run:
            raise
        console.print(f"warning: {error}", style="yellow")


def _refuse_without_backbone(methods: Iterable[MethodFile]) -> None:
    for method in methods:
        networks = [parameter.name for parameter in method.parameters if parameter.network]
        if "backbone" not in networks:
            has = f"; it has {' and '.join(f'--set {network}=…' for network in networks)}" if networks else ""
            raise BenchError(f"--backbone: {method.name} has no parameter backbone{has}")


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

    from fergen_bench.execution import replay
    from fergen_bench.metric import accuracy

    with Progress(console_on(stderr=True)) as progress:
        progress.begin(1)
        played = replay.replay(
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
    sometimes = {"steps"}  # present where steps were captured as a CUDA graph
    unlike = {"commit", "method_commit", "memory_mb"}  # between any two runs
    for name in dict.fromkeys((*done.environment, *sometimes)):
        was, here = done.environment.get(name), again.environment.get(name)
        if was != here and name not in unlike and (name in sometimes or None not in (was, here)):
            console.print(f"note: {name} was {was or 'not said'}, and is {here or 'not said'} here", style="dim")
    if again.method_digest != done.method_digest:
        console.print(
            f"note: the text of {done.spec.method}.py is another one here than at the record's commit, "
            f"{done.method_commit or 'which is not known'}, under the same version",
            style="dim",
        )
    if not differences:
        if moved := played.epochs():
            console.print(
                f"Not equal: {many(moved, 'epoch', of=len(done.history))} came to other losses or held-out scores."
            )
            return 1
        console.print(
            f"Equal: {many(len(done.history), 'epoch', of=len(done.history))} came to the losses and held-out scores "
            "of the record."
        )
        return 0
    if total := sum(moved for *_, moved in differences):
        faces = sum(count for _, count, _, _ in differences)
        console.print(f"Not equal: at least {many(total, 'prediction', 'differ', of=faces)}.")
        return 1
    console.print("Equal: every confusion matrix is that of the record.")
    return 0


def _announce(console: Console, plan: Plan, methods: Sequence[str], device: str, where: str) -> None:
    """The first line: everything that was resolved."""
    kind = ", synthetic faces" if plan.suite.synthetic else ""
    done = len(plan.runs) - len(plan.missing)
    together = f", {where}" if plan.missing else ""
    what = f"{plan.suite.name}{kind} · {plan.protocol} · {', '.join(methods)} · {device}"
    console.print(f"{what} · {many(len(plan.runs), 'run')}, {done} done before{together}", style="bold")
    for note in plan.notes:
        console.print(f"note: {note}", style="dim")
    for warning in plan.warnings:
        console.print(f"warning: {warning}", style="yellow")


def _show_plan(runs: Iterable[tuple[str, Outline | Run, str]], shown: Mapping[str, str]) -> None:
    """runs: what each is called, who trains and is scored, and its state. shown: what domains are called."""
    from rich.table import Table

    from fergen_bench.experiment.run import percent

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
    from fergen_bench.execution.estimate import estimate
    from fergen_bench.records.listing import read_all

    told = estimate(plan, read_all(project.results / "runs")[0], slots)
    left = len(plan.missing)
    text = f"{many(len(plan.runs), 'run')}, {len(plan.runs) - left} done before, {left} to do"
    if left:
        together = f", {slots} at a time" if slots > 1 else ""
        about = "—" if told.seconds is None else f"about {duration(told.seconds)}"
        more = f", and more for {', '.join(told.unknown)}" if told.unknown and told.seconds is not None else ""
        source = "no earlier run tells" if told.seconds is None else "as earlier runs on this kind of device took"
        text += f"; time left: {about}{more}{together} ({source})"
    console_on().print(text, highlight=False)


def _execute(
    console: Console,
    project: Project,
    plan: Plan,
    engine: Engine,
    shown: Mapping[str, str],
    count: Callable[[RunRecord], RunRecord],
    track: bool,
) -> int:
    """Runs what is missing, mirrors it, and sums up. Returns the exit status.

    Args:
        shown: What domains are called.
        count: Makes of a record what a report shows of it.
    """
    import time

    from fergen_bench.execution import local, run_plan
    from fergen_bench.execution.engine import Outcome

    failed: list[Outcome] = []
    finished: list[RunRecord] = []
    noted: set[str] = set()
    started = time.monotonic()
    following = following_of(console, project)
    with Progress(console, shown) as progress:
        progress.begin(len(plan.missing))

        def conclude(outcome: Outcome, record: RunRecord | None) -> None:
            if record is None:
                failed.append(outcome)
                reason = outcome.refused or outcome.failure
                where = run_plan.failure_path(project, outcome.job.spec)
                trace = f"\n  trace: {near(where)}" if where.exists() else ""
                progress.say(f"{outcome.job.spec.called(shown)}: {reason}{trace}", style="red")
            else:
                record = count(record)
                finished.append(record)
                for note in _notes_on_weights(record):
                    if note not in noted:
                        noted.add(note)
                        progress.say(f"note: {note}", style="dim")
                # In this process a run may draw from global generators, which nothing beside it may touch.
                if track and not isinstance(engine, local.InProcess):
                    following.add(record)
            progress.end(outcome.job.spec, _short(record) if record else None)
            if record is not None and outcome.job.profile:
                progress.say(_where_time_went(outcome.job))

        try:
            run_plan.execute(plan, project, engine, lambda job, message: progress.listen(job.spec, message), conclude)
        except KeyboardInterrupt:
            unmirrored = following.close(patience=0)
            begun = sum(job.spec.unfinished_path(project.results / "runs").is_file() for job in plan.missing)
            epochs = f", {begun} of them from the last saved epoch" if begun else ""
            progress.say(
                f"Stopped. {many(len(finished), 'run', 'have', of=len(plan.missing))} a record; the same command "
                f"goes on with the rest{epochs}"
                + (", and fergen-bench sync mirrors the records to MLflow." if unmirrored else ".")
            )
            return 130
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    if track:
        recounted = [count(record) for record in plan.recounted]
        for record in (*recounted, *(finished if isinstance(engine, local.InProcess) else ())):
            following.add(record)
        wait_for(console, following)
    left = len(plan.missing) - len(finished)
    console.print(
        f"{many(len(finished), 'run')} done in {minutes} min {seconds} s"
        + (f", {left} not" if left else "")
        + f"; records in {near(project.results / 'runs')}"
    )
    if not failed:
        see = "report" if any(job.spec.targets for job in plan.runs) else "choose"
        console.print(f"See them with: fergen-bench {see} --suite {plan.suite.name}")
        return 0
    return 2 if any(outcome.refused for outcome in failed) else 1


def _notes_on_weights(record: RunRecord) -> list[str]:
    """What a run found about the weights of its networks, and what libraries warned of while they loaded them."""
    return [
        f"the weights of {network['name']}: {note}"
        for network in record.networks.values()
        for note in network.get("notes", ())
    ]


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


def _counting(project: Project, include_near_duplicates: bool) -> Callable[[RunRecord], RunRecord]:
    """Makes of a record what a report shows of it."""
    from fergen_bench.datasets.audit import Comparisons
    from fergen_bench.records.counting import counted

    comparisons, runs = Comparisons(project.comparisons), project.results / "runs"

    def count(record: RunRecord) -> RunRecord:
        (found,), _ = counted([record], project, runs, include_near_duplicates, comparisons)
        return found

    return count
