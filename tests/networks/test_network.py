"""Tests of a network's feature maps and of its feature cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fergen_bench.data.domain import Domain, mirrored
from fergen_bench.data.source import open_source
from fergen_bench.error import BenchError
from fergen_bench.networks.loading import load_network
from fergen_bench.networks.network import Network
from fergen_bench.training.contract import Context

CPU = torch.device("cpu")


def quiet(what: str, done: int, total: int) -> None: ...


@pytest.mark.parametrize(
    ("name", "shape"),
    [("synth", (192, 4, 4)), ("synth-trunk", (512, 4, 4)), ("timm:test_resnet.r160_in1k/scratch", None)],
)
def test_a_map_has_a_shape_before_any_face_is_seen(name: str, shape: tuple[int, int, int] | None) -> None:
    network = load_network(name, CPU)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    found = network.train().map_shape()
    assert network.training
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert shape in (found, None)
    faces = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    assert network.feature_map(faces).shape == (2, *found)


class Counter:
    """Count the images that pass through a network."""

    def __init__(self, network: Network) -> None:
        self.seen = 0
        network.body.register_forward_hook(self)

    def __call__(self, body: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        self.seen += len(inputs[0])


def counted(cache: Path) -> tuple[Network, Counter]:
    network = load_network("synth", CPU).freeze(cache, quiet)
    return network, Counter(network)


def test_features_of_unchanged_faces_are_computed_once_and_kept(tmp_path: Path, web: Domain) -> None:
    test = web.split("test")
    network, counter = counted(tmp_path)
    plain = torch.cat([network(images) for images in test.batches(CPU, 64)])
    assert counter.seen == len(test)
    again = torch.cat([network(images) for images in test.batches(CPU, 17)])
    assert counter.seen == len(test)
    assert torch.equal(plain, again)
    other, counter = counted(tmp_path)
    part = np.array([3, 7, 50])
    np.testing.assert_array_equal(other.cached(test.subset(part)), plain.numpy()[part])
    whole = other.cached(test)
    assert isinstance(whole, np.memmap)
    whole[:] = 0.0  # a copy: neither the disk nor the next call sees the change
    np.testing.assert_array_equal(other.cached(test), plain.numpy())
    assert counter.seen == 0
    fresh = load_network("synth", CPU)
    fresh.eval()
    torch.testing.assert_close(fresh(test.faces()), plain, atol=1e-4, rtol=1e-4)


def test_features_of_several_domains_stand_one_after_another(tmp_path: Path, web: Domain, film: Domain) -> None:
    network, _ = counted(tmp_path)
    both = open_source([web, film], 0).val
    apart = [network.of_rows(piece.domain, piece.rows) for piece in both.pieces]
    everything = network.cached(both)
    np.testing.assert_array_equal(everything, np.concatenate(apart))
    border = len(both.pieces[0].rows)
    for asked in (slice(0, border), slice(border - 2, border + 3), slice(border, None), slice(3, 3)):
        np.testing.assert_array_equal(network.cached(both, asked), everything[asked])


def test_changed_faces_are_looked_at(tmp_path: Path, web: Domain) -> None:
    network, counter = counted(tmp_path)
    (images,) = web.split("test").batches(CPU, 100)
    clean = network(images)
    flipped = network(images.flip(3))
    assert counter.seen == 200
    assert not torch.allclose(clean, flipped)
    images[:, :, :8] = 0  # in place: the mark of a clean batch no longer counts
    assert not torch.allclose(network(images), clean)
    assert counter.seen == 300


def test_features_of_mirror_images_are_computed_once_and_kept_apart(tmp_path: Path, web: Domain) -> None:
    test = web.split("test")
    network, counter = counted(tmp_path)
    expected = torch.cat([network(images.flip(3)) for images in test.batches(CPU, 64)])
    assert counter.seen == len(test)
    found = torch.cat([network(mirrored(images)) for images in test.batches(CPU, 17)])
    assert counter.seen == 2 * len(test)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    plain = network.cached(test)
    assert not np.allclose(plain, found)
    other, counter = counted(tmp_path)
    context = Context("run", 0, "last", CPU, tmp_path, quiet)
    features, labels = context.features(other, test, view="mirror")
    assert torch.equal(features, found)
    np.testing.assert_array_equal(labels, test.labels)
    part = np.array([3, 7, 50])
    np.testing.assert_array_equal(other.cached(test.subset(part), view="mirror"), found.numpy()[part])
    assert counter.seen == 0


def test_mirror_images_of_changed_images_are_looked_at(tmp_path: Path, web: Domain) -> None:
    network, _ = counted(tmp_path)
    (images,) = web.split("test").batches(CPU, 100)
    assert torch.equal(mirrored(images), images.flip(3))
    before = network(mirrored(images))
    twice = mirrored(mirrored(images))
    torch.testing.assert_close(network(twice), network(images), atol=1e-5, rtol=1e-5)
    images[:, :, :8] = 0
    assert not torch.allclose(network(mirrored(images)), before)


def test_a_network_that_was_changed_has_no_kept_features(tmp_path: Path, web: Domain) -> None:
    network, _ = counted(tmp_path)
    (images,) = web.split("test").batches(CPU, 100)
    before = network(images)
    with torch.no_grad():
        network.body.project.weight.mul_(2.0)
    assert not torch.allclose(network(images), before)
    network, _ = counted(tmp_path)
    network.body = torch.nn.Sequential(network.body, torch.nn.Tanh())
    assert network(images).abs().max() <= 1.0


def test_damaged_weights_are_noticed_before_their_features_are_kept(tmp_path: Path, web: Domain) -> None:
    network = load_network("synth", CPU)
    torch.nn.init.constant_(network.body.project.bias, float("nan"))
    with pytest.raises(BenchError, match="computes NaN or infinite features for web"):
        network.freeze(tmp_path, quiet).cached(web.split("test"))
    assert not list(tmp_path.rglob("*.npy"))


def test_other_statistics_and_other_weights_have_features_of_their_own(tmp_path: Path, web: Domain) -> None:
    for name, statistics in (
        ("synth", "own"),
        ("synth", "imagenet"),
        ("synth-trunk", "own"),
        ("synth-trunk/scratch", "own"),
    ):
        load_network(name, CPU, statistics).freeze(tmp_path, quiet).cached(web.split("test"))  # type: ignore[arg-type]
    assert len(list((tmp_path / "features").glob("*/*.npy"))) == 4


def test_only_frozen_networks_have_their_batch_norms_folded(tmp_path: Path, web: Domain) -> None:
    trained, frozen = load_network("synth-trunk", CPU), load_network("synth-trunk", CPU).freeze(tmp_path, quiet)
    counts = [sum(type(m) is torch.nn.BatchNorm2d for m in network.modules()) for network in (trained, frozen)]
    assert counts == [11, 0]
    assert trained.digest == frozen.digest
    again = load_network("synth-trunk", CPU).freeze(tmp_path, quiet).freeze(tmp_path, quiet)
    np.testing.assert_array_equal(again.cached(web.split("test")), frozen.cached(web.split("test")))
    assert len(list((tmp_path / "features").glob("*/*.npy"))) == 1


def test_a_frozen_network_stays_frozen_inside_a_method_that_trains(tmp_path: Path) -> None:
    network = load_network("synth-trunk", CPU).freeze(tmp_path, quiet)
    torch.nn.ModuleDict({"frozen": network}).train()
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_features_in_half_precision_are_stored_apart_and_near(tmp_path: Path, web: Domain) -> None:
    full, half = (load_network("synth", CPU).freeze(tmp_path, quiet, precision) for precision in ("fp32", "bf16"))
    test = web.split("test")
    exact, near = full.cached(test), half.cached(test)
    assert near.dtype == np.float32
    assert 0 < np.abs(near - exact).mean() < 0.03 * np.abs(exact).mean()
    assert len(list((tmp_path / "features").glob("*/*.npy"))) == 2
    # A forward pass computes what the cache contains, up to the rounding of another batch size.
    for network, stored, limit in ((full, exact, 1e-5), (half, near, 0.05)):
        live = network(test.faces()[:40] + torch.zeros((), dtype=torch.uint8))
        assert live.dtype == torch.float32
        assert np.abs(live.numpy() - stored[:40]).max() < limit
    for weight in half.body.parameters():
        assert weight.dtype in {torch.bfloat16, torch.float32}
