"""Mirrors records to MLflow. MLflow is a mirror, not the memory: delete it, and `fergen-bench sync` fills it again from
the records.

Only the driver writes, one process at a time: workers racing on a new SQLite file would destroy it. It does so beside
the runs, in a thread of its own, so that a server that is slow, silent or gone holds nothing up. This is the only file
that imports mlflow.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import shlex
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from fergen_bench.error import BenchError, reason
from fergen_bench.files.atomic import atomically, sweep
from fergen_bench.metric import METRICS
from fergen_bench.records.record import RunRecord

if TYPE_CHECKING:
    from mlflow import MlflowClient

Picture = Callable[[RunRecord], bytes]
"""The confusion matrices of a record as PNG."""

KEY, PLAN, CELLS = "fergen.key", "fergen.plan", "fergen.cells"
PATIENCE = 30.0
"""Seconds that a command waits, once its runs are done, for the mirror to come to its end."""
RETRY = 60.0
"""Seconds before a server that gave an error is asked again."""
_QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


class TrackingError(Exception):
    """MLflow is absent or does not answer. Nothing is lost: the records are on the disk."""


def resolve_uri(configured: str | None, results: Path) -> str:
    """bench.toml, then MLFLOW_TRACKING_URI, then SQLite in the results folder."""
    return configured or os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(results / "mlflow.db")


def sqlite_uri(path: Path) -> str:
    """Return the address of a database file, in which %, ? and # stand for themselves.

    SQLAlchemy writes it, since its versions differ in what they decode; where it does not get its own address back (2.0
    cuts the name at a ?), SQLite decodes the name itself. The driver is named in addresses with encoded signs: without
    it, MLflow makes the folder that the address would name undecoded.
    """
    from urllib.parse import quote

    place = str(path.resolve())
    try:
        from sqlalchemy import URL, make_url
    except ImportError:  # then mlflow is not there either, which is said where it is opened
        return f"sqlite:///{place}"
    address = URL.create("sqlite", database=place).render_as_string()
    if address == f"sqlite:///{place}" and make_url(address).database == place:
        return address
    address = URL.create("sqlite+pysqlite", database=place).render_as_string()
    if make_url(address).database == place:
        return address
    return f"sqlite+pysqlite:///file:{quote(path.resolve().as_posix())}?uri=true"


def database_of(uri: str) -> Path | None:
    """Return the file of a SQLite address, and None for any other."""
    from urllib.parse import unquote

    from sqlalchemy import make_url

    if not uri.startswith(("sqlite:", "sqlite+")):
        return None
    name = make_url(uri).database
    if not name or name == ":memory:":
        return None
    return Path(unquote(name.removeprefix("file:"))) if name.startswith("file:") else Path(name)


class Mirror:
    """An MLflow experiment that records are mirrored to: a parent run per suite and protocol, a child per record."""

    def __init__(
        self, uri: str, experiment: str, results: Path, picture: Picture | None = None, models: Path | None = None
    ) -> None:
        """picture: drawn for every record. models: the folder of the records whose kept models are mirrored too."""
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            from mlflow import MlflowClient
        except Exception as error:  # absent, or broken in any of its many parts
            raise TrackingError(f"mlflow cannot be loaded ({error}); the records are complete without it") from None
        for chatty in ("alembic", "mlflow"):  # after the import, which sets its own levels
            logging.getLogger(chatty).setLevel(logging.ERROR)
        self._picture, self._uri, self._models = picture, uri, models
        self._parents: dict[tuple[str, str], str] = {}
        with _translated(uri, opening=True):
            _create_database(uri)
            self.client: MlflowClient = MlflowClient(tracking_uri=uri)
            self.experiment = self._experiment(experiment, results)

    def _experiment(self, name: str, results: Path) -> str:
        found = self.client.get_experiment_by_name(name)
        if found is not None and found.lifecycle_stage == "deleted":
            raise TrackingError(
                f"MLflow at {self._uri}: the experiment {name} was deleted, and its name stays taken. Restore it with: "
                f"MLFLOW_TRACKING_URI={shlex.quote(self._uri)} mlflow experiments restore --experiment-id "
                f'{found.experiment_id}; or mirror to another one, with experiment = "{name}-2" under [tracking] in '
                f"bench.toml. The records are complete without it"
            )
        if found is not None:
            return str(found.experiment_id)
        local = database_of(self._uri) is not None
        place = (results / "mlruns").resolve().as_uri() if local else None
        return str(
            self.client.create_experiment(
                name, artifact_location=place, tags={"mlflow.experimentKind": "custom_model_development"}
            )
        )

    def mirror(self, record: RunRecord) -> bool:
        """Mirrors a record, unless it is there already. True if it was written."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

        spec = record.spec
        with _translated(self._uri):
            same = f"tags.`{KEY}` = '{spec.key}' and tags.`fergen.started` = '{record.started}'"
            state = _state(record)
            if self._search(f"{same} and tags.`{CELLS}` = '{state}' and attributes.status = 'FINISHED'"):
                return False
            # Begun by a command that did not come to its end; or its cells were counted otherwise then, or an audit has
            # said more of its targets.
            for obsolete in self._search(same):
                self.client.delete_run(obsolete)
            picture = self._picture(record) if self._picture is not None and record.cells else None
            begin = int(datetime.fromisoformat(record.started).timestamp() * 1000)
            tags = {
                KEY: spec.key,
                CELLS: state,
                "fergen.started": record.started,
                "mlflow.parentRunId": self._parent(spec.suite, spec.protocol),
                "suite": spec.suite,
                "profile": spec.profile,
                "selection": spec.selection,
                "synthetic": str(spec.synthetic).lower(),
                "method": spec.method,
                "source": "+".join(spec.sources),
            }
            if spec.adaptation_target is not None:
                tags["adapted_to"] = spec.adaptation_target
            run = self.client.create_run(self.experiment, start_time=begin, run_name=spec.title, tags=tags)
            metrics = [Metric(name, value, begin, 0) for name, value in _metrics(record).items()]
            for entry in record.history:
                step = int(entry["epoch"])
                curves = {name: value for name, value in entry.items() if name != "epoch" and math.isfinite(value)}
                metrics += [Metric(name, value, begin, step) for name, value in curves.items()]
            parameters = {**spec.parameters, "seed": spec.seed, "fraction": spec.fraction, "version": spec.version}
            params = [Param(name, str(value)) for name, value in parameters.items()]
            for start in range(0, len(metrics), 1000):
                self.client.log_batch(run.info.run_id, metrics=metrics[start : start + 1000])
            networks = [
                RunTag(f"network.{name}", f"{network['name']} {network['digest']}")
                for name, network in record.networks.items()
            ]
            self.client.log_batch(run.info.run_id, params=params, tags=networks)
            # A domain has one role in MLflow: sources are scored as well.
            states = {cell.target: (cell.fingerprint, "evaluation") for cell in record.cells}
            states |= {name: (state, "training") for name, state in spec.fingerprints.items()}
            inputs = [
                DatasetInput(Dataset(name, state[:36], "local", name), [InputTag("mlflow.data.context", role)])
                for name, (state, role) in states.items()
            ]
            self.client.log_inputs(run.info.run_id, datasets=inputs)
            if picture is not None:
                self._log_picture(run.info.run_id, picture)
            if self._models is not None and (model := spec.model_path(self._models)).is_file():
                self.client.log_artifact(run.info.run_id, str(model), "model")
            end = begin + int(1000 * sum(record.seconds.values()))
            self.client.set_terminated(run.info.run_id, "FINISHED", end_time=end)
        return True

    def _log_picture(self, run: str, png: bytes) -> None:
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "confusion.png")
            path.write_bytes(png)
            self.client.log_artifact(run, str(path))

    def _parent(self, suite: str, protocol: str) -> str:
        if (suite, protocol) not in self._parents:
            plan = f"{suite}/{protocol}"
            found = self._search(f"tags.`{PLAN}` = '{plan}'")
            if found:
                run = found[0]
            else:
                run = self.client.create_run(
                    self.experiment, run_name=f"{protocol} on {suite}", tags={PLAN: plan, "suite": suite}
                ).info.run_id
                self.client.set_terminated(run, "FINISHED")
            self._parents[suite, protocol] = run
        return self._parents[suite, protocol]

    def _search(self, query: str) -> list[str]:
        return [run.info.run_id for run in self.client.search_runs([self.experiment], query, max_results=100)]


class Following:
    """Mirrors records as they come, beside everything else. What fails is kept, and tried again with a later record."""

    def __init__(self, open_mirror: Callable[[], Mirror], lock: Path, warn: Callable[[str], None]) -> None:
        """open_mirror: called in the thread, and again after an error. lock: one process at a time. warn: is told the
        first error, once.
        """
        self._open, self._lock, self._warn = open_mirror, lock, warn
        self._queue: SimpleQueue[RunRecord | None] = SimpleQueue()
        self._pending: deque[RunRecord] = deque()
        self._added = self._written = 0
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def add(self, record: RunRecord) -> None:
        """Never waits."""
        if not self._added:
            self._thread.start()
        self._added += 1
        self._queue.put(record)

    def close(self, patience: float = PATIENCE) -> int:
        """Waits for the records that were added, so many seconds at most. How many of them are not mirrored."""
        if self._added:
            self._queue.put(None)
            self._thread.join(patience)
        return self.left

    @property
    def left(self) -> int:
        """How many of the records that were added are not mirrored yet."""
        return self._added - self._written

    def _follow(self) -> None:
        from filelock import FileLock

        mirror, retry, warned = None, 0.0, False
        while (record := self._queue.get()) is not None:
            self._pending.append(record)
            while self._pending and time.monotonic() >= retry:
                try:
                    with FileLock(self._lock):
                        mirror = mirror or self._open()
                        mirror.mirror(self._pending[0])
                except (TrackingError, BenchError, OSError) as error:
                    mirror, retry = None, time.monotonic() + RETRY
                    if not warned:
                        self._warn(str(error))
                        warned = True
                else:
                    self._pending.popleft()
                    self._written += 1


def _state(record: RunRecord) -> str:
    """Changes when a record without a new training says something else: other faces left out, other relations."""
    cells = sorted([cell.target, cell.fingerprint, cell.excluded, cell.relation] for cell in record.cells)
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:12]


def _metrics(record: RunRecord) -> dict[str, float]:
    """Per target and as means over all and over unseen targets, in 0..1. What does not exist is left out."""
    import numpy as np

    values: dict[str, float] = {}
    for name, function in METRICS.items():
        by_target = {cell.target: function(np.array(cell.confusion)) for cell in record.cells}
        unseen = [by_target[cell.target] for cell in record.cells if cell.relation == "unseen"]
        values |= {f"{name}/{target}": score for target, score in by_target.items()}
        if by_target:
            values[f"{name}/mean_all"] = float(np.mean(list(by_target.values())))
        if unseen:
            values[f"{name}/mean_unseen"] = float(np.mean(unseen))
    return {name: value for name, value in values.items() if math.isfinite(value)} | {
        f"seconds/{n}": s for n, s in record.seconds.items()
    }


def _create_database(uri: str) -> None:
    """Create the file of a SQLite address, with MLflow's tables, whole or not at all: making them takes seconds, and
    MLflow cannot use what it did not finish.
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
        client._tracking_client.store.engine.dispose()  # an open file cannot be moved everywhere


class _translated:
    """MLflow's many errors as one: what it was, where, and what helps."""

    def __init__(self, uri: str, opening: bool = False) -> None:
        self._uri, self._opening = uri, opening

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, (TrackingError, BenchError)):
            raise TrackingError(
                f"MLflow at {self._uri} cannot be written to ({reason(error)}). The records are complete without it. "
                f"{self._advice(reason(error))}"
            ) from error

    def _advice(self, said: str) -> str:
        path = database_of(self._uri)
        if not self._opening or path is None or not path.is_file() or "locked" in said:
            return "When the cause is mended, mirror what is missing with: fergen-bench sync"
        aside = f"mv {shlex.quote(str(path))} {shlex.quote(f'{path}.old')}"
        upgrade = f"mlflow db upgrade {shlex.quote(self._uri)}"
        other = f"bring it up to date with: {upgrade}; or, where that fails, " if "out-of-date" in said else ""
        return (
            f"An older version of MLflow made this database, or its making was interrupted: {other}rename it with: "
            f"{aside}; then fergen-bench sync fills a new one from the records"
        )


def server_command(uri: str, results: Path, port: int) -> tuple[list[str], dict[str, str]]:
    """The command and environment of MLflow's own pages on this machine, bound to loopback."""
    import sys

    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--backend-store-uri",
        uri,
        "--default-artifact-root",
        (results / "mlruns").resolve().as_uri(),
        *where,
    ]
    return command, {**_QUIET, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def experiment_id(uri: str, experiment: str) -> str | None:
    """The id of the experiment, for a link to its table of runs; None where nothing was mirrored."""
    from mlflow import MlflowClient

    if (path := database_of(uri)) is not None and not path.is_file():
        return None  # MLflow would create it
    with _translated(uri, opening=True):
        found: Any = MlflowClient(tracking_uri=uri).get_experiment_by_name(experiment)
    return None if found is None else str(found.experiment_id)
