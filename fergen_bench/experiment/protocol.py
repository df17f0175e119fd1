"""Read a protocol: sources and targets, seeds and variants, and the selection of a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from fergen_bench.data.corruption import CLEAN, FACTORS
from fergen_bench.error import BenchError, did_you_mean, explain
from fergen_bench.experiment.run import Selection, View
from fergen_bench.files import yaml as yamlfile


def _settings_by_name(value: Any) -> Any:
    """Return the methods of a protocol as a mapping: from cafe, [cafe, scn] or {cafe: {drop: 0.2}, scn: {}}."""
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
        raise ValueError(f"{EVERY} stands for every method, and takes no settings; name the method they are for")
    return settings


def _levels_by_factor(value: Any) -> Any:
    """Return factors as a mapping: [blur, pose] becomes {blur: None, pose: None}; {blur: [1, 3]} stays as it is."""
    names = value if isinstance(value, list) and all(isinstance(name, str) for name in value) else []
    return {name: None for name in names} or value


class Corruptions(BaseModel):
    """The corruptions and re-rendered images that runs evaluate, in addition to the unchanged targets."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    factors: Annotated[
        dict[str, Annotated[list[float], Field(min_length=1)] | None],
        Field(min_length=1),
        BeforeValidator(_levels_by_factor),
    ]
    """the factors, each with its levels; without levels, a factor has its usual ones"""
    targets: Literal["source", "all"] = "source"
    """the images that change: the test images of the run's own sources, or those of every target"""
    faces: Annotated[int, Field(ge=1)] = 1000
    """images of each target, evenly spread over it"""

    def levels(self) -> dict[str, tuple[float, ...]]:
        """Return the levels of each factor, and the unchanged images under CLEAN."""
        usual = {name: FACTORS[name].levels if given is None else tuple(given) for name, given in self.factors.items()}
        return {CLEAN: (0.0,), **usual}


def _each_view_once(value: list[View]) -> list[View]:
    if len(set(value)) < len(value):
        raise ValueError("each view may stand once")
    return value


def _one_or_several(value: Any) -> Any:
    """Return a share, or a list of shares, as a list."""
    values = value if isinstance(value, list) else [value]
    if len(set(map(str, values))) < len(values):
        raise ValueError("each share may stand once")
    return values


EVERY = "all"
"""Stands for every method, in place of a name."""


class Protocol(BaseModel):
    """The keys of a protocol file."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    about: str
    """one line for lists and reports"""
    suite: str | None = None
    """the suite of the runs, unless --suite names another; without the key, bench.toml's suite"""
    embedded: str | None = None
    """the suite that replaces bench.toml's where that is an embedded one, such as synth5"""
    domains: Annotated[list[str], Field(min_length=1)] | None = None
    """the domains that the protocol uses; without the key, all domains of the suite"""
    rename: dict[str, Annotated[str, Field(min_length=1)]] = {}
    """names of domains for the plan and the progress of `run`; records and reports keep the suite's names, because
    several protocols share a record
    """
    sources: Literal["each", "all-but-target", "all-but-two"] | Annotated[list[str], Field(min_length=1)] = "each"
    """each: every domain alone. all-but-target, all-but-two: for every target, or every two of them, all other domains
    together. A list: these domains, each alone
    """
    targets: Literal["all", "none"] | Annotated[list[str], Field(min_length=1)] = "all"
    """the domains to score; none for source validation only"""
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] = [0, 1, 2]
    selection: Selection = "last"
    """the checkpoint that is scored: the last one, or the best one on images held out of the sources"""
    views: Annotated[list[View], Field(min_length=1), AfterValidator(_each_view_once)] = ["plain"]
    """the views of a scored image whose logits are averaged: plain, mirror, or both"""
    prior: Annotated[float, Field(ge=0, le=1)] = 0.0
    """the share of the source's log class frequencies that scoring takes out of the logits"""
    method: Annotated[dict[str, dict[str, Any]], BeforeValidator(_settings_by_name)] = {}
    """the methods, each with the parameters that the protocol changes; all stands for every method"""
    variants: Annotated[dict[str, dict[str, Any]], Field(min_length=1)] = {"default": {}}
    """named changes of parameters; an empty one leaves the method as it is"""
    fraction: Annotated[
        list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1), BeforeValidator(_one_or_several)
    ] = [1.0]
    """one or several shares of each source's train split; every expression is reduced alike, and a smaller share is
    part of a larger one
    """
    epochs: Annotated[int, Field(ge=1)] | None = None
    """the maximum number of epochs, for methods that have epochs"""
    limit: Annotated[int, Field(ge=1)] | None = None
    """the maximum number of runs of each method, for quick trials"""

    shifts: Corruptions | None = None
    """corrupted images to score, too; leaderboards do not include them"""

    _lines: dict[tuple[str, ...], int] = PrivateAttr(default_factory=dict)

    def at(self, place: str, *keys: str) -> str:
        """Return the position of a key, for errors, such as p.yaml:7: variants.linear.

        Args:
            place: Path of the protocol's file.
            keys: The key, with the keys around it.
        """
        line = next((self._lines[keys[:n]] for n in range(len(keys), 0, -1) if keys[:n] in self._lines), None)
        return f"{place}:{line}: {'.'.join(keys)}" if line else f"{place}: {'.'.join(keys)}"

    def names(self, place: str, known: Iterable[str]) -> tuple[str, ...]:
        """Return the names of the protocol's methods.

        Args:
            place: Path of the protocol's file, for errors.
            known: Names of all methods.

        Raises:
            BenchError: A method of the protocol does not exist.
        """
        existing = tuple(known)
        for name in self.method:
            if name not in (*existing, EVERY):
                raise BenchError(
                    f"{self.at(place, 'method', name)}: there is no method {name!r}{did_you_mean(name, existing)}"
                )
        return existing if EVERY in self.method else tuple(self.method)


def read_protocol(path: Path) -> Protocol:
    """Read a protocol file.

    Raises:
        BenchError: The file is not a protocol; the error names file, line and key.
    """
    content, lines = yamlfile.read(path)
    if not isinstance(content, dict):
        raise BenchError(f"{path}: a protocol is a mapping of keys, such as about, sources and seeds")
    known: dict[str, Iterable[str]] = {"": tuple(Protocol.model_fields), "shifts": tuple(Corruptions.model_fields)}
    try:
        protocol = Protocol.model_validate(content)
    except ValidationError as error:
        raise BenchError(explain(error, path, lines, known)) from None
    protocol._lines = lines
    return protocol
