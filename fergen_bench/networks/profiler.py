"""Where the time of a run goes: its phases by name, and a trace of a few of its steps, for Perfetto or Chrome.

A trace holds every operation, so it is kept to some steps of training and some of scoring, after a few that warm up. On
a GPU each phase is waited for while it is traced: what it takes then is its own, and the step is longer than usual.
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
"""Steps of a kind that are traced at most."""
PHASES = ("data", "augment", "frozen tower", "forward", "backward", "optimizer", "evaluation")


def phase(name: str) -> AbstractContextManager[Any]:
    """Marks a phase of a step. Where nobody looks it costs less than a microsecond."""
    return _Phase(name) if profiler._is_profiler_enabled else nullcontext()


def each(name: str, items: Iterable[Item]) -> Iterator[Item]:
    """The items, where fetching one is a phase of a step."""
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
    """The profile of one run."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """path: without a suffix; the traces and the summary get theirs."""
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's tracer tells its own story on standard error
        self._path, self._device = path, device
        self._steps: Counter[str] = Counter()
        self._tracing: tuple[str, profile, float] | None = None
        self._found: dict[str, dict[str, Any]] = {}
        self._evaluated = 0.0

    def step(self, kind: str) -> None:
        """A step of a kind begins: "training" or "scoring"."""
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
        """There are no more steps of the kind that is traced, if one is."""
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
            if event.key in PHASES and event.device_type.name == "CPU"  # a GPU tells of them once more
        }
        if "forward" in took:
            took["forward"] -= took.get("frozen tower", 0.0)
        seconds -= took.pop("evaluation", 0.0)  # between two epochs
        self._found[kind] = {"steps": steps, "seconds": seconds, "phases": took}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Counts time as evaluation."""
        started = self._now()
        with phase("evaluation"):
            yield
        self._evaluated += self._now() - started

    def write(self, fit: float, score: float) -> None:
        """Ends the profile and writes its summary. fit, score: seconds that the run took."""
        self.end()
        about = {"seconds": fit + score, "evaluation": self._evaluated + score, **self._found}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.with_name(f"{self._path.name}.json").write_text(json.dumps(about, indent=1), encoding="utf-8")

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()
