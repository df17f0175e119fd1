"""Find the record of a planned run, count it again where its excluded images changed, and list what it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.data.corruption import VERSION
from fergen_bench.error import BenchError
from fergen_bench.records import counting, store
from fergen_bench.records.claim import claim
from fergen_bench.records.pack import copied
from fergen_bench.records.store import RecordFile
from fergen_bench.records.verify import faults_of

if TYPE_CHECKING:
    from fergen_bench.data.suite import Suite
    from fergen_bench.execution.domains import PreparedDomains
    from fergen_bench.execution.plan import PlanOptions
    from fergen_bench.experiment.outline import Outline
    from fergen_bench.experiment.protocol import Corruptions
    from fergen_bench.experiment.run import Corruption, Run
    from fergen_bench.records.record import Predictions, RunRecord


@dataclass(frozen=True)
class RunState:
    """The state of a planned run: its record, if one exists, and what remains to be done.

    Attributes:
        spec: The run. Where it has to be executed again, it includes the targets that its record scored before.
        left_out: Ids of the images that are not scored, by target.
        record: The existing record, or None.
        complete: True where nothing remains to be done.
        corruptions: The corruptions to evaluate.
        restore: True where only corruption scores are missing and a checkpoint exists to compute them.
        keep_model: The run writes a checkpoint.
    """

    spec: Run
    left_out: dict[str, list[str]]
    record: RunRecord | None
    complete: bool
    corruptions: list[Corruption]
    restore: bool
    keep_model: bool


class ExistingRecords:
    """The existing records of a plan's runs."""

    def __init__(self, suite: Suite, domains: PreparedDomains, runs: Path, options: PlanOptions) -> None:
        self._suite, self._domains, self._runs, self._options = suite, domains, runs, options
        self.notes: list[str] = []
        """sentences about damaged records"""
        self.recounted: list[RunRecord] = []
        """records that were counted again; in a dry run, those that would be"""
        self.without_model = 0
        """runs that have to be trained again for corruption scores, because they have no checkpoint"""
        self.copied = 0
        """records that were copied from those offered; in a dry run, those that would be"""

    def find(self, outlined: Outline, wanted: Corruptions | None, keep_model: bool) -> RunState:
        """Return the state of an outlined run.

        The method counts a record again where other images are to be left out, and sets damaged records aside.

        Args:
            outlined: The run, with empty fingerprints.
            wanted: The corruptions that the protocol evaluates, or None.
            keep_model: The run needs a checkpoint. An online method leaves none: it is fitted to a stream.
        """
        domains, rerun = self._domains, self._options.rerun
        spec = outlined.run.with_fingerprints(domains.fingerprints)
        spec, left_out = domains.excluding(spec, self._options.include_near_duplicates)
        record = self._undamaged(spec)
        if record is not None and not rerun:
            record = self._counted_again(record, spec, left_out)
        has_model = spec.model_path(self._runs).is_file()
        # Where a checkpoint exists, the run writes one again: a checkpoint of another run must not lie next to the new
        # record.
        keep_model = (keep_model or has_model) and not spec.online
        complete = record is not None and record.answers(spec) and not rerun and (has_model or not keep_model)
        corruptions, restore = domains.corruptions(spec, wanted), False
        if record is not None and complete:
            lacking = [one for one in corruptions if one not in record.shifts_of(spec)]
            complete = not lacking
            restore = bool(lacking) and has_model and record.method_digest == outlined.method.digest
            corruptions = lacking if restore else corruptions
            self.without_model += bool(lacking) and not restore and not spec.online
        if record is not None and not complete and not restore:
            spec, left_out = domains.excluding(self._widened(spec, record), self._options.include_near_duplicates)
            known = [one for one in record.shifts_of(spec) if one.version == VERSION]
            corruptions += [one for one in known if one not in corruptions]
        ids = {target: sorted(images.values()) for target, images in left_out.items()}
        return RunState(spec, ids, record, complete, corruptions, restore, keep_model)

    def _undamaged(self, spec: Run) -> RunRecord | None:
        """Return the record of a run, or None. A damaged record is set aside, with a note."""
        path = spec.path(self._runs)
        if not path.exists():
            return self._copied(spec)
        with suppress(BenchError):
            return RecordFile.open_whole(path).record
        with self._claim(spec) as claimed:
            if not claimed or not path.exists():  # another process is writing it now
                return None
            try:
                return RecordFile.open_whole(path).record  # another process has just written it
            except BenchError as error:
                where = "" if self._options.dry_run else f", and this is now {store.set_aside(path, self._runs)}"
                self.notes.append(f"{str(error).partition(';')[0]}; the run is executed again{where}")
        return None

    def _copied(self, spec: Run) -> RunRecord | None:
        """Return the offered record of a run after copying it, or None. A record that `verify` refuses is left out."""
        offered = self._options.offered
        if offered is None or self._options.rerun or (record := self._offered.get(spec.key)) is None:
            return None
        if faults := faults_of(offered, record)[0]:
            self.notes.append(f"{faults[0]}; the record is not copied")
            return None
        with self._claim(spec) as claimed:
            if not claimed:  # another process is writing it now
                return None
            self.copied += 1
            if not self._options.dry_run:
                copied(offered, record, self._runs)
        return record

    @cached_property
    def _offered(self) -> dict[str, RunRecord]:
        """The offered records by key."""
        records, faults = ([], []) if self._options.offered is None else self._options.offered.read()
        self.notes += faults
        return {record.spec.key: record for record in records}

    def _counted_again(self, record: RunRecord, spec: Run, left_out: Mapping[str, Mapping[int, str]]) -> RunRecord:
        """Return a record with its cells counted without the images to leave out, and save it if they changed."""
        if (again := _counted_again(record, spec, left_out, self._runs)) is None:
            return record
        with self._claim(spec) as claimed:
            if not claimed:  # another process is writing it now
                return record
            now = store.find(spec, self._runs)
            # Another process may just have counted or executed it.
            if now is not None and (now.cells, now.files) != (record.cells, record.files):
                again = _counted_again(now, spec, left_out, self._runs)
                if again is None:
                    return now
            fresh, predictions = again
            self.recounted.append(fresh)
            if not self._options.dry_run:
                store.save(fresh, self._runs, predictions)
            return fresh

    def _claim(self, spec: Run) -> AbstractContextManager[bool]:
        """Enter with True where this process may change a record. A dry run takes no lock, since it changes nothing."""
        return nullcontext(True) if self._options.dry_run else claim(spec, self._runs)

    def _widened(self, spec: Run, record: RunRecord) -> Run:
        """Return a run with the targets that its record scored, too, so that the new record loses no scores."""
        wanted = {*spec.targets, *(cell.target for cell in record.cells)}
        targets = [name for name in self._suite.domains if name in wanted]
        try:
            self._domains.prepare(targets)
        except BenchError as error:
            lost = " and ".join(name for name in targets if name not in spec.targets)
            raise BenchError(
                f"the record {spec.slug} also contains scores on {lost}, which a new run would lose: {error}; or move "
                f"the record elsewhere"
            ) from None
        return replace(
            spec,
            targets={name: self._domains.fingerprints[name] for name in targets},
            relations={name: self._suite.relation(spec.sources, name) for name in targets},
        )


def _counted_again(
    record: RunRecord, spec: Run, left_out: Mapping[str, Mapping[int, str]], runs: Path
) -> tuple[RunRecord, dict[str, Predictions]] | None:
    """Return a record, and its predictions, with the stale cells counted again; None where no cell can be.

    A cell is stale where it leaves out other images than `spec` does.

    Args:
        record: The record as stored.
        spec: The run as planned.
        left_out: Row and id of every image to leave out, by target.
        runs: The folder of the records.
    """
    stale = [
        cell
        for cell in record.cells
        if spec.targets.get(cell.target) == cell.fingerprint and cell.excluded != spec.excluded.get(cell.target, "")
    ]
    try:
        predictions = RecordFile(spec.path(runs), record).predictions() if stale else {}
    except BenchError:
        return None  # the record stays incomplete, so the run is executed again
    fresh = {}
    for cell in stale:
        images = left_out.get(cell.target, {})
        if (again := counting.recounted(spec, cell, predictions.get(cell.target), images)) is not None:
            fresh[cell.target] = again
            predictions[cell.target] = counting.without(predictions[cell.target], images)
    if not fresh:
        return None
    cells = tuple(fresh.get(cell.target, cell) for cell in record.cells)
    excluded = {cell.target: cell.excluded for cell in cells if cell.excluded}
    return replace(record, spec=replace(record.spec, excluded=excluded), cells=cells), predictions
