"""The commands `results pack` and `results unpack`, and the commands that read packed records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from packs import packed
from pandas.testing import assert_frame_equal

import fergen_bench as fb
from conftest import Bench
from fergen_bench.experiment.project import Project


def test_packed_results_are_read_like_the_folder_they_come_from(
    project: Project, probe_runs: Path, bench: Bench
) -> None:
    shutil.copytree(probe_runs, project.results / "runs")
    result = bench("results", "pack", "--to", "packed")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("packed: 4 runs (4 new, 0 replaced, 0 as before), 0.0 MB")
    expected, found = (fb.load_results(path) for path in ("results", "packed"))
    assert_frame_equal(found.leaderboard(), expected.leaderboard(), rtol=1e-4)  # seconds have five digits
    files = sorted(path.name for path in Path("packed/synth5-tiny").iterdir())
    assert files == ["leaderboard.md", "leave-none.jsonl", "leave-none.npz"]
    assert "| linear_probe |" in Path("packed/synth5-tiny/leaderboard.md").read_text()
    assert "4 as before" in bench("results", "pack", "packed", "--to", "packed").out
    verified = bench("verify", "packed")
    assert (verified.code, "Sound: 4 records in 2 files." in verified.out) == (0, True)
    pair = ("linear_probe", "nearest_prototype")
    outputs = {bench("compare", *pair, *more).out for more in ((), ("--records", "packed"))}
    assert len(outputs) == 1
    report = bench("report", "--records", "packed/synth5-tiny/leave-none.jsonl", "--to", "page")
    assert (report.code, Path("page/index.html").is_file()) == (0, True)
    assert "leave-none.jsonl:" in Path("page/index.html").read_text()


def test_unpacked_results_are_a_results_folder(project: Project, probe_runs: Path, bench: Bench) -> None:
    assert bench("results", "pack", str(probe_runs), "--to", "packed").code == 0
    result = bench("results", "unpack", "packed", "--to", "again")
    assert result.out == "again: 4 records written\n"
    assert bench("verify", "again").code == 0
    result = bench("results", "unpack", "packed", "--to", "again")
    assert result.out == "again: 0 records written; 4 runs have a record there already\n"


def test_offered_records_count_as_done(project: Project, probe_runs: Path, bench: Bench) -> None:
    run = ("run", "-m", "linear_probe", "--seeds", "0", "--sources", "web,film", "--jobs", "0", "--no-track")
    result = bench(*run, "--records", str(probe_runs))
    assert (result.code, "Nothing to do: all 2 runs have records" in result.err) == (0, True)
    assert "2 records were copied from" in result.err
    assert len(list((project.results / "runs").rglob("*.json"))) == 2


def test_refused_records_are_named_and_change_the_exit_status(tmp_path: Path, project: Project, bench: Bench) -> None:
    packed(tmp_path / "other")
    (path, *_) = sorted((tmp_path / "other" / "runs").rglob("*.npz"))
    path.write_bytes(b"")
    result = bench("results", "pack", "other/runs", "--to", "new")
    assert result.code == 1
    assert "refused: " in result.err
    assert "new: 1 run (1 new" in result.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("results", "pack", "nowhere", "--to", "x"), "nowhere: this folder or file does not exist"),
        (("results", "unpack", "reference/nothing", "--to", "x"), "reference/nothing: the committed results have no"),
        (("verify", "nowhere"), "nowhere: this folder or file does not exist"),
        (("run", "-m", "knn", "--records", "nowhere"), "nowhere: this folder or file does not exist"),
        (("report", "--records", "notes.txt"), "notes.txt: this archive cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(arguments: tuple[str, ...], said: str, project: Project, bench: Bench) -> None:
    Path("notes.txt").write_text("notes")
    result = bench(*arguments)
    assert result.code == 2
    assert said in result.err
    assert "Traceback" not in result.err
