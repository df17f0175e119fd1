"""One training by gradient descent: its data, optimiser, epochs, selection and resume state."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from fergen_bench.data.domain import upload
from fergen_bench.error import BenchError, RunError
from fergen_bench.networks.profiler import each, phase
from fergen_bench.training.attributes import Attributes
from fergen_bench.training.augment import SampleDraws
from fergen_bench.training.graph import Batch, CapturedStep
from fergen_bench.training.sampling import balanced_draw, is_balanced

if TYPE_CHECKING:
    from torch import Tensor

    from fergen_bench.data.source import Source
    from fergen_bench.training.contract import Context
    from fergen_bench.training.loop import GradientMethod
    from fergen_bench.training.resume import ResumeState


class Fitting:
    """The state that the epochs of one call of `GradientMethod.fit` share."""

    def __init__(self, method: GradientMethod, source: Source, ctx: Context, restarts: bool) -> None:
        """Build the model, the inputs and the optimiser, and restore an interrupted training.

        Args:
            method: The method to fit; its `model` is set.
            source: The source to learn from.
            ctx: The context of the run.
            restarts: True if the method may clear the state of its optimiser. A CUDA graph would go on writing to the
                cleared tensors, so no step is captured then.
        """
        self._method, self._ctx = method, ctx
        self._balanced = is_balanced(method.sampling)
        self._held_out = source.val if ctx.selection == "source-val" else None
        self._split = source.train if self._held_out is None else source.fit
        self._domains = method.domains(self._split, ctx)
        method.build_model(ctx)
        self._inputs = method.inputs(self._split, ctx)
        self._labels = torch.from_numpy(self._split.labels).to(ctx.device)
        steps = len(self.batches(0))
        self._optimizer, self._schedule = method.optimization(steps_per_epoch=steps)
        self._captured: CapturedStep | None = None
        if method.static_step and self._domains is None and not restarts and ctx.capture_steps:
            self._captured = CapturedStep(self._step, method, ctx.device, method.batch_size, method.epochs * steps)
        self._best = (-1.0, -math.inf)  # accuracy and negative loss on held-out images
        self._best_weights: Mapping[str, Tensor] | None = None
        self.first_epoch = self._restore()
        if method.static_step and ctx.device.type == "cuda":  # also without a capture, for the same numbers
            _move_rates(self._optimizer, ctx.device)

    def batches(self, epoch: int) -> list[Tensor]:
        """Return the rows of the split that each batch of an epoch contains, in a fresh order.

        An epoch contains as many rows as the split, whatever the sampling. A last batch of one image is omitted,
        because batch norm cannot learn from it.

        Args:
            epoch: Index of the epoch, from 0.

        Returns:
            One int64 tensor on the CPU per batch.

        Raises:
            BenchError: The batch size is below 2, or there are too few images.
        """
        size, count = self._method.batch_size, len(self._split)
        if size < 2:
            raise BenchError(f"batch_size is {size}; it must be 2 or more, because batch norm needs two images")
        if self._domains is not None:
            return self._domains.batches(size, self._ctx, epoch)
        if self._balanced and count:
            labels = torch.from_numpy(self._split.labels)
            order = balanced_draw(labels, count, self._ctx.generator("balanced order", epoch))
        else:
            order = torch.randperm(count, generator=self._ctx.generator("order", epoch))
        batches = [rows for rows in order.split(size) if len(rows) > 1]
        if not batches:
            raise BenchError(f"the training split has too few images to learn from: {count}; it needs 2 or more")
        return batches

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch and return the means of its loss terms and `images_per_second`.

        Args:
            epoch: Index of the epoch, from 0.

        Raises:
            RunError: A loss was not finite.
        """
        started = time.perf_counter()
        method, ctx = self._method, self._ctx
        method.model.train()
        batches, terms = self.batches(epoch), Terms()
        for batch in self._batches(batches, epoch):
            if ctx.profiler is not None:
                ctx.profiler.step("training")
            if method.restarts(batch.step):
                self._optimizer.state.clear()
            terms.add(self._step(batch) if self._captured is None else self._captured(batch))
            self._schedule.step()
        # This is the only wait for the device: once per epoch, not per step.
        values = terms.means(method, epoch, len(batches))
        if self._captured is not None:  # replays change weights without changing their version
            trained = [weight for weight in method.model.parameters() if weight.requires_grad]
            torch.autograd.graph.increment_version(trained)
        values["images_per_second"] = sum(map(len, batches)) / (time.perf_counter() - started)
        method.model.eval()
        return values

    def validate(self, epoch: int) -> dict[str, float]:
        """Score the held-out images of the source and remember the best weights.

        The best epoch has the highest accuracy; of equally accurate ones that with the smallest loss, and of these the
        earliest. A loss that is not finite counts as the largest.

        Args:
            epoch: Index of the epoch, from 0.

        Returns:
            `val_accuracy`, a fraction in 0..1, and `val_loss` where it is finite; empty with the selection `last`.
        """
        if self._held_out is None:
            return {}
        ctx, model = self._ctx, self._method.model
        with contextlib.nullcontext() if ctx.profiler is None else ctx.profiler.evaluating():
            accuracy, loss = self._method.score(self._held_out, ctx)
        finite = math.isfinite(loss)
        rank = accuracy, -loss if finite else -math.inf
        if rank > self._best:
            self._best, ctx.selected_epoch = rank, epoch + 1
            self._best_weights = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return {"val_accuracy": accuracy, **({"val_loss": loss} if finite else {})}

    def save_if_due(self, epoch: int) -> None:
        """Write the resume state after an epoch, where enough time has passed and another epoch follows.

        A method with an attribute that cannot be saved without code, as SWAD has, is not saved.

        Args:
            epoch: Index of the epoch, from 0.
        """
        resume = self._ctx.resume
        if resume is not None and epoch + 1 < self._method.epochs and resume.due():
            self._save(resume)

    def finish(self) -> None:
        """Load the selected weights and note how the steps were executed."""
        method, ctx = self._method, self._ctx
        if self._captured is not None and self._captured.captured:
            compiled = self._captured.compiled and any(network.is_compiled for network in ctx.networks.values())
            ctx.steps = "recorded, compiled" if compiled else "recorded"  # these words are stored in records
        if self._best_weights is not None:
            method.model.load_state_dict(self._best_weights)
        method.model.eval()

    # ------------------------------------------------------------------------------------------------------------ steps

    def _step(self, batch: Batch) -> Mapping[str, Tensor]:
        method = self._method
        with phase("augment"):
            batch = batch.with_images(method.augment(batch.faces, batch.draws))
        if self._domains is not None:
            batch = self._domains.complete(batch, method.augment, self._ctx)
        return method.update(batch, self._optimizer, self._ctx)

    def _batches(self, batches: list[Tensor], epoch: int) -> Iterator[Batch]:
        """Return the batches of an epoch, whose images are not yet augmented."""
        sizes = [len(rows) for rows in batches]
        index = upload(torch.cat(batches), self._ctx.device)
        parts = zip(
            index.split(sizes),
            self._inputs.batches(batches),
            self._labels[index].split(sizes),
            self._draws(index, sizes, epoch),
            strict=True,
        )
        for step, (rows, images, labels, draws) in enumerate(each("data", parts), epoch * len(batches)):
            yield Batch(images, labels, rows, epoch, step, draws, self._ctx.generator("step", step), images)

    def _draws(self, index: Tensor, sizes: list[int], epoch: int) -> list[SampleDraws]:
        """Return the draws of each batch of an epoch. index: the rows of all batches."""
        if self._balanced or self._domains is not None:
            # An image may appear several times, even in one batch, and is augmented differently each time. Draws
            # therefore belong to positions in the epoch.
            index = torch.arange(len(index), device=index.device)
        return self._ctx.draws(index, "augment", epoch).split(sizes)

    # ----------------------------------------------------------------------------------------------------- resume state

    def _save(self, resume: ResumeState) -> None:
        attributes = Attributes.of(self._method)
        if attributes.others:
            return
        resume.write(
            {
                "tensors": attributes.tensors,
                "values": attributes.values,
                "model": self._method.model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "schedule": self._schedule.state_dict(),
                "history": self._ctx.history,
                "selected_epoch": self._ctx.selected_epoch,
                "best": self._best,
                "kept": self._best_weights,
            }
        )

    def _restore(self) -> int:
        """Restore the resume state, if there is one, and return the index of the first epoch to train."""
        state = None if self._ctx.resume is None else self._ctx.resume.read()
        if state is None:
            return 0
        self._method.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        Attributes(state["tensors"], state["values"]).attach(self._method, self._ctx.device)
        self._ctx.history, self._ctx.selected_epoch = state["history"], state["selected_epoch"]
        self._best, self._best_weights = tuple(state["best"]), state["kept"]
        return len(self._ctx.history)


class Terms:
    """The loss terms of the steps of an epoch.

    They stay on the device until the epoch ends, because reading one number waits for all work of the device.
    """

    def __init__(self) -> None:
        self._steps: dict[str, list[Tensor]] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """Append the terms of one step.

        Args:
            terms: Scalars by name, with the total as `loss`.
        """
        for name, term in terms.items():
            self._steps.setdefault(name, []).append(term.detach())

    def means(self, method: GradientMethod, epoch: int, steps: int) -> dict[str, float]:
        """Return the sum of each term over the epoch, divided by the number of steps.

        Args:
            method: The method in training, for the error.
            epoch: Index of the epoch, from 0.
            steps: Steps of the epoch.

        Raises:
            RunError: A loss was not finite.
        """
        values = {name: _to_host(torch.stack(terms)) for name, terms in self._steps.items()}
        if len(wrong := np.flatnonzero(~np.isfinite(values["loss"]))):
            raise RunError(
                f"the loss of {type(method).__name__} was {values['loss'][wrong[0]]} at step "
                f"{epoch * steps + wrong[0] + 1} (epoch {epoch + 1}); lower learning_rate (it is "
                f"{method.learning_rate:g})"
            )
        # Summed in the order of the steps: a pairwise sum rounds differently.
        return {name: float(np.add.accumulate(value)[-1]) / steps for name, value in values.items()}


def _to_host(values: Tensor) -> np.ndarray:
    return (values if values.dtype == torch.float64 else values.float()).cpu().numpy()


def _move_rates(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Move the learning rates to the device: a captured step reads a tensor there, but would repeat a number."""
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(device)
