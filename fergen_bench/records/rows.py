"""Records as lines of JSON: one row per run, and before the rows each value that several runs share.

The first line has the version of the format and the number of runs. A line with an `id` has the shared values of that
name. A row has the id of its method, setting, base, data and environment in place of these values, and its own values:
sources, seed, confusion matrices, history, seconds. Fields of a cell that follow from the run are left out, histories
have the columns that tables show, and their numbers five digits. The confusion matrices of changed images are in the
arrays of the run (`SHIFTS`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from fergen_bench.error import BenchError
from fergen_bench.experiment.run import Run
from fergen_bench.files.bounded import checksum_of, parse_json
from fergen_bench.records.record import RunRecord
from fergen_bench.records.store import parsed

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
SHIFTS = "shifts"
"""The name of the array of the confusion matrices of changed images, unsigned integers (S, 7, 7)."""

_RUN = frozenset(one.name for one in fields(Run))
_SHARED = {
    "method": (
        *("method", "version", "parameters", "weights", "defaults", "note", "online", "networks", "method_digest"),
        "base_digest",
    ),
    "setting": (
        *("suite", "profile", "selection", "fraction", "numerics", "precision", "views", "prior", "targets"),
        *("synthetic", "protocol", "exposure"),
    ),
    "base": ("base",),
    "data": ("data",),
    "environment": ("environment",),
    "shifts": ("shifts",),
}
"""Name of a shared value in rows → the fields that it has."""
_OF_ONE_RUN = ("memory_mb", "trained_as")
"""Parts of an environment that differ between any two runs."""
_HISTORY = ("epoch", "loss", "val_accuracy", "images_per_second")
_DIGITS = 5
_EMPTY: Mapping[str, Any] = {
    **{name: {} for name in ("fingerprints", "parameters", "weights", "defaults", "targets", "relations", "excluded")},
    **{
        name: {} for name in ("networks", "environment", "measured", "data", "cells", "otherwise", "history", "seconds")
    },
    **dict.fromkeys(("adaptation_target", "base", "exposure", "selected_epoch", "source_val")),
    **{"sources": [], "shifts": [], "protocol": "", "note": "", "online": False, "base_digest": ""},
}
"""Fields that are left out where they have this value."""
_CELL = ("fingerprint", "relation", "excluded", "absent")


@dataclass(frozen=True)
class Row:
    """A record, the number of its line, and the digest of its arrays; see `columns.digest`."""

    record: RunRecord
    line: int
    digest: str


def encode(records: Iterable[tuple[RunRecord, str]]) -> bytes:
    """Return the lines of records, which depend on their content alone.

    Args:
        records: The records of one suite and protocol, each with the digest of its arrays.
    """
    shared: dict[str, Any] = {}
    rows = []
    for record, digest in sorted(records, key=lambda entry: _order(entry[0])):
        flat = {**flattened(record), **({"arrays": digest} if digest else {})}
        checksum = checksum_of(flat)[:16]
        row: dict[str, Any] = {"key": record.spec.key}
        for word, names in _SHARED.items():
            if values := {name: flat.pop(name) for name in names if name in flat}:
                stem = record.spec.method if word == "method" else word
                row[word] = f"{stem}-{checksum_of(values)[:12]}"
                shared[row[word]] = values
        rows.append({**row, **flat, "checksum": checksum})
    lines: list[dict[str, Any]] = [{"format": FORMAT, "runs": len(rows)}]
    lines += [{"id": name, **shared[name]} for name in sorted(shared)]
    return "".join(f"{_line(line)}\n" for line in [*lines, *rows]).encode()


def _line(content: Mapping[str, Any]) -> str:
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


def _order(record: RunRecord) -> tuple[Any, ...]:
    spec = record.spec
    return spec.label, spec.version, spec.fraction, spec.selection, spec.sources, spec.seed, spec.key


def flattened(record: RunRecord) -> dict[str, Any]:
    """Return the content of a record as its row has it, with the shared values in their places."""
    content = json.loads(json.dumps(record.to_json()))
    spec = content.pop("spec")
    flat = {**spec, **content}
    for name in ("format", "key", "files", "cells", "shifted"):
        flat.pop(name, None)
    flat["cells"] = {cell["target"]: cell["confusion"] for cell in content["cells"]}
    flat["otherwise"] = {
        cell["target"]: odd for cell in content["cells"] if (odd := _odd(cell, _expected(spec, cell["target"])))
    }
    flat["shifts"] = [{name: cell[name] for name in cell if name != "confusion"} for cell in content["shifted"]]
    # One order for all runs, whichever domain each of them learned from.
    order = [*spec["targets"], *sorted(set(content["data"]) - set(spec["targets"]))]
    flat["data"] = {name: content["data"][name] for name in order if name in content["data"]}
    columns = {name: [_rounded(epoch.get(name)) for epoch in content["history"]] for name in _HISTORY}
    flat["history"] = {name: values for name, values in columns.items() if set(values) - {None}}
    flat["seconds"] = {name: _rounded(value) for name, value in content["seconds"].items()}
    flat["measured"] = {name: flat["environment"].pop(name) for name in _OF_ONE_RUN if name in flat["environment"]}
    return {name: value for name, value in flat.items() if name not in _EMPTY or value != _EMPTY[name]}


def _expected(spec: Mapping[str, Any], target: str) -> dict[str, Any]:
    """Return the fields of a cell that follow from its run."""
    excluded = spec["excluded"].get(target, "")
    values = (spec["targets"].get(target), spec["relations"].get(target), excluded, 0)
    return dict(zip(_CELL, values, strict=True))


def _odd(cell: Mapping[str, Any], expected: Mapping[str, Any]) -> dict[str, Any]:
    return {name: cell[name] for name in _CELL if cell[name] != expected[name]}


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def decode(
    text: bytes, place: str, arrays_of: Callable[[str], Mapping[str, np.ndarray]]
) -> tuple[list[Row], list[str]]:
    """Return the rows of a file, and a sentence for each line that cannot be read.

    Args:
        text: The content of the file.
        place: The name of the file, for messages.
        arrays_of: Returns the arrays of a run by its key, or raises BenchError.
    """
    rows: list[Row] = []
    faults: list[str] = []
    shared: dict[str, Any] = {}
    stated = None
    known: set[str] = set()
    for number, line in enumerate(text.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            content = parse_json(line)
            if number == 1:
                stated = _stated(content)
            elif isinstance(content, dict) and "id" in content:
                shared[content.pop("id")] = content
            else:
                row = _row(content, number, shared, arrays_of)
                if row.record.spec.key in known:
                    raise ValueError(f"it repeats the run {row.record.spec.key}")
                known.add(row.record.spec.key)
                rows.append(row)
        except BenchError as error:
            faults.append(f"{place}:{number}: {error}")
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            reason = " ".join(str(error).split())[:300]
            faults.append(f"{place}:{number}: this line cannot be read ({reason}); restore the file")
    if stated is None and not faults:
        faults.append(f"{place}:1: the file does not begin with the number of its runs; restore the file")
    elif not faults and stated != len(rows):
        faults.append(f"{place}:1: the file states {stated:,} runs and has {len(rows):,}; restore the file")
    return rows, faults


def _stated(content: Any) -> int:
    """Return the number of runs that the first line of a file states."""
    if not isinstance(content, dict) or type(content.get("runs")) is not int:
        raise ValueError("it is not the first line of packed records")
    if content.get("format") != FORMAT:
        raise ValueError(f"it has format {str(content.get('format'))[:20]}, and this version reads {FORMAT}")
    return int(content["runs"])


def _row(
    content: Any, line: int, shared: Mapping[str, Any], arrays_of: Callable[[str], Mapping[str, np.ndarray]]
) -> Row:
    if not isinstance(content, dict) or "key" not in content:
        raise ValueError("it is not a row")
    flat = dict(content)
    key, checksum = flat.pop("key"), flat.pop("checksum", None)
    for word in _SHARED:
        if isinstance(flat.get(word), str):
            if (name := flat.pop(word)) not in shared:
                raise ValueError(f"no line before it has the id {str(name)[:60]!r}")
            flat |= shared[name]
    if checksum != checksum_of(flat)[:16]:
        raise ValueError("its checksum is not that of its content: it was damaged or changed by hand")
    digest = str(flat.pop("arrays", ""))
    confusions = arrays_of(key).get(SHIFTS) if flat.get("shifts") else None
    whole = restored(flat, confusions)
    return Row(parsed({"key": key, **whole}, json.dumps(whole)), line, digest)


def restored(flat: Mapping[str, Any], shifts: np.ndarray | None) -> dict[str, Any]:
    """Return the content of a record from that of its row; see `flattened`.

    Args:
        flat: The content of the row, with the shared values in their places.
        shifts: The confusion matrices of changed images, if there are any.

    Raises:
        ValueError: A part is missing, or has the wrong form.
    """
    content = {**_EMPTY, **flat}
    otherwise = content.pop("otherwise")
    cells = [
        {"target": target, "confusion": confusion, **_expected(content, target), **otherwise.get(target, {})}
        for target, confusion in content.pop("cells").items()
    ]
    columns = content.pop("history")
    epochs = zip(*columns.values(), strict=True)
    history = [
        {name: value for name, value in zip(columns, values, strict=True) if value is not None} for values in epochs
    ]
    named = content.pop("shifts")
    if len(named) != (0 if shifts is None else len(shifts)):
        raise ValueError("its scores on changed images are not in the file of arrays")
    shifted = (
        [] if shifts is None else [{**of, "confusion": one.tolist()} for of, one in zip(named, shifts, strict=True)]
    )
    content["environment"] = {**content["environment"], **content.pop("measured")}
    spec = {name: content.pop(name) for name in list(content) if name in _RUN}
    return {**content, "spec": spec, "cells": cells, "history": history, "shifted": shifted}
