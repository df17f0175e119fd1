"""Score a finished model or a file of predictions, and store a record like that of a run."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.api.display import Display, display
from fergen_bench.api.evaluate_options import EvaluateOptions
from fergen_bench.api.options import from_keywords
from fergen_bench.api.run import check_device, open_project
from fergen_bench.error import BenchError, did_you_mean, similar
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    import pandas as pd

    from fergen_bench.api.results import Results
    from fergen_bench.data.domain import Domain
    from fergen_bench.data.suite import Suite
    from fergen_bench.experiment.project import Project
    from fergen_bench.experiment.run import Exposure, Run
    from fergen_bench.finished.claims import Claim, Verdict
    from fergen_bench.finished.convention import Convention
    from fergen_bench.finished.model import FinishedModel
    from fergen_bench.finished.record import Subject
    from fergen_bench.finished.trial import Found
    from fergen_bench.records.record import Predictions, RunRecord

Model = str | Path | Callable[..., Any]


def evaluate(
    model: Model | None = None, *, project: Project | str | Path | None = None, progress: bool = True, **options: Any
) -> Evaluation:
    """Score a finished model, or a file of predictions, on the targets of a suite.

    The call does what `fergen-bench evaluate` does: it opens the model without executing code of its file, computes its
    scores for the test images of every target, and stores a record, which stands in the report in a section of finished
    models. Nothing is trained.

    Args:
        model: An ONNX file; a network with the file of its weights, such as "timm:resnet18//data/fer.pth"; or a
            callable that returns scores (B, classes) for images uint8 (B, height, width, 3).
        project: The project, or a folder in it. Default: that of the working directory.
        progress: Show bars and notes in a terminal and in a notebook. Elsewhere the call prints nothing.
        **options: The fields of `EvaluateOptions`, such as `predictions="mine.csv"` in place of a model,
            `suite="wild5"`, `trained_on=["rafdb"]`, `classes=["anger", …]`. docs/evaluate.md lists all of them.

    Returns:
        The evaluation: its record, the scores per target, and the verdicts on claims.

    Raises:
        BenchError: The model, the file or an option is at fault; nothing is written then.
        TypeError: A keyword does not exist.
    """
    chosen: EvaluateOptions = from_keywords(options, EvaluateOptions, "evaluate")
    with display(progress) as shown:
        done = execute(model, chosen, open_project(project), shown)
    for warning in done.warnings:
        warnings.warn(warning, UserWarning, stacklevel=2)
    return done


@dataclass(frozen=True, repr=False)
class Evaluation:
    """A finished model's scores. Made by `evaluate`.

    Attributes:
        record: The record, counted as a report does.
        results: The record as `Results`, with leaderboard and matrix.
        convention: The convention under which the model was scored; None for a file of predictions.
        verdicts: The claims with their measurements.
        found: The result of searching the convention; None where no search was wanted.
        notes: Sentences about what was assumed, dropped or left out.
        warnings: Sentences about what may make the numbers worthless.
    """

    record: RunRecord
    results: Results
    convention: Convention | None
    verdicts: tuple[Verdict, ...]
    found: Found | None
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def cells(self) -> pd.DataFrame:
        """One row per target: relation, images, metrics in per cent, and the 95 % interval of the accuracy."""
        evidence, cells = self.results.evidence, self.results.cells
        ends = [evidence.interval(cells.iloc[[row]], "accuracy") for row in range(len(cells))]
        return cells.assign(low=[low for low, _ in ends], high=[high for _, high in ends])

    @property
    def claims(self) -> pd.DataFrame:
        """One row per claim: target, claimed, measured, low, high (per cent), images, verdict, reason."""
        import pandas as pd

        rows = [
            {
                "target": one.claim.target,
                "claimed": one.claim.accuracy,
                "measured": one.measured,
                "low": one.low,
                "high": one.high,
                "images": one.images,
                "verdict": one.answer,
                "reason": one.reason,
            }
            for one in self.verdicts
        ]
        names = ["target", "claimed", "measured", "low", "high", "images", "verdict", "reason"]
        return pd.DataFrame(rows, columns=names)

    def __repr__(self) -> str:
        scores = ", ".join(
            f"{row.target} {row.accuracy:.1f} ({row.relation})" for row in self.results.cells.itertuples()
        )
        return f"Evaluation({self.record.spec.label} on {self.record.spec.suite}: {scores})"

    def _repr_html_(self) -> str:
        """Return the scores per target as an HTML table."""
        columns = ["target", "relation", "faces", "accuracy", "low", "high", "balanced_accuracy", "mark"]
        table = self.cells[columns].round(1).to_html(index=False, border=0)
        notes = "<br>".join(escape(note) for note in (*self.warnings, *self.notes))
        return f"<h4>{escape(self.record.spec.label)}</h4>{table}<p><small>{notes}</small></p>"


def execute(model: Model | None, options: EvaluateOptions, project: Project, shown: Display) -> Evaluation:
    """Score a model or a file of predictions, and store the record; see `evaluate`."""
    from fergen_bench.api.results import load
    from fergen_bench.records.collection import RecordFolder

    if (model is None) == (options.predictions is None):
        raise BenchError("evaluate: name a model or a file of predictions (--predictions), one of the two")
    task = _resolve(options, project, shown)
    opened = _open_file(task) if model is None else _open_model(model, task)
    spec, predictions, seconds = _scored(task, opened)
    record = _save(task, opened, spec, predictions, seconds)
    _mirror(record, task)
    stored = RecordFolder(project.results / "runs")
    include = options.include_near_duplicates
    results = load(project, stored, task.suite.name, include_near_duplicates=include, keys={record.spec.key})
    (counted,) = results.records
    verdicts = tuple(_verdicts(task.claims, counted))
    if opened.found is None:  # a search names the faults itself
        task.warnings += _at_chance(counted, opened.convention is None)
    return Evaluation(
        counted, results, opened.convention, verdicts, opened.found, tuple(task.notes), tuple(task.warnings)
    )


# ------------------------------------------------------------------------------------------------------------- resolve


@dataclass
class _Task:
    """An evaluation with its options resolved."""

    options: EvaluateOptions
    project: Project
    suite: Suite
    targets: tuple[str, ...]
    exposure: Exposure
    claims: list[Claim]
    device: str
    threads: int
    shown: Display
    domains: dict[str, Domain] = field(default_factory=dict)  # the targets, once they are prepared
    known: dict[str, Domain] = field(default_factory=dict)  # the prepared domains among those that the model has seen
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def note(self, sentences: Iterable[str]) -> None:
        """Show sentences at once, and keep them."""
        for sentence in sentences:
            self.shown.note(sentence)
            self.notes.append(sentence)


@dataclass(frozen=True)
class _Opened:
    """The model or the predictions to score, and the way to compute the outputs."""

    subject: Subject
    predict: Callable[[Mapping[str, Domain]], dict[str, Predictions]]
    convention: Convention | None = None
    found: Found | None = None


def _resolve(options: EvaluateOptions, project: Project, shown: Display) -> _Task:
    """Resolve the names in options."""
    from fergen_bench.execution.fleet import resolve_device
    from fergen_bench.experiment.project import available_cores
    from fergen_bench.experiment.run import Exposure
    from fergen_bench.finished.claims import parse_claims

    suite = project.suite(options.suite or project.settings.suite)
    targets = options.targets or suite.domains
    for name in targets:
        if name not in suite.domains:
            raise BenchError(f"--targets: {name!r} is not a domain of {suite.name}{did_you_mean(name, suite.domains)}")
    targets = tuple(name for name in suite.domains if name in targets)
    claims = parse_claims(options.claims, targets)
    exposure = Exposure(options.trained_on, options.pretrained_on)
    unknown = _unknown_names(exposure, project, suite)
    device = resolve_device(check_device(options.device or project.settings.device))
    task = _Task(options, project, suite, targets, exposure, claims, device, available_cores(), shown)
    task.note(unknown)
    return task


def _prepare(task: _Task) -> None:
    """Prepare the targets, which may take minutes, after the model or the file of predictions was read."""
    from fergen_bench.data.domain import Domain

    project, suite = task.project, task.suite
    folders = project.prepared(suite, task.targets, task.shown.preparation)
    task.domains = {name: Domain(folder, name) for name, folder in folders.items()}
    seen = [name for name in task.exposure.trained_on or () if name in suite.domains]
    there = [name for name in seen if project.is_prepared(suite, [name])]
    task.known = {name: Domain(folder, name) for name, folder in project.prepared(suite, there).items()}


def _unknown_names(exposure: Exposure, project: Project, suite: Suite) -> list[str]:
    """Return a sentence on each dataset that is unknown; raise for one whose name is like that of a known one."""
    from fergen_bench.datasets import NAMED, usual_name
    from fergen_bench.datasets.pretraining import known_names
    from fergen_bench.files.bounded import is_file_name

    known = {*NAMED, *suite.domains, *project.settings.domains, *project.prepared_here()}
    options = (("--trained-on", exposure.trained_on), ("--pretrained-on", exposure.pretrained_on))
    notes = []
    for option, name in ((option, name) for option, names in options for name in names or ()):
        meant = similar(usual_name(name), known, 0.8)  # a lower one would take MMI for mma, and DFEW for sfew
        if name not in known and meant is not None:
            raise BenchError(
                f"{option}: there is no dataset {name[:60]!r}; did you mean {meant}? Overlaps are known by name; write "
                f"another name if it is another dataset"
            )
        if not is_file_name(name):
            raise BenchError(f"{option}: {name[:60]!r} is not the name of a dataset; use letters, digits, - and _")
        if name not in (*known, *known_names()):
            notes.append(f"{option}: {name} is unknown here, so images that it shares with a target stay unnoticed")
    return notes


def _open_model(model: Model, task: _Task) -> _Opened:
    """Open a model, decide its convention from what is stated and, where wanted, from a search; prepare the targets."""
    from fergen_bench.finished import record
    from fergen_bench.finished.stated import assumed, left_over, open_stated, stated_convention

    options = task.options
    value = model if callable(model) else str(model)
    opened, stated = open_stated(
        value, options.stated, "evaluate", device=task.device, threads=task.threads, output=options.output
    )
    name = record.name_of(options.name or opened.name)
    task.note(opened.notes)
    found = None
    if options.find_convention is not None:
        found = _search(opened, stated, options.find_convention, task)
        convention = found.stated.convention
    else:
        convention = stated_convention(opened, stated)
        task.note(assumed(opened, stated, convention))
    task.note(left_over(convention))
    subject = record.subject_of_model(opened, convention, name, options.output)

    def predict(domains: Mapping[str, Domain]) -> dict[str, Predictions]:
        splits = record.exams(task.suite, domains, task.exposure)
        return record.predict(opened, convention, splits, task.shown.preparation)

    _prepare(task)
    return _Opened(subject, predict, convention, found)


def _search(model: FinishedModel, stated: Mapping[str, Any], name: str, task: _Task) -> Found:
    """Search the convention of a model on the training images of a domain of the suite."""
    from fergen_bench.data.domain import Domain
    from fergen_bench.finished.finder import find_convention

    suite = task.suite
    if name not in suite.domains:
        raise BenchError(
            f"--find-convention: {name!r} is not a domain of {suite.name}{did_you_mean(name, suite.domains)}"
        )
    folder = task.project.prepared(suite, [name], task.shown.preparation)[name]
    found = find_convention(model, stated, Domain(folder, name), task.shown.preparation)
    if not found.fits and "classes" not in stated:
        raise BenchError(f"--find-convention: {next(iter(found.sentences))}; state the convention of the model")
    sentences = list(found.sentences)
    faults = len(found.faults) if found.fits else 1
    task.warnings += sentences[:faults]
    task.note(sentences[faults:])
    return found


def _open_file(task: _Task) -> _Opened:
    """Read a file of predictions, prepare the targets, and match both."""
    from fergen_bench.finished import record
    from fergen_bench.finished.convention import parse_classes
    from fergen_bench.finished.predictions import match, read_predictions

    options = task.options
    assert options.predictions is not None
    unused = {"find_convention": options.find_convention, "output": options.output, **options.stated}
    for name, value in unused.items():
        if value is not None and name != "classes":
            raise BenchError(f"--{name.replace('_', '-')}: is ineffective with --predictions. Leave it out.")
    stated = options.stated.get("classes")
    classes = None if stated is None else parse_classes(stated, "--classes")
    path = options.predictions.expanduser().resolve()
    file = read_predictions(path, classes)
    name = record.name_of(options.name or path.stem)
    _prepare(task)
    splits = record.exams(task.suite, task.domains, task.exposure)
    matches, notes = match(file, splits)
    predictions, lacking = record.taken(file, matches, splits, options.partial)
    task.note([*file.notes, *notes, *lacking])
    subject = record.subject_of_file(file, name, classes)

    def predict(domains: Mapping[str, Domain]) -> dict[str, Predictions]:
        return {name: predictions[name] for name in domains if name in predictions}

    return _Opened(subject, predict)


# --------------------------------------------------------------------------------------------------------------- score


def _scored(task: _Task, opened: _Opened) -> tuple[Run, dict[str, Predictions], float]:
    """Return the run, its predictions by target, and the seconds of scoring.

    Targets that a record has current predictions of are not scored again.
    """
    from fergen_bench.datasets.comparisons import Comparisons
    from fergen_bench.datasets.standing import Standings
    from fergen_bench.finished import record

    project, suite, options = task.project, task.suite, task.options
    states = {name: domain.fingerprint for name, domain in task.known.items()}
    spec = record.plan(suite, task.domains, opened.subject, task.exposure, states)
    domains, seconds = dict(task.domains), 0.0
    earlier: dict[str, Predictions] = {}
    if not opened.subject.is_callable:
        old = _earlier(task, spec)
        if old is not None:
            kept, earlier = old
            seconds = kept.seconds.get("score", 0.0)
            assert kept.spec.exposure is not None
            task.note(_forgotten(kept.spec.exposure, task.exposure))
            others = [name for name in earlier if name not in domains]
            domains |= _domains_of(task, others)
    todo = {name: domain for name, domain in domains.items() if name not in earlier}
    began = time.perf_counter()
    fresh = opened.predict(todo) if todo else {}
    seconds += time.perf_counter() - began if fresh else 0.0
    if opened.subject.is_callable:
        spec = replace(spec, weights={record.MODEL: record.digest_of_predictions(fresh)})
    found = {name: {**earlier, **fresh}[name] for name in record.ordered([*earlier, *fresh], suite)}
    standings = Standings(suite, Comparisons(project.comparisons), project.settings.seen_share)
    include = options.include_near_duplicates
    spec, found = record.counted(spec, found, domains, standings, project, include)
    task.domains = {name: domains[name] for name in found}
    return spec, found, seconds


def _forgotten(before: Exposure, now: Exposure) -> list[str]:
    """Return a sentence on each kind of data that the earlier record states and the new one calls unknown."""
    fields = (("--trained-on", "trained_on"), ("--pretrained-on", "pretrained_on"))
    known = ((option, getattr(before, name)) for option, name in fields if getattr(now, name) is None)
    return [
        f"the earlier record of this model has {option} {','.join(names) or 'none'}, which the new one lacks: repeat "
        f"the command with that option if it holds"
        for option, names in known
        if names is not None
    ]


def _earlier(task: _Task, spec: Run) -> tuple[RunRecord, dict[str, Predictions]] | None:
    """Return the record of an earlier evaluation, and its predictions for unchanged targets."""
    from fergen_bench.finished import record
    from fergen_bench.records.store import RecordFile

    path = spec.path(task.project.results / "runs")
    if task.options.rerun or not path.is_file():
        return None
    try:
        file = RecordFile.open_whole(path)
        predictions = file.predictions()
    except BenchError as error:
        task.note([f"{str(error).partition(';')[0]}; all targets are scored again"])
        return None
    domains = _domains_of(task, list(predictions))
    sizes = {name: len(split) for name, split in record.exams(task.suite, domains, task.exposure).items()}
    current = {name: domain.fingerprint for name, domain in domains.items()}
    kept = {
        cell.target: predictions[cell.target]
        for cell in file.record.cells
        if cell.target in predictions
        and current.get(cell.target) == cell.fingerprint
        and sizes[cell.target] == len(predictions[cell.target].labels)
        and (not cell.absent or task.options.partial)
    }
    return file.record, kept


def _domains_of(task: _Task, names: list[str]) -> dict[str, Domain]:
    """Return those of some domains that are prepared."""
    from fergen_bench.api import prepared

    here = {name: task.domains.get(name) or prepared.domain(task.project, task.suite.name, name) for name in names}
    return {name: domain for name, domain in here.items() if domain is not None}


def _save(task: _Task, opened: _Opened, spec: Run, predictions: Mapping[str, Predictions], seconds: float) -> RunRecord:
    """Write the record."""
    from fergen_bench.finished import record
    from fergen_bench.records import store
    from fergen_bench.records.claim import claim

    made = record.assemble(spec, predictions, task.domains, opened.subject, seconds, task.device, task.threads)
    runs = task.project.results / "runs"
    with claim(spec, runs) as claimed:
        if not claimed:
            raise BenchError(f"{spec.title}: another process writes this record now; repeat the command later")
        store.save(made, runs, predictions, anew=True)
    return made


def _mirror(record: RunRecord, task: _Task) -> None:
    """Mirror the record to MLflow, unless `track` is off."""
    if not task.options.track:
        return
    from fergen_bench.api import mirror
    from fergen_bench.api.run import counting

    following = mirror.follow(task.project, task.shown.warn)
    following.add(counting(task.project, task.options.include_near_duplicates)(record))
    with task.shown.busy("mirroring to MLflow"):
        mirror.finish(following, task.shown.warn)


def _verdicts(claims: list[Claim], record: RunRecord) -> list[Verdict]:
    from fergen_bench.finished.claims import verdict

    return [verdict(one, record.cell(one.target), record.data.get(one.target)) for one in claims]


def _at_chance(record: RunRecord, from_file: bool) -> list[str]:
    """Return a warning where the scores are those of guessing, as with classes in another order."""
    import numpy as np

    from fergen_bench.metric import balanced_accuracy

    confusion = np.sum([cell.confusion for cell in record.cells], axis=0)
    recall, chance = balanced_accuracy(confusion), 1 / len(confusion)
    if not recall <= chance:
        return []
    step = "check the labels of the file" if from_file else "find the convention with --find-convention DOMAIN"
    return [
        f"the mean recall over all targets is {100 * recall:.1f} %, and guessing has {100 * chance:.1f} %: the classes "
        f"may be in another order, or the pixels prepared in another way; {step}"
    ]


def scored_in_words(record: RunRecord) -> str:
    """Return the number of targets by their relation, such as "5 targets: 1 in-domain, 4 unseen"."""
    names = {"source": "in-domain"}
    counts: dict[str, int] = {}
    for cell in record.cells:
        word = names.get(cell.relation, cell.relation)
        counts[word] = counts.get(word, 0) + 1
    return f"{many(len(record.cells), 'target')}: {listed(f'{count} {word}' for word, count in counts.items())}"
