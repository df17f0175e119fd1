"""V-REx: equalise the losses of the domains, so that a domain further out fares no worse.

Source: Krueger et al., "Out-of-Distribution Generalization via Risk Extrapolation" (ICML 2021, arXiv 2003.00688), as
released in github.com/facebookresearch/DomainBed at b93c22a.

    L = mean_e ce_e + w * mean_e (ce_e - mean ce)^2.

The weight w is 1 for 500 updates and 10 from then on. Adam's state is reset at that update.

Domains are the sources, or with `pseudo_domains` clusters of the source. One domain is refused, because its variance is
0.

Departures are those of every `DomainMethod`: the suite's trunk, CAFE's augmentation, and passes over the sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from fergen_bench import Batch, DomainMethod
from fergen_bench.training.trunk import domain_losses


@dataclass
class Vrex(DomainMethod):
    """A gain on one domain that costs accuracy on another will not carry over to a third."""

    version: ClassVar[int] = 1
    # The weight changes after a tenth of the few hundred updates, as in the released 500 of 5001.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"anneal": 50, "learning_rate": 1e-3}}

    penalty: float = 10.0  # weight of the penalty from update `anneal` on; 1 before
    anneal: int = 500  # update, counted from 0, at which the weight changes and the optimiser's state is reset

    def restarts(self, step: int) -> bool:
        return step == self.anneal

    def weight(self, step: int) -> float:
        """Return the weight of the penalty at an update, counted from 0."""
        return self.penalty if step >= self.anneal else 1.0

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.adjusted(self.model(batch.images).float()).chunk(batch.domains)
        losses = domain_losses(list(logits), list(batch.labels.chunk(batch.domains)))
        return self.terms(losses, batch.step)

    def terms(self, losses: Tensor, step: int) -> dict[str, Tensor]:
        """Return the weighted terms of L from the losses of the domains, (E,), at an update counted from 0."""
        return {"classification": losses.mean(), "penalty": self.weight(step) * variance(losses)}


def variance(losses: Tensor) -> Tensor:
    """Return the biased variance of losses (E,)."""
    return (losses - losses.mean()).pow(2).mean()
