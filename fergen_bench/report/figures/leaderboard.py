"""Draw the figures of one leaderboard."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report.canvas import Figure, Line2D, Rectangle, blank, sns, styled
from fergen_bench.report.figures.layout import LINE, WIDTH, Colours, colours, most_lines, titled, wrapped
from fergen_bench.report.ranking import Ranking
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import CELL, NAMES, Board, Place, comparable, matrix, number


def heatmap(board: Board, method: str, cells: pd.DataFrame, metric: str) -> Figure:
    """Draw the source x target matrix of one method, with the gaps on unseen faces at the ends of rows and columns."""

    def label(place: Place) -> str:
        spread = "" if pd.isna(place.sd) else f"± {tenth(place.sd)}"
        return "\n".join(part for part in (number(place.value), spread, place.mark) if part)

    found = matrix(cells, metric)
    mean, labels = found.mean, [[label(place) for place in places] for _, places, *_ in found.lines()]
    with styled():
        height, width = 0.62 * len(mean) + 1.9, 0.95 * len(mean.columns) + 3.0
        figure = blank(width, height)
        axes = figure.subplots()
        colours = {
            "cmap": "viridis",
            "vmin": 100 / len(EXPRESSIONS),
            "vmax": 100,
            "cbar_kws": {"label": f"{NAMES[metric]} (%)"},
        }
        sns.heatmap(
            mean.astype(float), annot=labels, fmt="", linewidths=1, ax=axes, annot_kws={"fontsize": 8}, **colours
        )
        for row, column in np.argwhere(found.relation == "source"):
            axes.add_patch(Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, fill=False, lw=2, ec="white"))
        axes.set_yticklabels([f"{name}\ngap {number(gap)}" for name, gap in found.source_gaps.items()], rotation=0)
        axes.set_xticklabels([f"{name}\ngap {number(gap)}" for name, gap in found.target_gaps.items()], rotation=0)
        axes.set(xlabel="scored on", ylabel="trained on")
        axes.set_title(titled(board, method))
    return figure


def unseen_bars(board: Board, metric: str, palette: Colours | None = None) -> Figure:
    """Draw the mean over unseen targets, one bar per method, a dot per seed; in-domain accuracy as a mark."""
    palette = colours([board]) if palette is None else palette
    table = board.table.dropna(subset=["unseen"])
    cells = board.cells[board.cells.relation == "unseen"]
    names = board.names()
    rows = list(zip(table.method, table.pretraining, strict=True))
    kinds = list(dict.fromkeys(table.pretraining)) if len(board.marks) > 1 else []
    marks = {row: f" {board.marks[row[1]]}" if kinds and names[row] == row[0] else "" for row in rows}
    shown = [wrapped(names[row] + marks[row], 40) for row in rows]
    with styled():
        height = (LINE * most_lines(shown) + 0.06) * len(table) + 1.2 + 0.08 * (len(kinds) + 4)
        figure = blank(WIDTH, height, "constrained")
        axes = figure.subplots()
        places = np.arange(len(table))
        axes.barh(places, table.unseen, color=[palette[row] for row in rows], alpha=0.75)
        axes.plot(table.in_domain, places, "D", color="black", mfc="white", markersize=5)
        for place, row in zip(places, table.itertuples(), strict=True):
            own = cells[(cells.method == row.method) & (cells.pretraining == row.pretraining)]
            whole = comparable({"all": cells.drop_duplicates(CELL), "own": own}).get("own", own[:0])
            per_seed = whole.groupby("seed")[metric].mean()
            axes.plot(per_seed, np.full(len(per_seed), place), "o", color="black", markersize=3)
        axes.set_yticks(places, shown)
        axes.set(xlabel=f"{NAMES[metric]} (%)", xlim=(0, 100), ylim=(len(table) - 0.4, -0.6))
        axes.axvline(100 / len(EXPRESSIONS), color="grey", lw=0.8, ls=":")
        axes.set_title(titled(board, "Generalisation to unseen targets"))
        parts = {
            "bar: mean over unseen targets": Rectangle((0, 0), 1, 1, color="0.6"),
            "one seed": Line2D([], [], ls="", marker="o", color="black", ms=3),
            "in-domain": Line2D([], [], ls="", marker="D", color="black", mfc="white", ms=5),
            "chance": Line2D([], [], color="grey", lw=0.8, ls=":"),
            **{f"{board.marks[kind]}: pre-training {kind}": Line2D([], [], ls="") for kind in kinds},
        }
        figure.legend(parts.values(), parts.keys(), loc="outside lower center", ncol=2, frameon=False)
        sns.despine(figure)
    return figure


def recall_heatmap(board: Board, recalls: pd.DataFrame) -> Figure:
    """Draw the recall of each expression on unseen targets.

    Args:
        board: The leaderboard.
        recalls: See `details.recall_table`.
    """
    shown = [wrapped(str(name), 40) for name in recalls.index]
    with styled():
        figure = blank(WIDTH, (LINE * most_lines(shown) + 0.12) * len(recalls) + 1.8, "constrained")
        axes = figure.subplots()
        scale = {"vmin": 0, "vmax": 100, "cmap": "viridis", "cbar_kws": {"label": "recall (%)"}}
        sns.heatmap(recalls, annot=recalls.map(number), fmt="", linewidths=1, ax=axes, yticklabels=shown, **scale)
        axes.tick_params(axis="y", rotation=0)
        axes.set_xticklabels(recalls.columns, rotation=30, ha="right")
        axes.set_title(titled(board, "Recall of each expression, mean over unseen targets"))
    return figure


RANKS = (
    "Only who is ahead in each cell counts here, not by how much: a weak test, whose bars may join what the table's "
    "ties tell apart"
)
"""A note below a diagram of ranks, for readers of leaderboards."""


def critical_difference(board: Board, ranks: Ranking) -> Figure:
    """Draw the mean ranks of methods over the unseen cells, best on the left (Demšar, JMLR 2006).

    Bars join methods that do not differ significantly.
    """
    from scikit_posthocs import critical_difference_diagram

    names = {name: wrapped(name, 30) for name in ranks.ranks.index}
    said = "p < 0.001" if ranks.p < 0.001 else f"p = {ranks.p:.3f}"
    with styled(axes_titlesize=8):
        figure = blank(WIDTH, WIDTH)
        axes = figure.subplots()
        drawn = critical_difference_diagram(
            ranks.ranks.rename(names),
            ranks.pairs.rename(index=names, columns=names),
            ax=axes,
            label_fmt_left="{label} ({rank:.2f})",
            label_fmt_right="({rank:.2f}) {label}",
            color_palette=dict.fromkeys(names.values(), "0.25"),
            marker_props={"s": 16},
            elbow_props={"linewidth": 0.8},
            crossbar_props={"color": sns.color_palette("colorblind")[1], "linewidth": 3},
        )
        for (bar,) in drawn["crossbars"]:  # the library orders its points by a set, so the order varies
            bar.set_xdata(np.sort(bar.get_xdata()))
        # A step down has room for the longest name; names left and right of the axes fit the width of a page.
        below, above = axes.get_ylim()
        down = (above - below) * (LINE * most_lines(names.values()) + 0.05)
        figure.set_size_inches(WIDTH, down + 1.1)
        axes.set_position((0.32, 0.3 / (down + 1.1), 0.36, down / (down + 1.1)))
        test = f"Friedman {said}; critical difference {ranks.distance:.2f}"
        title = titled(board, f"Mean rank over {ranks.blocks} unseen cells and seeds; {test}")
        figure.suptitle(title, y=1 - 0.1 / (down + 1.1), va="top", fontsize=8)
        figure.text(0.5, 0.1 / (down + 1.1), RANKS, ha="center", fontsize=7, color="0.35")
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
