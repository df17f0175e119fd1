"""Build sheets of the channels that vary most between images, with the faces that a page may show."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.data.domain import Domain
from fergen_bench.records.collection import Records
from fergen_bench.records.record import RunRecord
from fergen_bench.report import details, figures
from fergen_bench.report.details import Inspected
from fergen_bench.report.folder import file_name
from fergen_bench.report.tables import Board

PICTURES = 3_000_000
"""The maximum of bytes of faces in a page, so that it can be sent by mail. Further faces are named, not shown."""


@dataclass
class ShownFaces:
    """The faces of the targets, and which of them a page may show.

    Licences of most real datasets forbid passing faces on, and a page is made to be passed on.

    Attributes:
        domain: Returns a prepared domain of the suite by its name, or None if it is not prepared.
        show_real: Whether faces of real people may be shown.
        left: Bytes of faces that the page still has room for.
    """

    domain: Callable[[str], Domain | None] = lambda name: None
    show_real: bool = False
    left: int = field(default=PICTURES)

    def strips(self, entry: Inspected, record: RunRecord) -> tuple[list[dict[str, Any]], str]:
        """Return each channel with its faces, as a picture or by name, and a note.

        The note is a sentence with the reason why faces or pictures are missing; "" if none is.
        """
        domain, cell = self.domain(entry.target), record.cell(entry.target)
        channels = [{"channel": int(channel), "picture": "", "ids": []} for channel in entry.varying]
        if domain is None or cell is None or domain.fingerprint != cell.fingerprint:
            return channels, f"the prepared faces of {entry.target} that were scored are not here"
        (piece,) = domain.split(record.spec.scored_part(entry.target, domain.about)).pieces
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
    """Return faces uint8 (n, h, w, 3) side by side, as a data URL."""
    from PIL import Image

    strip = Image.new("RGB", (size * len(faces), size))
    for place, face in enumerate(faces):
        strip.paste(Image.fromarray(face).resize((size, size), Image.Resampling.LANCZOS), (size * place, 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def mask_sheets(
    board: Board, rows: details.Rows, by_key: Mapping[str, RunRecord], stored: Records, folder: Path, faces: ShownFaces
) -> list[dict[str, Any]]:
    """Return a part for each row and inspected value: figures over all of its runs, and sheets from one run."""
    known = list(dict.fromkeys(board.cells.target))

    def order(record: RunRecord) -> tuple[int, ...]:
        return (record.spec.seed, *(known.index(name) if name in known else len(known) for name in record.spec.sources))

    found = []
    for row, records in rows.items():
        for name, entries in details.inspected(sorted(records, key=order), stored).items():
            stem = f"{board.slug}-{file_name(row)}-{file_name(name)}"
            shown: list[tuple[str, str]] = []
            for kind, draw in (
                ("distribution", figures.mask_distribution),
                ("channels", figures.mask_channels),
                ("similarity", figures.mask_similarity),
            ):
                figures.save(draw(board, row, entries), folder, f"{stem}-{kind}")
                shown.append((f"{row}: {name} {kind}", f"{stem}-{kind}"))
            found.append(
                {
                    "row": row,
                    "name": name,
                    "runs": len({entry.key for entry in entries}),
                    "figures": shown,
                    "sheets": [_sheet(entry, by_key[entry.key], faces) for entry in _examples(entries)],
                }
            )
    return found


def _examples(entries: Sequence[Inspected]) -> list[Inspected]:
    """Return the statistics of one run, on its own source and on the first unseen target."""
    first = [entry for entry in entries if entry.key == entries[0].key]
    kinds = (next((entry for entry in first if entry.relation == kind), None) for kind in ("source", "unseen"))
    return [entry for entry in kinds if entry is not None]


def _sheet(entry: Inspected, record: RunRecord, faces: ShownFaces) -> dict[str, Any]:
    """Return the channels that vary most: their mean for each expression, and the faces where they are largest."""
    channels, note = faces.strips(entry, record)
    means = entry.mean[:, entry.varying].T
    low, high = np.nanmin(means), np.nanmax(means)
    for channel, values in zip(channels, means, strict=True):
        channel["means"] = [(float(v), 0.0 if pd.isna(v) else float((v - low) / (high - low or 1))) for v in values]
    return {"entry": entry, "channels": channels, "note": note, "title": record.spec.title}
