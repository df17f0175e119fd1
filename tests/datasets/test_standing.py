"""The standing of a target to the sources of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench.data.suite import Suite
from fergen_bench.datasets.comparisons import Comparison, Comparisons, Pair, Rule, Side, State
from fergen_bench.datasets.standing import DECLARED, NOT_AUDITED, SAME, Standings, left_out


def suite(overlaps: frozenset[frozenset[str]] = frozenset()) -> Suite:
    return Suite("s", ("a", "b"), backbone="synth", trunk="synth-trunk", overlaps=overlaps)


def compared(folder: Path, near: int, part: str = "train") -> Comparisons:
    """Comparisons in which so many of the 100 test images of b have a near-duplicate in a split of a."""
    store = Comparisons(folder)
    a, b = State("a", "fa", {"train": 300, "test": 100}), State("b", "fb", {"train": 300, "test": 100})
    pairs = tuple(
        Pair(Side(part, row, f"a{row}"), Side("test", row, f"b{row}"), "near", 2, 0.99) for row in range(near)
    )
    store.add(Comparison(a, b, Rule("x", 0.96, 6), (), pairs))
    return store


def test_a_target_is_unseen_and_not_audited_without_a_comparison(tmp_path: Path) -> None:
    standing = Standings(suite(), Comparisons(tmp_path), 0.05).of({"a": "fa"}, "b", "fb", "test")
    assert (standing.relation, standing.mark, standing.compared) == ("unseen", NOT_AUDITED, False)


@pytest.mark.parametrize(
    ("near", "part", "relation", "mark", "rows"),
    [
        (0, "train", "unseen", "", 0),
        (4, "train", "unseen", "4 left out", 4),
        (4, "test", "unseen", "", 0),  # a method did not learn from the test split of its source
        (5, "train", "seen", "seen, 5 near-duplicates", 0),
        (5, "test", "seen", "seen, 5 near-duplicates", 0),
    ],
)
def test_the_share_of_near_duplicates_decides(
    tmp_path: Path, near: int, part: str, relation: str, mark: str, rows: int
) -> None:
    standing = Standings(suite(), compared(tmp_path, near, part), 0.05).of({"a": "fa"}, "b", "fb", "test")
    assert (standing.relation, standing.mark, len(standing.left_out)) == (relation, mark, rows)
    assert standing.left_out == {row: f"b{row}" for row in range(rows)}


def test_declared_overlaps_and_equal_domains_are_seen(tmp_path: Path) -> None:
    declared = suite(frozenset({frozenset({"a", "b"})}))
    assert Standings(declared, Comparisons(tmp_path), 0.05).of({"a": "fa"}, "b", "fb", "test").mark == DECLARED
    assert Standings(suite(), Comparisons(tmp_path), 0.05).of({"a": "fa"}, "b", "fa", "test").mark == SAME


def test_a_comparison_of_another_state_is_stale(tmp_path: Path) -> None:
    standing = Standings(suite(), compared(tmp_path, 0), 0.05).of({"a": "fa"}, "b", "new", "test")
    assert (standing.mark, standing.stale) == (NOT_AUDITED, ("b",))


def test_the_mark_of_images_that_are_left_out() -> None:
    assert [left_out(count) for count in (0, 1234)] == ["", "1,234 left out"]


def of_finished(
    folder: Path, trained: list[str] | None, pretrained: list[str] | None = None, target: str = "b", near: int = 0
) -> tuple[str, str, bool, int]:
    """The standing of a target to the stated data of a finished model: relation, mark, compared, images left out."""
    declared = suite(frozenset({frozenset({"b", "fer2013"})}))
    store = compared(folder, near) if near else Comparisons(folder)
    kinds = {"mine": "rafdb", "rafdb": "rafdb", "ferplus": "ferplus", "fer2013": "fer2013"}
    found = Standings(declared, store, 0.05).of_finished(
        trained, pretrained, {"a": "fa"}, lambda name: kinds.get(name, "folder"), target, "fb", "test"
    )
    return found.relation, found.mark, found.compared, len(found.left_out)


@pytest.mark.parametrize(
    ("trained", "pretrained", "target", "relation", "mark"),
    [
        (None, None, "b", "unknown", "unknown"),
        (None, ["b"], "b", "unknown", "unknown"),
        (["b"], None, "b", "source", ""),
        (["rafdb"], None, "mine", "source", ""),  # another copy of the same dataset
        (["x", "b"], None, "b", "source", ""),
        (["fer2013"], None, "b", "seen", "seen (declared)"),
        (["fer2013"], None, "ferplus", "seen", "seen (declared)"),
        (["x"], ["b"], "b", "seen", "seen (pre-training)"),
        (["x"], ["fer2013"], "ferplus", "seen", "seen (pre-training)"),
        (["x"], ["y"], "b", "unseen", "not audited"),
        (["x"], None, "b", "unseen", "not audited"),
    ],
)
def test_the_stated_data_of_a_finished_model_decide(
    trained: list[str] | None, pretrained: list[str] | None, target: str, relation: str, mark: str, tmp_path: Path
) -> None:
    assert of_finished(tmp_path, trained, pretrained, target)[:2] == (relation, mark)


def test_an_audit_decides_where_the_training_data_are_prepared(tmp_path: Path) -> None:
    assert of_finished(tmp_path, ["a"], near=4) == ("unseen", "4 left out", True, 4)
    assert of_finished(tmp_path, ["a"], near=5) == ("seen", "seen, 5 near-duplicates", True, 0)
    assert of_finished(tmp_path, ["a", "x"], near=4) == ("unseen", "not audited, 4 left out", False, 4)
