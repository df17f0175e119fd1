"""Leaderboards as LaTeX tables."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from sample_predictions import gathered, matrix
from sample_records import MATRIX, ranked, views

from fergen_bench.report import folder, tables, verdicts
from fergen_bench.report.comparison import compare, range_text
from fergen_bench.report.leaderboard import LeaderboardView
from fergen_bench.report.rounding import tenth

UNESCAPED = r"(?<!\\)(?:\\\\)*"


def test_latex_is_well_formed_whatever_the_names(tmp_path: Path, sketched: None) -> None:
    odd = r"a&b_c%d#e{f}g\h~i^j$k<l>m|n" + "\n\n" + "…" * 30
    records = [
        *MATRIX,
        *(replace(item, spec=replace(item.spec, method="other", note=odd)) for item in MATRIX),
        *(replace(item, spec=replace(item.spec, method="third", parameters={"gate": odd})) for item in MATRIX[:1]),
    ]
    folder.write(tmp_path, views(ranked(records)))
    text = (tmp_path / "leaderboard.tex").read_text(encoding="utf-8")
    assert re.findall(r"\\begin{(.*?)}", text) == re.findall(r"\\end{(.*?)}", text)[::-1] == ["table*", "tabular"]
    assert len(re.findall(UNESCAPED + "{", text)) == len(re.findall(UNESCAPED + "}", text))
    layout, body = re.split(r"\\begin{tabular}(.*)\n", text)[1:]
    columns = re.sub(r">{.*?arraybackslash}p{.*?}", "l", layout).strip("{}")
    rows = [line for line in body.partition(r"\bottomrule")[0].splitlines() if line.endswith(r"\\")]
    assert columns == "lrrrrrrr"
    assert [len(re.findall(UNESCAPED + "&", row)) for row in rows] == [len(columns) - 1] * 4
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    for place in (caption, *rows):  # what is not escaped there is ours: marks of footnotes, and between the columns
        left = re.sub(r"\$(\^{[a-z]}|\\pm)\$", "", place.removesuffix(r"\\"))
        assert not re.search(UNESCAPED + "[%#~^_$]", left), left
        assert not re.search('[<>|"]', left), left
    assert r"a\&b\_c\%d\#e\{f\}g\textbackslash{}h\textasciitilde{}i\textasciicircum{}j\$k\textless{}l" in rows[-1]
    assert rows[-1].endswith(r"& 1 (3/9 cells) \\")


def test_captions_explain_standings_and_matrix_and_differences_are_tables_too(tmp_path: Path, sketched: None) -> None:
    records = [*matrix(tmp_path, "good", 0.7), *matrix(tmp_path, "fair_one", 0.699), *matrix(tmp_path, "poor", 0.5)]
    evidence, cells = gathered(records, tmp_path)
    (board,) = verdicts.judged(tables.boards(cells, "accuracy"), evidence, "accuracy")
    folder.write(tmp_path / "report", views([board]), evidence=evidence)
    text = {name: (tmp_path / "report" / f"{name}.tex").read_text() for name in ("leaderboard", "matrix", "difference")}
    assert r"(tied): not significantly lower than the best row at 5 \%" in text["leaderboard"]
    assert text["leaderboard"].count(" (tied) &") == 1
    best, tied, _ = (row.name for row in LeaderboardView(board, "accuracy").rows)
    assert text["matrix"].count(r"\begin{table*}") == 4  # methods by target, and three matrices
    (line,) = (line for line in text["matrix"].splitlines() if line.startswith(best.replace("_", r"\_") + " & "))
    assert len(re.findall(r"\d\d\.\d--\d\d\.\d", line)) == 3
    assert r"\emph{" in text["matrix"]
    result = compare(*(dict(board.rows())[name] for name in (tied, best)), evidence, "accuracy").unseen
    escaped = tied.replace("_", r"\_")
    (line,) = (line for line in text["difference"].splitlines() if line.startswith(f"{escaped} & "))
    assert line.split(" & ")[1] == tenth(result.value, signed=True)
    assert line.split(" & ")[2] == range_text(result.low, result.high)
    assert f"{best.replace('_', chr(92) + '_')} minus each other row" in text["difference"]
