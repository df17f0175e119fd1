"""Print leaderboards and comparisons on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import pandas as pd
from rich import box
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from fergen_bench.datasets.standing import NOT_AUDITED
from fergen_bench.experiment.run import percent
from fergen_bench.report import data
from fergen_bench.report.comparison import Comparison, Row, answer, caveats, p_text, range_text
from fergen_bench.report.leaderboard import COLUMNS, LeaderboardView, Mean
from fergen_bench.report.notes import GAP, mark_notes, short_mark, standing_notes
from fergen_bench.report.published import Published, above_annotator, concerned, differences, summary
from fergen_bench.report.rounding import tenth
from fergen_bench.report.shifts import factors, shift_boards, shift_note, shift_rows
from fergen_bench.report.statistics import DRAWS
from fergen_bench.report.tables import ANNOTATOR_ROW, NAMES, Board, Matrix, by_share, number, ordered
from fergen_bench.wording import many, wrapped


def show(
    console: Console,
    views: Sequence[LeaderboardView],
    published: Iterable[Published] = (),
    shifted: pd.DataFrame | None = None,
    matrices: bool = False,
) -> None:
    """Print published tables, corruptions and matrices, then the leaderboards and the answers last.

    Of leaderboards that differ only in the share of the data, the one with the most rows is printed, and a table of the
    rows that others have too.

    Args:
        console: The terminal.
        views: At least one, all with the same metric.
        published: Tables from papers about any domain of the leaderboards, printed in grey.
        shifted: Scores on changed test images, see `records.frame.shifted_frame`.
        matrices: Print the source x target matrix of each row too.
    """
    metric = views[0].metric
    boards = [view.board for view in views]
    for table in published:
        if near := concerned(table, boards):
            console.print(_published(table, near, metric))
    for board in shift_boards(pd.DataFrame() if shifted is None else shifted):
        console.print(_shift(board, metric, console.width))
    for group in reversed(by_share(views, lambda view: view.board)):
        view, *others = group
        if others:
            console.print(_shares(view, others))
        for name, found in view.matrices if matrices else ():
            console.print(_fitting(console, partial(_matrix, view, name, found)))
        if view.board.data:
            console.print(data.block(view.board.data, view.board.synthetic))
        _print_leaderboard(console, view)


def _print_leaderboard(console: Console, view: LeaderboardView) -> None:
    """Print the notes, then the table, then the answers, which a reader sees first."""
    console.print()
    for note in view.notes:
        console.print(Text(note, style="dim"))
    table = _leaderboard(view, console.width, stacked=False)
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum > console.width:
        table = _leaderboard(view, console.width, stacked=True)
    console.print(Padding(table, (1, 0, 0, 0)))
    console.print(Text(view.title, style="dim"))
    for sentence in filter(None, (*view.answers, view.disagreement)):
        console.print(Text(sentence, style="bold" if sentence == view.answers[0] else ""))


def _fitting(console: Console, draw: Callable[[bool], tuple[Table, list[str]]]) -> RenderableType:
    """Draw a table with each number on one line where the terminal has room, else with numbers on several lines."""
    table, notes = draw(False)
    if console.measure(table, options=console.options.update(max_width=10_000)).maximum > console.width:
        table, notes = draw(True)
    return _noted([table], notes)


def _noted(tables: Iterable[RenderableType], notes: Iterable[str]) -> RenderableType:
    return Group("", *tables, *(Text(note, style="dim") for note in notes))


LEAST_NAME = 14
"""The least number of characters in a line of a row's name, whatever the width of the terminal."""


def _leaderboard(view: LeaderboardView, width: int, stacked: bool) -> Table:
    """Return the table of a leaderboard.

    Args:
        view: The leaderboard.
        width: Characters in a line of the terminal; names take what numbers leave.
        stacked: Put the parts of a number on lines of their own.
    """
    columns = _columns(view, stacked)
    between = "\n" if stacked else " "
    heads = {name: name.replace(" ", between).replace("-", "-\n" if stacked else "-") for name in columns}
    widths = {
        name: 1 + max(len(line) for text in (heads[name], *map(str, texts)) for line in text.split("\n"))
        for name, texts in columns.items()
    }
    for name in ("source-val", "all targets", "in-domain", "worst unseen", *NAMES.values()):
        if stacked and name in widths and sum(widths.values()) + LEAST_NAME > width:
            del widths[name], columns[name]  # the files of the report have it
    taken = sum(widths.values())
    room = max(LEAST_NAME, width - taken) if stacked else 10_000
    table = Table(title=f"Leaderboard, {view.metric_name} (%)", title_justify="left", box=box.SIMPLE_HEAD, padding=0)
    table.show_edge = False
    table.add_column("method", no_wrap=True)
    for name in columns:
        left = name == "standing"
        table.add_column(heads[name], justify="left" if left else "right", no_wrap=True)
    for index, row in enumerate(view.rows):
        mark = Text(f" {row.side_mark}" if row.side_mark else "", style="dim")
        label = Text(wrapped(row.name, room - len(mark))) + mark
        for marker in row.markers:
            label += Text(f"\n{wrapped(marker.short, room)}", style="dim")
        table.add_row(label, *(texts[index] for texts in columns.values()))
    if view.annotator:
        keys = {heading: key for key, heading in COLUMNS.items()}
        table.add_section()
        known = (number(view.annotator[keys[heading]]) if heading in keys else "" for heading in columns)
        table.add_row(wrapped(ANNOTATOR_ROW, room), *known, style="dim")
    return table


def _columns(view: LeaderboardView, stacked: bool) -> dict[str, list[Text]]:
    """Return the columns after the names, by heading."""
    between = "\n" if stacked else " "
    columns = {"standing": [Text(row.standing.replace(" ", between)) for row in view.rows]}
    unseen = [_mean(row.means["unseen"], stacked=False) for row in view.rows]
    if view.has_intervals:
        ends = [Text(f"{between}{row.means['unseen'].interval}") for row in view.rows]
        unseen = [mean + end for mean, end in zip(unseen, ends, strict=True)]
    columns["unseen"] = unseen
    for metric in NAMES:
        if metric != view.metric:
            columns[NAMES[metric]] = [_mean(row.measures[metric].mean, stacked) for row in view.rows]
    for column, name in COLUMNS.items():
        if column != "unseen":
            columns[name] = [_mean(row.means[column], stacked) for row in view.rows]
    if view.has_source_val:
        columns["source-val"] = [Text(number(row.source_val)) for row in view.rows]
    columns["seeds"] = [Text(row.seeds_text.replace(" ", between)) for row in view.rows]
    return columns


def _shares(whole: LeaderboardView, others: Sequence[LeaderboardView]) -> RenderableType:
    """Draw the mean over unseen targets by share of the data, for the rows that others than the first one have."""
    views = sorted([whole, *others], key=lambda view: -view.board.fraction)
    rows = list(dict.fromkeys(pair for view in others for pair in view.board.names()))
    several = len({method for method, _ in rows}) < len(rows)
    table = Table(title=f"Unseen targets by share of the data, {whole.metric_name} (%)", title_justify="left")
    table.add_column("method", overflow="fold")
    for view in views:
        table.add_column(percent(view.board.fraction), justify="right")
    known = [{(row.method, row.pretraining): row.means["unseen"] for row in view.rows} for view in views]
    for pair in rows:
        numbers = (_mean(means[pair], True) if pair in means else Text("—") for means in known)
        table.add_row(f"{pair[0]} [{pair[1]}]" if several else pair[0], *numbers)
    conditions = views[-1].title.rpartition(", ")[0]
    notes = [conditions, "The leaderboard of every other share, and its notes, are on the page"]
    return _noted([table], notes)


def _shift(board: Board, metric: str, width: int) -> RenderableType:
    """Draw scores by factor level, one table for factors with the same levels; names take what numbers leave."""
    grids: dict[tuple[str, ...], list[list[str]]] = {}
    for factor in factors(board):
        head, *lines = shift_rows(board, factor, metric, spread=False)
        rows = grids.setdefault(("factor", *head), [])
        rows += [["" if place else factor, *line] for place, line in enumerate(lines)]
    relation, *others = board.cells.relation.unique()
    hidden = {"pre-training", "seeds"} if others else {"pre-training", "seeds", "targets"}
    parts: list[Table] = []
    for names, rows in grids.items():
        title = f"Under controlled shift, {NAMES[metric]} (%)"
        table = Table(title=None if parts else title, title_justify="left", box=box.SIMPLE_HEAD, padding=0)
        table.show_edge = False
        columns = {name: texts for name, *texts in zip(names, *rows, strict=True) if name not in hidden}
        taken = sum(1 + max(map(len, (name, *texts))) for name, texts in columns.items() if name != "method")
        columns["method"] = [wrapped(name, max(LEAST_NAME, width - taken)) for name in columns["method"]]
        for name in columns:
            table.add_column(name, justify="left" if name in {"factor", "method", "targets"} else "right", no_wrap=True)
        for row in zip(*columns.values(), strict=True):
            table.add_row(*row)
        parts.append(table)
    only = [] if others else [f"Targets: {relation}"]
    return _noted([Padding(part, (1, 0, 0, 0)) for part in parts], [board.title, *only, shift_note(board)])


def _mean(mean: Mean, stacked: bool) -> Text:
    return _spread(mean.value, mean.sd, stacked)


def _spread(value: float, spread: float, stacked: bool, style: str = "") -> Text:
    """Return a number with its spread, which is on a line of its own if columns are narrow."""
    text = Text(number(value), style=style)
    return (
        text
        if pd.isna(spread)
        else text + Text(f"\n±{tenth(spread)}" if stacked else f" ± {tenth(spread)}", style="dim")
    )


def _matrix(view: LeaderboardView, name: str, found: Matrix, stacked: bool) -> tuple[Table, list[str]]:
    kind = "synthetic faces, " if view.board.synthetic else ""
    title = f"{name}: {view.board.axes} ({kind}{view.metric_name}, %)"
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
            short = short_mark(place.mark)  # fits 80 columns; a note below explains it
            row.append(text + Text(f"{' ' if len(short) == 1 else chr(10)}{short}", style="dim") if short else text)
        table.add_row(source, *row, number(unseen), number(gap))
    table.add_section()
    table.add_row("gap", *map(number, found.target_gaps), "", "", style="dim")
    if found.has_annotator:
        table.add_row(ANNOTATOR_ROW.replace(" ", "\n"), *map(number, found.annotator), "", "", style="dim")
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
    notes = [published.explained, *published.notes, *above_annotator(published, real)]
    parts: list[RenderableType] = ["", table, *(Text(note, style="grey50") for note in notes)]
    for title, rows in differences(published, real, metric):
        grid = Table(style="dim")
        for name in rows[0]:
            grid.add_column(name, justify="right" if name else "left", style="grey50")
        for line in rows[1:]:
            grid.add_row(*(cell.replace(" ", "\n") for cell in line))
        parts += [Text(f"\n{title}", style="dim italic"), grid]
    return Group(*parts)


def show_comparison(console: Console, first: Row, second: Row, found: Comparison) -> None:
    """Print the answer, then the results by cell, target and expression, and how they were computed."""
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
            "Points are those of the second minus the first. p is corrected after Holm, within its table. "
            "Single cells are not tested: each has only one training a seed"
        ),
        style="dim",
    )


def _how(found: Comparison) -> str:
    unseen = found.cells[found.cells.relation == "unseen"]
    seeds = many(found.seeds, "whole seed" if found.unbalanced else "seed")
    what = f"Mean over {many(len(unseen), 'cell')} that both have, {seeds}"
    if not found.covered:
        return (
            f"{what}, ±: standard deviation over seeds. Not all of their predictions are beside these records, so "
            f"there are no intervals and tests; to have them, give the command that made these records once more, with "
            f"--rerun"
        )
    alone = "faces, and over seeds where a training has several" if found.unbalanced else "faces alone"
    over = "seeds and faces" if found.seeds > 1 else alone
    notes = [f"{what}; paired bootstrap, {DRAWS:,} replicates over {over}"]
    if pd.notna(found.unseen.domains_low):
        reach = range_text(found.unseen.domains_low, found.unseen.domains_high)
        notes.append(f"These hold for these domains; for other domains the 95 % interval is {reach} (jackknife)")
    small = found.targets[found.targets.faces < 500]
    if len(small):
        notes.append(f"Few faces in {', '.join(small.target)}: differences of a few points there mean little")
    return "\n".join(notes)


def _points(value: float) -> str:
    """Return a difference as text, such as +1.2."""
    return "—" if pd.isna(value) else tenth(value, signed=True)


def _p(value: float) -> str:
    """Return p without its name, for a column of them."""
    return "—" if pd.isna(value) else p_text(value).removeprefix("p ").removeprefix("= ")


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
            line.append(Text(" ".join(filter(None, (_points(cell.difference), said))), style))
        table.add_row(source, *line)
    return table


def _by_target(found: Comparison) -> Table:
    table = Table(title="\nBy unseen target", title_justify="left")
    for column in ("target", "points", "95 %", "faces", "p after Holm"):
        table.add_column(column, justify="left" if column == "target" else "right")
    for row in found.targets.itertuples():
        points, ends = tenth(row.difference, signed=True), range_text(row.low, row.high)
        table.add_row(row.target, points, ends, f"{row.faces:,}", _p(row.p_holm))
    return table


def _by_expression(found: Comparison) -> Table:
    table = Table(title="\nBy expression: recall on unseen targets (%)", title_justify="left")
    for column in ("expression", "first", "second", "points", "95 %", "p after Holm"):
        table.add_column(column, justify="left" if column == "expression" else "right")
    for row in found.expressions.itertuples():
        recalls, points = (number(row.first), number(row.second)), _points(row.difference)
        table.add_row(row.expression, *recalls, points, range_text(row.low, row.high), _p(row.p_holm))
    return table
