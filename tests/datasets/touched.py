"""Empty files for readers, which decode no image, and what a reader makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import strategies as some

from fergen_bench.datasets.reader import Dataset, Listing
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError

TEXTS = some.one_of(
    some.binary(max_size=200),
    some.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    some.text(alphabet='a.jpg 1"\r\n,;\t\0', max_size=200).map(str.encode),
)
"""Any content of a list."""


def touch(*paths: Path) -> None:
    """Write empty files."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(dataset: Dataset, path: Path, **options: Any) -> Listing:
    """Return the listing of a copy, in which each face is named once."""
    layout, base = dataset.layout(path)
    listing = layout.read(base, DomainSettings(path=path, **options))
    assert len({face.id for face in listing.faces}) == len(listing.faces)
    return listing


def outcome(call: Callable[[], object]) -> tuple[Any, str]:
    """Return the result of a call, or the sentence of its error; any other exception fails the test."""
    try:
        return call(), ""
    except BenchError as error:
        return None, str(error)
