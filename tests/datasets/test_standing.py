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
