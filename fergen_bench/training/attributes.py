"""The attributes that `fit` adds to a method, as data that can be saved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from torch import Tensor

from fergen_bench.networks.network import Network
from fergen_bench.networks.text import TextTower

if TYPE_CHECKING:
    import torch

    from fergen_bench.training.contract import Method


@dataclass(frozen=True)
class Attributes:
    """What a method keeps beside its parameters, its trained model and networks, by name: what can be written to a disk
    without code, and the names of what cannot. Names that begin with an underscore are nobody's business.
    """

    tensors: Mapping[str, Tensor]  # name, or name.0, name.1, … for a tuple
    values: Mapping[str, int | float | str | None]
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, method: Method) -> Attributes:
        tensors: dict[str, Tensor] = {}
        values: dict[str, int | float | str | None] = {}
        others = []
        parameters = {field.name for field in fields(method)}
        for name, value in vars(method).items():
            if name in parameters or name.startswith("_") or isinstance(value, Network | TextTower):
                continue
            if isinstance(value, Tensor):
                tensors[name] = value
            elif isinstance(value, tuple) and value and all(isinstance(part, Tensor) for part in value):
                tensors |= {f"{name}.{place}": part for place, part in enumerate(value)}
            elif isinstance(value, int | float | str | None):
                values[name] = value
            elif name != "model":
                others.append(name)
        return cls(tensors, values, tuple(others))

    def attach(self, method: Method, device: torch.device) -> None:
        """Gives them to a method. The tensors may come in any order: a file has those of a tuple sorted as text."""
        tuples: dict[str, dict[int, Tensor]] = {}
        for name, tensor in self.tensors.items():
            base, dot, place = name.partition(".")
            if dot:
                tuples.setdefault(base, {})[int(place)] = tensor.to(device)
            else:
                setattr(method, name, tensor.to(device))
        for name, parts in tuples.items():
            setattr(method, name, tuple(parts[place] for place in sorted(parts)))
        for name, value in self.values.items():
            setattr(method, name, value)
