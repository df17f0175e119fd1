"""Expand a protocol into runs: for each method the variants, seeds, fractions, sources and targets.

The steps of an expansion share its state, so they stay in one file although it is a long one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

from fergen_bench.data.corruption import FACTORS
from fergen_bench.data.numerics import NUMERICS
from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.experiment.base import FindMethod, among, read_base
from fergen_bench.experiment.method_file import MethodFile
from fergen_bench.experiment.parameters import (
    anchored_values,
    completed,
    digests,
    lacks,
    refuse_unnoticed_files,
    resolved,
)
from fergen_bench.experiment.protocol import Corruptions, Protocol
from fergen_bench.experiment.run import PLAIN, Precision, Run, Selection, View
from fergen_bench.wording import listed


@dataclass(frozen=True)
class Request:
    """The changes of a command to a protocol; None stands for the value of the protocol.

    Attributes:
        seeds: Seeds of the runs.
        sources: Domains to train on, each alone.
        together: Train on all of `sources` together instead.
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
    together: bool = False


@dataclass(frozen=True)
class Outline:
    """A run whose domains may not be prepared yet.

    Attributes:
        method: The method file.
        variant: Name of the protocol's variant.
        run: The run; its fingerprints are empty until its domains are prepared.
        base: The run whose fitted method an online method starts from.
    """

    method: MethodFile
    variant: str
    run: Run
    base: Outline | None = None

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


class _Configured(NamedTuple):
    """A method with the parameters of its runs, and the defaults that names in tables compare them with."""

    method: MethodFile
    parameters: Mapping[str, Any]
    defaults: Mapping[str, Any]
    weights: Mapping[str, str]
    base: _Configured | None = None


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
    find: FindMethod | None = None,
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
        find: Returns the method that the base of an online method names; by default, one of `methods`.

    Raises:
        BenchError: The protocol, the request and the methods do not fit together.
    """
    part = _part(protocol, place, suite)
    targets = _targets(protocol, place, part, request)
    domains = _domains(protocol, place, part, targets, request)
    _check_settings(methods, request.settings)
    find = find or among(methods)
    expansion = _Expansion(protocol, place, suite, request, skip_unfit, domains, find)
    outlines = tuple(outlined for method in methods for outlined in expansion.of(method))
    if protocol.shifts is not None:
        _check_corruptions(protocol, protocol.shifts, place, suite)
        for outlined in outlines:
            _check_corruptions_apply(protocol, protocol.shifts, place, outlined.run)
    return Planned(suite, Path(place).stem, outlines, tuple(expansion.left_out), protocol.rename, protocol.shifts)


def _check_settings(methods: Sequence[MethodFile], settings: Mapping[str, Any]) -> None:
    """Raise for a parameter from --set that only some of several methods have."""
    for name in settings:
        having = [one.name for one in methods if name in {parameter.name for parameter in one.parameters}]
        lacking = [one.name for one in methods if one.name not in having]
        if having and lacking:
            raise BenchError(
                f"--set: {listed(having)} {'has' if len(having) == 1 else 'have'} a parameter {name!r}, and "
                f"{listed(lacking)} {'does' if len(lacking) == 1 else 'do'} not; run them in separate commands, or set "
                f"it in a protocol (docs/protocols.md): method: {{{having[0]}: {{{name}: …}}, {lacking[0]}: {{}}}}"
            )


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
        find: FindMethod,
    ) -> None:
        self._protocol, self._place, self._suite = protocol, place, suite
        self._request, self._skip_unfit, self._pairs, self._find = request, skip_unfit, domains, find
        self.left_out: dict[str, None] = {}
        """notes on methods that do not fit, each once"""

    def of(self, method: MethodFile) -> list[Outline]:
        """Return the runs of a method: one for each variant, seed, fraction and choice of domains."""
        protocol, found = self._protocol, dict[tuple[Any, ...], Outline]()
        usual, defaults = self._defaults(method)
        for variant in protocol.variants:
            parameters, places = self._parameters(method, usual, variant)
            base = self._base(method, parameters, places)
            lack = lacks(method, parameters) or (base and lacks(base.method, base.parameters))
            if self._leaves_out(lack):
                continue
            refuse_unnoticed_files(method, parameters, places)
            one = _Configured(method, parameters, defaults, digests(method, parameters, places), base)
            chosen = _adapted(self._pairs, method.adapts(parameters), method, self._place)
            for seed, fraction in product(self._request.seeds or protocol.seeds, protocol.fraction):
                for domains in chosen:
                    count = len(domains.sources)
                    lack = method.lack(parameters, count) or (base and base.method.lack(base.parameters, count))
                    if self._leaves_out(lack, f"{self._place}: "):
                        continue
                    outlined = self._outline(one, variant, domains, seed, fraction)
                    run = outlined.run
                    # Two variants may have equal parameters once --set has been applied: one run serves both.
                    same = (repr(sorted(parameters.items())), run.sources, run.adaptation_target, seed, fraction)
                    found.setdefault(same, outlined)
        return list(found.values())[: protocol.limit]

    def _defaults(self, method: MethodFile) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the default parameters of a method on the suite, and the same with networks resolved."""
        usual = anchored_values(method, method.defaults(self._suite.recipe), method.path.parent)
        return usual, resolved(method, usual, self._suite, dict.fromkeys(usual, method.path.name), check=False)

    def _base(self, method: MethodFile, parameters: Mapping[str, Any], places: Mapping[str, str]) -> _Configured | None:
        """Return the method that an online method starts from, with its parameters; None for other methods."""
        if not method.online or "base" not in parameters:
            return None
        place = places["base"]
        base, changes = read_base(parameters["base"], place, self._find)
        usual, defaults = self._defaults(base)
        values = usual | anchored_values(base, base.checked(changes, f"{place}: base"), Path())
        if base.adapts(values):
            raise BenchError(
                f"{place}: base: {base.name} adapts to one target (adapt=true), and a base is fitted to the source "
                f"alone; write {base.name} adapt=false"
            )
        values = completed(self._protocol, base, values, dict.fromkeys(values, place))
        where = dict.fromkeys(values, f"{place}: base")
        values = resolved(base, values, self._suite, where)
        return _Configured(base, values, defaults, digests(base, values, where))

    def _outline(self, one: _Configured, variant: str, domains: _Domains, seed: int, fraction: float) -> Outline:
        """Return a run with empty fingerprints, and the run of its base."""
        run = self._run(one, domains, seed, fraction)
        if one.base is None:
            return Outline(one.method, variant, run)
        base = self._run(one.base, domains, seed, fraction).trained
        # The record of an online run has the identity of its base, which the targets are not part of.
        run = replace(run, base=replace(base, targets={}, relations={}))
        return Outline(one.method, variant, run, Outline(one.base.method, "default", base))

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
        values = completed(protocol, method, values, places)
        return resolved(method, values, self._suite, places), places

    def _run(self, one: _Configured, domains: _Domains, seed: int, fraction: float) -> Run:
        """Return a run with empty fingerprints."""
        method, parameters = one.method, one.parameters
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
            weights=one.weights,
            seed=seed,
            selection=self._request.selection or self._protocol.selection,
            fraction=fraction,
            adaptation_target=domains.adaptation_target,
            numerics=NUMERICS,
            precision=self._request.precision,
            views=self._views(method),
            prior=self._prior(one),
            targets=dict.fromkeys(domains.targets, ""),
            relations={name: self._suite.relation(domains.sources, name) for name in domains.targets},
            defaults=one.defaults,
            synthetic=self._suite.synthetic,
            protocol=Path(self._place).stem,
            note=method.note,
            online=method.online,
        )

    def _views(self, method: MethodFile) -> tuple[View, ...]:
        """Return the views of a scored image; the plain one alone, with a note, for an online method."""
        # In one order: that of the average does not matter.
        views = tuple(sorted(self._request.views or self._protocol.views, reverse=True))
        if method.online and views != PLAIN:
            self.left_out[
                f"views {'+'.join(views)} are not applied to {method.name}: it would adapt to each image twice"
            ] = None
            return PLAIN
        return views

    def _prior(self, one: _Configured) -> float:
        """Return the share of the class frequencies to take out of the logits; 0, with a note, where they have none."""
        prior = self._protocol.prior if self._request.prior is None else self._request.prior
        reason = one.method.lacks_prior(one.parameters) if prior else ""
        if prior and not reason and one.base is not None:
            lack = one.base.method.lacks_prior(one.base.parameters)
            reason = f"its base is {one.base.method.name}, and {lack}" if lack else ""
        if reason:
            self.left_out[f"prior {prior:g} is not applied to {one.method.name}: {reason}"] = None
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
        if request.together:
            return [_Domains(alone, targets)]
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
