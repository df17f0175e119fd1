"""Locks that let one process at a time write the files of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fergen_bench.error import RunError
from fergen_bench.experiment.run import Job, Run
from fergen_bench.files.atomic import sweep
from fergen_bench.records.sidecar import record_files
from fergen_bench.records.store import find


@contextmanager
def claim(spec: Run, runs: Path, patience: float = 1.0) -> Iterator[bool]:
    """Lock the files of a run, and delete temporary files that a killed process left of them.

    The operating system releases the lock when the process that has it ends, however it ends.

    Args:
        spec: The run.
        runs: The folder of the records.
        patience: Seconds to wait for another process. Waiting briefly is necessary even when no process writes the
            run, because `is_claimed` takes the lock for a moment.

    Yields:
        True if this process has the lock, False if another process has it.
    """
    with _lock(spec, runs, patience) as acquired:
        if acquired:
            for file in (*record_files(spec.path(runs)), spec.unfinished_path(runs)):
                sweep(file)
        yield acquired


def is_claimed(spec: Run, runs: Path) -> bool:
    """Return whether another process is writing the files of a run.

    A lock of this kind can only be tested by taking it, so it is taken for a moment. No file of the run changes.
    """
    if not _lock_path(spec, runs).exists():
        return False
    with _lock(spec, runs, 0) as acquired:
        return not acquired


def finished_since_planned(job: Job) -> Path | None:
    """Return the path of a run's record if another process finished the run after it was planned, else None.

    Raises:
        RunError: Another process wrote a record that lacks something that this job needs.
    """
    runs = Path(job.runs)
    found = find(job.spec, runs)
    if found is None:
        return None
    complete = found.answers(job.spec) and not set(job.corruptions) - set(found.shifts_of(job.spec))
    complete = complete and (not job.keep_model or job.spec.model_path(runs).is_file())
    if found.started == job.replaces and (job.rerun or not complete):
        return None
    if not complete:
        raise RunError(
            f"{job.spec.path(runs)}: another process finished this run meanwhile, with other targets or other options; "
            f"repeat the command"
        )
    return job.spec.path(runs)


@contextmanager
def _lock(spec: Run, runs: Path, patience: float) -> Iterator[bool]:
    """Take the lock of a run, waiting at most `patience` seconds, and yield whether that succeeded."""
    from filelock import FileLock, Timeout

    path = _lock_path(spec, runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        # The file is deleted before the release: FileLock does not accept a lock on a file without a name, so a process
        # that opened the file earlier retries with a new one.
        with suppress(OSError):
            path.unlink()
        lock.release()


def _lock_path(spec: Run, runs: Path) -> Path:
    return spec.unfinished_path(runs).with_suffix(".lock")
