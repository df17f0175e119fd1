"""Pack results into a compact folder that can be committed, and unpack them again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.api.results import records_at

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project
    from fergen_bench.records.pack import Packing


def pack(project: Project, results: str | Path, to: Path) -> Packing:
    """Add the records of a results folder to a packed folder; see `records.pack.pack`.

    Args:
        project: The project, whose results folder "results" stands for.
        results: A results folder, a folder of records, or packed records, such as those of somebody else.
        to: The packed folder, such as results/reference. It is created if it is missing.
    """
    from fergen_bench.records.pack import pack

    return pack(records_at(results, project), to)


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
