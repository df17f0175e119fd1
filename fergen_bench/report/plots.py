"""The pictures of a report. Colour-blind readers are thought of; synthetic results say so in the picture itself."""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.data.corruption import CLEAN, FACTORS
from fergen_bench.data.labels import EXPRESSIONS, SPLITS
from fergen_bench.records.record import RunRecord
from fergen_bench.report import tables
from fergen_bench.report.canvas import Figure as Figure
from fergen_bench.report.canvas import Line2D, Rectangle, blank, sns, styled
from fergen_bench.report.details import Inspected, class_means, domain_means, similarity
from fergen_bench.report.evidence import Ranking
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import CELL, ROW, Board, Place, comparable, complete, matrix, number
from fergen_bench.report.tables import NAMES as NAMES
from fergen_bench.wording import many

WIDTH = 7.0
"""Inches across two columns of a paper."""
LINE = 0.13
"""Inches from one line of 8 pt to the next."""
_SHORT = [name[:3] for name in EXPRESSIONS]


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Writes NAME.png, NAME.pdf and NAME.svg, without dates, so that the same records give the same files."""
    with styled(svg_hashsalt=name):  # its parts can stand in one page with those of others
        # Laid out and measured once for the three files: most of the time goes there.
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
        box = figure.get_tightbbox().padded(0.1)
        figure.savefig(folder / f"{name}.png", dpi=160, bbox_inches=box, metadata={"Software": None})
        figure.savefig(folder / f"{name}.pdf", bbox_inches=box, metadata={"CreationDate": None})
        figure.savefig(folder / f"{name}.svg", dpi=160, bbox_inches=box, transparent=True, metadata={"Date": None})
    return folder / f"{name}.png"


Colours = Mapping[tuple[str, str], Any]
"""By method and pre-training."""


def colours(boards: Iterable[Board], shifted: pd.DataFrame | None = None) -> Colours:
    """One colour for each row of some leaderboards, best first, and of what was asked about shifts: a method has the
    same one in every figure of a report.
    """
    known = [row for board in boards for row in board.names()]
    if shifted is not None and len(shifted):
        known += zip(shifted.method, shifted.pretraining, strict=True)
    rows = list(dict.fromkeys(known))
    return dict(zip(rows, sns.color_palette("colorblind", len(rows)), strict=True))


def _title(board: Board, what: str) -> str:
    return f"{what}\n{board.title}"


def _wrap(name: str, width: int) -> str:
    """A name in lines of so many letters; a word that is too long for a line is broken behind a mark in it."""
    lines = [""]
    for word in name.split():
        parts = [word] if len(word) <= width else re.findall(rf".{{1,{width}}}?(?:[/:=,_-]|$)|.{{1,{width}}}", word)
        for place, part in enumerate(parts):
            joined = f"{lines[-1]} {part}" if place == 0 and lines[-1] else lines[-1] + part
            lines[-1:] = [joined] if len(joined) <= width else [line for line in (lines[-1], part) if line]
    return "\n".join(lines)


def _most_lines(names: Iterable[str]) -> int:
    return max(name.count("\n") + 1 for name in names)


def class_histogram(about: Mapping[str, Any]) -> Figure:
    """Faces per expression and split of one domain. about: its domain.json."""
    counts: dict[str, dict[str, int]] = {part: about["counts"][part] for part in SPLITS if part in about["counts"]}
    every = [count for part in counts.values() for count in part.values()]
    total = sum(every)
    # Bars of less than half a hundredth of the height cannot be told from none.
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
            for centre, height in zip(centres, heights, strict=True):  # zeros too: an absent expression is news
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


def heatmap(board: Board, method: str, cells: pd.DataFrame, metric: str) -> Figure:
    """Source x target of one method, with what is lost on unseen faces beside the rows and below the columns."""

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
        axes.set_title(_title(board, method))
    return figure


def unseen_bars(board: Board, metric: str, palette: Colours | None = None) -> Figure:
    """Mean over unseen targets, one bar per method, a dot per seed; in-domain accuracy as a mark."""
    palette = colours([board]) if palette is None else palette
    table = board.table.dropna(subset=["unseen"])
    cells = board.cells[board.cells.relation == "unseen"]
    names = board.names()
    rows = list(zip(table.method, table.pretraining, strict=True))
    kinds = list(dict.fromkeys(table.pretraining)) if len(board.marks) > 1 else []
    marks = {row: f" {board.marks[row[1]]}" if kinds and names[row] == row[0] else "" for row in rows}
    shown = [_wrap(names[row] + marks[row], 40) for row in rows]
    with styled():
        height = (LINE * _most_lines(shown) + 0.06) * len(table) + 1.2 + 0.08 * (len(kinds) + 4)
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
        axes.set_title(_title(board, "Generalisation to unseen targets"))
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


def ablation(
    board: Board,
    title: str,
    variants: dict[str, pd.DataFrame],
    metric: str,
    published: Mapping[str, float] | None = None,
    source: str = "",
) -> Figure:
    """Mean over unseen targets of each variant, and the difference from the first one, seed by seed.

    published: accuracies (%) that a paper printed for variants of these names, on other faces than ours and selected
    otherwise. They stand grey in a panel and on an axis of their own. source: where they were printed, in a line.
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
        figure.suptitle(_title(board, title), fontsize=9)
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


RANKS = (
    "Only who is ahead in each cell counts here, not by how much: a weak test, whose bars may join what the table's "
    "ties tell apart"
)
"""What a reader of a diagram of ranks must know, who has read a leaderboard before."""


def critical_difference(board: Board, ranks: Ranking) -> Figure:
    """Mean ranks of methods over the unseen cells, best on the left; bars join those that cannot be told apart (Demšar,
    JMLR 2006).
    """
    from scikit_posthocs import critical_difference_diagram

    names = {name: _wrap(name, 30) for name in ranks.ranks.index}
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
        for (bar,) in drawn["crossbars"]:  # its points come from a set of names, in another order in every process
            bar.set_xdata(np.sort(bar.get_xdata()))
        # A step down holds the longest name; left and right of the axes stand names, within the width of a page.
        below, above = axes.get_ylim()
        down = (above - below) * (LINE * _most_lines(names.values()) + 0.05)
        figure.set_size_inches(WIDTH, down + 1.1)
        axes.set_position((0.32, 0.3 / (down + 1.1), 0.36, down / (down + 1.1)))
        test = f"Friedman {said}; critical difference {ranks.distance:.2f}"
        title = _title(board, f"Mean rank over {ranks.blocks} unseen cells and seeds; {test}")
        figure.suptitle(title, y=1 - 0.1 / (down + 1.1), va="top", fontsize=8)
        figure.text(0.5, 0.1 / (down + 1.1), RANKS, ha="center", fontsize=7, color="0.35")
    return figure


def confusions(record: RunRecord) -> Figure:
    """The confusion matrices of a run, rows summing to one, a panel per target. A record without cells has none."""
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
            # Not seaborn's heatmap, which draws the whole figure anew for every panel; this is done for every run.
            axes.imshow(share, vmin=0, vmax=1, cmap="viridis")
            for row, column in np.argwhere(share >= 0.005):
                value = share[row, column]
                colour = "0.15" if value > 0.5 else "white"
                axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
            axes.set_xticks(range(len(_SHORT)), _SHORT, rotation=90, fontsize=7)
            axes.set_yticks(range(len(_SHORT)), _SHORT if place == 0 else [], fontsize=7)
            axes.tick_params(length=0)
            axes.grid(False)
            sns.despine(ax=axes, left=True, bottom=True)
            axes.set_title(f"{cell.target} ({cell.relation}, n = {cell.count})", fontsize=8)
        note = " (synthetic faces)" if record.spec.synthetic else ""
        figure.suptitle(f"{record.spec.title}{note}", fontsize=9)
    return figure


def confusion_png(record: RunRecord) -> bytes:
    """The confusion matrices of a run as the bytes of a picture."""
    buffer = io.BytesIO()
    figure = confusions(record)
    with styled():
        figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def recall_heatmap(board: Board, recalls: pd.DataFrame) -> Figure:
    """Recall of each expression on unseen targets. recalls: see `details.recall_table`."""
    shown = [_wrap(str(name), 40) for name in recalls.index]
    with styled():
        figure = blank(WIDTH, (LINE * _most_lines(shown) + 0.12) * len(recalls) + 1.8, "constrained")
        axes = figure.subplots()
        scale = {"vmin": 0, "vmax": 100, "cmap": "viridis", "cbar_kws": {"label": "recall (%)"}}
        sns.heatmap(recalls, annot=recalls.map(number), fmt="", linewidths=1, ax=axes, yticklabels=shown, **scale)
        axes.tick_params(axis="y", rotation=0)
        axes.set_xticklabels(recalls.columns, rotation=30, ha="right")
        axes.set_title(_title(board, "Recall of each expression, mean over unseen targets"))
    return figure


def training_curves(board: Board, histories: pd.DataFrame, value: str = "loss") -> Figure:
    """Loss, or val_accuracy (on faces held out of the source), by epoch: a panel per method, a colour per source, mean
    and range over seeds. histories: see `details.histories`.
    """
    name = {"loss": "loss", "val_accuracy": "accuracy on held-out faces of the source (%)"}[value]
    frame = histories.dropna(subset=[value])
    sources = _in_order(board, frame.source)
    with styled():
        figure, panels = _panels(list(dict.fromkeys(frame.row)), "epoch", sharey=value != "loss")
        for row, axes in panels.items():
            own = frame[frame.row == row]
            look = {"palette": "colorblind", "hue_order": sources, "legend": False, "lw": 1}
            spread = {"errorbar": lambda seeds: (seeds.min(), seeds.max()), "err_kws": {"alpha": 0.2, "lw": 0}}
            marker = "o" if own.epoch.nunique() == 1 else None
            said = axes.get_xlabel()
            sns.lineplot(own, x="epoch", y=value, hue="source", ax=axes, marker=marker, **look, **spread)
            axes.set_xlabel(said)
            axes.set_ylabel("")
            axes.xaxis.get_major_locator().set_params(integer=True)
        figure.supylabel(name, fontsize=8)
        _sources(figure, sources)
        figure.suptitle(_title(board, "Training"), fontsize=9)
    return figure


def reliability(board: Board, bins: pd.DataFrame) -> Figure:
    """Share of faces that are right by how sure the method is of them: below the diagonal it is too sure. Larger points
    stand for more faces. bins: see
    `details.reliability_curves`.
    """
    colours = dict(zip(("source", "unseen"), sns.color_palette("colorblind")[1::-1], strict=True))
    with styled():
        figure, panels = _panels(list(dict.fromkeys(bins.row)), "confidence", sharey=True)
        for row, axes in panels.items():
            axes.plot([0, 1], [0, 1], color="0.6", lw=0.8, ls=":")
            for relation, own in bins[bins.row == row].groupby("relation"):
                axes.plot(own.confidence, own.accuracy, color=colours[relation], lw=1)
                size = 2 + 28 * own.faces / own.faces.sum()
                axes.scatter(own.confidence, own.accuracy, size, color=colours[relation], zorder=3)
            axes.set(xlim=(0, 1.02), ylim=(0, 1.02), xticks=[0, 0.5, 1], yticks=[0, 0.5, 1], aspect="equal")
        figure.supylabel("share that is right", fontsize=8)
        lines = [Line2D([], [], color=colour, marker="o", ms=4, lw=1) for colour in colours.values()]
        figure.legend(lines, ["in-domain", "unseen"], loc="outside lower center", ncol=2, frameon=False)
        figure.suptitle(_title(board, "Reliability"), fontsize=9)
    return figure


def cost(board: Board, histories: pd.DataFrame, palette: Colours | None = None) -> Figure:
    """What accuracy on unseen targets costs: seconds to fit one run, and images a second while training, in a row of
    panels for each device, since those of different devices say nothing of methods. histories: see `details.histories`.
    The numbers stand beside the points in the order of the leaderboard.
    """
    palette = colours([board]) if palette is None else palette
    table = board.table.dropna(subset=["unseen"])
    fits = board.cells.drop_duplicates("key").groupby([*ROW, "device"], sort=False).fit_seconds.mean()
    names = board.names()
    shown = {names[row.method, row.pretraining]: row for row in table.itertuples()}
    histories = histories[histories.row.isin(list(shown))]
    speeds = histories.groupby(["row", "device"]).images_per_second.mean()
    devices = sorted(set(board.cells.device))
    listed = [_wrap(f"{place}  {name}", 52) for place, name in enumerate(shown, 1)]
    across = 2 if len(listed) > 6 else 1
    with styled():
        height = 2.3 * len(devices) + 0.6 + LINE * _most_lines(listed) * -(-len(listed) // across)
        figure = blank(WIDTH, height, "constrained")
        said = ["seconds to fit one run", "images a second in training"][: 2 if speeds.notna().any() else 1]
        panels = figure.subplots(len(devices), len(said), sharey=True, squeeze=False)
        own = [palette[row.method, row.pretraining] for row in shown.values()]
        lines = [Line2D([], [], ls="", marker="o", ms=5, color=colour) for colour in own]
        for device, pair in zip(devices, panels, strict=True):
            for place, (name, row) in enumerate(shown.items(), 1):
                values = fits.get((row.method, row.pretraining, device)), speeds.get((name, device))
                for axes, value in zip(pair, values, strict=False):
                    if value is not None and value > 0:
                        axes.plot([value], [row.unseen], "o", color=own[place - 1], ms=5)
                        axes.annotate(str(place), (value, row.unseen), (4, 3), textcoords="offset points", fontsize=7)
            for axes, label in zip(pair, said, strict=True):
                if axes.lines:
                    _logarithmic(axes)
                else:
                    axes.set_xticks([])
                axes.set_xlabel(label)
            pair[0].set_ylabel("unseen (%)")
            pair[0].set_title(device, loc="left", fontsize=8)
        figure.legend(lines, listed, loc="outside lower left", ncol=across, frameon=False, fontsize=7)
        figure.suptitle(_title(board, "Accuracy and cost"), fontsize=9)
        sns.despine(figure)
    return figure


def _logarithmic(axes: Any) -> None:
    """A logarithmic axis with as many numbers as have room."""
    axes.set_xscale("log")
    axes.margins(0.15)
    low, high = axes.get_xlim()
    said = "23468" if high / low < 6 else "25" if high / low < 30 else "3" if high / low < 1000 else ""
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}" if value < 1 else f"{value:,.0f}")
    axes.xaxis.set_minor_formatter(lambda value, _: f"{value:,g}" if f"{value:e}"[0] in said else "")
    axes.tick_params(axis="x", which="both", labelsize=8, length=3, pad=4)


def scaled(boards: Sequence[Board]) -> pd.DataFrame:
    """The cells of leaderboards that differ in the share of the data, as far as a curve can be drawn of them: of seeds
    that have every cell, of methods with two shares or more.
    """
    frame = pd.concat([board.cells for board in boards])
    asked = len(frame.drop_duplicates(CELL))
    frame = pd.concat([complete(part, asked) for _, part in frame.groupby([*ROW, "fraction"], sort=False)])
    return frame[frame.groupby(ROW).fraction.transform("nunique") > 1]


def data_scale(boards: Sequence[Board], metric: str, palette: Colours | None = None) -> Figure:
    """Accuracy on unseen targets and in-domain by the share of the source's training faces, for leaderboards that
    differ in nothing else: a line per method and pre-training, mean and standard deviation over the seeds that have
    every cell. Methods need two shares or more; see `scaled`.
    """
    palette = colours(boards) if palette is None else palette
    frame = scaled(boards)
    whole = max(boards, key=lambda board: board.fraction)
    known = dict.fromkeys(pair for board in boards for pair in zip(*(board.table[c] for c in ROW), strict=True))
    there = set(zip(*(frame[c] for c in ROW), strict=True))
    rows = [row for row in known if row in there]
    several = len({method for method, _ in rows}) < len(rows)
    shown = [_wrap(f"{method} [{pretraining}]" if several else method, 52) for method, pretraining in rows]
    across = 2 if len(rows) > 4 else 1
    with styled():
        relations = {"unseen": "unseen", "source": "in-domain"}
        relations = {name: title for name, title in relations.items() if name in set(frame.relation)}
        figure = blank(WIDTH, 2.8 + LINE * _most_lines(shown) * -(-len(rows) // across), "constrained")
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
        title = whole.title if whole.fraction == 1 else whole.title.rpartition(", ")[0]
        figure.suptitle(f"How much data it takes\n{title}", fontsize=9)
        sns.despine(figure)
    return figure


def mask_distribution(board: Board, method: str, entries: Sequence[Inspected]) -> Figure:
    """Values over the channels, by expression: the mean of each channel over the faces of an expression."""
    means = pd.DataFrame(class_means(entries).T, columns=list(EXPRESSIONS)).melt(var_name="expression")
    with styled():
        figure = blank(WIDTH, 2.6, "constrained")
        axes = figure.subplots()
        colour = sns.color_palette("colorblind")[0]
        look = {"color": colour, "inner": "quartile", "cut": 0, "linewidth": 0.8, "density_norm": "width"}
        sns.violinplot(means.dropna(), x="expression", y="value", order=list(EXPRESSIONS), ax=axes, **look)
        axes.set(xlabel="", ylabel=f"{entries[0].name} of a channel")
        axes.set_title(_title(board, f"{method}: {entries[0].name} by expression"))
        sns.despine(figure)
    return figure


def mask_channels(board: Board, method: str, entries: Sequence[Inspected]) -> Figure:
    """Expression x channel for each source: by how much a channel's mean over the faces of an expression differs from
    its mean over the expressions. Channels stand in the order of the features.
    """
    sources = _in_order(board, (entry.source for entry in entries))
    shown = {source: class_means([entry for entry in entries if entry.source == source]) for source in sources}
    shown = {source: values - np.nanmean(values, axis=0) for source, values in shown.items()}
    reach = float(np.nanmax([np.nanquantile(np.abs(values), 0.995) for values in shown.values()])) or 1.0
    with styled():
        figure = blank(WIDTH, 0.95 * len(sources) + 0.9, "constrained")
        panels = figure.subplots(len(sources), 1, squeeze=False, sharex=True)
        for axes, (source, values) in zip(panels[:, 0], shown.items(), strict=True):
            look = {"cmap": "vlag", "vmin": -reach, "vmax": reach, "aspect": "auto", "interpolation": "nearest"}
            picture = axes.imshow(values, **look)
            axes.set_yticks(range(len(EXPRESSIONS)), _SHORT, fontsize=6)
            axes.set_ylabel(textwrap.shorten(source, 24, placeholder="…"))
        panels[-1, 0].set_xlabel("channel")
        figure.colorbar(picture, ax=panels[:, 0], label="difference from the channel's mean", pad=0.01)
        figure.suptitle(_title(board, f"{method}: {entries[0].name} by expression and channel, trained on"), fontsize=9)
    return figure


def mask_similarity(board: Board, method: str, entries: Sequence[Inspected]) -> Figure:
    """How alike mean values over the channels are: between expressions, between the domains that are scored, and
    between trainings on different domains. In the upper triangle the cosine; in the lower one the correlation after
    each channel's mean over the n vectors was taken away, which leaves -1 / (n - 1) where they have nothing in common.
    """
    classes = class_means(entries)
    groups = {
        "expressions": dict(zip(_SHORT, classes, strict=True)),
        "scored on": domain_means(entries, "target"),
        "trained on": domain_means(entries, "source"),
    }
    groups = {title: vectors for title, vectors in groups.items() if len(vectors) > 1}
    with styled():
        ratios = {"width_ratios": [len(vectors) + 1 for vectors in groups.values()]}
        figure = blank(WIDTH, 2.9, "constrained")
        panels = figure.subplots(1, len(groups), squeeze=False, gridspec_kw=ratios)
        for axes, (title, vectors) in zip(panels[0], groups.items(), strict=True):
            stacked = np.array(list(vectors.values()))
            cosine, correlation = similarity(stacked, np.nanmean(stacked, axis=0))
            above = np.triu(np.ones_like(cosine, dtype=bool))
            names = [textwrap.shorten(name, 12, placeholder="…") for name in vectors]
            look = {"cmap": "vlag", "vmin": -1, "vmax": 1, "cbar": False, "square": True, "linewidths": 0.5}
            labels = {"xticklabels": names, "yticklabels": names}
            small = {"fontsize": 6}
            sns.heatmap(correlation, mask=above, annot=True, fmt=".2f", annot_kws=small, ax=axes, **look, **labels)
            for row, column in zip(*np.triu_indices(len(names), 1), strict=True):
                text = f"{cosine[row, column]:.3f}"
                axes.annotate(text, (column + 0.5, row + 0.5), ha="center", va="center", fontsize=5)
            axes.tick_params(labelsize=7, length=0)
            axes.tick_params(axis="x", rotation=90)
            axes.tick_params(axis="y", rotation=0)
            axes.set_title(title, fontsize=8)
        said = (
            "above the diagonal: cosine; below: correlation without the channels' means (nothing in common: -1/(n-1))"
        )
        title = _title(board, f"{method}: likeness of the {entries[0].name}")
        figure.suptitle(f"{title}\n{said}", fontsize=8)
    return figure


def _in_order(board: Board, sources: Iterable[str]) -> list[str]:
    """Sources in the order of the suite."""
    known = list(dict.fromkeys(board.cells.target))
    return sorted(set(sources), key=lambda name: (known.index(name) if name in known else len(known), name))


def _panels(names: Sequence[str], xlabel: str, sharey: bool) -> tuple[Figure, dict[str, Any]]:
    """A small panel for each name, at most five side by side; the lowest of each column say what x is."""
    across = min(len(names), 5)
    down = -(-len(names) // across)
    figure = blank(max(WIDTH * across / 5, 3.2), 1.5 * down + 1.1, "constrained")
    grid = figure.subplots(down, across, sharey=sharey, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        axes.set_title(_wrap(name, 24), fontsize=7)
        sns.despine(ax=axes)
    for axes in grid.flat[max(len(names) - across, 0) : len(names)]:
        axes.set_xlabel(xlabel)
    return figure, dict(zip(names, grid.flat, strict=False))


def _sources(figure: Figure, sources: Sequence[str]) -> None:
    colours = sns.color_palette("colorblind", len(sources))
    lines = [Line2D([], [], color=colour) for colour in colours]
    figure.legend(lines, sources, loc="outside lower center", ncol=min(len(sources), 5), frameon=False)


def shift_curves(shifted: pd.DataFrame, factor: str, metric: str, title: str, palette: Colours | None = None) -> Figure:
    """What a factor does to each method: mean over the cells that are shifted, a band of one deviation over seeds.

    shifted: rows of `record.shifted_frame` under the same conditions. The faces as they are stand at severity 0, or as
    a dashed line where the factor has a scale of its own. A panel for each relation of the targets.
    """
    palette = colours([], shifted) if palette is None else palette
    frame = tables.shift_means(shifted, factor, metric)
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
                axes.plot(line.level, line["mean"], label=_wrap(name, 34), **look)
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
