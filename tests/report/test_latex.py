"""Leaderboards as LaTeX tables."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from sample_records import MATRIX, ranked, views

from fergen_bench.report import folder

UNESCAPED = r"(?<!\\)(?:\\\\)*"


def test_latex_is_well_formed_whatever_the_names(tmp_path: Path) -> None:
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
    assert columns == "lrrrrr"
    assert [len(re.findall(UNESCAPED + "&", row)) for row in rows] == [len(columns) - 1] * 4
    caption = next(line for line in text.splitlines() if line.startswith(r"\caption"))
    for place in (caption, *rows):  # what is not escaped there is ours: marks of footnotes, and between the columns
        left = re.sub(r"\$(\^{[a-z]}|\\pm)\$", "", place.removesuffix(r"\\"))
        assert not re.search(UNESCAPED + "[%#~^_$]", left), left
        assert not re.search('[<>|"]', left), left
    assert r"a\&b\_c\%d\#e\{f\}g\textbackslash{}h\textasciitilde{}i\textasciicircum{}j\$k\textless{}l" in rows[-1]
    assert rows[-1].endswith(r"& 1 (3/9 cells) \\")
