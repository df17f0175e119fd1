"""Define the keys of bench.toml, which describe the circumstances of a lab."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from fergen_bench.datasets import NAMED
from fergen_bench.datasets.settings import DomainSettings, Folder, Table


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError("takes auto, cpu, cuda, or one of several such as cuda:1")
    return name


Device = Annotated[str, AfterValidator(_device)]


class SuiteSettings(Table):
    """[suites.NAME]: the domains of a suite, and its default networks."""

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
    overlaps: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field([])
    """pairs of domains, or of a domain and a known dataset, that share images: such targets count as seen"""
    about: str = ""

    @field_validator("domains")
    @classmethod
    def _each_once(cls, domains: list[str]) -> list[str]:
        if twice := next((name for name in domains if domains.count(name) > 1), None):
            raise ValueError(f"names {twice} twice; name each domain once")
        return domains

    @model_validator(mode="after")
    def _overlaps_of_domains(self) -> Self:
        for pair in self.overlaps:
            for name in pair:
                if name not in self.domains and (name not in NAMED or not set(pair) & set(self.domains)):
                    raise ValueError(f"overlaps names {name}, which is not one of its domains")
        return self


class TrackingSettings(Table):
    """[tracking]: the MLflow server that mirrors results."""

    uri: str | None = None
    """an MLflow tracking address; by default sqlite in the results folder, or MLFLOW_TRACKING_URI"""
    experiment: str = "fergen-bench"
    models: bool = False
    """whether what `run --keep-models` kept is mirrored too, as an artifact"""


class Settings(Table):
    """The top of bench.toml."""

    suite: str = "synth5"
    """the suite that `run` and `report` mean when none is named"""
    results: Folder = Path("results")
    """where records, reports and the MLflow database go"""
    cache: Folder = Path("results/cache")
    """where prepared domains and features go"""
    device: Device = "auto"
    """auto, cpu, cuda or cuda:1"""
    precision: Literal["fp32", "bf16", "auto"] | None = None
    """fp32, bf16, or auto: bf16 on a GPU, and on a CPU that multiplies it natively; by default fp32 on a CPU, bf16 on a
    GPU
    """
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
    pretraining: dict[str, list[str]] = Field({})
    """what files of weights were trained on, by the name of the file or the first digits of its SHA-256: datasets, and
    collections of `pretraining.yaml`
    """
    tracking: TrackingSettings = TrackingSettings()
    domains: dict[str, DomainSettings] = Field({})
    suites: dict[str, SuiteSettings] = Field({})


def known_keys() -> dict[str, Iterable[str]]:
    """Return the keys of every table, for suggestions after a misspelt key."""
    tables: dict[str, type[Table]] = {
        "": Settings,
        "tracking": TrackingSettings,
        "domains.*": DomainSettings,
        "suites.*": SuiteSettings,
    }
    return {place: tuple(model.model_fields) for place, model in tables.items()}
