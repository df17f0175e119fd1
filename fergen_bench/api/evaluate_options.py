"""The options of an evaluation, each declared once: a flag of `fergen-bench evaluate` and a keyword of `evaluate`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fergen_bench.api.options import option
from fergen_bench.error import BenchError

CONVENTION = ("classes", "colour", "size", "filter", "range", "mean", "deviation", "margin", "layout", "scores")
"""The options that state a part of a model's convention."""


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `fergen-bench evaluate` and the keywords of `fergen_bench.evaluate`, besides the model.

    Lists become tuples, and one name stands for a list of one.
    """

    predictions: Path | None = option(  # noqa: RUF009 - returns a field
        None,
        "--predictions",
        "In place of a model: a CSV or Parquet file with the id of each image and an expression, or a score per class.",
    )
    suite: str | None = option(
        None, "--suite -s", "The suite of domains. Default: that of bench.toml, then synth5.", completes="suite"
    )
    targets: tuple[str, ...] | None = option(None, "--targets", "Score only these domains. Default: all of the suite.")
    name: str | None = option(None, "--name", "The name in tables. Default: the name of the file.")
    trained_on: tuple[str, ...] | None = option(
        None, "--trained-on", "Datasets or domains that the model was trained on. Default: unknown."
    )
    pretrained_on: tuple[str, ...] | None = option(
        None, "--pretrained-on", "Datasets or domains of its pre-training; none if there were none. Default: unknown."
    )
    claims: Mapping[str, str] = option(
        {}, "--claims", "Accuracies to check: rafdb=92.2, or rafdb=92.2@3068 with the number of images."
    )
    partial: bool = option(
        False, "--partial", "Also score targets of which some images have no prediction, and mark them."
    )
    find_convention: str | None = option(
        None,
        "--find-convention",
        "Try the usual conventions on the training images of this domain; what is stated is checked.",
        metavar="DOMAIN",
    )
    classes: tuple[str, ...] | None = option(
        None,
        "--classes",
        "The classes in the order of the outputs: anger,disgust,…; - for an output of no class; or an order: fer2013.",
    )
    colour: str | None = option(None, "--colour", "Order of the colours.", choices=("rgb", "bgr", "grey"))
    size: str | int | tuple[int, int] | None = option(
        None, "--size", "Input size in pixels: 224, or 48x64 for height and width."
    )
    filter: str | None = option(
        None, "--filter", "Filter of resizing.", choices=("nearest", "bilinear", "bicubic", "area", "lanczos")
    )
    range: str | None = option(
        None,
        "--range",
        "Values of black and white before the normalisation.",
        choices=("0-1", "0-255", "per-image", "uint8"),
    )
    mean: tuple[float, ...] | None = option(None, "--mean", "Mean that is subtracted: one number, or one per channel.")
    deviation: tuple[float, ...] | None = option(
        None, "--deviation", "Standard deviation that is divided by: one number, or one per channel."
    )
    margin: float | None = option(
        None, "--margin", "Share of the side to add around each image; below 0, to cut off.", above=-0.46
    )
    layout: str | None = option(None, "--layout", "Order of the axes of a batch.", choices=("nchw", "nhwc"))
    scores: str | None = option(
        None, "--scores", "Kind of the outputs. Default: by their values.", choices=("logits", "probabilities")
    )
    output: str | None = option(None, "--output", "Name of the output with the scores, if a model has several.")
    device: str | None = option(None, "--device", "auto, cpu, cuda or cuda:1. Default: that of bench.toml, then auto.")
    rerun: bool = option(False, "--rerun", "Score again what has a record.")
    include_near_duplicates: bool = option(
        False,
        "--include-near-duplicates",
        "Also score images that have a near-duplicate among the training images, where these are prepared here.",
    )
    track: bool = option(True, "--no-track", "Do not mirror the record to MLflow.", negates=True)

    def __post_init__(self) -> None:
        for name in ("targets", "trained_on", "pretrained_on", "classes", "mean", "deviation"):
            value = getattr(self, name)
            if isinstance(value, str | int | float):
                object.__setattr__(self, name, (value,))
            elif value is not None:
                object.__setattr__(self, name, tuple(value))
        for name in ("trained_on", "pretrained_on"):
            if getattr(self, name) in {("none",), ("nothing",)}:
                object.__setattr__(self, name, ())
            elif getattr(self, name) in {("unknown",), ()} and name == "trained_on":
                object.__setattr__(self, name, None)
        if self.predictions is not None:
            object.__setattr__(self, "predictions", Path(self.predictions))
        object.__setattr__(self, "size", _size(self.size))
        if self.claims is None:
            object.__setattr__(self, "claims", {})
        if isinstance(self.claims, str) or not isinstance(self.claims, Mapping):
            raise BenchError(f"claims: {self.claims!r} is not a mapping. Give a dictionary such as {{'rafdb': 92.2}}.")

    @property
    def stated(self) -> dict[str, Any]:
        """The parts of the convention that are stated, by the names of the fields of a `Convention`."""
        fields = {name: getattr(self, name) for name in CONVENTION if getattr(self, name) is not None}
        if "scores" in fields:
            fields["output"] = fields.pop("scores")
        if len(fields.get("classes", ())) == 1:  # a known order, such as fer2013
            fields["classes"] = fields["classes"][0]
        return fields


def _size(value: Any) -> Any:
    if not isinstance(value, str):
        return tuple(value) if isinstance(value, Iterable) else value
    sides = value.lower().replace("×", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise BenchError(f"--size: {value!r} is not a size; write 224, or 48x64 for height and width")
    return tuple(int(side) for side in (sides * 2)[:2])
