"""Packed records: per suite and protocol, a file of rows and a file with the predicted classes of all runs.

`SUITE/PROTOCOL.jsonl` has the rows (`rows`), `SUITE/PROTOCOL.npz` the arrays (`columns`, `reduced`). The same files in
a zip archive are packed records, too. Everything is read into memory and nothing is extracted.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.error import BenchError
from fergen_bench.files.bounded import MOST_ARRAYS, MOST_TEXT, parse_arrays, read_archive, read_bytes
from fergen_bench.records import columns, reduced, rows
from fergen_bench.records.collection import RecordFolder, Records
from fergen_bench.records.record import Predictions, RunRecord
from fergen_bench.records.sidecar import dump_npz, pack_predictions, unpack_predictions

if TYPE_CHECKING:
    import numpy as np

ROWS, ARRAYS = ".jsonl", ".npz"
_NAME = re.compile(r"(?:\w[\w.@-]{0,99}/)?\w[\w.@-]{0,99}\.(?:jsonl|npz)")
_OUTSIDE = re.compile(r"[^\w@-]")
_PREDICTED, _INSPECTED = "predictions/", "arrays/"


def home(record: RunRecord) -> str:
    """Return the name of the file of rows that a record belongs to, such as synth5/leave-none.jsonl."""
    spec = record.spec
    stem = spec.protocol or ("finished" if spec.exposure is not None else "runs")
    return f"{spec.suite}/{_OUTSIDE.sub('_', stem)[:100]}{ROWS}"


def contents(records: Records, record: RunRecord) -> dict[str, np.ndarray]:
    """Return the arrays that packed records have of a record.

    They are its predicted classes, the statistics of inspected values, and the confusion matrices of changed images.

    Args:
        records: The collection that has the record.
        record: The record.

    Raises:
        BenchError: Its predictions or arrays are damaged.
    """
    import numpy as np

    # Files of predicted expressions lack confidences.
    confident = bool(record.spec.parameters.get("scores", True)) or record.spec.exposure is None
    scored = {cell.target for cell in record.cells}
    classes = reduced.reduce_predictions(records.predictions(record), confident)
    predicted = pack_predictions({name: entry for name, entry in classes.items() if name in scored})
    inspected = reduced.reduce_arrays(records.arrays(record), scored)
    found = {f"{_PREDICTED}{name}": array for name, array in predicted.items()}
    found |= {f"{_INSPECTED}{name}": array for name, array in inspected.items()}
    if record.shifted:
        found[rows.SHIFTS] = np.array([cell.confusion for cell in record.shifted], np.uint32)
    return found


def files_of(runs: Iterable[tuple[RunRecord, Mapping[str, np.ndarray]]]) -> dict[str, bytes]:
    """Return the files of packed records by name, such as synth5/leave-none.jsonl.

    They lack the folders of files of weights, which would name the machine of the runs.

    Args:
        runs: Each record with its `contents`.
    """
    groups: dict[str, list[tuple[RunRecord, Mapping[str, np.ndarray]]]] = {}
    for record, arrays in runs:
        record = replace(record, spec=record.spec.without_folders())
        groups.setdefault(home(record), []).append((record, arrays))
    found = {}
    for name, members in sorted(groups.items()):
        buffer = io.BytesIO()
        dump_npz(buffer, columns.stack({record.spec.key: arrays for record, arrays in members}))
        found[name] = rows.encode((record, columns.digest(arrays)) for record, arrays in members)
        found[name.removesuffix(ROWS) + ARRAYS] = buffer.getvalue()
    return found


class PackedRecords(Records):
    """The records of a packed folder, of one file of rows, or of a zip archive of them."""

    def __init__(self, path: Path, contents: Mapping[str, bytes] | None = None) -> None:
        """Name the folder or file; of an archive that is already read, give the content of each file by name."""
        super().__init__(path)
        self._contents = contents

    @property
    def files(self) -> dict[str, PackedFile]:
        """The files of rows by their names in the folder or archive."""
        return self._opened[0]

    @cached_property
    def _opened(self) -> tuple[dict[str, PackedFile], list[str]]:
        return _open(self.path) if self._contents is None else _of_archive(self.path, self._contents)

    def read(self) -> tuple[list[RunRecord], list[str]]:
        """Return the records of all files. A run in two files is a fault."""
        found: dict[str, RunRecord] = {}
        faults = list(self._opened[1])
        for file in self.files.values():
            faults += file.read[1]
            for row in file.read[0]:
                key = row.record.spec.key
                if key in found:
                    faults.append(f"{file.place}:{row.line}: {self.place(found[key])} has the same run; delete one")
                else:
                    found[key] = row.record
        return list(found.values()), faults

    def name(self, record: RunRecord) -> str:
        """Return the file and the line of a record."""
        key = record.spec.key
        return next(f"{name}:{file.by_key[key].line}" for name, file in self.files.items() if key in file.by_key)

    def place(self, record: RunRecord) -> str:
        """Return the file and the line of a record, for messages."""
        return str((self.path.parent if self.path.suffix == ROWS else self.path) / self.name(record))

    def contents(self, record: RunRecord) -> Mapping[str, np.ndarray]:
        """Return the arrays of a record in the form of `contents`.

        Raises:
            BenchError: They are damaged, or are those of another result.
        """
        return self._file(record).contents(record.spec.key)

    def predictions(self, record: RunRecord) -> Mapping[str, Predictions]:
        """Return the predicted classes, with tables of reliability in place of confidences."""
        file = self._file(record)
        return unpack_predictions(_below(_PREDICTED, file.contents(record.spec.key)), Path(file.arrays_place))

    def arrays(self, record: RunRecord) -> Mapping[str, np.ndarray]:
        """Return the statistics of inspected values."""
        return reduced.restore_arrays(_below(_INSPECTED, self.contents(record)))

    def _file(self, record: RunRecord) -> PackedFile:
        return next(file for file in self.files.values() if record.spec.key in file.by_key)


def _below(beginning: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(beginning): array for name, array in arrays.items() if name.startswith(beginning)}


class PackedFile:
    """A file of rows with its file of arrays, which is parsed when it is first used.

    Attributes:
        place: The name of the file of rows, for messages.
        arrays_place: The name of the file of arrays, for messages.
    """

    def __init__(self, place: str, text: bytes, arrays: bytes | None) -> None:
        """Combine the contents of both files; the arrays are None where their file is missing."""
        self.place, self.arrays_place = place, place.removesuffix(ROWS) + ARRAYS
        self._text, self._arrays = text, arrays
        self._checked: set[str] = set()

    @cached_property
    def read(self) -> tuple[list[rows.Row], list[str]]:
        """The rows, and a sentence for each line that cannot be read."""
        return rows.decode(self._text, self.place, lambda key: self._by_run.get(key, {}))

    @cached_property
    def by_key(self) -> dict[str, rows.Row]:
        """The rows by the keys of their runs."""
        return {row.record.spec.key: row for row in self.read[0]}

    @cached_property
    def _by_run(self) -> dict[str, dict[str, np.ndarray]]:
        try:
            if self._arrays is None:
                raise ValueError("it is missing")
            return columns.unstack(parse_arrays(io.BytesIO(self._arrays)))
        except ValueError as error:
            raise BenchError(f"{self.arrays_place}: this file cannot be read ({error}); restore it") from None

    def contents(self, key: str) -> Mapping[str, np.ndarray]:
        """Return the arrays of a run, after comparing them with the digest in its row."""
        row = self.by_key[key]
        if not row.digest:
            return {}
        arrays = self._by_run.get(key, {})
        if key not in self._checked and columns.digest(arrays) != row.digest:
            raise BenchError(
                f"{self.place}:{row.line}: the arrays of {row.record.spec.title} in {self.arrays_place} do not fit "
                f"this line; restore both files"
            )
        self._checked.add(key)
        return arrays


def open_records(path: Path) -> Records:
    """Return the records in a results folder, a folder of records or packed records."""
    if path.is_file() or is_packed(path):
        return PackedRecords(path)
    return RecordFolder(path / "runs" if (path / "runs").is_dir() else path)


def is_packed(folder: Path) -> bool:
    """Return whether a folder has files of rows."""
    return any(folder.glob(f"*{ROWS}")) or any(folder.glob(f"*/*{ROWS}"))


def _open(path: Path) -> tuple[dict[str, PackedFile], list[str]]:
    """Return the files of packed records by name, and a sentence for each that cannot be read."""
    if path.is_file() and path.suffix != ROWS:
        return _open_archive(path)
    names = [path] if path.is_file() else sorted({*path.glob(f"*{ROWS}"), *path.glob(f"*/*{ROWS}")})
    found: dict[str, PackedFile] = {}
    faults = []
    for file in names:
        beside = file.with_suffix(ARRAYS)
        try:
            text = read_bytes(file, MOST_TEXT)
            arrays = read_bytes(beside, MOST_ARRAYS) if beside.is_file() else None
        except (OSError, ValueError) as error:
            faults.append(f"{file}: this file cannot be read ({error}); restore it")
            continue
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        found[name] = PackedFile(str(file), text, arrays)
    return found, faults


def _open_archive(path: Path) -> tuple[dict[str, PackedFile], list[str]]:
    """Return the files of packed records in a zip archive."""
    try:
        return _of_archive(path, read_archive(path, lambda name: _NAME.fullmatch(name) is not None))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: this archive cannot be read ({error}); name another file") from None


def _of_archive(path: Path, contents: Mapping[str, bytes]) -> tuple[dict[str, PackedFile], list[str]]:
    """Return the files of packed records among those of an archive."""
    found = {
        name: PackedFile(f"{path}/{name}", text, contents.get(name.removesuffix(ROWS) + ARRAYS))
        for name, text in sorted(contents.items())
        if name.endswith(ROWS) and _NAME.fullmatch(name)
    }
    return found, [] if found else [f"{path}: this archive has no packed records; name another file"]
