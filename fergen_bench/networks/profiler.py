"""Measure the phases of a run, and trace some of its steps for Perfetto or Chrome.

A trace contains every operation, so only some steps of training and of scoring are traced, after a few warm-up steps.
On a GPU the profiler synchronises after each traced phase, so that its duration is its own; the step takes longer than
usual.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch.autograd import profiler
from torch.profiler import ProfilerActivity, profile, record_function

Item = TypeVar("Item")

WARM_UP = {"training": 3, "scoring": 1}
TRACED = {"training": 20, "scoring": 4}
"""Maximum number of traced steps by kind."""
PHASES = ("data", "augment", "frozen tower", "forward", "backward", "optimizer", "evaluation")


def phase(name: str) -> AbstractContextManager[Any]:
    """Return a context that marks a phase of a step; without a profiler it costs less than a microsecond."""
    return _Phase(name) if profiler._is_profiler_enabled else nullcontext()


def each(name: str, items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items, and mark fetching each item as a phase.

    Args:
        name: Name of the phase, one of `PHASES`.
        items: The items to yield.
    """
    iterator, end = iter(items), object()
    while True:
        with phase(name):
            item: Any = next(iterator, end)
        if item is end:
            return
        yield item


class _Phase(record_function):
    def __exit__(self, *error: Any) -> None:
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        super().__exit__(*error)


class Profiler:
    """The profiler of one run."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """Prepare the profiler; `path` lacks the suffix, which traces and summary append."""
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences torch's tracer on standard error
        self._path, self._device = path, device
        self._steps: Counter[str] = Counter()
        self._tracing: tuple[str, profile, float] | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._evaluated = 0.0

    def step(self, kind: str) -> None:
        """Mark the beginning of a step.

        Args:
            kind: `training` or `scoring`.
        """
        done = self._steps[kind] - WARM_UP[kind]
        self._steps[kind] += 1
        if done == 0:
            self.end()
            activities = [ProfilerActivity.CPU]
            if self._device.type == "cuda":
                activities.append(ProfilerActivity.CUDA)
            tracer = profile(activities=activities, acc_events=True)
            tracer.start()
            self._tracing = kind, tracer, self._now()
        elif done == TRACED[kind]:
            self._stop(done)

    def end(self) -> None:
        """End the current trace, if there is one."""
        if self._tracing is not None:
            kind = self._tracing[0]
            self._stop(self._steps[kind] - WARM_UP[kind])

    def _stop(self, steps: int) -> None:
        assert self._tracing is not None
        kind, tracer, started = self._tracing
        seconds = self._now() - started
        self._tracing = None
        tracer.stop()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        tracer.export_chrome_trace(str(self._path.with_name(f"{self._path.name}.{kind}.json.gz")))
        took = {
            event.key: event.cpu_time_total / 1e6
            for event in tracer.key_averages()
            if event.key in PHASES and event.device_type.name == "CPU"  # events of the GPU repeat these phases
        }
        if "forward" in took:
            took["forward"] -= took.get("frozen tower", 0.0)
        seconds -= took.pop("evaluation", 0.0)  # between two epochs
        self._found[kind] = {"steps": steps, "seconds": seconds, "phases": took}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Count the time within this context as evaluation."""
        started = self._now()
        with phase("evaluation"):
            yield
        self._evaluated += self._now() - started

    def write(self, fit: float, score: float) -> None:
        """End the current trace and write the summary.

        Args:
            fit: Seconds of `fit`.
            score: Seconds of scoring.
        """
        self.end()
        about = {"seconds": fit + score, "evaluation": self._evaluated + score, **self._found}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.with_name(f"{self._path.name}.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
