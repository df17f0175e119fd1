"""Test the steps of fine-tuning methods and single-source regularisers on a network of a few thousand weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_golden import method_module
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import Batch, BenchError, Context, SampleDraws, Source
from fergen_bench.networks.network import Network, Preprocessing
from fergen_bench.training.augment import beta_draws
from fergen_bench.training.sampling import balanced_draw, balanced_weights

CPU = torch.device("cpu")


class Body(nn.Module):
    """A network of two convolutional stages: 16 x 16 pixels → 12 features."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.layer2 = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        return self.layer2(self.layer1(x)).mean((2, 3))


class Small(Context):
    """A context in which every network is a fresh copy of one small network."""

    def __init__(self, cache: Path, selection: str = "last") -> None:
        super().__init__("test", 0, selection, CPU, cache, lambda what, done, total: None)

    def backbone(self, name: str, trainable: bool = False, statistics: Any = "own") -> Network:
        torch.manual_seed(3)
        network = Network(name, Body(), 12, Preprocessing(16, (0.5,) * 3, (0.25,) * 3, "bilinear"))
        return network if trainable else network.freeze(self._cache, self._report, self.precision)


@pytest.fixture
def ctx(tmp_path: Path) -> Small:
    return Small(tmp_path)


def batch(count: int = 16, step: int = 0) -> Batch:
    """Return a batch of random images, different in every step."""
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(count, 3, 16, 16, generator=generator)
    labels, index = torch.randint(0, 7, (count,), generator=generator), torch.arange(count)
    return Batch(images, labels, index, 0, step, SampleDraws(index, "test"), generator, images)


def started(method: Any, ctx: Context) -> Any:
    """Return a method before its first step."""
    method.model = method.build(ctx).train()
    return method


def statistics(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the running statistics of batch norm."""
    return {name: value.clone() for name, value in model.named_buffers() if "running" in name or "num_batch" in name}


def test_sam_updates_batch_norm_once_and_steps_from_the_original_weights(ctx: Small) -> None:
    sam = method_module("sam")
    method, plain = started(sam.Sam(rho=0.5), ctx), started(sam.Sam(), ctx)
    plain.model.load_state_dict(method.model.state_dict())
    before = [weight.detach().clone() for weight in method.model.parameters()]
    optimizer = torch.optim.SGD(method.model.parameters(), 0.1)
    terms = method.update(batch(), optimizer, ctx)
    plain.model(batch().images)
    for name, value in statistics(plain.model).items():
        torch.testing.assert_close(statistics(method.model)[name], value)
    assert terms["loss_perturbed"] > terms["loss"]
    for weight, was in zip(method.model.parameters(), before, strict=True):
        torch.testing.assert_close(weight.detach(), was - 0.1 * weight.grad)


def test_sam_with_rho_0_is_plain_descent(ctx: Small) -> None:
    sam = method_module("sam")
    method = started(sam.Sam(rho=0.0), ctx)
    plain = started(sam.Sam(), ctx)
    plain.model.load_state_dict(method.model.state_dict())
    method.update(batch(), torch.optim.Adam(method.model.parameters(), 0.01), ctx)
    super(sam.Sam, plain).update(batch(), torch.optim.Adam(plain.model.parameters(), 0.01), ctx)
    for one, other in zip(method.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_mixstyle_mixes_in_training_only(ctx: Small) -> None:
    mixstyle = method_module("mixstyle")
    always, never = (started(mixstyle.MixStyle(probability=p), ctx) for p in (1.0, 0.0))
    never.model.load_state_dict(always.model.state_dict())
    assert not torch.allclose(always.loss(batch()), never.loss(batch()))
    never.model.load_state_dict(always.model.state_dict())
    for method in (always, never):
        method.model.eval()
    torch.testing.assert_close(always.logits(batch().images), never.logits(batch().images))


def test_mixstyle_does_not_change_an_image_whose_share_is_one() -> None:
    x = torch.rand(4, 3, 5, 5)
    mixed = method_module("mixstyle").mixed_style(x, torch.ones(4), torch.tensor([1, 2, 3, 0]))
    torch.testing.assert_close(mixed, x)


def test_mixstyle_finds_stages_or_refuses_with_their_names() -> None:
    import timm

    from fergen_bench.synth.networks import Trunk

    find = method_module("mixstyle").chosen_stages
    assert find(Trunk(), (), "synth-trunk") == ("stages.2", "stages.3")
    assert find(timm.create_model("resnet18", num_classes=0), (), "resnet18") == ("layer1", "layer2")
    assert find(Body(), ("layer1.0",), "body") == ("layer1.0",)
    with pytest.raises(BenchError, match=r"stages: body does not have a module 'layer9'; its modules include layer1"):
        find(Body(), ("layer9",), "body")
    with pytest.raises(BenchError, match="mixstyle: flat does not have stages named layer1, layer2 or stages"):
        find(nn.Sequential(nn.Linear(3, 3)), (), "flat")


def test_mixstyle_refuses_a_stage_that_does_not_return_a_map(ctx: Small) -> None:
    mixstyle = method_module("mixstyle")
    method = mixstyle.MixStyle(trunk="tokens")
    with pytest.raises(BenchError, match=r"mixstyle: a stage of tokens returns \(5, 8\) per image, which is not a map"):
        method._mix(nn.Identity(), None, torch.rand(2, 5, 8))


def test_sagnet_with_one_optimizer_equals_sagnet_with_three(ctx: Small) -> None:
    method = started(method_module("sagnet").SagNet(), ctx)
    other = started(method_module("sagnet").SagNet(), ctx)
    other.model.load_state_dict(method.model.state_dict())
    single = torch.optim.Adam(method.model.parameters(), 0.01, weight_decay=0.01)
    trunk, content, style = (
        torch.optim.Adam(other.model[name].parameters(), 0.01, weight_decay=0.01)
        for name in ("trunk", "content", "style")
    )
    for step in range(3):
        method.update(batch(step=step), single, ctx)
        seen = batch(step=step)
        passes = [
            ("style", "content", (trunk, content)),
            ("content", "style", (style,)),
            ("content", "style", (trunk,)),
        ]
        for number, (swap, head, optimizers) in enumerate(passes):
            logits = other._swapped_logits(seen, swap, other.model[head], str(number))
            loss = functional.cross_entropy(logits, seen.labels)
            if number == 2:
                loss = -0.1 * torch.log_softmax(logits, 1).mean()
            other.model.zero_grad()
            loss.backward()
            for optimizer in optimizers:
                optimizer.step()
    for one, three in zip(method.model.parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(one, three)


def test_rsc_mutes_about_a_third_of_the_features_of_the_chosen_images() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.rand(60, 30, generator=generator), torch.randint(0, 7, (60,), generator=generator)
    weight = torch.randn(7, 30, generator=generator)
    muting = method_module("rsc").mute(features, labels, weight, torch.zeros(7), 1 / 3, 1 / 3)
    muted = (muting.mask == 0).sum(1)
    assert (muted > 0).sum() == 20
    assert set(muted.tolist()) == {0, 10}


def test_mixup_of_a_batch_with_itself_is_cross_entropy() -> None:
    images, labels = torch.rand(6, 7), torch.arange(6)
    loss = method_module("mixup").pair_loss(lambda x: x, images, labels, images, labels, torch.tensor([0.3]))
    torch.testing.assert_close(loss, functional.cross_entropy(images, labels))


def test_beta_draws_have_the_moments_of_beta_and_come_from_the_generator() -> None:
    drawn = beta_draws(0.2, 20000, torch.Generator().manual_seed(1))
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.01)
    assert drawn.var().item() == pytest.approx(0.25 / 1.4, abs=0.005)  # 1 / (4 (2 a + 1))
    assert torch.equal(drawn, beta_draws(0.2, 20000, torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("name", ["lp_ft", "swad"])
def test_statistics_of_batch_norm_do_not_change(source: Source, ctx: Small, name: str) -> None:
    module = method_module(name)
    options = {"lp_ft": {"strength": 1.0}, "swad": {"interval": 2}}[name]
    method = (module.LpFt if name == "lp_ft" else module.Swad)(epochs=1, **options)
    before = statistics(ctx.backbone("any", trainable=True))
    method.fit(source, ctx)
    after = statistics(method.network)
    assert all(torch.equal(after[key], value) for key, value in before.items())
    fresh = ctx.backbone("any", trainable=True)
    assert not torch.equal(method.network.body.layer1[0].weight, fresh.body.layer1[0].weight)


def test_lp_ft_starts_from_the_probe_folded_onto_raw_features() -> None:
    module, generator = method_module("lp_ft"), torch.Generator().manual_seed(0)
    labels = torch.tensor([0, 2, 5]).repeat(30)
    features = (3 + 2 * torch.randn(90, 6, generator=generator) + 0.2 * labels[:, None]).double()
    probe = module.Probe(features, labels, 7, 200)
    weight, bias = probe.head(1.0)
    inner_weight, inner_bias = probe.problem.solve(1.0, 200)
    logits = features @ weight.T + bias
    normalised = (features - features.mean()) / features.std(correction=0)
    torch.testing.assert_close(logits[:, [0, 2, 5]], normalised @ inner_weight.T + inner_bias)
    assert not logits[:, [1, 3, 4, 6]].any()


def test_lp_ft_takes_the_smallest_loss_of_equally_accurate_strengths() -> None:
    module, generator = method_module("lp_ft"), torch.Generator().manual_seed(0)

    def separable(count: int) -> tuple[Tensor, Tensor]:
        labels = torch.arange(count) % 2
        return (2.0 * labels - 1)[:, None] + 0.1 * torch.randn(count, 3, generator=generator), labels

    class Given:
        def features(self, encoder: None, split: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            return split

    source = SimpleNamespace(fit=separable(40), val=separable(20))
    # Every strength is right on all images, and the loss falls with the strength.
    assert module.LpFt(strengths=10)._choose(None, source, Given()) == pytest.approx(100.0)


def test_wise_ft_lies_between_the_probe_and_the_fine_tuned_network(source: Source, ctx: Small) -> None:
    module = method_module("wise_ft")
    options = {"epochs": 2, "batch_size": 64, "warm_up": 2, "learning_rate": 0.01, "strength": 1.0}
    states = []
    for alpha in (0.0, 0.5, 1.0):
        method = module.WiseFt(alpha=alpha, **options)
        method.fit(source, ctx)
        states.append(method.model.state_dict())
    start, middle, end = states
    for name, value in start.items():
        assert torch.equal(value, method.before[name])
        torch.testing.assert_close(middle[name], (0.5 * value + 0.5 * end[name]).to(value.dtype))
    assert not torch.equal(start["network.body.layer1.0.weight"], end["network.body.layer1.0.weight"])
    assert not torch.equal(start["network.body.layer1.1.running_mean"], end["network.body.layer1.1.running_mean"])


def test_swad_averages_the_stretch_trains_on_fit_alone_and_stops_after_it(source: Source, ctx: Small) -> None:
    module, seen = method_module("swad"), []
    losses = iter([3.0, 2.0, 1.0, 1.2, 1.3] + [9.0] * 100)
    passed: list[list[Tensor]] = []

    class Scripted(module.Swad):  # type: ignore[misc, name-defined]
        def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> Any:
            seen.append(batch.index)
            terms = super().update(batch, optimizer, ctx)
            passed.append([weight.detach().clone() for weight in self.model.parameters()])
            return terms

        def _held_out_loss(self, ctx: Context) -> float:
            return next(losses)

    method = Scripted(epochs=9, batch_size=64, interval=1, n_converge=3, n_tolerance=3)
    method.fit(source, ctx)
    # The loss is lowest at step 2. Steps 3 and 4 are taken, and at step 7 the whole window is above the threshold.
    assert (method.valley.converge_step, method.valley.early_stop_step) == (2, 7)
    expected = [(third + fourth) / 2 for third, fourth in zip(passed[3], passed[4], strict=True)]
    for weight, mean in zip(method.model.parameters(), expected, strict=True):
        torch.testing.assert_close(weight.detach(), mean)
    assert max(int(index.max()) for index in seen) == len(source.fit) - 1
    assert ctx.selected_epoch is None
    assert len(ctx.history) == 7 // -(-len(source.fit) // 64) + 1


@pytest.mark.parametrize("sampling", ["natural", "balanced"])
def test_swad_measures_batch_norm_again_for_the_average(
    sampling: str, source: Source, ctx: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, drawn = method_module("swad"), []
    monkeypatch.setattr(module, "balanced_draw", lambda *given: (drawn.append(given), balanced_draw(*given))[1])
    method = module.Swad(epochs=2, batch_size=64, interval=2, refresh=8, sampling=sampling)
    method.fit(source, ctx)
    assert [count for _, count, _ in drawn] == ([64] * 8 if sampling == "balanced" else [])
    first = method.network.body.layer1
    assert int(first[1].num_batches_tracked) == 8
    assert first[1].momentum == 0.1
    with torch.no_grad():
        seen = method.augment(source.fit.faces(), SampleDraws(torch.arange(len(source.fit)), "other draws"))
        means = first[0](method.network.prepare(seen)).mean((2, 3)).double()
        labels = torch.from_numpy(source.fit.labels)
        weights = balanced_weights(labels) if sampling == "balanced" else torch.ones(len(labels)).double()
        means = (weights @ means / weights.sum()).float()
    torch.testing.assert_close(first[1].running_mean, means, atol=0.05, rtol=0.05)


def test_swad_refuses_an_interval_of_0(source: Source, ctx: Small) -> None:
    with pytest.raises(BenchError, match="swad: interval is 0; it must be 1 or more"):
        method_module("swad").Swad(interval=0).fit(source, ctx)


def test_a_head_from_text_is_refused_without_a_text_tower(source: Source, tmp_path: Path) -> None:
    ctx = Context("test", 0, "last", torch.device("cpu"), tmp_path, lambda what, done, total: None)
    with pytest.raises(BenchError, match="text tower"):
        method_module("wise_ft").WiseFt(backbone="synth", head="text").fit(source, ctx)


def test_a_head_from_text_is_the_zero_shot_classifier(source: Source, tmp_path: Path, text_backbone: str) -> None:
    ctx = Context("test", 0, "last", torch.device("cpu"), tmp_path, lambda what, done, total: None)
    weight, bias = method_module("wise_ft").WiseFt(backbone=text_backbone, head="text")._start(source, ctx)
    tower = ctx.text_tower(text_backbone)
    torch.testing.assert_close(weight, tower.scale * tower.class_vectors())
    assert (bias == 0).all()
