"""The packaged networks were trained without the images and labels of the suite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import safe_open

from conftest import ROOT
from fergen_bench.data.randomness import counters, seed_of
from fergen_bench.synth import DOMAINS, WEIGHTS, pretrain, worlds
from fergen_bench.synth.geometry import LANDMARKS
from fergen_bench.synth.render import render
from fergen_bench.synth.scene import ACTION_UNITS
from fergen_bench.synth.worlds import WORLDS, compose


def test_the_packaged_networks_are_small_and_describe_their_training() -> None:
    files = sorted(WEIGHTS.glob("*.safetensors"))
    assert [path.name for path in files] == ["encoder.safetensors", "trunk.safetensors"]
    assert sum(path.stat().st_size for path in files) < 6_000_000
    for path in files:
        with safe_open(path, "pt") as file:
            assert {"world", "seed", "epoch", "probe_r2"} <= set(file.metadata())
            assert all(file.get_tensor(name).dtype == torch.float16 for name in file.keys())  # noqa: SIM118
        assert (WEIGHTS / f"{path.stem}.log").is_file()
    assert (WEIGHTS / "CARD.md").is_file()


def test_no_image_of_the_suite_is_in_the_pretraining() -> None:
    exam = {
        int(counter)
        for name, world in WORLDS.items()
        for split, count in (("train", world.train), ("test", world.test))
        for counter in counters(np.arange(count), seed_of(*worlds.stream(name, split)))
    }
    assert len(exam) == 20_000
    for purpose, count in {"encoder": 96_000, "trunk": 48_000, "probe": 8_000}.items():
        assert pretrain.RECIPES[purpose].faces == count if purpose in pretrain.RECIPES else True
        seen = counters(np.arange(count), seed_of(*pretrain.stream(purpose)))
        assert not exam & set(seen.tolist())


def test_the_pretraining_uses_neither_expression_labels_nor_domains() -> None:
    """It imports neither the labels nor the five domains, and its captions contain no action unit."""
    text = (ROOT / "fergen_bench" / "synth" / "pretrain.py").read_text()
    for word in ("EXPRESSIONS", "worlds", "WORLDS", "sample_expression", "FORMS"):
        assert word not in text, word
    entries = {*pretrain._NUMBERS, *pretrain._POSE}
    assert not {entry for entry in entries if entry.startswith("au")}
    scene = pretrain.compose("probe", np.arange(4))
    assert not {"label", "expression", "form", "intensity"} & set(scene.columns)
    caption, weights = pretrain.face_caption(scene)
    assert caption.shape == (4, 2 * 3 * len(LANDMARKS) + len(pretrain._POSE) + pretrain.IDENTITY_ENTRIES)
    assert weights.shape == caption.shape[1:]


def test_an_identity_caption_does_not_depend_on_the_expression() -> None:
    scene = pretrain.compose("probe", np.arange(4))
    columns = {**scene.columns, **{f"au{unit}": np.zeros(4) for unit in ACTION_UNITS}}
    np.testing.assert_array_equal(pretrain.identity_caption(scene.columns), pretrain.identity_caption(columns))


def test_the_pretraining_world_covers_the_ranges_of_the_five_domains() -> None:
    """Hardly any image of the suite is outside the support of the pretraining, as CARD.md claims."""
    wide = pretrain.compose("probe", np.arange(4000)).columns
    camera = ["exposure", "blur_x", "blur_y", "grain", "noise", "jpeg", "gamma", "contrast", "lift", "grey"]
    position = ["scale", "shift_x", "shift_y", "roll", "yaw", "pitch", "ambient", "diffuse", "light_x", "light_y"]
    for name in DOMAINS:
        narrow = compose(name, "test", np.arange(1000)).columns
        for factor in [*position, *camera, "resolution", "vignette", "skin_tone", "age"]:
            low, high = np.quantile(narrow[factor], [0.01, 0.99])
            assert wide[factor].min() <= low + 1e-3, (name, factor)
            assert wide[factor].max() >= high - 1e-3, (name, factor)


def test_the_loss_of_the_pretraining_goes_down() -> None:
    torch.manual_seed(0)
    scene = pretrain.compose("probe", np.arange(64))
    images = pretrain.normalise(torch.from_numpy(render(scene, 64)).permute(0, 3, 1, 2))
    captions = torch.from_numpy(pretrain.identity_caption(scene.columns)).float()
    captions = (captions - captions.mean(0)) / captions.std(0).clamp_min(1e-6)
    model = pretrain.Captioned(pretrain.Trunk(), 512, captions.shape[1])
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3)
    totals = []
    for _ in range(8):
        contrast, regression = model.losses(
            pretrain.jitter(images.clone(), torch.Generator().manual_seed(0)), captions, torch.ones(24)
        )
        optimizer.zero_grad()
        (contrast + 8 * regression).backward()
        optimizer.step()
        totals.append((contrast + 8 * regression).item())
    assert totals[-1] < 0.8 * totals[0]


def test_the_probe_finds_linear_features_and_no_others() -> None:
    generator = np.random.default_rng(0)
    units = generator.normal(size=(600, 17))
    mixed = units @ generator.normal(size=(17, 32))
    assert pretrain.action_unit_probe(mixed, units, 400).min() > 0.95
    assert pretrain.action_unit_probe(generator.normal(size=(600, 32)), units, 400).max() < 0.1


@pytest.mark.slow
def test_the_encoder_predicts_action_units_on_unseen_renders() -> None:
    from safetensors.torch import load_file

    from fergen_bench.synth.networks import FaceEncoder

    images, _, units = pretrain.render_pool("probe", 8000)
    encoder = FaceEncoder()
    weights = {name: tensor.float() for name, tensor in load_file(WEIGHTS / "encoder.safetensors").items()}
    encoder.load_state_dict(weights, strict=False)
    r2 = pretrain.action_unit_probe(pretrain.features_of(encoder, images), units, 6000)
    with safe_open(WEIGHTS / "encoder.safetensors", "pt") as file:
        assert r2.mean() == pytest.approx(float(file.metadata()["probe_r2"]), abs=0.01)
    assert r2.mean() >= 0.10
