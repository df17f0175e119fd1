"""The pictures of a report. Colour-blind readers are thought of; synthetic results say so in the picture itself."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from fergen_bench.domain import EXPRESSIONS
from fergen_bench.record import RunRecord
from fergen_bench.report import tables
from fergen_bench.report.tables import CELL, Board, comparable, gaps, marks, matrix, number
from fergen_bench.shift import CLEAN, FACTORS

NAMES = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy", "macro_f1": "macro F1"}
_STYLE = {
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "font.size": 9,
    "svg.hashsalt": "fergen-bench",
}
_PARTS = ("train", "val", "test")
"""In this order, each with its colour in every figure."""


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Writes NAME.png and NAME.pdf, without dates, so that the same records give the same files."""
    figure.savefig(folder / f"{name}.png", dpi=160, bbox_inches="tight", metadata={"Software": None})
    figure.savefig(folder / f"{name}.pdf", bbox_inches="tight", metadata={"CreationDate": None})
    plt.close(figure)
    return folder / f"{name}.png"


def _title(board: Board, what: str) -> str:
    return f"{what}\n{board.title}"


def class_histogram(about: Mapping[str, Any]) -> Figure:
    """Faces per expression and split of one domain. about: its domain.json."""
    counts: dict[str, dict[str, int]] = {part: about["counts"][part] for part in _PARTS if part in about["counts"]}
    every = [count for part in counts.values() for count in part.values()]
    total = sum(every)
    # Bars of less than half a hundredth of the height cannot be told from none.
    logarithmic = max(every) > 200 * min((count for count in every if count), default=1)
    floor = 0.7 if logarithmic else 0
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 3.6), layout="constrained")
        width = 0.84 / len(counts)
        for place, (part, row) in enumerate(counts.items()):
            heights = [row[name] for name in EXPRESSIONS]
            centres = np.arange(len(EXPRESSIONS)) + (place - (len(counts) - 1) / 2) * width
            colour = sns.color_palette("colorblind")[list(_PARTS).index(part)]
            axes.bar(centres, heights, width * 0.94, color=colour, label=f"{part} ({sum(heights):,})")
            for centre, height in zip(centres, heights, strict=True):  # zeros too: an absent expression is news
                above = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "fontsize": 7}
                axes.annotate(f"{height:,}", (centre, max(height, floor)), **above)
        axes.set_yscale("log" if logarithmic else "linear")
        axes.set_ylim(floor, max(every) * (2 if logarithmic else 1.08))
        axes.set_xticks(range(len(EXPRESSIONS)), EXPRESSIONS)
        axes.set_ylabel("faces" + (" (logarithmic)" if logarithmic else ""))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        note = ", synthetic faces" if about.get("synthetic") else ""
        axes.set_title(f"{about['name']}: {about.get('layout', 'layout not said')}{note}; {total:,} faces")
        figure.legend(loc="outside lower center", ncol=len(counts), frameon=False)
        sns.despine(figure)
    return figure


def heatmap(board: Board, method: str, cells: pd.DataFrame, metric: str) -> Figure:
    """Source x target of one method, with what is lost on unseen faces beside the rows and below the columns."""
    mean, spread, relation = matrix(cells, metric)
    row_gap, column_gap = gaps(mean, relation)
    said = marks(cells)
    labels = mean.copy().astype(object)
    for source in mean.index:
        for target in mean.columns:
            sd, mark = spread.loc[source, target], said.loc[source, target]
            lines = [number(mean.loc[source, target]), f"± {sd:.1f}" if pd.notna(sd) else "", mark]
            labels.loc[source, target] = "\n".join(line for line in lines if line)
    with plt.rc_context(_STYLE):
        height, width = 0.62 * len(mean) + 1.9, 0.95 * len(mean.columns) + 3.0
        figure, axes = plt.subplots(figsize=(width, height))
        colours = {
            "cmap": "viridis",
            "vmin": 100 / len(EXPRESSIONS),
            "vmax": 100,
            "cbar_kws": {"label": f"{NAMES[metric]} (%)"},
        }
        sns.heatmap(
            mean.astype(float), annot=labels, fmt="", linewidths=1, ax=axes, annot_kws={"fontsize": 8}, **colours
        )
        for row, source in enumerate(mean.index):
            for column, target in enumerate(mean.columns):
                if relation.loc[source, target] == "source":
                    axes.add_patch(plt.Rectangle((column + 0.03, row + 0.03), 0.94, 0.94, fill=False, lw=2, ec="white"))
        axes.set_yticklabels([f"{source}\ngap {number(row_gap[source])}" for source in mean.index], rotation=0)
        axes.set_xticklabels([f"{target}\ngap {number(column_gap[target])}" for target in mean.columns], rotation=0)
        axes.set(xlabel="scored on", ylabel="trained on")
        axes.set_title(_title(board, method))
    return figure


def unseen_bars(board: Board, metric: str) -> Figure:
    """Mean over unseen targets, one bar per method, a dot per seed; in-domain accuracy as a mark."""
    table = board.table.dropna(subset=["unseen"])
    cells = board.cells[board.cells.relation == "unseen"]
    several = table.pretraining.nunique() > 1
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(8.5, 0.62 * len(table) + 1.6), layout="constrained")
        places = np.arange(len(table))
        axes.barh(
            places, table.unseen, color=sns.color_palette("colorblind")[0], alpha=0.75, label="mean over unseen targets"
        )
        axes.plot(
            table.in_domain, places, "D", color=sns.color_palette("colorblind")[1], label="in-domain", markersize=5
        )
        names = board.names()
        shown = []
        for place, row in zip(places, table.itertuples(), strict=True):
            own = cells[(cells.method == row.method) & (cells.pretraining == row.pretraining)]
            whole = comparable({"all": cells.drop_duplicates(CELL), "own": own}).get("own", own[:0])
            per_seed = whole.groupby("seed")[metric].mean()
            label = "one seed" if place == 0 else None
            axes.plot(per_seed, np.full(len(per_seed), place), "o", color="black", markersize=3, label=label)
            name = names[row.method, row.pretraining]
            lines = textwrap.wrap(name, 34) + (textwrap.wrap(row.pretraining, 34) if several else [])
            shown.append("\n".join(lines))
        axes.set_yticks(places, shown, fontsize=8)
        axes.invert_yaxis()
        axes.set(xlabel=f"{NAMES[metric]} (%)", xlim=(0, 100))
        axes.axvline(100 / len(EXPRESSIONS), color="grey", lw=0.8, ls=":", label="chance")
        axes.set_title(_title(board, "Generalisation to unseen targets"))
        figure.legend(loc="outside lower center", ncol=4, frameon=False)
        sns.despine(figure)
    return figure


def ablation(board: Board, title: str, variants: dict[str, pd.DataFrame], metric: str) -> Figure:
    """Mean over unseen targets of each variant, and the difference from the first one, seed by seed."""
    variants = comparable({name: cells[cells.relation == "unseen"] for name, cells in variants.items()})
    names = list(variants)
    scores = {name: cells.groupby("seed")[metric].mean() for name, cells in variants.items()}
    base = scores[names[0]]
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(6.5, 0.45 * len(names) + 1.3))
        blue, orange = sns.color_palette("colorblind")[:2]
        for place, name in enumerate(names):
            own = scores[name]
            axes.plot(own, np.full(len(own), place), "o", color=blue if place else orange, alpha=0.5, markersize=4)
            axes.plot([own.mean()], [place], "D", color=blue if place else orange, markersize=7)
            difference = (own - base).dropna()
            note = "" if place == 0 or difference.empty else f"{difference.mean():+.1f}"
            if len(difference) > 1 and place:
                note += f" ± {difference.std(ddof=1):.1f}"
            axes.annotate(note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        axes.axvline(base.mean(), color=orange, lw=0.8, ls="--")
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set(
            xlabel=f"mean {NAMES[metric]} over unseen targets (%); right: difference from {names[0]}",
            ylim=(len(names) - 0.4, -0.6),
        )
        axes.set_title(_title(board, title))
        sns.despine(figure)
    return figure


def confusion_png(record: RunRecord) -> bytes:
    """The confusion matrices of a run, rows summing to one, a panel per target. A record without cells has none."""
    with plt.rc_context(_STYLE):
        count = len(record.cells)
        figure, panels = plt.subplots(1, count, figsize=(2.7 * count + 0.8, 3.3), squeeze=False)
        for place, (axes, cell) in enumerate(zip(panels[0], record.cells, strict=True)):
            confusion = np.array(cell.confusion, float)
            total = confusion.sum(1, keepdims=True)
            share = np.divide(confusion, total, out=np.full_like(confusion, np.nan), where=total > 0)
            names = [name[:3] for name in EXPRESSIONS]
            sns.heatmap(
                share,
                annot=True,
                fmt=".2f",
                annot_kws={"fontsize": 6},
                vmin=0,
                vmax=1,
                cbar=False,
                square=True,
                ax=axes,
                cmap="viridis",
            )
            axes.set_xticklabels(names, rotation=90, fontsize=7)
            axes.set_yticklabels(names if place == 0 else [], rotation=0, fontsize=7)
            axes.set_title(f"{cell.target} ({cell.relation}, n = {cell.count})", fontsize=8)
        note = " (synthetic faces)" if record.spec.synthetic else ""
        figure.suptitle(f"{record.spec.title}{note}", fontsize=9)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        plt.close(figure)
    return buffer.getvalue()


def shift_curves(shifted: pd.DataFrame, factor: str, metric: str, title: str) -> Figure:
    """What a factor does to each method: mean over the cells that are shifted, a band of one deviation over seeds.

    shifted: rows of `record.shifted_frame` under the same conditions. The faces as they are stand at severity 0, or as
    a dashed line where the factor has a scale of its own. A panel for each relation of the targets.
    """
    frame = tables.shift_means(shifted, factor, metric)
    rendered = FACTORS[factor].rendered
    relations = [name for name in ("source", "seen", "unseen") if name in set(frame.relation)]
    methods = list(dict.fromkeys(zip(frame.method, frame.pretraining, strict=True)))
    several = len({method for method, _ in methods}) < len(methods)
    with plt.rc_context({**_STYLE, "font.size": 8, "axes.labelsize": 8, "xtick.labelsize": 8, "ytick.labelsize": 8}):
        figure, panels = plt.subplots(
            1, len(relations), figsize=(3.4 * len(relations), 2.8), squeeze=False, sharey=True, layout="constrained"
        )
        colours = sns.color_palette("colorblind", len(methods))
        for axes, relation in zip(panels[0], relations, strict=True):
            for place, (method, pretraining) in enumerate(methods):
                own = frame[
                    (frame.method == method) & (frame.pretraining == pretraining) & (frame.relation == relation)
                ]
                clean, moved = own[own.factor == CLEAN], own[own.factor == factor]
                name = f"{method} [{pretraining}]" if several else method
                look = {"color": colours[place], "marker": "osD^vP*X"[place % 8], "markersize": 3.5, "lw": 1.2}
                line = moved if rendered else pd.concat([clean, moved])
                axes.plot(line.level, line["mean"], label="\n".join(textwrap.wrap(name, 34)), **look)
                axes.fill_between(
                    line.level, line["mean"] - line.sd, line["mean"] + line.sd, color=colours[place], alpha=0.2, lw=0
                )
                if rendered and len(clean):
                    axes.axhline(clean["mean"].iloc[0], color=colours[place], lw=0.8, ls="--")
            axes.axhline(100 / len(EXPRESSIONS), color="grey", lw=0.8, ls=":")
            said = {"source": "own test faces", "seen": "seen targets", "unseen": "unseen targets"}[relation]
            axes.set(xlabel=FACTORS[factor].about, ylim=(0, 100))
            axes.set_title(said, fontsize=8)
        panels[0][0].set_ylabel(f"{NAMES[metric]} (%)")
        figure.suptitle(f"{factor}\n{title}", fontsize=9)
        handles, labels = panels[0][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncol=2, frameon=False, fontsize=7)
        sns.despine(figure)
    return figure
