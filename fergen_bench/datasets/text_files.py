"""Read text files: lists with a line per image, and csv tables. Whatever is wrong raises a BenchError with the line."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fergen_bench.error import BenchError
from fergen_bench.files.bounded import read_text


def text_of(path: Path) -> str:
    """Return the text of a file, with or without a byte order mark, and with any line ends."""
    try:
        return read_text(path)
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BenchError(_not_utf8(path, error)) from None
    except ValueError as error:
        raise BenchError(f"{path}: this is not a list or table: {error}") from None


def _not_utf8(path: Path, error: UnicodeDecodeError) -> str:
    if error.object[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        return f"{path}: this is text in UTF-16, as Excel and PowerShell write it. Save it as UTF-8"
    return f"{path}: this is not a text file (byte {error.start} is not UTF-8)"


def first_line(path: Path) -> str:
    """Return the first line of a text file that is not blank, from the first 4096 bytes."""
    try:
        with path.open("rb") as file:
            start = file.read(4096).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    return next((line.strip() for line in start.splitlines() if line.strip()), "")


def lines_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (file:line, line) of every line that is not blank."""
    for number, line in enumerate(text_of(path).splitlines(), start=1):
        if line.strip():
            yield f"{path}:{number}", line


def list_file(path: Path, columns: int = 2) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (file:line, name, the other columns) of a file of lines such as `train_00001.jpg 5`.

    Args:
        path: The file.
        columns: Number of columns; the name may contain blanks.

    Raises:
        BenchError: The file is empty, or a line has too few columns.
    """
    empty = True
    for place, line in lines_of(path):
        parts = line.strip().rsplit(maxsplit=columns - 1)
        if len(parts) < columns:
            raise BenchError(
                f"{place}: expected {columns} columns with blanks between them, such as `train_00001.jpg 5`; found "
                f"{line.strip()[:60]!r}"
            )
        empty = False
        yield place, parts[0], parts[1:]
    if empty:
        raise BenchError(f"{path}: this file is empty; expected lines such as `train_00001.jpg 5`")


def table(
    path: Path, needed: Sequence[str], header: Sequence[str] | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (file:line, column → cell) of each row of a csv file.

    Args:
        path: The file.
        needed: Columns that it must have, in any case and with any surrounding blanks.
        header: The columns of a file that may lack its first line.

    Raises:
        BenchError: The file is not such a csv.
    """
    names: list[str] | None = None
    canonical = {name.casefold(): name for name in needed}
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file, skipinitialspace=True)
            for row in rows:
                line = rows.line_num
                if not any(cell.strip() for cell in row):
                    continue
                place = f"{path}:{line}"
                if names is None:
                    names = [canonical.get(cell.strip().casefold(), cell.strip()) for cell in row]
                    if twice := [name for name in needed if names.count(name) > 1]:
                        raise BenchError(f"{place}: two columns are named {twice[0]}. Rename one")
                    if set(needed) <= set(names):
                        continue
                    if header is None or len(row) != len(header) or set(needed) & set(names):
                        raise BenchError(_header_fault(place, row, needed))
                    names = list(header)
                if len(row) != len(names):
                    raise BenchError(f"{place}: has {len(row)} columns where the first line has {len(names)}")
                yield place, dict(zip(names, (cell.strip() for cell in row), strict=True))
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise BenchError(_not_utf8(path, error)) from None
    except csv.Error as error:
        raise BenchError(f"{path}:{line + 1}: this is not a valid csv: {error}") from None
    if names is None:
        raise BenchError(f"{path}: this file is empty; expected a csv with the columns {', '.join(needed)}")


def _header_fault(place: str, row: Sequence[str], needed: Iterable[str]) -> str:
    if len(row) == 1 and any(mark in row[0] for mark in ";\t|"):
        mark = next(mark for mark in ";\t|" if mark in row[0])
        return f"{place}: columns are divided by {mark!r} here; expected commas. Save the file as CSV with commas"
    missing = [name for name in needed if name.casefold() not in {cell.strip().casefold() for cell in row}]
    return (
        f"{place}: the first line must name the columns, and {', '.join(missing)} is missing there; found "
        f"{', '.join(row)[:80]!r}"
    )


def whole_number(text: str, low: int, high: int, place: str, what: str) -> int:
    """Return an integer in low..high, also where it is written as 3.0.

    Raises:
        BenchError: The text is something else; `place` is the file and line, and `what` names the number.
    """
    try:
        value = float(text)
        if value.is_integer() and low <= value <= high:
            return int(value)
    except ValueError:
        pass
    raise BenchError(f"{place}: {what} is {text[:40]!r}; expected a whole number from {low} to {high}")
