"""Open a finished model under what its file and the user state of its convention."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fergen_bench.error import BenchError
from fergen_bench.finished.convention import Convention, checked
from fergen_bench.finished.model import FinishedModel, check_classes, open_model
from fergen_bench.wording import listed

NORMALISATION = frozenset({"range", "mean", "deviation"})
"""The parts of a convention that decide how pixels become values."""


def open_stated(
    value: str | Path | Callable[..., Any],
    own: Mapping[str, Any],
    place: str,
    *,
    device: str = "cpu",
    threads: int = 1,
    output: str | None = None,
) -> tuple[FinishedModel, dict[str, Any]]:
    """Open a model, and compare what the user states of its convention with its file.

    Args:
        value: The model; see `open_model`.
        own: The fields of a `Convention` that the user states.
        place: The command or function, for errors.
        device: cpu, cuda or cuda:1.
        threads: CPU threads.
        output: The name of the output with the scores, for an ONNX file with several.

    Returns:
        The model, and the stated fields: those of the user, and of its file where the user states nothing.

    Raises:
        BenchError: The model cannot be opened, or a field is invalid or contradicts the model.
    """
    fields = checked(own, place)
    model = open_model(value, device=device, threads=threads, output=output).at_size(fields.get("size"))
    stated = {**model.stated, **fields}
    model.check(stated)
    if model.outputs is not None and "classes" in stated:
        check_classes(model, stated["classes"], model.outputs)
    return model, stated


def stated_convention(model: FinishedModel, stated: Mapping[str, Any]) -> Convention:
    """Return the convention of the stated fields, with defaults for the rest.

    Raises:
        BenchError: The order of the classes is not stated.
    """
    if "classes" not in stated:
        raise BenchError(
            f"{model.value}: the order of its classes is not stated; name it with --classes, such as "
            f"anger,disgust,fear,happiness,sadness,surprise,neutral, or find it with fergen-bench evaluate "
            f"--find-convention DOMAIN"
        )
    return model.fitting(stated)


def assumed(model: FinishedModel, stated: Mapping[str, Any], convention: Convention) -> list[str]:
    """Return a sentence where nothing states the normalisation of a model; it names what is assumed instead."""
    if model.kind != "onnx" or NORMALISATION & stated.keys():
        return []
    return [
        f"assumed, since nothing states it: {convention.whole}. State another one with --range, --mean and "
        f"--deviation, or compare conventions with fergen-bench evaluate --find-convention DOMAIN"
    ]


def left_over(convention: Convention) -> list[str]:
    """Return sentences about classes that are not expressions, and expressions without a class."""
    found = []
    if convention.dropped:
        found.append(f"dropped, and its share given to the others: {listed(convention.dropped)}")
    if convention.lacking:
        found.append(f"the model has no class for {listed(convention.lacking)}, which it never predicts")
    return found
