"""Packing adds records, refuses unsound ones, and loses nothing quietly; unpacking writes them again."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import SPEC, rewritten
from packs import made, packed, results

from fergen_bench.error import BenchError
from fergen_bench.records.collection import RecordFolder
from fergen_bench.records.pack import _alone, pack, unpack
from fergen_bench.records.packed import PackedRecords
from fergen_bench.records.record import HELD_OUT, confusion_of
from fergen_bench.records.sidecar import PREDICTIONS, sidecar

RUN = replace(SPEC, protocol="p")


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_packing_again_changes_no_byte(tmp_path: Path) -> None:
    done = pack(results(tmp_path / "runs"), tmp_path / "packed")
    assert (done.added, done.equal, done.runs, done.refused) == (2, 0, 2, [])
    before = files(tmp_path / "packed")
    assert sorted(before) == ["s/p.jsonl", "s/p.npz"]
    assert done.size == sum(map(len, before.values()))
    for records in (RecordFolder(tmp_path / "runs"), PackedRecords(tmp_path / "packed")):
        assert pack(records, tmp_path / "packed").equal == 2
        assert files(tmp_path / "packed") == before


def test_unpacked_records_pack_to_the_same_bytes(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    written, existing = unpack(PackedRecords(folder), tmp_path / "again")
    assert (len(written), existing) == (2, 0)
    assert unpack(PackedRecords(folder), tmp_path / "again") == ([], 2)
    pack(RecordFolder(tmp_path / "again"), tmp_path / "second")
    assert files(tmp_path / "second") == files(folder)


def test_the_score_on_held_out_images_of_an_early_record_is_packed(tmp_path: Path) -> None:
    runs = results(tmp_path / "runs", seeds=1)
    (record,), _ = runs.read()
    assert record.source_val is None
    pack(runs, tmp_path / "packed")
    ((row,), _) = PackedRecords(tmp_path / "packed").read()
    assert row.source_val == confusion_of(runs.predictions(record)[HELD_OUT])


def test_folders_of_this_machine_are_not_packed(tmp_path: Path) -> None:
    own = replace(RUN, parameters={**RUN.parameters, "backbone": "synth//home/me/w.pt"})
    made(tmp_path / "runs", own)
    pack(RecordFolder(tmp_path / "runs"), tmp_path / "packed")
    ((row,), faults) = PackedRecords(tmp_path / "packed").read()
    assert not faults
    assert row.spec.parameters["backbone"] == "synth//w.pt"
    assert (row.spec.key, row.spec.label) == (own.key, own.label)


def test_the_folder_of_a_suite_is_not_packed_into(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    before = files(folder)
    with pytest.raises(BenchError, match=f"^{folder / 's'}: this is the folder of one suite .*; give --to {folder}$"):
        pack(results(tmp_path / "runs"), folder / "s")
    made(tmp_path / "more", replace(RUN, suite="t"))
    with pytest.raises(BenchError, match=f"; give --to {folder}$"):
        pack(RecordFolder(tmp_path / "more"), folder / "t")
    assert files(folder) == before
    assert not (folder / "t").exists()
    assert pack(RecordFolder(tmp_path / "more"), tmp_path / "t").added == 1  # a packed folder with the name of a suite


def test_a_results_folder_is_not_packed_into(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="this is a results folder; name another folder with --to"):
        pack(results(tmp_path / "runs"), tmp_path)


def test_a_folder_without_records_is_neither_packed_nor_unpacked(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for tried in (pack, unpack):
        with pytest.raises(BenchError, match="none: there are no records"):
            tried(RecordFolder(tmp_path / "none"), tmp_path / "to")
    assert not (tmp_path / "to").exists()


def test_one_process_packs_at_a_time_and_the_lock_leaves_no_file(tmp_path: Path) -> None:
    """A lock that is deleted after its release may be deleted while the next process has it, and a third one enters."""
    inside, most, ends = [0], [0], time.monotonic() + 1

    def enter(_: int) -> None:
        while time.monotonic() < ends:
            with _alone(tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(enter, range(3)))
    assert most == [1]
    assert not list(tmp_path.iterdir())


def test_packing_adds_to_what_is_there(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    made(tmp_path / "more", replace(RUN, seed=7))
    made(tmp_path / "more", replace(RUN, seed=8, protocol="my own protocol"))
    assert pack(RecordFolder(tmp_path / "more"), folder).added == 2
    assert sorted(files(folder)) == ["s/my_own_protocol.jsonl", "s/my_own_protocol.npz", "s/p.jsonl", "s/p.npz"]
    assert [record.spec.seed for record in PackedRecords(folder).read()[0]] == [8, 0, 1, 7]


def test_another_result_of_a_run_replaces_its_row_and_is_named(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    made(tmp_path / "other", RUN, draw=5)
    done = pack(RecordFolder(tmp_path / "other"), folder)
    assert (done.added, done.equal, done.runs) == (0, 0, 2)
    assert [*done.replaced.values()] == [f"{RUN.title}: other scores on a, b replace those of 2026-01-01"]
    stored = PackedRecords(folder)
    assert stored.read()[0][0].cells == RecordFolder(tmp_path / "other").read()[0][0].cells


def test_a_row_stays_where_the_record_lacks_scores(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    before = files(folder)
    less = replace(RUN, targets={"a": "f1"}, relations={"a": "source"})
    made(tmp_path / "less", less, shifted=())
    done = pack(RecordFolder(tmp_path / "less"), folder)
    assert done.kept == [
        f"{RUN.title}: the row stays, because the record lacks its score on b, scores on changed images"
    ]
    assert files(folder) == before


def test_what_verify_refuses_is_not_packed(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    paths = [made(runs, replace(RUN, seed=seed)) for seed in range(4)]
    rewritten(paths[0], lambda content: content["cells"][1]["confusion"].reverse())
    paths[1].write_text("{")
    arrays = sidecar(paths[2], PREDICTIONS)
    arrays.write_bytes(arrays.read_bytes()[:-9])
    done = pack(RecordFolder(runs), tmp_path / "packed")
    assert (done.added, done.runs) == (1, 1)
    assert len(done.refused) == 3
    for path, said in zip(paths, ("the confusion matrix of b", "cannot be read", "is damaged"), strict=False):
        assert [fault for fault in done.refused if said in fault and path.stem in fault]


def test_runs_that_do_not_compare_are_refused_and_the_old_rows_stay(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    before = files(folder)
    made(tmp_path / "edited", replace(RUN, seed=2), method_digest="x" * 64)
    made(tmp_path / "edited", replace(RUN, seed=1), draw=8, method_digest="x" * 64)
    done = pack(RecordFolder(tmp_path / "edited"), folder)
    assert (done.added, done.replaced) == (0, {})
    assert done.refused == [f"s: the runs of {RUN.label} used 2 versions of the method's file"]
    assert files(folder) == before


def test_a_record_without_predictions_is_packed_with_a_note(tmp_path: Path) -> None:
    sidecar(made(tmp_path / "runs", RUN), PREDICTIONS).unlink()
    done = pack(RecordFolder(tmp_path / "runs"), tmp_path / "packed")
    assert done.notes == ["1 of the records have no predictions, so their rows have no intervals"]
    stored = PackedRecords(tmp_path / "packed")
    (record,), _ = stored.read()
    assert stored.predictions(record) == {}
    assert not np.isnan(stored.arrays(record)["b.mask.mean"]).all()


def test_a_damaged_folder_gets_no_records(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    file = folder / "s" / "p.jsonl"
    file.write_text(file.read_text()[:-30])
    with pytest.raises(BenchError, match=r"p\.jsonl:7: .*restore the file before records are added"):
        pack(results(tmp_path / "runs"), folder)
    with pytest.raises(BenchError, match=r"p\.jsonl:7"):
        unpack(PackedRecords(folder), tmp_path / "again")


def test_a_file_without_rows_goes(tmp_path: Path) -> None:
    folder = packed(tmp_path)
    for seed in (0, 1):
        made(tmp_path / "moved", replace(RUN, seed=seed, protocol="q"), draw=seed + 5)
    assert len(pack(RecordFolder(tmp_path / "moved"), folder).replaced) == 2
    assert sorted(files(folder)) == ["s/q.jsonl", "s/q.npz"]
