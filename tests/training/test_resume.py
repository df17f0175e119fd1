"""A killed run continues where it stopped, with the same numbers."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import ROOT
from fergen_bench.data.domain import Domain
from fergen_bench.data.source import open_source
from fergen_bench.experiment.method_file import read_method
from fergen_bench.training.contract import Context
from fergen_bench.training.load import load_method
from fergen_bench.training.loop import GradientMethod
from fergen_bench.training.resume import ResumeState


class Killed(Exception):
    pass


def fitted(
    name: str, domains: list[Domain], path: Path, dies_after: int | None, selection: str, sampling: str = "natural"
) -> GradientMethod:
    """A method after three epochs on a few faces; or none where it dies, with what it had saved at `path`."""
    file = read_method(ROOT / "methods" / f"{name}.py")
    values = {**file.defaults("small"), "epochs": 3, "batch_size": 16, "trunk": "synth-trunk", "sampling": sampling}
    values |= {"relabel_from": 1} if "relabel_from" in values else {}
    values |= {"backbone": "synth"} if "backbone" in values else {}
    method = load_method(file.path, file.class_name, values)

    def report(what: str, done: int, total: int) -> None:
        if what == "epoch" and done == dies_after:
            raise Killed  # before this epoch is saved, so that it is trained again

    torch.manual_seed(0)
    resume = ResumeState(path / "run.pt", {"key": "k"}, 0.0)
    ctx = Context("u", 0, selection, torch.device("cpu"), path / "cache", report, None, resume)
    method.fit(open_source(domains, 0, 0.1), ctx)
    assert isinstance(method, GradientMethod)
    assert [entry["epoch"] for entry in ctx.history] == [1, 2, 3]
    return method


@pytest.mark.parametrize(
    ("name", "selection", "sampling"),
    [("cafe", "source-val", "balanced"), ("scn", "last", "natural"), ("groupdro", "last", "balanced")],
)
def test_a_killed_training_goes_on_to_the_same_weights(
    name: str, selection: str, sampling: str, web: Domain, film: Domain, tmp_path: Path
) -> None:
    domains = [web, film] if name == "groupdro" else [web]
    whole = fitted(name, domains, tmp_path / "whole", None, selection, sampling)
    for dies_after in (1, 2, 3):
        with pytest.raises(Killed):
            fitted(name, domains, tmp_path / "killed", dies_after, selection, sampling)
    again = fitted(name, domains, tmp_path / "killed", None, selection, sampling)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[key], value), key


def test_what_cannot_be_saved_without_code_is_trained_again(web: Domain, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fitted("swad", [web], tmp_path, 3, "last")
    assert not (tmp_path / "run.pt").exists()


@pytest.mark.parametrize("damage", ["identity", "cut", "pickle"])
def test_a_state_that_does_not_count_is_as_good_as_none(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "run.pt"
    ResumeState(path, {"key": "k"}, 0.0).write({"x": torch.ones(2)})
    state = ResumeState(path, {"key": "k"}, 0.0).read()
    assert state is not None
    assert torch.equal(state["x"], torch.ones(2))
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif damage == "pickle":
        torch.save({"identity": {"key": "k"}, "state": Path("/")}, path)
    assert ResumeState(path, {"key": "other" if damage == "identity" else "k"}, 0.0).read() is None


def test_the_global_generators_go_on_too(tmp_path: Path) -> None:
    resume = ResumeState(tmp_path / "run.pt", {}, 0.0)

    def draw() -> Any:
        return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002

    resume.write({})
    first = draw()
    assert resume.read() == {}
    assert draw() == first


def test_the_seconds_of_all_processes_are_added_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    first = ResumeState(tmp_path / "run.pt", {}, 0.0)
    now[0] = 107.0
    first.write({})
    now[0] = 500.0
    second = ResumeState(tmp_path / "run.pt", {}, 0.0)
    assert second.read() == {}
    assert second.earlier == 7.0
    now[0] = 502.0
    second.write({})
    third = ResumeState(tmp_path / "run.pt", {}, 0.0)
    assert third.read() == {}
    assert third.earlier == 9.0
    other = ResumeState(tmp_path / "run.pt", {"key": "other"}, 0.0)
    assert other.read() is None
    assert other.earlier == 0.0


def test_nothing_is_saved_before_it_is_time(tmp_path: Path) -> None:
    assert not ResumeState(tmp_path / "run.pt", {}, 60.0).due()
    assert ResumeState(tmp_path / "run.pt", {}, 0.0).due()
