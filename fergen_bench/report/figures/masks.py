"""Draw the values that methods select from the features of each image."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report.canvas import Figure, blank, sns, styled
from fergen_bench.report.details import Inspected, class_means, domain_means, similarity
from fergen_bench.report.figures.layout import DIVERGING, INK, SHORT_EXPRESSIONS, WIDTH, in_suite_order, titled
from fergen_bench.report.tables import Board
from fergen_bench.wording import wrapped


def mask_distribution(board: Board, method: str, entries: Sequence[Inspected]) -> Figure:
    """Draw the values over the channels, by expression: the mean of each channel over the faces of an expression."""
    means = pd.DataFrame(class_means(entries).T, columns=list(EXPRESSIONS)).melt(var_name="expression")
    with styled():
        figure = blank(WIDTH, 2.6, "constrained")
        axes = figure.subplots()
        colour = sns.color_palette("colorblind")[0]
        look = {"color": colour, "inner": "quartile", "cut": 0, "linewidth": 0.8, "density_norm": "width"}
        sns.violinplot(means.dropna(), x="expression", y="value", order=list(EXPRESSIONS), ax=axes, **look)
        axes.set(xlabel="", ylabel=f"{entries[0].name} of a channel")
        axes.set_title(titled(board, f"{method}: {entries[0].name} by expression"))
        sns.despine(figure)
    return figure


def mask_channels(board: Board, method: str, entries: Sequence[Inspected]) -> Figure:
    """Draw expression x channel for each source, with channels in the order of the features.

    The colour is the mean of a channel over the faces of an expression minus its mean over the expressions.
    """
    sources = in_suite_order(board, (entry.source for entry in entries))
    shown = {source: class_means([entry for entry in entries if entry.source == source]) for source in sources}
    shown = {source: values - np.nanmean(values, axis=0) for source, values in shown.items()}
    reach = float(np.nanmax([np.nanquantile(np.abs(values), 0.995) for values in shown.values()])) or 1.0
    with styled():
        figure = blank(WIDTH, 0.95 * len(sources) + 0.9, "constrained")
        panels = figure.subplots(len(sources), 1, squeeze=False, sharex=True)
        for axes, (source, values) in zip(panels[:, 0], shown.items(), strict=True):
            look = {"cmap": DIVERGING, "vmin": -reach, "vmax": reach, "aspect": "auto", "interpolation": "nearest"}
            picture = axes.imshow(values, **look)
            axes.set_yticks(range(len(EXPRESSIONS)), SHORT_EXPRESSIONS, fontsize=6)
            axes.set_ylabel(textwrap.shorten(source, 24, placeholder="…"))
        panels[-1, 0].set_xlabel("channel")
        figure.colorbar(picture, ax=panels[:, 0], label="difference from the channel's mean", pad=0.01)
        figure.suptitle(titled(board, f"{method}: {entries[0].name} by expression and channel, trained on"), fontsize=9)
    return figure


def mask_similarity(board: Board, method: str, entries: Sequence[Inspected]) -> Figure:
    """Draw the similarity of mean values over the channels.

    There are three panels: between expressions, between scored domains, and between trainings on different domains. The
    upper triangle shows one minus the cosine, in thousandths. The lower one shows the correlation after each channel's
    mean over the n vectors is subtracted, which is -1 / (n - 1) for vectors without a common pattern.
    """
    classes = class_means(entries)
    groups = {
        "expressions": dict(zip(SHORT_EXPRESSIONS, classes, strict=True)),
        "scored on": domain_means(entries, "target"),
        "trained on": domain_means(entries, "source"),
    }
    for title in ("scored on", "trained on"):
        groups[title] = {name: groups[title][name] for name in in_suite_order(board, groups[title])}
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
            # seaborn's heatmap would draw the whole figure again for every panel.
            look = {"cmap": DIVERGING, "vmin": -1, "vmax": 1, "edgecolor": "white", "linewidths": 0.5}
            axes.pcolormesh(np.ma.masked_where(above | np.isnan(correlation), correlation), **look)
            # Numbers are inside their cells, so the layout need not measure them.
            small: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6, "in_layout": False}
            for row, column in zip(*np.tril_indices(len(names), -1), strict=True):
                if not np.isnan(value := correlation[row, column]):
                    axes.text(column + 0.5, row + 0.5, f"{value:.2f}", color=INK, **small)
            for row, column in zip(*np.triu_indices(len(names), 1), strict=True):
                apart = 1000 * (1 - cosine[row, column])
                text = f"{apart:.1f}" if apart >= 0.05 else f"{max(apart, 0):.2g}"
                axes.text(column + 0.5, row + 0.5, text, **small)
            axes.set(xlim=(0, len(names)), ylim=(len(names), 0), aspect="equal")
            places = np.arange(len(names)) + 0.5
            axes.set_xticks(places, names, fontsize=7, rotation=90)
            axes.set_yticks(places, names, fontsize=7)
            axes.tick_params(length=0, left=False, bottom=False)
            sns.despine(ax=axes, left=True, bottom=True)
            axes.set_title(title, fontsize=8)
        said = (
            "above the diagonal: 1 - cosine, in thousandths; below: correlation without the channels' means "
            "(nothing in common: -1/(n-1))"
        )
        title = titled(board, f"{method}: similarity of the {entries[0].name}")
        figure.suptitle(f"{title}\n{wrapped(said, 100)}", fontsize=8)
    return figure
