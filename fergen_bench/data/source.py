"""The source of a run: training images of one or more domains, with a held-out part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fergen_bench.data.domain import Piece, Split
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import shuffled
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.data.domain import Domain


HOLD_OUT = 0.1
"""Share of a source's train split that is held out as its validation part where the dataset has none."""


@dataclass(frozen=True)
class Source:
    """What a method may learn from: no test split is in it.

    train: all faces of the sources' train splits. fit and val: the same, divided: `val` is the datasets' own validation
    part, or a stratified hold-out of train that shares no subject with `fit`.
    """

    names: tuple[str, ...]
    train: Split
    fit: Split
    val: Split


def open_source(domains: Sequence[Domain], seed: int, fraction: float = 1.0) -> Source:
    """A source of one or more domains. fraction: the share of each expression of each domain's train split that is
    used: a smaller one is part of a larger one.
    """
    import numpy as np

    train, fit, val = [], [], []
    for domain in domains:
        everything, held = domain.rows("train"), Piece(domain, domain.rows("val"), "val")
        if len(held.rows):
            rest = rows = _nested_subset(domain, everything, held.rows, fraction, seed)
        else:
            # Held out of all faces whatever the fraction, so that a smaller fit is part of a larger one too.
            kept = _hold_out(domain, everything, seed)
            rows = _nested_subset(domain, everything, kept, fraction, seed)
            kept = np.intersect1d(rows, kept)
            held = Piece(domain, kept if len(kept) else _hold_out(domain, rows, seed), "train")
            if not len(held.rows):
                raise BenchError(
                    f"{domain.folder}: the train split of {domain.name} shows one subject only, so no face can be held "
                    f"out for validation; add a val split"
                )
            rest = np.setdiff1d(rows, held.rows)
        train.append(Piece(domain, rows, "train"))
        fit.append(Piece(domain, rest, "train"))
        val.append(held)
    return Source(tuple(domain.name for domain in domains), Split(tuple(train)), Split(tuple(fit)), Split(tuple(val)))


def _nested_subset(domain: Domain, rows: np.ndarray, held: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """The first share of each expression in a fixed order, so that a smaller fraction is part of a larger one. The
    faces that are held out stand evenly in that order: every fraction has the same share of them.
    """
    import numpy as np

    if fraction >= 1.0:
        return rows
    order = rows[shuffled(len(rows), "fraction", domain.name, seed)]
    chosen = []
    for label in range(len(EXPRESSIONS)):
        members = order[domain.labels[order] == label]
        out = np.isin(members, held)
        place = np.where(out, (out.cumsum() - 0.5) / max(1, out.sum()), ((~out).cumsum() - 0.5) / max(1, (~out).sum()))
        members = members[np.argsort(place, kind="stable")]
        chosen.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen))


def _hold_out(domain: Domain, rows: np.ndarray, seed: int) -> np.ndarray:
    """A tenth of every expression, whole subjects at a time."""
    return rows[disjoint_share(domain.labels[rows], domain.subjects[rows], HOLD_OUT, "hold out", domain.name, seed)]


def disjoint_share(labels: np.ndarray, subjects: np.ndarray, share: float, *names: object) -> np.ndarray:
    """Positions of a share of every expression that takes subjects whole or not at all, ascending; of all faces, where
    that would be none of any expression. names: the seed.
    """
    import numpy as np

    open_places = np.round(share * np.bincount(labels, minlength=len(EXPRESSIONS))).astype(int)
    faces_of: dict[str, list[int]] = {}
    for position in shuffled(len(labels), *names):
        faces_of.setdefault(subjects[position], []).append(position)

    def take(room: np.ndarray, most: int) -> list[int]:
        """Whole subjects, while there is room for all of their expressions and for so many faces in all."""
        taken: list[int] = []
        for positions in faces_of.values():
            needed = np.bincount(labels[positions], minlength=len(EXPRESSIONS))
            if len(taken) + len(positions) <= most and (needed <= room).all():
                taken += positions
                room = room - needed
        return taken

    taken = take(open_places, len(labels))
    if not taken:  # too few of every expression: a share of all, and never the last face of one
        taken = take(np.bincount(labels, minlength=len(EXPRESSIONS)) - 1, round(share * len(labels)))
    if not taken and len(faces_of) > 1:
        taken = min(faces_of.values(), key=len)
    return np.sort(np.array(taken, np.int64))
