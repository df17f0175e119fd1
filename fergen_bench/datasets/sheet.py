"""Contact sheets: a row of faces per expression, to look at what a label means in a domain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fergen_bench.domain import EXPRESSIONS, Domain
from fergen_bench.error import BenchError

COLUMNS, SIDE, LABEL = 10, 96, 74
PICTURES = (".png", ".jpg", ".jpeg")


def contact_sheet(folder: Path, path: Path, part: str = "test") -> None:
    """Writes a PNG or JPEG with the first faces of every expression of a prepared domain's split."""
    if path.suffix.lower() not in PICTURES:
        raise BenchError(f"{path}: a contact sheet ends in {' or '.join(PICTURES)}")
    domain = Domain(folder)
    rows = domain.rows(part)
    sheet = Image.new("RGB", (LABEL + COLUMNS * SIDE, len(EXPRESSIONS) * SIDE), "white")
    pen = ImageDraw.Draw(sheet)
    for row, name in enumerate(EXPRESSIONS):
        pen.text((4, row * SIDE + SIDE // 2 - 6), name, fill="black")
        for column, member in enumerate(rows[domain.labels[rows] == row][:COLUMNS]):
            face = Image.fromarray(np.asarray(domain.faces[member])).resize(
                (SIDE - 2, SIDE - 2), Image.Resampling.BICUBIC
            )
            sheet.paste(face, (LABEL + column * SIDE, row * SIDE))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True, quality=85)
