"""Execute runs on a Ray cluster, or on a Ray instance of this machine alone.

A task only starts the worker command on its node, so Ray's own processes stay small. Every node needs this package, and
the prepared domains and weights at the same paths. A node that shares the results folder writes its records there; from
other nodes the driver receives the files.
"""

from __future__ import annotations

import os
import secrets
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from fergen_bench.error import BenchError, reason
from fergen_bench.execution.engine import Listen, Outcome, Worker
from fergen_bench.experiment.run import Job
from fergen_bench.experiment.shipped import digest_of_method
from fergen_bench.records.store import files_of, receive

RETRIES = 3
"""Times that a run is started again after its worker or its node died."""


class WorkerDied(Exception):
    """A worker was killed from outside. Ray starts a task again that raises this."""


class OnRay:
    """Execute runs as Ray tasks."""

    def __init__(self, address: str, gpus_per_run: float, cpus_per_run: float, results: Path) -> None:
        """Connect to a cluster.

        Args:
            address: Address of the head of a cluster; auto for the cluster of this machine; local for a new Ray
                instance that ends with the command.
            gpus_per_run: GPUs of a run, or the share of one.
            cpus_per_run: CPUs of a run.
            results: The results folder of the driver.

        Raises:
            BenchError: Ray is not installed, the cluster does not answer, or a run fits on none of its nodes.
        """
        # Ray sends no usage reports, and tasks without GPUs see the GPUs of their node.
        for name, value in {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError:
            raise BenchError("--ray: Ray is not installed; install it with: pip install 'fergen-bench[ray]'") from None
        self._ray = ray
        self._running: dict[Any, Job] = {}
        self._marker, self._token = results / f".driver-{secrets.token_hex(4)}", secrets.token_hex(16)
        host, _, port = address.rpartition("://")[2].rpartition(":")
        try:
            if host and port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (OSError, OverflowError, RuntimeError, ValueError) as error:
            raise BenchError(f"--ray {address}: no cluster answers ({reason(error)}); see: ray status") from None
        self._needs = {"CPU": cpus_per_run, "GPU": gpus_per_run}
        if not self._capacity():
            there = ray.cluster_resources()
            self.stop()
            raise BenchError(
                f"--ray {address}: no node has {cpus_per_run:g} CPUs and {gpus_per_run:g} GPUs for a run; the cluster "
                f"has {there.get('CPU', 0):g} and {there.get('GPU', 0):g}: lower --cpus-per-run or --gpus-per-run"
            )
        results.mkdir(parents=True, exist_ok=True)
        self._marker.write_text(self._token, encoding="utf-8")
        self._task = ray.remote(_run).options(
            num_cpus=cpus_per_run, num_gpus=gpus_per_run, max_retries=RETRIES, retry_exceptions=[WorkerDied]
        )

    def _capacity(self) -> int:
        """Return the number of runs that fit on all nodes together."""
        return sum(
            min(int(node["Resources"].get(name, 0) / need + 1e-6) for name, need in self._needs.items() if need)
            for node in self._ray.nodes()
            if node["Alive"]
        )

    @property
    def slots(self) -> int:
        """Twice the number of runs that fit now: the next runs wait on the cluster, and nodes that join find work."""
        return max(1, 2 * self._capacity())

    def start(self, job: Job, listen: Listen) -> None:
        """Submit a run."""
        texts = {path: Path(path).read_bytes() for path in _method_files(job)}
        # The task carries the record and the checkpoint to restore, for nodes that do not share the results folder.
        runs = Path(job.runs)
        kept = files_of(job.spec, runs) if job.restore else []
        kept += [] if job.spec.base is None else files_of(job.spec.base, runs)
        files = {file.relative_to(runs).as_posix(): file.read_bytes() for file in kept}
        self._running[self._task.remote(job, texts, files, str(self._marker), self._token)] = job

    def ended(self, timeout: float | None) -> list[Outcome]:
        """Return the runs that ended; see `Engine.ended`."""
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        return [self._outcome(reference, self._running.pop(reference)) for reference in done]

    def _outcome(self, reference: Any, job: Job) -> Outcome:
        try:
            outcome, files = self._ray.get(reference)
        except WorkerDied as error:
            return Outcome(job, None, failure=f"{error.args[0]}, {RETRIES + 1} times", killed=True)
        except Exception as error:  # an error of Ray, or of a node without this package
            # A traceback explains itself at its end, a message of Ray at its beginning.
            why = reason(error, "last" if isinstance(error, self._ray.exceptions.RayTaskError) else "first")
            return Outcome(job, None, failure=f"Ray gave up on the run: {why}", log=str(error))
        return replace(outcome, job=job, record=receive(job, files)) if files else replace(outcome, job=job)

    def stop(self) -> None:
        """Cancel all runs and disconnect."""
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._marker.unlink(missing_ok=True)
        self._ray.shutdown()


def _method_files(job: Job) -> dict[str, str]:
    """Return the digest of the method file of a run, and that of its base, by path."""
    return {job.method_file: job.method_digest} | ({} if job.base is None else {job.base.path: job.base.digest})


def _run(
    job: Job, methods: dict[str, bytes], kept: dict[str, bytes], marker: str, token: str
) -> tuple[Outcome, dict[str, bytes]]:
    """Execute a run on a node.

    Args:
        job: The run.
        methods: Texts of the method files by path, which the node may lack.
        kept: Files of the existing record where its checkpoint is to be restored, and of the base of an online run, by
            their paths below the folder of records.
        marker: Path of a file that the driver wrote into its results folder.
        token: Content of that file.

    Returns:
        The outcome, and the files of the record by name; no files where the node shares the results folder.
    """
    path = Path(marker)
    shared = path.is_file() and path.read_text(encoding="utf-8") == token
    with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
        paths = {}
        for number, (there, digest) in enumerate(_method_files(job).items()):
            paths[there] = own = Path(there)
            if not own.is_file() or digest_of_method(own) != digest:
                paths[there] = own = Path(folder, f"methods-{number}", own.name)  # two files may have one name
                own.parent.mkdir()
                own.write_bytes(methods[there])
        base = None if job.base is None else job.base._replace(path=str(paths[job.base.path]))
        here = replace(job, method_file=str(paths[job.method_file]), base=base)
        if not shared:
            runs = Path(folder, "results", "runs")
            here = replace(here, runs=str(runs), replaces=job.replaces if job.restore else None)
            here.spec.path(runs).parent.mkdir(parents=True)
            for name, content in kept.items():
                (runs / name).parent.mkdir(parents=True, exist_ok=True)
                (runs / name).write_bytes(content)
        with Worker(here.threads) as worker:
            outcome = worker.run(here, lambda job, message: None)
        if outcome.killed:
            raise WorkerDied(outcome.failure)
        files = [] if shared or outcome.record is None else outcome.record.parent.iterdir()
        return outcome, {file.name: file.read_bytes() for file in files}
