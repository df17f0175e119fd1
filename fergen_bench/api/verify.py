"""Check a results folder with the methods and prepared domains of a project."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.api import prepared
from fergen_bench.error import BenchError
from fergen_bench.progress import silent

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project
    from fergen_bench.progress import Progress
    from fergen_bench.records.verify import Verdict


def verify(project: Project, folder: Path, progress: Progress = silent) -> Verdict:
    """Return what is wrong with results or a submission, without changing them.

    Args:
        project: The project whose method files and prepared domains are compared with what the records state.
        folder: A results folder, a folder of records, packed records, a submission, or reference, see `load_results`.
        progress: Receives the progress of rendering the embedded suites of a submission.
    """
    from fergen_bench.api import submission
    from fergen_bench.api.results import records_at
    from fergen_bench.records.verify import verify
    from fergen_bench.submission.archive import is_submission

    if folder.is_file() and is_submission(folder):
        return submission.check(project, folder, progress)

    def digest(method: str) -> str | None:
        try:
            return project.method(method).digest
        except BenchError:
            return None

    path = folder if folder.exists() else records_at(folder, project).path
    return verify(path, digest, lambda suite, name: prepared.about(project, suite, name))
