"""What was asked (RunSpec), what happened (RunRecord), and how it is kept: one JSON file per run, written whole, at
once.

The key of a run is a hash of what changes its numbers, and of nothing else. Everything else (device, commit, durations)
is recorded beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from unicodedata import normalize

from fergen_bench.atomic import atomically, sweep
from fergen_bench.error import BenchError, RunError
from fergen_bench.facts import DataFacts
from fergen_bench.plugin import is_path
from fergen_bench.untrusted import (
    MOST_ARRAYS,
    MOST_TEXT,
    checksum,
    checksum_of,
    is_file_name,
    parse_json,
    read_arrays,
    read_bytes,
)
from fergen_bench.wording import many

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from pydantic import TypeAdapter

    from fergen_bench.datasets.audit import Comparisons
    from fergen_bench.project import Project
    from fergen_bench.standing import Standing, Standings

NUMBERS = ("torch", "timm", "open_clip_torch", "numpy")
"""Packages whose versions may change numbers."""
FORMAT = 1
"""Raised when the form of a record changes."""

Selection = Literal["last", "source-val"]

BESIDE = (".npz", ".arrays.npz", ".safetensors")
"""What may stand beside a record's file, under its name: predictions, a method's arrays, the fitted method."""

HELD_OUT = "@source-val"
"""What the predictions on faces held out of the sources are kept under, beside those of the targets: no domain can be
called so. They are there only where the method did not learn from these faces.
"""


@dataclass(frozen=True)
class RunSpec:
    """One training, on one set of sources, with one seed, and the targets it is scored on."""

    suite: str
    profile: str
    sources: tuple[str, ...]
    fingerprints: Mapping[str, str]  # of every domain that is learned from: the sources, the adaptation target
    method: str
    version: int
    parameters: Mapping[str, Any]  # all of them, with defaults and networks resolved
    weights: Mapping[str, str]  # digest of what is behind each parameter that names a network or a file
    seed: int
    selection: Selection
    fraction: float = 1.0
    adaptation_target: str | None = None  # the target whose unlabelled training images are learned from
    targets: Mapping[str, str] = field(default_factory=dict)  # name → fingerprint; not part of the key
    relations: Mapping[str, str] = field(default_factory=dict)  # target → source, seen or unseen
    excluded: Mapping[str, str] = field(default_factory=dict)  # target → digest of the ids that are not scored; no key
    defaults: Mapping[str, Any] = field(default_factory=dict)  # parameters nobody changed, for the name in tables
    synthetic: bool = False
    protocol: str = ""
    note: str = ""  # what every table must say below the method

    def identity(self) -> dict[str, Any]:
        """What changes the numbers. The path of a file is circumstance; the digest of its content is what counts."""
        parameters = {
            name: _without_path(value) if name in self.weights else value for name, value in self.parameters.items()
        }
        return {
            "suite": self.suite,
            "profile": self.profile,
            "sources": {source: self.fingerprints[source] for source in self.sources},
            "method": self.method,
            "version": self.version,
            "parameters": parameters,
            "weights": dict(self.weights),
            "seed": self.seed,
            "selection": self.selection,
            "fraction": self.fraction,
            "adaptation_target": self.adaptation_target
            and {self.adaptation_target: self.fingerprints.get(self.adaptation_target, "")},
        }

    def learns_from(self, target: str) -> bool:
        """Whether training images of a target are used, with labels or without: then its test split is scored."""
        return target in self.sources or target == self.adaptation_target

    @property
    def key(self) -> str:
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def changes(self) -> dict[str, Any]:
        """The parameters that differ from the method's defaults on this suite."""
        return {
            name: shown_value(value, self.weights[name]) if name in self.weights else value
            for name, value in self.parameters.items()
            if name not in self.defaults or self.defaults[name] != value
        }

    @property
    def label(self) -> str:
        """The method as tables name it: cafe, or cafe (gate=linear)."""
        changed = ", ".join(f"{name}={value}" for name, value in self.changes.items())
        return f"{self.method} ({changed})" if changed else self.method

    @property
    def title(self) -> str:
        """What messages call this run."""
        return self.called({})

    def called(self, shown: Mapping[str, str]) -> str:
        """The run in words. shown: what a protocol calls a domain, where that is not the suite's name of it."""
        sources = "+".join(shown.get(name, name) for name in self.sources)
        target = self.adaptation_target
        adapted = "" if target is None else f" adapted to {shown.get(target, target)}"
        share = "" if self.fraction == 1 else f"{percent(self.fraction)} of "
        return f"{self.label} on {share}{sources}{adapted}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """What files about this run are called that lie beside those of all others."""
        return f"{self.suite}-{self.method}-{'+'.join(self.sources)}-s{self.seed}-{self.key}"

    def path(self, runs: Path) -> Path:
        return runs / self.suite / self.method / f"{'+'.join(self.sources)}-s{self.seed}-{self.key}.json"

    def model_path(self, runs: Path) -> Path:
        """Where the fitted method is kept, if it is."""
        return self.path(runs).with_suffix(".safetensors")

    def unfinished_path(self, runs: Path) -> Path:
        """Where a training is saved before it has ended."""
        return runs.parent / "unfinished" / f"{self.key}.pt"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RunSpec:
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in content.items() if name in known}
        values["sources"] = tuple(values["sources"])
        values["parameters"] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["parameters"].items()
        }
        values["defaults"] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.get("defaults", {}).items()
        }
        return cls(**values)


def _without_path(value: Any) -> Any:
    if value is None:
        return None
    return "file" if is_path(value) else value.partition("/")[0]


def shown_value(value: Any, digest: str) -> Any:
    """Return a network or a file as tables name it: what comes from a file with its digest, because a path differs
    between machines.
    """
    if is_path(str(value)):
        return f"{PureWindowsPath(value).name}@{digest[:6]}"
    base, _, weights = str(value).partition("/")
    return f"{base}@{digest[:6]}" if weights.startswith("/") else value


def percent(fraction: float) -> str:
    """0.125 → 12.5%: two shares never have one name."""
    return f"{100 * fraction:.10g}%"


def digest_of(ids: Iterable[str]) -> str:
    """Names the faces of a target that are not scored; "" where all are."""
    text = "\n".join(sorted(ids))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


class Shift(NamedTuple):
    """What a fitted method is asked about a target's faces beyond what they are: see `shift.py`."""

    target: str
    factor: str
    level: float
    faces: int  # evenly spread over the target
    version: int  # of what the factor does


@dataclass(frozen=True)
class Job:
    """A run's spec, and the circumstances it runs under, which are no part of its identity."""

    spec: RunSpec
    method_file: str
    class_name: str
    method_digest: str
    folders: Mapping[str, str]  # prepared folder of every domain
    cache: str
    runs: str
    device: str
    threads: int
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)  # target → ids of faces that are not scored
    keep_model: bool = False  # beside the record, so that it can be asked about other faces later
    save_every: float = 60.0  # seconds of training after which it is saved, so that a killed run can go on from there
    replaces: str | None = None  # when the record was begun that stood in this run's place when it was planned
    rerun: bool = False  # that record is made anew although nothing is missing in it

    shifts: Sequence[Shift] = ()  # what is scored beyond the targets as they are
    restore: bool = False  # the record has all but the shifts: the kept method is asked, nothing is trained
    record_steps: bool = True  # on a GPU, where the method allows it
    profile: bool = False  # its time is told by phases, and some of its steps are traced

    @property
    def profile_path(self) -> Path:
        """Where its traces and their summary go, without a suffix."""
        return Path(self.runs).parent / "profiles" / self.spec.slug

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Job:
        shifts = tuple(Shift(*entry) for entry in content["shifts"])
        return cls(**{**content, "spec": RunSpec.from_json(content["spec"]), "shifts": shifts})


@contextmanager
def claim(spec: RunSpec, runs: Path, patience: float = 1.0) -> Iterator[bool]:
    """Whether this process may write a run's files; False where another is at it now. The lock is the operating
    system's: it goes with the process that holds it, however that ends.

    patience: seconds to wait for another process. Some are needed: whoever looks for a claim has the lock for a moment.
    """
    with _lock(spec, runs, patience) as mine:
        path = spec.path(runs)
        for file in (*_files(path), spec.unfinished_path(runs)) if mine else ():
            sweep(file)  # nobody else writes them now
        yield mine


def is_claimed(spec: RunSpec, runs: Path) -> bool:
    """Return whether another process is writing a run's files now. Such locks cannot be looked at without taking them,
    so it is taken for a moment; no file of the run is touched.
    """
    if not _claim_path(spec, runs).exists():
        return False
    with _lock(spec, runs, 0) as mine:
        return not mine


@contextmanager
def _lock(spec: RunSpec, runs: Path, patience: float) -> Iterator[bool]:
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


def _claim_path(spec: RunSpec, runs: Path) -> Path:
    return spec.unfinished_path(runs).with_suffix(".lock")


def made_since(job: Job) -> Path | None:
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


@dataclass(frozen=True)
class Cell:
    """One run scored on one target."""

    target: str
    fingerprint: str
    relation: str  # source, seen or unseen
    confusion: list[list[int]]
    excluded: str = ""  # digest of the ids of faces that are not scored: the sources hold a near-duplicate
    # What follows is not known when a record is made, but when it is read: see `counted`.
    mark: str = ""  # what tables show beside the number
    audited: bool = True  # False where it is called unseen, and nobody compared the faces
    stale: tuple[str, ...] = ()  # domains that were compared in another state only
    left_out: tuple[int, ...] | None = None  # places of the faces that are not scored; None: as its predictions have it
    uncounted: int = 0  # near-duplicates that are scored, since there are no predictions to count again
    seen_share: float | None = None  # share of its faces with a near-duplicate in the sources that would make it seen

    @property
    def count(self) -> int:
        """Faces scored."""
        return sum(map(sum, self.confusion))


def scored_cell(spec: RunSpec, target: str, fingerprint: str, predictions: Predictions, excluded: str = "") -> Cell:
    """A target's cell. excluded: digest of the ids of the faces that the predictions leave out."""
    from fergen_bench.metric import confusion_matrix

    logits, labels = predictions.scored
    confusion = confusion_matrix(labels, logits.argmax(1), logits.shape[1])
    return Cell(target, fingerprint, spec.relations[target], confusion.tolist(), excluded)


@dataclass(frozen=True)
class ShiftedCell:
    """One run scored on shifted faces of one target."""

    target: str
    fingerprint: str
    relation: str
    factor: str
    level: float
    faces: int  # that were asked for
    version: int
    confusion: list[list[int]]
    excluded: str = ""

    @property
    def shift(self) -> Shift:
        return Shift(self.target, self.factor, self.level, self.faces, self.version)


@dataclass(frozen=True)
class RunRecord:
    """A finished run."""

    spec: RunSpec
    cells: tuple[Cell, ...]
    history: tuple[Mapping[str, float], ...]  # one entry per epoch, for methods that have epochs
    selected_epoch: int | None
    networks: Mapping[str, Mapping[str, Any]]  # parameter → name and digest of the weights as loaded, notes on them
    environment: Mapping[str, Any]
    seconds: Mapping[str, float]
    started: str
    method_digest: str
    shifted: tuple[ShiftedCell, ...] = ()  # never part of a leaderboard
    data: Mapping[str, DataFacts] = field(default_factory=dict)  # of every domain; empty in records of early versions

    @property
    def device(self) -> str:
        """On what it ran, as far as its seconds go: a GPU's name, or the kind of processor and the threads it had."""
        device, threads = self.environment.get("device") or "unknown device", self.environment.get("threads")
        if "cuda" in self.environment or threads is None:
            return str(device)
        return f"{device}, {threads} thread{'' if threads == 1 else 's'}"

    @property
    def method_commit(self) -> str | None:
        """The commit of the method's file; None where no repository had it. Early records say one commit for all."""
        return self.environment.get("method_commit", self.environment.get("commit"))

    def cell(self, target: str) -> Cell | None:
        return next((cell for cell in self.cells if cell.target == target), None)

    def answers(self, spec: RunSpec) -> bool:
        """Whether every target of a spec is scored here, as the target is now."""
        return all(
            (cell := self.cell(target)) is not None
            and (cell.fingerprint, cell.excluded) == (fingerprint, spec.excluded.get(target, ""))
            for target, fingerprint in spec.targets.items()
        )

    def shifts_of(self, spec: RunSpec) -> tuple[Shift, ...]:
        """The shifts that are scored here, on the targets of a spec as they are now."""
        return tuple(
            cell.shift
            for cell in self.shifted
            if (spec.targets.get(cell.target), spec.excluded.get(cell.target, "")) == (cell.fingerprint, cell.excluded)
        )

    def to_json(self) -> dict[str, Any]:
        content = {"format": FORMAT, "key": self.spec.key, "synthetic": self.spec.synthetic, **asdict(self)}
        for cell in content["cells"]:
            for name in _WHEN_READ:
                del cell[name]
        return content


_WHEN_READ = ("mark", "audited", "stale", "left_out", "uncounted", "seen_share")
"""Fields of a cell that are not stored."""


@dataclass(frozen=True)
class Predictions:
    """What a run said of every face of a target that could be scored, in the order of the prepared domain."""

    logits: np.ndarray  # float (N, 7); kept as float16, less their maximum
    labels: np.ndarray  # integers (N,)
    left_out: np.ndarray  # bool (N,): faces that are not scored: the sources hold a near-duplicate

    @property
    def scored(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits and labels of the faces that count."""
        return self.logits[~self.left_out], self.labels[~self.left_out]


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

    from fergen_bench.domain import EXPRESSIONS

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


def files_of(spec: RunSpec, runs: Path) -> list[Path]:
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
        record = replace(record, spec=RunSpec.from_json(asdict(record.spec)), history=tuple(content["history"]))
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
    from fergen_bench.domain import EXPRESSIONS

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


def find(spec: RunSpec, runs: Path) -> RunRecord | None:
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


def load_all(
    runs: Path | str, project: Project | None = None, include_near_duplicates: bool = False
) -> tuple[list[RunRecord], list[str]]:
    """Return the records under a folder as a report counts them, and a sentence for each file that cannot be read.

    What newer records have made obsolete is left out, and so are faces with a near-duplicate in the sources.

    Args:
        runs: The folder of the records, such as "results/runs".
        project: Whose suites and audits say what is seen. Default: the one that the folder is in, else the current one.
        include_near_duplicates: Count them too.
    """
    from fergen_bench.project import find_project

    folder = Path(runs)
    if project is None:
        inside = find_project(folder)
        project = inside if inside.configured else find_project()
    records, faults = read_all(folder)
    found, more = counted(current(records), project, folder, include_near_duplicates)
    return found, [*faults, *more]


def counted(
    records: Iterable[RunRecord],
    project: Project,
    runs: Path | None = None,
    include_near_duplicates: bool = False,
    comparisons: Comparisons | None = None,
) -> tuple[list[RunRecord], list[str]]:
    """Return records whose cells have the standing of their targets as it is known now, and are counted accordingly.

    A cell that leaves out other faces than it has to is counted again from the predictions beside its record. A record
    of a suite that does not exist any more is returned as it is.

    Args:
        records: As they were loaded.
        project: Whose suites and audits say what is seen.
        runs: The folder of the records; None where nothing is to be counted again.
        include_near_duplicates: Leave out no faces.
        comparisons: Those of the project, where they were opened before.

    Returns:
        The records, and a sentence for each comparison that cannot be read.
    """
    from fergen_bench.datasets.audit import Comparisons
    from fergen_bench.standing import Standings

    suites = project.suites()
    comparisons = Comparisons(project.comparisons) if comparisons is None else comparisons
    standings: dict[str, Standings] = {}
    found = []
    for record in records:
        if (suite := suites.get(record.spec.suite)) is not None:
            if suite.name not in standings:
                standings[suite.name] = Standings(suite, comparisons, project.settings.seen_share)
            record = _counted(record, standings[suite.name], project, runs, include_near_duplicates)
        found.append(record)
    return found, comparisons.faults


def _counted(record: RunRecord, standings: Standings, project: Project, runs: Path | None, include: bool) -> RunRecord:
    spec, predictions, cells = record.spec, None, []
    sources = {name: spec.fingerprints[name] for name in spec.sources if name in spec.fingerprints}
    for cell in record.cells:
        part = project.scored(cell.target, spec.profile, spec.learns_from(cell.target))
        standing = standings.of(sources, cell.target, cell.fingerprint, part)
        left_out = {} if include else standing.left_out
        fresh: Cell | None = replace(cell, left_out=tuple(sorted(left_out)))
        if cell.excluded != digest_of(left_out.values()):
            if predictions is None:
                predictions = _predictions_of(record, runs)
            fresh = recounted(spec, cell, predictions.get(cell.target), left_out)
        cells.append(_standing(fresh, cell, standing, include))
    relations = {cell.target: cell.relation for cell in cells}
    shifted = (replace(cell, relation=relations.get(cell.target, cell.relation)) for cell in record.shifted)
    return replace(record, cells=tuple(cells), shifted=tuple(shifted))


def _predictions_of(record: RunRecord, runs: Path | None) -> Mapping[str, Predictions]:
    """The predictions beside a record; none where they are missing or damaged."""
    try:
        path = None if runs is None else record.spec.path(runs)
        return load_predictions(path) if path is not None and beside(path, ".npz").is_file() else {}
    except BenchError:
        return {}


def recounted(spec: RunSpec, cell: Cell, predictions: Predictions | None, left_out: Mapping[int, str]) -> Cell | None:
    """Return a cell counted again without some faces, by place; None where its predictions do not allow it."""
    if predictions is None or len(predictions.labels) != len(predictions.logits):
        return None
    if left_out and max(left_out) >= len(predictions.logits):
        return None
    again = scored_cell(
        spec, cell.target, cell.fingerprint, without(predictions, left_out), digest_of(left_out.values())
    )
    return replace(again, relation=cell.relation, left_out=tuple(sorted(left_out)))


def without(predictions: Predictions, left_out: Iterable[int]) -> Predictions:
    """Return predictions of which the faces at some places are not scored."""
    import numpy as np

    mask = np.zeros(len(predictions.logits), bool)
    mask[list(left_out)] = True
    return replace(predictions, left_out=mask)


def _standing(fresh: Cell | None, cell: Cell, standing: Standing, include: bool) -> Cell:
    """A cell with its standing. fresh: counted as it has to be; None where that was not possible."""
    about: dict[str, Any] = {
        "relation": standing.relation,
        "mark": standing.mark,
        "audited": standing.compared,
        "stale": standing.stale,
        "seen_share": standing.share,
    }
    near = many(len(standing.left_out), "near-duplicate")
    if fresh is None:
        # The number stays as it was counted, and is marked: to lose it would be worse.
        scored = "other faces left out" if cell.excluded or include else f"{near} scored"
        return replace(cell, **{**about, "mark": scored}, uncounted=max(1, len(standing.left_out)))
    if include and standing.left_out:
        about["mark"] = f"{near} scored"
    return replace(fresh, **about)


def current(records: Iterable[RunRecord]) -> list[RunRecord]:
    """The records that belong together, in the order given: what a newer one has made obsolete is left out.

    Obsolete are runs of a row of the tables under another version, other defaults or other weights than its newest run,
    and runs and cells on a domain in another state than the newest record knows.
    """
    given = list(records)
    rows: dict[Any, Any] = {}
    states: dict[Any, str] = {}
    for record in sorted(given, key=lambda entry: entry.started, reverse=True):
        spec = record.spec
        rows.setdefault(row_of(spec), _making(spec))
        for name, fingerprint in {**spec.targets, **spec.fingerprints}.items():
            states.setdefault((spec.suite, spec.profile, name), fingerprint)
    kept = []
    for record in given:
        spec = record.spec
        fresh = {name: states[spec.suite, spec.profile, name] for name in {*spec.fingerprints, *spec.targets}}
        if rows[row_of(spec)] != _making(spec) or any(fresh[name] != was for name, was in spec.fingerprints.items()):
            continue
        cells = tuple(cell for cell in record.cells if cell.fingerprint == fresh[cell.target])
        shifted = tuple(cell for cell in record.shifted if cell.fingerprint == fresh.get(cell.target))
        kept.append(replace(record, cells=cells, shifted=shifted))
    return kept


def row_of(spec: RunSpec) -> tuple[Any, ...]:
    """What names a row of a table."""
    return spec.suite, spec.profile, spec.selection, spec.fraction, spec.adaptation_target, spec.label


def _making(spec: RunSpec) -> str:
    """What all runs of a row must share."""
    identity = spec.identity()
    return json.dumps([identity["version"], identity["parameters"], identity["weights"]], sort_keys=True)


def cells_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per cell, with the run's identity, the metrics (in per cent) and their counts."""
    import pandas as pd

    rows = []
    for record in records:
        run = _run_columns(record)
        for cell in record.cells:
            about = {"target": cell.target, "relation": cell.relation, "mark": cell.mark, "audited": cell.audited}
            about |= {"stale": ", ".join(cell.stale), "left_out": len(cell.left_out or ()), "uncounted": cell.uncounted}
            about |= {"seen_share": cell.seen_share}
            rows.append({**run, **about, **_score_columns(cell.confusion)})
    return pd.DataFrame(rows)


def shifted_frame(records: Iterable[RunRecord]) -> pd.DataFrame:
    """One row per shifted cell, as `cells_frame` has them for the others, with the factor and its level."""
    import pandas as pd

    rows = []
    for record in records:
        run = _run_columns(record) if record.shifted else {}
        for cell in record.shifted:
            about: dict[str, Any] = {"target": cell.target, "relation": cell.relation}
            about |= {"factor": cell.factor, "level": cell.level}
            about |= {"asked": cell.faces, "factor_version": cell.version}
            rows.append({**run, **about, **_score_columns(cell.confusion)})
    return pd.DataFrame(rows)


def _run_columns(record: RunRecord) -> dict[str, Any]:
    """What all cells of a run have in common."""
    spec = record.spec
    # A name says it all where there are no weights: synth-trunk/scratch.
    networks = (
        network["name"] if network["name"].endswith(network["digest"]) else f"{network['name']} {network['digest'][:6]}"
        for network in record.networks.values()
    )
    return {
        "suite": spec.suite,
        "synthetic": spec.synthetic,
        "profile": spec.profile,
        "selection": spec.selection,
        "method": spec.label,
        "base_method": spec.method,
        "version": spec.version,
        "digest": record.method_digest,
        "changes": json.dumps(spec.changes, sort_keys=True),
        "pretraining": ", ".join(sorted(networks)) or "none",
        "note": spec.note,
        "source": "+".join(spec.sources),
        "sources": len(spec.sources),
        "adaptation": spec.adaptation_target is not None,
        "adapted_to": spec.adaptation_target or "",
        "fraction": spec.fraction,
        "seed": spec.seed,
        "key": spec.key,
        "device": record.device,
        # A run that told where its time went took longer than it would have.
        "fit_seconds": float("nan") if record.environment.get("profiled") else record.seconds.get("fit", float("nan")),
    }


def _score_columns(confusion: list[list[int]]) -> dict[str, float]:
    import numpy as np

    from fergen_bench.domain import EXPRESSIONS
    from fergen_bench.metric import METRICS, recalls

    counts = np.array(confusion)
    shares = (100.0 * recalls(counts)).tolist()
    return {
        "faces": int(counts.sum()),
        **{name: 100.0 * function(counts) for name, function in METRICS.items()},
        **{f"recall_{name}": share for name, share in zip(EXPRESSIONS, shares, strict=True)},
    }
