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
    """The attributes of a method other than its parameters, its trained model and its networks.

    Attributes with a leading underscore are not saved.
    """

    tensors: Mapping[str, Tensor]  # by name; by name.0, name.1, … for the members of a tuple
    values: Mapping[str, int | float | str | None]
    others: tuple[str, ...] = ()  # names of attributes that cannot be saved without code

    @classmethod
    def of(cls, method: Method) -> Attributes:
        """Return the attributes of a method."""
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
                tensors |= {f"{name}.{index}": part for index, part in enumerate(value)}
            elif isinstance(value, int | float | str | None):
                values[name] = value
            elif name != "model":
                others.append(name)
        return cls(tensors, values, tuple(others))

    def attach(self, method: Method, device: torch.device) -> None:
        """Set the attributes on a method.

        Args:
            method: The method to change.
            device: Device that the tensors are moved to. The members of a tuple may come in any order, because a file
                sorts their names as text.
        """
        tuples: dict[str, dict[int, Tensor]] = {}
        for name, tensor in self.tensors.items():
            base, dot, index = name.partition(".")
            if dot:
                tuples.setdefault(base, {})[int(index)] = tensor.to(device)
            else:
                setattr(method, name, tensor.to(device))
        for name, parts in tuples.items():
            setattr(method, name, tuple(parts[index] for index in sorted(parts)))
        for name, value in self.values.items():
            setattr(method, name, value)
