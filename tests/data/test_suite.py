"""A suite relates each target to the sources."""

from __future__ import annotations

from fergen_bench.data.suite import Suite


def test_relations_of_targets() -> None:
    suite = Suite("s", ("a", "b", "c"), "synth", "synth-trunk", overlaps=frozenset({frozenset(("a", "b"))}))
    assert [suite.relation(("a",), target) for target in "abc"] == ["source", "seen", "unseen"]
    assert suite.relation(("b", "c"), "a") == "seen"
