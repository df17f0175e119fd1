"""Method files derive from shipped methods, and their digest covers the texts of these."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

import fergen_bench.methods
from conftest import ROOT
from fergen_bench.error import BenchError
from fergen_bench.experiment import shipped
from fergen_bench.experiment.method_file import read_method
from fergen_bench.training.load import load_method

WAYS = {
    "from fergen_bench.methods import scn": "scn.Scn",
    "from fergen_bench.methods import scn as ranked": "ranked.Scn",
    "from fergen_bench.methods.scn import Scn": "Scn",
    "from fergen_bench.methods.scn import Scn as Ranked": "Ranked",
    "import fergen_bench.methods.scn": "fergen_bench.methods.scn.Scn",
    "import fergen_bench.methods.scn as ranked": "ranked.Scn",
}


def write(folder: Path, line: str, base: str, more: str = "    own: int = 1  # of mine\n") -> Path:
    path = folder / "mine.py"
    path.write_text(
        f'"""Mine."""\nfrom dataclasses import dataclass\nfrom typing import ClassVar\n{line}\n\n\n@dataclass\n'
        f"class Mine({base}):\n{more}"
    )
    return path


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the folder of shipped methods that takes its place."""
    folder = tmp_path / "shipped"
    shutil.copytree(ROOT / "methods", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(shipped, "shipped", lambda kind: folder)
    monkeypatch.setattr(fergen_bench.methods, "__path__", [str(folder)])
    return folder


@pytest.mark.parametrize(("line", "base"), WAYS.items())
def test_a_method_inherits_what_a_shipped_method_declares(tmp_path: Path, line: str, base: str) -> None:
    method, scn = read_method(write(tmp_path, line, base)), read_method(ROOT / "methods" / "scn.py")
    assert [parameter.name for parameter in method.parameters] == [*(one.name for one in scn.parameters), "own"]
    assert method.defaults("small") == scn.defaults("small") | {"own": 1}
    assert (method.group, method.note, method.version, method.about) == (scn.group, scn.note, scn.version, "Mine.")


@pytest.mark.parametrize("name", ["scn", "linear_probe", "coral", "zero_shot"])
def test_the_class_is_what_was_read(tmp_path: Path, name: str) -> None:
    shipped_class = read_method(ROOT / "methods" / f"{name}.py").class_name
    changed = '    recipes: ClassVar[dict] = {"small": {"own": 2}}\n    own: int = 1\n'
    path = write(tmp_path, f"from fergen_bench.methods import {name}", f"{name}.{shipped_class}", changed)
    read = read_method(path)
    made = type(load_method(path, "Mine", read.defaults("default")))
    assert made() == made(**read.defaults("default"))
    assert dict(made.recipes) == dict(read.recipes)
    declared = (read.version, read.needs, read.learns_prior, read.least_domains, read.note, read.group)
    assert declared == (made.version, made.needs, made.learns_prior, made.least_domains, made.note, made.group)


def test_the_digest_changes_with_the_text_of_a_base(tmp_path: Path, copied: Path) -> None:
    path = write(tmp_path, "from fergen_bench.methods import scn", "scn.Scn")
    before = read_method(path).digest
    (copied / "rul.py").write_text((copied / "rul.py").read_text() + "# edited\n")
    assert read_method(path).digest == before
    (copied / "scn.py").write_text((copied / "scn.py").read_text() + "# edited\n")
    edited = read_method(path).digest
    assert edited != before
    path.write_text(path.read_text() + "# edited\n")
    assert read_method(path).digest not in {before, edited}


def test_the_digest_covers_functions_and_what_a_base_imports(tmp_path: Path, copied: Path) -> None:
    (copied / "scn.py").write_text("from fergen_bench.methods.rul import Rul\n" + (copied / "scn.py").read_text())
    (copied / "rul.py").write_text(
        "from fergen_bench.methods import scn\n" + (copied / "rul.py").read_text()
    )  # a circle
    path = write(
        tmp_path, "from fergen_bench import TrunkMethod\nfrom fergen_bench.methods.scn import Scn", "TrunkMethod"
    )
    assert list(shipped.methods_behind(path)) == ["rul", "scn"]
    before = read_method(path).digest
    (copied / "rul.py").write_text((copied / "rul.py").read_text() + "# edited\n")
    assert read_method(path).digest != before


def test_the_digest_of_a_file_alone_is_that_of_its_text() -> None:
    path = ROOT / "methods" / "cafe.py"
    assert shipped.digest_of_method(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_edited_base_is_imported_anew(tmp_path: Path, copied: Path) -> None:
    path = write(tmp_path, "from fergen_bench.methods import scn", "scn.Scn")
    values = read_method(path).defaults("default")
    assert not hasattr(load_method(path, "Mine", values), "edited")
    text = (copied / "scn.py").read_text()
    (copied / "scn.py").write_text(text.replace("    def build(", "    edited = True\n\n    def build(", 1))
    assert hasattr(load_method(path, "Mine", values), "edited")


@pytest.mark.parametrize(
    ("line", "base", "message"),
    [
        (
            "from fergen_bench.methods import caffe",
            "caffe.Cafe",
            r"mine\.py:4: fergen_bench\.methods has no method 'caffe'; did you mean cafe\?",
        ),
        (
            "from fergen_bench.methods.caffe import Cafe",
            "Cafe",
            r"mine\.py:4: fergen_bench\.methods has no method 'caffe'; did you mean cafe\?",
        ),
        (
            "from fergen_bench.methods import cafe",
            "cafe.Caf",
            r"mine\.py:8: .*cafe\.py has no class 'Caf'; did you mean",
        ),
        ("from fergen_bench.methods import scn", "scn.torch", r"mine\.py:8: .*scn\.py has no class 'torch'"),
        (
            "from fergen_bench.methods import zero_shot",
            "torch.nn.Module",
            r"mine\.py: a method file contains one class .* or a shipped method; this one has no class",
        ),
    ],
)
def test_a_base_that_does_not_exist_is_refused(tmp_path: Path, line: str, base: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        read_method(write(tmp_path, line, base))
