"""QCS and DCS: refine the tokens of an image by comparing them with those of images of its and of another expression.

Source: Wang et al., "QCS: Feature Refining from Quadruplet Cross Similarity for Facial Expression Recognition"
(AAAI 2025); github.com/birdwcp/QCS at 293f28f. An anchor a, a positive image p of the same expression and two negative
images n, m of one other expression have the tokens x of the last map. One block compares them. Its weights are the same
for all four images, and theta is 0 at the start.

    y = layer_norm(x);  u, w = the halves of a linear map of y
    D(a, b)[i, j] = |u_a[i] - u_b[j]|,  D~ = D - min D,  S = max D~ - D~
    share(M)[i] = sum over j of M[i, j] / |M[:, j]|
    score of a = share(S(a, p)) + k share(D~(a, n)),  of p = share(S(p, a)) + k share(D~(p, m)),  k = 1 + tanh(theta)
    score of n = share(S(n, m)) + k share(D~(n, a)),  of m = share(S(m, n)) + k share(D~(m, p))
    block = h + mlp(h),  h = layer_norm(y + softmax over i of the score times w)
    L = mean of the cross-entropies of the base branch and of the cross branch, of all four images.

The base branch is a transformer on the tokens x, the cross branch another one on x + block. `form=dcs` has a and p
alone, and no theta. **Minimum and maximum are taken over the whole batch**, as released, so in training the score of an
image depends on the other pairs of its batch. The base branch alone classifies an image that is scored; it sees no
other image.

Every image of the batch is an anchor. Its partners are drawn from the whole source, as in the released loader for
RAF-DB: n uniformly among the images of other expressions. An expression with a single image lacks a pair and is
refused.

Departures: the trunk is the suite's, and the tokens are its last map (released: three levels of an IR-50 that was
trained on MS-Celeb-1M; for RAF-DB the whole model was trained on AffectNet before). The recipe for small networks has
narrower transformers. Adam takes plain steps (released: inside SAM; sam.py is that method). Images get the noise,
mirroring and box of full_finetune.py (released: mirroring, colour jitter, a box). The released batch is 24, the rate
3e-6 and the network another one; 3e-6 is the default here too. The last epoch or the best on held-out images of the
source is scored (released: the best on test images).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, Inputs, Split, TrunkMethod


@dataclass
class Qcs(TrunkMethod):
    """Features that two images of an expression share, and others lack, belong to the expression, not to a person."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    # The learning rate is the best of protocols/learning-rate.yaml on web and film. A step has four images per anchor,
    # so its batch is a quarter.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"batch_size": 16, "learning_rate": 4e-3, "width": 128, "heads": 4}
    }

    epochs: int = 200  # passes over the source
    batch_size: int = 24  # anchors per step; each has one or three partners
    learning_rate: float = 3e-6  # initial value; released for DCS: 9e-6
    weight_decay: float = 0.0  # coupled L2 with adam, decoupled with adamw
    decay: float = 0.98  # of the exponential schedule
    form: Literal["qcs", "dcs"] = "qcs"  # four images, or the anchor and the positive alone
    width: int = 768  # of the tokens
    heads: int = 8  # attention heads of the two transformers

    def build(self, ctx: Context) -> nn.Module:
        if self.heads < 1 or self.width < self.heads or self.width % self.heads:
            raise BenchError(f"qcs: width is {self.width} and heads {self.heads}; width must be a multiple of heads")
        self.network = ctx.backbone(self.trunk, trainable=True)
        channels, height, width = self.network.map_shape()
        self.tokens = height * width
        return nn.ModuleDict(
            {
                "trunk": self.network,
                "embed": nn.Linear(channels, self.width),
                "block": CrossSimilarity(self.width),
                "base": TokenClassifier(self.tokens, self.width, self.heads, depth=2),
                "cross": TokenClassifier(self.tokens, self.width, self.heads, depth=1),
            }
        )

    def parameter_groups(self) -> list[nn.Parameter]:
        theta = self.model["block"].theta
        return [weight for weight in self.model.parameters() if self.form == "qcs" or weight is not theta]

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        self._groups = Groups.of(torch.from_numpy(split.labels), self.form)
        self._labels = torch.from_numpy(split.labels)
        self._images, self._ctx = super().inputs(split, ctx), ctx
        return self._images

    def loss(self, batch: Batch) -> Tensor:
        rows = self._groups.partners(batch.index.cpu(), batch.generator)[: 1 if self.form == "dcs" else 3]
        labels = [batch.labels, *(self._labels[partner].to(batch.labels.device) for partner in rows)]
        images = [batch.images, *(self._augmented(partner, place, batch.step) for place, partner in enumerate(rows))]
        tokens = self._tokens(torch.cat(images)).chunk(len(images))
        with torch.autocast(batch.images.device.type, enabled=False):
            refined = [branch.output for branch in self.model["block"](tokens)]
        base = self.model["base"](torch.cat(tokens)).float()
        cross = self.model["cross"](torch.cat([x + block for x, block in zip(tokens, refined, strict=True)])).float()
        wanted = torch.cat(labels)
        logits = self.adjusted(torch.cat([base, cross]))
        return functional.cross_entropy(logits, torch.cat([wanted, wanted]))

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model["base"](self._tokens(images))
        return logits

    def _tokens(self, images: Tensor) -> Tensor:
        """Return float32 (B, tokens, width)."""
        maps = self.network.feature_map(images)
        return self.model["embed"](maps.flatten(2).transpose(1, 2)).float()

    def _augmented(self, rows: Tensor, place: int, step: int) -> Tensor:
        """Return augmented images of the source by their rows, int64 on the CPU."""
        index = torch.arange(len(rows), device=self._ctx.device)
        (images,) = self._images.batches([rows])
        return self.augment(images, self._ctx.draws(index, "augment partner", place, step))


class Branch(NamedTuple):
    """The result of the block for the images of one place in the pairs."""

    map: Tensor  # the share of each token, (N, T)
    output: Tensor  # (N, T, C)


class CrossSimilarity(nn.Module):
    """Weight the tokens of images by their similarity and dissimilarity to those of others.

    Args:
        width: C, the channels of the tokens.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.proj = nn.Linear(width, 2 * width)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, 4 * width), "fc2": nn.Linear(4 * width, width)})
        self.theta = nn.Parameter(torch.zeros(()))

    def forward(self, tokens: Sequence[Tensor]) -> list[Branch]:
        """Return the refined tokens of each image.

        Args:
            tokens: (N, T, C) of the anchors and positives (DCS), or of anchors, positives, negatives and second
                negatives (QCS).
        """
        residuals = [self.norm1(x) for x in tokens]
        halves = [self.proj(y).chunk(2, dim=-1) for y in residuals]
        keys = [key for key, _ in halves]
        similar = similarity(dissimilarity(keys[0], keys[1]))
        scores = [share(similar), share(similar.mT)]
        if len(tokens) == 4:
            factor = 1 + torch.tanh(self.theta)
            similar = similarity(dissimilarity(keys[2], keys[3]))
            first, second = dissimilarity(keys[0], keys[2]), dissimilarity(keys[1], keys[3])
            scores = [
                scores[0] + factor * share(first),
                scores[1] + factor * share(second),
                share(similar) + factor * share(first.mT),
                share(similar.mT) + factor * share(second.mT),
            ]
        maps = [score.softmax(1) for score in scores]
        return [
            Branch(weights, self._refined(y, weights, value))
            for y, weights, (_, value) in zip(residuals, maps, halves, strict=True)
        ]

    def _refined(self, residual: Tensor, weights: Tensor, value: Tensor) -> Tensor:
        x = self.norm2(residual + weights[..., None] * value)
        refined: Tensor = x + self.mlp["fc2"](functional.gelu(self.mlp["fc1"](x)))
        return refined


def dissimilarity(first: Tensor, second: Tensor) -> Tensor:
    """Return D~ of the tokens of pairs of images, (N, T, T), from (N, T, C) each; its minimum over the batch is 0."""
    # Through a product of matrices, the rounding error would exceed small distances.
    distance = torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")
    return distance - distance.min()


def similarity(dissimilarities: Tensor) -> Tensor:
    """Return S from D~, (N, T, T); its minimum over the batch is 0."""
    return dissimilarities.max() - dissimilarities


def share(matrix: Tensor) -> Tensor:
    """Return the score of each token of the own image, (N, T), from a matrix (N, own tokens, tokens of the partner).

    Every token of the partner gives out one vector of unit length over the own tokens.
    """
    return functional.normalize(matrix, dim=1).sum(2)


class TokenClassifier(nn.Module):
    """Classify tokens by a transformer with a class token: (N, T, C) → (N, 7).

    Args:
        tokens: T.
        width: C.
        heads: Attention heads.
        depth: Layers.
    """

    def __init__(self, tokens: int, width: int, heads: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(1, 1, width))
        self.place = nn.Parameter(torch.empty(1, tokens + 1, width))
        nn.init.trunc_normal_(self.place, std=0.02)
        layers = [
            nn.TransformerEncoderLayer(
                width, heads, 2 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(depth)
        ]
        self.layers, self.norm = nn.ModuleList(layers), nn.LayerNorm(width)
        self.head = nn.Linear(width, len(EXPRESSIONS))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return logits (N, 7)."""
        x = torch.cat([self.first.expand(tokens.shape[0], -1, -1), tokens], 1) + self.place
        for layer in self.layers:
            x = layer(x)
        logits: Tensor = self.head(self.norm(x[:, 0]))
        return logits


class Groups(NamedTuple):
    """The images of a split in the order of their expressions."""

    order: Tensor  # rows of the split, those of the first expression first, int64 (N,)
    place: Tensor  # of each row in `order`, int64 (N,)
    start: Tensor  # place of the first image of each row's expression, int64 (N,)
    size: Tensor  # images of each row's expression, int64 (N,)

    @classmethod
    def of(cls, labels: Tensor, form: str) -> Groups:
        """Return the groups of labels, int64 (N,) on the CPU.

        Raises:
            BenchError: An expression has one image, or the labels lack a second expression that QCS needs.
        """
        counts = labels.bincount(minlength=len(EXPRESSIONS))
        if (counts == 1).any():
            alone = EXPRESSIONS[int((counts == 1).int().argmax())]
            raise BenchError(
                f"qcs: the source has one image of {alone}, which cannot be paired; use a source or a fraction with "
                f"two images or more of each expression that it has"
            )
        if form == "qcs" and (counts > 0).sum() < 2:
            raise BenchError("qcs: the source has one expression only; form=qcs needs a second one, form=dcs does not")
        order = labels.argsort(stable=True)
        return cls(order, order.argsort(), (counts.cumsum(0) - counts)[labels], counts[labels])

    def partners(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a positive and two negative images for each anchor.

        Args:
            rows: The anchors, int64 (B,).
            generator: A CPU generator.

        Returns:
            Rows of the positives, the negatives and the second negatives, int64 (B,) each. The negatives of an anchor
            are two images of one other expression.
        """
        positive = self._companions(rows, generator)
        others = len(self.order) - self.size[rows]
        if not others.all():
            return positive, rows, rows  # one expression, which only DCS accepts
        place = _draw(others, generator)
        negative = self.order[place + self.size[rows] * (place >= self.start[rows])]
        return positive, negative, self._companions(negative, generator)

    def _companions(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Return another row of the same expression for each row."""
        size, start = self.size[rows], self.start[rows]
        step = 1 + _draw(size - 1, generator)
        return self.order[start + (self.place[rows] - start + step) % size]


def _draw(counts: Tensor, generator: torch.Generator) -> Tensor:
    """Return an integer in 0..count-1 for each count, int64 of the same shape."""
    uniform = torch.rand(counts.shape, generator=generator, dtype=torch.float64)
    return torch.minimum((uniform * counts).long(), counts - 1)
