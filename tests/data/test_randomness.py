from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fergen_bench.data.randomness import Draws, counters, seed_of, uniform


def test_a_seed_depends_on_every_name_and_on_where_names_end() -> None:
    seeds = {seed_of("a", "b"), seed_of("ab"), seed_of("b", "a"), seed_of("a", "b", 0), seed_of("a", "b", 1)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_seed_is_the_same_on_every_machine() -> None:
    assert seed_of("augment", "web", 0) == 898088975429028501


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=20), st.integers(0, 2**63 - 1), st.text(max_size=8))
def test_numpy_and_torch_draw_the_same(index: list[int], seed: int, name: str) -> None:
    from_numpy = uniform(counters(np.array(index, np.int64), seed), name)
    from_torch = uniform(counters(torch.tensor(index, dtype=torch.int64), seed), name)
    assert from_torch.dtype == torch.float32
    np.testing.assert_array_equal(from_numpy.astype(np.float32), from_torch.numpy())


@given(st.permutations(range(30)))
def test_a_value_depends_on_its_index_and_not_on_its_position(order: list[int]) -> None:
    straight, mixed = Draws(range(30), "s").normal("x"), Draws(order, "s").normal("x")
    np.testing.assert_array_equal(straight[order], mixed)


def test_uniform_normal_and_choice_have_their_distributions() -> None:
    draws = Draws(range(200_000), "distribution")
    u, n = draws.uniform("u"), draws.normal("n", 2.0, 3.0)
    assert np.abs(np.histogram(u, 20, (0, 1))[0] / 10_000 - 1).max() < 0.05
    assert u.min() >= 0
    assert u.max() < 1
    assert n.mean() == pytest.approx(2.0, abs=0.03)
    assert n.std() == pytest.approx(3.0, rel=0.01)
    assert np.bincount(draws.choice("c", [1, 0, 3])) / 200_000 == pytest.approx([0.25, 0, 0.75], abs=0.005)
    assert np.corrcoef(u, draws.uniform("v"))[0, 1] == pytest.approx(0, abs=0.01)
    assert np.bincount(draws.integers("i", 7)) / 200_000 == pytest.approx([1 / 7] * 7, abs=0.004)
