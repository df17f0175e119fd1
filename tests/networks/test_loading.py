"""Tests of loading networks by family."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench.error import BenchError
from fergen_bench.networks.loading import IMAGENET_MEAN, VGGFACE2_IDENTITIES, content_digest, load_network
from fergen_bench.networks.name import parse_network, weights_digest

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Registers a small CLIP with open_clip, and writes random weights for it to a file."""
    import open_clip

    folder = tmp_path_factory.mktemp("clip")
    tower = {"image_size": 32, "layers": 2, "width": 32, "patch_size": 8, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 64, "width": 32, "heads": 2, "layers": 1}
    (folder / "tiny-clip.json").write_text(json.dumps({"embed_dim": 24, "vision_cfg": tower, "text_cfg": text}))
    open_clip.add_model_config(folder / "tiny-clip.json")
    torch.manual_seed(0)
    torch.save(open_clip.create_model("tiny-clip").state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


@pytest.mark.parametrize("name", ["synth", "synth-trunk", "synth-trunk/scratch", "timm:test_resnet.r160_in1k/scratch"])
def test_every_family_gives_features_for_faces_of_any_size(name: str) -> None:
    network = load_network(name, CPU)
    network.eval()
    for size in (48, 64, 100):
        faces = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
        features = network(faces)
        assert features.shape == (2, network.features)
        torch.testing.assert_close(features, network(faces.float() / 255))


def test_the_trunk_ends_in_a_rectified_map_that_is_pooled() -> None:
    network = load_network("synth-trunk", CPU)
    network.eval()
    faces = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    maps = network.feature_map(faces)
    assert maps.min() >= 0
    torch.testing.assert_close(maps.mean((2, 3)), network(faces))


def test_open_clip_from_a_local_file(tiny_clip: Path) -> None:
    network = load_network(f"open_clip:tiny-clip/{tiny_clip}", CPU)
    again = load_network(f"open_clip:tiny-clip/{tiny_clip}", CPU)
    assert (network.features, network.size, network.preprocessing.interpolation) == (24, 32, "bicubic")
    assert network.preprocessing.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert network.digest == again.digest
    stored = torch.load(tiny_clip, weights_only=True)
    assert torch.equal(network.body.state_dict()["proj"], stored["visual.proj"])


def test_the_weights_of_openai_come_as_a_program_which_is_not_run(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "clip.pt", "w") as archive:
        archive.writestr("clip/code/__torch__.py", "")
    with pytest.raises(BenchError, match=r"clip\.pt is a program .* open_clip:ViT-B-32-quickgelu/openai"):
        load_network(f"open_clip:ViT-B-32/{tmp_path / 'clip.pt'}", CPU)


def test_timm_from_a_local_file_may_carry_another_classifier(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    model = timm.create_model("test_resnet.r160_in1k", num_classes=11)
    wrapped = {"state_dict": {f"module.{name}": tensor for name, tensor in model.state_dict().items()}}
    torch.save(wrapped, tmp_path / "face.pth")
    network = load_network(f"timm:test_resnet.r160_in1k/{tmp_path / 'face.pth'}", CPU)
    model.reset_classifier(0)
    assert network.digest == content_digest(model)


def test_the_digest_is_of_the_values_not_of_the_container(tmp_path: Path) -> None:
    body = load_network("synth-trunk/scratch", CPU).body
    state = {name: tensor.contiguous() for name, tensor in body.state_dict().items()}
    save_file(state, tmp_path / "a.safetensors")
    torch.save(state, tmp_path / "a.pt")
    names = [f"synth-trunk/{tmp_path / file}" for file in ("a.safetensors", "a.pt")]
    digests = {load_network(name, CPU).digest for name in names}
    assert digests == {content_digest(body)}
    assert len({weights_digest(parse_network(name, "x")) for name in names}) == 2


def test_statistics_of_imagenet_instead_of_its_own() -> None:
    own, imagenet = load_network("synth", CPU), load_network("synth", CPU, "imagenet")
    assert imagenet.preprocessing.mean == IMAGENET_MEAN
    assert own.digest == imagenet.digest
    grey = torch.full((1, 3, 64, 64), 128, dtype=torch.uint8)
    assert not torch.allclose(own.prepare(grey), imagenet.prepare(grey))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:resnet18.nonsense", "the weights of timm:resnet18.nonsense cannot be downloaded|timm does not have"),
        ("timm:nonsense", "timm does not have the model 'nonsense'"),
        ("open_clip:ViT-B-33/openai", "open_clip does not have the model 'ViT-B-33'; did you mean"),
        ("open_clip:ViT-B-32/nobody", "open_clip does not have the weights 'nobody' for ViT-B-32; it has .*laion"),
    ],
)
def test_an_unknown_model_or_tag_is_named(name: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        load_network(name, CPU)


def test_weights_that_cannot_be_fetched_say_how_to_give_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        BenchError, match=r"cannot be downloaded .* name the file: timm:resnet18\.tv_in1k//path/to/weights"
    ):
        load_network("timm:resnet18.tv_in1k", CPU)


def test_a_network_with_a_layer_behind_its_pooling_is_as_wide_as_what_it_gives() -> None:
    network = load_network("timm:mobilenetv3_small_050/scratch", CPU)
    assert network.training
    assert network.features == 1024 != network.body.num_features
    network.eval()
    faces = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
    assert network(faces).shape == (2, 1024)
    assert network.map_shape()[0] == network.body.num_features


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(BenchError, match=r"w\.safetensors does not fit synth-trunk.*: it lacks .*; it adds other"):
        load_network(f"synth-trunk/{tmp_path / 'w.safetensors'}", CPU)


def test_what_does_not_fit_is_listed_up_to_a_handful(tmp_path: Path) -> None:
    state = {name: value.contiguous() for name, value in load_network("synth-trunk", CPU).body.state_dict().items()}
    del state["expand.0.weight"], state["expand.1.bias"]
    state["expand.1.weight"] = torch.zeros(3)
    state |= {f"more{place}": torch.zeros(1) for place in range(7)}
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(BenchError) as caught:
        load_network(f"synth-trunk/{tmp_path / 'w.safetensors'}", CPU)
    assert "it lacks expand.0.weight, expand.1.bias; it adds more0, more1, more2, more3, more4 and 2 more" in str(
        caught.value
    )
    assert "it has in another shape expand.1.weight (3,) instead of (512,)" in str(caught.value)


# --------------------------------------------------------------------------------------------------- the papers' trunks


def jittered(module: nn.Module) -> dict[str, Tensor]:
    """Random weights with which every layer changes the output, running statistics included."""
    generator = torch.Generator().manual_seed(5)
    return {
        name: value.abs() + 0.1 + 0.1 * torch.rand(value.shape, generator=generator)
        if name.endswith("running_var")
        else value + 0.05 * torch.randn(value.shape, generator=generator)
        for name, value in module.state_dict().items()
        if value.is_floating_point()
    }


def test_the_face_pretrained_resnet18_is_torchvisions_bit_for_bit(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    reference = torchvision.models.resnet18(weights=None)
    state = jittered(reference)
    reference.load_state_dict(state, strict=False)
    reference.fc = nn.Identity()
    reference.to(memory_format=torch.channels_last)
    torch.save({"state_dict": state}, tmp_path / "face.pth")  # with its classifier, as such files are
    network = load_network(f"timm:resnet18/{tmp_path / 'face.pth'}", CPU)
    images = network.prepare(torch.randint(0, 256, (3, 3, 96, 96), dtype=torch.uint8))[:, :, :96, :96]
    for training in (False, True):
        network.train(training)
        reference.train(training)
        assert torch.equal(network.body(images), reference(images))
    ours = network.body.state_dict()
    for name, value in reference.state_dict().items():  # running statistics after a pass in training mode
        assert torch.equal(ours[name], value), name


@pytest.fixture(scope="module")
def vggface2(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    """Random weights of a ResNet-50 in the form of the VGGFace2 weights: numpy arrays in a pickle, with the
    classifier of its identities.
    """
    timm = pytest.importorskip("timm")
    torch.manual_seed(3)
    state = jittered(timm.create_model("resnet50", num_classes=0))
    path = tmp_path_factory.mktemp("vggface2") / "resnet50_ft_weight.pkl"
    arrays = {name: value.numpy() for name, value in state.items()}
    classifier = np.zeros((VGGFACE2_IDENTITIES, 1), np.float32)
    path.write_bytes(pickle.dumps({**arrays, "fc.weight": classifier, "fc.bias": classifier[:, 0]}, protocol=2))
    return path, state


def caffe_forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
    """ResNet-50 of Caffe, layer by layer: the map before pooling."""

    def layer(x: Tensor, conv: str, norm: str, stride: int = 1, padding: int = 0) -> Tensor:
        x = functional.conv2d(x, state[f"{conv}.weight"], None, stride, padding)
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{norm}.{name}"] for name in names))

    x = functional.max_pool2d(layer(x, "conv1", "bn1", 2, 3).relu(), 3, 2, 0, ceil_mode=True)
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            at, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = layer(x, f"{at}.conv1", f"{at}.bn1", stride).relu()
            y = layer(y, f"{at}.conv2", f"{at}.bn2", 1, 1).relu()
            y = layer(y, f"{at}.conv3", f"{at}.bn3")
            x = (y + (x if block else layer(x, f"{at}.downsample.0", f"{at}.downsample.1", stride))).relu()
    return x


@torch.no_grad()
def test_the_resnet50_of_vggface2_is_caffes(vggface2: tuple[Path, dict[str, Tensor]]) -> None:
    path, state = vggface2
    network = load_network(f"vggface2-resnet50/{path}", CPU)
    network.eval()
    images = torch.randn(2, 3, 64, 64)
    expected = caffe_forward(state, images)
    found = network.body.forward_features(images)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
    assert network.features == 2048
    network.body.layer2[0].conv1.stride, network.body.layer2[0].conv2.stride = (1, 1), (2, 2)  # torchvision's layout
    assert (network.body.forward_features(images) - expected).abs().max() > 0.01 * expected.abs().max()


def test_weights_of_the_other_resnet50_are_refused(vggface2: tuple[Path, dict[str, Tensor]], tmp_path: Path) -> None:
    path, _ = vggface2
    with pytest.raises(BenchError, match=r"Caffe-style ResNet-50 .* another network; name it vggface2-resnet50//"):
        load_network(f"timm:resnet50/{path}", CPU)
    for name, found in (("fc.weight", "a classifier of 1,000 classes"), ("conv1.weight", "no classifier")):
        save_file({name: torch.zeros(1000, 8)}, tmp_path / "w.safetensors")
        with pytest.raises(BenchError, match=f"contains {found} where .* one of 8631, .* use timm:resnet50"):
            load_network(f"vggface2-resnet50/{tmp_path / 'w.safetensors'}", CPU)


def test_the_weights_of_vggface2_have_no_name_but_their_files() -> None:
    with pytest.raises(BenchError, match="the weights of vggface2-resnet50 cannot be downloaded by name"):
        parse_network("vggface2-resnet50", "--set trunk")
    assert parse_network("vggface2-resnet50/scratch", "x").scratch


def test_a_pickle_of_anything_but_arrays_is_refused(tmp_path: Path) -> None:
    for name, content in (("call", {"x": print}), ("list", [1, 2]), ("path", {"x": Path("/")})):
        (tmp_path / f"{name}.pkl").write_bytes(pickle.dumps(content))
        with pytest.raises(BenchError, match="does not contain weights that can be loaded safely"):
            load_network(f"vggface2-resnet50/{tmp_path / name}.pkl", CPU)


def test_tokens_of_transformers_stand_in_their_grid(tiny_clip: Path) -> None:
    faces = torch.randint(0, 256, (2, 3, 48, 48), dtype=torch.uint8)
    clip = load_network(f"open_clip:tiny-clip/{tiny_clip}", CPU)
    vit = load_network("timm:test_vit.r160_in1k/scratch", CPU)
    for network in (clip, vit):
        network.eval()
        with pytest.raises(BenchError, match="lacks a feature map; choose a convolutional network"):
            network.feature_map(faces)
    grid = clip.patch_map(faces)
    assert grid.shape == (2, 32, 4, 4)
    clip.body.output_tokens = True
    torch.testing.assert_close(grid.flatten(2).transpose(1, 2), clip.body(clip.prepare(faces))[1])
    side = vit.size // 16
    tokens = vit.body.forward_features(vit.prepare(faces))[:, vit.body.num_prefix_tokens :]
    torch.testing.assert_close(vit.patch_map(faces), tokens.transpose(1, 2).unflatten(2, (side, side)))


def test_a_file_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"x": Path("/")}, tmp_path / "evil.pt")
    with pytest.raises(BenchError, match="does not contain weights that can be loaded safely"):
        load_network(f"synth-trunk/{tmp_path / 'evil.pt'}", CPU)
