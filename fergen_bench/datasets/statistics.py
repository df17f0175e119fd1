"""Gather statistics of the pixels of a domain while they are decoded, and report what is odd.

Faces whose labels and counts are right can still be unusable: pictures of one colour, 12 bits of value in files of 16,
an inverted scan, whole photographs. `look` costs a few microseconds per face; `summary` goes into domain.json, and
`oddities` turns a summary into sentences.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import photographs
from fergen_bench.datasets.pixels import WHITES, Depth, Source
from fergen_bench.datasets.reader import Face
from fergen_bench.error import BenchError
from fergen_bench.wording import many

VERSION = 2
"""Version of the statistics. Raise it when they change, so that unfinished preparations start again."""
GRID = 24
"""Approximate number of rows and columns of pixels of which means and deviations are taken; extremes use all pixels."""
CHUNK = 32
"""Number of faces processed together, few enough for a processor's cache."""
NAMED = 3
"""Number of files that a sentence names."""

FLAT = 3.0
"""Standard deviation of levels below which an image shows nothing."""
BLACK = 12.0
"""Mean level below which an image is almost black."""
DARK, BRIGHT, FAINT = 40.0, 220.0, 128
"""Mean levels of all images between which nothing is odd, and the level that the brightest pixel should reach."""
UNLIKE = 45.0
"""Largest difference between the mean level of one expression and that of the others."""
FEWEST = 20
"""Number of images that a statement about a dataset's colours or lights needs."""


COLUMNS = (
    "darkest",  # level over all channels, 0 to 255
    "brightest",
    "mean",
    "deviation",  # from the mean of each channel
    "constant",  # 1: all pixels have one colour
    "grey",  # 1: all channels are equal
    "red",  # red minus blue in the middle, where skin is
    "cheeks",  # level of the cheeks minus that of the eyes, in an upright face
    "width",  # of the file; from here on, the fields of Source
    "height",
    "depth",
    "lowest",
    "highest",
    "pictures",
)
"""Statistics of one face, in the order in which tables of them are stored; all NaN where it cannot be read."""
_LOOKED = COLUMNS.index("width")
_DEPTHS: tuple[Depth, ...] = tuple(WHITES)


def unread(count: int) -> np.ndarray:
    """Return a table for faces that are not decoded yet, or cannot be."""
    return np.full((count, len(COLUMNS)), np.nan)


def look(pixels: np.ndarray, sources: Sequence[Source | None], bgr: bool = False) -> np.ndarray:
    """Return the table of some faces.

    Args:
        pixels: uint8 (N, side, side, 3).
        sources: Facts about their files; None where a face could not be read.
        bgr: The channels are reversed.
    """
    table = unread(len(pixels))
    for start in range(0, len(pixels), CHUNK):
        table[start : start + CHUNK, :_LOOKED] = _look(pixels[start : start + CHUNK], bgr)
    for row, source in enumerate(sources):
        if source is None:
            table[row] = np.nan
        else:
            table[row, _LOOKED:] = (*source[:2], _DEPTHS.index(source.depth), *source[3:])
    return table.round(4)


def source_of(row: np.ndarray) -> Source:
    """Return the facts about a file, given its row of a table."""
    width, height, depth, lowest, highest, pictures = row[_LOOKED:].tolist()
    return Source(int(width), int(height), _DEPTHS[int(depth)], lowest, highest, int(pictures))


def _look(pixels: np.ndarray, bgr: bool) -> np.ndarray:
    count, side = pixels.shape[:2]
    step = max(1, side // GRID)
    grid = np.ascontiguousarray(pixels[:, ::step, ::step].transpose(0, 3, 1, 2)).astype(np.float32)
    rows = grid.shape[2]
    channels = grid.reshape(count, 3, -1).mean(2)
    apart = grid.reshape(count, 3, -1) - channels[..., None]
    deviation = np.sqrt(np.einsum("ncp,ncp->n", apart, apart) / apart[0].size)
    grey = (grid[:, :1] == grid[:, 1:]).all((1, 2, 3))
    one_colour = deviation == 0
    for row in np.flatnonzero(one_colour):  # the grid may have missed other pixels
        one_colour[row] = (pixels[row] == pixels[row, 0, 0]).all()
    inner, level = slice(rows // 4, rows - rows // 4), grid.mean(1)
    red = (grid[:, 0, inner, inner] - grid[:, 2, inner, inner]).mean((1, 2)) * (-1 if bgr else 1)
    eyes, cheeks = (
        level[:, int(rows * top) : int(rows * bottom), inner].mean((1, 2))
        for top, bottom in ((0.28, 0.42), (0.48, 0.64))
    )
    flat = pixels.reshape(count, -1)
    columns = (flat.min(1), flat.max(1), channels.mean(1), deviation, one_colour, grey, red, cheeks - eyes)
    return np.stack([np.asarray(column, np.float64) for column in columns], 1)


# ---------------------------------------------------------------------------------------------------------- white level


def white_levels(faces: Sequence[Face], table: np.ndarray, given: float | None, place: str) -> dict[Depth, float]:
    """Return the level that means white in 16-bit and in floating-point images, as far as each exists.

    One file cannot decide: a dark picture of 16 bits and a bright one of 12 bits have the same levels. All files of a
    dataset together can, because a whole dataset in which not one pixel is brighter than a sixteenth of the range does
    not occur. So white is the smallest of 255, 1023, 4095, 16383 and 65535 (or 1, where levels are floats) that no file
    exceeds. Two kinds of files in one dataset would make one kind almost black: such a mixture is refused, unless the
    user gives the level.

    Args:
        faces: The faces of the dataset.
        table: Their statistics.
        given: The level that the user gives, which is not checked, or None.
        place: Name of the dataset, for messages.

    Raises:
        BenchError: The files have different ranges.
    """
    found: dict[Depth, float] = {}
    for depth, files in _deep(faces, table).items():
        if given is not None:
            found[depth] = given
            continue
        white = max(source.white for _, source in files)
        # Images of one colour do not show the range.
        low = [(n, s) for n, s in files if s.white * 16 <= white and s.brightest > s.darkest]
        if low:
            raise BenchError(
                f"{place}: {many(len(low), depth + ' image', 'have', of=len(files))} "
                f"no level above {max(s.brightest for _, s in low):g} and the others reach "
                f"{max(s.brightest for _, s in files):g}, such as {', '.join(n for n, _ in low[:NAMED])}: the level "
                f"that means white is not the same in all of them. Divide them into two datasets, or give the level, "
                f"such as --white {white} (white = {white} in bench.toml)"
            )
        found[depth] = white
    return found


def rescaled(table: np.ndarray, whites: Mapping[Depth, float]) -> np.ndarray:
    """Return the statistics that deep images would have with these levels as white, instead of each with its own."""
    table = table.copy()
    for row in np.flatnonzero(table[:, COLUMNS.index("depth")] > 0).tolist():
        source = source_of(table[row])
        table[row, : COLUMNS.index("constant")] *= source.white / whites[source.depth]
    return table


def white_notes(
    faces: Sequence[Face], table: np.ndarray, whites: Mapping[Depth, float], given: float | None
) -> list[str]:
    """Return a sentence for each kind of deep images, apart from those that use all of their 16 bits."""
    notes = []
    for depth, files in _deep(faces, table).items():
        white = whites[depth]
        if depth == "16-bit" and white == 65535:
            continue
        kind = "16-bit" if depth == "16-bit" else "floating-point"
        bits = f" ({int(white).bit_length()} bits)" if depth == "16-bit" and white in WHITES[depth] else ""
        why = "which --white gives" if given is not None else "because no level of any of them is higher"
        brightest = max(source.brightest for _, source in files)
        notes.append(
            f"{many(len(files), kind + ' image', 'are')} read with {white:g} as white"
            f"{bits}, {why}; the brightest level is {brightest:g}."
        )
    return notes


def _deep(faces: Sequence[Face], table: np.ndarray) -> dict[Depth, list[tuple[str, Source]]]:
    """Return names and facts of the files of more than eight bits, by depth."""
    deep: dict[Depth, list[tuple[str, Source]]] = {}
    for row in np.flatnonzero(table[:, COLUMNS.index("depth")] > 0).tolist():
        source = source_of(table[row])
        deep.setdefault(source.depth, []).append((faces[row].id, source))
    return deep


# -------------------------------------------------------------------------------------------------------------- summary


def summary(faces: Sequence[Face], table: np.ndarray, dataset: str) -> dict[str, Any]:
    """Return the statistics of a domain, as domain.json stores them.

    Args:
        faces: The faces of the domain, of which at least one could be read.
        table: Their statistics.
        dataset: Name of the dataset.
    """
    kept = np.flatnonzero(~np.isnan(table[:, 0]))
    faces, table = [faces[row] for row in kept.tolist()], table[kept]
    column = dict(zip(COLUMNS, table.T, strict=True))
    found: dict[str, Any] = {"images": len(kept), **_levels(table), "grey": int(column["grey"].sum())}
    constant, flat = column["constant"] == 1, column["deviation"] < FLAT
    for key, rows in (
        ("constant", constant),
        ("nearly_constant", flat & ~constant),
        ("black", (column["mean"] < BLACK) & ~flat),
        ("several", column["pictures"] > 1),
    ):
        odd = np.flatnonzero(rows).tolist()
        found[key] = {"count": len(odd), "such_as": [faces[row].id for row in odd[:NAMED]]}
    of = np.array([face.expression for face in faces])
    found["per_expression"] = {
        name: {"images": int((of == name).sum()), **_levels(table[of == name])}
        for name in EXPRESSIONS
        if (of == name).any()
    }
    coloured = column["red"][(column["grey"] == 0) & ~flat]
    found["bluish"] = {
        "images": len(coloured),
        "share": round(float((coloured < -5).mean()), 3) if len(coloured) else 0,
    }
    lights = column["cheeks"][~flat]
    found["cheeks_minus_eyes"] = {
        "images": len(lights),
        "mean": round(float(lights.mean()), 1) if len(lights) else 0,
        "error": round(float(lights.std()) / len(lights) ** 0.5, 2) if len(lights) else 0,
    }
    whole = [row for row, face in enumerate(faces) if face.file is not None and face.box is None]
    if whole:
        width, height = column["width"][whole], column["height"][whole]
        found["sizes"] = photographs.sizes(width, height, dataset)
        if (seen := photographs.detected([faces[row] for row in whole], np.minimum(width, height))) is not None:
            found["detector"] = seen
    return found


def _levels(table: np.ndarray) -> dict[str, float]:
    """Return range, mean and deviation over the pixels of some faces."""
    darkest, brightest, mean, deviation = table.T[:4]
    whole = np.sqrt(max(0.0, (deviation**2 + mean**2).mean() - mean.mean() ** 2))  # rounding may go below 0
    return {
        "darkest": int(darkest.min()),
        "brightest": int(brightest.max()),
        "mean": round(float(mean.mean()), 1),
        "deviation": round(float(whole), 1),
    }


# ------------------------------------------------------------------------------------------------------------ oddities


def oddities(pixels: Mapping[str, Any]) -> list[str]:
    """Return a sentence for everything odd in a summary."""
    total, mean, brightest = pixels["images"], pixels["mean"], pixels["brightest"]
    found = []
    levels = f"the mean level of all images is {mean:g} and the brightest {brightest} of 255"
    dark = mean < DARK or brightest < FAINT
    if dark:
        found.append(
            f"{levels}, which is very dark for faces: convert the images from their real range to 8 bits (of images "
            f"with more bits, --white gives the brightest level)"
        )
    elif mean > BRIGHT:
        found.append(f"{levels}, which is very bright for faces: check that the images are not washed out or inverted")
    for key, one, more in (
        ("constant", "has one colour", "have one colour each"),
        ("nearly_constant", "is nearly of one colour", "are nearly of one colour each"),
        ("black", "is almost black", "are almost black"),
    ):
        count, names = pixels[key]["count"], pixels[key]["such_as"]
        if count and (key == "constant" or not dark):
            what = f"{many(count, 'image')} of {total:,} {one if count == 1 else more}"
            found.append(f"{what}, such as {', '.join(names)}: look at them, then repair or remove them")
    if (several := pixels.get("several", {"count": 0}))["count"]:
        found.append(
            f"{many(several['count'], 'file', 'contain')} several pictures, such as {', '.join(several['such_as'])} "
            f"(frames of an animation, or pages): only the first picture of each is read"
        )
    found += _inverted(pixels)
    found += _unlike(pixels["per_expression"])
    if "sizes" in pixels and (whole := photographs.warning(pixels["sizes"], pixels.get("detector"))) is not None:
        found.append(whole)
    return found


def stored(about: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the statistics in a domain.json, or None where they are missing or damaged."""
    try:
        pixels = about["pixels"]
        oddities(pixels)
        described(pixels)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
    return pixels


def _inverted(pixels: Mapping[str, Any]) -> list[str]:
    """Return a sentence about inverted images.

    Faces are redder than they are blue, and their eyes are darker than their cheeks, whatever the colour of skin.
    """
    blue, lights = pixels["bluish"], pixels["cheeks_minus_eyes"]
    lit_wrongly = lights["images"] >= FEWEST and lights["mean"] < -max(8.0, 5 * lights["error"])
    if blue["images"] >= FEWEST and blue["share"] > 0.8:
        meant = "inverted (negatives)" if lit_wrongly else "in BGR order, or inverted (negatives)"
        return [
            f"{blue['share']:.0%} of {blue['images']:,} colour images are bluer than red where skin is expected: they "
            f"seem to be {meant}; convert them, and look again with data describe"
        ]
    if lit_wrongly:
        return [
            f"eyes are brighter than cheeks, by {-lights['mean']:g} levels on average over {lights['images']:,} "
            f"images: they seem to be inverted (negatives) or upside down; convert them, and look again with data "
            f"describe"
        ]
    return []


def _unlike(per_expression: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return a sentence for each expression that a method could recognise by brightness alone."""
    enough = {name: of["mean"] for name, of in per_expression.items() if of["images"] >= 5}
    found = []
    for name, mean in enough.items() if len(enough) > 2 else ():
        others = float(np.median([other for key, other in enough.items() if key != name]))
        if abs(mean - others) > UNLIKE:
            found.append(
                f"the mean level of {name} is {mean:g}, that of the other expressions {others:g}: a method could "
                f"recognise "
                f"{name} by brightness alone; check that its images were processed like the others"
            )
    return found


def described(pixels: Mapping[str, Any]) -> list[str]:
    """Return the statistics in words, a line each."""
    lines = [f"levels {_in_words(pixels)}; {pixels['grey']:,} of {pixels['images']:,} images are grey"]
    return lines + [f"{name}: {_in_words(of)}" for name, of in pixels["per_expression"].items()]


def _in_words(of: Mapping[str, Any]) -> str:
    return f"{of['darkest']} to {of['brightest']}, mean {of['mean']:g}, deviation {of['deviation']:g}"
