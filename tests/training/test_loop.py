"""The training loop that methods borrow."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import Batch, BenchError, Context, GradientMethod, SampleDraws, Source
from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.error import RunError
from fergen_bench.networks.kernels import scoring_batch


@dataclass
class Linear(GradientMethod):
    """A linear layer on pixels, and notes of what the loop did."""

    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 0.05

    def build(self, ctx: Context) -> nn.Module:
        self.seen: list[tuple[int, int, Tensor]] = []
        return nn.Linear(3 * 64 * 64, 7)

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        return images.float() / 255 + 0.01 * draws.uniform("shift")[:, None, None, None]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        self.seen.append((batch.epoch, batch.step, batch.index.clone()))
        loss = functional.cross_entropy(self.model(batch.images.flatten(1)), batch.labels)
        return {"a": 0.75 * loss, "b": 0.25 * loss}

    def logits(self, images: Tensor) -> Tensor:
        return self.model(images.flatten(1).float() / 255)


def context(folder: Path, selection: str = "last", seed: int = 0) -> Context:
    return Context("run", seed, selection, torch.device("cpu"), folder, lambda what, done, total: None)


def fitted(source: Source, folder: Path, method: Linear, **changes: Any) -> tuple[Linear, Context]:
    ctx = context(folder, **changes)
    torch.manual_seed(0)
    method.fit(source, ctx)
    return method, ctx


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda loss: None, "loss is None: is `return` missing?"),
        (lambda loss: loss.item(), "loss is float"),
        (lambda loss: loss.expand(64), r"loss is of the shape \(64,\); take its mean"),
        (lambda loss: {"a": loss, "b": loss.detach().long()}, "b is of the type torch.int64"),
    ],
)
def test_a_loss_that_is_not_one_number_is_refused(
    source: Source, tmp_path: Path, returned: Callable[[Tensor], Any], message: str
) -> None:
    class Wrong(Linear):
        def loss(self, batch: Batch) -> Any:
            return returned(functional.cross_entropy(self.model(batch.images.flatten(1)), batch.labels))

    with pytest.raises(BenchError, match=f"Wrong.loss must return a tensor of one number, .*{message}"):
        fitted(source, tmp_path, Wrong())


def test_every_face_is_seen_once_an_epoch_in_a_new_order(source: Source, tmp_path: Path) -> None:
    method, ctx = fitted(source, tmp_path, Linear())
    orders = [torch.cat([index for epoch, _, index in method.seen if epoch == wanted]) for wanted in range(3)]
    for order in orders:
        assert sorted(order.tolist()) == list(range(len(source.train)))
    assert not torch.equal(orders[0], orders[1])
    assert [step for _, step, _ in method.seen] == list(range(len(method.seen)))
    assert [entry["epoch"] for entry in ctx.history] == [1, 2, 3]


def test_terms_are_added_up_and_shown_apart(source: Source, tmp_path: Path) -> None:
    _, ctx = fitted(source, tmp_path, Linear())
    last = ctx.history[-1]
    assert last["loss"] == pytest.approx(last["a"] + last["b"], rel=1e-5)
    assert last["a"] == pytest.approx(3 * last["b"], rel=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(source: Source, tmp_path: Path) -> None:
    first, again, other = (fitted(source, tmp_path, Linear(), seed=seed)[0] for seed in (0, 0, 1))
    assert torch.equal(first.model.weight, again.model.weight)
    assert not torch.equal(first.model.weight, other.model.weight)


def test_source_val_keeps_the_best_epoch_on_held_out_faces_of_the_source(source: Source, tmp_path: Path) -> None:
    method, ctx = fitted(source, tmp_path, Linear(epochs=8, learning_rate=0.3), selection="source-val")
    assert all(index.max() < len(source.fit) for _, _, index in method.seen)
    scores = [entry["val_accuracy"] for entry in ctx.history]
    ranks = [(entry["val_accuracy"], -entry["val_loss"]) for entry in ctx.history]
    assert ctx.selected_epoch == ranks.index(max(ranks)) + 1
    predicted = method.predict(source.val.faces()).argmax(1).numpy()
    assert (predicted == source.val.labels).mean() == pytest.approx(max(scores))


class Scripted(Linear):
    """Logits of each epoch: a number of `scales` for the first class, and 0 for the others."""

    scales: tuple[float, ...] = ()

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> Mapping[str, Tensor]:
        self.scale, self.passes = self.scales[batch.epoch], 0
        optimizer.step()  # changes nothing, since there are no gradients
        return {"loss": torch.zeros(())}

    def logits(self, images: Tensor) -> Tensor:
        self.passes += 1
        return functional.pad(torch.full((len(images), 1), self.scale), (0, 6))


def mean_loss(scale: float, labels: np.ndarray) -> float:
    """The mean cross-entropy of the logits of `Scripted`, from its definition."""
    return float(np.log(np.exp(scale) + 6) - scale * (labels == 0).mean())


@pytest.mark.parametrize(
    ("scales", "selected"),
    [
        ((4.0, 0.5, 2.0), 2),  # equally accurate: the smallest loss
        ((4.0, 0.5, 0.5, 0.5), 2),  # an equal loss, too: the earliest
        ((4.0, -0.01, 2.0), 3),  # a smaller loss does not outweigh a lower accuracy
        ((math.nan, 2.0, math.inf), 2),  # a loss that is not finite counts as the largest
    ],
)
def test_of_equally_accurate_epochs_the_smaller_held_out_loss_decides(
    source: Source, tmp_path: Path, scales: tuple[float, ...], selected: int
) -> None:
    labels = source.val.labels
    assert (labels == 0).mean() > (labels == 1).mean()
    method = Scripted(epochs=len(scales))
    method.scales = scales
    _, ctx = fitted(source, tmp_path, method, selection="source-val")
    assert ctx.selected_epoch == selected
    for scale, entry in zip(scales, ctx.history, strict=True):
        assert ("val_loss" in entry) == math.isfinite(scale)
        if math.isfinite(scale):
            assert entry["val_loss"] == pytest.approx(mean_loss(scale, labels), rel=1e-6)
            assert entry["val_accuracy"] == pytest.approx((labels == (0 if scale > 0 else 1)).mean())
    assert method.passes == math.ceil(len(labels) / scoring_batch(ctx.device))  # one pass gives both


def test_last_learns_from_all_training_faces_and_selects_nothing(source: Source, tmp_path: Path) -> None:
    method, ctx = fitted(source, tmp_path, Linear(epochs=1))
    assert sum(len(index) for _, _, index in method.seen) == len(source.train)
    assert ctx.selected_epoch is None
    assert "val_accuracy" not in ctx.history[0]


def test_last_needs_no_held_out_faces(source: Source, tmp_path: Path) -> None:
    alone = replace(source, undivided="web shows one subject only")
    method, _ = fitted(alone, tmp_path, Linear(epochs=1))
    assert sum(len(index) for _, _, index in method.seen) == len(source.train)
    with pytest.raises(BenchError, match="web shows one subject only"):
        fitted(alone, tmp_path, Linear(epochs=1), selection="source-val")


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", lambda step: 1.0),
        ("exponential", lambda step: 0.5 ** (step // 10)),
        ("cosine", lambda step: (step + 1) / 10 if step < 10 else 0.5 * (1 + np.cos(np.pi * (step - 10) / 90))),
    ],
)
def test_schedules(schedule: str, expected: Callable[[int], float]) -> None:
    method = Linear(epochs=10, schedule=schedule, decay=0.5)  # type: ignore[arg-type]
    assert [method.rate(step, 10) for step in range(100)] == pytest.approx([expected(step) for step in range(100)])


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_every_optimizer_learns(source: Source, tmp_path: Path, optimizer: str) -> None:
    rate = 0.001 if optimizer == "sgd" else 0.0005
    _, ctx = fitted(source, tmp_path, Linear(epochs=4, optimizer=optimizer, learning_rate=rate))  # type: ignore[arg-type]
    assert ctx.history[-1]["loss"] < ctx.history[0]["loss"]


def test_a_loss_that_is_no_number_stops_with_advice(source: Source, tmp_path: Path) -> None:
    message = r"the loss of Linear was (nan|inf) at step \d+ \(epoch \d\); lower learning_rate \(it is 1e\+38\)"
    with pytest.raises(BenchError, match=message):
        fitted(source, tmp_path, Linear(learning_rate=1e38, optimizer="sgd"))


def test_the_first_step_whose_loss_is_no_number_is_named_although_later_ones_recover(
    source: Source, tmp_path: Path
) -> None:
    class Broken(Linear):
        def loss(self, batch: Batch) -> dict[str, Tensor]:
            loss = super().loss(batch)["a"]
            return {"a": loss * (torch.nan if batch.step in (5, 6) else 1.0)}

    per_epoch = -(-len(source.train) // 64)
    with pytest.raises(RunError, match=rf"was nan at step 6 \(epoch {5 // per_epoch + 1}\)"):
        fitted(source, tmp_path, Broken())


def test_a_batch_of_one_is_refused(source: Source, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="batch_size is 1; it must be 2 or more"):
        fitted(source, tmp_path, Linear(batch_size=1))


def test_a_last_batch_of_one_face_is_left_out(web: Domain, tmp_path: Path) -> None:
    source = open_source([web], seed=0)
    size = len(source.train) - 1
    method, _ = fitted(source, tmp_path, Linear(epochs=1, batch_size=size))
    assert [len(index) for _, _, index in method.seen] == [size]


@pytest.mark.parametrize("senseless", [{"epochs": 0}, {"learning_rate": -1.0}])
def test_a_training_that_cannot_learn_is_refused(source: Source, ctx: Context, senseless: dict[str, float]) -> None:
    with pytest.raises(BenchError, match="one epoch at least and a rate above 0"):
        Linear(**senseless).fit(source, ctx)
