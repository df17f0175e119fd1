"""The keys of bench.toml: this lab's circumstances."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from fergen_bench.domain import EXPRESSIONS
from fergen_bench.untrusted import printable

Folder = Annotated[Path, BeforeValidator(lambda value: Path(value) if isinstance(value, str) else value)]
LabelRule = Literal["majority", "probability", "multi-target", "argmax8", "argmax10"]


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError("takes auto, cpu, cuda, or one of several such as cuda:1")
    return name


Device = Annotated[str, AfterValidator(_device)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class DomainSettings(_Table):
    """[domains.NAME]: a dataset as it lies on the disk, or a folder that is prepared already."""

    path: Folder
    """where it is; relative to bench.toml"""
    dataset: str | None = None
    """what it is: rafdb, ferplus, …, or folder, csv or list; by default the dataset of the table's name, else folder"""
    layout: str | None = None
    """which of the dataset's layouts it has; found by itself where only one fits"""
    labels: dict[str, str] = {}
    """native labels that are no usual alias → one of the seven expressions, or "" to leave them out"""
    numbering: str | None = None
    """what labels mean that are numbers: 0-based or 1-based, for the dataset's own order; or a known order such as
    affectnet-0-based; by default the dataset's own numbers
    """
    columns: dict[str, str] = {}
    """for csv: which column holds the image, label, split, subject, left, top, width, height, right or bottom; for
    lists of more than two columns: the number of the label's, where the path is column 1
    """
    images: Folder | None = None
    """for csv and list: where the paths in the file begin; relative to bench.toml; by default the folder of the file.
    Absolute paths must lie in it; "/" allows all
    """
    follow_links: bool = False
    """reads through links that lead out of path or images, instead of refusing them"""
    label_rule: LabelRule = "majority"
    """for ferplus: how ten votes become a label"""
    label_source: Literal["fer2013new", "label.csv"] | None = None
    """for ferplus: which of the two official files of votes; by default fer2013new where it is there"""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """where a box marks the face: how much of its side is added on each side"""
    emulate_bgr: bool = False
    """reverses the colour channels, as published code did for some targets"""
    white: Annotated[float, Field(gt=0, le=65535)] | None = None
    """the level that means white in images of more than 8 bits, such as 4095; by default decided over all of them"""
    allow_missing: bool = False
    """leaves out listed files that are missing or cannot be read, instead of refusing"""
    size: Annotated[int, Field(ge=16, le=1024)] | None = None
    """side in pixels that faces are resized to; by default they keep their size where all share one of at most 224,
    else 224
    """
    subject: str | None = None
    """regular expression with one group that finds the subject in a file's name, for splits that share no person"""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """share of each expression that becomes the test split where there are no folders train and test"""
    split_seed: int = 0
    """seed of that split"""

    @field_validator("subject")
    @classmethod
    def _pattern(cls, subject: str | None) -> str | None:
        try:
            if subject is not None and re.compile(subject).groups != 1:
                raise ValueError("the pattern needs exactly one (group)")
        except re.error as error:
            raise ValueError(f"this is no regular expression: {error}") from None
        return subject

    @field_validator("labels")
    @classmethod
    def _expressions(cls, labels: dict[str, str]) -> dict[str, str]:
        for folder, name in labels.items():
            if name and name not in EXPRESSIONS:
                raise ValueError(f"{folder} is mapped to {name!r}, which is not one of {', '.join(EXPRESSIONS)}")
        return {printable(folder): name for folder, name in labels.items()}


class SuiteSettings(_Table):
    """[suites.NAME]: which domains are compared, and with what networks by default."""

    domains: Annotated[list[str], Field(min_length=1)]
    """names of domains, in the order of the tables"""
    backbone: str = "open_clip:ViT-B-32-quickgelu/openai"
    """the image encoder that `suite` means in a method's parameters"""
    trunk: str = "timm:resnet18.tv_in1k"
    """the network that `suite` means where a method trains one"""
    recipe: Literal["default", "small"] = "default"
    """which of its recipes a method uses: default (as published) or small (64-pixel networks, for synth and
    synth-trunk)
    """
    profile: str = "official"
    """which images of a target are scored: official, or another that its dataset knows, such as cafe"""
    overlaps: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    """pairs of domains that share images: such targets count as seen"""
    about: str = ""

    @field_validator("domains")
    @classmethod
    def _each_once(cls, domains: list[str]) -> list[str]:
        if twice := next((name for name in domains if domains.count(name) > 1), None):
            raise ValueError(f"names {twice} twice; name each domain once")
        return domains

    @model_validator(mode="after")
    def _overlaps_of_domains(self) -> Self:
        for name in (name for pair in self.overlaps for name in pair):
            if name not in self.domains:
                raise ValueError(f"overlaps names {name}, which is none of its domains")
        return self


class TrackingSettings(_Table):
    """[tracking]: where results are mirrored."""

    uri: str | None = None
    """an MLflow tracking address; by default sqlite in the results folder, or MLFLOW_TRACKING_URI"""
    experiment: str = "fergen-bench"
    models: bool = False
    """whether what `run --keep-models` kept is mirrored too, as an artifact"""


class Settings(_Table):
    """The top of bench.toml."""

    suite: str = "synth5"
    """the suite that `run` and `report` mean when none is named"""
    results: Folder = Path("results")
    """where records, reports and the MLflow database go"""
    cache: Folder = Path("results/cache")
    """where prepared domains and features go"""
    device: Device = "auto"
    """auto, cpu, cuda or cuda:1"""
    jobs: Annotated[int, Field(ge=0)] | None = None
    """runs at a time; by default one per core without a GPU, one with; 0 stays in one process"""
    save_every: Annotated[float, Field(ge=0)] = 60.0
    """seconds of training after which a run is saved; killed, it goes on from there"""
    record_steps: bool = True
    """whether a GPU repeats recorded steps (CUDA graphs) where a method allows it; false is slower"""
    audit: bool = True
    """compares domains for near-duplicates before runs on them, where that takes under a minute"""
    seen_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """share of a target's scored faces with a near-duplicate in the source from which the target counts as seen"""
    tracking: TrackingSettings = TrackingSettings()
    domains: dict[str, DomainSettings] = {}
    suites: dict[str, SuiteSettings] = {}


def known_keys() -> dict[str, Iterable[str]]:
    """The keys of every table, for "did you mean"."""
    tables: dict[str, type[_Table]] = {
        "": Settings,
        "tracking": TrackingSettings,
        "domains.*": DomainSettings,
        "suites.*": SuiteSettings,
    }
    return {place: tuple(model.model_fields) for place, model in tables.items()}
