"""The contract of a method, and the training loop that a method may borrow.

A method is one dataclass in one file: its fields are its hyperparameters, with literal defaults. `fit` learns from a
source, `predict` gives logits; that is all the runner calls, and a method is never given a target. (One that says
`adapt` is given the target's training images without labels, and reports show it apart.)
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fergen_bench.augment import SampleDraws
from fergen_bench.backbone import Network, Report, Statistics, TextTower, load_network, load_text_tower, scoring_batch
from fergen_bench.domain import EXPRESSIONS, Source, Split, Unlabelled, read_ahead, upload
from fergen_bench.draws import seed_of
from fergen_bench.error import BenchError, RunError
from fergen_bench.plugin import lack_of_domains, merged_recipes
from fergen_bench.profile import Profile, each, phase
from fergen_bench.steps import Batch, Recorded
from fergen_bench.unfinished import Unfinished

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
        report: Report,
        unlabelled: Unlabelled | None = None,
        unfinished: Unfinished | None = None,
        profile: Profile | None = None,
    ) -> None:
        self.run, self.seed, self.selection, self.device = run, seed, selection, device
        self.history: list[dict[str, float]] = []
        self.selected_epoch: int | None = None
        self.networks: dict[str, Network] = {}
        self.text_towers: dict[str, TextTower] = {}
        self.unlabelled = unlabelled
        """faces of the target's train split, for a method that says adapt; None for all others"""
        self.arrays: dict[str, np.ndarray] = {}
        self.unfinished = unfinished
        """where a long training is saved now and then; None where it need not be"""
        self.profile = profile
        """what the run's time is to be told of; None where nobody asked"""
        self.records_steps = device.type == "cuda"
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


class Inputs(Protocol):
    """What the steps of a training draw from."""

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """The inputs of one batch after another, on the device. rows: their positions in the split, int64 on the
        CPU.
        """


Losses = Tensor | Mapping[str, Tensor]


class Terms:
    """What the steps of an epoch gave. It stays on the device until the epoch ends: to read one number is to wait for
    all the device has to do.
    """

    def __init__(self) -> None:
        self._steps: dict[str, list[Tensor]] = {}

    def add(self, terms: Mapping[str, Tensor]) -> None:
        """terms: scalars by name."""
        for name, term in terms.items():
            self._steps.setdefault(name, []).append(term.detach())

    def means(self, method: GradientMethod, epoch: int, steps: int) -> dict[str, float]:
        """Sums over the epoch by name, divided by the number of steps. A loss that was no number ends the run; nothing
        is kept of it then. epoch: from 0.
        """
        values = {name: _to_host(torch.stack(terms)) for name, terms in self._steps.items()}
        if len(wrong := np.flatnonzero(~np.isfinite(values["loss"]))):
            raise RunError(
                f"the loss of {type(method).__name__} was {values['loss'][wrong[0]]} at step "
                f"{epoch * steps + wrong[0] + 1} (epoch {epoch + 1}); lower learning_rate (it is "
                f"{method.learning_rate:g})"
            )
        # One after another, as they came: a pairwise sum would round otherwise.
        return {name: float(np.add.accumulate(given)[-1]) / steps for name, given in values.items()}


def _to_host(values: Tensor) -> np.ndarray:
    return (values if values.dtype == torch.float64 else values.float()).cpu().numpy()


@dataclass
class GradientMethod(Method):
    """Lends the training loop: write `build`, `loss`, `logits`, and perhaps `augment` and `parameter_groups`; or
    `update`, where a step is more than one descent.

    With the selection `source-val` it learns from `source.fit` and keeps the epoch that is best on `source.val` (the
    first of equals); with `last` it learns from all of `source.train` and keeps the last epoch.
    """

    epochs: int = 60  # passes over the source
    batch_size: int = 32  # faces per step
    learning_rate: float = 2e-4  # at its highest
    weight_decay: float = 1e-4  # coupled L2 with adam and sgd, decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = (
        "exponential"  # times decay after each epoch; or warm-up over a tenth, then cosine to 0
    )
    decay: float = 0.9  # of the exponential schedule

    # For 64-pixel networks that are trained for minutes: another optimiser and schedule than published, and so few
    # epochs that a whole table takes an hour. The learning rate suits the packaged trunk; a method with a better one on
    # held-out images of the source (protocols/learning-rate.yaml) has it in its own recipe.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {
            "epochs": 10,
            "batch_size": 64,
            "learning_rate": 2e-3,
            "optimizer": "adamw",
            "weight_decay": 5e-3,
            "schedule": "cosine",
        }
    }

    repeats: ClassVar[bool] = False
    """Whether every step is the same operations on the device, whatever its number, with `batch.drawn` for what is
    drawn on the host. Then a GPU repeats one recorded step, which costs a fraction of starting each operation.
    """

    @abstractmethod
    def build(self, ctx: Context) -> nn.Module:
        """The modules to be trained. Frozen networks may be kept aside. Called once, with torch's global seed set by
        the run.
        """

    @abstractmethod
    def loss(self, batch: Batch) -> Losses:
        """The loss of a batch in training mode; or its weighted terms by name, which are added up and shown apart."""

    @abstractmethod
    def logits(self, images: Tensor) -> Tensor:
        """Logits (B, 7) of images, in evaluation mode."""

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        """uint8 (B, 3, height, width) → what `loss` sees. By default nothing is changed."""
        return images

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        """What steps draw from: the faces. A method on frozen features gives `Rows(ctx.features(...)[0])`, and then
        `loss` sees features where it would see images. Called after `build`.
        """
        return Faces(split, ctx.device)

    def domains(self, split: Split, ctx: Context) -> Domains | None:
        """For a method that treats its domains apart: what they are. Then every step sees `batch_size` faces of each.
        Called once, before `build`.
        """
        return None

    def restarts(self, step: int) -> bool:
        """Whether the optimiser is made anew before a step (from 0), and with it what it remembers."""
        return False

    def parameter_groups(self) -> Iterable[Any]:
        """For the optimiser: parameters, or groups of them with their own settings."""
        return self.model.parameters()

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> Mapping[str, Tensor]:
        """One step of training: what it gives is shown as the means of an epoch, and "loss" must be in it."""
        terms = self.descend(batch, optimizer, ctx)
        with phase("optimizer"):
            optimizer.step()
        return terms

    def descend(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> dict[str, Tensor]:
        """Fresh gradients of the loss of a batch; "loss" and its terms, without gradients."""
        with phase("forward"), ctx.autocast():
            losses = self.loss(batch)
        terms = losses if isinstance(losses, Mapping) else {"loss": losses}
        for name, term in terms.items():
            self._check_term(name, term)
        total = torch.stack([term.float() for term in terms.values()]).sum()
        optimizer.zero_grad(set_to_none=True)
        with phase("backward"):
            total.backward()
        return {name: term.detach() for name, term in {"loss": total, **terms}.items()}

    def _check_term(self, name: str, term: object) -> None:
        if term is None:
            fault = "None: is `return` missing?"
        elif not isinstance(term, Tensor):
            fault = type(term).__name__
        elif term.numel() != 1:
            fault = f"of the shape {tuple(term.shape)}; take its mean"
        elif not term.is_floating_point():
            fault = f"of the type {term.dtype}"
        else:
            return
        raise BenchError(
            f"{type(self).__name__}.loss must return a tensor of one number, or a dict of such; {name} is {fault}"
        )

    def finished(self) -> bool:
        """Whether training may end before its last epoch; asked after each."""
        return False

    def fit(self, source: Source, ctx: Context) -> None:
        if self.epochs < 1 or self.learning_rate <= 0:
            raise BenchError(
                f"epochs is {self.epochs} and learning_rate {self.learning_rate:g}; one epoch at least and a rate "
                f"above 0 are needed to learn anything"
            )
        selecting = ctx.selection == "source-val"
        split = source.fit if selecting else source.train
        domains = self.domains(split, ctx)
        self.model: Any = self.build(ctx).to(ctx.device).to(memory_format=torch.channels_last)
        inputs, labels = self.inputs(split, ctx), torch.from_numpy(split.labels).to(ctx.device)
        steps = len(self._batches(len(split), ctx, 0, domains))  # of an epoch
        optimizer, schedule = self._optimization(steps_per_epoch=steps)
        restarts = type(self).restarts is not GradientMethod.restarts  # what a recording writes to would be gone
        recorded = self.repeats and domains is None and not restarts and ctx.records_steps

        def take(batch: Batch) -> Mapping[str, Tensor]:
            with phase("augment"):
                batch = batch.with_images(self.augment(batch.faces, batch.draws))
            if domains is not None:
                batch = domains.complete(batch, self.augment, ctx)
            return self.update(batch, optimizer, ctx)

        if recorded:
            take = recording = Recorded(take, self, ctx.device, self.batch_size, self.epochs * steps)
        best, kept = -1.0, None
        begun = 0 if ctx.unfinished is None else ctx.unfinished.read()
        if isinstance(begun, dict):
            self._restore(begun, optimizer, schedule, ctx)
            best, kept, begun = begun["best"], begun["kept"], len(ctx.history)
        if self.repeats and ctx.device.type == "cuda":  # also where nothing is recorded: the same numbers
            _rates_on(optimizer, ctx.device)
        for epoch in range(begun or 0, self.epochs):
            started = time.perf_counter()
            self.model.train()
            batches, terms = self._batches(len(split), ctx, epoch, domains), Terms()
            sizes = [len(rows) for rows in batches]
            everyone = upload(torch.cat(batches), ctx.device)
            drawn = zip(
                everyone.split(sizes),
                inputs.batches(batches),
                labels[everyone].split(sizes),
                self._draws(everyone, sizes, epoch, ctx, domains),
                strict=True,
            )
            for place, (index, faces, truth, draws) in enumerate(each("data", drawn)):
                step = epoch * len(batches) + place
                if ctx.profile is not None:
                    ctx.profile.step("training")
                if self.restarts(step):
                    optimizer.state.clear()
                terms.add(take(Batch(faces, truth, index, epoch, step, draws, ctx.generator("step", step), faces)))
                schedule.step()
            # The only wait for the device: once per epoch, not per step.
            values = terms.means(self, epoch, len(batches))
            if recorded:  # a recording changes weights unnoticed
                trained = [weight for weight in self.model.parameters() if weight.requires_grad]
                torch.autograd.graph.increment_version(trained)
            values["images_per_second"] = sum(sizes) / (time.perf_counter() - started)
            self.model.eval()
            if selecting:
                with contextlib.nullcontext() if ctx.profile is None else ctx.profile.evaluating():
                    values["val_accuracy"] = score = self._accuracy(source.val, ctx)
                if score > best:
                    best, ctx.selected_epoch = score, epoch + 1
                    kept = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            ctx.epoch_done(epoch + 1, self.epochs, **values)
            if self.finished():
                break
            if ctx.unfinished is not None and epoch + 1 < self.epochs and ctx.unfinished.due():
                self._save(ctx.unfinished, optimizer, schedule, ctx, {"best": best, "kept": kept})
        if recorded and recording.recorded:
            compiled = recording.compiled and any(network.is_compiled for network in ctx.networks.values())
            ctx.steps = "recorded, compiled" if compiled else "recorded"
        if kept is not None:
            self.model.load_state_dict(kept)
        self.model.eval()

    def predict(self, images: Tensor) -> Tensor:
        return self.logits(images)

    def _save(
        self,
        unfinished: Unfinished,
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        ctx: Context,
        selection: Mapping[str, Any],
    ) -> None:
        """Saves the training as it is after an epoch. One that keeps what cannot be saved, as SWAD does, is not."""
        attributes = Attributes.of(self)
        if attributes.others:
            return
        state = {"tensors": attributes.tensors, "values": attributes.values, "model": self.model.state_dict()}
        progress = {"history": ctx.history, "selected_epoch": ctx.selected_epoch}
        rates = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
        unfinished.write({**state, **rates, **progress, **selection})

    def _restore(
        self,
        state: Mapping[str, Any],
        optimizer: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        ctx: Context,
    ) -> None:
        self.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        Attributes(state["tensors"], state["values"]).attach(self, ctx.device)
        ctx.history, ctx.selected_epoch = state["history"], state["selected_epoch"]

    def _batches(self, count: int, ctx: Context, epoch: int, domains: Domains | None = None) -> list[Tensor]:
        """Positions in a fresh order. A last batch of one face is left out: batch norm cannot learn from it."""
        if self.batch_size < 2:
            raise BenchError(
                f"batch_size is {self.batch_size}; it must be 2 or more, because batch norm needs two faces"
            )
        if domains is not None:
            return domains.batches(self.batch_size, ctx, epoch)
        order = torch.randperm(count, generator=ctx.generator("order", epoch))
        batches = [rows for rows in order.split(self.batch_size) if len(rows) > 1]
        if not batches:
            raise BenchError(f"there are too few faces to learn from: {count}")
        return batches

    def _draws(
        self, everyone: Tensor, sizes: list[int], epoch: int, ctx: Context, domains: Domains | None
    ) -> list[SampleDraws]:
        """The draws of an epoch's batches. everyone: the positions of all of them."""
        if domains is None:
            return ctx.draws(everyone, "augment", epoch).split(sizes)
        # A face of a small domain may be seen several times an epoch, each time in another way.
        parts = enumerate(everyone.split(sizes), epoch * len(sizes))
        return SampleDraws.joined([ctx.draws(index, "augment", epoch, step) for step, index in parts]).split(sizes)

    def _optimization(self, steps_per_epoch: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
        kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
            "adam": torch.optim.Adam,
            "adamw": torch.optim.AdamW,
            "sgd": torch.optim.SGD,
        }
        extra: dict[str, Any] = {"momentum": 0.9} if self.optimizer == "sgd" else {}
        if any(weight.is_cuda for weight in self.model.parameters()):
            # One kernel instead of hundreds; each weight by itself, so as repeatable as before.
            extra |= {"fused": True} | ({} if self.optimizer == "sgd" else {"capturable": self.repeats})
        optimizer = kinds[self.optimizer](
            self.parameter_groups(), lr=self.learning_rate, weight_decay=self.weight_decay, **extra
        )
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self.rate(step, steps_per_epoch))

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """The share of the learning rate at a step, by `schedule`; a method with another schedule overrides it."""
        if self.schedule == "exponential":
            return self.decay ** (step // steps_per_epoch)
        if self.schedule == "constant":
            return 1.0
        steps = self.epochs * steps_per_epoch
        warm_up = max(1, steps // 10)
        if step < warm_up:
            return (step + 1) / warm_up
        return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))

    @torch.no_grad()
    def _accuracy(self, split: Split, ctx: Context) -> float:
        right = torch.zeros((), dtype=torch.long, device=ctx.device)
        for images, labels in labelled(split, ctx.device):
            right += (self.predict(images).argmax(1) == upload(torch.from_numpy(labels), ctx.device)).sum()
        return int(right) / max(1, len(split))


def _rates_on(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """Keeps learning rates on the device: what a recorded step reads there may change, a number in it could not."""
    for group in optimizer.param_groups:
        group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32).to(device)


def labelled(split: Split, device: torch.device) -> Iterator[tuple[Tensor, np.ndarray]]:
    """A split's faces in order, a scoring batch at a time, with their labels."""
    done = 0
    for images in split.batches(device, scoring_batch(device)):
        yield images, split.labels[done : done + len(images)]
        done += len(images)


class Faces:
    """A split's faces at hand on the device: all of them where they fit, else batch by batch from the memory map."""

    def __init__(self, split: Split | Unlabelled, device: torch.device) -> None:
        self._split, self._device = split, device
        self._resident = self._upload() if self._fits() else None

    def _upload(self) -> Tensor:
        """Everything on the device, a block at a time: the host never holds a second copy."""
        height, width = self._split.size
        faces = torch.empty(len(self._split), 3, height, width, dtype=torch.uint8, device=self._device)
        for start in range(0, len(self._split), 1024):
            block = self._split.faces(slice(start, start + 1024))
            faces[start : start + len(block)] = block
        return faces

    def _fits(self) -> bool:
        if self._device.type == "cuda":
            free, _ = torch.cuda.mem_get_info(self._device)
            return self._split.bytes < 0.5 * free
        return self._split.bytes < 2**30

    def at(self, rows: Tensor) -> Tensor:
        """uint8 (len(rows), 3, height, width). rows: int64 on the CPU."""
        return next(self.batches([rows]))

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """uint8 (len(rows), 3, height, width) for each of the batches. rows: int64 on the CPU."""
        if self._resident is not None:
            return _gathered(self._resident, rows)
        return read_ahead(lambda batch: self._split.faces(batch.numpy()), rows, self._device)


@dataclass(frozen=True)
class Rows:
    """A tensor with a row for each face of a split, such as its frozen features."""

    values: Tensor

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        return _gathered(self.values, rows)


def _gathered(values: Tensor, rows: Sequence[Tensor]) -> Iterator[Tensor]:
    """Rows of a tensor, batch by batch. The positions of all go to the device at once."""
    everyone = upload(torch.cat(list(rows)), values.device)
    return (values.index_select(0, index) for index in everyone.split([len(batch) for batch in rows]))


class Domains:
    """The domains that a method treats apart: the sources of its run, or pseudo-domains into which all their faces are
    divided; and the unlabelled faces of the target where the method adapts.

    Every step sees equally many faces of each. An epoch shows as many labelled faces as there are; those of a small
    domain come several times, those of a large one in part.
    """

    def __init__(
        self,
        method: Method,
        split: Split,
        ctx: Context,
        network: str,
        pseudo: int = 0,
        adapt: bool = False,
        one_size: bool = True,
    ) -> None:
        """network: its frozen features are what pseudo-domains are clusters of. one_size: whether unlabelled faces are
        given the size of the labelled ones, so that both can be joined; False leaves them as their domain keeps them.
        """
        if pseudo < 0:
            raise BenchError(f"pseudo_domains is {pseudo}; it must be 0 (none), or two or more")
        parameters = {field.name: getattr(method, field.name) for field in fields(method)}
        lack = lack_of_domains(type(method).__name__, method.least_domains, len(split.pieces), parameters)
        if lack is not None:
            raise BenchError(lack)
        if adapt and not ctx.unlabelled:
            raise BenchError(
                f"{type(method).__name__} adapts, and its run has no unlabelled images of a target; use --protocol "
                f"adaptation"
            )
        index = torch.from_numpy(split.domain_index)
        if pseudo:
            features = ctx.features(ctx.backbone(network), split)[0]
            index = clusters(features, pseudo, ctx.generator("pseudo-domains"))
        self.rows = [torch.nonzero(index == place)[:, 0] for place in range(pseudo or len(split.pieces))]
        unlabelled = ctx.unlabelled if adapt else None
        if unlabelled is not None and one_size:
            unlabelled = unlabelled.at_size(split.size)
        self.unlabelled = None if unlabelled is None else Faces(unlabelled, ctx.device)
        self._unlabelled_rows = torch.arange(0 if unlabelled is None else len(unlabelled))

    def __len__(self) -> int:
        """How many there are, with the unlabelled one."""
        return len(self.rows) + (self.unlabelled is not None)

    def batches(self, size: int, ctx: Context, epoch: int) -> list[Tensor]:
        """Positions in the split: `size` of the first domain, `size` of the second, and so on."""
        steps = math.ceil(sum(map(len, self.rows)) / (size * len(self.rows)))
        parts = [_endless(rows, steps * size, ctx, "order", epoch, place) for place, rows in enumerate(self.rows)]
        return [torch.cat(step) for step in zip(*(part.split(size) for part in parts), strict=True)]

    def complete(self, batch: Batch, augment: Callable[[Tensor, SampleDraws], Tensor], ctx: Context) -> Batch:
        """A batch with the number of its domains, and with unlabelled faces where the method adapts."""
        unlabelled = None
        if self.unlabelled is not None:
            size = len(batch.labels) // len(self.rows)
            rows = _endless(self._unlabelled_rows, size, ctx, "unlabelled", batch.step)
            draws = ctx.draws(upload(rows, ctx.device), "augment unlabelled", batch.step)
            unlabelled = augment(self.unlabelled.at(rows), draws)
        return replace(batch, domains=len(self.rows), unlabelled=unlabelled)


def _endless(rows: Tensor, count: int, ctx: Context, *names: object) -> Tensor:
    """The first `count` of rows in one random order after another."""
    turns = range(math.ceil(count / len(rows)))
    orders = [rows[torch.randperm(len(rows), generator=ctx.generator(*names, turn))] for turn in turns]
    return torch.cat(orders)[:count]


def clusters(features: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """k-means: float (N, C) → which of `count` clusters each row is in, int64 (N,) on the CPU.

    It starts from centres drawn far from each other (k-means++), and ends when nothing moves, or after 100 rounds.
    """
    points = features.float().cpu()
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        away = torch.cdist(points, centres).amin(1).double().square().cumsum(0)
        drawn = torch.searchsorted(away, away[-1:] * torch.rand(1, generator=generator, dtype=torch.float64))
        centres = torch.cat([centres, points[drawn.clamp_max(len(points) - 1)]])
    nearest = torch.cdist(points, centres).argmin(1)
    for _ in range(100):
        members = [points[nearest == place] for place in range(count)]
        if min(map(len, members)) == 0:
            raise BenchError(f"the source cannot be divided into {count} pseudo-domains; ask for fewer")
        moved = torch.cdist(points, torch.stack([member.mean(0) for member in members])).argmin(1)
        if torch.equal(moved, nearest):
            break
        nearest = moved
    return nearest


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


# -------------------------------------------------------------------------------------------------------------- loading


def load_method(path: Path, class_name: str, parameters: Mapping[str, Any]) -> Method:
    """Runs a method file and makes its method. A file that cannot be run, or is not what was read in it, is refused."""
    spec = importlib.util.spec_from_file_location(f"fergen_bench_method_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        method = getattr(module, class_name)(**parameters)
    except BenchError:
        raise
    except Exception as error:
        line = _line_in(path, error)
        raise BenchError(
            f"{path}{f':{line}' if line else ''}: this method file fails to load: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(method, Method):
        raise BenchError(
            f"{path}: {class_name} is not a Method; derive it from fergen_bench.Method or fergen_bench.GradientMethod"
        )
    if sorted(f.name for f in fields(method)) != sorted(parameters):
        raise BenchError(
            f"{path}: {class_name} must be a dataclass with its fields written out in the class; put @dataclass above"
        )
    return method


def _line_in(path: Path, error: Exception) -> int | None:
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return getattr(error, "lineno", None) or line
