"""The command `run`: parse its options, call the API, print the outcome."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from fergen_bench.cli.console import console_on
from fergen_bench.cli.parameters import RunCommand, options_of_run, refuse_beside, run_options
from fergen_bench.wording import duration, many, near

if TYPE_CHECKING:
    from fergen_bench.api.display import Bars
    from fergen_bench.api.run import Finished, Resolved
    from fergen_bench.execution.plan import Plan
    from fergen_bench.execution.replay import Replay
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.run import Run

RUN_EXAMPLES = """
\b
Examples:
  fergen-bench run --method cafe                             each domain alone → all domains, three seeds
  fergen-bench run --method cafe --seeds 0 --sources web     one row of the matrix
  fergen-bench run --protocol cafe-ablation                  the method's own ablation
  fergen-bench run --method full_finetune --set backbone=scratch --set epochs=20
  fergen-bench run --method cafe --suite wild5 --backbone open_clip:ViT-B-32-quickgelu//data/clip.safetensors
"""


@click.command(cls=RunCommand, epilog=RUN_EXAMPLES)
@options_of_run
def run(**values: Any) -> None:
    """Train on sources, score targets, store records. Runs that have a record are not repeated."""
    from fergen_bench.api import run as api
    from fergen_bench.api.display import Bars
    from fergen_bench.api.replay import replay
    from fergen_bench.experiment.project import find_project

    options, project = run_options(values), find_project()
    console = console_on(stderr=True)
    if options.replay is not None:
        refuse_beside("replay", {"device", "parameters", "backbone"})
        with Bars(console) as shown:
            played = replay(options, project, shown)
        sys.exit(_show_replay(played))
    resolved = api.resolve(options, project)
    with Bars(console) as shown:
        if options.dry_run and not resolved.prepared:
            project.require_copies(resolved.suite, resolved.planned.domains)
            api.check_weights(resolved, resolved.planned.runs, shown)
            _show_outlines(resolved, shown)
            return
        plan = api.make_plan(resolved, shown)
    _announce(resolved, plan, shown)
    if options.dry_run:
        _show_plan(resolved, plan)
        return
    if not plan.missing:
        api.mirror_recounted(resolved, plan, shown)
        alone = len(plan.runs) == 1
        done = "the one run has a record" if alone else f"all {many(len(plan.runs), 'run', 'have')} records"
        console.print(f"Nothing to do: {done}. See them with: fergen-bench report --suite {plan.suite.name}")
        return
    with Bars(console, resolved.planned.shown) as shown:
        finished = api.execute(resolved, plan, shown)
    sys.exit(_sum_up(project, plan, finished))


def _announce(resolved: Resolved, plan: Plan, shown: Bars) -> None:
    """Print the resolved options and the notes on the plan."""
    kind = ", synthetic faces" if plan.suite.synthetic else ""
    left = len(plan.missing)
    where = f", {resolved.fleet.describe(resolved.device, left)}" if left else ""
    methods = ", ".join(method.name for method in resolved.methods)
    what = f"{plan.suite.name}{kind} · {plan.protocol} · {methods} · {resolved.device} · {resolved.precision}"
    shown.say(f"{what} · {many(len(plan.runs), 'run')}, {len(plan.runs) - left} done before{where}", style="bold")
    for note in plan.notes:
        shown.note(note)
    for warning in plan.warnings:
        shown.warn(warning)


def _show_outlines(resolved: Resolved, shown: Bars) -> None:
    """Print a plan whose domains are not prepared, so that the fingerprints of its runs are unknown."""
    for note in (*resolved.planned.notes, "the domains are not prepared, so which runs have records is unknown"):
        shown.note(note)
    _print_runs(((outline.title, outline.run, "?") for outline in resolved.outlines), resolved.planned.shown)
    console_on().print(f"{many(len(resolved.outlines), 'run')}; time left: —", highlight=False)


def _show_plan(resolved: Resolved, plan: Plan) -> None:
    """Print a plan and an estimate of the time for its missing runs."""
    from fergen_bench.execution.estimate import estimate
    from fergen_bench.records.listing import read_all

    missing = {job.spec.key: "to score corruptions" if job.restore else "to run" for job in plan.missing}
    specs = [job.spec for job in plan.runs]
    _print_runs(((spec.label, spec, missing.get(spec.key, "done")) for spec in specs), resolved.planned.shown)
    left = len(plan.missing)
    text = f"{many(len(plan.runs), 'run')}, {len(plan.runs) - left} done before, {left} to do"
    if left:
        slots = resolved.fleet.together(resolved.device, left)
        found = estimate(plan, read_all(resolved.project.results / "runs")[0], slots)
        together = f", {slots} at a time" if slots > 1 else ""
        about = "—" if found.seconds is None else f"about {duration(found.seconds)}"
        more = f", and more for {', '.join(found.unknown)}" if found.unknown and found.seconds is not None else ""
        source = "no earlier run to go by" if found.seconds is None else "as earlier runs on this kind of device took"
        text += f"; time left: {about}{more}{together} ({source})"
    console_on().print(text, highlight=False)


MOST_PRINTED = 20
"""The number of runs above which a plan is printed as a line per method."""


def _print_runs(runs: Iterable[tuple[str, Run, str]], shown: Mapping[str, str]) -> None:
    """Print a table of runs, or of their numbers by method where they are many.

    Args:
        runs: The label of each run, the run, and its state.
        shown: Domain → the name to print, where the protocol renames it.
    """
    from rich.table import Table

    from fergen_bench.experiment.run import percent

    runs = list(runs)
    if len(runs) > MOST_PRINTED:
        _print_summary(runs, shown)
        return
    table = Table()
    for column in ("method", "trained on", "scored on", "seed", "record"):
        table.add_column(column, overflow="fold")
    for label, run, state in runs:
        share = "" if run.fraction == 1 else f"{percent(run.fraction)} of "
        sources, targets = ([shown.get(name, name) for name in names] for names in (run.sources, run.targets))
        gap = " · " if any(" " in name for name in targets) else " "
        table.add_row(label, share + " + ".join(sources), gap.join(targets) or "—", str(run.seed), state)
    console_on().print(table)


def _print_summary(runs: Sequence[tuple[str, Run, str]], shown: Mapping[str, str]) -> None:
    """Print a line for each method: its sources, seeds and targets, and how many of its runs have records."""
    from rich.table import Table

    from fergen_bench.experiment.run import percent
    from fergen_bench.wording import listed

    table = Table()
    for column in ("method", "trained on", "scored on", "seeds", "runs", "record"):
        table.add_column(column, overflow="fold", justify="right" if column == "runs" else "left")
    methods: dict[str, list[tuple[Run, str]]] = {}
    for label, run, state in runs:
        methods.setdefault(label, []).append((run, state))
    for label, own in methods.items():
        shares = dict.fromkeys(percent(run.fraction) for run, _ in own if run.fraction != 1)
        sources = dict.fromkeys("+".join(shown.get(name, name) for name in run.sources) for run, _ in own)
        targets = dict.fromkeys(shown.get(name, name) for run, _ in own for name in run.targets)
        seeds = ", ".join(map(str, sorted({run.seed for run, _ in own})))
        states = Counter(state for _, state in own)
        of = f"{', '.join(shares)} of " if shares else ""
        left = ", ".join(f"{count:,} {state}" for state, count in states.items())
        said = next(iter(states)) if len(states) == 1 else left
        table.add_row(label, of + listed(sources), listed(targets) or "—", seeds, f"{len(own):,}", said)
    console = console_on()
    console.print(table)
    rest = [(run, state) for own in methods.values() for run, state in own if state != "done"]
    if 0 < len(rest) <= MOST_PRINTED < len(runs) and {state for _, state in rest} != {"?"}:
        for run, state in rest:
            console.print(f"{state}: {run.called(shown)}", highlight=False)
    console.print(f"Each run is listed where there are at most {MOST_PRINTED}: see --method, --sources, --seeds")


def _sum_up(project: Project, plan: Plan, finished: Finished) -> int:
    """Print the outcome of a plan, and return the exit status: 130 after Ctrl-C, 2 after bad input, 1 after a crash."""
    console, runs = console_on(stderr=True), project.results / "runs"
    if finished.stopped:
        epochs = f", {finished.begun} of them from the last saved epoch" if finished.begun else ""
        sync = ", and fergen-bench sync mirrors the records to MLflow." if finished.unmirrored else "."
        done = many(len(finished.records), "run", "have", of=len(plan.missing))
        console.print(f"Stopped. {done} a record; the same command continues with the rest{epochs}{sync}")
        return 130
    minutes, seconds = divmod(round(finished.seconds), 60)
    left = len(plan.missing) - len(finished.records)
    failed = f", {left} not" if left else ""
    done = many(len(finished.records), "run")
    console.print(f"{done} done in {minutes} min {seconds} s{failed}; records in {near(runs)}")
    if not finished.failed:
        see = "report" if any(job.spec.targets for job in plan.runs) else "choose"
        console.print(f"See them with: fergen-bench {see} --suite {plan.suite.name}")
        return 0
    return 2 if any(outcome.refused for outcome in finished.failed) else 1


def _show_replay(played: Replay) -> int:
    """Print a record with its repetition, and return the exit status: 0 where all numbers are equal, else 1."""
    import numpy as np
    from rich.table import Table

    from fergen_bench.metric import accuracy

    done, console = played.record, console_on()
    table = Table(title=done.spec.title, title_justify="left")
    for column in ("target", "images", "record", "again", "images that differ"):
        table.add_column(column, justify="left" if column == "target" else "right")
    differences = played.differences()
    for name, count, cells, moved in differences:
        both = (f"{100 * accuracy(np.array(cell.confusion)):.2f}" if count else "—" for cell in cells)
        table.add_row(name, f"{count:,}", *both, f"{moved:,}")
    if differences:
        console.print(table)
    for note in _notes_on_replay(played):
        console.print(f"note: {note}", style="dim")
    if differences:
        equal = not (total := sum(moved for *_, moved in differences))
        images = sum(count for _, count, _, _ in differences)
        answer = (
            "Equal: every confusion matrix is that of the record."
            if equal
            else f"Not equal: at least {many(total, 'prediction', 'differ', of=images)}."
        )
    else:
        equal, epochs = not (moved := played.epochs()), len(done.history)
        answer = (
            f"Equal: {many(epochs, 'epoch', 'have', of=epochs)} the losses and held-out scores of the record."
            if equal
            else f"Not equal: {many(moved, 'epoch', 'have', of=epochs)} other losses or held-out scores."
        )
    console.print(answer)
    return 0 if equal else 1


def _notes_on_replay(played: Replay) -> Iterable[str]:
    """Yield the differences of environment and method file between a record and its repetition."""
    done, again = played.record, played.again
    sometimes = {"steps"}  # present where steps were captured as a CUDA graph
    unlike = {"commit", "method_commit", "memory_mb"}  # differ between any two runs
    for name in dict.fromkeys((*done.environment, *sometimes)):
        was, here = done.environment.get(name), again.environment.get(name)
        if was != here and name not in unlike and (name in sometimes or None not in (was, here)):
            yield f"{name} was {was or 'not recorded'}, and is {here or 'not recorded'} here"
    if again.method_digest != done.method_digest:
        commit = done.method_commit or "which is unknown"
        yield (f"{done.spec.method}.py here differs from that at the record's commit, {commit}, under the same version")
    if done.spec.base is not None and done.base_digest not in ("", again.base_digest):
        yield f"{done.spec.base.method}.py here differs from the text that its base was made by, under the same version"
