"""The options that state the convention of a finished model, each declared once for `evaluate` and `predict`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from fergen_bench.api.options import option
from fergen_bench.error import BenchError

CONVENTION = ("classes", "colour", "size", "filter", "range", "mean", "deviation", "layout", "scores")
"""The options that state a part of a model's convention."""


@dataclass(frozen=True)
class ConventionOptions:
    """The parts of a finished model's convention that the user states. Lists become tuples."""

    classes: tuple[str, ...] | None = option(
        None,
        "--classes",
        "The classes in the order of the outputs: anger,disgust,…; - for an output of no class; or an order: fer2013, "
        "affectnet-7.",
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
    layout: str | None = option(None, "--layout", "Order of the axes of a batch.", choices=("nchw", "nhwc"))
    scores: str | None = option(
        None, "--scores", "Kind of the outputs. Default: by their values.", choices=("logits", "probabilities")
    )
    output: str | None = option(None, "--output", "Name of the output with the scores, if a model has several.")

    def __post_init__(self) -> None:
        self._make_tuples("classes", "mean", "deviation")
        object.__setattr__(self, "size", _size(self.size))

    def _make_tuples(self, *names: str) -> None:
        """Make tuples of the values of these fields; one value stands for a list of one."""
        for name in names:
            value = getattr(self, name)
            if isinstance(value, str | int | float):
                object.__setattr__(self, name, (value,))
            elif value is not None:
                object.__setattr__(self, name, tuple(value))

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
