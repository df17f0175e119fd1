"""`list`: what there is. Names alone are shown without pydantic, YAML and rich, which take longer to load than this."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fergen_bench.cli.console import console_on, near
from fergen_bench.error import BenchError, did_you_mean

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project


@click.command("list")
@click.argument("what", required=False)
def list_(what: str | None) -> None:
    """What there is: methods, protocols, suites, backbones and domains.

    WHAT: one of these, to read what each of them is; or the name of a method, for its parameters, or of a protocol, for
    its file. Without it, names.
    """
    from fergen_bench.experiment.project import find_project

    project = find_project()
    kinds = {
        "methods": _list_methods,
        "protocols": _list_protocols,
        "suites": _list_suites,
        "backbones": _list_backbones,
        "domains": _list_domains,
    }
    if what is None:
        _list_names({**project.names(), "backbones": list(BACKBONES)}, kinds)
    elif what in kinds:
        kinds[what](project)
    elif what in project.methods():
        _list_parameters(project, what)
    elif what in project.protocols():
        path = project.protocols()[what]
        click.secho(near(path), dim=True)
        click.echo(path.read_text(encoding="utf-8").rstrip())
    else:
        names = project.names()
        for kind in ("suites", "domains"):
            if what in names[kind]:
                raise BenchError(f"{what} is one of the {kind}; see what each is with: fergen-bench list {kind}")
        known = [*kinds, *names["methods"], *names["protocols"]]
        raise BenchError(f"there is nothing called {what!r} to list{did_you_mean(what, known)}")


def _list_names(names: Mapping[str, Iterable[str]], kinds: Iterable[str]) -> None:
    """Without rich, which takes as long to load as all of this to show."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    for kind in kinds:
        # A name is not broken at its hyphens, and no line begins or ends with the space between two.
        text = textwrap.fill(
            "  ".join(names[kind]),
            width,
            initial_indent=" " * 11,
            subsequent_indent=" " * 11,
            break_long_words=False,
            break_on_hyphens=False,
        )
        click.echo(click.style(kind, fg="cyan") + text[len(kind) :])
    click.secho(
        "\nfergen-bench list methods (protocols, …): what each is; fergen-bench list cafe: its parameters", dim=True
    )


def _print_table(title: str, rows: Sequence[Sequence[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title, box=None, show_header=False, title_justify="left", title_style="bold", padding=(0, 2, 0, 0)
    )
    for row in rows:
        table.add_row(*(Text(cell, style="cyan" if place == 0 else "") for place, cell in enumerate(row)))
    console_on().print(table)


def _list_methods(project: Project) -> None:
    from fergen_bench.experiment.project import shipped

    rows: dict[str, list[tuple[str, str, str]]] = {}  # by what they need
    for name in sorted(project.methods()):
        try:
            method = project.method(name)
        except BenchError as error:
            rows.setdefault("cannot be read", []).append((name, str(error), ""))
            continue
        own = method.path.parent == project.root / "methods" and method.path.parent != shipped("methods")
        paper = "" if method.paper is None else method.paper.short
        about = f"{method.about}{' [yours]' if own else ''}"
        rows.setdefault(f"need {method.requirements}", []).append((name, about, paper))
    width = max(len(name) for methods in rows.values() for name, _, _ in methods)
    for place, (need, methods) in enumerate(sorted(rows.items(), key=lambda item: -len(item[1]))):
        console_on().print("" if place == 0 else "\n", end="")
        _print_table(f"Methods that {need}", [(name.ljust(width), about, paper) for name, about, paper in methods])
    console_on().print("\nParameters of one: fergen-bench list NAME", style="dim")


def _list_parameters(project: Project, name: str) -> None:
    method = project.method(name)
    recipes = {recipe: method.defaults(recipe) for recipe in method.recipes}
    rows = []
    for parameter in method.parameters:
        default = str(parameter.default)
        for recipe, values in recipes.items():
            if values[parameter.name] != parameter.default:
                default += f" ({recipe}: {values[parameter.name]})"
        rows.append((parameter.name, _readable(parameter.annotation), default, parameter.about))
    _print_table(f"{name}, version {method.version}: {method.about}", rows)
    if (paper := method.paper) is not None:
        console_on().print(f'{paper.authors}, "{paper.title}" ({paper.venue})', style="dim", highlight=False)
    console_on().print(f"needs {method.requirements} · {near(method.path)}", style="dim", highlight=False)


def _readable(annotation: str) -> str:
    """A type as people say it: Literal['adam', 'sgd'] | None → adam | sgd | None."""
    return re.sub(r"Literal\[(.*?)\]", lambda found: " | ".join(re.findall(r"'([^']*)'", found[1])), annotation)


def _list_protocols(project: Project) -> None:
    from fergen_bench.experiment.protocol import read_protocol

    def about(path: Path) -> str:
        try:
            return read_protocol(path).about
        except BenchError as error:
            return f"cannot be read: {error}"

    _print_table("Protocols", [(name, about(path)) for name, path in sorted(project.protocols().items())])


def _list_suites(project: Project) -> None:
    rows = [
        (suite.name, " ".join(suite.domains), suite.about or f"{suite.backbone}, {suite.trunk}")
        for suite in project.suites().values()
    ]
    _print_table("Suites", rows)


BACKBONES = {
    "synth": "the packaged face encoder, 512 features",
    "synth-trunk": "the packaged trunk, pretrained on identity attributes",
    "open_clip:MODEL/TAG": "any open_clip model, such as open_clip:ViT-B-32-quickgelu/openai",
    "timm:MODEL": "any timm model, such as timm:resnet18.tv_in1k",
    "…//path/to/weights": "any of them with weights from a file (.safetensors, .pt)",
    "…/scratch": "any of them with random weights",
}


def _list_backbones(project: Project) -> None:
    _print_table(
        "Backbones (for --backbone, and for parameters of the type Backbone or Trunk)", list(BACKBONES.items())
    )


def _list_domains(project: Project) -> None:
    from fergen_bench import datasets, synth
    from fergen_bench.data.prepared import is_prepared

    tables = project.settings.domains
    own = [(name, f"{project.dataset_of(name)}, {table.path}") for name, table in tables.items()]
    own += [
        (name, f"prepared, data/{name}") for name in project.prepared_here() if name not in (*tables, *datasets.NAMED)
    ]
    rows = [(name, "rendered, in synth5") for name in synth.DOMAINS] + own
    for name in datasets.NAMED:
        if name in project.settings.domains:
            continue
        there = is_prepared(project.data / name)
        rows.append((name, f"prepared, data/{name}" if there else f"fergen-bench data prepare {name} PATH"))
    _print_table("Domains", rows)
