"""Capture a training step as a CUDA graph and replay it.

A step on a small batch consists of hundreds of small operations, and a processor needs longer to launch them than a GPU
needs to execute them. A CUDA graph launches all of them at once. A replay reads and writes the same memory as the
captured step, so everything that differs between steps (images, labels and every draw) is copied into static tensors
before each replay. A value that a method computes on the host from the index of a step would be captured once and be
wrong from then on. Therefore only methods with `static_step = True` are captured, and reading such an index raises.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fergen_bench.data.domain import upload
from fergen_bench.error import BenchError, RunError, reason
from fergen_bench.networks.kernels import compiled
from fergen_bench.training.augment import SampleDraws

Draw = Callable[[torch.Generator], Tensor]

WARM_UP = 3
"""Steps that run before the capture, one operation at a time: libraries choose their kernels and memory in them."""
COMPILED_FROM = 20_000
"""Steps of a training from which compiling its networks pays off. On an H200 a step of CAFE takes 1.3 ms less when
compiled, and compiling takes 35 s, or 5 s with a filled compiler cache.
"""


@dataclass(frozen=True)
class Batch:
    """The inputs of a training step."""

    images: Tensor  # (B, 3, height, width), as `augment` left them
    labels: Tensor  # int64 (B,)
    index: Tensor  # int64 (B,), rows of the training split
    epoch: int  # from 0
    step: int  # from 0, over the whole training
    draws: SampleDraws  # random numbers per image
    generator: torch.Generator  # random numbers per step, on the CPU
    faces: Tensor  # uint8 (B, 3, height, width), not augmented: for a second view, or a frozen network
    domains: int = 1  # number of domains; the images of each domain are consecutive and equally many
    unlabelled: Tensor | None = None  # (B / domains, 3, height, width): augmented images of the adaptation target
    _names: set[str] = field(default_factory=set, repr=False, compare=False)  # draws so far, shared with copies

    def drawn(self, name: str, draw: Draw) -> Tensor:
        """Return random numbers of the step, on the device.

        Args:
            name: Name of the draw, which a step may use once.
            draw: Receives the CPU generator of the step and returns a tensor.

        Raises:
            BenchError: The name was used before in this step.
        """
        self._once_a_step(name)
        return upload(draw(self.generator), self.labels.device)

    def _once_a_step(self, name: str) -> None:
        # This raises without a capture too, so that a test on a CPU finds it: a GPU would draw other numbers.
        if name in self._names:
            raise BenchError(
                f"batch.drawn({name!r}, …) was called twice in one step, and a captured CUDA graph would return the "
                f"first draw again; give each draw of a step its own name, or draw once and reuse the tensor"
            )
        self._names.add(name)

    def with_images(self, images: Tensor) -> Batch:
        """Return the batch with augmented images."""
        batch = copy(self)
        object.__setattr__(batch, "images", images)
        return batch


class _StaticDraws(SampleDraws):
    """Draws in the same memory for every batch. The first step registers each draw that it uses."""

    def __init__(self, draws: SampleDraws, generator: torch.Generator, device: torch.device) -> None:
        self._now, self._generator, self._device = draws, generator, device
        self._faces: dict[Hashable, tuple[Callable[[SampleDraws], Tensor], Tensor]] = {}
        self._steps: dict[str, tuple[Draw, Tensor]] = {}

    def load(self, draws: SampleDraws, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Turn to another batch; yield pairs of a static tensor and the values to copy into it."""
        self._now, self._generator = draws, generator
        for key, (make, target) in self._faces.items():
            yield target, draws.together(key, make)
        for draw, target in self._steps.values():
            yield target, upload(draw(generator), self._device)

    def together(self, key: Hashable, make: Callable[[SampleDraws], Tensor]) -> Tensor:
        """Return the static tensor of a draw per image."""
        if key not in self._faces:
            self._faces[key] = make, self._now.together(key, make).clone()
        return self._faces[key][1]

    def shared(self, name: str, draw: Draw) -> Tensor:
        """Return the static tensor of a draw of the step."""
        if name not in self._steps:
            self._steps[name] = draw, upload(draw(self._generator), self._device).clone()
        return self._steps[name][1]


class _StaticBatch(Batch):
    """The batch of a captured step. Its tensors stay in the same memory, and its non-tensor attributes raise."""

    @classmethod
    def of(cls, batch: Batch) -> _StaticBatch:
        """Return a batch with static tensors, filled from another batch."""
        faces, draws = batch.faces.clone(), _StaticDraws(batch.draws, batch.generator, batch.labels.device)
        own = {"images": faces, "faces": faces, "labels": batch.labels.clone(), "index": batch.index.clone()}
        return cls(**{**vars(batch), **own, "draws": draws, "_names": set()})

    def load(self, batch: Batch) -> None:
        """Copy another batch into the static tensors."""
        assert isinstance(self.draws, _StaticDraws)
        pairs = [(self.faces, batch.faces), (self.labels, batch.labels), (self.index, batch.index)]
        for target, value in [*pairs, *self.draws.load(batch.draws, batch.generator)]:
            target.copy_(value, non_blocking=True)

    def drawn(self, name: str, draw: Draw) -> Tensor:
        assert isinstance(self.draws, _StaticDraws)
        self._once_a_step(name)
        return self.draws.shared(name, draw)

    def __getattribute__(self, name: str) -> Any:
        if name in {"epoch", "step", "generator"}:
            raise BenchError(
                f"the method reads batch.{name}, whose value a captured CUDA graph would repeat in every step; draw "
                f"randomness with batch.drawn, or remove static_step = True from the method"
            )
        return super().__getattribute__(name)


def _opened(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield attributes by name, and the members of tuples, lists and dicts by name and index."""
    for name, value in attributes.items():
        yield name, value
        if isinstance(value, tuple | list | dict):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{name}[{key!r}]", part) for key, part in parts)


def _fingerprints(values: Iterable[tuple[str, Any]]) -> dict[str, Hashable]:
    """Return the address of each tensor, and numbers and texts unchanged; omit other values."""
    return {
        name: value.data_ptr() if isinstance(value, Tensor) else value
        for name, value in values
        if isinstance(value, Tensor | int | float | str | None)
    }


Take = Callable[[Batch], Mapping[str, Tensor]]
"""A function that executes one step on a batch that is not yet augmented, and returns scalars by name."""


class CapturedStep:
    """Execute training steps, replaying a CUDA graph for full batches."""

    def __init__(self, take: Take, method: Any, device: torch.device, size: int, steps: int) -> None:
        """Prepare the capture, which happens after some steps.

        Args:
            take: Executes one step.
            method: The method in training.
            device: Device of the training. Without a GPU nothing is captured, but the same static tensors are used.
            size: Images of a full batch.
            steps: Steps of the whole training.
        """
        self._take, self._method, self._device, self._size = take, method, device, size
        self.compiled = device.type == "cuda" and steps >= COMPILED_FROM
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._batch: _StaticBatch | None = None
        self._warm = 0
        self._graph: Any = None
        self._terms: tuple[tuple[str, ...], Tensor] = ((), torch.empty(0))

    @property
    def captured(self) -> bool:
        """True if a step was captured, which needs a GPU and enough full batches."""
        return self._graph is not None

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        """Execute one step and return its scalars by name."""
        if self._stream is None:
            names, terms = self._step(batch)
        else:
            # All steps run on the captured stream: gradients belong to the stream on which they were first added.
            current = torch.cuda.current_stream(self._device)
            self._stream.wait_stream(current)
            with torch.cuda.stream(self._stream):
                names, terms = self._step(batch)
            current.wait_stream(self._stream)
        return dict(zip(names, terms, strict=True))

    def _step(self, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
        if len(batch.labels) != self._size:
            return self._once(batch)
        if self._batch is None:
            self._batch = _StaticBatch.of(batch)
        else:
            self._batch.load(batch)
        if self._warm < WARM_UP:
            return self._warm_up(self._batch)
        if self._stream is None:
            return self._once(self._batch)
        if self._graph is None:
            self._graph = torch.cuda.CUDAGraph()
            self._terms = self._capture(self._batch, self._stream)
        self._graph.replay()
        names, terms = self._terms
        return names, terms.clone()

    def _warm_up(self, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
        """Execute a step as it will be captured, and raise if it changes attributes after the first such step."""
        before = self._state()
        terms = self._compiled_once(batch) if self.compiled else self._once(batch)
        self._warm += 1
        after = self._state()
        changed = [name for name in {**after, **before} if after.get(name) != before.get(name)]
        if self._warm > 1 and changed:
            raise BenchError(
                f"the method changes its attribute {changed[0]} from step to step, which a captured CUDA graph does "
                f"not repeat; write into a tensor in place, or remove static_step = True from the method"
            )
        return terms

    def _state(self) -> dict[str, Hashable]:
        """Return the addresses of the method's tensors, its numbers and texts, and the numbers of its modules.

        Members of attributes that are tuples, lists or dicts are included.
        """
        model = getattr(self._method, "model", None)
        modules = model.named_modules() if isinstance(model, nn.Module) else ()
        numbers = {
            ".".join(filter(None, ("model", path, name))): value
            for path, module in modules
            for name, value in vars(module).items()
            if isinstance(value, int | float) and not name.startswith("_") and name != "training"
        }
        return _fingerprints(_opened(vars(self._method))) | numbers

    def _capture(self, batch: Batch, stream: torch.cuda.Stream) -> tuple[tuple[str, ...], Tensor]:
        try:
            # With thread_local, operations of the thread that reads the next images do not fail the capture.
            with (
                torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
                compiled() if self.compiled else nullcontext(),
            ):
                return self._once(batch)
        except RuntimeError as error:
            for cause in (error, error.__context__):  # an aborted capture raises an error of its own
                if isinstance(cause, torch.OutOfMemoryError | BenchError):
                    raise cause from None
            raise RunError(
                f"a training step cannot be captured as a CUDA graph ({reason(error)}); remove static_step = True "
                f"from the method, or set record_steps = false in bench.toml"
            ) from error

    def _compiled_once(self, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
        state = {name: value.clone() for name, value in self._method.model.state_dict().items()}
        try:
            with compiled():
                return self._once(batch)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:  # there is no compiler, or it does not support the network
            self.compiled = False
            self._method.model.load_state_dict(state)  # the failed pass may have changed the statistics of batch norm
            return self._once(batch)

    def _once(self, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
        batch._names.clear()  # the batch is reused for every step, and twice where compiling fails
        terms = self._take(batch)
        return tuple(terms), torch.stack([term.detach().float() for term in terms.values()])
