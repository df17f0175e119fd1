"""Test methods on frozen features and methods with a text tower, beyond the exam of test_methods."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_golden import method_module
from torch import Tensor
from torch.nn import functional

from conftest import ROOT
from fergen_bench import BenchError, Context, Method, Source
from fergen_bench.experiment.method_file import read_method
from fergen_bench.networks.prompts import PROMPT_TEMPLATES, prompt_names
from fergen_bench.training.augment import SampleDraws
from fergen_bench.training.graph import Batch
from fergen_bench.training.load import load_method
from fergen_bench.training.logistic import held_out_score, mean_directions, solve


def loaded(name: str, **changes: Any) -> Any:
    """Return a method with the parameters of the recipe `small`."""
    file = read_method(ROOT / "methods" / f"{name}.py")
    return load_method(file.path, file.class_name, {**file.defaults("small"), "backbone": "synth", **changes})


def fitted(name: str, source: Source, ctx: Context, **changes: Any) -> Any:
    """Return a method after fitting."""
    method: Method = loaded(name, **changes)
    torch.manual_seed(0)
    method.fit(source, ctx)
    return method


def random(*shape: int) -> Tensor:
    """Return normal random numbers, the same for every call."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


# -------------------------------------------------------------------------------------------- prototypes and neighbours


def test_prototypes_are_directions_of_mean_unit_features_and_absent_classes_score_minus_one() -> None:
    module = method_module("nearest_prototype")
    features, labels = random(6, 5), torch.tensor([0, 0, 2, 2, 2, 0])
    means = mean_directions(features, labels, 3)
    torch.testing.assert_close(
        means[2], functional.normalize(functional.normalize(features[2:5], dim=1).mean(0), dim=0)
    )
    found = module.cosines(features, means)
    assert (found[:, 1] == -1).all()
    torch.testing.assert_close(found[:, 0], functional.cosine_similarity(features, means[:1]))


def test_the_even_probe_is_the_same_for_a_mirrored_source(source: Source, ctx: Context) -> None:
    probe = fitted("even_probe", source, ctx, strength=0.01)
    plain, labels = ctx.features(probe.encoder, source.train)
    mirror, _ = ctx.features(probe.encoder, source.train, view="mirror")
    both = torch.cat([mirror, plain]).double()
    weight, bias = solve(both, labels.repeat(2), 7, 0.01)
    torch.testing.assert_close(probe.weight, weight, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(probe.bias, bias, atol=1e-5, rtol=1e-5)
    faces = source.val.faces()
    torch.testing.assert_close(probe.predict(faces), probe.encoder(faces).double() @ weight.T + bias, atol=1e-4, rtol=0)


def test_the_strength_of_the_even_probe_has_the_smallest_loss_on_both_views(source: Source, ctx: Context) -> None:
    fitted("even_probe", source, ctx)
    exponent = ctx.history[-1]["log10_strength"]
    encoder = ctx.backbone("synth")
    views = {}
    for name, split in (("fit", source.fit), ("val", source.val)):
        parts = [ctx.features(encoder, split, view=view)[0] for view in ("plain", "mirror")]
        views[name] = torch.cat(parts).double(), torch.from_numpy(split.labels).repeat(2)

    def loss(exponent: float) -> float:
        solution = solve(*views["fit"], 7, 10.0**exponent)
        return -held_out_score(solution, *views["val"])[1]

    assert loss(exponent) < min(loss(exponent - 0.25), loss(exponent + 0.25))


def test_the_scale_of_prototypes_changes_no_prediction(source: Source, ctx: Context) -> None:
    chosen, fixed = (fitted("nearest_prototype", source, ctx, scale=scale) for scale in (None, 3.0))
    faces = source.val.faces()
    torch.testing.assert_close(chosen.predict(faces) / chosen.chosen, fixed.predict(faces) / 3.0)
    assert not torch.equal(fitted("nearest_prototype", source, ctx, centred=True).predict(faces), chosen.predict(faces))


def test_nearer_neighbours_have_a_larger_share_of_the_votes() -> None:
    module = method_module("knn")
    keys = functional.normalize(random(20, 4), dim=1)
    cosine, row = module.nearest(2.0 * keys[:3], keys, 4)
    assert row[:, 0].tolist() == [0, 1, 2]
    torch.testing.assert_close(cosine[:, 0], torch.ones(3))
    labels = torch.tensor([[1, 0, 0]])
    near, far = (module.shares(torch.tensor([[0.9, last, last]]), labels, 3, 0.07)[0] for last in (0.2, 0.89))
    assert near.argmax() == 1
    assert far.argmax() == 0
    assert far[2] == 0
    assert float(far.sum()) == pytest.approx(1.0)


def test_k_is_chosen_on_held_out_images_or_given(source: Source, ctx: Context) -> None:
    module = method_module("knn")
    assert fitted("knn", source, ctx).neighbours in module.CANDIDATES
    assert fitted("knn", source, ctx, k=10**6).neighbours == len(source.train)
    alone = fitted("knn", source, ctx, k=1).predict(source.train.faces())
    assert (alone.argmax(1).numpy() == source.train.labels).all()


# --------------------------------------------------------------------------------------------------------- tip_adapter


def test_the_cache_has_a_few_images_of_every_expression_and_none_for_validation(source: Source, ctx: Context) -> None:
    tip = fitted("tip_adapter", source, ctx, shots=4, rounds=2)
    assert tip.values.sum(0).tolist() == [min(4, count) for count in source.fit.counts]
    assert len(fitted("tip_adapter", source, ctx, shots=None, rounds=0).keys) == len(source.fit)


@pytest.mark.parametrize("selection", ["last", "source-val"])
def test_tip_adapter_f_trains_the_keys_and_returns_the_selected_epoch(
    source: Source, tmp_path: Path, selection: str
) -> None:
    ctx = Context("test", 0, selection, torch.device("cpu"), tmp_path, lambda what, done, total: None)
    changes = {"shots": 4, "rounds": 1, "search_steps": (5, 5)}
    still = fitted("tip_adapter", source, ctx, **changes)
    ctx.history.clear()
    trained = fitted("tip_adapter", source, ctx, finetune=True, epochs=3, **changes)
    assert still.keys.shape == trained.keys.shape
    assert not torch.equal(still.keys, trained.keys)
    assert not trained.keys.requires_grad
    assert len(ctx.history) == 3
    scores = [(entry.get("val_accuracy", 0.0), -entry.get("val_loss", 0.0)) for entry in ctx.history]
    assert ctx.selected_epoch == (scores.index(max(scores)) + 1 if selection == "source-val" else None)


def test_training_the_keys_lowers_the_training_loss() -> None:
    tip = method_module("tip_adapter")
    features, labels = functional.normalize(random(40, 8), dim=1), torch.arange(40) % 4
    values, classes = functional.one_hot(labels, 4).float(), functional.normalize(random(4, 8), dim=1)
    keys = features.clone().requires_grad_()
    losses = []
    for _ in range(5):
        loss = functional.cross_entropy(tip.tip_logits(features, classes, keys, values, 1.17, 1.0), labels)
        (gradient,) = torch.autograd.grad(loss, keys)
        losses.append(loss.item())
        keys = (keys - 0.1 * gradient).detach().requires_grad_()
    assert losses == sorted(losses, reverse=True)


def test_a_search_without_two_ranges_is_refused(source: Source, ctx: Context) -> None:
    with pytest.raises(
        BenchError, match=r"tip_adapter: search_scale is \(12.0,\) and search_steps \(200, 20\); set each to"
    ):
        fitted("tip_adapter", source, ctx, search_scale=(12.0,))


@pytest.mark.parametrize("name", ["tip_adapter", "clip_adapter"])
def test_a_text_classifier_needs_a_text_tower_and_uses_it(
    source: Source, ctx: Context, text_backbone: str, name: str
) -> None:
    with pytest.raises(BenchError, match="synth lacks a text tower"):
        fitted(name, source, ctx, classifier="text")
    changes = {"rounds": 0, "search_steps": (5, 5)} if name == "tip_adapter" else {"epochs": 1}
    method = fitted(name, source, ctx, classifier="text", backbone=text_backbone, **changes)
    torch.testing.assert_close(method.classes, ctx.text_tower(text_backbone).class_vectors())
    assert method.predict(source.val.faces()).shape == (len(source.val), 7)


# ------------------------------------------------------------------------------------------------ clip_adapter and flyp


def test_the_adapter_with_ratio_0_changes_nothing() -> None:
    module = method_module("clip_adapter")
    features, down, up = random(5, 8), random(2, 8), random(8, 2)
    torch.testing.assert_close(module.adapted(features, down, up, 0.0), features)
    whole = module.adapted(features, down, up, 1.0)
    assert whole.min() >= 0
    torch.testing.assert_close(module.adapted(features, down, up, 0.2), 0.2 * whole + 0.8 * features)


def test_the_adapter_trains_only_its_bottleneck(source: Source, ctx: Context) -> None:
    adapter = fitted("clip_adapter", source, ctx, epochs=2)
    assert not any(parameter.requires_grad for parameter in adapter.encoder.parameters())
    assert {name for name, _ in adapter.model.named_parameters()} == {"down.weight", "up.weight"}


def test_flyp_trains_both_towers_on_captions_of_the_labels(ctx: Context, text_backbone: str, source: Source) -> None:
    flyp = loaded("flyp", backbone=text_backbone)
    flyp.model = flyp.build(ctx)
    labels = torch.arange(7).repeat(4)
    words = [word for several in prompt_names() for word in several]
    captions = [template.format(word) for word in words for template in PROMPT_TEMPLATES]
    assert torch.equal(flyp.tokens, flyp.model["text"].tokens(captions))
    for label, (start, size) in enumerate(zip(flyp.starts.tolist(), flyp.sizes.tolist(), strict=True)):
        assert captions[start] == PROMPT_TEMPLATES[0].format(prompt_names()[label][0])
        assert captions[start + size - 1] == PROMPT_TEMPLATES[-1].format(prompt_names()[label][-1])
    index = torch.arange(28)
    draws = SampleDraws(index, "x")
    images = flyp.augment(source.train.faces(slice(0, 28)), draws)
    flyp.loss(Batch(images, labels, index, 0, 0, draws, torch.Generator(), images)).backward()
    gradients = {name: parameter.grad for name, parameter in flyp.model.named_parameters()}
    for name in ("image.body.head.proj.weight", "text.body.text_projection", "text.body.logit_scale"):
        assert gradients[name].abs().max() > 0


@pytest.mark.parametrize("name", ["clip_adapter", "flyp", "wise_ft"])
def test_scaled_cosines_are_computed_in_full_precision_under_autocast(name: str) -> None:
    """Use directions as similar as CLIP's: times 100, the rounding of bfloat16 exceeds their differences."""
    module, draws = method_module(name), torch.Generator().manual_seed(0)
    common = torch.randn(64, generator=draws)
    faces, classes = (common + 0.3 * torch.randn(count, 64, generator=draws) for count in (32, 7))
    faces, classes = functional.normalize(faces, dim=1), functional.normalize(classes, dim=1)

    def scaled() -> Tensor:
        if name == "flyp":
            return module.contrastive_loss(faces[:7], classes, torch.tensor(100.0))
        if name == "wise_ft":
            return module.head_logits(faces, 100 * classes, torch.zeros(7), normalised=True)
        method = module.ClipAdapter(ratio=0.0)
        method.classes, method.scale = classes, 100.0
        method.model = {"down": torch.nn.Linear(64, 4, bias=False), "up": torch.nn.Linear(4, 64, bias=False)}
        return method._classified(faces)

    with torch.autocast("cpu", torch.bfloat16):
        found = scaled()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, scaled(), rtol=1e-5, atol=1e-4)
