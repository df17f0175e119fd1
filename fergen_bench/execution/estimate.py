"""Estimate how long the missing runs of a plan take, from the records of earlier runs."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fergen_bench.data.prepared import read_about

if TYPE_CHECKING:
    from fergen_bench.execution.plan import Plan
    from fergen_bench.experiment.run import Corruption, Run
    from fergen_bench.records.record import RunRecord


BEGINNING = 2.0
"""Seconds that the process of a run needs to load torch."""


@dataclass(frozen=True)
class Estimate:
    """The expected duration of the missing runs of a plan.

    Attributes:
        seconds: Expected seconds, with the runs distributed over the slots; None where no run has a precedent.
        unknown: Methods without a comparable record; their runs are not included.
    """

    seconds: float | None
    unknown: tuple[str, ...]


def estimate(plan: Plan, records: Iterable[RunRecord], slots: int) -> Estimate:
    """Estimate the duration of the missing runs from records.

    Comparable records have the same method, suite, networks, precision and kind of device. The time of fitting is
    scaled by training images and epochs, that of scoring by images; every run starts with loading torch.

    Args:
        plan: The plan.
        records: Records of earlier runs.
        slots: Runs at a time.
    """
    cuda = {job.spec.key: job.device.startswith("cuda") for job in plan.runs}
    folders = {name: folder for job in plan.runs for name, folder in job.folders.items()}
    abouts = {name: read_about(Path(folder)) for name, folder in folders.items()}
    earlier: dict[tuple[str, bool], list[tuple[Run, dict[str, float]]]] = {}
    for entry in records:
        spec = entry.spec
        # Profiling makes a run slower.
        if spec.suite == plan.suite.name and set(spec.sources) <= set(abouts) and not entry.environment.get("profiled"):
            units = _units(spec, abouts, [cell.count for cell in entry.cells], [cell.shift for cell in entry.shifted])
            rates = {name: entry.seconds[name] / unit for name, unit in units.items() if unit and name in entry.seconds}
            # Only records of runs on a GPU contain memory_mb.
            earlier.setdefault((spec.method, "memory_mb" in entry.environment), []).append((spec, rates))
    took: list[float] = []
    unknown: dict[str, None] = {}
    for job in plan.missing:
        spec = job.spec
        known = earlier.get((spec.method, cuda[spec.key]), [])
        sort = spec.weights, spec.precision
        alike = [rates for other, rates in known if (other.weights, other.precision) == sort]
        parts = [spec.scored_part(name, abouts[name]) for name in spec.targets]
        scored = [sum(abouts[name]["counts"][part].values()) for name, part in zip(spec.targets, parts, strict=True)]
        units = _units(spec, abouts, scored, job.corruptions)
        wanted = {name: unit for name, unit in units.items() if unit and (name == "shift" or not job.restore)}
        rates_of = {name: [rates[name] for rates in alike if name in rates] for name in wanted}
        if all(rates_of.values()):
            took.append(BEGINNING + sum(float(np.median(rates_of[name])) * unit for name, unit in wanted.items()))
        else:
            unknown[spec.method] = None
    ends = [0.0] * max(1, slots)
    for seconds in took:  # each run starts in the slot that is free first
        heapq.heapreplace(ends, ends[0] + seconds)
    return Estimate(max(ends) if took or not plan.missing else None, tuple(unknown))


def _units(
    spec: Run, abouts: Mapping[str, Any], scored: Sequence[int], shifts: Sequence[Corruption]
) -> dict[str, float]:
    """Return the amount of work that the seconds of each step are proportional to."""
    faces = sum(sum(abouts[name]["counts"].get("train", {}).values()) for name in spec.sources)
    epochs = spec.parameters.get("epochs", 1)
    return {"fit": spec.fraction * faces * epochs, "score": sum(scored), "shift": sum(shift.faces for shift in shifts)}
