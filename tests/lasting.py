"""Processes that outlast a test: to start one takes longer than most of what a test has it do.

Pools of `worker_pool` and the workers of slots are lent to a test and returned, idle, to the next one with the same
environment. A test of how such a process starts or ends takes the fixture `own_processes`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures import wait as wait_for
from multiprocessing.process import BaseProcess
from typing import Any

import pytest

from fergen_bench.execution import local
from fergen_bench.execution.engine import Listen, Outcome, Worker
from fergen_bench.experiment.run import Job
from fergen_bench.files import pool

OF_A_TEST = {"PYTEST_CURRENT_TEST", "COLUMNS"}
"""Environment variables of this process that no other process reads."""

_idle_pools: defaultdict[Hashable, list[LastingPool]] = defaultdict(list)
_idle_workers: defaultdict[Hashable, list[LastingWorker]] = defaultdict(list)


def _environment() -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in os.environ.items() if name not in OF_A_TEST)


def _in_folder(folder: str, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Any:
    """Call a function in a folder: a process that outlasts a test was started in the folder of another one."""
    os.chdir(folder)
    return work(*arguments, **named)


class LastingPool(ProcessPoolExecutor):
    """A pool whose processes stay when it is shut down, unless one of them was killed."""

    def __init__(self, processes: int, kind: Hashable, **options: Any) -> None:
        super().__init__(processes, **options)
        self._kind = kind
        self._futures: list[Future[Any]] = []

    def submit(self, work: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self._futures.append(super().submit(_in_folder, os.getcwd(), work, *arguments, **named))
        return self._futures[-1]

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        for future in self._futures:
            future.cancel()
        wait_for(self._futures)
        self._futures.clear()
        if self.alive:
            _idle_pools[self._kind].append(self)
        else:
            self.end()

    @property
    def alive(self) -> bool:
        """True while every process of the pool runs."""
        processes: dict[int, BaseProcess] = self._processes  # type: ignore[attr-defined]
        return not self._broken and all(process.is_alive() for process in processes.values())  # type: ignore[attr-defined]

    def end(self) -> None:
        """End the processes."""
        super().shutdown()


class LastingWorker(Worker):
    """A worker that stays after its last run, unless it was killed during one."""

    _busy = False

    def __init__(self, kind: Hashable, threads: int, environment: Mapping[str, str] | None) -> None:
        super().__init__(threads, environment)
        self._kind = kind

    def run(self, job: Job, listen: Listen) -> Outcome:
        self._busy = True
        outcome = super().run(job, listen)
        self._busy = False
        return outcome

    def kill(self) -> None:
        if self._busy:
            super().kill()

    def close(self) -> None:
        if self.alive and not self._busy:
            _idle_workers[self._kind].append(self)
        else:
            super().close()

    def end(self) -> None:
        """End the process."""
        self._busy = True
        super().close()


def _pool(processes: int, **options: Any) -> LastingPool:
    kind = processes, _environment()
    return _idle_pools[kind].pop() if _idle_pools[kind] else LastingPool(processes, kind, **options)


def _worker(threads: int, environment: Mapping[str, str] | None = None) -> LastingWorker:
    kind = threads, frozenset((environment or {}).items()), _environment()
    return _idle_workers[kind].pop() if _idle_workers[kind] else LastingWorker(kind, threads, environment)


def idle() -> set[int]:
    """Return the process ids of the workers that no test uses now."""
    return {worker._process.pid for workers in _idle_workers.values() for worker in workers}


@pytest.fixture(scope="session", autouse=True)
def lasting_processes() -> Iterator[None]:
    """Lend pools and workers to tests, and end them after the last test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "ProcessPoolExecutor", _pool)
        patch.setattr(local, "Worker", _worker)
        yield
    for lent in (_idle_pools, _idle_workers):
        for kept in lent.values():
            for process in kept:
                process.end()
        lent.clear()


@pytest.fixture
def own_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start every pool and worker for this test alone."""
    monkeypatch.setattr(pool, "ProcessPoolExecutor", ProcessPoolExecutor)
    monkeypatch.setattr(local, "Worker", Worker)
