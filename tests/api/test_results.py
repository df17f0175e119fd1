"""The API returns what the command line prints and writes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fergen_bench as fb
from conftest import ROOT, Bench
from fergen_bench.experiment.project import Project
from fergen_bench.records.packed import is_packed


def test_a_precision_is_part_of_the_key_and_of_the_name_in_tables(results: fb.Results, project: Project) -> None:
    one = {"methods": "linear_probe", "seeds": [0], "sources": ["web"], "jobs": 0, "track": False}
    (full,), (half,) = (fb.run(precision=kind, **one).records for kind in ("fp32", "bf16"))
    assert full in results.records  # fp32 is the default on a CPU, and is not run again
    assert (half.spec.precision, half.spec.label) == ("bf16", "linear_probe (precision=bf16)")
    assert half.spec.key != full.spec.key
    for before, after in zip(full.cells, half.cells, strict=True):
        was, now = np.array(before.confusion), np.array(after.confusion)
        assert np.abs(was - now).sum() <= 0.1 * was.sum()
    (project.root / "bench.toml").write_text((project.root / "bench.toml").read_text() + 'precision = "bf16"\n')
    (again,) = fb.run(**one).records
    assert again.spec == half.spec


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1"])
def test_the_leaderboard_is_that_of_the_report_to_the_digit(
    results: fb.Results, bench: Bench, tmp_path: Path, metric: str
) -> None:
    assert bench("report", "--metric", metric, "--to", str(tmp_path / "report")).code == 0
    written = (tmp_path / "report" / "leaderboard.csv").read_bytes()
    for loaded in (fb.load_results("results"), results):
        board = loaded.leaderboard(metric)
        assert board.unseen_low.notna().all()
        board.to_csv(tmp_path / "mine.csv", index=False, float_format="%.4f", encoding="utf-8")
        assert (tmp_path / "mine.csv").read_bytes() == written


def test_cells_matrix_and_csv_are_of_the_records(results: fb.Results, tmp_path: Path) -> None:
    matrix = results.matrix("linear_probe")
    assert matrix.shape == (2, 5)
    for record in results.records[:2]:
        for cell in record.cells:
            counts = np.array(cell.confusion)
            expected = 100 * counts.trace() / counts.sum()
            assert matrix.loc[record.spec.sources[0], cell.target] == pytest.approx(expected)
    results.to_csv(tmp_path / "cells.csv")
    assert len(pd.read_csv(tmp_path / "cells.csv")) == len(results.cells) == 20
    unseen = results.cells[(results.cells.method == "linear_probe") & (results.cells.relation == "unseen")]
    board = results.leaderboard().set_index("method")
    assert board.unseen["linear_probe"] == pytest.approx(unseen.accuracy.mean())


def test_a_comparison_is_that_of_the_command(results: fb.Results, bench: Bench) -> None:
    found = results.compare("nearest_prototype", "linear_probe")
    said = " ".join(bench("compare", "nearest_prototype", "linear_probe").out.split())
    assert str(found) in said
    board = results.leaderboard().set_index("method").unseen
    assert found.difference == pytest.approx(board["linear_probe"] - board["nearest_prototype"])
    assert found.interval[0] <= found.difference <= found.interval[1]
    assert np.isnan(found.p)  # one seed: no verdict
    assert str(found).startswith("No verdict, since not every source has two trainings in both rows.")
    assert len(found.cells) == 10


def test_results_are_printed_in_a_few_short_lines(results: fb.Results) -> None:
    first, methods, protocols, following = repr(results).splitlines()
    assert first == "Results of synth5-tiny in results/runs: 4 runs"
    assert methods == "methods: linear_probe and nearest_prototype"
    assert protocols == "protocols: leave-none"
    assert ".leaderboard(), " in following
    assert all(hasattr(results, name.partition("(")[0]) for name in following.removeprefix("next: .").split(", ."))


def test_a_notebook_shows_tables_and_figures(results: fb.Results) -> None:
    shown = results._repr_html_()
    assert "<h4>synth5-tiny (synthetic faces): trained on one source" in shown
    assert "linear_probe" in shown
    figure = results.plot_matrix("linear_probe")
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: fb.run(methods=["cafee"]), r"no method 'cafee' .*did you mean cafe\?"),
        (lambda: fb.run(methods=["cafe"], suite="synth6"), r"no suite 'synth6'; did you mean synth5\?"),
        (lambda: fb.run(methods=["cafe"], device="tpu"), "'tpu' is not a device"),
        (lambda: fb.run(methods=["cafe"], ray="local", jobs=2), "--jobs"),
        (lambda: fb.load_results("nowhere"), "nowhere: this folder or file does not exist"),
        (lambda: fb.load_results("results").leaderboard(), "results/runs: no such records of synth5-tiny"),
        (lambda: fb.prepare("rafdb", "nowhere", name="web"), "'web' is a domain that comes with the package"),
        (lambda: fb.prepare("folder", "nowhere"), "the domain has no name; give one with --name"),
    ],
)
def test_bad_input_raises_the_sentence_of_the_command_line(project: Project, call: object, message: str) -> None:
    with pytest.raises(fb.BenchError, match=message):
        call()  # type: ignore[operator]


def test_a_row_that_is_not_there_is_named(results: fb.Results) -> None:
    with pytest.raises(fb.BenchError, match=r"has no row 'linear_prob'; did you mean linear_probe\?"):
        results.matrix("linear_prob")
    with pytest.raises(fb.BenchError, match="metric: 'acc' is not a metric"):
        results.leaderboard("acc")


def test_the_committed_results_load_by_name() -> None:
    """tests/report/test_reference.py examines all of their rows."""
    reference = fb.load_results("reference", "synth5", project=ROOT, methods=["cafe", "linear_probe"])
    assert is_packed(ROOT / "results" / "reference")
    board = reference.leaderboard()
    assert {"cafe", "linear_probe"} <= set(board.method)
    assert board.unseen.notna().any()


def test_completion_offers_the_public_names_alone() -> None:
    assert {name for name in dir(fb) if not name.startswith("__")} == set(fb.__all__)


def test_importing_and_loading_results_load_nothing_heavy(results: fb.Results) -> None:
    code = (
        "import sys, fergen_bench as fb\n"
        "assert not {'torch', 'pandas', 'numpy', 'matplotlib', 'mlflow', 'rich'} & set(sys.modules)\n"
        "dir(fb), fb.run, fb.load_results, fb.Results, fb.report, fb.prepare\n"
        "assert not {'torch', 'pandas', 'matplotlib', 'mlflow'} & set(sys.modules)\n"
        "fb.load_results('results').leaderboard()\n"
        "assert not {'torch', 'matplotlib.pyplot', 'mlflow'} & set(sys.modules), sorted(sys.modules)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
