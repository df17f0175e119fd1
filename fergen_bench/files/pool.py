"""Worker processes that start fresh, compute on one thread, ignore ^C and end with the process that started them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from types import ModuleType


@contextmanager
def worker_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of spawned processes; on exit, cancel tasks that have not begun.

    Args:
        processes: The number of processes; at least one is started.
    """
    pool = ProcessPoolExecutor(max(1, processes), mp_context=get_context("spawn"), initializer=_begin)
    main = sys.modules["__main__"]
    # A spawned process runs the script of its parent first; one without a guard would start the same work again.
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield pool
    finally:
        sys.modules["__main__"] = main
        pool.shutdown(cancel_futures=True)


def _begin() -> None:
    """Ignore ^C in a worker, and end the worker when its parent ends, even by SIGKILL.

    A worker that outlived its parent could write to a file that another process owns by then. Libraries for matrix
    products, which read these variables when they are loaded, would start a thread for every core in every worker.
    """
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
