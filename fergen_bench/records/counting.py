"""Records as every table counts them: current, without near-duplicates, and with targets marked seen or unseen."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.experiment.run import Run, digest_of
from fergen_bench.metric import COLLAPSED, collapsed
from fergen_bench.records.collection import Records
from fergen_bench.records.frame import current
from fergen_bench.records.packed import open_records
from fergen_bench.records.record import Cell, Predictions, RunRecord, scored_cell
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    from fergen_bench.datasets.comparisons import Comparisons
    from fergen_bench.datasets.pretraining import PriorExposure
    from fergen_bench.datasets.standing import Standing, Standings
    from fergen_bench.experiment.project import Project


def load_all(
    runs: Path | str, project: Project | None = None, include_near_duplicates: bool = False
) -> tuple[list[RunRecord], list[str]]:
    """Return the records under a folder as a report counts them, and a sentence for each problem.

    Obsolete records are left out (see `frame.current`), and so are images with a near-duplicate in the sources.

    Args:
        runs: The folder of the records, such as "results/runs", or packed records.
        project: The project whose suites and audits decide which targets are seen. Default: the project that contains
            the folder, else the current one.
        include_near_duplicates: Count images with a near-duplicate in the sources too.
    """
    from fergen_bench.experiment.project import find_project

    folder = Path(runs)
    if project is None:
        inside = find_project(folder)
        project = inside if inside.configured else find_project()
    stored = open_records(folder)
    records, faults = stored.read()
    found, more = counted(current(records), project, stored, include_near_duplicates)
    return found, [*faults, *more]


def counted(
    records: Iterable[RunRecord],
    project: Project,
    stored: Records | None = None,
    include_near_duplicates: bool = False,
    comparisons: Comparisons | None = None,
) -> tuple[list[RunRecord], list[str]]:
    """Return records with each cell marked and counted by what the audits know now of its target.

    If a cell leaves out other images than it has to, it is counted again from the stored predictions. The counts of a
    record whose suite is not configured stay, and its unseen targets are marked as not audited.

    Args:
        records: The records as loaded.
        project: The project whose suites and audits decide which targets are seen.
        stored: The collection of the records, with their predictions; None to count nothing again.
        include_near_duplicates: Count all images.
        comparisons: The comparisons of the project, if they are already open.

    Returns:
        The records, and a sentence for each comparison that cannot be read.
    """
    from fergen_bench.datasets.comparisons import Comparisons
    from fergen_bench.datasets.standing import Standings

    suites = project.suites()
    comparisons = Comparisons(project.comparisons) if comparisons is None else comparisons
    standings: dict[str, Standings] = {}
    dataset_of = cache(project.dataset_of)
    found = []
    for record in records:
        if (suite := suites.get(record.spec.suite)) is None:
            found.append(replace(record, cells=tuple(map(_not_audited, record.cells))))
            continue
        if suite.name not in standings:
            standings[suite.name] = Standings(suite, comparisons, project.settings.seen_share)
        found.append(_counted(record, standings[suite.name], project, dataset_of, stored, include_near_duplicates))
    return found, comparisons.faults


def _not_audited(cell: Cell) -> Cell:
    """Return a cell of an unknown suite: without its domains, no comparison supports that a target is unseen."""
    from fergen_bench.datasets.standing import NOT_AUDITED

    return replace(cell, audited=False, mark=NOT_AUDITED) if cell.relation == "unseen" else cell


def _counted(
    record: RunRecord,
    standings: Standings,
    project: Project,
    dataset_of: Callable[[str], str],
    stored: Records | None,
    include: bool,
) -> RunRecord:
    spec, predictions, cells = record.spec, None, []
    for cell in record.cells:
        facts = record.data.get(cell.target)  # the part that was scored, wherever the domain is now
        recorded = facts.scored if facts is not None else ""
        part = recorded or spec.scored_part(cell.target, project.scored_parts(cell.target))
        standing = standing_of(spec, standings, dataset_of, cell.target, cell.fingerprint, part)
        saw = pretrained(record, dataset_of(cell.target), project.settings.pretraining)
        standing = seen_before(standing, saw)
        left_out = {} if include else standing.left_out
        fresh: Cell | None = cell
        if cell.excluded != digest_of(left_out.values()):
            if predictions is None:
                predictions = _predictions_of(record, stored)
            fresh = recounted(spec, cell, predictions.get(cell.target), left_out)
        cells.append(_standing(fresh, cell, standing, saw, include))
    relations = {cell.target: cell.relation for cell in cells}
    shifted = (replace(cell, relation=relations.get(cell.target, cell.relation)) for cell in record.shifted)
    return replace(record, cells=tuple(cells), shifted=tuple(shifted))


def pretrained(record: RunRecord, dataset: str, declared: Mapping[str, Iterable[str]]) -> PriorExposure:
    """Return whether the pre-training of a record's networks, or of a finished model, has seen a dataset.

    Rendered faces are in no pre-training: each is drawn from random numbers of its own.

    Args:
        record: The record.
        dataset: The dataset of a target.
        declared: What files of weights were trained on, see `pretraining.trained_on`.
    """
    from fergen_bench.datasets.pretraining import PriorExposure, prior_exposure, trained_on

    spec = record.spec
    if spec.synthetic:
        return PriorExposure("no")
    if spec.exposure is not None:
        return prior_exposure(spec.exposure.pretrained_on, dataset, "the network that it started from")
    found = []
    for parameter, network in record.networks.items():
        name, digest = str(spec.parameters.get(parameter, network["name"])), str(network["digest"])
        found.append(prior_exposure(trained_on(name, digest, declared), dataset, name.partition("/")[0]))
    for saw in ("yes", "unknown"):
        if reasons := dict.fromkeys(one.because for one in found if one.saw == saw):
            return PriorExposure(saw, "; ".join(reasons))
    return PriorExposure("no")


def seen_before(standing: Standing, saw: PriorExposure) -> Standing:
    """Return the standing of a target after pre-training: an unseen one that it contained is seen, and whole."""
    from fergen_bench.datasets.standing import PRETRAINED

    if standing.relation != "unseen" or saw.saw != "yes":
        return standing
    return replace(standing, relation="seen", mark=PRETRAINED, compared=True, stale=(), left_out={})


def standing_of(
    spec: Run, standings: Standings, dataset_of: Callable[[str], str], target: str, state: str, part: str
) -> Standing:
    """Return how a target stands to the data of a run, or to those that a finished model has seen.

    Args:
        spec: The run.
        standings: The standings of its suite.
        dataset_of: Returns the dataset of a domain.
        target: Name of the target.
        state: Fingerprint of the target.
        part: The split of the target that is scored.
    """
    if (seen := spec.exposure) is not None:
        about = (seen.trained_on, seen.pretrained_on, spec.fingerprints, dataset_of)
        return standings.of_finished(*about, target, state, part)
    sources = {name: spec.fingerprints[name] for name in spec.sources if name in spec.fingerprints}
    return standings.of(sources, target, state, part)


def _predictions_of(record: RunRecord, stored: Records | None) -> Mapping[str, Predictions]:
    """Return the stored predictions of a record, or an empty mapping if they are missing or damaged."""
    try:
        return {} if stored is None else stored.predictions(record)
    except BenchError:
        return {}


def recounted(spec: Run, cell: Cell, predictions: Predictions | None, left_out: Mapping[int, str]) -> Cell | None:
    """Return a cell counted again without some images, or None if its predictions do not suffice.

    Args:
        spec: The run.
        cell: The cell.
        predictions: The stored predictions for the target, if there are any.
        left_out: The images to leave out: index → id.
    """
    if predictions is None or len(predictions.labels) != len(predictions.logits):
        return None
    if left_out and max(left_out) >= len(predictions.logits):
        return None
    again = scored_cell(
        spec, cell.target, cell.fingerprint, without(predictions, left_out), digest_of(left_out.values())
    )
    return replace(again, relation=cell.relation, left_out=tuple(sorted(left_out)))


def without(predictions: Predictions, left_out: Iterable[int]) -> Predictions:
    """Return predictions in which the images at some indices are not scored."""
    import numpy as np

    mask = np.zeros(len(predictions.logits), bool)
    mask[list(left_out)] = True
    return replace(predictions, left_out=mask)


def _partial(cell: Cell) -> str:
    """Return the mark of a cell of which some images have no prediction."""
    return f"partial, {cell.count:,} of {cell.count + cell.absent:,}" if cell.absent else ""


def _standing(fresh: Cell | None, cell: Cell, standing: Standing, saw: PriorExposure, include: bool) -> Cell:
    """Return a cell with the standing of its target. `fresh` is the cell as it counts now, or None if that failed."""
    about: dict[str, Any] = {
        "relation": standing.relation,
        "mark": ", ".join(filter(None, (standing.mark, _partial(cell)))),
        "audited": standing.compared,
        "stale": standing.stale,
        "seen_share": standing.share,
        "pretraining_saw": saw.saw,
        "pretraining_reason": saw.because,
    }
    near = many(len(standing.left_out), "near-duplicate")
    if fresh is None:
        # The old number is shown with a mark instead of being lost.
        scored = "other faces left out" if cell.excluded or include else f"{near} scored"
        return replace(cell, **{**about, "mark": scored}, uncounted=max(1, len(standing.left_out)))
    if include and standing.left_out:
        about["mark"] = f"{near} scored"
    return replace(fresh, **about, left_out=() if include else tuple(sorted(standing.left_out)))


MOST_NAMED = 3
"""The largest number of runs that a sentence on collapsed trainings names."""


def collapse_note(records: Iterable[RunRecord]) -> str:
    """Return a sentence on the runs that predict one expression for nearly all images of a target, or ""."""
    import numpy as np

    found = []
    for record in records:
        targets: dict[str, list[str]] = {}
        for cell in record.cells:
            if (place := collapsed(np.array(cell.confusion))) is not None:
                targets.setdefault(EXPRESSIONS[place], []).append(cell.target)
        said = [
            f"{name} for over {100 * COLLAPSED:.0f} % of the images of {listed(of)}" for name, of in targets.items()
        ]
        found += [f"{record.spec.title}, answers {' and '.join(said)}"] if said else []
    if not found:
        return ""
    more = f"; and {many(len(found) - MOST_NAMED, 'run')} more" if len(found) > MOST_NAMED else ""
    which = "the training" if len(found) == 1 else "these trainings"
    return f"{'; '.join(found[:MOST_NAMED])}{more}: {which} collapsed"
