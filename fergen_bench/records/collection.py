"""Collections of records: a folder with a file per run, or packed records, and one way to read both."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.records import listing
from fergen_bench.records.record import Predictions, RunRecord
from fergen_bench.records.sidecar import PREDICTIONS
from fergen_bench.records.store import RecordFile

if TYPE_CHECKING:
    import numpy as np


class Records(ABC):
    """The records of some runs, with their predictions and arrays.

    Attributes:
        path: The folder or file that they are in.
    """

    def __init__(self, path: Path) -> None:
        """Name the folder or file; `read` reads it."""
        self.path = path

    @abstractmethod
    def read(self) -> tuple[list[RunRecord], list[str]]:
        """Return the readable records, and a sentence for each problem."""

    @abstractmethod
    def name(self, record: RunRecord) -> str:
        """Return the file of a record, relative to `path`, and where it has several records the line."""

    def place(self, record: RunRecord) -> str:
        """Return the file of a record, and where it has several records the line, for messages."""
        return str(self.path / self.name(record))

    @abstractmethod
    def predictions(self, record: RunRecord) -> Mapping[str, Predictions]:
        """Return the stored predictions of a record by target; without any, an empty mapping.

        Raises:
            BenchError: They are damaged.
        """

    @abstractmethod
    def arrays(self, record: RunRecord) -> Mapping[str, np.ndarray]:
        """Return the stored arrays of a record's method by name; without any, an empty mapping.

        Raises:
            BenchError: They are damaged.
        """


class RecordFolder(Records):
    """A folder with a JSON file per record and companion files of the same name, such as results/runs."""

    def read(self) -> tuple[list[RunRecord], list[str]]:
        """Return the records at their own paths; see `listing.read_all`."""
        return listing.read_all(self.path)

    def file(self, record: RunRecord) -> RecordFile:
        """Return the files of a record."""
        return RecordFile(record.spec.path(self.path), record)

    def name(self, record: RunRecord) -> str:
        """Return the path of the record's JSON file in the folder."""
        return record.spec.path(Path()).as_posix()

    def predictions(self, record: RunRecord) -> Mapping[str, Predictions]:
        """Return predictions with their logits, also those on held-out images under `HELD_OUT`."""
        file = self.file(record)
        return file.predictions() if file.has(PREDICTIONS) else {}

    def arrays(self, record: RunRecord) -> Mapping[str, np.ndarray]:
        """Return all arrays that the method saved."""
        return self.file(record).arrays()
