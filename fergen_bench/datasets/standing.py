"""Decide how a target stands to the sources of a run: source, seen or unseen, and which of its images are not scored.

Unseen is a claim. It rests on a comparison of the images themselves, or on a suite whose domains are distinct by
construction; without either, the standing is marked as not audited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from fergen_bench.data.labels import SPLITS
from fergen_bench.data.suite import Suite
from fergen_bench.datasets import GENERIC, KNOWN_OVERLAPS
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.comparisons import Comparison, Comparisons

LEARNED = ("train", "val")
"""Splits of a source from which a method may have learned."""
NOT_AUDITED = "not audited"
DECLARED = "seen (declared)"
SAME = "seen (the same faces)"
PRETRAINED = "seen (pre-training)"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Standing:
    """The relation of one target to the sources of a run."""

    relation: Literal["source", "seen", "unseen", "unknown"]
    mark: str = ""  # shown in tables next to the number
    compared: bool = True  # False where the relation is unseen and no audit supports it
    stale: tuple[str, ...] = ()  # domains that were compared only in other states
    left_out: Mapping[int, str] = field(default_factory=dict)
    """Row in the scored split → id, of the images with a near-duplicate in the sources' training images, which do not
    count. Empty for a seen target, which is scored whole.
    """
    share: float = 0.0  # of the scored images; from this share of near-duplicates on, a target is seen


class Standings:
    """The standings in one suite."""

    def __init__(self, suite: Suite, comparisons: Comparisons, share: float) -> None:
        """Prepare to decide standings.

        Args:
            suite: The suite.
            comparisons: Stored comparisons.
            share: Share of a target's scored images with a near-duplicate in the sources from which it counts as seen.
        """
        self._suite, self._comparisons, self._share = suite, comparisons, share
        self._known: dict[object, Standing] = {}

    def of(self, sources: Mapping[str, str], target: str, state: str, part: str) -> Standing:
        """Return the standing of a target.

        Args:
            sources: Name → fingerprint of the sources.
            target: Name of the target.
            state: Fingerprint of the target.
            part: The split of the target that is scored.
        """
        key = (tuple(sources.items()), target, state, part)
        if key not in self._known:
            self._known[key] = replace(self._standing(sources, target, state, part), share=self._share)
        return self._known[key]

    def _standing(self, sources: Mapping[str, str], target: str, state: str, part: str) -> Standing:
        declared = self._suite.relation(tuple(sources), target)
        found = {name: self._comparisons.find(source, state) for name, source in sources.items()}
        comparisons = [comparison for comparison in found.values() if comparison is not None]
        near = _near(comparisons, state, part, LEARNED)
        if declared == "source":
            return _source(near, _count(comparisons, state, part))
        if any(source == state for source in sources.values()):
            return Standing("seen", SAME)
        shared = len(_near(comparisons, state, part, SPLITS))
        seen = f"seen, {many(shared, 'near-duplicate')}"
        if declared == "seen":
            return Standing("seen", seen if shared else DECLARED)
        if shared and shared >= self._share * _count(comparisons, state, part):
            return Standing("seen", seen)
        missing = [] if self._suite.distinct else [name for name, comparison in found.items() if comparison is None]
        mark = ", ".join(filter(None, (NOT_AUDITED if missing else "", left_out(len(near)))))
        states = {**{name: sources[name] for name in missing}, **({target: state} if missing else {})}
        stale = tuple(name for name, of in states.items() if self._comparisons.stale(name, of))
        return Standing("unseen", mark, not missing, stale, near)

    def of_finished(
        self,
        trained_on: Iterable[str] | None,
        pretrained_on: Iterable[str] | None,
        states: Mapping[str, str],
        dataset_of: Callable[[str], str],
        target: str,
        state: str,
        part: str,
    ) -> Standing:
        """Return the standing of a target to the data that a finished model has seen, as its user states them.

        Args:
            trained_on: Datasets or domains of the training; None if unknown.
            pretrained_on: Datasets or domains of the pre-training; None if unknown.
            states: Fingerprint of those among them that are prepared.
            dataset_of: Returns the dataset of a domain.
            target: Name of the target.
            state: Fingerprint of the target.
            part: The split of the target that is scored.
        """
        if trained_on is None:
            return replace(Standing("unknown", UNKNOWN), share=self._share)
        names = tuple(trained_on)
        found = {name: self._comparisons.find(states[name], state) if name in states else None for name in names}
        comparisons = [comparison for comparison in found.values() if comparison is not None]
        near, count = _near(comparisons, state, part, LEARNED), _count(comparisons, state, part)
        shared = len(_near(comparisons, state, part, SPLITS))
        if any(self._is_same(name, target, dataset_of) for name in names):
            standing = _source(near, count)
        elif shared and shared >= self._share * count:
            standing = Standing("seen", f"seen, {many(shared, 'near-duplicate')}")
        elif any(self._overlaps(name, target, dataset_of) for name in names):
            standing = Standing("seen", DECLARED)
        elif any(
            self._is_same(name, target, dataset_of) or self._overlaps(name, target, dataset_of)
            for name in pretrained_on or ()
        ):
            standing = Standing("seen", PRETRAINED)
        else:
            distinct = bool(self._suite.distinct) and set(names) <= set(self._suite.domains)
            compared = distinct or all(comparison is not None for comparison in found.values())
            mark = ", ".join(filter(None, ("" if compared else NOT_AUDITED, left_out(len(near)))))
            standing = Standing("unseen", mark, compared, left_out=near)
        return replace(standing, share=self._share)

    def _is_same(self, name: str, target: str, dataset_of: Callable[[str], str]) -> bool:
        """Return True for a target and a name of the same dataset."""
        return name == target or dataset_of(name) == dataset_of(target) not in GENERIC

    def _overlaps(self, name: str, target: str, dataset_of: Callable[[str], str]) -> bool:
        """Return True where the suite or the construction of the datasets declares that the two share images."""
        kinds = frozenset((dataset_of(name), dataset_of(target)))
        return frozenset((name, target)) in self._suite.overlaps or kinds in KNOWN_OVERLAPS


def left_out(count: int) -> str:
    """Return the mark of a cell in which so many images are not scored."""
    return f"{count:,} left out" if count else ""


def _source(near: Mapping[int, str], scored: int) -> Standing:
    """Return the standing of a source's own images. Where all have near-duplicates, all are scored."""
    if near and len(near) == scored:
        return Standing("source", "all near-duplicates")
    return Standing("source", left_out(len(near)), left_out=near)


def _near(comparisons: list[Comparison], state: str, part: str, parts: tuple[str, ...]) -> dict[int, str]:
    return {row: name for comparison in comparisons for row, name in comparison.near(state, part, parts).items()}


def _count(comparisons: list[Comparison], state: str, part: str) -> int:
    """Return the number of images of the scored split."""
    known = (side for comparison in comparisons for side in (comparison.a, comparison.b) if side.fingerprint == state)
    return next((side.images.get(part, 0) for side in known), 0)
