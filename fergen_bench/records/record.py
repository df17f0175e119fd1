"""The record of a run: its cells, history, environment and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fergen_bench.data.facts import DataFacts
from fergen_bench.experiment.run import Corruption, Run

if TYPE_CHECKING:
    import numpy as np


NUMBERS = ("torch", "timm", "open_clip_torch", "numpy")
"""Packages whose versions may change the numbers of a run."""
FORMAT = 1
"""Version of the file format of records."""

HELD_OUT = "@source-val"
"""Name of the predictions on images held out of the sources, stored with those of the targets.

It is not a valid name of a domain. A record has these predictions only if its method did not learn from the images.
"""


@dataclass(frozen=True)
class Cell:
    """The score of a run on one target."""

    target: str
    fingerprint: str
    relation: str  # source, seen or unseen; unknown for finished models whose training data are unknown
    confusion: list[list[int]]
    excluded: str = ""  # digest of the ids of images that are not scored: near-duplicates of source images
    absent: int = 0  # images without a prediction, in a file of predictions that is scored in part
    # The fields below are computed when a record is read, by `counting.counted`, and are not stored.
    mark: str = ""  # a mark that tables show after the number
    audited: bool = True  # False for an unseen target that was never compared with the sources
    stale: tuple[str, ...] = ()  # domains of which only another state was compared
    left_out: tuple[int, ...] | None = None  # indices of images that are not scored; None: as in its predictions
    uncounted: int = 0  # near-duplicates that are scored because predictions to count again are missing
    seen_share: float | None = (
        None  # fraction of its images with a near-duplicate in the sources, as compared with seen_share
    )

    pretraining_saw: str = ""  # yes, no or unknown: the pre-training of the run's networks has seen the target
    pretraining_reason: str = ""  # the reason of yes and unknown

    @property
    def count(self) -> int:
        """The number of scored images."""
        return sum(map(sum, self.confusion))


def confusion_of(predictions: Predictions) -> list[list[int]]:
    """Count the confusion matrix of the images that are scored."""
    from fergen_bench.metric import confusion_matrix

    logits, labels = predictions.scored
    found: list[list[int]] = confusion_matrix(labels, logits.argmax(1), logits.shape[1]).tolist()
    return found


def scored_cell(spec: Run, target: str, fingerprint: str, predictions: Predictions, excluded: str = "") -> Cell:
    """Count the confusion matrix of a target.

    Args:
        spec: The run.
        target: The name of the target.
        fingerprint: The fingerprint of the target.
        predictions: The predictions for the target.
        excluded: The digest of the ids of the images that the predictions leave out.
    """
    absent = 0 if predictions.absent is None else int((predictions.absent & ~predictions.left_out).sum())
    return Cell(target, fingerprint, spec.relations[target], confusion_of(predictions), excluded, absent)


@dataclass(frozen=True)
class ShiftedCell:
    """The score of a run on corrupted or re-rendered images of one target."""

    target: str
    fingerprint: str
    relation: str
    factor: str
    level: float
    faces: int  # the requested number of images
    version: int
    confusion: list[list[int]]
    excluded: str = ""

    @property
    def shift(self) -> Corruption:
        """The corruption that this score belongs to."""
        return Corruption(self.target, self.factor, self.level, self.faces, self.version)


def with_source_val(record: RunRecord, predictions: Mapping[str, Predictions]) -> RunRecord:
    """Return a record of an early version with the confusion matrix of held-out images from its predictions."""
    held_out = predictions.get(HELD_OUT)
    if record.source_val is not None or held_out is None:
        return record
    return replace(record, source_val=confusion_of(held_out))


@dataclass(frozen=True)
class RunRecord:
    """The stored result of a run."""

    spec: Run
    cells: tuple[Cell, ...]
    history: tuple[Mapping[str, float], ...]  # one entry per epoch; empty for methods without epochs
    selected_epoch: int | None
    networks: Mapping[str, Mapping[str, Any]]  # parameter → name, digest and notes of the loaded weights
    environment: Mapping[str, Any]
    seconds: Mapping[str, float]
    started: str
    method_digest: str
    shifted: tuple[ShiftedCell, ...] = ()  # not part of any leaderboard
    data: Mapping[str, DataFacts] = field(default_factory=dict)  # of each domain; empty in records of early versions
    # Confusion matrix of the images held out of the sources. None where there are none or the method learned from some,
    # for finished models, and in records of early versions.
    source_val: list[list[int]] | None = None
    # SHA-256 of the method file that trained the base of an online method; of two digests where another text restored
    # it. Empty without a base, and in records of early versions.
    base_digest: str = ""
    # Checksums of the sidecar files by ending, as read from the file; empty in records of early versions.
    files: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def device(self) -> str:
        """The device, as far as durations depend on it: the name of the GPU, or the processor and its threads."""
        device, threads = self.environment.get("device") or "unknown device", self.environment.get("threads")
        if "cuda" in self.environment or threads is None:
            return str(device)
        return f"{device}, {threads} thread{'' if threads == 1 else 's'}"

    @property
    def method_commit(self) -> str | None:
        """The commit of the method's file; None outside a repository. Early records have one commit for all files."""
        return self.environment.get("method_commit", self.environment.get("commit"))

    def cell(self, target: str) -> Cell | None:
        """Return the score on a target, or None if there is none."""
        return next((cell for cell in self.cells if cell.target == target), None)

    def answers(self, spec: Run) -> bool:
        """Return whether the record has a current score for every target of a run."""
        return all(
            (cell := self.cell(target)) is not None
            and (cell.fingerprint, cell.excluded) == (fingerprint, spec.excluded.get(target, ""))
            for target, fingerprint in spec.targets.items()
        )

    def shifts_of(self, spec: Run) -> tuple[Corruption, ...]:
        """Return the corruptions that the record has current scores for, on the targets of a run."""
        return tuple(
            cell.shift
            for cell in self.shifted
            if (spec.targets.get(cell.target), spec.excluded.get(cell.target, "")) == (cell.fingerprint, cell.excluded)
        )

    def to_json(self) -> dict[str, Any]:
        """Return the content of the record's file, without the checksums that `store.save` adds."""
        content = {"format": FORMAT, "key": self.spec.key, "synthetic": self.spec.synthetic, **asdict(self)}
        for cell in content["cells"]:
            for name in _WHEN_READ:
                del cell[name]
        return content


_WHEN_READ = (
    "mark",
    "audited",
    "stale",
    "left_out",
    "uncounted",
    "seen_share",
    "pretraining_saw",
    "pretraining_reason",
)
"""Fields of a cell that are not stored."""


@dataclass(frozen=True)
class Predictions:
    """The logits of a run for every image of a target split, in the order of the prepared domain.

    Packed records have the predicted classes alone: the logits are 1 for the class and 0 for the others, and the
    numbers that would follow from the confidences are in `reliability`.
    """

    logits: np.ndarray  # float (N, 7); stored as float16 after subtraction of the maximum
    labels: np.ndarray  # integers (N,)
    left_out: np.ndarray  # bool (N,): images that are not scored: near-duplicates of source images
    absent: np.ndarray | None = None  # bool (N,): images without a prediction; None if there are none
    # float32 (T, 15, 3), where the logits are those of classes alone, else None: the table of `metric.reliability` as
    # predicted, and with the run's temperature. T is 0, 1 or 2, as many as are known.
    reliability: np.ndarray | None = None
    classes: np.ndarray | None = None  # uint8 (N,), where the logits are those of classes alone, else None

    @property
    def predicted(self) -> np.ndarray:
        """A copy of the predicted classes, uint8 (N,)."""
        import numpy as np

        if self.classes is not None:
            return self.classes.copy()
        # numpy is many times faster over few rows than over few columns
        return self.logits.T.astype(np.float32, order="C").argmax(0).astype(np.uint8)

    @property
    def unscored(self) -> np.ndarray:
        """The images that are left out or lack a prediction, bool (N,)."""
        return self.left_out if self.absent is None else self.left_out | self.absent

    @property
    def scored(self) -> tuple[np.ndarray, np.ndarray]:
        """The logits (M, 7) and labels (M,) of the images that are scored."""
        counted = ~self.unscored
        return self.logits[counted], self.labels[counted]
