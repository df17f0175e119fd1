"""Mirroring in a thread: servers that fail or never answer, and records that they refuse."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest
from examples import SPEC, finished

from fergen_bench.records import mlflow_following
from fergen_bench.records.mlflow_following import Following
from fergen_bench.records.mlflow_mirror import Mirror, RefusedRecord, TrackingError
from fergen_bench.records.record import RunRecord


class Broken:
    """Stands in for a mirror whose server gives errors for a while."""

    def __init__(self, fails: int, refuses: tuple[int, ...] = ()) -> None:
        self.fails, self.refuses, self.opened, self.seen = fails, refuses, 0, list[int]()

    def open(self) -> Broken:
        self.opened += 1
        return self

    def mirror(self, record: RunRecord) -> bool:
        if self.fails:
            self.fails -= 1
            raise TrackingError("no answer")
        if record.spec.seed in self.refuses:
            raise RefusedRecord(f"seed {record.spec.seed}")
        self.seen.append(record.spec.seed)
        return True


def test_what_a_server_refused_is_tried_again_with_a_later_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_following, "RETRY", 0.0)
    server, said = Broken(fails=2), list[str]()
    following = Following(server.open, tmp_path / "lock", said.append)  # type: ignore[arg-type]
    for seed in range(3):
        following.add(finished(replace(SPEC, seed=seed)))
    assert following.close() == 0
    assert (server.seen, said) == ([0, 1, 2], ["no answer"])
    assert server.opened == 3  # anew after each error


def test_a_refused_record_does_not_stop_later_ones(tmp_path: Path) -> None:
    server, warnings = Broken(fails=0, refuses=(0, 2)), list[str]()
    following = Following(server.open, tmp_path / "lock", warnings.append)  # type: ignore[arg-type]
    for seed in range(4):
        following.add(finished(replace(SPEC, seed=seed)))
    assert following.close() == 2
    assert (server.seen, server.opened, warnings) == ([1, 3], 1, ["seed 0"])


def test_a_server_that_failed_is_left_alone_for_a_while(tmp_path: Path) -> None:
    server, said = Broken(fails=1), list[str]()
    following = Following(server.open, tmp_path / "lock", said.append)  # type: ignore[arg-type]
    for seed in range(3):
        following.add(finished(replace(SPEC, seed=seed)))
    assert following.close() == 3
    assert (server.seen, server.opened, said) == ([], 1, ["no answer"])


def test_a_server_that_never_answers_holds_nothing_up(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        following = Following(lambda: Mirror(uri, "test", tmp_path), tmp_path / "lock", lambda text: None)
        following.add(finished())
        assert following.close(patience=0.2) == 1
