"""Read datasets in the layouts in which people have them. This module is the catalogue; readers are imported on use."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from itertools import combinations
from typing import TYPE_CHECKING

from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError, did_you_mean

if TYPE_CHECKING:
    from fergen_bench.datasets.reader import Dataset

WILD5 = ("rafdb", "ferplus", "affectnet", "sfew", "mma")
"""The five datasets of the literature's cross-dataset tables, in the order of the CAFE paper."""

GENERIC = {"folder": "folders, one per expression", "csv": "a table of images", "list": "lines of image and label"}
"""Readers for datasets that are not known by name."""

_HOME = {
    "rafdb": "rafdb.DATASET",
    "ferplus": "ferplus.DATASET",
    "affectnet": "affectnet.DATASET",
    "sfew": "sfew.DATASET",
    "mma": "mma.DATASET",
    "mma-expw": "mma.EXPW_PART",
    "fer2013": "fer2013.DATASET",
    "expw": "expw.DATASET",
    "ckplus": "ckplus.DATASET",
    "jaffe": "jaffe.DATASET",
    "kdef": "kdef.DATASET",
    "caer-s": "caer_s.DATASET",
    "folder": "folder.DATASET",
    "csv": "tables.DATASET",
    "list": "lists.DATASET",
}
_ALSO_CALLED = {"mmafedb": "mma", "fer2013+": "ferplus"}
"""Another name of a dataset in lower case, which resembles a wrong one → its name, see `usual_name`."""
NAMES = tuple(_HOME)
NAMED = tuple(name for name in NAMES if name not in GENERIC)
"""Datasets that are known by name."""

VERSION = 1
"""Version of the readers. Raise it when a reader returns other faces or labels for the same files; domains are then
prepared again."""

KNOWN_OVERLAPS = frozenset(
    frozenset(pair)
    for pair in (
        ("ferplus", "fer2013"),  # the same images under other labels
        ("mma", "fer2013"),  # by arithmetic: MMA is FER2013, split as it is, and ExpW
        ("mma", "ferplus"),
        ("mma", "expw"),
        ("mma", "mma-expw"),
        ("mma-expw", "expw"),
    )
)
"""Pairs of datasets that share images, according to their published construction. An audit of one's own copies is more
precise."""


def usual_name(name: str) -> str:
    """Return the name here of a dataset under another one, for suggestions; names that are not known stay."""
    return _ALSO_CALLED.get(name.casefold(), name)


def dataset(name: str, place: str) -> Dataset:
    """Return a dataset by name.

    Args:
        name: The name.
        place: Where the name was given, for the error.

    Raises:
        BenchError: The name is unknown.
    """
    if name not in _HOME:
        raise BenchError(f"{place}: {name!r} is not a known dataset{did_you_mean(usual_name(name), NAMES)}")
    module, _, attribute = _HOME[name].partition(".")
    found: Dataset = getattr(import_module(f"fergen_bench.datasets.{module}"), attribute)
    return found


def overlaps(kinds: dict[str, str]) -> Iterable[frozenset[str]]:
    """Yield pairs of domains that are known to share images, such as two copies of one dataset.

    Args:
        kinds: Domain → dataset.
    """
    for one, other in combinations(kinds, 2):
        if kinds[one] == kinds[other] not in GENERIC or frozenset((kinds[one], kinds[other])) in KNOWN_OVERLAPS:
            yield frozenset((one, other))


def _wild5(name: str, profile: str, about: str) -> Suite:
    return Suite(
        name,
        WILD5,
        backbone="open_clip:ViT-B-32-quickgelu/openai",
        trunk="timm:resnet18.tv_in1k",
        profile=profile,
        overlaps=frozenset(overlaps({domain: domain for domain in WILD5})),
        about=about,
    )


SUITES = {
    suite.name: suite
    for suite in (
        _wild5("wild5", "official", "five real datasets, on the test splits of their owners"),
        _wild5("wild5-cafe", "cafe", "the same, on the images the CAFE paper was scored on, as far as is known"),
    )
}
