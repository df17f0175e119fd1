"""SWAD: average all weights along the stretch of training in which the loss on held-out images is low.

Source: Cha et al., "SWAD: Domain Generalization by Seeking Flat Minima" (NeurIPS 2021); github.com/khanrc/swad at
252190e. Every I steps (the first time after the first step) the loss on held-out images is measured. The mean of the
weights since the previous measurement is a segment with that loss. Segments are averaged by these rules:

- The stretch begins when the first of the last `n_converge` segments has the lowest loss of them. The threshold is
  their mean loss times 1 + tolerance. Of the last `n_tolerance` segments, the first n_tolerance - n_converge + 1 are
  examined: those after the last one above the threshold are taken, except for the first of them.
- From then on, at each measurement: if all of the last `n_tolerance` losses are above the threshold, the stretch ends.
  Otherwise the oldest of these segments is taken, unless it lies before the beginning.
- At the end of training the remaining segments are taken, oldest first, while any loss among the remaining ones is not
  above the threshold. If the stretch never began, the last segment alone is the result.

As released, some segments are taken twice and then count twice, the first segment that qualifies is skipped, and steps
after the last measurement are lost. Only weights are averaged. Batch norm's statistics stay those of pre-training, or
(`refresh`) change in training and are measured again once the weights are averaged; the released code has both.

Departures: with either selection the method learns from `source.fit` and measures on `source.val`, because the images
that determine the stretch must not be trained on. No epoch is selected in addition. The suite's trunk is trained, with
the optimiser, schedule and augmentation of full_finetune.py instead of DomainBed's (Adam, 5e-5, 5001 steps, crops and
colour jitter), so that the two differ in the average and in batch norm alone. A network from scratch lacks pre-trained
statistics.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import Batch, BenchError, Context, Source, TrunkMethod
from fergen_bench.training.sampling import balanced_draw, is_balanced

SCORING_BATCH = 256


@dataclass
class Swad(TrunkMethod):
    """The centre of a wide region of low loss is flatter than any point of the training, and flat minima transfer."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    # The learning rate is the best of protocols/learning-rate.yaml.
    # Batch norm's statistics change, as in full_finetune.py: with frozen statistics the trunk hardly learned.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 8e-3, "interval": 5, "refresh": 20}}

    interval: int = 100  # steps between measurements on held-out images; released: 50 to 300, by dataset
    refresh: int = 0  # steps that measure batch norm after averaging, released: 500; 0: frozen statistics
    n_converge: int = 3  # number of segments that determine the beginning of the stretch
    n_tolerance: int = 6  # number of segments that determine its end
    tolerance: float = 0.3  # largest rise of the loss above that of the beginning, as a share

    def fit(self, source: Source, ctx: Context) -> None:
        for name in ("interval", "n_converge", "n_tolerance"):
            if getattr(self, name) < 1:
                raise BenchError(f"swad: {name} is {getattr(self, name)}; it must be 1 or more")
        self.held_out = source.val
        self.valley = LossValley(self.n_converge, self.n_tolerance, self.tolerance)
        self.segment: Segment | None = None
        whole = copy.copy(ctx)
        whole.selection = "last"  # the average replaces the selection of an epoch
        super().fit(replace(source, train=source.fit), whole)
        with torch.no_grad():
            for weight, mean in zip(self.model.parameters(), self.valley.result().weights, strict=True):
                weight.copy_(mean)
            self._measure_statistics(source, ctx)
        self.model.eval()
        if ctx.selection == "source-val":
            ctx.history[-1]["val_accuracy"] = self.score(source.val, ctx)[0]  # of the average, not of an epoch

    def build(self, ctx: Context) -> nn.Module:
        model = self.classifier(ctx, self.trunk)
        return model if self.refresh else FrozenStatistics(*model)

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> Mapping[str, Tensor]:
        terms = super().update(batch, optimizer, ctx)
        if not self.finished():
            weights = [weight.detach() for weight in self.model.parameters()]
            self.segment = averaged(self.segment, weights, batch.step, batch.step)
            if batch.step % self.interval == 0:
                self.valley.add(replace(self.segment, loss=self._held_out_loss(ctx)))
                self.segment = None
        return terms

    def finished(self) -> bool:
        return self.valley.early_stop_step >= 0

    @torch.no_grad()
    def _held_out_loss(self, ctx: Context) -> float:
        """Return the mean cross-entropy of the current weights on held-out images of the source."""
        self.model.eval()
        logits = [self.logits(images).float() for images in self.held_out.batches(ctx.device, SCORING_BATCH)]
        self.model.train()
        labels = torch.from_numpy(self.held_out.labels).to(ctx.device)
        return float(functional.cross_entropy(torch.cat(logits), labels))

    def _measure_statistics(self, source: Source, ctx: Context) -> None:
        """Set batch norm's running statistics to their mean over `refresh` new batches of augmented images."""
        if not self.refresh:
            return
        layers = [layer for layer in self.model.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None  # all batches have the same weight
        self.model.train()
        labels = torch.from_numpy(source.fit.labels)
        for step in range(self.refresh):
            generator = ctx.generator("refresh", step)
            if is_balanced(self.sampling):
                rows = balanced_draw(labels, min(self.batch_size, len(labels)), generator)
                index = torch.arange(len(rows))  # an image may appear twice
            else:
                index = rows = torch.randperm(len(labels), generator=generator)[: self.batch_size]
            faces = source.fit.faces(rows.numpy()).to(ctx.device)
            with ctx.autocast():
                self.model(self.augment(faces, ctx.draws(index.to(ctx.device), "refresh", step)))
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


class FrozenStatistics(nn.Sequential):
    """A sequence whose batch norm normalises by its running statistics and never changes them, even in training."""

    def train(self, mode: bool = True) -> FrozenStatistics:
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
        return self


@dataclass(frozen=True)
class Segment:
    """The mean of the weights over steps or over segments."""

    weights: Sequence[Tensor]
    start: int  # first step
    end: int  # last step
    count: int  # number of steps or segments
    loss: float = math.nan  # on held-out images, at the last step


def averaged(mean: Segment | None, weights: Sequence[Tensor], start: int, end: int) -> Segment:
    """Add weights to a mean.

    Args:
        mean: The mean so far, or None for the first weights.
        weights: The weights to add.
        start: The first step that the weights cover.
        end: The last step that the weights cover.

    Returns:
        The new mean.
    """
    if mean is None:
        return Segment([weight.clone() for weight in weights], start, end, 1)
    count = mean.count + 1
    return Segment([m + (w - m) / count for m, w in zip(mean.weights, weights, strict=True)], mean.start, end, count)


class LossValley:
    """The rules that choose the segments to average, one segment after another.

    Args:
        n_converge: The number of segments that determine the beginning of the stretch.
        n_tolerance: The number of segments that determine its end.
        tolerance: The largest rise of the loss above that of the beginning, as a share.
    """

    def __init__(self, n_converge: int, n_tolerance: int, tolerance: float) -> None:
        self.n_converge, self.n_tolerance, self.tolerance = n_converge, n_tolerance, tolerance
        self.converge_step, self.early_stop_step, self.threshold = -1, -1, math.nan
        self._recent: deque[Segment] = deque(maxlen=n_converge)
        self._window: deque[Segment] = deque(maxlen=n_tolerance)
        self._first: Segment | None = None
        self._average: Segment | None = None

    def add(self, segment: Segment) -> None:
        """Add the next segment, with its loss."""
        if self.early_stop_step >= 0:
            return
        self._recent.append(segment)
        self._window.append(segment)
        if self.converge_step < 0:
            losses = [past.loss for past in self._recent]
            if len(losses) == self.n_converge and losses[0] == min(losses):
                self._begin(sum(losses) / len(losses))
        elif self._window[0].end >= self.converge_step:
            if self._above(self._window):
                self.early_stop_step = segment.end
            else:
                self._take(self._window[0])

    def result(self) -> Segment:
        """Return the average at the end of training."""
        if self.converge_step < 0:
            return self._recent[-1]
        average, rest = self._average, list(self._window)[1:] if self.early_stop_step < 0 else []
        while rest and not self._above(rest):
            oldest = rest.pop(0)
            average = averaged(average, oldest.weights, oldest.start, oldest.end)
        found = average or self._first
        assert found is not None
        return found

    def _begin(self, mean_loss: float) -> None:
        self._first = self._recent[0]
        self.converge_step = self._first.end
        self.threshold = mean_loss * (1.0 + self.tolerance)
        # With n_tolerance below n_converge, the reference takes the segments between the two windows.
        taken = list(self._recent)[1 : 1 + self.n_converge - self.n_tolerance]
        if self.n_tolerance > self.n_converge:
            examined = list(self._window)[: self.n_tolerance - self.n_converge + 1]
            above = [index for index, past in enumerate(examined) if past.loss > self.threshold]
            taken = examined[(above[-1] + 1 if above else 0) + 1 :]
        for past in taken:
            self._take(past)

    def _above(self, segments: Sequence[Segment]) -> bool:
        """Return whether all losses are above the threshold."""
        return min(segment.loss for segment in segments) > self.threshold

    def _take(self, segment: Segment) -> None:
        self._average = averaged(self._average, segment.weights, segment.start, segment.end)
