"""A protocol: who trains, who is scored, which seeds and variants, how a checkpoint is selected. YAML → runs. Pure
data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from fergen_bench.data.corruption import CLEAN, FACTORS
from fergen_bench.data.suite import Suite
from fergen_bench.error import BenchError, did_you_mean, explain
from fergen_bench.experiment.method_file import MethodFile
from fergen_bench.experiment.run import Run, Selection
from fergen_bench.files import yaml as yamlfile
from fergen_bench.networks.name import anchored, digest_of, parse_network, resolve_network


def _settings_by_name(value: Any) -> Any:
    """The methods of a protocol, however they are written: cafe; [cafe, scn]; {cafe: {drop: 0.2}, scn: {}}."""
    if value is None or isinstance(value, str):
        value = [] if value is None else [value]
    if isinstance(value, list):
        if not all(isinstance(name, str) for name in value) or len(set(value)) < len(value):
            raise ValueError("a list names methods, each once")
        value = {name: {} for name in value}
    if not isinstance(value, dict):
        raise ValueError("this takes the name of a method, a list of names, or names with settings")
    settings = {name: {} if changes is None else changes for name, changes in value.items()}
    if settings.get(EVERY):
        raise ValueError(
            f"{EVERY} stands for every method there is, and takes no settings; name the method they are for"
        )
    return settings


def _levels_by_factor(value: Any) -> Any:
    """[blur, pose] → each at its usual levels; {blur: [1, 3], pose: } → as said."""
    names = value if isinstance(value, list) and all(isinstance(name, str) for name in value) else []
    return {name: None for name in names} or value


class Shifts(BaseModel):
    """Which shifted faces the methods of a protocol are asked about, beside the targets as they are."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    factors: Annotated[
        dict[str, Annotated[list[float], Field(min_length=1)] | None],
        Field(min_length=1),
        BeforeValidator(_levels_by_factor),
    ]
    """what is moved, from shift.FACTORS, and to which levels; without levels, to the factor's usual ones"""
    targets: Literal["source", "all"] = "source"
    """whose faces: the test faces of the run's own sources, or those of every target"""
    faces: Annotated[int, Field(ge=1)] = 1000
    """of each target, evenly spread"""

    def levels(self) -> dict[str, tuple[float, ...]]:
        """Each factor with its levels, and the faces as they are."""
        usual = {name: FACTORS[name].levels if asked is None else tuple(asked) for name, asked in self.factors.items()}
        return {CLEAN: (0.0,), **usual}


def _one_or_several(value: Any) -> Any:
    values = value if isinstance(value, list) else [value]
    if len(set(map(str, values))) < len(values):
        raise ValueError("each share may stand once")
    return values


EVERY = "all"
"""In the place of a method's name: every method there is."""


class Protocol(BaseModel):
    """The keys of a protocol file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    about: str
    """one line for lists and reports"""
    suite: str | None = None
    """the suite it is made for; the command line may name another. Without it, bench.toml's"""
    embedded: str | None = None
    """the suite that takes the place of bench.toml's where that is an embedded one, as synth5 is"""
    domains: Annotated[list[str], Field(min_length=1)] | None = None
    """the part of the suite it is about; without it, all of the suite"""
    rename: dict[str, Annotated[str, Field(min_length=1)]] = {}
    """what `run` calls a domain in the plan and in progress, where that is not the suite's name of it; records and
    reports keep the suite's names, since a record is not one protocol's alone"""
    sources: Literal["each", "all-but-target", "all-but-two"] | Annotated[list[str], Field(min_length=1)] = "each"
    """each domain alone; for every target, or every two of them, all other domains together; or these domains, each
    alone"""
    targets: Literal["all", "none"] | Annotated[list[str], Field(min_length=1)] = "all"
    """who is scored; none where only source validation is wanted"""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0, 1, 2]
    selection: Selection = "last"
    """which checkpoint is scored: the last, or the best on faces held out of the sources"""
    method: Annotated[dict[str, dict[str, Any]], BeforeValidator(_settings_by_name)] = {}
    """the methods it is about, each with the parameters that this protocol changes; all: every method there is"""
    variants: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = {"default": {}}
    """named changes of parameters; an empty one is the method as it is"""
    fraction: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1), BeforeValidator(_one_or_several)
    ] = [1.0]
    """share of each source's train split, or several of them: of every expression alike, the smaller in the larger"""
    epochs: Annotated[int, Field(ge=1)] | None = None
    """the most epochs that a method with epochs may take"""
    limit: Annotated[int, Field(ge=1)] | None = None
    """how many of the runs are planned for each method, for quick looks"""

    shifts: Shifts | None = None
    """shifted faces to be scored too; they are no part of any leaderboard"""

    _lines: dict[tuple[str, ...], int] = PrivateAttr(default_factory=dict)

    def at(self, place: str, *keys: str) -> str:
        """Where a key stands, for errors: p.yaml:7: variants.linear. place: the protocol's file."""
        line = next((self._lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in self._lines), None)
        return f"{place}:{line}: {'.'.join(keys)}" if line else f"{place}: {'.'.join(keys)}"

    def names(self, place: str, known: Iterable[str]) -> tuple[str, ...]:
        """Its methods, of those that there are."""
        there = tuple(known)
        for name in self.method:
            if name not in (*there, EVERY):
                raise BenchError(
                    f"{self.at(place, 'method', name)}: there is no method {name!r}{did_you_mean(name, there)}"
                )
        return there if EVERY in self.method else tuple(self.method)


def read_protocol(path: Path) -> Protocol:
    """A protocol file. Errors name file, line and key."""
    content, lines = yamlfile.read(path)
    if not isinstance(content, dict):
        raise BenchError(f"{path}: a protocol is a mapping of keys, such as about, sources and seeds")
    known: dict[str, Iterable[str]] = {"": tuple(Protocol.model_fields), "shifts": tuple(Shifts.model_fields)}
    try:
        protocol = Protocol.model_validate(content)
    except ValidationError as error:
        raise BenchError(explain(error, path, lines, known)) from None
    protocol._lines = lines
    return protocol


@dataclass(frozen=True)
class Request:
    """What the command line adds to a protocol. None keeps the protocol's own."""

    seeds: Sequence[int] | None = None
    sources: Sequence[str] | None = None
    targets: Sequence[str] | None = None
    selection: Selection | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # from --set and --backbone


@dataclass(frozen=True)
class Planned:
    """A protocol laid out before anything is prepared: which domains it needs, and one outline per run."""

    outlines: tuple[Outline, ...]
    notes: tuple[str, ...] = ()  # what was left out, and why
    shown: Mapping[str, str] = field(default_factory=dict)  # domain → what the protocol calls it
    shifts: Shifts | None = None

    @property
    def domains(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name for outline in self.outlines for name in (*outline.sources, *outline.targets)))


@dataclass(frozen=True)
class Outline:
    method: MethodFile
    variant: str
    parameters: Mapping[str, Any]
    defaults: Mapping[str, Any]
    weights: Mapping[str, str]
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    seed: int
    selection: Selection
    fraction: float
    adaptation_target: str | None = None

    def learns_from(self, target: str) -> bool:
        """Whether training images of a target are used, with labels or without."""
        return target in self.sources or target == self.adaptation_target

    @property
    def title(self) -> str:
        return self.method.name if self.variant == "default" else f"{self.method.name}: {self.variant}"


def outline(
    protocol: Protocol,
    place: str,
    suite: Suite,
    methods: Sequence[MethodFile],
    request: Request,
    skip_unfit: bool = False,
) -> Planned:
    """Every run that a protocol asks of some methods on a suite. place: the protocol's file, for errors.

    skip_unfit: a method that has nothing to do with so few sources, or whose backbone has no text tower, is left out
    with a note, and not refused.
    """
    suite = _part(protocol, place, suite)
    for option, names in (("--sources", request.sources), ("--targets", request.targets)):
        if names is not None and not names:
            raise BenchError(f"{option}: names no domain; the suite {suite.name} has {', '.join(suite.domains)}")
    targets = _domains(suite, request.targets, "--targets") or _targets(protocol, suite, place)
    pairs = _pairs(protocol, place, suite, targets, request)
    if not targets and (request.selection or protocol.selection) == "last":
        raise BenchError(
            f"{protocol.at(place, 'targets')}: none, with the selection last, would score nothing at all; choose "
            f"source-val, which scores faces held out of the source, or name targets"
        )
    outlines: list[Outline] = []
    left_out: dict[str, None] = {}
    for method in methods:
        runs: dict[tuple[Any, ...], Outline] = {}
        own = protocol.method.get(method.name, {})
        usual = anchored_values(method, method.defaults(suite.recipe), method.path.parent)
        defaults = _resolved(method, usual, suite, dict.fromkeys(usual, method.path.name), check=False)
        for variant, changes in protocol.variants.items():
            values, places = dict(usual), dict.fromkeys(usual, str(method.path))
            for wanted, where, folder in (
                (own, protocol.at(place, "method", method.name), Path(place).parent),
                (changes, protocol.at(place, "variants", variant), Path(place).parent),
                (request.settings, "--set", Path()),
            ):
                values |= anchored_values(method, method.checked(wanted, where), folder)
                places |= dict.fromkeys(wanted, where)
            if protocol.epochs is not None and "epochs" in values:
                values["epochs"] = min(values["epochs"], protocol.epochs)
            _check_training(method, values, place)
            parameters = _resolved(method, values, suite, places)
            if lack := _lacks_text_tower(method, parameters):
                if not skip_unfit:
                    raise BenchError(lack)
                left_out[f"left out: {lack}"] = None
                continue
            _refuse_unnoticed_files(method, parameters, places)
            weights = {
                parameter.name: digest_of(parameters[parameter.name], f"{places[parameter.name]}: {parameter.name}")
                for parameter in method.parameters
                if (parameter.network and parameters[parameter.name] is not None)
                or (parameter.is_file and parameters[parameter.name])
            }
            adapted = _adapted(pairs, method.adapts(parameters), method, place)
            for seed, fraction in product(request.seeds or protocol.seeds, protocol.fraction):
                for sources, scored, adaptation_target in adapted:
                    if lack := method.lack(parameters, len(sources)):
                        if not skip_unfit:
                            raise BenchError(f"{place}: {lack}")
                        left_out[f"left out: {lack}"] = None
                        continue
                    outlined = Outline(
                        method,
                        variant,
                        parameters,
                        defaults,
                        weights,
                        sources,
                        scored,
                        seed,
                        request.selection or protocol.selection,
                        fraction,
                        adaptation_target,
                    )
                    # Two variants may come to the same parameters once --set has been applied: one run serves both.
                    same = (repr(sorted(parameters.items())), sources, adaptation_target, seed, fraction)
                    runs.setdefault(same, outlined)
        outlines += list(runs.values())[: protocol.limit]
    _check_shifts(protocol, place, suite, outlines)
    return Planned(tuple(outlines), tuple(left_out), protocol.rename, protocol.shifts)


def _check_shifts(protocol: Protocol, place: str, suite: Suite, outlines: Sequence[Outline]) -> None:
    """Refuses shifts that do not exist, or that no face of these runs can be given."""
    if (shifts := protocol.shifts) is None:
        return
    for name, levels in shifts.factors.items():
        where = protocol.at(place, "shifts", "factors", name)
        if name not in FACTORS:
            raise BenchError(f"{where}: there is no factor {name!r}{did_you_mean(name, FACTORS)}")
        factor = FACTORS[name]
        if factor.rendered and not suite.synthetic:
            others = ", ".join(other for other in FACTORS if not FACTORS[other].rendered)
            raise BenchError(
                f"{where}: only rendered faces can be drawn again with another {name}, and {suite.name} has others; "
                f"shifts of any face are {others}"
            )
        least, most = factor.reach
        for level in levels or ():
            if not least <= level <= most or (not factor.rendered and level != int(level)):
                kind = "number" if factor.rendered else "severity, a whole number"
                raise BenchError(
                    f"{where}: {level:g} is no level of {name}; it takes a {kind} from {least:g} to {most:g}"
                )
    for run in outlines:
        if not set(run.targets) & set(run.sources if shifts.targets == "source" else run.targets):
            raise BenchError(
                f"{protocol.at(place, 'shifts')}: the run on {'+'.join(run.sources)} scores none of the targets that "
                f"would be shifted; score its sources too, or write targets: all under shifts"
            )


def _part(protocol: Protocol, place: str, suite: Suite) -> Suite:
    """The suite as far as the protocol is about it. Names for domains that it does not have, and one name for two of
    them, are refused.
    """
    wanted = _domains(suite, protocol.domains, protocol.at(place, "domains")) or suite.domains
    part = replace(suite, domains=tuple(name for name in suite.domains if name in wanted))
    if protocol.domains is not None:
        part = replace(part, name=f"{suite.name}, as far as {place} is about it,")
    shown = {name: protocol.rename.get(name, name) for name in part.domains}
    for name, new in protocol.rename.items():
        where = protocol.at(place, "rename", name)
        _domains(part, [name], where)
        others = [domain for domain, called in shown.items() if called == new and domain != name]
        if others:
            raise BenchError(f"{where}: {new!r} is what {others[0]} is called too; choose another name")
    return part


def _check_training(method: MethodFile, values: Mapping[str, Any], place: str) -> None:
    """Refuses what no training could begin with, before anything is prepared for it."""
    if not method.trains:
        return
    for name, least in (("epochs", 1), ("batch_size", 2)):
        if values[name] < least:
            raise BenchError(f"{place}: {method.name}: {name} is {values[name]}; it takes {least} or more")
    if values["learning_rate"] <= 0:
        raise BenchError(f"{place}: {method.name}: learning_rate is {values['learning_rate']:g}; it must be above 0")


def _lacks_text_tower(method: MethodFile, parameters: Mapping[str, Any]) -> str | None:
    """Why a method that needs a text tower cannot be run with its backbone, or None."""
    for parameter in method.parameters if "text" in method.needs else ():
        name = parameters[parameter.name]
        if parameter.network == "Backbone" and parse_network(name, parameter.name).family != "open_clip":
            return (
                f"the method {method.name} needs a backbone with a text tower, and {name.partition('//')[0]} has none; "
                f"choose one that has: --set {parameter.name}=open_clip:ViT-B-32-quickgelu/openai"
            )
    return None


def specify(outlined: Outline, suite: Suite, protocol: str, fingerprints: Mapping[str, str]) -> Run:
    """An outline with the fingerprints of the prepared domains."""
    return Run(
        suite=suite.name,
        profile=suite.profile,
        # In one order, whatever the suite's: it goes into seeds and the order of faces, and not into the key.
        sources=tuple(sorted(outlined.sources)),
        fingerprints={name: fingerprints[name] for name in suite.domains if outlined.learns_from(name)},
        method=outlined.method.name,
        version=outlined.method.version,
        parameters=outlined.parameters,
        weights=outlined.weights,
        seed=outlined.seed,
        selection=outlined.selection,
        fraction=outlined.fraction,
        adaptation_target=outlined.adaptation_target,
        targets={name: fingerprints[name] for name in outlined.targets},
        relations={name: suite.relation(outlined.sources, name) for name in outlined.targets},
        defaults=outlined.defaults,
        synthetic=suite.synthetic,
        protocol=protocol,
        note=outlined.method.note,
    )


Pair: TypeAlias = tuple[tuple[str, ...], tuple[str, ...]]
"""The sources of a run and its targets."""


def _adapted(
    pairs: Sequence[Pair], adapts: bool, method: MethodFile, place: str
) -> list[tuple[tuple[str, ...], tuple[str, ...], str | None]]:
    """(sources, targets, adaptation target) of every run. A method that adapts learns anew for each target, and is
    scored on that target and on its own sources alone.
    """
    if not adapts:
        return [(*pair, None) for pair in pairs]
    adapted: list[tuple[tuple[str, ...], tuple[str, ...], str | None]] = [
        (sources, tuple(name for name in targets if name == target or name in sources), target)
        for sources, targets in pairs
        for target in targets
        if target not in sources
    ]
    if not adapted:
        raise BenchError(
            f"{place}: {method.name} adapts to a target (adapt=true), and no target is scored that is not a source; "
            f"use --protocol adaptation, or name one with --targets"
        )
    return adapted


def _pairs(protocol: Protocol, place: str, suite: Suite, targets: tuple[str, ...], request: Request) -> list[Pair]:
    """(sources, targets) of every run."""
    left_out = {"all-but-target": 1, "all-but-two": 2}.get(str(protocol.sources), 0)
    if request.sources is None and left_out:
        where = f"{protocol.at(place, 'sources')}: {protocol.sources}"
        number = {1: "one", 2: "two", 3: "three"}
        if len(suite.domains) <= left_out:
            raise BenchError(
                f"{where} needs {number[left_out + 1]} domains or more, and the suite {suite.name} has "
                f"{number[len(suite.domains)]}"
            )
        if len(targets) < left_out:
            raise BenchError(
                f"{where} needs {number[left_out]} target{'s' * (left_out > 1)} or more; see targets, and --targets"
            )
        return [
            (tuple(name for name in suite.domains if name not in together), together)
            for together in combinations(targets, left_out)
        ]
    if request.sources is not None:
        alone = _domains(suite, request.sources, "--sources")
    else:
        alone = (
            suite.domains
            if protocol.sources == "each"
            else _domains(suite, list(protocol.sources), protocol.at(place, "sources"))
        )
    return [((source,), targets) for source in alone]


def _targets(protocol: Protocol, suite: Suite, place: str) -> tuple[str, ...]:
    if isinstance(protocol.targets, list):
        return _domains(suite, protocol.targets, protocol.at(place, "targets"))
    return suite.domains if protocol.targets == "all" else ()


def _domains(suite: Suite, names: Sequence[str] | None, place: str) -> tuple[str, ...]:
    for name in names or ():
        if name not in suite.domains:
            raise BenchError(
                f"{place}: the suite {suite.name} has no domain {name!r}{did_you_mean(name, suite.domains)}"
            )
    return tuple(dict.fromkeys(names or ()))


def anchored_values(method: MethodFile, values: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Values whose paths no longer depend on where the command is given. folder: in which relative ones begin."""
    known = {parameter.name: parameter for parameter in method.parameters}
    found = dict(values)
    for name, value in values.items():
        if value and known[name].is_file:
            found[name] = (folder / Path(value).expanduser()).resolve().as_posix()
        elif value and known[name].network:
            found[name] = anchored(value, folder.resolve())
    return found


def _refuse_unnoticed_files(method: MethodFile, parameters: Mapping[str, Any], places: Mapping[str, str]) -> None:
    """Refuse a plain text that is the path of a file: the run's key would not change when the file does."""
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
    """Whether a text looks like the path of a file, with a separator or an ending, and is one in some folder."""
    path = Path(text)
    if len(path.parts) < 2 and not path.suffix:
        return False
    try:
        return any((folder / path.expanduser()).is_file() for folder in folders)
    except (OSError, ValueError, RuntimeError):  # too long for a name, or of a user who does not exist
        return False


def _resolved(
    method: MethodFile, values: Mapping[str, Any], suite: Suite, places: Mapping[str, str], check: bool = True
) -> dict[str, Any]:
    """Values with the names of networks resolved on a suite. check: whether files of weights must exist. places: where
    each value was given, for errors.
    """
    kinds = {parameter.name: parameter.network for parameter in method.parameters}
    return {
        name: resolve_network(value, kind, suite, f"{places[name]}: {name}", check)
        if (kind := kinds[name]) and value
        else value
        for name, value in values.items()
    }
