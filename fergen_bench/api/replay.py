"""Repeat the run of a record with the options of a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fergen_bench.api.run import check_device

if TYPE_CHECKING:
    from fergen_bench.api.display import Display
    from fergen_bench.api.options import RunOptions
    from fergen_bench.execution.replay import Replay
    from fergen_bench.experiment.project import Project


def replay(options: RunOptions, project: Project, shown: Display) -> Replay:
    """Repeat the run of a record in a temporary folder, and return both records.

    Args:
        options: `replay` is the file of the record; `device`, `parameters` and `backbone` apply, the others do not.
        project: The project with the method and the domains.
        shown: Shows the progress.
    """
    from fergen_bench.execution import replay as replaying
    from fergen_bench.execution.fleet import resolve_device

    assert options.replay is not None
    device = resolve_device(check_device(options.device or project.settings.device))
    changes = dict(options.parameters)
    if options.backbone is not None:
        changes["backbone"] = options.backbone
    shown.begin(1)
    return replaying.replay(
        project,
        options.replay,
        device,
        changes,
        shown.preparation,
        lambda job, message: shown.listen(job.spec, message),
    )
