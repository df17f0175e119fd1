"""Test what T3A, TENT, SAR and SHOT refuse, beyond the exam of test_methods and the golden numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from test_golden import method_module
from torch import Tensor, nn

from fergen_bench import BenchError, Context, Method, Source
from fergen_bench.data.domain import Domain, Unlabelled


@dataclass
class Base(Method):
    """A fitted method for tests, with the network or without one."""

    network: Any = None

    def __post_init__(self) -> None:
        if self.network is not None:
            self.model = self.network

    def fit(self, source: Source, ctx: Context) -> None: ...

    def predict(self, images: Tensor) -> Tensor:
        pooled = images.float().mean((2, 3)) / 255
        return torch.cat([pooled, pooled, pooled[:, :1]], 1) if self.network is None else self.network(images.float())


def network(norm: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 7), nn.Softmax(1)
    )


def started(name: str, base: Method, ctx: Context, **changes: Any) -> Any:
    """The online method of a name after `fit`."""
    module = method_module(name)
    method = getattr(module, name.capitalize())(**changes)
    ctx.base = base
    method.fit(None, ctx)
    return method


@pytest.mark.parametrize(
    ("name", "norm", "changes", "message"),
    [
        ("tent", "batch", {"stream_batch": 1}, r"tent: stream_batch is 1, .* batch norms of its base .*give 2 images"),
        ("sar", "batch", {"stream_batch": 1}, r"sar: stream_batch is 1, .* batch norms of its base .*give 2 images"),
        ("tent", "group", {}, r"tent: the network of its base, Base, has no batch norm; choose another .*--method sar"),
        ("tent", None, {}, r"tent: its base, Base, trains no network whose normalisation could adapt; leave base"),
        ("sar", None, {}, r"sar: its base, Base, .* one that does, with every parameter .* learning_rate=0.004'$"),
        ("sar", "none", {}, r"sar: .* Base, has no normalisation layer with scale and shift; choose another base$"),
        ("sar", "group", {"skipped": ("1",)}, r"no normalisation layer outside of 1; choose .*, or leave fewer out"),
        ("t3a", None, {}, r"t3a: the logits of its base, Base, are not those of one linear layer, .*base=linear_probe"),
        ("t3a", "batch", {}, r"t3a: the logits of its base, Base, are not those of one linear layer"),
        ("t3a", None, {"supports": 0}, r"t3a: supports is 0; it must be 1 or more, or null for all"),
        ("tent", "batch", {"steps": 0}, r"tent: steps is 0 and learning_rate 0.001; one step at least and a rate"),
        ("tent", "batch", {"learning_rate": -0.1}, r"tent: steps is 1 and learning_rate -0.1; one step at least"),
        ("sar", "batch", {"learning_rate": 0.0}, r"sar: learning_rate is 0; it must be above 0"),
        ("sar", "batch", {"momentum": 1.0}, r"sar: momentum is 1; it must be 0 or more, and less than 1"),
        ("sar", "batch", {"rho": -0.1}, r"sar: rho is -0.1; it must be 0 or more"),
        ("sar", "batch", {"margin": 0.0}, r"sar: margin is 0; it must be above 0"),
        ("sar", "batch", {"recovery": -1.0}, r"sar: recovery is -1; it must be 0 or more"),
    ],
)
def test_a_base_or_a_parameter_that_does_not_suit_is_refused(
    name: str, norm: str | None, changes: dict[str, Any], message: str, ctx: Context
) -> None:
    norms = {"batch": nn.BatchNorm2d(4), "group": nn.GroupNorm(2, 4), "none": nn.Identity()}
    base = Base() if norm is None else Base(network(norms[norm]))
    with pytest.raises(BenchError, match=message):
        started(name, base, ctx, **changes)


def test_batches_of_one_image_are_possible_without_batch_norm(ctx: Context) -> None:
    method = started("sar", Base(network(nn.GroupNorm(2, 4))), ctx, stream_batch=1, margin=2.0, learning_rate=1.0)
    image = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        before = method.predict(image)
        assert not torch.equal(method.predict(image), before)


def test_an_online_method_without_a_base_is_refused(source: Source, ctx: Context) -> None:
    with pytest.raises(BenchError, match=r"Tent starts from the fitted method of another run, and ctx.base has none"):
        method_module("tent").Tent().fit(source, ctx)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"target_batch": 1}, r"shot: target_batch is 1; it must be 2 or more, because batch norm needs two images"),
        ({"target_batch": 0}, r"shot: target_batch is 0; it must be 2 or more"),
        ({"target_epochs": 0}, r"shot: target_epochs is 0; it must be 1 or more; adapt=false scores the source model"),
        ({"target_rate": -0.1}, r"shot: target_rate is -0.1; it must be above 0"),
        ({"smoothing": 1.0}, r"shot: smoothing is 1; it must be 0 or more, and less than 1"),
        ({"pseudo_labels": -1.0}, r"shot: pseudo_labels is -1; it must be 0 or more"),
        ({"diversity": -1.0}, r"shot: diversity is -1; it must be 0 or more"),
        ({"width": 0}, r"shot: width is 0; it must be 1 or more"),
        ({}, r"shot: the target has one training image, and batch norm needs two to adapt to it; leave it out"),
    ],
)
def test_shot_refuses_before_it_learns_the_source(
    changes: dict[str, Any], message: str, source: Source, film: Domain, ctx: Context
) -> None:
    class One(Unlabelled):
        def __len__(self) -> int:
            return 1

    ctx.unlabelled = Unlabelled(film) if changes else One(film)
    with pytest.raises(BenchError, match=message):
        method_module("shot").Shot(**changes).fit(source, ctx)
    assert not ctx.history


def test_shot_without_a_target_is_refused(source: Source, ctx: Context) -> None:
    with pytest.raises(BenchError, match=r"shot adapts to unlabelled images of a target, .* use --protocol adaptation"):
        method_module("shot").Shot().fit(source, ctx)
