"""POSTER++ (weights from two files): let the maps of a landmark network attend to those of a face network.

Source: Mao et al., "POSTER V2: A simpler and stronger facial expression recognition network" (arXiv 2301.12149, later
POSTER++ in Pattern Recognition); github.com/Talented-Q/POSTER_V2 at 18de559. An IR-50 and the landmark network, a
MobileFaceNet, see the same face at 112 pixels. On each of three levels the IR-50 has the map x and the landmark network
a map q of half its side. The map of level 3 of the landmark network passes a convolution first.

    y = layer_norm(conv(x)), with stride 2;  k, v = the halves of a linear map of y
    a = proj(softmax(q k' / sqrt(width of a head) + relative position bias) v)
    h = y + drop(gamma1 * a);  output = h + drop(gamma2 * mlp(layer_norm(h)))

Each output becomes 7 x 7 tokens by convolutions. A transformer of two layers sees the tokens of all levels and a class
token c; c * sigmoid(linear(relu(linear(c)))) is classified, L = ce(z, y), and each step is one of SAM.

As released: q is not projected, and the residual is the normalised map y, not conv(x). gamma is 1e-5 at the start, so
landmarks contribute nothing then. The landmark network is not trained, but it runs in training mode: its batch norm
uses the batch, and its running statistics move. Both passes of SAM move the statistics, and each drops other paths.
Adam has no weight decay (the released argument is not used). Both networks see every second pixel of a face of 224
pixels.

`ir50` and `landmarks` name files of weights: an IR-50 trained on MS-Celeb-1M, with its blocks in three bodies as in the
repository or in one, and a MobileFaceNet trained on landmarks. Every weight of the two networks must be in its file by
name and shape; the layers behind the three maps are left out. Without the files the method is refused.

Departures: images are mirrored and erased at their stored size, then resized, as in all methods here. Parameters of the
released transformer that never get a gradient are left out. The last epoch or the best on held-out images of the source
is scored (released: the best on test images, of which the file contains the optimiser's state alone). Recipes of other
datasets are parameters: AffectNet has the rate 1e-6, balanced sampling and boxes of 5 % in each image.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import (
    EXPRESSIONS,
    Batch,
    BenchError,
    Context,
    File,
    Inputs,
    Network,
    NetworkMethod,
    Preprocessing,
    SampleDraws,
    Split,
    load_weights,
)
from fergen_bench.training.augment import erase, random_boxes, random_flip
from fergen_bench.training.sharpness import worst_point

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Sizes(NamedTuple):
    """The sizes of all networks, which are those of the paper by default."""

    side: int = 224  # pixels of a face; both networks see half as many
    widths: tuple[int, int, int] = (64, 128, 256)  # channels of the levels
    depths: tuple[int, int, int] = (3, 4, 14)  # blocks of the IR-50 on each level
    landmark_depths: tuple[int, int, int] = (4, 6, 2)  # blocks of the landmark network
    heads: tuple[int, int, int] = (2, 4, 8)  # attention heads on each level
    width: int = 768  # of the tokens
    token_heads: int = 8  # attention heads of the transformer
    token_depth: int = 2  # its layers

    def window(self, level: int) -> int:
        """Return the side of the map of a level, from 0, behind its convolution."""
        return self.side >> (level + 3)


@dataclass
class PosterPP(NetworkMethod):
    """Landmarks attend to the places of a face that show its expression, on three scales."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    needs: ClassVar[tuple[str, ...]] = ("images", "file")
    sizes: ClassVar[Sizes] = Sizes()
    # The networks are as large under every suite, so the released optimiser and rate apply.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {
            "batch_size": 32,
            "learning_rate": 3.5e-5,
            "optimizer": "adam",
            "weight_decay": 0.0,
            "schedule": "exponential",
        }
    }

    epochs: int = 200  # passes over the source
    batch_size: int = 144  # images per step
    learning_rate: float = 3.5e-5  # initial value
    weight_decay: float = 0.0  # coupled L2 with adam, decoupled with adamw
    decay: float = 0.98  # of the exponential schedule
    noise: float = 0.0  # share of images that get Gaussian noise of variance 30
    smallest_box: float = 0.02  # smallest share of an image that a box covers
    largest_box: float = 0.1  # largest
    rho: float = 0.05  # distance at which SAM searches the worst point
    drop_path: float = 0.25  # share of images that skip a branch of level 3; level 2: half as many; level 1: none
    ir50: File = ""  # file with the weights of the IR-50
    landmarks: File = ""  # file with the weights of the landmark network

    def build(self, ctx: Context) -> nn.Module:
        body = Poster(self.sizes)
        preprocessing = Preprocessing(self.sizes.side, MEAN, DEVIATION, "bilinear")
        self.network = Network("poster_pp", body, len(EXPRESSIONS), preprocessing)
        return self.network

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        # Not in `build`, because the checkpoint of a fitted method contains these weights.
        for name, network, about in (
            ("ir50", self.model.body.face, "an IR-50 trained on MS-Celeb-1M"),
            ("landmarks", self.model.body.landmarks, "a MobileFaceNet trained on landmarks"),
        ):
            path = getattr(self, name)
            if not path:
                raise BenchError(
                    f"poster_pp: {name} is empty; name the file of {about} with --set {name}=FILE (the repository of "
                    f"POSTER++ links to one)"
                )
            advice = f"name a file of {about} with --set {name}=FILE"
            load_weights(network, Path(path), f"the {name} network of poster_pp", advice, self._renamed)
        return super().inputs(split, ctx)

    def _renamed(self, name: str) -> str:
        """Return the name of a weight of an IR-50 with one body, as it is called with three bodies."""
        found = re.fullmatch(r"(|.*\.)body\.(\d+)(\..*)", name)
        if found is None:
            return name
        before, block, after = found[1], int(found[2]), found[3]
        for place, depth in enumerate(self.sizes.depths, 1):
            if block < depth:
                return f"{before}body{place}.{block}{after}"
            block -= depth
        return f"{before}body4.{block}{after}"

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        boxes = random_boxes(images.shape, draws, self.erasing, (self.smallest_box, self.largest_box))
        return erase(random_flip(images, draws).float() / 255.0, boxes, self.network.mean)

    def loss(self, batch: Batch) -> Tensor:
        # Not with `batch.drawn`, since the two passes of a step draw different paths.
        uniform = torch.rand(3, 2, len(batch.labels), generator=batch.generator).to(batch.labels.device)
        self.model.body.paths = kept_paths(uniform, self.drop_path)
        logits = self.model(batch.images).float()
        self.model.body.paths = None
        return functional.cross_entropy(self.adjusted(logits), batch.labels)

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> dict[str, Tensor]:
        terms = self.descend(batch, optimizer, ctx)
        with worst_point(self.model.parameters(), self.rho):
            terms["loss_perturbed"] = self.descend(batch, optimizer, ctx)["loss"]
        optimizer.step()
        return terms


def kept_paths(uniform: Tensor, largest: float) -> Tensor:
    """Return the factor of each branch, (levels, 2, N), from random numbers in 0..1 of the same shape.

    Args:
        uniform: Random numbers.
        largest: The share of dropped branches on the last level; on the others it grows evenly from 0.
    """
    rates = torch.linspace(0, largest, len(uniform), device=uniform.device)[:, None, None]
    return (uniform >= rates) / (1 - rates)


class Poster(nn.Module):
    """Classify normalised faces: (N, 3, side, side) → logits (N, 7).

    Attributes:
        paths: The factor of each branch, (3, 2, N), in training; None keeps all.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        first, second, third = sizes.widths
        self.face, self.landmarks = FaceNetwork(sizes), LandmarkNetwork(sizes).requires_grad_(False)
        self.narrow = nn.Conv2d(2 * third, third, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(width, heads, sizes.window(place))
            for place, (width, heads) in enumerate(zip(sizes.widths, sizes.heads, strict=True))
        )
        width = sizes.width
        halved = [nn.Conv2d(first, width, 3, 2, 1), nn.Conv2d(width, width, 3, 2, 1)]
        self.embeds = nn.ModuleList(
            [nn.Sequential(*halved), nn.Conv2d(second, width, 3, 2, 1), nn.Conv2d(third, width, 1)]
        )
        tokens = 3 * sizes.window(2) ** 2
        self.fusion = Fusion(tokens, width, sizes.token_heads, sizes.token_depth)
        self.paths: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, 7)."""
        images = images[:, :, ::2, ::2]
        *maps, last = self.landmarks(images)
        queries = [*maps, self.narrow(last)]
        tokens = []
        for place, face in enumerate(self.face(images)):
            paths = None if self.paths is None else self.paths[place]
            refined = self.levels[place](face, queries[place], paths)
            tokens.append(self.embeds[place](refined).flatten(2).transpose(1, 2))
        logits: Tensor = self.fusion(torch.cat(tokens, 1))
        return logits


class Level(nn.Module):
    """Refine a map by the attention of a landmark map to it.

    Args:
        width: C, channels of both maps.
        heads: Attention heads.
        window: Side of the landmark map. It attends to each window of that side; in POSTER++ to the whole map.
    """

    place: Tensor

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, self.window = heads, window
        self.conv = nn.Conv2d(width, width, 3, 2, 1)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.bias = nn.Parameter(nn.init.trunc_normal_(torch.empty((2 * window - 1) ** 2, heads), std=0.02))
        self.register_buffer("place", relative_places(window), persistent=False)
        self.gamma1, self.gamma2 = (nn.Parameter(torch.full((width,), 1e-5)) for _ in range(2))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, face: Tensor, landmarks: Tensor, paths: Tensor | None = None) -> Tensor:
        """Return the refined map, (N, C, H, W).

        Args:
            face: x, (N, C, 2 H, 2 W).
            landmarks: q, (N, C, window, window).
            paths: The factor of each image's two branches, (2, N); None is 1.
        """
        residual = self.norm1(self.conv(face).permute(0, 2, 3, 1))
        height, width = residual.shape[1:3]
        attended = self.attention(windows_of(residual, self.window), landmarks)
        first, second = (1.0, 1.0) if paths is None else paths.to(residual)[..., None, None, None]
        x = residual + first * (self.gamma1 * joined(attended, height, width))
        x = x + second * (self.gamma2 * self.mlp(self.norm2(x)))
        return x.permute(0, 3, 1, 2)

    def attention(self, windows: Tensor, landmarks: Tensor) -> Tensor:
        """Return a, (windows of all images, T, C), from the windows, of that shape, and q."""
        count, tokens, width = windows.shape
        shape = (count, tokens, 2, self.heads, width // self.heads)
        keys, values = self.qkv(windows).reshape(shape).permute(2, 0, 3, 1, 4)
        query = split_heads(landmarks, self.heads).repeat_interleave(count // landmarks.shape[0], 0)
        bias = self.bias[self.place].permute(2, 0, 1)
        weights = (query * shape[-1] ** -0.5 @ keys.mT + bias).softmax(-1)
        attended: Tensor = self.proj((weights @ values).transpose(1, 2).reshape(count, tokens, width))
        return attended


def split_heads(maps: Tensor, heads: int) -> Tensor:
    """Return the channels of each head, (N, heads, H * W, C / heads), from maps (N, C, H, W)."""
    return maps.flatten(2).unflatten(1, (heads, -1)).transpose(2, 3)


def windows_of(maps: Tensor, side: int) -> Tensor:
    """Return the square windows of maps (N, H, W, C), row by row, (N * windows, side * side, C)."""
    rows = maps.unflatten(2, (-1, side)).unflatten(1, (-1, side))
    return rows.transpose(2, 3).reshape(-1, side * side, maps.shape[3])


def joined(windows: Tensor, height: int, width: int) -> Tensor:
    """Return the maps (N, height, width, C) of windows (N * windows, T, C)."""
    side = round(windows.shape[1] ** 0.5)
    rows = windows.reshape(-1, height // side, width // side, side, side, windows.shape[2])
    return rows.transpose(2, 3).reshape(-1, height, width, windows.shape[2])


def relative_places(side: int) -> Tensor:
    """Return the row of the position bias for each pair of places in a window, int64 (side^2, side^2)."""
    row, column = (torch.arange(side * side) // side, torch.arange(side * side) % side)
    down, right = (at[:, None] - at[None] + side - 1 for at in (row, column))
    return down * (2 * side - 1) + right


class Fusion(nn.Module):
    """Classify the tokens of all levels by a transformer and a gate: (N, T, C) → (N, 7).

    Args:
        tokens: T.
        width: C.
        heads: Attention heads.
        depth: Layers.
        ratio: Hidden width of a layer's MLP, as a multiple of C.
    """

    def __init__(self, tokens: int, width: int, heads: int, depth: int, ratio: int = 4) -> None:
        super().__init__()
        self.first, self.place = nn.Parameter(torch.zeros(1, 1, width)), nn.Parameter(torch.zeros(1, tokens + 1, width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, ratio * width, 0.0, "gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
            )
            for _ in range(depth)
        )
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.gate = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.Sigmoid())
        self.head = nn.Linear(width, len(EXPRESSIONS))
        for name, weight in self.named_parameters():
            if name in {"first", "place"}:
                nn.init.trunc_normal_(weight, std=0.02)
            elif "norm" not in name:
                nn.init.zeros_(weight) if name.endswith("bias") else nn.init.trunc_normal_(weight, std=0.01)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (N, 7)."""
        x = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], 1) + self.place
        for layer in self.layers:
            x = layer(x)
        token = self.norm(x[:, 0])
        logits: Tensor = self.head(token * self.gate(token))
        return logits


class FaceNetwork(nn.Module):
    """The first three bodies of an IR-50, under the names of its weights."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        first, second, third = sizes.widths
        self.input_layer = nn.Sequential(
            nn.Conv2d(3, first, 3, 1, 1, bias=False), nn.BatchNorm2d(first), nn.PReLU(first)
        )
        stages = zip((first, first, second), (first, second, third), sizes.depths, strict=True)
        self.body1, self.body2, self.body3 = (
            nn.Sequential(FaceBlock(inputs, outputs, 2), *(FaceBlock(outputs, outputs, 1) for _ in range(depth - 1)))
            for inputs, outputs, depth in stages
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return three maps, of a half, a quarter and an eighth of the side of images (N, 3, side, side)."""
        first = self.body1(self.input_layer(images))
        second = self.body2(first)
        return [first, second, self.body3(second)]


class FaceBlock(nn.Module):
    """A block of an IR network: batch norm, two convolutions, and a shortcut without an activation behind the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.shortcut_layer: nn.Module = nn.MaxPool2d(1, stride)
        if inputs != outputs:
            self.shortcut_layer = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )
        self.res_layer = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the map of the block."""
        residual: Tensor = self.res_layer(x)
        return residual + self.shortcut_layer(x)


class LandmarkNetwork(nn.Module):
    """A MobileFaceNet up to its last map, under the names of its weights."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        first, second, third = sizes.widths
        self.conv1 = convolution(3, first, 3, 2)
        self.conv2_dw = convolution(first, first, 3, 1, first)
        self.conv_23 = Separable(first, first, 2 * first, 2)
        self.conv_3 = Residuals(first, 2 * first, sizes.landmark_depths[0])
        self.conv_34 = Separable(first, second, 2 * second, 2)
        self.conv_4 = Residuals(second, 2 * second, sizes.landmark_depths[1])
        self.conv_45 = Separable(second, second, 4 * second, 2)
        self.conv_5 = Residuals(second, 2 * second, sizes.landmark_depths[2])
        self.conv_6_sep = convolution(second, 2 * third, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return three maps, of a quarter, an eighth and a sixteenth of the side of images (N, 3, side, side)."""
        first = self.conv_3(self.conv_23(self.conv2_dw(self.conv1(images))))
        second = self.conv_4(self.conv_34(first))
        return [first, second, self.conv_6_sep(self.conv_5(self.conv_45(second)))]


def convolution(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Return a convolution `conv` with batch norm `bn` and, with an activation, `prelu`."""
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False))
    layers.add_module("bn", nn.BatchNorm2d(outputs))
    if activation:
        layers.add_module("prelu", nn.PReLU(outputs))
    return layers


class Separable(nn.Sequential):
    """A convolution to more channels, one within each channel, and one to fewer channels."""

    def __init__(self, inputs: int, outputs: int, hidden: int, stride: int) -> None:
        super().__init__()
        self.conv = convolution(inputs, hidden, 1)
        self.conv_dw = convolution(hidden, hidden, 3, stride, hidden)
        self.project = convolution(hidden, outputs, 1, activation=False)


class Residuals(nn.Module):
    """Separable convolutions, each added to its input."""

    def __init__(self, width: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.model = nn.ModuleList(Separable(width, width, hidden, 1) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of the input and of all blocks."""
        for block in self.model:
            x = x + block(x)
        return x
