"""The commands `data prepare`, `data check`, `data audit` and `data describe`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fergen_bench.api.display import busy
from fergen_bench.cli.console import console_on
from fergen_bench.cli.parameters import FilePath, Group, NumberRange, Words, complete, pairs
from fergen_bench.files.bounded import printable
from fergen_bench.wording import in_words, many, near

if TYPE_CHECKING:
    from fergen_bench.datasets.audit import Audit
    from fergen_bench.datasets.check import Check
    from fergen_bench.experiment.project import Project


@click.group(cls=Group)
def data() -> None:
    """Prepare datasets, check copies of them, and find near-duplicates."""


SHOWN = 10
"""The most labels in disagreement that are printed."""
PREPARE_EXAMPLES = """
\b
Examples:
  fergen-bench data prepare rafdb /data/RAF_DB
  fergen-bench data prepare ferplus /data/ferplus --label-rule argmax8
  fergen-bench data prepare folder /data/lab --name lab --labels joy=happiness,contempt=
  fergen-bench data prepare folder /data/holiday --name holiday --crop faces
  fergen-bench data prepare csv /data/lab/faces.csv --name lab --columns image=file,label=emotion
"""


@data.command(epilog=PREPARE_EXAMPLES)
@click.argument("dataset")
@click.argument("path", type=FilePath(exists=True))
@click.option("--name", help="The name of the domain. Default: that of the dataset.")
@click.option("--layout", help="The layout of the files. Default: the one that fits.")
@click.option("--labels", type=Words(), help="Labels with unusual names: joy=happiness; contempt= leaves them out.")
@click.option(
    "--numbering",
    help="Labels that are numbers: 0-based or 1-based in the dataset's own order, or affectnet-0-based and its like.",
)
@click.option(
    "--columns",
    type=Words(),
    help="For csv: image=file,label=emotion,split=usage,subject=person,… For lists: label=2, its number.",
)
@click.option(
    "--images",
    type=FilePath(),
    help="For csv and list: the folder that paths are relative to. Absolute paths must lie in it; / allows all.",
)
@click.option("--follow-links", is_flag=True, help="Read through links that lead out of PATH.")
@click.option("--label-rule", help="For ferplus: majority (default), probability, multi-target, argmax8 or argmax10.")
@click.option("--label-source", help="For ferplus: fer2013new or label.csv.")
@click.option("--subject", help="Regular expression with one group that finds the subject in a file's name.")
@click.option("--size", type=click.IntRange(16, 1024), help="Side of the prepared images in pixels.")
@click.option(
    "--crop", type=click.Choice(["faces"]), help="For whole photographs: find the largest face of each and cut it out."
)
@click.option("--margin", type=NumberRange(0, 1), help="Margin on each side of a box, as a share of its side.")
@click.option("--emulate-bgr", is_flag=True, help="Reverse the colour channels, as published code did.")
@click.option(
    "--white",
    type=NumberRange(0, 65535, min_open=True),
    help="The level of white in images of more than 8 bits, such as 4095. Default: found from all of them.",
)
@click.option("--allow-missing", is_flag=True, help="Leave out files that are missing or cannot be read.")
@click.option("--to", type=FilePath(), help="The prepared folder. Default: data/NAME in the project.")
def prepare(
    dataset: str,
    path: Path,
    name: str | None,
    to: Path | None,
    labels: list[str] | None,
    columns: list[str] | None,
    **options: Any,
) -> None:
    """Read a dataset once and store it in the form that runs use.

    DATASET: rafdb, ferplus, affectnet, sfew, mma; mma-expw, fer2013, expw, ckplus, jaffe, kdef, caer-s; or folder, csv,
    list for images of your own. The layout is recognised; a folder without a known layout is refused.
    """
    from fergen_bench import datasets
    from fergen_bench.api.data import prepare_domain
    from fergen_bench.api.display import Bars
    from fergen_bench.data.prepared import read_about
    from fergen_bench.experiment.project import find_project

    project, console = find_project(), console_on(stderr=True)
    given = {key: value for key, value in options.items() if value is not None}
    given |= {"labels": pairs("--labels", labels), "columns": pairs("--columns", columns)}
    with Bars(console) as shown:
        folder = prepare_domain(project, dataset, path, name, to, given, shown)
    _describe(folder)
    about = read_about(folder)
    if about.get("whole") is False:
        title = datasets.dataset(dataset, "data prepare").title
        console.print(
            f"\nwarning: prepared, but this is not {title} as its owner distributes it: {about['verdict']}. Every run "
            f"and report repeats this. Expected counts: docs/datasets.md",
            style="yellow",
        )
    console.print("\n" + _how_to_use(project, name or dataset, folder), soft_wrap=True)


def _how_to_use(project: Project, name: str, folder: Path) -> str:
    """Return the lines for bench.toml that a prepared domain needs before it belongs to a suite."""
    from fergen_bench.api.data import next_steps

    steps = next_steps(project, name, folder)
    if steps.path is not None:
        return f'bench.toml: the table [domains.{name}] names other data. To use this, write path = "{steps.path}"'
    if not steps.lines:
        return f"{name} can be used now, in {' and '.join(steps.suites)}."
    return "\n".join(("To use it, write into bench.toml:", *steps.lines))


@data.command()
@click.argument("domains", nargs=-1)
@click.option("--suite", "-s", shell_complete=complete("suite"), help="The domains of this suite.")
@click.option("--quick", is_flag=True, help="Do not open the images: labels and names only.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(domains: tuple[str, ...], suite: str | None, quick: bool, as_json: bool) -> None:
    """Check copies of datasets: images found and expected, faults, verdict. Exit status 1 where one has errors.

    DOMAINS: tables of bench.toml. Default: all of them, or those of a suite.
    """
    import json

    from fergen_bench.api.data import check as check_domains
    from fergen_bench.api.display import Bars
    from fergen_bench.experiment.project import find_project

    with Bars(console_on(stderr=True)) as shown:
        checks = check_domains(find_project(), domains, suite, quick, shown)
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
    console.print(
        f"\n{entry.domain}  {entry.dataset}, layout {entry.layout or '—'}  {printable(str(entry.path))}", style="bold"
    )
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
@click.option("--backbone", "-b", help="Decide on pairs with similar pixels by the features of this frozen encoder.")
@click.option(
    "--limit",
    type=NumberRange(0, 1),
    default=0.95,
    show_default=True,
    help="With --backbone: the least cosine of features of near-duplicates.",
)
def audit(suite: str | None, domains: list[str] | None, backbone: str | None, limit: float) -> None:
    """Find near-duplicates: images of one picture, within and between the domains of a suite.

    Crops to 92 % of the side of a picture or less are not found. Pairs of domains that were compared before, in any
    suite, are not compared again. Tables then leave out target images with a near-duplicate in the source, and mark a
    target with many of them as seen.
    """
    from fergen_bench.api.data import audit as audit_suite
    from fergen_bench.api.display import Bars
    from fergen_bench.experiment.project import find_project

    with Bars(console_on(stderr=True)) as shown:
        found = audit_suite(find_project(), suite, domains, backbone, limit, shown)
    _show_audit(found)
    picture = found.folder / "worst-pairs.png"
    console_on(stderr=True).print(
        f"\nEvery pair: {near(found.folder / 'near-duplicates.csv')}."
        + (f" Look at: {near(picture)}" if picture.is_file() else "")
    )


def _show_audit(found: Audit) -> None:
    from rich.table import Table

    from fergen_bench.datasets.comparisons import NOT_FOUND

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
            numbers = (row.exact, row.near, row.images_a, row.images_b)
            table.add_row(str(row.a), str(row.b), *(f"{number:,}" for number in numbers))
        console.print(table)
    domains = f"{many(found.compared, 'pair')} of domains compared, each domain with itself among them"
    before = f"; {found.known:,} were compared before" if found.known else ""
    console.print(f"{domains}{before}. Decided by: {'; '.join(rule.refined_by for rule in found.rules)}", style="dim")
    console.print(f"note: {NOT_FOUND}", style="dim")
    for note in found.notes:
        console.print(f"note: {note}", style="dim")


@data.command()
@click.argument("domain")
@click.option(
    "--suite", "-s", default="synth5", show_default=True, help="The embedded suite, for the size of rendered domains."
)
@click.option("--sheet", type=FilePath(), help="Write only the contact sheet of the test split, to this .png or .jpg.")
def describe(domain: str, suite: str, sheet: Path | None) -> None:
    """Print counts, size and fingerprint of a domain (a name, or a prepared folder), and draw pictures of it.

    The pictures are a histogram of its classes and ten images of every expression from each split, where a wrong label
    map shows at once.
    """
    from fergen_bench.api.data import draw, prepared_folder
    from fergen_bench.api.display import Bars
    from fergen_bench.experiment.project import find_project

    project, console = find_project(), console_on(stderr=True)
    with Bars(console) as shown:
        folder = prepared_folder(project, domain, suite, shown)
    with busy(console, "drawing"):
        pictures = draw(project, folder, sheet)
    _describe(folder)
    what = "look at" if sheet is None else "contact sheet"
    console_on().print(f"{what}: {', '.join(near(picture) for picture in pictures)}")


def _describe(folder: Path) -> None:
    from rich.table import Table

    from fergen_bench.data.labels import EXPRESSIONS
    from fergen_bench.data.prepared import read_about
    from fergen_bench.datasets.statistics import described, oddities, stored
    from fergen_bench.datasets.verdict import cautions_of

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
        what = f"warning: {many(found['total'], 'label', 'disagree')}:{lines}{more}"
        console.print(what, style="yellow", markup=False, soft_wrap=True)
    for finding in cautions_of(about):
        if finding.level == "warning":
            console.print(f"warning: {finding.what}", style="yellow", soft_wrap=True)
    if (pixels := stored(about)) is not None:
        console.print("pixels:" + "".join(f"\n  {line}" for line in described(pixels)), style="dim", soft_wrap=True)
        for what in oddities(pixels):
            console.print(f"warning: {what}", style="yellow", soft_wrap=True)
