"""The view of a leaderboard, from which every writer and the API print."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sample_records import KNOWN, MATRIX, ranked, views, with_annotators

from fergen_bench.records.frame import cells_frame
from fergen_bench.report import folder, tables, terminal
from fergen_bench.report.leaderboard import leaderboard_frame


def test_frame_equals_leaderboard_csv_to_the_digit(tmp_path: Path, sketched: None) -> None:
    shown = views(ranked(MATRIX))
    folder.write(tmp_path, shown)
    leaderboard_frame(shown).to_csv(tmp_path / "frame.csv", index=False, float_format="%.4f")
    assert (tmp_path / "frame.csv").read_bytes() == (tmp_path / "leaderboard.csv").read_bytes()


def test_rows_have_formatted_and_raw_values() -> None:
    (view,) = views(ranked(MATRIX))
    row, table = view.rows[0], view.board.table
    assert row.means["unseen"].value == table.unseen[0]
    assert row.means["unseen"].interval == "—"
    assert (row.cells, row.asked, row.seeds_text) == (table.cells[0], table.asked[0], str(row.seeds))


def test_a_single_annotator_has_the_means_of_the_same_cells() -> None:
    (view,) = views(ranked(KNOWN[:2]))  # trained on a and b, scored on a, b and c
    assert view.annotator == pytest.approx(
        {"in_domain": (85 + 75) / 2, "all": 2 * (85 + 75 + 60) / 6, "unseen": (75 + 60 + 85 + 60) / 4, "worst": np.nan},
        nan_ok=True,
    )
    frame = leaderboard_frame([view])
    assert frame[["in_domain_annotator", "all_annotator", "unseen_annotator"]].to_numpy().round(2).tolist() == [
        [80.0, 73.33, 70.0]
    ]
    assert (
        "Single annotator: how often the label of one annotator is the label that counts here: a 85.0, b 75.0, c 60.0"
        in view.notes
    )
    above = next(note for note in view.cautions if note.startswith("Above a single annotator: "))
    assert above.startswith("Above a single annotator: cafe (2 cells: a and b); the label of several votes")


def test_without_the_agreement_on_every_target_no_mean_has_one() -> None:
    (view,) = views(ranked(with_annotators(MATRIX, {"b": 0.75})))
    assert view.annotator == {}
    assert leaderboard_frame([view]).unseen_annotator.isna().all()
    assert any("that counts here: b 75.0" in note for note in view.notes)
    (plain,) = views(ranked(MATRIX))
    assert not any("annotator" in note for note in plain.notes)


def test_an_agreement_is_compared_with_no_other_metric_than_accuracy() -> None:
    (view,) = views(list(tables.boards(cells_frame(KNOWN), "macro_f1")), "macro_f1")
    assert view.annotator == {}
    assert not any("annotator" in note for note in (*view.notes, *view.matrices[0][1].marks.to_numpy().ravel()))


def test_every_writer_has_the_row_of_a_single_annotator(tmp_path: Path, sketched: None) -> None:
    shown = views(ranked(KNOWN))
    folder.write(tmp_path, shown)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| single annotator | 73.3 | 73.3 | 73.3 | — |" in text
    assert "| single annotator | 85.0 | 75.0 | 60.0 |  |  |" in text
    assert "**90.0**, above one annotator | 60.0 | 50.0 |" in text
    (row,) = [line for line in (tmp_path / "leaderboard.tex").read_text().splitlines() if line.startswith("single ann")]
    assert row.startswith("single annotator & 73.3 & 73.3 & 73.3 & ---")
    assert "single annotator & 85.0 & 75.0 & 60.0 &  &  " in (tmp_path / "matrix.tex").read_text()
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert dict(zip(cells.target, cells.annotator, strict=True)) == {"a": 85.0, "b": 75.0, "c": 60.0}
    console = Console(file=StringIO(), width=100)
    terminal.show(console, shown, matrices=True)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert re.search(r"single\W+85.0\W+75.0\W+60.0", printed)
    assert re.search(r"single annotator\s+73.3", printed)
    assert "90.0 ^" in printed
    assert "^: above the agreement of a single annotator" in printed
