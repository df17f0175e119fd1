"""Read and compare numbers from papers, which are never ranked with measured ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from fergen_bench.error import BenchError
from fergen_bench.files.bounded import read_text
from fergen_bench.report.notes import EASIER, MOST_NAMED
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import Board, annotators, matrix, number
from fergen_bench.wording import listed

COLUMNS = ["method", "source", "target", "accuracy"]


@dataclass(frozen=True)
class Published:
    """A published table with its source and notes.

    Attributes:
        name: The name of its file, without the suffix.
        about: The source, from the first line of comment.
        notes: The other lines of comment.
        cells: method, source, target, accuracy (%).
        printed: method, source, accuracy (%): means over all targets as they are printed.
    """

    name: str
    about: str
    notes: tuple[str, ...]
    cells: pd.DataFrame
    printed: pd.DataFrame


def read_published(folder: Path) -> list[Published]:
    """Return every table of the form method,source,target,accuracy in a folder.

    Lines that begin with # name the source. A row with the target `mean` is a mean over all targets as it is printed.

    Raises:
        BenchError: A table cannot be read, or its source is missing.
    """
    tables = []
    for path in sorted(folder.glob("[!.]*.csv")):
        comments, rows = _read(path)
        if not set(COLUMNS) <= set(rows):
            continue
        if not comments:
            raise BenchError(f"{path}:1: a published table begins with a line # that names its source")
        printed = rows.target == "mean"
        means = rows[printed].drop(columns="target")
        tables.append(Published(path.stem, comments[0], tuple(comments[1:]), rows[~printed], means))
    return tables


def _read(path: Path) -> tuple[list[str], pd.DataFrame]:
    """Return the texts of the lines that begin with #, and the table of the other lines, where a # is text."""
    try:
        lines = read_text(path).split("\n")
        rows = pd.read_csv(StringIO("\n".join(line for line in lines if not line.startswith("#"))))
        if {"target", "accuracy"} <= set(rows):
            rows = rows.astype({"accuracy": float})
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: cannot be read as a table of published numbers: {error}") from None
    return [line.lstrip("# ").strip() for line in lines if line.startswith("#")], rows


def read_published_ablation(folder: Path, method: str) -> tuple[str, dict[str, float]]:
    """Return the source of METHOD_ablation.csv and the mean over targets (%) of each variant, by this project's names.

    The file has the form variant,target,accuracy. The result is empty if the file does not exist.

    Raises:
        BenchError: The file cannot be read, or its source is missing.
    """
    path = folder / f"{method}_ablation.csv"
    if not path.is_file():
        return "", {}
    comments, rows = _read(path)
    if not comments:
        raise BenchError(f"{path}:1: a published table begins with a line # that names its source")
    means = rows.groupby("variant", sort=False).accuracy.mean()
    return comments[0], {_VARIANTS.get(str(name), str(name)): float(mean) for name, mean in means.items()}


_VARIANTS = {"none": "no mask", "mask": "mask only", "mask+separation": "no diversity"}
"""The names of the paper's rows, mapped to those of protocols/cafe-ablation.yaml."""


def summary(published: Published) -> pd.DataFrame:
    """Return means over targets, one row per method: on the source, on all, on others; and on others by source."""
    cells = published.cells
    rows = []
    for method, group in cells.groupby("method", sort=False):
        own, other = group[group.source == group.target], group[group.source != group.target]
        row = {
            "method": method,
            "own": own.accuracy.mean(),
            "all": group.accuracy.mean(),
            "other": other.accuracy.mean(),
        }
        rows.append(row | {source: part.accuracy.mean() for source, part in other.groupby("source", sort=False)})
    return pd.DataFrame(rows)


def reprinted(published: Published) -> pd.DataFrame:
    """Return the printed means over all targets that differ from the means of the printed cells.

    Only differences larger than rounding to two decimals explains are returned. Columns: method, source, printed,
    recomputed, difference.
    """
    means = published.cells.groupby(["method", "source"]).accuracy.mean().rename("recomputed").reset_index()
    frame = published.printed.rename(columns={"accuracy": "printed"}).merge(means, on=["method", "source"], how="left")
    frame["difference"] = frame.printed - frame.recomputed
    return frame[frame.difference.abs() > 0.0051].reset_index(drop=True)


def concerned(published: Published, boards: Iterable[Board]) -> list[Board]:
    """Return the leaderboards of real faces that share a domain with a published table."""
    domains = {*published.cells.source, *published.cells.target}
    return [board for board in boards if not board.synthetic and domains & set(board.cells.target)]


def beside(published: Published, board: Board) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Yield the numbers of each published method that a leaderboard has under the same name with default parameters.

    Each item is the name, the source x target table as published, and measured minus published; nan for cells that were
    not measured.
    """
    for name, group in published.cells.groupby("method", sort=False):
        cells = board.cells
        usual = (cells.changes == "{}") & (cells["views"] == "plain") & (cells.prior == 0)
        own = cells[(cells.base_method == str(name).casefold()) & usual]
        if own.pretraining.nunique() != 1 or own.precision.nunique() != 1:
            continue  # none, or several kinds of pre-training or precision, whose means are not comparable
        order = {"index": group.source.unique(), "columns": group.target.unique()}
        printed = group.pivot(index="source", columns="target", values="accuracy").reindex(**order)
        difference = matrix(own, "accuracy").mean.reindex(**order) - printed
        if difference.notna().any(axis=None):
            yield str(name), printed, difference


PUBLISHED = "own: on the source itself; all: on all targets; other: on the other targets; then that for each source"
MISPRINTS = "Printed means over all targets that are not the means of the numbers beside them"


def above_annotator(published: Published, boards: Iterable[Board]) -> list[str]:
    """Return a sentence on the published accuracies above the agreement of a single annotator, with its reasons.

    Args:
        published: The table.
        boards: Leaderboards with the agreements of their domains.
    """
    known = {
        target: share for board in boards for target, share in annotators(board.cells, "accuracy").dropna().items()
    }
    cells = published.cells[published.cells.accuracy > published.cells.target.map(known).astype(float)]
    if cells.empty:
        return []
    targets = ", ".join(f"{target} {tenth(known[target])}" for target in dict.fromkeys(cells.target))
    numbers = [f"{row.method} from {row.source} {row.accuracy:.2f}" for row in cells.itertuples()]
    return [
        f"Above a single annotator, as measured on the labels here ({targets}): {listed(numbers, MOST_NAMED)}; {EASIER}"
    ]


def misprints(published: Published) -> list[list[str]]:
    """Return head and lines of a table of the printed means that disagree with their numbers; empty if none does."""
    frame = reprinted(published)
    lines = [
        [row.method, row.source, f"{row.printed:.2f}", f"{row.recomputed:.2f}", f"{row.difference:+.2f}"]
        for row in frame.itertuples()
    ]
    return [["method", "source", "printed", "recomputed", "difference"], *lines] if lines else []


def differences(published: Published, real: list[Board], metric: str) -> Iterator[tuple[str, list[list[str]]]]:
    """Yield titles and rows of tables of published cells, each with the measured minus the published number."""
    for board in real if metric == "accuracy" else ():
        for name, printed, difference in beside(published, board):
            rows = [["", *printed.columns]]
            for source in printed.index:
                pairs = zip(printed.loc[source], difference.loc[source], strict=True)
                line = [
                    number(value) + (f" {tenth(other, signed=True)}" if pd.notna(other) else "")
                    for value, other in pairs
                ]
                rows.append([source, *line])
            yield f"{name} as published, and measured here minus published ({board.title})", rows
