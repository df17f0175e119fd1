"""Records as rows of JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from examples import SPEC, finished

from fergen_bench.error import BenchError
from fergen_bench.experiment.run import Exposure
from fergen_bench.records.record import Cell, RunRecord, ShiftedCell
from fergen_bench.records.rows import SHIFTS, decode, encode

MATRIX = np.eye(7, dtype=int).tolist()


def read(text: bytes, shifts: np.ndarray | None = None) -> tuple[list[RunRecord], list[str]]:
    rows, faults = decode(text, "x.jsonl", lambda key: {} if shifts is None else {SHIFTS: shifts})
    return [row.record for row in rows], faults


@pytest.mark.parametrize(
    "record",
    [
        finished(),
        finished(history=(), selected_epoch=3, environment={"torch": "2", "memory_mb": 5}),
        finished(cells=(Cell("b", "old", "unseen", MATRIX, "0123456789ab", 4),)),
        finished(replace(SPEC, excluded={"b": "0123456789ab"}, fingerprints={"a": "f0"}, note="n", protocol="p")),
        finished(replace(SPEC, method="external:m", sources=(), exposure=Exposure(("a",), None), weights={})),
        finished(replace(SPEC, method="t3a", online=True, base=replace(SPEC, targets={}, relations={}))),
        finished(replace(SPEC, method="t3a", online=True, base=replace(SPEC, targets={})), base_digest="b" * 64),
        finished(history=({"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "val_accuracy": 0.5})),
    ],
)
def test_a_record_comes_back(record: RunRecord) -> None:
    (again,), faults = read(encode([(record, "")]))
    assert (again, faults) == (record, [])


def test_scores_on_changed_images_come_from_the_arrays() -> None:
    record = finished(shifted=(ShiftedCell("b", "f2", "unseen", "blur", 2.0, 9, 1, MATRIX),))
    text = encode([(record, "d")])
    assert read(text, np.array([MATRIX], np.uint32)) == ([record], [])
    (fault,) = read(text)[1]
    assert fault.startswith("x.jsonl:6: ")
    assert "changed images are not in the file of arrays" in fault


def test_numbers_have_five_digits_and_other_columns_of_a_history_go() -> None:
    record = finished(history=({"epoch": 1, "loss": 1.23456789, "diversity": 4.0},), seconds={"fit": 1.23456789})
    (again,), _ = read(encode([(record, "")]))
    assert again.history == ({"epoch": 1, "loss": 1.2346},)
    assert again.seconds == {"fit": 1.2346}


def test_shared_values_stand_once_and_the_bytes_depend_on_the_records_alone() -> None:
    records = [(finished(replace(SPEC, seed=seed)), "") for seed in range(4)]
    text = encode(records)
    assert encode(reversed(records)) == text
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["id"].partition("-")[0] for line in lines if "id" in line] == ["cafe", "environment", "setting"]
    assert [line["seed"] for line in lines if "key" in line] == [0, 1, 2, 3]
    # A further run adds a line, and changes the first one.
    more = encode([*records, (finished(replace(SPEC, seed=4)), "")]).splitlines()
    assert set(text.splitlines()[1:]) < set(more)
    assert len(more) == len(lines) + 1


def changed(number: int, change: Any) -> bytes:
    lines = encode([(finished(replace(SPEC, seed=seed)), "") for seed in (0, 1)]).splitlines()
    content = json.loads(lines[number - 1])
    change(content)
    lines[number - 1] = json.dumps(content).encode()
    return b"\n".join(lines)


@pytest.mark.parametrize(
    ("number", "change", "fault"),
    [
        (5, lambda row: row.update(seed=7), "x.jsonl:5: this line cannot be read (its checksum is not that"),
        (2, lambda row: row["parameters"].update(lr=9.0), "x.jsonl:5: this line cannot be read (its checksum"),
        (5, lambda row: row.update(method="cafe-0"), "x.jsonl:5: this line cannot be read (no line before it has"),
        (5, lambda row: row.pop("key"), "x.jsonl:5: this line cannot be read (it is not a row)"),
        (5, lambda row: row.update(key="0" * 12), "x.jsonl:5: this line cannot be read (its key is '000000000000'"),
        (1, lambda row: row.update(runs=3), "x.jsonl:1: the file states 3 runs and has 2"),
        (1, lambda row: row.update(format=2), "x.jsonl:1: this line cannot be read (it has format 2"),
    ],
)
def test_a_changed_line_is_named(number: int, change: Any, fault: str) -> None:
    assert read(changed(number, change))[1][0].startswith(fault)


@pytest.mark.parametrize("line", [b"{", b"[]", b'"x"', b'{"key": 1}', b'{"id": []}', b"\xff", b'{"a": 1, "a": 2}'])
def test_a_line_of_another_kind_is_a_fault(line: bytes) -> None:
    records, faults = read(encode([(finished(), "")]) + line)
    assert len(records) == 1
    assert faults[0].startswith("x.jsonl:6: this line cannot be read")


@pytest.mark.parametrize("text", [b"", b"\n"])
def test_a_file_without_its_first_line_is_a_fault(text: bytes) -> None:
    assert read(text)[1] == ["x.jsonl:1: the file does not begin with the number of its runs; restore the file"]


def test_a_repeated_run_is_a_fault() -> None:
    text = encode([(finished(), "")])
    assert "it repeats the run" in read(text + text.splitlines()[-1])[1][0]


def test_unreadable_arrays_are_named_once_per_row() -> None:
    record = finished(shifted=(ShiftedCell("b", "f2", "unseen", "blur", 2.0, 9, 1, MATRIX),))

    def missing(key: str) -> dict[str, np.ndarray]:
        raise BenchError("x.npz: this file cannot be read; restore it")

    assert decode(encode([(record, "d")]), "x.jsonl", missing)[1] == [
        "x.jsonl:6: x.npz: this file cannot be read; restore it"
    ]
