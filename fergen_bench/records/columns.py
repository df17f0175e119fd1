"""The arrays of many runs as the arrays of one file, in which equal arrays are stored once.

Arrays of one name, type and shape are stacked, because similar arrays that follow each other compress well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

KEYS = "keys"
"""The name of the array of the keys of the runs."""


def stack(runs: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the arrays of many runs as a few arrays.

    Args:
        runs: The arrays of each run by name, by the key of the run.

    Returns:
        `keys` (R,), and for each group of arrays with one name, type and shape: `NUMBER.NAME.values` (U, …), the
        distinct ones; `NUMBER.NAME.runs` (M,), the positions in `keys` of the runs that have one; and
        `NUMBER.NAME.rows` (M,), the position in the values of each. They depend on the content of `runs` alone.
    """
    import numpy as np

    groups: dict[tuple[str, str, tuple[int, ...]], list[tuple[int, np.ndarray]]] = {}
    for place, key in enumerate(sorted(runs)):
        for name, array in runs[key].items():
            groups.setdefault((name, array.dtype.str, array.shape), []).append((place, array))
    found = {KEYS: np.array(sorted(runs), "S")} if groups else {}
    for number, ((name, _, _), members) in enumerate(sorted(groups.items(), key=lambda item: item[0])):
        distinct: dict[bytes, int] = {}
        values, rows = [], []
        for _, array in members:
            content = array.tobytes()
            if content not in distinct:
                distinct[content] = len(distinct)
                values.append(array)
            rows.append(distinct[content])
        found[f"{number}.{name}.values"] = np.stack(values)
        found[f"{number}.{name}.runs"] = np.array([place for place, _ in members], np.uint32)
        found[f"{number}.{name}.rows"] = np.array(rows, np.uint32)
    return found


def unstack(stacked: Mapping[str, np.ndarray]) -> dict[str, dict[str, np.ndarray]]:
    """Return the arrays of each run from the arrays of one file; see `stack`.

    Raises:
        ValueError: The arrays are not those that `stack` returns.
    """
    runs: dict[str, dict[str, np.ndarray]] = {}
    if KEYS not in stacked:
        return runs
    try:
        keys = [key.decode("ascii") for key in stacked[KEYS].tolist()]
    except (AttributeError, UnicodeDecodeError):
        raise ValueError("its keys are not those of runs") from None
    for full, values in stacked.items():
        stem, _, part = full.rpartition(".")
        if part != "values":
            continue
        members, rows = (stacked.get(f"{stem}.{one}") for one in ("runs", "rows"))
        if members is None or rows is None or not _fit(len(keys), values, members, rows):
            raise ValueError(f"its arrays of {stem.partition('.')[2][:60]!r} do not fit together")
        name = stem.partition(".")[2]
        for place, row in zip(members.tolist(), rows.tolist(), strict=True):
            own = runs.setdefault(keys[place], {})
            if name in own:
                raise ValueError(f"it has two arrays {name[:60]!r} for the run {keys[place][:20]}")
            own[name] = values[row]
    return runs


def _fit(keys: int, values: np.ndarray, members: np.ndarray, rows: np.ndarray) -> bool:
    """Return whether the positions of a group exist."""
    positions = all(array.ndim == 1 and array.dtype.kind == "u" for array in (members, rows))
    fits = values.ndim > 0 and positions and len(members) == len(rows)
    return fits and (not len(rows) or (int(members.max()) < keys and int(rows.max()) < len(values)))


def digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the first 16 digits of a SHA-256 over names, types, shapes and values; "" without arrays."""
    if not arrays:
        return ""
    total = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        total.update(f"{name} {array.dtype.str} {array.shape} ".encode())
        total.update(array.tobytes())
    return total.hexdigest()[:16]
