"""Many runs at a time on this machine: slots that launch the worker command. Torch-free, so a driver stays small and
quick.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fergen_bench.record import Job


@dataclass(frozen=True)
class Outcome:
    """How a run ended: with a record, refused for bad input, or failed."""

    job: Job
    record: Path | None
    refused: str | None = None
    everywhere: bool = False  # other runs with the same method and parameters would be refused too
    failure: str | None = None  # one sentence
    log: str = ""  # what the worker wrote to standard error


Listen = Callable[[Job, dict[str, Any]], None]
"""listen(job, message): what a worker says while it works. Called from several threads."""


def gpu_count() -> int:
    """CUDA devices the driver library sees (respecting CUDA_VISIBLE_DEVICES), without loading torch."""
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


def run_all(
    jobs: Sequence[Job], slots: int, wanted: Callable[[Job], bool], listen: Listen, finished: Callable[[Outcome], None]
) -> None:
    """Runs every job that is still wanted when its turn comes, `slots` at a time, each in a process of its own.

    A failing run does not stop the others. Leaving early (Ctrl-C) ends all workers.
    """
    workers = _Workers()
    queue = list(jobs)
    with ThreadPoolExecutor(slots) as pool:
        pending: set[Future[Outcome]] = set()
        try:
            while queue or pending:
                while queue and len(pending) < slots:
                    job = queue.pop(0)
                    if wanted(job):
                        pending.add(pool.submit(workers.run, job, listen))
                if not pending:
                    continue
                done, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in done:
                    finished(future.result())
        except BaseException:
            workers.stop()
            raise


class _Workers:
    """The worker processes that are alive."""

    def __init__(self) -> None:
        self._alive: set[subprocess.Popen[str]] = set()
        self._lock = threading.Lock()
        self._stopping = False

    def run(self, job: Job, listen: Listen) -> Outcome:
        with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
            spec, log = Path(folder, "job.json"), Path(folder, "log.txt")
            spec.write_text(json.dumps(job.to_json()), encoding="utf-8")
            # -P: the folder one stands in is no place to import from; a random.py there would break every worker.
            command = [sys.executable, "-P", "-m", "fergen_bench.worker", str(spec)]
            with log.open("w", encoding="utf-8") as errors:
                process = self._launch(command, job.threads, errors)
                if process is None:
                    return Outcome(job, None, failure="stopped before it began")
                last: dict[str, Any] = {}
                assert process.stdout is not None
                for line in process.stdout:
                    last = json.loads(line)
                    listen(job, last)
                code = process.wait()
                with self._lock:
                    self._alive.discard(process)
                assert process.stdin is not None
                process.stdin.close()
            text = log.read_text(encoding="utf-8", errors="replace")
        if code == 0 and "record" in last:
            return Outcome(job, Path(last["record"]), log=text)
        if "refused" in last:
            return Outcome(job, None, refused=last["refused"], everywhere=last["everywhere"], log=text)
        return Outcome(job, None, failure=_reason(code, text), log=text)

    def _launch(self, command: list[str], threads: int, errors: Any) -> subprocess.Popen[str] | None:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        with self._lock:
            if self._stopping:
                return None
            # A session of its own: Ctrl-C reaches the driver alone, which then ends the workers in good order.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                start_new_session=True,
            )
            self._alive.add(process)
            return process

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            for process in self._alive:
                process.kill()


def _reason(code: int, log: str) -> str:
    """One sentence on why a worker died."""
    if "OutOfMemoryError" in log:
        return "the GPU ran out of memory; lower batch_size, or close what else uses the GPU"
    if code < 0:
        name = signal.Signals(-code).name
        return f"the process was killed ({name})" + (
            "; the machine may have run out of memory: lower --jobs" if name == "SIGKILL" else ""
        )
    lines = [line for line in log.strip().splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"the process ended with status {code}"
