"""The means of loss terms over an epoch. tests/training/test_loop.py has the training itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from fergen_bench.error import RunError
from fergen_bench.training.fitting import Terms

METHOD: Any = SimpleNamespace(learning_rate=0.5)


def test_means_are_sums_in_the_order_of_the_steps_over_their_number() -> None:
    terms = Terms()
    losses = [16777216.0, 1.0, 1.0, -16777216.0]  # float32 adds 1 to the first in vain
    for step, loss in enumerate(losses):
        terms.add({"loss": torch.tensor(loss, requires_grad=True), "part": torch.tensor(float(step))})
    assert terms.means(METHOD, 0, 4) == {"loss": 0.0, "part": 1.5}


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_the_first_step_without_a_finite_loss_is_named(loss: float) -> None:
    terms = Terms()
    for value in (1.0, loss, 2.0):
        terms.add({"loss": torch.tensor(value)})
    message = rf"the loss of SimpleNamespace was {loss} at step 8 \(epoch 3\); lower learning_rate \(it is 0.5\)"
    with pytest.raises(RunError, match=message):
        terms.means(METHOD, 2, 3)
