"""Mirror records in MLflow while runs continue: in a thread, so that a slow or unreachable server never delays them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from fergen_bench.error import BenchError
from fergen_bench.records.mlflow_mirror import Mirror, RefusedRecord, TrackingError
from fergen_bench.records.record import RunRecord

PATIENCE = 30.0
"""Seconds that a command waits for the mirror after its last run."""
RETRY = 60.0
"""Seconds between an error of a server and the next attempt."""


class Following:
    """Mirror records in a thread as they are finished.

    After an error of the server, its record is retried when a later one is added. A refused record is passed over.
    """

    def __init__(self, open_mirror: Callable[[], Mirror], lock: Path, warn: Callable[[str], None]) -> None:
        """Prepare the thread, which starts with the first record.

        Args:
            open_mirror: Opens the mirror; called in the thread, and again after an error.
            lock: The lock file that lets one process write at a time.
            warn: Called with the message of the first error of the server, and of the first refused record.
        """
        self._open, self._lock, self._warn = open_mirror, lock, warn
        self._queue: SimpleQueue[RunRecord | None] = SimpleQueue()
        self._pending: deque[RunRecord] = deque()
        self._added = self._written = 0
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def add(self, record: RunRecord) -> None:
        """Add a record to the queue without waiting."""
        if not self._added:
            self._thread.start()
        self._added += 1
        self._queue.put(record)

    def close(self, patience: float = PATIENCE) -> int:
        """Wait for the records that were added.

        Args:
            patience: The largest number of seconds to wait.

        Returns:
            The number of records that are not mirrored.
        """
        if self._added:
            self._queue.put(None)
            self._thread.join(patience)
        return self.left

    @property
    def left(self) -> int:
        """The number of added records that are not mirrored yet."""
        return self._added - self._written

    def _follow(self) -> None:
        from filelock import FileLock

        mirror, retry, warned = None, 0.0, set[type[Exception]]()
        while (record := self._queue.get()) is not None:
            self._pending.append(record)
            while self._pending and time.monotonic() >= retry:
                try:
                    with FileLock(self._lock):
                        mirror = mirror or self._open()
                        mirror.mirror(self._pending[0])
                except (TrackingError, BenchError, OSError) as error:
                    kind = RefusedRecord if isinstance(error, RefusedRecord) else TrackingError
                    if kind not in warned:
                        self._warn(str(error))
                        warned.add(kind)
                    if kind is RefusedRecord:
                        self._pending.popleft()
                    else:
                        mirror, retry = None, time.monotonic() + RETRY
                else:
                    self._pending.popleft()
                    self._written += 1
