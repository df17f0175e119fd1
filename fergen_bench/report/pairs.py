"""Compare all pairs of rows of a leaderboard on unseen domains, from one resampling of each row.

The results are those of `comparison.compare`, without single cells and expressions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import pandas as pd

from fergen_bench.report.comparison import Comparison
from fergen_bench.report.intervals import Sampled, domain_error, domain_limits, holm, tested
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import Board, complete

MOST_ROWS = 40
"""The number of rows, best first, whose pairs are compared. The number of pairs grows with its square."""


@dataclass(frozen=True)
class _Row:
    """The unseen means of a row with complete seeds and predictions, and these means in every bootstrap replicate."""

    seeds: np.ndarray  # the mean of each seed
    where: list[tuple[str, str]]  # source and target of each cell
    cells: np.ndarray  # the mean of each over seeds
    targets: Mapping[str, tuple[float, int]]  # mean and number of faces
    unseen: Sampled
    by_target: Mapping[str, Sampled]

    @property
    def trainings(self) -> dict[tuple[str, str], tuple[int, ...]]:
        """Return the seeds of each training."""
        return {training: seeds for training, (seeds, _) in self.unseen.parts.items()}


def compared_pairs(
    board: Board, evidence: Evidence, metric: str, better: int | None = None
) -> Iterator[tuple[int, int, Comparison]]:
    """Yield the indices of two rows, the better one first, and the first minus the second on unseen domains.

    Rows that differ in sources, seeds or unseen cells are left out, and so are rows without predictions:
    `comparison.compare` compares what two such rows share.

    Args:
        board: The leaderboard.
        evidence: The stored predictions.
        metric: The name of the metric.
        better: The index of the better row of all pairs to yield; None for all pairs.
    """
    rows: dict[int, _Row] = {}
    for index, (_, cells) in zip(range(MOST_ROWS), board.rows(), strict=False):
        whole = complete(cells, board.asked)
        unseen = whole[whole.relation == "unseen"]
        if len(unseen) and evidence.covers(whole):
            score = unseen[metric]
            by_pair = score.groupby([unseen.source, unseen.target]).mean()
            rows[index] = _Row(
                seeds=score.groupby(unseen.seed).mean().to_numpy(),
                where=list(by_pair.index),
                cells=by_pair.to_numpy(),
                targets={
                    str(target): (float(own[metric].mean()), int(own.faces.max()))
                    for target, own in unseen.groupby("target", sort=False)
                },
                unseen=evidence.row_means(whole, metric, ["unseen"])["unseen"],
                by_target=evidence.target_means(whole, metric),
            )
    for first, second in combinations(rows, 2):
        one, other = rows[first], rows[second]
        if better in {None, first} and one.trainings == other.trainings and one.where == other.where:
            yield first, second, _difference(one, other, board, metric)


def _difference(row: _Row, other: _Row, board: Board, metric: str) -> Comparison:
    """Return a row minus another one."""
    finished = board.finished
    per_seed, per_cell = row.seeds - other.seeds, row.cells - other.cells
    found = tested(float(per_seed.mean()), row.unseen.minus(other.unseen), finished)
    over = domain_limits(found.value, *domain_error(row.where, per_cell))
    lines = []
    for target in (name for name in board.targets if name in row.targets):
        apart = row.targets[target][0] - other.targets[target][0]
        line = tested(apart, row.by_target[target].minus(other.by_target[target]), finished)
        lines.append((target, row.targets[target][1], line.value, line.low, line.high, line.p))
    targets = pd.DataFrame(lines, columns=["target", "faces", "difference", "low", "high", "p"])
    return Comparison(
        metric=metric,
        unseen=replace(found, domains_low=over[0], domains_high=over[1]),
        cells=pd.DataFrame(),
        targets=targets.assign(p_holm=holm(targets.p)),
        expressions=pd.DataFrame(),
        seeds=len(per_seed),
        spread=float(per_seed.std(ddof=1)) if len(per_seed) > 1 else np.nan,
        covered=True,
    )
