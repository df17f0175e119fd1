"""Fill the template of the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

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
from fergen_bench.report.page.template import policy, script, style, template
from fergen_bench.report.published import (
    MISPRINTS,
    Published,
    above_annotator,
    concerned,
    differences,
    misprints,
    summary,
)
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import ANNOTATOR_ROW, NAMES
from fergen_bench.wording import many

SAVED = ("cells.csv", "leaderboard.csv", "leaderboard.tex", "matrix.tex")
"""The files of the report's folder that a reader can save from the page."""


@dataclass(frozen=True)
class Around:
    """The pages of the site that a page is part of.

    Attributes:
        home: The link to its index.
        methods: Method → link to its page.
    """

    home: str
    methods: Mapping[str, str]


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
        around: The site that the page is part of; None for a page of its own.
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
    around: Around | None = None

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
    html = template("page.html").render(
        title=f"fergen-bench: {', '.join(dict.fromkeys(board.suite for board in boards))}",
        names=NAMES,
        annotator_row=ANNOTATOR_ROW,
        metrics=list(content.views),
        sections=parts,
        drawn=drawings.drawn,
        expressions=EXPRESSIONS,
        curves=drawings.curves(content.main),
        published=_beside_published(content),
        misprints=MISPRINTS,
        complaints=content.complaints,
        records=many(len(content.records), "record"),
        saved=[name for name in SAVED if (folder / name).is_file()],
        citation=citation(content),
        data=as_json(_data(folder, content, parts)),
        policy=policy(script()),
        style=style(),
        script=script(),
        around=content.around,
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


def citation(content: Content) -> str:
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
