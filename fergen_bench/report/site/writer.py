"""Fill the templates of the pages of a site."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from markupsafe import Markup

from fergen_bench.experiment.method_file import GROUPS, MethodFile, source_text
from fergen_bench.report.folder import file_name
from fergen_bench.report.leaderboard import LeaderboardView, Line
from fergen_bench.report.page.template import policy, style, template
from fergen_bench.report.site.text import highlighted, inline, prose
from fergen_bench.report.tables import Matrix

SHOWN = 5
"""The number of rows of a leaderboard on the index."""


def page_name(name: str) -> str:
    """Return the name of the file or folder for a method or a suite, which never leads out of its folder."""
    return file_name(name).lstrip(".") or "_"


def method_link(name: str) -> str:
    """Return the link from the index to the page of a method."""
    return f"methods/{page_name(name)}.html"


@dataclass(frozen=True)
class SuitePage:
    """The page of a suite, which exists already.

    Attributes:
        name: The suite.
        href: The link to its page from the index.
        views: Its leaderboards by accuracy.
        runs: The number of its runs, in words.
    """

    name: str
    href: str
    views: Sequence[LeaderboardView]
    runs: str

    @property
    def synthetic(self) -> bool:
        """Return True where the faces of the suite are rendered."""
        return any(view.board.synthetic for view in self.views)


@dataclass(frozen=True)
class Row:
    """A row of a leaderboard, with the method that it is of.

    Attributes:
        line: The row as readers see it.
        method: The method, without parameters.
        matrix: Its source × target matrix.
    """

    line: Line
    method: str
    matrix: Matrix


def rows(view: LeaderboardView) -> list[Row]:
    """Return the rows of a leaderboard, best first."""
    parts = zip(view.rows, view.board.rows(), view.matrices, strict=True)
    return [Row(line, str(cells.base_method.iloc[0]), found) for line, (_, cells), (_, found) in parts]


@dataclass(frozen=True)
class Site:
    """Everything that the pages of a site show.

    Attributes:
        suites: The suites with records; suites of rendered and of real faces are listed apart.
        methods: The methods with a page each.
        documents: Title → link from the index, such as that of the documentation.
    """

    suites: Sequence[SuitePage]
    methods: Sequence[MethodFile]
    documents: Mapping[str, str]

    @cached_property
    def links(self) -> dict[str, str]:
        """Return the link from the index to the page of each method."""
        return {method.name: method_link(method.name) for method in self.methods}

    @cached_property
    def rows(self) -> dict[str, list[tuple[SuitePage, LeaderboardView, list[Row]]]]:
        """Return for each method with records its rows in each leaderboard."""
        found: dict[str, list[tuple[SuitePage, LeaderboardView, list[Row]]]] = {}
        for suite in self.suites:
            for view in suite.views:
                own: dict[str, list[Row]] = {}
                for row in rows(view):
                    own.setdefault(row.method, []).append(row)
                for name, lines in own.items():
                    found.setdefault(name, []).append((suite, view, lines))
        return found

    def kinds(self) -> Iterator[tuple[str, list[SuitePage]]]:
        """Yield the suites of real faces and those of rendered ones, each with a heading."""
        for heading, synthetic in (("Photographs", False), ("Rendered faces", True)):
            found = [suite for suite in self.suites if suite.synthetic == synthetic]
            if found:
                yield heading, found

    def groups(self) -> Iterator[tuple[str, list[MethodFile]]]:
        """Yield the methods by kind, in the order of lists of methods."""
        for group in (*GROUPS, ""):
            found = [method for method in self.methods if method.group == group]
            if found:
                yield group or "other", found


def write(folder: Path, site: Site) -> Path:
    """Write index.html and the pages of the methods.

    Args:
        folder: The folder of the site, which exists.
        site: What the pages show.

    Returns:
        The path of index.html.
    """
    own = (Path(__file__).parent / "site.css").read_text(encoding="utf-8")
    shared = {
        "policy": policy(),
        "style": style() + Markup(own),  # noqa: S704 - our own file
        "documents": site.documents,
        "links": site.links,
        "version": version("fergen-bench"),
        "inline": inline,
    }
    pages = {"index.html": template("index.html").render(root="", site=site, rows=rows, shown=SHOWN, **shared)}
    for method in site.methods:
        pages[site.links[method.name]] = template("method.html").render(
            root="../", method=method, measured=site.rows.get(method.name, ()), **_text(method), **shared
        )
    for name, html in pages.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(html, encoding="utf-8")
    return folder / "index.html"


def _text(method: MethodFile) -> dict[str, Any]:
    """Return the code of a method and its docstring below the first line."""
    text = source_text(method.path)
    _, _, docstring = (ast.get_docstring(ast.parse(text)) or "").partition("\n")
    return {"code": highlighted(text), "docstring": prose(docstring)}
