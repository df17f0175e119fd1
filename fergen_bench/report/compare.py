"""Two rows of a report against each other on a terminal: is the second better on unseen domains, by how much, where, on
which expressions, and how sure is that?
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fergen_bench.datasets.standing import NOT_AUDITED
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.records.record import RunRecord
from fergen_bench.report import data
from fergen_bench.report.evidence import ALPHA, DRAWS, Comparison
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import (
    CONDITIONS,
    NAMES,
    Board,
    number,
    ordered,
    short_mark,
    standing_notes,
    unevenly_scored,
)
from fergen_bench.wording import many


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
    """What else differs between the two, and so may be the reason."""
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


def show_comparison(console: Console, first: Row, second: Row, found: Comparison) -> None:
    """The answer in its first line, then where, on which faces and expressions, and how it was found."""
    console.print(Text(f"{second.name} against {first.name}"), style="bold")
    console.print(Text(second.board.title), style="dim")
    for caveat in (*caveats(first, second), *found.unbalanced):
        console.print(Text(f"warning: {caveat}"), style="yellow")
    console.print(Text(f"\n{answer(first.name, second.name, found)}"), style="bold")
    console.print(Text(_how(found)), style="dim")
    console.print(_where(found))
    for note in standing_notes(first.board.suite, pd.concat([first.cells, second.cells])):
        console.print(Text(note), style="dim")
    console.print(_by_target(found))
    console.print(_by_expression(found))
    if second.board.data:
        console.print(data.block(second.board.data, second.board.synthetic))
    console.print(
        Text(
            f"Points are those of the second minus the first. *: p < {ALPHA:.2g} after Holm, within its table. "
            f"Faces: right in more of the runs of one than of the other (McNemar, exact), for these trainings"
        ),
        style="dim",
    )


def answer(first: str, second: str, found: Comparison) -> str:
    """One sentence: better, worse, or not to be told."""
    unseen, metric = found.unseen, NAMES[found.metric]
    if pd.isna(unseen.value):
        return f"{second} and {first} have no mean to compare: no face of some unseen target was scored."
    if pd.isna(unseen.p):
        spread = f" ± {tenth(found.spread)}" if pd.notna(found.spread) else ""
        by = f"{tenth(unseen.value, signed=True)}{spread} points of {metric}"
        return f"{second} differs from {first} by {by} on unseen targets; how sure that is, cannot be said."
    reach = _range(unseen.low, unseen.high)
    some = "; with one seed of some trainings" if found.unbalanced else "; of these trainings alone, with one seed"
    alone = some if found.seeds < 2 else ""
    how = f"{tenth(unseen.value, signed=True)} points of {metric} (95 %: {reach}, {_p(unseen.p)}{alone})"
    if unseen.p >= ALPHA:
        return f"The data cannot tell {second} from {first} on unseen targets: {how}."
    return f"{second} is {'better' if unseen.value > 0 else 'worse'} than {first} on unseen targets: {how}."


def _how(found: Comparison) -> str:
    unseen = found.cells[found.cells.relation == "unseen"]
    seeds = many(found.seeds, "whole seed" if found.unbalanced else "seed")
    what = f"Mean over {many(len(unseen), 'cell')} that both have, {seeds}"
    if not found.covered:
        return (
            f"{what}, ± over seeds. Not all of their predictions are beside these records, so there are no intervals "
            f"and tests; to have them, give the command that made these records once more, with --rerun"
        )
    alone = "faces, and over seeds where a training has several" if found.unbalanced else "faces alone"
    over = "seeds and faces" if found.seeds > 1 else f"{alone}: other seeds may say something else"
    notes = [f"{what}; paired bootstrap, {DRAWS:,} draws over {over}"]
    small = found.targets[found.targets.faces < 500]
    if len(small):
        notes.append(f"Few faces in {', '.join(small.target)}: differences of a few points there mean little")
    return "\n".join(notes)


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _points(value: float, p_holm: float) -> str:
    """+1.2, with a star where it is sure."""
    return "—" if pd.isna(value) else f"{tenth(value, signed=True)}{'*' if p_holm < ALPHA else ' '}"


def _range(low: float, high: float) -> str:
    return "—" if pd.isna(low) else f"{tenth(low, signed=True)} to {tenth(high, signed=True)}"


def _where(found: Comparison) -> Table:
    table = Table(title="\nWhere: trained on row, scored on column (points)", title_justify="left")
    table.add_column("")
    sources, targets = ordered(found.cells.source, found.cells.target)
    for target in targets:
        table.add_column(target, justify="right")
    for source in sources:
        by_target = found.cells[found.cells.source == source].set_index("target")
        line = []
        for target in targets:
            if target not in by_target.index:
                line.append(Text("—"))
                continue
            cell = by_target.loc[target]
            style = {"source": "cyan", "seen": "dim"}.get(cell.relation, "")
            said = cell.relation if cell.relation == "seen" else "" if cell.audited else short_mark(NOT_AUDITED)
            line.append(Text(" ".join(filter(None, (_points(cell.difference, cell.p_holm), said))), style))
        table.add_row(source, *line)
    return table


def _by_target(found: Comparison) -> Table:
    table = Table(title="\nBy unseen target", title_justify="left")
    for column in ("target", "points", "95 %", "faces", "only first", "only second", "p after Holm"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for row in found.targets.itertuples():
        faces = [f"{count:,.0f}" if pd.notna(count) else "—" for count in (row.faces, row.first_only, row.second_only)]
        p = _p(row.p_holm).removeprefix("p ").removeprefix("= ") if pd.notna(row.p_holm) else "—"
        table.add_row(row.target, tenth(row.difference, signed=True), _range(row.low, row.high), *faces, p)
    return table


def _by_expression(found: Comparison) -> Table:
    table = Table(title="\nBy expression: recall on unseen targets (%)", title_justify="left")
    for column in ("expression", "first", "second", "points", "95 %"):
        table.add_column(column, justify="left" if column == "expression" else "right")
    for row in found.expressions.itertuples():
        points = _points(row.difference, row.p_holm)
        table.add_row(row.expression, number(row.first), number(row.second), points, _range(row.low, row.high))
    return table
