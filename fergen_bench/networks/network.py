"""A network as methods use it: preprocessing, forward passes, and features cached per image."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
import torch
from torch import nn

from fergen_bench.data.domain import mirrored, upload
from fergen_bench.data.labels import SPLITS
from fergen_bench.data.numerics import NUMERICS
from fergen_bench.error import BenchError
from fergen_bench.files.atomic import atomically, sweep
from fergen_bench.files.bounded import checksum, map_array
from fergen_bench.networks.kernels import (
    fold_batch_norm,
    half_type,
    is_compiling,
    is_exporting,
    repeatable_attention,
    resize,
    scoring_batch,
    store_half,
)
from fergen_bench.networks.profiler import phase
from fergen_bench.progress import silent

if TYPE_CHECKING:
    from torch import Tensor

    from fergen_bench.data.domain import Clean, Domain, Split
    from fergen_bench.experiment.run import Precision, View
    from fergen_bench.progress import Progress


Statistics = Literal["own", "imagenet"]
FETCHED_TOGETHER = 32
"""Batches of features that a GPU computes before the host waits; with 512 features per image, 34 MB."""


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a network expects.

    The whole image is squashed to a square. Faces are cropped already, so nothing is cut off.
    """

    size: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    interpolation: Literal["bilinear", "bicubic"]

    def __str__(self) -> str:
        """Return a text that differs for different preprocessings."""
        return f"{self.size}-{self.interpolation}-{'-'.join(f'{value:.4f}' for value in (*self.mean, *self.deviation))}"


class Network(nn.Module):
    """A pretrained network that maps images (B, 3, height, width) to features (B, `features`)."""

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
        self._report: Progress = silent
        self._frozen: tuple[int, int] = (0, 0)
        self._half: torch.dtype | None = None
        self._open: dict[tuple[str, str, str], np.ndarray] = {}
        self._compiled: tuple[int, Callable[[Tensor], Tensor]] | None = None

    @property
    def size(self) -> int:
        """Side of the network's input, in pixels."""
        return self.preprocessing.size

    def prepare(self, images: Tensor) -> Tensor:
        """Resize and normalise images.

        Args:
            images: uint8, or float in 0..1, (B, 3, height, width) of any size.

        Returns:
            float (B, 3, size, size).
        """
        given = images
        images = images.float().div_(255.0) if images.dtype == torch.uint8 else images
        images = resize(images, self.size, self.preprocessing.interpolation)
        if is_exporting():
            return (images.float() - self.mean) / self.deviation
        images = images.float().contiguous(memory_format=torch.channels_last)
        # In place and by rows of pixels, which takes a CPU a quarter of the time.
        images = images.clone() if images is given else images
        rows = images.permute(0, 2, 3, 1).view(len(images), self.size, 3 * self.size)
        rows.sub_(self._row_mean).div_(self._row_deviation)
        return images

    def forward(self, images: Tensor) -> Tensor:
        """Return features (B, `features`); a frozen network reads those of unchanged images from its cache."""
        if self.frozen:
            clean: Clean | None = getattr(images, "clean", None)
            if clean is not None and clean.version == images._version and self._state() == self._frozen:
                features = self.cached(clean.split, clean.positions, clean.view)
                return upload(torch.from_numpy(features), images.device)
            with phase("frozen tower"), self._inference():
                return self._run(images).float()
        return self._run(images)

    def _run(self, images: Tensor) -> Tensor:
        with repeatable_attention(images.device):
            return self._program()(self.prepare(images))

    @property
    def is_compiled(self) -> bool:
        """True if the network has run compiled."""
        return self._compiled is not None

    def _program(self) -> Callable[[Tensor], Tensor]:
        if not is_compiling():
            return self.body
        if self._compiled is None or self._compiled[0] != id(self.body):
            self._compiled = id(self.body), torch.compile(self.body, dynamic=False)
        return self._compiled[1]

    def begin(self, images: Tensor) -> Callable[[], Tensor]:
        """Start a forward pass of a frozen network, and return a function that waits for its features.

        On a GPU the pass runs concurrently with later operations, because two networks on a small batch use more of the
        GPU than one.
        """
        if not images.is_cuda or not self.frozen:
            features = self(images)
            return lambda: features
        current, side = torch.cuda.current_stream(images.device), _side_stream(images.device)
        side.wait_stream(current)
        with torch.cuda.stream(side):
            features = self(images)

        def wait() -> Tensor:
            current.wait_stream(side)
            return features

        return wait

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the last map before pooling.

        Args:
            images: uint8, or float in 0..1, (B, 3, height, width).

        Returns:
            float (B, channels, height, width).

        Raises:
            BenchError: The network has no such map.
        """
        if self.frozen:
            with phase("frozen tower"), self._inference():
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
        raise BenchError(f"{self.name} lacks a feature map; choose a convolutional network")

    @torch.no_grad()
    def map_shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of the feature map. The mode of the network does not change."""
        training, blank = self.training, torch.zeros(1, 3, self.size, self.size, device=self.mean.device)
        self.eval()
        channels, height, width = self.feature_map(blank).shape[1:]
        self.train(training)
        return channels, height, width

    def patch_map(self, images: Tensor) -> Tensor:
        """Return the last tokens of a vision transformer in their grid, or the feature map of another network.

        The class token is omitted. The result of a frozen network has no gradient.

        Args:
            images: uint8, or float in 0..1, (B, 3, height, width).

        Returns:
            float (B, channels, height, width).

        Raises:
            BenchError: The network has neither tokens nor a feature map.
        """
        if self.frozen:
            with phase("frozen tower"), self._inference():
                return self._patches(images).float()
        return self._patches(images)

    def _patches(self, images: Tensor) -> Tensor:
        if hasattr(self.body, "feature_map"):
            return self._map(images)
        if not hasattr(self.body, "forward_intermediates"):
            raise BenchError(f"{self.name} has neither tokens nor a feature map; choose another network")
        options: dict[str, Any] = {"indices": 1, "intermediates_only": True, "output_fmt": "NCHW"}
        if self.name.startswith("open_clip:"):
            found = self.body.forward_intermediates(self.prepare(images), normalize_intermediates=True, **options)
            return found["image_intermediates"][-1]
        return self.body.forward_intermediates(self.prepare(images), norm=True, **options)[-1]

    # --------------------------------------------------------------------------------------------------------- features

    @property
    def frozen(self) -> bool:
        """True after `freeze`; the network is then not trained."""
        return self._cache is not None

    def freeze(self, cache: Path, report: Progress, precision: Precision = "fp32") -> Network:
        """Disable gradients, stay in evaluation mode, and cache the features of unchanged images.

        Batch norms are folded into the convolutions before them, so the weights of the body change; its digest does
        not.

        Args:
            cache: Folder of the cache; features are stored in its subfolder `features`.
            report: Receives progress while features are computed.
            precision: `fp32`, or `bf16`: bfloat16 on a CPU, and fp16 on a GPU.

        Returns:
            The network itself.
        """
        self.requires_grad_(False)
        self.eval()
        fold_batch_norm(self.body)
        self._half = half_type(self.mean.device) if precision == "bf16" else None
        if self._half is not None:
            store_half(self.body, self._half)
        slug = re.sub(r"[^\w.-]+", "_", self.name.partition("//")[0])
        kind = f"{self._half or torch.float32}{', as products' if self.mean.is_cuda else ''}"
        how = hashlib.sha256(f"{self.preprocessing} {kind} numerics {NUMERICS}".encode()).hexdigest()[:8]
        self._cache, self._report = cache / "features" / f"{slug}-{self.digest}-{how}", report
        self._frozen = self._state()
        return self

    @contextmanager
    def _inference(self) -> Iterator[None]:
        """Disable gradients, and compute in the precision of the frozen network."""
        kind, half = self.mean.device.type, self._half
        with torch.no_grad(), torch.autocast(kind, half or torch.bfloat16, enabled=half is not None):
            yield

    def _state(self) -> tuple[int, int]:
        """Return a value that changes, and invalidates cached features, when the body or a weight changes."""
        return id(self.body), sum(tensor._version for tensor in (*self.body.parameters(), *self.body.buffers()))

    def train(self, mode: bool = True) -> Network:
        """Set the training mode; a frozen network stays in evaluation mode, also as part of a method that trains."""
        super().train(mode and not self.frozen)
        return self

    def cached(self, split: Split, positions: slice | np.ndarray | None = None, view: View = "plain") -> np.ndarray:
        """Return the features of a split's unchanged images, computing them on first use.

        They are computed once per weights, preprocessing, numerics, view and fingerprint of the domain. Features of a
        whole part are a private memory map: writing to it does not change the file.

        Args:
            split: The split.
            positions: Rows of the split, a slice or integers; by default, all.
            view: `plain`, or `mirror` for the mirror images.

        Returns:
            float32 (N, features).
        """
        if isinstance(positions, np.ndarray):
            return self.cached(split, view=view)[positions]
        first, last, _ = (positions or slice(None)).indices(len(split))
        parts: list[np.ndarray] = []
        start = 0
        for piece in split.pieces:
            rows = piece.rows[max(0, first - start) : max(0, last - start)]
            parts += [self._rows(piece.domain, piece.part, rows, view)] if len(rows) or not parts else []
            start += len(piece.rows)
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def of_rows(self, domain: Domain, rows: np.ndarray) -> np.ndarray:
        """Return features float32 (len(rows), features) of some images of a domain, from any of its parts."""
        features = np.empty((len(rows), self.features), np.float32)
        for part in SPLITS:
            members = domain.rows(part)
            here = np.isin(rows, members)
            if here.any():
                features[here] = self._part(domain, part)[np.searchsorted(members, rows[here])]
        return features

    def _rows(self, domain: Domain, part: str, rows: np.ndarray, view: View) -> np.ndarray:
        stored, members = self._part(domain, part, view), domain.rows(part)
        if isinstance(stored, np.memmap) and stored.filename is not None and np.array_equal(rows, members):
            return np.memmap(stored.filename, np.float32, "c", stored.offset, stored.shape)
        return np.ascontiguousarray(stored[np.searchsorted(members, rows)])

    def _part(self, domain: Domain, part: str, view: View = "plain") -> np.ndarray:
        from filelock import FileLock

        assert self._cache is not None
        key = (domain.fingerprint, part, view)
        if key not in self._open:
            name = f"{domain.fingerprint}-{part}" if view == "plain" else f"{domain.fingerprint}-{part}-{view}"
            path = self._cache / f"{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (len(domain.rows(part)), self.features)
            if (stored := _stored_features(path, shape)) is None:
                with FileLock(path.with_suffix(".lock")):
                    if (stored := _stored_features(path, shape)) is None:
                        if path.exists():  # it is damaged, and is moved aside
                            os.replace(path, path.with_suffix(".damaged"))
                        self._extract(domain, part, view, path)
                        stored = map_array(path)
            self._open[key] = stored
        return self._open[key]

    def _extract(self, domain: Domain, part: str, view: View, path: Path) -> None:
        """Compute features and write them batch by batch, so that memory does not grow with the number of images."""
        split, done, pending = domain.split(part), 0, []
        shape, device = (len(split), self.features), self.mean.device
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float32)), "fortran_order": False, "shape": shape}
        sweep(path)
        with atomically(path) as draft:
            with draft.open("wb") as file, self._inference():
                np.lib.format.write_array_header_1_0(file, header)
                for images in split.batches(device, scoring_batch(device)):
                    seen = images if view == "plain" else mirrored(images)
                    pending.append(self.body(self.prepare(seen)).float())
                    done += len(images)
                    if len(pending) == FETCHED_TOGETHER or done == len(split):
                        self._append(torch.cat(pending), file, f"{domain.name} {part}")
                        pending.clear()
                    self._report(f"features of {domain.name} {part}", done, len(split))
            path.with_suffix(".sha256").write_text(checksum(draft) + "\n", encoding="ascii")  # for `verify`

    def _append(self, features: Tensor, file: BinaryIO, of: str) -> None:
        features = features.cpu()
        if not torch.isfinite(features).all():
            raise BenchError(f"{self.name} computes NaN or infinite features for {of}; its weights may be damaged")
        file.write(features.numpy().data)


def _stored_features(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """Return stored features as a memory map; None if the file is absent or has another shape."""
    try:
        stored = map_array(path)
    except (OSError, ValueError):
        return None
    return stored if stored.dtype == np.float32 and stored.shape == shape else None


@cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)
