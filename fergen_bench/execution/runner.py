"""Execute one run: open it, fit the method, score every target, apply corruptions, assemble the record, save it."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# Before torch is loaded: cuBLAS computes the same sums every time only with a fixed workspace.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch

from fergen_bench.data.domain import Domain, Split, Unlabelled
from fergen_bench.data.facts import DataFacts, facts_of
from fergen_bench.data.source import Source, open_source
from fergen_bench.error import BenchError, RunError
from fergen_bench.execution.environment import environment_of, resume_identity
from fergen_bench.execution.layer import COUNTS, ScoringLayer
from fergen_bench.execution.scoring import exam, fetched, forward, inspect, score_corruptions, seed_globally, streamed
from fergen_bench.experiment.run import Job, Run
from fergen_bench.experiment.shipped import digest_of_method
from fergen_bench.networks.name import SCRATCH, digest_of
from fergen_bench.networks.profiler import Profiler
from fergen_bench.progress import Progress
from fergen_bench.records.record import HELD_OUT, Cell, Predictions, RunRecord, ShiftedCell, confusion_of, scored_cell
from fergen_bench.records.sidecar import CHECKPOINT, PREDICTIONS
from fergen_bench.records.store import RecordFile, save
from fergen_bench.training.contract import Context, Method
from fergen_bench.training.load import load_method
from fergen_bench.training.resume import ResumeState
from fergen_bench.training.saved import restore_method, save_method
from fergen_bench.wording import many


def run_one(job: Job, progress: Progress) -> Path:
    """Execute a run and write its record.

    Args:
        job: The run and its circumstances.
        progress: Receives the epochs of the training and the targets that are scored.

    Returns:
        The path of the record.

    Raises:
        BenchError: The input is at fault; nothing is written then.
    """
    run = _open(job, progress)
    if job.restore:
        return _add_corruptions(run)
    if not _take_training(run):
        _fit(run)
    cells, predictions = _score(run)
    corrupted = _score_corruptions(run)
    record = _assemble(run, cells, corrupted, predictions.get(HELD_OUT))
    return _save(run, record, predictions)


# --------------------------------------------------------------------------------------------------------------- open


@dataclass
class _OpenRun:
    """A run in progress: its job and everything that was opened for it."""

    job: Job
    started: datetime
    device: torch.device
    domains: Mapping[str, Domain]
    source: TrackedSource
    method: Method
    base: Method | None  # the method that an online method starts from
    context: Context
    layer: ScoringLayer
    resume: ResumeState
    profiler: Profiler | None
    environment: dict[str, Any]
    progress: Progress
    base_digest: str = ""
    seconds: dict[str, float] = field(default_factory=dict)  # by step: fit, score, shift

    @property
    def spec(self) -> Run:
        return self.job.spec

    @property
    def runs(self) -> Path:
        return Path(self.job.runs)


def _open(job: Job, progress: Progress) -> _OpenRun:
    """Open the domains, the method and the context of a run."""
    spec, started, device = job.spec, datetime.now(UTC), prepare_device(job.device, job.threads, job.spec.precision)
    domains = _open_domains(job)
    whole = open_source([domains[name] for name in spec.sources], spec.seed, spec.fraction)
    if spec.selection == "source-val" and whole.undivided:
        raise BenchError(whole.undivided)
    source = TrackedSource.over(whole)
    _check_unchanged(job)
    method = load_method(Path(job.method_file), job.class_name, spec.parameters)
    code, base = job.base, None
    if code is not None and spec.base is not None:
        base = load_method(Path(code.path), code.class_name, spec.base.parameters)
    # The class frequencies in the logits of an online method are those that its base learned.
    layer = ScoringLayer.of(spec, whole, method if base is None else base)
    unlabelled = None if spec.adaptation_target is None else Unlabelled(domains[spec.adaptation_target])
    environment = environment_of(job, device)
    # A captured CUDA graph hides the single operations that a profiler measures.
    capture = job.capture_steps and device.type == "cuda" and not job.profile
    identity = {**resume_identity(job, environment), "recorded": str(capture)}
    resume = ResumeState(spec.unfinished_path(Path(job.runs)), identity, job.save_every)
    profiler = Profiler(job.profile_path, device) if job.profile else None
    context = Context(
        spec.seed_name, spec.seed, spec.selection, device, Path(job.cache), progress, unlabelled, resume, profiler
    )
    context.capture_steps, context.precision = capture, spec.precision
    return _OpenRun(
        job, started, device, domains, source, method, base, context, layer, resume, profiler, environment, progress
    )


def _open_domains(job: Job) -> dict[str, Domain]:
    """Open the domains of a run; raise where one changed since the run was planned."""
    domains = {name: Domain(Path(folder), name) for name, folder in job.folders.items()}
    for name, fingerprint in {**job.spec.fingerprints, **job.spec.targets}.items():
        if domains[name].fingerprint != fingerprint:
            raise BenchError(f"{job.folders[name]}: {name} was prepared again after the runs were planned; run again")
    return domains


def _check_unchanged(job: Job) -> None:
    """Raise where the method file or a file of weights changed since the run was planned."""
    files = {job.method_file: job.method_digest} | ({} if job.base is None else {job.base.path: job.base.digest})
    for path, digest in files.items():
        if digest and digest_of_method(Path(path)) != digest:
            raise BenchError(
                f"{path}: this method file, or a shipped method that it imports, differs from the one that the runs "
                f"were planned with; run again"
            )
    for parameter, digest in job.spec.weights.items():
        value = job.spec.parameters[parameter]
        if digest_of(value, parameter) != digest:
            raise BenchError(
                f"{value}: this file, named by {parameter}, was changed after the runs were planned; run again"
            )


def prepare_device(name: str, threads: int, precision: str) -> torch.device:
    """Return the device of a run, after setting the number of threads and deterministic kernels.

    Args:
        name: cpu, cuda or cuda:1.
        threads: CPU threads of the run.
        precision: Precision of the run.

    Raises:
        BenchError: The machine lacks the device.
    """
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BenchError(
            f"--device {name}: torch {torch.__version__} sees {many(torch.cuda.device_count(), 'CUDA device')}; "
            f"use another, or --device cpu"
        )
    torch.set_num_threads(threads)
    if device.type == "cuda":  # one CPU thread adds in one order anyway
        repeatable_on_gpu()
        # cuDNN rounds the factors of its products to 10 bits where it may. An earlier run may have set the other value.
        torch.backends.cudnn.allow_tf32 = precision != "fp32"
    return device


def repeatable_on_gpu() -> None:
    """Make GPU kernels return the same numbers every time, as far as torch can."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)  # loads a compiler
    # No code here reads memory before writing it, and filling it first took a seventh of CAFE's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


class TrackedSource(Source):
    """A source that tracks accesses to `train`, which contains the held-out images of `val`, too.

    After such an access, the method may have learned from the held-out images, and its confidence on them reveals
    nothing about other images.
    """

    asked_for_all = False

    @classmethod
    def over(cls, source: Source) -> TrackedSource:
        """Return a tracked copy of a source."""
        return cls(source.names, source.train, source.fit, source.held_out, source.undivided)

    def __getattribute__(self, name: str) -> Any:
        if name == "train":
            object.__setattr__(self, "asked_for_all", True)
        return super().__getattribute__(name)


# ------------------------------------------------------------------------------------------------------ fit and score


def _fit(run: _OpenRun) -> None:
    """Fit the method."""
    # Methods should draw from the context; one that draws from a global generator is repeatable all the same.
    seed_globally(run.spec, "global")
    clock = time.perf_counter()
    if run.base is not None:
        _restore_base(run, run.base)
        run.context.base = run.base
    run.method.fit(run.source, run.context)
    run.seconds["fit"] = run.resume.earlier + time.perf_counter() - clock
    if run.profiler is not None:
        run.profiler.end()


def _restore_base(run: _OpenRun, base: Method) -> None:
    """Restore the fitted method that an online method starts from.

    Raises:
        RunError: It lacks a checkpoint.
        BenchError: Its record or checkpoint is damaged.
    """
    spec = run.spec.base
    assert spec is not None
    path = spec.path(run.runs)
    if not path.is_file() or not spec.model_path(run.runs).is_file():
        raise RunError(
            f"{spec.model_path(run.runs)}: {run.spec.method} starts from this checkpoint of {spec.title}, which was "
            f"not kept; repeat the command with --keep-models, which trains it and keeps it"
        )
    file = RecordFile.open(path)
    file.check(CHECKPOINT)
    restore_method(spec.model_path(run.runs), base, run.context)
    run.base_digest = file.record.method_digest
    if run.job.base is not None and run.job.base.digest not in ("", run.base_digest):
        # One text trained the base and another one predicts, so that the numbers are those of neither.
        run.base_digest = hashlib.sha256(f"{run.base_digest} {run.job.base.digest}".encode()).hexdigest()
    # The confidence on images that the base learned from reveals nothing about others.
    run.source.asked_for_all = not (file.has(PREDICTIONS) and HELD_OUT in file.predictions())


def _take_training(run: _OpenRun) -> bool:
    """Restore the fitted method from the checkpoint of the run with the usual options of scoring, if there is one.

    Such a run has the same training. History and duration of the training, and the arrays that it saved, are taken
    from its record.
    """
    spec, usual = run.spec, run.spec.trained
    path = usual.path(run.runs)
    if spec == usual or run.job.rerun or not (path.is_file() and usual.model_path(run.runs).is_file()):
        return False
    with suppress(BenchError):  # a damaged record or checkpoint: the method is trained again
        file = RecordFile.open_whole(path)
        file.check(CHECKPOINT)
        done = file.record
        if done.method_digest != run.job.method_digest:
            return False
        held_out = file.has(PREDICTIONS) and HELD_OUT in file.predictions()
        arrays = file.arrays()
        restore_method(usual.model_path(run.runs), run.method, run.context)
        run.source.asked_for_all = not held_out
        run.context.history = [dict(epoch) for epoch in done.history]
        run.context.selected_epoch = done.selected_epoch
        scored = tuple(f"{target}." for target in done.spec.targets)
        run.context.arrays |= {name: array for name, array in arrays.items() if not name.startswith(scored)}
        run.seconds["fit"] = done.seconds.get("fit", 0.0)
        run.environment["trained_as"] = usual.key
        return True
    return False


def _score(run: _OpenRun) -> tuple[list[Cell], dict[str, Predictions]]:
    """Score the method on every target.

    Returns:
        The cells, and the predictions by target; under HELD_OUT those on held-out images of the source, see
        `_held_out`.
    """
    spec, job, clock = run.spec, run.job, time.perf_counter()
    exams = {target: exam(run.domains[target], job) for target in spec.targets}
    pending = {}
    for number, (target, split) in enumerate(exams.items(), start=1):
        # A GPU starts on the next target while the host still waits for the logits of this one.
        pending[target] = _logits(run, split, target)
        run.progress(f"scored {target}", number, len(exams))
    if run.profiler is not None:
        run.profiler.end()
    cells: list[Cell] = []
    predictions: dict[str, Predictions] = {}
    for target, split in exams.items():
        left_out = np.isin(split.ids, job.excluded.get(target, ()))
        predictions[target] = Predictions(fetched(pending[target], target, job), split.labels, left_out)
        excluded = spec.excluded.get(target, "")
        cells.append(scored_cell(spec, target, spec.targets[target], predictions[target], excluded))
        inspected = {} if spec.online else inspect(run.method, split, run.device, job)
        for name, array in inspected.items():
            run.context.save_array(f"{target}.{name}", array)
    if spec.prior and run.layer.counts is not None:
        run.context.save_array(COUNTS, run.layer.counts)
    if (held_out := _held_out(run)) is not None:
        logits = fetched(_logits(run, held_out, HELD_OUT), "held-out images", job)
        predictions[HELD_OUT] = Predictions(logits, held_out.labels, np.zeros(len(held_out), bool))
    run.seconds["score"] = time.perf_counter() - clock
    if run.profiler is not None:
        run.profiler.write(run.seconds["fit"], run.seconds["score"])
        run.environment["profiled"] = True  # its durations do not compare with those of other runs
    return cells, predictions


def _logits(run: _OpenRun, split: Split, name: str) -> list[torch.Tensor]:
    """Return the logits of the images of a target, or of held-out images, whose name is `HELD_OUT`."""
    if run.spec.online:
        return streamed(run.method, split, name, run.device, run.job, run.layer)
    # Only the targets count as steps of scoring.
    profiler = None if name == HELD_OUT else run.profiler
    return forward(run.method, split, run.device, run.job, profiler, run.layer)


def _held_out(run: _OpenRun) -> Split | None:
    """Return the images held out of the source; None where there are none or the method learned from some of them.

    With the selection `last` the images of `val` are among those to train on, unless they are the datasets' own
    validation parts.
    """
    source = run.source
    if source.undivided:
        return None
    own = all(piece.part == "val" for piece in source.held_out.pieces)
    kept_apart = own or (run.spec.selection == "source-val" and not source.asked_for_all)
    return source.held_out if kept_apart else None


def _score_corruptions(run: _OpenRun) -> tuple[ShiftedCell, ...]:
    """Score the method on corrupted images, if the run evaluates any."""
    if not run.job.corruptions:
        return ()
    clock = time.perf_counter()
    cells = score_corruptions(run.method, run.domains, run.device, run.job, run.progress, run.layer)
    run.seconds["shift"] = time.perf_counter() - clock
    return cells


def _add_corruptions(run: _OpenRun) -> Path:
    """Restore the fitted method from its checkpoint, and add corruption scores to the record."""
    file = RecordFile.open(run.spec.path(run.runs))
    file.check(CHECKPOINT)
    record = file.record
    restore_method(run.spec.model_path(run.runs), run.method, run.context)
    fresh = _score_corruptions(run)
    replaced = {cell.shift for cell in fresh}
    others = (cell for cell in record.shifted if cell.shift not in replaced)
    data = {**record.data, **_facts(run)}
    seconds = {**record.seconds, **run.seconds}
    return save(replace(record, shifted=(*others, *fresh), seconds=seconds, data=data), run.runs)


# --------------------------------------------------------------------------------------------------- assemble and save


def _assemble(
    run: _OpenRun, cells: list[Cell], corrupted: tuple[ShiftedCell, ...], held_out: Predictions | None
) -> RunRecord:
    """Return the record of a run."""
    context, environment = run.context, dict(run.environment)
    if run.device.type == "cuda":
        environment |= {"steps": context.steps} if context.steps else {}
        environment["memory_mb"] = round(torch.cuda.max_memory_allocated(run.device) / 2**20)
    return RunRecord(
        spec=run.spec,
        cells=tuple(cells),
        history=tuple(context.history),
        selected_epoch=context.selected_epoch,
        networks=_networks(run),
        environment=environment,
        seconds=run.seconds,
        started=run.started.isoformat(),
        method_digest=run.job.method_digest,
        shifted=corrupted,
        data=_facts(run),
        source_val=None if held_out is None else confusion_of(held_out),
        base_digest=run.base_digest,
    )


def _networks(run: _OpenRun) -> dict[str, dict[str, Any]]:
    """Return the networks that a run loaded, by parameter: name, digest of the weights, and notes on them."""
    spec, context = run.spec, run.context
    networks: dict[str, dict[str, Any]] = {}
    of_base = () if spec.base is None else _named_weights(spec.base)
    for parameter, name, digest in (*of_base, *_named_weights(spec)):
        if name not in context.networks:
            continue
        network, scratch = context.networks[name], digest == SCRATCH
        entry = {"name": name.partition("//")[0], "digest": SCRATCH if scratch else network.digest}
        notes = () if scratch else tuple(network.notes)
        if (tower := context.text_towers.get(name)) is not None:
            entry["text_digest"] = SCRATCH if scratch else tower.digest
            notes += tuple(tower.notes)
        if notes:
            entry["notes"] = list(dict.fromkeys(notes))
        networks[parameter] = entry
    return networks


def _named_weights(spec: Run) -> list[tuple[str, str, str]]:
    """Return each parameter of a run that names a network, the network and the digest of its weights."""
    return [(parameter, spec.parameters[parameter], digest) for parameter, digest in spec.weights.items()]


def _facts(run: _OpenRun) -> dict[str, DataFacts]:
    """Return the facts about the data that a record stores, by domain."""
    spec = run.spec
    return {
        name: facts_of(domain.about, spec.profile, spec.learns_from(name), name in spec.targets)
        for name, domain in run.domains.items()
    }


def _save(run: _OpenRun, record: RunRecord, predictions: Mapping[str, Predictions]) -> Path:
    """Write the checkpoint, if wanted, and the record; then remove the resume state."""
    if run.job.keep_model:
        save_method(run.method, run.spec.model_path(run.runs))
    path = save(record, run.runs, predictions, run.context.arrays, model=run.job.keep_model, anew=True)
    run.resume.remove()
    return path
