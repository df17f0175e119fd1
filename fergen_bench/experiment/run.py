"""Identify a run, and describe the circumstances under which it executes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any, Literal, NamedTuple

from fergen_bench.data.prepared import scored_part
from fergen_bench.files.bounded import is_path

Selection = Literal["last", "source-val"]
"""The ways to select a checkpoint."""
Precision = Literal["fp32", "bf16"]
View = Literal["plain", "mirror"]

PLAIN: tuple[View, ...] = ("plain",)
"""The usual views of a scored image: the image itself."""

EXTERNAL = "external:"
"""Beginning of the method of records of finished models and predictions."""


@dataclass(frozen=True)
class Exposure:
    """The datasets that a finished model has seen, as its user states them.

    Attributes:
        trained_on: Datasets or domains with whose labels it was trained; None if unknown.
        pretrained_on: Datasets or domains that its pre-training used; None if unknown.
    """

    trained_on: tuple[str, ...] | None = None
    pretrained_on: tuple[str, ...] | None = None

    def __str__(self) -> str:
        """Return the datasets in words, such as "trained on rafdb; pre-training unknown"."""
        named = [
            "unknown" if names is None else ", ".join(names) or "nothing"
            for names in (self.trained_on, self.pretrained_on)
        ]
        if self.trained_on is None and self.pretrained_on is None:
            return "training data unknown"
        return f"trained on {named[0]}; pre-trained on {named[1]}"


@dataclass(frozen=True)
class Run:
    """One training on one set of sources with one seed, and the targets that it is scored on.

    A run that has just been planned has empty fingerprints; see `with_fingerprints`.

    Attributes:
        suite: Name of the suite.
        profile: The split profile: which images of a target are scored.
        sources: Domains to train on, sorted by name.
        fingerprints: Fingerprint of every domain that is learned from: the sources, and the adaptation target.
        method: Name of the method.
        version: Version of the method.
        parameters: All parameters of the method, with defaults, and with networks resolved.
        weights: Digest of what each parameter that names a network or a file refers to.
        seed: The seed.
        selection: The checkpoint that is scored; unknown for a finished model.
        fraction: Share of each source's train split.
        adaptation_target: The target whose unlabelled training images are learned from.
        numerics: Version of the numerics that methods share. A plan sets the present `NUMERICS`; the default is that of
            records that were written without this field.
        precision: `fp32`, or `bf16`: training steps in bfloat16, and frozen networks in bfloat16 too, on a GPU in fp16.
            Records with numerics 1 have fp32 by default, although those of a GPU were computed as bf16 is now.
        views: Views of a scored image whose logits are averaged.
        prior: Share of the source's log class frequencies that scoring takes out of the logits.
        base: The run whose fitted method an online method starts from; its identity replaces the parameter `base`.
        targets: Fingerprint of every target. Not part of the key, like all attributes that follow.
        relations: Relation of every target to the sources: source, seen or unseen.
        excluded: Digest of the ids of the images that are not scored, by target.
        defaults: Default parameters of the method, for the name in tables.
        synthetic: True for rendered faces.
        protocol: Name of the protocol that planned the run first.
        note: Sentence that every table shows below the method.
        online: True for a method that learns from the unlabelled test images of a target while it predicts them.
        exposure: The datasets that a finished model has seen; None for a run of a method. A finished model has no
            sources, and its parameters are its file and its convention.
    """

    suite: str
    profile: str
    sources: tuple[str, ...]
    fingerprints: Mapping[str, str]
    method: str
    version: int
    parameters: Mapping[str, Any]
    weights: Mapping[str, str]
    seed: int
    selection: Selection | Literal["unknown"]
    fraction: float = 1.0
    adaptation_target: str | None = None
    numerics: int = 1
    precision: Precision = "fp32"
    views: tuple[View, ...] = PLAIN
    prior: float = 0.0
    base: Run | None = None
    targets: Mapping[str, str] = field(default_factory=dict)
    relations: Mapping[str, str] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)
    synthetic: bool = False
    protocol: str = ""
    note: str = ""
    online: bool = False
    exposure: Exposure | None = None

    def with_fingerprints(self, fingerprints: Mapping[str, str]) -> Run:
        """Return the run with the fingerprints of its prepared domains.

        Args:
            fingerprints: Fingerprint of every domain, by name.
        """
        return replace(
            self,
            fingerprints={name: fingerprints[name] for name in self.fingerprints},
            targets={name: fingerprints[name] for name in self.targets},
            base=None if self.base is None else self.base.with_fingerprints(fingerprints),
        )

    def without_folders(self) -> Run:
        """Return the run without the folders of its files of weights, which others need not know. Its key stays."""
        return self.with_weights_in("")

    def with_weights_in(self, folder: str) -> Run:
        """Return the run with its files of weights, and those of its base, in another folder. Its key stays."""
        parameters, defaults = (
            {name: _in_folder(value, folder) if name in self.weights else value for name, value in values.items()}
            for values in (self.parameters, self.defaults)
        )
        base = None if self.base is None else self.base.with_weights_in(folder)
        return replace(self, parameters=parameters, defaults=defaults, base=base)

    @property
    def weight_files(self) -> list[Path]:
        """The files of weights that the run and its base read."""
        own = (_file_in(self.parameters[name]) for name in self.weights if name in self.parameters)
        return [*map(Path, filter(None, own)), *([] if self.base is None else self.base.weight_files)]

    def identity(self) -> dict[str, Any]:
        """Return what changes the numbers: the digest of a file counts, its path does not.

        Numerics 1, precision fp32, plain views, prior 0 and the lack of a base are left out, so that records that were
        written without them keep their keys.
        """
        parameters = {
            name: _without_path(value) if name in self.weights else value for name, value in self.parameters.items()
        }
        if self.base is not None:
            parameters["base"] = self.base.identity()
        numerics = {} if self.numerics == 1 else {"numerics": self.numerics}
        return {
            **numerics,
            **self._conditions,
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

    def shared_identity(self) -> list[Any]:
        """Return what all runs of a row in the tables share: version, numerics, parameters and weights."""
        identity = self.identity()
        parameters = identity["parameters"]
        if self.base is not None:
            parameters = {**parameters, "base": self.base.shared_identity()}
        return [identity["version"], self.numerics, parameters, identity["weights"]]

    def learns_from(self, target: str) -> bool:
        """Return True where training images of a target are or were used, with labels or without."""
        seen = self.exposure.trained_on or () if self.exposure is not None else ()
        return target in self.sources or target == self.adaptation_target or target in seen

    def scored_part(self, target: str, about: Mapping[str, Any]) -> str:
        """Return the part of a target that is scored: test, or the part that the split profile names.

        Args:
            target: A domain.
            about: The content of its domain.json.
        """
        return scored_part(about, self.profile, self.learns_from(target))

    @cached_property
    def key(self) -> str:
        """The first 12 digits of the SHA-256 of the run's identity."""
        text = json.dumps(self.identity(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def changes(self) -> dict[str, Any]:
        """The parameters that differ from the method's defaults on this suite."""
        shown = {} if self.base is None else {"base": self.base.label}
        return {
            name: shown_value(value, self.weights[name]) if name in self.weights else shown.get(name, value)
            for name, value in self.parameters.items()
            if name not in self.defaults or self.defaults[name] != value
        }

    @cached_property
    def label(self) -> str:
        """The name of the method in tables: cafe, or cafe (gate=linear)."""
        changed = ", ".join(f"{name}={value}" for name, value in (self.changes | self._conditions).items())
        return f"{self.method} ({changed})" if changed else self.method

    @property
    def _conditions(self) -> dict[str, str | float]:
        """The precision and the options of scoring, where they are not the usual ones."""
        conditions: dict[str, str | float] = {} if self.precision == "fp32" else {"precision": self.precision}
        if self.views != PLAIN:
            conditions["views"] = "+".join(self.views)
        return {**conditions, "prior": self.prior} if self.prior else conditions

    @property
    def trained(self) -> Run:
        """The run with the usual options of scoring, which has the same training."""
        return replace(self, views=PLAIN, prior=0.0)

    @property
    def seed_name(self) -> str:
        """The name that seeds the run's random streams, together with its seed."""
        return f"{self.suite} {'+'.join(self.sources)} {self.method}"

    @property
    def title(self) -> str:
        """The name of the run in messages."""
        return self.called({})

    def called(self, shown: Mapping[str, str]) -> str:
        """Return the name of the run in messages.

        Args:
            shown: Name that a protocol gives to a domain, by the suite's name.
        """
        if self.exposure is not None:
            return f"{self.label} on {self.suite}"
        sources = "+".join(shown.get(name, name) for name in self.sources)
        target = self.adaptation_target
        adapted = "" if target is None else f" adapted to {shown.get(target, target)}"
        share = "" if self.fraction == 1 else f"{percent(self.fraction)} of "
        return f"{self.label} on {share}{sources}{adapted}, seed {self.seed}"

    @property
    def _folder(self) -> str:
        """The method as part of a file name; Windows does not accept the colon of a finished model."""
        return self.method.replace(":", "@")

    @property
    def slug(self) -> str:
        """The stem of files about this run in folders that all runs share."""
        return f"{self.suite}-{self._folder}-{self._short_sources}-s{self.seed}-{self.key}"

    def path(self, runs: Path) -> Path:
        """Return the path of the record in a folder of records."""
        return runs / self.suite / self._folder / f"{self._short_sources}-s{self.seed}-{self.key}.json"

    @property
    def _short_sources(self) -> str:
        """The sources as part of a file name; many long names would exceed what file systems take."""
        sources = "+".join(self.sources) or "finished"
        return sources if len(sources.encode()) <= 150 else f"{len(self.sources)}-sources"

    def model_path(self, runs: Path) -> Path:
        """Return the path of the checkpoint, beside the record."""
        return self.path(runs).with_suffix(".safetensors")

    def unfinished_path(self, runs: Path) -> Path:
        """Return the path of the resume state of a training that has not ended."""
        return runs.parent / "unfinished" / f"{self.key}.pt"

    def to_json(self) -> dict[str, Any]:
        """Return the content of the object as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Run:
        """Return a run from the content of `to_json`; unknown keys are ignored."""
        known = {f.name for f in fields(cls)}
        values = {name: value for name, value in content.items() if name in known}
        values["sources"] = tuple(values["sources"])
        values["views"] = tuple(values.get("views", PLAIN))
        if isinstance(base := values.get("base"), Mapping):
            values["base"] = cls.from_json(base)
        if isinstance(seen := values.get("exposure"), Mapping):
            trained = {name: None if names is None else tuple(names) for name, names in seen.items()}
            values["exposure"] = Exposure(trained["trained_on"], trained["pretrained_on"])
        return cls(**values).with_tuples()

    def with_tuples(self) -> Run:
        """Return the run with tuples in place of the lists among its parameters, which JSON has for both."""
        return replace(
            self,
            parameters=_with_tuples(self.parameters),
            defaults=_with_tuples(self.defaults),
            base=None if self.base is None else self.base.with_tuples(),
        )


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}


def _without_path(value: Any) -> Any:
    """Return a network or a file without its path, for the key."""
    if value is None:
        return None
    return "file" if is_path(value) else value.partition("/")[0]


def _in_folder(value: Any, folder: str) -> Any:
    """Return a network or a file with its path in another folder, such as timm:resnet18//w.pth and /w.pth for ""."""
    path = _file_in(value)
    return f"{value.removesuffix(path)}{folder}/{PureWindowsPath(path).name}" if path else value


def _file_in(value: Any) -> str:
    """Return the path in the name of a network with a file of weights, or of a file; "" for other values."""
    text = str(value)
    return next((path for path in (text, text.partition("/")[2]) if is_path(path)), "")


def shown_value(value: Any, digest: str) -> Any:
    """Return a network or a file as tables show it.

    A file has its digest in place of its path, because a path differs between machines.

    Args:
        value: Name of a network, or path of a file.
        digest: Digest of the weights or of the file.
    """
    if is_path(str(value)):
        return f"{PureWindowsPath(value).name}@{digest[:6]}"
    base, _, weights = str(value).partition("/")
    return f"{base}@{digest[:6]}" if weights.startswith("/") else value


def percent(fraction: float) -> str:
    """Return a share in percent with all its digits, such as 12.5%, so that no two shares have one name."""
    return f"{100 * fraction:.10g}%"


def digest_of(ids: Iterable[str]) -> str:
    """Return the digest of the ids of the images that are not scored; "" where all are."""
    text = "\n".join(sorted(ids))
    return hashlib.sha256(text.encode()).hexdigest()[:12] if text else ""


class Corruption(NamedTuple):
    """A corruption applied to the test images of a target, or a factor with which they are rendered again."""

    target: str
    factor: str  # a key of `fergen_bench.data.corruption.FACTORS`
    level: float
    faces: int  # images, evenly spread over the target
    version: int  # of the code that changes the images


class MethodCode(NamedTuple):
    """The file of a method, its class there, and the SHA-256 of the file."""

    path: str
    class_name: str
    digest: str = ""


@dataclass(frozen=True)
class Job:
    """A run and the circumstances under which it executes, which are not part of its identity.

    Attributes:
        spec: The run.
        method_file: Path of the method file.
        class_name: Name of the method's class.
        method_digest: SHA-256 of the method file.
        folders: Prepared folder of every domain.
        cache: Folder of stored features.
        runs: Folder of the records.
        device: Device: cpu, cuda or cuda:1.
        threads: CPU threads.
        excluded: Ids of the images that are not scored, by target.
        keep_model: Save the fitted method beside the record.
        save_every: Seconds between two savings of the resume state.
        replaces: Start time of the record that existed when the run was planned; None where there was none.
        rerun: Execute the run even if its record is complete.
        corruptions: Corruptions to evaluate, in addition to the unchanged targets.
        restore: Train nothing: load the checkpoint and compute the missing corruption scores.
        capture_steps: Capture training steps as a CUDA graph, on a GPU, where the method allows it.
        profile: Measure the phases of the run and trace some of its steps.
        base: The code of the method of `spec.base`; None without a base.
    """

    spec: Run
    method_file: str
    class_name: str
    method_digest: str
    folders: Mapping[str, str]
    cache: str
    runs: str
    device: str
    threads: int
    excluded: Mapping[str, Sequence[str]] = field(default_factory=dict)
    keep_model: bool = False
    save_every: float = 60.0
    replaces: str | None = None
    rerun: bool = False
    corruptions: Sequence[Corruption] = ()
    restore: bool = False
    capture_steps: bool = True
    profile: bool = False
    base: MethodCode | None = None

    @property
    def profile_path(self) -> Path:
        """Path of the profile's traces and summary, without a suffix."""
        return Path(self.runs).parent / "profiles" / self.spec.slug

    def to_json(self) -> dict[str, Any]:
        """Return the job as JSON holds it."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Job:
        """Return a job from the content of `to_json`."""
        corruptions = tuple(Corruption(*entry) for entry in content["corruptions"])
        base = None if content.get("base") is None else MethodCode(*content["base"])
        return cls(**{**content, "spec": Run.from_json(content["spec"]), "corruptions": corruptions, "base": base})
