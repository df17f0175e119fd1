"""Batches that contain equally many images of each source domain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import torch

from fergen_bench.data.domain import upload
from fergen_bench.error import BenchError
from fergen_bench.experiment.method_file import lack_of_domains
from fergen_bench.training.images import SplitImages

if TYPE_CHECKING:
    from torch import Tensor

    from fergen_bench.data.domain import Split
    from fergen_bench.training.augment import SampleDraws
    from fergen_bench.training.contract import Context, Method
    from fergen_bench.training.graph import Batch


class Domains:
    """The domains that a method treats apart: the sources of its run, or pseudo-domains into which all their faces are
    divided; and the unlabelled faces of the target where the method adapts.

    Every step sees equally many faces of each. An epoch shows as many labelled faces as there are; those of a small
    domain come several times, those of a large one in part.
    """

    def __init__(
        self,
        method: Method,
        split: Split,
        ctx: Context,
        network: str,
        pseudo: int = 0,
        adapt: bool = False,
        one_size: bool = True,
    ) -> None:
        """network: its frozen features are what pseudo-domains are clusters of. one_size: whether unlabelled faces are
        given the size of the labelled ones, so that both can be joined; False leaves them as their domain keeps them.
        """
        if pseudo < 0:
            raise BenchError(f"pseudo_domains is {pseudo}; it must be 0 (none), or two or more")
        parameters = {field.name: getattr(method, field.name) for field in fields(method)}
        lack = lack_of_domains(type(method).__name__, method.least_domains, len(split.pieces), parameters)
        if lack is not None:
            raise BenchError(lack)
        if adapt and not ctx.unlabelled:
            raise BenchError(
                f"{type(method).__name__} adapts, and its run has no unlabelled images of a target; use --protocol "
                f"adaptation"
            )
        index = torch.from_numpy(split.domain_index)
        if pseudo:
            features = ctx.features(ctx.backbone(network), split)[0]
            index = clusters(features, pseudo, ctx.generator("pseudo-domains"))
        self.rows = [torch.nonzero(index == place)[:, 0] for place in range(pseudo or len(split.pieces))]
        unlabelled = ctx.unlabelled if adapt else None
        if unlabelled is not None and one_size:
            unlabelled = unlabelled.at_size(split.size)
        self.unlabelled = None if unlabelled is None else SplitImages(unlabelled, ctx.device)
        self._unlabelled_rows = torch.arange(0 if unlabelled is None else len(unlabelled))

    def __len__(self) -> int:
        """How many there are, with the unlabelled one."""
        return len(self.rows) + (self.unlabelled is not None)

    def batches(self, size: int, ctx: Context, epoch: int) -> list[Tensor]:
        """Positions in the split: `size` of the first domain, `size` of the second, and so on."""
        steps = math.ceil(sum(map(len, self.rows)) / (size * len(self.rows)))
        parts = [_endless(rows, steps * size, ctx, "order", epoch, place) for place, rows in enumerate(self.rows)]
        return [torch.cat(step) for step in zip(*(part.split(size) for part in parts), strict=True)]

    def complete(self, batch: Batch, augment: Callable[[Tensor, SampleDraws], Tensor], ctx: Context) -> Batch:
        """A batch with the number of its domains, and with unlabelled faces where the method adapts."""
        unlabelled = None
        if self.unlabelled is not None:
            size = len(batch.labels) // len(self.rows)
            rows = _endless(self._unlabelled_rows, size, ctx, "unlabelled", batch.step)
            draws = ctx.draws(upload(rows, ctx.device), "augment unlabelled", batch.step)
            unlabelled = augment(self.unlabelled.at(rows), draws)
        return replace(batch, domains=len(self.rows), unlabelled=unlabelled)


def _endless(rows: Tensor, count: int, ctx: Context, *names: object) -> Tensor:
    """The first `count` of rows in one random order after another."""
    turns = range(math.ceil(count / len(rows)))
    orders = [rows[torch.randperm(len(rows), generator=ctx.generator(*names, turn))] for turn in turns]
    return torch.cat(orders)[:count]


def clusters(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means: float (N, C) → which of `count` clusters each row is in, int64 (N,) on the CPU.

    It starts from centres drawn far from each other (k-means++), and ends when nothing moves, or after 100 rounds.
    """
    points = features.float().cpu()
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        away = torch.cdist(points, centres).amin(1).double().square().cumsum(0)
        drawn = torch.searchsorted(away, away[-1:] * torch.rand(1, generator=generator, dtype=torch.float64))
        centres = torch.cat([centres, points[drawn.clamp_max(len(points) - 1)]])
    nearest = torch.cdist(points, centres).argmin(1)
    for _ in range(100):
        members = [points[nearest == place] for place in range(count)]
        if min(map(len, members)) == 0:
            raise BenchError(f"the source cannot be divided into {count} pseudo-domains; ask for fewer")
        moved = torch.cdist(points, torch.stack([member.mean(0) for member in members])).argmin(1)
        if torch.equal(moved, nearest):
            break
        nearest = moved
    return nearest
