"""Draw contact sheets: a row of faces per expression, which show what a label means in a domain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import shuffled
from fergen_bench.error import BenchError
from fergen_bench.wording import many

COLUMNS, SIDE, LABEL = 10, 96, 110
PICTURES = (".png", ".jpg", ".jpeg")


def contact_sheet(folder: Path, path: Path, part: str = "test", seed: int = 0) -> None:
    """Write an image with ten faces of every expression of a split, and the number of faces.

    The faces are drawn from the whole split by the seed: the first ones of a folder often come from one person or one
    batch, and would hide what is wrong with the others.

    Args:
        folder: A prepared domain.
        path: The PNG or JPEG to write.
        part: The split.
        seed: Seed of the draw.

    Raises:
        BenchError: The ending is another one, or the domain lacks the split.
    """
    if path.suffix.lower() not in PICTURES:
        raise BenchError(f"{path}: a contact sheet is an image. Choose a name that ends in {' or '.join(PICTURES)}")
    domain = Domain(folder)
    rows = domain.rows(part)
    if not len(rows):
        there = ", ".join(domain.about["counts"])
        raise BenchError(f"{folder}: {domain.name} does not have a {part} split; it has {there}")
    sheet = Image.new("RGB", (LABEL + COLUMNS * SIDE, SIDE // 3 + len(EXPRESSIONS) * SIDE), "white")
    pen = ImageDraw.Draw(sheet)
    # PIL's own font has no multiplication sign.
    title = (
        f"{domain.name}, {part}: {many(len(rows), 'face')} of {domain.faces.shape[2]} x {domain.faces.shape[1]} pixels"
    )
    pen.text((6, 8), title, fill="black", font_size=14)
    for label, name in enumerate(EXPRESSIONS):
        top = SIDE // 3 + label * SIDE
        members = rows[domain.labels[rows] == label]
        pen.text((6, top + SIDE // 2 - 18), f"{name}\n{len(members):,}", fill="black", font_size=14)
        drawn = members[shuffled(len(members), "contact sheet", part, name, seed)[:COLUMNS]]
        for column, member in enumerate(sorted(drawn)):
            face = Image.fromarray(np.asarray(domain.faces[member]))
            face = face.resize((SIDE - 2, SIDE - 2), Image.Resampling.BICUBIC)
            sheet.paste(face, (LABEL + column * SIDE, top))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, optimize=True, quality=85)


def contact_sheets(folder: Path, path: Path, seed: int = 0) -> list[Path]:
    """Write a sheet for each split of a domain, as NAME-train.png, NAME-test.png, …, and return the paths."""
    written = []
    for part in Domain(folder).about["counts"]:
        written.append(path.with_stem(f"{path.stem}-{part}"))
        contact_sheet(folder, written[-1], part, seed)
    return written
