"""The contract of a method: what the runner passes in, and what a method returns."""

from __future__ import annotations

import contextlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import seed_of
from fergen_bench.error import BenchError
from fergen_bench.experiment.method_file import merged_recipes
from fergen_bench.networks.loading import load_network, load_text_tower
from fergen_bench.training.augment import SampleDraws

if TYPE_CHECKING:
    from fergen_bench.data.domain import Split, Unlabelled
    from fergen_bench.data.source import Source
    from fergen_bench.networks.network import Network, Statistics
    from fergen_bench.networks.profiler import Profiler
    from fergen_bench.networks.text import TextTower
    from fergen_bench.progress import Progress
    from fergen_bench.training.resume import ResumeState


CLASSES = len(EXPRESSIONS)
SAVED_BYTES = 2**24


class Context:
    """What a run lends its method: a device, pretrained networks, cached features, randomness by name, and an ear for
    progress.
    """

    def __init__(
        self,
        run: str,
        seed: int,
        selection: str,
        device: torch.device,
        cache: Path,
        report: Progress,
        unlabelled: Unlabelled | None = None,
        resume: ResumeState | None = None,
        profiler: Profiler | None = None,
    ) -> None:
        self.run, self.seed, self.selection, self.device = run, seed, selection, device
        self.history: list[dict[str, float]] = []
        self.selected_epoch: int | None = None
        self.networks: dict[str, Network] = {}
        self.text_towers: dict[str, TextTower] = {}
        self.unlabelled = unlabelled
        """faces of the target's train split, for a method that says adapt; None for all others"""
        self.arrays: dict[str, np.ndarray] = {}
        self.resume = resume
        """where a long training is saved now and then; None where it need not be"""
        self.profiler = profiler
        """what the run's time is to be told of; None where nobody asked"""
        self.capture_steps = device.type == "cuda"
        """whether the steps of methods that repeat are recorded"""
        self.steps = ""
        """how the steps of a training were taken, where not one operation at a time; part of a record's environment"""
        self._cache, self._report = cache, report

    def save_array(self, name: str, array: np.ndarray | Tensor) -> None:
        """Keeps a small array beside the run's record, where reports and notebooks find it by its name
        (`record.load_arrays`). All of a run's may take 16 MB.
        """
        values = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
        if not name.replace(".", "").replace("-", "").isidentifier() or values.dtype.kind not in "biuf":
            raise BenchError(f"save_array({name!r}): give a name of letters, digits and dots, and an array of numbers")
        self.arrays[name] = values
        if sum(kept.nbytes for kept in self.arrays.values()) > SAVED_BYTES:
            raise BenchError(f"save_array({name!r}): a run keeps 16 MB at most; keep means instead of single faces")

    def backbone(self, name: str, trainable: bool = False, statistics: Statistics = "own") -> Network:
        """A pretrained network by name. Frozen, it keeps the features of unchanged faces on the disk; trainable, it is
        a fresh copy.
        """
        network = load_network(name, self.device, statistics)
        self.networks[name] = network
        return network if trainable else network.freeze(self._cache, self._report)

    def text_tower(self, name: str, trainable: bool = False) -> TextTower:
        """The text tower of a pretrained network, frozen or to be trained. A network without one is refused."""
        tower = load_text_tower(name, self.device)
        self.text_towers[name] = tower
        return tower if trainable else tower.freeze()

    def features(self, backbone: Network, split: Split) -> tuple[Tensor, Tensor]:
        """Frozen features float32 (N, features) and labels int64 (N,) of a split's unchanged faces, on the device."""
        return torch.from_numpy(backbone.cached(split)).to(self.device), torch.from_numpy(split.labels).to(self.device)

    def generator(self, *names: object) -> torch.Generator:
        """A CPU generator that depends on the run and on the names only."""
        return torch.Generator().manual_seed(seed_of(self.run, self.seed, *names))

    def draws(self, index: Tensor, *names: object) -> SampleDraws:
        """Random numbers per face, that depend on the run, the names and the face only."""
        return SampleDraws(index, self.run, self.seed, *names)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """bfloat16 on a GPU, nothing on a CPU (where most processors are slower with it)."""
        return torch.autocast("cuda", torch.bfloat16) if self.device.type == "cuda" else contextlib.nullcontext()

    def epoch_done(self, epoch: int, epochs: int, **values: float) -> None:
        """Notes an epoch (from 1) in the history of the run, and shows it."""
        self.history.append({"epoch": epoch, **{name: float(value) for name, value in values.items()}})
        self._report("epoch", epoch, epochs)


@dataclass
class Method(ABC):
    """An algorithm under test."""

    version: ClassVar[int] = 1
    """raised when numbers should change; part of a run's key"""
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}
    """defaults that differ under a recipe a suite names, such as small; the choice is explained beside it"""
    note: ClassVar[str] = ""
    """what every table must say below it, where it is not all of what its name promises"""
    needs: ClassVar[tuple[str, ...]] = ()
    """what a run must have beyond faces and labels, from plugin.NEEDS; text: a backbone with a text tower"""
    least_domains: ClassVar[int] = 1
    """2 for a method that compares domains: with one source it is refused, unless `adapt` or `pseudo_domains` is set"""

    def __init_subclass__(cls, **options: Any) -> None:
        """Merge the recipes of the class into those that it inherits."""
        super().__init_subclass__(**options)
        inherited = next(vars(base)["recipes"] for base in cls.__mro__[1:] if "recipes" in vars(base))
        cls.recipes = merged_recipes(inherited, vars(cls).get("recipes", {}), inspect.get_annotations(cls))

    @abstractmethod
    def fit(self, source: Source, ctx: Context) -> None:
        """Learns from a source."""

    @abstractmethod
    def predict(self, images: Tensor) -> Tensor:
        """uint8 RGB (B, 3, height, width) on the run's device → logits (B, 7). Called without gradients."""

    def inspect(self, images: Tensor) -> Mapping[str, Tensor]:
        """What else is worth knowing of faces, such as a mask: name → (B, width). Asked about some faces of each target
        after all are scored; the record keeps means and deviations per expression, and reports draw them.
        """
        return {}
