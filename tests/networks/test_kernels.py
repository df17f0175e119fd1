"""Tests of faster kernels: resizing, convolutions as matrix products, and folded batch norms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fergen_bench.data.domain import Domain
from fergen_bench.networks import kernels
from fergen_bench.networks.kernels import exporting, fold_batch_norm, resize
from fergen_bench.networks.loading import load_network

CPU = torch.device("cpu")


def test_resizing_is_what_pillow_does(web: Domain) -> None:
    from PIL import Image

    face = np.array(Image.fromarray(np.asarray(web.faces[0])).resize((100, 100)))
    for kind, resample in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        pillow = np.asarray(Image.fromarray(face).resize((64, 64), resample)).astype(float)
        ours = resize(torch.from_numpy(face).permute(2, 0, 1)[None].float() / 255, 64, kind)[0].permute(1, 2, 0) * 255
        assert np.abs(ours.numpy() - pillow).max() <= 1.01


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_patches_is_a_product(bias: bool) -> None:
    convolution = torch.nn.Conv2d(3, 5, 4, stride=4, bias=bias).to(memory_format=torch.channels_last)
    faces = torch.rand(2, 3, 12, 8).contiguous(memory_format=torch.channels_last)
    odd = torch.rand(2, 3, 13, 8)
    expected = convolution(faces), convolution(odd)
    kernels.use_products(torch.nn.Sequential(convolution))
    assert type(convolution) is kernels.PatchConvolution
    torch.testing.assert_close(convolution(faces), expected[0])
    torch.testing.assert_close(convolution(odd), expected[1])
    overlapping = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 4, stride=2), torch.nn.Conv2d(3, 5, 1))
    kernels.use_products(overlapping)
    assert {type(layer) for layer in overlapping} == {torch.nn.Conv2d}


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_resizing_is_a_product_of_matrices(interpolation: str) -> None:
    faces = torch.rand(2, 3, 20, 9)
    rows, columns = (kernels._resizing(side, 16, interpolation, torch.device("cpu")) for side in (20, 9))
    torch.testing.assert_close((rows @ faces @ columns.T).clamp(0, 1), kernels.resize(faces, 16, interpolation))


def with_statistics(body: nn.Module) -> nn.Module:
    """Give every batch norm statistics and weights as of a trained network, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    for norm in (module for module in body.modules() if isinstance(module, nn.BatchNorm2d)):
        for buffer, (low, high) in ((norm.running_mean, (-0.2, 0.2)), (norm.running_var, (0.5, 2.0))):
            assert buffer is not None
            buffer.uniform_(low, high, generator=generator)
        nn.init.uniform_(norm.weight, 0.5, 1.5, generator=generator)
        nn.init.uniform_(norm.bias, -0.2, 0.2, generator=generator)
    return body.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("name", "norms"),
    [
        ("synth", 14),
        ("synth-trunk", 11),
        ("timm:test_resnet.r160_in1k/scratch", 15),
        ("timm:resnet18/scratch", 20),
        ("vggface2-resnet50/scratch", 53),
        ("open_clip:RN50-quickgelu/scratch", 55),
        ("open_clip:ViT-B-32-quickgelu/scratch", 0),
    ],
)
def test_folded_batch_norms_change_nothing_but_rounding(name: str, norms: int) -> None:
    network = load_network(name, CPU)
    if name.endswith("/scratch"):
        with_statistics(network)
    network.eval().requires_grad_(False)
    faces = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    names, expected = [name for name, _ in network.named_modules()], network(faces)
    assert fold_batch_norm(network.body) == norms
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 0
    assert [name for name, _ in network.named_modules()] == names
    assert (network(faces) - expected).abs().max() <= 1e-5 * expected.abs().max()
    if name in {"synth", "synth-trunk"}:
        assert (network(faces) - expected).abs().max() <= 1e-5
        assert network.feature_map(faces).shape[1:] == network.map_shape()
    assert fold_batch_norm(network.body) == 0


class Wired(nn.Module):
    """Two convolutions and a batch norm, connected in one of several ways."""

    def __init__(self, wiring: str) -> None:
        super().__init__()
        self.wiring = wiring
        self.conv, self.norm, self.other = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, 3, height, width)."""
        match self.wiring:
            case "sequence":
                return self.other(self.norm(self.conv(images)))
            case "output used twice":
                between = self.conv(images)
                return self.norm(between) + self.other(between)
            case "convolution used twice":
                return self.norm(self.conv(images)) + self.other(self.conv(images))
            case "norm used twice":
                return self.norm(self.conv(images)) + self.norm(self.other(images))
            case "norm first":
                return self.other(self.conv(self.norm(images)))
            case "activation between":
                return self.norm(self.conv(images).relu())
        return self.norm(self.conv(images)) if images.mean() > 0 else self.other(images)


@pytest.mark.parametrize(
    ("wiring", "folded"),
    [
        ("sequence", 1),
        ("output used twice", 0),
        ("convolution used twice", 0),
        ("norm used twice", 0),
        ("norm first", 0),
        ("activation between", 0),
        ("branches on its input", 0),
    ],
)
def test_a_batch_norm_is_folded_only_directly_behind_its_convolution(wiring: str, folded: int) -> None:
    body = with_statistics(Wired(wiring))
    images = torch.rand(2, 3, 6, 6)
    expected = body(images)
    assert fold_batch_norm(body) == folded
    torch.testing.assert_close(body(images), expected)
    assert isinstance(body.norm, nn.Identity) == bool(folded)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (48, 70), (200, 131), (33, 640), (1, 5)])
def test_an_export_resizes_as_interpolate_does(interpolation: str, height: int, width: int) -> None:
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    with exporting():
        found = resize(images, 64, interpolation)
    torch.testing.assert_close(found, resize(images, 64, interpolation), atol=2e-5, rtol=0)


def test_an_export_normalises_as_a_network_does() -> None:
    network = load_network("synth", torch.device("cpu"), "imagenet")
    images = torch.randint(0, 256, (2, 3, 90, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with exporting():
        found = network.prepare(images)
    torch.testing.assert_close(found, network.prepare(images), atol=2e-5, rtol=0)
