"""Fixtures for all tests: synth5-tiny, rendered once, in a project of its own."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

# Before numpy is imported. Threads of several processes on few cores take processor time in waiting for each other.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import torch
from browsing import browser  # noqa: F401  (fixture)
from filelock import FileLock
from hypothesis import settings
from planted import audit, drawn, made, prepared, store  # noqa: F401  (fixtures)
from running import exported, kept_run, lab, mine, noted_lab, probe_runs, results  # noqa: F401  (fixtures)
from small_models import small, weights  # noqa: F401  (fixtures)
from tiny_clip import write_tiny_clip

import sketching
from fergen_bench import cli
from fergen_bench.data.domain import Domain
from fergen_bench.data.source import Source, open_source
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.files.atomic import atomically
from fergen_bench.synth import DOMAINS
from fergen_bench.training.contract import Context
from lasting import lasting_processes, own_processes  # noqa: F401  (fixtures)

torch.set_num_threads(1)
# On a busy machine a limit of time fails right code. A commit is tried with the same cases each time, so that one which
# passed also passes elsewhere; --hypothesis-profile=random tries other cases.
settings.register_profile("random", deadline=None)
settings.register_profile("repeated", settings.get_profile("random"), derandomize=True)
settings.load_profile("repeated")
ROOT = Path(__file__).parents[1]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect garbage seldom, and not in what the modules of tests loaded: it took a sixth of the processor time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.set_threshold(20_000, 10, 10)
        gc.enable()


@pytest.fixture(autouse=True)
def _no_tracking_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _golden_files_are_accounted_for() -> Iterator[None]:
    yield
    if (golden := sys.modules.get("golden")) is not None:
        golden.account()


@pytest.fixture(scope="session", autouse=True)
def _mlflow_creates_its_tables_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Begin every new database as a copy of the first one, since creating the tables takes seconds."""
    first = tmp_path_factory.mktemp("mlflow") / "mlflow.db"

    @contextmanager
    def copied(path: Path) -> Iterator[Path]:
        with atomically(path) as draft:
            if first.is_file():
                shutil.copy(first, draft)
            yield draft
        if not first.is_file():
            shutil.copy(path, first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fergen_bench.records.mlflow_mirror.atomically", copied)
        yield


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that contains synth5-tiny. Processes of pytest-xdist render it once, and have a copy each."""
    own = tmp_path_factory.mktemp("tiny")
    shared = tmp_path_factory.getbasetemp().parent / "tiny" if "PYTEST_XDIST_WORKER" in os.environ else own
    with FileLock(f"{shared}.lock"):
        project = Project(shared, configured=False)
        project.prepared(project.suite("synth5-tiny"), DOMAINS)
    if shared != own:
        shutil.copytree(project.cache, Project(own, configured=False).cache)
    return Project(own, configured=False).cache


@pytest.fixture
def project(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Return an empty project in the current folder, with the cache of the session."""
    (tmp_path / "bench.toml").write_text(f'suite = "synth5-tiny"\ncache = "{cache}"\ndevice = "cpu"\n')
    monkeypatch.chdir(tmp_path)
    return find_project()


class Result(NamedTuple):
    code: int
    out: str
    err: str


Bench = Callable[..., Result]


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make figures and do not draw them in this test. tests/report examines real ones."""
    monkeypatch.setattr("fergen_bench.report.figures.save", sketching.save)


@pytest.fixture
def bench(
    project: Project, sketched: None, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Bench:
    """Return a function that runs a command in this process: bench("run", "--method", "cafe") → code, out, err."""
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Result:
        monkeypatch.setattr("sys.argv", ["fergen-bench", *arguments])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Result(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="session")
def web(cache: Path) -> Domain:
    return Domain(cache / "domains" / "synth5-tiny-v2" / "web")


@pytest.fixture(scope="session")
def film(cache: Path) -> Domain:
    return Domain(cache / "domains" / "synth5-tiny-v2" / "film")


@pytest.fixture(scope="session")
def text_backbone(web: Domain, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of a backbone with a text tower, whose weights are in a file."""
    return write_tiny_clip(tmp_path_factory.mktemp("clip"), web)


@pytest.fixture
def source(web: Domain) -> Source:
    return open_source([web], seed=0)


@pytest.fixture
def ctx(tmp_path: Path) -> Context:
    """Return a context on the CPU with an empty cache."""
    return Context("test", 0, "last", torch.device("cpu"), tmp_path / "cache", lambda what, done, total: None)
