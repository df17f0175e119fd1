"""How tables look: on a terminal, in Markdown, CSV and LaTeX; and which files a report consists of."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fergen_bench.data.corruption import CLEAN, FACTORS
from fergen_bench.experiment.run import percent
from fergen_bench.report import data, plots
from fergen_bench.report.evidence import ranking
from fergen_bench.report.leaderboard import LeaderboardView, leaderboard_frame
from fergen_bench.report.published import Published, beside, concerned, reprinted, summary
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import (
    CELL,
    COLLAPSED,
    CONDITIONS,
    ONE_CLASS,
    ROW,
    Board,
    mark_notes,
    matrix,
    number,
    shift_boards,
    shift_means,
    short_mark,
    standing_notes,
    unevenly_scored,
)

RENDERED = {"synth", "synth-trunk"}
"""The packaged networks, which saw rendered faces alone. Without weights (…/scratch) they saw nothing."""
COLUMNS = {"in_domain": "in-domain", "all": "all targets", "unseen": "unseen", "worst": "worst unseen"}


@dataclass(frozen=True)
class Ablation:
    """A protocol with variants: the changes that each of its variants makes, as records keep them."""

    protocol: str
    suite: str
    about: str
    method: str
    variants: Mapping[str, str]
    published: Mapping[str, float] = field(default_factory=dict)  # accuracies that a paper printed for variants
    printed_in: str = ""


# ------------------------------------------------------------------------------------------------------------- terminal


def show(
    console: Console,
    all_boards: Sequence[Board],
    metric: str,
    published: Iterable[Published] = (),
    shifted: pd.DataFrame | None = None,
) -> None:
    """Leaderboards and the matrix of each method; of boards that differ in the share of the data alone one table, and
    one of what shifts do; and in grey below them the published tables about any of their domains.
    """
    for boards in by_share(all_boards):
        several = len(boards) > 1
        for board in boards:
            if several and board.fraction < 1:
                continue
            console.print(_fitting(console, partial(_leaderboard, board, metric)))
            if board.data:
                console.print(data.block(board.data, board.synthetic))
            for name, group in board.rows():
                console.print(_fitting(console, partial(_matrix, board, name, group, metric)))
        if several:
            console.print(_shares(boards, metric))
    for board in shift_boards(pd.DataFrame() if shifted is None else shifted):
        console.print(_shift(board, metric))
    for table in published:
        if near := concerned(table, all_boards):
            console.print(_published(table, near, metric))


def by_share(all_boards: Iterable[Board]) -> list[list[Board]]:
    """Leaderboards in sets that differ in the share of the data alone, each with the largest share first."""
    sets: dict[tuple[Any, ...], list[Board]] = {}
    for board in all_boards:
        same = tuple(getattr(board, name) for name in CONDITIONS if name != "fraction")
        sets.setdefault(same, []).append(board)
    return list(sets.values())


def _fitting(console: Console, draw: Callable[[bool], tuple[Table, list[str]]]) -> RenderableType:
    """A table and its notes, with each number on one line where the terminal has room, else in as many as it takes."""
    table, notes = draw(False)
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum > console.width:
        table, notes = draw(True)
    return _noted([table], notes)


def _noted(tables: Iterable[Table], notes: Iterable[str]) -> RenderableType:
    return Padding(Group(*tables, *(Text(note, style="dim") for note in notes)), (1, 0, 0, 0))


def _leaderboard(board: Board, metric: str, stacked: bool) -> tuple[Table, list[str]]:
    between = "\n" if stacked else " "
    table = Table(title=f"Leaderboard, {plots.NAMES[metric]} (%)", title_justify="left")
    sure = _sure(board)
    # 80 characters in all, where that is what there is.
    partial = max(len(part) for row in board.table.itertuples() for part in ("seeds", *board.seeds(row).split()))
    room = (19 if sure else 23) - (partial - len("seeds"))
    table.add_column("method", overflow="fold", min_width=room if stacked else None)
    for name in COLUMNS.values():
        width = len(max(name.split(), key=len)) if stacked else None
        table.add_column(name.replace(" ", between), justify="right", min_width=width)
    if sure:
        table.add_column("95\u00a0% of unseen".replace(" ", between), justify="right")
    table.add_column("seeds", justify="right")
    names, several = board.names(), len(board.marks) > 1
    for row in board.table.itertuples():
        numbers = [_spread(getattr(row, column), getattr(row, column + "_sd"), stacked) for column in COLUMNS]
        if row.unseen_not_audited:
            for place, column in enumerate(COLUMNS):
                if column in {"unseen", "worst"}:
                    numbers[place] += Text(" ?", style="dim")
        name = names[row.method, row.pretraining]
        mark = f" {board.marks[row.pretraining]}" if several and name == row.method else ""
        seeds = board.seeds(row).replace(" ", between)
        if sure:
            tied = Text(f"{between}tied" if row.standing == "tied" else "", style="bold")
            ends = interval(row.unseen_low, row.unseen_high)
            numbers.append(Text(ends.replace("–", "\n–") if stacked else ends) + tied)
        table.add_row(Text(name) + Text(mark, style="dim"), *numbers, seeds)
    return table, [board.title, *board_notes(board)]


def _shares(boards: Sequence[Board], metric: str) -> RenderableType:
    """Mean over unseen targets by method and share of the data."""
    first = min(boards, key=lambda board: board.fraction)
    rows = list(dict.fromkeys(pair for board in boards for pair in board.names()))
    several = len({method for method, _ in rows}) < len(rows)
    table = Table(title=f"Unseen targets by share of the data, {plots.NAMES[metric]} (%)", title_justify="left")
    table.add_column("method", overflow="fold")
    for board in boards:
        table.add_column(percent(board.fraction), justify="right")
    tables = [board.table.set_index(ROW) for board in boards]
    for row in rows:
        found = (means.loc[row] if row in means.index else None for means in tables)
        numbers = (Text("—") if line is None else _spread(line.unseen, line.unseen_sd, True) for line in found)
        table.add_row(f"{row[0]} [{row[1]}]" if several else row[0], *numbers)
    notes = [first.title.rpartition(", ")[0], "The leaderboard of each share, and its notes, are on the page"]
    return _noted([table], notes)


def _shift(board: Board, metric: str) -> RenderableType:
    """What factors do: a table for those with the same levels."""
    grids: dict[tuple[str, ...], list[tuple[str, list[str]]]] = {}
    for factor in _factors(board):
        head, *lines = _shift_rows(board, factor, metric, spread=False)
        grids.setdefault(tuple(head), []).extend((factor, line) for line in lines)
    parts: list[Table] = []
    for names, rows in grids.items():
        kept = [place for place, name in enumerate(names) if name not in {"pre-training", "seeds"}]
        title = f"Under controlled shift, {plots.NAMES[metric]} (%)"
        table = Table(title=None if parts else title, title_justify="left")
        table.add_column("factor")
        for place in kept:
            justify: Any = "left" if names[place] in {"method", "targets"} else "right"
            table.add_column(names[place], justify=justify, overflow="fold")
        previous = ""
        for factor, line in rows:
            table.add_row("" if factor == previous else factor, *(line[place] for place in kept))
            previous = factor
        parts.append(table)
    return _noted(parts, [board.title, _shift_note(board)])


def _sure(board: Board) -> bool:
    """Whether there is an interval to show: without predictions a column of dashes says nothing."""
    return bool(board.table.unseen_low.notna().any())


def interval(low: float, high: float) -> str:
    """79.8–81.2, or — where there is none."""
    return "—" if pd.isna(low) else f"{tenth(low)}–{tenth(high)}"


def _spread(value: float, spread: float, stacked: bool, style: str = "") -> Text:
    """A number, with its spread beside it where it has one; or on a line below, where columns are narrow."""
    text = Text(number(value), style=style)
    return (
        text
        if pd.isna(spread)
        else text + Text(f"\n±{tenth(spread)}" if stacked else f" ± {tenth(spread)}", style="dim")
    )


def board_notes(board: Board) -> list[str]:
    """What must be said below a leaderboard, pre-training first."""
    return [*board_facts(board), *board_cautions(board)]


def board_facts(board: Board, mean: str = "the unseen mean") -> list[str]:
    """How to read a leaderboard, pre-training first. mean: of which there are intervals."""
    if len(board.marks) == 1:
        notes = [f"Pre-training of all: {next(iter(board.marks))}"]
    else:
        kinds = "; ".join(f"{mark}: {kind}" for kind, mark in board.marks.items())
        notes = [f"Pre-training differs between rows: {kinds}"]
    # A target has several counts where a profile scores other faces of it for its own source, or near-duplicates are
    # left out.
    several = board.cells.groupby("target", sort=False).faces.unique()
    shown = (f"{target} {' or '.join(f'{c:,}' for c in sorted(counts))}" for target, counts in several.items())
    notes.append("Faces scored: " + ", ".join(shown))
    if _sure(board):
        over = "seeds and faces" if board.table.seeds.max() > 1 else "faces; seeds may differ by more"
        notes.append(f"95 %: interval of {mean}, by bootstrap over {over}")
    how = "at 5 % (paired, all pairs of rows considered at once)"
    if (board.table.standing == "tied").any():
        notes.append(f"Tied: not to be told from the best on unseen targets {how}")
    elif (board.table.standing == "behind").any():
        notes.append(f"No row is tied with the best on unseen targets {how}")
    return notes


def board_cautions(board: Board) -> list[str]:
    """What may mislead a reader of a leaderboard."""
    notes = data.cautions(board.data)
    counts = board.cells.groupby("target", sort=False).faces.min()
    small = [target for target, count in counts.items() if count < 500]
    if small:
        notes.append(f"Few faces in {', '.join(small)}: differences of a few points there mean little")
    untrained = [target for target in counts.index if target not in set(board.cells.source)]
    if board.sources == 1 and untrained:
        notes.append(f"Not the whole matrix: nothing was trained on {', '.join(untrained)}")
    if board.adaptation:
        notes.append("Each run also learned from the training images of its target, without their labels")
    notes += _collapsed(board)
    words = [part.split() for kind in board.marks for part in kind.split(", ")]
    rendered = sorted({name for name, *digest in words if name in RENDERED and digest})
    if rendered and not board.synthetic:
        notes.append(
            f"Pre-training on rendered faces alone ({', '.join(rendered)}), and these are photographs: an encoder that "
            f"saw photographs may change every number here; name one with --backbone"
        )
    notes += _unsure(board)
    if board.cells.device.nunique() > 1:
        found = "; ".join(sorted(set(board.cells.device)))
        notes.append(f"Runs were made on different devices, whose seconds are not to be compared: {found}")
    if board.table.seeds.max() < 2:
        notes.append("One seed: no spread can be told")
    notes += _unseen_cells(board)
    notes += standing_notes(board.suite, board.cells)
    if mixed := unevenly_scored(board.cells):
        notes.append(
            f"Not to be compared: near-duplicates are left out of {', '.join(mixed)} in some runs and scored in "
            f"others; give the command that made those once more, with --rerun"
        )
    for method, said in board.cells[board.cells.note != ""].groupby("base_method").note.first().items():
        notes.append(f"{method}: {said}")
    for row in board.table[board.table.texts > 1].itertuples():
        notes.append(f"{row.method}: its records were made by {row.texts} different texts of the method file")
    return notes


def _unseen_cells(board: Board) -> list[str]:
    """On how many cells the unseen mean stands, where seen ones are missing in it."""
    of_seed = board.cells.drop_duplicates(CELL)
    between, unseen = (of_seed.relation != "source").sum(), (of_seed.relation == "unseen").sum()
    if unseen == between:
        return []
    if not unseen:
        return [f"No unseen mean: all {between} cells between domains are seen"]
    return [f"The unseen mean stands on {unseen} of the {between} cells between domains; the others are seen"]


MOST_NAMED = 6
"""Cells that a note names at most."""


def _collapsed(board: Board) -> list[str]:
    """Cells in which nearly every face was called the same."""
    found = list[str]()
    for name, cells in board.rows() if "collapsed" in board.cells else ():
        for (source, said), part in cells[cells.collapsed != ""].groupby(["source", "collapsed"], sort=False):
            targets = ", ".join(dict.fromkeys(part.target))
            seeds = ", ".join(map(str, sorted(set(part.seed))))
            found.append(f"{name} trained on {source} with seed {seeds} calls {targets} {said}")
    if not found:
        return []
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return [
        f"Marked {ONE_CLASS}: over {100 * COLLAPSED:.0f} % of the faces are called one expression, so the number says "
        f"only how frequent that is: {'; '.join(found[:MOST_NAMED])}{more}"
    ]


def _unsure(board: Board) -> list[str]:
    """Rows with means and without intervals: nobody may take them for tied, or for behind."""
    names, table = board.names(), board.table[board.table.unseen.notna()]
    lacking = table.unseen_low.isna()
    if not lacking.any():
        return []
    again = "to have them, give the command that made these records once more, with --rerun"
    if lacking.all():
        return [f"No intervals, and no word on which rows are tied: predictions are not beside all records; {again}"]
    rows = ", ".join(names[row.method, row.pretraining] for row in table[lacking].itertuples())
    which = "no row is compared with the best" if lacking.iloc[0] else "they are not compared with the best"
    return [f"Predictions are not beside all records of {rows}: no intervals there, and {which}; {again}"]


def _matrix(board: Board, method: str, cells: pd.DataFrame, metric: str, stacked: bool) -> tuple[Table, list[str]]:
    found = matrix(cells, metric)
    kind = "synthetic faces, " if board.synthetic else ""
    title = f"{method}: trained on row, scored on column ({kind}{plots.NAMES[metric]}, %)"
    table = Table(title=title, title_justify="left", show_lines=stacked and found.spread.notna().any(axis=None))
    table.add_column("", no_wrap=True)
    for target in found.mean.columns:
        table.add_column(target, justify="right")
    table.add_column("unseen", justify="right", style="bold", no_wrap=True)
    table.add_column("gap", justify="right", style="dim", no_wrap=True)
    styles = {"source": "cyan", "seen": "dim"}
    for source, places, unseen, gap in found.lines():
        row = []
        for place in places:
            text = _spread(place.value, place.sd, stacked, styles.get(place.relation, ""))
            short = short_mark(place.mark)  # narrow enough for 80 columns; what it means stands below
            row.append(text + Text(f"{' ' if len(short) == 1 else chr(10)}{short}", style="dim") if short else text)
        table.add_row(source, *row, number(unseen), number(gap))
    table.add_section()
    table.add_row("gap", *map(number, found.target_gaps), "", "", style="dim")
    return table, [GAP, *mark_notes(found.marks.to_numpy().ravel())]


def _published(published: Published, real: list[Board], metric: str) -> RenderableType:
    frame = summary(published)
    table = Table(
        title=f"Published, not measured here: {published.about}",
        title_justify="left",
        style="dim",
        title_style="dim italic",
    )
    for column in frame.columns:
        table.add_column(column, justify="left" if column == "method" else "right", style="grey50")
    for row in frame.itertuples(index=False):
        table.add_row(row[0], *(number(value) for value in row[1:]))
    notes = [PUBLISHED, *published.notes]
    parts: list[RenderableType] = [table, *(Text(note, style="grey50") for note in notes)]
    for title, rows in differences(published, real, metric):
        grid = Table(style="dim")
        for name in rows[0]:
            grid.add_column(name, justify="right" if name else "left", style="grey50")
        for line in rows[1:]:
            grid.add_row(*(cell.replace(" ", "\n") for cell in line))
        parts += [Text(f"\n{title}", style="dim italic"), grid]
    return Padding(Group(*parts), (1, 0, 0, 0))


PUBLISHED = "own: on the source itself; all: on all targets; other: on the other targets; then that for each source"
MISPRINTS = "Printed means over all targets that are not the means of the numbers beside them"


GAP = "gap: in-domain minus unseen, by row of one training, by column of one target"


def misprints(published: Published) -> list[list[str]]:
    """Head and lines of a table of the printed means that disagree with their numbers; nothing where none does."""
    frame = reprinted(published)
    lines = [
        [row.method, row.source, f"{row.printed:.2f}", f"{row.recomputed:.2f}", f"{row.difference:+.2f}"]
        for row in frame.itertuples()
    ]
    return [["method", "source", "printed", "recomputed", "difference"], *lines] if lines else []


def differences(published: Published, real: list[Board], metric: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Titles and rows of tables of published cells, each with what was measured here less the published number."""
    for board in real if metric == "accuracy" else ():
        for name, printed, difference in beside(published, board):
            rows = [["", *printed.columns]]
            for source in printed.index:
                pairs = zip(printed.loc[source], difference.loc[source], strict=True)
                line = [
                    number(value) + (f" {tenth(other, signed=True)}" if pd.notna(other) else "")
                    for value, other in pairs
                ]
                rows.append([source, *line])
            yield f"{name} as published, and measured here minus published ({board.title})", rows


# ---------------------------------------------------------------------------------------------------------------- files


WRITTEN = ".written"
"""In the folder of a report: the names of its files, one a line."""


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """An empty folder to write a report to. In the end its files take their places in `folder`, and what the report
    before it wrote there, and it did not, goes: pictures of other methods and suites must not lie beside its page.
    Files that no report wrote stay. After an error all is as it was.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".draft-") as draft:
        yield Path(draft)
        names = sorted(path.name for path in Path(draft).iterdir())
        before = (folder / WRITTEN).read_text("utf-8", "replace").splitlines() if (folder / WRITTEN).is_file() else []
        (folder / WRITTEN).write_text("\n".join(dict.fromkeys((*before, *names))), encoding="utf-8")
        for name in names:
            os.replace(Path(draft, name), folder / name)
        for name in set(before) - set(names):
            if name and Path(name).name == name:
                (folder / name).unlink(missing_ok=True)
        (folder / WRITTEN).write_text("\n".join(names), encoding="utf-8")


def write(
    folder: Path,
    all_boards: list[Board],
    metric: str,
    published: list[Published],
    ablations: Iterable[Ablation],
    shifted: pd.DataFrame | None = None,
) -> list[Path]:
    """Everything a report leaves: leaderboard.md, .csv, .tex, data.csv and the pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / name for name in ("leaderboard.md", "leaderboard.csv", "leaderboard.tex", "data.csv")]
    shifts = list(shift_boards(pd.DataFrame() if shifted is None else shifted))
    files[0].write_text(_markdown(all_boards, metric, published, shifts), encoding="utf-8")
    leaderboard = leaderboard_frame(LeaderboardView(board, metric) for board in all_boards).map(_no_formula)
    leaderboard.to_csv(files[1], index=False, float_format="%.4f", encoding="utf-8")
    latex = ["% \\usepackage{booktabs,array}", *(_latex(board, metric) for board in all_boards)]
    files[2].write_text("\n".join(latex), encoding="utf-8")
    domains = data.frame((board.suite, board.profile, board.data) for board in all_boards)
    domains.map(_no_formula).to_csv(files[3], index=False)
    known, palette = list(ablations), plots.colours(all_boards, shifted)
    for board in all_boards:
        for name, group in board.rows():
            figure = plots.heatmap(board, name, group, metric)
            files.append(plots.save(figure, folder, f"{board.slug}-{file_name(name)}"))
        if (ranks := ranking(board, metric)) is not None:
            files.append(plots.save(plots.critical_difference(board, ranks), folder, f"{board.slug}-ranks"))
        if board.table.unseen.notna().any():
            files.append(plots.save(plots.unseen_bars(board, metric, palette), folder, f"{board.slug}-unseen"))
        for ablation in (ablation for ablation in known if ablation.suite == board.suite):
            rows = board.cells[board.cells.base_method == ablation.method]
            variants = {name: rows[rows.changes == changes] for name, changes in ablation.variants.items()}
            variants = {name: group for name, group in variants.items() if len(group)}
            if len(variants) > 1 and next(iter(variants)) == next(iter(ablation.variants)):
                printed = ablation.published, ablation.printed_in
                figure = plots.ablation(board, ablation.about, variants, metric, *printed)
                files.append(plots.save(figure, folder, f"{board.slug}-{ablation.protocol}"))
    for board in shifts:
        for factor in _factors(board):
            figure = plots.shift_curves(board.cells, factor, metric, board.title, palette)
            files.append(plots.save(figure, folder, f"{board.slug}-shift-{factor}"))
    return files


def file_name(name: str) -> str:
    """full_finetune (backbone=scratch) → full_finetune-backbone_scratch, at most 80 characters."""
    kept = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name.replace(" (", "-"))
    kept = kept.strip("_")
    return kept if len(kept) <= 80 else f"{kept[:70]}-{hashlib.sha256(kept.encode()).hexdigest()[:8]}"


def _markdown(all_boards: list[Board], metric: str, published: list[Published], shifts: Sequence[Board] = ()) -> str:
    parts = [f"# Leaderboard: {plots.NAMES[metric]} (%)"]
    for board in all_boards:
        names = board.names()
        sure = ["95 % of unseen", "against the best"] if _sure(board) else []
        rows = [["method", *COLUMNS.values(), *sure, "seeds", "cells", "unseen cells", "pre-training"]]
        for row in board.table.itertuples():
            numbers = [number(getattr(row, column), getattr(row, column + "_sd")) for column in COLUMNS]
            if sure:
                numbers += [interval(row.unseen_low, row.unseen_high), row.standing or "—"]
            counts = [f"{row.cells}/{row.asked}", board.unseen_cells(row)]
            last = [board.seeds(row), *counts, board.marks[row.pretraining]]
            rows.append([names[row.method, row.pretraining], *numbers, *last])
        notes = [f"- pre-training {mark}: {kind}" for kind, mark in board.marks.items()]
        notes += [f"- {note}" for note in (*board_notes(board)[1:], GAP.capitalize())]
        parts += [f"## {_plain(board.title)}", _markdown_table(rows), "\n".join(map(_plain, notes))]
        if board.data:
            parts += ["### Data", _markdown_table([list(data.HEAD), *data.rows(board.data)])]
        for name, group in board.rows():
            parts += [f"### {_plain(name)}: trained on row, scored on column", _markdown_matrix(group, metric)]
    for board in shifts:
        parts += [f"## Under controlled shift: {board.title}", _shift_note(board)]
        for factor in _factors(board):
            parts += [f"### {factor}: {FACTORS[factor].about}", _markdown_table(_shift_rows(board, factor, metric))]
    for table in published:
        if not (near := concerned(table, all_boards)):
            continue
        frame = summary(table)
        rows = [list(frame)] + [
            [row[0], *(number(value) for value in row[1:])] for row in frame.itertuples(index=False)
        ]
        parts += ["## Published, not measured here", table.about, _markdown_table(rows), PUBLISHED, *table.notes]
        for title, grid in differences(table, near, metric):
            parts += [f"### {title}", _markdown_table(grid)]
    return "\n\n".join(parts) + "\n"


def _factors(board: Board) -> list[str]:
    there = set(board.cells.factor)
    return [name for name in FACTORS if name in there]


def _shift_note(board: Board) -> str:
    counts = board.cells.groupby("target", sort=False).faces.max()
    faces = ", ".join(f"{target} {count:,}" for target, count in counts.items())
    return f"Mean over the targets that were shifted; clean: the same faces as they are. Faces scored: {faces}"


def _shift_rows(board: Board, factor: str, metric: str, spread: bool = True) -> list[list[str]]:
    """A line for each method and relation, a column for each level."""
    frame = shift_means(board.cells, factor, metric)
    levels = sorted(set(frame.level[frame.factor == factor]))
    rows = [["method", "pre-training", "targets", "clean", *(f"{level:g}" for level in levels), "seeds"]]
    for (method, pretraining, relation), group in frame.groupby([*ROW, "relation"], sort=False):
        at = {(row.factor, row.level): number(row.mean, row.sd if spread else np.nan) for row in group.itertuples()}
        numbers = [at.get(place, "—") for place in [(CLEAN, 0.0), *((factor, level) for level in levels)]]
        rows.append([method, pretraining, relation, *numbers, str(group.seeds.max())])
    return rows


def _markdown_matrix(cells: pd.DataFrame, metric: str) -> str:
    found = matrix(cells, metric)
    rows = [["", *found.mean.columns, "unseen", "gap"]]
    for source, places, unseen, gap in found.lines():
        line = []
        for place in places:
            text = number(place.value, place.sd)
            bold = f"**{text}**" if place.relation == "source" else text
            line.append(f"{bold}, {place.mark}" if place.mark else bold)
        rows.append([source, *line, number(unseen), number(gap)])
    rows.append(["gap", *map(number, found.target_gaps), "", ""])
    return _markdown_table(rows)


def _markdown_table(rows: list[list[str]]) -> str:
    head, *body = ([_plain(cell) for cell in row] for row in rows)
    line = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, line, *body])


def _plain(text: str) -> str:
    """Text that Markdown takes for a cell and for no markup of HTML."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _no_formula(cell: object) -> object:
    """A text that a spreadsheet does not compute."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r")) else cell


def _latex(board: Board, metric: str) -> str:
    """A table across two columns of a paper, at 8 pt; needs the packages booktabs and array."""
    names, several = board.names(), len(board.marks) > 1
    methods = []
    for row in board.table.itertuples():
        name = names[row.method, row.pretraining]
        mark = f"$^{{{board.marks[row.pretraining]}}}$" if several and name == row.method else ""
        methods.append(_escape(name) + mark)
    frame = pd.DataFrame({"method": methods})
    for column, name in COLUMNS.items():
        pairs = zip(board.table[column], board.table[column + "_sd"], strict=True)
        frame[name] = [number(value, spread).replace("±", r"$\pm$").replace("—", "--") for value, spread in pairs]
    if _sure(board):
        tied = board.table.standing.map({"tied": " (tied)"}).fillna("")
        ends = zip(board.table.unseen_low, board.table.unseen_high, tied, strict=True)
        frame[r"95 \%"] = [interval(low, high).replace("–", "--").replace("—", "--") + mark for low, high, mark in ends]
    frame["seeds"] = [board.seeds(row) for row in board.table.itertuples()]
    best = frame.index[board.table.unseen.notna()][:1]
    frame.loc[best, "unseen"] = frame.loc[best, "unseen"].map(r"\textbf{{{}}}".format)
    # A caption says what the table cannot be read without; the rest stands below for whoever writes the text.
    said = [f"{board.title}; {plots.NAMES[metric]} (%)", board_facts(board)[0]]
    said += ["± over seeds"] if board.table.unseen_sd.notna().any() else []
    said += [r"95 %: interval of the unseen mean"] if _sure(board) else []
    said += [note for note in standing_notes(board.suite, board.cells) if note.startswith(("Not", "Stale"))]
    said += _unseen_cells(board)
    said += [f"Data: {'; '.join(odd)}"] if (odd := data.remarks(board.data)) else []
    caption = _escape(". ".join(said))
    # A name that is a line long stands on several, or it pushes the numbers off the paper.
    wide = max(map(len, names.values())) > 24
    layout = (r">{\raggedright\arraybackslash}p{0.3\textwidth}" if wide else "l") + "r" * (len(frame.columns) - 1)
    text = frame.style.hide(axis="index").to_latex(
        hrules=True,
        environment="table*",
        column_format=layout,
        caption=caption,
        label=f"tab:{board.slug}",
        position_float="centering",
    )
    text = text.replace("\\begin{tabular}", "\\footnotesize\n\\setlength{\\tabcolsep}{4pt}\n\\begin{tabular}", 1)
    notes = [*board_notes(board)[1:], *data.lines(board.data, board.synthetic)]
    return text + "".join(f"% {_escape(note)}\n" for note in notes)


def _escape(text: str) -> str:
    """Text as LaTeX sets it with any encoding of fonts; an empty line would end a caption."""
    return "".join(_IN_LATEX.get(letter, letter) for letter in " ".join(text.split()))


_IN_LATEX = {letter: f"\\{letter}" for letter in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    "–": "--",
    "—": "---",
    "±": r"$\pm$",
    "×": r"$\times$",
}
