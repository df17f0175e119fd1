"""Submit results to the leaderboards of others, check a submission, and repeat a share of its runs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.error import BenchError, did_you_mean
from fergen_bench.files.atomic import atomically
from fergen_bench.files.bounded import MOST_TEXT, read_bytes
from fergen_bench.progress import silent
from fergen_bench.wording import listed, many, near

if TYPE_CHECKING:
    from fergen_bench.api.display import Display
    from fergen_bench.experiment.project import Project
    from fergen_bench.progress import Progress
    from fergen_bench.records.collection import Records
    from fergen_bench.records.record import RunRecord
    from fergen_bench.records.verify import Verdict
    from fergen_bench.submission.repeat import Repeated
    from fergen_bench.submission.rows import Row


@dataclass(frozen=True)
class Submitted:
    """A submission that was written.

    Attributes:
        path: The archive.
        size: Its size in bytes.
        records: Its records.
        rows: The rows of leaderboards that they make.
        notes: Sentences on what could not be checked.
    """

    path: Path
    size: int
    records: Sequence[RunRecord]
    rows: Sequence[Row]
    notes: Sequence[str]


def submit(
    project: Project,
    results: str | Path,
    method_files: Sequence[Path] = (),
    to: Path = Path("submission.zip"),
    suite: str | None = None,
    methods: Sequence[str] = (),
    complete_rows: bool = False,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda sentence: None,
) -> Submitted:
    """Write results with the methods that made them to one file.

    Args:
        project: The project, in whose folder the results and the methods are.
        results: A results folder, a folder of records, or packed records.
        method_files: Files of methods; those that are not named come from the project.
        to: The file.
        suite: Only this suite. Default: all.
        methods: Only these methods. Default: all.
        complete_rows: Leave out rows that lack cells of another row in their leaderboard, and seeds that a training of
            their row lacks.
        progress: Receives the progress of rendering embedded suites, with which labels are compared.
        warn: Receives a sentence on each incomplete row that is packed, and on each row that complete_rows leaves out,
            as a whole or in part.

    Raises:
        BenchError: The records do not exist or are faulty, and then no file is written; or it cannot be written.
    """
    from fergen_bench.api.results import records_at
    from fergen_bench.submission import rows
    from fergen_bench.submission.archive import write_submission

    stored = records_at(results, project)
    records = _chosen(stored, suite, methods)
    if complete_rows:
        records = rows.complete(records, warn)
        if not records:
            raise BenchError(f"{near(stored.path)}: no row has a seed in all of its trainings; run what they lack")
    packed = rows.rows_of(records)
    lacking = [sentence for _, sentence in rows.incomplete(packed)]
    for sentence in lacking:
        warn(sentence)
    bases = {one.spec.base.method for one in records if one.spec.base is not None}
    texts = _texts(project, sorted(bases | {one.spec.method for one in records}), method_files)
    with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
        draft = Path(folder, "submission.zip")
        size = write_submission(draft, stored, records, texts, _about(records))
        verdict = check(project, draft, progress)
        if verdict.faults:
            more = f" (and {len(verdict.faults) - 1:,} more)" if len(verdict.faults) > 1 else ""
            raise BenchError(f"nothing is submitted: {verdict.faults[0].replace(f'{draft}/', '')}{more}")
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            with atomically(to) as whole:
                whole.write_bytes(draft.read_bytes())
        except OSError as error:
            raise BenchError(f"{near(to)}: cannot be written ({error.strerror}); name another file with --to") from None
    notes = [note for note in verdict.notes if note not in lacking]
    return Submitted(to, size, records, packed, notes)


def _chosen(stored: Records, suite: str | None, methods: Sequence[str]) -> list[RunRecord]:
    """Return the records to submit; see `submit`."""
    from fergen_bench.records import frame as frames

    everything, faults = stored.read()
    if faults:
        raise BenchError(f"nothing is submitted: {faults[0]}")
    if not everything:
        method = f" --method {methods[0]}" if methods else ""
        raise BenchError(f"{near(stored.path)}: there are no records. Make some with: fergen-bench run{method}")
    known = {"method": {one.spec.method for one in everything}, "suite": {one.spec.suite for one in everything}}
    for option, name in (*(("method", name) for name in methods), *([("suite", suite)] if suite else [])):
        if name not in known[option]:
            raise BenchError(f"{near(stored.path)}: no record of {name!r}{did_you_mean(name, known[option])}")
    records = [
        one
        for one in frames.current(everything)
        if suite in {None, one.spec.suite} and (not methods or one.spec.method in methods)
    ]
    if not records:
        raise BenchError(f"{near(stored.path)}: no record of {listed(methods)} on {suite}; leave out --suite")
    return records


def _texts(project: Project, names: Sequence[str], files: Sequence[Path]) -> dict[str, bytes]:
    """Return the text of the file of each method."""
    named = {path.stem: path for path in files}
    for name, path in named.items():
        if name not in names:
            raise BenchError(f"--method-file: {path}: no record is of a method {name!r}{did_you_mean(name, names)}")
        if not path.is_file():
            raise BenchError(f"--method-file: {path}: this file does not exist; name the file of {name}")
    paths = {name: named.get(name) or project.method(name).path for name in names}
    return {name: _text(path) for name, path in paths.items()}


def _text(path: Path) -> bytes:
    try:
        return read_bytes(path, MOST_TEXT)
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: this method file cannot be read ({error}); name another one") from None


def _about(records: Sequence[RunRecord]) -> Mapping[str, object]:
    """Return the summary in the manifest: rows and environments. The records have everything."""
    rows: dict[str, int] = {}
    for one in records:
        rows[f"{one.spec.suite}: {one.spec.label}"] = rows.get(f"{one.spec.suite}: {one.spec.label}", 0) + 1
    packages = ("python", "fergen-bench", "torch", "numpy", "device")
    environments = {
        ", ".join(f"{name} {one.environment[name]}" for name in packages if name in one.environment) for one in records
    }
    return {"runs": len(records), "rows": dict(sorted(rows.items())), "environments": sorted(environments)}


def check(project: Project, path: Path, progress: Progress = silent) -> Verdict:
    """Return what is wrong with a submission. Its method files are read and not executed.

    Args:
        project: The project, whose suites and prepared domains are compared with the submission.
        path: The submission.
        progress: Receives the progress of rendering embedded suites.

    Raises:
        BenchError: The file is not a submission.
    """
    from fergen_bench.api import prepared
    from fergen_bench.records.verify import verify
    from fergen_bench.submission import checks
    from fergen_bench.submission.archive import read_submission

    submission = read_submission(path)
    with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
        submitted = checks.with_methods(project, submission, Path(folder))
        # A method without a file, or with another one, is a fault below and not a note.
        found = submission.records.read()[0]
        digests = {one.spec.base.method: one.base_digest for one in found if one.spec.base is not None}
        digests |= {one.spec.method: one.method_digest for one in found}
        verdict = verify(submission.records, digests.get, lambda suite, name: prepared.about(project, suite, name))
        faults, notes = checks.faults_of(submission, verdict.records, submitted, progress)
        texts = {f"{Path(folder, name)}.py": f"{path}/methods/{name}.py" for name in submission.methods}
        for here, there in texts.items():
            faults = [fault.replace(here, there) for fault in faults]
    verdict.faults += faults
    verdict.notes += notes
    return verdict


def repeat(
    project: Project,
    path: Path,
    share: float,
    device: str | None,
    seed: int | None,
    shown: Display,
    weights: Path | None = None,
) -> list[Repeated]:
    """Execute a random share of the runs of a submission again.

    **This executes the method files of the submission.**

    Args:
        project: The project with the suites.
        path: The submission.
        share: The share of the runs, above 0 and at most 1; at least one run is repeated.
        device: The device. Default: that of bench.toml.
        seed: The seed of the choice of runs. Default: a choice that cannot be known before.
        shown: Shows the progress.
        weights: The folder with the files of weights that the runs name, if there are any.
    """
    from fergen_bench.api.run import check_device
    from fergen_bench.execution.fleet import resolve_device
    from fergen_bench.submission import checks
    from fergen_bench.submission import repeat as repeating
    from fergen_bench.submission.archive import read_submission

    submission = read_submission(path)
    picked = repeating.chosen(submission.records.read()[0], share, seed)
    shown.note(f"repeating {many(len(picked), 'run')}: {', '.join(one.spec.key for one in picked)}")
    shown.begin(len(picked))
    with tempfile.TemporaryDirectory(prefix="fergen-bench-") as folder:
        return repeating.repeat(
            submission,
            picked,
            checks.with_methods(project, submission, Path(folder)),
            resolve_device(check_device(device or project.settings.device)),
            shown.preparation,
            lambda job, message: shown.listen(job.spec, message),
            lambda one: shown.end(one.record.spec, None),
            weights and weights.resolve(),
        )


def summarised(project: Project, path: Path, verdict: Verdict, share: float | None) -> str:
    """Return the result of a check as Markdown, with the leaderboards of sound results.

    Args:
        project: The project.
        path: The results or the submission.
        verdict: The result of the check, with the faults of repeated runs.
        share: The share of the runs that was repeated, or None.
    """
    from fergen_bench.api.results import load, records_at
    from fergen_bench.report.markdown import markdown, plain

    count = many(len(verdict.records), "run")
    if verdict.faults:
        faults = "\n".join(f"- {plain(fault)}" for fault in verdict.faults[:50])
        return f"### {plain(path.name)}: not sound\n\n{count}, {many(len(verdict.faults), 'fault')}:\n\n{faults}\n"
    repeated = "" if share is None else f" {share:.0%} of the runs were repeated with the submitted files."
    parts = [f"### {plain(path.name)}: sound\n\n{count}, every score counted again from the predictions.{repeated}\n"]
    parts += [f"- {plain(note)}\n" for note in verdict.notes]
    for suite in sorted({one.spec.suite for one in verdict.records}):
        results = load(project, records_at(path, project), suite)
        parts.append(markdown(results.views()).replace("# Leaderboard", f"#### {suite}: leaderboard", 1))
    return "\n".join(parts)
