"""The page on the datasets documents every reader."""

from __future__ import annotations

import pytest

from conftest import ROOT
from fergen_bench.datasets import GENERIC, NAMES, WILD5, dataset

PAGE = (ROOT / "docs" / "datasets.md").read_text()


@pytest.mark.parametrize("name", [name for name in NAMES if name not in GENERIC])
def test_every_dataset_and_layout_is_documented(name: str) -> None:
    kind = dataset(name, "test")
    assert f"`{name}`" in PAGE
    for layout in kind.layouts:
        assert f"`{layout.name}`" in PAGE
    assert kind.request in PAGE


@pytest.mark.parametrize("name", WILD5)
def test_the_expected_counts_are_documented(name: str) -> None:
    readme = (ROOT / "README.md").read_text()
    for counts in dataset(name, "test").expected.values():
        total = f"{sum(counts.values()):,}"
        assert total in PAGE
        assert total in readme
        assert all(f"{count:,}" in PAGE for count in counts.values())
