"""The one rounding of numbers that are shown: in a log, on a terminal, in files, in figures and on the page."""

from __future__ import annotations

import math

SLACK = 1e-5
"""Of a tenth. A mean that is halfway between two tenths comes to a little less or more, by the order of its sum."""


def tenth(value: float, signed: bool = False) -> str:
    """61.4, or +61.4 where signed; — where there is nothing. Halves go away from zero; page.js does the same."""
    if math.isnan(value):
        return "—"
    size = math.floor(abs(value) * 10 + 0.5 + SLACK) / 10
    sign = "" if not size else "-" if value < 0 else "+" if signed else ""
    return f"{sign}{size:.1f}"
