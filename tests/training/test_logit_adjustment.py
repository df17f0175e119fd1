"""Test the correction for class frequencies, in the loss and after training."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_golden import method_module

from conftest import ROOT
from fergen_bench import BenchError, Context, Source
from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.experiment.method_file import MethodFile, read_method
from fergen_bench.training.load import load_method
from fergen_bench.training.logit_adjustment import corrected_logits, prior_offset

ADJUSTED = [
    file
    for file in (read_method(path) for path in sorted((ROOT / "methods").glob("*.py")))
    if any(parameter.name == "logit_adjustment" for parameter in file.parameters)
    and "file" not in file.needs  # see its own tests
    and not file.adapts(file.defaults("small"))  # a run without a target's images refuses it
]


def test_an_offset_is_the_logarithm_of_the_frequency_to_a_power() -> None:
    counts = torch.tensor([1, 3, 0])
    found = prior_offset(counts, 1.0)
    assert found[:2].tolist() == pytest.approx([math.log(0.25), math.log(0.75)])
    assert found[2].item() == pytest.approx(math.log(1e-12))
    assert prior_offset(counts, 0.5)[0].item() == pytest.approx(0.5 * math.log(0.25))
    assert prior_offset(counts, 0.0).abs().max() < 1e-11
    logits = torch.tensor([[0.0, 1.0, -40.0]])
    assert corrected_logits(logits, counts, 1.0).argmax(1).tolist() == [0]
    assert corrected_logits(logits, counts, 1.0).dtype == torch.float32


@pytest.mark.parametrize("file", ADJUSTED, ids=lambda file: file.name)
def test_every_method_with_the_parameter_uses_it(file: MethodFile, web: Domain, film: Domain, tmp_path: Path) -> None:
    networks = {"backbone": "synth", "trunk": "synth-trunk"}
    values = {**file.defaults("small"), "epochs": 1, "batch_size": 8}
    values |= {name: network for name, network in networks.items() if name in values}
    losses = []
    for tau in (0.0, 5.0):
        torch.manual_seed(0)
        ctx = Context("test", 0, "last", torch.device("cpu"), tmp_path, lambda what, done, total: None)
        method = load_method(file.path, file.class_name, {**values, "logit_adjustment": tau})
        method.fit(open_source([web, film], 0, 0.05), ctx)
        losses.append(ctx.history[0]["loss"])
    assert abs(losses[1] - losses[0]) > 1e-3


def test_the_offset_is_that_of_the_split_and_scores_have_none(source: Source, ctx: Context) -> None:
    (file,) = (file for file in ADJUSTED if file.name == "full_finetune")
    method = load_method(
        file.path, file.class_name, {**file.defaults("small"), "backbone": "synth", "logit_adjustment": 1.0}
    )
    method.model = method.build(ctx).eval()
    faces = source.val.faces()
    plain = method.predict(faces)
    method.inputs(source.fit, ctx)
    assert torch.equal(method.predict(faces), plain)
    expected = plain + prior_offset(torch.from_numpy(source.fit.counts), 1.0).float()
    torch.testing.assert_close(method.adjusted(plain), expected)


def test_a_method_with_equal_batches_corrects_for_the_mean_of_the_sources(
    web: Domain, film: Domain, ctx: Context
) -> None:
    train = open_source([web, film], 0).train
    train = train.subset(np.flatnonzero((train.domain_index == 0) | (train.labels < 3)))
    shares = [np.bincount(train.labels[train.domain_index == place], minlength=7) for place in (0, 1)]
    mean = torch.from_numpy(np.mean([share / share.sum() for share in shares], 0))
    found = {}
    for name, changes in (("coral", {}), ("coral", {"pseudo_domains": 2}), ("sd", {})):
        (file,) = (file for file in ADJUSTED if file.name == name)
        values = {**file.defaults("small"), "trunk": "synth-trunk", "logit_adjustment": 1.0, **changes}
        method = load_method(file.path, file.class_name, values)
        method.inputs(train, ctx)
        found[name, *changes] = method.adjusted(torch.zeros(1, 7))[0]
    pooled = prior_offset(torch.from_numpy(train.counts), 1.0).float()
    torch.testing.assert_close(found["coral",], mean.log().float(), atol=1e-5, rtol=0)
    assert (pooled - mean.log()).abs().max() > 0.05
    assert torch.equal(found["coral", "pseudo_domains"], pooled)
    assert torch.equal(found["sd",], pooled)


def test_irm_scales_the_logits_without_their_offset() -> None:
    irm, generator = method_module("irm"), torch.Generator().manual_seed(0)
    logits, labels = torch.randn(6, 7, generator=generator).double(), torch.tensor([0, 1, 2, 3, 4, 4])
    offset, scale = torch.linspace(-3, 0, 7).double(), torch.ones((), dtype=torch.float64, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(scale * logits + offset, labels)
    (expected,) = torch.autograd.grad(loss, scale)
    torch.testing.assert_close(irm.scale_gradient(logits, logits + offset, labels), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logit_adjustment": -1.0}, r"logit_adjustment is -1; it must be 0 \(none\) or more"),
        ({"logit_adjustment": 1.0, "sampling": "balanced"}, r"which sampling=balanced has removed already; set one"),
    ],
)
def test_a_correction_that_makes_no_sense_is_refused(
    changes: dict[str, object], message: str, source: Source, ctx: Context
) -> None:
    (file,) = (file for file in ADJUSTED if file.name == "sd")
    method = load_method(file.path, file.class_name, {**file.defaults("small"), "trunk": "synth-trunk", **changes})
    with pytest.raises(BenchError, match=message):
        method.fit(source, ctx)
