"""Write the numbers of a table, without pictures or predictions, as one row of CSV per method.

The licences of most datasets forbid to pass pictures on. The two domains of photographs of `docs/findings.md` are shown
by this table alone: the mean accuracy on unseen domains with its interval; the paired difference from the linear probe
and from CAFE with theirs, on the same frozen network, or from the suite's where a row has none; the number of scored
faces, and the mean accuracy of an answer that is always the commonest expression of the domain.

    python benchmarks/photographs.py results --suite photographs --csv results/reference/photographs.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import fergen_bench as fb

COLUMNS = [
    "method",
    "in_domain",
    "unseen",
    "unseen_low",
    "unseen_high",
    "seeds",
    "unseen_balanced_accuracy",
    "faces",
    "commonest",
]
FIRST = "linear_probe"


def differences(results: fb.Results, frame: pd.DataFrame, first: str, prefix: str) -> dict[str, list[float]]:
    """Return the paired difference of each row from the row of a method on the same network, with its interval.

    Args:
        results: The records.
        frame: The rows of the leaderboard that are compared.
        first: The method of the other row.
        prefix: The columns are over_FIRST, PREFIX_low and PREFIX_high; points, nan where there is nothing to compare.
    """
    longest_first = sorted(frame[frame.base_method == first].itertuples(), key=lambda row: -len(str(row.method)))
    plainest = {row.pretraining: row.method for row in longest_first}  # of each network
    found: dict[str, list[float]] = {f"over_{first}": [], f"{prefix}_low": [], f"{prefix}_high": []}
    for row in frame.itertuples():
        other = next((plainest[name] for name in str(row.pretraining).split(", ") if name in plainest), first)
        other = first if other == row.method else other  # the plainest of its own network
        known = other != row.method and other in set(frame.method)
        compared = results.compare(other, row.method) if known else None
        values = (np.nan,) * 3 if compared is None else (compared.difference, *compared.interval)
        for column, value in zip(found, values, strict=True):
            found[column].append(value)
    return found


def main(argv: list[str] | None = None) -> None:
    """Write the table of a suite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a results folder")
    parser.add_argument("--suite", default="photographs", help="the suite of the domains")
    parser.add_argument("--csv", type=Path, required=True, help="write the table to this file")
    options = parser.parse_args(argv)
    results = fb.load_results(options.results, suite=options.suite)
    frame = results.leaderboard()
    frame = frame[frame.unseen.notna()].copy()
    if not (frame.method == FIRST).any():
        parser.error(f"{options.results}: suite {options.suite} has no row {FIRST}, which the others are compared with")
    over = {**differences(results, frame, "linear_probe", "over"), **differences(results, frame, "cafe", "over_cafe")}
    faces = {cell.target: np.sum(cell.confusion, axis=1) for record in results.records for cell in record.cells}
    frame["faces"] = sum(int(counts.sum()) for counts in faces.values())
    frame["commonest"] = 100 * np.mean([counts.max() / counts.sum() for counts in faces.values()])
    table = pd.DataFrame({**{column: frame[column] for column in COLUMNS}, **over})
    table.sort_values("unseen", ascending=False).round(2).to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
