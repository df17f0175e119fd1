"""Parity of fine-tuning and of the single-source regularisers with their reference implementations."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
import torch
from test_golden import method_module
from torch import Tensor
from torch.nn import functional

from fergen_bench.training.sharpness import ascent
from golden import PRECISIONS, Golden


def environments(golden: Golden) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """Features and labels of each domain, weight and bias of the head."""
    count = next(n for n in itertools.count() if not golden.holds(f"features_env{n}"))
    features = [golden(f"features_env{e}", grad=True) for e in range(count)]
    labels = [golden(f"labels_env{e}") for e in range(count)]
    return features, labels, golden("cls_weight", grad=True), golden("cls_bias", grad=True)


def check_gradients(golden: Golden, loss: Tensor, features: list[Tensor], weight: Tensor, bias: Tensor) -> None:
    names = [*(f"features_env{e}" for e in range(len(features))), "cls_weight", "cls_bias"]
    gradients = torch.autograd.grad(loss, [*features, weight, bias])
    for name, gradient in zip(names, gradients, strict=True):
        golden.check(f"grad_{name}", gradient)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_sd(dtype: torch.dtype) -> None:
    sd, golden = method_module("sd"), Golden("sd", dtype)
    features, labels, weight, bias = environments(golden)
    logits = functional.linear(torch.cat(features), weight, bias)
    terms = sd.SpectralDecoupling(penalty=float(golden("penalty_weight"))).terms(logits, torch.cat(labels))
    golden.check("logits", logits)
    golden.check("loss_ce", terms["classification"])
    golden.check("penalty", sd.logit_penalty(logits))
    golden.check("loss_total", sum(terms.values(), torch.zeros(())))
    check_gradients(golden, sum(terms.values(), torch.zeros(())), features, weight, bias)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_rsc(dtype: torch.dtype) -> None:
    rsc, golden = method_module("rsc"), Golden("rsc", dtype)
    features, labels, weight, bias = environments(golden)
    shares = (
        float(Golden("rsc", torch.float64, compares=False)(f"{what}_drop_factor")) for what in ("feature", "batch")
    )
    muting = rsc.mute(torch.cat(features), torch.cat(labels), weight, bias, *shares)
    loss = functional.cross_entropy(
        functional.linear(torch.cat(features) * muting.mask, weight, bias), torch.cat(labels)
    )
    golden.check("feature_grad", muting.gradient)
    golden.check("percentile_per_sample", muting.feature_percentile)
    golden.check("confidence_drop", muting.confidence_drop)
    golden.check("percentile_batch", muting.batch_percentile)
    golden.same("mask_feature", muting.keeps_feature)
    golden.same("mask_batch", muting.keeps_face)
    golden.same("mask", muting.mask)
    golden.check("loss_total", loss)
    check_gradients(golden, loss, features, weight, bias)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_mixup(dtype: torch.dtype) -> None:
    mixup, golden = method_module("mixup"), Golden("mixup", dtype)
    features, labels, weight, bias = environments(golden)
    order, shares = golden("domain_permutation").tolist(), golden("lambdas")
    pairs = list(zip(order, order[1:] + order[:1], strict=True))
    losses = [
        mixup.pair_loss(
            lambda x: functional.linear(x, weight, bias), features[a], labels[a], features[b], labels[b], share
        )
        for (a, b), share in zip(pairs, shares, strict=True)
    ]
    loss = torch.stack(losses).mean()
    golden.check("loss_total", loss)
    check_gradients(golden, loss, features, weight, bias)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_sagnet(dtype: torch.dtype) -> None:
    sagnet, golden = method_module("sagnet"), Golden("sagnet", dtype)
    features, labels = golden("features", grad=True), golden("labels")
    style = sagnet.swapped_style(features, golden("alpha_style"), golden("swap_style"))
    content = sagnet.swapped_content(features, golden("swap_content"))
    golden.check("randomized_style", style)
    golden.check("randomized_content", content)
    maps = golden("features_map")
    golden.check(
        "randomized_style_map", sagnet.swapped_style(maps, golden("alpha_style_map"), golden("swap_style_map"))
    )
    golden.check("randomized_content_map", sagnet.swapped_content(maps, golden("swap_content_map")))

    style_logits = functional.linear(content, golden("style_cls_weight"), golden("style_cls_bias"))
    content_net = functional.cross_entropy(functional.linear(style, golden("cls_weight"), golden("cls_bias")), labels)
    style_net = functional.cross_entropy(style_logits, labels)
    golden.check("loss_content_net", content_net)
    golden.check("loss_style_net", style_net)
    golden.check("loss_adversarial", sagnet.adversarial_loss(style_logits, sagnet.SagNet().adversarial))
    golden.check("grad_features_style", torch.autograd.grad(content_net, features)[0])
    golden.check("grad_features_content", torch.autograd.grad(style_net, features)[0])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_mixstyle(dtype: torch.dtype) -> None:
    mixstyle, golden = method_module("mixstyle"), Golden("mixstyle", dtype)
    epsilon = float(Golden("mixstyle", torch.float64, compares=False)("eps"))
    x = golden("features", grad=True)
    mean, deviation = mixstyle.style(x, epsilon)
    golden.check("mean", mean[:, :, 0, 0])
    golden.check("std", deviation[:, :, 0, 0])
    for mode in ("random", "crossdomain"):
        mixed = mixstyle.mixed_style(x, golden(f"lambda_{mode}"), golden(f"permutation_{mode}"), epsilon)
        golden.check(f"output_{mode}", mixed)
        (gradient,) = torch.autograd.grad((mixed * golden("upstream_grad")).sum(), x)
        golden.check(f"grad_features_{mode}", gradient)


@pytest.mark.parametrize("form", ["plain", "adaptive"])
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_sam(dtype: torch.dtype, form: str) -> None:
    other = "adaptive" if form == "plain" else "plain"
    golden = Golden("sam", dtype, but=(f"{other}_*",))
    numbers = Golden("sam", torch.float64, compares=False)
    features, labels = golden("features"), golden("labels")
    weights = [golden("weight", grad=True), golden("bias", grad=True)]

    def loss(parameters: list[Tensor]) -> Tensor:
        return functional.cross_entropy(functional.linear(features, *parameters), labels)

    before = loss(weights)
    gradients = torch.autograd.grad(before, weights)
    offsets, norm = ascent([w.detach() for w in weights], gradients, float(numbers(f"{form}_rho")), form == "adaptive")
    worst = [(w + e).detach().requires_grad_() for w, e in zip(weights, offsets, strict=True)]
    above = loss(worst)
    above.backward()
    golden.check(f"{form}_loss", before)
    golden.check(f"{form}_grad_norm", norm)
    golden.check(f"{form}_weight_perturbed", worst[0])
    golden.check(f"{form}_bias_perturbed", worst[1])
    golden.check(f"{form}_loss_perturbed", above)
    golden.check(f"{form}_grad_weight_perturbed", worst[0].grad)
    rate, decay = float(numbers("lr")), float(numbers("weight_decay"))
    optimizer = torch.optim.SGD(weights, rate, momentum=float(numbers("momentum")), weight_decay=decay)
    for weight, moved in zip(weights, worst, strict=True):
        weight.grad = moved.grad
    optimizer.step()
    golden.check(f"{form}_weight_after", weights[0])
    golden.check(f"{form}_bias_after", weights[1])


def swad_cases() -> list[int]:
    golden = Golden("swad", torch.float64, compares=False)
    return list(itertools.takewhile(lambda case: golden.holds(f"case{case}_val_losses"), itertools.count()))


@pytest.mark.parametrize("case", swad_cases())
def test_golden_swad(case: int) -> None:
    others = tuple(f"case{other}_*" for other in swad_cases() if other != case)
    swad, golden = method_module("swad"), Golden("swad", torch.float64, but=others)
    interval, n_converge, n_tolerance = (
        int(golden(name)) for name in ("checkpoint_interval", "n_converge", "n_tolerance")
    )
    valley = swad.LossValley(n_converge, n_tolerance, float(golden("tolerance_ratio")))
    losses, segment = golden(f"case{case}_val_losses").tolist(), None
    for step, weights in enumerate(golden(f"case{case}_weights_per_step")):
        segment = swad.averaged(segment, [weights], step, step)
        if step % interval == 0:
            valley.add(dataclasses.replace(segment, loss=losses[step // interval]))
            segment = None
    found = valley.result()
    whole = {
        "converged": valley.converge_step >= 0,
        "converge_step": valley.converge_step,
        "early_stop_step": valley.early_stop_step,
        "start_step": found.start,
        "end_step": found.end,
        "n_averaged": found.count,
    }
    assert whole == {name: int(golden(f"case{case}_{name}")) for name in whole}
    assert valley.threshold == pytest.approx(float(golden(f"case{case}_threshold")), rel=1e-12, nan_ok=True)
    golden.check(f"case{case}_final_weight", found.weights[0])


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_wise_ft(dtype: torch.dtype) -> None:
    wise, golden = method_module("wise_ft"), Golden("wise_ft", dtype)
    numbers = Golden("wise_ft", torch.float64, compares=False)
    weight, bias = wise.zero_shot_head(golden("text_embeddings"), golden("log_logit_scale"))
    golden.check("head_weight", weight, 1e-6 if dtype == torch.float64 else None)  # the reference's is float32
    golden.check("head_bias", bias)
    logits = wise.head_logits(golden("image_features"), weight.to(dtype), bias.to(dtype), normalised=True)
    golden.check("logits", logits, 1e-6 if dtype == torch.float64 else None)

    models = [{name: golden(f"theta{place}.{name}") for name in golden.names(f"theta{place}.")} for place in range(2)]
    for place, alpha in enumerate(numbers("alphas").tolist()):
        mixture = wise.merged(*models, alpha)
        assert mixture.keys() == models[0].keys()
        for name, value in mixture.items():
            golden.check(f"merged{place}.{name}", value)

    steps, warm_up = int(golden("schedule_total_steps")), int(golden("schedule_warmup_steps"))
    rates = [wise.warmed_cosine(step, warm_up, steps) for step in range(steps)]
    golden.check("schedule_lr", float(numbers("schedule_base_lr")) * torch.tensor(rates, dtype=torch.float64))
    smoothed = wise.smoothed_loss(golden("smoothing_logits"), golden("smoothing_labels"), float(numbers("smoothing")))
    golden.check("loss_smoothed", smoothed)
