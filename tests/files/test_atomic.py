"""A full disk, a file one may not write, and drafts of the killed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Bench
from fergen_bench.experiment.project import Project
from fergen_bench.files.atomic import atomically, sweep


def test_a_draft_takes_its_place_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with atomically(path) as draft:
        draft.write_text("first")
    with pytest.raises(ZeroDivisionError), atomically(path) as draft:
        draft.write_text(str(1 / 0))
    assert path.read_text() == "first"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_drafts_of_a_file_are_swept_and_nothing_else(tmp_path: Path) -> None:
    for name in (".a.json-x1y2", ".ab.json-x1y2", "a.json", ".a.json"):
        (tmp_path / name).write_text("")
    sweep(tmp_path / "a.json")
    assert sorted(file.name for file in tmp_path.iterdir()) == [".a.json", ".ab.json-x1y2", "a.json"]


WRITERS: dict[str, str] = {
    "npz": "np.savez(draft.open('wb'), a=np.zeros(100000))",
    "npy": "np.zeros(100000).tofile(draft.open('wb'))",
    "torch": "torch.save({'a': torch.zeros(100000)}, draft)",
    "safetensors": "save_file({'a': torch.zeros(100000)}, draft)",
}


def test_a_full_disk_is_recognized_in_the_errors_of_every_library_that_writes(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the full disk."""
    attempts = "".join(
        f"""
try:
    with atomically(Path("{name}")) as draft:
        {statement}
except Exception as error:
    print(type(circumstance(error)).__name__, circumstance(error))
"""
        for name, statement in WRITERS.items()
    )
    code = f"""
import resource, numpy as np, torch
from pathlib import Path
from safetensors.torch import save_file
from fergen_bench.files.atomic import atomically
from fergen_bench.error import circumstance
resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))
{attempts}"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    for name, line in zip(WRITERS, done.stdout.splitlines(), strict=True):
        assert line.startswith(f"NoRoom {name}: the disk or your quota is full")
    assert list(tmp_path.iterdir()) == []


def room_for(size: int) -> Callable[[], None]:
    import resource

    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.slow
def test_a_matrix_on_a_full_disk_stops_in_one_sentence_and_goes_on_later(project: Project, bench: Bench) -> None:
    command = ["run", "-m", "nearest_prototype", "--sources", "web,grey48,film", "--seeds", "0"]
    assert bench(*command, "--sources", "web").code == 0
    first = list((project.results / "runs").glob("*/*/*.json"))
    done = subprocess.run(
        [sys.executable, "-m", "fergen_bench", *command, "--no-track", "--jobs", "1"],
        cwd=project.root,
        capture_output=True,
        text=True,
        preexec_fn=room_for(6000),
        env={**os.environ, "COLUMNS": "300"},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("the disk or your quota is full") == 1  # the second run was not begun
    assert "Traceback" not in done.stderr
    assert "0 runs done" in done.stderr
    assert "2 not" in done.stderr
    assert list((project.results / "runs").rglob(".*")) == []
    assert list((project.results / "runs").glob("*/*/*.json")) == first
    assert bench(*command).code == 0
    assert len(list((project.results / "runs").glob("*/*/*.json"))) == 3
