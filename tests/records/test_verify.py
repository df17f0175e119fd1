"""Verification: honest results are sound, and every manipulation is reported. A replay repeats a run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import SPEC, finished, rewritten
from running import WEB, execute, make_plan

from conftest import Bench
from fergen_bench.data.domain import Domain
from fergen_bench.data.facts import DataFacts
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.run import Run
from fergen_bench.records import store
from fergen_bench.records.record import Predictions, scored_cell
from fergen_bench.records.sidecar import SIDECARS, sidecar
from fergen_bench.records.verify import Verdict, _environments, verify


def made(runs: Path, spec: Run, **changes: Any) -> Path:
    """A record with the predictions that it comes from."""
    draw = np.random.default_rng(spec.seed)
    said = {
        name: Predictions(draw.normal(size=(40, 7)), draw.integers(0, 7, 40), np.arange(40) == 3)
        for name in spec.targets
    }
    cells = tuple(scored_cell(spec, name, state, said[name]) for name, state in spec.targets.items())
    data = {name: DataFacts(layout="drawn", counts={"test": 39}, scored="test") for name in spec.targets}
    return store.save(finished(spec, cells=cells, data=data, **changes), runs, said, {"mask": np.zeros(3)})


@pytest.fixture
def results(tmp_path: Path) -> Path:
    for seed in (0, 1):
        made(tmp_path / "r" / "runs", replace(SPEC, seed=seed))
    return tmp_path / "r"


def looked(folder: Path) -> Verdict:
    return verify(folder, lambda method: "m" * 64)


def one(results: Path) -> Path:
    return sorted((results / "runs").rglob("*.json"))[0]


def test_honest_results_are_sound_and_nothing_is_written(results: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in results.rglob("*")}
    verdict = looked(results)
    assert (verdict.faults, verdict.notes) == ([], [])
    assert (len(verdict.records), len(verdict.recounted), verdict.files) == (2, 2, 6)
    assert looked(results / "runs").rows() == {("s", SPEC.label, 1): (2, 2)}
    assert before == {path: path.stat().st_mtime_ns for path in results.rglob("*")}


def test_a_number_touched_up_is_told_by_the_checksum_and_by_the_predictions(results: Path) -> None:
    def better(content: dict[str, Any]) -> None:
        rows = content["cells"][1]["confusion"]
        wrong = next((i, j) for i in range(7) for j in range(7) if i != j and rows[i][j])
        rows[wrong[0]][wrong[1]] -= 1
        rows[wrong[0]][wrong[0]] += 1

    path = one(results)
    whole = path.read_text()
    content = json.loads(whole)
    better(content)
    path.write_text(json.dumps(content))
    assert "its checksum is not that of its content" in looked(results).faults[0]
    path.write_text(whole)
    rewritten(path, better)
    (fault,) = looked(results).faults
    assert fault == f"{path}: the confusion matrix of b differs from that of its predictions in 1 of 39 images"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda c: c["spec"].update(seed=7), "its key is"),
        (lambda c: c["spec"]["parameters"].update(lr=9.0), "its key is"),
        (lambda c: c["cells"].pop(), "a target of the run has no score"),
        (lambda c: c["cells"][1].update(relation="source"), "is marked 'source', which is wrong"),
        (lambda c: c["files"].update({".npz": "0" * 64}), "npz: this file is damaged"),
        (lambda c: c.update(method_digest="x"), "used 2 versions of the method's file"),
        (lambda c: c["networks"]["backbone"].update(digest="x"), "used 2 sets of pre-trained weights"),
    ],
)
def test_what_is_not_as_it_should_be(change: Callable[[dict[str, Any]], None], fault: str, results: Path) -> None:
    rewritten(one(results), change)
    assert [found for found in looked(results).faults if fault in found]


def test_files_that_do_not_belong(results: Path, tmp_path: Path) -> None:
    path = one(results)
    shutil.copy(path, path.with_name("b-s9-000000000000.json"))
    (path.parent / "run.sh").write_text("")
    (results / "runs" / "leaderboard.md").write_text("")
    (results / "runs" / "s" / "out").symlink_to(tmp_path)
    verdict = looked(results)
    assert len(verdict.records) == 2
    assert [note for note in verdict.notes if "b-s9-000000000000.json is not a record in its own place" in note]
    assert any("this is a link, which is not followed" in fault for fault in verdict.faults)
    assert [note for note in verdict.notes if "run.sh: does not belong to a record" in note]
    assert not [note for note in verdict.notes if "leaderboard" in note]


def test_early_records_and_half_a_matrix_are_notes(results: Path) -> None:
    rewritten(one(results), lambda content: content.pop("files"), signed=False)
    for ending in SIDECARS:
        sidecar(one(results), ending).unlink(missing_ok=True)
    relations = {"a": "unseen", "b": "source"}
    made(results / "runs", replace(SPEC, seed=1, sources=("b",), fingerprints={"b": "f2"}, relations=relations))
    verdict = looked(results)
    assert not verdict.faults
    assert len(verdict.recounted) == 2
    assert [note for note in verdict.notes if "has 3 of 4 runs (2 trainings by 2 seeds)" in note]


def test_versions_of_packages_are_those_that_were_used(results: Path) -> None:
    record = store.load(one(results))
    other, without = ({**record.environment, "timm": version} for version in ("0.1", None))
    given = [replace(record, environment=environment) for environment in (other, without)]
    assert _environments(given[:1] + given) == []
    (note,) = _environments([replace(record, environment={**other, "timm": "0.2"}), *given])
    assert note == "the runs used timm 0.1, 0.2"


def test_prepared_domains_and_features_are_looked_at(results: Path, web: Domain) -> None:
    shutil.copytree(web.folder, results / "cache" / "domains" / "web")
    features = results / "cache" / "features" / "synth"
    features.mkdir(parents=True)
    np.save(features / "f-train.npy", np.zeros((3, 2), np.float32))
    (features / "f-train.sha256").write_text("0" * 64)
    faces = results / "cache" / "domains" / "web" / "faces.npy"
    verdict = looked(results)
    assert verdict.domains == verdict.features == 1
    assert [fault for fault in verdict.faults if "f-train.npy: this file is damaged: its checksum" in fault]
    with faces.open("r+b") as file:
        file.seek(5000)
        file.write(b"\xff\x00")
    (fault,) = (fault for fault in looked(results).faults if "domain.json" in fault)
    assert "domain.json: this file is damaged: its images or labels" in fault


def test_the_command(bench: Bench, results: Path) -> None:
    result = bench("verify", str(results))
    assert (result.code, "Sound: 2 records in 6 files." in result.out) == (0, True)
    one(results).write_text("{")
    result = bench("verify", str(results))
    assert result.code == 1
    assert "Not sound: 1 fault in" in result.out
    (results / "empty").mkdir()
    assert bench("verify", str(results / "empty")).code == 2


def test_a_damaged_record_is_set_aside_and_its_run_made_again(lab: Project) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    runs = lab.results / "runs"
    path = plan.runs[0].spec.path(runs)
    whole = path.with_suffix(".npz").read_bytes()
    path.with_suffix(".npz").write_bytes(whole[:-9])
    dry = make_plan(lab, protocol=WEB, dry_run=True)
    assert len(dry.missing) == 1
    assert path.is_file()
    again = make_plan(lab, protocol=WEB)
    assert len(again.missing) == 1
    assert [note for note in again.notes if "npz: this file is damaged" in note and "damaged/synth5-tiny" in note]
    aside = lab.results / "damaged" / path.relative_to(runs)
    assert aside.is_file()
    assert aside.with_suffix(".npz").read_bytes() == whole[:-9]
    execute(again, lab, 0)
    assert path.with_suffix(".npz").read_bytes() == whole
    path.write_text("{")
    make_plan(lab, protocol=WEB)
    assert len(list(aside.parent.glob("*.json"))) == 2  # nothing that was set aside is lost
