"""The order in which an online method receives test images."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.execution.stream import stream

LABELS = np.random.default_rng(0).integers(0, 7, 103)


@pytest.mark.parametrize("order", ["shuffled", "sorted"])
@pytest.mark.parametrize("size", [1, 2, 8, 103, 200])
def test_every_image_comes_once(order: str, size: int) -> None:
    batches = stream(LABELS, order, size, "web")
    assert sorted(np.concatenate(batches)) == list(range(103))
    assert all(len(batch) == size for batch in batches[:-1])


def test_the_order_depends_on_the_names_alone() -> None:
    one, same, other = (np.concatenate(stream(LABELS, "shuffled", 8, "web", seed)) for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    assert np.array_equal(one, np.concatenate(stream(LABELS, "shuffled", 50, "web", 0)))


def test_a_sorted_stream_has_one_expression_after_another_in_random_order() -> None:
    order = np.concatenate(stream(LABELS, "sorted", 8, "web"))
    assert (np.diff(LABELS[order]) >= 0).all()
    assert not (np.diff(order[LABELS[order] == 3]) > 0).all()


def test_a_last_image_joins_the_batch_before_it() -> None:
    assert [len(batch) for batch in stream(LABELS, "shuffled", 34, "web")] == [34, 34, 35]
    assert [len(batch) for batch in stream(LABELS, "shuffled", 1, "web")] == [1] * 103
    assert [len(batch) for batch in stream(LABELS[:1], "shuffled", 8, "web")] == [1]
