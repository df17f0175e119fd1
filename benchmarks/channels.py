"""Measure what the mask and the groups of channels of CAFE do, from the checkpoints of its runs.

Two questions of the paper:

1. Does each group of channels stand for its expression? The channels of one group after the other are set to 0 in the
   masked features, and the recall of each expression is measured again, on unseen domains. If the groups are right, an
   expression loses more by its own group than by the others. The p value is exact: the share of the 5040 assignments of
   groups to expressions whose mean loss is at least that of the true assignment.
2. Does a mask depend on the expression, or on the domain? Mean masks of each domain and expression are correlated,
   after the mean over all of them is taken out.

    python benchmarks/channels.py results --json results/reference/channels.json

The runs must have been executed with --keep-models.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fergen_bench.api.prepared import domain
from fergen_bench.api.run import open_project
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.execution.fitted import open_fitted
from fergen_bench.metric import confusion_matrix, recalls
from fergen_bench.records import listing
from fergen_bench.records.sidecar import CHECKPOINT, sidecar
from fergen_bench.records.store import RecordFile

if TYPE_CHECKING:
    from fergen_bench.experiment.project import Project
    from fergen_bench.records.record import RunRecord

CLASSES = len(EXPRESSIONS)
BATCH = 256


def main(argv: list[str] | None = None) -> None:
    """Write the numbers of all runs of CAFE below a folder, by row of the leaderboard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a results folder whose runs have checkpoints")
    parser.add_argument("--rows", nargs="+", default=["cafe", "cafe (separation=0.0)"], help="rows of the leaderboard")
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    options = parser.parse_args(argv)
    project = open_project(None)
    found: dict[str, list[dict[str, Any]]] = {row: [] for row in options.rows}
    for path in listing.candidates(options.results / "runs")[0]:
        record = RecordFile.open(path).record
        if record.spec.label in found and record.spec.trained == record.spec and sidecar(path, CHECKPOINT).exists():
            print(f"{record.spec.label}: {'+'.join(record.spec.sources)}, seed {record.spec.seed}", file=sys.stderr)
            found[record.spec.label].append(of_run(project, path, record))
    numbers = {row: summary(runs) for row, runs in found.items() if runs}
    for row, one in numbers.items():
        print(f"\n{row}, {one['runs']} runs")
        print(
            f"  recall lost by the own group {one['own']:.2f} points, by another {one['other']:.2f}; p {one['p']:.4f}"
        )
        for name, value in one["correlations"].items():
            print(f"  correlation of mean masks, {name}: {value['mean']:.3f} (sd over runs {value['sd']:.3f})")
    if options.json:
        options.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


def of_run(project: Project, path: Path, record: RunRecord) -> dict[str, Any]:
    """Return what one run contributes.

    Args:
        project: The project with the prepared domains.
        path: The record, with a checkpoint beside it.
        record: Its content.

    Returns:
        `lost` (7, 7), the recall of expression k (column) in points that is lost without the channels of group g (row),
        the mean over unseen domains; and `masks` (domains, 7, C), the mean mask of each domain and expression.
    """
    method: Any = open_fitted(project, path, "cpu").method
    channels = sys.modules[type(method).__module__]
    lost, masks = [], []
    for name, relation in record.spec.relations.items():
        prepared = domain(project, record.spec.suite, name)
        assert prepared is not None, f"{name} is not prepared on this machine"
        split = prepared.split("test")
        labels, scores, mask = split.labels, [], []
        with torch.no_grad():
            for images in split.batches(torch.device("cpu"), BATCH):
                masked = method._masked(images)
                offsets = channels.group_borders(masked.shape[1], CLASSES, method.groups)
                scores.append(torch.stack([method._fc(one) for one in without_each_group(masked, offsets)]).argmax(2))
                mask.append(method.inspect(images)["mask"])
        masks.append([torch.cat(mask)[labels == k].mean(0).numpy() for k in range(CLASSES)])
        if relation == "unseen":
            recall = [recalls(confusion_matrix(labels, one.numpy(), CLASSES)) for one in torch.cat(scores, 1)]
            lost.append(100 * (recall[0] - np.array(recall[1:])))
    return {"lost": np.mean(lost, 0), "masks": np.array(masks)}


def without_each_group(masked: torch.Tensor, offsets: list[int]) -> Iterator[torch.Tensor]:
    """Yield features (N, C) as they are, and then with the channels of each group set to 0."""
    yield masked
    for start, stop in itertools.pairwise(offsets):
        muted = masked.clone()
        muted[:, start:stop] = 0
        yield muted


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the numbers of a row: losses by group, the exact test, and correlations of masks."""
    lost = np.mean([run["lost"] for run in runs], 0)
    own = float(np.trace(lost) / CLASSES)
    assigned = [lost[list(order), range(CLASSES)].mean() for order in itertools.permutations(range(CLASSES))]
    by_run = [float(np.trace(run["lost"]) / CLASSES - off_diagonal(run["lost"])) for run in runs]
    return {
        "runs": len(runs),
        "own": own,
        "other": float(off_diagonal(lost)),
        "p": float(np.mean(np.array(assigned) >= own - 1e-9)),
        "difference_by_run": [round(one, 3) for one in by_run],
        "lost": np.round(lost, 3).tolist(),
        "expressions": list(EXPRESSIONS),
        "correlations": correlations([run["masks"] for run in runs]),
    }


def off_diagonal(lost: np.ndarray) -> float:
    """Return the mean of the elements (7, 7) off the diagonal."""
    return float(lost[~np.eye(CLASSES, dtype=bool)].mean())


def correlations(masks: list[np.ndarray]) -> dict[str, dict[str, float]]:
    """Return mean correlations of mean masks, over pairs of one kind.

    Args:
        masks: Mean masks (domains, 7, C), one array per run.

    Returns:
        By kind of pair (same expression in two domains, two expressions in one domain, neither), the mean over runs
        and the standard deviation over runs.
    """
    kinds: dict[str, list[float]] = {
        "same expression, other domain": [],
        "other expression, same domain": [],
        "other expression, other domain": [],
    }
    for one in masks:
        flat = (one - one.mean((0, 1))).reshape(-1, one.shape[2])
        table = np.corrcoef(flat)
        place, expression = np.divmod(np.arange(len(flat)), CLASSES)
        same_place, same_expression = place[:, None] == place, expression[:, None] == expression
        for name, pairs in zip(
            kinds,
            (same_expression & ~same_place, same_place & ~same_expression, ~same_place & ~same_expression),
            strict=True,
        ):
            kinds[name].append(float(table[pairs].mean()))
    return {name: {"mean": float(np.mean(each)), "sd": float(np.std(each, ddof=1))} for name, each in kinds.items()}


if __name__ == "__main__":
    main()
