"""Records on disk: one JSON file per run, written atomically; predictions and checkpoint in files of the same name."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

from fergen_bench.error import BenchError, RunError
from fergen_bench.experiment.run import Job, Run
from fergen_bench.files.atomic import atomically, sweep
from fergen_bench.files.bounded import (
    MOST_ARRAYS,
    MOST_TEXT,
    checksum,
    checksum_of,
    is_file_name,
    parse_json,
    read_arrays,
    read_bytes,
)
from fergen_bench.records.record import FORMAT, Cell, Predictions, RunRecord, ShiftedCell

if TYPE_CHECKING:
    import numpy as np
    from pydantic import TypeAdapter


BESIDE = (".npz", ".arrays.npz", ".safetensors")
"""What may stand beside a record's file, under its name: predictions, a method's arrays, the fitted method."""


@contextmanager
def claim(spec: Run, runs: Path, patience: float = 1.0) -> Iterator[bool]:
    """Whether this process may write a run's files; False where another is at it now. The lock is the operating
    system's: it goes with the process that holds it, however that ends.

    patience: seconds to wait for another process. Some are needed: whoever looks for a claim has the lock for a moment.
    """
    with _lock(spec, runs, patience) as mine:
        path = spec.path(runs)
        for file in (*_files(path), spec.unfinished_path(runs)) if mine else ():
            sweep(file)  # nobody else writes them now
        yield mine


def is_claimed(spec: Run, runs: Path) -> bool:
    """Return whether another process is writing a run's files now. Such locks cannot be looked at without taking them,
    so it is taken for a moment; no file of the run is touched.
    """
    if not _claim_path(spec, runs).exists():
        return False
    with _lock(spec, runs, 0) as mine:
        return not mine


@contextmanager
def _lock(spec: Run, runs: Path, patience: float) -> Iterator[bool]:
    """Whether this process has the lock of a run. patience: seconds to wait for it."""
    from filelock import FileLock, Timeout

    place = _claim_path(spec, runs)
    place.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place, timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        # Whoever opened the file before it goes does not get the lock of a file that has no name any more.
        with suppress(OSError):
            place.unlink()
        lock.release()


def _claim_path(spec: Run, runs: Path) -> Path:
    return spec.unfinished_path(runs).with_suffix(".lock")


def finished_since_planned(job: Job) -> Path | None:
    """Return the run's record where another process has made or completed it after the run was planned, else None."""
    runs = Path(job.runs)
    found = find(job.spec, runs)
    if found is None:
        return None
    whole = found.answers(job.spec) and not set(job.shifts) - set(found.shifts_of(job.spec))
    whole = whole and (not job.keep_model or job.spec.model_path(runs).is_file())
    if found.started == job.replaces and (job.rerun or not whole):
        return None
    if not whole:
        raise RunError(
            f"{job.spec.path(runs)}: another process made this run meanwhile, and was asked for something else of it; "
            f"run again"
        )
    return job.spec.path(runs)


def save(
    record: RunRecord,
    runs: Path,
    predictions: Mapping[str, Predictions] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    model: bool = False,
    anew: bool = False,
) -> Path:
    """Writes a record; predictions (by target, and HELD_OUT) and a method's arrays (by name) go beside it, where there
    are any. The JSON file comes last: it is the commit. It says the checksum of itself and of what is beside it.

    model: whether the fitted method was written there just before. anew: whether the run was made just now; then what
    is beside the record and is not written now was another run's, and goes. Else it keeps the checksum that it had.
    """
    path = record.spec.path(runs)
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {} if anew else {name: said for name, said in files_said(path).items() if beside(path, name).is_file()}
    if model:
        files[".safetensors"] = checksum(beside(path, ".safetensors"))
    stored = {".npz": None if predictions is None else _as_arrays(predictions), ".arrays.npz": arrays or None}
    with ExitStack() as drafts:  # left in reverse: the JSON file, which comes first here, takes its place last
        text = drafts.enter_context(atomically(path))
        for ending, content in stored.items():
            if content is not None:
                draft = drafts.enter_context(atomically(beside(path, ending)))
                _write_arrays(draft, beside(path, ending), content)
                files[ending] = checksum(draft)
        for ending in BESIDE:
            if anew and ending not in files:
                beside(path, ending).unlink(missing_ok=True)
            elif ending not in files and beside(path, ending).is_file():  # from before records said checksums
                files[ending] = checksum(beside(path, ending))
        said = json.loads(json.dumps({**record.to_json(), "files": files}))
        text.write_text(json.dumps({**said, "checksum": checksum_of(said)}, indent=1) + "\n", encoding="utf-8")
    return path


def _as_arrays(predictions: Mapping[str, Predictions]) -> dict[str, np.ndarray]:
    import numpy as np

    stored: dict[str, np.ndarray] = {}
    for target, said in predictions.items():
        # Only differences between logits mean anything; from their maximum they fit into half precision best.
        values = said.logits.astype(np.float32)
        stored[target] = (values - values.max(1, keepdims=True)).clip(-60000.0).astype(np.float16)
        stored[f"{target}.labels"] = said.labels.astype(np.uint8)
        if said.left_out.any():
            stored[f"{target}.left_out"] = said.left_out
    return stored


def beside(path: Path, ending: str) -> Path:
    """A file beside a record's file."""
    return path.with_name(path.name.removesuffix(".json") + ending)


def _write_arrays(draft: Path, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    import numpy as np

    if (size := sum(array.nbytes for array in arrays.values())) > MOST_ARRAYS:
        raise BenchError(f"{path}: arrays of {size:,} bytes, of which {MOST_ARRAYS:,} can be kept; keep fewer of them")
    with draft.open("wb") as file:
        entries: dict[str, Any] = dict(arrays)
        np.savez_compressed(file, **entries)
        os.fsync(file.fileno())


def load_predictions(path: Path) -> dict[str, Predictions]:
    """The predictions beside a record's file, by target, and HELD_OUT where there are any. Records of early versions
    kept no labels: theirs are empty.
    """
    import numpy as np

    from fergen_bench.data.labels import EXPRESSIONS

    stored, classes = _load_arrays(path, ".npz"), len(EXPRESSIONS)
    found = {}
    for name, logits in stored.items():
        if "." not in name:
            left_out = stored.get(f"{name}.left_out", np.zeros(len(logits), bool))
            labels = stored.get(f"{name}.labels", np.zeros(0, np.uint8))
            fits = logits.ndim == 2 and logits.shape[1] == classes and logits.dtype.kind == "f"
            fits = fits and labels.shape in {(0,), (len(logits),)} and labels.dtype.kind in "iu"
            fits = fits and left_out.shape == (len(logits),) and left_out.dtype == bool
            if not fits or not np.isfinite(logits).all() or (labels.size and labels.max() >= classes):
                raise BenchError(f"{beside(path, '.npz')}: these are no predictions of {name}; {AGAIN}")
            found[name] = Predictions(logits, labels, left_out)
    return found


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """What a method kept beside a record's file, by name; nothing where it kept nothing."""
    return _load_arrays(path, ".arrays.npz") if beside(path, ".arrays.npz").is_file() else {}


def _load_arrays(path: Path, ending: str) -> dict[str, np.ndarray]:
    check_beside(path, ending)
    try:
        return read_arrays(beside(path, ending))
    except (OSError, ValueError) as error:
        raise BenchError(f"{beside(path, ending)}: these arrays cannot be read ({error}); {AGAIN}") from None


AGAIN = "run it again with --rerun"


def check_beside(path: Path, ending: str) -> None:
    """Refuses a file beside a record's that is not the one that was written with it. One that is not there is none."""
    try:
        said = files_said(path).get(ending)
        if said is not None and beside(path, ending).exists() and checksum(beside(path, ending)) != said:
            raise ValueError("its checksum is not the one that its record says")
    except (OSError, ValueError) as error:
        raise BenchError(f"{beside(path, ending)}: this file is damaged ({error}); {AGAIN}") from None


def files_said(path: Path) -> dict[str, str]:
    """The checksums that a record's file says of those beside it; none where it is early, or no record."""
    try:
        content = parse_json(read_bytes(path, MOST_TEXT))
        return {ending: str(said) for ending, said in content.get("files", {}).items()}
    except (OSError, ValueError, AttributeError):
        return {}


def files_of(spec: Run, runs: Path) -> list[Path]:
    """The files that there are of a run: its record, and what is beside it."""
    return [file for file in _files(spec.path(runs)) if file.is_file()]


def _files(path: Path) -> tuple[Path, ...]:
    """All that there may be of a record: its file, and those beside it."""
    return path, *(beside(path, ending) for ending in BESIDE)


def receive(job: Job, files: Mapping[str, bytes]) -> Path:
    """Puts the files of a record that was made on another machine, by name, where a record made here would be."""
    path = job.spec.path(Path(job.runs))
    path.parent.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name == path.name):  # the JSON file comes last: it is the commit
        if Path(name).name != name or not name.startswith(f"{path.stem}."):
            raise BenchError(f"{name!r} is no file of the record {path}, so it is not kept")
        if name == path.name:
            for file in _files(path):
                if file.name not in files:  # another run's
                    file.unlink(missing_ok=True)
        with atomically(path.parent / name) as draft:
            draft.write_bytes(files[name])
    return path


def load(path: Path) -> RunRecord:
    """A record from its file. One that is damaged, or says what no run could say, is refused. Early ones have no
    checksum.
    """
    try:
        text = read_bytes(path, MOST_TEXT)
        content = parse_json(text)
        if not isinstance(content, dict) or "format" not in content:
            raise ValueError("it is no record")
        if content["format"] != FORMAT:
            raise BenchError(
                f"{path}: this record has the form {str(content['format'])[:20]}, this version reads {FORMAT}; run it "
                f"again"
            )
        if unknown := set(content) - _KEYS:
            raise ValueError(f"it says {min(unknown)!r}, which no record does")
        said = content.pop("checksum", None)
        if said is not None and said != checksum_of(content):
            raise ValueError("its checksum is not that of its content: it was damaged or changed by hand")
        record = _reader().validate_json(text, strict=True)
        # Whole numbers in a history stay whole; tuples among the parameters are tuples again.
        record = replace(record, spec=Run.from_json(asdict(record.spec)), history=tuple(content["history"]))
        if fault := _fault(record, content.get("key")):
            raise ValueError(fault)
        return record
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BenchError(
            f"{path}: this record cannot be read, if it is one ({reason}); the command that made it makes it again"
        ) from None


_KEYS = {"format", "key", "synthetic", "files", "checksum", *(f.name for f in fields(RunRecord))}


@cache
def _reader() -> TypeAdapter[RunRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(RunRecord)


def _fault(record: RunRecord, key: Any) -> str | None:
    """What no run could say although its types are right."""
    from fergen_bench.data.labels import EXPRESSIONS

    spec, classes = record.spec, len(EXPRESSIONS)
    for name in (spec.suite, spec.method, *spec.sources, *spec.targets):
        if not is_file_name(name):
            return f"{name[:60]!r} cannot be a name"
    if not spec.sources or not all(0 <= number < 1 << 63 for number in (spec.seed, spec.version)):
        return "it has no source, or a seed or a version that cannot be"
    if not 0 < spec.fraction <= 1:
        return f"{spec.fraction} is no share of the training faces"
    if any(type(network.get(word)) is not str for network in record.networks.values() for word in ("name", "digest")):
        return "a network has no name or no digest"
    if not all(
        isinstance(notes := network.get("notes", []), list) and all(isinstance(note, str) for note in notes)
        for network in record.networks.values()
    ):
        return "the notes on a network are not a list of texts"
    if unknown := set(record.data) - {*spec.fingerprints, *spec.targets}:
        return f"it has facts about {min(unknown)[:60]!r}, which is none of its domains"
    if len({cell.target for cell in record.cells}) < len(record.cells):
        return "a target is scored twice"
    scored: tuple[Cell | ShiftedCell, ...] = (*record.cells, *record.shifted)
    for cell in scored:
        if cell.target not in spec.targets:
            return f"{cell.target[:60]!r} is scored, and is no target"
        if len(cell.confusion) != classes or any(len(row) != classes for row in cell.confusion):
            return f"the confusion of {cell.target} is not {classes} x {classes}"
        if not all(0 <= count < 1 << 40 for row in cell.confusion for count in row):
            return f"the confusion of {cell.target} holds no counts"
    if key != spec.key:
        return f"its key is {str(key)[:20]!r}, and its content has the key {spec.key}"
    return None


def find(spec: Run, runs: Path) -> RunRecord | None:
    """The record of a spec's run, whatever targets it scored. One that cannot be read is as good as none: it will be
    written again.
    """
    try:
        return load(spec.path(runs)) if spec.path(runs).is_file() else None
    except BenchError:
        return None


def damage(path: Path) -> str | None:
    """What is wrong with a record's file or with the arrays beside it, or None. A fitted method is not looked at: it
    may be large, and is when it is used.
    """
    for again in (True, False):
        try:
            load(path)
            for ending in (".npz", ".arrays.npz"):
                check_beside(path, ending)
            return None
        except BenchError as error:
            if not again:
                return str(error)
            time.sleep(0.2)  # another process may be between exchanging one file and the next
    raise AssertionError


def set_aside(path: Path, runs: Path) -> Path:
    """Moves a record's files out of the way, into results/damaged: nothing is deleted. Returns where its own went."""
    folder = runs.parent / "damaged" / path.parent.relative_to(runs)
    folder.mkdir(parents=True, exist_ok=True)
    place, number = folder / path.name, 1
    while place.exists():
        number += 1
        place = folder / f"{path.name.removesuffix('.json')}-{number}.json"
    for ending in (*BESIDE, ".json"):
        if (file := beside(path, ending)).exists():
            os.replace(file, beside(place, ending))
    return place


def read_all(runs: Path) -> tuple[list[RunRecord], list[str]]:
    """Return every record below a folder that can be read, and a sentence for each that cannot and for the files that
    are not in a record's own place.

    A record counts only in the place and under the name that its run would be written to. Copies that a sync service or
    a person made beside it, or in a copied folder, would else count as further runs, or hide newer ones.
    """
    records, faults = [], []
    named, strays = candidates(runs)
    for path in named:
        try:
            record = load(path)
        except BenchError as error:
            faults.append(str(error))
            continue
        if is_in_place(record, path, runs):
            records.append(record)
        else:
            strays.append(path)
    return records, [*faults, *name_strays(strays, runs)]


def candidates(runs: Path) -> tuple[list[Path], list[Path]]:
    """Return the files below a folder that are named as records are, and the other JSON files where records are."""
    named: list[Path] = []
    strays: list[Path] = []
    for path in sorted(runs.glob("*/*/*.json")):
        (named if _NAME.fullmatch(path.name) else strays).append(path)
    return named, strays


_NAME = re.compile(r"[^.].*-s\d+-[0-9a-f]{12}\.json")


def is_in_place(record: RunRecord, path: Path, runs: Path) -> bool:
    """Return whether a record's file is where its run would be written. Some file systems decompose accents."""
    return normalize("NFC", str(path)) == normalize("NFC", str(record.spec.path(runs)))


def name_strays(strays: Sequence[Path], runs: Path) -> list[str]:
    """Return a sentence about the files that are not records in their own places; nothing where there are none."""
    if not strays:
        return []
    inside = [path.relative_to(runs).as_posix() for path in sorted(strays)]
    shown = ["".join(letter if letter.isprintable() else "?" for letter in name) for name in inside[:3]]
    some = f"{', '.join(shown)}{f' and {len(strays) - 3:,} more' if len(strays) > 3 else ''}"
    if len(strays) == 1:
        return [
            f"{runs}: {some} is not a record in its own place and counts for nothing; delete it or move it elsewhere"
        ]
    return [
        f"{runs}: {len(strays):,} files are not records in their own places and count for nothing: {some}; delete "
        f"or move them"
    ]
