"""The commands that use kept models: `export` and `predict`."""

from __future__ import annotations

from pathlib import Path

import click

from fergen_bench.cli.console import console_on
from fergen_bench.cli.parameters import weights_option
from fergen_bench.wording import many, near

EXPORT_EXAMPLES = """
\b
Examples:
  fergen-bench run --method linear_probe --sources web --seeds 0 --keep-models
  fergen-bench export 3f9a12cc40e7 --to model.onnx
  fergen-bench export results/runs/synth5/linear_probe/web-s0-3f9a12cc40e7.json --to model.onnx
"""


@click.command(epilog=EXPORT_EXAMPLES)
@click.argument("record")
@click.option("--to", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The file to write.")
@weights_option
def export(record: str, to: Path, weights: list[tuple[str, str]]) -> None:
    """Write the kept model of a run as an ONNX file, with its preprocessing inside.

    RECORD: the record of a run with --keep-models, or its key. The file takes images of any size, uint8 RGB (batch,
    height, width, 3), and returns probabilities.
    """
    from fergen_bench.api.display import busy
    from fergen_bench.api.export import write
    from fergen_bench.experiment.project import find_project

    with busy(console_on(stderr=True), "exporting"):
        written = write(find_project(), record, to, dict(weights))
    console = console_on()
    console.print(
        f"{near(written.path)} is written: {written.record.spec.title}. Its logits differ from those of torch by "
        f"{written.difference:.1e} at most, on {many(written.images, 'image')}.",
        soft_wrap=True,
    )
    if written.calibration is None:
        console.print(
            "Its probabilities are not calibrated: the record has no predictions on images held out of its sources. "
            "Runs with --selection source-val have them, except those of methods that learn from these images, too.",
            soft_wrap=True,
        )
    else:
        temperature, held = written.calibration
        console.print(
            f"Its probabilities are calibrated with the temperature {temperature:.2f}, fitted to {many(held, 'image')} "
            f"held out of its sources.",
            soft_wrap=True,
        )
