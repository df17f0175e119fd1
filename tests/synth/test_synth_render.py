"""Rendered images depend on their scene only, on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import ROOT
from fergen_bench.synth import DOMAINS, pretrain
from fergen_bench.synth.render import render
from fergen_bench.synth.worlds import compose


def faces(domain: str, index: Sequence[int], size: int = 64, **overrides: float) -> torch.Tensor:
    return render(compose(domain, "test", np.array(index), overrides), size)


@pytest.mark.parametrize("domain", DOMAINS)
def test_an_image_does_not_depend_on_its_batch_or_on_threads(domain: str) -> None:
    together = faces(domain, range(12))
    alone = torch.cat([faces(domain, [row]) for row in range(12)])
    assert torch.equal(together, alone)
    assert torch.equal(faces(domain, [7, 3, 5]), together[[7, 3, 5]])
    torch.set_num_threads(2)
    try:
        assert torch.equal(faces(domain, range(12)), together)
    finally:
        torch.set_num_threads(1)


def test_an_image_of_the_pretraining_does_not_depend_on_its_batch() -> None:
    """Some images of a batch are compressed and others are not."""
    together = render(pretrain.compose("probe", np.arange(24)), 64)
    alone = torch.cat([render(pretrain.compose("probe", np.array([row])), 64) for row in range(24)])
    assert torch.equal(together, alone)


def test_images_equal_those_of_other_machines() -> None:
    """Another processor may round differently: by at most one grey level, on less than a thousandth of the values."""
    stored = np.asarray(Image.open(ROOT / "tests" / "synth" / "synth5.png")).astype(int)
    for row, domain in enumerate(DOMAINS):
        drawn = np.concatenate(list(faces(domain, range(8)).permute(0, 2, 3, 1).numpy()), 1).astype(int)
        difference = np.abs(drawn - stored[64 * row : 64 * (row + 1)])
        assert difference.max() <= 1
        assert (difference > 0).mean() < 1e-3


@pytest.mark.parametrize("size", [64, 112, 224])
def test_every_size_shows_the_same_face(size: int) -> None:
    small = faces("web", range(4)).float()
    large = faces("web", range(4), size).float()
    shrunk = torch.nn.functional.interpolate(large, (64, 64), mode="area")
    assert (shrunk - small).abs().mean() < 8
