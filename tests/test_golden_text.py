"""Parity of methods on a text tower: CoOp, Exp-CLIP."""

from __future__ import annotations

import itertools

import open_clip
import pytest
import torch
from test_golden import method_module
from torch.nn import functional

from fergen_bench.networks.text import TextTower
from golden import PRECISIONS, Golden


def text_tower(golden: Golden) -> TextTower:
    """Return open_clip's text tower with the stored weights."""
    length, width = golden("text.positional_embedding").shape
    text = {"context_length": length, "width": width, "heads": int(golden("n_heads")), "vocab_size": 49408}
    model = open_clip.CLIP(
        embed_dim=golden("text.text_projection").shape[1],
        vision_cfg={"image_size": 16, "patch_size": 16, "width": 64, "layers": 1},
        text_cfg={**text, "layers": int(golden("n_layers"))},
        quick_gelu=True,
    ).to(golden.dtype)
    stored = {
        name.replace("resblocks", "transformer.resblocks"): golden(f"text.{name}") for name in golden.names("text.")
    }
    missing, unknown = model.load_state_dict(stored, strict=False)
    assert not unknown
    assert all(name.startswith(("visual.", "token_embedding", "logit_scale")) for name in missing)
    model.logit_scale.data = golden("log_logit_scale")
    tokenizer = open_clip.SimpleTokenizer(context_length=length)
    return TextTower("stored", model.requires_grad_(False), tokenizer)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_coop_prompts_logits_and_gradients(dtype: torch.dtype) -> None:
    coop, golden = method_module("coop"), Golden("coop", dtype)
    tower, tokens, lengths = text_tower(golden), golden("tokenized_prompts"), golden("name_lengths").tolist()
    prefix, suffix, stored = golden("token_prefix"), golden("token_suffix"), golden.names("")
    for kind, position in itertools.product(("", "csc_"), ("end", "middle", "front")):
        case = f"{kind}{position}"
        if f"{case}_loss_f64" not in stored:
            continue
        context = golden("ctx_csc" if kind else "ctx", grad=True)
        prompts = coop.joined(prefix, context, suffix, lengths, position)
        features = coop.encoded(tower, prompts, tokens)
        logits = coop.classified(golden("image_features"), features, tower.scale)
        loss = functional.cross_entropy(logits, golden("labels"))
        if f"{case}_prompts_f64" in stored:
            golden.check(f"{case}_prompts", prompts)
        golden.check(f"{case}_text_features", features)
        golden.check(f"{case}_logits", logits)
        golden.check(f"{case}_loss", loss)
        golden.check(f"{case}_grad_ctx", torch.autograd.grad(loss, context)[0])

    words = golden("words_tokens")
    golden.check("words_ctx", coop.word_vectors(golden("words_embeddings"), words))
    assert coop.words_in(words) == int(golden("words_n_ctx"))
    # The names are stored as tokens alone.
    count, decode = coop.words_in(words), tower._tokenize.decode
    with_words = golden("words_tokenized_prompts")
    names = [
        decode(row[1 + count :][:length].tolist()).strip() for row, length in zip(with_words, lengths, strict=True)
    ]
    assert [coop.words_in(row) for row in tower.tokens(names)] == lengths
    start = decode(words[1 : 1 + count].tolist()).strip()
    assert torch.equal(tower.tokens(coop.sentences(names, start)), with_words)
    placeholders = " ".join(["X"] * golden("ctx").shape[0])
    assert torch.equal(tower.tokens(coop.sentences(names, placeholders)), tokens)


@pytest.mark.parametrize("dtype", PRECISIONS)
def test_golden_exp_clip_features_and_logits(dtype: torch.dtype) -> None:
    exp_clip, golden = method_module("exp_clip"), Golden("exp_clip", dtype)
    projection, scale = golden("projection_weight"), golden("log_logit_scale").exp()
    images = exp_clip.projected(golden("image_embeddings"), projection)
    prompts = exp_clip.projected(golden("prompt_embeddings"), projection)
    logits = scale * images @ prompts.T
    classified = exp_clip.class_means(logits, [int(golden("prompts_per_class"))] * int(golden("n_classes")))
    golden.check("static_image_features", images)
    golden.check("prompt_features", prompts)
    golden.check("static_prompt_logits", logits)
    golden.check("static_logits", classified)
    golden.exact("static_predictions", classified.argmax(1))
