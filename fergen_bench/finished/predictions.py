"""Read a file of predictions, CSV or Parquet, and match its rows with the images of targets."""

from __future__ import annotations

import math
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from fergen_bench.data.labels import ALIASES, EXPRESSIONS
from fergen_bench.datasets.text_files import first_line, table
from fergen_bench.error import BenchError, reason
from fergen_bench.files.bounded import checksum
from fergen_bench.finished.convention import Convention, parse_classes
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.data.domain import Split

MOST_BYTES = 1 << 30
"""The largest file of predictions in bytes, and the largest size of a Parquet file when it is unpacked."""
MOST_ROWS = 10_000_000
MOST_COLUMNS = 1000
SHOWN = 3
"""Images that a sentence names."""

IDS = (
    "id",
    "image_id",
    "image",
    "file",
    "filename",
    "file_name",
    "path",
    "file_path",
    "image_path",
    "image_name",
    "name",
)
EXPRESSION = ("expression", "prediction", "predicted", "pred", "emotion", "label", "class")
TARGET = ("target", "domain", "dataset")
_PREFIX = re.compile(r"(?:p|prob|probability|score|logit)s?[_ .:-]+")


@dataclass(frozen=True)
class PredictionFile:
    """The rows of a file of predictions.

    Attributes:
        path: The file.
        digest: The first 16 digits of its SHA-256.
        ids: The id or file name of each row.
        places: The file and line of each row, for errors.
        targets: The target that each row names; None without such a column.
        logits: float32 (rows, 7).
        scored: False where the file names one expression per image, without scores.
        notes: Sentences on columns that are not read and classes that are dropped.
    """

    path: Path
    digest: str
    ids: Sequence[str]
    places: Sequence[str]
    targets: Sequence[str] | None
    logits: np.ndarray
    scored: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Match:
    """The rows of a file that belong to the images of one target.

    Attributes:
        rows: Row of the file for each image of the split, int64 (N,); -1 where none has a prediction.
        missing: Ids of the images without a prediction.
    """

    rows: np.ndarray
    missing: tuple[str, ...]


def read_predictions(path: Path, classes: tuple[str, ...] | None = None) -> PredictionFile:
    """Read a file with one row per image: its id or file name, and one expression or a score for each class.

    Args:
        path: A .csv or .parquet file.
        classes: Order of the classes, needed where expressions are numbers, which count from 0.

    Raises:
        BenchError: The file cannot be read, lacks a column, or has a cell that is not a prediction.
    """
    import numpy as np

    columns, places = _columns(path)
    by_role, scores, other = _roles(path, list(columns), classes)
    ids = [_plain(text, place) for text, place in zip(columns[by_role["id"]], places, strict=True)]
    targets = None
    if "target" in by_role:
        targets = [_plain(text, place) for text, place in zip(columns[by_role["target"]], places, strict=True)]
    named = None
    if "expression" in by_role:
        texts = columns[by_role["expression"]]
        named = np.array([_expression(text, place, classes) for text, place in zip(texts, places, strict=True)])
    notes = [f"columns that are not read: {listed(other)}"] if other else []
    if not scores:
        assert named is not None
        logits = np.full((len(ids), len(EXPRESSIONS)), -30.0, np.float32)
        logits[np.arange(len(ids)), named] = 0.0
    else:
        values = np.stack([_numbers(columns[name], places, name) for name in scores], 1)
        convention = Convention(classes=tuple(scores.values()))
        logits = convention.logits(values)
        notes += [f"dropped, and its share given to the others: {listed(convention.dropped)}"] * bool(
            convention.dropped
        )
        if named is not None and (apart := np.flatnonzero(logits.argmax(1) != named)).size:
            first = apart[0]
            raise BenchError(
                f"{places[first]}: the expression is {EXPRESSIONS[named[first]]}, and the largest score is that of "
                f"{EXPRESSIONS[logits[first].argmax()]}, as in {many(len(apart), 'row')}; remove one of the two"
            )
    return PredictionFile(path, checksum(path)[:16], ids, places, targets, logits, bool(scores), tuple(notes))


def match(file: PredictionFile, splits: Mapping[str, Split]) -> tuple[dict[str, Match], list[str]]:
    """Match the rows of a file with the images of targets.

    Args:
        file: The file.
        splits: The scored images of each target.

    Returns:
        The match of each target with at least one prediction, and notes on rows that belong to none of the images.

    Raises:
        BenchError: An image has two predictions, or a row fits several images.
    """
    import numpy as np

    if file.targets is not None and not set(file.targets) & set(splits):
        raise BenchError(
            f"{file.path}: its rows are of {listed(dict.fromkeys(file.targets))}, and the targets are "
            f"{listed(splits)}; correct the column, or name other targets with --targets"
        )
    used: dict[int, str] = {}
    found: dict[str, Match] = {}
    for target, split in splits.items():
        own = [row for row in range(len(file.ids)) if file.targets is None or file.targets[row] == target]
        places = _places(file, split, own, target)
        rows = np.full(len(split), -1, np.int64)
        doubles: dict[int, list[int]] = {}
        for row, place in places.items():
            if row in used:
                raise BenchError(
                    f"{file.places[row]}: {file.ids[row]!r} is an image of {used[row]} and of {target}; add a column "
                    f"target that names the domain of each row"
                )
            used[row] = target
            if rows[place] >= 0:
                doubles.setdefault(place, [int(rows[place])]).append(row)
            rows[place] = row
        if doubles:
            names = listed((file.ids[some[0]] for some in doubles.values()), SHOWN)
            raise BenchError(
                f"{file.path}: {many(len(doubles), 'image', 'have')} two or more predictions in {target}: {names} "
                f"(lines {' and '.join(file.places[row].rpartition(':')[2] for row in next(iter(doubles.values())))}); "
                f"keep one row for each image"
            )
        if places:
            found[target] = Match(rows, tuple(split.ids[rows < 0].tolist()))
    extra = [file.ids[row] for row in range(len(file.ids)) if row not in used]
    notes = []
    if extra:
        notes.append(
            f"{many(len(extra), 'row', 'are')} of no image that is scored, and ignored: {listed(extra, SHOWN)}"
        )
    return found, notes


def _places(file: PredictionFile, split: Split, rows: Sequence[int], target: str) -> dict[int, int]:
    """Return the position in a split of each row that fits one of its images.

    All rows are matched in one way: by the id, else by the file name, else by the file name without its ending.
    """
    best: dict[int, int] = {}
    for short in (_same, _file_name, _stem):
        positions: dict[str, int] = {}
        several: set[str] = set()
        for position, name in enumerate(map(short, split.ids.tolist())):
            several |= {name} & positions.keys()
            positions[name] = position
        names = {row: short(file.ids[row]) for row in rows}
        places = {row: positions[name] for row, name in names.items() if name in positions}
        if len(places) <= len(best):
            continue
        if ambiguous := [row for row in places if names[row] in several]:
            raise BenchError(
                f"{file.places[ambiguous[0]]}: {file.ids[ambiguous[0]]!r} fits several images of {target}; write ids "
                f"as labels.csv of the prepared domain has them, such as {split.ids[0]!r}"
            )
        best = places
    return best


def _same(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _file_name(name: str) -> str:
    return PurePosixPath(_same(name)).name


def _stem(name: str) -> str:
    return PurePosixPath(_same(name)).stem


# -------------------------------------------------------------------------------------------------------------- columns


def _roles(
    path: Path, names: Sequence[str], classes: tuple[str, ...] | None
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return role → column, column → class of the columns with scores, and the other columns."""
    by_role: dict[str, str] = {}
    lower = {name.strip().casefold(): name for name in reversed(names)}
    for role, usual in (("id", IDS), ("expression", EXPRESSION), ("target", TARGET)):
        found = [lower[name] for name in usual if name in lower]
        if found:
            by_role[role] = found[0]
    scores: dict[str, str] = {}
    for name in names:
        if name in by_role.values():
            continue
        plain = name.strip().casefold()
        plain = ALIASES.get(plain, ALIASES.get(_PREFIX.sub("", plain, count=1), _PREFIX.sub("", plain, count=1)))
        if plain in EXPRESSIONS or plain == "contempt" or plain in (classes or ()):
            scores[name] = plain
    other = [name for name in names if name not in by_role.values() and name not in scores]
    head = f"found {', '.join(names)[:120]!r}"
    if "id" not in by_role:
        raise BenchError(f"{path}: no column has the ids of images; name it id or file; {head}")
    if scores:
        parse_classes(list(scores.values()), f"{path}: columns of scores")
        if lacking := [name for name in EXPRESSIONS if name not in scores.values()]:
            raise BenchError(f"{path}: there are scores without a column for {listed(lacking)}; {head}")
    elif "expression" not in by_role:
        raise BenchError(
            f"{path}: there is neither a column of expressions nor one of scores for each expression; name it "
            f"expression, or name the columns {', '.join(EXPRESSIONS)}; {head}"
        )
    return by_role, scores, other


def _plain(text: Any, place: str) -> str:
    """Return the text of a cell; raise for an empty one and for a formula of a spreadsheet."""
    value = str(text).strip()
    if value.startswith(("=", "+", "@")) or re.match(r"-[^\w.]|-\w+[(|!]", value):
        raise BenchError(f"{place}: {value[:60]!r} is a formula of a spreadsheet; save its value instead")
    if not value or not value.isprintable():
        raise BenchError(f"{place}: {value[:60]!r} is empty or has control characters; write the id of an image")
    return value


def _expression(text: Any, place: str, classes: tuple[str, ...] | None) -> int:
    value = _plain(text, place)
    if re.fullmatch(r"\d+(\.0)?", value):
        number = int(float(value))
        if classes is None:
            raise BenchError(f"{place}: the expression is the number {value}; state the order with --classes")
        if number >= len(classes):
            raise BenchError(
                f"{place}: the expression is {number}, and {len(classes)} classes are stated, which count from 0; if "
                f"these count from 1, begin --classes with -,"
            )
        value = classes[number] or "-"
    name = ALIASES.get(value.lower(), value.lower())
    if name not in EXPRESSIONS:
        known = "" if value != "-" else " (this number belongs to no class)"
        raise BenchError(
            f"{place}: {value!r} is not one of the seven expressions{known}; give a score for each class, from which "
            f"another class can be dropped, or write {', '.join(EXPRESSIONS)}"
        )
    return EXPRESSIONS.index(name)


def _numbers(cells: Sequence[Any], places: Sequence[str], column: str) -> np.ndarray:
    import numpy as np

    try:
        values = np.array([float(cell) for cell in cells])
    except (ValueError, TypeError):
        values = np.array([_number(cell) for cell in cells])
    if (wrong := np.flatnonzero(~np.isfinite(values))).size:
        first = wrong[0]
        text = str(cells[first])
        kind = "a formula of a spreadsheet" if text.startswith(("=", "+", "@")) else "not a finite number"
        raise BenchError(f"{places[first]}: {column} is {text[:40]!r}, {kind}; write the score as a number")
    return values


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (ValueError, TypeError):
        return math.nan


# -------------------------------------------------------------------------------------------------------------- reading


def _columns(path: Path) -> tuple[dict[str, Sequence[Any]], list[str]]:
    """Return the columns of a file by name, and the file and line of each row."""
    readers: Mapping[str, Callable[[Path], tuple[dict[str, Sequence[Any]], list[str]]]]
    readers = {".csv": _csv, ".parquet": _parquet, ".pq": _parquet}
    if path.suffix.lower() not in readers:
        raise BenchError(f"{path}: predictions are read from .csv and .parquet; save them as one of these")
    try:
        about = path.stat()
    except OSError as error:
        raise BenchError(f"{path}: cannot be read: {error.strerror}; correct the path") from None
    if not stat.S_ISREG(about.st_mode) or about.st_size > MOST_BYTES:
        raise BenchError(f"{path}: this is not a file of up to {MOST_BYTES:,} bytes; split it by target")
    columns, places = readers[path.suffix.lower()](path)
    if not places:
        raise BenchError(f"{path}: there is no row; write one row for each image")
    return columns, places


def _csv(path: Path) -> tuple[dict[str, Sequence[Any]], list[str]]:
    columns: dict[str, list[str]] = {}
    places: list[str] = []
    if not first_line(path):
        return {}, []
    for place, row in _rows(path):
        if not columns:
            if len(row) == 1:
                next(iter(table(path, ("id", "expression"))))  # names another delimiter
            columns = {name: [] for name in row}
        for name, cell in row.items():
            columns[name].append(cell)
        places.append(place)
    return dict(columns), places


def _rows(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    for number, (place, row) in enumerate(table(path, ())):
        if number >= MOST_ROWS or len(row) > MOST_COLUMNS:
            raise BenchError(f"{path}: at most {MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns are read; split it")
        yield place, row


def _parquet(path: Path) -> tuple[dict[str, Sequence[Any]], list[str]]:
    try:
        from pyarrow import parquet
    except ImportError:
        raise BenchError(f"{path}: pyarrow is missing, which Parquet files need; install it, or save a CSV") from None
    try:
        with parquet.ParquetFile(path, memory_map=False) as file:
            about = file.metadata
            size = sum(about.row_group(group).total_byte_size for group in range(about.num_row_groups))
            if about.num_rows > MOST_ROWS or about.num_columns > MOST_COLUMNS or size > MOST_BYTES:
                raise ValueError(f"it has {about.num_rows:,} rows, {about.num_columns:,} columns and {size:,} bytes")
            rows = file.read()
        if duplicate := [name for name, count in Counter(rows.column_names).items() if count > 1]:
            raise ValueError(f"two columns are named {duplicate[0]}")
        columns = {name: rows.column(name).to_pylist() for name in rows.column_names}
    except Exception as error:  # pyarrow raises errors of many types for damaged files
        raise BenchError(f"{path}: this file cannot be read as Parquet ({reason(error)}); write it again") from None
    return columns, [f"{path}:{row}" for row in range(1, rows.num_rows + 1)]
