"""A forged submission is refused with the reason, or its forgery is one that only a repeated run can show."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fergen_bench as fb
from fergen_bench.api import submission as api
from fergen_bench.data.domain import Domain
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project, find_project
from fergen_bench.experiment.run import Exposure
from fergen_bench.experiment.shipped import shipped
from fergen_bench.metric import confusion_matrix
from fergen_bench.records.collection import Records
from fergen_bench.records.record import Predictions, RunRecord
from fergen_bench.records.verify import Verdict
from fergen_bench.submission import TOLERANCE
from fergen_bench.submission.archive import MANIFEST, is_submission, read_submission, write_archive, write_submission
from fergen_bench.submission.checks import with_methods
from fergen_bench.submission.repeat import chosen, repeat

SOURCES, SEEDS = ["web", "film"], [0, 1]


@dataclass
class Sent(Records):
    """Records, predictions and method files as a forger packs them, with every checksum computed again."""

    found: list[RunRecord]
    said: dict[str, dict[str, Predictions]]  # by key of the run
    methods: dict[str, bytes]
    about: dict[str, Any] = field(default_factory=dict)
    path: Path = Path("forged")

    def read(self) -> tuple[list[RunRecord], list[str]]:
        return self.found, []

    def name(self, record: RunRecord) -> str:
        return record.spec.key

    def predictions(self, record: RunRecord) -> Mapping[str, Predictions]:
        return self.said.get(record.spec.key, {})

    def arrays(self, record: RunRecord) -> Mapping[str, np.ndarray]:
        return {}

    def index(self, source: str, seed: int) -> int:
        """Return the position of a run."""
        return next(n for n, one in enumerate(self.found) if one.spec.sources == (source,) and one.spec.seed == seed)

    def put(self, place: int, record: RunRecord, said: dict[str, Predictions] | None = None) -> None:
        """Put a record in the place of another one, with its predictions unless others are given."""
        before = self.said.pop(self.found[place].spec.key)
        self.found[place] = record
        self.said[record.spec.key] = before if said is None else said

    def answer(self, place: int, target: str, predicted: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Let a run predict other classes for a target, with the confusion matrix that follows."""
        record = self.found[place]
        entry = self.said[record.spec.key][target]
        labels = entry.labels if labels is None else labels
        said = {
            **self.said[record.spec.key],
            target: Predictions(np.eye(7)[predicted], labels, np.zeros(len(labels), bool)),
        }
        confusion = confusion_matrix(labels, predicted, 7).tolist()
        self.put(place, with_cell(record, target, confusion=confusion), said)


def with_cell(record: RunRecord, target: str, **changes: Any) -> RunRecord:
    """Return a record in which the cell of a target differs."""
    cells = tuple(replace(cell, **changes) if cell.target == target else cell for cell in record.cells)
    return replace(record, cells=cells)


def wild(record: RunRecord) -> list[list[int]]:
    """Return the confusion matrix of a record for the target that most forgeries change."""
    cell = record.cell("wild")
    assert cell is not None
    return cell.confusion


def with_spec(record: RunRecord, **changes: Any) -> RunRecord:
    """Return a record of a run with other fields; its key follows from them."""
    return replace(record, spec=replace(record.spec, **changes))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """Return a project with the runs of a linear probe, and the submission of them."""
    folder = tmp_path_factory.mktemp("submitter")
    (folder / "bench.toml").write_text(f'suite = "synth5-tiny"\ncache = "{cache}"\ndevice = "cpu"\n')
    options: dict[str, Any] = {"suite": "synth5-tiny", "sources": SOURCES, "seeds": SEEDS, "jobs": 0, "track": False}
    fb.run(methods=["linear_probe"], project=folder, **options)
    api.submit(find_project(folder), folder / "results", to=folder / "submission.zip")
    return folder


@pytest.fixture
def sent(place: Path) -> Sent:
    """Return the content of the sound submission, to be forged."""
    sound = read_submission(place / "submission.zip")
    records, _ = sound.records.read()
    said = {one.spec.key: dict(sound.records.predictions(one)) for one in records}
    return Sent(records, said, dict(sound.methods))


@pytest.fixture
def host(place: Path) -> Project:
    """Return the project that checks submissions."""
    return find_project(place)


def faults(host: Project, sent: Sent, folder: Path) -> list[str]:
    """Return what `verify` finds in a forged submission."""
    path = folder / "forged.zip"
    write_submission(path, sent, sent.found, sent.methods, sent.about)
    return api.check(host, path).faults


def test_a_sound_submission_has_no_fault(host: Project, sent: Sent, tmp_path: Path) -> None:
    assert faults(host, sent, tmp_path) == []


def test_packing_twice_gives_equal_bytes(host: Project, place: Path, tmp_path: Path) -> None:
    again = api.submit(host, place / "results", to=tmp_path / "again.zip")
    assert again.path.read_bytes() == (place / "submission.zip").read_bytes()


# ------------------------------------------------------------------------- forgeries with every checksum computed again


def better_matrix(sent: Sent, host: Project) -> None:
    record = sent.found[0]
    sent.put(0, with_cell(record, "wild", confusion=np.diag(np.sum(wild(record), 1)).tolist()))


def worse_matrix_of_a_rival(sent: Sent, host: Project) -> None:
    record = sent.found[0]
    sent.put(0, with_cell(record, "wild", confusion=np.roll(wild(record), 1, 1).tolist()))


def predictions_of_another_run(sent: Sent, host: Project) -> None:
    other = sent.said[sent.found[sent.index("film", 0)].spec.key]["wild"]
    sent.answer(sent.index("web", 0), "wild", other.logits.argmax(1))


def labels_as_predictions(sent: Sent, host: Project) -> None:
    sent.answer(0, "wild", sent.said[sent.found[0].spec.key]["wild"].labels)


def predictions_as_labels(sent: Sent, host: Project) -> None:
    predicted = sent.said[sent.found[0].spec.key]["wild"].logits.argmax(1)
    sent.answer(0, "wild", predicted, labels=predicted)


def fewer_images(sent: Sent, host: Project) -> None:
    entry = sent.said[sent.found[0].spec.key]["wild"]
    right = entry.logits.argmax(1) == entry.labels
    sent.answer(0, "wild", entry.labels[right], labels=entry.labels[right])


def images_twice(sent: Sent, host: Project) -> None:
    entry = sent.said[sent.found[0].spec.key]["wild"]
    sent.answer(0, "wild", np.tile(entry.logits.argmax(1), 2), labels=np.tile(entry.labels, 2))


def wrong_ones_left_out(sent: Sent, host: Project, **cell: Any) -> None:
    record = sent.found[0]
    entry = sent.said[record.spec.key]["wild"]
    predicted = entry.logits.argmax(1)
    right = predicted == entry.labels
    confusion = confusion_matrix(entry.labels[right], predicted[right], 7).tolist()
    said = {**sent.said[record.spec.key], "wild": Predictions(entry.logits, entry.labels, ~right)}
    sent.put(0, with_cell(record, "wild", confusion=confusion, **cell), said)


def wrong_ones_called_near_duplicates(sent: Sent, host: Project) -> None:
    for place, record in enumerate(list(sent.found)):
        sent.put(place, with_spec(record, excluded={"wild": "0123456789abcdef"}))
    wrong_ones_left_out(sent, host, excluded="0123456789abcdef")


def wrong_ones_absent(sent: Sent, host: Project) -> None:
    wrong_ones_left_out(sent, host, absent=50)


def other_images(sent: Sent, host: Project) -> None:
    for place, record in enumerate(list(sent.found)):
        targets = {**record.spec.targets, "wild": "0" * 16}
        sent.put(place, with_cell(with_spec(record, targets=targets), "wild", fingerprint="0" * 16))


def other_training_images(sent: Sent, host: Project) -> None:
    for place, record in enumerate(list(sent.found)):
        sent.put(place, with_spec(record, fingerprints={name: "0" * 16 for name in record.spec.fingerprints}))


def source_called_unseen(sent: Sent, host: Project) -> None:
    record = sent.found[0]
    name = record.spec.sources[0]
    forged = with_spec(record, relations={**record.spec.relations, name: "unseen"})
    sent.put(0, with_cell(forged, name, relation="unseen"))


def targets_swapped(sent: Sent, host: Project) -> None:
    said = sent.said[sent.found[0].spec.key]
    one, other = said["grey48"], said["wild"]
    sent.answer(0, "wild", one.logits.argmax(1), labels=one.labels)
    sent.answer(0, "grey48", other.logits.argmax(1), labels=other.labels)


def target_missing(sent: Sent, host: Project) -> None:
    record = sent.found[0]
    sent.put(0, replace(record, cells=tuple(cell for cell in record.cells if cell.target != "wild")))


def predictions_missing(sent: Sent, host: Project) -> None:
    said = sent.said[sent.found[0].spec.key]
    sent.put(0, sent.found[0], {name: entry for name, entry in said.items() if name != "wild"})


def worst_seed_left_out(sent: Sent, host: Project) -> None:
    del sent.found[sent.index("film", 1)]


def other_method_file(sent: Sent, host: Project) -> None:
    sent.methods["linear_probe"] += b"# improved\n"


def no_method_file(sent: Sent, host: Project) -> None:
    sent.methods.clear()


def broken_method_file(sent: Sent, host: Project) -> None:
    sent.methods["linear_probe"] = b"class Probe(:\n"


def file_beside_the_method(sent: Sent, host: Project) -> None:
    sent.methods["linear_probe"] += b"import my_layers\n"


def relative_import(sent: Sent, host: Project) -> None:
    sent.methods["linear_probe"] += b"from . import layers\n"


def other_version(sent: Sent, host: Project) -> None:
    for place, record in enumerate(list(sent.found)):
        sent.put(place, with_spec(record, version=99))


def unknown_parameter(sent: Sent, host: Project) -> None:
    for place, record in enumerate(list(sent.found)):
        sent.put(place, with_spec(record, parameters={**record.spec.parameters, "magic": True}))


def old_numerics(sent: Sent, host: Project) -> None:
    for place, record in enumerate(list(sent.found)):
        sent.put(place, with_spec(record, numerics=1))


def finished_model(sent: Sent, host: Project) -> None:
    for place, record in enumerate(list(sent.found)):
        sent.put(place, with_spec(record, exposure=Exposure(trained_on=("web",))))


def own_suite(sent: Sent, host: Project) -> None:
    for place, record in enumerate(list(sent.found)):
        sent.put(place, with_spec(record, suite="synth5"))


def two_method_texts(sent: Sent, host: Project) -> None:
    sent.put(0, replace(sent.found[0], method_digest="0" * 64))


def two_networks(sent: Sent, host: Project) -> None:
    networks = {"backbone": {"name": "synth", "digest": "0" * 16}}
    sent.put(0, replace(sent.found[0], networks=networks))


Forge = Callable[[Sent, Project], None]

REFUSED: list[tuple[Forge, str]] = [
    (better_matrix, "confusion matrix of wild differs from that of its predictions"),
    (worse_matrix_of_a_rival, "confusion matrix of wild differs from that of its predictions"),
    (predictions_of_another_run, "the predictions for wild are those of .* which learned from another source"),
    (labels_as_predictions, "all 100 predictions for wild are the labels"),
    (predictions_as_labels, "labels of wild beside the predictions are not those of the domain"),
    (fewer_images, "labels of wild beside the predictions are not those of the domain|100"),
    (images_twice, "labels of wild beside the predictions are not those of the domain|200"),
    (wrong_ones_left_out, "wild has scores of .* images, and the domain has 100"),
    (wrong_ones_called_near_duplicates, "images of wild are left out as near-duplicates"),
    (wrong_ones_absent, "wild"),
    (other_images, "wild has other images or labels in the run than here"),
    (other_training_images, "has other images or labels in the run than here"),
    (source_called_unseen, "is marked 'unseen', which is wrong"),
    (targets_swapped, "labels of .* beside the predictions are not those of the domain"),
    (target_missing, "a target of the run has no score"),
    (predictions_missing, "wild has a score but no predictions|no predictions"),
    (worst_seed_left_out, "film lacks seed 1"),
    (other_method_file, "differs from the file that made 4 of 4 records"),
    (file_beside_the_method, "linear_probe.py:\\d+: imports my_layers, which is not in an installed package"),
    (relative_import, "linear_probe.py:\\d+: imports [.], which is not in an installed package"),
    (no_method_file, "linear_probe.py: is missing"),
    (broken_method_file, "linear_probe.py"),
    (other_version, "is version 2, and records are of version 99"),
    (unknown_parameter, "magic"),
    (old_numerics, "was made with numerics 1"),
    (finished_model, "finished model"),
    (own_suite, "has other images or labels in the run than here"),
    (two_method_texts, "versions of the method's file"),
    (two_networks, "sets of pre-trained weights"),
]


SLOW = {own_suite: pytest.mark.slow}  # it renders synth5 as a whole


@pytest.mark.parametrize(
    ("forge", "reason"), [pytest.param(*one, id=one[0].__name__, marks=SLOW.get(one[0], ())) for one in REFUSED]
)
def test_a_forgery_is_refused(forge: Forge, reason: str, host: Project, sent: Sent, tmp_path: Path) -> None:
    forge(sent, host)
    found = faults(host, sent, tmp_path)
    assert any(re.search(reason, fault) for fault in found), found


# --------------------------------------------------------------------------------------- changes of the archive's files


def files_of(path: Path) -> dict[str, bytes]:
    """Return the files of an archive without its manifest."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist() if name != MANIFEST}


def packed(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive of files, without any check."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def rows_name(files: Mapping[str, bytes]) -> str:
    return next(name for name in files if name.endswith(".jsonl"))


def edited_row(files: dict[str, bytes]) -> None:
    name = rows_name(files)
    files[name] = re.sub(rb'("wild":\[\[)(\d+)', rb"\g<1>9\2", files[name], count=1)


def edited_key(files: dict[str, bytes]) -> None:
    name = rows_name(files)
    files[name] = re.sub(rb'"key":"(.)', rb'"key":"z', files[name], count=1)


def edited_seed(files: dict[str, bytes]) -> None:
    name = rows_name(files)
    files[name] = re.sub(rb'"seed":1', rb'"seed":7', files[name], count=1)


def row_repeated(files: dict[str, bytes]) -> None:
    name = rows_name(files)
    lines = files[name].splitlines()
    files[name] = b"\n".join([*lines, lines[-1]]) + b"\n"


def rows_in_two_files(files: dict[str, bytes]) -> None:
    name = rows_name(files)
    arrays = name.removesuffix(".jsonl") + ".npz"
    folder = name.split("/")[0]
    files[f"{folder}/copy.jsonl"], files[f"{folder}/copy.npz"] = files[name], files[arrays]


def arrays_missing(files: dict[str, bytes]) -> None:
    del files[rows_name(files).removesuffix(".jsonl") + ".npz"]


def arrays_damaged(files: dict[str, bytes]) -> None:
    name = rows_name(files).removesuffix(".jsonl") + ".npz"
    files[name] = files[name][:-40]


def no_records(files: dict[str, bytes]) -> None:
    for name in [name for name in files if not name.startswith("methods/")]:
        del files[name]


def path_outside(files: dict[str, bytes]) -> None:
    files["methods/../../outside.py"] = b""


def other_file(files: dict[str, bytes]) -> None:
    files["setup.sh"] = b"echo"


CHANGED: list[tuple[Callable[[dict[str, bytes]], None], str]] = [
    (edited_row, "checksum is not that of its content"),
    (edited_key, "key|cannot be read"),
    (edited_seed, "checksum is not that of its content"),
    (row_repeated, "repeats the run"),
    (rows_in_two_files, "has the same run"),
    (arrays_missing, "missing"),
    (arrays_damaged, "cannot be read"),
    (no_records, "no packed records|no records"),
    (path_outside, "is not a file of submissions"),
    (other_file, "is not a file of submissions"),
]


@pytest.mark.parametrize(("change", "reason"), CHANGED, ids=[change.__name__ for change, _ in CHANGED])
def test_a_changed_archive_is_refused(
    change: Callable[[dict[str, bytes]], None], reason: str, host: Project, place: Path, tmp_path: Path
) -> None:
    files = files_of(place / "submission.zip")
    change(files)
    write_archive(tmp_path / "forged.zip", files, {})
    try:
        found = api.check(host, tmp_path / "forged.zip").faults
    except BenchError as error:
        found = [str(error)]
    assert any(re.search(reason, fault) for fault in found), found


def test_a_file_that_differs_from_the_manifest_is_refused(host: Project, place: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(place / "submission.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["methods/linear_probe.py"] += b"#"
    (tmp_path / "forged.zip").write_bytes(packed(files))
    with pytest.raises(BenchError, match=r"linear_probe\.py' is missing or differs from submission\.json"):
        api.check(host, tmp_path / "forged.zip")


def test_without_its_manifest_a_submission_does_not_pass_as_packed_records(place: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(place / "submission.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist() if name != MANIFEST}
    (tmp_path / "forged.zip").write_bytes(packed(files))
    assert is_submission(tmp_path / "forged.zip")
    with pytest.raises(BenchError, match=r"the archive lacks submission\.json"):
        read_submission(tmp_path / "forged.zip")


@pytest.mark.parametrize("name", ["my-idea", "idée", "v1.2"])
def test_a_method_may_have_each_name_that_projects_allow(name: str, tmp_path: Path) -> None:
    write_archive(tmp_path / "named.zip", {f"methods/{name}.py": b"x"}, {})
    assert read_submission(tmp_path / "named.zip").methods == {name: b"x"}


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"nothing")
    with pytest.raises(BenchError, match="this submission cannot be read"):
        read_submission(tmp_path / "x.zip")


# ----------------------------------------------------------------------------------------- what only a repetition shows


def some_predictions_improved(sent: Sent) -> None:
    place = sent.index("web", 0)
    entry = sent.said[sent.found[place].spec.key]["wild"]
    predicted = entry.logits.argmax(1)
    wrong = np.flatnonzero(predicted != entry.labels)[:10]
    predicted[wrong] = entry.labels[wrong]
    sent.answer(place, "wild", predicted)


def another_fraction(sent: Sent) -> None:
    for place, record in enumerate(list(sent.found)):
        sent.put(place, with_spec(record, fraction=0.1))


@pytest.mark.parametrize("forge", [some_predictions_improved, another_fraction])
def test_a_forgery_beyond_verify_is_caught_by_the_repetition(
    forge: Callable[[Sent], None], host: Project, sent: Sent, tmp_path: Path
) -> None:
    forge(sent)
    path = tmp_path / "forged.zip"
    write_submission(path, sent, sent.found, sent.methods, {})
    assert api.check(host, path).faults == []
    forged = read_submission(path)
    project = with_methods(host, forged, _folder(tmp_path))
    first = [one for one in forged.records.read()[0] if one.spec.sources == ("web",) and one.spec.seed == 0]
    (found,) = repeat(forged, first, project, "cpu", lambda *_: None, lambda *_: None, lambda one: None)
    assert "differs by" in found.fault(TOLERANCE)


def test_a_sound_run_repeats_exactly(host: Project, place: Path, tmp_path: Path) -> None:
    sound = read_submission(place / "submission.zip")
    project = with_methods(host, sound, _folder(tmp_path))
    picked = chosen(sound.records.read()[0], 0.1, seed=0)
    (found,) = repeat(sound, picked, project, "cpu", lambda *_: None, lambda *_: None, lambda one: None)
    assert (found.worst, found.images, found.fault(0.0), found.same_machine) == (0.0, 0, "", True)


def _folder(path: Path) -> Path:
    (path / "methods").mkdir()
    return path / "methods"


def test_the_submitted_file_is_executed_and_not_that_of_the_project(place: Path, sent: Sent, tmp_path: Path) -> None:
    sent.methods["linear_probe"] = (shipped("methods") / "knn.py").read_bytes()
    path = tmp_path / "forged.zip"
    write_submission(path, sent, sent.found, sent.methods, {})
    found = api.repeat(find_project(place), path, 0.01, "cpu", 0, api_display())
    assert len(found) == 1
    assert found[0].fault(TOLERANCE)


def api_display() -> Any:
    from fergen_bench.api.display import Display

    return Display()


def test_sentences_in_a_summary_contain_no_markup(host: Project) -> None:
    verdict = Verdict(faults=["cafe (name=x\n\n# all is well <img>)"])
    text = api.summarised(host, Path("sent.zip"), verdict, None)
    assert "- cafe (name=x # all is well &lt;img>)\n" in text


def test_a_share_has_at_least_one_run_and_follows_its_seed(sent: Sent) -> None:
    assert len(chosen(sent.found, 0.1, seed=1)) == 1
    assert chosen(sent.found, 0.5, seed=1) == chosen(sent.found, 0.5, seed=1)
    assert len(chosen(sent.found, 1.0)) == len(sent.found)


def test_labels_come_from_the_prepared_domain(place: Path, sent: Sent) -> None:
    project = find_project(place)
    suite = project.suite("synth5-tiny")
    prepared = Domain(project.prepared(suite, ["wild"])["wild"], "wild")
    assert (sent.said[sent.found[0].spec.key]["wild"].labels == prepared.split("test").labels).all()


def _names() -> Iterator[str]:
    yield from (forge.__name__ for forge, _ in REFUSED)
    yield from (change.__name__ for change, _ in CHANGED)


def test_there_are_thirty_kinds_of_forgery() -> None:
    assert len(set(_names())) >= 30
