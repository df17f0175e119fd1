"""Round the numbers that are shown in a log, on a terminal, in files, in figures and on the page."""

from __future__ import annotations

import math

SLACK = 1e-5
"""In tenths. A mean halfway between two tenths is a little less or more, depending on the order of its summands."""


def tenth(value: float, signed: bool = False) -> str:
    """Return 61.4, or +61.4 where signed; — for nan. Halves round away from zero; page.js does the same."""
    if math.isnan(value):
        return "—"
    size = math.floor(abs(value) * 10 + 0.5 + SLACK) / 10
    sign = "" if not size else "-" if value < 0 else "+" if signed else ""
    return f"{sign}{size:.1f}"
