"""The commit that a record names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from fergen_bench.execution.environment import commit_of


def git(folder: Path, *asked: str) -> str:
    about = ("-c", "user.name=A", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
    answer = subprocess.run(["git", "-C", str(folder), *about, *asked], capture_output=True, text=True, check=True)
    return answer.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "methods").mkdir(parents=True)
    (folder / "methods" / "mine.py").write_text("x = 1\n")
    (folder / ".gitignore").write_text(".venv\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    return folder


def test_the_commit_is_that_of_the_repository_that_has_the_file(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = repository / "methods" / "mine.py"
    first = git(repository, "rev-parse", "--short=12", "HEAD")
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    (other / "thesis.tex").write_text("x")
    git(other, "add", ".")
    git(other, "commit", "-q", "-m", "another repository")
    for standing in (repository, other, tmp_path):
        monkeypatch.chdir(standing)
        assert commit_of(method) == first
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))  # as in a hook of git
    assert commit_of(method) == first
    assert commit_of(other / "thesis.tex") != first


def test_changes_are_marked_and_nothing_is_written(repository: Path) -> None:
    method, index = repository / "methods" / "mine.py", repository / ".git" / "index"
    first = commit_of(method)
    assert first is not None
    method.touch()  # git would note in its index that nothing changed
    before = index.read_bytes()
    assert commit_of(method) == first
    method.write_text("x = 2\n")
    assert commit_of(method) == f"{first}+"
    assert index.read_bytes() == before


def test_a_file_that_no_repository_has_has_no_commit(repository: Path, tmp_path: Path) -> None:
    installed = repository / ".venv" / "lib" / "package.py"
    installed.parent.mkdir(parents=True)
    loose, alone = repository / "methods" / "new.py", tmp_path / "alone.py"
    for file in (installed, loose, alone):
        file.write_text("x = 1\n")
        assert commit_of(file) is None
    assert commit_of(tmp_path / "nowhere" / "gone.py") is None
