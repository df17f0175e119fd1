"""Figures do not depend on the user's matplotlib, and leave it alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from conftest import ROOT

DRAW = """
import hashlib, sys
from pathlib import Path
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report import figures
about = {"name": "lab", "counts": {"train": {name: 20 + place for place, name in enumerate(EXPRESSIONS)}}}
picture = figures.save(figures.class_histogram(about), Path(sys.argv[1]), "classes")
for ending in (".png", ".svg", ".pdf"):
    print(hashlib.sha256(picture.with_suffix(ending).read_bytes()).hexdigest())
"""


def drawn(folder: Path, **environment: str) -> list[str]:
    """The checksums of a figure that a process of its own draws."""
    folder.mkdir(exist_ok=True)
    outside = {name: value for name, value in os.environ.items() if name not in {"MPLBACKEND", "MATPLOTLIBRC"}}
    result = subprocess.run(
        [sys.executable, "-c", DRAW, str(folder)],
        env={**outside, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
        encoding="utf-8",
    )
    assert result.returncode == 0, result.stderr
    assert "findfont" not in result.stderr
    return result.stdout.split()


@pytest.fixture(scope="module")
def as_usual(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return drawn(tmp_path_factory.mktemp("usual"))


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("TkAgg", "text.usetex: True"),
        ("module://matplotlib_inline.backend_inline", "font.family: NoSuchFont"),
        ("module://not.here", "figure.dpi: 20\nsavefig.bbox: tight\naxes.grid: True"),
        ("what", ""),
    ],
)
def test_figures_do_not_depend_on_the_backend_or_matplotlibrc(
    tmp_path: Path, as_usual: list[str], backend: str, settings: str
) -> None:
    (tmp_path / "matplotlibrc").write_text(settings, encoding="utf-8")
    (tmp_path / "file").touch()
    environment = {"MPLBACKEND": backend, "MATPLOTLIBRC": str(tmp_path)}
    if backend == "what":
        environment["MPLCONFIGDIR"] = str(tmp_path / "file" / "inside")  # cannot be written to
    assert drawn(tmp_path / "x", **environment) == as_usual


def test_the_settings_of_this_process_are_neither_used_nor_changed(tmp_path: Path) -> None:
    from fergen_bench.data.labels import EXPRESSIONS
    from fergen_bench.report import figures

    about = {"name": "lab", "counts": {"train": dict.fromkeys(EXPRESSIONS, 20)}}
    usual = figures.save(figures.class_histogram(about), tmp_path, "a").read_bytes()
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        backend = matplotlib.rcParams["backend"]
        assert figures.save(figures.class_histogram(about), tmp_path, "b").read_bytes() == usual
        assert (matplotlib.rcParams["font.size"], matplotlib.rcParams["axes.facecolor"]) == (30, "red")
        assert matplotlib.rcParams["backend"] == backend


def test_a_notebook_shows_a_figure() -> None:
    from fergen_bench.data.labels import EXPRESSIONS
    from fergen_bench.report import figures

    figure = figures.class_histogram({"name": "lab", "counts": {"train": dict.fromkeys(EXPRESSIONS, 20)}})
    assert isinstance(figure, matplotlib.figure.Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_a_report_chooses_no_backend() -> None:
    code = "import fergen_bench.report.figures, matplotlib; print(matplotlib.rcParams['backend'])"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "svg"},
        capture_output=True,
        check=True,
        encoding="utf-8",
    )
    assert result.stdout.split() == ["svg"]
