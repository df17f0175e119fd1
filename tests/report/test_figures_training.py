"""Figures of training cost and of shares of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sample_records import MATRIX, board, on, ranked

from fergen_bench.report import details, figures, notes
from fergen_bench.report.details import Inspected
from fergen_bench.report.leaderboard import LeaderboardView


def test_seconds_of_different_devices_are_not_averaged_nor_drawn_together() -> None:
    again = [replace(item, spec=replace(item.spec, seed=1)) for item in MATRIX]
    mixed = board([*on("fast", MATRIX, 1.0), *on("slow", again, 9.0)])
    (row,) = mixed.table.itertuples()
    assert np.isnan(row.fit_seconds)
    several = "mean seconds of one training, without scoring, on fast and slow; empty for a row on several of them"
    assert LeaderboardView(mixed, "accuracy").seconds_title == several
    assert row.device == "fast; slow"
    assert any("whose seconds are not to be compared: fast; slow" in note for note in notes.board_cautions(mixed))
    one = board(on("fast", [*MATRIX, *again], 1.0))
    assert one.table.fit_seconds[0] == 1.0
    assert not any("devices" in note for note in notes.board_cautions(one))
    assert LeaderboardView(one, "accuracy").seconds_title == "mean seconds of one training, without scoring, on fast"
    panels = figures.cost(mixed, details.histories({})).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["fast", "", "slow", ""]
    assert [axes.lines[0].get_xdata().tolist() for axes in panels[1::2]] == [[1.0], [9.0]]


def test_a_curve_over_shares_of_the_data_is_over_the_same_cells() -> None:
    tenth = [replace(item, spec=replace(item.spec, fraction=0.1)) for item in MATRIX]
    other = [replace(item, spec=replace(item.spec, method="other")) for item in tenth[:1]]
    parts = ranked([*MATRIX, *tenth[:2], *other])
    assert not len(figures.scaled(parts))  # one share lacks a source, and a method has one share
    parts = ranked([*MATRIX, *tenth, *other])
    assert set(figures.scaled(parts).method) == {"cafe"}
    figure = figures.data_scale(parts, "accuracy")
    assert [text.get_text() for text in figure.legends[0].texts] == ["cafe", "chance"]
    assert figure.axes[0].lines[0].get_xdata().tolist() == [10, 100]


def test_the_vertical_axis_of_training_curves_is_named_in_the_title_where_no_legend_covers_it() -> None:
    found = board(MATRIX)
    histories = details.histories({"cafe": MATRIX})
    figure = figures.training_curves(found, histories)
    assert figure.get_suptitle().startswith("Training loss by epoch")
    assert figure.get_supylabel() == ""
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "b", "c"]


def test_cosines_near_one_are_shown_as_differences_in_the_order_of_the_suite() -> None:
    rows = [Inspected("mask", "k", source, 0, target, "unseen", *_mask(n)) for n, (source, target) in enumerate(PAIRS)]
    figure = figures.mask_similarity(board(MATRIX), "cafe", rows)
    targets = figure.axes[1]
    assert [label.get_text() for label in targets.get_xticklabels()] == ["a", "b", "c"]
    apart = [text.get_text() for text in targets.texts if text.get_position()[0] > text.get_position()[1]]
    assert len(apart) == 3
    assert "1.000" not in apart
    assert all(0 < float(text) < 100 for text in apart)


PAIRS = [("c", "b"), ("b", "c"), ("b", "a")]


def _mask(seed: int) -> tuple[np.ndarray, ...]:
    values = 0.75 + 0.05 * np.random.default_rng(seed).standard_normal((7, 16))
    return values, np.full(7, 5), np.arange(4), np.zeros((4, 8), int)
