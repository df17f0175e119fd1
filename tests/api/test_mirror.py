"""Mirroring the records of a project to MLflow."""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import partial

import pytest
from examples import SPEC, finished

from fergen_bench.api import mirror as api
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project
from fergen_bench.records import store
from fergen_bench.records.mlflow_mirror import RefusedRecord, TrackingError
from fergen_bench.records.record import RunRecord


class Stub:
    """A mirror that refuses the record of one seed, and fails at that of another."""

    def __init__(self, refused: tuple[int, ...] = (), fatal: int | None = None) -> None:
        self.refused, self.fatal, self.written = refused, fatal, list[int]()

    def mirror(self, record: RunRecord) -> bool:
        seed = record.spec.seed
        if seed in self.refused:
            raise RefusedRecord(f"MLflow does not accept seed {seed}")
        if seed == self.fatal:
            raise TrackingError("MLflow does not respond")
        self.written.append(seed)
        return seed != 3  # it is there already


@pytest.fixture
def records(project: Project) -> None:
    for seed in range(4):
        store.save(finished(replace(SPEC, seed=seed)), project.results / "runs")


@pytest.mark.usefixtures("records")
def test_sync_counts_what_it_wrote(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_open_mirror", lambda project: Stub())
    warnings: list[str] = []
    synced = api.sync(project, warnings.append)
    assert (synced.written, synced.total, warnings) == (3, 4, [])
    assert synced.uri.endswith("results/mlflow.db")


@pytest.mark.usefixtures("records")
@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ((0,), "MLflow does not accept seed 0$"),
        ((0, 2), "MLflow does not accept seed 0. 1 other record is refused too$"),
        ((0, 1, 2), "MLflow does not accept seed 0. 2 other records are refused too$"),
    ],
)
def test_sync_passes_over_refused_records_and_names_them_at_the_end(
    project: Project, monkeypatch: pytest.MonkeyPatch, refused: tuple[int, ...], message: str
) -> None:
    stub = Stub(refused)
    monkeypatch.setattr(api, "_open_mirror", lambda project: stub)
    with pytest.raises(BenchError, match=message):
        api.sync(project, lambda text: None)
    assert sorted(stub.written) == sorted({0, 1, 2, 3} - set(refused))


@pytest.mark.usefixtures("records")
def test_sync_ends_where_mlflow_does_not_respond(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api, "_open_mirror", lambda project: Stub(fatal=2))
    warnings: list[str] = []
    with pytest.raises(BenchError, match="MLflow does not respond"):
        api.sync(project, warnings.append)
    assert warnings == ["2 of 4 records were written before the mirror failed"]


def test_records_that_the_mirror_has_not_written_in_time_are_named_in_one_sentence(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = threading.Event()

    class Slow(Stub):
        def mirror(self, record: RunRecord) -> bool:
            begun.wait()
            return super().mirror(record)

    monkeypatch.setattr(api, "_open_mirror", lambda project: Slow())
    warnings: list[str] = []
    following = api.follow(project, warnings.append)
    monkeypatch.setattr(following, "close", partial(following.close, patience=0.0))
    for seed in range(2):
        following.add(finished(replace(SPEC, seed=seed)))
    api.finish(following, warnings.append)
    assert warnings == ["2 records are complete, but not in MLflow yet; mirror with: fergen-bench sync"]
    begun.set()
    assert type(following).close(following, 30.0) == 0
