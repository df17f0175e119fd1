"""Write the numbers of a table, without pictures or predictions, as one row of CSV per method.

The licences of most datasets forbid to pass pictures on. The two domains of photographs of `docs/findings.md` are shown
by this table alone: the mean accuracy on unseen domains with its interval, and the difference from the linear probe on
the same frozen network, or from the suite's where a row has none; the number of scored faces, and the mean accuracy of
an answer that is always the commonest expression of the domain.

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
    longest_first = sorted(frame[frame.base_method == FIRST].itertuples(), key=lambda row: -len(str(row.method)))
    probes = {row.pretraining: row.method for row in longest_first}  # the plainest probe of each network
    over: dict[str, list[float]] = {"over_linear_probe": [], "over_low": [], "over_high": []}
    for row in frame.itertuples():
        first = next((probes[name] for name in str(row.pretraining).split(", ") if name in probes), FIRST)
        compared = None if row.method == FIRST else results.compare(FIRST if row.method == first else first, row.method)
        values = (np.nan,) * 3 if compared is None else (compared.difference, *compared.interval)
        for column, value in zip(over, values, strict=True):
            over[column].append(value)
    faces = {cell.target: np.sum(cell.confusion, axis=1) for record in results.records for cell in record.cells}
    frame["faces"] = sum(int(counts.sum()) for counts in faces.values())
    frame["commonest"] = 100 * np.mean([counts.max() / counts.sum() for counts in faces.values()])
    table = pd.DataFrame({**{column: frame[column] for column in COLUMNS}, **over})
    table.sort_values("unseen", ascending=False).round(2).to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
