"""Fill the template of the page."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.records.collection import Records
from fergen_bench.records.record import RunRecord
from fergen_bench.report import figures
from fergen_bench.report.folder import Ablation
from fergen_bench.report.leaderboard import LeaderboardView
from fergen_bench.report.page.drawings import Drawings
from fergen_bench.report.page.embedded import as_json, board_data, compressed, provenance
from fergen_bench.report.page.sections import Section, sections
from fergen_bench.report.page.sheets import ShownFaces
from fergen_bench.report.published import (
    MISPRINTS,
    PUBLISHED,
    Published,
    above_annotator,
    concerned,
    differences,
    misprints,
    summary,
)
from fergen_bench.report.rounding import tenth
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import ANNOTATOR_ROW, NAMES, number
from fergen_bench.wording import many

CHANCE = 100 / len(EXPRESSIONS)

SAVED = ("cells.csv", "leaderboard.csv", "leaderboard.tex", "matrix.tex")
"""The files of the report's folder that a reader can save from the page."""


@dataclass(frozen=True)
class Content:
    """Everything that a page shows.

    Attributes:
        views: The leaderboards under each metric, that of the report first; in the same order under all.
        records: The records of the leaderboards.
        stored: The collection of the records, for the arrays of methods.
        evidence: The stored predictions.
        drawn: The files that `folder.write` has written.
        ablations: The ablations of the suite.
        published: Published tables.
        complaints: Warnings of reading the records.
        faces: The images that the page may show.
    """

    views: Mapping[str, Sequence[LeaderboardView]]
    records: Sequence[RunRecord]
    stored: Records
    evidence: Evidence
    drawn: Sequence[Path] = ()
    ablations: Sequence[Ablation] = ()
    published: Sequence[Published] = ()
    complaints: Sequence[str] = ()
    faces: ShownFaces = field(default_factory=ShownFaces)

    @property
    def metric(self) -> str:
        """Return the metric of the report."""
        return next(iter(self.views))

    @property
    def main(self) -> Sequence[LeaderboardView]:
        """Return the leaderboards under the metric of the report."""
        return self.views[self.metric]


def write(folder: Path, content: Content) -> Path:
    """Write index.html and the figures that only the page has.

    Args:
        folder: The report's folder.
        content: What the page shows.

    Returns:
        The path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    boards = [view.board for view in content.main]
    drawings = Drawings(folder, [path.stem for path in content.drawn], figures.colours(boards))
    parts = sections(content, drawings)
    html = _template("page.html").render(
        title=f"fergen-bench: {', '.join(dict.fromkeys(board.suite for board in boards))}",
        names=NAMES,
        annotator_row=ANNOTATOR_ROW,
        metrics=list(content.views),
        sections=parts,
        drawn=drawings.drawn,
        expressions=EXPRESSIONS,
        curves=drawings.curves(content.main),
        published=_beside_published(content),
        published_note=PUBLISHED,
        misprints=MISPRINTS,
        complaints=content.complaints,
        records=many(len(content.records), "record"),
        saved=[name for name in SAVED if (folder / name).is_file()],
        citation=_citation(content),
        data=as_json(_data(folder, content, parts)),
        **_own_files(),
    )
    path = folder / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


def _data(folder: Path, content: Content, parts: Sequence[Section]) -> dict[str, Any]:
    """Return the data of the script."""
    files = [folder / name for name in SAVED if (folder / name).is_file()]
    return {
        "metrics": {metric: NAMES[metric] for metric in content.views},
        "expressions": EXPRESSIONS,
        "boards": {part.id: board_data(part.views, content.records, content.evidence) for part in parts},
        "files": {path.name: compressed(path) for path in files},
        **provenance(content.records, content.stored),
    }


def _beside_published(content: Content) -> list[tuple[Any, ...]]:
    """Return the published tables of the same domains, each with its differences from the measured rows."""
    boards = [view.board for view in content.main]
    return [
        (
            replace(table, notes=(*table.notes, *above_annotator(table, near))),
            summary(table),
            misprints(table),
            list(differences(table, near, content.metric)),
        )
        for table in content.published
        if (near := concerned(table, boards))
    ]


def _citation(content: Content) -> str:
    """Return BibTeX of the software, with what a reader needs to find these results again."""
    commits = sorted({str(record.environment.get("commit") or "")[:12] for record in content.records} - {""})
    suites = ", ".join(dict.fromkeys(view.board.suite for view in content.main))
    made_by = f", made by commit {', '.join(commits)}" if commits else ""
    return (
        "@software{fergen_bench,\n"
        "  title   = {fergen-bench: a benchmark of facial expression recognition on unseen domains},\n"
        "  author  = {{The fergen-bench authors}},\n"
        f"  version = {{{version('fergen-bench')}}},\n"
        f"  note    = {{Suite {suites}, {many(len(content.records), 'record')}{made_by}}},\n"
        "}"
    )


def _own_files() -> dict[str, str]:
    """Return style and script of the page, and a policy that allows this script alone."""
    script = _text("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "policy": f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        f"base-uri 'none'; form-action 'none'",
        "style": Markup(_text("page.css")),  # noqa: S704 - our own file
        "script": Markup(script),  # noqa: S704 - our own file
    }


def _template(name: str) -> Template:
    environment = Environment(
        loader=PackageLoader("fergen_bench.report.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"breakable": _breakable, "number": number, "share": _share, "tenth": tenth}
    return environment.get_template(name)


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _breakable(name: str) -> Markup:
    """Return a name that a browser breaks after punctuation where it has to, and not within a word."""
    return Markup("<wbr>").join(Markup.escape(part) for part in re.split(r"(?<=[_=/,:-])", name))


def _share(value: float) -> float:
    """Return the strength of a cell's colour, 0 (chance) to 1."""
    return 0.0 if pd.isna(value) else round(float(np.clip((value - CHANCE) / (100 - CHANCE), 0, 1)), 3)
