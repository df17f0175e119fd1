"""The other processes of a run on several GPUs of one machine: launched, watched and ended by the first.

The first is the one that whoever wants the run has launched, and speaks for all. The others live no longer than it:
their standard input is a lifeline from it. When one of them dies the run has failed, with that one's reason.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

MEETING = "FERGEN_BENCH_MEETING"
"""The environment variable with the file in which the processes find each other; without it, torchrun's address."""
GRACE = 5.0
"""Seconds that the first process has to come to an end of its own after another has failed."""


class Peers:
    """The processes 1, 2, … of a run."""

    def __init__(self, job: Path, count: int) -> None:
        """Launches them, and tells this process that it is the first. job: the file. count: processes in all."""
        self._folder = Path(tempfile.mkdtemp(prefix="fergen-bench-", dir=job.parent))
        self._over = False
        self._failed: list[tuple[int, int]] = []  # number and exit status, in the order of their ends
        os.environ |= {MEETING: str(self._folder / "meeting"), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        os.environ |= {"RANK": "0", "LOCAL_RANK": "0"}
        self._processes = [self._launch(job, number) for number in range(1, count)]
        for number, process in enumerate(self._processes, 1):
            threading.Thread(target=self._watch, args=(number, process), daemon=True).start()

    def _launch(self, job: Path, number: int) -> subprocess.Popen[bytes]:
        with self._log(number).open("wb") as errors:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "fergen_bench.worker", str(job)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                env={**os.environ, "RANK": str(number), "LOCAL_RANK": str(number)},
            )

    def _log(self, number: int) -> Path:
        return self._folder / f"{number}.txt"

    def _watch(self, number: int, process: subprocess.Popen[bytes]) -> None:
        code = process.wait()
        if code and not self._over:
            self._failed.append((number, code))
            time.sleep(GRACE)  # it may be waiting for the dead one, and not all ways to wait notice
            self.blame()
            os._exit(1)

    def blame(self) -> None:
        """Tells on standard error why another process failed, if one did before this one; last, where reasons are
        looked for. What was killed from outside is passed on as that.
        """
        until = time.monotonic() + GRACE / 2
        while not self._failed and time.monotonic() < until:
            time.sleep(0.05)
        if self._failed:
            number, code = self._failed[0]
            print(f"process {number} of {len(self._processes) + 1}:", file=sys.stderr)
            print(self._log(number).read_text(encoding="utf-8", errors="replace"), file=sys.stderr, flush=True)
            if code in (-signal.SIGKILL, -signal.SIGTERM):
                os.kill(os.getpid(), -code)

    def end(self) -> None:
        """Ends what still runs, and leaves nothing behind."""
        self._over = True
        for process in self._processes:
            process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
