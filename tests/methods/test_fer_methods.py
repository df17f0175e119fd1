"""Test the FER methods apart from their losses: corrected labels, second views, learning rates and tokens."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from test_golden import method_module
from torch import Tensor

from fergen_bench import Batch, BenchError, Context, Source
from fergen_bench.training.augment import SampleDraws

NETWORKS = {"trunk": "synth-trunk", "backbone": "synth"}


def small_method(name: str, **changes: Any) -> Any:
    """Return a method with the parameters of the recipe `small`."""
    module = method_module(name)
    (kind,) = (
        value
        for value in vars(module).values()
        if dataclasses.is_dataclass(value) and value.__module__ == module.__name__
    )
    names = {field.name for field in dataclasses.fields(kind)}
    networks = {key: value for key, value in NETWORKS.items() if key in names}
    return kind(**{**kind.recipes["small"], **networks, **changes})


def batch_of(source: Source, method: Any, count: int = 8, epoch: int = 0) -> Batch:
    """Return a batch of the first images of a source, augmented by a method."""
    faces, index = source.train.faces(np.arange(count)), torch.arange(count)
    draws = SampleDraws(index, "test", epoch)
    labels = torch.from_numpy(source.train.labels[:count])
    generator = torch.Generator().manual_seed(epoch)
    return Batch(method.augment(faces, draws), labels, index, epoch, epoch, draws, generator, faces)


def built(method: Any, ctx: Context) -> Any:
    """Return a method before its first step."""
    torch.manual_seed(0)
    method.model = method.build(ctx)
    return method


def test_scn_learns_from_corrected_labels_and_does_not_change_the_given_ones(source: Source, ctx: Context) -> None:
    path = source.train.pieces[0].domain.folder / "labels.csv"
    text, given = path.read_bytes(), source.train.labels.copy()
    method = small_method(
        "scn", epochs=2, relabel_from=2, relabel_margin=-2.0
    )  # relabels every image in the last epoch
    method.fit(source, ctx)
    assert (method.corrected >= 0).sum() >= len(given) - 1  # a last batch of one image is left out
    assert path.read_bytes() == text
    np.testing.assert_array_equal(source.train.labels, given)
    # The next epoch learns from the corrected labels.
    batch = batch_of(source, method, epoch=0)
    method.model.train()
    method.corrected[batch.index] = batch.labels
    right = method.loss(batch)["classification"]
    method.corrected[batch.index] = (batch.labels + 1) % 7
    assert not torch.allclose(method.loss(batch)["classification"], right)


def test_scn_does_not_correct_labels_before_relabel_from(source: Source, ctx: Context) -> None:
    method = small_method("scn", epochs=1, relabel_from=2, relabel_margin=-2.0)
    method.fit(source, ctx)
    assert (method.corrected < 0).all()


def test_scn_counts_groups_as_equal_where_one_is_empty() -> None:
    scn = method_module("scn")
    attention = torch.tensor([[0.3]], requires_grad=True)
    assert scn.rank_loss(attention, 0.7, 0.15).item() == pytest.approx(0.15)
    assert len(scn.rank_groups(torch.rand(90, 1), 0.7)[0]) == 62  # 0.7 * 90 is 62.99... in floats


def test_rul_trains_its_classifier_with_a_separate_learning_rate(ctx: Context) -> None:
    method = built(small_method("rul", learning_rate=1e-3), ctx)
    optimizer, _ = method.optimization(steps_per_epoch=10)
    rest, head = optimizer.param_groups
    assert head["initial_lr"] == pytest.approx(1e-2)
    assert rest["initial_lr"] == pytest.approx(1e-3)
    assert {id(p) for p in head["params"]} == {id(p) for p in method.model["fc"].parameters()}
    assert len(rest["params"]) + len(head["params"]) == len(list(method.model.parameters()))


def test_rul_predicts_without_partners_and_dropout(source: Source, ctx: Context) -> None:
    method = built(small_method("rul"), ctx)
    method.model.eval()
    faces = source.train.faces(np.arange(6))
    alone = torch.cat([method.logits(faces[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(method.logits(faces), alone, rtol=1e-4, atol=1e-4)


def test_eac_compares_with_the_mirror_image_or_with_a_separate_view(source: Source, ctx: Context) -> None:
    seen: list[Tensor] = []
    for view in ("mirror", "own"):
        method = built(small_method("eac", second_view=view, erasing=1.0), ctx)
        batch = batch_of(source, method)
        original = method.model["trunk"].feature_map
        method.model["trunk"].feature_map = lambda images, original=original: (seen.append(images), original(images))[1]
        method.loss(batch)
    first, mirrored, again, own = seen
    assert torch.equal(first, again)
    assert torch.equal(mirrored, first.flip(3))
    assert not torch.equal(own, mirrored)
    clean = batch.faces.flip(3).float() / 255
    untouched = (own == clean).all(1).float().mean((1, 2))  # only a box of 2 to 25 % of the image differs
    assert ((untouched > 0.7) & (untouched < 1)).all()


def test_eac_consistency_does_not_train_the_classifier() -> None:
    eac = method_module("eac")
    weight, maps = torch.randn(7, 4, requires_grad=True), torch.randn(2, 4, 3, 2, requires_grad=True)
    eac.consistency_loss(eac.activation_maps(maps, weight), eac.activation_maps(maps.flip(3), weight) + 1).backward()
    assert weight.grad is None
    assert maps.grad is not None


def test_dan_trains_its_centres_and_lowers_its_learning_rate_in_steps(source: Source, ctx: Context) -> None:
    method = built(small_method("dan", schedule="exponential", decay=0.1, decay_every=10, centres=7), ctx)
    assert [method.rate(epoch * 5, 5) for epoch in (0, 9, 10, 20)] == pytest.approx([1, 1, 0.1, 0.01])
    method.model.train()
    sum(method.loss(batch_of(source, method)).values()).backward()
    centres = method.model["criterion"]["centres"]
    assert centres.shape == (7, 512)
    assert centres.grad.abs().sum() > 0
    assert any(parameter is centres for parameter in method.parameter_groups())


def test_dan_with_one_head_omits_the_partition_loss(source: Source, ctx: Context) -> None:
    method = built(small_method("dan", heads=1), ctx)
    assert set(method.loss(batch_of(source, method))) == {"classification", "affinity"}


def test_latent_ofer_selects_the_released_positions_on_any_grid(ctx: Context) -> None:
    ofer = method_module("latent_ofer")
    selected = ofer.token_indices(14, 14)
    assert len(selected) == 78
    assert (selected[0], selected[-1]) == (3 * 14 + 3, 12 * 14 + 8)
    assert len(ofer.token_indices(7, 7)) == 20
    assert ofer.token_indices(1, 1) == [0]


def test_latent_ofer_encodes_unchanged_images(source: Source, ctx: Context) -> None:
    method = built(small_method("latent_ofer"), ctx)
    seen: list[Tensor] = []
    original = method.encoder.patch_map
    method.encoder.patch_map = lambda images: (seen.append(images), original(images))[1]
    batch = batch_of(source, method)
    method.loss(batch).backward()
    assert seen[0] is batch.faces
    assert all(parameter.grad is None for parameter in method.encoder.parameters())


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("scn", {"high_share": 1.0}, "high_share is 1.0; it must lie between 0 and 1"),
        ("rul", {"dropout": 1.0}, "dropout is 1.0; it must be 0 or more and less than 1"),
        ("dan", {"centres": 6}, "centres is 6; set it to 7, one per expression, or more"),
        ("dan", {"heads": 0}, "heads is 0; it must be 1 or more"),
        ("latent_ofer", {"latent_widths": (8, 8)}, "latent_widths is .*; set it to 4 widths of 1 or more"),
    ],
)
def test_impossible_parameters_are_refused(name: str, changes: dict[str, Any], message: str, ctx: Context) -> None:
    with pytest.raises(BenchError, match=message):
        built(small_method(name, **changes), ctx)


def test_defaults_are_those_of_the_released_code() -> None:
    expected = {
        "scn": (70, 64, 1e-3, "adam", 0.9),
        "rul": (60, 64, 2e-4, "adam", 0.9),
        "eac": (60, 32, 2e-4, "adam", 0.9),
        "dan": (40, 256, 0.1, "sgd", 0.1),
        "latent_ofer": (60, 128, 0.1, "sgd", 0.1),
    }
    for name, recipe in expected.items():
        method = small_method(name)
        plain = type(method)()
        assert (plain.epochs, plain.batch_size, plain.learning_rate, plain.optimizer, plain.decay) == recipe
        assert (plain.weight_decay, plain.schedule, plain.trunk) == (1e-4, "exponential", "suite")
