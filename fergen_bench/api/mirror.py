"""Mirror records to MLflow: after the fact, and while runs execute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project
    from fergen_bench.records.mlflow_following import Following
    from fergen_bench.records.mlflow_mirror import Mirror


@dataclass(frozen=True)
class Synced:
    """The outcome of mirroring all records."""

    written: int
    total: int
    uri: str


def sync(project: Project, warn: Callable[[str], None]) -> Synced:
    """Mirror every record of a project that MLflow lacks. Records that MLflow does not accept are passed over.

    Args:
        project: The project with the records and the settings of the mirror.
        warn: Receives a sentence for each record or comparison that cannot be read, and one if the mirror fails midway.

    Raises:
        BenchError: The mirror cannot be reached or written, or does not accept some records.
    """
    from filelock import FileLock

    from fergen_bench.records import counting, listing, mlflow_mirror
    from fergen_bench.records.collection import RecordFolder

    runs = project.results / "runs"
    loaded, faults = listing.read_all(runs)
    records, unreadable = counting.counted(loaded, project, RecordFolder(runs))
    for fault in (*faults, *unreadable):
        warn(fault)
    written, refused = 0, list[str]()
    with FileLock(_mirror_lock(project)):
        try:
            mirror = _open_mirror(project)
            for record in records:
                try:
                    written += mirror.mirror(record)
                except mlflow_mirror.RefusedRecord as error:
                    refused.append(str(error))
        except mlflow_mirror.TrackingError as error:
            if written:
                warn(f"{many(written, 'record', 'were', of=len(records))} written before the mirror failed")
            raise BenchError(str(error)) from None
    if refused:
        others = f". {many(len(refused) - 1, 'other record', 'are')} refused too" if refused[1:] else ""
        raise BenchError(refused[0] + others)
    return Synced(written, len(records), mlflow_mirror.resolve_uri(project.settings.tracking.uri, project.results))


def follow(project: Project, warn: Callable[[str], None]) -> Following:
    """Return a mirror that writes records in a thread of its own during the runs."""
    from fergen_bench.records.mlflow_following import Following

    return Following(partial(_open_mirror, project), _mirror_lock(project), warn)


def finish(following: Following, warn: Callable[[str], None]) -> None:
    """Wait a limited time for a mirror to write its records, and warn about those that are left."""
    if left := following.close():
        warn(f"{many(left, 'record', 'are')} complete, but not in MLflow yet; mirror with: fergen-bench sync")


def _open_mirror(project: Project) -> Mirror:
    from fergen_bench.records import mlflow_mirror
    from fergen_bench.report import figures

    settings, results = project.settings.tracking, project.results
    uri = mlflow_mirror.resolve_uri(settings.uri, results)
    models = results / "runs" if settings.models else None
    return mlflow_mirror.Mirror(uri, settings.experiment, results, figures.confusion_png, models)


def _mirror_lock(project: Project) -> Path:
    """Return the lock of the mirror: two processes that both create its database would destroy it."""
    project.results.mkdir(parents=True, exist_ok=True)
    return project.results / ".mlflow.lock"
