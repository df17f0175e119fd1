"""Draw figures that look the same everywhere, with matplotlib's defaults and the style of reports.

Each figure has its own Agg canvas, so the process needs no backend. Settings from `matplotlibrc`, MPLBACKEND and a
notebook's rcParams neither change nor affect these figures.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal

from fergen_bench.error import BenchError


def _import_matplotlib() -> None:
    """Import matplotlib even where MPLBACKEND names a backend that is not installed, as in processes of a notebook."""
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except UnicodeDecodeError:  # matplotlibrc, whose path matplotlib prints to standard error
        raise BenchError("matplotlib cannot be loaded: its file matplotlibrc is not UTF-8; save it anew") from None
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named is not None and "matplotlib.pyplot" not in sys.modules:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = named  # for other uses of pyplot in this process


if "matplotlib" not in sys.modules:
    _import_matplotlib()

import seaborn as sns  # noqa: E402
from matplotlib import figure as figures  # noqa: E402
from matplotlib import style  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.colors import LinearSegmentedColormap  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402
from matplotlib.transforms import Bbox  # noqa: E402

__all__ = ["Bbox", "Figure", "Line2D", "LinearSegmentedColormap", "Rectangle", "blank", "sns", "styled"]

_STYLE = {
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "font.size": 8,
    "font.family": "DejaVu Sans",  # the one that comes with matplotlib; looking for others took time for every text
    "text.parse_math": False,  # a name may contain a dollar sign
    "svg.fonttype": "none",  # text stays text: small, and readers can search it
    "pdf.fonttype": 42,  # TrueType: publishers reject matplotlib's default, Type 3
    "svg.hashsalt": "fergen-bench",
}


class Figure(figures.Figure):
    """A matplotlib figure that a notebook shows as a picture, whatever backend it uses or none."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        with styled():
            self.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
        return buffer.getvalue()


def styled(**changes: Any) -> AbstractContextManager[None]:
    """Return a context in which figures have the style of reports.

    Args:
        **changes: Other matplotlib settings; the first _ of a name stands for a dot, as in `svg_hashsalt`.
    """
    return style.context(["default", _STYLE, {name.replace("_", ".", 1): value for name, value in changes.items()}])


def blank(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Return an empty figure.

    Args:
        width: Inches.
        height: Inches.
        layout: The layout engine of matplotlib, or None.
    """
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure
