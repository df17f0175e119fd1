"""Parity of logit adjustment with its reference implementation."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from fergen_bench.training.logit_adjustment import corrected_logits, prior_offset
from golden import PRECISIONS, Golden


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_logit_adjustment_loss_and_correction(dtype: torch.dtype) -> None:
    golden = Golden("logit_adjustment", dtype)
    logits, labels, counts = golden("logits", grad=True), golden("labels"), golden("class_counts")
    torch.testing.assert_close((counts.double() / counts.sum()).to(dtype), golden("base_probs"))

    plain = functional.cross_entropy(logits, labels)
    golden.check("loss_plain", plain)
    golden.check("grad_plain_logits", torch.autograd.grad(plain, logits)[0])
    # In the file's own precision: rounded to float32, a power would not be the one that the reference took.
    for case, tau in enumerate(Golden("logit_adjustment", torch.float64, compares=False)("tau").tolist()):
        loss = functional.cross_entropy(logits + prior_offset(counts, tau).to(dtype), labels)
        golden.check(f"loss_adjusted{case}", loss)
        golden.check(f"grad_adjusted{case}_logits", torch.autograd.grad(loss, logits)[0])
        corrected = corrected_logits(logits, counts, tau)
        golden.check(f"posthoc_logits{case}", corrected)
        golden.exact(f"posthoc_predictions{case}", corrected.argmax(1))
    golden("tau")
