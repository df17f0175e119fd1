"""The files next to a record's JSON file: predictions, arrays of the method and its checkpoint."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from fergen_bench.error import BenchError
from fergen_bench.files.bounded import MOST_ARRAYS, read_arrays
from fergen_bench.records.record import Predictions

if TYPE_CHECKING:
    import numpy as np

PREDICTIONS, ARRAYS, CHECKPOINT = ".npz", ".arrays.npz", ".safetensors"
SIDECARS = (PREDICTIONS, ARRAYS, CHECKPOINT)
"""Endings of the files that may stand next to a record's JSON file under the same name."""

RERUN = "run it again with --rerun"
"""The next step in every error about a damaged record."""


def sidecar(path: Path, ending: str) -> Path:
    """Return the path of a sidecar file.

    Args:
        path: The record's JSON file.
        ending: One of `SIDECARS`, or ".json" for the JSON file itself.
    """
    return path.with_name(path.name.removesuffix(".json") + ending)


def record_files(path: Path) -> tuple[Path, ...]:
    """Return the paths of all files that a record may have: its JSON file and its sidecars."""
    return path, *(sidecar(path, ending) for ending in SIDECARS)


def pack_predictions(predictions: Mapping[str, Predictions]) -> dict[str, np.ndarray]:
    """Return predictions of several targets as the named arrays of one .npz file.

    A target has logits, float16 (N, 7), or, where only these are known, predicted classes, uint8 (N,).
    """
    import numpy as np

    stored: dict[str, np.ndarray] = {}
    for target, entry in predictions.items():
        if entry.reliability is None:
            # Only differences between logits carry meaning, and float16 is most precise near zero: subtract the
            # maximum.
            values = entry.logits.astype(np.float32)
            stored[target] = (values - values.max(1, keepdims=True)).clip(-60000.0).astype(np.float16)
        else:
            stored[target] = entry.logits.argmax(1).astype(np.uint8)
            stored[f"{target}.reliability"] = entry.reliability
        stored[f"{target}.labels"] = entry.labels.astype(np.uint8)
        if entry.left_out.any():
            stored[f"{target}.left_out"] = entry.left_out
        if entry.absent is not None and entry.absent.any():
            stored[f"{target}.absent"] = entry.absent
    return stored


def unpack_predictions(stored: Mapping[str, np.ndarray], file: Path) -> dict[str, Predictions]:
    """Return the predictions of every target from the arrays of an .npz file.

    Args:
        stored: The arrays by name.
        file: The file that they were read from, for error messages.

    Raises:
        BenchError: The arrays of some target have shapes, types or values that predictions cannot have.
    """
    import numpy as np

    from fergen_bench.data.labels import EXPRESSIONS

    classes = len(EXPRESSIONS)
    one_hot = np.eye(classes, dtype=np.float16)
    found = {}
    for name, logits in stored.items():
        if "." in name:
            continue
        reliability, known = stored.get(f"{name}.reliability"), None
        if reliability is not None and logits.ndim == 1 and logits.dtype == np.uint8:
            if (logits >= classes).any() or not _are_tables(reliability):
                raise BenchError(f"{file}: the arrays of {name} are not predictions; {RERUN}")
            known, logits = logits, one_hot.take(logits, 0)
        count = len(logits) if logits.ndim else 0
        left_out = stored.get(f"{name}.left_out", np.zeros(count, bool))
        labels = stored.get(f"{name}.labels", np.zeros(0, np.uint8))
        valid = logits.ndim == 2 and logits.shape[1] == classes and logits.dtype.kind == "f"
        valid = valid and labels.shape in {(0,), (count,)} and labels.dtype.kind in "iu"
        absent = stored.get(f"{name}.absent")
        masks = (left_out,) if absent is None else (left_out, absent)
        valid = valid and all(mask.shape == (count,) and mask.dtype == bool for mask in masks)
        valid = valid and (known is not None or bool(np.isfinite(logits).all()))
        if not valid or (labels.size and labels.max() >= classes):
            raise BenchError(f"{file}: the arrays of {name} are not predictions; {RERUN}")
        found[name] = Predictions(logits, labels, left_out, absent, reliability, known)
    return found


def _are_tables(reliability: np.ndarray) -> bool:
    """Return whether an array has up to two tables of `metric.reliability`."""
    from fergen_bench.metric import CONFIDENCE_BINS

    shape, kind = reliability.shape, reliability.dtype.kind
    return shape[1:] == (CONFIDENCE_BINS, 3) and shape[0] <= 2 and kind == "f" and bool((reliability >= 0).all())


def load_npz(file: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a sidecar by name.

    Raises:
        BenchError: The file is missing, damaged or too large.
    """
    try:
        return read_arrays(file)
    except (OSError, ValueError) as error:
        raise BenchError(f"{file}: these arrays cannot be read ({error}); {RERUN}") from None


def write_npz(draft: Path, file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to a temporary file in the .npz format.

    Args:
        draft: The temporary file.
        file: The file that the draft will replace, for error messages.
        arrays: The arrays by name.

    Raises:
        BenchError: The arrays are larger than a record may store.
    """
    if (size := sum(array.nbytes for array in arrays.values())) > MOST_ARRAYS:
        raise BenchError(
            f"{file}: the arrays have {size:,} bytes and a record stores at most {MOST_ARRAYS:,}; save fewer of them"
        )
    with draft.open("wb") as opened:
        dump_npz(opened, arrays)
        os.fsync(opened.fileno())


def dump_npz(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays to an open file in the .npz format. Equal arrays give equal bytes."""
    import numpy as np

    # numpy.savez takes names as keywords, so an array could not be called `file`.
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
