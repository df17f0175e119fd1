"""Write LaTeX tables: leaderboards, methods by target, source x target matrices and differences from the best row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from fergen_bench.report import data
from fergen_bench.report.comparison import Comparison, p_text, range_text
from fergen_bench.report.leaderboard import COLUMNS, LeaderboardView, Mean
from fergen_bench.report.notes import GAP, annotator_note, standing_notes, unseen_mean_note
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import ANNOTATOR_ROW, NAMES, Matrix, number
from fergen_bench.report.targets import TargetLine

PACKAGES = "% \\usepackage{booktabs,array}\n"
"""The first line of each file."""


def leaderboard_table(view: LeaderboardView) -> str:
    """Return a leaderboard across two columns of a paper, at 8 pt."""
    columns = {"method": [_name(row.name, row.side_mark) for row in view.rows]}
    for column, name in COLUMNS.items():
        columns[name] = [_escape(row.means[column].text) for row in view.rows]
    best = next((index for index, row in enumerate(view.rows) if not pd.isna(row.means["unseen"].value)), None)
    if best is not None:
        columns["unseen"][best] = rf"\textbf{{{columns['unseen'][best]}}}"
    if view.has_intervals:
        columns[r"95 \%"] = [
            _escape(row.means["unseen"].interval) + (f" ({row.standing})" if row.standing in _MARKED else "")
            for row in view.rows
        ]
    for metric in NAMES:
        if metric != view.metric:
            columns[NAMES[metric]] = [_escape(row.measures[metric].mean.text) for row in view.rows]
    columns["seeds"] = [row.seeds_text for row in view.rows]
    if view.annotator:
        known = {name: _escape(number(view.annotator[column])) for column, name in COLUMNS.items()}
        for name, texts in columns.items():
            texts.append(ANNOTATOR_ROW if name == "method" else known.get(name, ""))
    notes = [*view.notes[1:], *data.lines(view.board.data, view.board.synthetic)]
    label = f"tab:{view.board.slug}"
    return _table(columns, _caption(view), label) + "".join(f"% {_escape(note)}\n" for note in notes)


_MARKED = ("tied", "not compared")
"""The standings that stand beside an interval. The others are seen from the order and the caption."""


def target_table(view: LeaderboardView, targets: Sequence[str], lines: Sequence[TargetLine]) -> str:
    """Return the table of methods by unseen target, with intervals."""
    columns = {"method": [_name(line.name) for line in lines]}
    for target in targets:
        means = [line.means.get(target) for line in lines]
        columns[_escape(target)] = ["---" if mean is None else _with_interval(mean) for mean in means]
    said = f"{view.title}; {view.metric_name} (%) by unseen target, mean over the sources that it is unseen for"
    said += "; in parentheses: 95 % interval" if view.has_intervals else _spread_said(view)
    return _table(columns, _escape(said), f"tab:{view.board.slug}-targets")


def matrix_table(view: LeaderboardView, name: str, found: Matrix) -> str:
    """Return the source x target matrix of a row; scores on the source itself are italic."""
    columns: dict[str, list[str]] = {"trained on": [*map(_escape, map(str, found.mean.index)), "gap"]}
    lines = list(found.lines())
    for place, target in enumerate(found.mean.columns):
        cells = [places[place] for _, places, *_ in lines]
        texts = [_escape(", ".join(filter(None, (number(cell.value, cell.sd), cell.mark)))) for cell in cells]
        texts = [rf"\emph{{{t}}}" if c.relation == "source" else t for t, c in zip(texts, cells, strict=True)]
        columns[_escape(str(target))] = [*texts, _escape(number(found.target_gaps.iloc[place]))]
    columns["unseen"] = [*(_escape(number(unseen)) for _, _, unseen, _ in lines), ""]
    columns["gap"] = [*(_escape(number(gap)) for *_, gap in lines), ""]
    if found.has_annotator:
        known = [_escape(number(share)) for share in found.annotator]
        for texts, text in zip(columns.values(), [ANNOTATOR_ROW, *known, "", ""], strict=True):
            texts.append(text)
    said = f"{name}: {view.title}; {view.metric_name} (%), trained on row, scored on column{_spread_said(view)}; {GAP}"
    return _table(columns, _escape(said), f"tab:{view.board.slug}-{_plain_label(name)}")


def difference_table(view: LeaderboardView, found: Mapping[int, Comparison]) -> str:
    """Return the differences of the best row from every other one on unseen targets; "" where none is known.

    Args:
        view: The leaderboard.
        found: The best row minus each other one, by the index of the other, see `pairs.compared_pairs`.
    """
    if view.best is None or not found:
        return ""
    best = view.rows[view.best].name
    known = [target for target in view.board.targets if target in set(next(iter(found.values())).targets.target)]
    by_target = {
        target: [
            _escape(tenth(float(result.targets.difference[result.targets.target == target].iloc[0]), signed=True))
            for result in found.values()
        ]
        for target in known
    }
    columns = {
        "method": [_name(view.rows[other].name, view.rows[other].side_mark) for other in found],
        "points": [_escape(tenth(result.unseen.value, signed=True)) for result in found.values()],
        r"95 \%": [_escape(range_text(result.unseen.low, result.unseen.high)) for result in found.values()],
        "p": ["---" if pd.isna(r.unseen.p) else _escape(_bare(r.unseen.p)) for r in found.values()],
        **{_escape(target): texts for target, texts in by_target.items()},
    }
    said = (
        f"{view.title}; {best} minus each other row on unseen targets, points of {view.metric_name}, "
        f"with 95 % interval and p of each difference by itself; then the points by target"
    )
    return _table(columns, _escape(said), f"tab:{view.board.slug}-difference")


def _bare(p: float) -> str:
    return p_text(p).removeprefix("p ").removeprefix("= ")


def _table(columns: Mapping[str, Sequence[str]], caption: str, label: str) -> str:
    """Return a table from cells that are LaTeX already; the first column has the names of the rows."""
    frame = pd.DataFrame(columns)
    # A long name is broken over several lines, so that the numbers stay on the paper.
    wide = max(len(name) for name in frame.iloc[:, 0]) > 24
    layout = (r">{\raggedright\arraybackslash}p{0.3\textwidth}" if wide else "l") + "r" * (len(frame.columns) - 1)
    text = frame.style.hide(axis="index").to_latex(
        hrules=True,
        environment="table*",
        column_format=layout,
        caption=caption,
        label=label,
        position_float="centering",
    )
    return text.replace("\\begin{tabular}", "\\footnotesize\n\\setlength{\\tabcolsep}{4pt}\n\\begin{tabular}", 1)


def _name(name: str, mark: str = "") -> str:
    return _escape(name) + (f"$^{{{mark}}}$" if mark else "")


def _with_interval(mean: Mean) -> str:
    """Return a mean with its interval, which contains the noise of seeds; or with ± where there is none."""
    return _escape(f"{tenth(mean.value)} ({mean.interval})") if mean.has_interval else _escape(mean.text)


def _plain_label(name: str) -> str:
    """Return a name with the characters that a LaTeX label may have."""
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name).strip("-")


def _spread_said(view: LeaderboardView) -> str:
    return f"; {view.spread_note}" if view.spread_note else ""


def _caption(view: LeaderboardView) -> str:
    """Return the notes that a reader needs in the caption; the other notes are comments below the table."""
    board = view.board
    said = [f"{view.title}; {view.metric_name} (%)", view.facts()[0]]
    said += [view.spread_note] if view.spread_note else []
    said += ["95 %: interval of the unseen mean"] if view.has_intervals else []
    standings = {row.standing for row in view.rows}
    if "tied" in standings:
        said += ["(tied): not significantly lower than the best row at 5 %"]
    if "behind" in standings:
        said += [
            "The other rows are significantly lower"
            if "tied" in standings
            else "All other rows are significantly lower"
        ]
    if "not compared" in standings and view.has_intervals:
        said += ["(not compared): too few seeds or predictions for a test, or a mean over other cells"]
    others = [NAMES[metric] for metric in NAMES if metric != view.metric]
    said += [f"The columns {' and '.join(others)} are means over unseen targets too"]
    said += [note for note in standing_notes(board.suite, board.cells) if note.startswith(("Not", "Stale"))]
    said += [note for note in [annotator_note(board, view.metric)] if note]
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
