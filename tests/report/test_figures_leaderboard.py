"""Figures of one leaderboard."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pandas as pd
import pytest
from sample_records import MATRIX, board
from test_page import several

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.project import shipped
from fergen_bench.records.frame import cells_frame
from fergen_bench.report import figures, published, ranking, tables


def test_long_names_are_broken_where_they_can_be() -> None:
    probe = "linear_probe (backbone=open_clip:ViT-B-32-quickgelu/openai)"
    names = {
        probe: "linear_probe (backbone=open_clip:ViT-B-\n32-quickgelu/openai)",
        "cafe (gate=linear, groups=even, separation=0)": "cafe (gate=linear, groups=even,\nseparation=0)",
        "cafe": "cafe",
        "x" * 90: "\n".join(["x" * 40, "x" * 40, "x" * 10]),
    }
    recalls = pd.DataFrame(50.0, list(names), list(EXPRESSIONS))
    figure = figures.recall_heatmap(board(MATRIX), recalls)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == list(names.values())


def test_names_in_a_diagram_of_ranks_do_not_touch() -> None:
    long = {place: f"method{place} (learning_rate=0.00{place}, backbone=synth-trunk/scratch)" for place in range(9)}
    scores = pd.Series({name: float(place + 1) for place, name in long.items()})
    p = pd.DataFrame(0.01, scores.index, scores.index)
    figure = figures.critical_difference(board(MATRIX), ranking.Ranking(scores, 20, 0.001, 1.0, p))
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
    assert len(boxes) == 9
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_a_bar_of_tied_methods_is_drawn_from_left_to_right() -> None:
    scores = pd.Series({f"method{place}": float(place + 1) for place in range(9)})
    tied = pd.DataFrame(1.0, scores.index, scores.index)
    figure = figures.critical_difference(board(MATRIX), ranking.Ranking(scores, 20, 0.9, 1.0, tied))
    (bar,) = (line for axes in figure.axes for line in axes.lines if line.get_linewidth() == 3)
    assert bar.get_xdata().tolist() == scores.tolist()


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
