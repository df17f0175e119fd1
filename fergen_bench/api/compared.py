"""The comparison of two rows of a leaderboard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from fergen_bench.report.comparison import Comparison, Row


@dataclass(frozen=True)
class Compared:
    """The comparison of two rows of a leaderboard: second minus first, in points, on the cells that both have."""

    first: Row
    second: Row
    found: Comparison
    faults: tuple[str, ...] = ()  # of files with predictions that cannot be read

    @property
    def difference(self) -> float:
        """The difference of the means over unseen targets, in points."""
        return self.found.unseen.value

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference, by paired bootstrap; NaN where predictions are missing."""
        return self.found.unseen.low, self.found.unseen.high

    @property
    def domains_interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference on other domains than these; NaN for fewer than three."""
        return self.found.unseen.domains_low, self.found.unseen.domains_high

    @property
    def p(self) -> float:
        """The p-value of the difference; NaN where predictions are missing or a source has one training."""
        return self.found.unseen.p

    @property
    def unbalanced(self) -> tuple[str, ...]:
        """A sentence for each part that only some seeds, or only one of the rows, have, and what is left out."""
        return self.found.unbalanced

    @property
    def cells(self) -> pd.DataFrame:
        """The difference of every cell: one row per source and target."""
        return self.found.cells

    @property
    def targets(self) -> pd.DataFrame:
        """The difference of every unseen target, with interval, p and p after Holm."""
        return self.found.targets

    @property
    def expressions(self) -> pd.DataFrame:
        """The recall of every expression on unseen targets, and its difference."""
        return self.found.expressions

    def __str__(self) -> str:
        from fergen_bench.report.comparison import answer

        return "\n".join([answer(self.first.name, self.second.name, self.found), *self.unbalanced])

    __repr__ = __str__
