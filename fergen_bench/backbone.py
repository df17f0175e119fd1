"""Image networks behind one call: open_clip, timm or the packaged ones; with their own input size and statistics; and
their features. And the text towers of those that have one.

A network takes faces as they are (uint8 RGB of any size, or floats in 0..1), resizes and normalises them as it was
trained to see them, and gives one feature vector per face. Names are explained in `weights.py`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import warnings
import zipfile
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
from fergen_bench.weightsfile import fill, find_fit, read_weights
from fergen_bench.wording import many

Statistics = Literal["own", "imagenet"]
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
WITH_TEXT = "open_clip:ViT-B-32-quickgelu/openai"
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
        self.notes: tuple[str, ...] = ()
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
        self.notes: tuple[str, ...] = ()
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
