"""Draw the figures that only the page has, and prepare all of its figures as part of the HTML."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from markupsafe import Markup

from fergen_bench.report import details, figures
from fergen_bench.report.details import Reliability
from fergen_bench.report.folder import Ablation
from fergen_bench.report.leaderboard import LeaderboardView
from fergen_bench.report.tables import Board, by_share


@dataclass(frozen=True)
class Drawing:
    """A figure on the page.

    Attributes:
        title: Its title, in words.
        name: The name of its files, without suffix.
        svg: The picture.
    """

    title: str
    name: str
    svg: Markup


class Drawings:
    """The figures in the folder of a report.

    Attributes:
        folder: The report's folder.
        drawn: The names of the figures that `folder.write` has drawn, without suffix.
        palette: The colours of the methods.
    """

    def __init__(self, folder: Path, drawn: Sequence[str], palette: figures.Colours) -> None:
        self.folder, self.drawn, self.palette = folder, drawn, palette

    def shown(self, title: str, name: str) -> Drawing:
        """Return a figure of the folder."""
        return Drawing(title, name, inline(self.folder / f"{name}.svg", title))

    def add(self, title: str, name: str, figure: figures.Figure) -> Drawing:
        """Save a figure in the folder and return it."""
        figures.save(figure, self.folder, name)
        return self.shown(title, name)

    def of_board(self, board: Board, ablations: Iterable[Ablation]) -> list[Drawing]:
        """Return the ablations of a leaderboard that are drawn. The page has its other tables and means as HTML."""
        named = {f"{board.slug}-{ablation.protocol}": f"Ablation: {ablation.about}" for ablation in ablations}
        return [self.shown(title, name) for name, title in named.items() if name in self.drawn]

    def of_trainings(
        self, board: Board, rows: details.Rows, whole: details.Rows, recalls: pd.DataFrame, reliability: Reliability
    ) -> list[Drawing]:
        """Draw cost, reliability and training curves.

        Args:
            board: The leaderboard.
            rows: The records of each row.
            whole: The records of each row of the seeds that have every cell, as for `recalls`.
            recalls: See `details.recall_table`.
            reliability: Reliability tables of the cells with predictions.
        """
        found = []
        histories, bins = details.histories(rows), details.reliability_curves(whole, reliability)
        if board.table.unseen.notna().any():
            found.append(self.add("Accuracy and cost", f"{board.slug}-cost", figures.cost(board, histories)))
        if recalls.notna().any(axis=None):  # as a table on the page
            figures.save(figures.recall_heatmap(board, recalls), self.folder, f"{board.slug}-recall")
        if len(bins):
            figure = figures.reliability(board, bins)
            found.append(self.add("Reliability of confidence", f"{board.slug}-reliability", figure))
        for value, title in (("loss", "Training loss"), ("val_accuracy", "Accuracy on held-out faces of the source")):
            if histories[value].notna().any():
                name = f"{board.slug}-training-{value.replace('_', '-')}"
                found.append(self.add(title, name, figures.training_curves(board, histories, value)))
        return found

    def curves(self, views: Sequence[LeaderboardView]) -> list[Drawing]:
        """Return the curves over several leaderboards: by share of the data, and by strength of a corruption."""
        found = []
        for group in by_share(views, lambda view: view.board):
            boards = [view.board for view in group]
            if len(boards) > 1 and len(figures.scaled(boards)):
                name = f"{max(boards, key=lambda board: board.fraction).slug}-data-scale"
                figure = figures.data_scale(boards, group[0].metric, self.palette)
                found.append(self.add("How much data it takes", name, figure))
        suites = tuple({view.board.suite for view in views})
        shifts = [name for name in self.drawn if name.startswith(suites) and "-shift-" in name]
        # The conditions that differ between leaderboards are in the names.
        return found + [self.shown(f"Corruption: {name.partition('-shift-')[2]}", name) for name in shifts]


def inline(path: Path, title: str) -> Markup:
    """Return an SVG to insert in a page: black becomes the page's text colour, and no namespace addresses remain."""
    svg = path.read_text(encoding="utf-8")
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids would repeat those of other figures
    # Dark greys change too, but not #262626, the colour of numbers on the light cells of a heat map.
    svg = re.sub(r"#(?!262626)([0-6][0-9a-f])\1\1\b", "currentColor", svg)
    # Letters have 8 pt for paper; on a screen they are a quarter larger.
    svg = re.sub(
        r'<svg width="([\d.]+)pt" height="[\d.]+pt"', lambda m: f'<svg style="width:{1.25 * float(m[1]):.0f}pt"', svg
    )
    label = Markup(f'<svg role="img" aria-label="{Markup.escape(title)}" ')  # noqa: S704
    return label + Markup(svg.removeprefix("<svg "))  # noqa: S704 - matplotlib escapes the text in it
