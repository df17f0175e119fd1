"""Write the report as one HTML file that needs no network and no other file.

Tables are part of the HTML. The script page.js draws provenance, confusion matrices and the difference of two methods
on request, from data in the page. Jinja escapes all text, the script adds text and never markup, and a policy in the
page's head forbids every request and every script but this one.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.run import shown_value
from fergen_bench.records.record import RunRecord
from fergen_bench.report import details, figures
from fergen_bench.report.details import Reliability
from fergen_bench.report.folder import Ablation
from fergen_bench.report.leaderboard import COLUMNS, LeaderboardView
from fergen_bench.report.published import MISPRINTS, PUBLISHED, Published, concerned, differences, misprints, summary
from fergen_bench.report.sheets import ShownFaces, mask_sheets
from fergen_bench.report.tables import Board, by_share, number, ordered
from fergen_bench.wording import many

CHANCE = 100 / len(EXPRESSIONS)
ERRORS = {"ece": "ECE", "ece_tempered": "ECE, tempered"}
"""Columns of a leaderboard with stored predictions: calibration on unseen targets."""


EXPLAINED = {
    "ECE": "expected calibration error on unseen targets: how far confidence is from accuracy, in points",
    "ECE, tempered": "after its logits were divided by a temperature fitted to held-out faces of the source",
    "fit, s": "mean seconds of one training, without scoring",
}
"""Explanations of columns of the page."""


def write(
    folder: Path,
    views: Sequence[LeaderboardView],
    records: Sequence[RunRecord],
    runs: Path,
    reliability: Reliability,
    drawn: Iterable[Path] = (),
    ablations: Sequence[Ablation] = (),
    published: Sequence[Published] = (),
    complaints: Sequence[str] = (),
    faces: ShownFaces | None = None,
) -> Path:
    """Write index.html and the figures that only the page has.

    Args:
        folder: The report's folder.
        views: The leaderboards.
        records: The records of the leaderboards.
        runs: The folder of the records, for the arrays of methods.
        reliability: Reliability tables of the cells with predictions.
        drawn: The figures that `folder.write` has drawn.
        ablations: The ablations of the suite.
        published: Published tables.
        complaints: Warnings of reading the records.
        faces: The images that the page may show.

    Returns:
        The path of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    faces = ShownFaces() if faces is None else faces
    by_key = {record.spec.key: record for record in records}
    boards, metric = [view.board for view in views], views[0].metric
    stems, palette = [path.stem for path in drawn], figures.colours(boards)
    sections = [
        _section(f"b{index}", view, by_key, runs, reliability, folder, stems, ablations, faces, palette)
        for index, view in enumerate(views)
    ]
    html = _template("page.html").render(
        title=f"fergen-bench: {', '.join(dict.fromkeys(board.suite for board in boards))}",
        metric=views[0].metric_name,
        **_own_files(),
        sections=sections,
        columns=COLUMNS,
        explained=EXPLAINED,
        expressions=EXPRESSIONS,
        curves=_figures(folder, _scales(views, folder, palette) + _shifts(boards, stems)),
        published=_beside_published(published, boards, metric),
        published_note=PUBLISHED,
        misprints=MISPRINTS,
        complaints=complaints,
        data=_json(
            {
                "metric": views[0].metric_name,
                "expressions": EXPRESSIONS,
                "boards": {section["id"]: section["data"] for section in sections},
                **_provenance(records, by_key, runs),
            }
        ),
        records=many(len(records), "record"),
    )
    path = folder / "index.html"
    path.write_text(html, encoding="utf-8")
    return path


def _beside_published(tables: Sequence[Published], boards: Sequence[Board], metric: str) -> list[tuple[Any, ...]]:
    """Return the published tables of the same domains, each with its differences from the measured rows."""
    return [
        (table, summary(table), misprints(table), list(differences(table, near, metric)))
        for table in tables
        if (near := concerned(table, boards))
    ]


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
        loader=PackageLoader("fergen_bench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": _share}
    return environment.get_template(name)


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _json(content: Any) -> Markup:
    """Return JSON for a script element, in which no text can end the element."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


# ------------------------------------------------------------------------------------------------------------- sections


def _section(
    name: str,
    view: LeaderboardView,
    by_key: Mapping[str, RunRecord],
    runs: Path,
    reliability: Reliability,
    folder: Path,
    drawn: Sequence[str],
    ablations: Sequence[Ablation],
    faces: ShownFaces,
    palette: figures.Colours,
) -> dict[str, Any]:
    """Return everything that the page shows of one leaderboard."""
    board = view.board
    rows, whole = (details.rows_of(board, by_key, whole) for whole in (False, True))
    recalls = details.recall_table(whole)
    errors = {key: name for key, name in ERRORS.items() if any(not pd.isna(getattr(row, key)) for row in view.rows)}
    explained = [f"{name}: {EXPLAINED[name]}" for name in (*errors.values(), "fit, s")]
    shown = _drawn(board, drawn, ablations) + _draw(board, rows, whole, recalls, reliability, folder, palette)
    masks = mask_sheets(board, rows, by_key, runs, folder, faces)
    return {
        "id": name,
        "view": view,
        "errors": errors,
        "facts": [*view.facts("each mean, in small print"), *explained],
        "cautions": [*view.cautions, *view.missing],
        "recalls": recalls if recalls.notna().any(axis=None) else None,
        "partial": [row.name for row in view.rows if row.name not in whole],
        "figures": _figures(folder, shown),
        "masks": [{**part, "figures": _figures(folder, part["figures"])} for part in masks],
        "data": _data(view, by_key),
    }


def _share(value: float) -> float:
    """Return the strength of a cell's colour, 0 (chance) to 1."""
    return 0.0 if pd.isna(value) else round(float(np.clip((value - CHANCE) / (100 - CHANCE), 0, 1)), 3)


def _data(view: LeaderboardView, by_key: Mapping[str, RunRecord]) -> dict[str, Any]:
    """Return the data of the script: for each row and cell the number of each run, its record and its confusions."""
    board, rows = view.board, []
    for (name, cells), (_, found) in zip(board.rows(), view.matrices, strict=True):
        parts: dict[str, dict[str, Any]] = {}
        for cell in cells.itertuples():
            value, sd, mark = (f.loc[cell.source, cell.target] for f in (found.mean, found.spread, found.marks))
            said = mark if cell.relation in mark else ", ".join(filter(None, [cell.relation, mark]))
            new = {"mean": _plain(value), "sd": _plain(sd), "relation": cell.relation, "said": said, "runs": []}
            part = parts.setdefault(f"{cell.source}|{cell.target}", new)
            part["runs"].append([cell.key, cell.seed, _plain(getattr(cell, view.metric)), cell.faces])
            scored = by_key[cell.key].cell(cell.target)
            assert scored is not None
            confusion = np.array(scored.confusion)
            part["confusion"] = confusion + part["confusion"] if "confusion" in part else confusion
        for part in parts.values():
            part["confusion"] = part["confusion"].ravel().tolist()
        spec = by_key[cells.key.iloc[0]].spec
        rows.append(
            {
                "name": name,
                # The path of weights on the author's machine is private.
                "parameters": {
                    parameter: str(shown_value(value, spec.weights[parameter]) if parameter in spec.weights else value)
                    for parameter, value in spec.parameters.items()
                },
                "changes": list(spec.changes),
                "cells": parts,
            }
        )
    sources, targets = ordered(board.cells.source, board.cells.target)
    return {"sources": sources, "targets": targets, "rows": rows, "title": board.title}


def _plain(value: float) -> float | None:
    return None if pd.isna(value) else round(float(value), 6)  # page.js rounds as rounding.py does


def _provenance(records: Sequence[RunRecord], by_key: Mapping[str, RunRecord], runs: Path) -> dict[str, Any]:
    """Return the provenance of each record. Equal environments are stored once."""
    environments: dict[str, int] = {}
    found = {}
    for key, record in by_key.items():
        spec = record.spec
        text = json.dumps(dict(record.environment), sort_keys=True)
        found[key] = {
            "file": spec.path(runs).relative_to(runs).as_posix(),
            "method": f"{spec.method}, version {spec.version}, numerics {spec.numerics}, {spec.precision}",
            "text": record.method_digest[:12],
            "protocol": spec.protocol,
            "started": record.started,
            "seconds": {name: round(value, 1) for name, value in record.seconds.items()},
            "epoch": record.selected_epoch,
            "networks": [[name, net["name"], net["digest"]] for name, net in record.networks.items()],
            "learned": {name: spec.fingerprints[name] for name in spec.sources if name in spec.fingerprints},
            "adapted": spec.adaptation_target,
            "environment": environments.setdefault(text, len(environments)),
        }
    return {"records": found, "environments": [json.loads(text) for text in environments]}


# -------------------------------------------------------------------------------------------------------------- figures

Shown = list[tuple[str, str]]
"""The title and the name, without suffix, of figures in the folder of the report."""


def _drawn(board: Board, drawn: Sequence[str], ablations: Iterable[Ablation]) -> Shown:
    """Return the figures in the folder that belong to a leaderboard, but no matrix: the page has tables of those."""
    titles = {f"{board.slug}-unseen": "Unseen targets"}
    named = {f"{board.slug}-{ablation.protocol}": f"Ablation: {ablation.about}" for ablation in ablations}
    return [(title, stem) for stem, title in {**titles, **named}.items() if stem in drawn]


def _draw(
    board: Board,
    rows: details.Rows,
    whole: details.Rows,
    recalls: pd.DataFrame,
    reliability: Reliability,
    folder: Path,
    palette: figures.Colours,
) -> Shown:
    """Draw the figures that only the page has.

    Args:
        board: The leaderboard.
        rows: The records of each row.
        whole: The records of each row of the seeds that have every cell, as for `recalls`.
        recalls: See `details.recall_table`.
        reliability: Reliability tables of the cells with predictions.
        folder: The report's folder.
        palette: The colours of the methods.
    """
    found = []
    histories, bins = details.histories(rows), details.reliability_curves(whole, reliability)

    def keep(title: str, name: str, figure: figures.Figure) -> None:
        figures.save(figure, folder, f"{board.slug}-{name}")
        found.append((title, f"{board.slug}-{name}"))

    if board.table.unseen.notna().any():
        keep("Accuracy and cost", "cost", figures.cost(board, histories))
    if recalls.notna().any(axis=None):
        figures.save(figures.recall_heatmap(board, recalls), folder, f"{board.slug}-recall")  # the page has a table
    if len(bins):
        keep("Reliability", "reliability", figures.reliability(board, bins))
    for value, title in (("loss", "Training: loss"), ("val_accuracy", "Training: held-out faces of the source")):
        if histories[value].notna().any():
            keep(title, f"training-{value.replace('_', '-')}", figures.training_curves(board, histories, value))
    return found


def _scales(views: Sequence[LeaderboardView], folder: Path, palette: figures.Colours) -> Shown:
    """Draw a figure for each set of leaderboards that differ only in the share of the data."""
    found = []
    for group in by_share(views, lambda view: view.board):
        boards = [view.board for view in group]
        if len(boards) > 1 and len(figures.scaled(boards)):
            name = f"{max(boards, key=lambda board: board.fraction).slug}-data-scale"
            figures.save(figures.data_scale(boards, group[0].metric, palette), folder, name)
            found.append(("How much data it takes", name))
    return found


def _shifts(all_boards: Sequence[Board], drawn: Sequence[str]) -> Shown:
    """Return the curves of factors, for every value of the other conditions in their names."""
    suites = tuple({board.suite for board in all_boards})
    return [
        (f"Shift: {stem.partition('-shift-')[2]}", stem)
        for stem in drawn
        if stem.startswith(suites) and "-shift-" in stem
    ]


def _figures(folder: Path, shown: Shown) -> list[dict[str, Any]]:
    """Return the data of each figure on the page."""
    return [
        {"title": title, "name": name, "svg": _inline(folder / f"{name}.svg", title), "closed": False}
        for title, name in shown
    ]


def _inline(path: Path, title: str) -> Markup:
    """Return an SVG to insert in a page: black becomes the page's text colour, and no namespace addresses remain."""
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids would repeat those of other figures
    # Dark greys change too, but not #262626, the colour of numbers on the light cells of a heat map.
    svg = re.sub(r"#(?!262626)([0-6][0-9a-f])\1\1\b", "currentColor", svg)
    # Letters have 8 pt for paper; on a screen they are a quarter larger.
    svg = re.sub(
        r'<svg width="([\d.]+)pt" height="[\d.]+pt"', lambda m: f'<svg style="width:{1.25 * float(m[1]):.0f}pt"', svg
    )
    label = Markup(f'<svg role="img" aria-label="{Markup.escape(title)}" ')  # noqa: S704
    return label + Markup(svg.removeprefix("<svg "))  # noqa: S704 - matplotlib escapes the text in it
