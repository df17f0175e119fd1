"""The rows of a submission, and those that are incomplete beside other rows of their leaderboard."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fergen_bench.experiment.run import percent
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    from fergen_bench.experiment.run import Run
    from fergen_bench.records.record import RunRecord


@dataclass(frozen=True, eq=False)
class Row:
    """The records of a row of a leaderboard.

    Attributes:
        board: The values that the rows of its leaderboard share.
        records: Its records, at least one.
    """

    board: tuple[Any, ...]
    records: tuple[RunRecord, ...]

    @property
    def spec(self) -> Run:
        """The first of its runs."""
        return self.records[0].spec

    @property
    def name(self) -> str:
        """Its suite and its method with the changed parameters."""
        return f"{self.spec.suite}: {self.spec.label}"

    @property
    def seeds(self) -> list[int]:
        """The seeds of its runs."""
        return sorted({one.spec.seed for one in self.records})

    @cached_property
    def by_target(self) -> dict[str | None, dict[str, set[int]]]:
        """The seeds of each training, by the target that it adapted to. None is that of trainings without one."""
        found: dict[str | None, dict[str, set[int]]] = {}
        for one in self.records:
            trainings = found.setdefault(one.spec.adaptation_target, {})
            trainings.setdefault(_training(one.spec), set()).add(one.spec.seed)
        return found

    @cached_property
    def cells(self) -> frozenset[tuple[str, str]]:
        """Its cells, each by training and target."""
        return frozenset((_training(one.spec), cell.target) for one in self.records for cell in one.cells)

    @property
    def trained_on(self) -> str:
        """Its trainings in words."""
        share = "" if self.spec.fraction == 1 else f"{percent(self.spec.fraction)} of "
        return share + listed(sorted(training for trainings in self.by_target.values() for training in trainings))

    @cached_property
    def gaps(self) -> list[str]:
        """The trainings that lack a seed of another one with the same target, each with its seeds, in words."""
        return [
            f"the training on {training} lacks seed {', '.join(map(str, sorted(lacking)))}"
            for trainings in self.by_target.values()
            for training, own in trainings.items()
            if (lacking := set().union(*trainings.values()) - own)
        ]

    @property
    def uneven(self) -> str:
        """A sentence where a training lacks a seed that another one of the row has, else ""."""
        return f"{self.name}: {self.gaps[0]}; run it, or pack with --complete-rows" if self.gaps else ""


def _training(spec: Run) -> str:
    target = spec.adaptation_target
    return "+".join(spec.sources) + ("" if target is None else f" adapted to {target}")


def rows_of(records: Iterable[RunRecord]) -> list[Row]:
    """Return the rows of records, in the order of their first records."""
    found: dict[tuple[Any, ...], list[RunRecord]] = {}
    for one in records:
        spec = one.spec
        conditions = (spec.suite, spec.profile, spec.selection, spec.fraction, spec.online, len(spec.sources))
        found.setdefault((*conditions, spec.adaptation_target is not None, spec.label), []).append(one)
    return [Row(tuple(board), tuple(entries)) for (*board, _), entries in found.items()]


def incomplete(rows: Iterable[Row]) -> Iterator[tuple[Row, str]]:
    """Yield each row that lacks cells of another one in its leaderboard, which has all of its own, with a sentence."""
    for row, reason in _smaller(list(rows)):
        advice = "run the rest, or pack with --complete-rows to leave the row out"
        yield row, f"{row.name} is an incomplete row: {reason}; {advice}"


def _smaller(rows: Sequence[Row]) -> Iterator[tuple[Row, str]]:
    """Yield each incomplete row with a clause that names the largest row that it is a part of."""
    for row in rows:
        larger = [other for other in rows if other.board == row.board and other.cells > row.cells]
        if larger:
            most = max(larger, key=lambda other: (len(other.cells), other.spec.label))
            have = many(len(row.cells), "cell", of=len(most.cells))
            yield row, f"trained on {row.trained_on}, it has {have} of {most.spec.label}"


def complete(records: Iterable[RunRecord], warn: Callable[[str], None]) -> list[RunRecord]:
    """Return the records of complete rows, without the seeds that a training of their row lacks.

    Args:
        records: The records.
        warn: Receives a sentence on each row that is left out, as a whole or in part.
    """
    whole: list[RunRecord] = []
    for row in rows_of(records):
        kept = [
            one
            for one in row.records
            if all(one.spec.seed in own for own in row.by_target[one.spec.adaptation_target].values())
        ]
        if row.gaps:
            out = many(len(row.records) - len(kept), "run", "are") if kept else "the whole row is"
            warn(f"{row.name}: {out} left out, because {listed(row.gaps)}")
        whole += kept
    rows = rows_of(whole)
    lacking = dict(_smaller(rows))
    for row, reason in lacking.items():
        warn(f"{row.name}: the whole row is left out: {reason}")
    return [one for row in rows if row not in lacking for one in row.records]
