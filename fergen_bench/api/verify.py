"""Check a results folder with the methods and prepared domains of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.api import prepared
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project
    from fergen_bench.records.verify import Verdict


def verify(project: Project, folder: Path) -> Verdict:
    """Return what is wrong with a results folder, a folder of records or packed records, without changing them.

    Args:
        project: The project whose method files and prepared domains are compared with what the records state.
        folder: The folder or file, or reference, see `load_results`.
    """
    from fergen_bench.api.results import records_at
    from fergen_bench.records.verify import verify

    def digest(method: str) -> str | None:
        try:
            return project.method(method).digest
        except BenchError:
            return None

    path = folder if folder.exists() else records_at(folder, project).path
    return verify(path, digest, lambda suite, name: prepared.about(project, suite, name))
