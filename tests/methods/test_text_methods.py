"""Test methods that learn for a text tower, beyond the exam of test_methods."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from test_golden import method_module
from torch import nn

from fergen_bench import EXPRESSIONS, BenchError, Context, Source, prompt_names


def test_coop_puts_the_name_behind_between_or_before_the_vectors() -> None:
    coop = method_module("coop")
    start, name, rest = torch.tensor([[[0.0]]]), [10.0, 11.0], [12.0, 13.0]
    suffix = torch.tensor([name + rest])[..., None]
    for position, expected in {
        "end": [0, 1, 2, 3, 10, 11, 12, 13],
        "middle": [0, 1, 10, 11, 2, 3, 12, 13],
        "front": [0, 10, 11, 1, 2, 3, 12, 13],
    }.items():
        context = torch.tensor([1.0, 2.0, 3.0])[:, None]
        assert coop.joined(start, context, suffix, [2], position)[0, :, 0].tolist() == expected
        assert coop.joined(start, context[None], suffix, [2], position)[0, :, 0].tolist() == expected


def test_coop_trains_the_vectors_alone_through_the_text_tower(source: Source, ctx: Context, text_backbone: str) -> None:
    method = method_module("coop").CoOp(
        backbone=text_backbone, context=4, epochs=2, optimizer="adamw", schedule="constant"
    )
    torch.manual_seed(0)
    before = method.build(ctx)["context"].detach().clone()
    torch.manual_seed(0)
    method.fit(source, ctx)
    assert {name for name, _ in method.model.named_parameters()} == {"context"}
    assert (method.model["context"] - before).abs().max() > 1e-3
    assert before.std().item() == pytest.approx(0.02, rel=0.3)
    assert not any(weight.requires_grad for weight in method.tower.parameters())
    assert ctx.history[1]["loss"] < ctx.history[0]["loss"]


def test_coop_without_training_is_the_zero_shot_classifier_of_its_words(ctx: Context, text_backbone: str) -> None:
    method = method_module("coop").CoOp(backbone=text_backbone, words="a face that looks", context=9)
    method.model = method.build(ctx)
    tower = ctx.text_tower(text_backbone)
    with torch.no_grad():
        features = torch.randn(3, method.encoder.features)
        found = method_module("coop").classified(features, method._text_features(), tower.scale)
        classes = tower.class_vectors(prompt_names("one"), ["a face that looks {}."])
    expected = tower.scale * torch.nn.functional.normalize(features, dim=1) @ classes.T
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
    assert len(method.model["context"]) == 4


def test_coop_can_learn_vectors_for_each_expression(ctx: Context, text_backbone: str) -> None:
    method = method_module("coop").CoOp(backbone=text_backbone, context=3, shared=False)
    assert method.build(ctx)["context"].shape[:2] == (7, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "synth"}, "synth lacks a text tower; choose a backbone with one"),
        (
            {"context": 16},
            r"coop: the context has 16 vectors, and the text tower .* reads 16 tokens; set context to 1 to",
        ),
        ({"context": 0}, "coop: the context has 0 vectors"),
    ],
)
def test_coop_refuses_what_the_text_tower_cannot_read(
    changes: dict[str, Any], message: str, ctx: Context, text_backbone: str
) -> None:
    with pytest.raises(BenchError, match=message):
        method_module("coop").CoOp(**{"backbone": text_backbone, **changes}).build(ctx)
    other = SimpleNamespace(name="open_clip:other", body=SimpleNamespace(text=nn.Linear(1, 1)))
    with pytest.raises(BenchError, match="coop: the text tower of open_clip:other is not built like CLIP's"):
        method_module("coop").embedding_of(other)


def test_exp_clip_averages_the_logits_of_each_class() -> None:
    logits = torch.tensor([[1.0, 3.0, 5.0, 0.0, 4.0]])
    assert method_module("exp_clip").class_means(logits, [2, 1, 2]).tolist() == [[2.0, 5.0, 2.0]]


def test_exp_clip_reads_the_one_matrix_that_fits_the_clip(tmp_path: Path) -> None:
    exp_clip, matrix = method_module("exp_clip"), torch.randn(4, 3)
    torch.save(
        {"epoch": 5, "state_dict": {"w": matrix.half(), "bias": torch.zeros(3), "other": torch.ones(4, 5)}},
        tmp_path / "one.pth",
    )
    assert torch.equal(exp_clip.matrix_in(tmp_path / "one.pth", 3, "a clip"), matrix.half().float())
    with pytest.raises(
        BenchError, match=r"exp_clip: .*one.pth has no matrix of 7 columns, the features of a clip; name"
    ):
        exp_clip.matrix_in(tmp_path / "one.pth", 7, "a clip")
    torch.save({"one": matrix, "two": matrix + 1}, tmp_path / "two.pth")
    with pytest.raises(BenchError, match=r"two.pth has 2 matrices of 3 columns"):
        exp_clip.matrix_in(tmp_path / "two.pth", 3, "a clip")


def test_exp_clip_with_a_projection_that_keeps_angles_is_zero_shot_clip(
    source: Source, ctx: Context, text_backbone: str, tmp_path: Path
) -> None:
    exp_clip, faces = method_module("exp_clip"), source.val.faces()
    features = ctx.backbone(text_backbone).features
    torch.save({"projection": torch.eye(features + 2, features)}, tmp_path / "eye.pth")
    method = exp_clip.ExpClip(weights=str(tmp_path / "eye.pth"), backbone=text_backbone, prompts="expression")
    method.fit(source, ctx)
    tower, encoder = ctx.text_tower(text_backbone), ctx.backbone(text_backbone)
    with torch.no_grad():
        classes = tower.class_vectors([[name] for name in EXPRESSIONS], ["an expression of {}"])
        expected = tower.scale * torch.nn.functional.normalize(encoder(faces), dim=1) @ classes.T
        torch.testing.assert_close(method.predict(faces), expected, rtol=1e-4, atol=1e-4)


def test_exp_clip_without_weights_or_text_tower_is_refused(source: Source, ctx: Context, tmp_path: Path) -> None:
    exp_clip = method_module("exp_clip")
    with pytest.raises(BenchError, match=r"exp_clip: weights is empty; name the file .* --set weights=FILE"):
        exp_clip.ExpClip().fit(source, ctx)
    torch.save({"projection": torch.eye(512)}, tmp_path / "eye.pth")
    with pytest.raises(BenchError, match="synth lacks a text tower"):
        exp_clip.ExpClip(weights=str(tmp_path / "eye.pth"), backbone="synth").fit(source, ctx)
