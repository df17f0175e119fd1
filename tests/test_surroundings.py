"""Terminals, pipes, locales and plotting set-ups that differ from a developer's own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from examples import SPEC, finished

from conftest import ROOT
from fergen_bench.records.store import save

ENCODINGS = ("cp932", "ascii", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cp949", "cp850", "latin-1")))


PATHS = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
UNDRAWN = """
import sketching
from fergen_bench import cli
from fergen_bench.report import figures
figures.save = sketching.save
cli.main()
"""


def process(*arguments: str) -> list[str]:
    """Return the command line as a process of its own. Reports have figures that are not drawn."""
    program = ["-c", UNDRAWN] if arguments[0] == "report" else ["-m", "fergen_bench"]
    return [sys.executable, *program, *arguments]


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command, with its output as bytes."""
    return subprocess.run(
        process(*arguments),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": PATHS, "COLUMNS": "120", "NO_COLOR": "1", **environment},
        capture_output=True,
        check=False,
    )


@pytest.fixture
def reported(tmp_path: Path) -> Path:
    """A project with the records of two seeds."""
    (tmp_path / "bench.toml").write_text('suite = "synth5-tiny"\n', encoding="utf-8")
    spec = replace(SPEC, suite="synth5-tiny", sources=("web",), fingerprints={"web": "f1"})
    spec = replace(spec, targets={"web": "f1", "film": "f2"}, relations={"web": "source", "film": "unseen"})
    for seed in (0, 1):
        save(finished(replace(spec, seed=seed)), tmp_path / "results" / "runs")
    return tmp_path


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_report_is_printed_in_any_encoding(reported: Path, encoding: str) -> None:
    result = command(reported, "report", PYTHONIOENCODING=encoding)
    shown = result.stdout.decode(encoding)  # strict: raises where this encoding lacks a character
    assert result.returncode == 0, result.stderr
    assert "100.0" in shown
    assert "?" not in shown
    assert "Traceback" not in result.stderr.decode(encoding)
    written = (reported / "results" / "report" / "leaderboard.md").read_text(encoding="utf-8")
    assert "—" in written  # files are UTF-8 whatever the terminal is


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "0,1,..."), ("cp850", "0,1,..."), ("utf-8", "0,1,…")])
def test_help_is_printed_in_any_encoding(tmp_path: Path, encoding: str, shown: str) -> None:
    result = command(tmp_path, "run", "--help", PYTHONIOENCODING=encoding)
    assert result.returncode == 0
    assert shown in result.stdout.decode(encoding)


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", "?e-"), ("latin-1", "?é-"), ("utf-8", "笑é—")])
def test_errors_are_printed_in_any_encoding(tmp_path: Path, encoding: str, shown: str) -> None:
    result = command(tmp_path, "list", "笑é—", PYTHONIOENCODING=encoding)
    assert result.returncode == 2
    assert f"nothing is called '{shown}'" in result.stderr.decode(encoding)


def _into_a_closed_pipe(folder: Path, *arguments: str, remarks: bool = False) -> tuple[int, bytes]:
    """Run a command whose standard output, and on request standard error too, is a pipe without a reader."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        result = subprocess.run(
            process(*arguments),
            cwd=folder,
            env={**os.environ, "PYTHONPATH": PATHS},
            stdout=writer,
            stderr=writer if remarks else subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    return result.returncode, result.stderr or b""


@pytest.mark.parametrize("arguments", [["list"], ["list", "suites"], ["run", "--help"], ["list", "smoke"]])
def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path, arguments: list[str]) -> None:
    assert _into_a_closed_pipe(tmp_path, *arguments) == (141, b"")


@pytest.mark.parametrize("remarks", [False, True])
def test_a_report_into_a_closed_pipe_leaves_all_its_files(reported: Path, remarks: bool) -> None:
    stray = reported / "results" / "runs" / "stray.json"
    stray.write_text("{}")  # the report has a remark on it
    code, said = _into_a_closed_pipe(reported, "report", remarks=remarks)
    assert code == 141
    assert b"Traceback" not in said
    there = {path.name for path in (reported / "results" / "report").iterdir()}
    assert {"index.html", "leaderboard.csv", "leaderboard.md", "leaderboard.tex"} <= there


@pytest.mark.parametrize(("suite", "trained_on"), [("lab", "laba"), ("synth5", "web")])
def test_smoke_runs_on_the_suite_of_the_project(tmp_path: Path, suite: str, trained_on: str) -> None:
    for name in ("laba", "labb"):
        (tmp_path / name / "happy").mkdir(parents=True)
    (tmp_path / "bench.toml").write_text(
        f'suite = "{suite}"\n[domains.laba]\npath = "laba"\n[domains.labb]\npath = "labb"\n[suites.lab]\n'
        f'domains = ["laba", "labb"]\nbackbone = "synth"\ntrunk = "synth-trunk"\n',
        encoding="utf-8",
    )
    result = command(tmp_path, "run", "--protocol", "smoke", "--method", "linear_probe", "--dry-run")
    assert result.returncode == 0, result.stderr
    assert f" {trained_on} " in result.stdout.decode()
    assert "1 run;" in result.stdout.decode()
