"""Expand a protocol into runs: for each method the variants, seeds, fractions, sources and targets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

from fergen_bench.data.corruption import FACTORS
from fergen_bench.data.numerics import NUMERICS
from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.experiment.method_file import MethodFile
from fergen_bench.experiment.protocol import Corruptions, Protocol
from fergen_bench.experiment.run import Precision, Run, Selection, View
from fergen_bench.networks.name import anchored, digest_of, parse_network, resolve_network


@dataclass(frozen=True)
class Request:
    """The changes of a command to a protocol; None stands for the value of the protocol.

    Attributes:
        seeds: Seeds of the runs.
        sources: Domains to train on, each alone.
        targets: Domains to score.
        selection: The checkpoint that is scored.
        settings: Parameters of the methods, from --set and --backbone.
        precision: Precision of the runs.
        views: Views of a scored image whose logits are averaged.
        prior: Share of the source's log class frequencies that scoring takes out of the logits.
    """

    seeds: Sequence[int] | None = None
    sources: Sequence[str] | None = None
    targets: Sequence[str] | None = None
    selection: Selection | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    precision: Precision = "fp32"
    views: Sequence[View] | None = None
    prior: float | None = None


@dataclass(frozen=True)
class Outline:
    """A run whose domains may not be prepared yet.

    Attributes:
        method: The method file.
        variant: Name of the protocol's variant.
        run: The run; its fingerprints are empty until its domains are prepared.
    """

    method: MethodFile
    variant: str
    run: Run

    @property
    def title(self) -> str:
        """The method and the variant, as plans show them."""
        return self.method.name if self.variant == "default" else f"{self.method.name}: {self.variant}"


@dataclass(frozen=True)
class Planned:
    """The runs of a protocol, before any domain is prepared.

    Attributes:
        suite: The suite of all runs.
        protocol: Name of the protocol.
        outlines: The runs.
        notes: Sentences about methods that were left out.
        shown: Name that the protocol gives to a domain, by the suite's name.
        corruptions: Corruptions that every run evaluates, or None.
    """

    suite: Suite
    protocol: str
    outlines: tuple[Outline, ...]
    notes: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    corruptions: Corruptions | None = None

    @property
    def runs(self) -> tuple[Run, ...]:
        """The runs without method file and variant."""
        return tuple(outline.run for outline in self.outlines)

    @property
    def domains(self) -> tuple[str, ...]:
        """All sources and targets, each once."""
        return tuple(dict.fromkeys(name for run in self.runs for name in (*run.sources, *run.targets)))


class _Domains(NamedTuple):
    """The domains of a run: those it trains on, those it scores, and the one it adapts to."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    adaptation_target: str | None = None


def outline(
    protocol: Protocol,
    place: str,
    suite: Suite,
    methods: Sequence[MethodFile],
    request: Request,
    skip_unfit: bool = False,
) -> Planned:
    """Return every run of a protocol, for some methods on a suite.

    Args:
        protocol: The protocol.
        place: Path of the protocol's file, for errors; its stem is the protocol's name.
        suite: The suite.
        methods: The methods to run.
        request: Changes to the protocol.
        skip_unfit: Leave out, with a note, a method that cannot use so few sources or whose backbone lacks a text
            tower. Otherwise such a method raises.

    Raises:
        BenchError: The protocol, the request and the methods do not fit together.
    """
    part = _part(protocol, place, suite)
    targets = _targets(protocol, place, part, request)
    domains = _domains(protocol, place, part, targets, request)
    expansion = _Expansion(protocol, place, suite, request, skip_unfit, domains)
    outlines = tuple(outlined for method in methods for outlined in expansion.of(method))
    if protocol.shifts is not None:
        _check_corruptions(protocol, protocol.shifts, place, suite)
        for outlined in outlines:
            _check_corruptions_apply(protocol, protocol.shifts, place, outlined.run)
    return Planned(suite, Path(place).stem, outlines, tuple(expansion.left_out), protocol.rename, protocol.shifts)


class _Expansion:
    """The expansion of a protocol into the runs of one method after another."""

    def __init__(
        self,
        protocol: Protocol,
        place: str,
        suite: Suite,
        request: Request,
        skip_unfit: bool,
        domains: Sequence[_Domains],
    ) -> None:
        self._protocol, self._place, self._suite = protocol, place, suite
        self._request, self._skip_unfit, self._pairs = request, skip_unfit, domains
        self.left_out: dict[str, None] = {}
        """notes on methods that do not fit, each once"""

    def of(self, method: MethodFile) -> list[Outline]:
        """Return the runs of a method: one for each variant, seed, fraction and choice of domains."""
        protocol, found = self._protocol, dict[tuple[Any, ...], Outline]()
        usual = anchored_values(method, method.defaults(self._suite.recipe), method.path.parent)
        defaults = _resolved(method, usual, self._suite, dict.fromkeys(usual, method.path.name), check=False)
        for variant in protocol.variants:
            parameters, places = self._parameters(method, usual, variant)
            if self._leaves_out(_lacks_text_tower(method, parameters) or _lacks_file(method, parameters)):
                continue
            _refuse_unnoticed_files(method, parameters, places)
            weights = _digests(method, parameters, places)
            chosen = _adapted(self._pairs, method.adapts(parameters), method, self._place)
            for seed, fraction in product(self._request.seeds or protocol.seeds, protocol.fraction):
                for domains in chosen:
                    lack = method.lack(parameters, len(domains.sources))
                    if self._leaves_out(lack, f"{self._place}: "):
                        continue
                    run = self._run(method, parameters, defaults, weights, domains, seed, fraction)
                    # Two variants may have equal parameters once --set has been applied: one run serves both.
                    same = (repr(sorted(parameters.items())), run.sources, run.adaptation_target, seed, fraction)
                    found.setdefault(same, Outline(method, variant, run))
        return list(found.values())[: protocol.limit]

    def _leaves_out(self, lack: str | None, prefix: str = "") -> bool:
        """Note, or raise, what a method lacks. Return True where it lacks something."""
        if lack is None:
            return False
        if not self._skip_unfit:
            raise BenchError(f"{prefix}{lack}")
        self.left_out[f"left out: {lack}"] = None
        return True

    def _parameters(
        self, method: MethodFile, usual: Mapping[str, Any], variant: str
    ) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the parameters of a variant with networks resolved, and the place that set each, for errors."""
        protocol, folder = self._protocol, Path(self._place).parent
        values, places = dict(usual), dict.fromkeys(usual, str(method.path))
        for changes, place, beginning in (
            (protocol.method.get(method.name, {}), protocol.at(self._place, "method", method.name), folder),
            (protocol.variants[variant], protocol.at(self._place, "variants", variant), folder),
            (self._request.settings, "--set", Path()),
        ):
            values |= anchored_values(method, method.checked(changes, place), beginning)
            places |= dict.fromkeys(changes, place)
        if protocol.epochs is not None and "epochs" in values:
            values["epochs"] = min(values["epochs"], protocol.epochs)
        _check_training(method, values, self._place)
        return _resolved(method, values, self._suite, places), places

    def _run(
        self,
        method: MethodFile,
        parameters: Mapping[str, Any],
        defaults: Mapping[str, Any],
        weights: Mapping[str, str],
        domains: _Domains,
        seed: int,
        fraction: float,
    ) -> Run:
        """Return a run with empty fingerprints."""
        learned = (*domains.sources, domains.adaptation_target)
        return Run(
            suite=self._suite.name,
            profile=self._suite.profile,
            # Sorted, whatever the suite's order: the order goes into seeds and the order of images, not into the key.
            sources=tuple(sorted(domains.sources)),
            fingerprints={name: "" for name in self._suite.domains if name in learned},
            method=method.name,
            version=method.version,
            parameters=parameters,
            weights=weights,
            seed=seed,
            selection=self._request.selection or self._protocol.selection,
            fraction=fraction,
            adaptation_target=domains.adaptation_target,
            numerics=NUMERICS,
            precision=self._request.precision,
            # In one order: that of the average does not matter.
            views=tuple(sorted(self._request.views or self._protocol.views, reverse=True)),
            prior=self._prior(method, parameters),
            targets=dict.fromkeys(domains.targets, ""),
            relations={name: self._suite.relation(domains.sources, name) for name in domains.targets},
            defaults=defaults,
            synthetic=self._suite.synthetic,
            protocol=Path(self._place).stem,
            note=method.note,
        )

    def _prior(self, method: MethodFile, parameters: Mapping[str, Any]) -> float:
        """Return the share of the class frequencies to take out of the logits; 0, with a note, where they have none."""
        prior = self._protocol.prior if self._request.prior is None else self._request.prior
        reason = method.lacks_prior(parameters) if prior else ""
        if reason:
            self.left_out[f"prior {prior:g} is not applied to {method.name}: {reason}"] = None
        return 0.0 if reason else float(prior)


# ------------------------------------------------------------------------------------------------------------- domains


def _part(protocol: Protocol, place: str, suite: Suite) -> Suite:
    """Return the suite with the protocol's domains only, under a name that errors explain.

    Raises:
        BenchError: The protocol names a domain that the suite lacks, or two domains alike.
    """
    wanted = _known(suite, protocol.domains, protocol.at(place, "domains")) or suite.domains
    part = replace(suite, domains=tuple(name for name in suite.domains if name in wanted))
    if protocol.domains is not None:
        part = replace(part, name=f"{suite.name}, as far as {place} uses it,")
    shown = {name: protocol.rename.get(name, name) for name in part.domains}
    for name, new in protocol.rename.items():
        where = protocol.at(place, "rename", name)
        _known(part, [name], where)
        others = [domain for domain, called in shown.items() if called == new and domain != name]
        if others:
            raise BenchError(f"{where}: {others[0]} has the name {new!r}, too; choose another name")
    return part


def _targets(protocol: Protocol, place: str, suite: Suite, request: Request) -> tuple[str, ...]:
    """Return the domains to score; raise where nothing would be scored at all."""
    for option, names in (("--sources", request.sources), ("--targets", request.targets)):
        if names is not None and not names:
            raise BenchError(f"{option}: names no domain; the suite {suite.name} has {', '.join(suite.domains)}")
    targets = _known(suite, request.targets, "--targets")
    if not targets and isinstance(protocol.targets, list):
        targets = _known(suite, protocol.targets, protocol.at(place, "targets"))
    elif not targets and protocol.targets == "all":
        targets = suite.domains
    if not targets and (request.selection or protocol.selection) == "last":
        raise BenchError(
            f"{protocol.at(place, 'targets')}: none, with the selection last, would score nothing at all; choose "
            f"source-val, which scores images held out of the source, or name targets"
        )
    return targets


def _domains(
    protocol: Protocol, place: str, suite: Suite, targets: tuple[str, ...], request: Request
) -> list[_Domains]:
    """Return the sources and targets of every run, before adaptation."""
    held_out = {"all-but-target": 1, "all-but-two": 2}.get(str(protocol.sources), 0)
    if request.sources is None and held_out:
        where = f"{protocol.at(place, 'sources')}: {protocol.sources}"
        number = {1: "one", 2: "two", 3: "three"}
        if len(suite.domains) <= held_out:
            raise BenchError(
                f"{where} needs {number[held_out + 1]} domains or more, and the suite {suite.name} has "
                f"{number[len(suite.domains)]}"
            )
        if len(targets) < held_out:
            raise BenchError(
                f"{where} needs {number[held_out]} target{'s' * (held_out > 1)} or more; see targets, and --targets"
            )
        return [
            _Domains(tuple(name for name in suite.domains if name not in together), together)
            for together in combinations(targets, held_out)
        ]
    if request.sources is not None:
        alone = _known(suite, request.sources, "--sources")
    elif protocol.sources == "each":
        alone = suite.domains
    else:
        alone = _known(suite, list(protocol.sources), protocol.at(place, "sources"))
    return [_Domains((source,), targets) for source in alone]


def _adapted(domains: Sequence[_Domains], adapts: bool, method: MethodFile, place: str) -> Sequence[_Domains]:
    """Return the domains of every run of a method.

    A method that adapts trains once for each target, and is scored on that target and on its own sources alone.
    """
    if not adapts:
        return domains
    adapted = [
        _Domains(sources, tuple(name for name in targets if name == target or name in sources), target)
        for sources, targets, _ in domains
        for target in targets
        if target not in sources
    ]
    if not adapted:
        raise BenchError(
            f"{place}: {method.name} adapts to a target (adapt=true), and every target is a source; use --protocol "
            f"adaptation, or name another target with --targets"
        )
    return adapted


def _known(suite: Suite, names: Sequence[str] | None, place: str) -> tuple[str, ...]:
    """Return names of domains, each once; raise where the suite lacks one.

    Args:
        suite: The suite, or the part of it that a protocol uses.
        names: Names of domains.
        place: The option or key that names them, for errors.
    """
    for name in names or ():
        if name not in suite.domains:
            raise BenchError(
                f"{place}: the suite {suite.name} has no domain {name!r}{did_you_mean(name, suite.domains)}"
            )
    return tuple(dict.fromkeys(names or ()))


# ---------------------------------------------------------------------------------------------------------- parameters


def anchored_values(method: MethodFile, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return parameters with absolute paths of files and weights.

    Args:
        method: The method.
        values: Parameters by name.
        folder: The folder that relative paths begin in.
    """
    known = {parameter.name: parameter for parameter in method.parameters}
    found = dict(values)
    for name, value in values.items():
        if value and known[name].is_file:
            found[name] = (folder / Path(value).expanduser()).resolve().as_posix()
        elif value and known[name].network:
            found[name] = anchored(value, folder.resolve())
    return found


def _resolved(
    method: MethodFile, values: Mapping[str, Any], suite: Suite, places: Mapping[str, str], check: bool = True
) -> dict[str, Any]:
    """Return parameters with the networks that they mean on a suite.

    Args:
        method: The method.
        values: Parameters by name.
        suite: The suite, which names the networks behind `suite` and `trunk`.
        places: The place that set each parameter, for errors.
        check: True to raise where a file of weights does not exist.
    """
    kinds = {parameter.name: parameter.network for parameter in method.parameters}
    return {
        name: resolve_network(value, kind, suite, f"{places[name]}: {name}", check)
        if (kind := kinds[name]) and value
        else value
        for name, value in values.items()
    }


def _digests(method: MethodFile, parameters: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, str]:
    """Return the digest of what each parameter that names a network or a file refers to."""
    return {
        parameter.name: digest_of(parameters[parameter.name], f"{places[parameter.name]}: {parameter.name}")
        for parameter in method.parameters
        if (parameter.network and parameters[parameter.name] is not None)
        or (parameter.is_file and parameters[parameter.name])
    }


def _check_training(method: MethodFile, values: Mapping[str, Any], place: str) -> None:
    """Raise for parameters that no training can start with, before anything is prepared for it."""
    if not method.trains:
        return
    for name, least in (("epochs", 1), ("batch_size", 2)):
        if values[name] < least:
            raise BenchError(f"{place}: {method.name}: {name} is {values[name]}; it takes {least} or more")
    if values["learning_rate"] <= 0:
        raise BenchError(f"{place}: {method.name}: learning_rate is {values['learning_rate']:g}; it must be above 0")


def _lacks_text_tower(method: MethodFile, parameters: Mapping[str, Any]) -> str | None:
    """Return a sentence where a method needs a text tower and its backbone has none."""
    for parameter in method.parameters if "text" in method.needs else ():
        if parameter.network != "Backbone":
            continue
        name = parse_network(parameters[parameter.name], parameter.name)
        if name.family != "open_clip":
            return (
                f"the method {method.name} needs a backbone with a text tower, and {name.without_path} has none; "
                f"choose one that has: --set {parameter.name}=open_clip:ViT-B-32-quickgelu/openai"
            )
    return None


def _lacks_file(method: MethodFile, parameters: Mapping[str, Any]) -> str | None:
    """Return a sentence where a method needs a file and none is named."""
    for parameter in method.parameters if "file" in method.needs else ():
        if parameter.is_file and not parameters[parameter.name]:
            return f"the method {method.name} needs a file; name it with --set {parameter.name}=FILE"
    return None


def _refuse_unnoticed_files(method: MethodFile, parameters: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Raise where a plain text is the path of a file: the run's key would not change when the file does."""
    for parameter in method.parameters:
        value = parameters[parameter.name]
        if parameter.network or parameter.is_file or "Literal" in parameter.annotation:
            continue
        for text in value if isinstance(value, tuple) else (value,):
            if isinstance(text, str) and _is_file(text, (Path(), method.path.parent)):
                raise BenchError(
                    f"{places[parameter.name]}: {parameter.name}: {text!r} is a file, and the type "
                    f"{parameter.annotation} keeps its content out of the key of the run; write `{parameter.name}: "
                    f"File` in {method.path} (from fergen_bench import File)"
                )


def _is_file(text: str, folders: Iterable[Path]) -> bool:
    """Return True where a text with a separator or an ending is the path of a file in one of the folders."""
    path = Path(text)
    if len(path.parts) < 2 and not path.suffix:
        return False
    try:
        return any((folder / path.expanduser()).is_file() for folder in folders)
    except (OSError, ValueError, RuntimeError):  # too long for a name, or of a user who does not exist
        return False


# --------------------------------------------------------------------------------------------------------- corruptions


def _check_corruptions(protocol: Protocol, wanted: Corruptions, place: str, suite: Suite) -> None:
    """Raise for a factor that does not exist or does not apply to the suite, or a level out of its range."""
    for name, levels in wanted.factors.items():
        where = protocol.at(place, "shifts", "factors", name)
        if name not in FACTORS:
            raise BenchError(f"{where}: there is no factor {name!r}{did_you_mean(name, FACTORS)}")
        factor = FACTORS[name]
        if factor.rendered and not suite.synthetic:
            others = ", ".join(other for other in FACTORS if not FACTORS[other].rendered)
            raise BenchError(
                f"{where}: only rendered faces can be drawn again with another {name}, and {suite.name} has others; "
                f"corruptions of any image are {others}"
            )
        least, most = factor.reach
        for level in levels or ():
            if not least <= level <= most or (not factor.rendered and level != int(level)):
                kind = "number" if factor.rendered else "severity, a whole number"
                raise BenchError(
                    f"{where}: {level:g} is not a level of {name}; it takes a {kind} from {least:g} to {most:g}"
                )


def _check_corruptions_apply(protocol: Protocol, wanted: Corruptions, place: str, run: Run) -> None:
    """Raise where a run scores none of the targets that the protocol corrupts."""
    if not set(run.targets) & set(run.sources if wanted.targets == "source" else run.targets):
        raise BenchError(
            f"{protocol.at(place, 'shifts')}: the run on {'+'.join(run.sources)} scores none of the targets to "
            f"corrupt; score its sources too, or write targets: all under shifts"
        )
