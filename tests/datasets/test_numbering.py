"""Labels that are numbers: what they mean, and what is refused because they may mean something else."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import affectnet, rafdb
from fergen_bench.datasets.numbering import LabelMap, check_numbers, label_map, plain
from fergen_bench.datasets.reader import read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError

ALPHABETICAL = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
RAF = rafdb.DATASET.expected


def settings(**given: Any) -> DomainSettings:
    return DomainSettings(path=Path(), **given)


def numbered(order: tuple[str, ...], first: int, share: float = 1) -> dict[str, Counter[str]]:
    """RAF-DB's counts under another numbering."""
    return {
        split: Counter({str(first + place): round(share * counts[name]) for place, name in enumerate(order)})
        for split, counts in RAF.items()
    }


def check(found: dict[str, Counter[str]], official: dict[str, str], **given: Any) -> LabelMap:
    used = label_map(official, settings(**given))
    check_numbers("list.txt", "RAF-DB", found, used, RAF, settings(**given))
    return used


def test_a_number_is_the_same_however_it_is_written() -> None:
    assert [plain(text) for text in (" 3", "03", "3.0", "0", "3.5", "-1", "x", "٣")] == [
        *("3", "3", "3", "0", "3.5", "-1", "x", "٣")
    ]


def test_named_numberings() -> None:
    meant = label_map(rafdb.LABELS, settings(numbering="0-based"))
    assert meant == {str(place): name for place, name in enumerate(EXPRESSIONS)}
    assert label_map({}, settings(numbering="alphabetical-1-based"))["5"] == "neutral"
    assert label_map({}, settings(numbering="affectnet-0-based", labels={"7": "neutral"}))["7"] == "neutral"
    assert label_map({}, settings(numbering="affectnet-0-based"))["7"] == ""
    with pytest.raises(BenchError, match="numbering: '0-based' is not a known numbering"):
        label_map({}, settings(numbering="0-based"))


def test_the_datasets_own_numbers_pass() -> None:
    check(numbered(EXPRESSIONS, 1), rafdb.LABELS)
    check({"train": Counter(dict.fromkeys("1234567", 100))}, rafdb.LABELS)  # a balanced part proves nothing
    check({"train": Counter(dict.fromkeys("123", 1000))}, rafdb.LABELS)


@pytest.mark.parametrize("share", [1, 0.1])
def test_another_order_is_recognised_by_its_counts_and_named(share: float) -> None:
    found = numbered(ALPHABETICAL, 1, share)
    with pytest.raises(BenchError, match=r"By the counts .* numbered alphabetical-1-based; set numbering to"):
        check(found, rafdb.LABELS)
    check(found, rafdb.LABELS, numbering="alphabetical-1-based")
    said = {str(place): name for place, name in enumerate(ALPHABETICAL, start=1)}
    check(found, rafdb.LABELS, labels=said)
    with pytest.raises(BenchError, match="numbered alphabetical-1-based"):  # other advice does not help
        check(found, rafdb.LABELS, numbering="1-based")


def test_an_order_without_a_name_is_refused_too() -> None:
    own = ("neutral", "happiness", "fear", "anger", "sadness", "surprise", "disgust")
    with pytest.raises(BenchError, match="those of the dataset in another order: set labels to the meaning"):
        check(numbered(own, 1), rafdb.LABELS)


@pytest.mark.parametrize("labels", [{"0": ""}, {"0": "neutral"}, {"1": "surprise", "2": "fear"}])
def test_half_of_a_map_is_refused(labels: dict[str, str]) -> None:
    for first in (0, 1):
        with pytest.raises(BenchError, match=r"the other numbers would retain their meaning in RAF-DB"):
            check(numbered(EXPRESSIONS, first, 0.001), rafdb.LABELS, labels=labels)
    check({"train": Counter({"happy": 3})}, rafdb.LABELS, labels=labels)


def test_seven_numbers_from_another_base_are_refused_though_all_are_known() -> None:
    found = {"train": Counter(dict.fromkeys("1234567", 5))}
    with pytest.raises(BenchError, match=r"the labels here are numbers \(1 to 7\), those of RAF-DB 0 to 7"):
        check(found, dict(affectnet.NATIVE))
    check(found, dict(affectnet.NATIVE), numbering="0-based")


@pytest.mark.parametrize(
    ("first", "order", "advice"),
    [
        (0, EXPRESSIONS, "numbered 0-based; set numbering to 0-based"),
        (0, ALPHABETICAL, "numbered alphabetical-0-based; set"),
        (
            0,
            None,
            "If their order is the same, counted from 0, set numbering to 0-based; if not, set labels to the meaning",
        ),
    ],
)
def test_a_list_from_zero_is_refused_with_all_that_is_known(
    tmp_path: Path, first: int, order: tuple[str, ...] | None, advice: str
) -> None:
    """In RAF-DB's own layout; no image is needed to see it."""
    (tmp_path / "Image" / "aligned").mkdir(parents=True)
    rows = []
    for split, counts in RAF.items():
        classes = [
            (place, counts[name] if order else 3) for place, name in enumerate(order or EXPRESSIONS, start=first)
        ]
        rows += [f"{split}_{place}{number:05d}.jpg {place}" for place, count in classes for number in range(count)]
    (tmp_path / "EmoLabel").mkdir()
    (tmp_path / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(rows))
    with pytest.raises(BenchError) as caught:
        read(rafdb.DATASET, DomainSettings(path=tmp_path))
    said = str(caught.value)
    assert said.startswith(
        f"{tmp_path}/EmoLabel/list_patition_label.txt:1: '0' is not a known expression; the labels of RAF-"
    )
    assert "those here 0 to 6" in said
    assert advice in said
    for labels in ({"0": ""}, {"0": "neutral"}):
        with pytest.raises(BenchError, match=r"none of its faces can be used|the other numbers would retain"):
            read(rafdb.DATASET, DomainSettings(path=tmp_path, labels=labels))
