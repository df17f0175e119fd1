"""Write a site: a folder of static pages with the leaderboards of all suites, the methods and the documentation."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.api.display import Display
from fergen_bench.api.report import write as write_report
from fergen_bench.api.results import load, records_at
from fergen_bench.error import BenchError
from fergen_bench.wording import many, near

if TYPE_CHECKING:
    from fergen_bench.experiment.method_file import MethodFile
    from fergen_bench.experiment.project import Project
    from fergen_bench.records.collection import Records
    from fergen_bench.report.site import SuitePage

LISTING = ".site"
"""A file in the folder of a site with the names of its files, one per line."""


def site(
    to: str | os.PathLike[str],
    *,
    records: str | os.PathLike[str] = "reference",
    docs: str | os.PathLike[str] | None = None,
    project: Project | str | Path | None = None,
) -> Path:
    """Write a folder of static pages: an index, the leaderboards of each suite with records, and a page per method.

    The pages need no server and load nothing from elsewhere. Files of a site that was written to the folder before are
    replaced; other files are never touched.

    Args:
        to: The folder: a new or an empty one, or the folder of a site.
        records: "reference" for the results committed to the repository, "results" for those of the project; else a
            results folder, a folder of records, or packed records.
        docs: The mkdocs.yml of documentation that is built into the folder too. Needs the extra `docs`.
        project: The project with the methods, or a folder in it. Default: that of the working directory.

    Returns:
        The path of index.html.

    Raises:
        BenchError: The folder contains files that are not part of a site, the records do not exist, or the
            documentation cannot be built.
    """
    from fergen_bench.api.run import open_project

    return build(open_project(project), Path(to), records, None if docs is None else Path(docs), Display())


def build(project: Project, to: Path, records: str | os.PathLike[str], docs: Path | None, shown: Display) -> Path:
    """Write the pages of a site; see `site`. Remarks about records go to `shown`."""
    from fergen_bench.report import folder
    from fergen_bench.report import site as pages

    _refuse_foreign(to)
    if docs is not None:
        _require_mkdocs(docs)
    with folder.replaced(to, LISTING) as draft:
        methods = _methods(project, shown)
        suites = _suites(project, records_at(records, project), methods, draft, shown)
        documents = {} if docs is None else _documents(docs, draft, shown)
        pages.write(draft, pages.Site(suites, methods, documents))
    return to / "index.html"


def _refuse_foreign(to: Path) -> None:
    """Raise for a folder with files in it that was not written by this command."""
    if to.exists() and not to.is_dir():
        raise BenchError(f"{to}: this is a file. Name a folder for the site.")
    there = sorted(path.name for path in to.iterdir()) if to.is_dir() else []
    if there and LISTING not in there:
        raise BenchError(
            f"{to}: this folder contains {there[0]}, which is not part of a site. Name a new or an empty folder."
        )


def _suites(
    project: Project, stored: Records, methods: Sequence[MethodFile], draft: Path, shown: Display
) -> list[SuitePage]:
    """Write the page of each suite with scored records, and return what the index shows of it."""
    from fergen_bench.report.page import Around
    from fergen_bench.report.site import SuitePage, method_link, page_name

    around = Around("../../index.html", {method.name: f"../../{method_link(method.name)}" for method in methods})
    found = []
    with shown.busy(f"reading {near(stored.path)}"):
        names = sorted({record.spec.suite for record in stored.read()[0]})
    for name in names:
        results = load(project, stored, name)
        for remark in results.remarks:
            shown.say(f"{remark.level}: {name}: {remark.text}")
        if not any(record.cells for record in results.records):
            continue
        href = f"leaderboards/{page_name(name)}/index.html"
        write_report(results, (draft / href).parent, "accuracy", False, shown, around)
        found.append(SuitePage(name, href, results.views(), many(len(results.records), "run")))
    if not found:
        raise BenchError(f"{near(stored.path)}: no scored records. Make some with: fergen-bench run")
    return found


def _methods(project: Project, shown: Display) -> list[MethodFile]:
    """Return the methods whose files can be read, by name."""
    found = []
    for name in sorted(project.methods()):
        try:
            found.append(project.method(name))
        except BenchError as error:
            shown.warn(f"{error}; the method has no page")
    return found


def _require_mkdocs(docs: Path) -> None:
    if not docs.is_file():
        raise BenchError(f"--docs: {docs} does not exist. Name the mkdocs.yml of the documentation.")
    if find_spec("mkdocs") is None or find_spec("material") is None or find_spec("mkdocstrings") is None:
        raise BenchError("--docs: MkDocs is not installed here. Install it with: pip install 'fergen-bench[docs]'")


def _documents(docs: Path, draft: Path, shown: Display) -> dict[str, str]:
    """Build the documentation into the folder `docs` of a site, and return titles and links of its first pages."""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--config-file", str(docs)]
    with shown.busy("building the documentation"):
        built = subprocess.run(
            [*command, "--site-dir", str((draft / "docs").resolve())],
            env={**os.environ, "FERGEN_BENCH_SITE": "../index.html", "NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
        )
    if built.returncode != 0:
        lines = [line for line in (built.stdout + built.stderr).splitlines() if line.strip()]
        first = next((line for line in lines if line.startswith(("WARNING", "ERROR"))), lines[-1] if lines else "")
        raise BenchError(f"{docs}: mkdocs build failed: {first}. See all of it with: mkdocs build --strict -f {docs}")
    pages = {"Findings": "docs/findings.html", "Documentation": "docs/index.html"}
    return {title: href for title, href in pages.items() if (draft / href).is_file()}
