"""Published tables and their comparison with measured ones."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from sample_records import MATRIX, REAL, board, entry, ranked, shown, views, with_annotators

from fergen_bench.experiment.project import shipped
from fergen_bench.report import folder, published


def test_the_published_table_is_read_and_stands_apart() -> None:
    (table,) = published.read_published(shipped("results") / "published")
    assert len(table.cells) == 125
    assert "ECCV 2024" in table.about
    summary = published.summary(table).set_index("method")
    # The paper's printed means, over five targets with the source among them; the second prints 60.27 (an erratum).
    cafe = table.cells[table.cells.method == "CAFE"].groupby("source").accuracy.mean()
    assert cafe["rafdb"] == pytest.approx(63.48, abs=0.005)
    assert cafe["affectnet"] == pytest.approx(61.67, abs=0.005)
    assert summary.loc["CAFE", "rafdb"] == pytest.approx(57.17, abs=0.005)
    text = shown(REAL, tabulated=[table])
    assert "Published, not measured here" in text
    assert text.index("Published") < text.index("Leaderboard")
    assert "CAFE" not in text[text.index("Leaderboard") :]


def test_printed_means_that_are_none_stand_beside_the_right_ones() -> None:
    (table,) = published.read_published(shipped("results") / "published")
    assert published.misprints(table)[1:] == [
        ["EAC", "affectnet", "53.09", "53.29", "-0.20"],
        ["CAFE", "affectnet", "60.27", "61.67", "-1.40"],
    ]
    right = pd.DataFrame({"method": ["CAFE"], "source": ["rafdb"], "accuracy": [63.48]})
    assert published.misprints(replace(table, printed=right)) == []
    assert not any("target mean" in note for note in table.notes)
    assert "61.67" not in shown(REAL, tabulated=[table])  # on the page alone


def test_only_whole_lines_of_a_published_table_are_comments(tmp_path: Path) -> None:
    text = "# Source #1\nmethod,source,target,accuracy\nCNN #2,a,b,61.5\n# more\n"
    (tmp_path / "t.csv").write_text(text)
    (tmp_path / "._t.csv").write_bytes(b"\0\5\26\7\0\2\0\0Mac OS X        \xff")
    (table,) = published.read_published(tmp_path)
    assert (table.about, table.notes) == ("Source #1", ("more",))
    assert table.cells.to_dict("records") == [{"method": "CNN #2", "source": "a", "target": "b", "accuracy": 61.5}]
    (tmp_path / "knn_ablation.csv").write_text("# S\nvariant,target,accuracy\nk #1,a,50\nk #1,b,60\n")
    assert published.read_published_ablation(tmp_path, "knn") == ("S", {"k #1": 55.0})


def test_published_cells_stand_beside_measured_ones_where_both_exist(tmp_path: Path) -> None:
    (table,) = published.read_published(shipped("results") / "published")
    records = [entry("rafdb", {"rafdb": 90, "ferplus": 70, "own": 50})]
    ((name, printed, difference),) = published.beside(table, board(records))
    assert (name, printed.shape) == ("CAFE", (5, 5))
    assert difference.loc["rafdb", "rafdb"] == pytest.approx(90 - 88.72)
    assert difference.notna().sum().sum() == 2
    text = shown(records, width=200, tabulated=[table])
    conditions = "s (real faces): trained on one source, last checkpoint, official splits"
    assert f"measured here minus published ({conditions})" in text
    assert "+1.3" in text
    folder.write(tmp_path, views(ranked(records)), [table])
    assert "| rafdb | 88.7 +1.3 | 73.2 -3.2 | 45.9 |" in (tmp_path / "leaderboard.md").read_text()


def test_published_cells_stand_beside_those_of_one_precision() -> None:
    (table,) = published.read_published(shipped("results") / "published")
    full, half = (entry("rafdb", {"rafdb": 90, "ferplus": 70}, precision=kind) for kind in ("fp32", "bf16"))
    assert [name for name, _, _ in published.beside(table, board([half]))] == ["CAFE"]
    assert not list(published.beside(table, board([full, half])))
    assert set(board([full, half]).table.method) == {"cafe", "cafe (precision=bf16)"}
    for change in ({"parameters": {"gate": "linear"}}, {"views": ("plain", "mirror")}, {"prior": 0.5}):
        changed = entry("rafdb", {"rafdb": 90, "ferplus": 70}, **change)
        assert not list(published.beside(table, board([changed])))


def test_published_tables_stand_where_a_domain_of_theirs_was_measured(tmp_path: Path) -> None:
    (table,) = published.read_published(shipped("results") / "published")
    rendered = [replace(item, spec=replace(item.spec, synthetic=True)) for item in REAL]
    for name, records, there in (("near", REAL, True), ("own", MATRIX, False), ("rendered", rendered, False)):
        assert ("SCN" in shown(records, tabulated=[table])) is there
        folder.write(tmp_path / name, views(ranked(records)), [table])
        assert ("Published" in (tmp_path / name / "leaderboard.md").read_text()) is there


def test_published_numbers_above_a_single_annotator_are_named_with_a_reason() -> None:
    (table,) = published.read_published(shipped("results") / "published")
    assert published.above_annotator(table, ranked(REAL)) == []
    (said,) = published.above_annotator(table, ranked(with_annotators(REAL, {"ferplus": 0.7780})))
    above = table.cells[(table.cells.target == "ferplus") & (table.cells.accuracy > 77.8)]
    assert said.startswith("Above a single annotator, as measured on the labels here (ferplus 77.8): ")
    first = above.iloc[0]
    assert f"{first.method} from {first.source} {first.accuracy:.2f}" in said
    assert "the label of several votes is easier to predict" in said
    assert "Above a single annotator, as" in shown(with_annotators(REAL, {"ferplus": 0.778}), tabulated=[table])
