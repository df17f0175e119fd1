"""A record and its sidecars on disk."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import SPEC, example_predictions, finished
from running import WEB, execute, make_plan

from fergen_bench.data.numerics import NUMERICS
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project
from fergen_bench.experiment.run import Job
from fergen_bench.files.bounded import checksum_of
from fergen_bench.records import store


def test_a_record_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = store.save(
        finished(), tmp_path, {"a": example_predictions(3), "b": example_predictions(1)}, {"a.mask": np.ones((7, 2))}
    )
    assert path == tmp_path / "s" / "cafe" / f"a-s0-{SPEC.key}.json"
    assert store.load(path) == finished()
    found = store.RecordFile.open(path).predictions()
    assert list(found) == ["a", "b"]
    assert found["a"].logits.dtype == np.float16
    assert [len(values) for values in found["a"].scored] == [2, 2]
    np.testing.assert_array_equal(found["a"].labels, [0, 1, 2])
    assert not found["b"].left_out.any()
    np.testing.assert_array_equal(store.RecordFile.open(path).arrays()["a.mask"], np.ones((7, 2)))
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".json", ".npz", ".npz"]


def test_a_record_without_numerics_and_precision_has_numerics_1_fp32_and_keeps_its_key(tmp_path: Path) -> None:
    path = store.save(finished(), tmp_path)
    content = json.loads(path.read_text())
    assert content["spec"].pop("numerics") == 1
    content["checksum"] = checksum_of({name: value for name, value in content.items() if name != "checksum"})
    path.write_text(json.dumps(content))
    assert store.load(path).spec == SPEC
    assert content["spec"].pop("precision") == "fp32"
    content["checksum"] = checksum_of({name: value for name, value in content.items() if name != "checksum"})
    path.write_text(json.dumps(content))
    assert store.load(path).spec == SPEC
    content["spec"]["numerics"], content["key"] = 0, replace(SPEC, numerics=0).key
    content["checksum"] = checksum_of({name: value for name, value in content.items() if name != "checksum"})
    path.write_text(json.dumps(content))
    with pytest.raises(BenchError, match="numerics 0, which is below 1"):
        store.load(path)


def test_a_plan_has_the_present_numerics(lab: Project) -> None:
    (run,) = make_plan(lab, protocol=WEB).runs
    assert run.spec.numerics == NUMERICS > 1
    assert run.spec.identity()["numerics"] == NUMERICS
    assert replace(run.spec, numerics=1).key != run.spec.key


def test_predictions_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = store.save(finished(), tmp_path, {"a": example_predictions(3)})
    assert store.RecordFile.open(path).arrays() == {}
    path.with_suffix(".npz").write_bytes(b"PK no archive")
    with pytest.raises(BenchError, match=r"npz: this file is damaged .* --rerun"):
        store.RecordFile.open(path).predictions()


def test_a_save_that_breaks_keeps_the_record_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.save(finished(), tmp_path)

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        store.save(finished(started="later"), tmp_path)
    assert store.load(path) == finished()


def test_find_and_whether_all_targets_are_scored_as_they_are_now(tmp_path: Path) -> None:
    assert store.find(SPEC, tmp_path) is None
    path = store.save(finished(), tmp_path)
    found = store.find(SPEC, tmp_path)
    assert found == finished()
    assert found.answers(SPEC)
    assert found.answers(replace(SPEC, targets={"b": "f2"}))
    assert not found.answers(replace(SPEC, targets={"b": "changed"}))
    assert not found.answers(replace(SPEC, targets={"c": "f3"}))
    path.write_text("{")
    assert store.find(SPEC, tmp_path) is None  # it will be written again


def test_a_plan_parses_and_validates_each_record_once(lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(make_plan(lab, protocol=WEB), lab, 0)
    parsed, validated = [], []
    parse, fault = store.parse_json, store._fault
    monkeypatch.setattr(store, "parse_json", lambda text: (parsed.append(text), parse(text))[1])
    monkeypatch.setattr(store, "_fault", lambda *given: (validated.append(given), fault(*given))[1])
    plan = make_plan(lab, protocol=WEB)
    assert not plan.missing
    assert len(parsed) == len(validated) == len(plan.runs) == 1


@pytest.mark.parametrize("text", ["", "{", '{"format": 1}', "[]"])
def test_a_torn_record_is_named_with_what_to_do(tmp_path: Path, text: str) -> None:
    path = tmp_path / "torn.json"
    path.write_text(text)
    with pytest.raises(BenchError, match=r"torn\.json: this file cannot be read as a record .*to run it again"):
        store.load(path)


def test_another_form_of_record_is_named(tmp_path: Path) -> None:
    path = store.save(finished(), tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 99}))
    with pytest.raises(BenchError, match="has format 99"):
        store.load(path)


def test_a_job_survives_its_file(tmp_path: Path) -> None:
    job = Job(SPEC, "m.py", "M", "digest", {"a": "/a"}, "/cache", "/runs", "cpu", 1)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
