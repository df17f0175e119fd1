"""Add records to a packed folder, and write packed records as a folder with a file per run."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.error import BenchError
from fergen_bench.files.atomic import atomically
from fergen_bench.records import frame as frames
from fergen_bench.records import rows, store
from fergen_bench.records.collection import Records
from fergen_bench.records.columns import digest
from fergen_bench.records.packed import ROWS, PackedRecords, contents, files_of, is_packed
from fergen_bench.records.record import RunRecord, with_source_val
from fergen_bench.records.verify import faults_of, unlike
from fergen_bench.wording import near

if TYPE_CHECKING:
    import numpy as np

Entry = tuple[RunRecord, Mapping[str, "np.ndarray"]]
"""A record with the arrays that packed records have of it."""


@dataclass
class Packing:
    """The outcome of packing. All but the numbers are sentences."""

    added: int = 0
    equal: int = 0
    replaced: dict[str, str] = field(default_factory=dict)  # by key
    kept: list[str] = field(default_factory=list)  # rows that stay, because the new record lacks some of their scores
    refused: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    runs: int = 0  # in the folder afterwards
    size: int = 0  # of its files in bytes


def pack(records: Records, to: Path) -> Packing:
    """Add records to a packed folder. Rows of other runs stay as they are.

    A record that `verify` finds fault with is refused, and so are the records of a row whose runs are not comparable.
    A record with another result than the row of the same run replaces it, except where it lacks scores.

    Args:
        records: The records.
        to: The folder; it may be missing.

    Raises:
        BenchError: There are no records; or the folder is a results folder or a part of a packed one, or has rows that
            cannot be read and would be lost.
    """
    found, faults = records.read()
    if not (found or faults):
        raise BenchError(f"{near(records.path)}: there are no records. Make some with: fergen-bench run")
    _refuse_inside(to, {record.spec.suite for record in found})
    to.mkdir(parents=True, exist_ok=True)
    with _alone(to):
        before, done = _existing(to), Packing(refused=[fault.partition("; ")[0] for fault in faults])
        there = dict(before)
        for record, arrays in _sound(records, found, done):
            _merge(there, record, arrays, done)
        _refuse_unlike(there, before, done)
        files = files_of(there.values())
        _write(to, files)
    done.added = len(set(there) - set(before))
    done.runs, done.size = len(there), sum(map(len, files.values()))
    return done


def _refuse_inside(to: Path, suites: Collection[str]) -> None:
    """Raise an error for a folder in which packed records would hide others, or a suite would be in its own folder."""
    if (to / "runs").is_dir():
        raise BenchError(f"{near(to)}: this is a results folder; name another folder with --to, such as packed")
    here, above = to.resolve(), to.resolve().parent
    if (here.name in suites and is_packed(above)) or any(to.glob(f"*{ROWS}")):
        raise BenchError(
            f"{near(to)}: this is the folder of one suite in the packed folder {near(above)}; give --to {near(above)}"
        )


def _existing(folder: Path) -> dict[str, Entry]:
    """Return the entries of a packed folder by key."""
    packed = PackedRecords(folder)
    found, faults = packed.read()
    if faults:
        raise BenchError(f"{faults[0].partition('; ')[0]}; restore the file before records are added to its folder")
    return {record.spec.key: (record, packed.contents(record)) for record in found}


def _sound(records: Records, found: Iterable[RunRecord], done: Packing) -> Iterator[Entry]:
    """Yield the records without a fault, each with its `contents`."""
    without = 0
    for record in found:
        wrong, counted = faults_of(records, record)
        arrays = {} if wrong else contents(records, record)
        if record.source_val is None and not wrong:  # packed records lack the held-out predictions
            record = with_source_val(record, records.predictions(record))
        done.refused += wrong
        without += not (wrong or counted)
        if not wrong:
            yield record, arrays
    if without:
        done.notes.append(f"{without:,} of the records have no predictions, so their rows have no intervals")


def _merge(there: dict[str, Entry], record: RunRecord, arrays: Mapping[str, np.ndarray], done: Packing) -> None:
    """Add a record to entries, or replace that of the same run."""
    spec = record.spec
    known = there.get(spec.key)
    if known is not None and _result(*known) == _result(record, arrays):
        done.equal += 1
    elif known is not None and (lost := _lost(known, (record, arrays))):
        done.kept.append(f"{spec.title}: the row stays, because the record lacks its {lost}")
    else:
        if known is not None:
            done.replaced[spec.key] = f"{spec.title}: {_difference(known[0], record)}"
        there[spec.key] = record, arrays


def _result(record: RunRecord, arrays: Mapping[str, np.ndarray]) -> tuple[object, ...]:
    """Return the parts of an entry that are its result; time, machine and text of the method are circumstances."""
    flat = rows.flattened(record)
    return *(flat.get(name) for name in ("cells", "otherwise", "shifts", "history")), digest(arrays)


def _lost(old: Entry, new: Entry) -> str:
    """Return the parts of an entry that another one of the same run lacks, in words."""
    scored = [{cell.target for cell in record.cells} for record, _ in (old, new)]
    shifts = [{cell.shift for cell in record.shifted} for record, _ in (old, new)]
    parts = [f"score on {target}" for target in sorted(scored[0] - scored[1])]
    parts += ["scores on changed images"] if shifts[0] - shifts[1] else []
    parts += ["predictions or statistics"] if set(old[1]) - set(new[1]) and not parts else []
    return ", ".join(parts)


def _difference(old: RunRecord, new: RunRecord) -> str:
    """Return how the result of a new record differs from that of an old one, as a clause."""
    changed = [
        cell.target
        for cell in new.cells
        if (other := old.cell(cell.target)) is not None and other.confusion != cell.confusion
    ]
    if changed:
        return f"other scores on {', '.join(changed)} replace those of {old.started[:10]}"
    return "a record with equal scores, and with more of them or other details, replaces the row"


def _refuse_unlike(there: dict[str, Entry], before: Mapping[str, Entry], done: Packing) -> None:
    """Take the new entries of rows whose runs are not comparable out again."""
    wrong = dict(unlike(frames.current(record for record, _ in there.values())))
    for key, entry in list(there.items()):
        if frames.row_of(entry[0].spec) in wrong and entry is not before.get(key):
            done.replaced.pop(key, None)
            if key in before:
                there[key] = before[key]
            else:
                del there[key]
    done.refused += wrong.values()


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files whose content differs, and delete those of which no row is left."""
    for name in files:
        if not name.endswith(ROWS):
            continue
        pair = {folder / one: files[one] for one in (name, str(Path(name).with_suffix(".npz")))}
        if all(path.is_file() and path.read_bytes() == content for path, content in pair.items()):
            continue
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as drafts:  # the rows are renamed last: they have the digests of the arrays
            for path, content in pair.items():
                drafts.enter_context(atomically(path)).write_bytes(content)
    for path in folder.glob(f"*/*{ROWS}"):
        if path.relative_to(folder).as_posix() not in files:
            path.unlink()
            path.with_suffix(".npz").unlink(missing_ok=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process packs into a folder."""
    from filelock import FileLock

    path = folder / ".packing.lock"
    with FileLock(path):
        try:
            yield
        finally:
            # Deleted before the release, as in `claim`: a process that waits with the deleted file opens a new one.
            with suppress(OSError):
                path.unlink()


def unpack(records: Records, runs: Path, keys: frozenset[str] | None = None) -> tuple[list[Path], int]:
    """Write records as files in a folder of records; existing files stay as they are.

    Args:
        records: The records, such as packed ones.
        runs: The folder of records, such as results/runs.
        keys: Only the runs with these keys. Default: all.

    Returns:
        The paths of the written records, and the number of runs that had a record in the folder.

    Raises:
        BenchError: There are no records, or one cannot be read.
    """
    found, faults = records.read()
    if faults:
        raise BenchError(faults[0])
    if not found:
        raise BenchError(f"{near(records.path)}: there are no records; name a packed folder, or reference")
    written, existing = [], 0
    for record in found:
        if keys is not None and record.spec.key not in keys:
            continue
        if record.spec.path(runs).exists():
            existing += 1
            continue
        written.append(copied(records, record, runs))
    return written, existing


def copied(records: Records, record: RunRecord, runs: Path) -> Path:
    """Write one record with its predictions and arrays to a folder of records, and return its path."""
    predictions = records.predictions(record)
    return store.save(record, runs, predictions or None, records.arrays(record), anew=True)
