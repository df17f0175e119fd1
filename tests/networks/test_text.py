"""Text towers: their vectors, refused networks, and the entries of a record."""

from __future__ import annotations

import json

import pytest
import torch
from torch.nn import functional

from conftest import ROOT, Bench
from fergen_bench import EXPRESSIONS, Context
from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError
from fergen_bench.experiment.method_file import read_method
from fergen_bench.experiment.outline import Request, outline
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.protocol import Protocol
from fergen_bench.networks.loading import load_network, load_text_tower
from fergen_bench.networks.prompts import PROMPT_TEMPLATES, prompt_names
from fergen_bench.records.counting import load_all

CPU = torch.device("cpu")


def test_there_are_words_for_every_expression_in_their_order() -> None:
    assert [several[0] for several in prompt_names()] == [
        "surprised",
        "fearful",
        "disgusted",
        "happy",
        "sad",
        "angry",
        "neutral",
    ]
    assert prompt_names("one") == tuple(several[:1] for several in prompt_names())
    assert all(template.count("{}") == 1 for template in PROMPT_TEMPLATES)
    assert len(PROMPT_TEMPLATES) == 6


def test_class_vectors_are_the_mean_of_unit_sentences_at_unit_length(text_backbone: str, ctx: Context) -> None:
    import open_clip

    tower = ctx.text_tower(text_backbone)
    model = open_clip.create_model("tiny-face", pretrained=text_backbone.partition("/")[2])
    texts = open_clip.get_tokenizer("tiny-face")(
        [t.format(name) for name in ("happy", "smiling") for t in ("{}", "a {}")]
    )
    with torch.no_grad():
        sentences = functional.normalize(model.encode_text(texts), dim=1)
        expected = functional.normalize(sentences.mean(0), dim=0)
        found = tower.class_vectors([("sad",), ("happy", "smiling")], ("{}", "a {}"))
    torch.testing.assert_close(found[1], expected)
    assert tower.scale.item() == pytest.approx(model.logit_scale.exp().item())
    vectors = tower.class_vectors()
    assert vectors.shape == (len(EXPRESSIONS), load_network(text_backbone, CPU).features)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(7))


def test_class_vectors_are_kept_until_a_weight_is_written(text_backbone: str) -> None:
    tower = load_text_tower(text_backbone, CPU)
    assert tower.class_vectors().requires_grad
    with torch.no_grad():
        first = tower.class_vectors()
        assert tower.class_vectors() is first
        assert tower.class_vectors(prompt_names("one")) is not first
        tower.body.text_projection.mul_(torch.linspace(0.1, 2.0, tower.body.text_projection.shape[1]))
        assert not torch.allclose(tower.class_vectors(), first)


def test_a_frozen_tower_learns_nothing(text_backbone: str, ctx: Context) -> None:
    assert not any(parameter.requires_grad for parameter in ctx.text_tower(text_backbone).parameters())
    assert all(parameter.requires_grad for parameter in ctx.text_tower(text_backbone, trainable=True).parameters())


def test_both_towers_have_digests_of_their_own(text_backbone: str) -> None:
    digests = [load_text_tower(text_backbone, CPU).digest for _ in range(2)]
    assert digests[0] == digests[1] != load_network(text_backbone, CPU).digest
    assert len(digests[0]) == 16


@pytest.mark.parametrize("name", ["synth", "timm:test_resnet.r160_in1k/scratch"])
def test_a_backbone_without_a_text_tower_is_refused(name: str, ctx: Context) -> None:
    with pytest.raises(BenchError, match=f"{name} lacks a text tower; choose a backbone with one, such as open_clip:"):
        ctx.text_tower(name)


@pytest.mark.parametrize("name", ["zero_shot", "flyp"])
def test_a_plan_without_a_text_tower_is_refused_before_anything_runs(name: str) -> None:
    suite = Suite("s", ("a", "b"), "synth", "synth-trunk", recipe="small", synthetic=True)
    method, protocol = read_method(ROOT / "methods" / f"{name}.py"), Protocol.model_validate({"about": "x"})
    with pytest.raises(
        BenchError, match=f"{name} needs a backbone with a text tower, and synth has none; .*--set backb"
    ):
        outline(protocol, "p.yaml", suite, [method], Request())
    chosen = Request(settings={"backbone": "open_clip:ViT-B-32-quickgelu/openai"})
    assert outline(protocol, "p.yaml", suite, [method], chosen).outlines


def test_the_record_says_which_text_tower_it_was(text_backbone: str, bench: Bench, project: Project) -> None:
    arguments = ("--seeds", "0", "--sources", "web", "--jobs", "0", "--no-track", "--set", f"backbone={text_backbone}")
    result = bench("run", "--method", "zero_shot", *arguments)
    assert result.code == 0, result.err
    (record,) = load_all(project.results / "runs")[0]
    assert record.networks["backbone"]["text_digest"] == load_text_tower(text_backbone, CPU).digest
    assert json.dumps(record.to_json())
