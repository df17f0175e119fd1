"""Preparing and checking datasets by the API: the options that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fergen_bench as fb
from fergen_bench.api.data import check
from fergen_bench.api.display import display
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Return a folder with a folder of images per expression."""
    for label, name in enumerate(EXPRESSIONS):
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (20, 20), (30 * label, 40 * number, 0)).save(tmp_path / "faces" / name / f"{number}.png")
    return tmp_path / "faces"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data prepare folder: the domain has no name; give one with --name"),
        ({"name": "my faces"}, "--name: 'my faces' cannot be a name"),
        ({"name": "web"}, "--name: 'web' is a domain that comes with the package"),
        ({"name": "rafdb"}, "--name: rafdb is the name of another dataset"),
        ({"name": "mine", "size": 4}, "--size: "),
        ({"name": "mine", "label_rule": "most"}, "--label-rule: "),
    ],
)
def test_a_wrong_option_is_named(project: Project, faces: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BenchError) as error:
        fb.prepare("folder", faces, project=project, progress=False, **options)
    assert str(error.value).startswith(message)
    assert not project.data.exists()


def test_a_prepared_domain_is_checked_and_not_taken_for_another(project: Project, faces: Path) -> None:
    folder = fb.prepare("folder", faces, name="mine", project=project, progress=False)
    assert folder == project.data / "mine"
    with display(False) as shown:
        (found,) = check(project, [], None, True, shown)
        with pytest.raises(BenchError, match="no domain 'mien'; did you mean mine"):
            check(project, ["mien"], None, True, shown)
    assert (found.domain, found.dataset, found.failed) == ("mine", "folder", False)
    with pytest.raises(BenchError, match="contains folder"):
        fb.prepare("csv", faces, name="mine", project=project, progress=False)
