"""Parity with the reference implementations: methods that adapt to test images."""

from __future__ import annotations

import pytest
import torch
from test_golden import method_module

from golden import PRECISIONS, Golden


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_t3a_supports_and_scores(dtype: torch.dtype) -> None:
    t3a, golden = method_module("t3a"), Golden("t3a", dtype)
    weight, bias = golden("classifier_weight"), golden("classifier_bias")
    batches = [golden(f"features{t}") for t in range(sum(name.isdigit() for name in golden.names("features")))]
    first = t3a.first_supports(weight, bias)
    golden.exact("warmup_labels", first.labels)
    golden.check("warmup_entropy", first.entropy)
    for t, features in enumerate(batches):
        labelled = t3a.labelled(features, weight, bias)
        golden.exact(f"pseudo_labels{t}", labelled.labels)
        golden.check(f"entropy{t}", labelled.entropy)
    for case, most in enumerate(golden("filter_K").tolist()):
        supports, place = first, f"case{case}_"
        for t, features in enumerate(batches):
            supports = t3a.filtered(t3a.added(supports, features, weight, bias), most, len(bias))
            golden.check(f"{place}supports{t}", supports.features)
            golden.exact(f"{place}support_labels{t}", supports.labels)
            golden.check(f"{place}support_entropy{t}", supports.entropy)
            golden.check(f"{place}logits{t}", t3a.scores(features, supports, len(bias)))
        supports = t3a.filtered(supports, most, len(bias))
        golden.check(f"{place}logits_no_adapt", t3a.scores(batches[0], supports, len(bias)))
        again = t3a.filtered(t3a.added(first, batches[1], weight, bias), most, len(bias))
        golden.check(f"{place}logits_after_reset", t3a.scores(batches[1], again, len(bias)))
