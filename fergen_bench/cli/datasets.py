"""`data`: prepares datasets, and looks at them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fergen_bench.cli.console import Progress, busy, console_on, near
from fergen_bench.cli.parameters import Group, Words, complete, pairs
from fergen_bench.error import BenchError, NeedsKey, did_you_mean
from fergen_bench.wording import in_words, many

if TYPE_CHECKING:
    from fergen_bench.datasets.audit import Audit
    from fergen_bench.datasets.check import Check
    from fergen_bench.experiment.project import Project


@click.group(cls=Group)
def data() -> None:
    """Prepare datasets and look at them."""


SHOWN = 10
"""How many lines with labels that disagree are printed."""
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
    "--labels", type=Words(), help="Labels that are no usual name: joy=happiness,contempt= (nothing: leave it out)."
)
@click.option(
    "--numbering",
    help="Labels that are numbers: 0-based or 1-based, in the dataset's own order, or a known one: affectnet-0-based.",
)
@click.option(
    "--columns",
    type=Words(),
    help="For csv: image=file,label=emotion,split=usage,subject=person,… For lists: label=2, its number.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="For csv and list: where paths in the file begin. Absolute paths must lie in it; / allows all.",
)
@click.option("--follow-links", is_flag=True, help="Read through links that lead out of PATH.")
@click.option("--label-rule", help="For ferplus: majority (default), probability, multi-target, argmax8 or argmax10.")
@click.option("--label-source", help="For ferplus: fer2013new or label.csv.")
@click.option("--subject", help="Regular expression with one group that finds the subject in a file's name.")
@click.option("--size", type=click.IntRange(16, 1024), help="Side of the prepared faces in pixels.")
@click.option("--margin", type=click.FloatRange(0, 1), help="Around boxes: the share of their side added on each side.")
@click.option("--emulate-bgr", is_flag=True, help="Reverse the colour channels, as published code did.")
@click.option(
    "--white",
    type=click.FloatRange(0, 65535, min_open=True),
    help="The level that means white in images of more than 8 bits, such as 4095. Default: decided over all of them.",
)
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
    from fergen_bench.data.prepared import is_prepared, read_about
    from fergen_bench.datasets.prepare import prepare_dataset
    from fergen_bench.datasets.settings import DomainSettings
    from fergen_bench.experiment.method_file import valid_name
    from fergen_bench.experiment.project import available_cores, find_project

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
    given |= {"labels": pairs("--labels", labels), "columns": pairs("--columns", columns)}
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
    if about.get("whole") is False:
        console.print(
            f"\nwarning: prepared, but this is not {kind.title} as its owner distributes it: {about['verdict']}; every "
            f"run and report says so. Expected counts: docs/datasets.md",
            style="yellow",
        )
    console.print("\n" + _how_to_use(project, name, folder), soft_wrap=True)


def _how_to_use(project: Project, name: str, folder: Path) -> str:
    """What is still to be written into bench.toml before a prepared domain is in a suite."""
    from fergen_bench import datasets

    inside = folder.relative_to(project.root) if folder.is_relative_to(project.root) else folder
    table, lines = project.settings.domains.get(name), []
    if table is not None and (project.root / table.path.expanduser()).resolve() != folder.resolve():
        return f'The table [domains.{name}] of bench.toml goes first; to use this, write there: path = "{inside}"'
    if table is None and folder != project.data / name:
        lines += ["", f"[domains.{name}]", f'path = "{inside}"']
    suites = [suite for suite, of in project.settings.suites.items() if name in of.domains]
    suites += [suite.name for suite in datasets.SUITES.values() if name in suite.domains]
    if not suites:
        lines += _suite_lines(project, name)
    if not lines:
        return f"{name} can be used now, in {' and '.join(suites)}."
    return "\n".join(("To use it, write into bench.toml:", *lines))


SUGGESTED = 5
"""How many domains a suite has that is suggested."""


def _suite_lines(project: Project, name: str) -> list[str]:
    """A table of bench.toml for a suite with a domain and a few others that there are: of each dataset one, those of
    the literature's tables first.
    """
    from fergen_bench import datasets

    known = dict.fromkeys((*project.settings.domains, *project.prepared_here()))
    kinds = {domain: project.dataset_of(domain) for domain in (name, *known)}
    chosen: dict[str, str] = {}  # what may not be there twice → domain
    for domain in sorted(kinds, key=lambda domain: (domain != name, domain not in datasets.WILD5)):
        chosen.setdefault(domain if kinds[domain] in datasets.GENERIC else kinds[domain], domain)
    domains = ", ".join(f'"{domain}"' for domain in [*chosen.values()][:SUGGESTED])
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


@data.command()
@click.argument("domains", nargs=-1)
@click.option("--suite", "-s", shell_complete=complete("suite"), help="The domains of this suite.")
@click.option("--quick", is_flag=True, help="Do not open the images: labels and names only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(domains: tuple[str, ...], suite: str | None, quick: bool, as_json: bool) -> None:
    """Say what each copy is: found and expected faces, faults, verdict. Exit status 1 where one has errors.

    DOMAINS: tables of bench.toml. Default: all of them, or those of a suite.
    """
    import json

    from fergen_bench import datasets
    from fergen_bench.data.prepared import is_prepared
    from fergen_bench.datasets.check import check_copy, check_prepared
    from fergen_bench.experiment.project import available_cores, find_project

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

    from fergen_bench.data.labels import EXPRESSIONS
    from fergen_bench.datasets.statistics import described

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
    if entry.pixels:
        console.print(f"  pixels: {described(entry.pixels)[0]}", style="dim")
    styles = {"ok": "green", "note": "", "warning": "yellow", "error": "red"}
    for finding in entry.findings:
        console.print(f"  {finding.level}: {finding.what}", style=styles[finding.level])


@data.command()
@click.option("--suite", "-s", shell_complete=complete("suite"), help="The domains. Default: bench.toml's suite.")
@click.option("--domains", type=Words(), help="Only these domains of the suite.")
@click.option("--backbone", "-b", help="Also compare what pixels find alike by the features of this frozen encoder.")
@click.option(
    "--limit",
    type=click.FloatRange(0, 1),
    default=0.95,
    show_default=True,
    help="With --backbone: least cosine of the features of near-duplicates.",
)
def audit(suite: str | None, domains: list[str] | None, backbone: str | None, limit: float) -> None:
    """Find near-duplicates: faces that are one picture, within and between the domains of a suite.

    Pairs of domains that were compared before, in whatever suite, are not compared again. Tables then leave out target
    faces with a near-duplicate in the source, and call a target seen that shares many.
    """
    from fergen_bench.data.domain import Domain
    from fergen_bench.datasets.audit import Comparisons, audit_domains
    from fergen_bench.experiment.project import available_cores, find_project
    from fergen_bench.networks import hub
    from fergen_bench.networks.name import resolve_network

    project, console = find_project(), console_on(stderr=True)
    meant = project.suite(suite or project.settings.suite)
    for name in domains or ():
        if name not in meant.domains:
            raise BenchError(f"--domains: {meant.name} has no domain {name!r}{did_you_mean(name, meant.domains)}")
    encoder = None if backbone is None else resolve_network(backbone, "Backbone", meant, "--backbone")
    if encoder is not None:
        hub.refuse_wrong_activation([encoder])
        for note in hub.require([("--backbone ", encoder)]):
            console.print(f"note: {note}", style="dim")
    with Progress(console) as progress:
        folders = project.prepared(meant, domains or meant.domains, progress.preparation)
        opened = [Domain(folder, name) for name, folder in folders.items()]
        refinement = None
        if encoder is not None:
            from fergen_bench.execution.fleet import resolve_device
            from fergen_bench.execution.runner import feature_similarity

            device = resolve_device(project.settings.device)
            refinement = feature_similarity(encoder, limit, project.cache, progress.preparation, device)
        found = audit_domains(
            meant.name,
            opened,
            project.audit_folder(meant),
            Comparisons(project.comparisons),
            project.sketches,
            available_cores(),
            progress.preparation,
            refinement,
        )
    _show_audit(found)
    picture = found.folder / "worst-pairs.png"
    console.print(
        f"\nEvery pair: {near(found.folder / 'near-duplicates.csv')}."
        + (f" Look at: {near(picture)}" if picture.is_file() else "")
    )


def _show_audit(found: Audit) -> None:
    from rich.table import Table

    console = console_on()
    between = [overlap for overlap in found.overlaps if overlap.a != overlap.b]
    inside = [overlap for overlap in found.overlaps if overlap.a == overlap.b]
    for title, rows in (("Near-duplicates between splits", between), ("Near-duplicates inside a split", inside)):
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
    domains = f"{many(found.compared, 'pair')} of domains compared, each domain with itself among them"
    before = f"; {found.known:,} were compared before" if found.known else ""
    console.print(f"{domains}{before}. Decided by: {'; '.join(rule.refined_by for rule in found.hows)}", style="dim")
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
    from fergen_bench.data.prepared import is_prepared
    from fergen_bench.data.suite import Suite
    from fergen_bench.experiment.project import find_project

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
    pictures = _pictures(project, folder, sheet)
    _describe(folder)
    what = "look at" if sheet is None else "contact sheet"
    console_on().print(f"{what}: {', '.join(near(picture) for picture in pictures)}")


def _pictures(project: Project, folder: Path, sheet: Path | None) -> list[Path]:
    """Draws what there is to look at of a prepared domain. sheet: the contact sheet of its test split alone, here."""
    from fergen_bench.data.prepared import read_about
    from fergen_bench.datasets.sheet import contact_sheet, contact_sheets
    from fergen_bench.report import plots

    if sheet is not None:
        contact_sheet(folder, sheet)
        return [sheet]
    place, about = project.results / "data", read_about(folder)
    with busy(console_on(stderr=True), "drawing"):
        pictures = contact_sheets(folder, place / f"{about['name']}.png")
        return [*pictures, plots.save(plots.class_histogram(about), place, f"{about['name']}-classes")]


def _describe(folder: Path) -> None:
    from rich.table import Table

    from fergen_bench.data.labels import EXPRESSIONS
    from fergen_bench.data.prepared import read_about
    from fergen_bench.datasets.check import cautions_of
    from fergen_bench.datasets.statistics import described, oddities, stored

    about, console = read_about(folder), console_on()
    hidden = {"counts", "name", "inputs", "expected", "whole", "labels_disagree", "pixels"}
    shown = {key: value for key, value in about.items() if key not in hidden and value not in (None, [], {})}
    console.print(f"{about['name']}  {near(folder)}", style="bold")
    for key, value in shown.items():
        if key == "notes":
            said = "".join(f"\n    {note}" for note in value)
        else:
            said = " × ".join(map(str, value)) if key == "size" else in_words(value)
        console.print(f"  {key}: {said}")
    table = Table()
    table.add_column("expression")
    for split in about["counts"]:
        table.add_column(split, justify="right")
    for name in EXPRESSIONS:
        table.add_row(name, *(f"{counts[name]:,}" if counts[name] else "—" for counts in about["counts"].values()))
    table.add_section()
    table.add_row("all", *(f"{sum(counts.values()):,}" for counts in about["counts"].values()))
    console.print(table)
    if found := about.get("labels_disagree"):
        lines = "".join(f"\n  {line}" for line in found["lines"][:SHOWN])
        more = f"\n  and {found['total'] - SHOWN:,} more" if found["total"] > SHOWN else ""
        what = f"warning: {found['total']:,} labels disagree:{lines}{more}"
        console.print(what, style="yellow", markup=False, soft_wrap=True)
    for finding in cautions_of(about):
        if finding.level == "warning":
            console.print(f"warning: {finding.what}", style="yellow", soft_wrap=True)
    if (pixels := stored(about)) is not None:
        console.print("pixels:" + "".join(f"\n  {line}" for line in described(pixels)), style="dim", soft_wrap=True)
        for what in oddities(pixels):
            console.print(f"warning: {what}", style="yellow", soft_wrap=True)
