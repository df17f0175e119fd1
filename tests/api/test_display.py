"""Progress on a terminal and in a log."""

from __future__ import annotations

import time
from io import StringIO

from rich.console import Console

from fergen_bench.api.display import Bars
from fergen_bench.experiment.run import Run


def test_preparation_shows_its_rate_and_the_time_left() -> None:
    screen = StringIO()
    with Bars(Console(file=screen, force_terminal=True, width=160)) as progress:
        for done in (0, 400, 800):
            progress.preparation("preparing rafdb", done, 1000)
            time.sleep(0.2)
    assert "images/s" in screen.getvalue()
    assert "left" in screen.getvalue()


def test_preparation_is_one_line_in_a_log() -> None:
    screen = StringIO()
    with Bars(Console(file=screen, width=160)) as progress:
        for done in (0, 400, 1000):
            progress.preparation("preparing rafdb", done, 1000)
    assert screen.getvalue() == "preparing rafdb: 1,000 images\n"


def test_a_log_has_one_line_per_run_with_the_time_left() -> None:
    screen = StringIO()
    specs = [Run("s", "official", (name,), {name: "f"}, "m", 1, {}, {}, 0, "last") for name in ("web", "film")]
    with Bars(Console(file=screen, width=160)) as progress:
        progress.begin(2)
        for spec in specs:
            progress.listen(spec, {"what": "epoch", "done": 1, "total": 2})
            progress.end(spec, "fine")
    assert screen.getvalue().splitlines() == [
        "m on web, seed 0: fine · 1 of 2, about 1 s left",
        "m on film, seed 0: fine · 2 of 2",
    ]
