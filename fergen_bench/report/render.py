"""Earlier names of the writers, for callers that are not moved yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from fergen_bench.report import folder, terminal
from fergen_bench.report.folder import Ablation as Ablation
from fergen_bench.report.folder import replaced as replaced
from fergen_bench.report.leaderboard import COLUMNS as COLUMNS
from fergen_bench.report.leaderboard import LeaderboardView, leaderboard_frame
from fergen_bench.report.published import Published
from fergen_bench.report.tables import Board


def _views(boards: Iterable[Board], metric: str) -> list[LeaderboardView]:
    return [LeaderboardView(board, metric) for board in boards]


def show(
    console: Console,
    boards: Sequence[Board],
    metric: str,
    published: Iterable[Published] = (),
    shifted: pd.DataFrame | None = None,
) -> None:
    terminal.show(console, _views(boards, metric), published, shifted)


def write(
    target: Path,
    boards: Sequence[Board],
    metric: str,
    published: Sequence[Published],
    ablations: Iterable[Ablation],
    shifted: pd.DataFrame | None = None,
) -> list[Path]:
    return folder.write(target, _views(boards, metric), published, ablations, shifted)


def _csv(boards: Iterable[Board], metric: str) -> pd.DataFrame:
    return leaderboard_frame(_views(boards, metric))
