"""Tabulate scores on changed test images: corrupted ones, and faces rendered again with one factor changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fergen_bench.data.corruption import CLEAN, FACTORS, VERSION
from fergen_bench.report.tables import CELL, CONDITIONS, ROW, Board, number


def shift_boards(shifted: pd.DataFrame) -> Iterator[Board]:
    """Yield the cells on changed images by the conditions under which they are comparable, as boards without a ranking.

    Cells of an older version of the factors are left out.
    """
    if not shifted.empty:
        shifted = shifted[shifted.factor_version == VERSION]
        for conditions, group in shifted.groupby(CONDITIONS, sort=False):
            yield Board(**dict(zip(CONDITIONS, conditions, strict=True)), table=pd.DataFrame(), cells=group)


def shift_means(shifted: pd.DataFrame, factor: str, metric: str) -> pd.DataFrame:
    """Return mean and sd over seeds for each method, relation and level of a factor, and for the unchanged faces.

    The number of seeds is a column too; sd is nan below two. A seed counts only if it has every cell that any method
    has. The scores of unchanged faces come from the runs with scores of the factor, on the same faces. If a run has
    scores on fewer and on more faces, those on more faces count.
    """
    faces = ["key", "target", "asked"]
    moved = shifted[shifted.factor == factor]
    moved = moved[moved.asked == moved.groupby(["key", "target", "level"]).asked.transform("max")]
    clean = shifted[shifted.factor == CLEAN].merge(moved[faces].drop_duplicates(), on=faces)
    frame = pd.concat([clean, moved])
    by = [*ROW, "relation", "factor", "level"]
    wanted = moved.drop_duplicates([*CELL, "relation"]).groupby("relation").size()
    seeds = frame.groupby([*by, "seed"], sort=False)[metric].agg(["mean", "size"]).reset_index()
    seeds = seeds[seeds["size"] == seeds.relation.map(wanted)]
    means = seeds.groupby(by, sort=False)["mean"].agg(mean="mean", sd="std", seeds="size").reset_index()
    return means.sort_values([*ROW, "relation", "level"], kind="stable", ignore_index=True)


def factors(board: Board) -> list[str]:
    """Return the factors of which some seed on a board has every cell, in the order of FACTORS."""
    return [name for name in _scored(board) if len(shift_means(board.cells, name, "accuracy"))]


def _scored(board: Board) -> list[str]:
    there = set(board.cells.factor)
    return [name for name in FACTORS if name in there]


def shift_note(board: Board) -> str:
    """Return a sentence on the means of a table, the number of faces scored, and the factors that have no table."""
    counts = board.cells.groupby("target", sort=False).faces.max()
    faces = ", ".join(f"{target} {count:,}" for target, count in counts.items())
    lacking = ", ".join(name for name in _scored(board) if name not in factors(board))
    return (
        f"Mean over the targets that were shifted; clean: the same faces as they are. Faces scored: {faces}"
        f"{f'. Not shown, since no seed has every cell: {lacking}' if lacking else ''}"
    )


def shift_rows(board: Board, factor: str, metric: str, spread: bool = True) -> list[list[str]]:
    """Return a line for each method and relation, with a column for each level."""
    frame = shift_means(board.cells, factor, metric)
    levels = sorted(set(frame.level[frame.factor == factor]))
    rows = [["method", "pre-training", "targets", "clean", *(f"{level:g}" for level in levels), "seeds"]]
    for (method, pretraining, relation), group in frame.groupby([*ROW, "relation"], sort=False):
        at = {(row.factor, row.level): number(row.mean, row.sd if spread else np.nan) for row in group.itertuples()}
        numbers = [at.get(place, "—") for place in [(CLEAN, 0.0), *((factor, level) for level in levels)]]
        rows.append([method, pretraining, relation, *numbers, str(group.seeds.max())])
    return rows
