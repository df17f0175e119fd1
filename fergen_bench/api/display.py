"""The display of progress: bars on a terminal and in a notebook, one line per run in a log, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from fergen_bench.wording import duration, many

if TYPE_CHECKING:
    from rich.console import Console

    from fergen_bench.experiment.run import Run


class Display:
    """A display that shows nothing; the base of those that do."""

    shown: Mapping[str, str] = {}

    def __enter__(self) -> Display:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def say(self, text: str, style: str = "") -> None:
        """Print a line."""

    def note(self, text: str) -> None:
        """Print a remark about the work."""
        self.say(f"note: {text}", style="dim")

    def warn(self, text: str) -> None:
        """Print a remark about something that may make numbers worthless."""
        self.say(f"warning: {text}", style="yellow")

    def preparation(self, what: str, done: int, total: int) -> None:
        """Show work that is done once, before the runs. Has the signature of a `Progress`."""

    def busy(self, what: str) -> AbstractContextManager[Any]:
        """Return a context in which work without a count is shown."""
        return nullcontext()

    def begin(self, runs: int) -> None:
        """Show that so many runs begin."""

    def listen(self, spec: Run, message: dict[str, Any]) -> None:
        """Show what a worker reports about its run."""

    def end(self, spec: Run, result: str | None) -> None:
        """Show that a run has ended.

        Args:
            spec: The run.
            result: Its scores in words; None where a line about it was printed before.
        """


class Bars(Display):
    """Bars on a terminal and in a notebook with ipywidgets; elsewhere a line per preparation and finished run."""

    def __init__(self, console: Console, shown: Mapping[str, str] | None = None) -> None:
        from rich import progress
        from rich.text import Text

        class Rate(progress.ProgressColumn):
            def render(self, task: progress.Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text(f"{speed:,.0f} images/s" if speed and task.fields.get("images") else "")

        self.console = console
        self.shown = shown or {}
        self._live = has_bars(console)
        self._bars = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=20),
            progress.TaskProgressColumn(),
            Rate(),
            progress.TimeElapsedColumn(),
            progress.TextColumn("left"),
            progress.TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not self._live,
            speed_estimate_period=3600.0,  # seconds: a run may report nothing for many minutes
        )
        self._tasks: dict[str, Any] = {}
        self._shares: dict[str, float] = {}  # the finished share of every run that has begun
        self._ended, self._runs, self._began = 0, 0, 0.0
        self._all: Any = None

    def __enter__(self) -> Bars:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def say(self, text: str, style: str = "") -> None:
        """Print a line above the bars."""
        self.console.print(text, style=style)

    def preparation(self, what: str, done: int, total: int) -> None:
        """Show a bar, or one line in a log."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, images=True)
            if not self._live:
                self.say(f"{what}: {many(total, 'image')}")
        self._bars.update(self._tasks[what], completed=done, total=total)

    def busy(self, what: str) -> AbstractContextManager[Any]:
        """Return a context that shows a spinner on a terminal."""
        return busy(self.console, what)

    def begin(self, runs: int) -> None:
        """Add the bar of all runs."""
        self._all = self._bars.add_task(many(runs, "run"), total=runs)
        self._runs, self._began = runs, time.monotonic()

    def listen(self, spec: Run, message: dict[str, Any]) -> None:
        """Move the bar of a run."""
        if "what" not in message:
            return
        key, what, title = spec.key, message["what"], spec.called(self.shown)
        if key not in self._tasks:
            self._tasks[key] = self._bars.add_task(title, total=None)
        described = title if what == "epoch" else f"{title}: {what}"
        self._bars.update(self._tasks[key], description=described, completed=message["done"], total=message["total"])
        if what == "epoch":
            self._shares[key] = message["done"] / max(1, message["total"])
            self._bars.update(self._all, completed=sum(self._shares.values()))

    def end(self, spec: Run, result: str | None) -> None:
        """Remove the bar of a run, and print its scores."""
        if spec.key in self._tasks:
            self._bars.remove_task(self._tasks.pop(spec.key))
        self._shares[spec.key] = 1.0
        self._bars.update(self._all, completed=sum(self._shares.values()))
        self._ended += 1
        if result is not None:
            self.say(f"{spec.called(self.shown)}: {result}" + ("" if self._live else f" · {self._left()}"))

    def _left(self) -> str:
        """Return how many runs have ended, and an estimate of the time for the rest, for a log without bars."""
        done = sum(self._shares.values())
        seconds = (time.monotonic() - self._began) / done * (self._runs - done)
        left = f", about {duration(seconds)} left" if self._ended < self._runs else ""
        return f"{self._ended} of {self._runs}{left}"


def has_bars(console: Console) -> bool:
    """Return whether rich can draw bars on a console: on a terminal, and in a notebook that has ipywidgets."""
    from importlib.util import find_spec

    return console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None)


def busy(console: Console, what: str) -> AbstractContextManager[Any]:
    """Return a context that shows a spinner on a terminal, for work without a count."""
    return console.status(what) if console.is_terminal else nullcontext()


def display(progress: bool) -> Display:
    """Return the display of a call from Python: rich's in a terminal or a notebook, and none elsewhere."""
    if not progress or not (sys.stderr.isatty() or "ipykernel" in sys.modules):
        return Display()
    from rich.console import Console

    return Bars(Console(stderr=True, highlight=False, markup=False))
