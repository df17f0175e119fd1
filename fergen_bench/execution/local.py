"""Execute runs on this machine: in this process, or in slots with a worker process each."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from fergen_bench.error import BenchError, NoRoom, circumstance
from fergen_bench.execution.engine import Listen, Outcome, Worker, in_method
from fergen_bench.execution.worker import execute, refusal_of
from fergen_bench.experiment.run import Job


def gpu_count() -> int:
    """Return the number of CUDA devices, without loading torch; CUDA_VISIBLE_DEVICES counts."""
    import ctypes
    from importlib.metadata import PackageNotFoundError, version

    try:
        if version("torch").endswith("+cpu"):
            return 0
        library = ctypes.CDLL("libcuda.so.1" if os.name == "posix" else "nvcuda.dll")
        count = ctypes.c_int()
        return count.value if library.cuInit(0) == 0 and library.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except (OSError, PackageNotFoundError):
        return 0


def visible_gpus() -> list[str]:
    """Return the names of the GPUs for CUDA_VISIBLE_DEVICES.

    The names are numbers, or those that the variable contains already: on shared machines these are often UUIDs, or
    parts of a GPU.
    """
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = gpu_count()
    return named[:count] if named else [str(number) for number in range(count)]


class Local:
    """Execute runs in slots on this machine, each with a worker process."""

    def __init__(self, slots: int, gpus: Sequence[str] = ()) -> None:
        """Open the slots.

        Args:
            slots: Runs at a time.
            gpus: Names of GPUs, assigned to the slots in turn. Without them, workers see the GPUs of this process.
        """
        self.slots = slots
        self._free = list(range(slots))
        self._gpus = tuple(gpus)
        self._workers: dict[int, Worker] = {}
        self._lock = threading.Lock()
        self._stopping = False
        self._pool = ThreadPoolExecutor(slots)
        self._pending: dict[Future[Outcome], int] = {}

    def start(self, job: Job, listen: Listen) -> None:
        """Start a run in a free slot."""
        slot = min(self._free)
        self._free.remove(slot)
        self._pending[self._pool.submit(self._run, job, slot, listen)] = slot

    def environment(self, slot: int) -> dict[str, str]:
        """Return the environment variables of a slot's workers that differ from those of this process."""
        return {"CUDA_VISIBLE_DEVICES": self._gpus[slot % len(self._gpus)]} if self._gpus else {}

    def ended(self, timeout: float | None) -> list[Outcome]:
        """Return the runs that ended; see `Engine.ended`."""
        done, _ = wait(self._pending, timeout, return_when=FIRST_COMPLETED) if self._pending else (set(), set())
        for future in done:
            self._free.append(self._pending.pop(future))
        return [future.result() for future in done]

    def _run(self, job: Job, slot: int, listen: Listen) -> Outcome:
        with self._lock:
            if self._stopping:
                return Outcome(job, None, failure="stopped before it began")
            try:
                worker = self._worker(slot, job.threads)
            except OSError as error:  # no room for its files, or no further process: other runs may succeed
                known = circumstance(error) or BenchError(f"the process of this run could not be started: {error}")
                return Outcome(job, None, refused=str(known), stops=isinstance(known, NoRoom))
        return worker.run(job, listen)

    def _worker(self, slot: int, threads: int) -> Worker:
        """Return the worker of a slot: a new one where there is none, or where it has ended."""
        worker = self._workers.get(slot)
        if worker is None or not worker.alive:
            if worker is not None:
                self._workers.pop(slot).close()
            worker = self._workers[slot] = Worker(threads, self.environment(slot))
        return worker

    def stop(self) -> None:
        """End all workers."""
        with self._lock:
            self._stopping = True
            for worker in self._workers.values():
                worker.kill()
        self._pool.shutdown()
        for worker in self._workers.values():
            worker.close()


class InProcess:
    """Execute runs in this process, one at a time, for debuggers and profilers."""

    slots = 1

    def __init__(self) -> None:
        self._ended: list[Outcome] = []

    def start(self, job: Job, listen: Listen) -> None:
        """Execute a run."""
        self._ended.append(self._run(job, listen))

    def ended(self, timeout: float | None) -> list[Outcome]:
        """Return the runs that ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def stop(self) -> None:
        """Do nothing: no run is in progress between two calls."""

    def _run(self, job: Job, listen: Listen) -> Outcome:
        try:
            path = execute(job, lambda what, done, total: listen(job, {"what": what, "done": done, "total": total}))
        except Exception as error:
            log, refusal = traceback.format_exc(), refusal_of(error)
            if refusal is not None:
                return Outcome(job, None, **refusal, log=log)
            return Outcome(job, None, failure=f"{type(error).__name__}: {error}{in_method(job, log)}", log=log)
        return Outcome(job, path, elsewhere=path is None)
