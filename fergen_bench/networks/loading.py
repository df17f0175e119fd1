"""Load a network by name, from a package, a hub or a file of weights.

Each family has one loader: `synth` and `synth-trunk`, `timm`, `vggface2-resnet50` (Caffe) and `open_clip`.
"""

from __future__ import annotations

import hashlib
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from fergen_bench.error import BenchError, reason
from fergen_bench.files.bounded import is_program
from fergen_bench.networks.kernels import use_products
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


def load_network(name: str, device: torch.device, statistics: Statistics = "own") -> Network:
    """Return a network by name, on a device.

    Args:
        name: Name of the network, such as `synth` or `timm:resnet18`.
        device: The device.
        statistics: Normalise with the network's `own` mean and deviation, or with those of `imagenet`.

    Raises:
        BenchError: The network or its weights cannot be loaded.
    """
    parsed = parse_network(name, "network")
    loaders: Mapping[str, Callable[[NetworkName], Network]] = {"open_clip": _open_clip, "timm": _timm, CAFFE: _caffe}
    with warned() as messages:
        network = loaders.get(parsed.family, _packaged)(parsed)
    notes = tuple(dict.fromkeys((*network.notes, *messages)))
    if statistics == "imagenet":
        own = network.preprocessing
        imagenet = Preprocessing(own.size, IMAGENET_MEAN, IMAGENET_DEVIATION, own.interpolation)
        network = Network(network.name, network.body, network.features, imagenet)
        network.statistics = statistics
    network.notes = notes
    network.digest = content_digest(network.body)
    if device.type == "cuda":
        use_products(network.body)
    return network.to(device).to(memory_format=torch.channels_last)


def load_text_tower(name: str, device: torch.device) -> TextTower:
    """Return the text tower of a network, from the same weights as its image tower.

    Args:
        name: Name of the network.
        device: The device.

    Raises:
        BenchError: The network has no text tower, or its weights or tokenizer cannot be loaded.
    """
    parsed = parse_network(name, "network")
    if parsed.family != "open_clip":
        raise BenchError(f"{parsed} lacks a text tower; choose a backbone with one, such as {WITH_TEXT}")
    import open_clip

    with warned() as messages:
        model, notes = _open_clip_model(parsed)
    try:
        tokenize = open_clip.get_tokenizer(parsed.model)
    except Exception as error:
        raise BenchError(
            f"the tokenizer of {parsed} cannot be loaded ({reason(error, 'last')}); choose a backbone whose "
            f"tokenizer comes with open_clip, such as {WITH_TEXT}"
        ) from error
    model.visual = nn.Identity()
    tower = TextTower(str(parsed), model, tokenize)
    tower.digest = content_digest(model)
    tower.notes = tuple(dict.fromkeys((*notes, *messages)))
    return tower.to(device)


@contextmanager
def warned() -> Iterator[list[str]]:
    """Collect the warnings that libraries emit while they load weights, through `warnings` or `logging`.

    Of nested contexts, only the innermost collects.

    Yields:
        A list that contains the messages; those of `warnings` are appended at the end of the context.
    """
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    others, root.handlers = root.handlers, [handler]
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            # Deprecation warnings are omitted, because they concern the authors of the library.
            for kind in (UserWarning, RuntimeWarning):
                warnings.simplefilter("always", kind)
            yield messages
        messages += [str(warning.message) for warning in caught]
    finally:
        root.handlers = others


def content_digest(module: nn.Module) -> str:
    """Return 16 digits of the SHA-256 of names and values of all weights; the file format does not matter."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        if not name.endswith("num_batches_tracked"):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


# ---------------------------------------------------------------------------------------------------------------- synth


def _packaged(name: NetworkName) -> Network:
    """Load a network that comes with the package."""
    from fergen_bench.synth.networks import DEVIATION, MEAN, FaceEncoder, Trunk

    body = FaceEncoder() if name.family == "synth" else Trunk()
    network = Network(
        str(name), body, body.features, Preprocessing(body.size, (MEAN,) * 3, (DEVIATION,) * 3, "bilinear")
    )
    if not name.scratch:
        path = name.path or PACKAGED[name.family]
        network.notes = fill(body, find_fit(read_weights(path), body), path, str(name))
    return network


# ----------------------------------------------------------------------------------------------------------------- timm


def _timm(name: NetworkName) -> Network:
    """Load a model of timm, with published weights, weights from a file, or random weights."""
    import timm

    sets = None if name.path is None else read_weights(name.path)
    try:
        body = timm.create_model(name.model, pretrained=not name.scratch and sets is None, num_classes=0)
    except RuntimeError as error:
        if "Unknown model" not in str(error):
            raise _not_loaded(name, error) from error
        near = timm.list_models(f"*{name.model.partition('.')[0][:6]}*")[:3]
        raise BenchError(f"timm does not have the model {name.model!r}; similar: {', '.join(near) or 'none'}") from None
    except Exception as error:
        raise _not_loaded(name, error) from error
    notes: tuple[str, ...] = ()
    if sets is not None:
        assert name.path is not None
        fit = find_fit(sets, body)
        if name.model.partition(".")[0] == "resnet50" and fit.classes == VGGFACE2_IDENTITIES:
            raise BenchError(
                f"{name.path} contains the weights of a Caffe-style ResNet-50 (a classifier of {VGGFACE2_IDENTITIES} "
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


# ---------------------------------------------------------------------------------------------------- vggface2-resnet50


def _caffe(name: NetworkName) -> Network:
    """Load the network of the VGGFace2 weights, with the preprocessing of EAC's released code."""
    body: Any = caffe_resnet50()
    network = Network(
        str(name), body, body.num_features, Preprocessing(224, IMAGENET_MEAN, IMAGENET_DEVIATION, "bilinear")
    )
    if name.path is not None:
        fit = find_fit(read_weights(name.path), body)
        if fit.classes != VGGFACE2_IDENTITIES:
            found = "no classifier" if fit.classes is None else f"a classifier of {many(fit.classes, 'class')}"
            raise BenchError(
                f"{name.path} contains {found} where the weights of VGGFace2 contain one of {VGGFACE2_IDENTITIES}, "
                f"which alone distinguishes the Caffe-style layout from torchvision's; name the whole file, or use "
                f"timm:resnet50"
            )
        network.notes = fill(body, fit, name.path, str(name))
    return network


def caffe_resnet50() -> nn.Module:
    """Return ResNet-50 as defined in Caffe, with random weights.

    A stage halves its map in its first 1 x 1 convolution instead of its 3 x 3 convolution, and the pooling of the stem
    rounds up instead of padding. The names of its weights equal those of the ResNet-50 of torchvision and timm, so
    weights of one network load into the other without an error.
    """
    import timm

    body: Any = timm.create_model("resnet50", pretrained=False, num_classes=0)
    body.maxpool = nn.MaxPool2d(3, 2, padding=0, ceil_mode=True)
    for stage in (body.layer2, body.layer3, body.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return body


# ------------------------------------------------------------------------------------------------------------ open_clip


def _open_clip(name: NetworkName) -> Network:
    """Load the image tower of a CLIP."""
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


def _open_clip_model(name: NetworkName) -> tuple[Any, tuple[str, ...]]:
    """Return a CLIP with both towers, float32, on the CPU; and notes about its weights."""
    import open_clip

    if name.model not in open_clip.list_models():
        from fergen_bench.error import did_you_mean

        raise BenchError(
            f"open_clip does not have the model {name.model!r}{did_you_mean(name.model, open_clip.list_models())[:200]}"
        )
    known = open_clip.list_pretrained_tags_by_model(name.model)
    if name.tag is not None and name.tag not in known:
        raise BenchError(
            f"open_clip does not have the weights {name.tag!r} for {name.model}; it has {', '.join(known) or 'none'}"
        )
    if name.path is not None:
        return _open_clip_file(name, name.path)
    if name.tag is not None:
        _check_activation(name, bool(open_clip.get_pretrained_cfg(name.model, name.tag).get("quick_gelu")), name.tag)
    try:
        if name.scratch:
            with warned():  # hides the warning that weights are random
                return open_clip.create_model(name.model, pretrained=None, precision="fp32"), ()
        return open_clip.create_model(name.model, pretrained=name.tag, precision="fp32"), ()
    except Exception as error:
        raise _not_loaded(name, error) from error


OPENAI_ONLY = frozenset({"input_resolution", "context_length", "vocab_size"})
"""Names that only OpenAI's own files contain in addition to the weights."""


def _open_clip_file(name: NetworkName, path: Path) -> tuple[Any, tuple[str, ...]]:
    """Load a CLIP from a file: weights as they are, below prefixes, or in a format that open_clip converts."""
    import open_clip

    if is_program(path):
        model = name.model if "quickgelu" in name.model else f"{name.model}-quickgelu"
        raise BenchError(
            f"{path} is a program (TorchScript), the format of OpenAI's weights, and programs are not executed; name "
            f"the same weights as safetensors, which open_clip downloads for open_clip:{model}/openai"
        )
    sets = {} if path.suffix in {".npz", ".npy"} else read_weights(path)  # files of big_vision, which open_clip reads
    if (published := _published_as(path, sets, name.model)) is not None:
        _check_activation(name, *published)
    sets = {
        path_in_file: {key: value for key, value in weights.items() if key not in OPENAI_ONLY}
        for path_in_file, weights in sets.items()
    }
    try:
        with warned():  # hides the warning that weights are random, because they are replaced below
            model = open_clip.create_model(name.model, pretrained=None, pretrained_text=False, precision="fp32")
    except Exception as error:
        raise _not_loaded(name, error) from error
    try:
        return model, fill(model, find_fit(sets, model), path, str(name))
    except BenchError as misfit:
        try:
            open_clip.load_checkpoint(model, str(path))
        except Exception:
            raise misfit from None
        return model, ()


def _check_activation(name: NetworkName, quick: bool, weights: str) -> None:
    """Raise if weights were trained with another activation than the model has, and a model with the right one exists.

    Args:
        name: The network.
        quick: True if the weights were trained with QuickGELU.
        weights: Name of the weights, for the error.

    Raises:
        BenchError: The activations differ.
    """
    import open_clip

    model_is_quick = bool((open_clip.get_model_config(name.model) or {}).get("quick_gelu"))
    right = f"{name.model}-quickgelu" if quick else name.model.removesuffix("-quickgelu")
    if model_is_quick != quick and right in open_clip.list_models():
        kinds = ("QuickGELU", "GELU") if quick else ("GELU", "QuickGELU")
        raise BenchError(
            f"{name}: the weights {weights} were trained with the activation {kinds[0]}, and {name.model} has "
            f"{kinds[1]}, which would compute other features; write {str(name).replace(name.model, right, 1)}"
        )


def _published_as(path: Path, sets: Mapping[str, Mapping[str, Tensor]], model: str) -> tuple[bool, str] | None:
    """Return the activation and the name of the published weights in a file.

    They are recognised by the content of the file, its name, or its folder in the download cache.

    Returns:
        True for QuickGELU, and the name; None for unknown weights.
    """
    import open_clip

    if any(weights.keys() & OPENAI_ONLY for weights in sets.values()):
        return True, "of OpenAI"
    base = model.removesuffix("-quickgelu")
    slug = re.sub(r"\W+", "_", path.name.lower())
    found: dict[str, bool] = {}
    for variant in (base, f"{base}-quickgelu"):
        for tag in open_clip.list_pretrained_tags_by_model(variant):
            about = open_clip.get_pretrained_cfg(variant, tag)
            repository = "models--" + about.get("hf_hub", "").rstrip("/").replace("/", "--")
            if repository in path.parts or re.search(rf"(?:^|_){tag}(?:_|$)", slug):
                found[tag] = bool(about.get("quick_gelu"))
    if not found:
        return None
    tag = max(found, key=len)
    return found[tag], tag


# --------------------------------------------------------------------------------------------------- shared by families


@torch.no_grad()
def _width(body: nn.Module, name: NetworkName, size: int) -> int:
    """Return the number of features that a body computes, without changing the body.

    Some models of timm have a layer after the pooling, so that the number exceeds `num_features`.
    """
    training = body.training
    features = body.eval()(torch.zeros(1, 3, size, size))
    body.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise BenchError(f"{name} does not compute one feature vector per image; choose another network")
    return features.shape[1]


def _not_loaded(name: NetworkName, error: Exception) -> BenchError:
    """Return the error for weights that do not fit or cannot be downloaded."""
    base, why = str(name).partition("/")[0], reason(error, "last")
    if name.path is not None:
        return BenchError(f"the weights {name.path} do not fit {base}: {why}")
    return BenchError(
        f"the weights of {name} cannot be downloaded ({why}); download them elsewhere and name the file: "
        f"{base}//path/to/weights; or use the packaged networks, synth and synth-trunk"
    )
