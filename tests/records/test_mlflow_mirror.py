from __future__ import annotations

import json
import sqlite3
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from examples import SPEC, finished
from sample_records import entry

from fergen_bench.records import mlflow_mirror as tracking
from fergen_bench.records.collection import RecordFolder
from fergen_bench.records.mlflow_mirror import Mirror, RefusedRecord, TrackingError, resolve_uri
from fergen_bench.records.mlflow_values import view_address
from fergen_bench.report import figures
from fergen_bench.report.leaderboard import leaderboard_views


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Mirror, Path]:
    results = tmp_path_factory.mktemp("results")
    mirror = Mirror(resolve_uri(None, results), "test", results, figures.confusion_png)
    assert mirror.mirror(finished())
    return mirror, results


def test_a_record_becomes_a_run_below_its_protocol(mirrored: tuple[Mirror, Path]) -> None:
    mirror, _ = mirrored
    (child,) = mirror.client.search_runs([mirror.experiment], f"tags.`{tracking.KEY}` = '{SPEC.key}'")
    parent = mirror.client.get_run(child.data.tags["mlflow.parentRunId"])
    assert parent.data.tags[tracking.PLAN].startswith("s//")
    assert parent.data.tags[tracking.ROW] == SPEC.label
    assert parent.data.params["gate"] == "sigmoid"
    assert child.data.params["gate"] == "sigmoid"
    assert child.data.metrics["accuracy/b"] == 1.0
    assert child.data.metrics["accuracy/mean_unseen"] == 1.0
    tags = {name: child.data.tags[name] for name in ("suite", "profile", "selection", "synthetic")}
    assert tags == {"suite": "s", "profile": "official", "selection": "last", "synthetic": "false"}
    assert [point.step for point in mirror.client.get_metric_history(child.info.run_id, "loss")] == [1]
    assert [file.path for file in mirror.client.list_artifacts(child.info.run_id)] == ["confusion.png"]
    inputs = [(entry.dataset.name, entry.dataset.digest, entry.tags[0].value) for entry in child.inputs.dataset_inputs]
    assert sorted(inputs) == [("a", "f1", "training"), ("b", "f2", "evaluation")]


def test_the_parent_of_a_row_has_the_means_of_the_leaderboard(tmp_path: Path) -> None:
    mirror = Mirror(resolve_uri(None, tmp_path), "means", tmp_path)
    accuracies = {(0, "a"): (60, 50), (0, "b"): (70, 40), (1, "a"): (62, 54), (1, "b"): (74, 46), (2, "a"): (10, 10)}
    records = [
        entry(source, {source: 90, **dict(zip(sorted({"a", "b", "c"} - {source}), right, strict=True))}, seed=seed)
        for (seed, source), right in accuracies.items()
    ]
    for record in records:
        mirror.mirror(record)
    mirror.mirror(replace(records[0], started="2026-02-01T00:00:00+00:00"))  # a repeated run counts once
    (row,) = leaderboard_views(records, RecordFolder(tmp_path))[0][0].rows
    (parent,) = mirror.client.search_runs([mirror.experiment], f"tags.`{tracking.ROW}` = 'cafe'")
    found = parent.data.metrics
    assert 100 * found["accuracy/mean_unseen"] == pytest.approx(row.means["unseen"].value) == pytest.approx(57.0)
    assert 100 * found["accuracy/sd_unseen"] == pytest.approx(row.means["unseen"].sd)
    assert 100 * found["macro_f1/mean_unseen"] == pytest.approx(row.measures["macro_f1"].mean.value)
    assert (found["seeds"], found["records"]) == (2, 5)  # the third seed lacks a source


def test_rows_of_other_parameters_have_parents_of_their_own_in_one_view(tmp_path: Path) -> None:
    mirror = Mirror(resolve_uri(None, tmp_path), "rows", tmp_path)
    for gate in ("sigmoid", "linear"):
        mirror.mirror(finished(replace(SPEC, parameters={**SPEC.parameters, "gate": gate})))
    view = json.loads(mirror.client.get_experiment(mirror.experiment).tags[f"mlflow.sharedViewState.{tracking.VIEW}"])
    rows = mirror.client.search_runs([mirror.experiment], view["searchFilter"])
    assert {run.data.params["gate"] for run in rows} == {"sigmoid", "linear"}
    assert view["orderByKey"] in view["selectedColumns"]
    assert view_address(5000, "1").endswith(f"/#/experiments/1/runs?viewStateShareKey={tracking.VIEW}")


def test_a_kept_model_is_mirrored_where_that_is_asked_for(mirrored: tuple[Mirror, Path]) -> None:
    _, results = mirrored
    mirror = Mirror(resolve_uri(None, results), "test", results, models=results / "runs")
    entry = finished(replace(SPEC, seed=6))
    model = entry.spec.model_path(results / "runs")
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    assert mirror.mirror(entry)
    (run,) = mirror.client.search_runs([mirror.experiment], f"tags.`{tracking.KEY}` = '{entry.spec.key}'")
    (file,) = mirror.client.list_artifacts(run.info.run_id, "model")
    assert file.path == f"model/{model.name}"


def test_mirroring_twice_changes_nothing(mirrored: tuple[Mirror, Path]) -> None:
    mirror, results = mirrored
    assert not mirror.mirror(finished())
    assert mirror.mirror(replace(finished(), started="2026-02-01T00:00:00+00:00"))  # a rerun is a run of its own
    again = Mirror(resolve_uri(None, results), "test", results)
    assert not again.mirror(finished())
    assert len(again.client.search_runs([again.experiment])) == 4


def test_a_record_whose_cells_were_counted_again_takes_the_old_ones_place(mirrored: tuple[Mirror, Path]) -> None:
    mirror, _ = mirrored
    entry = finished(replace(SPEC, seed=9))
    assert mirror.mirror(entry)
    half = [[count // 2 for count in row] for row in entry.cells[1].confusion]
    again = replace(entry.cells[1], confusion=half, excluded="0123456789ab", relation="seen")
    assert mirror.mirror(replace(entry, cells=(entry.cells[0], again)))
    (run,) = mirror.client.search_runs([mirror.experiment], f"tags.`{tracking.KEY}` = '{entry.spec.key}'")
    assert "accuracy/mean_unseen" not in run.data.metrics
    assert not mirror.mirror(replace(entry, cells=(entry.cells[0], again)))


def test_a_record_without_cells_is_mirrored_without_a_picture(mirrored: tuple[Mirror, Path]) -> None:
    mirror, _ = mirrored
    spec = replace(SPEC, seed=7, targets={})
    assert mirror.mirror(finished(spec, cells=()))
    (run,) = mirror.client.search_runs([mirror.experiment], f"tags.`{tracking.KEY}` = '{spec.key}'")
    assert mirror.client.list_artifacts(run.info.run_id) == []
    assert "accuracy/mean_all" not in run.data.metrics


def test_a_run_that_was_half_mirrored_is_mirrored_again(mirrored: tuple[Mirror, Path]) -> None:
    mirror, _ = mirrored
    entry = finished(replace(SPEC, seed=8))
    tags = {tracking.KEY: entry.spec.key, "fergen.started": entry.started}
    mirror.client.create_run(mirror.experiment, tags=tags)
    assert mirror.mirror(entry)
    (run,) = mirror.client.search_runs([mirror.experiment], f"tags.`{tracking.KEY}` = '{entry.spec.key}'")
    assert run.info.status == "FINISHED"
    assert not mirror.mirror(entry)


def test_a_record_that_mlflow_does_not_accept_is_refused_by_its_key(mirrored: tuple[Mirror, Path]) -> None:
    mirror, _ = mirrored
    entry = finished(replace(SPEC, seed=10, parameters={**SPEC.parameters, "gate?": 1}))
    with pytest.raises(RefusedRecord, match=f"does not accept the record {entry.spec.key} .*Names may only contain"):
        mirror.mirror(entry)
    assert mirror.mirror(finished(replace(SPEC, seed=11)))


def test_the_address_comes_from_the_settings_then_the_environment_then_the_results(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_uri(None, tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    assert resolve_uri(None, tmp_path) == "http://127.0.0.1:1"
    assert resolve_uri("sqlite:///x", tmp_path) == "sqlite:///x"


def test_a_dead_server_is_one_sentence_within_seconds(tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(TrackingError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be .*fergen-bench sync"):
        Mirror("http://127.0.0.1:9", "test", tmp_path)
    assert time.monotonic() - started < 20


def test_without_mlflow_there_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(TrackingError, match=r"mlflow cannot be loaded .*the records are complete without it"):
        Mirror("sqlite:///x", "test", tmp_path)


def test_the_server_is_bound_to_loopback(tmp_path: Path) -> None:
    command, _ = tracking.server_command("sqlite:///x", tmp_path, 5001)
    assert command[command.index("--host") + 1] == "127.0.0.1"


@pytest.mark.parametrize("name", ["my project", "exp#1", "50% faces", "a%20b", "what?", "x;y&z=1", "笑 é", "a:b@c"])
def test_an_address_names_its_file_whatever_the_folder_is_called(tmp_path: Path, name: str) -> None:
    from sqlalchemy import create_engine, text

    path = tmp_path / name / "mlflow.db"
    path.parent.mkdir()
    uri = tracking.sqlite_uri(path)
    assert tracking.database_of(uri) == path
    with create_engine(uri).begin() as connection:
        connection.execute(text("create table t (x integer)"))
    assert path.stat().st_size
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["100%20?#"])
def test_a_mirror_stays_in_its_project(tmp_path: Path, name: str) -> None:
    results = tmp_path / name / "results"
    results.mkdir(parents=True)
    assert Mirror(resolve_uri(None, results), "test", results, figures.confusion_png).mirror(finished())
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    assert sorted(entry.name for entry in results.iterdir()) == ["mlflow.db", "mlruns"]
    assert list(results.glob("mlruns/*/artifacts/confusion.png"))


def test_a_database_that_was_begun_by_a_killed_process_is_made_anew(tmp_path: Path) -> None:
    draft = tmp_path / ".mlflow.db-abc"
    draft.write_bytes(b"half")
    (tmp_path / "mlflow.db").touch()
    Mirror(resolve_uri(None, tmp_path), "test", tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_half_migrated_database_is_renamed_not_tried_again(tmp_path: Path, mirrored: tuple[Mirror, Path]) -> None:
    _, whole = mirrored
    path = tmp_path / "mlflow.db"
    path.write_bytes((whole / "mlflow.db").read_bytes())
    with sqlite3.connect(path) as connection:
        connection.execute("update alembic_version set version_num = '451aebb31d03'")
    with pytest.raises(TrackingError) as error:
        Mirror(resolve_uri(None, tmp_path), "test", tmp_path)
    assert f"mv {path} {path}.old; then fill a new one from the records with: fergen-bench sync" in str(error.value)
    assert f"mlflow db upgrade sqlite:///{path}; or, if that fails" in str(error.value)
    assert "try again" not in str(error.value)


def test_a_deleted_experiment_is_restored_or_another_one_is_named(mirrored: tuple[Mirror, Path]) -> None:
    mirror, results = mirrored
    uri = resolve_uri(None, results)
    gone = Mirror(uri, "gone", results).experiment
    mirror.client.delete_experiment(gone)
    with pytest.raises(TrackingError) as error:
        Mirror(uri, "gone", results)
    assert f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id {gone}" in str(error.value)
    assert 'experiment = "gone-2"' in str(error.value)
    mirror.client.restore_experiment(gone)
    assert Mirror(uri, "gone", results).experiment == gone
