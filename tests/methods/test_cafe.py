"""Test the options of CAFE that the reference implementation lacks."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from test_golden import method_module

from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.error import BenchError
from fergen_bench.training.contract import Context

cafe = method_module("cafe")


def test_even_groups_use_every_channel_once() -> None:
    borders = cafe.group_borders(512, 7, "even")
    widths = [stop - start for start, stop in itertools.pairwise(borders)]
    assert borders[0] == 0
    assert borders[-1] == 512
    assert sorted(widths) == [73] * 6 + [74]
    assert cafe.group_borders(512, 7)[-1] == 511


@pytest.mark.parametrize("groups", ["released", "even"])
def test_channel_logits_are_the_largest_of_each_group(groups: str) -> None:
    masked = torch.randn(5, 30, generator=torch.Generator().manual_seed(0))
    borders = cafe.group_borders(30, 7, groups)
    expected = [masked[:, start:stop].amax(1) for start, stop in itertools.pairwise(borders)]
    assert torch.equal(cafe.channel_logits(masked, borders), torch.stack(expected, 1))


def test_the_distinctness_loss_separates_channels_that_differ_from_channels_that_agree() -> None:
    borders = cafe.group_borders(14, 2)
    # Seven images, two groups of seven channels: each channel responds to an image of its own, or all to the first.
    distinct = 50.0 * torch.eye(7).repeat(1, 2)
    same = torch.zeros(7, 14)
    same[0] = 50.0
    assert cafe.distinctness_loss(distinct, borders) == pytest.approx(0.0, abs=1e-4)
    assert cafe.distinctness_loss(same, borders) == pytest.approx(1 - 1 / 7, abs=1e-4)
    # The released term does not separate them: it depends on the largest channel of each image only.
    assert cafe.diversity_loss(distinct, borders) < cafe.diversity_loss(same, borders)


def test_the_distinctness_loss_has_a_gradient_with_uneven_groups() -> None:
    masked = torch.randn(4, 30, generator=torch.Generator().manual_seed(0), requires_grad=True)
    loss = cafe.distinctness_loss(masked, cafe.group_borders(30, 7, "even"))
    assert 0.0 <= loss <= 1.0
    loss.backward()
    assert masked.grad is not None
    assert masked.grad.isfinite().all()
    assert masked.grad.abs().sum() > 0


@pytest.mark.parametrize("selection", ["last", "source-val"])
def test_cached_features_are_those_of_unchanged_images(web: Domain, tmp_path: Path, selection: str) -> None:
    source = open_source([web], 0, 0.3)
    ctx = Context("test", 0, selection, torch.device("cpu"), tmp_path, lambda what, done, total: None)
    method = cafe.Cafe(backbone="synth", trunk="synth-trunk", features="cached", epochs=2, optimizer="adamw")
    method.fit(source, ctx)
    learned = source.fit if selection == "source-val" else source.train
    fresh = ctx.backbone("synth")
    assert len(method._cached) == len(learned)
    torch.testing.assert_close(method._cached[:8], fresh(learned.faces(slice(0, 8))), atol=1e-4, rtol=1e-4)
    assert len(ctx.history) == 2
    assert method.predict(learned.faces(slice(0, 4))).shape == (4, 7)


def test_too_few_features_for_the_expressions_are_refused() -> None:
    with pytest.raises(BenchError, match="5 features cannot be divided among 7 expressions"):
        cafe.group_borders(5, 7)
