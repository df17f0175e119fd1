"""The page about evaluation has every option."""

from __future__ import annotations

from conftest import ROOT
from fergen_bench.api.evaluate_options import EvaluateOptions
from fergen_bench.api.options import table


def test_the_table_of_options_is_that_of_the_code() -> None:
    page = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    assert page.endswith(f"## Options\n\n{table(EvaluateOptions, 'evaluate')}\n")
