"""The callback through which long work reports how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A callable that receives the state of a piece of work whenever it changes."""

    def __call__(self, what: str, done: int, total: int, /) -> None:
        """Receive the state of a piece of work.

        Args:
            what: Its name in words, such as "preparing rafdb"; "epoch" for the epochs of a training.
            done: Units that are finished, such as images or epochs.
            total: Units that the work consists of.
        """


def silent(what: str, done: int, total: int, /) -> None:
    """Ignore progress; a `Progress` for callers without a display."""
