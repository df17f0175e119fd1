"""Runs on a Ray cluster, which may lose a node."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from running import FOLLOW, MINE, execute_on, make_plan, numbers, plan_noted, trainings

from fergen_bench.data.corruption import VERSION
from fergen_bench.error import BenchError
from fergen_bench.execution import fleet, local, on_ray, run_plan
from fergen_bench.execution.engine import Outcome
from fergen_bench.experiment import run
from fergen_bench.experiment.project import Project
from fergen_bench.records import store
from fergen_bench.records.claim import is_claimed


@pytest.mark.slow
def test_a_kept_model_goes_along_to_a_node_that_does_not_see_the_results(noted_lab: Project) -> None:
    execute_on(plan_noted(noted_lab, [0], ["web"], keep_models=True), noted_lab, local.InProcess())
    (job,) = plan_noted(noted_lab, [0], ["web"]).runs
    shift = run.Corruption("web", "blur", 1.0, 10, VERSION)
    job = replace(job, restore=True, corruptions=[shift])
    runs = Path(job.runs)
    before = store.load(job.spec.path(runs))
    kept = {file.relative_to(runs).as_posix(): file.read_bytes() for file in store.files_of(job.spec, runs)}
    texts = {job.method_file: Path(job.method_file).read_bytes()}
    outcome, files = on_ray._run(job, texts, kept, str(noted_lab.root / "nowhere"), "token")
    assert outcome.failure is None
    assert not outcome.refused, outcome.refused
    path = store.receive(job, files)
    after = store.load(path)
    assert (after.cells, after.started) == (before.cells, before.started)
    assert [cell.shift for cell in after.shifted] == [shift]
    store.RecordFile.open_whole(path)
    assert sum(trainings(noted_lab).values()) == 1


class Sent:
    """A task of Ray that keeps what is sent to a node."""

    def remote(self, *arguments: Any) -> str:
        self.arguments = arguments
        return "reference"


def test_the_file_of_a_base_goes_along_to_a_node_that_lacks_it(project: Project) -> None:
    methods = project.root / "methods"
    methods.mkdir()
    (methods / "mine.py").write_text(MINE)
    (methods / "follow.py").write_text(FOLLOW)
    plan = make_plan(project, protocol={"sources": ["web"]}, method="follow")
    execute_on(replace(plan, missing=plan.missing[:1]), project, local.InProcess())
    job = plan.missing[1]
    assert job.spec.method == "follow"
    engine = on_ray.OnRay.__new__(on_ray.OnRay)  # without a cluster
    engine._task, engine._running = Sent(), {}
    engine._marker, engine._token = project.root / "nowhere", "token"
    engine.start(job, lambda job, message: None)
    shutil.rmtree(methods)
    outcome, files = on_ray._run(*engine._task.arguments)
    assert (outcome.refused, outcome.failure) == (None, None)
    record = store.load(store.receive(job, files))
    assert (record.method_digest, record.base_digest) == (job.method_digest, job.base and job.base.digest)


def test_without_ray_it_is_said_how_to_get_it(noted_lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BenchError, match=r"Ray is not installed; install it with: pip install 'fergen-bench\[ray\]'"):
        fleet.Fleet(ray="local").engine("cpu", 1, noted_lab.results)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_said_at_once(noted_lab: Project, address: str) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'fergen-bench[ray]'")
    with pytest.raises(BenchError, match=f"--ray {address}: no cluster answers"):
        fleet.Fleet(ray=address).engine("cpu", 1, noted_lab.results)


def ray_cluster(nodes: int) -> Any:
    """Nodes with one CPU each, and their cluster's address. The head runs nothing."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    pytest.importorskip("ray", reason="needs Ray: pip install 'fergen-bench[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    return cluster, [cluster.add_node(num_cpus=1) for _ in range(nodes)]


@pytest.mark.slow
@pytest.mark.parametrize("shared", [True, False])
def test_a_ray_cluster_that_loses_a_node_ends_as_if_undisturbed(noted_lab: Project, shared: bool) -> None:
    """shared: True if the nodes see the results folder of the driver; otherwise records are sent as bytes."""
    seeds, sources = [0, 1, 2], ["web", "film"]
    plan = plan_noted(noted_lab, seeds, sources, settings={"seconds": 3.0})
    cluster, nodes = ray_cluster(2)
    try:
        engine = fleet.Fleet(ray=cluster.address).engine("cpu", len(plan.missing), noted_lab.results)
        assert isinstance(engine, on_ray.OnRay)
        if not shared:
            engine._token = "what no file holds"
        ended: list[Outcome] = []

        def conclude(outcome: Outcome, entry: Any) -> None:
            ended.append(outcome)
            if len(ended) == 1:  # in the middle: its next run has begun, or will
                time.sleep(1)
                # Not the one that this process is attached to: on one machine it may be any of them.
                here = engine._ray.get_runtime_context().get_node_id()
                cluster.remove_node(next(node for node in nodes if node.node_id != here), allow_graceful=False)
                cluster.add_node(num_cpus=1)

        run_plan.execute(plan, noted_lab, engine, lambda job, message: None, conclude)
    finally:
        cluster.shutdown()
    assert [outcome.failure for outcome in ended] == [None] * 6
    assert not list(noted_lab.results.glob(".driver-*"))
    on_cluster = numbers(noted_lab)
    assert len(on_cluster) == 6
    execute_on(
        plan_noted(noted_lab, seeds, sources, settings={"seconds": 3.0}, rerun=True), noted_lab, local.InProcess()
    )
    assert on_cluster == numbers(noted_lab)


@pytest.mark.slow
def test_leaving_a_ray_of_this_machine_leaves_no_process(noted_lab: Project) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install 'fergen-bench[ray]'")
    command = "from fergen_bench.cli import main; main()"
    asked = [
        "run",
        "--method",
        "noted",
        "--set",
        "seconds=120",
        "--seeds",
        "0",
        "--sources",
        "web",
        "--no-track",
        "--ray",
    ]
    process = subprocess.Popen([sys.executable, "-c", command, *asked], stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    while not (noted_lab.root / "trainings").exists() and time.monotonic() < until:
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command goes on with the rest" in said
    (job,) = plan_noted(noted_lab, [0], ["web"], settings={"seconds": 120.0}).missing
    until = time.monotonic() + 30
    while is_claimed(job.spec, Path(job.runs)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not is_claimed(job.spec, Path(job.runs))
