"""Pack results into a compact folder that can be committed, and unpack them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.api.results import load, records_at
from fergen_bench.files.atomic import atomically

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project
    from fergen_bench.records.pack import Packing


def pack(project: Project, results: str | Path, to: Path) -> Packing:
    """Add the records of a results folder to a packed folder, and write the leaderboard.md of each suite into it.

    See `records.pack.pack`.

    Args:
        project: The project, whose results folder "results" stands for.
        results: A results folder, a folder of records, or packed records, such as those of another group.
        to: The packed folder, such as results/reference. It is created if it is missing.
    """
    from fergen_bench.records.pack import pack

    done = pack(records_at(results, project), to)
    _write_leaderboards(project, to)
    return done


def _write_leaderboards(project: Project, folder: Path) -> None:
    """Write SUITE/leaderboard.md for each suite of a packed folder that has scores."""
    from fergen_bench.records.packed import PackedRecords
    from fergen_bench.report.markdown import markdown
    from fergen_bench.report.shifts import shift_boards

    stored = PackedRecords(folder)
    for suite in sorted({record.spec.suite for record in stored.read()[0]}):
        results = load(project, stored, suite)
        if any(record.cells for record in results.records):
            text = markdown(results.views(), shifts=list(shift_boards(results.corruptions)))
            with atomically(folder / suite / "leaderboard.md") as draft:
                draft.write_text(text, encoding="utf-8")


def unpack(project: Project, packed: str | Path, to: Path) -> tuple[list[Path], int]:
    """Write packed records as a results folder; see `records.pack.unpack`.

    Args:
        project: The project, in which "reference" stands for the committed results.
        packed: The packed records.
        to: The results folder. Records in it stay as they are.

    Returns:
        The paths of the written records, and the number of runs that had a record there.
    """
    from fergen_bench.records.pack import unpack

    return unpack(records_at(packed, project), to / "runs")
