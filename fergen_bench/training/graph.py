"""The steps of a training, one after another; on a GPU as one CUDA graph that is launched again and again.

A step of a small batch is hundreds of small operations, and to start them takes a processor longer than a GPU needs to
do them. A graph starts all at once. It repeats what it recorded, so everything that differs between steps must lie in
the same places of memory each time: the faces, the labels, and every draw. They are copied there before each launch.
What a method computes on the host from the number of a step would be recorded once and be wrong from then on: only
methods that say `static_step` are recorded, and for those a look at such a number is an error.
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
"""Steps taken one operation at a time before one is recorded: libraries choose their kernels and memory in them."""
COMPILED_FROM = 20_000
"""Steps of a training for which it pays to compile its networks first: on an H200 one of CAFE takes 1.3 ms less then,
and compiling takes 35 s, or 5 s where it was done before.
"""


@dataclass(frozen=True)
class Batch:
    """What a training step sees."""

    images: Tensor  # (B, 3, height, width), as `augment` left them
    labels: Tensor  # int64 (B,)
    index: Tensor  # int64 (B,), the faces' positions in the split that is learned from
    epoch: int  # from 0
    step: int  # from 0, over the whole training
    draws: SampleDraws  # randomness per face
    generator: torch.Generator  # randomness per step, on the CPU
    faces: Tensor  # uint8 (B, 3, height, width), as the domain keeps them: for a second view, or a frozen network
    domains: int = 1  # that `Domains` told apart: their faces stand one after another, equally many of each
    unlabelled: Tensor | None = None  # (B / domains, 3, height, width): faces of the adaptation target, augmented
    _names: set[str] = field(default_factory=set, repr=False, compare=False)  # drawn so far, by this batch or a copy

    def drawn(self, name: str, draw: Draw) -> Tensor:
        """What `draw` makes of the step's generator on the CPU, on the device. name: unlike others of the method; one
        that comes twice in a step is refused.
        """
        self._once_a_step(name)
        return upload(draw(self.generator), self.labels.device)

    def _once_a_step(self, name: str) -> None:
        # Refused without a recording too, so that it is seen on a CPU: one draw here would be another there.
        if name in self._names:
            raise BenchError(
                f"batch.drawn({name!r}, …) was called twice in one step, and a captured CUDA graph would return the "
                f"first draw again; give each draw of a step its own name, or draw once and reuse the tensor"
            )
        self._names.add(name)

    def with_images(self, images: Tensor) -> Batch:
        """The same batch, finished."""
        batch = copy(self)
        object.__setattr__(batch, "images", images)
        return batch


class _StaticDraws(SampleDraws):
    """Draws that lie in the same places for every batch. What is asked for becomes known when a step asks first."""

    def __init__(self, draws: SampleDraws, generator: torch.Generator, device: torch.device) -> None:
        self._now, self._generator, self._device = draws, generator, device
        self._faces: dict[Hashable, tuple[Callable[[SampleDraws], Tensor], Tensor]] = {}
        self._steps: dict[str, tuple[Draw, Tensor]] = {}

    def load(self, draws: SampleDraws, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Goes on to another batch: places, and what belongs there."""
        self._now, self._generator = draws, generator
        for key, (make, place) in self._faces.items():
            yield place, draws.together(key, make)
        for draw, place in self._steps.values():
            yield place, upload(draw(generator), self._device)

    def together(self, key: Hashable, make: Callable[[SampleDraws], Tensor]) -> Tensor:
        if key not in self._faces:
            self._faces[key] = make, self._now.together(key, make).clone()
        return self._faces[key][1]

    def shared(self, name: str, draw: Draw) -> Tensor:
        if name not in self._steps:
            self._steps[name] = draw, upload(draw(self._generator), self._device).clone()
        return self._steps[name][1]


class _StaticBatch(Batch):
    """The batch that a recorded step sees. Its tensors stay where they are, and what is no tensor is not told."""

    @classmethod
    def of(cls, batch: Batch) -> _StaticBatch:
        """A batch with places of its own, filled from one."""
        faces, places = batch.faces.clone(), _StaticDraws(batch.draws, batch.generator, batch.labels.device)
        own = {"images": faces, "faces": faces, "labels": batch.labels.clone(), "index": batch.index.clone()}
        return cls(**{**vars(batch), **own, "draws": places, "_names": set()})

    def load(self, batch: Batch) -> None:
        """Goes on to another batch."""
        assert isinstance(self.draws, _StaticDraws)
        pairs = [(self.faces, batch.faces), (self.labels, batch.labels), (self.index, batch.index)]
        for place, value in [*pairs, *self.draws.load(batch.draws, batch.generator)]:
            place.copy_(value, non_blocking=True)

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
    """Attributes by name, and what lies in those that are tuples, lists or dicts by name and place."""
    for name, value in attributes.items():
        yield name, value
        if isinstance(value, tuple | list | dict):
            parts = value.items() if isinstance(value, dict) else enumerate(value)
            yield from ((f"{name}[{place!r}]", part) for place, part in parts)


def _told_apart(values: Iterable[tuple[str, Any]]) -> dict[str, Hashable]:
    """What is a tensor as the place where it lies, numbers and texts as they are, nothing else."""
    return {
        name: value.data_ptr() if isinstance(value, Tensor) else value
        for name, value in values
        if isinstance(value, Tensor | int | float | str | None)
    }


Take = Callable[[Batch], Mapping[str, Tensor]]
"""One step with a batch whose images are still the faces; its scalars by name."""


class CapturedStep:
    """Takes the steps of full batches from one recording, all others as they come."""

    def __init__(self, take: Take, method: Any, device: torch.device, size: int, steps: int) -> None:
        """method: whose steps they are. size: faces of a full batch. steps: of the whole training. Without a GPU
        nothing is recorded, but the same places are used.
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
        """Whether a step was recorded: never without a GPU, nor where there were only few full batches."""
        return self._graph is not None

    def __call__(self, batch: Batch) -> Mapping[str, Tensor]:
        if self._stream is None:
            names, terms = self._step(batch)
        else:
            # All steps on the stream that is recorded: gradients remember the stream on which they first were added.
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
            self._terms = self._record(self._batch, self._stream)
        self._graph.replay()
        names, terms = self._terms
        return names, terms.clone()

    def _warm_up(self, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
        """A step as it will be recorded. What the method keeps may be made in the first one, and not change then."""
        before = self._kept()
        found = self._compiled_once(batch) if self.compiled else self._once(batch)
        self._warm += 1
        after = self._kept()
        changed = [name for name in {**after, **before} if after.get(name) != before.get(name)]
        if self._warm > 1 and changed:
            raise BenchError(
                f"the method changes its attribute {changed[0]} from step to step, which a captured CUDA graph does "
                f"not repeat; write into a tensor in place, or remove static_step = True from the method"
            )
        return found

    def _kept(self) -> dict[str, Hashable]:
        """Where the method's tensors lie, and its numbers and texts: its attributes, and what is in its tuples, lists
        and dicts; and the numbers that its modules keep.
        """
        model = getattr(self._method, "model", None)
        modules = model.named_modules() if isinstance(model, nn.Module) else ()
        numbers = {
            ".".join(filter(None, ("model", place, name))): value
            for place, module in modules
            for name, value in vars(module).items()
            if isinstance(value, int | float) and not name.startswith("_") and name != "training"
        }
        return _told_apart(_opened(vars(self._method))) | numbers

    def _record(self, batch: Batch, stream: torch.cuda.Stream) -> tuple[tuple[str, ...], Tensor]:
        try:
            # thread_local: what a thread does that reads the next faces has nothing to do with it.
            with (
                torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
                compiled() if self.compiled else nullcontext(),
            ):
                return self._once(batch)
        except RuntimeError as error:
            for cause in (error, error.__context__):  # what ends a recording too early has an error of its own
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
        except RuntimeError:  # no compiler here, or a network that it cannot do
            self.compiled = False
            self._method.model.load_state_dict(state)  # a pass may have moved the statistics of batch norm
            return self._once(batch)

    def _once(self, batch: Batch) -> tuple[tuple[str, ...], Tensor]:
        batch._names.clear()  # the same batch is taken for every step, and twice where compiling fails
        terms = self._take(batch)
        return tuple(terms), torch.stack([term.detach().float() for term in terms.values()])
