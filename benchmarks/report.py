"""Measure the time and memory of a report over many generated records with predictions.

python benchmarks/report.py --records 2000 --faces 1000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import seed_of
from fergen_bench.experiment.run import Run
from fergen_bench.records.record import HELD_OUT, Predictions, RunRecord, scored_cell
from fergen_bench.records.store import save
from fergen_bench.synth import DOMAINS

SEEDS = 3


def generate(runs: Path, count: int, faces: int) -> int:
    """Writes records of methods that differ in how often they are right, whole rows only; returns how many."""
    exams = {name: np.random.default_rng(seed_of(name)).integers(0, 7, faces) for name in DOMAINS}
    hard = {name: np.random.default_rng(seed_of("hard", name)).normal(size=faces) for name in DOMAINS}
    rows = max(1, count // (len(DOMAINS) * SEEDS))
    for row in range(rows):
        for source in DOMAINS:
            for seed in range(SEEDS):
                predictions = {
                    target: _said(exams[target], hard[target], 1.2 + 0.02 * row, row, seed, source, target)
                    for target in DOMAINS
                }
                spec = Run(
                    suite="synth5",
                    profile="official",
                    sources=(source,),
                    fingerprints={source: "f"},
                    method=f"method{row:03}",
                    version=1,
                    parameters={},
                    weights={},
                    seed=seed,
                    selection="source-val",
                    targets=dict.fromkeys(DOMAINS, "f"),
                    relations={target: "source" if target == source else "unseen" for target in DOMAINS},
                    synthetic=True,
                )
                cells = tuple(scored_cell(spec, target, "f", said) for target, said in predictions.items())
                held = _said(exams[source][:100], hard[source][:100], 2.0, row, seed, source)
                record = RunRecord(spec, cells, (), None, {}, {}, {"fit": 1.0}, "2026-01-01T00:00:00+00:00", "0" * 64)
                save(record, runs, predictions | {HELD_OUT: held})
    return rows * len(DOMAINS) * SEEDS


def _said(labels: np.ndarray, hard: np.ndarray, skill: float, *names: object) -> Predictions:
    """Logits that favour the label, less so on hard faces."""
    random = np.random.default_rng(seed_of(len(labels), skill, *names))
    logits = random.normal(size=(len(labels), len(EXPRESSIONS)))
    logits[np.arange(len(labels)), labels] += skill - 0.5 * hard
    return Predictions(2.0 * logits, labels, np.zeros(len(labels), bool))


STEPS = """
import json, resource, sys, time
from pathlib import Path
def now():
    return time.perf_counter(), time.process_time()
started = now()
taken = {}
def done(what):
    global started
    taken[what] = [end - begin for end, begin in zip(now(), started)]
    started = now()
from fergen_bench.records.counting import load_all
from fergen_bench.records.frame import cells_frame
from fergen_bench.records.packed import open_records
from fergen_bench.report.leaderboard import LeaderboardView, leaderboard_frame
from fergen_bench.report.latex import latex
from fergen_bench.report.markdown import markdown
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.verdicts import judged
from fergen_bench.report.tables import boards
done("imports")
records = load_all(Path(sys.argv[1]))[0]
done("records")
cells = cells_frame(records)
done("cells")
evidence = Evidence(records, open_records(Path(sys.argv[1])))
cells = evidence.calibrated(cells)
done("predictions, calibration")
(board,) = judged(boards(cells, sys.argv[2]), evidence, sys.argv[2])
done("intervals, ties")
view = LeaderboardView(board, sys.argv[2])
markdown([view]), leaderboard_frame([view]), latex(view)
done("Markdown, CSV, LaTeX")
megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({**taken, "megabytes": megabytes}))
"""


def main() -> None:
    """Generate records and measure the steps of a report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2000)
    parser.add_argument("--faces", type=int, default=1000, help="of each of five targets")
    parser.add_argument("--metric", default="accuracy")
    parser.add_argument("--folder", type=Path, help="keep the records here; what is there is used again")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        runs = arguments.folder or Path(temporary)
        if not any(runs.glob("*/*/*.json")):
            started = time.perf_counter()
            written = generate(runs, arguments.records, arguments.faces)
            print(f"{written:,} records written in {time.perf_counter() - started:.0f} s")
        size = sum(path.stat().st_size for path in runs.rglob("*.*")) / 2**20
        print(f"{size:,.0f} MB on the disk")
        command = [sys.executable, "-c", STEPS, str(runs), arguments.metric]
        found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        memory = found.pop("megabytes")
        print("wall s  processor s")
        for what, (wall, processor) in found.items():
            print(f"{wall:6.1f}  {processor:11.1f}  {what}")
        totals = (sum(column) for column in zip(*found.values(), strict=True))
        print("{:6.1f}  {:11.1f}  all".format(*totals), f"\n{memory:,.0f} MB at most")


if __name__ == "__main__":
    main()
