"""What is read from records: `report`, `compare`, `choose`, `verify`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fergen_bench.cli.console import busy, console_on, near
from fergen_bench.cli.parameters import Words, complete, include_near_duplicates
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.data.domain import Domain
    from fergen_bench.data.facts import DataFacts
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.run import Run
    from fergen_bench.records.record import RunRecord

_suite = click.option(
    "--suite",
    "-s",
    shell_complete=complete("suite"),
    help="The suite. Default: bench.toml's, or the only one that has records.",
)
_methods = click.option(
    "--method", "-m", "methods", multiple=True, shell_complete=complete("method"), help="Only these methods."
)
_metric = click.option(
    "--metric", type=click.Choice(["accuracy", "balanced_accuracy", "macro_f1"]), default="accuracy", show_default=True
)
_selection = click.option(
    "--selection", type=click.Choice(["last", "source-val"]), help="Only runs with this selection."
)
_from_records = click.option(
    "--records",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Read records from here instead of results/runs.",
)


@click.command()
@_suite
@_methods
@_metric
@_selection
@_from_records
@include_near_duplicates
@click.option("--to", type=click.Path(path_type=Path), help="Write the files here instead of results/report.")
@click.option("--faces", is_flag=True, help="Show faces of real people on the page: for your own eyes alone.")
@click.option("--open", "opened", is_flag=True, help="Open the page in a browser.")
def report(
    suite: str | None,
    methods: tuple[str, ...],
    metric: str,
    selection: str | None,
    records: Path | None,
    include_near_duplicates: bool,
    to: Path | None,
    faces: bool,
    opened: bool,
) -> None:
    """Leaderboards, matrices and plots from the records of one suite: here, in files, and on one page, index.html."""
    from fergen_bench.experiment.project import find_project, shipped
    from fergen_bench.records import frame as frames
    from fergen_bench.report import page, published, render
    from fergen_bench.report.evidence import Evidence, judged
    from fergen_bench.report.tables import boards, scored_cells, with_data

    project, console = find_project(), console_on()
    runs = records or project.results / "runs"
    complaints: list[str] = []
    loaded, meant = _records(project, runs, suite, methods, selection, complaints, include=include_near_duplicates)
    loaded = _scored(loaded, meant, runs)
    lacking = _lacking(project, loaded)
    _warn(lacking)
    complaints += lacking
    tables = published.read_published(shipped("results") / "published")
    own = project.results / "published"
    if own.is_dir() and own.resolve() != (shipped("results") / "published").resolve():
        tables += published.read_published(own)
    with busy(console_on(stderr=True), "reading predictions"):
        evidence = Evidence(loaded, runs)
        cells = evidence.calibrated(scored_cells(loaded))
        ranked = list(with_data(judged(boards(cells, metric), evidence, metric), loaded))
    _warn(evidence.faults)
    complaints += evidence.faults
    shifted = frames.shifted_frame(loaded)
    target = to or project.results / "report"
    with busy(console_on(stderr=True), "drawing"), render.replaced(target) as draft:
        ablations = _ablations(project, meant)
        files = render.write(draft, ranked, metric, tables, ablations, shifted)
        seen = page.Faces(lambda domain: _prepared_domain(project, meant, domain), faces)
        page.write(
            draft, ranked, loaded, runs, metric, evidence.reliability, files, ablations, tables, complaints, seen
        )
    # The tables after the files: their reader may be head, which goes away before the end of them.
    render.show(console, ranked, metric, tables, shifted)
    written = target / "index.html"
    what = ", ".join([meant, *(f"only {name}" for name in methods[:1]), *methods[1:]])
    console.print(
        f"\nReport of {what}: {near(written)}, and beside it leaderboard.md, .csv, .tex, data.csv and pictures"
    )
    if opened:
        import webbrowser

        webbrowser.open(written.resolve().as_uri())


COMPARE_EXAMPLES = """
\b
Examples:
  fergen-bench compare linear_probe cafe
  fergen-bench compare cafe "cafe (gate=linear)" --metric macro_f1
  fergen-bench compare cafe scn --sources rafdb,ferplus --targets sfew
"""


@click.command(epilog=COMPARE_EXAMPLES)
@click.argument("first")
@click.argument("second")
@_suite
@_metric
@_selection
@click.option("--sources", type=Words(), help="Only runs trained on these domains; a+b for two together.")
@click.option("--targets", type=Words(), help="Only cells scored on these domains.")
@_from_records
@include_near_duplicates
def compare(
    first: str,
    second: str,
    suite: str | None,
    metric: str,
    selection: str | None,
    sources: list[str] | None,
    targets: list[str] | None,
    records: Path | None,
    include_near_duplicates: bool,
) -> None:
    """Is SECOND better than FIRST on unseen domains, where, and how sure is that?

    FIRST and SECOND: rows as `fergen-bench report` prints them, such as cafe, or "cafe (gate=linear)".
    """
    from fergen_bench.experiment.project import find_project
    from fergen_bench.records import frame as frames
    from fergen_bench.report import compare as comparing
    from fergen_bench.report import evidence, tables

    project = find_project()
    folder = records or project.results / "runs"
    left_out: dict[str, list[RunRecord]] = {}
    loaded, meant = _records(
        project, folder, suite, selection=selection, left_out=left_out, include=include_near_duplicates
    )
    loaded = _scored(loaded, meant, folder)
    cells = frames.cells_frame(loaded)
    sources = None if sources is None else ["+".join(sorted(name.split("+"))) for name in sources]
    for option, column, names in (("--sources", "source", sources), ("--targets", "target", targets)):
        for name in names or ():
            if name not in set(cells[column]):
                raise BenchError(f"{option}: no record of {meant} has {name!r}{did_you_mean(name, set(cells[column]))}")
        cells = cells if names is None else cells[cells[column].isin(names)]
    if cells.empty:
        raise BenchError(f"there are no such records of {meant} under {near(folder)}; make some with: fergen-bench run")
    boards = list(tables.with_data(tables.boards(cells, metric), loaded))
    reasons = {name: why for why, left in reversed(left_out.items()) for entry in left for name in _names(entry)}
    one, other = comparing.find_rows(boards, first, second, reasons)
    comparing.require_same_data(one, other, loaded)
    keys = {*one.cells.key, *other.cells.key}
    seen = evidence.Evidence([entry for entry in loaded if entry.spec.key in keys], folder)
    _warn(seen.faults)
    comparing.show_comparison(console_on(), one, other, evidence.compare(one.cells, other.cells, seen, metric))


def _names(record: RunRecord) -> tuple[str, str]:
    """What the row of a record may be called."""
    return record.spec.method, record.spec.label


@click.command()
@_suite
@_methods
def choose(suite: str | None, methods: tuple[str, ...]) -> None:
    """Compare parameters on source validation, without a look at any target.

    Reads the records of runs with --selection source-val, such as those of: run --protocol learning-rate
    """
    from fergen_bench.experiment.project import find_project
    from fergen_bench.report import choosing, data

    project = find_project()
    records, meant = _records(project, project.results / "runs", suite, methods, "source-val")
    found = list(choosing.validation(records, _held_out(project)))
    if not found:
        those = " and ".join(sorted({entry.spec.method for entry in records}))
        others = f" ({those} chose something else on them, and kept no score)" if those else ""
        raise BenchError(
            f"no run on {meant} has a score on held-out faces of its source{others}; make some with: fergen-bench run "
            f"--protocol learning-rate --method …"
        )
    known = project.suites().get(meant)
    for part in found:
        console_on().print(choosing.shown(meant, part, known.domains if known else ()))
    learned = {name for entry in records for name in (*entry.spec.sources, entry.spec.adaptation_target)}
    sources = {name: one for name, one in data.described(records).items() if name in learned}
    console_on().print(data.block(sources, records[0].spec.synthetic))


@click.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--all", "everything", is_flag=True, help="Print every note, not only the first of them.")
def verify(path: Path, everything: bool) -> None:
    """Is somebody's results folder what it says? Reads only. Exit status 1 where something is wrong.

    PATH: a results folder or a copy of one, or a folder of records, such as results/runs. Keys, checksums and types are
    checked, confusions are counted again from stored predictions, and the rows of tables must have been made alike.
    What records say of their data is compared with the domains that are prepared here.
    """
    from rich.table import Table

    from fergen_bench.experiment.project import find_project
    from fergen_bench.records.verify import verify as verify_folder

    project, console = find_project(), console_on()

    def digest(method: str) -> str | None:
        try:
            return project.method(method).digest
        except BenchError:
            return None

    with busy(console_on(stderr=True), f"reading {near(path)}"):
        verdict = verify_folder(path, digest, lambda suite, name: _prepared_about(project, suite, name))
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
    if verdict.faults:
        console.print(f"Not sound: {many(len(verdict.faults), 'fault')} in {many(verdict.files, 'file')}.")
        sys.exit(1)
    unproved = len(verdict.records) - len(verdict.recounted)
    console.print(
        f"Sound: {many(len(verdict.records), 'record')} in {many(verdict.files, 'file')}"
        + (f"; {many(unproved, 'record', 'have')} no predictions to count again." if unproved else ".")
    )


def _records(
    project: Project,
    folder: Path,
    suite: str | None,
    methods: Sequence[str] = (),
    selection: str | None = None,
    complaints: list[str] | None = None,
    left_out: dict[str, list[RunRecord]] | None = None,
    include: bool = False,
) -> tuple[list[RunRecord], str]:
    """The current records of one suite, counted as `record.load_all` counts them; and the suite's name.

    What is wrong with records is said, and added to complaints. left_out: gets those of which something is in no table,
    by the reason. include: count near-duplicates too.

    No suite named: bench.toml's where it has records, else the only one that has.
    """
    from fergen_bench.records import counting, listing
    from fergen_bench.records import frame as frames
    from fergen_bench.report import data

    console = console_on(stderr=True)
    everything, faults = listing.read_all(folder)
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
    entries = _with_data(project, entries)
    kept = frames.current(entries)
    for why, left in data.superseded(entries, kept).items():
        complaints.append(why)
        console.print(f"note: {why}", style="dim")
        if left_out is not None:
            left_out[why] = left
    found, unreadable = counting.counted(kept, project, folder, include)
    _warn(unreadable)
    complaints += unreadable
    return found, meant


def _with_data(project: Project, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Records of early versions have the facts of the same faces here, where they are prepared."""
    from functools import cache

    from fergen_bench.data.facts import facts_of
    from fergen_bench.report import data

    about = cache(lambda suite, name: _prepared_about(project, suite, name))

    def at_hand(suite: str, name: str, record: RunRecord) -> tuple[str, DataFacts] | None:
        spec, here = record.spec, about(suite, name)
        if here is None:
            return None
        return here["fingerprint"], facts_of(here, spec.profile, spec.learns_from(name), name in spec.targets)

    return data.filled(records, at_hand)


def _scored(records: Sequence[RunRecord], suite: str, folder: Path) -> list[RunRecord]:
    """Those of a suite's records that scored a target. BenchError where there is none."""
    if not records:
        raise BenchError(f"there are no such records of {suite} under {near(folder)}; make some with: fergen-bench run")
    scored = [entry for entry in records if entry.cells]
    if not scored:
        raise BenchError(f"these runs scored no target; compare them with: fergen-bench choose --suite {suite}")
    return scored


def _warn(faults: Iterable[str]) -> None:
    console = console_on(stderr=True)
    for fault in faults:
        console.print(f"warning: {fault}", style="yellow")


def _prepared_domain(project: Project, suite: str, name: str) -> Domain | None:
    """A domain whose faces are prepared already. A report prepares nothing."""
    from fergen_bench.data.domain import Domain

    folder = _prepared_folder(project, suite, name)
    try:
        return None if folder is None else Domain(folder, name)
    except BenchError:
        return None


def _prepared_folder(project: Project, suite: str, name: str) -> Path | None:
    try:
        known = project.suites()[suite]
        return project.prepared(known, [name])[name] if project.is_prepared(known, [name]) else None
    except (BenchError, KeyError):  # of a suite or dataset that is there no more
        return None


def _prepared_about(project: Project, suite: str, name: str) -> dict[str, Any] | None:
    """The domain.json of a domain that is prepared here."""
    from fergen_bench.data.prepared import read_about

    folder = _prepared_folder(project, suite, name)
    try:
        return None if folder is None else read_about(folder)
    except BenchError:
        return None


def _lacking(project: Project, records: Sequence[RunRecord]) -> list[str]:
    """What sources could not teach, where they are prepared here."""
    from fergen_bench.data.labels import absent_from
    from fergen_bench.data.prepared import read_about

    found = []
    for suite, name in dict.fromkeys((entry.spec.suite, name) for entry in records for name in entry.spec.sources):
        folder = _prepared_folder(project, suite, name)
        counts = {} if folder is None else read_about(folder)["counts"].get("train", {})
        if counts and (absent := absent_from(counts)):
            found.append(
                f"the source {name} has no training faces of {', '.join(absent)}: what it scores on them, and every "
                f"mean that this goes into, says nothing of a method"
            )
    return found


def _ablations(project: Project, suite: str) -> list[Any]:
    """Protocols with several variants of one method, as the changes that records of a suite keep of them."""
    import json

    from fergen_bench.experiment.project import shipped
    from fergen_bench.experiment.protocol import Request, outline, read_protocol
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


def _held_out(project: Project) -> Callable[[Run], int | None]:
    """How many faces a run held out of its source, where the faces that it learned from are prepared here."""
    from fergen_bench.data.source import open_source

    counts: dict[tuple[Any, ...], int | None] = {}

    def count(spec: Run) -> int | None:
        asked = spec.suite, spec.sources, spec.seed, spec.fraction
        if asked not in counts:
            domains = [_prepared_domain(project, spec.suite, name) for name in spec.sources]
            here = [domain for domain in domains if domain and domain.fingerprint == spec.fingerprints.get(domain.name)]
            whole = len(here) == len(spec.sources)
            counts[asked] = len(open_source(here, spec.seed, spec.fraction).val) if whole else None
        return counts[asked]

    return count
