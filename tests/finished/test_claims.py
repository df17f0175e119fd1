"""Claimed and measured accuracies."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fergen_bench.data.facts import DataFacts
from fergen_bench.error import BenchError
from fergen_bench.finished.claims import Claim, parse_claims, verdict
from fergen_bench.records.record import Cell


def cell(right: int, images: int, **changes: Any) -> Cell:
    confusion = np.zeros((7, 7), int)
    confusion[0, 0], confusion[1, 0] = right, images - right
    return replace(Cell("t", "f", "unseen", confusion.tolist()), **changes)


@pytest.mark.parametrize(
    ("claimed", "answer", "reason"),
    [
        (80.0, "reproduced", ""),
        (82.4, "reproduced", ""),
        (82.5, "not reproduced", ""),
        (94.8, "not reproduced", ""),
        (70.0, "reproduced", "the measurement is higher"),
    ],
)
def test_the_interval_decides(claimed: float, answer: str, reason: str) -> None:
    # Wilson's interval of 800 of 1000 is 77.41 to 82.36.
    found = verdict(Claim("t", claimed), cell(800, 1000), None)
    assert (found.answer, found.reason) == (answer, reason)
    assert (found.measured, found.images) == (80.0, 1000)
    assert (found.low, found.high) == (pytest.approx(77.41, abs=0.01), pytest.approx(82.36, abs=0.01))


@pytest.mark.parametrize(
    ("claim", "changes", "facts", "reason"),
    [
        (Claim("t", 80.0, 999), {}, {}, "other n: 999 images are claimed, and 1,000 are scored"),
        (Claim("t", 80.0), {"absent": 5}, {}, "other n: only 1,000 of 1,005 images have a prediction"),
        (Claim("t", 80.0), {}, {"complete": False, "differs": "test has 1,000"}, "other n: this copy differs"),
        (Claim("t", 80.0), {"excluded": "abc"}, {}, "other n: near-duplicates are left out"),
        (Claim("t", 80.0), {}, {"label_rule": "unanimous"}, "other label rule: unanimous instead of majority"),
        (Claim("t", 80.0), {}, {"label_map": {"x": ""}, "complete": True}, "other label rule: labels were mapped"),
    ],
)
def test_other_images_or_labels_cannot_be_decided(
    claim: Claim, changes: dict[str, Any], facts: dict[str, Any], reason: str
) -> None:
    found = verdict(claim, cell(800, 1000, **changes), DataFacts(**facts))
    assert found.answer == "cannot be decided"
    assert found.reason.startswith(reason)


def test_the_number_of_images_settles_another_copy() -> None:
    facts = DataFacts(complete=False)
    assert verdict(Claim("t", 80.0, 1000), cell(800, 1000), facts).answer == "reproduced"
    assert verdict(Claim("t", 80.0), cell(800, 1000), DataFacts(label_rule="majority")).answer == "reproduced"


def test_a_target_without_a_score() -> None:
    found = verdict(Claim("t", 80.0), None, None)
    assert (found.answer, found.reason) == ("cannot be decided", "the target was not scored")
    assert math.isnan(found.measured)


def test_claims_are_per_cent() -> None:
    assert parse_claims({"a": 92.2, "b": "91.5%", "c": "88@3068"}, ("a", "b", "c")) == [
        Claim("a", 92.2),
        Claim("b", 91.5),
        Claim("c", 88.0, 3068),
    ]
    for value, words in (("0.92", "is a share; write it in per cent: 92"), ("x", "not an accuracy"), ("101", "not an")):
        with pytest.raises(BenchError, match=words):
            parse_claims({"a": value}, ("a",))
    with pytest.raises(BenchError, match="'rafbd' is not among the targets; did you mean rafdb"):
        parse_claims({"rafbd": 90}, ("rafdb",))
