from __future__ import annotations

import argparse
import json
import logging
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fergen_bench.error import BenchError
from fergen_bench.networks import loading
from fergen_bench.networks.loading import content_digest, load_network, warned
from fergen_bench.networks.name import parse_network
from fergen_bench.networks.weights_file import fill, find_fit, read_weights

CPU = torch.device("cpu")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3)
        self.layer = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))


def weights(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return {key: torch.randn_like(value) for key, value in Small().state_dict().items() if value.is_floating_point()}


def filled(content: Any, folder: Path, zipped: bool = True) -> tuple[Small, tuple[str, ...]]:
    path = folder / "own.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    network = Small()
    return network, fill(network, find_fit(read_weights(path), network), path, "small")


def holds(network: Small, expected: dict[str, Tensor]) -> bool:
    state = network.state_dict()
    return all(torch.equal(state[key], value) for key, value in expected.items())


@pytest.mark.parametrize(
    "prefix",
    [
        *("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "module.module.", "model."),
        *("backbone.", "encoder.", "net.", "model.backbone.encoder.", "module.encoder_q.", "anything.at.all."),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_prefixes_are_taken_off(prefix: str, zipped: bool, tmp_path: Path) -> None:
    network, notes = filled({f"{prefix}{key}": value for key, value in weights().items()}, tmp_path, zipped)
    assert holds(network, weights())
    assert notes == ()


def test_wrappers_are_taken_off_within_names_and_of_some_alone(tmp_path: Path) -> None:
    mixed = {
        f"module.{key}" if key.startswith("stem") else key.replace("layer.", "layer._orig_mod.module."): value
        for key, value in weights().items()
    }
    assert holds(filled(mixed, tmp_path)[0], weights())


@pytest.mark.parametrize(
    "wrapped",
    [
        *({name: weights()} for name in ("state_dict", "model", "model_state_dict", "net", "ema", "teacher", "mine")),
        {"epoch": 3, "best": torch.tensor(88.0), "checkpoint": {"model": {"weights": weights()}}},
        {"optimizer": {"state": {0: {"exp_avg": torch.zeros(4, 3, 3, 3)}}}, "model": weights()},
        {"args": {"lr": 0.1}, "best": np.float64(88.5), "mean": np.zeros(3), "state_dict": weights()},
    ],
)
def test_weights_are_found_wherever_a_checkpoint_keeps_them(wrapped: dict[str, Any], tmp_path: Path) -> None:
    network, notes = filled(wrapped, tmp_path)
    assert holds(network, weights())
    assert notes == ()


def test_of_several_sets_that_fit_alike_the_usual_one_is_used_and_said(tmp_path: Path) -> None:
    network, notes = filled({"student": weights(1), "teacher": weights(2)}, tmp_path)
    assert holds(network, weights(2))
    assert notes == (
        "its file has several sets of weights that fit alike, teacher, student; teacher is used: to use another, save "
        "that set alone",
    )
    queries = {f"encoder_q.{key}": value for key, value in weights(1).items()}
    keys = {f"encoder_k.{key}": value for key, value in weights(2).items()}
    network, (note, _) = filled({"state_dict": queries | keys}, tmp_path)
    assert holds(network, weights(1))
    assert "state_dict: encoder_q., state_dict: encoder_k." in note
    assert filled({"model": weights(1), "ema": weights(1)}, tmp_path)[1] == ()  # the same, so nothing to choose


def test_a_set_that_fits_whole_is_used_rather_than_one_that_lacks_a_part(tmp_path: Path) -> None:
    part = {key: value for key, value in weights(1).items() if "layer" not in key}
    assert holds(filled({"model": part, "ema": weights(2)}, tmp_path)[0], weights(2))


def test_layers_behind_the_network_are_left_out_and_named(tmp_path: Path) -> None:
    behind = {"feature.weight": torch.zeros(256, 4), "feature.bias": torch.zeros(256), "fc.weight": torch.zeros(8, 256)}
    content = {f"module.{key}": value for key, value in (weights() | behind).items()}
    network, notes = filled({"state_dict": content, "best_prec1": torch.tensor(88.0)}, tmp_path, zipped=False)
    assert holds(network, weights())
    assert notes == ("left out of its file: feature.weight, feature.bias, fc.weight",)


def test_layers_within_the_network_are_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"own\.pth does not fit small: it adds layer\.2\.weight; name the"):
        filled(weights() | {"layer.2.weight": torch.zeros(4)}, tmp_path)


def test_a_network_that_lacks_weights_names_them_and_how_many(tmp_path: Path) -> None:
    part = {f"module.{key}": value for key, value in weights().items() if key.startswith("stem")}
    with pytest.raises(
        BenchError,
        match=r"lacks layer\.0\.weight, layer\.0\.bias, layer\.1\.weight, layer\.1\.bias, layer\.1\.running_mean and "
        r"1 more; name",
    ):
        filled(part, tmp_path)
    with pytest.raises(BenchError, match=r"in another shape stem\.weight \(4, 3, 5, 5\) instead of \(4, 3, 3, 3\)"):
        filled(weights() | {"stem.weight": torch.zeros(4, 3, 5, 5)}, tmp_path)


def test_a_deeper_resnet_is_not_taken_for_a_shallow_one(tmp_path: Path) -> None:
    import timm

    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "w.pth")
    with pytest.raises(BenchError, match=r"w\.pth does not fit timm:resnet18/.*: it adds layer1\.2\."):
        load_network(f"timm:resnet18/{tmp_path / 'w.pth'}", CPU)


class AverageMeter:
    value = 1.0


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"state_dict": weights(), "args": argparse.Namespace(lr=0.1)}, "argparse.Namespace"),
        ({"state_dict": weights(), "meter": AverageMeter()}, "test_weights_file.AverageMeter"),
        ({"model": weights(), "path": Path("x")}, "pathlib.PosixPath"),
        (Small(), "test_weights_file.Small"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
    ],
)
def test_objects_of_programs_are_named_with_the_way_to_convert(
    content: Any, kind: str, zipped: bool, tmp_path: Path
) -> None:
    with pytest.raises(BenchError) as caught:
        filled(content, tmp_path, zipped)
    said = str(caught.value)
    assert "own.pth does not contain weights that can be loaded safely: it contains an object of a program" in said
    assert kind in said
    assert not {"\n", "\x1b"} & set(said)
    assert "In PyTorch 2.6" not in said
    if isinstance(content, dict):  # and the two lines do what they promise
        exec(said.partition("name the new file: ")[2], {"torch": torch})
        network = Small()
        fill(network, find_fit(read_weights(tmp_path / "own-weights.pth"), network), tmp_path, "small")
        assert holds(network, weights())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<!DOCTYPE html><title>Not found</title>", "it is a web page; download the file itself again"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "it is a pointer of Git LFS"),
        (b"\x80\x02nonsense", "it is damaged, or torch did not write it"),
        (b"", "loaded safely: "),
    ],
)
def test_other_files_are_called_what_they_are(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(BenchError, match=message) as caught:
        read_weights(tmp_path / "w.pth")
    assert not {"\n", "\x1b"} & set(str(caught.value))


def test_a_pickle_that_would_run_code_does_not(tmp_path: Path) -> None:
    class Run:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "ran",)

    (tmp_path / "w.pth").write_bytes(pickle.dumps({"state_dict": Run()}, protocol=2))
    with pytest.raises(BenchError, match="does not contain weights that can be loaded safely"):
        read_weights(tmp_path / "w.pth")
    assert not (tmp_path / "ran").exists()


def test_a_file_of_a_download_cache_has_no_ending(tmp_path: Path) -> None:
    blob, link = tmp_path / "blobs" / "0123abcd", tmp_path / "model.safetensors"
    blob.parent.mkdir()
    save_file(weights(), blob)
    link.symlink_to(blob)
    named = parse_network(f"synth-trunk/{link}", "--backbone").path
    assert named is not None
    assert set(read_weights(named)[""]) == set(weights())


# ----------------------------------------------------------------------------------------------------------- open_clip


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tensor]:
    """Registers a small CLIP with and without QuickGELU, and gives weights for it."""
    import open_clip

    folder = tmp_path_factory.mktemp("clips")
    tower = {"image_size": 32, "layers": 1, "width": 16, "patch_size": 16, "head_width": 16}
    text = {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 1, "layers": 1}
    for name in ("small-clip", "small-clip-quickgelu"):
        config = {"embed_dim": 16, "quick_gelu": "quick" in name, "vision_cfg": tower, "text_cfg": text}
        (folder / f"{name}.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder)
    torch.manual_seed(0)
    return dict(open_clip.create_model("small-clip").state_dict())


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
def test_a_clip_below_a_prefix(clips: dict[str, Tensor], prefix: str, tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.pt", tmp_path / "w.pt"
    torch.save(clips, plain)
    torch.save({"model": {f"{prefix}{key}": value for key, value in clips.items()}, "epoch": 3}, path)
    network, expected = (load_network(f"open_clip:small-clip/{file}", CPU) for file in (path, plain))
    assert network.digest == expected.digest
    assert network.notes == expected.notes == ()
    tower = loading.load_text_tower(f"open_clip:small-clip/{path}", CPU)
    assert tower.digest == loading.load_text_tower(f"open_clip:small-clip/{plain}", CPU).digest


def test_a_clip_that_lacks_weights(clips: dict[str, Tensor], tmp_path: Path) -> None:
    torch.save({key: value for key, value in clips.items() if key != "visual.proj"}, tmp_path / "w.pt")
    with pytest.raises(BenchError, match=r"w\.pt does not fit open_clip:small-clip/.*: it lacks visual\.proj; name"):
        load_network(f"open_clip:small-clip/{tmp_path / 'w.pt'}", CPU)


def test_openais_weights_need_a_model_with_quickgelu(clips: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(clips | {"input_resolution": torch.tensor(32), "context_length": torch.tensor(8)}, path)
    with pytest.raises(BenchError) as caught:
        load_network(f"open_clip:small-clip/{path}", CPU)
    said = f"has GELU, which would compute other features; write open_clip:small-clip-quickgelu/{path}"
    assert str(caught.value).endswith(said)
    torch.save(clips, tmp_path / "plain.pt")
    names = (f"open_clip:small-clip-quickgelu/{file}" for file in (path, tmp_path / "plain.pt"))
    first, second = (load_network(name, CPU) for name in names)
    assert first.digest == second.digest


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32-quickgelu/openai"),
        ("open_clip:ViT-L-14/dfn2b", "open_clip:ViT-L-14-quickgelu/dfn2b"),
        ("open_clip:ViT-B-32/{}/ViT-B-32-openai.pt", "open_clip:ViT-B-32-quickgelu/{}/ViT-B-32-openai.pt"),
        (
            "open_clip:ViT-B-32/{}/models--timm--vit_base_patch32_clip_224.openai/blobs/0a",
            "open_clip:ViT-B-32-quickgelu/{}/models--timm--vit_base_patch32_clip_224.openai/blobs/0a",
        ),
        (
            "open_clip:ViT-B-32-quickgelu/{}/ViT-B-32-laion2b_s34b_b79k.pt",
            "open_clip:ViT-B-32/{}/ViT-B-32-laion2b_s34b_b79k.pt",
        ),
    ],
)
def test_published_weights_with_another_activation_are_refused_with_the_right_name(
    name: str, right: str, tmp_path: Path
) -> None:
    name, right = name.format(tmp_path), right.format(tmp_path)
    if (path := parse_network(name, "--backbone", check=False).path) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(weights(), path)
    with pytest.raises(BenchError) as caught:
        load_network(name, CPU)
    assert str(caught.value).endswith(f"write {right}")


# ------------------------------------------------------------------------------------------------------------- warnings


def test_what_libraries_warn_of_is_heard() -> None:
    with warned() as heard:
        logging.getLogger("timm.models").warning("Unexpected keys (%s)", "a.b")
        logging.info("loading")
        warnings.warn("QuickGELU mismatch", UserWarning, stacklevel=1)
        warnings.warn("old name", DeprecationWarning, stacklevel=1)
    assert heard == ["Unexpected keys (a.b)", "QuickGELU mismatch"]


def test_a_network_knows_what_was_warned_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import timm

    create = timm.create_model

    def warning(*args: Any, **kwargs: Any) -> Any:
        logging.warning("these weights are experimental")
        return create(*args, **kwargs)

    body = create("test_resnet", num_classes=5)
    torch.save({"state_dict": body.state_dict()}, tmp_path / "w.pth")
    monkeypatch.setattr(timm, "create_model", warning)
    network = load_network(f"timm:test_resnet/{tmp_path / 'w.pth'}", CPU, "imagenet")
    assert network.notes == ("left out of its file: fc.weight, fc.bias", "these weights are experimental")
    body.reset_classifier(0)
    assert network.digest == content_digest(body)
