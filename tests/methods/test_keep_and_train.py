"""Test the parts of keep_and_train beyond the exam: shares, average, restyled images, and what it learns from."""

from __future__ import annotations

import pytest
import torch
from test_frozen_methods import loaded
from test_golden import method_module
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import Context
from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.execution.runner import TrackedSource
from fergen_bench.training.augment import SampleDraws

MODULE = method_module("keep_and_train")


def random(*shape: int) -> Tensor:
    """Return normal random numbers, the same for every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def faces(count: int) -> Tensor:
    """Return random images uint8 (count, 3, 24, 24)."""
    return (random(count, 3, 24, 24) * 40 + 128).clamp(0, 255).to(torch.uint8)


def test_no_other_shares_have_a_smaller_cross_entropy() -> None:
    labels = torch.arange(60) % 7
    useful = 2.0 * functional.one_hot(labels, 7) + random(60, 7)
    told = torch.stack([useful, random(60, 7).flip(0), -useful]).log_softmax(2)  # the last is wrong
    shares = MODULE.pool_shares(told, labels)
    best = functional.cross_entropy(torch.einsum("m,mnk->nk", shares, told), labels)
    for first in range(11):
        for second in range(11):
            for third in range(11):
                other = torch.tensor([first, second, third]) / 10
                assert best <= functional.cross_entropy(torch.einsum("m,mnk->nk", other, told), labels) + 1e-6
    assert shares[0] > 0.5
    assert shares[2] == 0


def test_an_overconfident_member_gets_a_smaller_share() -> None:
    labels = torch.arange(70) % 7
    honest = 2.0 * functional.one_hot(labels, 7) + 1.5 * random(70, 7)
    (alone,) = MODULE.pool_shares(honest.log_softmax(1)[None], labels)
    (tempered,) = MODULE.pool_shares((4 * honest).log_softmax(1)[None], labels)
    assert 0 < tempered < alone


def test_the_average_moves_towards_the_trained_state_and_copies_counters() -> None:
    mean, trained = nn.BatchNorm1d(2), nn.BatchNorm1d(2)
    with torch.no_grad():
        trained.weight.fill_(3.0)
        trained.running_var.fill_(5.0)  # type: ignore[union-attr]
        trained.num_batches_tracked.fill_(7)  # type: ignore[union-attr]
    MODULE.average(mean, trained, 0.75)
    assert mean.weight.tolist() == [1.5, 1.5]
    assert mean.running_var.tolist() == [2.0, 2.0]  # type: ignore[union-attr]
    assert mean.num_batches_tracked == 7


def test_restyled_images_depend_on_the_image_alone() -> None:
    images = faces(40)
    whole = MODULE.restyled(images, SampleDraws(torch.arange(40), "test"))
    part = MODULE.restyled(images[10:20], SampleDraws(torch.arange(10, 20), "test"))
    assert whole.dtype == torch.uint8
    assert torch.equal(whole[10:20], part)
    assert (whole != images).flatten(1).any(1).all()


def test_without_style_an_image_keeps_its_place_and_brightness() -> None:
    images = faces(40)
    draws = SampleDraws(torch.arange(40), "test")
    restyled = MODULE.restyled(images, draws, 0.0)
    mirrored = draws.chance("flip", 0.5)[:, None, None, None]
    grey = torch.where(mirrored, images.flip(3), images).float().mean((1, 2, 3))
    torch.testing.assert_close(restyled.float().mean((1, 2, 3)), grey, atol=2.0, rtol=0)


@pytest.mark.parametrize("selection", ["last", "source-val"])
def test_the_held_out_images_decide_the_shares_and_are_not_learned_from(
    web: Domain, ctx: Context, selection: str
) -> None:
    source = open_source([web], 0, 0.5)
    method = loaded("keep_and_train", trunk="synth-trunk", epochs=1)
    ctx.selection = selection
    tracked = TrackedSource.over(source)
    torch.manual_seed(0)
    method.fit(tracked, ctx)
    assert not tracked.asked_for_all
    told, labels = method._held_out(source, ctx)
    assert torch.equal(method.shares, MODULE.pool_shares(told, labels))
    torch.testing.assert_close(
        method.predict(next(source.val.batches(ctx.device, 4))), torch.einsum("m,mbk->bk", method.shares, told[:, :4])
    )
    mean, trained = method.model["mean"]["trunk"][1].weight, method.model["trained"]["trunk"][1].weight
    assert not mean.requires_grad
    assert not torch.equal(mean, trained)
