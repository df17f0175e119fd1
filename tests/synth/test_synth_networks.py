"""The two packaged networks of synth5."""

from __future__ import annotations

import pytest
import torch

from fergen_bench.synth.networks import DEVIATION, MEAN, FaceEncoder, Trunk, normalise


@pytest.mark.parametrize(("kind", "channels", "millions"), [(FaceEncoder, 192, 1.9), (Trunk, 512, 0.38)])
def test_maps_features_and_sizes(kind: type[FaceEncoder | Trunk], channels: int, millions: float) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        assert network.feature_map(images).shape == (2, channels, 4, 4)
        assert network(images).shape == (2, 512)
    count = sum(weight.numel() for weight in network.parameters()) / 1e6
    assert count == pytest.approx(millions, rel=0.03)


def test_only_the_features_of_the_encoder_are_signed() -> None:
    torch.manual_seed(0)
    images = torch.randn(4, 3, 64, 64)
    with torch.no_grad():
        assert Trunk().eval()(images).min() >= 0
        assert FaceEncoder().eval()(images).min() < 0


def test_the_statistics_are_those_of_the_training() -> None:
    images = torch.arange(256, dtype=torch.uint8)
    torch.testing.assert_close(normalise(images), (images / 255 - MEAN) / DEVIATION)
