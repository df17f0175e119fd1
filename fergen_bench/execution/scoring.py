"""Compute a fitted method's logits, on test images and on corrupted ones, and check what it returns."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from fergen_bench.data.domain import Domain, Split
from fergen_bench.data.randomness import seed_of
from fergen_bench.error import BenchError, RunError
from fergen_bench.execution.layer import ScoringLayer
from fergen_bench.execution.stream import stream
from fergen_bench.experiment.run import Corruption, Job, Run
from fergen_bench.networks.kernels import scoring_batch
from fergen_bench.networks.profiler import Profiler, each, phase
from fergen_bench.progress import Progress
from fergen_bench.records.record import Predictions, ShiftedCell, scored_cell
from fergen_bench.synth.factor_sweep import images_at
from fergen_bench.training.contract import CLASSES, Method
from fergen_bench.training.images import labelled


@torch.no_grad()
def forward(
    method: Method,
    split: Split,
    device: torch.device,
    job: Job,
    profiler: Profiler | None = None,
    layer: ScoringLayer | None = None,
) -> list[torch.Tensor]:
    """Start the computation of the logits of a split.

    Args:
        method: A fitted method.
        split: The images.
        device: The device of the method.
        job: The run, for errors.
        profiler: Counts the batches as steps of scoring.
        layer: The options of scoring; by default, plain views and the whole prior.

    Returns:
        Logits float32 (B, 7) of each batch, on the device that computes them: a GPU may not have finished yet.
    """
    logits, layer = [], layer or ScoringLayer()
    for images, _ in each("data", labelled(split, device)):
        if profiler is not None:
            profiler.step("scoring")
        with phase("forward"):
            logits.append(layer.logits(lambda seen: _logits(method, seen, job), images))
    return logits


@torch.no_grad()
def streamed(
    method: Method,
    split: Split,
    name: str,
    device: torch.device,
    job: Job,
    layer: ScoringLayer,
    shift: Corruption | None = None,
) -> list[torch.Tensor]:
    """Return the logits of a split that an online method receives as a stream.

    The method is reset first, and the global random generators are seeded, so that nothing of an earlier stream is
    left.

    Args:
        method: A fitted online method.
        split: The images.
        name: Name of the stream: the target, or that of held-out images. The order depends on it, on the suite and on
            the seed, so that all methods receive the same stream.
        device: The device of the method.
        job: The run; its parameters describe the stream.
        layer: The options of scoring.
        shift: A corruption of the images, of which only some are scored then.

    Returns:
        Logits float32 (N, 7), in the order of the images and not of the stream.
    """
    spec = job.spec
    rows = np.arange(len(split)) if shift is None else evenly(len(split), shift.faces)
    order, size = spec.parameters["stream"], spec.parameters["stream_batch"]
    batches = stream(split.labels[rows], order, size, spec.suite, name, spec.seed)
    seed_globally(spec, "stream", name)
    method.reset()  # type: ignore[attr-defined]
    with _without_gradients_translated(job):
        logits = [
            layer.without_prior(_logits(method, images, job))
            for images in each("data", _streamed_images(split, [rows[batch] for batch in batches], device, shift))
        ]
    found = torch.cat(logits)
    return [torch.empty_like(found).index_copy_(0, torch.from_numpy(np.concatenate(batches)).to(device), found)]


_NO_GRADIENT = ("does not require grad", "not have been used in the graph")
"""Parts of torch's messages about the gradient of a result that does not depend on a parameter."""


@contextmanager
def _without_gradients_translated(job: Job) -> Iterator[None]:
    """Raise BenchError where an online method descends on parameters that do not change the logits of its base."""
    try:
        yield
    except RuntimeError as error:
        if not any(part in str(error) for part in _NO_GRADIENT):
            raise
        base = "its base" if job.spec.base is None else f"its base, {job.spec.base.label},"
        raise BenchError(
            f"{job.spec.method}: the logits of {base} do not depend on all layers that {job.spec.method} adapts, so "
            f"these have no gradient; choose a base whose predict uses them, or leave base out"
        ) from error


def _streamed_images(
    split: Split, batches: Sequence[np.ndarray], device: torch.device, shift: Corruption | None
) -> Iterator[torch.Tensor]:
    """Yield the images of each batch, uint8 (B, 3, height, width) on the device, after a corruption if there is one."""
    if shift is None:
        yield from split.images_at(batches, device)
        return
    for rows in batches:
        yield images_at(split, rows, shift.factor, shift.level).to(device)


def seed_globally(spec: Run, *names: object) -> None:
    """Seed the global generators of torch, numpy and Python with the run, its seed and names."""
    for seeder in (torch.manual_seed, np.random.seed, random.seed):
        seeder(seed_of(spec.seed_name, spec.seed, *names) % 2**32)


def fetched(logits: Sequence[torch.Tensor], target: str, job: Job) -> np.ndarray:
    """Return the logits of all batches on the host, float32 (N, 7).

    Raises:
        RunError: A logit is NaN or infinite.
    """
    found = torch.cat(list(logits)).cpu().numpy()
    if not np.isfinite(found).all():
        raise RunError(f"{job.method_file}: predict returned NaN or infinite logits on {target}; lower learning_rate")
    return found


def _logits(method: Method, images: torch.Tensor, job: Job) -> torch.Tensor:
    """Return the logits float32 (B, 7) of a batch; raise where `predict` returns another shape or type."""
    logits = method.predict(images)
    if not isinstance(logits, torch.Tensor) or logits.shape != (len(images), CLASSES):
        got = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise BenchError(
            f"{job.method_file}: predict must return logits of the shape {(len(images), CLASSES)}, not {got}"
        )
    if not logits.is_floating_point():
        raise BenchError(f"{job.method_file}: predict must return floating-point logits, not {logits.dtype}")
    return logits.float()


@torch.no_grad()
def score_corruptions(
    method: Method,
    domains: Mapping[str, Domain],
    device: torch.device,
    job: Job,
    progress: Progress,
    layer: ScoringLayer,
) -> tuple[ShiftedCell, ...]:
    """Score a fitted method on the corrupted test images that its run evaluates.

    Args:
        method: A fitted method.
        domains: The domains of the run, by name.
        device: The device of the method.
        job: The run; `job.corruptions` lists the corruptions.
        progress: Receives the number of corruptions that are done.
        layer: The options of scoring.

    Returns:
        One cell for each corruption, in the order of `job.corruptions`.
    """
    spec, cells = job.spec, []
    for number, shift in enumerate(job.corruptions, start=1):
        split = exam(domains[shift.target], job)
        rows = evenly(len(split), shift.faces)
        logits = (
            streamed(method, split, shift.target, device, job, layer, shift)
            if spec.online
            else _corrupted(method, split, rows, device, job, layer, shift)
        )
        left_out = np.isin(split.ids[rows], job.excluded.get(shift.target, ()))
        excluded = spec.excluded.get(shift.target, "")
        found = fetched(logits, f"{shift.target} with {shift.factor}", job)
        predictions = Predictions(found, split.labels[rows], left_out)
        cell = scored_cell(spec, shift.target, spec.targets[shift.target], predictions, excluded)
        at = (shift.factor, shift.level, shift.faces, shift.version)
        cells.append(ShiftedCell(cell.target, cell.fingerprint, cell.relation, *at, cell.confusion, excluded))
        progress(f"corruption {shift.factor}", number, len(job.corruptions))
    return tuple(cells)


def _corrupted(
    method: Method,
    split: Split,
    rows: np.ndarray,
    device: torch.device,
    job: Job,
    layer: ScoringLayer,
    shift: Corruption,
) -> list[torch.Tensor]:
    """Return the logits of each batch of corrupted images."""
    logits = []
    for start in range(0, len(rows), scoring_batch(device)):
        images = images_at(split, rows[start : start + scoring_batch(device)], shift.factor, shift.level)
        logits.append(layer.logits(lambda seen: _logits(method, seen, job), images.to(device)))
    return logits


def exam(domain: Domain, job: Job) -> Split:
    """Return the images of a target on which a run is scored."""
    return domain.split(job.spec.scored_part(domain.name, domain.about))


def evenly(count: int, wanted: int) -> np.ndarray:
    """Return `wanted` of the indices 0 .. count - 1, evenly spread, or all of them if there are fewer."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


INSPECTED = 1000
"""Images of a target, evenly spread over it, that a method's `inspect` receives."""
SHOWN = 16
"""Columns with the largest variance of an inspected value, for which the images with the largest values are stored."""


@torch.no_grad()
def inspect(method: Method, split: Split, device: torch.device, job: Job) -> dict[str, np.ndarray]:
    """Summarise the values that `method.inspect` returns for the images of a target.

    Args:
        method: A fitted method. One that does not override `inspect` has no values.
        split: The images of the target.
        device: The device of the method.
        job: The run, for errors.

    Returns:
        Arrays by name. For a value NAME of width C:

        - NAME.mean and NAME.sd: float16 (7, C), over the images of each expression; NaN where it has none.
        - NAME.count: (7,), images of each expression.
        - NAME.varying: (16,) or fewer, the columns with the largest variance over all images, largest first.
        - NAME.top: (16, 8) or fewer, for each of those columns the indices in the split of the images with the largest
          values.

    Raises:
        BenchError: `inspect` returned something else than tensors (B, C).
    """
    if type(method).inspect is Method.inspect:
        return {}
    rows = evenly(len(split), INSPECTED)
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(rows), scoring_batch(device)):
        chosen = rows[start : start + scoring_batch(device)]
        for name, value in method.inspect(split.faces(chosen).to(device)).items():
            if not isinstance(value, torch.Tensor) or value.ndim != 2 or len(value) != len(chosen):
                raise BenchError(
                    f"{job.method_file}: inspect must return tensors of the shape ({len(chosen)}, width); {name} is not"
                )
            parts.setdefault(name, []).append(value.float().cpu().numpy())
    arrays: dict[str, np.ndarray] = {}
    for name, values in ((name, np.concatenate(part)) for name, part in parts.items()):
        of_expression = [values[split.labels[rows] == label] for label in range(CLASSES)]
        absent = np.full(values.shape[1], np.nan)
        arrays[f"{name}.mean"] = np.array([one.mean(0) if len(one) else absent for one in of_expression], np.float16)
        arrays[f"{name}.sd"] = np.array([one.std(0) if len(one) else absent for one in of_expression], np.float16)
        arrays[f"{name}.count"] = np.array([len(one) for one in of_expression])
        arrays[f"{name}.varying"] = varying = np.argsort(-values.var(0), kind="stable")[:SHOWN]
        arrays[f"{name}.top"] = rows[np.argsort(-values[:, varying], axis=0, kind="stable")[:8]].T
    return arrays
