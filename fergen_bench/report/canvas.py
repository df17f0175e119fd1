"""Figures that look alike everywhere: matplotlib's defaults and one style, whatever the user or a notebook has set.

A figure has an Agg canvas of its own, so that no backend is chosen for the process; `matplotlibrc`, MPLBACKEND and what
a notebook has set with rcParams are left alone and not heeded.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import AbstractContextManager, suppress
from typing import Any, Literal

from fergen_bench.error import BenchError


def _import_matplotlib() -> None:
    """Import matplotlib even where MPLBACKEND names a backend that is not installed, as notebooks hand it on."""
    named = os.environ.pop("MPLBACKEND", None)
    try:
        import matplotlib
    except UnicodeDecodeError:  # of matplotlibrc, which matplotlib has named on standard error
        raise BenchError("matplotlib cannot be loaded: its file matplotlibrc is not UTF-8; save it anew") from None
    finally:
        if named is not None:
            os.environ["MPLBACKEND"] = named
    if named is not None and "matplotlib.pyplot" not in sys.modules:
        with suppress(ValueError):
            matplotlib.rcParams["backend"] = named  # for whoever uses pyplot in this process


if "matplotlib" not in sys.modules:
    _import_matplotlib()

import seaborn as sns  # noqa: E402
from matplotlib import figure as figures  # noqa: E402
from matplotlib import style  # noqa: E402
from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Rectangle  # noqa: E402

__all__ = ["Figure", "Line2D", "Rectangle", "blank", "sns", "styled"]

_STYLE = {
    "axes.titlesize": 9,
    "axes.labelsize": 8,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "font.size": 8,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.fonttype": "none",  # text stays text: small, and readers can search it
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
    """Return a context in which figures are drawn in the style of reports. changes: of settings, . written as _."""
    return style.context(["default", _STYLE, {name.replace("_", ".", 1): value for name, value in changes.items()}])


def blank(width: float, height: float, layout: Literal["constrained"] | None = None) -> Figure:
    """Return an empty figure. Its size is in inches."""
    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure
