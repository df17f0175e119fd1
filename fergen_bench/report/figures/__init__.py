"""Draw the figures of a report. Each function returns a figure that a notebook shows; only `save` writes files."""

from __future__ import annotations

from fergen_bench.report.canvas import Figure
from fergen_bench.report.figures.cells import class_histogram, confusion_png, confusions, reliability, shift_curves
from fergen_bench.report.figures.layout import Colours, colours, save
from fergen_bench.report.figures.leaderboard import ablation, heatmap, recall_heatmap, unseen_means
from fergen_bench.report.figures.masks import mask_channels, mask_distribution, mask_similarity
from fergen_bench.report.figures.training import cost, data_scale, scaled, training_curves

__all__ = [
    "Colours",
    "Figure",
    "ablation",
    "class_histogram",
    "colours",
    "confusion_png",
    "confusions",
    "cost",
    "data_scale",
    "heatmap",
    "mask_channels",
    "mask_distribution",
    "mask_similarity",
    "recall_heatmap",
    "reliability",
    "save",
    "scaled",
    "shift_curves",
    "training_curves",
    "unseen_means",
]
