"""A real MLflow server that is stopped and started, and two commands on one database."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import SPEC, finished

from fergen_bench.experiment.project import Project
from fergen_bench.records import mlflow_mirror as tracking
from fergen_bench.records import store
from fergen_bench.records.mlflow_following import Following
from fergen_bench.records.mlflow_mirror import Mirror, TrackingError
from fergen_bench.records.record import Predictions, RunRecord

pytestmark = pytest.mark.slow

RECORDS = [finished(replace(SPEC, seed=seed)) for seed in range(4)]


class Server:
    """`mlflow server` on a database that outlives it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command, extra = tracking.server_command(f"sqlite:///{self.folder}/server.db", self.folder, self.port)
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env={**os.environ, **extra}, stdout=log, stderr=log, start_new_session=True
            )
        end = time.monotonic() + 180
        while time.monotonic() < end:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except OSError:
                time.sleep(0.5)
        raise AssertionError((self.folder / "server.log").read_text()[-2000:])

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    found = Server(tmp_path)
    found.start()
    yield found
    found.kill()


def opener(server: Server) -> Callable[[], Mirror]:
    return lambda: Mirror(server.uri, "test", server.folder)


def runs_in(server: Server) -> list[str]:
    """The keys of the records that the server has, one for each run."""
    mirror = opener(server)()
    runs = mirror.client.search_runs([mirror.experiment], f"tags.`{tracking.KEY}` LIKE '%'")
    return sorted(run.data.tags[tracking.KEY] for run in runs if run.info.status == "FINISHED")


def test_a_server_that_dies_in_the_middle_gets_later_what_it_missed(server: Server) -> None:
    said: list[str] = []
    following = Following(opener(server), server.folder / "lock", said.append)
    following.add(RECORDS[0])
    end = time.monotonic() + 60
    while following.left and time.monotonic() < end:
        time.sleep(0.2)
    server.kill()
    started = time.monotonic()
    for entry in RECORDS[1:]:
        following.add(entry)
    assert time.monotonic() - started < 1  # no call waits for a server
    assert following.close(patience=60) == 3
    assert len(said) == 1
    assert "The records are complete without it" in said[0]

    server.start()
    mirror = opener(server)()
    assert [mirror.mirror(entry) for entry in RECORDS] == [False, True, True, True]
    assert not any(mirror.mirror(entry) for entry in RECORDS)
    assert runs_in(server) == sorted(entry.spec.key for entry in RECORDS)


def test_a_server_that_hangs_is_one_sentence_within_the_bound(server: Server) -> None:
    mirror = opener(server)()
    assert mirror.mirror(RECORDS[0])
    server.signal(signal.SIGSTOP)
    started = time.monotonic()
    try:
        with pytest.raises(TrackingError, match=r"cannot be written to .*fergen-bench sync"):
            mirror.mirror(RECORDS[1])
        assert time.monotonic() - started < 30  # two tries of 5 s, and what the machine adds
    finally:
        server.signal(signal.SIGCONT)
    assert opener(server)().mirror(RECORDS[1])
    assert runs_in(server) == sorted(entry.spec.key for entry in RECORDS[:2])


def test_two_commands_on_one_database_lose_and_double_nothing(project: Project) -> None:
    runs = project.results / "runs"
    for entry in (finished(replace(SPEC, seed=seed)) for seed in range(6)):
        store.save(entry, runs, said_by(entry))
    command = [sys.executable, "-m", "fergen_bench", "sync"]
    both = [subprocess.Popen(command, cwd=project.root, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=300)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    mirror = Mirror(tracking.resolve_uri(None, project.results), "fergen-bench", project.results)
    found = mirror.client.search_runs([mirror.experiment], f"tags.`{tracking.KEY}` LIKE '%'")
    assert len(found) == len({run.data.tags[tracking.KEY] for run in found}) == 6
    assert sorted("6 of 6 records written" in text for text in said) == [False, True], said
    assert sorted("6 records: 6 already mirrored" in text for text in said) == [False, True], said


def said_by(entry: RunRecord) -> dict[str, Predictions]:
    """Predictions that give the record's confusion matrices: one face of each expression, all right."""
    logits, labels = np.eye(7, dtype=np.float32), np.arange(7)
    return {cell.target: Predictions(logits, labels, np.zeros(7, bool)) for cell in entry.cells}
