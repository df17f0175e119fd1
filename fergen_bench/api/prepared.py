"""Prepared domains that are on this machine. Reports and verification use them where they exist and prepare none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from pathlib import Path

    from fergen_bench.data.domain import Domain
    from fergen_bench.data.facts import DataFacts
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.run import Run
    from fergen_bench.records.record import RunRecord


def folder(project: Project, suite: str, name: str) -> Path | None:
    """Return the prepared folder of a domain, or None where it is not prepared or its suite no longer exists."""
    try:
        known = project.suites()[suite]
        return project.prepared(known, [name])[name] if project.is_prepared(known, [name]) else None
    except (BenchError, KeyError):
        return None


def domain(project: Project, suite: str, name: str) -> Domain | None:
    """Return a prepared domain, or None where it cannot be opened."""
    from fergen_bench.data.domain import Domain

    where = folder(project, suite, name)
    try:
        return None if where is None else Domain(where, name)
    except BenchError:
        return None


def about(project: Project, suite: str, name: str) -> dict[str, Any] | None:
    """Return the domain.json of a prepared domain, or None where it cannot be read."""
    from fergen_bench.data.prepared import read_about

    where = folder(project, suite, name)
    try:
        return None if where is None else read_about(where)
    except BenchError:
        return None


def with_data(project: Project, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return records in which early ones without facts about their data have those of the same prepared images."""
    from fergen_bench.data.facts import facts_of
    from fergen_bench.report import data

    here = cache(lambda suite, name: about(project, suite, name))

    def at_hand(suite: str, name: str, record: RunRecord) -> tuple[str, DataFacts] | None:
        spec, found = record.spec, here(suite, name)
        if found is None:
            return None
        facts = facts_of(found, spec.profile, spec.learns_from(name), name in spec.targets)
        return found["fingerprint"], facts

    return data.filled(records, at_hand)


def lacking(project: Project, records: Sequence[RunRecord]) -> list[str]:
    """Return a sentence for each prepared source without training images of some expression."""
    from fergen_bench.data.labels import absent_from
    from fergen_bench.data.prepared import read_about

    found = []
    for suite, name in dict.fromkeys((record.spec.suite, name) for record in records for name in record.spec.sources):
        where = folder(project, suite, name)
        counts = {} if where is None else read_about(where)["counts"].get("train", {})
        if counts and (absent := absent_from(counts)):
            found.append(
                f"the source {name} has no training images of {', '.join(absent)}: scores on these expressions, and "
                f"means that include them, do not measure a method"
            )
    return found


def held_out(project: Project) -> Callable[[Run], int | None]:
    """Return a function that counts the images a run held out of its source; None where they are not prepared here."""
    from fergen_bench.data.source import open_source

    @cache
    def counted(suite: str, sources: tuple[str, ...], states: tuple[str, ...], seed: int, share: float) -> int | None:
        domains = [domain(project, suite, name) for name in sources]
        here = [one for one, state in zip(domains, states, strict=True) if one is not None and one.fingerprint == state]
        return len(open_source(here, seed, share).held_out) if len(here) == len(sources) else None

    def count(spec: Run) -> int | None:
        states = tuple(spec.fingerprints.get(name, "") for name in spec.sources)
        return counted(spec.suite, spec.sources, states, spec.seed, spec.fraction)

    return count
