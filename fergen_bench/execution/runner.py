"""One run: open the source, fit the method, score every target, save the record. The whole benchmark is these two
functions.
"""

from __future__ import annotations

import hashlib
import os
import platform
import random
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Before torch is loaded: cuBLAS gives the same sums every time only with a fixed workspace.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import numpy as np
import torch

from fergen_bench.data.domain import Domain, Split, Unlabelled
from fergen_bench.data.facts import DataFacts, facts_of
from fergen_bench.data.randomness import seed_of
from fergen_bench.data.source import Source, open_source
from fergen_bench.error import BenchError, RunError
from fergen_bench.experiment.run import Job, Run
from fergen_bench.networks.kernels import scoring_batch
from fergen_bench.networks.loading import load_network
from fergen_bench.networks.name import SCRATCH, digest_of
from fergen_bench.networks.profiler import Profiler, each, phase
from fergen_bench.progress import Progress
from fergen_bench.records.record import HELD_OUT, NUMBERS, Predictions, RunRecord, ShiftedCell, scored_cell
from fergen_bench.records.sidecar import CHECKPOINT
from fergen_bench.records.store import RecordFile, save
from fergen_bench.synth.factor_sweep import images_at
from fergen_bench.training.contract import CLASSES, Context, Method
from fergen_bench.training.images import labelled
from fergen_bench.training.load import load_method
from fergen_bench.training.resume import ResumeState
from fergen_bench.training.saved import restore_method, save_method
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.audit import Refinement


def run_one(job: Job, report: Progress) -> Path:
    """Runs a job and leaves its record. Bad input raises BenchError; nothing is left behind then."""
    spec, started, device = job.spec, datetime.now(UTC), _prepare_device(job)
    path = job.spec.path(Path(job.runs))
    domains = {name: Domain(Path(folder), name) for name, folder in job.folders.items()}
    for name, state in {**spec.fingerprints, **spec.targets}.items():
        if domains[name].fingerprint != state:
            raise BenchError(f"{job.folders[name]}: {name} was prepared anew after the runs were planned; run again")
    source = TrackedSource.over(open_source([domains[name] for name in spec.sources], spec.seed, spec.fraction))
    if hashlib.sha256(Path(job.method_file).read_bytes()).hexdigest() != job.method_digest:
        raise BenchError(f"{job.method_file}: this method file was changed after the runs were planned; run again")
    for parameter, digest in spec.weights.items():
        if digest_of(spec.parameters[parameter], parameter) != digest:
            raise BenchError(
                f"{spec.parameters[parameter]}: this file, named by {parameter}, was changed after the runs were "
                f"planned; run again"
            )
    method = load_method(Path(job.method_file), job.class_name, spec.parameters)
    name = f"{spec.suite} {'+'.join(spec.sources)} {spec.method}"
    adaptation = spec.adaptation_target
    unlabelled = None if adaptation is None else Unlabelled(domains[adaptation])
    environment = _environment(job, device)
    # An operation that is to be looked at is not recorded.
    capture_steps = job.capture_steps and device.type == "cuda" and not job.profile
    same = {**_same_numbers(job, environment), "recorded": str(capture_steps)}
    resume = ResumeState(spec.unfinished_path(Path(job.runs)), same, job.save_every)
    profiler = Profiler(job.profile_path, device) if job.profile else None
    ctx = Context(name, spec.seed, spec.selection, device, Path(job.cache), report, unlabelled, resume, profiler)
    ctx.capture_steps = capture_steps
    if job.restore:
        file = RecordFile.open(path)
        file.check(CHECKPOINT)
        done = file.record
        restore_method(spec.model_path(Path(job.runs)), method, ctx)
        fresh, took = _score_shifts(method, domains, device, job, report)
        asked = {cell.shift for cell in fresh}
        kept = (cell for cell in done.shifted if cell.shift not in asked)
        data = {**done.data, **_facts(domains, spec)}
        again = replace(done, shifted=(*kept, *fresh), seconds={**done.seconds, "shift": took}, data=data)
        return save(again, Path(job.runs))
    # Randomness should come from the context; a method that uses a global generator repeats itself all the same.
    for seeder in (torch.manual_seed, np.random.seed, random.seed):
        seeder(seed_of(name, spec.seed, "global") % 2**32)
    clock = time.perf_counter()
    method.fit(source, ctx)
    seconds = {"fit": resume.earlier + time.perf_counter() - clock}
    if profiler is not None:
        profiler.end()

    clock = time.perf_counter()
    exams = {target: domains[target].exam(spec.profile, spec.learns_from(target)) for target in spec.targets}
    waiting = {}
    for place, (target, split) in enumerate(exams.items()):
        # A GPU goes on to the next target while the host has yet to fetch what it said of this one.
        waiting[target] = forward(method, split, device, job, profiler)
        report(f"scored {target}", place + 1, len(exams))
    if profiler is not None:
        profiler.end()
    cells, predictions = [], {}
    for target, split in exams.items():
        left_out = np.isin(split.ids, job.excluded.get(target, ()))
        predictions[target] = Predictions(fetched(waiting[target], target, job), split.labels, left_out)
        cells.append(
            scored_cell(spec, target, spec.targets[target], predictions[target], spec.excluded.get(target, ""))
        )
        for name, array in inspect(method, split, device, job).items():
            ctx.save_array(f"{target}.{name}", array)
    if spec.selection == "source-val" and predictions and not source.asked_for_all:
        held = fetched(forward(method, source.val, device, job), "held-out faces", job)
        predictions[HELD_OUT] = Predictions(held, source.val.labels, np.zeros(len(source.val), bool))
    seconds["score"] = time.perf_counter() - clock
    if profiler is not None:
        profiler.write(seconds["fit"], seconds["score"])
        environment["profiled"] = True  # so that nobody takes its durations for those of others
    shifted, took = _score_shifts(method, domains, device, job, report)
    seconds |= {"shift": took} if job.shifts else {}
    if device.type == "cuda":
        environment |= {"steps": ctx.steps} if ctx.steps else {}
        environment["memory_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20)

    networks: dict[str, dict[str, Any]] = {
        parameter: {
            "name": spec.parameters[parameter].partition("//")[0],
            "digest": SCRATCH if digest == SCRATCH else ctx.networks[spec.parameters[parameter]].digest,
        }
        for parameter, digest in spec.weights.items()
        if spec.parameters[parameter] in ctx.networks
    }
    for parameter, network in networks.items():
        notes = ctx.networks[spec.parameters[parameter]].notes if network["digest"] != SCRATCH else ()
        if (tower := ctx.text_towers.get(spec.parameters[parameter])) is not None:
            network["text_digest"] = SCRATCH if network["digest"] == SCRATCH else tower.digest
            notes += tower.notes
        if notes:
            network["notes"] = list(dict.fromkeys(notes))
    record = RunRecord(
        spec,
        tuple(cells),
        tuple(ctx.history),
        ctx.selected_epoch,
        networks,
        environment,
        seconds,
        started.isoformat(),
        job.method_digest,
        shifted,
        _facts(domains, spec),
    )
    if job.keep_model:
        save_method(method, spec.model_path(Path(job.runs)))
    path = save(record, Path(job.runs), predictions, ctx.arrays, model=job.keep_model, anew=True)
    resume.remove()
    return path


def _facts(domains: Mapping[str, Domain], spec: Run) -> dict[str, DataFacts]:
    """What a record keeps of its data, by domain."""
    return {
        name: facts_of(domain.about, spec.profile, spec.learns_from(name), name in spec.targets)
        for name, domain in domains.items()
    }


class TrackedSource(Source):
    """A source that remembers whether all of its training faces were asked for: the held-out ones may be among them,
    and what a method learned from says nothing of how sure it should be elsewhere.
    """

    asked_for_all = False

    @classmethod
    def over(cls, source: Source) -> TrackedSource:
        return cls(source.names, source.train, source.fit, source.val)

    def __getattribute__(self, name: str) -> Any:
        if name == "train":
            object.__setattr__(self, "asked_for_all", True)
        return super().__getattribute__(name)


@torch.no_grad()
def forward(
    method: Method, split: Split, device: torch.device, job: Job, profiler: Profiler | None = None
) -> list[torch.Tensor]:
    """Logits float32 (B, 7) of a split's faces, batch by batch, where they are computed: perhaps not yet."""
    logits = []
    for images, _ in each("data", labelled(split, device)):
        if profiler is not None:
            profiler.step("scoring")
        with phase("forward"):
            logits.append(_logits(method, images, job))
    return logits


def fetched(logits: Sequence[torch.Tensor], target: str, job: Job) -> np.ndarray:
    """The logits of all batches on the host, (N, 7). What is no number is refused."""
    found = torch.cat(list(logits)).cpu().numpy()
    if not np.isfinite(found).all():
        raise RunError(f"{job.method_file}: predict returned NaN or infinite logits on {target}; try a smaller step")
    return found


def _logits(method: Method, images: torch.Tensor, job: Job) -> torch.Tensor:
    """Logits float32 (B, 7) of a batch, where they were computed. What has another shape is refused."""
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
def _score_shifts(
    method: Method, domains: Mapping[str, Domain], device: torch.device, job: Job, report: Progress
) -> tuple[tuple[ShiftedCell, ...], float]:
    """The method on shifted faces of its targets, and the seconds that it took."""
    spec, clock, cells = job.spec, time.perf_counter(), []
    for place, shift in enumerate(job.shifts):
        split = domains[shift.target].exam(spec.profile, spec.learns_from(shift.target))
        places = evenly(len(split), shift.faces)
        logits = []
        for start in range(0, len(places), scoring_batch(device)):
            faces = images_at(split, places[start : start + scoring_batch(device)], shift.factor, shift.level)
            logits.append(_logits(method, faces.to(device), job))
        left_out = np.isin(split.ids[places], job.excluded.get(shift.target, ()))
        excluded = spec.excluded.get(shift.target, "")
        found = fetched(logits, f"{shift.target} with {shift.factor}", job)
        said = Predictions(found, split.labels[places], left_out)
        cell = scored_cell(spec, shift.target, spec.targets[shift.target], said, excluded)
        at = (shift.factor, shift.level, shift.faces, shift.version)
        cells.append(ShiftedCell(cell.target, cell.fingerprint, cell.relation, *at, cell.confusion, excluded))
        report(f"shift {shift.factor}", place + 1, len(job.shifts))
    return tuple(cells), time.perf_counter() - clock


def evenly(count: int, wanted: int) -> np.ndarray:
    """`wanted` of the places 0 .. count - 1, or all of them, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, wanted)).astype(np.int64))


INSPECTED = 1000
"""Faces of a target, evenly spread over it, that a method's `inspect` is asked about."""
SHOWN = 16
"""Columns of an inspected value that vary most, for which the faces with the largest values are kept."""


@torch.no_grad()
def inspect(method: Method, split: Split, device: torch.device, job: Job) -> dict[str, np.ndarray]:
    """What the faces of a target come to in `method.inspect`, by name. For a value of width C:

    NAME.mean, NAME.sd: float16 (7, C), over the faces of each expression, nan where it has none; NAME.count: (7,);
    NAME.varying: the columns that vary most over all faces, most first; NAME.top: for each of them the places in the
    split of the eight faces with the largest values.
    """
    if type(method).inspect is Method.inspect:
        return {}
    places = evenly(len(split), INSPECTED)
    parts: dict[str, list[np.ndarray]] = {}
    for start in range(0, len(places), scoring_batch(device)):
        chosen = places[start : start + scoring_batch(device)]
        for name, value in method.inspect(split.faces(chosen).to(device)).items():
            if not isinstance(value, torch.Tensor) or value.ndim != 2 or len(value) != len(chosen):
                raise BenchError(f"{job.method_file}: inspect must give tensors (B, width); {name} is none")
            parts.setdefault(name, []).append(value.float().cpu().numpy())
    arrays: dict[str, np.ndarray] = {}
    for name, values in ((name, np.concatenate(part)) for name, part in parts.items()):
        of = [values[split.labels[places] == place] for place in range(CLASSES)]
        absent = np.full(values.shape[1], np.nan)
        arrays[f"{name}.mean"] = np.array([rows.mean(0) if len(rows) else absent for rows in of], np.float16)
        arrays[f"{name}.sd"] = np.array([rows.std(0) if len(rows) else absent for rows in of], np.float16)
        arrays[f"{name}.count"] = np.array([len(rows) for rows in of])
        arrays[f"{name}.varying"] = varying = np.argsort(-values.var(0), kind="stable")[:SHOWN]
        arrays[f"{name}.top"] = places[np.argsort(-values[:, varying], axis=0, kind="stable")[:8]].T
    return arrays


def _prepare_device(job: Job) -> torch.device:
    device = torch.device(job.device)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BenchError(
            f"--device {job.device}: torch {torch.__version__} sees {many(torch.cuda.device_count(), 'CUDA device')}; "
            f"use another, or --device cpu"
        )
    torch.set_num_threads(job.threads)
    if device.type == "cuda":  # on one CPU thread sums have one order anyway
        repeatable_on_gpu()
    return device


def repeatable_on_gpu() -> None:
    """The same numbers every time on a GPU, as far as torch can."""
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.use_deterministic_algorithms(True, warn_only=True)  # it loads a compiler
    # Nothing here reads memory before it is written, and to fill it first took a seventh of CAFE's step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _same_numbers(job: Job, environment: Mapping[str, Any]) -> dict[str, str]:
    """What an interrupted training must share with the one that goes on from it."""
    named = ("device", "threads", "fergen-bench", *NUMBERS)
    shared = {name: str(environment[name]) for name in named if name in environment}
    return {"key": job.spec.key, "method": job.method_digest} | shared


def _environment(job: Job, device: torch.device) -> dict[str, Any]:
    """Where and with what a run happened."""
    environment: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": job.threads,
        "commit": commit_of(Path(__file__)),
        "method_commit": commit_of(Path(job.method_file)),
    }
    for package in ("fergen-bench", *_dependencies()):
        try:
            environment[package] = version(package)
        except PackageNotFoundError:
            environment[package] = None
    environment["cpu_capability"] = torch.backends.cpu.get_cpu_capability()
    if device.type == "cuda":
        environment |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version(), "driver": _driver()}
    return environment


def _dependencies() -> list[str]:
    """The packages that this one itself depends on, those of NUMBERS first."""
    try:
        said = [re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in requires("fergen-bench") or () if ";" not in line]
    except PackageNotFoundError:
        said = []
    return [*NUMBERS, *sorted(name for name in said if name.replace("-", "_") not in NUMBERS)]


def _driver() -> str | None:
    """The version of the NVIDIA driver, where Linux says it."""
    try:
        said = Path("/proc/driver/nvidia/version").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    found = re.search(r"\d+\.[\d.]+", said)
    return found[0] if found else None


_ELSEWHERE = frozenset({"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX"})
"""Variables by which git looks at another repository than that of the folder it is in."""


def commit_of(file: Path) -> str | None:
    """Return the commit of the repository that has a file under version control, with + behind it where tracked files
    were changed; None where no repository has it, as one around an installed package has not. Nothing is written.
    """
    file = file.resolve()
    outside = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    environment = {**outside, "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}

    def ask(*asked: str) -> str:
        command = ["git", "-C", str(file.parent), *asked]
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True, env=environment)
        return said.stdout.strip()

    try:
        ask("ls-files", "--error-unmatch", file.name)
        # `describe --dirty` would write the index; `status` does as it is told.
        changed = ask("status", "--porcelain", "--untracked-files=no")
        return ask("describe", "--always", "--abbrev=12") + ("+" if changed else "")
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def feature_similarity(name: str, limit: float, cache: Path, report: Progress, device: str = "cpu") -> Refinement:
    """For the audit: faces are near-duplicates where the cosine of their frozen features is at least `limit`. Features
    stay on the disk, and only those of the pairs asked about are read.
    """
    from fergen_bench.datasets.audit import Refinement

    network = load_network(name, torch.device(device)).freeze(cache, report)

    def features(domains: Sequence[Domain], places: np.ndarray) -> np.ndarray:
        found = np.empty((len(places), network.features), np.float32)
        for number in np.unique(places[:, 0]):
            here = places[:, 0] == number
            found[here] = network.of_rows(domains[number], places[here, 1])
        return found

    def similarity(domains: Sequence[Domain], pairs: np.ndarray) -> np.ndarray:
        sides = [features(domains, pairs[:, side]) for side in (0, 1)]
        norms = [np.linalg.norm(side, axis=1) for side in sides]
        return np.einsum("nc,nc->n", *sides) / (norms[0] * norms[1])

    return Refinement(f"cosine of the features of {name.partition('//')[0]} {network.digest[:6]}", limit, similarity)
