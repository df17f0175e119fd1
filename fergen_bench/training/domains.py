"""Batches that contain equally many images of each source domain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields, replace
from typing import TYPE_CHECKING

import torch

from fergen_bench.error import BenchError
from fergen_bench.experiment.method_file import lack_of_domains
from fergen_bench.training.images import SplitImages
from fergen_bench.training.sampling import balanced_draw, is_balanced

if TYPE_CHECKING:
    from torch import Tensor

    from fergen_bench.data.domain import Split
    from fergen_bench.training.augment import SampleDraws
    from fergen_bench.training.contract import Context, Method
    from fergen_bench.training.graph import Batch


class Domains:
    """The domains that a method distinguishes.

    They are the sources of its run, or pseudo-domains into which the images of all sources are divided; a method that
    adapts also has the unlabelled images of the target. Every batch contains equally many images of each domain. An
    epoch has as many labelled images as the sources; images of a small domain repeat, and of a large domain only a part
    appears. With balanced sampling, the images of each domain are drawn so that each class in it is equally likely;
    unlabelled images are never balanced.
    """

    def __init__(
        self, method: Method, split: Split, ctx: Context, network: str, pseudo: int = 0, adapt: bool = False
    ) -> None:
        """Assign each image of a split to a domain.

        Unlabelled images are resized to the size of the labelled ones, so that domains do not differ in resolution
        and both can be concatenated.

        Args:
            method: The method; its parameters decide how many domains it needs.
            split: The training split.
            ctx: The context of the run.
            network: Name of the network whose frozen features are clustered into pseudo-domains.
            pseudo: Number of pseudo-domains; 0 uses the sources.
            adapt: Add the unlabelled images of the target.

        Raises:
            BenchError: There are too few domains, or no unlabelled images.
        """
        if pseudo < 0:
            raise BenchError(f"pseudo_domains is {pseudo}; it must be 0 (none), or two or more")
        parameters = {field.name: getattr(method, field.name) for field in fields(method)}
        lack = lack_of_domains(type(method).__name__, method.least_domains, len(split.pieces), parameters)
        if lack is not None:
            raise BenchError(lack)
        if adapt and not ctx.unlabelled:
            raise BenchError(
                f"{type(method).__name__}.adapt needs unlabelled images of a target, which this run lacks; use "
                f"--protocol adaptation"
            )
        index = torch.from_numpy(split.domain_index)
        if pseudo:
            features = ctx.features(ctx.backbone(network), split)[0]
            index = clusters(features, pseudo, ctx.generator("pseudo-domains"))
        self._balanced, self._labels = is_balanced(getattr(method, "sampling", "natural")), split.labels
        self.rows = [torch.nonzero(index == domain)[:, 0] for domain in range(pseudo or len(split.pieces))]
        unlabelled = ctx.unlabelled.at_size(split.size) if adapt and ctx.unlabelled is not None else None
        self.unlabelled = None if unlabelled is None else SplitImages(unlabelled, ctx.device)
        self._unlabelled_rows = torch.arange(0 if unlabelled is None else len(unlabelled))

    def __len__(self) -> int:
        """Return the number of domains, including the unlabelled one."""
        return len(self.rows) + (self.unlabelled is not None)

    def batches(self, size: int, ctx: Context, epoch: int) -> list[Tensor]:
        """Return the rows of the split that each batch of an epoch contains.

        Args:
            size: Images of each domain per batch.
            ctx: The context of the run.
            epoch: Index of the epoch, from 0.

        Returns:
            Per batch, int64 (size * labelled domains,): `size` rows of the first domain, then of the second, and so on.
        """
        steps = math.ceil(sum(map(len, self.rows)) / (size * len(self.rows)))
        if self._balanced:
            parts = [self._balanced_rows(domain, steps * size, ctx, epoch) for domain in range(len(self.rows))]
        else:
            parts = [_endless(rows, steps * size, ctx, "order", epoch, domain) for domain, rows in enumerate(self.rows)]
        return [torch.cat(step) for step in zip(*(part.split(size) for part in parts), strict=True)]

    def _balanced_rows(self, domain: int, count: int, ctx: Context, epoch: int) -> Tensor:
        """Return rows of a domain, drawn with replacement, each class equally likely."""
        rows = self.rows[domain]
        labels = torch.from_numpy(self._labels)[rows]
        return rows[balanced_draw(labels, count, ctx.generator("balanced order", epoch, domain))]

    def complete(self, batch: Batch, augment: Callable[[Tensor, SampleDraws], Tensor], ctx: Context) -> Batch:
        """Return a batch with the number of its domains and, for a method that adapts, unlabelled images.

        Args:
            batch: A batch of labelled images, of equally many per domain.
            augment: The augmentation of the method, for the unlabelled images.
            ctx: The context of the run.
        """
        unlabelled = None
        if self.unlabelled is not None:
            size = len(batch.labels) // len(self.rows)
            rows = _endless(self._unlabelled_rows, size, ctx, "unlabelled", batch.step)
            draws = ctx.draws(torch.arange(size, device=ctx.device), "augment unlabelled", batch.step)
            unlabelled = augment(self.unlabelled.at(rows), draws)
        return replace(batch, domains=len(self.rows), unlabelled=unlabelled)


def _endless(rows: Tensor, count: int, ctx: Context, *names: object) -> Tensor:
    """Return the first `count` rows of a sequence of random permutations."""
    turns = range(math.ceil(count / len(rows)))
    orders = [rows[torch.randperm(len(rows), generator=ctx.generator(*names, turn))] for turn in turns]
    return torch.cat(orders)[:count]


def clusters(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Cluster rows with k-means, from initial centres that k-means++ draws.

    The iteration ends when no row changes its cluster, or after 100 rounds.

    Args:
        features: float (N, C).
        count: Number of clusters.
        generator: A CPU generator.

    Returns:
        The cluster of each row, int64 (N,) on the CPU.

    Raises:
        BenchError: A cluster is empty.
    """
    points = features.float().cpu()
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        away = torch.cdist(points, centres).amin(1).double().square().cumsum(0)
        drawn = torch.searchsorted(away, away[-1:] * torch.rand(1, generator=generator, dtype=torch.float64))
        centres = torch.cat([centres, points[drawn.clamp_max(len(points) - 1)]])
    nearest = torch.cdist(points, centres).argmin(1)
    for _ in range(100):
        members = [points[nearest == cluster] for cluster in range(count)]
        if min(map(len, members)) == 0:
            raise BenchError(f"the source cannot be divided into {count} pseudo-domains; lower pseudo_domains")
        moved = torch.cdist(points, torch.stack([member.mean(0) for member in members])).argmin(1)
        if torch.equal(moved, nearest):
            break
        nearest = moved
    return nearest
