"""The package as others install it: a wheel in a clean environment, in an empty folder, with a method of one's own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from conftest import ROOT
from fergen_bench.cli.templates import method_template

pytestmark = pytest.mark.slow

LARGEST = 20_000_000
"""Bytes of a wheel that is still sensible: the packaged networks and the committed results are most of it."""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean environment with the wheel in it. The dependencies are those of the environment the tests run in."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)  # the source distribution, and from it the wheel
    (wheel,) = folder.glob("*.whl")
    assert wheel.stat().st_size < LARGEST
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    install = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(python),
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        str(wheel),
    ]
    subprocess.run(install, check=True, capture_output=True)
    # After the installation: the folder is searched last, and its own .pth files (an editable install) are not read.
    Path(site, "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return folder / "venv" / "bin" / "fergen-bench"


def call(command: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return subprocess.run(
        [command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )


def test_an_empty_folder_and_ones_own_method(installed: Path, tmp_path: Path) -> None:
    listed = call(installed, tmp_path, "list")
    assert listed.returncode == 0, listed.stderr
    assert "leave-none" in listed.stdout
    (tmp_path / "methods").mkdir()
    (tmp_path / "methods" / "mine.py").write_text(method_template("mine", "frozen"))
    (tmp_path / "methods" / "nearer.py").write_text(
        '"""A method on a shipped one."""\nfrom dataclasses import dataclass\nfrom fergen_bench.methods import knn\n'
        "@dataclass\nclass Nearer(knn.Knn):\n    k: int = 1\n"
    )
    ran = call(
        installed,
        tmp_path,
        "run",
        *("--protocol", "smoke", "--no-track"),
        *("--method", "mine", "--method", "linear_probe", "--method", "nearer"),
    )
    assert ran.returncode == 0, ran.stderr
    assert "mine on web, seed 0: in-domain" in ran.stderr
    assert len(list((tmp_path / "results" / "runs").glob("synth5-tiny/*/*.json"))) == 3
    site = call(installed, tmp_path, "site", "public", "--records", "results")
    assert site.returncode == 0, site.stderr
    assert "Mine" in (tmp_path / "public" / "methods" / "mine.html").read_text(encoding="utf-8")
    report = call(installed, tmp_path, "report")
    assert report.returncode == 0, report.stderr
    assert "results/report/index.html" in report.stdout
    code = "from fergen_bench.experiment.shipped import shipped; print(*(shipped('results') / 'published').iterdir())"
    python = installed.parent / "python"
    published = call(python, tmp_path, "-c", code)
    assert "cafe_table1.csv" in published.stdout
    code = (
        "from importlib.resources import files; import fergen_bench as fb; assert (files(fb) / 'py.typed').is_file(); "
        "print(*fb.load_results('results').leaderboard().method)"
    )
    assert set(call(python, tmp_path, "-c", code).stdout.split()) == {"mine", "linear_probe", "nearer"}


def test_the_committed_results_methods_and_protocols_are_installed(installed: Path, tmp_path: Path) -> None:
    python = installed.parent / "python"
    code = (
        "import fergen_bench as fb; print(len(fb.load_results('reference').leaderboard()), len(fb.list_methods()), "
        "len(fb.list_protocols()))"
    )
    answer = call(python, tmp_path, "-c", code)
    rows, methods, protocols = map(int, answer.stdout.split())
    assert rows >= 5
    assert methods == len(list((ROOT / "methods").glob("[!_]*.py")))
    assert protocols == len(list((ROOT / "protocols").glob("*.yaml")))


def test_the_wheel_is_what_is_used(installed: Path, tmp_path: Path) -> None:
    python = installed.parent / "python"
    where = call(python, tmp_path, "-c", "import fergen_bench; print(fergen_bench.__file__)")
    assert str(installed.parents[1]) in where.stdout
