"""Rank methods by their mean rank over the unseen cells."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from fergen_bench.report.statistics import ALPHA
from fergen_bench.report.tables import CELL, Board


@dataclass(frozen=True)
class Ranking:
    """Methods by their mean rank over blocks (1 is best), after Demšar (JMLR 2006).

    A block is one source, unseen target and seed. Blocks share trainings and faces, so p is smaller than for as many
    independent ones.
    """

    ranks: pd.Series  # mean rank by the row's name, best first
    blocks: int
    p: float  # of Friedman's test that no method differs from any other
    distance: float  # the critical difference of two mean ranks at 5 % (Nemenyi)
    pairs: pd.DataFrame  # p of each pair (Nemenyi), in the order of ranks

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Return the largest groups of two or more methods without a significant difference, best first."""
        names = list(self.ranks.index)
        found: list[tuple[str, ...]] = []
        for start in range(len(names)):
            alike = [name for name in names[start:] if self.pairs.loc[names[start], name] > ALPHA]
            if len(alike) > 1 and not (found and alike[-1] == found[-1][-1]):
                found.append(tuple(alike))
        return found


def ranking(board: Board, metric: str) -> Ranking | None:
    """Rank the rows of a leaderboard over the blocks that all rows have; None for fewer than three rows or two blocks.

    Rows without a mean over unseen targets are left out. Predictions are not needed.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    whole = board.table.unseen.notna().to_numpy()
    columns = {
        name: cells[cells.relation == "unseen"].set_index([*CELL, "seed"])[metric]
        for (name, cells), kept in zip(board.rows(), whole, strict=True)
        if kept
    }
    if len(columns) < 3:
        return None
    scores = pd.DataFrame(columns).dropna()
    if len(scores) < 2:
        return None
    count, blocks = len(columns), len(scores)
    ranks = pd.Series(rankdata(-scores, axis=1).mean(0), scores.columns).sort_values(kind="stable")
    alike = bool((scores.nunique(axis=1) == 1).all())  # then Friedman's statistic is undefined
    p = 1.0 if alike else float(friedmanchisquare(*(scores[name] for name in scores)).pvalue)
    distance = studentized_range.isf(ALPHA, count, np.inf) / np.sqrt(2) * np.sqrt(count * (count + 1) / (6 * blocks))
    nemenyi = posthoc_nemenyi_friedman(scores.to_numpy())
    nemenyi.index = nemenyi.columns = scores.columns
    return Ranking(ranks, blocks, p, float(distance), nemenyi.loc[ranks.index, ranks.index])
