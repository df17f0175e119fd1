"""The commands `submit` and `verify` with a submission, and the script of the workflow."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click import BadParameter

import fergen_bench as fb
from conftest import ROOT, Bench
from fergen_bench.cli.submissions import Share
from fergen_bench.experiment.project import Project
from fergen_bench.networks.name import PACKAGED


@pytest.fixture
def made(project: Project) -> Project:
    """Return a project with the runs of a method that trains for a moment."""
    fb.run(methods=["nearest_prototype"], sources=["web"], seeds=[0], jobs=0, track=False, project=project.root)
    return project


def test_a_submission_is_written_checked_and_repeated(made: Project, bench: Bench) -> None:
    done = bench("submit", "--to", "mine.zip")
    assert done.code == 0, done.err
    assert "mine.zip: 1 run in 1 row" in done.out
    assert re.search(r"synth5-tiny\W+nearest_prototype\W+web\W+0\W+5\W", done.out)
    checked = bench("verify", "mine.zip", "--replay", "100%", "--summary", "summary.md")
    assert checked.code == 0, checked.out + checked.err
    assert "Sound: 1 record" in checked.out
    text = (made.root / "summary.md").read_text(encoding="utf-8")
    assert "mine.zip: sound" in text
    assert "100% of the runs were repeated" in text
    assert "| nearest_prototype |" in text


def test_a_submission_does_not_name_the_folders_of_weights(project: Project, bench: Bench) -> None:
    private = project.root / "private"
    private.mkdir()
    shutil.copy(PACKAGED["synth"], private / "w.safetensors")
    named = {"backbone": f"synth/{private}/w.safetensors"}
    options: dict[str, Any] = {"jobs": 0, "track": False, "project": project.root, "parameters": named}
    fb.run(methods=["nearest_prototype"], sources=["web"], targets=["web"], seeds=[0], **options)
    assert bench("submit").code == 0
    with zipfile.ZipFile("submission.zip") as archive:
        rows = archive.read("synth5-tiny/leave-none.jsonl").decode()
    assert "synth//w.safetensors" in rows
    assert "private" not in rows
    assert bench("verify", "submission.zip").code == 0
    nowhere = bench("verify", "submission.zip", "--replay", "100%")
    assert (nowhere.code, "cannot be repeated: w.safetensors not found; name the folder" in nowhere.out) == (1, True)
    there = bench("verify", "submission.zip", "--replay", "100%", "--weights", "private")
    assert there.code == 0, there.out + there.err


def test_an_incomplete_row_is_named_and_left_out_on_request(made: Project, bench: Bench) -> None:
    options: dict[str, Any] = {"jobs": 0, "track": False, "project": made.root}
    fb.run(methods=["linear_probe"], sources=["web", "film"], seeds=[0], **options)
    named = (
        "synth5-tiny: nearest_prototype is an incomplete row: trained on web, it has 5 of 10 cells of linear_probe; "
        "run the rest, or pack with --complete-rows to leave the row out"
    )
    done = bench("submit")
    assert done.code == 0, done.err
    assert f"warning: {named}\n" in done.err
    assert f"note: {named}\n" in bench("verify", "submission.zip").out
    done = bench("submit", "--complete-rows")
    assert (done.code, "incomplete" in done.err, "nearest_prototype" in done.out) == (0, False, False), done.err
    assert "warning: synth5-tiny: nearest_prototype: the whole row is left out: trained on web, it has 5 of" in done.err
    assert "submission.zip: 2 runs in 1 row" in done.out
    fb.run(methods=["linear_probe"], sources=["web"], seeds=[5], **options)
    done = bench("submit", "--method", "linear_probe")
    assert "the training on film lacks seed 5; run it, or pack with --complete-rows" in done.err
    done = bench("submit", "--method", "linear_probe", "--complete-rows")
    assert "submission.zip: 2 runs in 1 row" in done.out
    assert "linear_probe: 1 run is left out, because the training on film lacks seed 5\n" in done.err


def test_a_collapsed_training_is_named_by_run_and_submit(mine: Project, bench: Bench) -> None:
    web = ("--sources", "web", "--targets", "web,film", "--seeds", "0", "--jobs", "0", "--no-track")
    expected = r"mine on web, seed 0, answers \w+ for over 95 % of the images of web and film: the training collapsed"
    ran = bench("run", "-m", "mine", *web)
    assert ran.code == 0, ran.err
    assert re.search(f"note: {expected}", ran.err), ran.err
    done = bench("submit", "--to", "mine.zip")
    assert done.code == 0, done.err
    assert re.search(f"note: {expected}", " ".join(done.out.split())), done.out


def test_a_method_without_records_is_answered_with_the_next_step(project: Project, bench: Bench) -> None:
    empty = bench("submit", "--method", "cafe")
    assert (empty.code, "Make some with: fergen-bench run --method cafe" in empty.err) == (2, True), empty.err
    fb.run(methods=["nearest_prototype"], sources=["web"], seeds=[0], jobs=0, track=False, project=project.root)
    other = bench("submit", "--method", "cafe")
    assert "no record of 'cafe'; there is nearest_prototype." in other.err


def test_bytes_behind_a_submission_are_refused(made: Project, bench: Bench) -> None:
    assert bench("submit", "--to", "mine.zip").code == 0
    with Path("mine.zip").open("ab") as file:
        file.write(b"more")
    checked = bench("verify", "mine.zip")
    assert checked.code == 2
    assert "mine.zip: this submission cannot be read (it has bytes that belong to no file of the archive" in checked.err


def test_results_that_verify_refuses_are_not_submitted(made: Project, bench: Bench) -> None:
    (path,) = (made.root / "results" / "runs").rglob("*.json")
    path.write_text(path.read_text(encoding="utf-8").replace('"seed": 0', '"seed": 5'), encoding="utf-8")
    done = bench("submit")
    assert done.code != 0
    assert "nothing is submitted" in done.err
    assert not Path("submission.zip").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--method", "cafe"], "no record of 'cafe'"),
        (["--suite", "synth5"], "no record of 'synth5'"),
        (["--method-file", "cafe.py"], "no record is of a method 'cafe'"),
        (["--method-file", "nearest_prototype.py"], "this file does not exist"),
        (["--method-file", "bench.toml/nearest_prototype.py"], "this file does not exist"),
        (["--to", "bench.toml/mine.zip"], "bench.toml/mine.zip: cannot be written"),
        (["nowhere"], "nowhere"),
    ],
)
def test_a_wrong_argument_is_named(made: Project, bench: Bench, arguments: list[str], reason: str) -> None:
    done = bench("submit", *arguments)
    assert done.code != 0
    assert reason in done.err
    assert "Traceback" not in done.err


def test_a_method_file_that_did_not_make_the_records_is_refused(made: Project, bench: Bench) -> None:
    text = (ROOT / "methods" / "nearest_prototype.py").read_text(encoding="utf-8")
    Path("nearest_prototype.py").write_text(text + "\n", encoding="utf-8")
    done = bench("submit", "--method-file", "nearest_prototype.py")
    assert done.code != 0
    assert "differs from the file that made 1 of 1 record" in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("begins", "reason"),
    [
        (b"import beside\n", "differs from the file that made 1 of 1 record"),
        (b"x = '\0'\n", "nearest_prototype.py: this method file is not valid Python"),
        (b"#" * (65 << 20), "nearest_prototype.py: this method file cannot be read (it is larger"),
    ],
    ids=["sibling", "null", "large"],
)
def test_a_method_file_that_cannot_be_submitted_is_named(
    made: Project, bench: Bench, begins: bytes, reason: str
) -> None:
    Path("beside.py").write_text("x = 1\n", encoding="utf-8")
    Path("nearest_prototype.py").write_bytes(begins + (ROOT / "methods" / "nearest_prototype.py").read_bytes())
    done = bench("submit", "--method-file", "nearest_prototype.py")
    assert done.code == 2
    assert reason in " ".join(done.err.split())
    assert not Path("submission.zip").exists()


@pytest.mark.parametrize("text", ["0", "0%", "120%", "a tenth", "-1"])
def test_a_share_outside_its_range_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="is not a share"):
        Share().convert(text, None, None)


def test_a_share_is_a_number_or_per_cent() -> None:
    assert [Share().convert(text, None, None) for text in ("10%", "0.1", "1")] == [0.1, 0.1, 1.0]


def git(*arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *who, *arguments], check=True, capture_output=True)


def test_the_script_of_the_workflow_checks_added_submissions(made: Project, bench: Bench, tmp_path: Path) -> None:
    git("init", "-q", "-b", "main")
    git("add", "bench.toml")
    git("commit", "-qm", "Begin")
    git("switch", "-qc", "mine")
    assert bench("submit", "--to", "results/submissions/mine.zip").code == 0
    Path("results/submissions/broken.zip").write_bytes(b"nothing")
    git("add", "-f", "results/submissions")
    git("commit", "-qm", "Submit")
    tool = tmp_path / "tool"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m fergen_bench "$@"\n')
    tool.chmod(0o755)
    environment = {**os.environ, "BENCH": str(tool)}
    done = subprocess.run(
        [ROOT / ".ci" / "submissions", "main", "100%"], env=environment, capture_output=True, text=True
    )
    summary = Path(".submissions/summary.md").read_text(encoding="utf-8")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "mine.zip: sound" in summary
    assert "results/submissions/broken.zip could not be read." in summary


def test_the_script_has_nothing_to_do_without_submissions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "-b", "main")
    Path("a").write_text("a")
    git("add", "a")
    git("commit", "-qm", "Begin")
    done = subprocess.run([ROOT / ".ci" / "submissions", "main", "10%"], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, "No submission was added or changed.")
