"""Look up what the weights of a network were trained on, and whether that includes the faces of a dataset.

The table pretraining.yaml has published weights. The content of a file of weights is unknown until bench.toml declares
it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

from fergen_bench.datasets import GENERIC, KNOWN_OVERLAPS, NAMED
from fergen_bench.files import yaml

Saw = Literal["yes", "no", "unknown"]
SCRATCH = "scratch"
LEAST_DIGITS = 6
"""The least number of digits of a digest that names a file of weights."""


@dataclass(frozen=True)
class PriorExposure:
    """The answer to the question if weights have seen the pictures of a dataset.

    Attributes:
        saw: yes, no or unknown.
        because: The reason of yes and unknown; "" for no.
    """

    saw: Saw
    because: str = ""


UNDECLARED = "nobody stated what {} was trained on"


@cache
def table() -> Mapping[str, Any]:
    """Return the content of pretraining.yaml."""
    content, _ = yaml.read(Path(__file__).with_name("pretraining.yaml"))
    found: Mapping[str, Any] = content
    return found


def known_names() -> list[str]:
    """Return the names that a declaration may contain."""
    return [*NAMED, *table()["collections"]]


def trained_on(network: str, digest: str, declared: Mapping[str, Iterable[str]]) -> tuple[str, ...] | None:
    """Return the collections and datasets that the weights of a network were trained on, or None if unknown.

    Args:
        network: The name of the network, with the path of a file of weights where it has one.
        digest: The digest of the weights; "scratch" for random ones, which were trained on nothing.
        declared: By the name of a file of weights, or the first digits of its digest, the names that bench.toml states.
    """
    weights = network.partition("/")[2]
    if digest == SCRATCH or weights == SCRATCH:
        return ()
    file = PureWindowsPath(weights).name if any(mark in weights for mark in "/\\") else ""
    for key, names in declared.items():
        if key in {file, network} or (len(key) >= LEAST_DIGITS and digest.startswith(key)):
            return tuple(names)
    for entry in table()["weights"] if not file else ():
        if any(fnmatchcase(network, pattern) for pattern in entry["names"]):
            return tuple(entry["collections"])
    return None


def prior_exposure(names: Iterable[str] | None, dataset: str, weights: str = "a network") -> PriorExposure:
    """Return whether a training has seen the pictures of a dataset.

    Args:
        names: The collections and datasets of the training; None if unknown.
        dataset: The dataset, such as rafdb.
        weights: The name of the weights, for the reason.
    """
    if names is None:
        return PriorExposure("unknown", UNDECLARED.format(weights))
    found = [_of_name(name, dataset) for name in names]
    for saw in ("yes", "unknown"):
        if reasons := dict.fromkeys(one.because for one in found if one.saw == saw):
            return PriorExposure(saw, "; ".join(reasons))
    return PriorExposure("no")


def _of_name(name: str, dataset: str) -> PriorExposure:
    collection = table()["collections"].get(name)
    if collection is not None:
        unknown = collection["contains"] == "unknown"
        return PriorExposure("unknown", f"{name}: {collection['because']}") if unknown else PriorExposure("no")
    if name == dataset not in GENERIC:
        return PriorExposure("yes", f"trained on {name}")
    if frozenset((name, dataset)) in KNOWN_OVERLAPS:
        return PriorExposure("yes", f"trained on {name}, which shares images with {dataset}")
    return PriorExposure("no") if name in NAMED else PriorExposure("unknown", f"nothing is known about {name}")
