"""The interface between the runner and a method: `Context` goes in, `Method` comes out."""

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
    from fergen_bench.experiment.run import Precision, View
    from fergen_bench.networks.network import Network, Statistics
    from fergen_bench.networks.profiler import Profiler
    from fergen_bench.networks.text import TextTower
    from fergen_bench.progress import Progress
    from fergen_bench.training.resume import ResumeState


CLASSES = len(EXPRESSIONS)
SAVED_BYTES = 2**24


class Context:
    """Provide a method with the resources of its run.

    These are the device, pretrained networks, cached features, named random streams and progress reports.

    Attributes:
        run: Name of the run; random streams derive from it.
        seed: Seed of the run.
        selection: `last` or `source-val`.
        device: Device that images are on.
        history: One entry per epoch, with the mean of each value.
        selected_epoch: The epoch whose weights were selected, from 1; None without selection.
        networks: Pretrained networks that the method loaded, by name.
        text_towers: Text towers that the method loaded, by name.
        unlabelled: Training images of the target for a method with `adapt`; None for other methods.
        base: The fitted method that an online method starts from; None for other methods.
        arrays: Arrays of `save_array`, by name.
        resume: File of the resume state of a long training; None where no state is saved.
        profiler: Profiler of the run; None without `--profile`.
        capture_steps: True if steps of a method with `static_step` are captured as a CUDA graph.
        precision: `fp32`, or `bf16`: steps in bfloat16, and frozen networks in half precision. The default is the usual
            one of the device.
        steps: Description of how training steps were executed, where not one operation at a time; part of the
            environment in a record.
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
        self.base: Method | None = None
        self.arrays: dict[str, np.ndarray] = {}
        self.resume = resume
        self.profiler = profiler
        self.capture_steps = device.type == "cuda"
        self.precision: Precision = "bf16" if device.type == "cuda" else "fp32"
        self.steps = ""
        self._cache, self._report = cache, report

    def save_array(self, name: str, array: np.ndarray | Tensor) -> None:
        """Store a small array with the record of the run, for reports and notebooks (`load_arrays`).

        Args:
            name: Letters, digits, dots, underscores and hyphens.
            array: Numbers; all arrays of a run together may take 16 MB.

        Raises:
            BenchError: The name or the type is invalid, or the arrays are too large.
        """
        values = array.detach().cpu().numpy() if isinstance(array, Tensor) else np.asarray(array)
        if not name.replace(".", "").replace("-", "").isidentifier() or values.dtype.kind not in "biuf":
            raise BenchError(f"save_array({name!r}): use a name of letters, digits and dots, and an array of numbers")
        self.arrays[name] = values
        if sum(kept.nbytes for kept in self.arrays.values()) > SAVED_BYTES:
            raise BenchError(f"save_array({name!r}): the arrays of the run exceed 16 MB; save means over images")

    def backbone(self, name: str, trainable: bool = False, statistics: Statistics = "own") -> Network:
        """Return a pretrained network.

        Args:
            name: Name of the network, such as `synth` or `timm:resnet18`.
            trainable: Return a fresh copy to be trained. A frozen network stores the features of unchanged images.
            statistics: Normalise with the network's `own` mean and deviation, or with those of `imagenet`.

        Raises:
            BenchError: The network or its weights cannot be loaded.
        """
        network = load_network(name, self.device, statistics)
        self.networks[name] = network
        return network if trainable else network.freeze(self._cache, self._report, self.precision)

    def text_tower(self, name: str, trainable: bool = False) -> TextTower:
        """Return the text tower of a pretrained network.

        Args:
            name: Name of the network.
            trainable: Return a tower to be trained instead of a frozen one.

        Raises:
            BenchError: The network has no text tower.
        """
        tower = load_text_tower(name, self.device)
        self.text_towers[name] = tower
        return tower if trainable else tower.freeze()

    def features(self, backbone: Network, split: Split, view: View = "plain") -> tuple[Tensor, Tensor]:
        """Return the features of a split's unchanged images, and their labels.

        Args:
            backbone: A frozen network.
            split: The split.
            view: `plain`, or `mirror` for the mirror images.

        Returns:
            Features float32 (N, features) and labels int64 (N,), on the device.
        """
        features = torch.from_numpy(backbone.cached(split, view=view)).to(self.device)
        return features, torch.from_numpy(split.labels).to(self.device)

    def generator(self, *names: object) -> torch.Generator:
        """Return a CPU generator that depends only on the run, its seed and the names."""
        return torch.Generator().manual_seed(seed_of(self.run, self.seed, *names))

    def draws(self, index: Tensor, *names: object) -> SampleDraws:
        """Return random numbers per image that depend only on the run, its seed, the names and `index` int64 (B,)."""
        return SampleDraws(index, self.run, self.seed, *names)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context of bfloat16 where that is the precision of the run, else one without effect."""
        half = self.precision == "bf16"
        return torch.autocast(self.device.type, torch.bfloat16) if half else contextlib.nullcontext()

    def epoch_done(self, epoch: int, epochs: int, **values: float) -> None:
        """Append an epoch (from 1) and its values to the history of the run, and report progress."""
        self.history.append({"epoch": epoch, **{name: float(value) for name, value in values.items()}})
        self._report("epoch", epoch, epochs)


@dataclass
class Method(ABC):
    """An algorithm under test: a dataclass whose fields are its hyperparameters."""

    version: ClassVar[int] = 1
    """Part of the key of a run; raise it when the numbers of the method change."""
    recipes: ClassVar[dict[str, dict[str, Any]]] = {}
    """Defaults that differ under a recipe that a suite names, such as `small`."""
    note: ClassVar[str] = ""
    """A note below every table that contains the method, such as a departure from its paper."""
    group: ClassVar[str] = ""
    """The heading of the method in lists, one of `method_file.GROUPS`."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Requirements beyond labelled images, from `method_file.NEEDS`; `text` is a backbone with a text tower."""
    learns_prior: ClassVar[bool] = True
    """False for a method whose logits do not contain the class frequencies of its source, such as zero-shot; the option
    `prior` of scoring is then left out.
    """
    online: ClassVar[bool] = False
    """True for a method that learns from the test images of a target, without labels, while it predicts them.

    Such a method has the parameters and the method `reset` of `OnlineMethod`.
    """
    least_domains: ClassVar[int] = 1
    """2 for a method that compares domains; a single source is then refused without `adapt` or `pseudo_domains`."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Merge the recipes of the class into those that it inherits."""
        super().__init_subclass__(**options)
        inherited = next(vars(base)["recipes"] for base in cls.__mro__[1:] if "recipes" in vars(base))
        cls.recipes = merged_recipes(inherited, vars(cls).get("recipes", {}), inspect.get_annotations(cls))

    @abstractmethod
    def fit(self, source: Source, ctx: Context) -> None:
        """Learn from a source."""

    @abstractmethod
    def predict(self, images: Tensor) -> Tensor:
        """Return logits (B, 7) of images; the caller disables gradients.

        Args:
            images: uint8 RGB (B, 3, height, width) on the device of the run.
        """

    @property
    def sources_alike(self) -> bool:
        """True if the method sees as many images of each source, whatever their number."""
        return False

    def inspect(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return other quantities of images, such as a mask, by name.

        The runner calls this method for some images of each target after scoring. A record contains the means and
        deviations per expression, and reports draw them.

        Args:
            images: uint8 RGB (B, 3, height, width) on the device of the run.

        Returns:
            Tensors (B, width) by name; by default, none.
        """
        return {}
