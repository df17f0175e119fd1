"""Datasets that are recognised by their counts, and cautions about few faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import NAMES, dataset
from fergen_bench.datasets.verdict import cautions, cautions_of, identify, is_another, verdict


def known(name: str) -> dict[str, dict[str, int]]:
    return {split: dict(counts) for split, counts in dataset(name, "test").expected.items()}


@pytest.mark.parametrize("name", ["rafdb", "ferplus", "affectnet", "mma", "mma-expw", "fer2013"])
def test_the_owners_counts_are_recognised(name: str) -> None:
    assert verdict(dataset(name, "test"), known(name)).level == "ok"
    found = identify(known(name))
    assert found is not None
    assert found.name == name


def test_sfew_is_recognised_by_the_total_of_train_and_the_classes_of_val() -> None:
    train = dict.fromkeys(EXPRESSIONS, 127) | {"neutral": 129}
    found = {"train": train, "test": known("sfew")["test"]}
    assert verdict(dataset("sfew", "test"), found).level == "ok"
    train["fear"] -= 1
    assert "train has 890 faces where 891 are expected" in verdict(dataset("sfew", "test"), found).what


def test_a_pack_under_a_wrong_name_is_identified() -> None:
    finding = verdict(dataset("ferplus", "test"), known("rafdb"))
    assert finding.level == "error"
    assert finding.what.startswith("this is RAF-DB, not FERPlus")


def test_an_augmented_training_split_is_called_so() -> None:
    found = known("ferplus")
    found["train"] = {name: 2 * count for name, count in found["train"].items()}
    assert verdict(dataset("ferplus", "test"), found).what == (
        "train looks augmented: 49,882 faces where 24,941 are expected"
    )


@pytest.mark.parametrize(
    ("name", "change", "another"),
    [
        ("rafdb", lambda found: found.pop("train"), False),  # the test part alone is a part
        ("affectnet", lambda found: found.pop("train"), False),
        ("rafdb", lambda found: [faces.update(happiness=900) for faces in found.values()], False),
        ("rafdb", lambda found: [faces.update(dict.fromkeys(EXPRESSIONS, 200)) for faces in found.values()], True),
        ("rafdb", lambda found: [faces.update(fear=0) for faces in found.values()], True),
        ("rafdb", lambda found: found["test"].update(fear=0), False),
        ("sfew", lambda found: found.update(train=dict.fromkeys(EXPRESSIONS, 60), test={}), True),
        ("sfew", lambda found: found.update(train=dict.fromkeys(EXPRESSIONS, 70), test={}), False),
        ("expw", lambda found: found.update(train=found.pop("all")), False),
    ],
)
def test_less_than_half_of_every_split_or_a_class_without_faces_is_another(
    name: str, change: Callable[[Any], object], another: bool
) -> None:
    found = known(name)
    change(found)
    assert is_another(found, dataset(name, "test").expected) is another


def test_what_nothing_is_known_of_is_never_another() -> None:
    assert not is_another({"train": {}}, {})


def test_the_same_number_of_faces_with_other_labels_is_called_so() -> None:
    found = known("rafdb")
    found["test"]["fear"] += 10
    found["test"]["anger"] -= 10
    assert "test has the expected 3,068 faces, but other labels" in verdict(dataset("rafdb", "test"), found).what


def test_what_is_missing_is_counted() -> None:
    found = known("mma")
    del found["val"]
    assert verdict(dataset("mma", "test"), found).what == "val is missing"
    found = known("rafdb")
    found["train"]["fear"] -= 1
    assert verdict(dataset("rafdb", "test"), found).what == "train has 12,270 faces where 12,271 are expected"


def test_a_split_that_the_dataset_lacks_is_reported() -> None:
    found = known("rafdb") | {"val": dict.fromkeys(EXPRESSIONS, 1)}
    assert "there is a split val, which RAF-DB does not have" in verdict(dataset("rafdb", "test"), found).what


def test_a_dataset_without_its_owners_split_is_known_by_all_its_faces() -> None:
    whole = known("expw")["all"]
    train = {name: count // 2 for name, count in whole.items()}
    found = {"train": train, "test": {name: count - train[name] for name, count in whole.items()}}
    assert verdict(dataset("expw", "test"), found, official=False).level == "ok"


def test_every_dataset_has_counts_of_the_seven_expressions_or_of_all() -> None:
    for name in NAMES:
        for counts in dataset(name, "test").expected.values():
            assert set(counts) in ({"all"}, set(EXPRESSIONS)), name


def test_what_profiles_score_is_looked_at_too() -> None:
    counts = {"train": dict.fromkeys(EXPRESSIONS, 19), "test": dict.fromkeys(EXPRESSIONS, 20)}
    assert cautions(counts, {}, None) == []
    (finding,) = cautions(counts, {"cafe": "train"}, None)
    assert finding.what.startswith("the train split, which is scored, has fewer than 20 faces of surprise (19), fear")
    (finding,) = cautions({"train": counts["train"]}, {}, None)
    assert finding.what == "the test split, which is scored, is empty: this domain can be a source, but not a target"


@pytest.mark.parametrize(
    ("few", "remedy"),
    [
        ({}, "its owner's copy does not have more, so the recall of these expressions is that of a few faces"),
        ({"fear": 3}, "its owner's copy has 83 of fear; complete this one, or trust no score of these expressions"),
    ],
)
def test_the_advice_never_adds_faces_to_an_official_split(few: dict[str, int], remedy: str) -> None:
    counts = known("ferplus")
    counts["test"] |= few
    about = {"dataset": "ferplus", "counts": counts}
    (finding,) = cautions_of(about)
    shown = f"fear ({few['fear']}), disgust (18)" if few else "disgust (18)"
    assert finding.what == f"the test split, which is scored, has fewer than 20 faces of {shown}: {remedy}"
    (finding,) = cautions_of({**about, "expected": {}})
    assert finding.what.endswith(f"{shown}: trust no score of these expressions")
    counts["test"] = known("ferplus")["test"] | {"disgust": 20}
    counts["train"]["anger"] = 0
    (finding,) = cautions_of(about)
    assert finding.what.startswith("the train split lacks faces of anger: complete this copy, or learn from it with")


def test_a_drawn_split_can_be_enlarged() -> None:
    counts = {"train": dict.fromkeys(EXPRESSIONS, 19), "test": dict.fromkeys(EXPRESSIONS, 19)}
    about = {"dataset": "folder", "counts": counts, "splits": "0.2 of each expression, seed 0"}
    (finding,) = cautions_of(about)
    assert finding.what.endswith("add some, or raise test_share in bench.toml, or trust no score of these expressions")
    (finding,) = cautions_of({"counts": counts, "synthetic": True})
    assert finding.what.endswith("neutral (19): trust no score of these expressions")
