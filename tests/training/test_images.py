"""Tests of the images and feature rows that a training reads."""

from __future__ import annotations

import pytest
import torch

from fergen_bench import Source
from fergen_bench.training.images import SplitImages


def test_faces_come_from_memory_or_from_the_disk_alike(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.tensor([5, 2, 9, 2])
    resident = SplitImages(source.train, torch.device("cpu"))
    monkeypatch.setattr(SplitImages, "_fits", lambda self: False)
    streamed = SplitImages(source.train, torch.device("cpu"))
    assert streamed._resident is None
    assert torch.equal(resident.at(rows), streamed.at(rows))
    batches = [rows, torch.tensor([7]), torch.arange(20)]
    for kept, read in zip(resident.batches(batches), streamed.batches(batches), strict=True):
        assert torch.equal(kept, read)
