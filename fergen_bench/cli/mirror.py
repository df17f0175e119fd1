"""The mirror of records in MLflow: `sync`, `ui`, and how `run` follows its records there."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fergen_bench.cli.console import busy, console_on
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from rich.console import Console

    from fergen_bench.experiment.project import Project
    from fergen_bench.records.mlflow_mirror import Following, Mirror


@click.command()
def sync() -> None:
    """Mirror every record to MLflow that is not there yet: after a server was away, or into a new one."""
    from filelock import FileLock

    from fergen_bench.experiment.project import find_project
    from fergen_bench.records import counting, listing
    from fergen_bench.records import mlflow_mirror as tracking

    project, console = find_project(), console_on(stderr=True)
    runs = project.results / "runs"
    loaded, faults = listing.read_all(runs)
    records, unreadable = counting.counted(loaded, project, runs)
    for fault in (*faults, *unreadable):
        console.print(f"warning: {fault}", style="yellow")
    written = 0
    with busy(console, "mirroring to MLflow"), FileLock(_mirror_lock(project)):
        try:
            mirror = _open_mirror(project)
            for record in records:
                written += mirror.mirror(record)
        except tracking.TrackingError as error:
            if written:
                console.print(f"{many(written, 'record', 'were', of=len(records))} written before this failed")
            raise BenchError(str(error)) from None
    uri = tracking.resolve_uri(project.settings.tracking.uri, project.results)
    console.print(_summary(written, len(records), uri))


def _summary(written: int, total: int, uri: str) -> str:
    """Return what a sync came to: how many records it wrote, and how many were there."""
    if not total:
        return "There are no records to mirror; make some with: fergen-bench run"
    if not written:
        return f"{many(total, 'record')}: {total:,} already mirrored to {uri}"
    before = f", {total - written:,} already mirrored" if written < total else ""
    return f"{many(written, 'record', of=total)} written to {uri}{before}"


@click.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def ui(port: int) -> None:
    """MLflow's own pages for the records, on this machine only."""
    import signal
    import socket
    import subprocess
    from contextlib import suppress

    from fergen_bench.experiment.project import find_project
    from fergen_bench.records import mlflow_mirror as tracking

    project, console = find_project(), console_on(stderr=True)
    uri = tracking.resolve_uri(project.settings.tracking.uri, project.results)
    if uri.startswith("http"):
        console.print(f"The records are mirrored to {uri}: open it in a browser.")
        return
    try:
        number = tracking.experiment_id(uri, project.settings.tracking.experiment)
    except ImportError:
        raise BenchError("mlflow is not installed; install it with: pip install mlflow") from None
    except tracking.TrackingError as error:
        raise BenchError(str(error)) from None
    if number is None:
        raise BenchError(f"nothing is mirrored to {uri} yet; run something, or: fergen-bench sync")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise BenchError(f"--port: {port} is taken on this machine; choose another, such as {port + 1}")
    console.print(f"Open http://127.0.0.1:{port}/#/experiments/{number}/runs in half a minute. Ctrl-C ends it.")
    command, extra = tracking.server_command(uri, project.results, port)
    # The server has children of its own; however this ends, all of them end with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = subprocess.Popen(command, env={**os.environ, **extra}, start_new_session=True)
    try:
        sys.exit(server.wait())
    except KeyboardInterrupt:
        sys.exit(0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)


def following_of(console: Console, project: Project) -> Following:
    from fergen_bench.records.mlflow_mirror import Following

    def warn(reason: str) -> None:
        console.print(f"warning: {reason}", style="yellow")

    return Following(partial(_open_mirror, project), _mirror_lock(project), warn)


def wait_for(console: Console, following: Following) -> None:
    """Waits a while for the mirror, and says what it has not got."""
    from fergen_bench.records.mlflow_mirror import PATIENCE

    with busy(console, "mirroring to MLflow"):
        left = following.close()
    if left:
        console.print(
            f"warning: {many(left, 'record', 'are')} not in MLflow yet ({PATIENCE:.0f} s were waited for); nothing "
            "is lost; mirror them with: fergen-bench sync",
            style="yellow",
        )


def _open_mirror(project: Project) -> Mirror:
    from fergen_bench.records import mlflow_mirror as tracking
    from fergen_bench.report import plots

    settings, results = project.settings.tracking, project.results
    uri = tracking.resolve_uri(settings.uri, results)
    models = results / "runs" if settings.models else None
    return tracking.Mirror(uri, settings.experiment, results, plots.confusion_png, models)


def _mirror_lock(project: Project) -> Path:
    """Keeps writers of the mirror apart: two commands that both create the database would destroy it."""
    project.results.mkdir(parents=True, exist_ok=True)
    return project.results / ".mlflow.lock"
