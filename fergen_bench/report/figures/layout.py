"""Define sizes, colours and texts that figures share."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.run import percent
from fergen_bench.report.canvas import Bbox, Figure, Line2D, LinearSegmentedColormap, blank, sns, styled
from fergen_bench.report.tables import Board
from fergen_bench.wording import wrapped

COLUMN = 3.4
"""Inches of one column of a paper."""

WIDTH = 7.0
"""Inches across two columns of a paper."""

LINE = 0.13
"""Inches from one line of 8 pt to the next."""

INK = "#262626"
"""The colour of numbers on a heat map. On every colour of both maps its contrast is at least 4.5."""

NEUTRAL = "0.25"
"""The colour of marks whose position says everything."""

HEAT = LinearSegmentedColormap.from_list("heat", ["#f7fbff", "#c6dbef", "#6baed6"])
"""Colours from low to high."""

DIVERGING = LinearSegmentedColormap.from_list("diverging", ["#6baed6", "#f7f7f7", "#f4a582"])
"""Colours from negative to positive."""

SHORT_EXPRESSIONS = [name[:3] for name in EXPRESSIONS]


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write NAME.png, NAME.pdf and NAME.svg, without dates, so that the same records give the same files."""
    with styled(svg_hashsalt=name), _small_fonts():  # unique ids: one page can contain several figures
        # Layout takes most of the time, so it is computed once for the three files.
        if (engine := figure.get_layout_engine()) is not None:
            engine.execute(figure)
            figure.set_layout_engine(None)
        # A paper scales a picture to its column, so the width stays as designed unless something sticks out.
        tight, (width, _) = figure.get_tightbbox(), figure.get_size_inches()
        left, right = min(0.0, tight.x0), max(float(width), tight.x1)
        box = Bbox.from_extents(left, tight.y0 - 0.05, right, tight.y1 + 0.05)
        figure.savefig(folder / f"{name}.png", dpi=160, bbox_inches=box, metadata={"Software": None})
        figure.savefig(folder / f"{name}.pdf", bbox_inches=box, metadata={"CreationDate": None})
        figure.savefig(folder / f"{name}.svg", dpi=160, bbox_inches=box, transparent=True, metadata={"Date": None})
    return folder / f"{name}.png"


_TYPESETTING = ("GSUB", "GPOS", "GDEF", "BASE", "JSTF", "MATH")
"""Tables of a font that choose and place glyphs. A PDF has its glyphs placed, so viewers do not read them."""


@contextmanager
def _small_fonts() -> Iterator[None]:
    """Embed fonts in PDFs from copies without tables for typesetting, which took most of the time of embedding."""
    from fontTools import subset

    usual = subset.load_font

    def load_small(file: Any, *args: Any, **options: Any) -> Any:
        small = None if getattr(file, "face_index", 0) else _without_typesetting(str(file))
        return usual(file if small is None else io.BytesIO(small), *args, **options)

    subset.load_font = load_small
    try:
        yield
    finally:
        subset.load_font = usual


@cache
def _without_typesetting(path: str) -> bytes:
    """Return the content of a font without its tables for typesetting."""
    from fontTools.ttLib import TTFont

    content = io.BytesIO()
    with TTFont(path, recalcBBoxes=False, recalcTimestamp=False, lazy=True) as font:
        for table in _TYPESETTING:
            if table in font:
                del font[table]
        font.save(content)
    return content.getvalue()


_GREY = 7
"""The place of grey in the palette, which stands for methods without a colour."""

Colours = Mapping[tuple[str, str], Any]
"""The colour of each method and pre-training."""


def colours(boards: Iterable[Board], shifted: pd.DataFrame | None = None) -> Colours:
    """Return one colour for each method of a report, so that its line has the same colour in every figure.

    Rows below the first nine are grey: more colours cannot be distinguished.

    Args:
        boards: The leaderboards; their rows come first, best first.
        shifted: Scores on changed test images, whose methods come next.
    """
    known = [row for board in boards for row in board.names()]
    if shifted is not None and len(shifted):
        known += zip(shifted.method, shifted.pretraining, strict=True)
    rows = list(dict.fromkeys(known))
    distinct: list[Any] = [colour for place, colour in enumerate(sns.color_palette("colorblind")) if place != _GREY]
    return dict(zip(rows, [*distinct, *["0.65"] * len(rows)], strict=False))


def titled(board: Board, what: str, width: int = 100) -> str:
    """Return the title of a figure: its subject, then its conditions, in lines of at most `width` characters."""
    return "\n".join(wrapped(line, width) for line in (what, conditions(board)))


def conditions(board: Board) -> str:
    """Return the conditions of a leaderboard in words that a figure needs, without names of options."""
    parts = [
        f"{board.suite}{' (synthetic faces)' if board.synthetic else ''}",
        "trained on one domain" if board.sources == 1 else f"trained on {board.sources} domains",
    ]
    parts += ["with unlabelled target images"] if board.adaptation else []
    parts += ["adapted online to the test images"] if board.online else []
    parts += ["epoch chosen on held-out faces"] if board.selection == "source-val" else []
    parts += [] if board.profile == "official" else [f"{board.profile} split"]
    parts += [] if board.fraction == 1 else [f"{percent(board.fraction)} of the data"]
    parts += [f"only {board.only}"] if board.only else []
    return ", ".join(parts)


def stacked(names: Sequence[str], gap: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the centre and the lower edge in inches of a row for each wrapped name, with room for all of its lines.

    Args:
        names: The names, from top to bottom.
        gap: Inches between two rows.
    """
    heights = np.array([LINE * (name.count("\n") + 1) + gap for name in names])
    edges = heights.cumsum()
    return edges - heights / 2, edges


def most_lines(names: Iterable[str]) -> int:
    """Return the number of lines of the longest of some wrapped names."""
    return max(name.count("\n") + 1 for name in names)


def in_suite_order(board: Board, sources: Iterable[str]) -> list[str]:
    """Return the sources in the order of the suite."""
    known = list(dict.fromkeys(board.cells.target))
    return sorted(set(sources), key=lambda name: (known.index(name) if name in known else len(known), name))


def panel_grid(names: Sequence[str], xlabel: str, sharey: bool) -> tuple[Figure, dict[str, Any]]:
    """Return a small panel for each name, at most five side by side; the lowest of each column has the label of x."""
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
    """Add a legend of sources below a figure, in the colours that its panels use."""
    colours = sns.color_palette("colorblind", len(sources))
    lines = [Line2D([], [], color=colour) for colour in colours]
    figure.legend(lines, sources, loc="outside lower center", ncol=min(len(sources), 5), frameon=False)
