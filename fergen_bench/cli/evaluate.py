"""The command `evaluate`: parse its options, call the API, print the scores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fergen_bench.api.evaluate_options import EvaluateOptions
from fergen_bench.cli.console import console_on
from fergen_bench.cli.parameters import negated, options_of
from fergen_bench.wording import near

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from fergen_bench.api.evaluate import Evaluation

EXAMPLES = """
\b
Examples:
  fergen-bench evaluate model.onnx --suite wild5 --classes fer2013 --trained-on rafdb
  fergen-bench evaluate model.onnx --suite wild5 --find-convention rafdb --claims rafdb=92.2
  fergen-bench evaluate timm:resnet18//data/fer.pth --suite wild5 --classes affectnet-7 --size 112
  fergen-bench evaluate --predictions mine.csv --suite wild5 --name GPT-4V
"""


@click.command(epilog=EXAMPLES)
@click.argument("model", required=False)
@options_of(EvaluateOptions)
def evaluate(model: str | None, **values: Any) -> None:
    """Score a finished model, or a file of predictions, on the targets of a suite. Nothing is trained.

    MODEL: an ONNX file, or a network with the file of its weights, such as timm:resnet18//data/fer.pth. No code of a
    file is executed. The record stands in the report in a section of finished models.
    """
    from fergen_bench.api import evaluate as api
    from fergen_bench.api.display import Bars
    from fergen_bench.experiment.project import find_project

    console, project = console_on(stderr=True), find_project()
    with Bars(console) as shown:
        done = api.execute(model, EvaluateOptions(**negated(values, EvaluateOptions)), project, shown)
    for warning in done.warnings:
        console.print(f"warning: {warning}", style="yellow")
    _show(done, console_on())


def _show(done: Evaluation, console: Console) -> None:
    """Print the scores of each target, and the verdicts on claims."""
    from fergen_bench.api.evaluate import scored_in_words

    spec = done.record.spec
    console.print(_scores(done))
    if done.convention is not None:
        console.print(f"Convention: {done.convention.whole}", highlight=False)
    console.print(f"{scored_in_words(done.record)}; {spec.exposure}", highlight=False)
    if done.verdicts:
        console.print(_claims(done))
    record = spec.path(done.results.folder)
    console.print(f"Record: {near(record)}", soft_wrap=True)
    console.print(f"The report, with a section of finished models: fergen-bench report --suite {spec.suite}")


def _scores(done: Evaluation) -> Table:
    from rich.table import Table

    from fergen_bench.report.rounding import tenth
    from fergen_bench.report.tables import number

    kind = "synthetic faces" if done.record.spec.synthetic else "real faces"
    table = Table(title=f"{done.record.spec.label} on {done.record.spec.suite} ({kind}, %)", title_justify="left")
    for column in ("target", "seen in training", "images", "accuracy", "95\u00a0%", "balanced accuracy", "macro F1"):
        table.add_column(column, justify="left" if column in {"target", "seen in training"} else "right")
    words = {"source": "in-domain"}
    for row in done.cells.itertuples():
        known = row.low == row.low  # nan where nothing varies
        ends = f"{tenth(row.low)}–{tenth(row.high)}" if known else "—"
        relation = words.get(row.relation, row.relation)
        said = (
            relation if row.mark in {"", relation} else row.mark if relation in row.mark else f"{relation}, {row.mark}"
        )
        scores = (number(value) for value in (row.balanced_accuracy, row.macro_f1))
        table.add_row(row.target, said, f"{row.faces:,}", number(row.accuracy), ends, *scores)
    return table


def _claims(done: Evaluation) -> Table:
    from rich.table import Table

    from fergen_bench.report.rounding import tenth
    from fergen_bench.report.tables import number

    table = Table(title="Claims (accuracy, %)", title_justify="left")
    for column in ("target", "claimed", "measured", "95\u00a0%", "images", "verdict"):
        table.add_column(column, justify="left" if column in {"target", "verdict"} else "right")
    for one in done.verdicts:
        ends = f"{tenth(one.low)}–{tenth(one.high)}" if one.images else "—"
        answer = f"{one.answer} ({one.reason})" if one.reason else one.answer
        claimed = f"{one.claim.accuracy:g}"
        table.add_row(one.claim.target, claimed, number(one.measured), ends, f"{one.images:,}", answer)
    return table
