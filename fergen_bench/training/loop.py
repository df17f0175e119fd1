"""Train a method by gradient descent: the base class `GradientMethod`, which provides the training loop."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench.data.domain import upload
from fergen_bench.error import BenchError
from fergen_bench.networks.profiler import phase
from fergen_bench.training.augment import SampleDraws
from fergen_bench.training.contract import Method
from fergen_bench.training.fitting import Fitting
from fergen_bench.training.graph import Batch
from fergen_bench.training.images import SplitImages, labelled

if TYPE_CHECKING:
    from torch import nn

    from fergen_bench.data.domain import Split
    from fergen_bench.data.source import Source
    from fergen_bench.training.contract import Context
    from fergen_bench.training.domains import Domains

Losses = Tensor | Mapping[str, Tensor]
"""A scalar loss, or its weighted terms by name, which are summed."""


class Inputs(Protocol):
    """The tensors that the steps of a training receive in place of images."""

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Return the inputs of each batch, on the device.

        Args:
            rows: For each batch, the rows of the split, int64 on the CPU.
        """


@dataclass
class GradientMethod(Method):
    """Provide the training loop; a subclass defines `build`, `loss` and `logits`.

    A subclass may also override `augment` and `parameter_groups`, or `update` where a step is more than one descent.

    With the selection `source-val`, the method learns from `source.fit` and keeps the weights of the epoch with the
    best accuracy on `source.val`. Of equally accurate epochs it keeps that with the smallest loss there, and of these
    the earliest. With `last`, it learns from all of `source.train` and keeps the last epoch.
    """

    epochs: int = 60  # passes over the source
    batch_size: int = 32  # images per step
    learning_rate: float = 2e-4  # the highest of the schedule
    weight_decay: float = 1e-4  # coupled L2 with adam and sgd, decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = (
        "exponential"  # times decay after each epoch; or warm-up over a tenth, then cosine to 0
    )
    decay: float = 0.9  # of the exponential schedule
    sampling: Literal["natural", "balanced"] = (
        "natural"  # each image once an epoch; balanced: as many, with replacement, each expression equally likely
    )

    # Networks for 64-pixel images train for minutes. The optimiser and schedule therefore differ from the published
    # ones, and the epochs are few enough that a whole table takes an hour. The learning rate suits the packaged trunk;
    # a method with a better one on held-out images of the source (protocols/learning-rate.yaml) has its own recipe.
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
    """True if every step executes the same operations on the device, whatever its index, and draws random numbers of
    the host with `batch.drawn`. A GPU then captures one step as a CUDA graph and replays it, which costs a fraction of
    launching each operation.
    """

    @abstractmethod
    def build(self, ctx: Context) -> nn.Module:
        """Return the modules to be trained.

        Frozen networks may be stored as attributes. The loop calls this method once, after the run has set torch's
        global seed.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """Return the loss of a batch in training mode.

        Returns:
            A scalar; or weighted terms by name, which are summed and reported separately.
        """

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Return logits (B, 7) of images uint8 (B, 3, height, width) in evaluation mode."""

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        """Return the images that `loss` receives; by default, they are unchanged.

        Args:
            images: uint8 (B, 3, height, width).
            draws: Random numbers per image.
        """
        return images

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        """Return the inputs of the training steps; by default, the images of the split.

        A method on frozen features returns `Rows(ctx.features(...)[0])`; `loss` then receives features in place of
        images. The loop calls this method after `build`.
        """
        return SplitImages(split, ctx.device)

    def domains(self, split: Split, ctx: Context) -> Domains | None:
        """Return the domains of a method that distinguishes them; by default, None.

        Every step then contains `batch_size` images of each domain. The loop calls this method once, before `build`.
        """
        return None

    @property
    def sources_alike(self) -> bool:
        """True for a method with `domains`, unless they are pseudo-domains."""
        return type(self).domains is not GradientMethod.domains and not getattr(self, "pseudo_domains", 0)

    def restarts(self, step: int) -> bool:
        """Return True if the optimiser loses its state before a step; by default, it never does.

        Args:
            step: Index of the step in the whole training, from 0.
        """
        return False

    def parameter_groups(self) -> Iterable[Any]:
        """Return what the optimiser trains: parameters, or groups of parameters with settings of their own."""
        return self.model.parameters()

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> Mapping[str, Tensor]:
        """Execute one training step.

        Returns:
            Scalars by name, which are reported as means over an epoch. `loss` must be among them.
        """
        terms = self.descend(batch, optimizer, ctx)
        with phase("optimizer"):
            optimizer.step()
        return terms

    def descend(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> dict[str, Tensor]:
        """Replace the gradients by those of the loss of a batch.

        Returns:
            `loss` and its terms by name, detached scalars.

        Raises:
            BenchError: `loss` returned anything but scalars.
        """
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
        """Return True to end the training before its last epoch; the loop calls this method after each epoch."""
        return False

    def fit(self, source: Source, ctx: Context) -> None:
        """Train on a source, and keep the weights of the selected epoch."""
        if self.epochs < 1 or self.learning_rate <= 0:
            raise BenchError(
                f"epochs is {self.epochs} and learning_rate {self.learning_rate:g}; one epoch at least and a rate "
                f"above 0 are needed to learn anything"
            )
        restarts = type(self).restarts is not GradientMethod.restarts
        fitting = Fitting(self, source, ctx, restarts)
        for epoch in range(fitting.first_epoch, self.epochs):
            values = fitting.run_epoch(epoch)
            values |= fitting.validate(epoch)
            ctx.epoch_done(epoch + 1, self.epochs, **values)
            if self.finished():
                break
            fitting.save_if_due(epoch)
        fitting.finish()

    def build_model(self, ctx: Context) -> None:
        """Set `model` to the modules that `build` returns, on the device of the run."""
        self.model: Any = self.build(ctx).to(ctx.device).to(memory_format=torch.channels_last)

    def predict(self, images: Tensor) -> Tensor:
        """Return logits (B, 7) of images uint8 (B, 3, height, width)."""
        return self.logits(images)

    def optimization(self, steps_per_epoch: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        """Return the optimiser of `model` and the schedule of its learning rate.

        Args:
            steps_per_epoch: Steps of an epoch; the schedule advances after each step.
        """
        kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "sgd": torch.optim.SGD,
        }
        extra: dict[str, Any] = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        # One kernel instead of hundreds. Each weight is updated by itself, so results repeat.
        extra["fused"] = True
        if self.optimizer != "sgd" and any(weight.is_cuda for weight in self.model.parameters()):
            extra["capturable"] = self.static_step
        optimizer = kinds[self.optimizer](
            self.parameter_groups(), lr=self.learning_rate, weight_decay=self.weight_decay, **extra
        )
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate(step, steps_per_epoch))

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the factor on the learning rate at a step, by `schedule`.

        Args:
            step: Index of the step in the whole training, from 0.
            steps_per_epoch: Steps of an epoch.
        """
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
    def score(self, split: Split, ctx: Context) -> tuple[float, float]:
        """Return the accuracy on a split, a fraction in 0..1, and the mean cross-entropy, from one pass."""
        sums = torch.zeros(2, dtype=torch.float64, device=ctx.device)
        for images, labels in labelled(split, ctx.device):
            logits, wanted = self.predict(images), upload(torch.from_numpy(labels), ctx.device)
            right = (logits.argmax(1) == wanted).sum()
            sums += torch.stack([right, functional.cross_entropy(logits.double(), wanted, reduction="sum")])
        accuracy, loss = (sums / max(1, len(split))).tolist()
        return accuracy, loss
