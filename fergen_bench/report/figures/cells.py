"""Draw figures of cells, domains and changed test images."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.data.corruption import CLEAN, FACTORS
from fergen_bench.data.labels import EXPRESSIONS, SPLITS
from fergen_bench.records.record import RunRecord
from fergen_bench.report.canvas import Figure, Line2D, blank, sns, styled
from fergen_bench.report.figures.layout import HEAT, INK, LINE, SHORT_EXPRESSIONS, Colours, colours, panel_grid, titled
from fergen_bench.report.shifts import shift_means
from fergen_bench.report.tables import NAMES, Board
from fergen_bench.wording import many, wrapped


def class_histogram(about: Mapping[str, Any]) -> Figure:
    """Draw the number of faces per expression and split of one domain.

    Args:
        about: The content of its domain.json.
    """
    counts: dict[str, dict[str, int]] = {part: about["counts"][part] for part in SPLITS if part in about["counts"]}
    every = [count for part in counts.values() for count in part.values()]
    total = sum(every)
    # Bars of less than half a hundredth of the height are invisible.
    logarithmic = max(every) > 200 * min((count for count in every if count), default=1)
    floor = 0.7 if logarithmic else 0
    with styled():
        figure = blank(8.5, 3.6, "constrained")
        axes = figure.subplots()
        width = 0.84 / len(counts)
        for place, (part, row) in enumerate(counts.items()):
            heights = [row[name] for name in EXPRESSIONS]
            centres = np.arange(len(EXPRESSIONS)) + (place - (len(counts) - 1) / 2) * width
            colour = sns.color_palette("colorblind")[SPLITS.index(part)]
            axes.bar(centres, heights, width * 0.94, color=colour, label=f"{part} ({sum(heights):,})")
            for centre, height in zip(centres, heights, strict=True):  # zeros too, to show an absent expression
                above: dict[str, Any] = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "fontsize": 7}
                axes.annotate(f"{height:,}", (centre, max(height, floor)), **above)
        axes.set_yscale("log" if logarithmic else "linear")
        axes.set_ylim(floor, max(every) * (2 if logarithmic else 1.08))
        axes.set_xticks(range(len(EXPRESSIONS)), EXPRESSIONS)
        axes.set_ylabel("faces" + (" (logarithmic)" if logarithmic else ""))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        note = ", synthetic faces" if about.get("synthetic") else ""
        axes.set_title(f"{about['name']}: {about.get('layout', 'layout not said')}{note}; {many(total, 'face')}")
        figure.legend(loc="outside lower center", ncol=len(counts), frameon=False)
        sns.despine(figure)
    return figure


def confusions(record: RunRecord) -> Figure:
    """Draw the confusion matrices of a run with at least one cell: rows sum to one, one panel per target."""
    with styled():
        count = len(record.cells)
        figure = blank(2.2 * count + 0.9, 3.1)
        panels = figure.subplots(1, count, squeeze=False)
        left, right = 0.8 / (2.2 * count + 0.9), 1 - 0.1 / (2.2 * count + 0.9)
        figure.subplots_adjust(left, 0.17, right, 0.84, wspace=0.06)
        for place, (axes, cell) in enumerate(zip(panels[0], record.cells, strict=True)):
            confusion = np.array(cell.confusion, float)
            total = confusion.sum(1, keepdims=True)
            share = np.divide(confusion, total, out=np.full_like(confusion, np.nan), where=total > 0)
            # Every run has this figure, and seaborn's heatmap would draw the whole figure again for every panel.
            axes.imshow(share, vmin=0, vmax=1, cmap=HEAT)
            for row, column in np.argwhere(share >= 0.005):
                value = share[row, column]
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=INK)
            axes.set_xticks(range(len(SHORT_EXPRESSIONS)), SHORT_EXPRESSIONS, rotation=90, fontsize=7)
            axes.set_yticks(range(len(SHORT_EXPRESSIONS)), SHORT_EXPRESSIONS if place == 0 else [], fontsize=7)
            axes.tick_params(length=0)
            axes.grid(False)
            sns.despine(ax=axes, left=True, bottom=True)
            axes.set_title(f"{cell.target} ({cell.relation}, n = {cell.count})", fontsize=8)
        note = " (synthetic faces)" if record.spec.synthetic else ""
        figure.suptitle(f"{record.spec.title}{note}", fontsize=9)
    return figure


def confusion_png(record: RunRecord) -> bytes:
    """Return the confusion matrices of a run as the bytes of a PNG."""
    buffer = io.BytesIO()
    figure = confusions(record)
    with styled():
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def reliability(board: Board, bins: pd.DataFrame) -> Figure:
    """Draw accuracy by confidence; below the diagonal the method is overconfident, and larger points are more faces.

    Args:
        board: The leaderboard.
        bins: See `details.reliability_curves`.
    """
    colours = dict(zip(("source", "unseen"), sns.color_palette("colorblind")[1::-1], strict=True))
    with styled():
        figure, panels = panel_grid(list(dict.fromkeys(bins.row)), "confidence", sharey=True)
        for row, axes in panels.items():
            axes.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":")
            for relation, own in bins[bins.row == row].groupby("relation"):
                axes.plot(own.confidence, own.accuracy, color=colours[relation], lw=1)
                size = 2 + 28 * own.faces / own.faces.sum()
                axes.scatter(own.confidence, own.accuracy, size, color=colours[relation], zorder=3)
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
        lines = [Line2D([], [], color=colour, marker="o", ms=4, lw=1) for colour in colours.values()]
        figure.legend(lines, ["in-domain", "unseen"], loc="outside lower center", ncol=2, frameon=False)
        figure.suptitle(titled(board, "Share of right answers (vertical) by confidence"), fontsize=9)
    return figure


def shift_curves(shifted: pd.DataFrame, factor: str, metric: str, title: str, palette: Colours | None = None) -> Figure:
    """Draw the metric by level of a factor: the mean over the changed cells, with a band of one deviation over seeds.

    Unchanged faces are at severity 0, or a dashed line if the factor has its own scale. Each relation of the targets
    has a panel.

    Args:
        shifted: Rows of `record.shifted_frame` under the same conditions.
        factor: The name of the factor.
        metric: The name of the metric.
        title: The second line of the title.
        palette: The colours of the methods; None for a palette of these rows.
    """
    palette = colours([], shifted) if palette is None else palette
    frame = shift_means(shifted, factor, metric)
    rendered = FACTORS[factor].rendered
    relations = [name for name in ("source", "seen", "unseen") if name in set(frame.relation)]
    methods = list(dict.fromkeys(zip(frame.method, frame.pretraining, strict=True)))
    several = len({method for method, _ in methods}) < len(methods)
    with styled():
        figure = blank(max(3.4 * len(relations), 4.6), 2.6 + LINE * (len(methods) // 2 + 1), "constrained")
        panels = figure.subplots(1, len(relations), squeeze=False, sharey=True)
        for axes, relation in zip(panels[0], relations, strict=True):
            for place, (method, pretraining) in enumerate(methods):
                own = frame[
                    (frame.method == method) & (frame.pretraining == pretraining) & (frame.relation == relation)
                ]
                clean, moved = own[own.factor == CLEAN], own[own.factor == factor]
                name = f"{method} [{pretraining}]" if several else method
                colour = palette[method, pretraining]
                look = {"color": colour, "marker": "osD^vP*X"[place % 8], "markersize": 3.5, "lw": 1.2}
                line = moved if rendered else pd.concat([clean, moved])
                axes.plot(line.level, line["mean"], label=wrapped(name, 34), **look)
                axes.fill_between(
                    line.level, line["mean"] - line.sd, line["mean"] + line.sd, color=colour, alpha=0.2, lw=0
                )
                if rendered and len(clean):
                    axes.axhline(clean["mean"].iloc[0], color=colour, lw=0.8, ls="--")
            axes.axhline(100 / len(EXPRESSIONS), color="grey", lw=0.8, ls=":")
            said = {"source": "own test faces", "seen": "seen targets", "unseen": "unseen targets"}[relation]
            axes.set(xlabel=FACTORS[factor].about, ylim=(0, 100))
            axes.set_title(said, fontsize=8)
        panels[0][0].set_ylabel(f"{NAMES[metric]} (%)")
        figure.suptitle(f"Under controlled shift\n{title}", fontsize=9)  # the axis names the factor
        handles, labels = panels[0][0].get_legend_handles_labels()
        handles.append(Line2D([], [], color="grey", lw=0.8, ls=":"))
        labels.append("chance")
        if rendered:
            handles.append(Line2D([], [], color="0.3", lw=0.8, ls="--"))
            labels.append("the same faces as they are")
        figure.legend(handles, labels, loc="outside lower center", ncol=2, frameon=False, fontsize=7)
        sns.despine(figure)
    return figure
