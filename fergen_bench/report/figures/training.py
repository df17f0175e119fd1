"""Draw the costs of training: epochs, seconds, and shares of the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report.canvas import Figure, Line2D, blank, sns, styled
from fergen_bench.report.figures.layout import (
    LINE,
    NEUTRAL,
    WIDTH,
    Colours,
    colours,
    in_suite_order,
    most_lines,
    panel_grid,
    source_legend,
    stacked,
    titled,
)
from fergen_bench.report.tables import CELL, NAMES, ROW, Board, complete
from fergen_bench.wording import wrapped


def training_curves(board: Board, histories: pd.DataFrame, value: str = "loss") -> Figure:
    """Draw loss or val_accuracy by epoch: a panel per method, a colour per source, mean and range over seeds.

    Args:
        board: The leaderboard.
        histories: See `details.histories`.
        value: loss, or val_accuracy (on faces held out of the source).
    """
    name = {"loss": "Training loss", "val_accuracy": "Accuracy on held-out faces of the source (%)"}[value]
    frame = histories.dropna(subset=[value])
    sources = in_suite_order(board, frame.source)
    palette = sns.color_palette("colorblind", len(sources))
    with styled():
        figure, panels = panel_grid(list(dict.fromkeys(frame.row)), "epoch", sharey=value != "loss")
        for row, axes in panels.items():
            own = frame[frame.row == row]
            look: dict[str, Any] = {"lw": 1, "mec": "w", "mew": 0.75}
            look["marker"] = "o" if own.epoch.nunique() == 1 else None
            # seaborn's lineplot takes several times as long, most of it to prepare the groups.
            for source, colour in zip(sources, palette, strict=True):
                seeds = own[own.source == source].groupby("epoch")[value].agg(["mean", "min", "max"])
                axes.plot(seeds.index, seeds["mean"], color=colour, **look)
                axes.fill_between(seeds.index, seeds["min"], seeds["max"], color=colour, alpha=0.2, lw=0)
            axes.xaxis.get_major_locator().set_params(integer=True)
        source_legend(figure, sources)
        figure.suptitle(titled(board, f"{name} by epoch: mean and range over seeds"), fontsize=9)
    return figure


def cost(board: Board, histories: pd.DataFrame) -> Figure:
    """Draw the mean over unseen targets, seconds to fit one run and images a second in training, a line per method.

    Each device has a row of panels, since times on different devices do not compare methods. Methods stand in the order
    of the leaderboard.

    Args:
        board: The leaderboard.
        histories: See `details.histories`.
    """
    names = board.names()
    shown = {names[row.method, row.pretraining]: row for row in board.table.dropna(subset=["unseen"]).itertuples()}
    fits = board.cells.drop_duplicates("key").groupby([*ROW, "device"], sort=False).fit_seconds.mean()
    speeds = histories[histories.row.isin(list(shown))].groupby(["row", "device"]).images_per_second.mean()
    devices = sorted(set(board.cells.device))
    labels = [wrapped(name, 40) for name in shown]
    places, edges = stacked(labels, 0.03)
    said = ["unseen (%)", "seconds to fit one run", "images a second in training"][: 3 if speeds.notna().any() else 2]
    with styled():
        figure = blank(WIDTH, (edges[-1] + 0.55) * len(devices) + 0.4, "constrained")
        panels = figure.subplots(len(devices), len(said), sharey=True, squeeze=False)
        for device, line in zip(devices, panels, strict=True):
            for place, (name, row) in zip(places, shown.items(), strict=True):
                seconds = fits.get((row.method, row.pretraining, device), 0.0)
                values = (row.unseen if seconds > 0 else 0.0, seconds, speeds.get((name, device), 0.0))
                for axes, value in zip(line, values, strict=False):
                    if value > 0:
                        axes.plot([value], [place], "o", color=NEUTRAL, ms=4)
            for axes, label in zip(line, said, strict=True):
                axes.grid(axis="both", color="0.92", lw=0.6)
                axes.set(xlabel=label, yticks=places, ylim=(edges[-1], 0))
                axes.tick_params(axis="y", length=0)
                if not axes.lines:
                    axes.set_xticks([])
                elif axes is not line[0]:
                    _logarithmic(axes)
            line[0].set_yticklabels(labels)
            line[0].set_title(device, loc="left", fontsize=8)
        figure.suptitle(titled(board, "Accuracy and cost"), fontsize=9)
        sns.despine(figure, left=True)
    return figure


def _logarithmic(axes: Any) -> None:
    """Make an axis logarithmic, with as many numbers as have room."""
    axes.set_xscale("log")
    axes.margins(0.15)
    low, high = axes.get_xlim()
    said = "23468" if high / low < 6 else "25" if high / low < 30 else "3" if high / low < 100 else ""
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 1 else f"{value:,.0f}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,g}" if f"{value:e}"[0] in said else "")
    axes.tick_params(axis="x", which="both", labelsize=8, length=3, pad=4)


def scaled(boards: Sequence[Board]) -> pd.DataFrame:
    """Return the cells that a curve by share of the data can use, from leaderboards that differ in that share.

    These are the cells of seeds that have every cell, of methods with two shares or more.
    """
    frame = pd.concat([board.cells for board in boards])
    asked = len(frame.drop_duplicates(CELL))
    frame = pd.concat([complete(part, asked) for _, part in frame.groupby([*ROW, "fraction"], sort=False)])
    return frame[frame.groupby(ROW).fraction.transform("nunique") > 1]


def data_scale(boards: Sequence[Board], metric: str, palette: Colours | None = None) -> Figure:
    """Draw accuracy on unseen targets and in-domain by the share of the source's training faces.

    Each method and pre-training has a line: mean and standard deviation over the seeds that have every cell. Methods
    need two shares or more; see `scaled`.

    Args:
        boards: Leaderboards that differ only in the share of the data.
        metric: The name of the metric.
        palette: The colours of the methods; None for a palette of these leaderboards.
    """
    palette = colours(boards) if palette is None else palette
    frame = scaled(boards)
    whole = max(boards, key=lambda board: board.fraction)
    known = dict.fromkeys(pair for board in boards for pair in zip(*(board.table[c] for c in ROW), strict=True))
    there = set(zip(*(frame[c] for c in ROW), strict=True))
    rows = [row for row in known if row in there]
    several = len({method for method, _ in rows}) < len(rows)
    shown = [wrapped(f"{method} [{pretraining}]" if several else method, 52) for method, pretraining in rows]
    across = 2 if len(rows) > 4 else 1
    with styled():
        relations = {"unseen": "unseen", "source": "in-domain"}
        relations = {name: title for name, title in relations.items() if name in set(frame.relation)}
        figure = blank(WIDTH, 2.8 + LINE * most_lines(shown) * -(-len(rows) // across), "constrained")
        ((*panels,),) = figure.subplots(1, len(relations), sharey=True, squeeze=False)
        looks = [{"color": palette[row], "marker": "osD^vP*X"[place % 8]} for place, row in enumerate(rows)]
        for axes, (relation, title) in zip(panels, relations.items(), strict=True):
            cells = frame[frame.relation == relation]
            seeds = cells.groupby([*ROW, "fraction", "seed"])[metric].mean()
            for row, look in zip(rows, looks, strict=True):
                means = seeds[row].groupby("fraction").agg(["mean", "std"])
                percent, low, high = 100 * means.index, means["mean"] - means["std"], means["mean"] + means["std"]
                axes.plot(percent, means["mean"], markersize=4, lw=1.2, **look)
                axes.fill_between(percent, low, high, color=look["color"], alpha=0.2, lw=0)
            axes.axhline(100 / len(EXPRESSIONS), color="grey", lw=0.8, ls=":")
            axes.set(title=title, xlabel="share of the training faces (%)", xlim=(0, 103))
            axes.set_xticks(sorted({100 * fraction for fraction in frame.fraction}))
        panels[0].set_ylabel(f"{NAMES[metric]} (%)")
        lines = [Line2D([], [], markersize=4, lw=1.2, **look) for look in looks]
        lines.append(Line2D([], [], color="grey", lw=0.8, ls=":"))
        figure.legend(lines, [*shown, "chance"], loc="outside lower left", ncol=across, frameon=False, fontsize=7)
        figure.suptitle(titled(replace(whole, fraction=1.0), "Accuracy by share of the training faces"), fontsize=9)
        sns.despine(figure)
    return figure
