"""POSTER++: its files of weights, and what a step trains."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from test_golden import method_module
from torch import Tensor

from fergen_bench import Batch, BenchError, Context, Source

TINY = {"side": 64, "widths": (8, 16, 32), "depths": (2, 1, 2), "landmark_depths": (1, 1, 1), "width": 32}


@pytest.fixture
def poster(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module of the method, with small networks."""
    module = method_module("poster_pp")
    monkeypatch.setattr(module.PosterPP, "sizes", module.Sizes(**TINY))
    return module


def files(poster: ModuleType, folder: Path) -> dict[str, Any]:
    """Return parameters with files of random weights, named as those of the repository."""
    sizes = poster.PosterPP.sizes
    torch.manual_seed(3)
    face, landmarks = poster.FaceNetwork(sizes).state_dict(), poster.LandmarkNetwork(sizes).state_dict()
    landmarks = {f"module.{name}": value for name, value in landmarks.items()}
    torch.save(face | {"output_layer.3.weight": torch.zeros(4, 4)}, folder / "ir50.pth")
    torch.save(
        {"state_dict": landmarks | {"module.output_layer.linear.weight": torch.zeros(4)}}, folder / "landmarks.tar"
    )
    return {"ir50": str(folder / "ir50.pth"), "landmarks": str(folder / "landmarks.tar"), "epochs": 1, "batch_size": 16}


def prepared(poster: ModuleType, values: dict[str, Any], source: Source, ctx: Context) -> Any:
    method = poster.PosterPP(**values)
    method.build_model(ctx)
    method.inputs(source.val, ctx)
    return method


def test_networks_of_the_paper_have_its_maps_and_the_names_of_its_weights() -> None:
    module = method_module("poster_pp")
    network, images = module.Poster(module.Sizes()).eval(), torch.zeros(1, 3, 224, 224)
    with torch.no_grad():
        assert network(images).shape == (1, 7)
        face = [tuple(maps.shape[1:]) for maps in network.face(images[..., ::2, ::2])]
        landmarks = [tuple(maps.shape[1:]) for maps in network.landmarks(images[..., ::2, ::2])]
    assert face == [(64, 56, 56), (128, 28, 28), (256, 14, 14)]
    assert landmarks == [(64, 28, 28), (128, 14, 14), (512, 7, 7)]
    names = set(network.face.state_dict())
    assert {"input_layer.2.weight", "body1.2.res_layer.1.weight", "body2.0.shortcut_layer.1.running_var"} <= names
    assert {"body2.3.res_layer.2.weight", "body3.13.res_layer.4.bias"} <= names
    assert not any(name.startswith(("body1.3", "body1.0.shortcut", "body2.4", "body3.14")) for name in names)
    names = set(network.landmarks.state_dict())
    assert {"conv1.prelu.weight", "conv2_dw.conv.weight", "conv_23.project.bn.bias", "conv_6_sep.bn.weight"} <= names
    assert {
        "conv_3.model.3.conv_dw.bn.weight",
        "conv_4.model.5.conv.conv.weight",
        "conv_5.model.1.project.bn.bias",
    } <= names
    assert "conv_23.project.prelu.weight" not in names


def test_both_files_are_needed(poster: ModuleType, source: Source, ctx: Context, tmp_path: Path) -> None:
    values = files(poster, tmp_path)
    for name, about in (("ir50", "an IR-50 trained on MS-Celeb-1M"), ("landmarks", "a MobileFaceNet trained on landm")):
        with pytest.raises(
            BenchError, match=rf"poster_pp: {name} is empty; name the file of {about}.* --set {name}=FILE"
        ):
            prepared(poster, values | {name: ""}, source, ctx)


def test_weights_are_read_by_name(poster: ModuleType, source: Source, ctx: Context, tmp_path: Path) -> None:
    values = files(poster, tmp_path)
    body = prepared(poster, values, source, ctx).model.body
    stored = torch.load(values["ir50"])
    for name, value in body.face.state_dict().items():
        assert torch.equal(value, stored[name])
    stored = torch.load(values["landmarks"])["state_dict"]
    for name, value in body.landmarks.state_dict().items():
        assert torch.equal(value, stored[f"module.{name}"])


def test_an_ir_50_with_one_body_is_divided(poster: ModuleType, source: Source, ctx: Context, tmp_path: Path) -> None:
    values = files(poster, tmp_path)
    three, starts = torch.load(values["ir50"]), {"body1": 0, "body2": 2, "body3": 3}
    one = {}
    for name, value in three.items():
        body, _, rest = name.partition(".")
        block, _, rest = rest.partition(".")
        one[f"body.{starts[body] + int(block)}.{rest}" if body in starts else name] = value
    assert "body.4.res_layer.4.bias" in one
    torch.save(one | {"body.5.res_layer.0.weight": torch.zeros(3)}, tmp_path / "one.pth")
    found = prepared(poster, values | {"ir50": str(tmp_path / "one.pth")}, source, ctx).model.body.face.state_dict()
    assert all(torch.equal(value, three[name]) for name, value in found.items())


def test_a_file_that_does_not_fit_is_refused(poster: ModuleType, source: Source, ctx: Context, tmp_path: Path) -> None:
    values = files(poster, tmp_path)
    weights = torch.load(values["ir50"])
    del weights["body2.0.res_layer.1.weight"]
    weights |= {"body3.0.res_layer.1.weight": torch.zeros(2, 2), "body3.7.res_layer.1.weight": torch.zeros(2)}
    torch.save(weights, tmp_path / "other.pth")
    message = (
        r"other.pth does not fit the ir50 network of poster_pp: it lacks body2.0.res_layer.1.weight; it adds .*"
        r"body3.7.res_layer.1.weight.*; it has in another shape body3.0.res_layer.1.weight \(2, 2\) instead of .*; "
        r"name a file of an IR-50 trained on MS-Celeb-1M with --set ir50=FILE"
    )
    with pytest.raises(BenchError, match=message):
        prepared(poster, values | {"ir50": str(tmp_path / "other.pth")}, source, ctx)


def test_a_step_trains_all_but_the_landmark_network_whose_statistics_move(
    poster: ModuleType, source: Source, ctx: Context, tmp_path: Path
) -> None:
    values = files(poster, tmp_path)
    method = poster.PosterPP(**values, learning_rate=1e-3)
    method.fit(source, ctx)
    before = torch.load(values["landmarks"])["state_dict"]
    after = method.model.body.landmarks.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[f"module.{name}"])}
    assert moved == {name for name in after if "running" in name or "tracked" in name}
    stored = torch.load(values["ir50"])
    face = method.model.body.face.state_dict()
    assert not any(torch.equal(value, stored[name]) for name, value in face.items() if name.endswith("weight"))
    assert {"loss", "loss_perturbed"} <= set(ctx.history[0])


def test_its_loss_is_adjusted(poster: ModuleType, source: Source, ctx: Context, tmp_path: Path) -> None:
    values = files(poster, tmp_path) | {"logit_adjustment": 5.0}
    method = prepared(poster, values, source, ctx)
    index = torch.arange(4)
    draws = ctx.draws(index, "test")
    faces, labels = source.val.faces()[:4], torch.from_numpy(source.val.labels[:4])
    batch = Batch(faces.float() / 255, labels, index, 0, 0, draws, ctx.generator("test"), faces)
    adjusted = method.loss(batch)
    method._offset = None
    assert abs(adjusted - method.loss(batch)) > 1e-3


def test_paths_are_dropped_more_often_on_later_levels(poster: ModuleType) -> None:
    uniform = torch.rand(3, 2, 4000, generator=torch.Generator().manual_seed(0))
    factors = poster.kept_paths(uniform, 0.5)
    rates = (factors == 0).double().mean((1, 2))
    torch.testing.assert_close(rates, torch.tensor([0.0, 0.25, 0.5]).double(), atol=0.03, rtol=0)
    torch.testing.assert_close(factors.mean((1, 2)), torch.ones(3), atol=0.05, rtol=0)
    torch.testing.assert_close(factors[1].unique(), torch.tensor([0.0, 4 / 3]))


def test_scoring_keeps_all_paths(poster: ModuleType, source: Source, ctx: Context, tmp_path: Path) -> None:
    method = prepared(poster, files(poster, tmp_path), source, ctx)
    method.model.eval()
    faces: Tensor = source.val.faces()[:4]
    with torch.no_grad():
        assert torch.equal(method.predict(faces), method.predict(faces))
    assert method.model.body.paths is None
