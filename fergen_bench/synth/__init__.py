"""synth5, the embedded suite: five domains of rendered faces, so that the benchmark runs without a dataset licence.

All results on it are labelled synthetic. This file loads neither numpy nor torch.
"""

from __future__ import annotations

from pathlib import Path

from fergen_bench.data.suite import Suite

VERSION = 2
"""Raised when an image or a label of the suite changes.

Version 1 rendered other bytes on other processors. Version 2 has the same people, expressions and labels; one in 6,500
of its values at 64 px differs from version 1, three quarters of these by one grey level.
"""

DOMAINS = ("web", "grey48", "wild", "film", "scrape")
WEIGHTS = Path(__file__).parent / "weights"

_TINY = 10
"""synth5-tiny contains the first tenth of every split."""

DISTINCT = "each face is rendered from random numbers of its own, drawn by its domain, split and row"
"""The reason why the domains need no audit. A comparison of the 20,000 images of synth5 found no near-duplicates."""


def _suite(name: str, about: str) -> Suite:
    return Suite(
        name,
        DOMAINS,
        backbone="synth",
        trunk="synth-trunk",
        recipe="small",
        synthetic=True,
        distinct=DISTINCT,
        about=about,
    )


SUITES = {
    suite.name: suite
    for suite in (
        _suite("synth5", "five domains of rendered faces, 64 pixels"),
        _suite("synth5-112", "the same faces at 112 pixels"),
        _suite("synth5-224", "the same faces at 224 pixels"),
        _suite("synth5-tiny", "the first tenth of synth5, for trials and tests"),
    )
}


def size_of(suite: str) -> int:
    """Return the side of a suite's images in pixels."""
    return {"synth5-112": 112, "synth5-224": 224}.get(suite, 64)


def share_of(suite: str) -> int:
    """Return n for a suite that contains the first 1/n of every split."""
    return _TINY if suite == "synth5-tiny" else 1
