"""Read and compare numbers from papers, which are never ranked with measured ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.experiment.run import Exposure
from fergen_bench.files.bounded import read_text
from fergen_bench.report.notes import EASIER, MOST_NAMED
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import Board, annotators, matrix, number
from fergen_bench.wording import listed

COLUMNS = ["method", "source", "target", "accuracy"]

SETTINGS = ("generalization", "adaptation", "zero-shot")
"""The conditions of published tables: trained on a source, with unlabelled images of the target too, or on nothing."""

ZERO_SHOT = frozenset({"zero_shot", "exp_clip"})
"""The methods here that no image trains; a leaderboard with one of them is beside zero-shot tables."""

CLASSES = len(EXPRESSIONS)

NO_SOURCE = "none"
"""The source of zero-shot cells."""


@dataclass(frozen=True)
class Published:
    """A published table with its source and notes.

    Attributes:
        name: The name of its file, without the suffix.
        about: The source, from the first line of comment.
        notes: The other lines of comment.
        cells: method, source, target, accuracy (%), and backbone in some tables. All are over seven classes.
        printed: method, source, accuracy (%): means over all targets as they are printed.
        setting: One of `SETTINGS`.
    """

    name: str
    about: str
    notes: tuple[str, ...]
    cells: pd.DataFrame
    printed: pd.DataFrame
    setting: str = "generalization"

    @property
    def explained(self) -> str:
        """Return an explanation of the columns of `summary`."""
        if self.setting == "generalization":
            return PUBLISHED
        return "by target; —: not published" + ("; mean: over these targets" if len(self.printed) else "")

    @property
    def training(self) -> list[str]:
        """Return the columns that identify a training."""
        return [name for name in ("method", "backbone", "source") if name in self.cells]


def read_published(folder: Path) -> list[Published]:
    """Return every table of the form method,source,target,accuracy in a folder.

    Lines that begin with # name the source; one of them may be `setting: adaptation` or `setting: zero-shot`. A row
    with the target `mean` is a mean over all targets as it is printed. Where a column `classes` has another number than
    seven, the row is left out, with a note.

    Raises:
        BenchError: A table cannot be read, its source is missing or its setting does not exist.
    """
    tables = []
    for path in sorted(folder.glob("[!.]*.csv")):
        comments, rows = _read(path)
        if not set(COLUMNS) <= set(rows):
            continue
        if not comments:
            raise BenchError(f"{path}:1: a published table begins with a line # that names its source")
        setting, notes = _setting(path, comments)
        rows, left_out = _of_seven(rows)
        printed = rows.target == "mean"
        means = rows[printed].drop(columns="target")
        tables.append(Published(path.stem, notes[0], (*notes[1:], *left_out), rows[~printed], means, setting))
    return tables


def _setting(path: Path, comments: list[str]) -> tuple[str, list[str]]:
    """Return the setting of a table, and the other comments."""
    stated = [line.removeprefix("setting:").strip() for line in comments if line.startswith("setting:")]
    for name in stated:
        if name not in SETTINGS:
            raise BenchError(f"{path}: setting: {name!r} is not a setting{did_you_mean(name, SETTINGS)}")
    return next(iter(stated), SETTINGS[0]), [line for line in comments if not line.startswith("setting:")]


def _of_seven(rows: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows over seven classes, and a note on the others."""
    if "classes" not in rows:
        return rows, []
    others = rows[rows.classes != CLASSES]
    notes = [
        f"Left out, since they are over {classes} classes and these are {CLASSES}: {listed(dict.fromkeys(own.target))} "
        f"of {listed(dict.fromkeys(own.method))}"
        for classes, own in others.groupby("classes")
    ]
    return rows[rows.classes == CLASSES].reset_index(drop=True), notes


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
    """Return a row per method with means over targets: on the source, on all, on others; and on others by source.

    A table with another setting than generalization has a row per training instead, with a column for each target and
    the mean that is printed beside them.
    """
    cells = published.cells
    if published.setting != "generalization":
        return _by_target(published)
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


def _by_target(published: Published) -> pd.DataFrame:
    keys, cells = published.training, published.cells
    table = cells.set_index([*keys, "target"]).accuracy.unstack()
    table = table.reindex(index=cells.set_index(keys).index.unique(), columns=cells.target.unique())
    if len(published.printed):
        table["mean"] = published.printed.set_index(keys).accuracy
    names = [training_name(dict(zip(keys, key, strict=True))) for key in table.index]
    return pd.concat([pd.Series(names, name="method"), table.reset_index(drop=True)], axis=1)


def training_name(row: Mapping[str, str]) -> str:
    """Return the name of a published training: ICID, ResNet-50 from rafdb."""
    name = ", ".join(filter(None, (row["method"], row.get("backbone", ""))))
    return name if row["source"] == NO_SOURCE else f"{name} from {row['source']}"


def reprinted(published: Published) -> pd.DataFrame:
    """Return the printed means over all targets that differ from the means of the printed cells.

    Only differences larger than rounding to two decimals explains are returned. Columns: those of a training, printed,
    recomputed, difference.
    """
    keys = published.training
    means = published.cells.groupby(keys).accuracy.mean().rename("recomputed").reset_index()
    frame = published.printed.rename(columns={"accuracy": "printed"}).merge(means, on=keys, how="left")
    frame["difference"] = frame.printed - frame.recomputed
    return frame[frame.difference.abs() > 0.0051].reset_index(drop=True)


def concerned(published: Published, boards: Iterable[Board]) -> list[Board]:
    """Return the leaderboards of real faces under the conditions of a published table that share a domain with it."""
    domains = {*published.cells.source, *published.cells.target} - {NO_SOURCE}
    return [
        board
        for board in boards
        if not board.synthetic and domains & set(board.cells.target) and _same_conditions(published, board)
    ]


def _same_conditions(published: Published, board: Board) -> bool:
    """Return True where a leaderboard has rows that learned from what the methods of a published table learned from."""
    if published.setting == "adaptation":
        return board.adaptation
    if published.setting == "zero-shot":
        untrained = board.cells.pretraining.str.startswith(f"{Exposure((), None)}".partition(";")[0])
        return bool(board.cells.base_method.isin(ZERO_SHOT).any() or (board.finished and untrained.any()))
    return not (board.adaptation or board.online)


def beside(published: Published, board: Board) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Yield the numbers of each published method that a leaderboard has under the same name with default parameters.

    Each item is the name, the source x target table as published, and measured minus published; nan for cells that were
    not measured.
    """
    for name, group in published.cells.groupby("method", sort=False) if published.setting == "generalization" else ():
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
    names = map(training_name, cells[published.training].to_dict("records"))
    numbers = [f"{name} {accuracy:.2f}" for name, accuracy in zip(names, cells.accuracy, strict=True)]
    return [
        f"Above a single annotator, as measured on the labels here ({targets}): {listed(numbers, MOST_NAMED)}; {EASIER}"
    ]


def misprints(published: Published) -> list[list[str]]:
    """Return head and lines of a table of the printed means that disagree with their numbers; empty if none does."""
    frame, keys = reprinted(published), published.training
    lines = [
        [*row[keys], f"{row.printed:.2f}", f"{row.recomputed:.2f}", f"{row.difference:+.2f}"]
        for _, row in frame.iterrows()
    ]
    return [[*keys, "printed", "recomputed", "difference"], *lines] if lines else []


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
