"""Parity of the methods of 2022 to 2025 that learn from one source: MEK, MIRO, QCS."""

from __future__ import annotations

import math

import pytest
import torch
from test_golden import method_module
from torch import Tensor, nn
from torch.nn import functional

from golden import PRECISIONS, Golden


def constants(name: str, *wanted: str) -> list[float]:
    """Return constants of a file as they are stored, not rounded to the precision under test."""
    stored = Golden(name, torch.float64, compares=False)
    return [stored(key).item() for key in wanted]


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_mek_outputs_losses_and_gradients(dtype: torch.dtype) -> None:
    mek, golden = method_module("mek"), Golden("mek", dtype)
    smoothing, weight_of_consistency = constants("mek", "smoothing", "consistency_weight")
    names = ("tokens_1", "tokens_2", "norm_weight", "norm_bias", "fc_weight", "fc_bias")
    inputs = {name: golden(name, grad=True) for name in names}
    norm_weight, norm_bias, weight, bias = (inputs[name] for name in names[2:])
    labels, balance = golden("labels"), golden("balance_weight")
    size = golden.shape("map_1")[2:]

    def norm(tokens: Tensor) -> Tensor:
        return functional.layer_norm(tokens, norm_weight.shape, norm_weight, norm_bias)

    # Positions as a map and back again, which is what the method does with the map of its trunk.
    views = [mek.tokens_of(inputs[name].transpose(1, 2).unflatten(2, size), norm) for name in ("tokens_1", "tokens_2")]
    logits = [mek.token_logits(view, weight, bias) for view in views]
    maps = [mek.activation_maps(view, weight, size) for view in views]
    distances = mek.consistency(*maps, balance)
    shares = mek.smooth_labels(labels, balance, smoothing)
    label_loss = mek.soft_loss(logits[0], shares)
    total = label_loss + weight_of_consistency * distances.mean()

    for place in (1, 2):
        golden.check(f"logits_{place}", logits[place - 1])
        golden.check(f"map_{place}", maps[place - 1])
    golden.check("smooth_labels", shares)
    golden.check("loss_consistency_per_sample", distances)
    golden.check("loss_consistency", distances.mean())
    golden.check("loss_label", label_loss)
    golden.check("loss_total", total)
    for place, gradient in enumerate(torch.autograd.grad(distances.mean(), maps, retain_graph=True), 1):
        golden.check(f"grad_consistency_map_{place}", gradient)
    golden.check("grad_label_logits_1", torch.autograd.grad(label_loss, logits[0], retain_graph=True)[0])
    for name, gradient in zip(inputs, torch.autograd.grad(total, list(inputs.values())), strict=True):
        golden.check(f"grad_{name}", gradient)
    golden("smoothing"), golden("consistency_weight")


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_miro_losses_gradients_and_steps(dtype: torch.dtype) -> None:
    miro, golden = method_module("miro"), Golden("miro", dtype)
    start, epsilon, weight_of_terms, rate, factor, decay = constants(
        "miro", "var_init", "eps", "lambda_", "lr", "lr_mult", "weight_decay"
    )
    layers = len(golden.names("frozen"))
    trained = {name: golden(name) for name in (*(f"features{place}" for place in range(layers)), "pooled")}
    trained |= {name: golden(name) for name in ("fc_weight", "fc_bias")}
    weights = {name: nn.Parameter(value) for name, value in trained.items()}
    features, frozen = [weights[f"features{n}"] for n in range(layers)], [golden(f"frozen{n}") for n in range(layers)]
    encoders = nn.ModuleList()
    for place, layer in enumerate(features):
        encoder = miro.VarianceEncoder(layer.dim(), miro.channels(layer), start, epsilon)
        if dtype == torch.float64:  # drawn again: the method's own is float32
            encoder = encoder.double()
            encoder.bias.data.fill_(math.log(math.expm1(start - epsilon)))
        golden.check(f"var_bias_init{place}", encoder.bias)
        golden.check(f"variance_init{place}", encoder())
        encoders.append(encoder)

    method = miro.Miro(learning_rate=rate, bias_rate=factor, weight_decay=decay, regularisation=weight_of_terms)
    method.model = {"network": nn.ParameterDict(weights), "head": nn.Module(), "variances": encoders}
    optimizer = torch.optim.Adam(method.parameter_groups(), lr=rate, weight_decay=decay)
    inputs = {**weights, **{f"var_bias{place}": encoder.bias for place, encoder in enumerate(encoders)}}
    for step in range(sum(name.startswith("loss_total") and name.endswith("_f64") for name in golden.names(""))):
        logits = functional.linear(weights["pooled"], weights["fc_weight"], weights["fc_bias"])
        classification = functional.cross_entropy(logits, golden("labels"))
        terms = miro.regularisers(features, frozen, [encoder() for encoder in encoders])
        total = classification + weight_of_terms * terms.sum()
        golden.check(f"logits{step}", logits)
        golden.check(f"loss_ce{step}", classification)
        golden.check(f"loss_reg_terms{step}", terms)
        golden.check(f"loss_reg{step}", terms.sum())
        golden.check(f"loss_total{step}", total)
        optimizer.zero_grad()
        total.backward()
        for name, value in inputs.items():
            assert value.grad is not None
            golden.check(f"grad{step}_{name}", value.grad)
        optimizer.step()
        for name, value in inputs.items():
            if f"after{step}_{name}_f64" in golden.names(""):
                golden.check(f"after{step}_{name}", value)
    for name in ("var_init", "eps", "lambda_", "lr", "lr_mult", "weight_decay"):
        golden(name)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("form", ["dcs", "qcs"])
def test_golden_qcs_maps_outputs_and_gradients(dtype: torch.dtype, form: str) -> None:
    qcs, golden = method_module("qcs"), Golden("qcs", dtype, but=["qcs_*" if form == "dcs" else "dcs_*"])
    branches = ["anchor", "positive", "negative", "negative2"][: 2 if form == "dcs" else 4]
    tokens = {branch: golden(f"tokens_{branch}", grad=True) for branch in branches}
    block = qcs.CrossSimilarity(golden("param.norm1.weight").numel()).to(dtype)
    block.load_state_dict({name: golden(f"param.{name}") for name in block.state_dict()})
    found = dict(zip(branches, block(list(tokens.values())), strict=True))
    for branch, (weights, output) in found.items():
        golden.check(f"{form}_map_{branch}", weights)
        golden.check(f"{form}_output_{branch}", output)
    total = sum((output * golden(f"cotangent_{branch}")).sum() for branch, (_, output) in found.items())
    inputs = {f"tokens_{branch}": value for branch, value in tokens.items()}
    inputs |= {f"param.{name}": value for name, value in block.named_parameters() if form == "qcs" or name != "theta"}
    for name, gradient in zip(inputs, torch.autograd.grad(total, list(inputs.values())), strict=True):
        golden.check(f"{form}_grad_{name}", gradient)
    if form == "qcs":
        golden.check("qcs_k", torch.tanh(block.theta))
    else:
        for branch in ("negative", "negative2"):
            golden(f"tokens_{branch}"), golden(f"cotangent_{branch}")
