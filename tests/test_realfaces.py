"""Folders of real photographs, where there are any: FERGEN_REALFACES names a folder of two or more domains."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from conftest import Bench
from fergen_bench.experiment.project import Project

FOLDER = os.environ.get("FERGEN_REALFACES")


@pytest.mark.slow
@pytest.mark.skipif(not FOLDER, reason="FERGEN_REALFACES names no folder of real faces")
def test_a_suite_of_real_folders(project: Project, bench: Bench) -> None:
    assert FOLDER
    domains = sorted(path for path in Path(FOLDER).iterdir() if path.is_dir())[:2]
    tables = "".join(f'[domains.{path.name}]\npath = "{path}"\n' for path in domains)
    names = ", ".join(f'"{path.name}"' for path in domains)
    suite = f'[suites.real]\ndomains = [{names}]\nbackbone = "synth"\ntrunk = "synth-trunk"\nrecipe = "small"\n'
    toml = project.root / "bench.toml"
    toml.write_text(toml.read_text() + tables + suite)
    methods = ("--method", "linear_probe", "--method", "cafe", "--method", "full_finetune")
    result = bench("run", "--suite", "real", *methods, "--protocol", "smoke", "--no-track")
    assert result.code == 0, result.err
    assert "synthetic" not in result.err
    report = bench("report")
    assert "real (real faces)" in report.out
    assert "0.0 " not in report.out.partition("Leaderboard, accuracy")[2]
