"""The identity of a run: its key, its label, its JSON."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from examples import SPEC, finished

from fergen_bench.records import frame as frames


@pytest.mark.parametrize(
    "change",
    [
        {"suite": "t"},
        {"profile": "cafe"},
        {"sources": ("a", "b"), "fingerprints": {"a": "f1", "b": "f2"}},
        {"fingerprints": {"a": "other"}},
        {"method": "other"},
        {"version": 2},
        {"parameters": {**SPEC.parameters, "lr": 0.2}},
        {"weights": {"backbone": "d2"}},
        {"seed": 1},
        {"selection": "source-val"},
        {"fraction": 0.5},
        {"adaptation_target": "b"},
        {"numerics": 2},
        {"precision": "bf16"},
        {"views": ("plain", "mirror")},
        {"prior": 0.5},
    ],
)
def test_values_that_change_numbers_change_the_key(change: dict[str, Any]) -> None:
    assert replace(SPEC, **change).key != SPEC.key


@pytest.mark.parametrize(
    "change",
    [
        {"targets": {"b": "f2"}},
        {"relations": {}},
        {"defaults": {}},
        {"protocol": "other"},
        {"parameters": {**SPEC.parameters, "backbone": "synth//elsewhere/w.pt"}},
    ],
)
def test_circumstances_do_not_change_the_key(change: dict[str, Any]) -> None:
    assert replace(SPEC, **change).key == SPEC.key


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("timm:resnet18//home/me/w.pth", "timm:resnet18//w.pth"),
        ("/home/me/w.onnx", "/w.onnx"),
        (r"C:\Users\me\w.onnx", "/w.onnx"),
        ("synth/scratch", "synth/scratch"),
        ("synth", "synth"),
    ],
)
def test_folders_of_weights_can_be_left_out_and_the_row_stays(written: str, left: str) -> None:
    run = replace(SPEC, parameters={**SPEC.parameters, "backbone": written}, base=SPEC)
    told = run.without_folders()
    assert told.parameters["backbone"] == left
    assert (told.key, told.label) == (run.key, run.label)


def test_weights_of_a_run_and_its_base_can_be_in_another_folder() -> None:
    base = replace(SPEC, parameters={**SPEC.parameters, "backbone": "timm:resnet18//w.pth"})
    run = replace(SPEC, parameters={**SPEC.parameters, "backbone": "/v.onnx"}, base=base).with_weights_in("/data")
    assert run.weight_files == [Path("/data/v.onnx"), Path("/data/w.pth")]
    assert run.base is not None
    assert run.base.parameters["backbone"] == "timm:resnet18//data/w.pth"
    assert replace(SPEC, parameters={**SPEC.parameters, "backbone": "synth"}).weight_files == []


def test_the_key_of_a_run_is_pinned() -> None:
    """Keys must never drift between versions unnoticed: every record would be lost."""
    assert SPEC.key == "18f769ed9350"
    assert replace(SPEC, numerics=2).key == "ddf22638ec13"
    assert replace(SPEC, precision="fp32", views=("plain",), prior=0.0).key == SPEC.key
    assert replace(SPEC, views=("plain", "mirror"), prior=0.5).key == "3beb2fafe6ff"


def test_labels_name_only_changed_values_and_no_path() -> None:
    assert SPEC.label == "cafe (gate=sigmoid)"
    other = replace(SPEC, defaults={**SPEC.defaults, "gate": "sigmoid", "backbone": "synth"})
    assert other.label == "cafe (backbone=synth@d1)"
    assert replace(SPEC, defaults=SPEC.parameters).label == "cafe"
    layered = replace(SPEC, defaults=SPEC.parameters, precision="bf16", views=("plain", "mirror"), prior=0.5)
    assert layered.label == "cafe (precision=bf16, views=plain+mirror, prior=0.5)"


def test_other_faces_of_the_adaptation_target_are_another_run() -> None:
    spec = replace(SPEC, adaptation_target="b", fingerprints={"a": "f1", "b": "f2"})
    assert replace(spec, fingerprints={"a": "f1", "b": "other"}).key != spec.key
    assert spec.title.endswith("on a adapted to b, seed 0")
    newer = replace(spec, fingerprints={"a": "f1", "b": "f3"}, targets={"a": "f1", "b": "f3"})
    kept = frames.current([finished(spec), finished(newer, started="2026-02-01T00:00:00+00:00")])
    assert [entry.spec.fingerprints["b"] for entry in kept] == ["f3"]
