"""Records on disk: one JSON file per run, written atomically, with sidecar files of the same name."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import fields, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.experiment.run import EXTERNAL, Job, Run
from fergen_bench.files.atomic import atomically
from fergen_bench.files.bounded import MOST_TEXT, checksum, checksum_of, is_file_name, parse_json, read_bytes
from fergen_bench.records.record import FORMAT, Cell, Predictions, RunRecord, ShiftedCell
from fergen_bench.records.sidecar import (
    ARRAYS,
    CHECKPOINT,
    PREDICTIONS,
    RERUN,
    SIDECARS,
    load_npz,
    pack_predictions,
    record_files,
    sidecar,
    unpack_predictions,
    write_npz,
)

if TYPE_CHECKING:
    import numpy as np
    from pydantic import TypeAdapter


class RecordFile:
    """A record that was parsed and validated once, and lazy access to its sidecar files.

    A sidecar is read, and compared with its checksum in the record, when it is first used.

    Attributes:
        path: The record's JSON file.
        record: Its content.
    """

    def __init__(self, path: Path, record: RunRecord) -> None:
        """Combine a path with the record that was read from it; `open` reads the file."""
        self.path, self.record = path, record
        self._checked: set[str] = set()

    @classmethod
    def open(cls, path: Path) -> RecordFile:
        """Parse and validate the JSON file of a record; leave its sidecars alone.

        Raises:
            BenchError: The file is missing or damaged, or has content that no run can have.
        """
        return cls(path, _read(path))

    @classmethod
    def open_whole(cls, path: Path) -> RecordFile:
        """Open a record and compare its arrays with their checksums.

        A checkpoint may be large; it is compared when it is used. Another process may be between replacing one file
        and the next, so damage is confirmed by a second attempt.

        Raises:
            BenchError: The JSON file or one of the array files is damaged.
        """
        try:
            return cls.open(path)._check_arrays()
        except BenchError:
            time.sleep(0.2)
            return cls.open(path)._check_arrays()

    def _check_arrays(self) -> RecordFile:
        self.check(PREDICTIONS)
        self.check(ARRAYS)
        return self

    def has(self, ending: str) -> bool:
        """Return whether a sidecar with this ending exists."""
        return sidecar(self.path, ending).is_file()

    def check(self, ending: str) -> None:
        """Compare a sidecar with its checksum in the record, the first time only.

        A missing sidecar passes, and so does a sidecar of an early record, which lacks checksums.

        Raises:
            BenchError: The checksums differ, or the sidecar cannot be read.
        """
        file = sidecar(self.path, ending)
        expected = self.record.files.get(ending)
        if expected is None or ending in self._checked or not file.exists():
            return
        try:
            if checksum(file) != expected:
                raise ValueError("its checksum differs from the one in its record")
        except (OSError, ValueError) as error:
            raise BenchError(f"{file}: this file is damaged ({error}); {RERUN}") from None
        self._checked.add(ending)

    def predictions(self) -> dict[str, Predictions]:
        """Return the stored predictions by target, and those of held-out source images under `HELD_OUT`.

        Early versions stored predictions without labels; their `labels` are empty.

        Raises:
            BenchError: The sidecar is missing or damaged.
        """
        self.check(PREDICTIONS)
        file = sidecar(self.path, PREDICTIONS)
        return unpack_predictions(load_npz(file), file)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays that the method saved, by name; an empty dict if it saved none.

        Raises:
            BenchError: The sidecar is damaged.
        """
        if not self.has(ARRAYS):
            return {}
        self.check(ARRAYS)
        return load_npz(sidecar(self.path, ARRAYS))


def load(path: Path) -> RunRecord:
    """Return the record in a file; see `RecordFile.open`."""
    return _read(path)


def find(spec: Run, runs: Path) -> RunRecord | None:
    """Return the record of a run, with whatever targets it has scores of.

    Returns:
        The record; None if it does not exist or cannot be read, since both mean that the run has to be repeated.
    """
    try:
        return load(spec.path(runs)) if spec.path(runs).is_file() else None
    except BenchError:
        return None


def save(
    record: RunRecord,
    runs: Path,
    predictions: Mapping[str, Predictions] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    model: bool = False,
    anew: bool = False,
) -> Path:
    """Write a record and its sidecars atomically.

    The JSON file is replaced last: that commits the write. It contains its own checksum and those of its sidecars.

    Args:
        record: The record.
        runs: The folder of the records.
        predictions: Predictions by target, and under `HELD_OUT`. None leaves the sidecar as it is.
        arrays: Arrays of the method by name.
        model: The checkpoint was written just before and needs a new checksum.
        anew: The run was executed just now. Sidecars that are not written now belong to an earlier run and are deleted.
            Otherwise they remain, with the checksums that the record has for them.

    Returns:
        The path of the JSON file.
    """
    path = record.spec.path(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {} if anew else {name: known for name, known in record.files.items() if sidecar(path, name).is_file()}
    if model:
        files[CHECKPOINT] = checksum(sidecar(path, CHECKPOINT))
    stored = {PREDICTIONS: None if predictions is None else pack_predictions(predictions), ARRAYS: arrays or None}
    with ExitStack() as drafts:  # closed in reverse order: the draft of the JSON file opens first and is renamed last
        text = drafts.enter_context(atomically(path))
        for ending, content in stored.items():
            if content is not None:
                file = sidecar(path, ending)
                draft = drafts.enter_context(atomically(file))
                write_npz(draft, file, content)
                files[ending] = checksum(draft)
        for ending in SIDECARS:
            if anew and ending not in files:
                sidecar(path, ending).unlink(missing_ok=True)
            elif ending not in files and sidecar(path, ending).is_file():  # an early record, without checksums
                files[ending] = checksum(sidecar(path, ending))
        written = json.loads(json.dumps({**record.to_json(), "files": files}))
        signed = {**written, "checksum": checksum_of(written)}
        text.write_text(json.dumps(signed, indent=1) + "\n", encoding="utf-8")
    return path


def files_of(spec: Run, runs: Path) -> list[Path]:
    """Return the files of a run that exist: its record and the sidecars."""
    return [file for file in record_files(spec.path(runs)) if file.is_file()]


def receive(job: Job, files: Mapping[str, bytes]) -> Path:
    """Write the files of a record that another machine created.

    Args:
        job: The run.
        files: The content of each file by its name.

    Returns:
        The path of the record's JSON file.

    Raises:
        BenchError: A name does not belong to the record.
    """
    path = job.spec.path(Path(job.runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == path.name):  # the JSON file comes last and commits the write
        if Path(name).name != name or not name.startswith(f"{path.stem}."):
            raise BenchError(f"{path}: the other machine returned {name!r}, which is not a file of this record")
        if name == path.name:
            for file in record_files(path):
                if file.name not in files:  # of an earlier run
                    file.unlink(missing_ok=True)
        with atomically(path.parent / name) as draft:
            draft.write_bytes(files[name])
    return path


def set_aside(path: Path, runs: Path) -> Path:
    """Move the files of a record into results/damaged and return the new path of its JSON file."""
    folder = runs.parent / "damaged" / path.parent.relative_to(runs)
    folder.mkdir(parents=True, exist_ok=True)
    moved, number = folder / path.name, 1
    while moved.exists():
        number += 1
        moved = folder / f"{path.name.removesuffix('.json')}-{number}.json"
    for ending in (*SIDECARS, ".json"):
        if (file := sidecar(path, ending)).exists():
            os.replace(file, sidecar(moved, ending))
    return moved


def _read(path: Path) -> RunRecord:
    """Parse and validate the JSON file of a record. Early versions wrote records without a checksum."""
    try:
        text = read_bytes(path, MOST_TEXT)
        content = parse_json(text)
        if not isinstance(content, dict) or "format" not in content:
            raise ValueError("it is not a record")
        if content["format"] != FORMAT:
            raise BenchError(
                f"{path}: this record has format {str(content['format'])[:20]}; this version reads {FORMAT}; {RERUN}"
            )
        if unknown := set(content) - _KEYS:
            raise ValueError(f"it has the unknown key {min(unknown)!r}")
        signed = content.pop("checksum", None)
        if signed is not None and signed != checksum_of(content):
            raise ValueError("its checksum is not that of its content: it was damaged or changed by hand")
        return parsed(content, text)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BenchError(
            f"{path}: this file cannot be read as a record ({reason}); repeat the command that created it to run it "
            f"again"
        ) from None


def parsed(content: Mapping[str, Any], text: str | bytes) -> RunRecord:
    """Return the record that JSON describes.

    Args:
        content: The JSON, parsed.
        text: The JSON.

    Raises:
        ValueError: A value has the wrong type, or is one that no run can have. So do the other errors that `_read`
            catches.
    """
    record = _reader().validate_json(text, strict=True)
    # Integers in a history stay integers, and tuples among the parameters become tuples again.
    record = replace(record, spec=record.spec.with_tuples(), history=tuple(content["history"]))
    if fault := _fault(record, content.get("key")):
        raise ValueError(fault)
    return record


_KEYS = {"format", "key", "synthetic", "checksum", *(f.name for f in fields(RunRecord))}


@cache
def _reader() -> TypeAdapter[RunRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(RunRecord)


def _fault(record: RunRecord, key: Any) -> str | None:
    """Return the first value of a record that has the right type but that no run can have, as a clause, or None."""
    spec = record.spec
    finished = spec.exposure is not None
    for name in (spec.suite, spec.method.removeprefix(EXTERNAL), *spec.sources, *spec.targets):
        if not is_file_name(name):
            return f"{name[:60]!r} is not a valid name"
    if finished != spec.method.startswith(EXTERNAL) or finished == bool(spec.sources):
        return "it has sources and is of a finished model, or is of a method and has no source"
    if not all(0 <= number < 1 << 63 for number in (spec.seed, spec.version)):
        return "it has an invalid seed or version"
    if not 1 <= spec.numerics < 1 << 63:
        return f"it has the numerics {spec.numerics}, which is below 1 or too large"
    if not 0 < spec.fraction <= 1:
        return f"{spec.fraction} is not a fraction of the training images"
    if any(type(network.get(word)) is not str for network in record.networks.values() for word in ("name", "digest")):
        return "a network lacks a name or a digest"
    if not all(
        isinstance(notes := network.get("notes", []), list) and all(isinstance(note, str) for note in notes)
        for network in record.networks.values()
    ):
        return "the notes on a network are not a list of strings"
    if unknown := set(record.data) - {*spec.fingerprints, *spec.targets}:
        return f"it has facts about {min(unknown)[:60]!r}, which is not one of its domains"
    if len({cell.target for cell in record.cells}) < len(record.cells):
        return "a target has two scores"
    scored: tuple[Cell | ShiftedCell, ...] = (*record.cells, *record.shifted)
    if fault := next(filter(None, (_cell_fault(cell, spec) for cell in scored)), None):
        return fault
    if record.source_val is not None and (fault := _confusion_fault(record.source_val, "the held-out images")):
        return fault
    if key != spec.key:
        return f"its key is {str(key)[:20]!r}, and its content has the key {spec.key}"
    return None


def _cell_fault(cell: Cell | ShiftedCell, spec: Run) -> str | None:
    if cell.target not in spec.targets:
        return f"it has a score of {cell.target[:60]!r}, which is not one of its targets"
    return _confusion_fault(cell.confusion, cell.target)


def _confusion_fault(confusion: list[list[int]], name: str) -> str | None:
    classes = len(EXPRESSIONS)
    if [*map(len, confusion)] != [classes] * classes:
        return f"the confusion matrix of {name} is not {classes} x {classes}"
    counts = [*chain.from_iterable(confusion)]
    if min(counts) < 0 or max(counts) >= 1 << 40:
        return f"the confusion matrix of {name} contains values that are not counts"
    return None
