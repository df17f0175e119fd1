"""What identifies a run, and the circumstances under which it executes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, NamedTuple

from fergen_bench.files.bounded import is_path

Selection = Literal["last", "source-val"]


@dataclass(frozen=True)
class Run:
    """One training, on one set of sources, with one seed, and the targets it is scored on."""

    suite: str
    profile: str
    sources: tuple[str, ...]
    fingerprints: Mapping[str, str]  # of every domain that is learned from: the sources, the adaptation target
    method: str
    version: int
    parameters: Mapping[str, Any]  # all of them, with defaults and networks resolved
    weights: Mapping[str, str]  # digest of what is behind each parameter that names a network or a file
    seed: int
    selection: Selection
    fraction: float = 1.0
    adaptation_target: str | None = None  # the target whose unlabelled training images are learned from
    targets: Mapping[str, str] = field(default_factory=dict)  # name → fingerprint; not part of the key
    relations: Mapping[str, str] = field(default_factory=dict)  # target → source, seen or unseen
    excluded: Mapping[str, str] = field(default_factory=dict)  # target → digest of the ids that are not scored; no key
    defaults: Mapping[str, Any] = field(default_factory=dict)  # parameters nobody changed, for the name in tables
    synthetic: bool = False
    protocol: str = ""
    note: str = ""  # what every table must say below the method

    def identity(self) -> dict[str, Any]:
        """What changes the numbers. The path of a file is circumstance; the digest of its content is what counts."""
        parameters = {
            name: _without_path(value) if name in self.weights else value for name, value in self.parameters.items()
        }
        return {
            "suite": self.suite,
            "profile": self.profile,
            "sources": {source: self.fingerprints[source] for source in self.sources},
            "method": self.method,
            "version": self.version,
            "parameters": parameters,
            "weights": dict(self.weights),
            "seed": self.seed,
            "selection": self.selection,
            "fraction": self.fraction,
            "adaptation_target": self.adaptation_target
            and {self.adaptation_target: self.fingerprints.get(self.adaptation_target, "")},
        }

    def learns_from(self, target: str) -> bool:
        """Whether training images of a target are used, with labels or without: then its test split is scored."""
        return target in self.sources or target == self.adaptation_target

    @property
    def key(self) -> str:
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def changes(self) -> dict[str, Any]:
        """The parameters that differ from the method's defaults on this suite."""
        return {
            name: shown_value(value, self.weights[name]) if name in self.weights else value
            for name, value in self.parameters.items()
            if name not in self.defaults or self.defaults[name] != value
        }

    @property
    def label(self) -> str:
        """The method as tables name it: cafe, or cafe (gate=linear)."""
        changed = ", ".join(f"{name}={value}" for name, value in self.changes.items())
        return f"{self.method} ({changed})" if changed else self.method

    @property
    def title(self) -> str:
        """What messages call this run."""
        return self.called({})

    def called(self, shown: Mapping[str, str]) -> str:
        """The run in words. shown: what a protocol calls a domain, where that is not the suite's name of it."""
        sources = "+".join(shown.get(name, name) for name in self.sources)
        target = self.adaptation_target
        adapted = "" if target is None else f" adapted to {shown.get(target, target)}"
        share = "" if self.fraction == 1 else f"{percent(self.fraction)} of "
        return f"{self.label} on {share}{sources}{adapted}, seed {self.seed}"

    @property
    def slug(self) -> str:
        """What files about this run are called that lie beside those of all others."""
        return f"{self.suite}-{self.method}-{'+'.join(self.sources)}-s{self.seed}-{self.key}"

    def path(self, runs: Path) -> Path:
        return runs / self.suite / self.method / f"{'+'.join(self.sources)}-s{self.seed}-{self.key}.json"

    def model_path(self, runs: Path) -> Path:
        """Where the fitted method is kept, if it is."""
        return self.path(runs).with_suffix(".safetensors")

    def unfinished_path(self, runs: Path) -> Path:
        """Where a training is saved before it has ended."""
        return runs.parent / "unfinished" / f"{self.key}.pt"

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Run:
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in content.items() if name in known}
        values["sources"] = tuple(values["sources"])
        values["parameters"] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values["parameters"].items()
        }
        values["defaults"] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.get("defaults", {}).items()
        }
        return cls(**values)


def _without_path(value: Any) -> Any:
    if value is None:
        return None
    return "file" if is_path(value) else value.partition("/")[0]


def shown_value(value: Any, digest: str) -> Any:
    """Return a network or a file as tables name it: what comes from a file with its digest, because a path differs
    between machines.
    """
    if is_path(str(value)):
        return f"{PureWindowsPath(value).name}@{digest[:6]}"
    base, _, weights = str(value).partition("/")
    return f"{base}@{digest[:6]}" if weights.startswith("/") else value


def percent(fraction: float) -> str:
    """0.125 → 12.5%: two shares never have one name."""
    return f"{100 * fraction:.10g}%"


def digest_of(ids: Iterable[str]) -> str:
    """Names the faces of a target that are not scored; "" where all are."""
    text = "\n".join(sorted(ids))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


class Shift(NamedTuple):
    """What a fitted method is asked about a target's faces beyond what they are: see `shift.py`."""

    target: str
    factor: str
    level: float
    faces: int  # evenly spread over the target
    version: int  # of what the factor does


@dataclass(frozen=True)
class Job:
    """A run's spec, and the circumstances it runs under, which are no part of its identity."""

    spec: Run
    method_file: str
    class_name: str
    method_digest: str
    folders: Mapping[str, str]  # prepared folder of every domain
    cache: str
    runs: str
    device: str
    threads: int
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)  # target → ids of faces that are not scored
    keep_model: bool = False  # beside the record, so that it can be asked about other faces later
    save_every: float = 60.0  # seconds of training after which it is saved, so that a killed run can go on from there
    replaces: str | None = None  # when the record was begun that stood in this run's place when it was planned
    rerun: bool = False  # that record is made anew although nothing is missing in it

    shifts: Sequence[Shift] = ()  # what is scored beyond the targets as they are
    restore: bool = False  # the record has all but the shifts: the kept method is asked, nothing is trained
    capture_steps: bool = True  # as a CUDA graph, on a GPU, where the method allows it
    profile: bool = False  # its time is told by phases, and some of its steps are traced

    @property
    def profile_path(self) -> Path:
        """Where its traces and their summary go, without a suffix."""
        return Path(self.runs).parent / "profiles" / self.spec.slug

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Job:
        shifts = tuple(Shift(*entry) for entry in content["shifts"])
        return cls(**{**content, "spec": Run.from_json(content["spec"]), "shifts": shifts})
