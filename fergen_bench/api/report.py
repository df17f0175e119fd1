"""Write the report of results: tables, figures and one page."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.api import prepared
from fergen_bench.api.display import Display
from fergen_bench.api.results import METRICS, Remark
from fergen_bench.error import BenchError

if TYPE_CHECKING:
    from fergen_bench.api.results import Results
    from fergen_bench.experiment.project import Project
    from fergen_bench.report.folder import Ablation
    from fergen_bench.report.page import Around
    from fergen_bench.report.published import Published


@dataclass(frozen=True)
class Report:
    """A report on disk, and the parts of it that a terminal shows in addition to the results."""

    page: Path
    published: list[Published]


def report(
    results: Results, to: str | os.PathLike[str] | None = None, *, metric: str = "accuracy", faces: bool = False
) -> Path:
    """Write the tables as Markdown, CSV and LaTeX, the figures and index.html.

    Args:
        results: The results, from `run` or `load_results`.
        to: The folder to write to. Default: results/report of the project.
        metric: "accuracy", "balanced_accuracy" or "macro_f1".
        faces: Show faces of real people on the page. Most licences forbid to publish such a page.

    Returns:
        The path of index.html.
    """
    return write(results, None if to is None else Path(to), metric, faces, Display()).page


def write(
    results: Results, to: Path | None, metric: str, faces: bool, shown: Display, around: Around | None = None
) -> Report:
    """Write the files of a report; see `report`. Remarks about the data go to `shown`, and all remarks on the page.

    `around` is the site that the page is part of.
    """
    from fergen_bench.experiment.shipped import shipped
    from fergen_bench.report import folder, page
    from fergen_bench.report.published import read_published

    project, records = results.project, results.scored
    remarks = [*results.remarks, *(Remark("warning", text) for text in prepared.lacking(project, records))]
    with shown.busy("reading predictions"):
        views = {name: results.views(name) for name in sorted(METRICS, key=lambda name: name != metric)}
    remarks += [Remark("warning", text) for text in results.evidence.faults]
    for remark in remarks[len(results.remarks) :]:
        shown.warn(remark.text)
    tables = read_published(shipped("results") / "published")
    own = project.results / "published"
    if own.is_dir() and own.resolve() != (shipped("results") / "published").resolve():
        tables += read_published(own)
    target = project.results / "report" if to is None else to
    with shown.busy("drawing"), folder.replaced(target) as draft:
        ablations = _ablations(project, results.suite)
        files = folder.write(draft, views[metric], tables, ablations, results.corruptions, results.evidence)
        content = page.Content(
            views=views,
            records=records,
            stored=results.stored,
            evidence=results.evidence,
            drawn=files,
            ablations=ablations,
            published=tables,
            complaints=[remark.text for remark in remarks],
            faces=page.ShownFaces(lambda name: prepared.domain(project, results.suite, name), faces),
            around=around,
        )
        page.write(draft, content)
    return Report(target / "index.html", tables)


def _ablations(project: Project, suite: str) -> list[Ablation]:
    """Return the protocols with several variants of one method, with the parameters that each variant changes."""
    from fergen_bench.experiment.outline import Request, outline
    from fergen_bench.experiment.protocol import read_protocol
    from fergen_bench.experiment.shipped import shipped
    from fergen_bench.report.folder import Ablation
    from fergen_bench.report.published import read_published_ablation

    found = []
    known = project.suites()
    for name, path in project.protocols().items():
        try:
            protocol = read_protocol(path)
            if len(protocol.variants) < 2 or suite not in known:
                continue
            method, *others = protocol.names(str(path), project.methods()) or (None,)
            if method is None or others:
                continue
            planned = outline(
                protocol, str(path), known[suite], [project.method(method)], Request(), find=project.method
            )
        except BenchError:
            continue  # a protocol that does not fit the suite or the methods gets no figure
        variants = {}
        for item in planned.outlines:
            defaults = item.run.defaults
            changed = {key: value for key, value in item.run.parameters.items() if defaults[key] != value}
            variants[item.variant] = json.dumps(changed, sort_keys=True)
        printed_in, printed = "", dict[str, float]()
        if name == f"{method}-ablation":
            printed_in, printed = read_published_ablation(shipped("results") / "published", method)
        found.append(Ablation(name, suite, protocol.about, method, variants, printed, printed_in))
    return found
