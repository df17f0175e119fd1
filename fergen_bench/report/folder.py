"""Write the files of a report into its folder, replacing those of the report before."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from fergen_bench.error import BenchError
from fergen_bench.report import data, figures
from fergen_bench.report.latex import PACKAGES, difference_table, leaderboard_table, matrix_table, target_table
from fergen_bench.report.leaderboard import LeaderboardView, leaderboard_frame
from fergen_bench.report.markdown import markdown
from fergen_bench.report.pairs import compared_pairs
from fergen_bench.report.published import Published
from fergen_bench.report.shifts import factors, shift_boards
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import Board
from fergen_bench.report.targets import by_target


@dataclass(frozen=True)
class Ablation:
    """A protocol with variants, each with the changes that it makes, as records store them."""

    protocol: str
    suite: str
    about: str
    method: str
    variants: Mapping[str, str]
    published: Mapping[str, float] = field(default_factory=dict)  # accuracies (%) that a paper printed for variants
    printed_in: str = ""


WRITTEN = ".written"
"""A file in the folder of a report with the names of the report's files, one per line."""


@contextmanager
def replaced(folder: Path, listing: str = WRITTEN) -> Iterator[Path]:
    """Yield an empty folder to write a report or a site to, and move its files into `folder` at the end.

    Files that were written before are removed unless they are written again: figures of other methods and suites must
    not remain in the folder of a page. Other files stay. After an error the folder is unchanged.

    Args:
        folder: The folder. Created where it does not exist.
        listing: The name of the file in it that lists what is written.

    Raises:
        BenchError: The folder is a file, or a link in it leads a file out of it.
    """
    if folder.exists() and not folder.is_dir():
        raise BenchError(f"{folder}: is a file; name a folder for the pages and tables")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".draft-") as draft:
        yield Path(draft)
        names = sorted(path.relative_to(draft).as_posix() for path in Path(draft).rglob("*") if path.is_file())
        for name in names:
            if not _is_inside(folder, name):
                raise BenchError(f"{folder / name}: a link leads out of {folder}. Remove the link.")
        listed = folder / listing
        before = listed.read_text("utf-8", "replace").splitlines() if listed.is_file() else []
        listed.write_text("\n".join(dict.fromkeys((*before, *names))), encoding="utf-8")
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(draft, name), folder / name)
        for name in set(before) - set(names):
            if name and _is_inside(folder, name):
                _remove(folder / name, folder)
        listed.write_text("\n".join(names), encoding="utf-8")


def _is_inside(folder: Path, name: str) -> bool:
    """Return whether a file is below a folder, and no link on the way leads out of it."""
    return (folder / name).parent.resolve().is_relative_to(folder.resolve()) and Path(name).name not in {"", ".", ".."}


def _remove(path: Path, folder: Path) -> None:
    """Remove a file, and the folders up to `folder` that are empty then."""
    if path.is_dir() and not path.is_symlink():
        return
    path.unlink(missing_ok=True)
    for parent in path.parents:
        if parent == folder or not parent.is_dir() or any(parent.iterdir()):
            return
        parent.rmdir()


def write(
    folder: Path,
    views: Sequence[LeaderboardView],
    published: Iterable[Published] = (),
    ablations: Iterable[Ablation] = (),
    shifted: pd.DataFrame | None = None,
    evidence: Evidence | None = None,
) -> list[Path]:
    """Write the files of a report apart from its page: tables and figures.

    The tables are leaderboard.md, .csv and .tex, matrix.tex, difference.tex, cells.csv and data.csv.

    Args:
        folder: Created where it does not exist.
        views: At least one, all with the same metric.
        published: Tables from papers.
        ablations: Protocols with variants, each drawn where there are records of its variants.
        shifted: Scores on changed test images, see `records.frame.shifted_frame`.
        evidence: The stored predictions, without which matrix.tex has no intervals and difference.tex is not written.

    Returns:
        The tables, and of each figure its PNG.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shifts = list(shift_boards(pd.DataFrame() if shifted is None else shifted))
    palette = figures.colours([view.board for view in views], shifted)
    evidence = Evidence() if evidence is None else evidence
    files = _write_tables(folder, views, evidence, published, shifts)
    known = list(ablations)
    for view in views:
        files += _draw(folder, view, known, palette)
    for board in shifts:
        for factor in factors(board):
            figure = figures.shift_curves(board.cells, factor, views[0].metric, board.title, palette)
            files.append(figures.save(figure, folder, f"{board.slug}-shift-{factor}"))
    return files


def _write_tables(
    folder: Path,
    views: Sequence[LeaderboardView],
    evidence: Evidence,
    published: Iterable[Published],
    shifts: Sequence[Board],
) -> list[Path]:
    texts = {
        "leaderboard.md": markdown(views, published, shifts),
        "leaderboard.tex": "\n".join([PACKAGES, *map(leaderboard_table, views)]),
        "matrix.tex": "\n".join([PACKAGES, *(table for view in views for table in _matrices(view, evidence))]),
    }
    pairs = (
        {} if v.best is None else {two: found for _, two, found in compared_pairs(v.board, evidence, v.metric, v.best)}
        for v in views
    )
    if differences := list(filter(None, map(difference_table, views, pairs))):
        texts["difference.tex"] = "\n".join([PACKAGES, *differences])
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    frames = {
        "leaderboard.csv": leaderboard_frame(views),
        "cells.csv": pd.concat([view.board.cells for view in views], ignore_index=True),
        "data.csv": data.frame((view.board.suite, view.board.profile, view.board.data) for view in views),
    }
    for name, frame in frames.items():
        frame.map(_no_formula).to_csv(folder / name, index=False, float_format="%.4f", encoding="utf-8")
    return [folder / name for name in (*texts, *frames)]


def _matrices(view: LeaderboardView, evidence: Evidence) -> Iterator[str]:
    """Yield the table of methods by target, then the matrix of each row."""
    targets, lines = by_target(view, evidence)
    if targets:
        yield target_table(view, targets, lines)
    for name, found in view.matrices:
        yield matrix_table(view, name, found)


def _draw(
    folder: Path, view: LeaderboardView, ablations: Iterable[Ablation], palette: figures.Colours
) -> Iterator[Path]:
    """Save the figures of one leaderboard that need no stored predictions."""
    board, metric = view.board, view.metric
    for name, cells in board.rows():
        yield figures.save(figures.heatmap(board, name, cells, metric), folder, f"{board.slug}-{file_name(name)}")
    if board.table.unseen.notna().any():
        yield figures.save(figures.unseen_means(board, metric), folder, f"{board.slug}-unseen")
    for ablation in (ablation for ablation in ablations if ablation.suite == board.suite):
        method = board.cells[board.cells.base_method == ablation.method]
        for conditions, rows in method.groupby(["precision", "views", "prior"]):
            variants = {name: rows[rows.changes == changes] for name, changes in ablation.variants.items()}
            variants = {name: group for name, group in variants.items() if len(group)}
            if len(variants) > 1 and next(iter(variants)) == next(iter(ablation.variants)):
                printed = ablation.published, ablation.printed_in
                figure = figures.ablation(board, ablation.about, variants, metric, *printed)
                usual = ("fp32", "plain", 0.0)
                kind = "".join(f"-{own}" for own, other in zip(conditions, usual, strict=True) if own != other)
                yield figures.save(figure, folder, f"{board.slug}-{ablation.protocol}{kind}")


def file_name(name: str) -> str:
    """Return a file name: full_finetune (backbone=scratch) → full_finetune-backbone_scratch, at most 80 characters."""
    kept = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in name.replace(" (", "-"))
    kept = kept.strip("_")
    return kept if len(kept) <= 80 else f"{kept[:70]}-{hashlib.sha256(kept.encode()).hexdigest()[:8]}"


def _no_formula(cell: object) -> object:
    """Return a cell whose text a spreadsheet does not compute."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(tuple("=+-@\t\r")) else cell
