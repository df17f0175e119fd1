"""The parts of a finished model's record. tests/api/test_evaluate.py has whole records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError
from fergen_bench.finished.record import digest_of_predictions, name_of, ordered, subject_of_file
from fergen_bench.records.record import Predictions


@pytest.mark.parametrize(
    ("given", "name"), [("my model", "my-model"), ("GPT-4V", "GPT-4V"), ("a/b.onnx", "a-b.onnx"), ("-x-", "x")]
)
def test_a_name_is_made_fit_for_files(given: str, name: str) -> None:
    assert name_of(given) == name


@pytest.mark.parametrize("given", ["", "///", "x" * 200])
def test_a_name_of_which_nothing_is_left_is_refused(given: str) -> None:
    with pytest.raises(BenchError, match="cannot be a name; use up to 100 letters"):
        name_of(given)


def test_the_classes_of_a_file_are_a_parameter_where_they_are_stated() -> None:
    file: Any = SimpleNamespace(path="mine.csv", scored=False, digest="d1")
    plain, stated = (subject_of_file(file, "mine", classes) for classes in (None, ("anger", "fear")))
    assert plain.parameters == {"predictions": "mine.csv", "scores": False}
    assert stated.parameters == {**plain.parameters, "classes": ("anger", "fear")}
    assert not plain.is_callable
    assert not plain.has_scores


def test_a_callable_is_identified_by_what_it_predicts() -> None:
    labels, kept = np.zeros(2, int), np.zeros(2, bool)
    one, other = (Predictions(np.full((2, 7), value), labels, kept) for value in (0.0, 1.0))
    digests = [digest_of_predictions(found) for found in ({"a": one}, {"a": other}, {"b": one}, {"a": one})]
    assert digests[0] == digests[3]
    assert len(set(digests)) == 3


def test_targets_are_in_the_order_of_the_suite() -> None:
    assert ordered(["c", "a"], Suite("s", ("a", "b", "c"), backbone="x", trunk="y", recipe="small")) == ["a", "c"]
