"""The digest of a copy of a dataset. tests/experiment/test_project.py has whole domains."""

from __future__ import annotations

import os
from pathlib import Path

from fergen_bench import datasets
from fergen_bench.datasets.copies import copy_digest
from fergen_bench.datasets.settings import DomainSettings

FOLDER = datasets.dataset("folder", "test")


def test_files_and_options_change_the_digest_and_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "happy").mkdir()
    image = tmp_path / "happy" / "1.png"
    image.write_bytes(b"one")
    settings = DomainSettings(path=tmp_path)
    first = copy_digest(FOLDER, settings)
    (tmp_path / "happy" / ".DS_Store").write_text("left over")
    assert copy_digest(FOLDER, settings) == first
    assert copy_digest(FOLDER, settings.model_copy(update={"size": 48})) != first
    image.write_bytes(b"another")
    second = copy_digest(FOLDER, settings)
    os.utime(image, ns=(1, 1))
    third = copy_digest(FOLDER, settings)
    image.rename(tmp_path / "happy" / "2.png")
    assert len({first, second, third, copy_digest(FOLDER, settings)}) == 4


def test_a_moved_copy_keeps_its_digest(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "1.png").write_bytes(b"one")
    first = copy_digest(FOLDER, DomainSettings(path=tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    assert copy_digest(FOLDER, DomainSettings(path=tmp_path / "there")) == first
