"""Runs on a Ray cluster, or on a Ray of this machine alone. A task does nothing but launch the worker command on its
node, so Ray's own processes stay small.

Every node has this package installed, and the prepared domains and weights at the same paths. Where it sees the results
folder too, records are written there; elsewhere their files come home through the driver.
"""

from __future__ import annotations

import hashlib
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
from fergen_bench.records.store import files_of, receive

RETRIES = 3
"""Times a run is begun again after its worker or its node died."""


class WorkerDied(Exception):
    """A worker was killed from outside; raised so that Ray begins the run again."""


class OnRay:
    """Runs as Ray tasks."""

    def __init__(self, address: str, gpus_per_run: float, cpus_per_run: float, results: Path) -> None:
        """address: of a cluster's head, auto for the one this machine is part of, or local for a new one that ends
        with the command. results: where the driver keeps results.
        """
        # No reports to Ray's makers; and tasks without GPUs see what their node sees.
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
            if host and port.isdigit():  # Ray itself would knock for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        except (OSError, OverflowError, RuntimeError, ValueError) as error:
            raise BenchError(f"--ray {address}: there is no such cluster ({reason(error)}); see: ray status") from None
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
        """Runs that the nodes take together."""
        return sum(
            min(int(node["Resources"].get(name, 0) / need + 1e-6) for name, need in self._needs.items() if need)
            for node in self._ray.nodes()
            if node["Alive"]
        )

    @property
    def slots(self) -> int:
        # Twice what fits now: the next runs wait on the cluster, and nodes that join find work.
        return max(1, 2 * self._capacity())

    def start(self, job: Job, listen: Listen) -> None:
        text = Path(job.method_file).read_bytes()
        # A model that is asked about shifts goes along with its record, for nodes that do not see the results folder.
        kept = files_of(job.spec, Path(job.runs)) if job.restore else ()
        files = {file.name: file.read_bytes() for file in kept}
        self._running[self._task.remote(job, text, files, str(self._marker), self._token)] = job

    def ended(self, timeout: float | None) -> list[Outcome]:
        if not self._running:
            return []
        done, _ = self._ray.wait(list(self._running), num_returns=1, timeout=timeout)
        return [self._outcome(reference, self._running.pop(reference)) for reference in done]

    def _outcome(self, reference: Any, job: Job) -> Outcome:
        try:
            outcome, files = self._ray.get(reference)
        except WorkerDied as error:
            return Outcome(job, None, failure=f"{error.args[0]}, {RETRIES + 1} times", killed=True)
        except Exception as error:  # Ray's own, or what a node without this package makes of the task
            # Of a traceback the end, of Ray's own messages the beginning.
            said = reason(error, "last" if isinstance(error, self._ray.exceptions.RayTaskError) else "first")
            return Outcome(job, None, failure=f"Ray gave the run up: {said}", log=str(error))
        return replace(outcome, job=job, record=receive(job, files)) if files else replace(outcome, job=job)

    def stop(self) -> None:
        for reference in self._running:
            self._ray.cancel(reference, force=True)
        self._marker.unlink(missing_ok=True)
        self._ray.shutdown()


def _run(job: Job, method: bytes, kept: dict[str, bytes], marker: str, token: str) -> tuple[Outcome, dict[str, bytes]]:
    """On a node: makes a run. The files of its record, where the driver's results folder is not seen from here.

    method: the text of the method's file, which may be the driver's alone. kept: files of the record that there is,
    where its model is to be restored. marker: a file the driver wrote beside its results, and what is in it.
    """
    path = Path(marker)
    shared = path.is_file() and path.read_text(encoding="utf-8") == token
    with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
        own = Path(job.method_file)
        if not own.is_file() or hashlib.sha256(own.read_bytes()).hexdigest() != job.method_digest:
            own = Path(folder, own.name)
            own.write_bytes(method)
        here = replace(job, method_file=str(own))
        if not shared:
            here = replace(here, runs=str(Path(folder, "results", "runs")), replaces=job.replaces if kept else None)
            place = here.spec.path(Path(here.runs))
            place.parent.mkdir(parents=True)
            for name, content in kept.items():
                (place.parent / name).write_bytes(content)
        outcome = Worker(here).outcome(lambda job, message: None)
        if outcome.killed:
            raise WorkerDied(outcome.failure)
        files = [] if shared or outcome.record is None else outcome.record.parent.iterdir()
        return outcome, {file.name: file.read_bytes() for file in files}
