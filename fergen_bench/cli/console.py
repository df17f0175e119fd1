"""What the command line shows while it works: bars on a terminal, one line per finished run elsewhere."""

from __future__ import annotations

import codecs
import io
import sys
import time
import unicodedata
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.files.bounded import printable
from fergen_bench.wording import many

if TYPE_CHECKING:
    from rich.console import Console

    from fergen_bench.experiment.run import Run


_PLAIN = str.maketrans(
    {
        "—": "-",
        "–": "-",
        "−": "-",
        "·": "-",
        "•": "-",
        "±": "+/-",
        "×": "x",
        "…": "...",
        "→": "->",
        "←": "<-",
        "≥": ">=",
        "≤": "<=",
        "“": '"',
        "”": '"',
        "‘": "'",
        "’": "'",
        "━": "-",
        "╸": "-",
        "╺": "-",
    }
)
"""What is written for a character that an encoding lacks; of a letter with an accent, the letter."""


def plain(text: str) -> str:
    """Text in ASCII: a readable equivalent for every other character, and ? where there is none."""
    known = unicodedata.normalize("NFKD", printable(text).translate(_PLAIN))
    letters = (letter for letter in known if not unicodedata.combining(letter))
    return "".join(letter if letter.isascii() else "?" for letter in letters)


def _encoded_plainly(error: UnicodeError) -> tuple[str, int]:
    """An error handler for codecs: writes what an encoding lacks in ASCII."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return plain(error.object[error.start : error.end]), error.end


def write_any_encoding() -> None:
    """Lets standard output and standard error take every text, whatever the encoding of this terminal or pipe."""
    codecs.register_error("fergen-bench-plain", _encoded_plainly)
    codecs.register(_plain_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = codecs.lookup(stream.encoding).name == "ascii"
            # click takes a stream that is called ascii for a mistake, and writes UTF-8 to it.
            stream.reconfigure(encoding=_ASCII if ascii_only else None, errors="fergen-bench-plain")


_ASCII = "fergen_bench_ascii"


def _plain_ascii(name: str) -> codecs.CodecInfo | None:
    """The codec of ASCII under a name of its own."""
    known = codecs.lookup("ascii")
    if name != _ASCII:
        return None
    return codecs.CodecInfo(
        known.encode,
        known.decode,
        known.streamreader,
        known.streamwriter,
        known.incrementalencoder,
        known.incrementaldecoder,
        name,
    )


def console_on(stderr: bool = False) -> Console:
    """Results go to standard output, everything about the work to standard error. Nothing is read as markup."""
    from rich.console import Console

    class Screen(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # for the command line to end with; rich would exit with 1

    console = Screen(stderr=stderr, highlight=False, markup=False)
    console.soft_wrap = stderr and not console.is_terminal  # a log keeps its lines whole
    return console


def near(path: Path) -> str:
    """A path as the reader would write it from here."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def busy(console: Console, what: str) -> AbstractContextManager[Any]:
    """A spinner on a terminal, for work that cannot be counted."""
    return console.status(what) if console.is_terminal else nullcontext()


def duration(seconds: float) -> str:
    """45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


class Progress:
    """Preparation, and the runs of a matrix."""

    def __init__(self, console: Console, shown: Mapping[str, str] | None = None) -> None:
        """shown: what domains are called, where that is not the suite's name of them."""
        from rich import progress
        from rich.text import Text

        class Rate(progress.ProgressColumn):
            def render(self, task: progress.Task) -> Text:
                speed = task.finished_speed or task.speed
                return Text(f"{speed:,.0f} faces/s" if speed and task.fields.get("faces") else "")

        self.console = console
        self.shown = shown or {}
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
            disable=not console.is_terminal,
            speed_estimate_period=3600.0,  # seconds looked back on: a run may be silent for many minutes
        )
        self._tasks: dict[str, Any] = {}
        self._shares: dict[str, float] = {}  # of every run that has begun
        self._ended, self._runs, self._began = 0, 0, 0.0
        self._all: Any = None

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def say(self, text: str, style: str = "") -> None:
        self.console.print(text, style=style)

    def preparation(self, what: str, done: int, total: int) -> None:
        """Something that is done once, before the runs."""
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, faces=True)
            if not self.console.is_terminal:
                self.say(f"{what}: {many(total, 'face')}")
        self._bars.update(self._tasks[what], completed=done, total=total)

    def preparing(self, name: str) -> Callable[[int, int], None]:
        return partial(self.preparation, f"preparing {name}")

    def checking(self, name: str) -> Callable[[int, int], None]:
        return partial(self.preparation, f"checking {name}")

    def begin(self, runs: int) -> None:
        self._all = self._bars.add_task(many(runs, "run"), total=runs)
        self._runs, self._began = runs, time.monotonic()

    def listen(self, spec: Run, message: dict[str, Any]) -> None:
        """What a worker says of its run."""
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
        """A run has ended. result: what it came to, or None where that has been said already."""
        if spec.key in self._tasks:
            self._bars.remove_task(self._tasks.pop(spec.key))
        self._shares[spec.key] = 1.0
        self._bars.update(self._all, completed=sum(self._shares.values()))
        self._ended += 1
        if result is not None:
            self.say(
                f"{spec.called(self.shown)}: {result}" + ("" if self.console.is_terminal else f" · {self._left()}")
            )

    def _left(self) -> str:
        """For a log, which has no bar: how far the matrix is, and how long the rest will take at this pace."""
        done = sum(self._shares.values())
        seconds = (time.monotonic() - self._began) / done * (self._runs - done)
        left = f", about {duration(seconds)} left" if self._ended < self._runs else ""
        return f"{self._ended} of {self._runs}{left}"
