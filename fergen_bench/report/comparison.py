"""Compare two rows of a report: which one is better on unseen domains, where, by how much, and how certain that is.

The comparison covers the mean over unseen targets, each cell, each target and each expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.experiment.run import EXTERNAL
from fergen_bench.records.record import RunRecord
from fergen_bench.report import data
from fergen_bench.report.intervals import ALPHA, Difference, holm
from fergen_bench.report.rounding import tenth
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import CELL, CONDITIONS, NAMES, Board, unevenly_scored
from fergen_bench.wording import listed


@dataclass(frozen=True)
class Row:
    """A row of a leaderboard, with its leaderboard."""

    board: Board
    name: str
    cells: pd.DataFrame

    @property
    def pretraining(self) -> str:
        """Return the pre-training of the row, in words."""
        return str(self.cells.pretraining.iloc[0])


def find_rows(
    boards: Sequence[Board], first: str, second: str, left_out: Mapping[str, str] = MappingProxyType({})
) -> tuple[Row, Row]:
    """Return two rows by their names as tables print them.

    Both come from the first leaderboard that contains both, or else from the two whose conditions differ least.

    Args:
        boards: The leaderboards, in their order.
        first: The name of the first row.
        second: The name of the second row.
        left_out: By the name of a row, the reason why its records are not in any table.

    Raises:
        BenchError: A row does not exist, or its name is ambiguous.
    """
    found: list[list[Row]] = []
    for asked in (first, second):
        rows = [Row(board, name, cells) for board in boards for name, cells in board.rows()]
        meant = [row for row in rows if asked in {row.name, row.cells.method.iloc[0]}]
        if not meant and asked in left_out:
            raise BenchError(f"{asked!r} cannot be compared: {left_out[asked]}")
        if not meant:
            raise BenchError(
                f"there are no records of a row called {asked!r}{did_you_mean(asked, {r.name for r in rows})}"
            )
        found.append(meant)
    pairs = [
        (one, other) for one in found[0] for other in found[1] if one.board is not other.board or one.name != other.name
    ]
    pairs.sort(key=lambda pair: len(differing(*pair)))
    if first == second or not pairs:
        raise BenchError(f"{first!r} and {second!r} are one row; name two, as fergen-bench report prints them")
    one, other = pairs[0]
    for asked, row in ((first, one), (second, other)):
        same = [candidate.name for candidate in found[asked == second] if candidate.board is row.board]
        if len(same) > 1 and asked not in same:
            raise BenchError(f"{asked!r} may be {' or '.join(same)}, which differ in pre-training; name one of these")
    return one, other


def require_same_data(first: Row, second: Row, records: Sequence[RunRecord]) -> None:
    """Raise an error if the two rows were trained or scored on different data of a domain, such as other labels.

    Raises:
        BenchError: The data of a domain differ.
    """
    one, other = ([r for r in records if r.spec.key in set(row.cells.key)] for row in (first, second))
    if found := data.unlike(one, other, {**first.board.data, **second.board.data}):
        raise BenchError(
            f"{first.name} and {second.name} were run on different data of {found}; run both on one of them, or leave "
            f"the domain out with --sources and --targets"
        )


def differing(first: Row, second: Row) -> list[str]:
    """Return the conditions in which the leaderboards of two rows differ."""
    return [name for name in CONDITIONS if getattr(first.board, name) != getattr(second.board, name)]


def caveats(first: Row, second: Row) -> list[str]:
    """Return other differences between the two rows, which may explain the result."""
    found = [
        f"{name} differs: {getattr(first.board, name)} and {getattr(second.board, name)}"
        for name in differing(first, second)
    ]
    if first.pretraining != second.pretraining:
        found.append(f"pre-training differs: {first.pretraining} and {second.pretraining}")
    if (one := first.cells.numerics.iloc[0]) != (other := second.cells.numerics.iloc[0]):
        found.append(f"numerics differ: {one} and {other}; repeat the command that made the older row")
    if mixed := unevenly_scored(pd.concat([first.cells, second.cells])):
        found.append(
            f"not the same faces of {', '.join(mixed)} are scored: near-duplicates could be left out of some runs "
            f"alone, as the predictions of others are missing; give the command that made those once more, with --rerun"
        )
    return found


def answer(first: str, second: str, found: Comparison) -> str:
    """Return the result in one sentence: better, worse, or not significantly different."""
    unseen, metric = found.unseen, NAMES[found.metric]
    if pd.isna(unseen.value):
        return f"{second} and {first} have no mean to compare: no face of some unseen target was scored."
    if pd.isna(unseen.low) and pd.isna(unseen.p):
        spread = f" ± {tenth(found.spread)}" if pd.notna(found.spread) else ""
        by = f"{tenth(unseen.value, signed=True)}{spread} points of {metric}"
        return (
            f"{second} differs from {first} by {by} on unseen targets. The data give no interval for this difference."
        )
    reach = range_text(unseen.low, unseen.high)
    if pd.isna(unseen.p):
        return (
            f"No verdict, since not every source has two trainings in both rows. For these trainings only, {second} "
            f"differs from {first} on unseen targets by {tenth(unseen.value, signed=True)} points of {metric} "
            f"(95 % over faces: {reach})."
        )
    how = f"{tenth(unseen.value, signed=True)} points of {metric} (95 %: {reach}, {p_text(unseen.p)})"
    if unseen.p >= ALPHA:
        return f"{second} is not significantly different from {first} on unseen targets: {how}."
    return f"{second} is {'better' if unseen.value > 0 else 'worse'} than {first} on unseen targets: {how}."


@dataclass(frozen=True)
class Comparison:
    """Second minus first on the cells that both rows have, in points.

    In the frames, p_holm is p corrected for the rows of the frame. Single cells have no p: their few trainings are not
    enough for one.

    Attributes:
        metric: The name of the metric.
        unseen: The difference of the means over unseen targets.
        cells: source, target, relation, audited, difference.
        targets: target, faces, difference, low, high, p, p_holm.
        expressions: expression, first, second, difference, low, high, p, p_holm, over unseen targets.
        seeds: The number of seeds with every source and target.
        spread: The standard deviation over these seeds of the difference on unseen targets; nan below two.
        covered: Whether predictions are stored for all cells.
        unbalanced: A sentence for each part that only some seeds, or only one of the rows, have.
    """

    metric: str
    unseen: Difference
    cells: pd.DataFrame
    targets: pd.DataFrame
    expressions: pd.DataFrame
    seeds: int
    spread: float
    covered: bool
    unbalanced: tuple[str, ...] = ()


def _comparable(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the cells of two rows that can be paired: those on unseen targets if one of the rows alone adapts."""
    if first.adaptation.any() == second.adaptation.any():
        return first, second
    one, other = (row[row.relation == "unseen"].assign(adapted_to="") for row in (first, second))
    return one, other


def shared(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the cells that two rows share, by source, target and seed, in one order.

    If a training lacks a target for some seed, that seed is left out.

    Args:
        first: The cells of a row, see `_comparable`.
        second: Those of the other row.
    """
    on = [*CELL, "seed"]
    both = first[on].merge(second[on], on=on)
    training = both.groupby(["source", "adapted_to"])
    whole = both.groupby(["source", "adapted_to", "seed"]).target.transform("size") == training.target.transform(
        "nunique"
    )
    both = both[whole]
    return both.merge(first, on=on, how="left"), both.merge(second, on=on, how="left")


def compare(first: pd.DataFrame, second: pd.DataFrame, evidence: Evidence, metric: str) -> Comparison:
    """Compare two rows of a report by their cells.

    Raises:
        BenchError: The rows share no cell of an unseen target.
    """
    rows = _comparable(first, second)
    first, second = shared(*rows)
    # Finished models differ in the data that they have seen.
    unseen = ((first.relation == "unseen") & (second.relation == "unseen")).to_numpy()
    if not unseen.any():
        names = [str(row.method.iloc[0]) for row in rows]
        finished = [name for name in names if name.startswith(EXTERNAL)]
        if len(finished) == 1:
            raise BenchError(
                f"{finished[0]} was trained elsewhere, so it shares no training with a row of runs; compare it with "
                f"another finished model. fergen-bench report shows both"
            )
        if unknown := [name for name, row in zip(names, rows, strict=True) if row.relation.eq("unknown").any()]:
            raise BenchError(
                f"nobody stated what {listed(unknown)} learned from, so no target is known to be unseen for both; "
                f"state it with fergen-bench evaluate … --trained-on"
            )
        one, other = (f"{row.method.iloc[0]} ({_named(_trainings(row))})" for row in rows)
        raise BenchError(
            f"{one} and {other} share no source, seed and unseen target, so nothing can be compared; run both with the "
            f"same --sources, --targets and --seeds"
        )
    one, other = first[unseen], second[unseen]
    cells = [
        {
            "source": source,
            "target": target,
            "relation": group.relation.iloc[0],
            "audited": group.audited.all(),
            "difference": float((second.loc[group.index, metric] - group[metric]).mean()),
        }
        for (source, target), group in first.groupby(["source", "target"], sort=False)
    ]
    targets = [
        {"target": target, "faces": int(group.faces.max())}
        | _line(evidence.difference(group, other.loc[group.index], metric))
        for target, group in one.groupby("target", sort=False)
    ]
    expressions = []
    for name in EXPRESSIONS:
        recall = f"recall_{name}"
        there = one[recall].notna() & other[recall].notna()
        mean = {"expression": name, "first": one[recall][there].mean(), "second": other[recall][there].mean()}
        difference = evidence.difference(one[there], other[there], recall) if there.any() else Difference(np.nan)
        expressions.append(mean | _line(difference))
    by_target, by_expression = (pd.DataFrame(lines) for lines in (targets, expressions))
    by_target, by_expression = (frame.assign(p_holm=holm(frame.p)) for frame in (by_target, by_expression))
    overall = evidence.difference(one, other, metric)
    covered = evidence.covers(first) and evidence.covers(second)
    whole = one[_of_whole_seeds(one)]
    per_seed = (other[metric] - one[metric])[whole.index].groupby(whole.seed).mean()
    seeds = len(per_seed), float(per_seed.std(ddof=1))
    unbalanced = (*_unbalanced(one), *_left_out(*rows, first))
    return Comparison(metric, overall, pd.DataFrame(cells), by_target, by_expression, *seeds, covered, unbalanced)


def _of_whole_seeds(cells: pd.DataFrame) -> pd.Series:
    """Mark the cells of seeds that have every source and target of the others."""
    return cells.groupby("seed").key.transform("size") == len(cells.drop_duplicates(CELL))


def _unbalanced(cells: pd.DataFrame) -> list[str]:
    """Return sentences on seeds that have only some of the sources and targets."""
    found = []
    sources = list(dict.fromkeys(cells.source))
    for seed, part in cells[~_of_whole_seeds(cells)].groupby("seed"):
        own = [name for name in sources if name in set(part.source)]
        of = f" of {len(sources)}" if len(own) < len(sources) else ""
        found.append(
            f"seed {seed} has {len(own)}{of} source{'s' * (len(sources) > 1)} ({', '.join(own)}), "
            f"{len(part)} of {len(cells.drop_duplicates(CELL))} unseen cells"
        )
    return found


def _left_out(first: pd.DataFrame, second: pd.DataFrame, both: pd.DataFrame) -> list[str]:
    """Return sentences on the trainings and targets that the comparison leaves out, with the reason.

    Args:
        first: The cells of a row.
        second: Those of the other row.
        both: The cells that are compared.
    """
    cells, compared = {"first": first, "second": second}, _trainings(both)
    known = {which: _trainings(row) for which, row in cells.items()}
    found = []
    for which, other in (("first", "second"), ("second", "first")):
        if alone := known[which].keys() - known[other].keys():
            found.append(f"left out, since the {which} row alone has it: {_named(alone)}")
    if partial := (known["first"].keys() & known["second"].keys()) - compared.keys():
        found.append(f"left out, since the two rows do not share all of its targets: {_named(partial)}")
    for which in cells:
        extra: dict[str, set[str]] = {}
        for training, names in compared.items():
            for name in known[which][training] - names:
                extra.setdefault(name, set()).add(training[0])
        if extra:
            there = "; ".join(f"{name} (trained on {listed(sorted(of))})" for name, of in sorted(extra.items()))
            found.append(f"left out, since the {which} row alone is scored there: {there}")
    return found


_Training = tuple[str, str, int]
"""Source, the target that it adapted to, and seed."""


def _trainings(cells: pd.DataFrame) -> dict[_Training, set[str]]:
    """Return the targets of each training."""
    found: dict[_Training, set[str]] = {}
    for source, adapted_to, seed, target in zip(cells.source, cells.adapted_to, cells.seed, cells.target, strict=True):
        found.setdefault((source, adapted_to, int(seed)), set()).add(target)
    return found


def _named(trainings: Iterable[_Training]) -> str:
    """Return trainings as text: web, seed 0, 1; film adapted to web, seed 2."""
    seeds: dict[str, list[str]] = {}
    for source, adapted_to, seed in sorted(trainings):
        name = f"{source} adapted to {adapted_to}" if adapted_to else source
        seeds.setdefault(name, []).append(str(seed))
    return "; ".join(f"{name}, seed {', '.join(own)}" for name, own in seeds.items())


def _line(difference: Difference) -> dict[str, float]:
    return {"difference": difference.value, "low": difference.low, "high": difference.high, "p": difference.p}


def p_text(value: float) -> str:
    """Return p as text with three decimals, such as "p = 0.012", or "p < 0.001"."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def range_text(low: float, high: float) -> str:
    """Return an interval as text, such as "-0.4 to +1.2", or — for nan."""
    return "—" if pd.isna(low) else f"{tenth(low, signed=True)} to {tenth(high, signed=True)}"
