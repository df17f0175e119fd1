"""The embedded suites have their sizes and shares."""

from __future__ import annotations

from fergen_bench import synth


def test_sizes_and_shares_of_the_suites() -> None:
    assert [synth.size_of(name) for name in synth.SUITES] == [64, 112, 224, 64]
    assert [synth.share_of(name) for name in synth.SUITES] == [1, 1, 1, 10]
    assert all(suite.synthetic for suite in synth.SUITES.values())
