"""The lines about the data behind a table. tests/data/test_facts.py has those of real datasets."""

from __future__ import annotations

from dataclasses import replace

from sample_records import MATRIX

from fergen_bench.data.facts import DataFacts
from fergen_bench.report.data import NOT_RECORDED, described, rows, synthetic_line

FACTS = {name: DataFacts(dataset="rafdb", counts={"train": 1200, "test": 300}, scored="test") for name in "abc"}
KNOWN = [replace(record, data=FACTS) for record in MATRIX]


def test_a_domain_has_the_facts_of_its_newest_record() -> None:
    late = replace(KNOWN[0], started="2026-02-01T00:00:00+00:00", data={"a": replace(FACTS["a"], dataset="mma")})
    found = described([late, *KNOWN[1:]])
    assert {name: one.facts and one.facts.dataset for name, one in found.items()} == {
        "a": "mma",
        "b": "rafdb",
        "c": "rafdb",
    }
    assert (found["b"].train, found["b"].scored) == (1200, (300,))


def test_records_without_facts_have_lines_of_the_same_length() -> None:
    plain, known = rows(described(MATRIX)), rows(described(KNOWN))
    assert plain[0][:2] == ["a", NOT_RECORDED]
    assert {len(line) for line in (*plain, *known)} == {len(known[0])}
    assert known[0][-2:] == ["1,200", "300"]


def test_rendered_domains_are_one_sentence() -> None:
    facts = {name: DataFacts(layout="rendered", counts={"train": 3000 + place}) for place, name in enumerate("abc")}
    line = synthetic_line(described([replace(record, data=facts) for record in MATRIX]))
    assert "3,000 to 3,002 faces to train on" in line
    assert synthetic_line(described(MATRIX)) == f"Data: {NOT_RECORDED}"
