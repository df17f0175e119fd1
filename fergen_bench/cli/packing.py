"""The commands `results pack` and `results unpack`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fergen_bench.api.display import busy
from fergen_bench.cli.console import console_on
from fergen_bench.cli.parameters import FilePath, Group
from fergen_bench.wording import many, near


@click.group(cls=Group)
def results() -> None:
    """Pack results into a few small files, and unpack them."""


@results.command()
@click.argument("records", metavar="RESULTS", type=FilePath(), default="results")
@click.option("--to", type=FilePath(file_okay=False), required=True, help="The packed folder.")
def pack(records: Path, to: Path) -> None:
    """Add the records of RESULTS to a packed folder, with their predicted classes. Exit status 1 if some are refused.

    RESULTS: a results folder, a folder of records, or packed records. Default: results. Each suite and protocol has a
    file of rows and a file of arrays, and each suite a leaderboard.md. What `verify` finds fault with is refused. Rows
    of other runs stay, and a row that is replaced by another result is named.
    """
    from fergen_bench.api import packing
    from fergen_bench.experiment.project import find_project

    console = console_on(stderr=True)
    with busy(console, f"reading {near(records)}"):
        done = packing.pack(find_project(), records, to)
    for note in done.notes:
        console.print(f"note: {note}", style="dim")
    for sentence in (*done.replaced.values(), *done.kept):
        console.print(f"warning: {sentence}", style="yellow")
    for sentence in done.refused:
        console.print(f"refused: {sentence}", style="red")
    parts = (f"{done.added:,} new", f"{len(done.replaced):,} replaced", f"{done.equal:,} as before")
    console_on().print(
        f"{near(to)}: {many(done.runs, 'run')} ({', '.join(parts)}), {done.size / 1e6:.1f} MB", highlight=False
    )
    sys.exit(1 if done.refused else 0)


@results.command()
@click.argument("packed", type=FilePath())
@click.option("--to", type=FilePath(file_okay=False), required=True, help="The results folder.")
def unpack(packed: Path, to: Path) -> None:
    """Write packed records as a results folder with a file per run. Files that exist stay as they are.

    PACKED: a packed folder, a file of rows (.jsonl), a zip archive, or reference: the committed results.
    """
    from fergen_bench.api import packing
    from fergen_bench.experiment.project import find_project

    with busy(console_on(stderr=True), f"reading {near(packed)}"):
        written, existing = packing.unpack(find_project(), packed, to)
    others = f"; {many(existing, 'run', 'have')} a record there already" if existing else ""
    console_on().print(f"{near(to)}: {many(len(written), 'record')} written{others}", highlight=False)
