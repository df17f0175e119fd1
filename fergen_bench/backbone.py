"""Image networks behind one call: open_clip, timm or the packaged ones; with their own input size and statistics; and
their features. And the text towers of those that have one.

A network takes faces as they are (uint8 RGB of any size, or floats in 0..1), resizes and normalises them as it was
trained to see them, and gives one feature vector per face. Names are explained in `weights.py`.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from fergen_bench.atomic import atomically, sweep
from fergen_bench.domain import SPLITS, Clean, Domain, Split, upload
from fergen_bench.error import BenchError, reason
from fergen_bench.profile import phase
from fergen_bench.prompts import PROMPT_TEMPLATES, prompt_names
from fergen_bench.untrusted import checksum, map_array
from fergen_bench.weights import CAFFE, PACKAGED, NetworkName, parse_network

Statistics = Literal["own", "imagenet"]
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WITH_TEXT = "open_clip:ViT-B-32-quickgelu/openai"
CLASSIFIERS = ("fc.", "head.", "classifier.", "last_linear.")
VGGFACE2_IDENTITIES = 8631
FETCHED_TOGETHER = 32
"""Batches of features that a GPU computes before any is waited for; with 512 numbers a face, 34 MB."""

Report = Callable[[str, int, int], None]
"""report(what is being done, done, total)"""


@dataclass(frozen=True)
class Preprocessing:
    """How a network wants to see a face. The whole face is squashed to a square: faces are cropped already, and nothing
    is cut off.
    """

    size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"]

    def __str__(self) -> str:
        return f"{self.size}-{self.interpolation}-{'-'.join(f'{value:.4f}' for value in (*self.mean, *self.deviation))}"


_COMPILED: ContextVar[bool] = ContextVar("compiled", default=False)


@contextmanager
def compiled() -> Iterator[None]:
    """Networks run as torch compiles them here: operations are fused, so the last digits are others. To compile one
    takes half a minute, less where the compiler's own cache holds it.
    """
    before = _COMPILED.set(True)
    try:
        yield
    finally:
        _COMPILED.reset(before)


class Network(nn.Module):
    """A pretrained network: faces (B, 3, height, width) → features (B, `features`)."""

    mean: Tensor
    deviation: Tensor
    _row_mean: Tensor
    _row_deviation: Tensor
    body: Any

    def __init__(self, name: str, body: nn.Module, features: int, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.name, self.features, self.preprocessing = name, features, preprocessing
        self.body = body
        self.register_buffer("mean", torch.tensor(preprocessing.mean)[:, None, None], persistent=False)
        self.register_buffer("deviation", torch.tensor(preprocessing.deviation)[:, None, None], persistent=False)
        for of, buffer in (("mean", self.mean), ("deviation", self.deviation)):
            self.register_buffer(f"_row_{of}", buffer.flatten().repeat(preprocessing.size), persistent=False)
        self.digest, self.statistics = "", "own"
        self._cache: Path | None = None
        self._report: Report = lambda what, done, total: None
        self._frozen: tuple[int, int] = (0, 0)
        self._open: dict[tuple[str, str], np.ndarray] = {}
        self._compiled: tuple[int, Callable[[Tensor], Tensor]] | None = None

    @property
    def size(self) -> int:
        """Side of the network's own input, in pixels."""
        return self.preprocessing.size

    def prepare(self, images: Tensor) -> Tensor:
        """uint8, or float in 0..1, of any size → float (B, 3, size, size), normalised."""
        given = images
        images = images.float().div_(255.0) if images.dtype == torch.uint8 else images
        images = resize(images, self.size, self.preprocessing.interpolation)
        images = images.float().contiguous(memory_format=torch.channels_last)
        # In place, and a row of pixels at a time: on a processor that takes a quarter of the time.
        images = images.clone() if images is given else images
        rows = images.permute(0, 2, 3, 1).view(len(images), self.size, 3 * self.size)
        rows.sub_(self._row_mean).div_(self._row_deviation)
        return images

    def forward(self, images: Tensor) -> Tensor:
        if self.frozen:
            # Faces as they stand in a domain need no second look: their features are on the disk.
            clean: Clean | None = getattr(images, "clean", None)
            if clean is not None and clean.version == images._version and self._state() == self._frozen:
                return upload(torch.from_numpy(self.cached(clean.split, clean.positions)), images.device)
            with phase("frozen tower"), torch.no_grad(), _half_precision(images.device):
                return self._run(images).float()
        return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        with repeatable_attention(images.device):
            return self._program()(self.prepare(images))

    @property
    def is_compiled(self) -> bool:
        """Whether it ever ran compiled."""
        return self._compiled is not None

    def _program(self) -> Callable[[Tensor], Tensor]:
        if not _COMPILED.get():
            return self.body
        if self._compiled is None or self._compiled[0] != id(self.body):
            self._compiled = id(self.body), torch.compile(self.body, dynamic=False)
        return self._compiled[1]

    def begin(self, images: Tensor) -> Callable[[], Tensor]:
        """Begins a forward pass of a frozen network; what is given waits for its features. On a GPU it goes on beside
        what is asked of it meanwhile: two networks on a small batch fill more of it than one.
        """
        if not images.is_cuda or not self.frozen:
            features = self(images)
            return lambda: features
        current, beside = torch.cuda.current_stream(images.device), _stream_beside(images.device)
        beside.wait_stream(current)
        with torch.cuda.stream(beside):
            features = self(images)

        def wait() -> Tensor:
            current.wait_stream(beside)
            return features

        return wait

    def feature_map(self, images: Tensor) -> Tensor:
        """The last map before pooling, (B, channels, height, width), for networks that have one."""
        if self.frozen:
            with phase("frozen tower"), torch.no_grad(), _half_precision(images.device):
                return self._map(images).float()
        return self._map(images)

    def _map(self, images: Tensor) -> Tensor:
        prepared = self.prepare(images)
        if hasattr(self.body, "feature_map"):
            return self.body.feature_map(prepared)
        if hasattr(self.body, "forward_features"):
            maps = self.body.forward_features(prepared)
            if maps.ndim == 4 and maps.shape[1] == self.body.num_features:
                return maps
        raise BenchError(f"{self.name} has no feature map; choose a convolutional network")

    @torch.no_grad()
    def map_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the feature map. Leaves the network as it was."""
        training, blank = self.training, torch.zeros(1, 3, self.size, self.size, device=self.mean.device)
        self.eval()
        channels, height, width = self.feature_map(blank).shape[1:]
        self.train(training)
        return channels, height, width

    def patch_map(self, images: Tensor) -> Tensor:
        """The last tokens of a vision transformer in their grid, without the class token; for other networks the
        feature map: (B, channels, height, width). A frozen network gives it without gradient.
        """
        if self.frozen:
            with phase("frozen tower"), torch.no_grad(), _half_precision(images.device):
                return self._patches(images).float()
        return self._patches(images)

    def _patches(self, images: Tensor) -> Tensor:
        if hasattr(self.body, "feature_map"):
            return self._map(images)
        if not hasattr(self.body, "forward_intermediates"):
            raise BenchError(f"{self.name} shows neither tokens nor a feature map; choose another network")
        asked: dict[str, Any] = {"indices": 1, "intermediates_only": True, "output_fmt": "NCHW"}
        if self.name.startswith("open_clip:"):
            found = self.body.forward_intermediates(self.prepare(images), normalize_intermediates=True, **asked)
            return found["image_intermediates"][-1]
        return self.body.forward_intermediates(self.prepare(images), norm=True, **asked)[-1]

    # --------------------------------------------------------------------------------------------------------- features

    @property
    def frozen(self) -> bool:
        """Whether it was frozen: then nothing in it is trained."""
        return self._cache is not None

    def freeze(self, cache: Path, report: Report) -> Network:
        """No gradient, evaluation mode for good, and features of unchanged faces kept under `cache`."""
        self.requires_grad_(False)
        self.eval()
        if self.mean.is_cuda:
            _keep_half(self.body)
        slug = re.sub(r"[^\w.-]+", "_", self.name.partition("//")[0])
        precision = "fp16, as products" if self.mean.device.type == "cuda" else "fp32"
        how = hashlib.sha256(f"{self.preprocessing} {precision}".encode()).hexdigest()[:8]
        self._cache, self._report = cache / "features" / f"{slug}-{self.digest}-{how}", report
        self._frozen = self._state()
        return self

    def _state(self) -> tuple[int, int]:
        """Changes when the body is exchanged or a weight is written: then kept features no longer count."""
        return id(self.body), sum(tensor._version for tensor in (*self.body.parameters(), *self.body.buffers()))

    def train(self, mode: bool = True) -> Network:
        """A frozen network stays in evaluation mode, also as part of a method that trains."""
        super().train(mode and not self.frozen)
        return self

    def cached(self, split: Split, positions: slice | None = None) -> np.ndarray:
        """Features of a split's unchanged faces, float32 (N, features): computed once per (weights, preprocessing,
        fingerprint). Those of a whole part are a memory map of one's own: what is written to it is not on the disk.
        """
        first, last, _ = (positions or slice(None)).indices(len(split))
        parts: list[np.ndarray] = []
        start = 0
        for piece in split.pieces:
            rows = piece.rows[max(0, first - start) : max(0, last - start)]
            parts += [self._rows(piece.domain, piece.part, rows)] if len(rows) or not parts else []
            start += len(piece.rows)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def of_rows(self, domain: Domain, rows: np.ndarray) -> np.ndarray:
        """Features of some faces of a domain, whatever their part, float32 (len(rows), features)."""
        features = np.empty((len(rows), self.features), np.float32)
        for part in SPLITS:
            members = domain.rows(part)
            here = np.isin(rows, members)
            if here.any():
                features[here] = self._part(domain, part)[np.searchsorted(members, rows[here])]
        return features

    def _rows(self, domain: Domain, part: str, rows: np.ndarray) -> np.ndarray:
        stored, members = self._part(domain, part), domain.rows(part)
        if isinstance(stored, np.memmap) and stored.filename is not None and np.array_equal(rows, members):
            return np.memmap(stored.filename, np.float32, "c", stored.offset, stored.shape)
        return np.ascontiguousarray(stored[np.searchsorted(members, rows)])

    def _part(self, domain: Domain, part: str) -> np.ndarray:
        from filelock import FileLock

        assert self._cache is not None
        key = (domain.fingerprint, part)
        if key not in self._open:
            path = self._cache / f"{domain.fingerprint}-{part}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (len(domain.rows(part)), self.features)
            if (stored := _stored_features(path, shape)) is None:
                with FileLock(path.with_suffix(".lock")):
                    if (stored := _stored_features(path, shape)) is None:
                        if path.exists():  # damaged: out of the way, and not used
                            os.replace(path, path.with_suffix(".damaged"))
                        self._extract(domain, part, path)
                        stored = map_array(path)
            self._open[key] = stored
        return self._open[key]

    def _extract(self, domain: Domain, part: str, path: Path) -> None:
        """Writes them as they come, so that as many faces as one likes take no memory."""
        split, done, waiting = domain.split(part), 0, []
        shape, device = (len(split), self.features), self.mean.device
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
        sweep(path)
        with atomically(path) as draft:
            with draft.open("wb") as file, torch.no_grad(), _half_precision(device):
                np.lib.format.write_array_header_1_0(file, header)
                for images in split.batches(device, scoring_batch(device)):
                    waiting.append(self.body(self.prepare(images)).float())
                    done += len(images)
                    if len(waiting) == FETCHED_TOGETHER or done == len(split):
                        self._append(torch.cat(waiting), file, f"{domain.name} {part}")
                        waiting.clear()
                    self._report(f"features of {domain.name} {part}", done, len(split))
            path.with_suffix(".sha256").write_text(checksum(draft) + "\n", encoding="ascii")  # for `verify`

    def _append(self, features: Tensor, file: BinaryIO, of: str) -> None:
        features = features.cpu()
        if not torch.isfinite(features).all():
            raise BenchError(f"{self.name} gives NaN or infinite features on {of}; its weights may be damaged")
        file.write(features.numpy().data)


def _stored_features(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Kept features as a memory map, or None where there are none of this shape."""
    try:
        stored = map_array(path)
    except (OSError, ValueError):
        return None
    return stored if stored.dtype == np.float32 and stored.shape == shape else None


class TextTower(nn.Module):
    """The text side of a CLIP, in the space of its image features: tokens int64 (T, length) → vectors (T, features),
    which are not normalised. Always in float32, apart from a training under autocast.
    """

    body: Any

    def __init__(self, name: str, body: nn.Module, tokenize: Callable[[list[str]], Tensor]) -> None:
        super().__init__()
        self.name, self.body, self._tokenize = name, body, tokenize
        self.digest = ""
        self._kept: tuple[Any, Tensor] | None = None

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by, exp(logit_scale): a scalar."""
        return self.body.logit_scale.exp().reshape(())

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """int64 (len(texts), length), on the tower's device."""
        return self._tokenize(list(texts)).to(self.body.logit_scale.device)

    def forward(self, tokens: Tensor) -> Tensor:
        with repeatable_attention(tokens.device):
            return self.body.encode_text(tokens)

    def class_vectors(
        self, names: Sequence[Sequence[str]] = prompt_names(), templates: Sequence[str] = PROMPT_TEMPLATES
    ) -> Tensor:
        """Unit vectors (K, features), one per class: the mean over its names and all templates of the unit vectors of
        the sentences. Without gradients they are computed once for as long as no weight is written.
        """
        asked = (tuple(map(tuple, names)), tuple(templates), self._state())
        if not torch.is_grad_enabled() and self._kept is not None and self._kept[0] == asked:
            return self._kept[1]
        texts = [template.format(name) for several in names for name in several for template in templates]
        sentences = functional.normalize(self(self.tokens(texts)).float(), dim=1)
        sizes = [len(several) * len(templates) for several in names]
        vectors = functional.normalize(torch.stack([part.mean(0) for part in sentences.split(sizes)]), dim=1)
        if not torch.is_grad_enabled():
            self._kept = asked, vectors
        return vectors

    def freeze(self) -> TextTower:
        """No gradient, and evaluation mode."""
        self.requires_grad_(False)
        return self.eval()

    def _state(self) -> int:
        """Changes when a weight is written."""
        return sum(tensor._version for tensor in (*self.body.parameters(), *self.body.buffers()))


@cache
def _stream_beside(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def _keep_half(body: nn.Module) -> None:
    """Keeps in fp16 the weights that autocast would make fp16 again at every call; what comes out is equal to the
    bit.
    """
    for module in body.modules():
        # No kinds derived from these: some compute with their weights before they are used.
        if type(module) in {nn.Linear, NonDynamicallyQuantizableLinear, nn.Conv1d, nn.Conv2d, PatchConvolution}:
            module.half()
        elif isinstance(module, nn.MultiheadAttention):
            for weight in (module.in_proj_weight, module.in_proj_bias):
                if weight is not None:
                    weight.data = weight.data.half()


def _half_precision(device: torch.device) -> torch.autocast:
    """Frozen networks run in fp16 on a GPU, as CLIP's reference code does."""
    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")


def repeatable_attention(device: torch.device) -> AbstractContextManager[Any]:
    """Attention whose gradients are the same every time. The faster kernels of a GPU add them up in any order, unless
    torch is told to fail at all that is not deterministic.
    """
    if device.type != "cuda" or not torch.is_grad_enabled():
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def scoring_batch(device: torch.device) -> int:
    """Faces at a time where nothing is learned: on a GPU so many that it, and not its host, sets the pace."""
    return 512 if device.type == "cuda" else 256


def resize(images: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """Float images to a square of `size`, antialiased: what PIL does, up to one grey level; to a few where bicubic
    overshoots, which PIL cuts off between its two passes.
    """
    if images.shape[-2:] == (size, size):
        return images
    if not images.is_cuda:
        return functional.interpolate(images, (size, size), mode=interpolation, antialias=True).clamp(0.0, 1.0)
    # The same sums as two products, which take a GPU half as long. They stay in float32 whatever the network runs in.
    rows, columns = (_resizing(side, size, interpolation, images.device) for side in images.shape[-2:])
    with torch.autocast("cuda", enabled=False):
        return (rows @ images.float() @ columns.T).clamp_(0.0, 1.0)


@lru_cache(64)
def _resizing(length: int, size: int, interpolation: str, device: torch.device) -> Tensor:
    """What resizing does to a line of pixels, as a matrix (size, length)."""
    lines = torch.eye(length)[None, None]
    # Made on the host: whichever stream asks for it next, the copy is there.
    return functional.interpolate(lines, (size, length), mode=interpolation, antialias=True)[0, 0].to(device)


class PatchConvolution(nn.Conv2d):
    """A convolution whose windows neither overlap nor leave a gap, as one product: the first layer of a vision
    transformer takes cuDNN as long as a third of the rest, channels last.
    """

    def forward(self, input: Tensor) -> Tensor:
        (tall, wide), (height, width) = self.kernel_size, input.shape[-2:]
        if height % tall or width % wide:
            return super().forward(input)
        windows = input.permute(0, 2, 3, 1).unflatten(2, (-1, wide)).unflatten(1, (-1, tall)).transpose(2, 3)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(windows.flatten(3), weight, self.bias).permute(0, 3, 1, 2)


def _as_products(body: nn.Module) -> None:
    """Turns the convolutions of a body that can be into products; names and weights stay."""
    for module in body.modules():
        if (
            type(module) is nn.Conv2d
            and module.kernel_size == module.stride != (1, 1)
            and (module.padding, module.dilation, module.groups) == ((0, 0), (1, 1), 1)
        ):
            module.__class__ = PatchConvolution


# -------------------------------------------------------------------------------------------------------------- loading


def load_network(name: str, device: torch.device, statistics: Statistics = "own") -> Network:
    """A network by name, on a device. statistics: its own mean and deviation, or ImageNet's."""
    parsed = parse_network(name, "network")
    loaders: Mapping[str, Callable[[NetworkName], Network]] = {"open_clip": _open_clip, "timm": _timm, CAFFE: _caffe}
    network = loaders.get(parsed.family, _packaged)(parsed)
    if statistics == "imagenet":
        own = network.preprocessing
        imagenet = Preprocessing(own.size, IMAGENET_MEAN, IMAGENET_DEVIATION, own.interpolation)
        network = Network(network.name, network.body, network.features, imagenet)
        network.statistics = statistics
    network.digest = content_digest(network.body)
    if device.type == "cuda":
        _as_products(network.body)
    return network.to(device).to(memory_format=torch.channels_last)


def load_text_tower(name: str, device: torch.device) -> TextTower:
    """The text tower of a network by name, from the same weights as its image tower."""
    parsed = parse_network(name, "network")
    if parsed.family != "open_clip":
        raise BenchError(f"{parsed} has no text tower; choose a backbone that has one, such as {WITH_TEXT}")
    import open_clip

    model: Any = _open_clip_model(parsed)
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
    if not name.scratch:
        _fill(body, _read_state(name.path or PACKAGED[name.family]), name)
    return Network(str(name), body, body.features, Preprocessing(body.size, (MEAN,) * 3, (DEVIATION,) * 3, "bilinear"))


def _timm(name: NetworkName) -> Network:
    import timm

    state = None if name.path is None else _read_state(name.path)
    if state is not None and name.model.partition(".")[0] == "resnet50" and _identities(state) == VGGFACE2_IDENTITIES:
        raise BenchError(
            f"{name.path} holds the weights of a Caffe-style ResNet-50 (a classifier of {VGGFACE2_IDENTITIES} "
            f"identities, as VGGFace2 has), which in {name.family}:{name.model} would be another network; name it "
            f"{CAFFE}/{name.path}, or take the classifier out of the file if it was trained in this layout"
        )
    published = not name.scratch and state is None
    try:
        body = timm.create_model(name.model, pretrained=published, num_classes=0)
    except RuntimeError as error:
        if "Unknown model" not in str(error):
            raise _not_fetched(name, error) from error
        near = timm.list_models(f"*{name.model.partition('.')[0][:6]}*")[:3]
        raise BenchError(f"timm has no model {name.model!r}; near it are {', '.join(near) or 'none'}") from None
    except Exception as error:
        raise _not_fetched(name, error) from error
    if state is not None:
        _fill(body, state, name, ignore=CLASSIFIERS)
    config = timm.data.resolve_model_data_config(body)
    interpolation: Literal["bilinear", "bicubic"] = "bicubic" if config["interpolation"] == "bicubic" else "bilinear"
    preprocessing = Preprocessing(config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]), interpolation)
    return Network(str(name), body, _width(body, name, preprocessing.size), preprocessing)


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
    state = None if name.path is None else _read_state(name.path)
    if state is not None and (identities := _identities(state)) != VGGFACE2_IDENTITIES:
        found = "no classifier" if identities is None else f"a classifier of {identities} classes"
        raise BenchError(
            f"{name.path} holds {found} where the weights of VGGFace2 hold one of {VGGFACE2_IDENTITIES}, and nothing "
            f"else tells the Caffe-style layout from torchvision's; give the whole file, or name timm:resnet50"
        )
    body: Any = caffe_resnet50()
    if state is not None:
        _fill(body, state, name, ignore=CLASSIFIERS)
    seen = Preprocessing(224, IMAGENET_MEAN, IMAGENET_DEVIATION, "bilinear")
    return Network(str(name), body, body.num_features, seen)


def _identities(state: Mapping[str, Tensor]) -> int | None:
    """How many classes the classifier of a checkpoint has, where it has one."""
    return next((len(value) for key, value in state.items() if _plain(key) == "fc.weight"), None)


def _open_clip_model(name: NetworkName) -> Any:
    """A whole CLIP: both towers, float32, on the CPU."""
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
    if name.path is not None and _is_openai_archive(name.path):
        model = name.model if "quickgelu" in name.model else f"{name.model}-quickgelu"
        raise BenchError(
            f"{name.path} is a program (TorchScript), as OpenAI gave its weights out, and programs are not run; name "
            f"the same weights as safetensors, which open_clip fetches for open_clip:{model}/openai"
        )
    weights = None if name.scratch else str(name.path or name.tag)
    try:
        return open_clip.create_model(name.model, pretrained=weights, precision="fp32")
    except Exception as error:
        raise _not_fetched(name, error) from error


def _open_clip(name: NetworkName) -> Network:
    import open_clip

    visual = _open_clip_model(name).visual
    size = visual.image_size[0] if isinstance(visual.image_size, tuple) else visual.image_size
    mean, deviation = (
        visual.image_mean or open_clip.OPENAI_DATASET_MEAN,
        visual.image_std or open_clip.OPENAI_DATASET_STD,
    )
    preprocessing = Preprocessing(size, tuple(mean), tuple(deviation), "bicubic")
    return Network(str(name), visual, _width(visual, name, size), preprocessing)


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


def _fill(body: nn.Module, state: Mapping[str, Tensor], name: NetworkName, ignore: tuple[str, ...] = ()) -> None:
    """Puts weights into a network. All of its weights must be there, in their shapes; a classifier may be left over."""
    own = {key: value for key, value in body.state_dict().items() if not key.endswith("num_batches_tracked")}
    given = {
        key: value.float() if value.is_floating_point() else value
        for key, value in ((_plain(key), value) for key, value in state.items())
        if key in own or not (key.startswith(ignore) or key.endswith("num_batches_tracked"))
    }
    missing = [key for key in own if key not in given]
    unexpected = [key for key in given if key not in own]
    other = [
        f"{key} {tuple(given[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own
        if key in given and given[key].shape != own[key].shape
    ]
    parts = [
        f"{what} {_some(keys)}"
        for what, keys in (("lacks", missing), ("holds unknown", unexpected), ("holds in another shape", other))
        if keys
    ]
    if parts:
        path = name.path or PACKAGED.get(name.family)
        raise BenchError(f"{path} does not fit {name}: it {'; it '.join(parts)}; name the network that it was made for")
    body.load_state_dict(given, strict=False)


def _some(names: list[str], shown: int = 5) -> str:
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _plain(key: str) -> str:
    return key.removeprefix("module.")


def _read_state(path: Path) -> dict[str, Tensor]:
    """The weights in a .safetensors file, a torch file, or a pickled dictionary of numpy arrays (.pkl)."""
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(entry.file_size for entry in archive.infolist()) > 2 * path.stat().st_size:
                    raise ValueError("it unpacks to far more than it is, as no file of weights does")
        content: Any = _read_arrays(path) if path.suffix == ".pkl" else None
        content = torch.load(path, map_location="cpu", weights_only=True) if content is None else content
    except Exception as error:
        raise BenchError(f"{path} holds no weights that can be loaded safely: {reason(error)}") from None
    for wrapper in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict):
        raise BenchError(
            f"{path} holds a {type(content).__name__}, not weights by name; save a state_dict of the network"
        )
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _read_arrays(path: Path) -> dict[str, Tensor] | None:
    """A pickled dictionary of numpy arrays, which is how the VGGFace2 weights are kept; None where it is a torch file.
    Nothing but arrays is let in, so no code of the file is run.
    """
    with path.open("rb") as file:
        if zipfile.is_zipfile(file):
            return None
        file.seek(0)
        content = _ArraysOnly(file, encoding="latin1").load()
    if not isinstance(content, dict) or not all(isinstance(value, np.ndarray) for value in content.values()):
        raise ValueError("it is no dictionary of arrays")
    return {str(key): torch.from_numpy(np.array(value)) for key, value in content.items()}


class _ArraysOnly(pickle.Unpickler):
    """Knows what a numpy array is pickled as, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        from numpy._core import multiarray  # where a pickle of any numpy finds it

        known = {
            "_reconstruct": multiarray._reconstruct,
            "scalar": multiarray.scalar,
            "ndarray": np.ndarray,
            "dtype": np.dtype,
            "encode": codecs.encode,
            "OrderedDict": OrderedDict,
        }
        if module.partition(".")[0] in {"numpy", "_codecs", "collections"} and name in known:
            return known[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no array")
