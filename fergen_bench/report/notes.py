"""Write the sentences below a leaderboard."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.standing import DECLARED, NOT_AUDITED, PRETRAINED, SAME
from fergen_bench.experiment.run import percent
from fergen_bench.metric import COLLAPSED
from fergen_bench.report import data
from fergen_bench.report.markers import ALIKE, HARDLY, markers
from fergen_bench.report.rounding import tenth
from fergen_bench.report.tables import ABOVE, CELL, ONE_CLASS, Board, annotators, unevenly_scored
from fergen_bench.wording import listed, many

SHORT = {
    NOT_AUDITED: ("?", "?: not audited"),
    re.escape(DECLARED): ("seen*", "seen*: the suite declares that source and target share images"),
    re.escape(SAME): ("seen", f"{SAME}: source and target are one domain under two names"),
    re.escape(PRETRAINED): ("seen-", "seen-: the pre-training of the row has seen this target; a note has the reason"),
    r"seen, ([\d,]*\d) near-duplicates?": (r"seen\n\1", "seen, with a number: so many of its faces are in the source"),
    r"([\d,]*\d) left out": (r"(-\1)", "(-n): n faces left out"),
    r"([\d,]*\d) near-duplicates? scored": (r"(+\1)", "(+n): n near-duplicates of training faces are scored"),
    r"partial, ([\d,]*\d) of ([\d,]*\d)": (r"partial\n\1", "partial: only so many faces have a prediction"),
    "unknown": ("unknown", "unknown: nobody stated whether the model was trained on this target"),
    re.escape(ABOVE): ("^", "^: above the agreement of a single annotator with these labels; a note has the reason"),
    "other faces left out": ("!", "!: other faces are left out than the audit names"),
}
"""By pattern of a mark: its short form, which fits between numbers, and its explanation."""


def short_mark(mark: str) -> str:
    """Return a mark short enough to fit between numbers."""
    for pattern, (short, _) in SHORT.items():
        mark = re.sub(pattern, short, mark)
    return mark.replace(", ", "\n")


def mark_notes(marks: Iterable[str]) -> list[str]:
    """Explain the short forms of some marks."""
    there = set(marks)
    return [note for pattern, (_, note) in SHORT.items() if any(re.search(pattern, mark) for mark in there)]


def standing_notes(suite: str, cells: pd.DataFrame) -> list[str]:
    """Return notes on the relation of targets to their sources, the least certain first."""
    audit, notes = f"fergen-bench data audit --suite {suite}", []
    unseen = cells[cells.relation == "unseen"].drop_duplicates(CELL)
    if (without := int((~unseen.audited).sum())) > 0:
        notes.append(
            f"Not audited: {without} of {many(len(unseen), 'unseen cell')} stand between domains that nobody compared, "
            f"so faces of these targets may be among the source's; compare them with: {audit}"
        )
    if stale := sorted({name for names in cells.stale for name in names.split(", ") if name}):
        notes.append(
            f"Stale audit: faces or labels of {', '.join(stale)} changed since they were compared; compare them again "
            f"with: {audit}"
        )
    lacking = cells[cells.uncounted > 0]
    for method, part in lacking.groupby("base_method", sort=False):
        notes.append(
            f"Not counted again: {many(len(part), 'cell')} of {method} cannot be scored as the audit asks, since the "
            f"predictions beside the records are missing; make them with: fergen-bench run --suite {suite} --method "
            f"{method} --rerun"
        )
    if (cells.left_out > 0).any():
        notes.append(
            "Left out, in all rows alike: faces with a near-duplicate among the training faces of the source (exact or "
            "nearly so); to count them: --include-near-duplicates"
        )
    if (cells.relation == "seen").any():
        shares = cells.seen_share.dropna()
        share = (
            f"{percent(float(shares.iloc[0]))} or more of its faces have" if len(shares) else "many of its faces have"
        )
        notes.append(
            f"Seen, and left out of the unseen mean: a target of which {share} a near-duplicate in the source, or that "
            f"is declared to share images with it"
        )
    return notes


RENDERED = {"synth", "synth-trunk"}
"""The packaged networks, pre-trained on rendered faces alone; without weights (…/scratch) they are not pre-trained."""

GAP = "gap: in-domain minus unseen, by row of one training, by column of one target"

FEW_DOMAINS = 10
"""Below this number of domains, intervals over domains are called wide."""

MOST_NAMED = 6
"""The largest number of cells that a note lists."""


def has_intervals(board: Board) -> bool:
    """Return True where some row has an interval."""
    return bool(board.table.unseen_low.notna().any())


def board_facts(board: Board) -> list[str]:
    """Return how to read a leaderboard, pre-training first."""
    what = "Training data" if board.finished else "Pre-training"
    if len(board.marks) == 1:
        notes = [f"{what} of all: {next(iter(board.marks))}"]
    else:
        kinds = "; ".join(f"{mark}: {kind}" for kind, mark in board.marks.items())
        notes = [f"{what} differ{'' if board.finished else 's'} between rows: {kinds}"]
    if board.finished:
        notes += ["Finished models were trained elsewhere; their training data are as their users stated them"]
    # A target has several counts if the split profile scores other faces for its own source, or if near-duplicates
    # are left out.
    several = board.cells.groupby("target", sort=False).faces.unique()
    shown = (f"{target} {' or '.join(f'{c:,}' for c in sorted(counts))}" for target, counts in several.items())
    notes.append("Faces scored: " + ", ".join(shown))
    beside = (spread_note(board), intervals_note(board), standing_note(board), source_val_note(board))
    return [*notes, *filter(None, beside)]


def spread_note(board: Board) -> str:
    """Return a sentence on ±; "" where no row has two seeds."""
    return "±: standard deviation over seeds" if board.table.seeds.max() > 1 else ""


def intervals_note(board: Board) -> str:
    """Return a sentence on the use of each of the two intervals; "" without intervals."""
    found = []
    if has_intervals(board):
        several = board.table.seeds.max() > 1
        over = "new trainings and other faces of these domains" if several else "other faces of these domains"
        found.append(f"95 %: interval of the unseen mean for {over} (bootstrap)")
    if board.table.unseen_domains_low.notna().any():
        count = board.cells[board.cells.relation == "unseen"].target.nunique()
        wide = f"; with {count} domains it is wide" if count < FEW_DOMAINS else ""
        found.append(f"over domains: 95 % interval for domains that are not in this table (jackknife{wide})")
    return "; ".join(found)


def standing_note(board: Board) -> str:
    """Return a sentence on the standings and the error that they guard against; "" where no row is compared."""
    if not board.table.standing.isin(["best"]).any():
        return ""
    return (
        "Tied: not significantly different from the best row, so it may be the best; that does not mean as good. "
        "Behind: significantly lower; the aim is that the row which is truly best is called behind in at most 5 % of "
        "tables, and docs/statistics.md has how often it is"
    )


def source_val_note(board: Board) -> str:
    """Return a sentence on the scores on held-out images; "" where no row has them."""
    there = board.table.source_val_accuracy.notna()
    if not there.any():
        return ""
    without = "" if there.all() else "; — where a method learned from them too, or none are held out"
    return (
        f"source-val: accuracy on images held out of the source (and balanced accuracy), mean over the sources; rows "
        f"are not ranked by it{without}"
    )


EASIER = (
    "the label of several votes is easier to predict than one vote is, or a model learned the rule that makes these "
    "labels; it does not mean that the model sees more than people do"
)
"""The reasons for an accuracy above the agreement of a single annotator."""


def annotator_note(board: Board, metric: str) -> str:
    """Return a sentence on the agreement of a single annotator with the labels; "" where it is unknown."""
    known = annotators(board.cells, metric).dropna()
    if known.empty:
        return ""
    shares = ", ".join(f"{target} {tenth(share)}" for target, share in known.items())
    return f"Single annotator: how often the label of one annotator is the label that counts here: {shares}"


def above_annotator(board: Board, metric: str) -> list[str]:
    """Return a sentence on the cells with an accuracy above the agreement of a single annotator, and its reasons."""
    known, found = annotators(board.cells, metric).dropna(), list[str]()
    for name, cells in board.rows() if len(known) else ():
        means = cells.groupby(["source", "target"], sort=False)[metric].mean()
        above = [place for place, mean in means.items() if mean > known.get(place[1], np.inf)]
        if above:
            found.append(f"{name} ({many(len(above), 'cell')}: {listed(dict.fromkeys(t for _, t in above))})")
    return [f"Above a single annotator: {listed(found, MOST_NAMED)}; {EASIER}"] if found else []


def calibration_note(board: Board) -> str:
    """Return a sentence on the dependence of calibration errors on the number of faces; "" without them."""
    if "unseen_ece" not in board.table or board.table.unseen_ece.isna().all():
        return ""
    low, high = board.table.unseen_ece_floor.min(), board.table.unseen_ece_floor.max()
    ends = tenth(low) if tenth(low) == tenth(high) else f"{tenth(low)} to {tenth(high)}"
    return (
        f"Calibration errors depend on the number of faces: with those of these targets, perfectly calibrated rows "
        f"would show {ends} points instead of 0"
    )


def board_cautions(board: Board) -> list[str]:
    """Return sentences on what may mislead a reader of a leaderboard."""
    notes = data.cautions(board.data)
    counts = board.cells.groupby("target", sort=False).faces.min()
    small = [target for target, count in counts.items() if count < 500]
    if small:
        notes.append(f"Few faces in {', '.join(small)}: differences of a few points there mean little")
    untrained = [target for target in counts.index if target not in set(board.cells.source)]
    if board.sources == 1 and untrained:
        notes.append(f"Not the whole matrix: nothing was trained on {', '.join(untrained)}")
    if board.adaptation:
        notes.append("Each run also learned from the training images of its target, without their labels")
    if board.online:
        notes.append(
            "Each method learned from the test images of a target, without their labels, while it predicted them: "
            "compare a row with its base in the table of the same training, not with rows that saw no test image"
        )
        starts = board.cells.drop_duplicates(["base_method", "base"]).groupby("base", sort=False).base_method
        notes.append("Bases: " + "; ".join(f"{base}, for {listed(methods)}" for base, methods in starts))
    notes += _collapsed(board)
    words = [part.split() for kind in board.marks for part in kind.split(", ")]
    rendered = sorted({name for name, *digest in words if name in RENDERED and digest})
    if rendered and not board.synthetic:
        notes.append(
            f"Pre-training on rendered faces alone ({', '.join(rendered)}), and these are photographs: an encoder that "
            f"saw photographs may change every number here; name one with --backbone"
        )
    notes += [*_unknown(board), *_unsure(board)]
    if board.cells.device.nunique() > 1:
        found = "; ".join(sorted(set(board.cells.device)))
        notes.append(f"Runs were made on different devices, whose seconds are not to be compared: {found}")
    notes += _numerics(board)
    notes += _scoring(board)
    if board.table.seeds.max() == 1 and not board.finished:
        notes.append("One training of each source: numbers and intervals hold for these trainings only; no verdict")
    notes += _exposed(board)
    notes += _of_rows(board)
    notes += _of_targets(board)
    notes += unseen_mean_note(board)
    notes += standing_notes(board.suite, board.cells)
    if mixed := unevenly_scored(board.cells):
        notes.append(
            f"Not to be compared: near-duplicates are left out of {', '.join(mixed)} in some runs and scored in "
            f"others; give the command that made those once more, with --rerun"
        )
    for method, said in board.cells[board.cells.note != ""].groupby("base_method").note.first().items():
        notes.append(f"{method}: {said}")
    for row in board.table[board.table.texts > 1].itertuples():
        notes.append(f"{row.method}: its records were made by {row.texts} different texts of the method file")
    for row in board.table[board.table.base_texts > 1].itertuples():
        notes.append(
            f"{row.method}: its records start from {row.base_texts} different texts of the method file of its base"
        )
    return notes


def _numerics(board: Board) -> list[str]:
    """Return a sentence on the rows that were made with other numerics than the newest in the table."""
    newest = board.cells.numerics.max()
    older: dict[int, list[str]] = {}
    for name, cells in board.rows():
        if (numerics := int(cells.numerics.iloc[0])) != newest:
            older.setdefault(numerics, []).append(name)
    if not older:
        return []
    found = "; ".join(f"numerics {numerics}: {', '.join(names)}" for numerics, names in sorted(older.items()))
    return [
        f"Rows were made with different numerics, which CHANGELOG.md describes. The newest here is {newest}, and these "
        f"are older: {found}. Give the commands that made these once more before you compare them"
    ]


def _scoring(board: Board) -> list[str]:
    """Return a sentence where rows were scored with different options."""
    if len(board.cells[["views", "prior"]].drop_duplicates()) < 2:
        return []
    return [
        "Rows were scored with different options (views, prior), which help most methods: compare rows that agree in "
        "them. --protocol all-views runs every method with the same ones"
    ]


def unseen_mean_note(board: Board) -> list[str]:
    """Return a sentence on the number of cells in the unseen mean, if seen cells are left out of it."""
    if board.finished:  # rows differ in the data that they have seen
        return []
    of_seed = board.cells.drop_duplicates(CELL)
    between, unseen = (of_seed.relation != "source").sum(), (of_seed.relation == "unseen").sum()
    if unseen == between:
        return []
    if not unseen:
        return [f"No unseen mean: all {between} cells between domains are seen"]
    return [f"The unseen mean stands on {unseen} of the {between} cells between domains; the others are seen"]


def _collapsed(board: Board) -> list[str]:
    """Return a sentence on the cells in which nearly all faces were predicted as one expression."""
    found = list[str]()
    for name, cells in board.rows() if "collapsed" in board.cells else ():
        for (source, said), part in cells[cells.collapsed != ""].groupby(["source", "collapsed"], sort=False):
            targets = ", ".join(dict.fromkeys(part.target))
            seeds = ", ".join(map(str, sorted(set(part.seed))))
            training = "" if board.finished else f" trained on {source} with seed {seeds}"
            found.append(f"{name}{training} calls {targets} {said}")
    if not found:
        return []
    more = f"; and {len(found) - MOST_NAMED} more" if len(found) > MOST_NAMED else ""
    return [
        f"Marked {ONE_CLASS}: over {100 * COLLAPSED:.0f} % of the faces are called one expression, so the number says "
        f"only how frequent that is: {'; '.join(found[:MOST_NAMED])}{more}"
    ]


def _unknown(board: Board) -> list[str]:
    """Name the rows whose training data are unknown, which have no mean over unseen targets."""
    names = board.names()
    rows = [
        names[row.method, row.pretraining]
        for row, (_, cells) in zip(board.table.itertuples(), board.rows(), strict=True)
        if (cells.relation == "unknown").any()
    ]
    if not rows:
        return []
    return [
        f"Unknown training data: {', '.join(rows)}. Targets may have been seen, so there is no mean over unseen targets"
    ]


def _exposed(board: Board) -> list[str]:
    """Return sentences on rows whose pre-training has seen targets, or may have seen them."""
    found = []
    kinds = board.marks
    for saw, said in (
        ("yes", "Pre-training has seen targets, which are left out of these rows' unseen means"),
        ("unknown", "Nobody knows if pre-training has seen the targets"),
    ):
        parts = []
        asked = board.cells[board.cells.pretraining_saw == saw]
        if saw == "unknown":  # for a target that is seen in any case it makes no difference
            asked = asked[asked.relation == "unseen"]
        for kind, cells in asked.groupby("pretraining", sort=False):
            targets = [name for name in board.targets if name in set(cells.target)]
            every = len(targets) == len(board.targets)
            reasons = "; ".join(dict.fromkeys(cells.pretraining_reason))
            parts.append(f"{kinds[str(kind)]} ({'' if every else f'{listed(targets)}: '}{reasons})")
        if parts:
            found.append(f"{said}: {', '.join(parts)}")
    return found


def _of_rows(board: Board) -> list[str]:
    """Return sentences on seeds that differ in number, do not vary, or collapsed, with the names of the rows."""
    counts = board.table.seeds[board.table.seeds > 0]
    mixed = [f"{name} {count}" for name, count in zip(board.names().values(), board.table.seeds, strict=True)]
    found = []
    if counts.nunique() > 1:
        usual = int(counts.mode().max())
        odd = [text for text, count in zip(mixed, board.table.seeds, strict=True) if count not in (0, usual)]
        found.append(f"Rows have {many(usual, 'seed')}, but {listed(odd, MOST_NAMED)}")
    marks: dict[str, list[tuple[str, str]]] = {}
    for row, (name, cells) in zip(board.table.itertuples(), board.rows(), strict=True):
        for marker in markers(board, row, cells):
            marks.setdefault(marker.short, []).append((name, marker.reason))
    if alike := [name for name, _ in marks.get(ALIKE, [])]:
        found.append(f"Seeds do not change the scores of {listed(alike, MOST_NAMED)}: their ± is 0")
    if hardly := [name for name, _ in marks.get(HARDLY, [])]:
        found.append(
            f"Seeds hardly change the scores of {listed(hardly, MOST_NAMED)}, as is expected of a deterministic "
            f"method: more seeds measure next to nothing, and its ± does not compare with that of other rows"
        )
    found += [f"{name}: {reason.removesuffix('.')}" for name, reason in marks.get("collapsed training", [])]
    return found


def _of_targets(board: Board) -> list[str]:
    """Return sentences on targets without faces of an expression, and on those with far fewer faces than others."""
    found = []
    faces = board.cells.groupby("target", sort=False).faces.min()
    absent: dict[str, list[str]] = {}
    for target, cells in board.cells.groupby("target", sort=False):
        lacking = [name for name in EXPRESSIONS if cells[f"recall_{name}"].isna().all()]
        if lacking and faces[target]:
            absent.setdefault(listed(lacking), []).append(str(target))
    for names, targets in absent.items():
        found.append(
            f"No face of {names} in {listed(targets)}: balanced accuracy there is a mean over the other expressions, "
            f"and predictions of {names} are errors"
        )
    tiny = [f"{target} ({many(count, 'face')})" for target, count in faces.items() if count < faces.median() / 20]
    if tiny:
        found.append(f"Every target has the same weight in a mean, {listed(tiny)} too: chance alone moves it by much")
    return found


def _unsure(board: Board) -> list[str]:
    """Name the rows with means and without intervals, which are not compared with the best."""
    names, table = board.names(), board.table[board.table.unseen.notna()]
    lacking = table.unseen_low.isna()
    if not lacking.any():
        return []
    again = "to have them, give the command that made these records once more, with --rerun"
    if lacking.all():
        return [f"No intervals, and no row is compared with the best: predictions are not beside all records; {again}"]
    rows = ", ".join(names[row.method, row.pretraining] for row in table[lacking].itertuples())
    return [
        f"Predictions are not beside all records of {rows}: no intervals there, and they are not compared with the "
        f"best; {again}"
    ]


MISSING_SHOWN = 12


def missing_notes(board: Board) -> list[str]:
    """Return, for each row, the trainings that other rows have and it lacks, and cells that a training lacks."""
    asked = board.cells.drop_duplicates(CELL)[CELL]
    found = []
    for name, cells in board.rows():
        seeds = pd.DataFrame({"seed": sorted(cells.seed.unique())})
        wanted = asked.merge(seeds, how="cross").merge(cells[[*CELL, "seed"]], how="left", indicator=True)
        wanted["absent"] = wanted["_merge"] == "left_only"
        shown = []
        for (source, seed), part in wanted[wanted.absent].groupby(["source", "seed"], sort=False):
            whole = wanted[(wanted.source == source) & (wanted.seed == seed)].absent.all()
            shown.append(f"{source}, seed {seed}" + ("" if whole else f" (scored on {', '.join(part.target)})"))
        if shown:
            more = f"; and {len(shown) - MISSING_SHOWN} more" if len(shown) > MISSING_SHOWN else ""
            found.append(f"{name}: no record of a training on {'; '.join(shown[:MISSING_SHOWN])}{more}")
    return found
