"""Tests of faster kernels: resizing and convolutions as matrix products."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fergen_bench.data.domain import Domain
from fergen_bench.networks import kernels
from fergen_bench.networks.kernels import resize

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
