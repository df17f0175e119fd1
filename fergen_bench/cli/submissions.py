"""The command `submit`, and what `verify` prints about a submission's repeated runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fergen_bench.cli.console import console_on
from fergen_bench.cli.parameters import FilePath, complete
from fergen_bench.wording import many, near

if TYPE_CHECKING:
    from rich.table import Table

    from fergen_bench.experiment.project import Project
    from fergen_bench.submission.rows import Row

EXAMPLES = """
\b
Examples:
  fergen-bench submit results --method my_idea
  fergen-bench verify submission.zip --replay 10%
"""


class Share(click.ParamType):  # type: ignore[type-arg]
    """A share such as 10% or 0.1, as a number."""

    name = "10%"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the text of an option."""
        text = str(value).strip()
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            self.fail(f"{value!r} is not a share; write 10% or 0.1, above 0 and at most 100%")
        return share


@click.command(epilog=EXAMPLES)
@click.argument("results", type=FilePath(), default="results")
@click.option(
    "--method-file",
    "method_files",
    multiple=True,
    type=FilePath(dir_okay=False),
    help="The file of a method; repeat it for several. Default: those of the project.",
)
@click.option("--method", "-m", "methods", multiple=True, shell_complete=complete("method"), help="Only these methods.")
@click.option("--suite", "-s", shell_complete=complete("suite"), help="Only this suite.")
@click.option(
    "--complete-rows",
    is_flag=True,
    help="Leave out rows that lack cells of another row of their leaderboard, and seeds that lack a training.",
)
@click.option("--to", type=FilePath(dir_okay=False), default="submission.zip", show_default=True)
def submit(
    results: Path,
    method_files: tuple[Path, ...],
    methods: tuple[str, ...],
    suite: str | None,
    complete_rows: bool,
    to: Path,
) -> None:
    """Pack results for a leaderboard that others keep: rows, predicted classes, method files and environments.

    RESULTS: a results folder, a folder of records, or packed records. Default: results. What `verify` finds fault with
    is refused, and no file is written.
    """
    from fergen_bench.api import submission
    from fergen_bench.api.display import Bars
    from fergen_bench.experiment.project import find_project

    with Bars(console_on(stderr=True)) as shown:
        done = submission.submit(
            find_project(), results, method_files, to, suite, methods, complete_rows, shown.preparation, shown.warn
        )
    console = console_on()
    for note in done.notes:
        console.print(f"note: {note}", style="dim")
    console.print(_packed(done.rows))
    console.print(
        f"{near(done.path)}: {many(len(done.records), 'run')} in {many(len(done.rows), 'row')}, "
        f"{done.size / 1e6:.2f} MB\n"
        f"Check it as others will: fergen-bench verify {near(done.path)} --replay 10%",
        highlight=False,
    )


def _packed(rows: Iterable[Row]) -> Table:
    """Return a table of the rows of a submission."""
    from rich.table import Table

    table = Table(title="Rows", title_justify="left")
    for column in ("suite", "method", "trained on", "seeds", "cells"):
        table.add_column(column, overflow="fold", justify="right" if column == "cells" else "left")
    for row in rows:
        seeds = ", ".join(map(str, row.seeds))
        table.add_row(row.spec.suite, row.spec.label, row.trained_on, seeds, f"{len(row.cells):,}")
    return table


def replay_and_show(
    project: Project,
    path: Path,
    share: float,
    seed: int | None,
    device: str | None,
    weights: Path | None,
    tolerance: float,
) -> list[str]:
    """Repeat a share of the runs of a submission, print a line for each, and return the faults.

    Args:
        project: The project.
        path: The submission.
        share: The share of its runs.
        seed: The seed of the choice of runs, or None.
        device: The device, or None.
        weights: The folder with the files of weights that the runs name, or None.
        tolerance: Points by which the accuracy of a cell may differ.
    """
    from rich.table import Table

    from fergen_bench.api import submission
    from fergen_bench.api.display import Bars

    with Bars(console_on(stderr=True)) as shown:
        repeated = submission.repeat(project, path, share, device, seed, shown, weights)
    table = Table(title="Repeated runs", title_justify="left")
    for column in ("run", "largest difference (points)", "target", "images that differ"):
        table.add_column(column, justify="left" if column in {"run", "target"} else "right")
    for one in repeated:
        numbers = ("—", one.failure, "—") if one.failure else (f"{one.worst:.2f}", one.target, f"{one.images:,}")
        table.add_row(one.record.spec.title, *numbers)
    console = console_on()
    console.print(table)
    if others := sum(not one.same_machine for one in repeated):
        console.print(
            f"note: {many(others, 'run was', 'runs were')} made with other packages or on another processor; "
            f"small differences are expected",
            style="dim",
        )
    return [fault for one in repeated if (fault := one.fault(tolerance))]
