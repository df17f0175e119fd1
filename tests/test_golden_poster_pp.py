"""Parity of POSTER++: one level of its cross-attention, and its fusion transformer."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from test_golden import method_module
from torch import Tensor, nn
from torch.nn import functional

from golden import PRECISIONS, Golden

LEVEL = {
    "window.norm.": "norm1.",
    "ffn.norm.": "norm2.",
    "attn.relative_position_bias_table": "bias",
    "attn.": "",
    "ffn.mlp.fc1.": "mlp.0.",
    "ffn.mlp.fc2.": "mlp.2.",
    "ffn.": "",
}
FUSION = {
    "cls_token": "first",
    "pos_embed": "place",
    "blocks.": "layers.",
    "attn.qkv.": "self_attn.in_proj_",
    "attn.proj.": "self_attn.out_proj.",
    "mlp.fc1.": "linear1.",
    "mlp.fc2.": "linear2.",
    "se_block.linear1.": "gate.0.",
    "se_block.linear2.": "gate.2.",
    "head.linear.": "head.",
}


def loaded(module: nn.Module, golden: Golden, prefix: str, names: dict[str, str]) -> dict[str, Tensor]:
    """Load the stored parameters into a module, and return its parameters by their stored names."""
    own = dict(module.named_parameters())
    found = {}
    for stored in golden.names(prefix):
        name = stored
        for theirs, ours in names.items():
            name = name.replace(theirs, ours)
        found[prefix + stored] = own.pop(name)
        with torch.no_grad():
            found[prefix + stored].copy_(golden(prefix + stored))
    assert not own, "parameters that the file lacks"
    return found


def check_gradients(golden: Golden, loss: Tensor, inputs: dict[str, Tensor]) -> None:
    stored = [name for name in inputs if golden.holds(f"grad_{name}_f64")]
    assert len(stored) > 1
    for name, gradient in zip(stored, torch.autograd.grad(loss, [inputs[name] for name in stored]), strict=True):
        golden.check(f"grad_{name}", gradient)


def check_level(poster: ModuleType, golden: Golden) -> None:
    heads, side = int(golden("n_heads")), int(golden("window_size"))
    face, landmarks = golden("image_features", grad=True), golden("landmark_features", grad=True)
    level = poster.Level(face.shape[1], heads, side).to(golden.dtype)
    weights = loaded(level, golden, "param.", LEVEL)
    maps = level.conv(face)
    shortcut = level.norm1(maps.permute(0, 2, 3, 1))
    windows = poster.windows_of(shortcut, side)
    golden.exact("relative_position_index", level.place)
    golden.check("conv_output", maps)
    golden.check("shortcut", shortcut)
    golden.check("windows", windows)
    golden.check("query", poster.split_heads(landmarks, heads)[:, None])
    golden.check("attention_output", level.attention(windows, landmarks))
    assert torch.equal(poster.joined(windows, *shortcut.shape[1:3]), shortcut)
    golden.check("eval_output", level(face, landmarks))
    golden("drop_path")
    rate = Golden("poster_pp", torch.float64, compares=False)("drop_path").item()
    paths = torch.stack([golden("drop_path_keep1"), golden("drop_path_keep2")]).to(golden.dtype) / (1 - rate)
    output = level(face, landmarks, paths)
    golden.check("train_output", output)
    inputs = {"image_features": face, "landmark_features": landmarks}
    check_gradients(golden, (output * golden("cotangent")).sum(), inputs | weights)


def check_fusion(poster: ModuleType, golden: Golden) -> None:
    tokens = golden("fusion_tokens", grad=True)
    depth = len({name.partition(".")[0] for name in golden.names("vit.blocks.")})
    ratio = len(golden("vit.blocks.0.mlp.fc1.bias")) // tokens.shape[2]
    heads = poster.Sizes().token_heads
    fusion = poster.Fusion(tokens.shape[1], tokens.shape[2], heads, depth, ratio).to(golden.dtype)
    weights = loaded(fusion, golden, "vit.", FUSION)
    logits = fusion(tokens)
    loss = functional.cross_entropy(logits, golden("labels"))
    golden.check("fusion_logits", logits)
    golden.check("fusion_loss", loss)
    check_gradients(golden, loss, {"fusion_tokens": tokens} | weights)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_poster_pp_outputs_and_gradients(dtype: torch.dtype) -> None:
    poster, golden = method_module("poster_pp"), Golden("poster_pp", dtype)
    check_level(poster, golden)
    check_fusion(poster, golden)
