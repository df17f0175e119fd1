"""Figures of one leaderboard."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from sample_records import MATRIX, board, entry
from test_page import several

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.shipped import shipped
from fergen_bench.records.frame import cells_frame
from fergen_bench.report import figures, published, tables
from fergen_bench.report.tables import Board


def test_long_names_are_broken_where_they_can_be() -> None:
    probe = "linear_probe (backbone=open_clip:ViT-B-32-quickgelu/openai)"
    names = {
        probe: "linear_probe (backbone=\nopen_clip:ViT-B-32-\nquickgelu/openai)",
        "cafe (gate=linear, groups=even, separation=0)": "cafe (gate=linear,\ngroups=even,\nseparation=0)",
        "cafe": "cafe",
        "x" * 50: "\n".join(["x" * 24, "x" * 24, "x" * 2]),
    }
    recalls = pd.DataFrame(50.0, list(names), list(EXPRESSIONS))
    figure = figures.recall_heatmap(board(MATRIX), recalls)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(names.values())


def test_the_published_ablation_stands_in_a_panel_of_its_own(tmp_path: Path) -> None:
    source, means = published.read_published_ablation(shipped("results") / "published", "cafe")
    assert "secondary source" in source
    assert list(means) == ["no mask", "mask only", "no diversity", "full"]
    assert means["no mask"] == pytest.approx((58.05 + 43.25 + 42.76 + 42.61) / 4)
    records = several(tmp_path, {"cafe": 2.0}, seeds=(0,))
    (board,) = tables.boards(cells_frame(records), "accuracy")
    figure = figures.ablation(board, "parts", {"full": board.cells}, "accuracy", means, source)
    measured, beside = figure.axes
    assert "published, not measured here" in beside.get_title()
    assert not measured.get_shared_x_axes().joined(measured, beside)
    assert published.read_published_ablation(tmp_path, "cafe") == ("", {})


def _close() -> Board:
    """Twenty-two rows within five points, with long names."""
    names = [f"method_{n:02} (learning_rate=0.00{n}, backbone=synth-trunk)" for n in range(22)]
    found = board([entry("a", {"a": 90, "b": 60 - n // 5}, method=name) for n, name in enumerate(names)])
    ends = {"unseen_low": found.table.unseen - 0.5, "unseen_high": found.table.unseen + 0.5}
    return replace(found, table=found.table.assign(**ends, standing=["best", *["tied"] * 4, *["behind"] * 17]))


def test_twenty_two_rows_within_five_points_are_told_apart_and_their_names_do_not_touch() -> None:
    figure = figures.unseen_means(_close(), "accuracy")
    figure.draw_without_rendering()
    (axes,) = figure.axes
    low, high = axes.get_xlim()
    assert high - low < 7
    names = [label.get_window_extent() for label in axes.get_yticklabels()]
    assert len(names) == 22
    assert not any(one.overlaps(other) for one, other in combinations(names, 2))
    (legend,) = figure.legends
    assert not legend.get_window_extent().overlaps(axes.xaxis.label.get_window_extent())
    assert [text.get_text() for text in legend.get_texts()] == ["best", "tied", "behind", "95 % interval", "one seed"]


def test_a_mean_has_its_interval_in_the_plot() -> None:
    (axes,) = figures.unseen_means(_close(), "accuracy").axes
    spans = [tuple(line.get_xdata()) for line in axes.lines if len(set(line.get_xdata())) == 2]
    assert spans[0] == (59.5, 60.5)
    assert len(spans) == 22


def test_a_matrix_fits_a_column_of_a_paper_with_gaps_in_the_last_row_and_column() -> None:
    found = board(MATRIX)
    figure = figures.heatmap(found, "cafe", found.cells, "accuracy")
    assert figure.get_size_inches()[0] == 3.4
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["a", "b", "c", "unseen", "gap"]
    texts = [text.get_text() for text in axes.texts]
    assert texts[:3] == ["90.0", "60.0", "50.0"]
    assert {text.get_color() for text in axes.texts[:9]} == {"#262626"}
    assert texts[9:11] == ["55.0", "35.0"]
