"""Colours that figures share."""

from __future__ import annotations

from dataclasses import replace

from sample_records import MATRIX, entry, ranked

from fergen_bench.report import details, figures


def test_a_method_has_one_colour_in_all_figures() -> None:
    tenth = [replace(item, spec=replace(item.spec, fraction=0.1)) for item in MATRIX]
    other = [replace(item, spec=replace(item.spec, method="better", fraction=0.1)) for item in MATRIX[1:2]]
    better = [entry(item.spec.sources[0], {"a": 95, "b": 95, "c": 95}, method="better") for item in MATRIX]
    both = ranked([*MATRIX, *tenth, *other, *better])
    palette = figures.colours(both)
    assert [name for name, _ in palette] == ["better", "cafe"]
    bars = figures.unseen_bars(both[1], "accuracy", palette).axes[0].patches
    points = figures.cost(both[1], details.histories({}), palette).axes[0].lines
    lines = figures.data_scale(both, "accuracy", palette).axes[0].lines
    cafe = palette["cafe", "synth d1d1d1"]
    assert bars[0].get_facecolor()[:3] == cafe
    assert [points[0].get_color(), lines[0].get_color()] == [cafe, cafe]
