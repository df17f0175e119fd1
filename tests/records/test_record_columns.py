"""Arrays of many runs in one file."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.records.columns import digest, stack, unstack


def runs() -> dict[str, dict[str, np.ndarray]]:
    labels = np.arange(5, dtype=np.uint8)
    return {
        "b": {"web.labels": labels, "web": labels[::-1].copy(), "none": np.zeros((0, 2), np.float32)},
        "a": {"web.labels": labels, "web": labels[:3]},
    }


def test_every_run_gets_its_arrays_back() -> None:
    found = unstack(stack(runs()))
    assert {key: sorted(own) for key, own in found.items()} == {key: sorted(own) for key, own in runs().items()}
    for key, own in runs().items():
        for name, array in own.items():
            assert found[key][name].dtype == array.dtype
            np.testing.assert_array_equal(found[key][name], array)
    assert unstack(stack({})) == {}


def test_equal_arrays_are_stored_once_and_the_order_of_runs_changes_nothing() -> None:
    stacked = stack(runs())
    assert [len(array) for name, array in stacked.items() if name.endswith("web.labels.values")] == [1]
    again = stack(dict(reversed(runs().items())))
    assert [*again] == [*stacked]
    assert all(np.array_equal(again[name], stacked[name]) for name in stacked)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("rows", np.array([9, 9], np.uint32)),
        ("runs", np.array([7, 1], np.uint32)),
        ("runs", np.array([0, 0], np.uint32)),
        ("rows", np.array([0.0, 0.0])),
        ("rows", np.array([0], np.uint32)),
    ],
)
def test_positions_that_do_not_exist_are_refused(part: str, value: np.ndarray) -> None:
    stacked = stack(runs())
    (name,) = (name for name in stacked if name.endswith(f"web.labels.{part}"))
    with pytest.raises(ValueError, match=r"do not fit together|two arrays"):
        unstack({**stacked, name: value})


def test_the_digest_covers_names_types_shapes_and_values() -> None:
    array = np.arange(4, dtype=np.uint8)
    others = ({"a": array[::-1]}, {"b": array}, {"a": array.reshape(2, 2)}, {"a": array.view(np.int8)}, {})
    assert len({digest({"a": array}), *map(digest, others)}) == 6
