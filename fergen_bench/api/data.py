"""Prepare datasets, check copies of them, and compare domains for near-duplicates."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.api.display import Display, display
from fergen_bench.api.run import open_project
from fergen_bench.error import BenchError, NeedsKey, did_you_mean

if TYPE_CHECKING:
    from fergen_bench.datasets.audit import Audit
    from fergen_bench.datasets.check import Check
    from fergen_bench.experiment.project import Project


def prepare(
    dataset: str,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    to: str | os.PathLike[str] | None = None,
    project: Project | str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> Path:
    """Read a dataset once and store it in the form that runs use.

    Args:
        dataset: rafdb, ferplus, affectnet, sfew, mma, mma-expw, fer2013, expw, ckplus, jaffe, kdef or caer-s; or
            folder, csv or list for images of your own.
        path: The dataset as its owner distributes it, or a file of it.
        name: The name of the domain. Default: that of the dataset.
        to: The folder to write. Default: data/NAME in the project.
        project: The project, or a folder in it. Default: that of the working directory.
        progress: Show bars in a terminal and in a notebook.
        **settings: Keys of `[domains.NAME]` in bench.toml, such as `labels={"joy": "happiness"}`, `size=100` or
            `label_rule="argmax8"`.

    Returns:
        The prepared folder.

    Raises:
        BenchError: The dataset fits no known layout, or a setting is at fault.
    """
    with display(progress) as shown:
        where = None if to is None else Path(to)
        return prepare_domain(open_project(project), dataset, Path(path), name, where, settings, shown)


def prepare_domain(
    project: Project,
    dataset: str,
    path: Path,
    name: str | None,
    to: Path | None,
    given: Mapping[str, Any],
    shown: Display,
) -> Path:
    """Prepare a domain of a project; see `prepare`."""
    from functools import partial

    from pydantic import ValidationError

    from fergen_bench import datasets, synth
    from fergen_bench.data.prepared import is_prepared, read_about
    from fergen_bench.datasets.prepare import prepare_dataset
    from fergen_bench.datasets.settings import DomainSettings
    from fergen_bench.experiment.method_file import valid_name
    from fergen_bench.experiment.project import available_cores

    kind = datasets.dataset(dataset, "data prepare")
    if name is None and dataset in datasets.GENERIC:
        raise BenchError(f"data prepare {dataset}: the domain has no name; give one with --name")
    name = name or dataset
    if not valid_name(name):
        raise BenchError(f"--name: {name!r} cannot be a name; use letters, digits, - and _, and begin with a letter")
    if name in synth.DOMAINS:
        raise BenchError(f"--name: {name!r} is a domain that comes with the package; choose another")
    try:
        settings = DomainSettings(**{**given, "path": path, "dataset": dataset})
    except ValidationError as error:
        fault = error.errors()[0]
        option = str(fault["loc"][0]).replace("_", "-")
        raise BenchError(f"--{option}: {fault['msg'].removeprefix('Value error, ')}") from None
    folder = to or project.data / name
    if name in datasets.NAMES and name != dataset:
        raise BenchError(f"--name: {name} is the name of another dataset, and wild5 would take this for it")
    if is_prepared(folder) and (there := read_about(folder).get("dataset", dataset)) != dataset:
        raise BenchError(f"{folder}: contains {there}. Remove it, or choose another place with --to or --name.")
    try:
        reading = partial(shown.preparation, f"preparing {name}")
        prepare_dataset(name, kind, settings, folder, available_cores(), reading)
    except NeedsKey as error:
        raise BenchError(error.on_command_line) from None
    return folder


def check(project: Project, names: Sequence[str], suite: str | None, quick: bool, shown: Display) -> list[Check]:
    """Check copies of datasets against what their owners distribute.

    Args:
        project: The project.
        names: The domains. Default: those of the suite, else all with a table in bench.toml or prepared in data/.
        suite: The suite.
        quick: Read labels and names alone, and open no image.
        shown: Shows the progress.
    """
    from functools import partial

    from fergen_bench import datasets
    from fergen_bench.data.prepared import is_prepared
    from fergen_bench.datasets.check import check_copy, check_prepared
    from fergen_bench.experiment.project import available_cores

    known = {name: project.root / table.path.expanduser() for name, table in project.settings.domains.items()}
    if project.data.is_dir():
        there = (place for place in sorted(project.data.iterdir()) if place.name[0] != "." and is_prepared(place))
        known |= {place.name: place for place in there if place.name not in known}
    wanted = names or (project.suite(suite).domains if suite else tuple(known))
    if not wanted:
        raise BenchError(
            f"{project.root / 'bench.toml'}: no table [domains.NAME], and data/ contains no prepared domain. Prepare "
            f"one with: fergen-bench data prepare"
        )
    checks = []
    for name in wanted:
        if name not in known:
            step = "" if known else " Prepare it with: fergen-bench data prepare"
            raise BenchError(f"{project.root / 'bench.toml'}: no domain {name!r}{did_you_mean(name, known)}{step}")
        kind = datasets.dataset(project.dataset_of(name), name)
        reading = partial(shown.preparation, f"checking {name}")
        if is_prepared(known[name]):
            checks.append(check_prepared(name, kind, known[name], reading, not quick))
        else:
            settings = project.domain_settings(name)
            checks.append(check_copy(name, kind, settings, available_cores(), reading, not quick))
    return checks


def audit(
    project: Project, suite: str | None, names: Sequence[str] | None, backbone: str | None, limit: float, shown: Display
) -> Audit:
    """Find near-duplicates within and between the domains of a suite.

    Args:
        project: The project.
        suite: The suite. Default: that of bench.toml.
        names: Only these domains of it.
        backbone: A frozen encoder whose features decide on pairs that pixels find alike.
        limit: The least cosine of features of near-duplicates.
        shown: Shows the progress.
    """
    from fergen_bench.data.domain import Domain
    from fergen_bench.datasets.audit import audit_domains
    from fergen_bench.datasets.comparisons import Comparisons
    from fergen_bench.experiment.project import available_cores
    from fergen_bench.networks import hub
    from fergen_bench.networks.name import resolve_network

    meant = project.suite(suite or project.settings.suite)
    for name in names or ():
        if name not in meant.domains:
            raise BenchError(f"--domains: no domain {name!r} in {meant.name}{did_you_mean(name, meant.domains)}")
    encoder = None if backbone is None else resolve_network(backbone, "Backbone", meant, "--backbone")
    if encoder is not None:
        hub.refuse_wrong_activation([encoder])
        for note in hub.require([("--backbone ", encoder)]):
            shown.note(note)
    folders = project.prepared(meant, names or meant.domains, shown.preparation)
    opened = [Domain(folder, name) for name, folder in folders.items()]
    refinement = None
    if encoder is not None:
        from fergen_bench.execution.fleet import resolve_device
        from fergen_bench.execution.similarity import feature_similarity

        device = resolve_device(project.settings.device)
        refinement = feature_similarity(encoder, limit, project.cache, shown.preparation, device)
    return audit_domains(
        meant.name,
        opened,
        project.audit_folder(meant),
        Comparisons(project.comparisons),
        project.sketches,
        available_cores(),
        shown.preparation,
        refinement,
    )


def prepared_folder(project: Project, name: str, suite: str, shown: Display) -> Path:
    """Return the prepared folder of a domain, preparing it first where needed.

    Args:
        project: The project.
        name: A domain, or a prepared folder.
        suite: The embedded suite that decides the size of rendered domains.
        shown: Shows the progress.
    """
    from fergen_bench import synth
    from fergen_bench.data.prepared import is_prepared
    from fergen_bench.data.suite import Suite

    places = (Path(name), *(() if name in project.settings.domains else (project.data / name,)))
    there = next((place for place in places if is_prepared(place)), None)
    if there is not None:
        return there
    known = [*synth.DOMAINS, *project.settings.domains]
    if name not in known:
        known += project.prepared_here()
        raise BenchError(f"no domain {name!r}, and no prepared folder of that name{did_you_mean(name, known)}")
    meant = Suite("", (name,), backbone="", trunk="")
    if name in synth.DOMAINS:
        if suite not in synth.SUITES:
            raise BenchError(f"--suite: {name} is a domain of {', '.join(synth.SUITES)}, not of {suite}")
        meant = synth.SUITES[suite]
    return project.prepared(meant, [name], shown.preparation)[name]


def draw(project: Project, folder: Path, sheet: Path | None) -> list[Path]:
    """Draw contact sheets and the class histogram of a prepared domain, and return their paths.

    Args:
        project: The project; pictures go to results/data.
        folder: The prepared folder.
        sheet: A path for the contact sheet of the test split, in which case nothing else is drawn.
    """
    from fergen_bench.data.prepared import read_about
    from fergen_bench.datasets.sheet import contact_sheet, contact_sheets
    from fergen_bench.report import figures

    if sheet is not None:
        contact_sheet(folder, sheet)
        return [sheet]
    place, about = project.results / "data", read_about(folder)
    pictures = contact_sheets(folder, place / f"{about['name']}.png")
    return [*pictures, figures.save(figures.class_histogram(about), place, f"{about['name']}-classes")]


@dataclass(frozen=True)
class NextSteps:
    """The steps after preparing a domain: suites that contain it, or lines for bench.toml."""

    suites: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    path: Path | None = None  # what the domain's table in bench.toml would have to name, where it names other data


SUGGESTED = 5
"""The most domains of a suggested suite."""


def next_steps(project: Project, name: str, folder: Path) -> NextSteps:
    """Return what bench.toml lacks before a prepared domain belongs to a suite."""
    from fergen_bench import datasets

    inside = folder.relative_to(project.root) if folder.is_relative_to(project.root) else folder
    table, lines = project.settings.domains.get(name), list[str]()
    if table is not None and (project.root / table.path.expanduser()).resolve() != folder.resolve():
        return NextSteps(path=inside)
    if table is None and folder != project.data / name:
        lines += ["", f"[domains.{name}]", f'path = "{inside}"']
    suites = [suite for suite, of in project.settings.suites.items() if name in of.domains]
    suites += [suite.name for suite in datasets.SUITES.values() if name in suite.domains]
    if not suites:
        lines += _suite_lines(project, name)
    return NextSteps(tuple(suites), tuple(lines))


def _suite_lines(project: Project, name: str) -> list[str]:
    """Return a table of bench.toml for a suite of a domain and a few others.

    The suite has at most one domain per dataset, and datasets of the literature come first. Of several domains of a
    dataset, it has the one just prepared, or else the one with the most expressions and faces; a comment lists the
    others.
    """
    from fergen_bench import datasets
    from fergen_bench.wording import listed

    known = dict.fromkeys((*project.settings.domains, *project.prepared_here()))
    kinds = {domain: project.dataset_of(domain) for domain in (name, *known)}
    groups: dict[str, list[str]] = {}  # dataset, or the domain where it is the user's own → domains
    for domain in sorted(kinds, key=lambda domain: (domain != name, domain not in datasets.WILD5)):
        groups.setdefault(domain if kinds[domain] in datasets.GENERIC else kinds[domain], []).append(domain)
    chosen = {
        name if name in group else max(group, key=project.extent_of): group for group in [*groups.values()][:SUGGESTED]
    }
    domains = ", ".join(f'"{domain}"' for domain in chosen)
    others = [
        f"# {domain} is one of {len(group)} domains of {kinds[domain]}; it can be replaced by "
        f"{listed([other for other in group if other != domain])}"
        for domain, group in chosen.items()
        if len(group) > 1
    ]
    suite, number = "mine", 1
    while suite in project.settings.suites:
        number += 1
        suite = f"mine{number}"
    return [
        "",
        f"[suites.{suite}]",
        *others,
        f"domains = [{domains}]",
        f"# fergen-bench run --suite {suite} --method linear_probe",
    ]
