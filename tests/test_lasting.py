"""Test the processes that outlast a test."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

from fergen_bench.files.pool import worker_pool


def process_id() -> int:
    """Return the id of the process of a pool."""
    with worker_pool(1) as pool:
        return pool.submit(os.getpid).result()


def test_a_pool_is_lent_again_unless_its_environment_differs_or_a_process_was_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = process_id()
    assert process_id() == first != os.getpid()
    with monkeypatch.context() as changed:
        changed.setenv("FERGEN_TRIAL", "1")
        assert process_id() != first
    with worker_pool(1) as pool:
        (process,) = (child for child in multiprocessing.active_children() if child.pid == first)
        process.kill()
        process.join()
        with pytest.raises(BrokenProcessPool):
            pool.submit(os.getpid).result()
    assert process_id() != first


def test_pools_in_use_at_a_time_have_separate_processes() -> None:
    with worker_pool(1) as pool:
        assert pool.submit(os.getpid).result() != process_id()


@pytest.mark.usefixtures("own_processes")
def test_own_processes_end_with_their_pool() -> None:
    alone = process_id()
    assert alone not in {child.pid for child in multiprocessing.active_children()}


def test_a_lent_process_works_in_the_folder_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process_id()
    monkeypatch.chdir(tmp_path)
    with worker_pool(1) as pool:
        assert pool.submit(os.getcwd).result() == str(tmp_path)
