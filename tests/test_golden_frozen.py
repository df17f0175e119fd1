"""Parity with the reference implementations: methods on frozen features, and those with a text tower."""

from __future__ import annotations

import pytest
import torch
from test_golden import method_module
from torch.nn import functional

from golden import PRECISIONS, Golden


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_tip_adapter_keys_search_and_logits(dtype: torch.dtype) -> None:
    tip, golden = method_module("tip_adapter"), Golden("tip_adapter", dtype)
    classes, labels = golden("clip_weights").T, golden("key_labels")
    rounds = [f"raw_key_features_aug{n}" for n in range(sum("_aug" in name for name in golden.names("")))]
    keys = tip.cache_keys(torch.stack([golden(name) for name in rounds]))
    values = functional.one_hot(labels, len(classes)).to(dtype)
    scale, steps = tuple(golden("search_scale").tolist()), tuple(golden("search_step").tolist())
    found = tip.search(golden("val_features"), golden("val_labels"), classes, keys, values, scale, steps)
    test = golden("test_features")

    golden.check("cache_keys", keys.T)
    golden.check("best_alpha_beta", torch.tensor(found, dtype=torch.float64), 1e-9)
    golden.check("test_clip_logits", tip.text_logits(test, classes))
    golden.check("test_logits", tip.tip_logits(test, classes, keys, values, *found))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_flyp_loss_and_gradients(dtype: torch.dtype) -> None:
    flyp, golden = method_module("flyp"), Golden("flyp", dtype)
    inputs = {name: golden(name, grad=True) for name in ("image_features", "text_features", "logit_scale")}
    loss = flyp.contrastive_loss(*inputs.values())
    golden.check("loss", loss)
    for name, gradient in zip(inputs, torch.autograd.grad(loss, list(inputs.values())), strict=True):
        golden.check(f"grad_{name}", gradient)
