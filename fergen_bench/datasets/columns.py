"""Find the column of the label in lists of `path label` with more than two columns.

A further number may count boxes, or identify a person or a fold. Every line of every list is read: the column of the
label has only known labels, and more than one of them. Where two columns fit, the user chooses.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from fergen_bench.data.labels import ALIASES
from fergen_bench.datasets.kinds import IMAGES, has_image_ending
from fergen_bench.datasets.numbering import CONTEMPT, LEFT_OUT, Labels, is_number, plain
from fergen_bench.datasets.text_files import lines_of
from fergen_bench.error import BenchError, NeedsKey

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

NEARLY = 0.9
"""Share of lines with a known label from which a column may be the label's, with some wrong lines."""
FEW = 3
"""A column with at most so many expressions is not the label's where another column has all seven."""
_NAMED = re.compile(rf"(\S.*?(?:{'|'.join(map(re.escape, sorted(IMAGES)))}))\s+(\S.*)", re.IGNORECASE)


class Line(NamedTuple):
    """A line of a list."""

    path: Path
    place: str  # file:line
    name: str
    native: str


def labelled_lines(lists: Sequence[Path], labels: Labels, settings: DomainSettings) -> tuple[list[Line], str | None]:
    """Return the lines of lists with their labels, and a note on the label's column where there are several.

    Args:
        lists: The lists.
        labels: Native label → expression.
        settings: The choices of the user.

    Raises:
        BenchError: Lines differ in their number of columns, the label's column is unknown, or the settings name another
            column.
    """
    if other := next((role for role in settings.columns if role != "label"), None):
        fault = f"{lists[0]}: columns has no effect for {other}: of a list, only the column of the label can be named."
        raise NeedsKey(fault, f"Remove {other} from columns = …", f"Remove {other} from --columns")
    rows = [(path, place, *_split(place, line, labels)) for path in lists for place, line in _lines(path)]
    _refuse_swapped(rows, labels)
    width = len(rows[0][3])
    for _, place, _, cells in rows:
        if len(cells) != width:
            raise BenchError(f"{place}: has {len(cells) + 1} columns where the first line has {width + 1}")
    index = 0
    if width > 1 or "label" in settings.columns:
        columns = [[row[3][column] for row in rows] for column in range(width)]
        index = _label_column(lists[0], columns, labels, settings)
    lines = [Line(path, place, name, cells[index]) for path, place, name, cells in rows]
    note = f"The label is column {index + 2} of {width + 1} in the list." if width > 1 else None
    return lines, note


def first_name(path: Path) -> tuple[str, str]:
    """Return (file:line, name) of the first line of a list."""
    place, line = next(_lines(path))
    return place, _split(place, line, {})[0]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    empty = True
    for place, line in lines_of(path):
        empty = False
        yield place, line.strip()
    if empty:
        raise BenchError(f"{path}: this file is empty; expected lines such as `train_00001.jpg 5`")


def _split(place: str, line: str, labels: Labels) -> tuple[str, list[str]]:
    """Return the name in a line, which may have blanks or lack its ending, and the cells after it."""
    if match := _NAMED.fullmatch(line):
        return match[1], match[2].split()
    words = line.split()
    if len(words) < 2:
        raise BenchError(
            f"{place}: expected 2 columns with blanks between them, such as `train_00001.jpg 5`; found {line[:60]!r}"
        )
    start = len(words) - 1
    while start > 1 and _is_value(words[start - 1], labels):
        start -= 1
    name = line.rsplit(maxsplit=len(words) - start)[0]
    return name, words[start:]


def _refuse_swapped(rows: Sequence[tuple[Path, str, str, list[str]]], labels: Labels) -> None:
    """Refuse lists whose lines all begin with a label or a number, followed by a file name instead of a label."""

    def swapped(name: str, cells: Sequence[str]) -> bool:
        values = _is_value(name, labels) and all(_meaning(cell, labels) is None for cell in cells)
        return values and any(map(_is_file_name, cells))

    if all(swapped(name, cells) for _, _, name, cells in rows):
        _, place, name, cells = rows[0]
        named = next(filter(_is_file_name, cells))
        raise BenchError(
            f"{place}: column 1 is {name[:40]!r} and {named[:40]!r} comes after it: the columns may be swapped. Write "
            f"the path first in every line, such as `train_00001.jpg 5`"
        )


def _is_file_name(cell: str) -> bool:
    """Return True for a name with the ending of an image, or with letters and digits and _ or /."""
    return has_image_ending(cell) or all(re.search(part, cell) for part in (r"[^\W\d_]", r"\d", "[_/]"))


def _is_value(cell: str, labels: Labels) -> bool:
    return _meaning(cell, labels) is not None or is_number(plain(cell))


def _meaning(cell: str, labels: Labels) -> str | None:
    """Return the meaning of a cell as a label, or None where it is not a label."""
    for key in (cell, cell.casefold(), plain(cell)):
        if key in labels:
            return labels[key]
    return LEFT_OUT if cell.casefold() == CONTEMPT else ALIASES.get(cell.casefold())


def _label_column(path: Path, columns: Sequence[list[str]], labels: Labels, settings: DomainSettings) -> int:
    """Return the index of the label's column among those after the name."""
    numbers = [str(number) for number in range(2, len(columns) + 2)]
    if (chosen := settings.columns.get("label")) is not None:
        if chosen not in numbers:
            why = "column 1 is the path" if chosen == "1" else f"the list has {len(columns) + 1} columns"
            choice = f"column {numbers[0]}" if len(numbers) == 1 else f"one of the columns {', '.join(numbers)}"
            raise BenchError(f"{path}: the label cannot be in column {chosen!r}, because {why}. Name {choice}")
        return numbers.index(chosen)
    seen = [_seen(column, labels) for column in columns]
    varied = [index for index, (_, known, _) in enumerate(seen) if len(known) > 1]
    likely = [index for index in varied if seen[index][0] >= NEARLY]
    most = max((len(seen[index][2]) for index in likely), default=0)
    if most == len(set(ALIASES.values())):
        likely = [index for index in likely if len(seen[index][2]) > FEW]
    if len(likely) == 1:
        return likely[0]
    candidates = " and ".join(numbers[index] for index in likely)
    fault = (
        f"{path}: columns {candidates} may both be the label"
        if likely
        else f"{path}: no column consists of known labels"
    )
    begin = "; ".join(f"{number}: {', '.join(cells[:3])}, …" for number, cells in zip(numbers, columns, strict=True))
    fault += f" (column 1 is the path, and they begin {begin}). Name the column of the label with"
    raise NeedsKey(fault, 'columns = { label = "…" }, its number', "--columns label=…, its number")


def _seen(column: Sequence[str], labels: Labels) -> tuple[float, set[str], set[str]]:
    """Return the share of cells that are known labels, these labels, and the expressions that they mean."""
    counts = Counter(column)
    meanings = {cell: meant for cell in counts if (meant := _meaning(cell, labels)) is not None}
    share = sum(counts[cell] for cell in meanings) / len(column)
    return share, set(meanings), set(meanings.values()) - {LEFT_OUT}
