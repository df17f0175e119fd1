"""The commands that use fitted models: `export` and `predict`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fergen_bench.api.convention_options import ConventionOptions
from fergen_bench.api.options import keywords
from fergen_bench.cli.console import console_on
from fergen_bench.cli.parameters import FilePath, NumberRange, options_of, weights_option
from fergen_bench.error import BenchError
from fergen_bench.wording import many, near

if TYPE_CHECKING:
    import pandas as pd

EXPORT_EXAMPLES = """
\b
Examples:
  fergen-bench run --method linear_probe --sources web --seeds 0 --keep-models
  fergen-bench export 3f9a12cc40e7 --to model.onnx
  fergen-bench export results/runs/synth5/linear_probe/web-s0-3f9a12cc40e7.json --to model.onnx
"""


@click.command(epilog=EXPORT_EXAMPLES)
@click.argument("record")
@click.option("--to", required=True, type=FilePath(dir_okay=False), help="The file to write.")
@weights_option
def export(record: str, to: Path, weights: list[tuple[str, str]]) -> None:
    """Write the checkpoint of a run as an ONNX file, with its preprocessing inside.

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


PREDICT_EXAMPLES = """
\b
Examples:
  fergen-bench predict photo.jpg --model model.onnx
  fergen-bench predict holiday/ clip.mp4 --model 3f9a12cc40e7 --at-least 0.6 --to faces.csv --show seen
  fergen-bench predict photo.jpg --model other.onnx --classes affectnet-7 --mean 0.5 --deviation 0.5
  fergen-bench predict crops/ --model model.onnx --crop none --to faces.json
"""


@click.command(epilog=PREDICT_EXAMPLES)
@click.argument("paths", nargs=-1, required=True, type=FilePath())
@click.option(
    "--model", "-m", required=True, help="An ONNX file, or timm:NAME//path; or a record with a checkpoint, or its key."
)
@click.option(
    "--crop",
    type=click.Choice(["faces", "none"]),
    default="faces",
    show_default=True,
    help="Find the faces; or take every picture as a face.",
)
@click.option(
    "--margin",
    type=NumberRange(-0.3, 1),
    help="Share of its side added on each side of a face. Default: that of the training images.",
)
@click.option(
    "--at-least",
    type=NumberRange(0, 1),
    default=0.0,
    help="Lowest probability of an expression; faces below are uncertain.",
)
@click.option(
    "--per-second",
    type=NumberRange(0.01, 1000),
    default=5.0,
    show_default=True,
    help="Pictures of each second of a video that are answered.",
)
@click.option("--to", type=FilePath(dir_okay=False), help="Write the table: .csv or .json.")
@click.option(
    "--show",
    type=FilePath(file_okay=False),
    help="Write pictures with boxes and expressions to this folder, and for videos the expressions over time.",
)
@click.option("--device", help="auto, cpu, cuda or cuda:1. Default: that of bench.toml, then auto.")
@weights_option
@options_of(ConventionOptions)
def predict(
    paths: tuple[Path, ...],
    model: str,
    to: Path | None,
    device: str | None,
    weights: list[tuple[str, str]],
    **options: Any,
) -> None:
    """Predict the expressions of the faces in photographs and videos.

    PATHS: photographs, videos, or folders of them. One row per face: file, box, expression, probabilities. Exit status
    1 where a file could not be read, or not to its end; the others are answered.
    """
    from fergen_bench.api.display import Bars, busy
    from fergen_bench.api.predict import Request, named_files, open_classifier, predicted
    from fergen_bench.experiment.project import find_project

    if to is not None and to.suffix not in {".csv", ".json"}:
        raise BenchError(f"--to: {to} must end in .csv or .json")
    stated = ConventionOptions(**{name: options.pop(name) for name in keywords(ConventionOptions)})
    log, request = console_on(stderr=True), Request(**options)
    files = named_files(paths, request)
    with busy(log, "opening the model"):
        classifier = open_classifier(find_project(), model, device, dict(weights), request.crop, stated)
    with Bars(log) as shown:
        for note in classifier.notes:
            shown.note(note)
        done = predicted(files, classifier, request, shown, shown.say)
    if to is None:
        _show_faces(done.frame)
    else:
        _write_faces(done.frame, to)
        log.print(f"{many(len(done.frame), 'face')} of {many(done.files, 'file')} in {near(to)}", soft_wrap=True)
    if done.shown:
        log.print(f"{many(len(done.shown), 'picture')} in {near(done.shown[0].parent)}", soft_wrap=True)
    sys.exit(1 if done.unread else 0)


def _show_faces(frame: pd.DataFrame) -> None:
    """Print one line per face, with the three most probable expressions."""
    from fergen_bench.data.labels import EXPRESSIONS

    console = console_on()
    for _, row in frame.iterrows():
        place = row.file if row.seconds != row.seconds else f"{row.file}, {row.seconds:.1f} s"
        likely = sorted(EXPRESSIONS, key=lambda name: -row[name])[:3]
        shares = ", ".join(f"{name} {100 * row[name]:.0f} %" for name in likely)
        box = f"{row.left},{row.top} {row.width} × {row.height}"
        console.print(f"{place}, face {row.face} at {box}: {row.expression} ({shares})", soft_wrap=True)


def _write_faces(frame: pd.DataFrame, to: Path) -> None:
    """Write one row per face as CSV or JSON, atomically."""
    from fergen_bench.files.atomic import atomically

    to.parent.mkdir(parents=True, exist_ok=True)
    with atomically(to) as draft:
        if to.suffix == ".json":
            frame.to_json(draft, orient="records", indent=1, double_precision=6)
        else:
            frame.to_csv(draft, index=False, float_format="%.6g")
