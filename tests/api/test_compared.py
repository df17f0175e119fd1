"""The comparison that `Results.compare` returns."""

from __future__ import annotations

import fergen_bench as fb
from fergen_bench.report.comparison import answer


def test_the_values_are_those_of_the_difference_on_unseen_targets(results: fb.Results) -> None:
    found = results.compare("nearest_prototype", "linear_probe")
    unseen = found.found.unseen
    assert (found.difference, found.p) == (unseen.value, unseen.p)
    assert found.interval == (unseen.low, unseen.high)
    assert found.domains_interval == (unseen.domains_low, unseen.domains_high)
    assert found.interval[0] < found.difference < found.interval[1]
    assert str(found) == repr(found) == answer("nearest_prototype", "linear_probe", found.found)
    back = results.compare("linear_probe", "nearest_prototype")
    assert back.difference == -found.difference
    assert len(found.cells) == 10
    assert set(found.expressions.index) | set(found.expressions.columns)
