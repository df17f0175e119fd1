"""Parity with the reference implementations. The functions tested are those the methods train with."""

from __future__ import annotations

import itertools
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

import golden as golden_files
from conftest import ROOT
from fergen_bench.networks.kernels import resize
from fergen_bench.networks.loading import IMAGENET_DEVIATION, IMAGENET_MEAN
from fergen_bench.training import logistic
from fergen_bench.training.augment import add_noise, erase
from golden import PRECISIONS, Golden


def test_a_golden_file_is_compared_whole_and_in_both_precisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = torch.tensor([1.0, 2.0], dtype=torch.float64)
    stored = {"x": values.float(), "both_f64": values, "both_f32": values.float(), "double_f64": values.clone()}
    save_file({**stored, "single_f32": values.float()}, tmp_path / "some.safetensors")
    monkeypatch.setattr(golden_files, "FOLDER", tmp_path)
    for dtype, other in ((torch.float64, "single_f32"), (torch.float32, "double_f64")):
        golden = Golden("some", dtype)
        with pytest.raises(AssertionError, match="some: nothing was compared"):
            golden_files.account()
        for name in ("both", "double", "single"):
            golden = Golden("some", dtype)
            with pytest.raises(AssertionError, match=f"{name}: off by"):
                golden.check(name, values * 1.001)
        with pytest.raises(AssertionError, match="there is no result 'none'"):
            golden.check("none", values)
        Golden.opened[:] = [golden]
        golden.check("both", values)
        golden.check("double", values)
        with pytest.raises(AssertionError, match=r"entries that nothing looks at in .*: \['x'\]"):
            golden_files.account()
        Golden.opened[:] = [golden]
        golden("x")
        golden.check("single", values)
        capsys.readouterr()
        golden_files.account()
        said = capsys.readouterr().out
        assert f"some, {dtype}: 3 results compared\n  with the other precision, which alone is stored: {other}" in said


def method_module(name: str) -> ModuleType:
    spec = spec_from_file_location(f"golden_{name}", ROOT / "methods" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_cafe_outputs_losses_and_gradients(dtype: torch.dtype) -> None:
    cafe, golden = method_module("cafe"), Golden("cafe", dtype)
    features, mask = golden("clip_features", grad=True), golden("mask_preact", grad=True)
    weight, bias = golden("fc_weight", grad=True), golden("fc_bias", grad=True)
    labels, drop = golden("labels"), golden("drop_mask")
    borders = cafe.group_borders(features.shape[1], len(bias))

    masked = cafe.masked_features(features, mask, "sigmoid")
    logits = functional.linear(masked, weight, bias)
    losses = {
        "ce": functional.cross_entropy(logits, labels),
        "sep": cafe.separation_loss(masked, drop, labels, borders),
        "div": cafe.diversity_loss(masked, borders),
        "total": sum(cafe.Cafe().terms(masked, logits, labels, drop).values()),
    }

    golden.check("masked", masked)
    golden.check("logits_fc", logits)
    golden.check("logits_test", logits)
    golden.check("logits_channel", cafe.channel_logits(masked, borders))
    golden.check("logits_channel_dropped", cafe.channel_logits(masked * drop, borders))
    inputs = {"mask_preact": mask, "clip_features": features, "fc_weight": weight, "fc_bias": bias}
    for name, loss in losses.items():
        golden.check(f"loss_{name}", loss)
        asked = inputs if name == "total" else {key: inputs[key] for key in ("mask_preact", "clip_features")}
        gradients = torch.autograd.grad(loss, list(asked.values()), retain_graph=True)
        for target, gradient in zip(asked, gradients, strict=True):
            golden.check(f"grad_{name}_{target}", gradient)


def test_golden_cafe_drop_mask_drops_as_many_channels_in_every_group() -> None:
    cafe, golden = method_module("cafe"), Golden("cafe", torch.float64, compares=False)
    stored, classes = golden("drop_mask"), len(golden("fc_bias"))
    width = len(stored) // classes
    share = float((stored[:width] == 0).double().mean())
    borders = cafe.group_borders(len(stored), classes)
    drawn = cafe.drop_mask(len(stored), borders, share, torch.Generator().manual_seed(1)).double()
    for start, stop in itertools.pairwise([*borders[:-1], len(stored)]):
        assert (drawn[start:stop] == 0).sum() == (stored[start:stop] == 0).sum()
        assert set(drawn[start:stop].tolist()) == {0.0, 1.0}


def test_golden_linear_probe_reaches_the_optimum_for_every_strength() -> None:
    golden = Golden("linear_probe", torch.float64)
    features, labels, test = golden("features"), golden("labels"), golden("test_features")
    classes = golden.shape("coef0")[0]
    problem = logistic.Problem(features, labels, classes)
    for place, strength in enumerate(golden("C").tolist()):
        for weight, bias in (problem.solve(strength, 1000), logistic.solve(features, labels, classes, strength)):
            golden.check(f"coef{place}", weight, 1e-5)
            golden.check(f"intercept{place}", bias, 1e-5)
            golden.check(f"test_probabilities{place}", torch.softmax(test @ weight.T + bias, 1), 1e-5)
            golden.check(f"objective{place}", logistic.objective(weight, bias, features, labels, strength), 1e-5)


def test_golden_augmentation_noise_flip_and_erasing() -> None:
    golden = Golden("augment", torch.float32, but=("resized_*",))
    image = golden("image_rgb_u8").permute(2, 0, 1)[None]
    noisy = add_noise(image, Golden("augment", torch.float64, compares=False)("noise").permute(2, 0, 1)[None])
    golden.exact("image_noisy_u8", noisy[0].permute(1, 2, 0).contiguous())
    golden.exact("image_flipped_u8", image.flip(3)[0].permute(1, 2, 0).contiguous())
    mean, deviation = torch.tensor(IMAGENET_MEAN)[:, None, None], torch.tensor(IMAGENET_DEVIATION)[:, None, None]
    boxes = golden("erase_box_top_left_height_width")[None]
    # Erasing with the mean before normalising is erasing with 0 after it.
    erased = (erase(noisy.float() / 255, boxes, mean) - mean) / deviation
    golden.check("erased", erased[0])
    golden.check("erased_flipped_pair", erased.flip(3)[0])


def test_golden_augmentation_resizing_is_within_one_grey_level() -> None:
    golden = Golden("augment", torch.float32, compares=False)
    stored = golden("resized_u8_20x20").float()
    ours = resize(golden("image_rgb_u8").permute(2, 0, 1)[None].float() / 255, stored.shape[0])
    assert (ours[0].permute(1, 2, 0) * 255 - stored).abs().max() <= 1.0
