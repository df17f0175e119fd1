"""Measure the error rates of the statements of a report, in simulated worlds whose truth is known.

Rows of a leaderboard are simulated in the way of the real ones: five domains are sources and targets, each face has a
difficulty that all trainings share, and trainings vary by as many points as those of the committed records. All rows of
a table are equally good, so every "behind" and every p below 5 % is an error. The functions that compare the simulated
predictions are those of the report.

    python benchmarks/inference.py                                   # all worlds
    python benchmarks/inference.py --world encoder --replicates 20

A replicate has 22 rows; tables of 2 and 5 rows are parts of it. The results are in docs/statistics.md.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.run import Run
from fergen_bench.metric import METRICS, confusion_matrix, recalls
from fergen_bench.records.record import RunRecord
from fergen_bench.report import statistics
from fergen_bench.report.choosing import validation
from fergen_bench.report.comparison import compare
from fergen_bench.report.intervals import ALPHA, Sampled, domain_error, domain_limits, limits
from fergen_bench.report.markers import collapsed_trainings
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.verdicts import BEHIND, compared

DOMAINS = ("web", "grey48", "wild", "film", "scrape")
SIZES = (2, 5, 22)
ROWS = 22
HARD = np.array([9.0, 4.0, -7.0, -6.0, 2.0])
"""The difficulty of the domains, in points."""

OWN = 4.0
"""The advantage of a target that was the source, in points."""

CLASS = np.array([0.3, -0.5, -0.4, 0.7, -0.1, 0.0, 0.0])
"""The difficulty of the expressions, in latent units."""

SHARES = np.array(
    [
        [0.12, 0.08, 0.08, 0.30, 0.14, 0.10, 0.18],
        [0.14, 0.14, 0.14, 0.15, 0.14, 0.14, 0.15],
        [0.10, 0.03, 0.05, 0.35, 0.12, 0.10, 0.25],
        [0.08, 0.10, 0.06, 0.20, 0.20, 0.18, 0.18],
        [1 / 7] * 7,
    ]
)
"""The share of each expression, by domain."""

FACE, FACE_ROW, FACE_SOURCE = 0.75, 0.35, 0.2
"""Standard deviations of a face's difficulty: for all rows, for one row, for one row and source. The whole has 1."""

COLLAPSE = 20.0
"""The points that a collapsed training loses."""


@dataclass(frozen=True)
class World:
    """A world. Deviations are in points of accuracy.

    Attributes:
        about: Its name in the table.
        accuracy: The accuracy in a domain of middle difficulty.
        training: The standard deviation of trainings.
        cell: That of single cells of a training.
        faces: The number of faces by target.
        between_sources: The share of a training's variance that all sources of a row and seed have in common.
        interaction: The standard deviation of a row's own advantage in a domain.
        collapsing: The share of trainings that collapse.
        rare: Whether two expressions have 2 % of the faces each.
        other_domains: Whether domains are drawn anew, so that the truth is that of all domains.
        metric: The metric.
    """

    about: str
    accuracy: float = 0.77
    training: float = 0.9
    cell: float = 1.0
    faces: tuple[int, ...] = (1000,) * 5
    between_sources: float = 0.0
    interaction: float = 0.0
    collapsing: float = 0.0
    rare: bool = False
    other_domains: bool = False
    metric: str = "accuracy"


SMALL = (431, 300, 431, 400, 350)
TRUNK = {"accuracy": 0.52, "training": 2.5, "cell": 1.8}
WORLDS = {
    "encoder": World("encoder: 0.9 training, 1.0 cell"),
    "trunk": World("trunk: 2.5 training, 1.8 cell", **TRUNK),
    "small": World("300 to 431 faces", faces=SMALL),
    "correlated": World("seed's luck shared by sources, 0.3", between_sources=0.3),
    "collapsed": World("5 % of trainings collapse", collapsing=0.05),
    "interaction": World("row × domain 1.1, new domains", interaction=1.1, other_domains=True),
    "rare": World("macro F1, 2 % fear and disgust", rare=True, faces=SMALL, metric="macro_f1"),
}


@dataclass(frozen=True)
class Table:
    """The rows of one replicate.

    Attributes:
        evidence: Their predictions.
        cells: The cells of each row.
        truth: The mean over unseen targets of each row, over all trainings (and domains, if these are drawn), (rows,).
        steady: The same without collapsed trainings.
        conditional: The mean of each row for the simulated trainings, by number of seeds.
    """

    evidence: Evidence
    cells: list[pd.DataFrame]
    truth: np.ndarray
    steady: np.ndarray
    conditional: dict[int, np.ndarray]


def simulated(world: World, random: np.random.Generator, rows: int, seeds: int) -> Table:
    """Return the table of one replicate."""
    count = len(DOMAINS)
    unit = 1 / (100 * norm.pdf(norm.ppf(world.accuracy)))  # latent units of one point
    shares = np.tile([0.20, 0.02, 0.02, 0.30, 0.16, 0.10, 0.20], (count, 1)) if world.rare else SHARES
    if world.other_domains:
        shares = np.tile(SHARES[0], (count, 1))
    hard = random.normal(0, HARD.std(), count) if world.other_domains else HARD
    advantage = random.normal(0, world.interaction, (rows, count))
    own, common = random.normal(0, world.training, (2, rows, count, seeds))
    trained = np.sqrt(1 - world.between_sources) * own + np.sqrt(world.between_sources) * common[:, :1]
    trained = trained - COLLAPSE * (random.random(trained.shape) < world.collapsing)
    effects = trained[..., None] + random.normal(0, world.cell, (rows, count, seeds, count))
    middle = hard + advantage[:, None] + OWN * np.eye(count)  # (rows, sources, targets)
    latent = norm.ppf(world.accuracy) + unit * (middle[:, :, None] + effects)  # (rows, sources, seeds, targets)
    unseen = ~np.eye(count, dtype=bool)
    known = _population(latent, shares, world.metric)
    conditional = {seed: known[:, :, :seed].mean(2)[:, unseen].mean(1) for seed in range(1, seeds + 1)}
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    deviation = np.hypot(world.training, world.cell)
    if world.other_domains:
        deviation, middle = np.hypot(deviation, np.hypot(HARD.std(), world.interaction)), np.zeros_like(middle)
    expected = []
    for lost in (0.0, COLLAPSE):
        around = norm.ppf(world.accuracy) + unit * (middle[:, :, None] + deviation * nodes[:, None] - lost)
        values = np.moveaxis(_population(around, shares, world.metric), 2, -1) @ (weights / weights.sum())
        expected.append(values[:, unseen].mean(1))
    truth = (1 - world.collapsing) * expected[0] + world.collapsing * expected[1]
    return Table(*_predicted(world, random, latent, shares), truth, expected[0], conditional)


def _population(latent: np.ndarray, shares: np.ndarray, metric: str) -> np.ndarray:
    """Return the metric on endlessly many faces, in per cent: (…, targets) → (…, targets)."""
    right = norm.cdf(latent[..., None] + CLASS)  # (…, targets, expressions)
    if metric == "accuracy":
        return 100 * (shares * right).sum(-1)
    wrong = shares * (1 - right)
    said = shares * right + (wrong.sum(-1, keepdims=True) - wrong) / 6
    return 100 * (2 * shares * right / (shares + said)).mean(-1)


def _predicted(
    world: World, random: np.random.Generator, latent: np.ndarray, shares: np.ndarray
) -> tuple[Evidence, list[pd.DataFrame]]:
    """Return evidence and cells of trainings with a latent value (rows, sources, seeds, targets)."""
    rows, sources, seeds, _ = latent.shape
    evidence = Evidence()
    lines: list[list[dict[str, object]]] = [[] for _ in range(rows)]
    rest = np.sqrt(1 - FACE**2 - FACE_ROW**2 - FACE_SOURCE**2)
    for place, (target, faces) in enumerate(zip(DOMAINS, world.faces, strict=True)):
        labels = random.choice(len(EXPRESSIONS), faces, p=shares[place])
        wrong = (labels + random.integers(1, 7, faces)) % 7
        of_face = CLASS[labels] + FACE * random.standard_normal(faces)
        of_row = FACE_ROW * random.standard_normal((rows, faces), np.float32)
        for row in range(rows):
            noise = rest * random.standard_normal((sources, seeds, faces), np.float32)
            noise += FACE_SOURCE * random.standard_normal((sources, 1, faces), np.float32)
            right = latent[row, :, :, place, None] + of_face + of_row[row] + noise > 0
            for (source, seed), correct in zip(np.ndindex(sources, seeds), right.reshape(-1, faces), strict=True):
                said = np.where(correct, labels, wrong).astype(np.uint8)
                key = f"{row}-{source}-{seed}"
                evidence.add(key, target, labels, said)
                line = {"source": DOMAINS[source], "target": target, "seed": seed, "key": key, "faces": faces}
                lines[row].append(line | _scores(labels, said, world.metric))
    frames = [pd.DataFrame(found).assign(adapted_to="", adaptation=False, audited=True) for found in lines]
    return evidence, [
        frame.assign(relation=np.where(frame.source == frame.target, "source", "unseen")) for frame in frames
    ]


def _scores(labels: np.ndarray, said: np.ndarray, metric: str) -> dict[str, float]:
    """Return accuracy, the metric of the world, and recalls of a cell, in per cent."""
    confusion = confusion_matrix(labels, said, len(EXPRESSIONS))
    of = {name: 100.0 * METRICS[name](confusion) for name in {"accuracy", metric}}
    return of | {f"recall_{name}": 100.0 * share for name, share in zip(EXPRESSIONS, recalls(confusion), strict=True)}


Counts = defaultdict[tuple[object, ...], list[float]]
"""What was measured → 1 for each time that it happened, 0 for each time that it did not."""


def measure(world: World, table: Table, counts: Sequence[int], found: Counts) -> None:
    """Add up the errors of the report's statements on a table, for each number of seeds."""
    metric = world.metric
    for seeds in counts:
        rows = [cells[cells.seed < seeds] for cells in table.cells]
        unseen = [cells[cells.relation == "unseen"] for cells in rows]
        values = [float(cells[metric].mean()) for cells in unseen]
        sampled = [table.evidence.row_means(cells, metric)["unseen"] for cells in rows]
        truths = table.conditional[seeds] if seeds == 1 else table.truth
        for place, (value, drawn) in enumerate(zip(values, sampled, strict=True)):
            low, high = limits(value, drawn)
            found["mean", seeds].append(low <= truths[place] <= high)
            pairs = unseen[place].groupby(["source", "target"], sort=False)[metric].mean()
            low, high = domain_limits(value, *domain_error(list(pairs.index), pairs.to_numpy()))
            found["mean over domains", seeds].append(low <= table.truth[place] <= high)
            if world.collapsing and seeds > 1:
                _collapses(table, rows[place], place, found, seeds, limits(value, drawn))
        for size in SIZES if seeds > 1 else ():
            for start in range(0, len(rows) - size + 1, size):
                _verdicts(values[start : start + size], sampled[start : start + size], found, seeds)
        if seeds > 1:
            _five_among_hopeless(values, sampled, found, seeds)
        for one in range(0, len(rows) - 1, 2):
            _pair(table, unseen[one], unseen[one + 1], metric, found, seeds)
        if seeds == 3:
            for one in range(0, 4, 2):
                _lines(table, rows[one], rows[one + 1], metric, found, seeds)


def _verdicts(values: list[float], sampled: list[Sampled], found: Counts, seeds: int) -> None:
    """Add the verdicts on one table: at equality, and with the first row better than all others."""
    size = len(values)
    behind = [one.standing == BEHIND for one in compared(values, sampled)]
    found["some row behind", seeds, size].append(any(behind))
    found["a row behind", seeds, size] += behind
    for points in (2.0,) if size == 5 else (1.0, 2.0):
        better = [values[0] + points, *values[1:]]
        behind = [one.standing == BEHIND for one in compared(better, sampled)]
        found["found behind", seeds, size, points].append(sum(behind[1:]) / (size - 1) * (not behind[0]))
        found["best behind", seeds, size, points].append(behind[0])


def _five_among_hopeless(values: list[float], sampled: list[Sampled], found: Counts, seeds: int) -> None:
    """Add verdicts on five rows, alone and among 17 rows that are 20 points worse: how many of them change."""
    five = [values[0] + 2.0, *values[1:5]]
    alone = compared(five, sampled[:5])
    among = compared([*five, *(value - 20.0 for value in values[5:])], sampled)[:5]
    found["changed by hopeless rows", seeds] += [a.standing != b.standing for a, b in zip(alone, among, strict=True)]


def _pair(table: Table, one: pd.DataFrame, other: pd.DataFrame, metric: str, found: Counts, seeds: int) -> None:
    """Add the comparison of two rows."""
    result = table.evidence.difference(one.reset_index(drop=True), other.reset_index(drop=True), metric)
    if seeds > 1:
        found["compare errs", seeds].append(result.p < ALPHA)
    found["compare over domains errs", seeds].append(not result.domains_low <= 0 <= result.domains_high)


def _lines(table: Table, one: pd.DataFrame, other: pd.DataFrame, metric: str, found: Counts, seeds: int) -> None:
    """Add the lines of a comparison by target and by expression."""
    result = compare(one, other, table.evidence, metric)
    found["some target errs", seeds].append((result.targets.p_holm < ALPHA).any())
    found["some expression errs", seeds].append((result.expressions.p_holm < ALPHA).any())


def _collapses(
    table: Table, cells: pd.DataFrame, place: int, found: Counts, seeds: int, ends: tuple[float, float]
) -> None:
    """Add the marks of collapsed trainings, and the interval of rows without one."""
    marked = {(one.source, one.seed) for one in collapsed_trainings(cells)}
    mean = cells.groupby(["source", "seed"]).accuracy.mean()
    lost = mean[mean < mean.median() - COLLAPSE / 2].index
    found["collapse found", seeds] += [pair in marked for pair in lost]
    found["marked without collapse", seeds].append(bool(marked - set(lost)))
    if not marked:
        found["unmarked mean", seeds].append(ends[0] <= table.steady[place] <= ends[1])


def measure_choosing(replicates: int, counts: Sequence[int], found: Counts) -> None:
    """Add how often one of two equally good settings is called best by `fergen-bench choose`.

    Each training has 1,000 held-out faces, which both settings share, and trainings differ as those of small trunks do.
    """
    for replicate in range(replicates):
        random = np.random.default_rng([replicate, *b"choosing"])
        shared = random.random((len(DOMAINS), 1000))
        for seeds in counts:
            records = []
            for (setting, source, seed), points in np.ndenumerate(random.normal(0, 2.5, (2, len(DOMAINS), seeds))):
                luck = 0.7 * norm.ppf(shared[source]) + np.sqrt(1 - 0.7**2) * random.standard_normal(1000)
                share = float((luck < norm.ppf(0.6) + points / (100 * norm.pdf(norm.ppf(0.6)))).mean())
                spec = Run(
                    suite="simulated",
                    profile="official",
                    sources=(DOMAINS[source],),
                    fingerprints={},
                    method="settings",
                    version=1,
                    parameters={"rate": setting},
                    weights={},
                    seed=seed,
                    selection="source-val",
                    defaults={"rate": 0},
                )
                records.append(RunRecord(spec, (), ({"val_accuracy": share},), None, {}, {}, {}, "", ""))
            (compared,) = validation(records, lambda spec: 1000)
            found["choose calls one best", seeds].append("best:" in compared.answers[0])


def report(found: Counts) -> list[str]:
    """Return what was measured as lines of a table: the share in per cent, its binomial error, and the number."""
    lines = []
    for key, values in found.items():
        share = float(np.mean(values))
        error = 100 * np.sqrt(max(share * (1 - share), 1 / len(values) / 4) / len(values))
        name, *of = key
        where = " | ".join(map(str, [*of, "", "", ""][:3]))
        lines.append(f"| {name} | {where} | {100 * share:.1f} ± {error:.1f} | {len(values)} |")
    return lines


def main() -> None:
    """Simulate worlds and print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", action="append", choices=[*WORLDS, "choose"], help="default: all")
    parser.add_argument("--replicates", type=int, default=25, help="tables of 22 rows for each world")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 5], help="the numbers of seeds")
    parser.add_argument("--draws", type=int, default=500, help="bootstrap replicates; a report has 2,000")
    options = parser.parse_args()
    statistics.DRAWS = options.draws
    for name in options.world or [*WORLDS, "choose"]:
        found: Counts = defaultdict(list)
        started = time.process_time()
        if name == "choose":
            measure_choosing(8 * options.replicates, options.seeds, found)
        else:
            for replicate in range(options.replicates):
                random = np.random.default_rng([replicate, *name.encode()])
                table = simulated(WORLDS[name], random, ROWS, max(options.seeds))
                measure(WORLDS[name], table, options.seeds, found)
        print(f"\n{name}: {options.replicates} tables, {time.process_time() - started:.0f} s\n")
        print("| measured | seeds | rows | points | % | number |\n|---|--:|--:|--:|--:|--:|")
        print("\n".join(report(found)), flush=True)


if __name__ == "__main__":
    main()
