"""Test MEK, MIRO and QCS, beyond the exam of test_methods."""

from __future__ import annotations

import math
from typing import Any

import pytest
import timm
import torch
from test_golden import method_module
from torch import Tensor, nn

from fergen_bench import BenchError, Context, Source
from fergen_bench.training.augment import SampleDraws
from fergen_bench.training.graph import Batch


def built(name: str, ctx: Context, source: Source, **changes: Any) -> Any:
    """Return a method on the packaged trunk, ready for its first step."""
    module = method_module(name)
    (kind,) = (value for key, value in vars(module).items() if key.lower() == name)
    method = kind(trunk="synth-trunk", **{"batch_size": 8, **changes})
    torch.manual_seed(0)
    method.build_model(ctx)
    method.inputs(source.train, ctx)
    return method


def batch_of(source: Source, method: Any, count: int = 8) -> Batch:
    index = torch.arange(count)
    images, draws = source.train.faces(slice(0, count)), SampleDraws(index, "x")
    labels = torch.from_numpy(source.train.labels[:count])
    generator = torch.Generator().manual_seed(0)
    return Batch(method.augment(images, draws), labels, index, 0, 0, draws, generator, images)


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.named_buffers() if "running" in name}


# ------------------------------------------------------------------------------------------------------------------ mek


def test_mek_weights_are_those_of_the_source() -> None:
    mek = method_module("mek")
    rafdb = torch.tensor([1290, 281, 717, 4772, 1982, 705, 2524])
    torch.testing.assert_close(mek.balance_weights(rafdb), 12271 / (10 * rafdb.double()))
    assert mek.balance_weights(torch.tensor([0, 2, 2])).tolist() == [0.0, 0.2, 0.2]


def test_mek_labels_give_rare_expressions_more_and_absent_ones_nothing() -> None:
    mek = method_module("mek")
    shares = mek.smooth_labels(torch.tensor([0, 1]), torch.tensor([0.5, 3.0, 1.0, 0.0]), 0.3)
    torch.testing.assert_close(shares[0], torch.tensor([0.7, 0.225, 0.075, 0.0]))
    torch.testing.assert_close(shares.sum(1), torch.ones(2))
    assert mek.smooth_labels(torch.tensor([0]), torch.tensor([1.0, 0.0]), 0.3).isfinite().all()


def test_mek_compares_positions_that_show_the_same_part_of_a_face() -> None:
    mek = method_module("mek")
    maps = torch.randn(2, 6, 3, 4)
    head = torch.randn(7, 6, requires_grad=True)
    first, second = (mek.activation_maps(mek.tokens_of(m, nn.Identity()), head, (3, 4)) for m in (maps, maps.flip(3)))
    torch.testing.assert_close(first[1, 2, 0, 1], (maps[1, :, 0, 1] * head[2]).sum().detach())
    assert mek.consistency(first, second, torch.ones(7)).abs().max() < 1e-10
    assert not first.requires_grad
    assert mek.consistency(first, first, torch.ones(7)).min() > 0.1


def test_mek_refuses_a_label_that_is_smoothed_away(ctx: Context) -> None:
    with pytest.raises(BenchError, match="mek: smoothing is 1; it must be 0 or more, and less than 1"):
        method_module("mek").Mek(trunk="synth-trunk", smoothing=1.0).build(ctx)


# ----------------------------------------------------------------------------------------------------------------- miro


def test_miro_starts_at_the_pretrained_features_and_keeps_batch_norm(source: Source, ctx: Context) -> None:
    miro = built("miro", ctx, source, regularisation=0.5)
    miro.model.train()
    before, copy = statistics(miro.model), statistics(miro.pretrained)
    terms = miro.loss(batch_of(source, miro))
    # Folded batch norms of the frozen copy differ in the last digits.
    assert terms["regularisation"].item() == pytest.approx(0.5 * len(miro._names) * 0.5 * math.log(0.1), abs=1e-4)
    for now, then in ((statistics(miro.model), before), (statistics(miro.pretrained), copy)):
        assert all(torch.equal(now[name], then[name]) for name in then)
    assert not miro.pretrained.body._forward_hooks


def test_miro_trains_the_variances_ten_times_as_fast_and_pulls_features_back(source: Source, ctx: Context) -> None:
    miro = built("miro", ctx, source, learning_rate=1e-3)
    network, biases = miro.parameter_groups()
    assert biases["lr"] == pytest.approx(1e-2)
    assert len(biases["params"]) == len(miro._names)
    assert {id(weight) for group in (network, biases) for weight in group["params"]} == {
        id(weight) for weight in miro.model.parameters()
    }
    with torch.no_grad():
        miro.network.body.get_submodule(miro._names[-1])[0].weight.mul_(1.5)
    miro.loss(batch_of(source, miro))["regularisation"].backward()
    assert miro.network.body.get_submodule(miro._names[-1])[0].weight.grad.abs().max() > 0
    assert all(weight.grad is None for weight in miro.pretrained.parameters())


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("resnet18", ("maxpool", "layer1", "layer2", "layer3", "layer4")),
        ("vit_tiny_patch16_224", ("blocks.2", "blocks.5", "blocks.8", "blocks.11")),
        ("convnext_atto", ("stem", "stages.0", "stages.1", "stages.2", "stages.3")),
    ],
)
def test_miro_finds_stem_and_stages(model: str, expected: tuple[str, ...]) -> None:
    assert method_module("miro").chosen_layers(timm.create_model(model), (), model) == expected


def test_miro_variances_have_one_number_per_channel_of_maps_and_of_tokens() -> None:
    miro = method_module("miro")
    assert miro.VarianceEncoder(4, miro.channels(torch.zeros(2, 5, 3, 3)), 0.1).bias.shape == (1, 5, 1, 1)
    assert miro.VarianceEncoder(3, miro.channels(torch.zeros(2, 4, 6)), 0.1)().shape == (1, 1, 6)
    torch.testing.assert_close(miro.VarianceEncoder(2, 3, 0.1)(), torch.full((1, 3), 0.1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variance": 0.0}, "miro: variance is 0; it must be more than 1e-05"),
        (
            {"layers": ("stages", "end")},
            "miro: layers: synth-trunk does not have a module 'end'; its modules include st",
        ),
    ],
)
def test_miro_refuses_what_it_cannot_use(changes: dict[str, Any], message: str, ctx: Context) -> None:
    with pytest.raises(BenchError, match=message):
        method_module("miro").Miro(trunk="synth-trunk", **changes).build(ctx)
    with pytest.raises(BenchError, match=r"does not have stages named .* name the modules .* --set layers="):
        method_module("miro").chosen_layers(nn.Sequential(nn.Linear(2, 2)), (), "mine")


# ------------------------------------------------------------------------------------------------------------------ qcs


def test_qcs_partners_are_other_images_of_the_right_expressions() -> None:
    qcs, labels = method_module("qcs"), torch.tensor([3, 0, 3, 5, 0, 5, 3, 5, 5, 0])
    groups, rows = qcs.Groups.of(labels, "qcs"), torch.arange(10).repeat(300)
    positive, negative, second = groups.partners(rows, torch.Generator().manual_seed(0))
    assert (labels[positive] == labels[rows]).all()
    assert (positive != rows).all()
    assert (labels[negative] != labels[rows]).all()
    assert (labels[second] == labels[negative]).all()
    assert (second != negative).all()
    # Each of the seven images of other expressions equally often, and each of the two other images of its own.
    of_first = negative[rows == 0].bincount(minlength=10)
    assert of_first[labels == 3].sum() == 0
    assert of_first[labels != 3].min() > 300 / 7 * 0.6
    assert positive[rows == 0].bincount(minlength=10)[[2, 6]].min() > 300 / 2 * 0.8


def test_qcs_refuses_an_image_without_a_partner(source: Source, ctx: Context) -> None:
    qcs, whole = method_module("qcs"), torch.tensor([1, 1, 2, 2])
    for form in ("qcs", "dcs"):
        with pytest.raises(BenchError, match="qcs: the source has one image of disgust, which cannot be paired; use"):
            qcs.Groups.of(torch.tensor([1, 1, 2]), form)
        qcs.Groups.of(whole, form)
    with pytest.raises(BenchError, match="qcs: the source has one expression only; form=qcs needs a second one"):
        qcs.Groups.of(torch.tensor([1, 1]), "qcs")
    positive, *_ = qcs.Groups.of(torch.tensor([1, 1]), "dcs").partners(torch.tensor([0, 1]), torch.Generator())
    assert positive.tolist() == [1, 0]
    with pytest.raises(BenchError, match="qcs: width is 30 and heads 4; width must be a multiple of heads"):
        qcs.Qcs(trunk="synth-trunk", width=30, heads=4).build(ctx)


def test_qcs_maps_depend_on_the_batch_and_equal_tokens_have_a_finite_gradient() -> None:
    qcs, draws = method_module("qcs"), torch.Generator().manual_seed(0)
    block = qcs.CrossSimilarity(8)
    images = [torch.randn(6, 5, 8, generator=draws) * scale for scale in (1.0, 2.0, 1.0, 3.0)]
    whole, alone = block(images), block([tokens[:1] for tokens in images])
    for one, other in zip(whole, alone, strict=True):
        torch.testing.assert_close(one.map.sum(1), torch.ones(6))
        assert (one.map[:1] - other.map).abs().max() > 1e-5
    same = images[0].clone().requires_grad_()
    sum(branch.output.sum() for branch in block([same, same])).backward()
    assert same.grad is not None
    assert same.grad.isfinite().all()


def test_qcs_scores_without_the_block_and_dcs_without_negatives(source: Source, ctx: Context) -> None:
    changes = {"width": 32, "heads": 2}
    qcs, dcs = (built("qcs", ctx, source, form=form, **changes) for form in ("qcs", "dcs"))
    theta = qcs.model["block"].theta
    assert any(weight is theta for weight in qcs.parameter_groups())
    assert len(dcs.parameter_groups()) == len(qcs.parameter_groups()) - 1
    qcs.loss(batch_of(source, qcs)).backward()
    assert theta.grad.abs() > 0
    dcs.loss(batch_of(source, dcs)).backward()
    assert dcs.model["block"].proj.weight.grad.abs().max() > 0
    faces = source.val.faces()
    qcs.model.eval()
    with torch.no_grad():
        before = qcs.predict(faces)
        for part in ("block", "cross"):
            for weight in qcs.model[part].parameters():
                weight.add_(1.0)
        assert torch.equal(qcs.predict(faces), before)
