"""The types of parameters are read from annotations, and values are converted to them."""

from __future__ import annotations

import ast
from typing import Any, Literal

import pytest

from fergen_bench.error import BenchError
from fergen_bench.experiment.parameter_types import Parameter, UnsupportedTypeError, type_of


def read(annotation: str) -> Any:
    return type_of(ast.parse(annotation, mode="eval").body)


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [("int", int), ("float | None", float | None), ("tuple[int, ...]", tuple[int, ...]), ("Backbone", str)],
)
def test_an_annotation_gives_a_type(annotation: str, kind: object) -> None:
    assert read(annotation) == kind
    assert read("Literal['a', 'b']") == Literal["a", "b"]


@pytest.mark.parametrize("annotation", ["list[int]", "dict", "tuple[File, ...]", "os.PathLike"])
def test_other_annotations_are_refused(annotation: str) -> None:
    with pytest.raises(UnsupportedTypeError):
        read(annotation)


def test_a_value_of_another_type_is_refused_with_its_place() -> None:
    rate = Parameter("rate", "float", 0.1, "of the trunk")
    assert rate.convert(0.5, "--set") == 0.5
    with pytest.raises(BenchError, match=r"--set: rate takes float, not 'much'"):
        rate.convert("much", "--set")


def test_parameters_name_networks_and_files() -> None:
    assert Parameter("backbone", "Backbone | None", None, "").network == "Backbone"
    assert Parameter("weights", "File", "", "").is_file
    assert Parameter("rate", "float", 0.1, "").network is None
