"""Open the inputs of a method for a training by hand, without a job, a record or a resume state."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from fergen_bench.data.domain import Domain, Unlabelled
from fergen_bench.data.source import Source, open_source
from fergen_bench.error import BenchError
from fergen_bench.execution.fleet import GPU_THREADS
from fergen_bench.execution.runner import prepare_device
from fergen_bench.execution.scoring import seed_globally
from fergen_bench.experiment.method_file import MethodFile
from fergen_bench.experiment.run import Run
from fergen_bench.progress import Progress
from fergen_bench.training.contract import Context, Method
from fergen_bench.training.load import load_method


def open_by_hand(
    run: Run, domains: Mapping[str, Domain], file: MethodFile | None, device: str, cache: Path, progress: Progress
) -> tuple[Source, Context, Method | None]:
    """Return the source, the context and the method of a run.

    The global random generators are seeded as they are before the training of a run, and torch computes with as many
    threads, so that `method.fit(source, context)` gives the numbers of the run.

    Args:
        run: The run.
        domains: Its sources, and the target that it adapts to, by name.
        file: The method file; None for a training without a method.
        device: cpu, cuda or cuda:1.
        cache: Folder of stored features.
        progress: Receives the progress of the training.

    Raises:
        BenchError: The method file fails to load, or no image can be held out for `source-val`.
    """
    place = prepare_device(device, 1 if device == "cpu" else GPU_THREADS, run.precision)
    source = open_source([domains[name] for name in run.sources], run.seed, run.fraction)
    if run.selection == "source-val" and source.undivided:
        raise BenchError(source.undivided)
    method = None if file is None else load_method(file.path, file.class_name, run.parameters)
    unlabelled = None if run.adaptation_target is None else Unlabelled(domains[run.adaptation_target])
    context = Context(run.seed_name, run.seed, run.selection, place, cache, progress, unlabelled)
    context.precision, context.capture_steps = run.precision, False
    seed_globally(run, "global")
    return source, context, method
