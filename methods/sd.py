"""Spectral decoupling (SD): penalise large logits in addition to the cross-entropy.

Source: Pezeshki et al., "Gradient Starvation: A Learning Proclivity in Neural Networks" (NeurIPS 2021), in the form of
DomainBed (github.com/facebookresearch/DomainBed at b93c22a). There are N images and K expressions.

    L = ce(z, y) + 0.1 * mean over n, k of z[n, k] ** 2.

The mean also runs over expressions, so the weight is K times smaller than that of a sum per image. DomainBed puts all
domains into one batch, so the method needs only one source. With `logit_adjustment`, which DomainBed lacks, the penalty
is that of the plain logits z, which are scored.

Departures: it trains the suite's trunk. Optimiser, schedule, augmentation and selection are those of full_finetune.py
instead of DomainBed's (Adam, 5e-5, 5001 steps, crops and colour jitter), so that the two differ in the penalty alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from fergen_bench import Batch, TrunkMethod


@dataclass
class SpectralDecoupling(TrunkMethod):
    """A feature that already explains an image stops growing, and other features that generalise can be learned."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    penalty: float = 0.1  # weight of the mean squared logit

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return self.terms(self.model(batch.images).float(), batch.labels)

    def terms(self, logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of L from logits (N, K) and labels (N,)."""
        return {
            "classification": functional.cross_entropy(self.adjusted(logits), labels),
            "penalty": self.penalty * logit_penalty(logits),
        }


def logit_penalty(logits: Tensor) -> Tensor:
    """Return the mean square of logits (N, K) over images and expressions."""
    return logits.pow(2).mean()
