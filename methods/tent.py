"""TENT: adapt the scale and shift of batch norms to test images by minimising the entropy of the predictions.

Source: Wang et al., "Tent: Fully Test-Time Adaptation by Entropy Minimization" (ICLR 2021), as released in
github.com/DequanWang/tent at e9e926a. z are the logits of a batch and H the entropy of softmax(z) in nats. Every batch
norm uses the statistics of the batch; those of the training are deleted. After each batch

    (gamma, beta) <- Adam step on mean over images of H(z).

As released, a batch is scored with the logits from before the update that it causes, and one step is made per batch;
with more steps, with those from before the last one. The optimiser and its moments are reset together with gamma and
beta, here before each target. Batch size and mix of expressions decide the result: a sorted stream can end in one
expression. A batch of one image is refused, and so is a network without 2-d batch norms, such as a vision transformer:
`sar` adapts layer norms and group norms, too.

Departures: all other parts of the network stay in evaluation mode (released: training mode, so that dropout would be
active). The learning rate is the published one for CIFAR-10-C, 0.001 with batches of 200 images, scaled by the images
of a batch (`stream_batch / 200`): labels of the source do not show which rate is best for a target, so none is chosen.
The base is full fine-tuning of the suite's trunk.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fergen_bench import BenchError, Context, Method, OnlineMethod
from fergen_bench.training.normalisation import (
    entropy,
    normalisations,
    restore,
    scale_and_shift,
    trained_network,
    use_batch_statistics,
)

PUBLISHED_BATCH = 200


@dataclass
class Tent(OnlineMethod):
    """Certain predictions are often right, so a change that makes predictions certain suits a target."""

    version: ClassVar[int] = 1
    # The learning rate of the base is that of protocols/synth5-all.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"base": "full_finetune backbone=trunk learning_rate=0.004"}
    }

    learning_rate: float = 1e-3  # of a batch of 200 images; it is scaled by the images of a batch
    optimizer: Literal["adam", "sgd"] = "adam"  # sgd has Nesterov momentum 0.9
    steps: int = 1  # updates per batch

    def start(self, base: Method, ctx: Context) -> None:
        if self.steps < 1 or self.learning_rate <= 0:
            raise BenchError(
                f"tent: steps is {self.steps} and learning_rate {self.learning_rate:g}; one step at least and a rate "
                f"above 0 are needed to adapt anything"
            )
        model = trained_network(base, "tent")
        layers = [layer for layer in normalisations(model).values() if isinstance(layer, nn.BatchNorm2d)]
        if not layers:
            raise BenchError(
                f"tent: the network of its base, {type(base).__name__}, has no batch norm; choose another base, or "
                f"--method sar, which adapts layer norms and group norms, too"
            )
        use_batch_statistics(layers, self.stream_batch, "tent")
        rate = self.learning_rate * self.stream_batch / PUBLISHED_BATCH
        kind = self.optimizer
        self._descent = Descent(
            base.predict, scale_and_shift(layers), lambda weights: optimizer_of(kind, weights, rate), self.steps
        )

    def reset(self) -> None:
        self._descent.reset()

    def predict(self, images: Tensor) -> Tensor:
        return self._descent.adapt(images)


class Descent:
    """The descent on the entropy of each batch.

    Args:
        forward: Returns the logits (N, K) of images.
        parameters: What is trained.
        make: Returns the optimiser of parameters.
        steps: Updates per batch.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        parameters: Sequence[nn.Parameter],
        make: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer],
        steps: int = 1,
    ) -> None:
        self.forward, self.parameters, self.make, self.steps = forward, parameters, make, steps
        self.first = [parameter.detach().clone() for parameter in parameters]
        self.reset()

    def reset(self) -> None:
        """Restore the parameters, and begin with a fresh optimiser."""
        restore(self.parameters, self.first)
        self.optimizer = self.make(self.parameters)

    def adapt(self, images: Tensor) -> Tensor:
        """Return the logits of a batch from before its last update."""
        for _ in range(self.steps):
            with torch.enable_grad():
                logits = self.forward(images)
                self.optimizer.zero_grad()
                entropy(logits).mean().backward()
            self.optimizer.step()
        return logits.detach()


def optimizer_of(kind: str, parameters: Sequence[nn.Parameter], rate: float) -> torch.optim.Optimizer:
    """Return the optimiser `adam` or `sgd` of parameters."""
    if kind == "adam":
        return torch.optim.Adam(parameters, rate)
    return torch.optim.SGD(parameters, rate, momentum=0.9, nesterov=True)
