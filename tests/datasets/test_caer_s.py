"""CAER-S, with labels in the pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench.datasets import caer_s
from greyfaces import counts, draw, each, read


@pytest.mark.parametrize("root", ["", "CAER-S"])
def test_caer_s_is_whole_scenes(tmp_path: Path, root: str) -> None:
    for split in ("train", "test"):
        for native, expression in caer_s.LABELS.items():
            for number in range(2):
                draw(tmp_path / root / split / native / f"{number:04d}.png", expression, number)
    found, listing = read(caer_s.DATASET, tmp_path)
    assert (found, counts(listing)) == ("caers-official", {"train": each(2), "test": each(2)})
    assert listing.notes == ["CAER-S has whole scenes: faces are not cropped."]
