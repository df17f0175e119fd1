"""Leaderboards as Markdown."""

from __future__ import annotations

from dataclasses import replace

from sample_records import MATRIX, ranked, views

from fergen_bench.report.markdown import markdown


def test_a_table_has_a_line_for_each_row_and_bold_places_on_the_own_domain() -> None:
    text = markdown(views(ranked(MATRIX)))
    assert text.startswith("# Leaderboard: accuracy (%)\n\n## ")
    (row,) = [line for line in text.splitlines() if line.startswith("| cafe |")]
    assert row.split(" | ")[:4] == ["| cafe", "76.7", "60.0", "51.7"]
    assert "| a | **90.0** | 60.0 | 50.0 | 55.0 | 35.0 |" in text
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert all(len({line.count("|") for line in table}) == 1 for table in tables)


def test_names_neither_break_a_table_nor_contain_html() -> None:
    records = [replace(record, spec=replace(record.spec, method="a|b<i>")) for record in MATRIX]
    text = markdown(views(ranked(records)))
    assert "| a\\|b&lt;i> |" in text
    assert "<i>" not in text
