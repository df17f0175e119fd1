"""Flat grey squares as the faces of a domain, for the tests of preparing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import draft
from fergen_bench.datasets import prepare as module
from fergen_bench.datasets.prepare import prepare
from fergen_bench.datasets.reader import Face, Listing
from fergen_bench.datasets.settings import DomainSettings

COUNT, SIDE, STEP = 40, 16, 4


worker_processes = module.worker_pool


@contextmanager
def one_thread(processes: int) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _small_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks; and a thread where it does not matter that workers are processes, which take half a second."""
    monkeypatch.setattr(draft, "BLOCK_BYTES", STEP * SIDE * SIDE * 3)
    monkeypatch.setattr(module, "worker_pool", one_thread)


@pytest.fixture
def processes(own_processes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let workers be processes, which inherit what a test sets."""
    monkeypatch.setattr(module, "worker_pool", worker_processes)


def level(number: int) -> int:
    """The grey level of a face encodes its number, and so its expression."""
    return 20 + 5 * number


def listing_of(root: Path, count: int = COUNT, side: int = SIDE) -> Listing:
    """Flat grey squares: file number i shows expression i modulo 7."""
    root.mkdir(parents=True, exist_ok=True)
    listing = Listing()
    for number in range(count):
        path = root / f"{number:03d}.png"
        if not path.exists():
            Image.new("L", (side, side), level(number)).save(path)
        split = "test" if number % 4 == 3 else "train"
        listing.faces.append(Face(path.name, split, EXPRESSIONS[number % 7], str(number % 7), file=path))
    return listing


def run(
    listing: Listing, folder: Path, seen: Callable[[int, int], None] = lambda done, total: None, **settings: object
) -> Domain:
    chosen = DomainSettings(path=folder, **settings)  # type: ignore[arg-type]
    prepare("grey", listing, {"dataset": "folder", "layout": "flat"}, chosen, folder, 1, seen)
    return Domain(folder)


def hidden(folder: Path) -> set[str]:
    """Return the files that the work left. Lock files stay, as removing one would race."""
    return {path.name for path in folder.iterdir() if path.name.startswith(".") and path.suffix != ".lock"}
