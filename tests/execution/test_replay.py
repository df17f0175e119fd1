"""`verify --replay`: a run executed again agrees with its record, or the difference is reported."""

from __future__ import annotations

from typing import Any

import pytest
from examples import rewritten
from running import WEB, execute, make_plan

from conftest import Bench
from fergen_bench.data.numerics import NUMERICS
from fergen_bench.error import BenchError
from fergen_bench.execution import replay
from fergen_bench.experiment.project import Project


def test_a_replayed_run_gives_the_same_predictions(lab: Project, bench: Bench) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    path = plan.runs[0].spec.path(lab.results / "runs")
    before = sorted(lab.results.rglob("*"))
    result = bench("run", "--replay", str(path))
    assert (result.code, "Equal: every confusion matrix" in result.out) == (0, True), result.err
    assert "here differs from that" not in result.out
    assert sorted(lab.results.rglob("*")) == before
    method = lab.root / "methods" / "probe.py"
    method.write_text(method.read_text() + "\n")
    result = bench("run", "--replay", str(path))
    assert (result.code, "Equal: every confusion matrix" in result.out) == (0, True), result.err
    assert "probe.py here differs from that at the record" in " ".join(result.out.split())

    def other(content: dict[str, Any]) -> None:
        row = content["cells"][0]["confusion"][0]
        place = next(place for place in range(7) if row[place])
        row[place] -= 1
        row[place - 1] += 1

    rewritten(path, other)
    result = bench("run", "--replay", str(path))
    assert result.code == 1
    assert "at least 1 of" in result.out


def test_a_run_without_targets_is_compared_by_its_epochs(lab: Project, bench: Bench) -> None:
    execute(make_plan(lab, {"epochs": 2}, WEB | {"targets": "none", "selection": "source-val"}, method="sd"), lab, 0)
    (path,) = (lab.results / "runs").glob("*/*/*.json")
    result = bench("run", "--replay", str(path))
    assert (result.code, "Equal: 2 of 2 epochs" in result.out) == (0, True), result.err
    rewritten(path, lambda content: content["history"][1].update(loss=9.0))
    result = bench("run", "--replay", str(path))
    assert (result.code, "1 of 2 epochs has other losses" in result.out) == (1, True), result.err
    rewritten(path, lambda content: content.update(history=[]))
    result = bench("run", "--replay", str(path))
    assert (result.code, "neither scores nor epochs" in result.err) == (2, True)
    result = bench("run", "--replay", str(path), "--seeds", "1")
    assert (result.code, "--seeds: is ineffective with --replay" in result.err) == (2, True)


def test_corrupted_images_are_compared_too(lab: Project, bench: Bench) -> None:
    execute(make_plan(lab, protocol=WEB | {"shifts": {"factors": {"blur": [3.0]}, "faces": 20}}), lab, 0)
    (path,) = (lab.results / "runs").glob("*/*/*.json")
    result = bench("run", "--replay", str(path))
    assert (result.code, "web, blur 3" in result.out) == (0, True), result.err

    def other(content: dict[str, Any]) -> None:
        (cell,) = (cell for cell in content["shifted"] if cell["factor"] == "blur")
        cell["confusion"] = cell["confusion"][::-1]

    rewritten(path, other)
    assert bench("run", "--replay", str(path)).code == 1


def test_a_replay_with_another_method_file_or_weights_is_refused(lab: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(lab, protocol=WEB)
    execute(plan, lab, 0)
    path = plan.runs[0].spec.path(lab.results / "runs")

    def replayed(**changes: Any) -> None:
        nothing = lambda *_: None  # noqa: E731
        replay.replay(lab, path, "cpu", changes, nothing, nothing)

    with pytest.raises(BenchError, match="takes no other parameters"):
        replayed(kind="slow")
    monkeypatch.setattr(replay, "NUMERICS", NUMERICS + 1)
    with pytest.raises(BenchError, match=f"made with numerics {NUMERICS}, .* numerics {NUMERICS + 1}; .* commit"):
        replayed()
    monkeypatch.undo()
    method = lab.root / "methods" / "probe.py"
    text = method.read_text()
    method.write_text(text.replace("class Probe(Method):", "class Probe(Method):\n    version = 2"))
    with pytest.raises(BenchError, match="made by version 1 of the method probe"):
        replayed()
    method.unlink()
    with pytest.raises(BenchError, match="no method 'probe'"):
        replayed()
    method.write_text(text)
    rewritten(path, lambda content: content["spec"]["targets"].update(web="0" * 16))
    with pytest.raises(BenchError, match="on other images of web than those in"):
        replayed()
