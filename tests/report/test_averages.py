"""Means of groups are those of pandas, also where values are missing."""

from __future__ import annotations

import numpy as np
import pandas as pd

from fergen_bench.report import averages


def test_means_of_groups_are_those_of_pandas() -> None:
    random = np.random.default_rng(0)
    values, groups = random.normal(size=60), random.choice(list("abcde"), 60)
    values[::7] = np.nan
    values[groups == "d"] = np.nan  # a group without values
    names, codes = averages.coded(groups.tolist())
    frame = pd.Series(values).groupby(groups, sort=False)
    assert names == list(frame.groups)
    np.testing.assert_allclose(averages.group_means(codes, len(names), values), frame.mean())


def test_means_leave_out_missing_values() -> None:
    values = np.array([1.0, np.nan, 3.0])
    assert averages.mean(values) == 2
    assert averages.spread(values) == np.sqrt(2)
    assert np.isnan([averages.mean(values[1:2]), averages.spread(values[:2])]).all()
    assert not averages.coded([])[0]


def test_rows_have_their_cells_in_order_whatever_their_number() -> None:
    cells = pd.DataFrame({"method": list("babbc"), "kind": ["x"] * 5, "score": [1.0, 2.0, np.nan, 4.0, 5.0]})
    found = averages.by_row(cells, ["method", "kind"], ["score"])
    assert list(found) == [("b", "x"), ("a", "x"), ("c", "x")]
    np.testing.assert_array_equal(found["b", "x"]["score"], [1, np.nan, 4])
    assert [len(columns["score"]) for columns in found.values()] == [3, 1, 1]
    assert averages.by_row(cells[:0], ["method", "kind"], ["score"]) == {}
