"""The view of a leaderboard, from which every writer and the API print."""

from __future__ import annotations

from pathlib import Path

from sample_records import MATRIX, ranked, views

from fergen_bench.report import folder
from fergen_bench.report.leaderboard import leaderboard_frame


def test_frame_equals_leaderboard_csv_to_the_digit(tmp_path: Path) -> None:
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
