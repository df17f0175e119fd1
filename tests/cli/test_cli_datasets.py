"""`fergen-bench data`: preparing, describing and checking domains."""

from __future__ import annotations

from pathlib import Path

from conftest import Bench
from fergen_bench.experiment.project import Project


def test_describe_with_a_contact_sheet(project: Project, bench: Bench) -> None:
    result = bench("data", "describe", "web", "--suite", "synth5-tiny", "--sheet", "sheet.png")
    assert result.code == 0
    assert "fingerprint" in result.out
    assert "happiness" in result.out
    assert Path("sheet.png").stat().st_size > 10_000
    result = bench("data", "describe", "web", "--suite", "synth5-tiny", "--sheet", "sheet.gif")
    assert result.code == 2
    assert "sheet.gif: a contact sheet is an image. Choose a name that ends in .png or .jpg" in result.err


def test_a_copy_that_does_not_exist_is_answered_with_the_next_step(project: Project, bench: Bench) -> None:
    unknown = bench("data", "check", "gone")
    assert "no domain 'gone'. Prepare it with: fergen-bench data prepare" in unknown.err
    with (project.root / "bench.toml").open("a") as file:
        file.write('\n[domains.gone]\npath = "nowhere"\n')
    checked = bench("data", "check", "gone")
    path = project.root / "nowhere"
    assert checked.code == 1
    assert f"bench.toml: domains.gone.path: {path} does not exist; correct the path or remove the table" in checked.out


def test_a_path_of_windows_in_double_quotes_is_shown_as_it_was_read(project: Project, bench: Bench) -> None:
    with (project.root / "bench.toml").open("a") as file:
        file.write('\n[domains.lab]\npath = "C:\\new\\table"\n')
    checked = bench("data", "check", "lab")
    assert checked.code == 1
    assert r"C:\x0aew\x09able does not exist; a backslash in double quotes begins an escape, so" in checked.out
