"""Adapt a fitted method to the unlabelled test images of a target, batch by batch: the base class `OnlineMethod`."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from fergen_bench.error import BenchError
from fergen_bench.training.contract import Method

if TYPE_CHECKING:
    from fergen_bench.data.source import Source
    from fergen_bench.training.contract import Context


@dataclass
class OnlineMethod(Method):
    """Learn from the test images of a target, without their labels, while they are predicted.

    The runner calls `fit` once. Before every target it calls `reset`. It then calls `predict` once for each batch of
    the target's test images, in the order of the stream, and scores what `predict` returned at that moment. Every image
    comes once; `stream` and `stream_batch` state order and size of the batches. A last batch of a single image is added
    to the batch before it, unless all batches have one image.

    Nothing that was learned from one target may reach another: `reset` restores the state after `fit`. Global random
    generators are seeded before every target.

    A subclass defines `start`, `reset` and `predict`. Gradients are disabled when `predict` is called; a method that
    descends enables them with `torch.enable_grad()`.
    """

    online: ClassVar[bool] = True
    group: ClassVar[str] = "online"

    base: str = (
        "full_finetune backbone=trunk"  # the fitted method to start from, and its settings: NAME PARAMETER=VALUE
    )
    stream: Literal["shuffled", "sorted"] = "shuffled"  # order of the test images: random by seed, or by expression
    stream_batch: int = 64  # test images per batch

    @abstractmethod
    def start(self, base: Method, ctx: Context) -> None:
        """Take from the fitted base what the method adapts.

        Args:
            base: The fitted method, restored from its checkpoint for this run alone; it may be changed.
            ctx: The context of the run.

        Raises:
            BenchError: The method cannot adapt this base.
        """

    @abstractmethod
    def reset(self) -> None:
        """Return to the state after `fit`."""

    def fit(self, source: Source, ctx: Context) -> None:
        """Take what the method adapts from `ctx.base`; the source is not used."""
        if ctx.base is None:
            raise BenchError(
                f"{type(self).__name__} starts from the fitted method of another run, and ctx.base has none; execute "
                f"it with fb.run, or set ctx.base to a fitted method"
            )
        self.start(ctx.base, ctx)
