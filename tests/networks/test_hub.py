from __future__ import annotations

import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import Bench
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project
from fergen_bench.networks import hub
from fergen_bench.networks.hub import Published
from fergen_bench.networks.name import parse_network
from fergen_bench.records.record import RunRecord

CLIP, RESNET = "open_clip:ViT-B-32-quickgelu/openai", "timm:resnet18.tv_in1k"
ADDRESSES = (
    "https://huggingface.co/timm/vit_base_patch32_clip_224.openai/resolve/main/open_clip_model.safetensors",
    "https://huggingface.co/timm/resnet18.tv_in1k/resolve/main/model.safetensors",
)


@pytest.fixture(autouse=True)
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, and no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def refused(*args: Any, **kwargs: Any) -> Any:
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refused)
    return tmp_path / "hub"


def keep(downloads: Path, repository: str, file: str) -> None:
    folder = downloads / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0a")
    (folder / "snapshots" / "0a").mkdir(parents=True)
    (folder / "snapshots" / "0a" / file).write_bytes(b"")


def entry(name: str) -> Published:
    found = hub.published(parse_network(name, "--backbone"))
    assert found is not None
    return found


def test_the_tables_of_open_clip_are_read_as_it_has_them() -> None:
    from open_clip import pretrained

    assert hub._open_clip_entries() == pretrained._PRETRAINED


@pytest.mark.parametrize("name", [RESNET, "timm:vgg16", "timm:test_resnet", "timm:tf_efficientnet_b0.ns_jft_in1k"])
def test_where_weights_of_timm_are_is_what_timm_says(name: str) -> None:
    import timm

    assert entry(name).repository == timm.models.get_pretrained_cfg(name.removeprefix("timm:")).hf_hub_id


def test_weights_that_are_files_or_random_or_not_known_are_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "w.pt").touch()
    names = ("synth", "timm:resnet18/scratch", f"timm:resnet18/{tmp_path / 'w.pt'}", "timm:nothing")
    assert [hub.published(parse_network(name, "x")) for name in names] == [None] * 4
    assert hub.require([("--backbone ", name) for name in names]) == []


@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_weights_in_the_cache_of_the_hub_are_here(file: str, downloads: Path) -> None:
    assert not entry(RESNET).is_here()
    keep(downloads, "timm/resnet18.tv_in1k", file)
    assert entry(RESNET).is_here()
    assert hub.require([("--set trunk=", RESNET)]) == []


def test_weights_of_an_address_are_where_torch_keeps_them(tmp_path: Path) -> None:
    found = Published(url="https://example.org/models/net-0a1b.pth", downloads=str(hub._torch_hub() / "checkpoints"))
    assert found.address == "https://example.org/models/net-0a1b.pth"
    assert not found.is_here()
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "torch" / "hub" / "checkpoints" / "net-0a1b.pth").touch()
    assert found.is_here()


def test_without_a_network_missing_weights_are_refused_with_where_to_get_them() -> None:
    with pytest.raises(BenchError) as caught:
        hub.require([("--set backbone=", CLIP), ("--set trunk=", RESNET), ("--set second=", RESNET)])
    assert str(caught.value) == (
        f"the weights of {CLIP} ({ADDRESSES[0]}) and of {RESNET} ({ADDRESSES[1]}) are not on this machine, and "
        f"huggingface.co cannot be reached; download them elsewhere and name the files (--set backbone="
        f"open_clip:ViT-B-32-quickgelu//path/to/file --set trunk={RESNET}//path/to/file), or use the "
        f"packaged networks (--set backbone=synth --set trunk=synth-trunk; for a suite, its keys backbone and trunk in "
        f"bench.toml)"
    )


def test_offline_by_choice_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BenchError, match="not on this machine, and HF_HUB_OFFLINE is set; download"):
        hub.require([("--set trunk=", RESNET)])


def test_with_a_network_missing_weights_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    monkeypatch.setattr(socket, "create_connection", lambda place, timeout: asked.append(place) or socket.socket())
    monkeypatch.setattr(hub, "getproxies", dict)
    assert hub.require([("--set trunk=", RESNET)]) == [
        f"the weights of {RESNET} are downloaded first, from {ADDRESSES[1]}"
    ]
    monkeypatch.setattr(hub, "getproxies", lambda: {"https": "http://proxy.example:3128"})
    hub.require([("--set trunk=", RESNET)])
    assert asked == [("huggingface.co", 443), ("proxy.example", 3128)]


def test_a_network_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def silent(*args: Any) -> Any:
        over.wait(30)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "create_connection", silent)
    monkeypatch.setattr(hub, "PATIENCE", 0.1)
    began = time.monotonic()
    assert hub.unreachable(ADDRESSES) == "huggingface.co cannot be reached"
    assert time.monotonic() - began < 5
    over.set()


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("open_clip:ViT-B-32/openai", "open_clip:ViT-B-32-quickgelu/openai"),
        ("open_clip:ViT-L-14/dfn2b", "open_clip:ViT-L-14-quickgelu/dfn2b"),
        (CLIP, None),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", None),
        ("open_clip:roberta-ViT-B-32/laion2b_s12b_b32k", None),  # no other model to name
        (RESNET, None),
    ],
)
def test_another_activation_is_refused_before_anything_is_downloaded(name: str, right: str | None) -> None:
    if right is None:
        hub.refuse_wrong_activation([name])
        return
    with pytest.raises(BenchError, match=r"were trained with the activation QuickGELU, and .* has GELU") as caught:
        hub.refuse_wrong_activation([name])
    assert str(caught.value).endswith(f"write {right}")


def test_runs_without_their_weights_end_before_a_domain_is_prepared(project: Project, bench: Bench) -> None:
    for expression in ("happy", "sad"):
        (project.root / "faces" / expression).mkdir(parents=True)
        for number in range(10):
            picture = Image.new("RGB", (48, 48), (number, 0, 0))
            picture.save(project.root / "faces" / expression / f"{number}.png")
    with (project.root / "bench.toml").open("a") as file:
        file.write('[domains.unprepared]\npath = "faces"\n[suites.mine]\ndomains = ["unprepared"]\n')
    chosen = ("--method", "linear_probe", "--suite", "mine", "--seeds", "0", "--no-track", "--backbone")
    refused = bench("run", *chosen, RESNET)
    assert refused.code == 2
    assert f"the weights of {RESNET} ({ADDRESSES[1]}) are not on this machine" in refused.err
    assert "preparing" not in refused.err
    assert not list((project.cache / "domains").glob("unprepared-*"))
    planned = bench("run", *chosen, RESNET, "--dry-run")
    assert planned.code == 0
    assert f"warning: the weights of {RESNET}" in planned.err
    assert "linear_probe" in planned.out
    wrong = bench("run", *chosen, "open_clip:ViT-B-32/openai", "--dry-run")
    assert wrong.code == 2
    assert "write open_clip:ViT-B-32-quickgelu/openai" in wrong.err


def test_missing_weights_of_runs_that_have_records_do_not_matter(
    project: Project, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = ("run", "--method", "linear_probe", "--seeds", "0", "--sources", "web", "--no-track", "--dry-run")
    monkeypatch.setattr("fergen_bench.records.record.RunRecord.answers", lambda self, spec: True)
    digest = project.method("linear_probe").digest
    monkeypatch.setattr(
        "fergen_bench.execution.existing.ExistingRecords._undamaged",
        lambda self, spec: RunRecord(spec, (), (), None, {}, {}, {}, "", digest),
    )
    result = bench(*run, "--backbone", RESNET)
    assert result.code == 0
    assert "not on this machine" not in result.err
