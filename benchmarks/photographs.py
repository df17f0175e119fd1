"""Write the numbers of a table, without pictures or predictions, as one row of CSV per method.

The licences of most datasets forbid to pass pictures on. The two domains of photographs of `docs/findings.md` are shown
by this table alone: the mean accuracy on unseen domains with its interval; with theirs, the paired differences from the
linear probe on the same frozen network, or the suite's where a row has none, and from the row `cafe`; the number of
scored faces, and the mean accuracy of an answer that is always the commonest expression of the domain.

    python benchmarks/photographs.py results --suite photographs --csv results/reference/photographs.csv
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
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
    "over_linear_probe",
    "over_low",
    "over_high",
    "over_cafe",
    "over_cafe_low",
    "over_cafe_high",
]
FIRST = "linear_probe"


def probes(frame: pd.DataFrame) -> list[str]:
    """Return for each row the plainest linear probe on its frozen network; FIRST where there is none, or it is that."""
    longest_first = sorted(frame[frame.base_method == FIRST].itertuples(), key=lambda row: -len(str(row.method)))
    plainest = {row.pretraining: str(row.method) for row in longest_first}
    own = (
        next((plainest[name] for name in str(row.pretraining).split(", ") if name in plainest), FIRST)
        for row in frame.itertuples()
    )
    return [FIRST if probe == method else probe for probe, method in zip(own, frame.method, strict=True)]


def differences(results: fb.Results, frame: pd.DataFrame, others: Sequence[str]) -> np.ndarray:
    """Return the paired difference of each row from another one and its interval, (rows, 3), in points.

    It is nan where the other row is the row itself, or is missing.
    """
    found = np.full((len(frame), 3), np.nan)
    for place, (method, other) in enumerate(zip(frame.method, others, strict=True)):
        if other != method and other in set(frame.method):
            compared = results.compare(other, method)
            found[place] = compared.difference, *compared.interval
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
    frame[["over_linear_probe", "over_low", "over_high"]] = differences(results, frame, probes(frame))
    frame[["over_cafe", "over_cafe_low", "over_cafe_high"]] = differences(results, frame, ["cafe"] * len(frame))
    faces = {cell.target: np.sum(cell.confusion, axis=1) for record in results.records for cell in record.cells}
    frame["faces"] = sum(int(counts.sum()) for counts in faces.values())
    frame["commonest"] = 100 * np.mean([counts.max() / counts.sum() for counts in faces.values()])
    frame[COLUMNS].sort_values("unseen", ascending=False).round(2).to_csv(options.csv, index=False)


if __name__ == "__main__":
    main()
