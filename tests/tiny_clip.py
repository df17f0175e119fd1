"""A CLIP that is small enough for tests and sees expressions: the packaged encoder, and words that fit it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fergen_bench.data.domain import Domain
from fergen_bench.networks.loading import load_network, load_text_tower
from fergen_bench.networks.name import PACKAGED
from fergen_bench.networks.prompts import PROMPT_TEMPLATES, prompt_names
from fergen_bench.synth.networks import DEVIATION, MEAN, FaceEncoder

WORDS = 32  # features of both towers, and the width of the text tower


class TinyFace(nn.Module):
    """The packaged encoder as a timm model, on input with CLIP's statistics."""

    default_cfg: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.body, self.num_features = FaceEncoder(), FaceEncoder.features

    def reset_classifier(self, classes: int, global_pool: str | None = None) -> None: ...

    def forward(self, images: Tensor) -> Tensor:
        import open_clip

        mean, deviation = (
            torch.tensor(values, device=images.device)[:, None, None]
            for values in (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD)
        )
        with torch.no_grad():  # only the last layers learn, which keeps a test that trains the tower fast
            maps = self.body.stages((images * deviation + mean - MEAN) / DEVIATION)
        return self.body.project(nn.functional.avg_pool2d(maps, 2).flatten(1))


def tiny_face(pretrained: bool = False, **kwargs: Any) -> TinyFace:
    return TinyFace()


def write_tiny_clip(folder: Path, web: Domain) -> str:
    """Registers the model, writes its weights to a file, and gives the backbone's name.

    The last layer of each tower is solved for by ridge regression, and the rest of the text tower is random: sentences
    point to their class, and the training faces of `web` to the words of theirs. So zero-shot accuracy is above chance.
    """
    import open_clip
    import timm
    from safetensors.torch import load_file

    timm.models.register_model(tiny_face)
    vision = {"image_size": 64, "timm_model_name": "tiny_face", "timm_model_pretrained": False, "timm_pool": ""}
    text = {"context_length": 16, "vocab_size": 49408, "width": WORDS, "heads": 2, "layers": 1}
    config = {"embed_dim": WORDS, "vision_cfg": {**vision, "timm_proj": "linear"}, "text_cfg": text}
    (folder / "tiny-face.json").write_text(json.dumps(config))
    open_clip.add_model_config(folder / "tiny-face.json")
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-face")
    model.visual.trunk.body.load_state_dict(load_file(PACKAGED["synth"]))
    path, cpu = folder / "tiny-face.pt", torch.device("cpu")
    torch.save(model.state_dict(), path)
    name = f"open_clip:tiny-face/{path}"
    tower, network = load_text_tower(name, cpu), load_network("synth", cpu).eval()
    with torch.no_grad():
        words = [word for several in prompt_names() for word in several]
        tokens = tower.tokens([template.format(word) for word in words for template in PROMPT_TEMPLATES])
        of_word = torch.tensor([place for place, several in enumerate(prompt_names()) for _ in several])
        tower.body.text_projection.copy_(torch.eye(WORDS))
        model.text_projection.copy_(ridge(tower(tokens), of_word.repeat_interleave(len(PROMPT_TEMPLATES)), 1e-4))
        faces = web.split("train")
        model.visual.head.proj.weight.copy_(ridge(network(faces.faces()), torch.from_numpy(faces.labels), 0.1).T)
    torch.save(model.state_dict(), path)
    return name


def ridge(inputs: Tensor, labels: Tensor, strength: float) -> Tensor:
    """The linear map (inputs, WORDS) that turns each class into a direction of its own. strength: a share of the
    inputs' mean square.
    """
    targets = nn.functional.one_hot(labels, WORDS).float()
    penalty = strength * inputs.pow(2).sum(1).mean() * torch.eye(inputs.shape[1])
    return torch.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ targets)
