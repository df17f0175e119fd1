"""The commands that read records: `report`, `site`, `compare`, `choose` and `verify`."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fergen_bench.api.display import Display, busy
from fergen_bench.api.filtering import RecordFilter
from fergen_bench.cli.console import console_on
from fergen_bench.cli.parameters import FilePath, NumberRange, complete, include_near_duplicates, options_of
from fergen_bench.cli.submissions import Share
from fergen_bench.submission import TOLERANCE
from fergen_bench.wording import many, near

if TYPE_CHECKING:
    from rich.console import Console

    from fergen_bench.api.results import Results
    from fergen_bench.records.verify import Verdict

_suite = click.option(
    "--suite",
    "-s",
    shell_complete=complete("suite"),
    help="The suite. Default: that of bench.toml, or the only one with records.",
)
_methods = click.option(
    "--method", "-m", "methods", multiple=True, shell_complete=complete("method"), help="Only these methods."
)
_metric = click.option(
    "--metric", type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1"]), default="accuracy", show_default=True
)
_from_records = click.option(
    "--records",
    type=FilePath(),
    help="Read records from here instead of results/runs: reference (the committed results), a folder, packed records.",
)


@click.command()
@_suite
@_metric
@options_of(RecordFilter)
@_from_records
@include_near_duplicates
@click.option("--to", type=FilePath(), help="Write the files here instead of results/report.")
@click.option("--faces", is_flag=True, help="Show faces of real people on the page. Do not publish such a page.")
@click.option("--matrices", is_flag=True, help="Print the source x target matrix of each row too.")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
def report(
    suite: str | None,
    metric: str,
    records: Path | None,
    include_near_duplicates: bool,
    to: Path | None,
    faces: bool,
    matrices: bool,
    opened: bool,
    **filters: Any,
) -> None:
    """Show the leaderboards of one suite, and write them, matrices and figures to files and one page, index.html."""
    from fergen_bench.api.report import write
    from fergen_bench.report import terminal

    console = console_on()
    only = RecordFilter(**filters)
    # Text comes after the files: its reader may be head, which closes the pipe before its end.
    with _Later(console_on(stderr=True)) as shown:
        with shown.busy("reading records"):
            results = _results(records, suite, only, include_near_duplicates, shown)
        written = write(results, to, metric, faces, shown)
    terminal.show(console, results.views(metric), written.published, results.corruptions, matrices)
    what = ", only ".join([results.suite, *only.methods[:1]]) + "".join(f", {name}" for name in only.methods[1:])
    what += f"; only {only.text}" if only.text else ""
    console.print(f"\nReport of {what}: {near(written.page)}, and beside it tables (.md, .csv, .tex) and figures")
    if opened:
        _open(written.page)


SITE_EXAMPLES = """
\b
Examples:
  fergen-bench site public
  fergen-bench site public --records results
  fergen-bench site public --docs mkdocs.yml
"""


@click.command(epilog=SITE_EXAMPLES)
@click.argument("to", metavar="DIR", type=FilePath())
@click.option(
    "--records",
    default="reference",
    show_default=True,
    help="Read these records: reference (the committed results), results (the project's), a folder, packed records.",
)
@click.option("--docs", type=FilePath(), help="Also build the documentation of this mkdocs.yml into DIR/docs.")
@click.option("--open", "opened", is_flag=True, help="Open the index in a browser.")
def site(to: Path, records: str, docs: Path | None, opened: bool) -> None:
    """Write a folder of static pages: the leaderboards of all suites with records, and a page for each method.

    DIR: a new or an empty folder, or one that this command has written. Its pages need no server.
    """
    from fergen_bench.api.display import Bars
    from fergen_bench.api.site import build
    from fergen_bench.experiment.project import find_project

    page = build(find_project(), to, records, docs, Bars(console_on(stderr=True)))
    console_on().print(f"Site: {near(page)}")
    if opened:
        _open(page)


class _Later(Display):
    """A display that prints remarks on leaving its context."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._held: list[tuple[str, str]] = []

    def __enter__(self) -> _Later:
        return self

    def __exit__(self, *error: object) -> None:
        for text, style in self._held:
            self._console.print(text, style=style)

    def say(self, text: str, style: str = "") -> None:
        """Hold a line back."""
        self._held.append((text, style))

    def busy(self, what: str) -> AbstractContextManager[Any]:
        """Return a context that shows a spinner on a terminal."""
        return busy(self._console, what)


COMPARE_EXAMPLES = """
\b
Examples:
  fergen-bench compare linear_probe cafe
  fergen-bench compare cafe "cafe (gate=linear)" --metric macro_f1
  fergen-bench compare cafe scn --sources rafdb,ferplus --targets sfew --seeds 0,1
"""


@click.command(epilog=COMPARE_EXAMPLES)
@click.argument("first")
@click.argument("second")
@_suite
@_metric
@options_of(RecordFilter)
@_from_records
@include_near_duplicates
def compare(
    first: str,
    second: str,
    suite: str | None,
    metric: str,
    records: Path | None,
    include_near_duplicates: bool,
    **filters: Any,
) -> None:
    """Compare two methods on unseen domains: the difference, its interval and p-value, by cell and by expression.

    FIRST and SECOND: rows as `fergen-bench report` prints them, such as cafe, or "cafe (gate=linear)".
    """
    from fergen_bench.report.terminal import show_comparison

    results = _results(records, suite, RecordFilter(**filters), include_near_duplicates)
    compared = results.compare(first, second, metric)
    for fault in compared.faults:
        _warn(fault)
    show_comparison(console_on(), compared.first, compared.second, compared.found)


@click.command()
@_suite
@_methods
def choose(suite: str | None, methods: tuple[str, ...]) -> None:
    """Compare parameters by accuracy on images held out of the sources. No target is read.

    Reads the records of runs with --selection source-val, such as those of: run --protocol learning-rate
    """
    from fergen_bench.report import choosing, data

    results = _results(None, suite, RecordFilter(methods, "source-val"))
    for part in results.validation():
        console_on().print(choosing.shown(results.suite, part, results.domains))
    console_on().print(data.block(results.source_data(), results.records[0].spec.synthetic))


@click.command()
@click.argument("path", type=FilePath())
@click.option("--all", "everything", is_flag=True, help="Print all notes; the default is the first ten.")
@click.option(
    "--replay", "share", type=Share(), help="Of a submission, repeat this random share of the runs. Executes its files."
)
@click.option("--seed", type=int, help="With --replay: choose the runs by this seed.")
@click.option("--device", help="With --replay: auto, cpu, cuda or cuda:1. Default: that of bench.toml.")
@click.option(
    "--weights",
    type=FilePath(exists=True, file_okay=False),
    help="With --replay: the folder with the files of weights that the runs name.",
)
@click.option(
    "--tolerance",
    type=NumberRange(0, 100),
    default=TOLERANCE,
    show_default=True,
    help="With --replay: points by which the accuracy of a cell may differ.",
)
@click.option("--summary", type=FilePath(dir_okay=False), help="Write the result as Markdown too.")
def verify(
    path: Path,
    everything: bool,
    share: float | None,
    seed: int | None,
    device: str | None,
    weights: Path | None,
    tolerance: float,
    summary: Path | None,
) -> None:
    """Check that results are what they claim to be. Exit status 1 where something is wrong.

    PATH: a results folder or a copy of one; a folder of records, such as results/runs; packed records: a folder, a file
    of rows or a zip archive; a submission; or reference: the committed results. Nothing is changed. The check reads
    keys, checksums and types, counts confusions again from stored predictions, and compares the runs within each row of
    a table, and the data of records with the domains that are prepared here. The method files of a submission are
    executed with --replay alone.
    """
    from fergen_bench.api.display import Bars
    from fergen_bench.api.verify import verify as verify_folder
    from fergen_bench.cli.submissions import replay_and_show
    from fergen_bench.experiment.project import find_project

    console, project = console_on(), find_project()
    with Bars(console_on(stderr=True)) as shown, shown.busy(f"reading {near(path)}"):
        verdict = verify_folder(project, path, shown.preparation)
    _show_verdict(verdict, path, everything)
    if share is not None and not verdict.faults:
        verdict.faults += replay_and_show(project, path, share, seed, device, weights, tolerance)
        for fault in verdict.faults:
            console.print(f"fault: {fault}", style="red")
    if summary is not None:
        from fergen_bench.api.submission import summarised

        summary.write_text(summarised(project, path, verdict, share), encoding="utf-8")
    if verdict.faults:
        console.print(f"Not sound: {many(len(verdict.faults), 'fault')} in {many(verdict.files, 'file')}.")
        sys.exit(1)
    unproved = len(verdict.records) - len(verdict.recounted)
    console.print(
        f"Sound: {many(len(verdict.records), 'record')} in {many(verdict.files, 'file')}"
        + (f"; {many(unproved, 'record', 'have')} no predictions to count again." if unproved else ".")
    )


def _show_verdict(verdict: Verdict, path: Path, everything: bool) -> None:
    """Print the extent of a verification, its faults and its notes."""
    from rich.table import Table

    console = console_on()
    table = Table(title=near(path), title_justify="left")
    for column in ("suite", "method", "version", "records", "counted again"):
        table.add_column(column, justify="left" if column in {"suite", "method"} else "right")
    for (suite, method, version), (count, recounted) in verdict.rows().items():
        table.add_row(suite, method, str(version), f"{count:,}", f"{recounted:,}")
    console.print(table)
    if verdict.domains or verdict.features:
        console.print(
            f"{many(verdict.domains, 'prepared domain')}, {many(verdict.features, 'file of features')}", highlight=False
        )
    for fault in verdict.faults:
        console.print(f"fault: {fault}", style="red")
    shown = verdict.notes if everything else verdict.notes[:10]
    for note in shown:
        console.print(f"note: {note}", style="dim")
    if len(shown) < len(verdict.notes):
        console.print(f"note: and {len(verdict.notes) - len(shown):,} more, with --all", style="dim")


def _results(
    folder: Path | None, suite: str | None, only: RecordFilter, include: bool = False, shown: Display | None = None
) -> Results:
    """Load results, and print each remark on them at once, or give it to a display."""
    from fergen_bench.api.results import Remark, load, records_at
    from fergen_bench.experiment.project import find_project

    def remark(remark: Remark) -> None:
        text, style = f"{remark.level}: {remark.text}", "yellow" if remark.level == "warning" else "dim"
        console_on(stderr=True).print(text, style=style) if shown is None else shown.say(text, style)

    project = find_project()
    stored = records_at("results" if folder is None else folder, project)
    return load(project, stored, suite, only, include, remark=remark)


def _open(page: Path) -> None:
    import webbrowser

    webbrowser.open(page.resolve().as_uri())


def _warn(fault: str) -> None:
    console_on(stderr=True).print(f"warning: {fault}", style="yellow")
