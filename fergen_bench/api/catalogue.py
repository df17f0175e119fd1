"""Lists of the methods, protocols, suites, networks and domains that a project has."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.api.run import open_project
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    import pandas as pd

    from fergen_bench.experiment.project import Project

BACKBONES = {
    "synth": "the packaged face encoder, 512 features",
    "synth-trunk": "the packaged trunk, pretrained on identity attributes",
    "open_clip:MODEL/TAG": "any open_clip model, such as open_clip:ViT-B-32-quickgelu/openai",
    "timm:MODEL": "any timm model, such as timm:resnet18.tv_in1k",
    "…//path/to/weights": "any of them with weights from a file (.safetensors, .pt)",
    "…/scratch": "any of them with random weights",
}
"""The names that --backbone takes, and what each stands for."""


@dataclass(frozen=True)
class MethodEntry:
    """A method of a list."""

    name: str
    about: str  # its first line, or why its file cannot be read
    group: str  # heading of the list, one of method_file.GROUPS; "" for others
    needs: str | None  # None where its file cannot be read
    paper: str  # venue and year; "" without a paper
    path: str
    own: bool  # from the project, not from the package


@dataclass(frozen=True)
class Entry:
    """A protocol, suite or domain of a list."""

    name: str
    about: str


@dataclass(frozen=True)
class SuiteEntry(Entry):
    """A suite of a list."""

    domains: tuple[str, ...]


def methods(project: Project) -> list[MethodEntry]:
    """Return the methods of a project, by name, without loading any."""
    from fergen_bench.experiment.shipped import shipped

    found = []
    for name, path in sorted(project.methods().items()):
        try:
            method = project.method(name)
        except BenchError as error:
            found.append(MethodEntry(name, str(error), "", None, "", str(path), False))
            continue
        own = method.path.parent == project.root / "methods" and method.path.parent != shipped("methods")
        paper = "" if method.paper is None else method.paper.short
        found.append(MethodEntry(name, method.about, method.group, method.requirements, paper, str(method.path), own))
    return found


def protocols(project: Project) -> list[Entry]:
    """Return the protocols of a project, by name."""
    from fergen_bench.experiment.protocol import read_protocol

    found = []
    for name, path in sorted(project.protocols().items()):
        try:
            found.append(Entry(name, read_protocol(path).about))
        except BenchError as error:
            found.append(Entry(name, f"cannot be read: {error}"))
    return found


def suites(project: Project) -> list[SuiteEntry]:
    """Return the suites of a project: the packaged ones first."""
    return [
        SuiteEntry(suite.name, suite.about or f"{suite.backbone}, {suite.trunk}", suite.domains)
        for suite in project.suites().values()
    ]


def domains(project: Project) -> list[Entry]:
    """Return the domains of a project, and for each where it is or how to prepare it."""
    from fergen_bench import datasets, synth
    from fergen_bench.data.prepared import is_prepared

    tables = project.settings.domains
    found = [Entry(name, "rendered, in synth5") for name in synth.DOMAINS]
    found += [Entry(name, f"{project.dataset_of(name)}, {table.path}") for name, table in tables.items()]
    found += [
        Entry(name, f"prepared, data/{name}")
        for name in project.prepared_here()
        if name not in (*tables, *datasets.NAMED)
    ]
    for name in datasets.NAMED:
        if name not in tables:
            there = is_prepared(project.data / name)
            found.append(Entry(name, f"prepared, data/{name}" if there else f"fergen-bench data prepare {name} PATH"))
    return found


def list_methods(project: Project | str | Path | None = None) -> pd.DataFrame:
    """Return the methods of a project: name, about, group, needs, paper, path, own.

    Args:
        project: The project, or a folder in it. Default: that of the working directory.
    """
    return _frame(methods(open_project(project)))


def list_protocols(project: Project | str | Path | None = None) -> pd.DataFrame:
    """Return the protocols of a project: name, about.

    Args:
        project: The project, or a folder in it. Default: that of the working directory.
    """
    return _frame(protocols(open_project(project)))


def list_suites(project: Project | str | Path | None = None) -> pd.DataFrame:
    """Return the suites of a project: name, about, domains.

    Args:
        project: The project, or a folder in it. Default: that of the working directory.
    """
    return _frame(suites(open_project(project)))


def list_domains(project: Project | str | Path | None = None) -> pd.DataFrame:
    """Return the domains of a project: name, about.

    Args:
        project: The project, or a folder in it. Default: that of the working directory.
    """
    return _frame(domains(open_project(project)))


def _frame(entries: list[Any]) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([asdict(entry) for entry in entries])
