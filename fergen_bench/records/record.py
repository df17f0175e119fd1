"""The record of a run: its cells, history, environment and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fergen_bench.data.facts import DataFacts
from fergen_bench.experiment.run import Run, Shift

if TYPE_CHECKING:
    import numpy as np


NUMBERS = ("torch", "timm", "open_clip_torch", "numpy")
"""Packages whose versions may change numbers."""
FORMAT = 1
"""Raised when the form of a record changes."""

HELD_OUT = "@source-val"
"""What the predictions on faces held out of the sources are kept under, beside those of the targets: no domain can be
called so. They are there only where the method did not learn from these faces.
"""


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


def scored_cell(spec: Run, target: str, fingerprint: str, predictions: Predictions, excluded: str = "") -> Cell:
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

    spec: Run
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
    # Checksums of the sidecar files by ending, as read from the file; empty in records of early versions.
    files: Mapping[str, str] = field(default_factory=dict, compare=False)

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

    def answers(self, spec: Run) -> bool:
        """Whether every target of a spec is scored here, as the target is now."""
        return all(
            (cell := self.cell(target)) is not None
            and (cell.fingerprint, cell.excluded) == (fingerprint, spec.excluded.get(target, ""))
            for target, fingerprint in spec.targets.items()
        )

    def shifts_of(self, spec: Run) -> tuple[Shift, ...]:
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
