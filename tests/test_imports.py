"""Imports point one way, and heavy packages load only where they are needed."""

from __future__ import annotations

import functools
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs"))

import architecture
from architecture import PACKAGE, modules

imported = functools.cache(architecture.imported)

MAY_IMPORT: dict[str, set[str] | None] = {
    "wording": set(),
    "error": {"wording"},
    "progress": set(),
    "metric": set(),
    "files": {"error"},
    "data": {"error", "files", "wording"},
    "synth": {"data", "error", "files", "progress"},
    "datasets": {"data", "error", "files", "progress", "wording"},
    "networks": {"data", "error", "files", "progress", "synth", "wording"},
    "experiment": {"data", "datasets", "error", "files", "networks", "progress", "synth", "wording"},
    "methods": {"experiment"},
    "records": {"data", "datasets", "error", "experiment", "files", "metric", "wording"},
    "finished": {
        "data",
        "datasets",
        "error",
        "experiment",
        "files",
        "metric",
        "networks",
        "progress",
        "records",
        "wording",
    },
    "training": {"data", "error", "experiment", "files", "networks", "progress", "wording"},
    "execution": {
        "data",
        "datasets",
        "error",
        "experiment",
        "files",
        "metric",
        "networks",
        "progress",
        "records",
        "synth",
        "training",
        "wording",
    },
    "submission": {"data", "error", "execution", "experiment", "files", "metric", "progress", "records", "wording"},
    "report": {"data", "datasets", "error", "experiment", "files", "metric", "records", "wording"},
    "prediction": {"data", "datasets", "error", "files", "report", "wording"},
    "api": {
        "data",
        "datasets",
        "error",
        "execution",
        "experiment",
        "files",
        "finished",
        "metric",
        "networks",
        "prediction",
        "progress",
        "records",
        "report",
        "submission",
        "synth",
        "wording",
    },
    "cli": None,  # everything
    "__main__": {"cli"},
}
"""The rooms, in an order in which they could be built, and what each may import from fergen_bench."""

WITH_TORCH = {
    "execution/by_hand.py",
    "execution/environment.py",
    "execution/layer.py",
    "execution/runner.py",
    "execution/scoring.py",
    "execution/similarity.py",
    "networks",
    "synth/factor_sweep.py",
    "synth/networks.py",
    "synth/pretrain.py",
    "training",
}
"""Rooms and modules that import torch at the top. networks/name.py, hub.py and prompts.py do not."""
TORCH_FREE = {"networks/name.py", "networks/hub.py", "networks/prompts.py"}


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_one_way(name: str) -> None:
    allowed = MAY_IMPORT[name]
    if allowed is None:
        return
    for path in modules()[name]:
        for target in imported(path):
            parts = target.split(".")
            if parts[0] == "fergen_bench" and len(parts) > 1 and parts[1] in modules():
                assert parts[1] in allowed | {name}, f"{path.relative_to(ROOT)} imports {target}"


def test_the_order_above_has_no_cycle() -> None:
    built: set[str] = set()
    for name, allowed in MAY_IMPORT.items():
        assert allowed is None or allowed <= built, name
        built.add(name)
    assert built == set(modules())


def torch_free(path: Path) -> bool:
    inside = path.relative_to(PACKAGE)
    return str(inside) in TORCH_FREE or not {str(inside), inside.parts[0]} & WITH_TORCH


@pytest.mark.parametrize("name", sorted(modules()))
def test_other_modules_never_import_torch_at_the_top(name: str) -> None:
    for path in filter(torch_free, modules()[name]):
        heavy = {
            target
            for target in imported(path, top_level_only=True)
            if target.split(".")[0] in {"torch", "timm", "open_clip", "mlflow"}
        }
        assert not heavy, f"{path.relative_to(ROOT)} imports {heavy}"


@pytest.mark.parametrize(
    ("package", "home"),
    [
        ("mlflow", "records"),
        ("seaborn", "report"),
        ("open_clip", "networks"),
        ("timm", "networks"),
        ("ray", "execution"),
        ("submitit", "execution"),
    ],
)
def test_a_heavy_package_has_one_home(package: str, home: str) -> None:
    users = {
        name
        for name, paths in modules().items()
        for path in paths
        if any(target.split(".")[0] == package for target in imported(path))
    }
    assert users == {home}


def test_methods_use_public_names_and_never_each_other() -> None:
    stems = {path.stem for path in (ROOT / "methods").glob("*.py")}
    for path in (ROOT / "methods").glob("*.py"):
        for target in imported(path):
            parts = target.split(".")
            assert parts[0] not in stems - {path.stem}, f"{path.name} imports {target}"
            if parts[0] == "fergen_bench":
                assert len(parts) == 2 or parts[1] == "training", f"{path.name} imports {target}"


@pytest.mark.parametrize(
    ("arguments", "forbidden"),
    [
        ("--help", "torch numpy pandas pydantic mlflow rich"),
        ("run --help", "torch numpy pandas pydantic mlflow"),
        ("list", "torch numpy pandas pydantic yaml mlflow rich"),
        ("list methods", "torch numpy pandas mlflow"),
        ("list cafe", "torch numpy pandas mlflow"),
        ("list backbones", "torch open_clip timm"),
        ("completion bash", "torch numpy pandas mlflow"),
    ],
)
def test_help_and_lists_load_nothing_heavy(arguments: str, forbidden: str, tmp_path: Path) -> None:
    code = (
        "import sys; from fergen_bench import cli\ntry: cli.main()\n"
        "except SystemExit as end: assert not end.code\nprint('LOADED', *sys.modules)"
    )
    command = [sys.executable, "-c", code, *arguments.split()]
    answer = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    loaded = set(answer.stdout.partition("LOADED")[2].split())
    assert not loaded & set(forbidden.split())


def test_reports_never_load_torch(tmp_path: Path) -> None:
    modules = ", ".join(f"fergen_bench.report.{name}" for name in ("folder", "page", "terminal"))
    code = f"import sys; import {modules}; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert answer.stdout.strip() == "False", answer.stderr


def test_the_package_of_methods_loads_torch_with_a_method_only(tmp_path: Path) -> None:
    code = (
        "import sys, fergen_bench.methods; print('torch' in sys.modules); from fergen_bench.methods import knn; knn.Knn"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert answer.stdout.strip() == "False", answer.stderr
    assert answer.returncode == 0, answer.stderr


def test_public_names_are_all_there() -> None:
    import fergen_bench

    for name in fergen_bench.__all__:
        assert getattr(fergen_bench, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = fergen_bench.Nothing
