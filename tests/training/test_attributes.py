"""Tests of the attributes of a method that can be saved."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fergen_bench import Context, Method, Source
from fergen_bench.training.attributes import Attributes


@dataclass
class Plain(Method):
    """A method that returns zeros."""

    width: int = 2

    def fit(self, source: Source, ctx: Context) -> None:
        """Learn nothing."""

    def predict(self, images: Tensor) -> Tensor:
        """Return zeros."""
        return torch.zeros(len(images), 7)


def test_attributes_are_sorted_by_what_can_be_saved() -> None:
    method = Plain()
    vars(method).update(mean=torch.ones(2), pair=(torch.zeros(1), torch.ones(1)), best=3, layer=nn.Linear(1, 1), _own=1)
    found = Attributes.of(method)
    assert sorted(found.tensors) == ["mean", "pair.0", "pair.1"]
    assert found.values == {"best": 3}
    assert found.others == ("layer",)


def test_attached_tuples_follow_their_indices_not_their_order_in_the_file() -> None:
    method = Plain()
    tensors = {f"many.{index}": torch.tensor(index) for index in (0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9)}
    Attributes(tensors, {"best": None}).attach(method, torch.device("cpu"))
    assert [int(value) for value in vars(method)["many"]] == list(range(12))
    assert vars(method)["best"] is None
