"""Parity of the FER methods with their reference implementations: SCN, RUL, EAC, DAN, Latent-OFER."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_golden import method_module
from torch import Tensor, nn
from torch.nn import functional

from golden import PRECISIONS, Golden

CONVOLVED = {torch.float64: 1e-9, torch.float32: 1e-4}
"""Limits of DAN and Latent-OFER."""
FLIPPED = {torch.float64: 1e-6, torch.float32: 2e-5}
"""Limits where EAC's reference mirrors maps on a float32 grid."""


def gradients(
    golden: Golden, loss: Tensor, inputs: dict[str, Tensor], name: str = "grad_{}", limit: Any = None
) -> None:
    """Compares the derivative of a loss with respect to each input."""
    found = torch.autograd.grad(loss, list(inputs.values()), retain_graph=True)
    for key, gradient in zip(inputs, found, strict=True):
        golden.check(name.format(key), gradient, limit)


def filled(module: nn.Module, golden: Golden, prefix: str = "") -> nn.Module:
    """A module with the stored parameters and running statistics, in the precision under test."""
    state = {name: golden(prefix + name) for name in module.state_dict() if not name.endswith("num_batches_tracked")}
    module.to(golden.dtype).load_state_dict(state, strict=False)
    return module


# ------------------------------------------------------------------------------------------------------------------ SCN


def scn_on(scn: Any, outputs: tuple[Tensor, Tensor], samples: int, **fields: Any) -> Any:
    """The method whose network gives these outputs, before a sample was relabelled."""
    method = scn.Scn(**fields)
    method._weighted = lambda images: outputs
    method.corrected = torch.full((samples,), scn.UNCHANGED)
    return method


def batch_of(labels: Tensor, index: Tensor) -> Any:
    """A batch of the first epoch without images."""
    return SimpleNamespace(images=None, labels=labels, index=index, epoch=0)


LOSSES = ("attention_*", "logits_*", "*_indices", "*_mean_*", "loss_*", "rank_*", "grad_*", "beta")
RELABELLING = ("p_max*", "p_target*", "*predicted_labels", "relabel_*", "dataset_labels_*", "sample_indexes")


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_scn_outputs_losses_and_gradients(dtype: torch.dtype) -> None:
    scn, golden = method_module("scn"), Golden("scn", dtype, but=RELABELLING)
    inputs = {
        name: golden(name, grad=True) for name in ("features", "alpha_weight", "alpha_bias", "fc_weight", "fc_bias")
    }
    labels, share = golden("labels"), float(Golden("scn", torch.float64, compares=False)("beta"))
    attention, logits = scn.weighted_logits(*inputs.values())
    golden.check("attention", attention)
    golden.check("logits_weighted", logits)
    high, low = scn.rank_groups(attention, share)
    for name, group in (("top_indices", high), ("down_indices", low)):
        assert sorted(group.tolist()) == sorted(golden(name).tolist())
    golden.check("high_mean", attention[high].mean())
    golden.check("low_mean", attention[low].mean())
    for place, margin in enumerate(Golden("scn", torch.float64, compares=False)("rank_margin").tolist()):
        method = scn_on(scn, (attention, logits), len(labels), high_share=share, rank_margin=margin)
        terms = method.loss(batch_of(labels, torch.arange(len(labels))))
        golden.check("loss_ce", terms["classification"])
        golden.check(f"rank_diff_m{place}", scn.rank_difference(attention, share, margin))
        golden.check(f"loss_rank_m{place}", terms["rank"])
        golden.check(f"loss_total_m{place}", sum(terms.values()))
        gradients(golden, sum(terms.values()), inputs, f"grad_{{}}_m{place}")


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_scn_relabelling(dtype: torch.dtype) -> None:
    scn, golden = method_module("scn"), Golden("scn", dtype, but=LOSSES)
    names = ("features", "alpha_weight", "alpha_bias", "fc_weight", "fc_bias")
    attention, logits = scn.weighted_logits(*(golden(name) for name in names))
    labels, places = golden("labels"), golden("sample_indexes")
    margin = float(Golden("scn", torch.float64, compares=False)("relabel_margin"))
    flag, predicted = scn.relabelling(logits, labels, margin)
    golden.check("p_max", torch.softmax(logits, 1).amax(1))
    golden.check("p_target", scn.label_probability(logits, labels))
    golden.exact("predicted_labels", predicted)
    golden.exact("relabel_flag", flag.to(torch.uint8))
    before = golden("dataset_labels_before")
    method = scn_on(scn, (attention, logits), len(before), relabel_margin=margin, relabel_from=1)
    method.loss(batch_of(labels, places))
    golden.exact("dataset_labels_after", torch.where(method.corrected == scn.UNCHANGED, before, method.corrected))


# ------------------------------------------------------------------------------------------------------------------ RUL


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_rul_outputs_loss_gradients_and_running_statistics(dtype: torch.dtype) -> None:
    rul, golden = method_module("rul"), Golden("rul", dtype)
    features = golden("features", grad=True)
    weight, bias = golden("fc_weight", grad=True), golden("fc_bias", grad=True)
    labels, partner = golden("labels"), golden("mix_index")
    branches = {}
    for name in ("mu", "log_var"):
        branch = rul.Branch(tuple(features.shape[1:]), weight.shape[1], dropout=0.4).to(dtype)
        state = {
            key: golden(f"{name}_{key.replace('.', '_')}")
            for key in branch.state_dict()
            if not key.endswith("num_batches_tracked")
        }
        branch.load_state_dict(state, strict=False)
        branches[name] = branch.train()
    # Before the training pass moves the running statistics.
    branches["mu"].eval()
    golden.check("eval_logits", functional.linear(branches["mu"](features), weight, bias))
    branches["mu"].train()

    mu, log_var = (branches[name](features, golden(f"dropout_keep_{name}")) for name in ("mu", "log_var"))
    uncertain = rul.uncertainty(log_var)
    own, other = rul.mixing_weights(uncertain, partner)
    mixed = rul.mixture(mu, uncertain, partner)
    logits = functional.linear(mixed, weight, bias)
    loss = rul.pair_loss(logits, labels, partner)
    results = {
        "mu": mu,
        "log_var": log_var,
        "uncertainty": uncertain,
        "mix_weight_self": own,
        "mix_weight_other": other,
        "mixed": mixed,
        "logits": logits,
        "loss": loss,
    }
    for name, result in results.items():
        golden.check(name, result)
    inputs = {"features": features, "fc_weight": weight, "fc_bias": bias}
    for name, branch in branches.items():
        inputs |= {
            f"{name}_{key.replace('.', '_')}": value
            for key, value in branch.named_parameters()
            if key != "linear.bias"  # the batch norm behind it takes every shift out again
        }
    gradients(golden, loss, inputs)
    for name, branch in branches.items():
        for layer in ("bn1d", "bn2d"):
            for statistic in ("running_mean", "running_var"):
                golden.check(f"{name}_{layer}_{statistic}_after", getattr(getattr(branch, layer), statistic))


# ------------------------------------------------------------------------------------------------------------------ EAC


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_eac_outputs_losses_and_gradients(dtype: torch.dtype) -> None:
    eac, golden = method_module("eac"), Golden("eac", dtype, but=("map_*",))
    maps, second = golden("features_1", grad=True), golden("features_2", grad=True)
    weight, bias, labels = golden("fc_weight", grad=True), golden("fc_bias", grad=True), golden("labels")
    limit = FLIPPED[dtype]
    cam, cam_second = eac.activation_maps(maps, weight), eac.activation_maps(second, weight)
    golden.check("cam_1", cam, limit)
    golden.check("cam_2", cam_second, limit)
    for place, view in ((1, maps), (2, second)):
        golden.check(f"logits_{place}", eac.map_logits(view, weight, bias))
    golden.check("loss_ac", eac.consistency_loss(cam, cam_second), limit)
    terms = eac.Eac().terms(maps, second, weight, bias, labels)
    golden.check("loss_ce", terms["classification"], limit)
    total = sum(terms.values())
    golden.check("loss_total", total, limit)
    inputs = {"fc_weight": weight, "fc_bias": bias, "features_1": maps, "features_2": second}
    gradients(golden, total, inputs, limit=limit)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_eac_consistency_of_stored_maps(dtype: torch.dtype) -> None:
    eac, golden = method_module("eac"), Golden("eac", dtype, but=("[!m]*",))
    first, second = golden("map_1", grad=True), golden("map_2", grad=True)
    loss = eac.consistency_loss(first, second)
    golden.check("map_loss_ac", loss, FLIPPED[dtype])
    gradients(golden, loss, {"1": first, "2": second}, "map_grad_{}", FLIPPED[dtype])


# ------------------------------------------------------------------------------------------------------------------ DAN


def heads_in(golden: Golden) -> int:
    return len({name.split(".")[0] for name in golden.names("param.head")})


def head_widths(golden: Golden) -> tuple[int, int]:
    return len(golden("param.head0.spatial.conv_1x1.weight")), len(golden("param.head0.channel.linear_reduce.weight"))


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_dan_outputs_losses_and_gradients(dtype: torch.dtype) -> None:
    dan, golden = method_module("dan"), Golden("dan", dtype)
    features, centres = golden("features", grad=True), golden("centers", grad=True)
    labels, limit = golden("labels"), CONVOLVED[dtype]
    classes = len(golden("param.out_bn.weight"))
    attention = dan.CrossAttention(features.shape[1], heads_in(golden), *head_widths(golden), classes)
    filled(attention, golden, "param.").eval()
    golden.check("eval_logits", attention(features)[0], limit)
    attention.train()
    golden.check("heads_raw", attention.raw_heads(features), limit)
    logits, heads = filled(attention, golden, "param.")(features)
    golden.check("logits", logits, limit)
    golden.check("heads", heads, limit)
    terms = dan.Dan().terms(features, logits, heads, centres, labels)
    for name, term in (("ce", "classification"), ("affinity", "affinity"), ("partition", "partition")):
        golden.check(f"loss_{name}", terms[term], limit)
    total = sum(terms.values())
    golden.check("loss_total", total, limit)
    weights = dict(attention.named_parameters())
    asked = ("head0.channel.linear_reduce.weight", "head0.spatial.conv_1x1.weight", "out_linear.weight")
    inputs = {"features": features, "centers": centres, **{name.replace(".", "_"): weights[name] for name in asked}}
    gradients(golden, total, inputs, limit=limit)


# ---------------------------------------------------------------------------------------------------------- Latent-OFER


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_latent_ofer_classifier(dtype: torch.dtype) -> None:
    ofer, golden = method_module("latent_ofer"), Golden("latent_ofer", dtype)
    features, labels, limit = golden("features", grad=True), golden("labels"), CONVOLVED[dtype]
    latent = ofer.select_tokens(golden("latent_tokens"), golden("token_indices"))
    golden.check("latent_selected", latent, limit)
    latent_widths = [len(golden(f"param.latent_linear{place}.weight")) for place in (1, 2, 3, 4)]
    joint_widths = [len(golden(f"param.fuse_linear{place}.weight")) for place in (1, 2)]
    classes = len(golden("param.out_bn.weight"))
    classifier = ofer.Classifier(
        features.shape[1], latent.shape[1], heads_in(golden), head_widths(golden), latent_widths, joint_widths, classes
    )
    filled(classifier, golden, "param.").eval()
    golden.check("eval_logits", classifier(features, latent), limit)
    classifier.train()
    golden.check("heads_summed", classifier.heads_summed(features), limit)
    logits = filled(classifier, golden, "param.")(features, latent)
    golden.check("logits", logits, limit)
    loss = functional.cross_entropy(logits, labels)
    golden.check("loss", loss, limit)
    weights = dict(classifier.named_parameters())
    asked = ("fuse_linear1.weight", "head0.spatial.conv_1x1.weight")
    gradients(golden, loss, {"features": features, **{n.replace(".", "_"): weights[n] for n in asked}}, limit=limit)
