"""Write leaderboards as LaTeX tables."""

from __future__ import annotations

import pandas as pd

from fergen_bench.report import data
from fergen_bench.report.leaderboard import COLUMNS, LeaderboardView
from fergen_bench.report.notes import standing_notes, unseen_mean_note


def latex(view: LeaderboardView) -> str:
    """Return a table across two columns of a paper, at 8 pt. It needs the packages booktabs and array."""
    frame = _frame(view)
    # A long name is broken over several lines, so that the numbers stay on the paper.
    wide = max(len(row.name) for row in view.rows) > 24
    layout = (r">{\raggedright\arraybackslash}p{0.3\textwidth}" if wide else "l") + "r" * (len(frame.columns) - 1)
    text = frame.style.hide(axis="index").to_latex(
        hrules=True,
        environment="table*",
        column_format=layout,
        caption=_caption(view),
        label=f"tab:{view.board.slug}",
        position_float="centering",
    )
    text = text.replace("\\begin{tabular}", "\\footnotesize\n\\setlength{\\tabcolsep}{4pt}\n\\begin{tabular}", 1)
    notes = [*view.notes[1:], *data.lines(view.board.data, view.board.synthetic)]
    return text + "".join(f"% {_escape(note)}\n" for note in notes)


def _frame(view: LeaderboardView) -> pd.DataFrame:
    """Return the table with every cell as LaTeX; the best mean over unseen targets is bold."""
    marks = [f"$^{{{row.side_mark}}}$" if row.side_mark else "" for row in view.rows]
    columns = {"method": [_escape(row.name) + mark for row, mark in zip(view.rows, marks, strict=True)]}
    for column, name in COLUMNS.items():
        texts = [row.means[column].text for row in view.rows]
        columns[name] = [text.replace("±", r"$\pm$").replace("—", "--") for text in texts]
    if view.has_intervals:
        columns[r"95 \%"] = [
            row.means["unseen"].interval.replace("–", "--").replace("—", "--")
            + (" (tied)" if row.standing == "tied" else "")
            for row in view.rows
        ]
    columns["seeds"] = [row.seeds_text for row in view.rows]
    best = next((index for index, row in enumerate(view.rows) if not pd.isna(row.means["unseen"].value)), None)
    if best is not None:
        columns["unseen"][best] = rf"\textbf{{{columns['unseen'][best]}}}"
    return pd.DataFrame(columns)


def _caption(view: LeaderboardView) -> str:
    """Return the notes that a reader needs in the caption; the other notes are comments below the table."""
    board = view.board
    said = [f"{view.title}; {view.metric_name} (%)", view.facts()[0]]
    said += ["± over seeds"] if any(not pd.isna(row.means["unseen"].sd) for row in view.rows) else []
    said += [r"95 %: interval of the unseen mean"] if view.has_intervals else []
    said += [note for note in standing_notes(board.suite, board.cells) if note.startswith(("Not", "Stale"))]
    said += unseen_mean_note(board)
    said += [f"Data: {'; '.join(odd)}"] if (odd := data.remarks(board.data)) else []
    return _escape(". ".join(said))


def _escape(text: str) -> str:
    """Return text that LaTeX sets with any font encoding, on one line, since an empty line would end a caption."""
    return "".join(_IN_LATEX.get(letter, letter) for letter in " ".join(text.split()))


_IN_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
}
