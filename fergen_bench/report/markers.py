"""Find what a reader has to know about a row before its numbers are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.report.tables import Board, complete
from fergen_bench.wording import many

COLLAPSE = 10.0
"""The least distance in points, from the best seed of the same source, of a training that is marked as collapsed."""

COLLAPSE_DEVIATIONS = 6.0
"""The least distance of such a training in standard deviations of the row's trainings."""


HARDLY_VARYING = 0.3
"""Points by which the recalls of a training vary over seeds, at most, where the seed changes next to nothing.

The least variation of a method that draws random numbers in training was 1.3 points (CAFE on all of synth5).
"""

ALIKE, HARDLY = "seeds alike", "seeds hardly vary"
"""The marks of rows with equal and with nearly equal seeds."""


@dataclass(frozen=True)
class Marker:
    """A mark of a row.

    Attributes:
        short: Its text in the row, such as "one training".
        reason: A sentence.
    """

    short: str
    reason: str


@dataclass(frozen=True)
class Collapse:
    """A training whose accuracy lies far below that of the other seeds of its source."""

    source: str
    seed: int
    points: float  # below the best seed of this source


def collapsed_trainings(cells: pd.DataFrame) -> list[Collapse]:
    """Return the trainings of a row that lie far below another seed of the same source in mean accuracy.

    The distance is at least 10 points and, for three or more sources, 6 standard deviations of trainings. The deviation
    comes from the median distance of two seeds of one source, on which few collapsed trainings have little influence.
    """
    scores = cells.groupby(["source", "adapted_to", "seed"], sort=False).accuracy.mean()
    of_source = scores.groupby(level=["source", "adapted_to"], sort=False)
    if not len(scores) or of_source.size().max() < 2:
        return []
    distances = np.concatenate([_apart(seeds.to_numpy()) for _, seeds in of_source])
    # 0.954 is the median distance of two values of a standard normal distribution.
    deviation = np.median(distances) / 0.954 if len(of_source) > 2 else 0.0
    below = of_source.transform("max") - scores
    far = below[below > max(COLLAPSE, COLLAPSE_DEVIATIONS * deviation)]
    return [Collapse(source, int(seed), float(points)) for (source, _, seed), points in far.items()]


def _apart(values: np.ndarray) -> np.ndarray:
    """Return the distances of all pairs of values."""
    one, other = np.triu_indices(len(values), 1)
    return np.abs(values[one] - values[other])


def markers(board: Board, row: Any, cells: pd.DataFrame) -> tuple[Marker, ...]:
    """Return the marks of a row.

    Args:
        board: The leaderboard.
        row: The row in the leaderboard's table.
        cells: The cells of the row.
    """
    found = []
    whole = complete(cells, board.asked)
    if row.cells < row.asked:
        found.append(Marker("incomplete", f"It has {row.cells} of {row.asked} cells; only complete seeds count."))
    most = int(board.table.seeds.max())
    if row.seeds == 1 and not board.finished:
        found.append(Marker("one training", "One training of each source: its numbers hold for these trainings only."))
    elif 0 < row.seeds < most:
        found.append(Marker(f"{row.seeds} of {most} seeds", f"It has {row.seeds} seeds, other rows have {most}."))
    if row.seeds > 1 and _alike(whole):
        found.append(
            Marker(ALIKE, "Its scores do not depend on the seed, so ± is 0 and its interval covers faces alone.")
        )
    elif row.seeds > 1 and (still := _hardly_varying(whole)):
        found.append(
            Marker(
                HARDLY,
                f"The seed changes next to nothing for {still} of its trainings, as in a deterministic method: ± and "
                f"the interval contain little or no variation of trainings.",
            )
        )
    if lost := collapsed_trainings(cells):
        names = "; ".join(f"{one.source}, seed {one.seed}, by {one.points:.0f}" for one in lost)
        found.append(
            Marker(
                "collapsed training",
                f"{many(len(lost), 'training', 'lie')} far below another seed of the same source: {names} "
                f"points. They are in the mean, and its interval does not hold.",
            )
        )
    if row.unseen_not_audited:
        found.append(Marker("not audited", f"{many(row.unseen_not_audited, 'unseen cell', 'are')} not audited."))
    partial = cells[cells.mark.str.contains("partial, ", regex=False)]
    if len(partial):
        places = "; ".join(f"{cell.target}: {cell.mark}" for cell in partial.itertuples())
        found.append(Marker("partial", f"Some images have no prediction: {places}."))
    if (cells.relation == "unknown").any():
        found.append(
            Marker("unknown data", "Nobody stated what it was trained on, so no target is known to be unseen.")
        )
    return tuple(found)


def _hardly_varying(cells: pd.DataFrame) -> str:
    """Return how many trainings hardly vary over seeds, such as "4 of 5"; "" if that is less than half of them."""
    recalls = [name for name in cells if str(name).startswith("recall_")]
    spread = cells.groupby(["source", "adapted_to", "target"])[recalls].std(ddof=1).mean(axis=1)
    by_training = spread.groupby(level=["source", "adapted_to"]).mean()
    still = int((by_training <= HARDLY_VARYING).sum())
    return f"{still} of {len(by_training)}" if 2 * still >= len(by_training) else ""


def _alike(cells: pd.DataFrame) -> bool:
    """Return True if all seeds have the same scores on every target."""
    scores = [name for name in cells if name in {"accuracy", "macro_f1"} or str(name).startswith("recall_")]
    return bool((cells.groupby(["source", "adapted_to", "target"])[scores].nunique() <= 1).all(axis=None))
