"""Parity of the methods that treat domains apart. The functions tested are those the methods train with."""

from __future__ import annotations

import itertools

import pytest
import torch
from test_golden import method_module
from torch import Tensor
from torch.nn import functional

from fergen_bench.training.adversary import discriminates, network_terms
from fergen_bench.training.trunk import mean_over_pairs
from golden import PRECISIONS, Golden


class Domains:
    """The domains of a golden file: features, labels and logits of each, and the tensors that need gradients."""

    def __init__(self, golden: Golden) -> None:
        self.golden = golden
        numbers = itertools.count()
        places = list(itertools.takewhile(lambda place: golden.holds(f"features_env{place}"), numbers))
        self.inputs = {f"features_env{place}": golden(f"features_env{place}", grad=True) for place in places}
        self.features = list(self.inputs.values())
        self.labels = [golden(f"labels_env{place}") for place in places]
        self.inputs |= {"cls_weight": golden("cls_weight", grad=True), "cls_bias": golden("cls_bias", grad=True)}
        weight, bias = self.inputs["cls_weight"], self.inputs["cls_bias"]
        self.logits = [functional.linear(features, weight, bias) for features in self.features]

    def check_gradients(self, loss: Tensor, limit: float | None, prefix: str = "grad_") -> None:
        gradients = torch.autograd.grad(loss, list(self.inputs.values()), retain_graph=True)
        for name, gradient in zip(self.inputs, gradients, strict=True):
            self.golden.check(f"{prefix}{name}", gradient, limit)


def limit_in(dtype: torch.dtype, single: float | None, double: float | None = None) -> float | None:
    return single if dtype == torch.float32 else double


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize(("name", "single"), [("coral", None), ("mmd", 2e-3)])
def test_golden_penalties_on_pairs_of_domains(name: str, single: float | None, dtype: torch.dtype) -> None:
    module, golden = method_module(name), Golden(name, dtype)
    domains, limit = Domains(golden), limit_in(dtype, single)
    kind, pair = (module.Coral, module.coral_penalty) if name == "coral" else (module.Mmd, module.mmd_penalty)
    for first, second in itertools.combinations(range(len(domains.features)), 2):
        penalty = pair(domains.features[first], domains.features[second])
        golden.check(f"penalty_pair_{first}_{second}", penalty, limit)
    golden.check("penalty", mean_over_pairs(domains.features, pair), limit)
    method = kind(penalty=golden("penalty_weight").item())
    terms = method.terms(domains.features, domains.logits, domains.labels)
    golden.check("loss_ce", terms["classification"], limit)
    total = sum(terms.values())
    golden.check("loss_total", total, limit)
    domains.check_gradients(total, limit)
    assert mean_over_pairs(domains.features[:1], pair) == 0


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_irm(dtype: torch.dtype) -> None:
    irm, golden = method_module("irm"), Golden("irm", dtype)
    domains, limit = Domains(golden), limit_in(dtype, 1e-4)
    penalties = [irm.irm_penalty(z, z, y) for z, y in zip(domains.logits, domains.labels, strict=True)]
    for place, penalty in enumerate(penalties):
        golden.check(f"penalty_env{place}", penalty, limit)
    method = irm.Irm(penalty=golden("penalty_weight").item())
    before, after = (
        method.terms(domains.logits, domains.labels, method.weight(step)) for step in (method.anneal - 1, method.anneal)
    )
    golden.check("penalty", after["penalty"] / method.penalty, limit)
    golden.check("loss_ce", after["classification"], limit)
    golden.check("loss_total_before_anneal", sum(before.values()), limit)
    golden.check("loss_total", sum(after.values()), limit)
    domains.check_gradients(sum(after.values()), limit)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_vrex(dtype: torch.dtype) -> None:
    vrex, golden = method_module("vrex"), Golden("vrex", dtype)
    domains = Domains(golden)
    losses = vrex.domain_losses(domains.logits, domains.labels)
    golden.check("losses_per_env", losses)
    golden.check("penalty", vrex.variance(losses))
    method = vrex.Vrex(penalty=golden("penalty_weight").item())
    total = sum(method.terms(losses, method.anneal).values())
    golden.check("loss_total", total)
    domains.check_gradients(total, None)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_groupdro(dtype: torch.dtype) -> None:
    groupdro, golden = method_module("groupdro"), Golden("groupdro", dtype)
    domains = Domains(golden)
    losses = groupdro.domain_losses(domains.logits, domains.labels)
    golden.check("losses_per_env", losses)
    weights = groupdro.updated_weights(golden("q_before"), losses, golden("eta").item())
    golden.check("q_after", weights)
    total = groupdro.weighted_loss(weights, losses)
    golden.check("loss_total", total)
    domains.check_gradients(total, None)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("name", ["dann", "cdann"])
def test_golden_adversaries(name: str, dtype: torch.dtype) -> None:
    module, golden = method_module(name), Golden(name, dtype)
    domains, limit = Domains(golden), limit_in(dtype, 1e-4, 1e-6 if name == "cdann" else None)
    numbers = itertools.takewhile(lambda place: golden.holds(f"disc.linear{place}.weight"), itertools.count(1))
    adversary = {
        f"linear{place}.{part}": golden(f"disc.linear{place}.{part}", grad=True)
        for place in numbers
        for part in ("weight", "bias")
    }
    values = list(adversary.values())
    layers = list(zip(values[::2], values[1::2], strict=True))
    features, labels = torch.cat(domains.features), torch.cat(domains.labels)
    counts = torch.tensor([len(part) for part in domains.labels])
    index = torch.arange(len(counts)).repeat_interleave(counts)
    weight = golden("grad_penalty_weight").item()

    hidden, asked = features, ()
    if name == "cdann":
        embedding = golden("class_embedding", grad=True)
        adversary["class_embedding"] = embedding
        hidden, asked = module.conditioned(features, labels, embedding), (labels,)
    golden.check("disc_logits", module.discriminate(hidden, layers), limit)
    golden.check("grad_penalty", module.discriminator_loss(hidden, *asked, index, layers, 1.0)["penalty"], limit)
    loss = module.discriminator_loss(hidden, *asked, index, layers, weight)
    golden.check("loss_disc", loss["domain"], limit)
    golden.check("loss_disc_with_penalty", loss["total"], limit)
    golden.check("loss_disc_step", loss["total"], limit)
    gradients = torch.autograd.grad(loss["total"], list(adversary.values()), retain_graph=True)
    for key, gradient in zip(adversary, gradients, strict=True):
        golden.check(f"disc_step_grad.{key}", gradient, limit)

    terms = network_terms(torch.cat(domains.logits), labels, loss["total"], golden("lambda_adv").item())
    golden.check("loss_ce", terms["classification"], limit)
    golden.check("loss_gen", sum(terms.values()), limit)
    domains.check_gradients(sum(terms.values()), limit, "gen_step_grad_")


def test_golden_adversaries_take_turns_and_the_network_is_first() -> None:
    assert [discriminates(step, 1) for step in range(4)] == [False, True, False, True]
    assert sum(discriminates(step, 3) for step in range(40)) == 30
