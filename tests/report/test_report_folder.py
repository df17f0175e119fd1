"""The files of a report."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from sample_records import ADAPTED, MATRIX, entry, ranked, shown, views

from fergen_bench.error import BenchError
from fergen_bench.report import folder, notes
from fergen_bench.report.folder import Ablation


def test_files_of_a_report(tmp_path: Path) -> None:
    variant = [
        entry(
            item.spec.sources[0],
            {cell.target: cell.confusion[0][0] - 5 for cell in item.cells},
            parameters={"gate": "linear"},
        )
        for item in MATRIX
    ]
    ablation = Ablation("ab", "s", "what it buys", "cafe", {"full": "{}", "linear": '{"gate": "linear"}'})
    files = folder.write(tmp_path, views(ranked(MATRIX + variant)), [], [ablation])
    assert {path.name for path in files} == {
        "leaderboard.md", "leaderboard.csv", "leaderboard.tex", "matrix.tex", "cells.csv", "data.csv",
        "s-cafe.png", "s-cafe-gate_linear.png", "s-unseen.png", "s-ab.png"
    }  # fmt: skip
    assert all(path.stat().st_size > 0 for path in files)
    text = (tmp_path / "leaderboard.md").read_text()
    assert "| cafe | 76.7 | 60.0 | 51.7 | 45.0 | 51.7 | 33.7 | 1 | 9/9 | 6 | a |" in text
    assert "By balanced accuracy cafe is highest, 51.7; " in text
    assert "| a | **90.0** | 60.0 | 50.0 | 55.0 | 35.0 |" in text
    frame = pd.read_csv(tmp_path / "leaderboard.csv")
    assert frame.unseen.tolist() == pytest.approx([51.6667, 46.6667], abs=1e-3)
    assert frame.suite.unique().tolist() == ["s"]
    assert notes.GAP.replace("gap:", "Gap:") in text
    latex = (tmp_path / "leaderboard.tex").read_text()
    assert r"\begin{tabular}{lrrrrrrr}" in latex
    assert r"cafe & 76.7 & 60.0 & \textbf{51.7} & 45.0 & 51.7 & 33.7 & 1 \\" in latex
    assert len(pd.read_csv(tmp_path / "cells.csv")) == 18
    assert "% One training of each source: numbers and intervals hold" in latex  # a caption has room for little
    assert "One training" not in latex.partition(r"\caption{")[2].partition("\n")[0]
    assert "cafe (gate=linear)" in latex


def test_the_same_records_give_the_same_files(tmp_path: Path) -> None:
    first, second = (folder.write(tmp_path / name, views(ranked(MATRIX))) for name in ("one", "two"))
    for left, right in zip(first, second, strict=True):
        assert left.read_bytes() == right.read_bytes(), left.name
        if left.suffix == ".png":
            assert left.with_suffix(".pdf").read_bytes() == right.with_suffix(".pdf").read_bytes(), left.name


def test_a_report_takes_the_place_of_the_one_before_and_of_nothing_else(tmp_path: Path) -> None:
    def write(*names: str) -> None:
        with folder.replaced(tmp_path / "report") as draft:
            for name in names:
                (draft / name).write_text(" ".join(names))

    outside = tmp_path / "mine.txt"
    outside.write_text("mine")
    write("index.html", "s-old.png")
    (tmp_path / "report" / "s-own.png").write_text("mine")
    (tmp_path / "report" / folder.WRITTEN).open("a").write("\n../mine.txt\n")
    write("index.html", "t-new.png")
    found = {path.name: path.read_text() for path in (tmp_path / "report").iterdir() if path.name != folder.WRITTEN}
    assert found == {"index.html": "index.html t-new.png", "t-new.png": "index.html t-new.png", "s-own.png": "mine"}
    assert outside.is_file()
    with pytest.raises(BenchError, match=r"mine\.txt: is a file; name a folder"), folder.replaced(outside):
        pass
    with pytest.raises(ValueError, match="drawing"), folder.replaced(tmp_path / "report"):
        raise ValueError("drawing")
    assert {path.name for path in (tmp_path / "report").iterdir()} == {*found, folder.WRITTEN}


def test_the_report_says_what_adapted_runs_saw(tmp_path: Path, sketched: None) -> None:
    text = shown(ADAPTED, width=200)
    assert "with unlabelled target images" in text
    assert "Each run also learned from the training images of its target, without their labels" in text
    folder.write(tmp_path, views(ranked([*MATRIX, *ADAPTED])))
    assert pd.read_csv(tmp_path / "leaderboard.csv").adaptation.tolist() == [False, True]
    assert (tmp_path / "s-adaptation-coral.png").is_file()
