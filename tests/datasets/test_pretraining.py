"""The table of pre-training: what weights were trained on, and which datasets that includes."""

from __future__ import annotations

import pytest

from fergen_bench.datasets import WILD5
from fergen_bench.datasets.pretraining import known_names, prior_exposure, table, trained_on


@pytest.mark.parametrize(
    ("network", "collections"),
    [
        ("open_clip:ViT-B-32-quickgelu/openai", ("webimagetext",)),
        ("open_clip:ViT-B-32/laion400m_e32", ("laion-400m",)),
        ("open_clip:ViT-B-32/laion2b_s34b_b79k", ("laion-5b",)),
        ("open_clip:ViT-B-16-SigLIP/webli", ("webli",)),
        ("timm:vit_base_patch16_siglip_224.webli", ("webli",)),
        ("timm:vit_base_patch16_clip_224.openai", ("webimagetext",)),
        ("timm:vit_small_patch14_dinov2.lvd142m", ("lvd-142m",)),
        ("timm:vit_base_patch16_224.dino", ("imagenet-1k",)),
        ("timm:resnet18.tv_in1k", ("imagenet-1k",)),
        ("timm:vit_base_patch16_224.augreg_in21k", ("imagenet-21k", "imagenet-1k")),
        ("synth", ("rendered-faces",)),
        ("synth-trunk", ("rendered-faces",)),
        ("timm:resnet18.fb_swsl_ig1b_ft_in1k", None),
        ("timm:resnet18", None),
        ("open_clip:ViT-B-32/of-a-friend", None),
    ],
)
def test_published_weights_are_found_by_name(network: str, collections: tuple[str, ...] | None) -> None:
    assert trained_on(network, "published:tag", {}) == collections


def test_the_content_of_a_file_is_unknown_until_it_is_declared() -> None:
    for network in (
        "open_clip:ViT-B-32/" + "/home/me/openai",
        "timm:resnet18//home/me/resnet18.tv_in1k",
        "timm:resnet18/C:\\me\\resnet18_msceleb.pth",
        "vggface2-resnet50//home/me/w.pkl",
        "synth//home/me/w.safetensors",
    ):
        assert trained_on(network, "0123456789abcdef", {}) is None
    declared = {"w.pkl": ["ms-celeb-1m", "vggface2"], "9f3c2a": ["affectnet"], "0123": ["rafdb"]}
    assert trained_on("vggface2-resnet50//home/me/w.pkl", "0123456789abcdef", declared) == ("ms-celeb-1m", "vggface2")
    assert trained_on("timm:resnet18//home/me/x.pth", "9f3c2a0000000000", declared) == ("affectnet",)
    assert trained_on("timm:resnet18//home/me/x.pth", "0123000000000000", declared) is None  # too few digits
    assert trained_on("timm:resnet18/C:\\me\\w.pkl", "1", declared) == ("ms-celeb-1m", "vggface2")


def test_random_weights_have_seen_nothing() -> None:
    assert trained_on("timm:resnet18/scratch", "scratch", {}) == ()
    assert prior_exposure((), "rafdb").saw == "no"


def test_the_exposure_to_each_of_the_five_datasets() -> None:
    def saw(*names: str) -> list[str]:
        return [prior_exposure(names, dataset).saw for dataset in WILD5]

    assert saw("webimagetext") == ["unknown"] * 5
    assert saw("imagenet-1k") == saw("rendered-faces") == ["no"] * 5
    assert saw("affectnet") == ["no", "no", "yes", "no", "no"]
    assert saw("fer2013") == ["no", "yes", "no", "no", "yes"]  # FERPlus relabels it, MMA contains it
    assert saw("vggface2", "affectnet") == ["unknown", "unknown", "yes", "unknown", "unknown"]
    assert prior_exposure(("fer2013",), "ferplus").because == "trained on fer2013, which shares images with ferplus"
    assert prior_exposure(("webimagetext",), "rafdb").because.startswith("webimagetext: its list of pictures")
    unknown = prior_exposure(None, "rafdb", "timm:resnet18")
    assert (unknown.saw, unknown.because) == ("unknown", "nobody stated what timm:resnet18 was trained on")
    assert prior_exposure(("a set of mine",), "rafdb").saw == "unknown"
    assert prior_exposure(("folder",), "folder").saw == "unknown"  # two folders are not one dataset


def test_every_entry_has_a_source_and_names_collections_of_the_table() -> None:
    for name, about in table()["collections"].items():
        assert set(about) == {"about", "source", "contains", "because"}, name
        assert about["contains"] in {"no", "unknown"}, name
        assert all(about.values()), name
    for entry in table()["weights"]:
        assert set(entry) == {"names", "collections", "source"}
        assert set(entry["collections"]) <= set(known_names())
