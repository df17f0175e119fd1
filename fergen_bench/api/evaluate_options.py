"""The options of an evaluation, each declared once: a flag of `fergen-bench evaluate` and a keyword of `evaluate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fergen_bench.api.convention_options import ConventionOptions
from fergen_bench.api.options import option
from fergen_bench.error import BenchError


@dataclass(frozen=True)
class EvaluateOptions(ConventionOptions):
    """The options of `fergen-bench evaluate` and the keywords of `fergen_bench.evaluate`, besides the model.

    Lists become tuples, and one name stands for a list of one.
    """

    margin: float | None = option(
        None, "--margin", "Share of the side to add around each image; below 0, to cut off.", above=-0.46
    )
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
    device: str | None = option(None, "--device", "auto, cpu, cuda or cuda:1. Default: that of bench.toml, then auto.")
    rerun: bool = option(False, "--rerun", "Score again what has a record.")
    include_near_duplicates: bool = option(
        False,
        "--include-near-duplicates",
        "Also score images that have a near-duplicate among the training images, where these are prepared here.",
    )
    track: bool = option(True, "--no-track", "Do not mirror the record to MLflow.", negates=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._make_tuples("targets", "trained_on", "pretrained_on")
        for name in ("trained_on", "pretrained_on"):
            if getattr(self, name) in {("none",), ("nothing",)}:
                object.__setattr__(self, name, ())
            elif getattr(self, name) in {("unknown",), ()} and name == "trained_on":
                object.__setattr__(self, name, None)
        if self.predictions is not None:
            object.__setattr__(self, "predictions", Path(self.predictions))
        if self.claims is None:
            object.__setattr__(self, "claims", {})
        if isinstance(self.claims, str) or not isinstance(self.claims, Mapping):
            raise BenchError(f"claims: {self.claims!r} is not a mapping. Give a dictionary such as {{'rafdb': 92.2}}.")

    @property
    def stated(self) -> dict[str, Any]:
        """The parts of the convention that are stated, by the names of the fields of a `Convention`."""
        return super().stated | ({} if self.margin is None else {"margin": self.margin})
