"""The page of findings follows from the committed results, and its words from the intervals."""

from __future__ import annotations

import importlib.util
import math
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from conftest import ROOT

sys.path.insert(0, str(ROOT / "docs" / "findings"))

import comparisons
import finding


def script() -> Any:
    """Return the module of the command `python docs/findings`."""
    spec = importlib.util.spec_from_file_location("write_findings", ROOT / "docs" / "findings" / "__main__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_page_is_what_the_committed_results_give() -> None:
    assert script().main(["--check"]) == 0


def test_every_figure_of_the_page_is_there() -> None:
    path = script().PAGE
    page = path.read_text(encoding="utf-8")
    shown = {line.split("(")[1].rstrip(")") for line in page.splitlines() if line.startswith("![")}
    assert shown
    assert all((path.parent / name).is_file() for name in shown)


@pytest.mark.parametrize(
    ("low", "high", "word"), [(0.5, 1.5, "above"), (-2.0, -0.1, "below"), (-0.5, 0.5, "not significantly different")]
)
def test_a_sentence_follows_the_interval(low: float, high: float, word: str) -> None:
    compared: Any = SimpleNamespace(interval=(low, high), difference=(low + high) / 2, p=0.5)
    assert word in finding.apart("B", "A", compared)
    assert "these trainings" not in finding.apart("B", "A", compared)


def test_one_seed_limits_a_sentence_to_its_trainings() -> None:
    compared: Any = SimpleNamespace(interval=(0.5, 1.5), difference=1.0, p=math.nan)
    assert "for these trainings" in finding.apart("B", "A", compared)


def test_the_rank_correlation_of_equal_orders_is_one() -> None:
    values = np.arange(12.0)
    order, low, high = comparisons.rank_correlation(values, values**2)
    assert (order, low, high) == pytest.approx((1.0, 1.0, 1.0))
    assert comparisons.rank_correlation(values, -values)[0] == pytest.approx(-1.0)


def test_a_table_aligns_its_numbers_to_the_right() -> None:
    text = script().markdown(pd.DataFrame({"row": ["cafe"], "unseen": ["78.7"]}))
    assert text.splitlines() == ["| row | unseen |", "|---|---:|", "| cafe | 78.7 |"]
