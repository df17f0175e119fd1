"""Open the domains of a suite, and the inputs of a run's method, for training by hand in a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.api.display import display
from fergen_bench.api.run import check_device, open_project
from fergen_bench.error import BenchError, did_you_mean, explain

if TYPE_CHECKING:
    import numpy as np
    import torch

    from fergen_bench.data.domain import Domain, Split
    from fergen_bench.data.source import Source
    from fergen_bench.data.suite import Suite
    from fergen_bench.experiment.method_file import MethodFile
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.run import Precision, Run, Selection
    from fergen_bench.training.contract import Context, Method

BY_HAND = "by-hand"
"""The method of an opened run without a method; random streams derive from it."""


@dataclass(frozen=True, repr=False)
class OpenSuite:
    """A suite of a project, whose domains can be opened.

    Attributes:
        settings: The suite: its networks, recipe and split profile.
        project: The project.
    """

    settings: Suite
    project: Project

    def __repr__(self) -> str:
        return f"OpenSuite({self.name}: {', '.join(self.domains)})"

    @property
    def name(self) -> str:
        """The name of the suite."""
        return self.settings.name

    @property
    def backbone(self) -> str:
        """The network behind `backbone="suite"`, for `ctx.backbone`."""
        return self.settings.backbone

    @property
    def trunk(self) -> str:
        """The network behind `trunk="suite"`, for `ctx.backbone(…, trainable=True)`."""
        return self.settings.trunk

    @property
    def domains(self) -> tuple[str, ...]:
        """The names of its domains."""
        return self.settings.domains

    def domain(self, name: str) -> Domain:
        """Open a domain, after preparing it where needed.

        Args:
            name: A domain of the suite.

        Returns:
            The domain. `split("train")`, `split("val")` and `split("test")` return its images and labels.

        Raises:
            BenchError: The suite lacks the domain, or its data cannot be read.
        """
        from fergen_bench.data.domain import Domain

        if name not in self.domains:
            raise BenchError(f"the suite {self.name} has no domain {name!r}{did_you_mean(name, self.domains)}")
        with display(True) as shown:
            folders = self.project.prepared(self.settings, [name], shown.preparation)
        return Domain(folders[name], name)


def suite(name: str | None = None, *, project: Project | str | Path | None = None) -> OpenSuite:
    """Open a suite, such as synth5 or one of bench.toml.

    Args:
        name: The suite. Default: that of bench.toml, then synth5.
        project: The project, or a folder in it. Default: that of the working directory.

    Raises:
        BenchError: The suite does not exist.
    """
    return _suite(name, project)


def _suite(name: str | None, project: Project | str | Path | None) -> OpenSuite:
    where = open_project(project)
    return OpenSuite(where.suite(name or where.settings.suite), where)


@dataclass(frozen=True, repr=False)
class OpenRun:
    """A run that was opened and not executed: what the method receives.

    Attributes:
        source: The images to learn from.
        ctx: The resources of the run: device, networks, cached features, random streams.
        method: The method, not fitted; None for an opened run without a method.
        suite: The suite, whose domains can be opened.
        run: What identifies the run. With the images, precision and options of a run of `fb.run`, `run.key` is its key.
    """

    source: Source
    ctx: Context
    method: Method | None
    suite: OpenSuite
    run: Run

    def __repr__(self) -> str:
        sources, method = " + ".join(self.source.names), "" if self.method is None else f", {self.run.label}"
        return (
            f"OpenRun({sources} of {self.suite.name}, seed {self.run.seed}: {len(self.source.train):,} images{method})"
        )

    def target(self, name: str) -> Split:
        """Return the images of a target on which such a run is scored.

        Near-duplicates of images of the source, which a run leaves out, are among them.

        Args:
            name: A domain of the suite.
        """
        domain = self.suite.domain(name)
        return domain.split(self.run.scored_part(name, domain.about))

    def predict(
        self, split: Split, model: Callable[[torch.Tensor], torch.Tensor] | None = None, batch: int = 256
    ) -> np.ndarray:
        """Return the logits of the images of a split, without gradients.

        Args:
            split: The images.
            model: Returns logits (B, 7) of images uint8 (B, 3, height, width). Default: the method of the run.
            batch: B, images at a time.

        Returns:
            float32 (N, 7).

        Raises:
            BenchError: The run was opened without a method, and no model is given.
        """
        import torch

        if model is None and self.method is None:
            raise BenchError("predict: this run was opened without a method; give a model, or open_run(method=…)")
        chosen = model or self.method.predict  # type: ignore[union-attr]
        with torch.no_grad():
            logits = [chosen(images).float().cpu() for images in split.batches(self.ctx.device, batch)]
        return torch.cat(logits).numpy()


def open_run(
    *,
    source: str | Sequence[str],
    suite: str | None = None,
    seed: int = 0,
    method: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    backbone: str | None = None,
    adapt_to: str | None = None,
    fraction: float = 1.0,
    selection: Selection = "last",
    precision: Precision | None = None,
    device: str | None = None,
    project: Project | str | Path | None = None,
) -> OpenRun:
    """Open a run without executing it: `source` and `ctx` as the `fit` of a method receives them.

    Nothing is written but prepared domains and cached features, so nothing has to be closed.

    Args:
        source: The domain to train on, or several domains to train on together.
        suite: The suite. Default: that of bench.toml, then synth5.
        seed: The seed, which decides the hold-out, the fraction and the random streams.
        method: A method to be fitted by hand, with `run.method.fit(run.source, run.ctx)`.
        parameters: Values of its parameters that differ from the defaults on the suite.
        backbone: The value of its parameter `backbone`.
        adapt_to: The target whose unlabelled images a method with the parameter adapt=True receives.
        fraction: Share of each expression of the train split that is used.
        selection: `last`, or `source-val` for methods that choose on `source.val`.
        precision: fp32 or bf16. Default: that of bench.toml, then fp32 on a CPU and bf16 on a GPU.
        device: auto, cpu, cuda or cuda:1. Default: that of bench.toml, then auto.
        project: The project, or a folder in it. Default: that of the working directory.

    Raises:
        BenchError: A name does not exist, or the method cannot use the source.
    """
    from fergen_bench.execution.fleet import resolve_device, resolve_precision

    if method is None and (parameters or backbone is not None):
        raise BenchError("open_run: parameters and backbone belong to a method; name it with method=…")
    chosen = _suite(suite, project)
    where = chosen.project
    names = (source,) if isinstance(source, str) else tuple(dict.fromkeys(source))
    domains = {name: chosen.domain(name) for name in (*names, *(() if adapt_to is None else (adapt_to,)))}
    place = resolve_device(check_device(device or where.settings.device))
    request = _Request(
        names,
        adapt_to,
        None if method is None else where.method(method),
        {**(parameters or {}), **({} if backbone is None else {"backbone": backbone})},
        {"seeds": [seed], "fraction": fraction, "selection": selection},
        resolve_precision(precision or where.settings.precision, place),
    )
    run = _identified(chosen.settings, request, domains)
    from fergen_bench.execution.by_hand import open_by_hand  # loads torch

    with display(True) as shown:
        opened = open_by_hand(run, domains, request.method, place, where.cache, shown.preparation)
    return OpenRun(*opened, chosen, run)


@dataclass(frozen=True)
class _Request:
    """The keywords of `open_run`, with names replaced by what they stand for."""

    sources: tuple[str, ...]
    adapt_to: str | None
    method: MethodFile | None
    parameters: Mapping[str, Any]
    protocol: Mapping[str, Any]  # keys of a protocol
    precision: Precision


def _identified(suite: Suite, asked: _Request, domains: Mapping[str, Domain]) -> Run:
    """Return the run, with the fingerprints of its domains, after the checks that every plan makes."""
    from pydantic import ValidationError

    from fergen_bench.experiment.method_file import MethodFile
    from fergen_bench.experiment.outline import Request, outline
    from fergen_bench.experiment.protocol import Protocol
    from fergen_bench.networks import hub

    if asked.method is not None and asked.method.online:
        raise BenchError(
            f"open_run: {asked.method.name} starts from the checkpoint of another run, which only fb.run provides"
        )
    method = asked.method or MethodFile(BY_HAND, Path(BY_HAND), "", "", 1, (), {})
    try:
        protocol = Protocol.model_validate({"about": BY_HAND, **asked.protocol})
    except ValidationError as error:
        raise BenchError(explain(error, "open_run", {}, {})) from None
    targets = suite.domains if asked.adapt_to is None else (asked.adapt_to,)
    request = Request(
        sources=asked.sources, targets=targets, settings=asked.parameters, precision=asked.precision, together=True
    )
    runs = outline(protocol, "open_run", suite, [method], request).runs
    if asked.adapt_to is None and runs[0].adaptation_target is not None:
        raise BenchError(f"open_run: {method.name} adapts to a target; name it with adapt_to=…")
    if asked.adapt_to != runs[0].adaptation_target:
        raise BenchError(
            f"open_run: adapt_to: {method.name} does not adapt to a target; leave it out, or give a method with the "
            f"parameter adapt=True"
        )
    networks = [
        (f"{name}=", str(runs[0].parameters[name]))
        for name, digest in runs[0].weights.items()
        if digest.startswith("published:")
    ]
    hub.refuse_wrong_activation(name for _, name in networks)
    hub.require(networks)
    fingerprints = {name: domain.fingerprint for name, domain in domains.items()}
    return replace(runs[0], targets={}, relations={}).with_fingerprints(fingerprints)
