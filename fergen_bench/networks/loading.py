"""Load a network by name, from a package, a hub or a file of weights."""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from fergen_bench.error import BenchError, reason
from fergen_bench.networks.kernels import _as_products
from fergen_bench.networks.name import CAFFE, PACKAGED, parse_network
from fergen_bench.networks.network import Network, Preprocessing
from fergen_bench.networks.text import TextTower
from fergen_bench.networks.weights_file import fill, find_fit, read_weights
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.networks.name import NetworkName
    from fergen_bench.networks.network import Statistics


IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WITH_TEXT = "open_clip:ViT-B-32-quickgelu/openai"
VGGFACE2_IDENTITIES = 8631


# -------------------------------------------------------------------------------------------------------------- loading


def load_network(name: str, device: torch.device, statistics: Statistics = "own") -> Network:
    """A network by name, on a device. statistics: its own mean and deviation, or ImageNet's."""
    parsed = parse_network(name, "network")
    loaders: Mapping[str, Callable[[NetworkName], Network]] = {"open_clip": _open_clip, "timm": _timm, CAFFE: _caffe}
    with warned() as heard:
        network = loaders.get(parsed.family, _packaged)(parsed)
    notes = tuple(dict.fromkeys((*network.notes, *heard)))
    if statistics == "imagenet":
        own = network.preprocessing
        imagenet = Preprocessing(own.size, IMAGENET_MEAN, IMAGENET_DEVIATION, own.interpolation)
        network = Network(network.name, network.body, network.features, imagenet)
        network.statistics = statistics
    network.notes = notes
    network.digest = content_digest(network.body)
    if device.type == "cuda":
        _as_products(network.body)
    return network.to(device).to(memory_format=torch.channels_last)


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect what libraries warn of while they load weights, through `warnings` or through `logging`. Within another
    one, only the inner hears it.
    """
    heard: list[str] = []
    ear = logging.Handler(logging.WARNING)
    ear.emit = lambda record: heard.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    others, root.handlers = root.handlers, [ear]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            # What is deprecated is the business of whoever wrote the library.
            for kind in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", kind)
            yield heard
        heard += [str(warning.message) for warning in caught]
    finally:
        root.handlers = others


def load_text_tower(name: str, device: torch.device) -> TextTower:
    """The text tower of a network by name, from the same weights as its image tower."""
    parsed = parse_network(name, "network")
    if parsed.family != "open_clip":
        raise BenchError(f"{parsed} has no text tower; choose a backbone that has one, such as {WITH_TEXT}")
    import open_clip

    with warned() as heard:
        model, notes = _open_clip_model(parsed)
    try:
        tokenize = open_clip.get_tokenizer(parsed.model)
    except Exception as error:
        raise BenchError(
            f"the tokenizer of {parsed} could not be loaded ({reason(error, 'last')}); choose a backbone whose "
            f"tokenizer comes with open_clip, such as {WITH_TEXT}"
        ) from error
    model.visual = nn.Identity()
    tower = TextTower(str(parsed), model, tokenize)
    tower.digest = content_digest(model)
    tower.notes = tuple(dict.fromkeys((*notes, *heard)))
    return tower.to(device)


def content_digest(module: nn.Module) -> str:
    """SHA-256 over names and values of all weights, 16 digits: the same for any file format they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _packaged(name: NetworkName) -> Network:
    from fergen_bench.synth.networks import DEVIATION, MEAN, FaceEncoder, Trunk

    body = FaceEncoder() if name.family == "synth" else Trunk()
    network = Network(
        str(name), body, body.features, Preprocessing(body.size, (MEAN,) * 3, (DEVIATION,) * 3, "bilinear")
    )
    if not name.scratch:
        path = name.path or PACKAGED[name.family]
        network.notes = fill(body, find_fit(read_weights(path), body), path, str(name))
    return network


def _timm(name: NetworkName) -> Network:
    import timm

    sets = None if name.path is None else read_weights(name.path)
    try:
        body = timm.create_model(name.model, pretrained=not name.scratch and sets is None, num_classes=0)
    except RuntimeError as error:
        if "Unknown model" not in str(error):
            raise _not_fetched(name, error) from error
        near = timm.list_models(f"*{name.model.partition('.')[0][:6]}*")[:3]
        raise BenchError(f"timm has no model {name.model!r}; near it are {', '.join(near) or 'none'}") from None
    except Exception as error:
        raise _not_fetched(name, error) from error
    notes: tuple[str, ...] = ()
    if sets is not None:
        assert name.path is not None
        fit = find_fit(sets, body)
        if name.model.partition(".")[0] == "resnet50" and fit.classes == VGGFACE2_IDENTITIES:
            raise BenchError(
                f"{name.path} holds the weights of a Caffe-style ResNet-50 (a classifier of {VGGFACE2_IDENTITIES} "
                f"identities, as VGGFace2 has), which in {name.family}:{name.model} would be another network; name it "
                f"{CAFFE}/{name.path}, or take the classifier out of the file if it was trained in this layout"
            )
        notes = fill(body, fit, name.path, str(name))
    config = timm.data.resolve_model_data_config(body)
    interpolation: Literal["bilinear", "bicubic"] = "bicubic" if config["interpolation"] == "bicubic" else "bilinear"
    preprocessing = Preprocessing(config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]), interpolation)
    network = Network(str(name), body, _width(body, name, preprocessing.size), preprocessing)
    network.notes = notes
    return network


@torch.no_grad()
def _width(body: nn.Module, name: NetworkName, size: int) -> int:
    """Numbers that a body gives for a face. Some of timm's put a layer behind the pooling that widens them beyond
    `num_features`. Leaves the body as it was.
    """
    training = body.training
    given = body.eval()(torch.zeros(1, 3, size, size))
    body.train(training)
    if not isinstance(given, Tensor) or given.ndim != 2:
        raise BenchError(f"{name} gives no vector of features for a face; choose another network")
    return given.shape[1]


def caffe_resnet50() -> nn.Module:
    """ResNet-50 as Caffe has it: a stage halves its map in its first 1 x 1 convolution instead of its 3 x 3, and the
    stem's pooling has no border but rounds up. Its weights bear the names that torchvision's and timm's ResNet-50 give
    them, so weights of the one would load into the other without a word.
    """
    import timm

    body: Any = timm.create_model("resnet50", pretrained=False, num_classes=0)
    body.maxpool = nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)
    for stage in (body.layer2, body.layer3, body.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return body


def _caffe(name: NetworkName) -> Network:
    """The network of the VGGFace2 weights, which sees faces as EAC's released code shows them to it."""
    body: Any = caffe_resnet50()
    network = Network(
        str(name), body, body.num_features, Preprocessing(224, IMAGENET_MEAN, IMAGENET_DEVIATION, "bilinear")
    )
    if name.path is not None:
        fit = find_fit(read_weights(name.path), body)
        if fit.classes != VGGFACE2_IDENTITIES:
            found = "no classifier" if fit.classes is None else f"a classifier of {many(fit.classes, 'class')}"
            raise BenchError(
                f"{name.path} holds {found} where the weights of VGGFace2 hold one of {VGGFACE2_IDENTITIES}, and "
                f"nothing else tells the Caffe-style layout from torchvision's; give the whole file, or name "
                f"timm:resnet50"
            )
        network.notes = fill(body, fit, name.path, str(name))
    return network


def _open_clip_model(name: NetworkName) -> tuple[Any, tuple[str, ...]]:
    """A whole CLIP: both towers, float32, on the CPU; and what should be known of its weights."""
    import open_clip

    if name.model not in open_clip.list_models():
        from fergen_bench.error import did_you_mean

        raise BenchError(
            f"open_clip has no model {name.model!r}{did_you_mean(name.model, open_clip.list_models())[:200]}"
        )
    known = open_clip.list_pretrained_tags_by_model(name.model)
    if name.tag is not None and name.tag not in known:
        raise BenchError(
            f"open_clip has no weights {name.tag!r} for {name.model}; there are {', '.join(known) or 'none'}"
        )
    if name.path is not None:
        return _open_clip_file(name, name.path)
    if name.tag is not None:
        _check_activation(name, bool(open_clip.get_pretrained_cfg(name.model, name.tag).get("quick_gelu")), name.tag)
    try:
        if name.scratch:
            with warned():  # that its weights are random is what was asked for
                return open_clip.create_model(name.model, pretrained=None, precision="fp32"), ()
        return open_clip.create_model(name.model, pretrained=name.tag, precision="fp32"), ()
    except Exception as error:
        raise _not_fetched(name, error) from error


OPENAI_ONLY = frozenset({"input_resolution", "context_length", "vocab_size"})
"""Names beside the weights in OpenAI's own files, and in no others."""


def _open_clip_file(name: NetworkName, path: Path) -> tuple[Any, tuple[str, ...]]:
    """A CLIP with weights from a file: as they are, below prefixes, or as open_clip converts those of others."""
    import open_clip

    if _is_openai_archive(path):
        model = name.model if "quickgelu" in name.model else f"{name.model}-quickgelu"
        raise BenchError(
            f"{path} is a program (TorchScript), as OpenAI gave its weights out, and programs are not run; name "
            f"the same weights as safetensors, which open_clip fetches for open_clip:{model}/openai"
        )
    sets = {} if path.suffix in {".npz", ".npy"} else read_weights(path)  # big_vision's, which open_clip reads
    if (published := _published_as(path, sets, name.model)) is not None:
        _check_activation(name, *published)
    sets = {
        place: {key: value for key, value in weights.items() if key not in OPENAI_ONLY}
        for place, weights in sets.items()
    }
    try:
        with warned():  # that its weights are random, which they are not for long
            model = open_clip.create_model(name.model, pretrained=None, pretrained_text=False, precision="fp32")
    except Exception as error:
        raise _not_fetched(name, error) from error
    try:
        return model, fill(model, find_fit(sets, model), path, str(name))
    except BenchError as misfit:
        try:
            open_clip.load_checkpoint(model, str(path))
        except Exception:
            raise misfit from None
        return model, ()


def _check_activation(name: NetworkName, quick: bool, weights: str) -> None:
    """Refuse weights that were trained with another activation than the model has, where the right model has a name.

    Args:
        name: of the network.
        quick: whether the weights were trained with QuickGELU.
        weights: what they are called.
    """
    import open_clip

    has = bool((open_clip.get_model_config(name.model) or {}).get("quick_gelu"))
    right = f"{name.model}-quickgelu" if quick else name.model.removesuffix("-quickgelu")
    if has != quick and right in open_clip.list_models():
        kinds = ("QuickGELU", "GELU") if quick else ("GELU", "QuickGELU")
        raise BenchError(
            f"{name}: the weights {weights} were trained with the activation {kinds[0]}, and {name.model} has "
            f"{kinds[1]}, which would give other features; write {str(name).replace(name.model, right, 1)}"
        )


def _published_as(path: Path, sets: Mapping[str, Mapping[str, Tensor]], model: str) -> tuple[bool, str] | None:
    """(whether QuickGELU, name) of the published weights that a file holds, by its content, its name or the folder of
    the download cache that it is in; None where none of them says so.
    """
    import open_clip

    if any(weights.keys() & OPENAI_ONLY for weights in sets.values()):
        return True, "of OpenAI"
    base = model.removesuffix("-quickgelu")
    called = re.sub(r"\W+", "_", path.name.lower())
    found: dict[str, bool] = {}
    for variant in (base, f"{base}-quickgelu"):
        for tag in open_clip.list_pretrained_tags_by_model(variant):
            about = open_clip.get_pretrained_cfg(variant, tag)
            repository = "models--" + about.get("hf_hub", "").rstrip("/").replace("/", "--")
            if repository in path.parts or re.search(rf"(?:^|_){tag}(?:_|$)", called):
                found[tag] = bool(about.get("quick_gelu"))
    if not found:
        return None
    tag = max(found, key=len)
    return found[tag], tag


def _open_clip(name: NetworkName) -> Network:
    import open_clip

    model, notes = _open_clip_model(name)
    visual = model.visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    mean, deviation = (
        visual.image_mean or open_clip.OPENAI_DATASET_MEAN,
        visual.image_std or open_clip.OPENAI_DATASET_STD,
    )
    preprocessing = Preprocessing(size, tuple(mean), tuple(deviation), "bicubic")
    network = Network(str(name), visual, _width(visual, name, size), preprocessing)
    network.notes = notes
    return network


def _is_openai_archive(path: Path) -> bool:
    """Whether a file is a TorchScript program, as OpenAI's checkpoints are, and not a dictionary of weights."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())


def _not_fetched(name: NetworkName, error: Exception) -> BenchError:
    base, why = str(name).partition("/")[0], reason(error, "last")
    if name.path is not None:
        return BenchError(f"the weights {name.path} do not fit {base}: {why}")
    return BenchError(
        f"the weights of {name} could not be fetched ({why}); download them elsewhere and name the file: "
        f"{base}//path/to/weights; or try things out on the packaged networks, synth and synth-trunk"
    )
