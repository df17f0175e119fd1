"""Sizes, colours and texts that figures share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.report.canvas import Figure, Line2D, blank, sns, styled
from fergen_bench.report.tables import Board

WIDTH = 7.0
"""Inches across two columns of a paper."""

LINE = 0.13
"""Inches from one line of 8 pt to the next."""

SHORT_EXPRESSIONS = [name[:3] for name in EXPRESSIONS]


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


def titled(board: Board, what: str) -> str:
    return f"{what}\n{board.title}"


def wrapped(name: str, width: int) -> str:
    """A name in lines of so many letters; a word that is too long for a line is broken behind a mark in it."""
    lines = [""]
    for word in name.split():
        parts = [word] if len(word) <= width else re.findall(rf".{{1,{width}}}?(?:[/:=,_-]|$)|.{{1,{width}}}", word)
        for place, part in enumerate(parts):
            joined = f"{lines[-1]} {part}" if place == 0 and lines[-1] else lines[-1] + part
            lines[-1:] = [joined] if len(joined) <= width else [line for line in (lines[-1], part) if line]
    return "\n".join(lines)


def most_lines(names: Iterable[str]) -> int:
    return max(name.count("\n") + 1 for name in names)


def in_suite_order(board: Board, sources: Iterable[str]) -> list[str]:
    """Sources in the order of the suite."""
    known = list(dict.fromkeys(board.cells.target))
    return sorted(set(sources), key=lambda name: (known.index(name) if name in known else len(known), name))


def panel_grid(names: Sequence[str], xlabel: str, sharey: bool) -> tuple[Figure, dict[str, Any]]:
    """A small panel for each name, at most five side by side; the lowest of each column say what x is."""
    across = min(len(names), 5)
    down = -(-len(names) // across)
    figure = blank(max(WIDTH * across / 5, 3.2), 1.5 * down + 1.1, "constrained")
    grid = figure.subplots(down, across, sharey=sharey, squeeze=False)
    for axes in grid.flat[len(names) :]:
        axes.set_visible(False)
    for axes, name in zip(grid.flat, names, strict=False):
        axes.set_title(wrapped(name, 24), fontsize=7)
        sns.despine(ax=axes)
    for axes in grid.flat[max(len(names) - across, 0) : len(names)]:
        axes.set_xlabel(xlabel)
    return figure, dict(zip(names, grid.flat, strict=False))


def source_legend(figure: Figure, sources: Sequence[str]) -> None:
    colours = sns.color_palette("colorblind", len(sources))
    lines = [Line2D([], [], color=colour) for colour in colours]
    figure.legend(lines, sources, loc="outside lower center", ncol=min(len(sources), 5), frameon=False)
