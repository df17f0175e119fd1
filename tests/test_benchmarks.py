"""Timings of the hot functions: `make benchmark`. In an ordinary test run each is called once, to see that it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ROOT
from fergen_bench.data.source import Source
from fergen_bench.experiment import run
from fergen_bench.experiment.method_file import read_method
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import read_protocol
from fergen_bench.metric import METRICS
from fergen_bench.networks.loading import load_network
from fergen_bench.records import counting, record, store
from fergen_bench.synth.render import render
from fergen_bench.synth.worlds import compose
from fergen_bench.training.augment import SampleDraws, erase, random_boxes, random_flip, random_noise
from fergen_bench.training.contract import Context
from fergen_bench.training.graph import Batch
from fergen_bench.training.images import labelled
from fergen_bench.training.load import load_method
from fergen_bench.training.logistic import best_strength, solve

CPU = torch.device("cpu")


def test_benchmark_composing_64_scenes(benchmark: Any) -> None:
    assert len(benchmark(compose, "web", "train", np.arange(64)).columns["label"]) == 64


@pytest.mark.parametrize("size", [64, 112])
def test_benchmark_rendering_32_faces(benchmark: Any, size: int) -> None:
    scene = compose("web", "train", np.arange(32))
    assert benchmark(render, scene, size).shape == (32, size, size, 3)


@pytest.mark.parametrize("name", ["synth", "synth-trunk"])
def test_benchmark_features_of_256_faces(benchmark: Any, name: str) -> None:
    network = load_network(name, CPU)
    network.eval()
    images = torch.randint(0, 256, (256, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert benchmark(network, images).shape == (256, network.features)


def test_benchmark_augmenting_64_faces(benchmark: Any) -> None:
    images, index = torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8), torch.arange(64)

    def augment() -> torch.Tensor:
        draws = SampleDraws(index, "benchmark", 0)
        noisy = random_flip(random_noise(images, draws), draws).float() / 255
        return erase(noisy, random_boxes(noisy.shape, draws), torch.zeros(3, 1, 1))

    changed = benchmark(augment)
    assert changed.shape == images.shape
    assert changed.isfinite().all()


@pytest.mark.parametrize("name", ["cafe", "full_finetune"])
def test_benchmark_a_training_step_on_64_faces(benchmark: Any, name: str, source: Source, tmp_path: Path) -> None:
    file = read_method(ROOT / "methods" / f"{name}.py")
    networks = {"backbone": "synth", "trunk": "synth-trunk"}
    values = file.defaults("small") | {key: value for key, value in networks.items() if key in file.defaults("small")}
    method: Any = load_method(file.path, file.class_name, values)
    ctx = Context("benchmark", 0, "last", CPU, tmp_path, lambda what, done, total: None)
    method.model = method.build(ctx).to(memory_format=torch.channels_last)
    optimizer, _ = method.optimization(100)
    images, index = source.train.faces(slice(0, 64)), torch.arange(64)
    labels = torch.from_numpy(source.train.labels[:64])

    def step() -> float:
        draws = ctx.draws(index, "augment", 0)
        losses = method.loss(
            Batch(method.augment(images, draws), labels, index, 0, 0, draws, ctx.generator("step"), images)
        )
        optimizer.zero_grad()
        loss = sum(losses.values()) if isinstance(losses, dict) else losses
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    assert np.isfinite(benchmark(step))


def _features(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 7, (count,), generator=generator)
    means = 0.3 * torch.randn(7, 512, generator=generator)
    return torch.randn(count, 512, generator=generator) + means[labels], labels


def test_benchmark_a_linear_probe_on_3000_faces(benchmark: Any) -> None:
    features, labels = _features(3000)
    weight, bias = benchmark(solve, features.double(), labels, 7, 1.0)
    assert (weight.shape, bias.shape) == ((7, 512), (7,))


def test_benchmark_the_sweep_of_strengths_on_1000_faces(benchmark: Any) -> None:
    features, labels = _features(1200)
    assert 1e-6 <= benchmark(best_strength, features[:1000], labels[:1000], features[1000:], labels[1000:], 7) <= 1e6


def test_benchmark_reading_kept_features(benchmark: Any, source: Source, tmp_path: Path) -> None:
    network = load_network("synth", CPU).freeze(tmp_path, lambda what, done, total: None)
    network.cached(source.fit)
    assert benchmark(network.cached, source.fit).shape == (len(source.fit), network.features)


def test_benchmark_scoring_a_target(benchmark: Any, source: Source) -> None:
    network = load_network("synth", CPU)
    network.eval()

    def score() -> int:
        with torch.no_grad():
            return sum(len(network(images)) for images, _ in labelled(source.val, CPU))

    assert benchmark(score) == len(source.val)


def _specs(project: Project, seeds: int) -> list[run.Run]:
    """The linear probe on each domain of the tiny suite."""
    path, suite = ROOT / "protocols" / "leave-none.yaml", project.suite("synth5-tiny")
    method = read_method(ROOT / "methods" / "linear_probe.py")
    outlines = outline(read_protocol(path), str(path), suite, [method], Request(seeds=range(seeds))).outlines
    return [outlined.run.with_fingerprints(dict.fromkeys(suite.domains, "f")) for outlined in outlines]


def test_benchmark_planning_100_runs(benchmark: Any, project: Project) -> None:
    assert len(benchmark(_specs, project, 20)) == 100


def test_benchmark_loading_25_records(benchmark: Any, project: Project, tmp_path: Path) -> None:
    for spec in _specs(project, 5):
        cells = [record.Cell(name, "f", spec.relations[name], np.eye(7, dtype=int).tolist()) for name in spec.targets]
        store.save(record.RunRecord(spec, tuple(cells), (), None, {}, {}, {"fit": 1.0}, "2026", "0" * 64), tmp_path)
    records, faults = benchmark(counting.load_all, tmp_path)
    assert (len(records), list(faults)) == (25, [])


def test_benchmark_metrics_of_a_confusion_matrix(benchmark: Any) -> None:
    confusion = np.random.default_rng(0).integers(0, 500, (7, 7))
    assert np.isfinite(benchmark(lambda: [function(confusion) for function in METRICS.values()])).all()
