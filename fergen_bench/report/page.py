"""The report as one HTML file that needs nothing else: no network, no file beside it.

Tables are written as they are read; what opens on request (provenance, confusion matrices, the difference of two
methods) is drawn by page.js from data in the page. Jinja escapes all text, the script adds text and never markup, and a
policy in the page's head forbids every request and every script but this one.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.run import shown_value
from fergen_bench.records.record import RunRecord
from fergen_bench.report import data, details, plots
from fergen_bench.report.details import Inspected, Reliability
from fergen_bench.report.published import Published, concerned, summary
from fergen_bench.report.render import (
    COLUMNS,
    MISPRINTS,
    PUBLISHED,
    Ablation,
    board_cautions,
    board_facts,
    by_share,
    differences,
    file_name,
    misprints,
)
from fergen_bench.report.tables import CELL, Board, matrix, number, ordered
from fergen_bench.wording import many

CHANCE = 100 / len(EXPRESSIONS)
PICTURES = 3_000_000
"""Bytes of faces that one page holds at most; a page can be sent by mail. Beyond, the faces are named."""
MISSING_SHOWN = 12
ERRORS = {"ece": "ECE", "tempered": "ECE, tempered"}
"""Columns of a leaderboard that stand there where predictions were kept: calibration on unseen targets."""


EXPLAINED = {
    "ECE": "expected calibration error on unseen targets: how far confidence is from accuracy, in points",
    "ECE, tempered": "after its logits were divided by a temperature fitted to held-out faces of the source",
    "fit, s": "mean seconds of one training, without scoring",
}
"""Columns of the page that do not explain themselves."""


@dataclass
class Faces:
    """The faces of the targets, and which of them a page may show. Licences of most real datasets forbid to pass faces
    on, and a page is made to be passed on.
    """

    domain: Callable[[str], Domain | None] = lambda name: None  # a prepared domain of the suite, where there is one
    show_real: bool = False
    left: int = field(default=PICTURES)

    def strips(self, entry: Inspected, record: RunRecord) -> tuple[list[dict[str, Any]], str]:
        """For each channel its number and its faces: as a picture or by name; and a sentence where there is neither, or
        why there are no pictures.
        """
        domain, cell = self.domain(entry.target), record.cell(entry.target)
        channels = [{"channel": int(channel), "picture": "", "ids": []} for channel in entry.varying]
        if domain is None or cell is None or domain.fingerprint != cell.fingerprint:
            return channels, f"the prepared faces of {entry.target} that were scored are not here"
        (piece,) = domain.exam(record.spec.profile, record.spec.learns_from(entry.target)).pieces
        for channel, places in zip(channels, entry.top, strict=True):
            channel["ids"] = [str(name) for name in domain.ids[piece.rows[places]]]
        if not (domain.about.get("synthetic") or self.show_real):
            return (
                channels,
                "faces of real people are named, not shown; on your own machine: fergen-bench report --faces",
            )
        for channel, places in zip(channels, entry.top, strict=True):
            picture = _strip(np.stack([domain.faces[row] for row in piece.rows[places]]))
            if self.left < len(picture):
                return channels, "the page is full: more faces are named, not shown; see fewer methods with --method"
            self.left -= len(picture)
            channel["picture"] = picture
        return channels, ""


def _strip(faces: np.ndarray, size: int = 56) -> str:
    """Faces uint8 (n, h, w, 3) side by side, as a data address."""
    from PIL import Image

    strip = Image.new("RGB", (size * len(faces), size))
    for place, face in enumerate(faces):
        strip.paste(Image.fromarray(face).resize((size, size), Image.Resampling.LANCZOS), (size * place, 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def write(
    folder: Path,
    all_boards: Sequence[Board],
    records: Sequence[RunRecord],
    runs: Path,
    metric: str,
    reliability: Reliability,
    drawn: Iterable[Path] = (),
    ablations: Sequence[Ablation] = (),
    published: Sequence[Published] = (),
    complaints: Sequence[str] = (),
    faces: Faces | None = None,
) -> Path:
    """Writes index.html, and the figures that it adds to those that were drawn before.

    all_boards: of the records. runs: the folder of the records, for what lies beside them. reliability: of the cells
    whose predictions were kept. drawn: the figures of `render.write`. complaints: what was said while the records were
    read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    faces = Faces() if faces is None else faces
    by_key = {record.spec.key: record for record in records}
    stems, palette = [path.stem for path in drawn], plots.colours(all_boards)
    sections = []
    for place, board in enumerate(all_boards):
        sections.append(
            _section(f"b{place}", board, by_key, runs, metric, reliability, folder, stems, ablations, faces, palette)
        )
    script = _text("page.js")
    environment = Environment(
        loader=PackageLoader("fergen_bench.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "share": _share}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    html = environment.get_template("page.html").render(
        title=f"fergen-bench: {', '.join(dict.fromkeys(board.suite for board in all_boards))}",
        metric=plots.NAMES[metric],
        policy=f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; img-src data:; "
        f"base-uri 'none'; form-action 'none'",
        style=Markup(_text("page.css")),  # noqa: S704 - our own file
        script=Markup(script),  # noqa: S704 - our own file
        sections=sections,
        columns=COLUMNS,
        explained=EXPLAINED,
        expressions=EXPRESSIONS,
        curves=_figures(folder, _scales(all_boards, metric, folder, palette) + _shifts(all_boards, stems)),
        published=[
            (table, summary(table), misprints(table), list(differences(table, near, metric)))
            for table in published
            if (near := concerned(table, all_boards))
        ],
        published_note=PUBLISHED,
        misprints=MISPRINTS,
        complaints=complaints,
        data=_json(
            {
                "metric": plots.NAMES[metric],
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


def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def _json(content: Any) -> Markup:
    """JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))  # noqa: S704


# ------------------------------------------------------------------------------------------------------------- sections


def _section(
    name: str,
    board: Board,
    by_key: Mapping[str, RunRecord],
    runs: Path,
    metric: str,
    reliability: Reliability,
    folder: Path,
    drawn: Sequence[str],
    ablations: Sequence[Ablation],
    faces: Faces,
    palette: plots.Colours,
) -> dict[str, Any]:
    """Everything that the page says of one leaderboard."""
    rows, whole = (details.rows_of(board, by_key, whole) for whole in (False, True))
    names = board.names()
    recalls = details.recall_table(whole)
    table = [
        {
            "name": names[row.method, row.pretraining],
            "mark": board.marks[row.pretraining],
            "standing": row.standing,
            "cells": row.cells,
            "asked": row.asked,
            "unseen_cells": row.unseen_cells,
            "unseen_cells_said": board.unseen_cells(row),
            "seeds": row.seeds,
            "seeds_said": board.seeds(row),
            "seconds": row.fit_seconds,
            "ece": getattr(row, "unseen_ece", np.nan),
            "tempered": getattr(row, "unseen_ece_tempered", np.nan),
            "means": {
                column: (getattr(row, column), getattr(row, f"{column}_sd"), _interval(row, column))
                for column in COLUMNS
            },
        }
        for row in board.table.itertuples()
    ]
    errors = {key: name for key, name in ERRORS.items() if any(pd.notna(row[key]) for row in table)}
    explained = [f"{name}: {EXPLAINED[name]}" for name in (*errors.values(), "fit, s")]
    return {
        "id": name,
        "board": board,
        "table": table,
        "errors": errors,
        "facts": [*board_facts(board, "each mean, in small print"), *explained],
        "cautions": [*board_cautions(board), *_missing(board)],
        "domains": [data.HEAD, *data.rows(board.data)] if board.data else [],
        "matrices": [(row, matrix(cells, metric)) for row, cells in board.rows()],
        "recalls": recalls if recalls.notna().any(axis=None) else None,
        "partial": [row["name"] for row in table if row["name"] not in whole],
        "figures": _figures(
            folder, _drawn(board, drawn, ablations) + _draw(board, rows, whole, recalls, reliability, folder, palette)
        ),
        "masks": _masks(board, rows, by_key, runs, folder, faces),
        "data": _data(board, by_key, metric),
    }


def _interval(row: Any, column: str) -> tuple[float, float] | None:
    """The interval of a mean, where the leaderboard has one."""
    low, high = getattr(row, f"{column}_low", np.nan), getattr(row, f"{column}_high", np.nan)
    return None if pd.isna(low) or pd.isna(high) else (low, high)


def _missing(board: Board) -> list[str]:
    """For each row the trainings that other rows have and it has not, and cells that a training lacks."""
    asked = board.cells.drop_duplicates(CELL)[CELL]
    found = []
    for name, cells in board.rows():
        seeds = pd.DataFrame({"seed": sorted(cells.seed.unique())})
        wanted = asked.merge(seeds, how="cross").merge(cells[[*CELL, "seed"]], how="left", indicator=True)
        wanted["absent"] = wanted["_merge"] == "left_only"
        shown = []
        for (source, seed), part in wanted[wanted.absent].groupby(["source", "seed"], sort=False):
            whole = wanted[(wanted.source == source) & (wanted.seed == seed)].absent.all()
            shown.append(f"{source}, seed {seed}" + ("" if whole else f" (scored on {', '.join(part.target)})"))
        if shown:
            more = f"; and {len(shown) - MISSING_SHOWN} more" if len(shown) > MISSING_SHOWN else ""
            found.append(f"{name}: no record of a training on {'; '.join(shown[:MISSING_SHOWN])}{more}")
    return found


def _share(value: float) -> float:
    """How strongly a cell is coloured, 0 (chance) to 1."""
    return 0.0 if pd.isna(value) else round(float(np.clip((value - CHANCE) / (100 - CHANCE), 0, 1)), 3)


def _data(board: Board, by_key: Mapping[str, RunRecord], metric: str) -> dict[str, Any]:
    """What the script draws from: for each row and cell the number of each run, its record and its confusions."""
    rows = []
    for name, cells in board.rows():
        found = matrix(cells, metric)
        parts: dict[str, dict[str, Any]] = {}
        for cell in cells.itertuples():
            value, sd, mark = (f.loc[cell.source, cell.target] for f in (found.mean, found.spread, found.marks))
            said = mark if cell.relation in mark else ", ".join(filter(None, [cell.relation, mark]))
            new = {"mean": _plain(value), "sd": _plain(sd), "relation": cell.relation, "said": said, "runs": []}
            part = parts.setdefault(f"{cell.source}|{cell.target}", new)
            part["runs"].append([cell.key, cell.seed, _plain(getattr(cell, metric)), cell.faces])
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
                # Where weights lie on somebody's machine is nobody else's business.
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
    """What made each record. Environments are many times the same and are kept once."""
    environments: dict[str, int] = {}
    found = {}
    for key, record in by_key.items():
        spec = record.spec
        text = json.dumps(dict(record.environment), sort_keys=True)
        found[key] = {
            "file": spec.path(runs).relative_to(runs).as_posix(),
            "method": f"{spec.method}, version {spec.version}",
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
"""Title and name of figures that lie in the folder of the report."""


def _drawn(board: Board, drawn: Sequence[str], ablations: Iterable[Ablation]) -> Shown:
    """Of the figures that were drawn before, those that belong to a leaderboard: all but the matrices, which are tables
    here.
    """
    titles = {f"{board.slug}-unseen": "Unseen targets", f"{board.slug}-ranks": "Mean ranks and critical difference"}
    named = {f"{board.slug}-{ablation.protocol}": f"Ablation: {ablation.about}" for ablation in ablations}
    return [(title, stem) for stem, title in {**titles, **named}.items() if stem in drawn]


def _draw(
    board: Board,
    rows: details.Rows,
    whole: details.Rows,
    recalls: pd.DataFrame,
    reliability: Reliability,
    folder: Path,
    palette: plots.Colours,
) -> Shown:
    """Draws what only the page has. whole: the rows' records of seeds that have every cell, of which recalls are."""
    found = []
    histories, bins = details.histories(rows), details.reliability_curves(whole, reliability)

    def keep(title: str, name: str, figure: plots.Figure) -> None:
        plots.save(figure, folder, f"{board.slug}-{name}")
        found.append((title, f"{board.slug}-{name}"))

    if board.table.unseen.notna().any():
        keep("Accuracy and cost", "cost", plots.cost(board, histories, palette))
    if recalls.notna().any(axis=None):
        plots.save(plots.recall_heatmap(board, recalls), folder, f"{board.slug}-recall")  # the page has a table
    if len(bins):
        keep("Reliability", "reliability", plots.reliability(board, bins))
    for value, title in (("loss", "Training: loss"), ("val_accuracy", "Training: held-out faces of the source")):
        if histories[value].notna().any():
            keep(title, f"training-{value.replace('_', '-')}", plots.training_curves(board, histories, value))
    return found


def _scales(all_boards: Sequence[Board], metric: str, folder: Path, palette: plots.Colours) -> Shown:
    """A figure for each set of leaderboards that differ in the share of data alone."""
    found = []
    for part in by_share(all_boards):
        if len(part) > 1 and len(plots.scaled(part)):
            name = f"{max(part, key=lambda board: board.fraction).slug}-data-scale"
            plots.save(plots.data_scale(part, metric, palette), folder, name)
            found.append(("How much data it takes", name))
    return found


def _shifts(all_boards: Sequence[Board], drawn: Sequence[str]) -> Shown:
    """The curves of shifts, whatever the other conditions that stand in their names."""
    suites = tuple({board.suite for board in all_boards})
    return [
        (f"Shift: {stem.partition('-shift-')[2]}", stem)
        for stem in drawn
        if stem.startswith(suites) and "-shift-" in stem
    ]


def _figures(folder: Path, shown: Shown) -> list[dict[str, Any]]:
    """What the page shows of each figure. A test that is weaker than the leaderboard's opens on request alone."""
    return [
        {"title": title, "name": name, "svg": _inline(folder / f"{name}.svg", title), "closed": name.endswith("-ranks")}
        for title, name in shown
    ]


def _inline(path: Path, title: str) -> Markup:
    """A figure as it can stand in a page: black takes the colour of the page's text, and nothing names an address."""
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # parts of other figures have the same names
    # Dark greys too; not #262626, in which numbers stand on the light cells of a heat map.
    svg = re.sub(r"#(?!262626)([0-6][0-9a-f])\1\1\b", "currentColor", svg)
    # Letters of 8 pt are for paper; a screen wants them a quarter larger.
    svg = re.sub(
        r'<svg width="([\d.]+)pt" height="[\d.]+pt"', lambda m: f'<svg style="width:{1.25 * float(m[1]):.0f}pt"', svg
    )
    label = Markup(f'<svg role="img" aria-label="{Markup.escape(title)}" ')  # noqa: S704
    return label + Markup(svg.removeprefix("<svg "))  # noqa: S704 - matplotlib escapes the text in it


# ---------------------------------------------------------------------------------------------------------------- masks


def _masks(
    board: Board, rows: details.Rows, by_key: Mapping[str, RunRecord], runs: Path, folder: Path, faces: Faces
) -> list[dict[str, Any]]:
    """A part for each row and inspected value: figures over all of its runs, and the channels that vary most in one."""
    known = list(dict.fromkeys(board.cells.target))

    def order(record: RunRecord) -> tuple[int, ...]:
        return (record.spec.seed, *(known.index(name) if name in known else len(known) for name in record.spec.sources))

    found = []
    for row, records in rows.items():
        for name, entries in details.inspected(sorted(records, key=order), runs).items():
            stem = f"{board.slug}-{file_name(row)}-{file_name(name)}"
            shown: Shown = []
            for kind, draw in (
                ("distribution", plots.mask_distribution),
                ("channels", plots.mask_channels),
                ("similarity", plots.mask_similarity),
            ):
                plots.save(draw(board, row, entries), folder, f"{stem}-{kind}")
                shown.append((f"{row}: {name} {kind}", f"{stem}-{kind}"))
            found.append(
                {
                    "row": row,
                    "name": name,
                    "runs": len({entry.key for entry in entries}),
                    "figures": _figures(folder, shown),
                    "sheets": [_sheet(entry, by_key[entry.key], faces) for entry in _examples(entries)],
                }
            )
    return found


def _examples(entries: Sequence[Inspected]) -> list[Inspected]:
    """One run, on its own source and on the first unseen target."""
    first = [entry for entry in entries if entry.key == entries[0].key]
    kinds = (next((entry for entry in first if entry.relation == kind), None) for kind in ("source", "unseen"))
    return [entry for entry in kinds if entry is not None]


def _sheet(entry: Inspected, record: RunRecord, faces: Faces) -> dict[str, Any]:
    """The channels that vary most between faces: their mean for each expression, and the faces where they are
    largest.
    """
    channels, note = faces.strips(entry, record)
    means = entry.mean[:, entry.varying].T
    low, high = np.nanmin(means), np.nanmax(means)
    for channel, values in zip(channels, means, strict=True):
        channel["means"] = [(float(v), 0.0 if pd.isna(v) else float((v - low) / (high - low or 1))) for v in values]
    return {"entry": entry, "channels": channels, "note": note, "title": record.spec.title}
