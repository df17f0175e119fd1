"""Balanced sampling: each expression equally often, in the loop, within domains, and after a resumption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from test_domains import Apart
from test_domains import fitted as fitted_apart
from test_loop import Linear, fitted

from fergen_bench import BenchError, Source
from fergen_bench.data.domain import Domain
from fergen_bench.training.sampling import balanced_draw, balanced_weights


def within_binomial_limits(counts: np.ndarray, draws: int, present: np.ndarray) -> bool:
    """True where the count of each present class is in the middle 99.9999 % of draws that make them equally likely."""
    low, high = stats.binom.interval(1 - 1e-6, draws, 1 / present.sum())
    return bool(((counts[present] >= low) & (counts[present] <= high)).all() and not counts[~present].any())


def test_weights_are_one_by_the_count_of_the_class() -> None:
    weights = balanced_weights(torch.tensor([4, 1, 4, 4, 6, 1]))  # classes 0, 2, 3 and 5 have no image
    assert weights.dtype == torch.float64
    assert weights.tolist() == [1 / 3, 1 / 2, 1 / 3, 1 / 3, 1.0, 1 / 2]


def test_a_class_without_images_is_never_drawn_and_the_others_are_equally_likely() -> None:
    labels = torch.tensor([0] * 500 + [2] * 20 + [3])
    drawn = balanced_draw(labels, 30_000, torch.Generator().manual_seed(0))
    counts = np.bincount(labels[drawn].numpy(), minlength=7)
    assert within_binomial_limits(counts, 30_000, np.isin(np.arange(7), [0, 2, 3]))
    images = np.bincount(drawn.numpy(), minlength=len(labels))  # and so are the images of a class
    assert within_binomial_limits(images[:500], counts[0], np.full(500, True))
    assert within_binomial_limits(images[500:520], counts[2], np.full(20, True))


def test_an_epoch_has_as_many_faces_and_each_expression_equally_often(source: Source, tmp_path: Path) -> None:
    method, _ = fitted(source, tmp_path, Linear(sampling="balanced"))
    labels = torch.from_numpy(source.train.labels)
    present = source.train.counts > 0
    orders = [torch.cat([index for epoch, _, index in method.seen if epoch == wanted]) for wanted in range(3)]
    for order in orders:
        assert len(order) == len(labels)
        counts = np.bincount(labels[order], minlength=7)
        assert within_binomial_limits(counts, len(order), present)
        assert not within_binomial_limits(source.train.counts, len(order), present), "natural sampling would pass"
    assert not torch.equal(orders[0], orders[1])
    again, _ = fitted(source, tmp_path, Linear(sampling="balanced"))
    assert torch.equal(method.model.weight, again.model.weight)
    other, _ = fitted(source, tmp_path, Linear(sampling="balanced", batch_size=16))
    assert torch.equal(torch.cat([index for _, _, index in other.seen]), torch.cat(orders)), (
        "a matter of the batch size"
    )


def test_a_face_that_is_drawn_twice_is_changed_in_another_way(source: Source, tmp_path: Path) -> None:
    class Noted(Linear):
        def augment(self, images, draws):  # type: ignore[no-untyped-def]
            self.shifts.append(draws.uniform("shift"))
            return super().augment(images, draws)

    method = Noted(sampling="balanced", epochs=1)
    method.shifts = []  # type: ignore[attr-defined]
    fitted(source, tmp_path, method)
    index, shifts = torch.cat([rows for _, _, rows in method.seen]), torch.cat(method.shifts)  # type: ignore[attr-defined]
    face = int(index.mode().values)
    assert (index == face).sum() > 5
    assert len(shifts[index == face].unique()) == (index == face).sum()


def test_each_domain_is_balanced_by_itself(web: Domain, film: Domain, tmp_path: Path) -> None:
    method = fitted_apart(Apart(sampling="balanced"), [web, film], tmp_path)
    labels, origin = torch.from_numpy(method.split.labels), torch.from_numpy(method.split.domain_index)
    for batch in method.seen:
        assert origin[batch.index].tolist() == [0] * 16 + [1] * 16
        assert torch.equal(batch.labels, labels[batch.index])
    assert len(method.seen) == 2 * -(-len(method.split) // 32)
    for domain in range(2):
        rows = torch.cat([batch.index[16 * domain : 16 * (domain + 1)] for batch in method.seen])
        present = np.bincount(labels[origin == domain], minlength=7) > 0
        assert within_binomial_limits(np.bincount(labels[rows], minlength=7), len(rows), present)


def test_an_unknown_sampling_is_refused_by_name(source: Source, tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="sampling is 'even'; use natural or balanced"):
        fitted(source, tmp_path, Linear(sampling="even"))  # type: ignore[arg-type]
