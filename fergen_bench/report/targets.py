"""Build the table of methods by unseen target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fergen_bench.report.intervals import limits
from fergen_bench.report.leaderboard import LeaderboardView, Mean
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import complete


@dataclass(frozen=True)
class TargetLine:
    """A row of the table: the mean over the sources that each target is unseen for, by target.

    Attributes:
        name: The row's name in the leaderboard.
        means: By target; a target without unseen cells is absent.
    """

    name: str
    means: dict[str, Mean]


def by_target(view: LeaderboardView, evidence: Evidence) -> tuple[list[str], list[TargetLine]]:
    """Return the targets that are unseen for some source, in the order of the suite, and the rows, best first.

    Args:
        view: The leaderboard.
        evidence: The stored predictions.
    """
    lines = []
    for name, cells in view.board.rows():
        whole = complete(cells, view.board.asked)
        unseen = whole[whole.relation == "unseen"]
        sampled = evidence.target_means(whole, view.metric) if evidence.covers(whole) else {}
        means = {}
        for target, own in unseen.groupby("target", sort=False):
            seeds = own.groupby("seed")[view.metric].mean()
            value, sd = float(seeds.mean()), float(seeds.std(ddof=1)) if len(seeds) > 1 else np.nan
            ends = limits(value, sampled[str(target)]) if target in sampled else (np.nan, np.nan)
            means[str(target)] = Mean(value, sd, *ends)
        lines.append(TargetLine(name, means))
    there = {target for line in lines for target in line.means}
    return [target for target in view.board.targets if target in there], lines
