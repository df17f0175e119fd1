"""The pool of worker processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = """
from fergen_bench.files.pool import worker_pool
print("script")
with worker_pool(1) as pool:
    print(pool.submit(abs, -3).result(timeout=60))
"""


BEGIN = """
import os, sys
import numpy
from fergen_bench.files.pool import worker_pool
os.environ["OPENBLAS_NUM_THREADS"] = "7"
with worker_pool(1) as pool:
    numpy_is_loaded = pool.submit(eval, "'numpy' in __import__('sys').modules")
    threads = pool.submit(os.getenv, "OPENBLAS_NUM_THREADS")
    print(numpy_is_loaded.result(timeout=60), threads.result(timeout=60), os.environ["OPENBLAS_NUM_THREADS"])
"""


def test_a_worker_has_one_thread_before_it_loads_numpy(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(BEGIN)
    answer = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert answer.stdout.split() == ["False", "1", "7"]


def test_a_script_without_a_guard_is_not_executed_by_the_workers(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    answer = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True
    )
    assert answer.stdout.split() == ["script", "3"]
