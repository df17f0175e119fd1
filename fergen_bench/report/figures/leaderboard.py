"""Draw the figures of one leaderboard."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report.canvas import Figure, Line2D, Rectangle, blank, sns, styled
from fergen_bench.report.figures.layout import COLUMN, HEAT, INK, LINE, NEUTRAL, WIDTH, most_lines, stacked, titled
from fergen_bench.report.notes import mark_notes, short_mark
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import NAMES, Board, Place, comparable, complete, matrix, number
from fergen_bench.wording import wrapped


def heatmap(board: Board, method: str, cells: pd.DataFrame, metric: str) -> Figure:
    """Draw the source x target matrix of one method, with means and gaps on unseen faces in a last row and column.

    Cells scored on the source itself are framed. It fits a column of a paper for up to five targets.
    """

    def label(place: Place) -> str:
        spread = "" if pd.isna(place.sd) else f"± {tenth(place.sd)}"
        return "\n".join(part for part in (number(place.value), spread, short_mark(place.mark)) if part)

    found = matrix(cells, metric)
    labels = [[label(place) for place in places] for _, places, *_ in found.lines()]
    most = max(text.count("\n") + 1 for line in labels for text in line)
    rows, columns = found.mean.shape
    shown = [wrapped(str(name), 12) for name in found.mean.index]
    with styled():
        width = max(COLUMN, 0.38 * (columns + 2) + 0.74)
        figure = blank(width, (LINE * most + 0.08) * rows + LINE * (most_lines(shown) + 1) + 1.1, "constrained")
        axes = figure.subplots()
        axes.pcolormesh(found.mean.astype(float), cmap=HEAT, vmin=100 / len(EXPRESSIONS), vmax=100, ec="white", lw=1)
        for row, column in np.ndindex(rows, columns):
            text: dict[str, Any] = {"ha": "center", "va": "center", "color": INK, "linespacing": 1.05}
            axes.text(column + 0.5, row + 0.5, labels[row][column], **text)
            if found.relation.iloc[row, column] == "source":
                axes.add_patch(Rectangle((column + 0.04, row + 0.04), 0.92, 0.92, fill=False, lw=1.2, ec=INK))
        for row, (mean, gap) in enumerate(zip(found.unseen, found.source_gaps, strict=True)):
            for place, value in enumerate((mean, gap)):
                axes.text(columns + 0.7 + place, row + 0.5, number(value), ha="center", va="center")
        for column, gap in enumerate(found.target_gaps):
            axes.text(column + 0.5, rows + 0.4, number(gap), ha="center", va="center")
        targets = [wrapped(str(target), 9) for target in found.mean.columns]
        axes.set_xticks([*np.arange(columns) + 0.5, columns + 0.7, columns + 1.7], [*targets, "unseen", "gap"])
        axes.set_yticks(np.append(np.arange(rows) + 0.5, rows + 0.4), [*shown, "gap"])
        axes.tick_params(length=0, left=False, bottom=False, labeltop=True, labelbottom=False)
        axes.set(xlim=(0, columns + 2.1), ylim=(rows + 0.8, 0), ylabel="trained on")
        axes.set_xlabel(f"scored on; {NAMES[metric]} (%)")
        axes.xaxis.set_label_position("top")
        sns.despine(ax=axes, left=True, bottom=True)
        notes = "; ".join(mark_notes(found.marks.to_numpy().ravel()))
        figure.suptitle(titled(board, method, int(width / 0.06)), fontsize=8)
        if notes:
            figure.supxlabel(wrapped(notes, int(width / 0.055)), fontsize=7)
    return figure


STANDINGS = {
    "best": ("best", {"mfc": NEUTRAL, "marker": "D", "ms": 4}),
    "tied": ("tied", {"mfc": NEUTRAL, "marker": "o", "ms": 4}),
    "behind": ("behind", {"mfc": "white", "marker": "o", "ms": 4}),
}
"""The mark of each standing in the plot of unseen means. Other rows are not compared."""

NOT_COMPARED: tuple[str, dict[str, Any]] = ("not compared", {"mfc": "0.75", "marker": "s", "ms": 3.5})


def unseen_means(board: Board, metric: str) -> Figure:
    """Draw the mean over unseen targets of each row with its 95 % interval and its standing, best first.

    The axis spans the intervals, so that rows a few points apart stand apart. Small marks are single seeds.
    """
    table = board.table.dropna(subset=["unseen"])
    names, kinds = board.names(), list(dict.fromkeys(table.pretraining)) if len(board.marks) > 1 else []
    rows = list(zip(table.method, table.pretraining, strict=True))
    letters = [f" {board.marks[row[1]]}" if kinds and names[row] == row[0] else "" for row in rows]
    shown = [wrapped(names[row] + letter, 26) for row, letter in zip(rows, letters, strict=True)]
    places, edges = stacked(shown, 0.05)
    there: dict[str, Line2D] = {}
    with styled():
        figure = blank(COLUMN, edges[-1] + 1.35 + LINE * len(kinds), "constrained")
        axes = figure.subplots()
        for place, row in zip(places, table.itertuples(), strict=True):
            word, look = STANDINGS.get(row.standing, NOT_COMPARED)
            style: dict[str, Any] = {"color": NEUTRAL, "mec": NEUTRAL, "mew": 0.8, **look}
            if not pd.isna(row.unseen_low):
                axes.plot([row.unseen_low, row.unseen_high], [place, place], color=NEUTRAL, lw=1)
            by_seed = _by_seed(board, row, metric)
            axes.plot(by_seed, [place] * len(by_seed), "|", color="0.5", ms=4, mew=0.8)
            axes.plot([row.unseen], [place], ls="", **style)
            there[word] = Line2D([], [], ls="", **style)
        axes.set_yticks(places, shown)
        axes.set_ylim(edges[-1] + 0.03, -0.03)
        axes.margins(x=0.06)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x", color="0.9", lw=0.6)
        axes.set_axisbelow(True)
        if axes.get_xlim()[0] < 100 / len(EXPRESSIONS):
            axes.axvline(100 / len(EXPRESSIONS), color="0.5", lw=0.8, ls=":")
            there["chance"] = Line2D([], [], color="0.5", lw=0.8, ls=":")
        legend = [wrapped(f"{board.marks[kind]}: pre-training {kind}", 30) for kind in kinds]
        axes.set_xlabel("\n".join([f"{NAMES[metric]} on unseen targets (%)", *legend]))
        if table.unseen_low.notna().any():
            there["95 % interval"] = Line2D([], [], color=NEUTRAL, lw=1)
        there["one seed"] = Line2D([], [], ls="", marker="|", color="0.5", ms=4, mew=0.8)
        look = {"fontsize": 7, "handletextpad": 0.4, "columnspacing": 1.0, "handlelength": 1.2}
        figure.legend(there.values(), there.keys(), loc="outside lower center", ncol=3, frameon=False, **look)
        figure.suptitle(titled(board, "Unseen targets", 56), fontsize=8)
        sns.despine(ax=axes, left=True)
    return figure


def _by_seed(board: Board, row: Any, metric: str) -> list[float]:
    """Return the mean over unseen targets of each complete seed of a row."""
    cells = board.cells[(board.cells.method == row.method) & (board.cells.pretraining == row.pretraining)]
    whole = complete(cells, board.asked)
    return list(whole[whole.relation == "unseen"].groupby("seed")[metric].mean())


def recall_heatmap(board: Board, recalls: pd.DataFrame) -> Figure:
    """Draw the recall of each expression on unseen targets.

    Args:
        board: The leaderboard.
        recalls: See `details.recall_table`.
    """
    shown = [wrapped(str(name), 24) for name in recalls.index]
    places, edges = stacked(shown, 0.07)
    rows, columns = recalls.shape
    with styled():
        figure = blank(COLUMN, edges[-1] + 1.2, "constrained")
        axes = figure.subplots()
        grid = np.arange(columns + 1), [0.0, *edges], recalls.to_numpy(float)
        axes.pcolormesh(*grid, cmap=HEAT, vmin=0, vmax=100, ec="white", lw=1)
        for row, column in np.ndindex(rows, columns):
            value = number(recalls.iloc[row, column])
            axes.text(column + 0.5, float(places[row]), value, ha="center", va="center", color=INK, fontsize=7)
        axes.set_yticks(places, shown)
        axes.set_xticks(np.arange(columns) + 0.5, recalls.columns, rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(length=0, left=False, bottom=False)
        axes.invert_yaxis()
        sns.despine(ax=axes, left=True, bottom=True)
        title = titled(board, "Recall of each expression (%), mean over unseen targets", 56)
        figure.suptitle(title, fontsize=8)
    return figure


def ablation(
    board: Board,
    title: str,
    variants: dict[str, pd.DataFrame],
    metric: str,
    published: Mapping[str, float] | None = None,
    source: str = "",
) -> Figure:
    """Draw the mean over unseen targets of each variant, and its difference from the first variant, seed by seed.

    Args:
        board: The leaderboard.
        title: The first line of the title.
        variants: The cells of each variant, by its name.
        metric: The name of the metric.
        published: Accuracies (%) that a paper printed for variants of these names, on other faces and with another
            selection. They are grey, in a panel with an axis of its own.
        source: The place where they were printed, in one line.
    """
    variants = comparable({name: cells[cells.relation == "unseen"] for name, cells in variants.items()})
    names = list(variants)
    scores = {name: cells.groupby("seed")[metric].mean() for name, cells in variants.items()}
    base = scores[names[0]]
    with styled():
        height = 0.3 * max(len(names), len(published or ())) + 1.3
        figure = blank(WIDTH if published else 0.8 * WIDTH, height, "constrained")
        grid = figure.add_gridspec(1, 2 if published else 1, width_ratios=[2.4, 1] if published else [1])
        axes = figure.add_subplot(grid[0])
        if published:
            _published(figure.add_subplot(grid[1]), published, source)
        blue, orange = sns.color_palette("colorblind")[:2]
        notes = axes.secondary_yaxis("right")
        notes.spines["right"].set_visible(False)
        said = []
        for place, name in enumerate(names):
            own = scores[name]
            axes.plot(own, np.full(len(own), place), "o", color=blue if place else orange, alpha=0.5, markersize=4)
            axes.plot([own.mean()], [place], "D", color=blue if place else orange, markersize=6)
            difference = (own - base).dropna()
            note = "" if place == 0 or difference.empty else tenth(difference.mean(), signed=True)
            if len(difference) > 1 and place:
                note += f" ± {tenth(difference.std(ddof=1))}"
            said.append(note)
        axes.axvline(base.mean(), color=orange, lw=0.8, ls="--")
        axes.set_yticks(range(len(names)), names)
        notes.set_yticks(range(len(names)), said)
        notes.tick_params(length=0)
        axes.invert_yaxis()
        axes.set(
            xlabel=f"mean {NAMES[metric]} over unseen targets (%)\nright: difference from {names[0]}",
            ylim=(len(names) - 0.4, -0.6),
        )
        figure.suptitle(titled(board, title), fontsize=9)
        sns.despine(ax=axes)
    return figure


def _published(axes: Any, accuracies: Mapping[str, float], source: str) -> None:
    places = range(len(accuracies))
    axes.plot(list(accuracies.values()), places, "D", color="0.55", markersize=5, mfc="none")
    axes.set_yticks(places, accuracies)
    axes.tick_params(colors="0.45")
    axes.set(ylim=(len(accuracies) - 0.4, -0.6))
    axes.set_xlabel("\n".join(["accuracy (%)", *textwrap.wrap(source, 46)]), fontsize=6, color="0.45")
    axes.margins(x=0.15)
    axes.set_title("published, not measured here", fontsize=8, color="0.45")
    sns.despine(ax=axes)
    for spine in axes.spines.values():
        spine.set_color("0.6")
