"""Arrays stored with a record."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fergen_bench.files.bounded import read_arrays
from fergen_bench.records.sidecar import write_npz


def test_arrays_may_have_any_name(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    arrays = {"file": np.arange(3), "allow_pickle": np.ones((2, 2), np.float16)}
    write_npz(file, file, arrays)
    stored = read_arrays(file)
    assert set(stored) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(stored[name], array)
