"""Leaderboards and matrices by hand-made records whose numbers are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sample_records import ADAPTED, MATRIX, adapted, board, confusion, entry, ranked

from fergen_bench.records.frame import cells_frame
from fergen_bench.report import tables


def test_means_are_over_all_and_over_unseen_targets() -> None:
    (row,) = board(MATRIX).table.itertuples()
    assert row.in_domain == pytest.approx((90 + 80 + 60) / 3)
    assert row.all == pytest.approx(540 / 9)
    assert row.unseen == pytest.approx((60 + 50 + 70 + 40 + 50 + 40) / 6)
    assert row.worst == pytest.approx(45)  # c, over a and b
    assert (row.seeds, row.cells, row.asked) == (1, 9, 9)
    assert np.isnan(row.unseen_sd)


def test_targets_that_were_seen_are_left_out_of_the_unseen_mean() -> None:
    records = [entry("a", {"a": 90, "b": 60, "c": 50}, seen="b")]
    (row,) = board(records).table.itertuples()
    assert row.unseen == 50
    assert row.all == pytest.approx(200 / 3)


def test_a_spread_needs_two_seeds() -> None:
    records = MATRIX + [
        replace(
            item,
            spec=replace(item.spec, seed=1),
            cells=tuple(
                replace(cell, confusion=confusion(sum(cell.confusion[0][:1]) - 6, 106 - cell.confusion[0][0]))
                for cell in item.cells
            ),
        )
        for item in MATRIX
    ]
    (row,) = board(records).table.itertuples()
    assert row.unseen == pytest.approx(310 / 6 - 3)
    assert row.unseen_sd == pytest.approx(np.std([0, 6], ddof=1))


def test_an_incomplete_matrix_has_no_mean() -> None:
    other = {"method": "other"}
    records = [*MATRIX, entry("a", {"a": 99, "b": 99, "c": 99}, **other)]
    table = board(records).table.set_index("method")
    assert np.isnan(table.loc["other", "unseen"])
    assert table.loc["other", "cells"] == 3
    assert table.index.tolist() == ["cafe", "other"]
    assert tables.number(table.loc["other", "unseen"]) == "—"
    said = [board(records).seeds(row) for row in board(records).table.itertuples()]
    assert said == ["1", "1 (3/9 cells)"]


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "t"},
        {"selection": "source-val"},
        {"profile": "cafe"},
        {"fraction": 0.5},
        {"synthetic": True},
        {"adaptation_target": "b"},
    ],
)
def test_different_conditions_are_different_leaderboards(change: dict[str, Any]) -> None:
    records = MATRIX + [replace(item, spec=replace(item.spec, **change)) for item in MATRIX]
    assert len(list(tables.boards(cells_frame(records), "accuracy"))) == 2


def test_gaps_by_row_and_by_column() -> None:
    found = tables.matrix(board(MATRIX).cells, "accuracy")
    assert found.source_gaps.tolist() == pytest.approx([90 - 55, 80 - 55, 60 - 45])
    assert found.target_gaps.tolist() == pytest.approx([90 - 60, 80 - 50, 60 - 45])


@pytest.mark.parametrize(
    ("change", "conditions"),
    [
        ({}, "trained on one source, last checkpoint, official splits"),
        (
            {"selection": "source-val"},
            "trained on one source, checkpoint best on held-out source images, official splits",
        ),
        ({"profile": "cafe", "fraction": 0.5}, "trained on one source, last checkpoint, cafe splits, 50% of the data"),
        (
            {"sources": ("a", "b"), "fingerprints": {"a": "1", "b": "2"}},
            "trained on 2 sources, last checkpoint, official splits",
        ),
    ],
)
def test_the_title_names_the_conditions_in_words(change: dict[str, Any], conditions: str) -> None:
    found = entry("a", {"a": 90, "c": 60})
    assert board([replace(found, spec=replace(found.spec, **change))]).title == f"s (real faces): {conditions}"


def test_shares_of_the_data_have_names_of_their_own() -> None:
    first, second = (board([entry("a", {"a": 90, "b": 60}, fraction=share)]) for share in (0.12, 0.125))
    assert first.title.endswith(", 12% of the data")
    assert second.title.endswith(", 12.5% of the data")
    assert first.slug != second.slug


def test_all_of_the_data_stands_before_parts_of_it() -> None:
    records = [entry("a", {"a": 90, "b": 60}, fraction=share) for share in (0.5, 0.1, 1.0, 0.25)]
    assert [found.fraction for found in ranked(records)] == [1.0, 0.5, 0.25, 0.1]


def test_no_records_no_boards() -> None:
    assert list(tables.boards(cells_frame([]), "accuracy")) == []


def test_runs_with_unlabelled_target_images_have_a_section_of_their_own() -> None:
    first, last = tables.boards(cells_frame([*ADAPTED, *MATRIX]), "accuracy")
    assert (first.adaptation, last.adaptation) == (False, True)
    assert "one source with unlabelled target images, last checkpoint" in last.title
    assert "unlabelled" not in first.title
    assert (first.slug, last.slug) == ("s", "s-adaptation")
    assert list(last.table.method) == ["coral"]
    (row,) = last.table.itertuples()
    assert row.in_domain == pytest.approx((90 + 80 + 70 + 74) / 4)
    assert row.unseen == pytest.approx((60 + 50 + 40 + 46) / 4)
    assert row.all == pytest.approx((85 + 72 + 60 + 50 + 40 + 46) / 6)  # the source once, whatever it was adapted to
    assert (row.seeds, row.cells, row.asked) == (1, 8, 8)


def test_a_matrix_of_adapted_runs_shows_the_mean_on_the_source_and_a_spread_over_seeds_alone() -> None:
    found = tables.matrix(cells_frame(ADAPTED), "accuracy")
    assert found.mean.loc["a", "a"] == 85
    assert found.spread.isna().all().all()
    again = [adapted("a", "b", 94, 64, seed=1), adapted("a", "c", 80, 50, seed=1)]
    found = tables.matrix(cells_frame([*ADAPTED[:2], *again]), "accuracy")
    assert found.spread.loc["a", "a"] == pytest.approx(np.std([85, 87], ddof=1))
    both = tables.comparable({"one": cells_frame(ADAPTED[:2]), "two": cells_frame([*ADAPTED[:2], *again])})
    assert [len(cells) for cells in both.values()] == [4, 8]
