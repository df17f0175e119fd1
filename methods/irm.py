"""IRM: learn features on which one classifier is optimal in every domain at once (the penalty IRMv1).

Source: Arjovsky et al., "Invariant Risk Minimization" (arXiv 1907.02893), as released in
github.com/facebookresearch/DomainBed at b93c22a. z are the logits of domain e.

    L = mean_e ce_e + w * mean_e g(even images of e) * g(odd images of e)
    g = d ce(s z, y) / d s  at s = 1,  which is  mean over images of (sum_k softmax(z)_k z_k - z_y).

The weight w is 1 for 500 updates and 100 from then on. Adam's state is reset at that update, because the loss changes
its scale. The two halves of a domain's images make the product an unbiased estimate of g^2, which may be negative.

With one source the penalty compares no domains; it only regularises the scale of the logits on that source. One source
is therefore not refused. With `pseudo_domains`, clusters of the source are the domains.

With `logit_adjustment`, which the release lacks, ce and the softmax get z + o, and s scales z alone: the offsets are no
part of the classifier that has to be optimal.

Departures are those of every `DomainMethod`: the suite's trunk, CAFE's augmentation, and passes over the sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fergen_bench import Batch, DomainMethod
from fergen_bench.training.trunk import domain_losses


@dataclass
class Irm(DomainMethod):
    """A feature that predicts the expression equally in every domain may be causal and not a habit of one domain."""

    version: ClassVar[int] = 1
    least_domains: ClassVar[int] = 1
    # The weight changes after a tenth of the few hundred updates, as in the released 500 of 5001.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"anneal": 50}}

    penalty: float = 100.0  # weight of the penalty from update `anneal` on; 1 before
    anneal: int = 500  # update, counted from 0, at which the weight changes and the optimiser's state is reset

    def restarts(self, step: int) -> bool:
        return step == self.anneal

    def weight(self, step: int) -> float:
        """Return the weight of the penalty at an update, counted from 0."""
        return self.penalty if step >= self.anneal else 1.0

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.model(batch.images).float().chunk(batch.domains)
        return self.terms(list(logits), list(batch.labels.chunk(batch.domains)), self.weight(batch.step))

    def terms(self, logits: list[Tensor], labels: list[Tensor], weight: float) -> dict[str, Tensor]:
        """Return the weighted terms of L.

        Args:
            logits: Logits of each domain, (n, K).
            labels: Labels of each domain, int64 (n,).
            weight: w.

        Returns:
            The scalars `classification` and `penalty`.
        """
        classified = [self.adjusted(part) for part in logits]
        penalties = [irm_penalty(*domain) for domain in zip(logits, classified, labels, strict=True)]
        return {
            "classification": domain_losses(classified, labels).mean(),
            "penalty": weight * torch.stack(penalties).mean(),
        }


def irm_penalty(logits: Tensor, classified: Tensor, labels: Tensor) -> Tensor:
    """Return g of the even images times g of the odd images of one domain; see `scale_gradient`."""
    even, odd = (scale_gradient(logits[s::2], classified[s::2], labels[s::2]) for s in (0, 1))
    return even * odd


def scale_gradient(logits: Tensor, classified: Tensor, labels: Tensor) -> Tensor:
    """Return g, a scalar, in closed form.

    Args:
        logits: z, (n, K).
        classified: The logits that the cross-entropy gets, (n, K): z, or z + o.
        labels: y, int64 (n,).
    """
    expected = (torch.softmax(classified, 1) * logits).sum(1)
    return (expected - logits.gather(1, labels[:, None])[:, 0]).mean()
