"""The command `list`. Without an argument it loads neither pydantic, YAML nor rich, which take longer than the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import click

from fergen_bench.cli.console import console_on
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.wording import near

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project


@click.command("list")
@click.argument("what", required=False)
def list_(what: str | None) -> None:
    """List methods, protocols, suites, backbones and domains.

    WHAT: one of these words, to list each with a description; the name of a method, to list its parameters; or the name
    of a protocol, to print its file. Without it, all names are listed.
    """
    from fergen_bench.api.catalogue import BACKBONES
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
                raise BenchError(f"{what} is one of the {kind}; to read about them: fergen-bench list {kind}")
        known = [*kinds, *names["methods"], *names["protocols"]]
        raise BenchError(f"list: nothing is called {what!r}{did_you_mean(what, known)}")


def _list_names(names: Mapping[str, Iterable[str]], kinds: Iterable[str]) -> None:
    """Print names by kind, without rich, which would double the time of the command."""
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    for kind in kinds:
        # Break lines between names only, not at their hyphens.
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
        "\nfergen-bench list methods (protocols, …) describes each; fergen-bench list cafe: parameters", dim=True
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
    from fergen_bench.api import catalogue
    from fergen_bench.experiment.method_file import GROUPS

    entries = catalogue.methods(project)
    width = max(len(entry.name) for entry in entries)
    headings = [*GROUPS, "other methods", "cannot be read"]
    groups: dict[str, list[tuple[str, str, str]]] = {heading: [] for heading in headings}
    for entry in entries:
        heading = headings[-1] if entry.needs is None else entry.group or headings[-2]
        needed = "" if entry.needs in (None, "images", heading) else f" [needs {entry.needs}]"
        about = f"{entry.about}{needed}{' [yours]' if entry.own else ''}"
        groups[heading].append((entry.name.ljust(width), about, entry.paper))
    for place, (heading, rows) in enumerate((heading, rows) for heading, rows in groups.items() if rows):
        console_on().print("" if place == 0 else "\n", end="")
        _print_table(heading[0].upper() + heading[1:], rows)
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
    """Return a type in fewer characters: Literal['adam', 'sgd'] | None is adam | sgd | None."""
    return re.sub(r"Literal\[(.*?)\]", lambda found: " | ".join(re.findall(r"'([^']*)'", found[1])), annotation)


def _list_protocols(project: Project) -> None:
    from fergen_bench.api import catalogue

    _print_table("Protocols", [(entry.name, entry.about) for entry in catalogue.protocols(project)])


def _list_suites(project: Project) -> None:
    from fergen_bench.api import catalogue

    _print_table("Suites", [(entry.name, " ".join(entry.domains), entry.about) for entry in catalogue.suites(project)])


def _list_backbones(project: Project) -> None:
    from fergen_bench.api.catalogue import BACKBONES

    title = "Backbones (for --backbone, and for parameters of the type Backbone or Trunk)"
    _print_table(title, list(BACKBONES.items()))


def _list_domains(project: Project) -> None:
    from fergen_bench.api import catalogue

    _print_table("Domains", [(entry.name, entry.about) for entry in catalogue.domains(project)])
