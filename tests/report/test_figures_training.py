"""Figures of training cost and of shares of the data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sample_records import MATRIX, board, on, ranked

from fergen_bench.report import details, figures, notes


def test_seconds_of_different_devices_are_not_averaged_nor_drawn_together() -> None:
    again = [replace(item, spec=replace(item.spec, seed=1)) for item in MATRIX]
    mixed = board([*on("fast", MATRIX, 1.0), *on("slow", again, 9.0)])
    (row,) = mixed.table.itertuples()
    assert np.isnan(row.fit_seconds)
    assert row.device == "fast; slow"
    assert any("whose seconds are not to be compared: fast; slow" in note for note in notes.board_cautions(mixed))
    one = board(on("fast", [*MATRIX, *again], 1.0))
    assert one.table.fit_seconds[0] == 1.0
    assert not any("devices" in note for note in notes.board_cautions(one))
    panels = figures.cost(mixed, details.histories({})).axes
    assert [axes.get_title(loc="left") for axes in panels] == ["fast", "slow"]
    assert [axes.lines[0].get_xdata().tolist() for axes in panels] == [[1.0], [9.0]]


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
