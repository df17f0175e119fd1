"""Corruptions change test images by severity, and depend on the image alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_domain import make

from fergen_bench.data.corruption import CLEAN, FACTORS, corrupted_images
from fergen_bench.data.domain import Domain

CORRUPTIONS = [name for name, factor in FACTORS.items() if not factor.rendered]


@pytest.mark.parametrize("factor", CORRUPTIONS)
def test_a_higher_severity_changes_an_image_more(web: Domain, factor: str) -> None:
    split, some = web.split("test"), np.array([1, 4, 7, 8])
    clean = corrupted_images(split, some, CLEAN, 0).float()
    assert torch.equal(clean, split.faces(some).float())
    changes = [
        float((corrupted_images(split, some, factor, level).float() - clean).abs().mean()) for level in range(1, 6)
    ]
    assert changes == sorted(changes)
    assert changes[0] > 0


@pytest.mark.parametrize("size", [8, 48])
@pytest.mark.parametrize("factor", CORRUPTIONS)
def test_corruptions_apply_to_other_sizes(tmp_path: Path, size: int, factor: str) -> None:
    split = make(tmp_path / "noise", size=size).split("test")
    together = corrupted_images(split, np.arange(3), factor, 5)
    assert together.dtype == torch.uint8
    assert together.shape == (3, 3, size, size)
    assert torch.equal(together[1:2], corrupted_images(split, np.array([1]), factor, 5))
