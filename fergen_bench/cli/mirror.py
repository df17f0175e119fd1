"""The commands about the mirror of records in MLflow: `sync` and `ui`."""

from __future__ import annotations

import os
import sys

import click

from fergen_bench.api.display import busy
from fergen_bench.cli.console import console_on
from fergen_bench.error import BenchError
from fergen_bench.wording import many


@click.command()
def sync() -> None:
    """Mirror to MLflow every record it lacks, such as after its server was unreachable, or into a new server."""
    from fergen_bench.api.mirror import sync as sync_records
    from fergen_bench.experiment.project import find_project

    console = console_on(stderr=True)

    def warn(text: str) -> None:
        console.print(f"warning: {text}", style="yellow")

    with busy(console, "mirroring to MLflow"):
        synced = sync_records(find_project(), warn)
    console.print(_summary(synced.written, synced.total, synced.uri))


def _summary(written: int, total: int, uri: str) -> str:
    """Return the outcome of a sync in words."""
    if not total:
        return "No records to mirror; make some with: fergen-bench run"
    if not written:
        return f"{many(total, 'record')}: {total:,} already mirrored to {uri}"
    before = f", {total - written:,} already mirrored" if written < total else ""
    return f"{many(written, 'record', of=total)} written to {uri}{before}"


@click.command()
@click.option("--port", default=5000, show_default=True, type=click.IntRange(1, 65535))
def ui(port: int) -> None:
    """Serve the records in the web interface of MLflow, on this machine only."""
    import signal
    import socket
    import subprocess
    from contextlib import suppress

    from fergen_bench.experiment.project import find_project
    from fergen_bench.records import mlflow_mirror as tracking
    from fergen_bench.records.mlflow_values import view_address

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
        raise BenchError(f"{uri}: contains no mirrored records. Run something, or: fergen-bench sync")
    with socket.socket() as probe:
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise BenchError(f"--port: {port} is taken on this machine; choose another, such as {port + 1}")
    console.print(f"Open {view_address(port, number)} in half a minute. Ctrl-C ends it.", soft_wrap=True)
    command, extra = tracking.server_command(uri, project.results, port)
    # The server starts child processes: end the whole process group, however this command ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server = subprocess.Popen(command, env={**os.environ, **extra}, start_new_session=True)
    try:
        sys.exit(server.wait())
    except KeyboardInterrupt:
        sys.exit(0)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
