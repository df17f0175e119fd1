"""The source of a run: training images of one or more domains, with a held-out part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fergen_bench.data.domain import Piece, Split
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import shuffled
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.data.domain import Domain


HOLD_OUT = 0.1
"""Share of a source's train split that is held out for validation if the dataset has no validation part."""


@dataclass(frozen=True)
class Source:
    """The images that a method may learn from. No test split is part of a source.

    Attributes:
        names: The names of the domains.
        train: All images of the domains' train splits.
        fit: The part of `train` to fit on.
        held_out: The images of `val`, without those of a domain that cannot be divided.
        undivided: The reason why a domain cannot be divided; "" where all can.
    """

    names: tuple[str, ...]
    train: Split
    fit: Split
    held_out: Split
    undivided: str = ""

    @property
    def val(self) -> Split:
        """The datasets' own validation part, or a stratified hold-out of `train` that shares no subject with `fit`.

        Raises:
            BenchError: A domain shows a single subject and lacks a validation part.
        """
        if self.undivided:
            raise BenchError(self.undivided)
        return self.held_out

    @property
    def fit_index(self) -> np.ndarray:
        """Positions of the images of `fit` in `train`, ascending, int64 (len(fit),)."""
        return self._index(self.fit)

    @property
    def val_index(self) -> np.ndarray:
        """Positions of the images of `val` in `train`, ascending, int64 (len(val),).

        Raises:
            BenchError: Images of `val` are not in `train`, because their dataset has a validation part of its own.
        """
        for piece in self.val.pieces:
            if piece.part != "train":
                raise BenchError(
                    f"{piece.domain.folder}: the images of source.val are the {piece.part} split of "
                    f"{piece.domain.name}, so they have no position in source.train; use source.val itself"
                )
        return self._index(self.val)

    def _index(self, split: Split) -> np.ndarray:
        # Not self.train: methods that know positions have not learned from held-out images (`TrackedSource`).
        whole = vars(self)["train"].pieces
        starts = np.cumsum([0, *(len(piece.rows) for piece in whole[:-1])])
        parts = zip(starts, whole, split.pieces, strict=True)
        return np.concatenate([start + np.searchsorted(piece.rows, part.rows) for start, piece, part in parts])


def open_source(domains: Sequence[Domain], seed: int, fraction: float = 1.0) -> Source:
    """Return a source of one or more domains.

    Args:
        domains: The domains to learn from.
        seed: The seed of the run; it decides the hold-out and the fraction.
        fraction: The share of each expression of each domain's train split that is used. A smaller fraction is a subset
            of a larger one.
    """
    train, fit, val = [], [], []
    undivided = ""
    for domain in domains:
        rows, rest, held_out = _divided(domain, seed, fraction)
        train.append(Piece(domain, rows, "train"))
        fit.append(Piece(domain, rest, "train"))
        val.append(held_out)
        if not len(held_out.rows):
            undivided = (
                f"{domain.folder}: the train split of {domain.name} shows one subject only, so no image can be held "
                f"out for validation; add a val split, or use the selection last with a method that holds no images out"
            )
    names = tuple(domain.name for domain in domains)
    return Source(names, Split(tuple(train)), Split(tuple(fit)), Split(tuple(val)), undivided)


def _divided(domain: Domain, seed: int, fraction: float) -> tuple[np.ndarray, np.ndarray, Piece]:
    """Return the rows to train on, those of them to fit on, and the piece for validation, which may be empty."""
    everything, own = domain.rows("train"), domain.rows("val")
    if len(own):
        rows = _nested_subset(domain, everything, own, fraction, seed)
        return rows, rows, Piece(domain, own, "val")
    # The hold-out is drawn from all images whatever the fraction, so that a smaller fit is also part of a larger one.
    candidates = _hold_out(domain, everything, seed)
    rows = _nested_subset(domain, everything, candidates, fraction, seed)
    inside = np.intersect1d(rows, candidates)
    held_out = inside if len(inside) else _hold_out(domain, rows, seed)
    return rows, np.setdiff1d(rows, held_out), Piece(domain, held_out, "train")


def _nested_subset(domain: Domain, rows: np.ndarray, held_out: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return the first share of each expression in a fixed order; a smaller fraction is a subset of a larger one.

    Held-out images are spread evenly over that order, so that every fraction contains the same share of them.
    """
    if fraction >= 1.0:
        return rows
    order = rows[shuffled(len(rows), "fraction", domain.name, seed)]
    chosen = []
    for label in range(len(EXPRESSIONS)):
        members = order[domain.labels[order] == label]
        out = np.isin(members, held_out)
        rank = np.where(out, (out.cumsum() - 0.5) / max(1, out.sum()), ((~out).cumsum() - 0.5) / max(1, (~out).sum()))
        members = members[np.argsort(rank, kind="stable")]
        chosen.append(members[: max(1, round(fraction * len(members)))])
    return np.sort(np.concatenate(chosen))


def _hold_out(domain: Domain, rows: np.ndarray, seed: int) -> np.ndarray:
    """Return a tenth of every expression, with all images of each chosen subject."""
    return rows[disjoint_share(domain.labels[rows], domain.subjects[rows], HOLD_OUT, "hold out", domain.name, seed)]


def disjoint_share(labels: np.ndarray, subjects: np.ndarray, share: float, *names: object) -> np.ndarray:
    """Return indices of a share of every expression that contains all or none of a subject's images, ascending.

    If that share is empty for every expression, it is a share of all images instead, and never takes the last image of
    an expression. If that is empty as well, it is the subject with the fewest images, unless there is only one subject.

    Args:
        labels: Indices into EXPRESSIONS, int64 (N,).
        subjects: Names of the subjects, text (N,).
        share: The share to take, in (0, 1).
        names: The names of the random stream.
    """
    open_rows = np.round(share * np.bincount(labels, minlength=len(EXPRESSIONS))).astype(int)
    rows_of: dict[str, list[int]] = {}
    for row in shuffled(len(labels), *names):
        rows_of.setdefault(subjects[row], []).append(row)

    def take(room: np.ndarray, most: int) -> list[int]:
        """Return whole subjects as long as they fit into the room per expression and into `most` images in all."""
        taken: list[int] = []
        for rows in rows_of.values():
            needed = np.bincount(labels[rows], minlength=len(EXPRESSIONS))
            if len(taken) + len(rows) <= most and (needed <= room).all():
                taken += rows
                room = room - needed
        return taken

    taken = take(open_rows, len(labels))
    if not taken:
        taken = take(np.bincount(labels, minlength=len(EXPRESSIONS)) - 1, round(share * len(labels)))
    if not taken and len(rows_of) > 1:
        taken = min(rows_of.values(), key=len)
    return np.sort(np.array(taken, np.int64))
