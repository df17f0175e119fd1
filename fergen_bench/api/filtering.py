"""The filter of `report`, `compare` and `load_results`: each option is declared once, as a flag and as a keyword."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fergen_bench.api.options import SELECTIONS, option
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.wording import listed

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.run import Run, Selection
    from fergen_bench.records.record import RunRecord


@dataclass(frozen=True)
class RecordFilter:
    """A choice of records for a report or a comparison. Each table names the filter.

    Lists become tuples, and one value stands for a list of one.
    """

    methods: tuple[str, ...] = option((), "--method -m", "Only these methods.", completes="method")
    selection: Selection | None = option(  # noqa: RUF009 - returns a field
        None, "--selection", "Only runs with this selection.", choices=SELECTIONS
    )
    protocol: str | None = option(
        None,
        "--protocol -p",
        "Only runs that this protocol plans, with any seed, or that were made by it; with the bases of online methods.",
        completes="protocol",
    )
    fraction: tuple[float, ...] | None = option(
        None, "--fraction", "Only runs on these shares of the training images.", metavar="0.5,1"
    )
    seeds: tuple[int, ...] | None = option(None, "--seeds", "Only runs with these seeds.")
    sources: tuple[str, ...] | None = option(
        None, "--sources", "Only runs trained on these domains; a+b for two together."
    )
    targets: tuple[str, ...] | None = option(None, "--targets", "Only cells scored on these domains.")

    def __post_init__(self) -> None:
        for name in ("methods", "fraction", "seeds", "sources", "targets"):
            value = getattr(self, name)
            if isinstance(value, str | int | float):
                object.__setattr__(self, name, (value,))
            elif value is not None:
                object.__setattr__(self, name, tuple(value))
        if self.sources is not None:
            together = tuple("+".join(sorted(name.split("+"))) for name in self.sources)
            object.__setattr__(self, "sources", together)
        if self.selection is not None and self.selection not in SELECTIONS:
            raise BenchError(
                f"selection: {self.selection!r} is not a selection{did_you_mean(self.selection, SELECTIONS)}"
            )

    @property
    def text(self) -> str:
        """The filter in words, for titles: "seeds 0 and 1, source web"; "" where it leaves all records.

        Methods and selection are left out, since tables name them anyway.
        """
        from fergen_bench.experiment.run import percent

        parts = [] if self.protocol is None else [f"protocol {self.protocol}"]
        named: dict[str, Iterable[str] | None] = {
            "fraction": None if self.fraction is None else map(percent, self.fraction),
            "seed": None if self.seeds is None else map(str, self.seeds),
            "source": self.sources,
            "target": self.targets,
        }
        for kind, values in named.items():
            texts = [] if values is None else list(values)
            parts += [f"{kind}{'s' * (len(texts) > 1)} {listed(texts)}"] if texts else []
        return ", ".join(parts)

    def named(self, records: Iterable[RunRecord]) -> list[RunRecord]:
        """Return the records of the methods and the selection of the filter."""
        return [
            record
            for record in records
            if (not self.methods or record.spec.method in self.methods)
            and self.selection in {None, record.spec.selection}
        ]

    def chosen(self, records: Sequence[RunRecord], project: Project, suite: str) -> list[RunRecord]:
        """Return the records that pass the filter, with the scores of its targets alone.

        Args:
            records: Records of the suite.
            project: The project with the protocol.
            suite: The name of the suite.

        Raises:
            BenchError: No record has one of the values.
        """
        for name, values, known in (
            ("fraction", self.fraction, {record.spec.fraction for record in records}),
            ("seeds", self.seeds, {record.spec.seed for record in records}),
            ("sources", self.sources, {"+".join(record.spec.sources) for record in records} - {""}),
            ("targets", self.targets, {cell.target for record in records for cell in record.cells}),
        ):
            _require(name, values, known, suite)
        planned = None if self.protocol is None else _Planned.of(self.protocol, project, suite, records)
        found = []
        for record in records:
            spec = record.spec
            if (
                (self.fraction is None or spec.fraction in self.fraction)
                and (self.seeds is None or spec.seed in self.seeds)
                and (self.sources is None or "+".join(spec.sources) in self.sources)
                and (planned is None or planned.includes(spec))
            ):
                found.append(record if self.targets is None else _only(record, self.targets))
        if records and not found:
            raise BenchError(f"no record of {suite} has all of: {self.text}. Leave one of them out.")
        return found


def _require(name: str, values: Sequence[Any] | None, known: Collection[Any], suite: str) -> None:
    """Raise where no record has some value."""
    for value in values or ():
        if known and value not in known:
            there = ", ".join(str(one) for one in sorted(known))
            near = did_you_mean(value, known) if isinstance(value, str) else f". There are: {there}."
            raise BenchError(f"--{name}: no record of {suite} has {value!r}{near}")


def _only(record: RunRecord, targets: Sequence[str]) -> RunRecord:
    """Return a record with the scores of some targets alone."""
    cells = tuple(cell for cell in record.cells if cell.target in targets)
    shifted = tuple(cell for cell in record.shifted if cell.target in targets)
    return replace(record, cells=cells, shifted=shifted)


@dataclass(frozen=True)
class _Planned:
    """The runs of a protocol, and those that its online methods start from.

    Protocols share records, so the one that a record names is not the only one.
    """

    name: str
    runs: frozenset[tuple[Any, ...]]

    @classmethod
    def of(cls, name: str, project: Project, suite: str, records: Sequence[RunRecord]) -> _Planned:
        """Expand a protocol for the methods of some records.

        Raises:
            BenchError: The protocol does not exist, and no record names it.
        """
        from fergen_bench.experiment.outline import Request, outline
        from fergen_bench.experiment.protocol import read_protocol

        if name not in project.protocols() and any(record.spec.protocol == name for record in records):
            return cls(name, frozenset())
        path = project.protocol_path(name)
        protocol, files, found = read_protocol(path), project.methods(), set()
        own = protocol.names(str(path), files)
        methods = dict.fromkeys(record.spec.method for record in records)
        for method in methods:
            if method not in files or (own and method not in own):
                continue
            try:
                planned = outline(
                    protocol, str(path), project.suite(suite), [project.method(method)], Request(), find=project.method
                )
            except BenchError:  # the protocol is not for this suite or this method
                continue
            found |= {_identity(run) for run in planned.runs}
            found |= {_identity(one.base.run) for one in planned.outlines if one.base is not None}
        return cls(name, frozenset(found))

    def includes(self, spec: Run) -> bool:
        return spec.protocol == self.name or _identity(spec) in self.runs


def _identity(spec: Run) -> tuple[Any, ...]:
    """Return the values by which a run of a protocol is found again, whatever its seed and its precision."""
    label = replace(spec, precision="fp32").label
    return label, spec.sources, spec.selection, spec.fraction, spec.adaptation_target
