"""Repeat some runs of a submission with its own method files, and compare the scores.

This executes the submitted method files: read them first, or repeat the runs on an isolated machine.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fergen_bench.error import BenchError
from fergen_bench.execution.replay import Replay, replay
from fergen_bench.metric import accuracy
from fergen_bench.records.pack import copied
from fergen_bench.records.record import NUMBERS
from fergen_bench.wording import listed

if TYPE_CHECKING:
    from fergen_bench.execution.engine import Listen
    from fergen_bench.experiment.project import Project
    from fergen_bench.progress import Progress
    from fergen_bench.records.record import RunRecord
    from fergen_bench.submission.archive import Submission


@dataclass(frozen=True)
class Repeated:
    """A run of a submission and its repetition.

    Attributes:
        record: The submitted record.
        worst: The largest difference of the accuracy of a cell, in points; nan where the run failed.
        target: The target of that cell.
        images: The number of predictions that differ, at least.
        same_machine: Whether packages and kind of processor are those of the record.
        failure: A sentence where the run could not be repeated.
    """

    record: RunRecord
    worst: float = float("nan")
    target: str = ""
    images: int = 0
    same_machine: bool = True
    failure: str = ""

    def fault(self, tolerance: float) -> str:
        """Return a sentence where the repetition contradicts the record, or nothing."""
        if self.failure:
            return f"{self.record.spec.title}: cannot be repeated: {self.failure}"
        if self.worst > tolerance:
            return (
                f"{self.record.spec.title}: the accuracy on {self.target} differs by {self.worst:.1f} points when the "
                f"run is repeated, and {tolerance:g} are the limit"
            )
        return ""


def chosen(records: Sequence[RunRecord], share: float, seed: int | None = None) -> list[RunRecord]:
    """Return a random share of some records, at least one, in their order.

    Args:
        records: The records.
        share: The share, above 0 and at most 1.
        seed: The seed of the choice. Default: a choice that its author cannot predict.
    """
    count = max(1, round(share * len(records)))
    picks = (random.SystemRandom() if seed is None else random.Random(seed)).sample(range(len(records)), count)
    return [records[place] for place in sorted(picks)]


def repeat(
    submission: Submission,
    records: Sequence[RunRecord],
    project: Project,
    device: str,
    progress: Progress,
    listen: Listen,
    done: Callable[[Repeated], None],
    weights: Path | None = None,
) -> list[Repeated]:
    """Execute runs of a submission again.

    Args:
        submission: The submission.
        records: Those of its records that are repeated.
        project: The project that finds its methods.
        device: The device.
        progress: Receives the progress of preparing domains.
        listen: Receives the progress of each run.
        done: Receives each repetition as it ends.
        weights: The folder with the files of weights, whose folders a submission does not name.
    """
    found = []
    with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
        for record in records:
            here = record if weights is None else replace(record, spec=record.spec.with_weights_in(str(weights)))
            path = copied(submission.records, here, Path(folder))
            try:
                if missing := [file.name for file in here.spec.weight_files if not file.is_file()]:
                    raise BenchError(f"{listed(missing)} not found; name the folder of the weights with --weights")
                one = compared(replay(project, path, device, {}, progress, listen))
            except BenchError as error:
                one = Repeated(record, failure=str(error).removeprefix(f"{path}: "))
            found.append(one)
            done(one)
    return found


def compared(played: Replay) -> Repeated:
    """Return the largest difference between a record and its repetition."""
    cells = [
        (100 * abs(accuracy(np.array(first.confusion)) - accuracy(np.array(second.confusion))), name, images)
        for name, _, (first, second), images in played.differences()
    ]
    worst, target, _ = max(cells, default=(0.0, "", 0))
    before, after = played.record.environment, played.again.environment
    same = all(before.get(name) == after.get(name) for name in (*NUMBERS, "device", "cpu_capability"))
    return Repeated(played.record, worst, target, sum(images for *_, images in cells), same)
