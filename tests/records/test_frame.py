"""Records as pandas tables, without obsolete ones."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from examples import SPEC, finished

from fergen_bench.records import frame as frames
from fergen_bench.records.record import RunRecord


def later(hours: int, **changes: Any) -> RunRecord:
    return finished(replace(SPEC, **changes), started=f"2026-01-01T{hours:02}:00:00+00:00")


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"numerics": 2},
        {"parameters": {**SPEC.parameters, "lr": 0.5}, "defaults": {**SPEC.defaults, "lr": 0.5}},
        {"weights": {"backbone": "d2"}},
        {"fingerprints": {"a": "f9"}, "targets": {"a": "f9", "b": "f2"}},
    ],
)
def test_a_newer_run_with_another_identity_makes_older_runs_of_its_row_obsolete(change: dict[str, Any]) -> None:
    old, new = later(1), later(2, seed=1, **change)
    assert frames.current([old, new]) == [new]
    assert frames.current([new, old]) == [new]


def test_other_rows_and_other_seeds_stay_current() -> None:
    records = [
        later(1),
        later(2, seed=1),
        later(3, parameters={**SPEC.parameters, "gate": "tanh"}),
        later(4, suite="t"),
        later(5, precision="bf16"),
    ]
    assert frames.current(records) == records


def test_a_cell_on_an_outdated_fingerprint_is_left_out() -> None:
    old, new = later(1), later(2, seed=1, targets={"a": "f1", "b": "f9"})
    (kept, other) = frames.current([old, new])
    assert [cell.target for cell in kept.cells] == ["a"]
    assert [cell.target for cell in other.cells] == ["a", "b"]


def test_the_frame_has_a_row_per_cell_in_per_cent() -> None:
    frame = frames.cells_frame([finished()])
    assert frame.target.tolist() == ["a", "b"]
    assert frame.accuracy.tolist() == [100.0, 100.0]
    assert frame.method.unique().tolist() == ["cafe (gate=sigmoid)"]
    half = frames.cells_frame([later(1, precision="bf16"), later(1, precision="bf16", parameters={}, weights={})])
    assert half.method.unique().tolist() == ["cafe (gate=sigmoid, precision=bf16)", "cafe (precision=bf16)"]


def test_an_online_method_learns_in_the_seconds_of_scoring() -> None:
    assert frames.fit_seconds(finished()) == 1.0
    assert frames.fit_seconds(finished(replace(SPEC, online=True))) == 1.5
    assert math.isnan(frames.fit_seconds(finished(environment={"profiled": True})))
    assert math.isnan(frames.fit_seconds(finished(seconds={})))


def test_a_network_that_is_the_encoder_and_the_trunk_is_named_once() -> None:
    network = {"name": "synth-trunk", "digest": "1fac82d0"}
    record = replace(finished(), networks={"backbone": network, "trunk": network})
    assert frames.cells_frame([record]).pretraining.unique().tolist() == ["synth-trunk 1fac82"]
