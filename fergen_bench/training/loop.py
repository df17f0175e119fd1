"""The training loop that a method may borrow."""

from __future__ import annotations

import contextlib
import math
import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from fergen_bench.data.domain import upload
from fergen_bench.error import BenchError, RunError
from fergen_bench.networks.profiler import each, phase
from fergen_bench.training.attributes import Attributes
from fergen_bench.training.augment import SampleDraws
from fergen_bench.training.contract import Method
from fergen_bench.training.graph import Batch, CapturedStep
from fergen_bench.training.images import SplitImages, labelled

if TYPE_CHECKING:
    from torch import nn

    from fergen_bench.data.domain import Split
    from fergen_bench.data.source import Source
    from fergen_bench.training.contract import Context
    from fergen_bench.training.domains import Domains
    from fergen_bench.training.resume import ResumeState


class Inputs(Protocol):
    """What the steps of a training draw from."""

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """The inputs of one batch after another, on the device. rows: their positions in the split, int64 on the
        CPU.
        """


Losses = Tensor | Mapping[str, Tensor]


class Terms:
    """What the steps of an epoch gave. It stays on the device until the epoch ends: to read one number is to wait for
    all the device has to do.
    """

    def __init__(self) -> None:
        self._steps: dict[str, list[Tensor]] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """terms: scalars by name."""
        for name, term in terms.items():
            self._steps.setdefault(name, []).append(term.detach())

    def means(self, method: GradientMethod, epoch: int, steps: int) -> dict[str, float]:
        """Sums over the epoch by name, divided by the number of steps. A loss that was no number ends the run; nothing
        is kept of it then. epoch: from 0.
        """
        values = {name: _to_host(torch.stack(terms)) for name, terms in self._steps.items()}
        if len(wrong := np.flatnonzero(~np.isfinite(values["loss"]))):
            raise RunError(
                f"the loss of {type(method).__name__} was {values['loss'][wrong[0]]} at step "
                f"{epoch * steps + wrong[0] + 1} (epoch {epoch + 1}); lower learning_rate (it is "
                f"{method.learning_rate:g})"
            )
        # One after another, as they came: a pairwise sum would round otherwise.
        return {name: float(np.add.accumulate(given)[-1]) / steps for name, given in values.items()}


def _to_host(values: Tensor) -> np.ndarray:
    return (values if values.dtype == torch.float64 else values.float()).cpu().numpy()


@dataclass
class GradientMethod(Method):
    """Lends the training loop: write `build`, `loss`, `logits`, and perhaps `augment` and `parameter_groups`; or
    `update`, where a step is more than one descent.

    With the selection `source-val` it learns from `source.fit` and keeps the epoch that is best on `source.val` (the
    first of equals); with `last` it learns from all of `source.train` and keeps the last epoch.
    """

    epochs: int = 60  # passes over the source
    batch_size: int = 32  # faces per step
    learning_rate: float = 2e-4  # at its highest
    weight_decay: float = 1e-4  # coupled L2 with adam and sgd, decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = (
        "exponential"  # times decay after each epoch; or warm-up over a tenth, then cosine to 0
    )
    decay: float = 0.9  # of the exponential schedule

    # For 64-pixel networks that are trained for minutes: another optimiser and schedule than published, and so few
    # epochs that a whole table takes an hour. The learning rate suits the packaged trunk; a method with a better one on
    # held-out images of the source (protocols/learning-rate.yaml) has it in its own recipe.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {
            "epochs": 10,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "optimizer": "adamw",
            "weight_decay": 5e-3,
            "schedule": "cosine",
        }
    }

    static_step: ClassVar[bool] = False
    """Whether every step is the same operations on the device, whatever its number, with `batch.drawn` for what is
    drawn on the host. Then a GPU repeats one recorded step, which costs a fraction of starting each operation.
    """

    @abstractmethod
    def build(self, ctx: Context) -> nn.Module:
        """The modules to be trained. Frozen networks may be kept aside. Called once, with torch's global seed set by
        the run.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch in training mode; or its weighted terms by name, which are added up and shown apart."""

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, 7) of images, in evaluation mode."""

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        """uint8 (B, 3, height, width) → what `loss` sees. By default nothing is changed."""
        return images

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        """What steps draw from: the faces. A method on frozen features gives `Rows(ctx.features(...)[0])`, and then
        `loss` sees features where it would see images. Called after `build`.
        """
        return SplitImages(split, ctx.device)

    def domains(self, split: Split, ctx: Context) -> Domains | None:
        """For a method that treats its domains apart: what they are. Then every step sees `batch_size` faces of each.
        Called once, before `build`.
        """
        return None

    def restarts(self, step: int) -> bool:
        """Whether the optimiser is made anew before a step (from 0), and with it what it remembers."""
        return False

    def parameter_groups(self) -> Iterable[Any]:
        """For the optimiser: parameters, or groups of them with their own settings."""
        return self.model.parameters()

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> Mapping[str, Tensor]:
        """One step of training: what it gives is shown as the means of an epoch, and "loss" must be in it."""
        terms = self.descend(batch, optimizer, ctx)
        with phase("optimizer"):
            optimizer.step()
        return terms

    def descend(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> dict[str, Tensor]:
        """Fresh gradients of the loss of a batch; "loss" and its terms, without gradients."""
        with phase("forward"), ctx.autocast():
            losses = self.loss(batch)
        terms = losses if isinstance(losses, Mapping) else {"loss": losses}
        for name, term in terms.items():
            self._check_term(name, term)
        total = torch.stack([term.float() for term in terms.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        with phase("backward"):
            total.backward()
        return {name: term.detach() for name, term in {"loss": total, **terms}.items()}

    def _check_term(self, name: str, term: object) -> None:
        if term is None:
            fault = "None: is `return` missing?"
        elif not isinstance(term, Tensor):
            fault = type(term).__name__
        elif term.numel() != 1:
            fault = f"of the shape {tuple(term.shape)}; take its mean"
        elif not term.is_floating_point():
            fault = f"of the type {term.dtype}"
        else:
            return
        raise BenchError(
            f"{type(self).__name__}.loss must return a tensor of one number, or a dict of such; {name} is {fault}"
        )

    def finished(self) -> bool:
        """Whether training may end before its last epoch; asked after each."""
        return False

    def fit(self, source: Source, ctx: Context) -> None:
        if self.epochs < 1 or self.learning_rate <= 0:
            raise BenchError(
                f"epochs is {self.epochs} and learning_rate {self.learning_rate:g}; one epoch at least and a rate "
                f"above 0 are needed to learn anything"
            )
        selecting = ctx.selection == "source-val"
        split = source.fit if selecting else source.train
        domains = self.domains(split, ctx)
        self.model: Any = self.build(ctx).to(ctx.device).to(memory_format=torch.channels_last)
        inputs, labels = self.inputs(split, ctx), torch.from_numpy(split.labels).to(ctx.device)
        steps = len(self._batches(len(split), ctx, 0, domains))  # of an epoch
        optimizer, schedule = self._optimization(steps_per_epoch=steps)
        restarts = type(self).restarts is not GradientMethod.restarts  # what a recording writes to would be gone
        recorded = self.static_step and domains is None and not restarts and ctx.capture_steps

        def take(batch: Batch) -> Mapping[str, Tensor]:
            with phase("augment"):
                batch = batch.with_images(self.augment(batch.faces, batch.draws))
            if domains is not None:
                batch = domains.complete(batch, self.augment, ctx)
            return self.update(batch, optimizer, ctx)

        if recorded:
            take = recording = CapturedStep(take, self, ctx.device, self.batch_size, self.epochs * steps)
        best, kept = -1.0, None
        begun = 0 if ctx.resume is None else ctx.resume.read()
        if isinstance(begun, dict):
            self._restore(begun, optimizer, schedule, ctx)
            best, kept, begun = begun["best"], begun["kept"], len(ctx.history)
        if self.static_step and ctx.device.type == "cuda":  # also where nothing is recorded: the same numbers
            _rates_on(optimizer, ctx.device)
        for epoch in range(begun or 0, self.epochs):
            started = time.perf_counter()
            self.model.train()
            batches, terms = self._batches(len(split), ctx, epoch, domains), Terms()
            sizes = [len(rows) for rows in batches]
            everyone = upload(torch.cat(batches), ctx.device)
            drawn = zip(
                everyone.split(sizes),
                inputs.batches(batches),
                labels[everyone].split(sizes),
                self._draws(everyone, sizes, epoch, ctx, domains),
                strict=True,
            )
            for place, (index, faces, truth, draws) in enumerate(each("data", drawn)):
                step = epoch * len(batches) + place
                if ctx.profiler is not None:
                    ctx.profiler.step("training")
                if self.restarts(step):
                    optimizer.state.clear()
                terms.add(take(Batch(faces, truth, index, epoch, step, draws, ctx.generator("step", step), faces)))
                schedule.step()
            # The only wait for the device: once per epoch, not per step.
            values = terms.means(self, epoch, len(batches))
            if recorded:  # a recording changes weights unnoticed
                trained = [weight for weight in self.model.parameters() if weight.requires_grad]
                torch.autograd.graph.increment_version(trained)
            values["images_per_second"] = sum(sizes) / (time.perf_counter() - started)
            self.model.eval()
            if selecting:
                with contextlib.nullcontext() if ctx.profiler is None else ctx.profiler.evaluating():
                    values["val_accuracy"] = score = self._accuracy(source.val, ctx)
                if score > best:
                    best, ctx.selected_epoch = score, epoch + 1
                    kept = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            ctx.epoch_done(epoch + 1, self.epochs, **values)
            if self.finished():
                break
            if ctx.resume is not None and epoch + 1 < self.epochs and ctx.resume.due():
                self._save(ctx.resume, optimizer, schedule, ctx, {"best": best, "kept": kept})
        if recorded and recording.captured:
            compiled = recording.compiled and any(network.is_compiled for network in ctx.networks.values())
            ctx.steps = "recorded, compiled" if compiled else "recorded"
        if kept is not None:
            self.model.load_state_dict(kept)
        self.model.eval()

    def predict(self, images: Tensor) -> Tensor:
        return self.logits(images)

    def _save(
        self,
        resume: ResumeState,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        ctx: Context,
        selection: Mapping[str, Any],
    ) -> None:
        """Saves the training as it is after an epoch. One that keeps what cannot be saved, as SWAD does, is not."""
        attributes = Attributes.of(self)
        if attributes.others:
            return
        state = {"tensors": attributes.tensors, "values": attributes.values, "model": self.model.state_dict()}
        progress = {"history": ctx.history, "selected_epoch": ctx.selected_epoch}
        rates = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        resume.write({**state, **rates, **progress, **selection})

    def _restore(
        self,
        state: Mapping[str, Any],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        ctx: Context,
    ) -> None:
        self.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        Attributes(state["tensors"], state["values"]).attach(self, ctx.device)
        ctx.history, ctx.selected_epoch = state["history"], state["selected_epoch"]

    def _batches(self, count: int, ctx: Context, epoch: int, domains: Domains | None = None) -> list[Tensor]:
        """Positions in a fresh order. A last batch of one face is left out: batch norm cannot learn from it."""
        if self.batch_size < 2:
            raise BenchError(
                f"batch_size is {self.batch_size}; it must be 2 or more, because batch norm needs two faces"
            )
        if domains is not None:
            return domains.batches(self.batch_size, ctx, epoch)
        order = torch.randperm(count, generator=ctx.generator("order", epoch))
        batches = [rows for rows in order.split(self.batch_size) if len(rows) > 1]
        if not batches:
            raise BenchError(f"there are too few faces to learn from: {count}")
        return batches

    def _draws(
        self, everyone: Tensor, sizes: list[int], epoch: int, ctx: Context, domains: Domains | None
    ) -> list[SampleDraws]:
        """The draws of an epoch's batches. everyone: the positions of all of them."""
        if domains is None:
            return ctx.draws(everyone, "augment", epoch).split(sizes)
        # A face of a small domain may be seen several times an epoch, each time in another way.
        parts = enumerate(everyone.split(sizes), epoch * len(sizes))
        return SampleDraws.joined([ctx.draws(index, "augment", epoch, step) for step, index in parts]).split(sizes)

    def _optimization(self, steps_per_epoch: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "sgd": torch.optim.SGD,
        }
        extra: dict[str, Any] = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        if any(weight.is_cuda for weight in self.model.parameters()):
            # One kernel instead of hundreds; each weight by itself, so as repeatable as before.
            extra |= {"fused": True} | ({} if self.optimizer == "sgd" else {"capturable": self.static_step})
        optimizer = kinds[self.optimizer](
            self.parameter_groups(), lr=self.learning_rate, weight_decay=self.weight_decay, **extra
        )
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate(step, steps_per_epoch))

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The share of the learning rate at a step, by `schedule`; a method with another schedule overrides it."""
        if self.schedule == "exponential":
            return self.decay ** (step // steps_per_epoch)
        if self.schedule == "constant":
            return 1.0
        steps = self.epochs * steps_per_epoch
        warm_up = max(1, steps // 10)
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    @torch.no_grad()
    def _accuracy(self, split: Split, ctx: Context) -> float:
        right = torch.zeros((), dtype=torch.long, device=ctx.device)
        for images, labels in labelled(split, ctx.device):
            right += (self.predict(images).argmax(1) == upload(torch.from_numpy(labels), ctx.device)).sum()
        return int(right) / max(1, len(split))


def _rates_on(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Keeps learning rates on the device: what a recorded step reads there may change, a number in it could not."""
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(device)
