"""Tests of the context that a run passes to its method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fergen_bench import BenchError, Context


def context(folder: Path, selection: str = "last", seed: int = 0) -> Context:
    return Context("run", seed, selection, torch.device("cpu"), folder, lambda what, done, total: None)


def test_generators_depend_on_names_not_on_the_order_of_calls(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    first = [torch.rand(2, generator=ctx.generator(name)).tolist() for name in ("a", "b")]
    second = [torch.rand(2, generator=ctx.generator(name)).tolist() for name in ("b", "a")]
    assert first == second[::-1]
    assert first[0] != first[1]


def test_arrays_have_valid_names_and_contain_numbers(tmp_path: Path) -> None:
    ctx = context(tmp_path)
    ctx.save_array("web.mask-1", torch.arange(3))
    assert ctx.arrays["web.mask-1"].tolist() == [0, 1, 2]
    for name, array in (("a/b", np.zeros(2)), ("a", np.array(["x"]))):
        with pytest.raises(BenchError, match="use a name of letters, digits and dots, and an array of numbers"):
            ctx.save_array(name, array)


def test_arrays_of_a_run_have_at_most_16_mb(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="the arrays of the run exceed 16 MB"):
        context(tmp_path).save_array("large", np.zeros(2**24 + 1, np.uint8))
