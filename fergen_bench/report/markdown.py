"""Write leaderboards as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fergen_bench.data.corruption import FACTORS
from fergen_bench.report.leaderboard import COLUMNS, LeaderboardView
from fergen_bench.report.notes import GAP
from fergen_bench.report.published import Published, above_annotator, concerned, differences, summary
from fergen_bench.report.shifts import factors, shift_note, shift_rows
from fergen_bench.report.tables import ANNOTATOR_ROW, NAMES, Board, Matrix, number


def markdown(
    views: Sequence[LeaderboardView], published: Iterable[Published] = (), shifts: Sequence[Board] = ()
) -> str:
    """Return leaderboard.md.

    Args:
        views: At least one, all with the same metric.
        published: Tables from papers.
        shifts: Scores on changed test images, see `shifts.shift_boards`.
    """
    metric = views[0].metric
    parts = [f"# Leaderboard: {views[0].metric_name} (%)"]
    for view in views:
        parts += _sections(view)
    for board in shifts:
        parts += [f"## Under controlled shift: {board.title}", shift_note(board)]
        for factor in factors(board):
            parts += [f"### {factor}: {FACTORS[factor].about}", _table(shift_rows(board, factor, metric))]
    for table in published:
        if near := concerned(table, [view.board for view in views]):
            frame = summary(table)
            rows = [
                list(frame),
                *([row[0], *(number(value) for value in row[1:])] for row in frame.itertuples(index=False)),
            ]
            parts += ["## Published, not measured here", table.about, _table(rows), table.explained, *table.notes]
            parts += above_annotator(table, near)
            for title, grid in differences(table, near, metric):
                parts += [f"### {title}", _table(grid)]
    return "\n\n".join(parts) + "\n"


def _sections(view: LeaderboardView) -> list[str]:
    """Return the leaderboard, its notes, its data and its matrices."""
    intervals = ["95 % of unseen", "against the best"] if view.has_intervals else []
    others = [metric for metric in NAMES if metric != view.metric]
    measures = [f"unseen, {NAMES[metric]}" for metric in others]
    held_out = ["source-val", "source-val, balanced"] if view.has_source_val else []
    counted = ["seeds", "cells", "unseen cells", "pre-training"]
    rows = [["method", *COLUMNS.values(), *intervals, *measures, *held_out, *counted]]
    for row in view.rows:
        numbers = [row.means[column].text for column in COLUMNS]
        if view.has_intervals:
            numbers += [row.means["unseen"].interval, row.standing]
        numbers += [row.measures[metric].mean.text for metric in others]
        numbers += [number(row.source_val), number(row.source_val_balanced)] if view.has_source_val else []
        counts = [row.seeds_text, f"{row.cells}/{row.asked}", row.unseen_cells_text]
        rows.append([row.name, *numbers, *counts, row.mark])
    if view.annotator:
        known = [number(view.annotator[column]) for column in COLUMNS]
        rows.append([ANNOTATOR_ROW, *known, *[""] * (len(rows[0]) - len(known) - 1)])
    notes = [f"- pre-training {mark}: {kind}" for kind, mark in view.board.marks.items()]
    notes += [f"- {note}" for note in (*view.notes[1:], GAP.capitalize())]
    answers = " ".join(filter(None, (*view.answers, view.disagreement)))
    parts = [f"## {plain(view.title)}", plain(answers), _table(rows), "\n".join(map(plain, notes))]
    if view.data_table:
        parts += ["### Data", _table(view.data_table)]
    for name, found in view.matrices:
        parts += [f"### {plain(name)}: {view.board.axes}", _matrix(found)]
    return parts


def _matrix(found: Matrix) -> str:
    rows = [["", *found.mean.columns, "unseen", "gap"]]
    for source, places, unseen, gap in found.lines():
        line = []
        for place in places:
            text = number(place.value, place.sd)
            bold = f"**{text}**" if place.relation == "source" else text
            line.append(f"{bold}, {place.mark}" if place.mark else bold)
        rows.append([source, *line, number(unseen), number(gap)])
    rows.append(["gap", *map(number, found.target_gaps), "", ""])
    if found.has_annotator:
        rows.append([ANNOTATOR_ROW, *map(number, found.annotator), "", ""])
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = ([plain(cell) for cell in row] for row in rows)
    line = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, line, *body])


def plain(text: str) -> str:
    """Return text that is one Markdown cell and contains no HTML markup."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
