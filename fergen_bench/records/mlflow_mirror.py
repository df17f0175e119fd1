"""A mirror of the records in MLflow.

The records are complete without it: if the mirror is deleted, `fergen-bench sync` fills it again.

Only the driver writes to MLflow, one process at a time, because concurrent workers would corrupt a new SQLite file.
This is the only module that imports mlflow.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shlex
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.error import BenchError, reason
from fergen_bench.experiment.run import Run
from fergen_bench.files.atomic import atomically, sweep
from fergen_bench.records.mlflow_values import (
    ROW,
    VIEW,
    means_over_seeds,
    metric_name,
    metrics_of,
    row_digest,
    view_state,
)
from fergen_bench.records.record import RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

Picture = Callable[[RunRecord], bytes]
"""A function that draws the confusion matrices of a record as PNG."""

KEY, PLAN, CELLS = "fergen.key", "fergen.plan", "fergen.cells"
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


class TrackingError(Exception):
    """Report that MLflow is not installed or does not respond. The records on the disk are complete."""


class RefusedRecord(TrackingError):
    """Report that MLflow responds and does not accept one record. Others may be accepted."""


def resolve_uri(configured: str | None, results: Path) -> str:
    """Return the address of MLflow.

    Args:
        configured: The address in bench.toml, which takes precedence over MLFLOW_TRACKING_URI.
        results: The results folder, which has the SQLite file that is used without either of them.
    """
    return configured or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(results / "mlflow.db")


def sqlite_uri(path: Path) -> str:
    """Return the address of a SQLite file whose path may contain %, ? and #.

    SQLAlchemy creates the address, because its versions differ in the characters that they decode. If parsing the
    address does not give the path back (version 2.0 cuts it at a ?), SQLite decodes the path itself. Addresses with
    encoded characters name the driver: without it, MLflow creates a folder with the encoded name.
    """
    from urllib.parse import quote

    name = str(path.resolve())
    try:
        from sqlalchemy import URL, make_url
    except ImportError:  # mlflow is missing as well, which raises an error when it is opened
        return f"sqlite:///{name}"
    address = URL.create("sqlite", database=name).render_as_string()
    if address == f"sqlite:///{name}" and make_url(address).database == name:
        return address
    address = URL.create("sqlite+pysqlite", database=name).render_as_string()
    if make_url(address).database == name:
        return address
    return f"sqlite+pysqlite:///file:{quote(path.resolve().as_posix())}?uri=true"


def database_of(uri: str) -> Path | None:
    """Return the file of a SQLite address, or None for any other address."""
    from urllib.parse import unquote

    from sqlalchemy import make_url

    if not uri.startswith(("sqlite:", "sqlite+")):
        return None
    name = make_url(uri).database
    if not name or name == ":memory:":
        return None
    return Path(unquote(name.removeprefix("file:"))) if name.startswith("file:") else Path(name)


class Mirror:
    """An MLflow experiment with a parent run per protocol and row of the tables, and a child run per record.

    A parent has the parameters of its row, and its means over the children.
    """

    def __init__(
        self, uri: str, experiment: str, results: Path, picture: Picture | None = None, models: Path | None = None
    ) -> None:
        """Open the experiment, creating it if necessary.

        Args:
            uri: The address of MLflow.
            experiment: The name of the experiment.
            results: The results folder, for the artifacts of a SQLite database.
            picture: Draws the picture that is logged with every record.
            models: The folder of the records whose checkpoints are logged too; None for no checkpoints.

        Raises:
            TrackingError: MLflow is not installed, does not respond, or has deleted the experiment.
        """
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except Exception as error:  # not installed, or with a broken dependency
            raise TrackingError(f"mlflow cannot be loaded ({error}); the records are complete without it") from None
        for chatty in ("alembic", "mlflow"):  # after the import, which sets the levels
            logging.getLogger(chatty).setLevel(logging.ERROR)
        self._picture, self._uri, self._models = picture, uri, models
        self._parents: dict[str, str] = {}
        with _translated(uri, opening=True):
            _create_database(uri)
            self.client: MlflowClient = MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment(experiment, results)
            self.client.set_experiment_tag(self.experiment, f"mlflow.sharedViewState.{VIEW}", view_state())

    def _experiment(self, name: str, results: Path) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"MLflow at {self._uri}: the experiment {name} was deleted, and its name stays reserved. Restore it "
                f"with: MLFLOW_TRACKING_URI={shlex.quote(self._uri)} mlflow experiments restore --experiment-id "
                f'{found.experiment_id}; or choose another name, with experiment = "{name}-2" under [tracking] in '
                f"bench.toml. The records are complete without it"
            )
        if found is not None:
            return str(found.experiment_id)
        local = database_of(self._uri) is not None
        artifacts = (results / "mlruns").resolve().as_uri() if local else None
        return str(
            self.client.create_experiment(
                name, artifact_location=artifacts, tags={"mlflow.experimentKind": "custom_model_development"}
            )
        )

    def mirror(self, record: RunRecord) -> bool:
        """Log a record, unless the experiment already has it.

        Returns:
            True if the record was written, False if the experiment already had it.

        Raises:
            RefusedRecord: MLflow does not accept the record.
            TrackingError: MLflow does not respond.
        """
        spec = record.spec
        with _translated(self._uri, record=spec.key):
            same = f"tags.`{KEY}` = '{spec.key}' and tags.`fergen.started` = '{record.started}'"
            if self._search(f"{same} and tags.`{CELLS}` = '{_state(record)}' and attributes.status = 'FINISHED'"):
                return False
            # The earlier MLflow run is incomplete because its command was interrupted, or its cells were counted again
            # or marked by a later audit.
            for obsolete in self._search(same):
                self.client.delete_run(obsolete)
            picture = self._picture(record) if self._picture is not None and record.cells else None
            begin = int(datetime.fromisoformat(record.started).timestamp() * 1000)
            parent = self._parent(spec)
            run = self.client.create_run(
                self.experiment, start_time=begin, run_name=spec.title, tags=self._tags(record, parent)
            ).info.run_id
            self._log_values(run, record, begin)
            self._log_domains(run, record)
            if picture is not None:
                self._log_picture(run, picture)
            if self._models is not None and (model := spec.model_path(self._models)).is_file():
                self.client.log_artifact(run, str(model), "model")
            end = begin + int(1000 * sum(record.seconds.values()))
            self.client.set_terminated(run, "FINISHED", end_time=end)
            self._log_means(parent)
        return True

    def _tags(self, record: RunRecord, parent: str) -> dict[str, str]:
        spec = record.spec
        tags = {
            KEY: spec.key,
            CELLS: _state(record),
            "fergen.started": record.started,
            "mlflow.parentRunId": parent,
            "suite": spec.suite,
            "profile": spec.profile,
            "selection": spec.selection,
            "synthetic": str(spec.synthetic).lower(),
            "method": spec.method,
            "source": "+".join(spec.sources),
        }
        if spec.adaptation_target is not None:
            tags["adapted_to"] = spec.adaptation_target
        if spec.online:
            tags["online"] = "true"
        return tags

    def _log_values(self, run: str, record: RunRecord, begin: int) -> None:
        """Log metrics, the history of epochs, parameters and networks. `begin` is in milliseconds since 1970."""
        from mlflow.entities import Metric, Param, RunTag

        spec = record.spec
        metrics = [Metric(name, value, begin, 0) for name, value in metrics_of(record).items()]
        for entry in record.history:
            step = int(entry["epoch"])
            curves = {name: value for name, value in entry.items() if name != "epoch" and math.isfinite(value)}
            metrics += [Metric(metric_name(name), value, begin, step) for name, value in curves.items()]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(run, metrics=metrics[start : start + 1000])
        parameters = {**spec.parameters, "seed": spec.seed, "fraction": spec.fraction, "version": spec.version}
        parameters |= {"numerics": spec.numerics, "precision": spec.precision}
        parameters |= {"views": "+".join(spec.views), "prior": spec.prior}
        params = [Param(name, str(value)) for name, value in parameters.items()]
        networks = [
            RunTag(f"network.{name}", f"{network['name']} {network['digest']}")
            for name, network in record.networks.items()
        ]
        self.client.log_batch(run, params=params, tags=networks)

    def _log_domains(self, run: str, record: RunRecord) -> None:
        """Log the domains. Each has one role in MLflow, so a source counts as training data although it is scored."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        states = {cell.target: (cell.fingerprint, "evaluation") for cell in record.cells}
        states |= {name: (state, "training") for name, state in record.spec.fingerprints.items()}
        inputs = [
            DatasetInput(Dataset(name, state[:36], "local", name), [InputTag("mlflow.data.context", role)])
            for name, (state, role) in states.items()
        ]
        self.client.log_inputs(run, datasets=inputs)

    def _log_picture(self, run: str, png: bytes) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "confusion.png")
            path.write_bytes(png)
            self.client.log_artifact(run, str(path))

    def _parent(self, spec: Run) -> str:
        """Return the run that has the means of a row, creating it if necessary."""
        from mlflow.entities import Param

        plan = f"{spec.suite}/{spec.protocol}/{row_digest(spec)}"
        if plan not in self._parents:
            found = self._search(f"tags.`{PLAN}` = '{plan}'")
            if found:
                self._parents[plan] = found[0]
                return found[0]
            kind = {"suite": spec.suite, "profile": spec.profile, "selection": spec.selection, "method": spec.method}
            name = f"{spec.label}: {spec.protocol or 'runs'} on {spec.suite}"
            tags = {PLAN: plan, ROW: spec.label[:250], **kind}
            run = self.client.create_run(self.experiment, run_name=name, tags=tags).info.run_id
            parameters = {**spec.parameters, "fraction": spec.fraction, "version": spec.version}
            self.client.log_batch(run, params=[Param(name, str(value)) for name, value in parameters.items()])
            self.client.set_terminated(run, "FINISHED")
            self._parents[plan] = run
        return self._parents[plan]

    def _log_means(self, parent: str) -> None:
        """Log the means of a row over its records: each seed by itself, then over the seeds that have all cells."""
        from mlflow.entities import Metric

        query = f"tags.`mlflow.parentRunId` = '{parent}' and attributes.status = 'FINISHED'"
        newest: dict[str, Any] = {}  # a record of a repeated run counts once
        for run in self.client.search_runs([self.experiment], query, 1, 10_000, ["tags.`fergen.started` ASC"]):
            newest[run.data.tags[KEY]] = run
        means = means_over_seeds([(run.data.params["seed"], run.data.metrics) for run in newest.values()])
        now = int(time.time() * 1000)
        found = {**means, "records": float(len(newest))}
        self.client.log_batch(parent, metrics=[Metric(name, value, now, 0) for name, value in found.items()])

    def _search(self, query: str) -> list[str]:
        return [run.info.run_id for run in self.client.search_runs([self.experiment], query, max_results=100)]


def _state(record: RunRecord) -> str:
    """Return a digest of what can change in a record without a new training: excluded images and relations."""
    cells = sorted([cell.target, cell.fingerprint, cell.excluded, cell.relation] for cell in record.cells)
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:12]


def _create_database(uri: str) -> None:
    """Create the file of a SQLite address with MLflow's tables, atomically.

    Creating the tables takes seconds, and MLflow cannot use an incomplete file.
    """
    from mlflow import MlflowClient

    path = database_of(uri)
    if path is None or (path.is_file() and path.stat().st_size):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path)
    with atomically(path) as draft:
        client: Any = MlflowClient(tracking_uri=sqlite_uri(draft))
        client.search_experiments(max_results=1)
        client._tracking_client.store.engine.dispose()  # an open file cannot be renamed on every system


class _translated:
    """Convert the errors of MLflow to a TrackingError with the cause, the address and the next step."""

    def __init__(self, uri: str, opening: bool = False, record: str = "") -> None:
        self._uri, self._opening, self._record = uri, opening, record

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, (TrackingError, BenchError)):
            if self._record and _refuses(error):
                raise RefusedRecord(
                    f"MLflow at {self._uri} does not accept the record {self._record} ({reason(error)}). The record is "
                    f"complete without it. Other records are mirrored"
                ) from error
            raise TrackingError(
                f"MLflow at {self._uri} cannot be written to ({reason(error)}). The records are complete without it. "
                f"{self._advice(reason(error))}"
            ) from error

    def _advice(self, message: str) -> str:
        path = database_of(self._uri)
        if not self._opening or path is None or not path.is_file() or "locked" in message:
            return "Once the cause is fixed, mirror the missing records with: fergen-bench sync"
        aside = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.old')}"
        upgrade = f"mlflow db upgrade {shlex.quote(self._uri)}"
        other = f"upgrade it with: {upgrade}; or, if that fails, " if "out-of-date" in message else ""
        return (
            f"An older version of MLflow created this database, or its creation was interrupted: {other}rename it "
            f"with: {aside}; then fill a new one from the records with: fergen-bench sync"
        )


def _refuses(error: Exception) -> bool:
    """Return whether an error is about the values of a record, and not about the server or its database."""
    from mlflow.exceptions import MlflowException

    if isinstance(error, MlflowException):
        return bool(error.get_http_status_code() == 400)
    return isinstance(error, (TypeError, ValueError, LookupError))


def server_command(uri: str, results: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that start MLflow's web server on the loopback address.

    Args:
        uri: The address of the database.
        results: The results folder, for the artifacts.
        port: The port of the server.
    """
    import sys

    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        uri,
        "--default-artifact-root",
        (results / "mlruns").resolve().as_uri(),
        *address,
    ]
    return command, {**_QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def experiment_id(uri: str, experiment: str) -> str | None:
    """Return the id of an experiment, for a link to its table of runs, or None if it does not exist."""
    from mlflow import MlflowClient

    if (path := database_of(uri)) is not None and not path.is_file():
        return None  # MLflow would create it
    with _translated(uri, opening=True):
        found: Any = MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
    return None if found is None else str(found.experiment_id)
