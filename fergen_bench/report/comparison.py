"""Two rows of a report against each other on a terminal: is the second better on unseen domains, by how much, where, on
which expressions, and how sure is that?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.records.record import RunRecord
from fergen_bench.report import data
from fergen_bench.report.rounding import tenth
from fergen_bench.report.statistics import ALPHA, Difference, Evidence, holm, mcnemar
from fergen_bench.report.tables import CELL, CONDITIONS, NAMES, Board, unevenly_scored


@dataclass(frozen=True)
class Row:
    """A row of a leaderboard, and where it stands."""

    board: Board
    name: str
    cells: pd.DataFrame

    @property
    def pretraining(self) -> str:
        return str(self.cells.pretraining.iloc[0])


def find_rows(
    boards: Sequence[Board], first: str, second: str, left_out: Mapping[str, str] = MappingProxyType({})
) -> tuple[Row, Row]:
    """Two rows by their names as tables print them, on the first leaderboard that has both, else on two that differ.
    BenchError where there is no such row, or nothing says which is meant. left_out: why records of a row, by its name,
    are in no table.
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
    pairs.sort(key=lambda pair: pair[0].board is not pair[1].board)
    if first == second or not pairs:
        raise BenchError(f"{first!r} and {second!r} are one row; name two, as fergen-bench report prints them")
    one, other = pairs[0]
    for asked, row in ((first, one), (second, other)):
        same = [candidate.name for candidate in found[asked == second] if candidate.board is row.board]
        if len(same) > 1 and asked not in same:
            raise BenchError(f"{asked!r} may be {' or '.join(same)}, which differ in pre-training; name one of these")
    return one, other


def require_same_data(first: Row, second: Row, records: Sequence[RunRecord]) -> None:
    """Refuses two rows of which one was trained or scored on other data of some domain, such as other labels."""
    one, other = ([r for r in records if r.spec.key in set(row.cells.key)] for row in (first, second))
    if found := data.unlike(one, other, {**first.board.data, **second.board.data}):
        raise BenchError(
            f"{first.name} and {second.name} were run on different data of {found}; run both on one of them, or leave "
            f"the domain out with --sources and --targets"
        )


def caveats(first: Row, second: Row) -> list[str]:
    """Return other differences between the two rows, which may explain the result."""
    found = [
        f"{name} differs: {getattr(first.board, name)} and {getattr(second.board, name)}"
        for name in CONDITIONS
        if getattr(first.board, name) != getattr(second.board, name)
    ]
    if first.pretraining != second.pretraining:
        found.append(f"pre-training differs: {first.pretraining} and {second.pretraining}")
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
    if pd.isna(unseen.p):
        spread = f" ± {tenth(found.spread)}" if pd.notna(found.spread) else ""
        by = f"{tenth(unseen.value, signed=True)}{spread} points of {metric}"
        return f"{second} differs from {first} by {by} on unseen targets; how sure that is, cannot be said."
    reach = range_text(unseen.low, unseen.high)
    some = "; with one seed of some trainings" if found.unbalanced else "; of these trainings alone, with one seed"
    alone = some if found.seeds < 2 else ""
    how = f"{tenth(unseen.value, signed=True)} points of {metric} (95 %: {reach}, {p_text(unseen.p)}{alone})"
    if unseen.p >= ALPHA:
        return f"The data cannot tell {second} from {first} on unseen targets: {how}."
    return f"{second} is {'better' if unseen.value > 0 else 'worse'} than {first} on unseen targets: {how}."


@dataclass(frozen=True)
class Comparison:
    """Second minus first on what both have, in points. In the frames, p_holm is p corrected for the rows of the frame.

    cells: source, target, relation, audited, difference, low, high, p, p_holm. targets: target, faces, difference, low,
    high, first_only, second_only (faces), p, p_holm of McNemar's test. expressions: expression, first, second,
    difference, low, high, p, p_holm, over unseen targets.
    """

    metric: str
    unseen: Difference
    cells: pd.DataFrame
    targets: pd.DataFrame
    expressions: pd.DataFrame
    seeds: int  # that have every source and target
    spread: float  # of the mean over unseen targets, between these seeds; nan below two
    covered: bool  # whether there are predictions of all of it
    unbalanced: tuple[str, ...] = ()  # one sentence for each thing that only some seeds, or one of the rows, have


def shared(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells that two rows share, by source, target and seed, in one order. Of a training that lacks a target for
    some seed, that seed is left out.
    """
    if (
        first.adaptation.any() != second.adaptation.any()
    ):  # then a cell on an unseen target is the same question to both
        first, second = (row[row.relation == "unseen"].assign(adapted_to="") for row in (first, second))
    on = [*CELL, "seed"]
    both = first[on].merge(second[on], on=on)
    training = both.groupby(["source", "adapted_to"])
    whole = both.groupby(["source", "adapted_to", "seed"]).target.transform("size") == training.target.transform(
        "nunique"
    )
    both = both[whole]
    return both.merge(first, on=on, how="left"), both.merge(second, on=on, how="left")


def compare(first: pd.DataFrame, second: pd.DataFrame, evidence: Evidence, metric: str) -> Comparison:
    """Two rows of a report, by their cells. Raises BenchError where they share no cell of an unseen target."""
    rows = first, second
    first, second = shared(first, second)
    unseen = (first.relation == "unseen").to_numpy()
    if not unseen.any():
        raise BenchError(
            "the two share no source, seed and unseen target, so nothing can be compared; run both with the same "
            "--sources, --targets and --seeds"
        )
    one, other = first[unseen], second[unseen]
    cells = [
        {"source": source, "target": target, "relation": group.relation.iloc[0], "audited": group.audited.all()}
        | _line(evidence.difference(group, second.loc[group.index], metric))
        for (source, target), group in first.groupby(["source", "target"], sort=False)
    ]
    targets = []
    for target, group in one.groupby("target", sort=False):
        found = evidence.discordant(group, other.loc[group.index])
        line = _line(evidence.difference(group, other.loc[group.index], metric))
        counts = (np.nan, np.nan) if found is None else found
        faces = {"target": target, "faces": int(group.faces.max()), "first_only": counts[0], "second_only": counts[1]}
        p = np.nan if found is None or np.isnan(line["difference"]) else mcnemar(*found)
        targets.append(faces | line | {"p": p})
    expressions = []
    for name in EXPRESSIONS:
        recall = f"recall_{name}"
        there = one[recall].notna() & other[recall].notna()
        mean = {"expression": name, "first": one[recall][there].mean(), "second": other[recall][there].mean()}
        difference = evidence.difference(one[there], other[there], recall) if there.any() else Difference(np.nan)
        expressions.append(mean | _line(difference))
    frames = [pd.DataFrame(rows) for rows in (cells, targets, expressions)]
    by_cell, by_target, by_expression = (frame.assign(p_holm=holm(frame.p)) for frame in frames)
    overall = evidence.difference(one, other, metric)
    covered = evidence.covers(first) and evidence.covers(second)
    whole = one[_of_whole_seeds(one)]
    per_seed = (other[metric] - one[metric])[whole.index].groupby(whole.seed).mean()
    seeds = len(per_seed), float(per_seed.std(ddof=1))
    unbalanced = (*_unbalanced(one), *_of_one_alone(*rows, first))
    return Comparison(metric, overall, by_cell, by_target, by_expression, *seeds, covered, unbalanced)


def _of_whole_seeds(cells: pd.DataFrame) -> pd.Series:
    """Mark the cells of seeds that have every source and target of the others."""
    return cells.groupby("seed").key.transform("size") == len(cells.drop_duplicates(CELL))


def _unbalanced(cells: pd.DataFrame) -> list[str]:
    """Sentences on seeds that have some of the sources and targets only."""
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


def _of_one_alone(first: pd.DataFrame, second: pd.DataFrame, both: pd.DataFrame) -> list[str]:
    """Sentences on what one of two rows has and the comparison does not."""
    found = []
    for which, row in (("first", first), ("second", second)):
        runs = row.drop_duplicates("key").merge(both[["source", "seed"]].drop_duplicates(), "left", indicator=True)
        alone = runs[runs["_merge"] == "left_only"]
        if len(alone):
            names = "; ".join(
                f"{source}, seed {', '.join(map(str, sorted(set(part.seed))))}"
                for source, part in alone.groupby("source", sort=False)
            )
            found.append(f"left out, since the {which} row alone has it: {names}")
    return found


def _line(difference: Difference) -> dict[str, float]:
    return {"difference": difference.value, "low": difference.low, "high": difference.high, "p": difference.p}


def p_text(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def range_text(low: float, high: float) -> str:
    return "—" if pd.isna(low) else f"{tenth(low, signed=True)} to {tenth(high, signed=True)}"
