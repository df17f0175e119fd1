"""The record of a finished model or of a file of predictions: made like that of a run, without a training."""

from __future__ import annotations

import hashlib
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from fergen_bench.data.domain import Domain, Split
from fergen_bench.data.facts import facts_of
from fergen_bench.data.prepared import scored_part
from fergen_bench.error import BenchError
from fergen_bench.experiment.run import EXTERNAL, Exposure, Run, digest_of
from fergen_bench.files.bounded import is_file_name
from fergen_bench.finished.convention import Convention
from fergen_bench.finished.model import FinishedModel, outputs_of, reopen
from fergen_bench.finished.predictions import Match, PredictionFile
from fergen_bench.records.counting import standing_of, without
from fergen_bench.records.record import Predictions, RunRecord, scored_cell
from fergen_bench.wording import listed, many

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.data.suite import Suite
    from fergen_bench.datasets.standing import Standing, Standings
    from fergen_bench.experiment.project import Project
    from fergen_bench.progress import Progress

VERSION = 1
"""Version of how finished models are scored, as part of the key. Raise it when numbers change."""
MODEL, FILE = "model", "predictions"
"""The parameter of a record that names the model, and the one that names the file of predictions."""


@dataclass(frozen=True)
class Subject:
    """The object to score: a finished model with its convention, or a file of predictions.

    Attributes:
        name: Its name in tables.
        parameters: The parameters of its record: the file and the convention.
        digests: Digest of the file, by parameter.
        provider: Versions of the programs that computed its outputs.
        has_scores: False where only the predicted expressions are known.
    """

    name: str
    parameters: Mapping[str, Any]
    digests: Mapping[str, str]
    provider: Mapping[str, str] = field(default_factory=dict)
    has_scores: bool = True

    @property
    def is_callable(self) -> bool:
        """True for a Python callable, which has no file and hence no digest."""
        return self.digests.get(MODEL) == ""


def name_of(name: str) -> str:
    """Return the name of a finished model, checked, or made of the name of its file.

    Raises:
        BenchError: The name cannot be part of a file name.
    """
    plain = re.sub(r"[^\w.@-]+", "-", name).strip("-.")
    if name != plain and name.strip() == name and is_file_name(plain):
        return plain
    if not is_file_name(plain):
        raise BenchError(f"--name: {name[:60]!r} cannot be a name; use up to 100 letters, digits, -, _, . and @")
    return plain


def subject_of_model(model: FinishedModel, convention: Convention, name: str, output: str | None) -> Subject:
    """Return a model with its convention as what is scored. A callable gets the digest of its predictions later."""
    fields = {key: tuple(value) if isinstance(value, list) else value for key, value in convention.to_json().items()}
    parameters = {MODEL: model.value, **fields, **({} if output is None else {"output_name": output})}
    return Subject(name, parameters, {MODEL: model.digest}, model.provider)


def subject_of_file(file: PredictionFile, name: str, classes: tuple[str, ...] | None) -> Subject:
    """Return a file of predictions as what is scored."""
    parameters: dict[str, Any] = {FILE: str(file.path), "scores": file.scored}
    parameters |= {} if classes is None else {"classes": classes}
    return Subject(name, parameters, {FILE: file.digest}, has_scores=file.scored)


def recorded_model(record: RunRecord, *, device: str = "cpu", threads: int = 1) -> tuple[FinishedModel, Convention]:
    """Open the model of a record again, with the convention under which it was evaluated.

    Raises:
        BenchError: The record is of a file of predictions or of a callable, or the model is not on this machine.
    """
    spec = record.spec
    if spec.exposure is None or MODEL not in spec.parameters:
        what = "a trained method" if spec.exposure is None else "a file of predictions"
        raise BenchError(f"{spec.title}: this record is of {what}, not of a finished model")
    stated = dict(spec.parameters)
    value, output = stated.pop(MODEL), stated.pop("output_name", None)
    model = reopen(value, spec.weights[MODEL], device=device, threads=threads, output=output)
    return model, Convention.from_json(stated, spec.title)


# ------------------------------------------------------------------------------------------------------------- scoring


def plan(
    suite: Suite, domains: Mapping[str, Domain], subject: Subject, exposure: Exposure, known: Mapping[str, str]
) -> Run:
    """Return the run that identifies the record of a finished model.

    Args:
        suite: The suite.
        domains: The targets.
        subject: What is scored.
        exposure: The datasets that it has seen.
        known: Fingerprint of the datasets among them that are prepared here.
    """
    return Run(
        suite=suite.name,
        profile=suite.profile,
        sources=(),
        fingerprints=dict(known),
        method=EXTERNAL + subject.name,
        version=VERSION,
        parameters=dict(subject.parameters),
        weights=dict(subject.digests),
        seed=0,
        selection="unknown",
        targets={name: domain.fingerprint for name, domain in domains.items()},
        relations=dict.fromkeys(domains, "unknown"),
        defaults=dict(subject.parameters),
        synthetic=suite.synthetic,
        exposure=exposure,
    )


def exams(suite: Suite, domains: Mapping[str, Domain], exposure: Exposure) -> dict[str, Split]:
    """Return the scored images of each target.

    Args:
        suite: The suite, whose split profile decides which images are scored.
        domains: The targets.
        exposure: The datasets that the model has seen.

    Raises:
        BenchError: A target has none.
    """
    learned = exposure.trained_on or ()
    found = {
        name: domain.split(scored_part(domain.about, suite.profile, name in learned))
        for name, domain in domains.items()
    }
    for name, split in found.items():
        if not len(split):
            raise BenchError(
                f"{domains[name].folder}: the domain {name} has no test split, so it cannot be a target; leave it out "
                f"with --targets"
            )
    return found


def predict(
    model: FinishedModel, convention: Convention, splits: Mapping[str, Split], progress: Progress
) -> dict[str, Predictions]:
    """Return the predictions of a model for all images of each target."""
    found = {}
    for name, split in splits.items():
        outputs = outputs_of(model, convention, split, progress, f"scoring {name}")
        found[name] = _predictions(convention.logits(outputs), split)
    return found


def taken(
    file: PredictionFile, matches: Mapping[str, Match], splits: Mapping[str, Split], partial: bool
) -> tuple[dict[str, Predictions], list[str]]:
    """Return the predictions in a file by target, and a sentence for each target that is not scored.

    Args:
        file: The file.
        matches: Its rows by target.
        splits: The scored images of each target.
        partial: Also score targets of which some images have no prediction.

    Raises:
        BenchError: No target has predictions for all of its images.
    """
    import numpy as np

    found, lacking = {}, []
    for name, split in splits.items():
        if name not in matches:
            lacking.append(
                f"{name} is not scored: the file has no prediction for any of its images, such as {split.ids[0]}"
            )
            continue
        rows, missing = matches[name].rows, matches[name].missing
        if missing and not partial:
            lacking.append(
                f"{name} is not scored: {many(len(missing), 'image', 'have', of=len(split))} no prediction: "
                f"{listed(missing, 3)}; to score the others: --partial"
            )
            continue
        predictions = _predictions(file.logits[np.maximum(rows, 0)], split)
        found[name] = replace(predictions, absent=rows < 0) if missing else predictions
    if not found:
        raise BenchError(f"{file.path}: {lacking[0]}" + (f"; and {len(lacking) - 1} more" if lacking[1:] else ""))
    return found, lacking


def _predictions(logits: np.ndarray, split: Split) -> Predictions:
    import numpy as np

    return Predictions(logits, split.labels, np.zeros(len(split), bool))


def digest_of_predictions(predictions: Mapping[str, Predictions]) -> str:
    """Return the digest of a callable, which has no file: that of what it predicted."""
    digest = hashlib.sha256()
    for name, entry in sorted(predictions.items()):
        digest.update(name.encode())
        digest.update(entry.logits.tobytes())
    return digest.hexdigest()[:16]


def counted(
    spec: Run,
    predictions: Mapping[str, Predictions],
    domains: Mapping[str, Domain],
    standings: Standings,
    project: Project,
    include_near_duplicates: bool,
) -> tuple[Run, dict[str, Predictions]]:
    """Return a run with the relation of each target, and the predictions without the images that are not scored.

    Args:
        spec: The run.
        predictions: Predictions by target.
        domains: The targets.
        standings: The standings of the suite.
        project: The project.
        include_near_duplicates: Score images with a near-duplicate in the training data, too.
    """
    relations, excluded, found = {}, {}, {}
    for target, entry in predictions.items():
        domain = domains[target]
        part = spec.scored_part(target, domain.about)
        standing: Standing = standing_of(spec, standings, project.dataset_of, target, domain.fingerprint, part)
        left_out = {} if include_near_duplicates else standing.left_out
        relations[target] = standing.relation
        if left_out:
            excluded[target] = digest_of(left_out.values())
        found[target] = without(entry, left_out)
    targets = {target: domains[target].fingerprint for target in predictions}
    return replace(spec, targets=targets, relations=relations, excluded=excluded), found


def assemble(
    spec: Run,
    predictions: Mapping[str, Predictions],
    domains: Mapping[str, Domain],
    subject: Subject,
    seconds: float,
    device: str,
    threads: int,
) -> RunRecord:
    """Return the record of a finished model, as `counted` has counted it."""
    cells = tuple(
        scored_cell(spec, target, spec.targets[target], entry, spec.excluded.get(target, ""))
        for target, entry in predictions.items()
    )
    return RunRecord(
        spec=spec,
        cells=cells,
        history=(),
        selected_epoch=None,
        networks={},
        environment=_environment(subject, device, threads),
        seconds={"score": seconds},
        started=datetime.now(UTC).isoformat(),
        method_digest="",
        data={name: facts_of(domains[name].about, spec.profile, spec.learns_from(name), True) for name in predictions},
    )


def _environment(subject: Subject, device: str, threads: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device if device.startswith("cuda") else platform.processor() or platform.machine(),
        "threads": threads,
        **subject.provider,
    }
    for package in ("fergen-bench", "numpy", "pillow"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def ordered(targets: Sequence[str], suite: Suite) -> list[str]:
    """Return targets in the order of the suite."""
    return [name for name in suite.domains if name in targets]
