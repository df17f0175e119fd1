"""Test that LoRA trains its adapters, and nothing else, in networks of timm and open_clip."""

from __future__ import annotations

from typing import Any

import open_clip
import pytest
import timm
import torch
from test_golden import method_module
from torch import nn
from torch.nn import functional

from fergen_bench import BenchError, Context, Source
from fergen_bench.networks.loading import load_network


def timm_transformer() -> tuple[nn.Module, int]:
    return timm.create_model("vit_tiny_patch16_224", depth=2, img_size=32, num_classes=0), 32


def clip_transformer() -> tuple[nn.Module, int]:
    vision = {"image_size": 32, "patch_size": 16, "width": 32, "head_width": 16, "layers": 2}
    text = {"context_length": 8, "vocab_size": 100, "width": 32, "heads": 2, "layers": 1}
    return open_clip.CLIP(embed_dim=16, vision_cfg=vision, text_cfg=text).visual, 32


@pytest.mark.parametrize("make", [timm_transformer, clip_transformer])
def test_adapters_of_attention_and_mlp_get_gradients_and_change_the_output(make: Any) -> None:
    lora = method_module("lora")
    torch.manual_seed(0)
    body, size = make()
    images = torch.randn(3, 3, size, size)
    before = body.eval()(images)
    body.requires_grad_(False)
    names = lora.adapted_weights(body, ("attn", "mlp"), "a transformer")
    assert len(names) == 2 * 4  # of two blocks: queries, keys and values, projection, and the two layers of the MLP
    for name in names:
        place, _, weight = name.rpartition(".")
        lora.adapt(body.get_submodule(place), weight, 2, 2.0)
    torch.testing.assert_close(body(images), before)

    adapters = {name: weight for name, weight in body.named_parameters() if weight.requires_grad}
    assert len(adapters) == 2 * len(names)
    optimizer = torch.optim.SGD(adapters.values(), lr=0.1)
    for _ in range(2):  # the gradient of A is 0 in the first step, because B is 0
        optimizer.zero_grad()
        (body(images) * torch.arange(before.numel()).view(before.shape)).mean().backward()
        optimizer.step()
    for name, weight in adapters.items():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name
    after = body(images)
    assert (after - before).abs().max() > 1e-3
    with torch.no_grad():  # as it predicts, where libraries may take another path
        torch.testing.assert_close(body(images), after, rtol=1e-4, atol=1e-4)


def test_the_sum_is_the_weight_plus_the_scaled_product() -> None:
    lora, layer, convolution = method_module("lora"), nn.Linear(5, 4), nn.Conv2d(3, 6, 3)
    for module in (layer, convolution):
        lora.adapt(module, "weight", 2, 6.0)
        nn.init.normal_(module.parametrizations.weight[0].up)
    x, added = torch.randn(2, 5), layer.parametrizations.weight[0]
    expected = functional.linear(x, layer.parametrizations.weight.original, layer.bias)
    torch.testing.assert_close(layer(x), expected + 3.0 * x @ added.down.T @ added.up.T)
    images, added = torch.randn(2, 3, 8, 8), convolution.parametrizations.weight[0]
    thin = functional.conv2d(images, added.down.view(2, 3, 3, 3))
    expected = functional.conv2d(images, convolution.parametrizations.weight.original, convolution.bias)
    torch.testing.assert_close(convolution(images), expected + 3.0 * functional.conv2d(thin, added.up[..., None, None]))


def test_training_leaves_the_encoder_itself_as_it_was(source: Source, ctx: Context) -> None:
    method = method_module("lora").Lora(
        backbone="synth", targets=("stages", "project"), epochs=1, batch_size=64, learning_rate=1e-2
    )
    method.fit(source, ctx)
    fresh = dict(load_network("synth", torch.device("cpu")).body.state_dict())
    for name, value in method.network.body.state_dict().items():
        if "parametrizations" in name and not name.endswith("original"):
            continue
        plain = name.replace("parametrizations.weight.original", "weight")
        assert torch.equal(value, fresh.pop(plain)), name  # running statistics of batch norm too
    assert not fresh
    trained = sum(weight.numel() for weight in method.parameter_groups())
    assert trained < 0.2 * sum(weight.numel() for weight in method.model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, r"lora: targets: no layer of synth has 'attn' in its name; set targets .* such as stages\.0\.0, "),
        ({"targets": ("stages", "head")}, r"no layer of synth has 'head' in its name"),
        ({"targets": ()}, r"no layer of synth has '' in its name"),
        ({"targets": ("stages",), "rank": 0}, r"lora: rank is 0; it must be 1 or more"),
    ],
)
def test_a_target_without_a_layer_is_refused(changes: dict[str, Any], message: str, ctx: Context) -> None:
    with pytest.raises(BenchError, match=message):
        method_module("lora").Lora(backbone="synth", **changes).build(ctx)
