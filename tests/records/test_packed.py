"""Packed records are read like a folder of records, and every damage is named with file and line."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from packs import packed, results

from fergen_bench.error import BenchError
from fergen_bench.files.bounded import checksum_of, read_arrays
from fergen_bench.records import counting
from fergen_bench.records.collection import RecordFolder
from fergen_bench.records.columns import digest, stack, unstack
from fergen_bench.records.packed import PackedRecords, files_of, open_records
from fergen_bench.records.record import HELD_OUT
from fergen_bench.records.sidecar import dump_npz
from fergen_bench.records.verify import Verdict, verify
from fergen_bench.report.details import inspected
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import scored_cells


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return packed(tmp_path)


def looked(path: Path) -> Verdict:
    return verify(path, lambda method: "m" * 64)


def archive(folder: Path, names: dict[str, str] | None = None) -> Path:
    """Return a zip archive of a packed folder, with names exchanged."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as opened:
        for file in sorted(folder.rglob("*.*")):
            name = file.relative_to(folder).as_posix()
            opened.writestr((names or {}).get(name, name), file.read_bytes())
    return path


def test_both_collections_give_the_same_numbers(folder: Path) -> None:
    of_files, of_rows = RecordFolder(folder.parent / "runs"), open_records(folder)
    (records, _), (again, faults) = of_files.read(), of_rows.read()
    assert faults == []
    for one, other in zip(records, again, strict=True):
        assert one.spec.without_folders() == other.spec
        assert (one.cells, one.shifted, one.data) == (other.cells, other.shifted, other.data)
        said = of_rows.predictions(other)
        assert HELD_OUT not in said
        for name, entry in said.items():
            whole = of_files.predictions(one)[name]
            np.testing.assert_array_equal(entry.logits.argmax(1), whole.logits.argmax(1))
            np.testing.assert_array_equal(entry.unscored, whole.unscored)
    frames = [Evidence(found, stored) for found, stored in ((records, of_files), (again, of_rows))]
    first, second = (
        evidence.calibrated(scored_cells(found)) for evidence, found in zip(frames, (records, again), strict=True)
    )
    for column in ("ece", "ece_tempered", "ece_floor"):
        assert first[column].notna().all()
        np.testing.assert_allclose(first[column], second[column], rtol=1e-5)
    (mask,) = inspected(records[:1], of_files)["mask"]
    (packed_mask,) = inspected(again[:1], of_rows)["mask"]
    np.testing.assert_allclose(packed_mask.mean, mask.mean, atol=0.01)


def test_calibration_is_missing_where_other_images_count(folder: Path) -> None:
    stored = open_records(folder)
    (record, _), _ = stored.read()
    cells = tuple(replace(cell, left_out=(1, 2)) for cell in record.cells)
    assert Evidence([replace(record, cells=cells)], stored).reliability == {}


def test_a_row_can_be_read_by_its_file_its_folder_and_an_archive(folder: Path) -> None:
    expected = open_records(folder).read()
    assert [*PackedRecords(folder).files] == ["s/p.jsonl"]
    for path in (folder / "s", folder / "s" / "p.jsonl", archive(folder)):
        assert open_records(path).read() == expected
        verdict = looked(path)
        assert (verdict.faults, len(verdict.recounted), verdict.files) == ([], 2, 2)
    # Packed records have no files beside them, no folders of weights, and their score on held-out images counted from
    # the predictions.
    both = [counting.load_all(place)[0] for place in (folder, folder.parent / "runs")]
    packed, files = (
        [replace(record, spec=record.spec.without_folders(), files={}, source_val=None) for record in found]
        for found in both
    )
    assert packed == files


def test_places_name_file_and_line(folder: Path) -> None:
    for path, name in (
        (folder, "s/p.jsonl:7"),
        (folder / "s" / "p.jsonl", "p.jsonl:7"),
        (archive(folder), "s/p.jsonl:7"),
    ):
        stored = open_records(path)
        (_, record), _ = stored.read()
        assert stored.name(record) == name
    assert open_records(folder).place(record) == f"{folder}/s/p.jsonl:7"


def rewritten(folder: Path, change: str) -> None:
    """Change a row and sign it again, so that only its predictions contradict it."""
    file = folder / "s" / "p.jsonl"
    lines = file.read_text().splitlines()
    contents = [json.loads(line) for line in lines]
    shared = {content["id"]: {k: v for k, v in content.items() if k != "id"} for content in contents if "id" in content}
    row = contents[-1]
    row["cells"]["b"] = json.loads(change) if change else row["cells"]["b"][::-1]
    flat = {name: value for name, value in row.items() if name not in ("key", "checksum")}
    for word in ("method", "setting", "data", "environment", "shifts"):
        if word in flat:
            flat |= shared[flat.pop(word)]
    row["checksum"] = checksum_of(flat)[:16]
    file.write_text("\n".join([*lines[:-1], json.dumps(row)]) + "\n")


def test_a_confusion_that_its_predictions_do_not_give_is_named(folder: Path) -> None:
    rewritten(folder, "")
    (fault,) = looked(folder).faults
    assert fault.startswith(f"{folder}/s/p.jsonl:7: the confusion matrix of b differs from that of its predictions")


def test_changed_predictions_are_named(folder: Path) -> None:
    file = folder / "s" / "p.npz"
    runs = {key: dict(own) for key, own in unstack(read_arrays(file)).items()}
    key = PackedRecords(folder).read()[0][1].spec.key
    runs[key]["predictions/b"] = runs[key]["predictions/b.labels"]  # every prediction is right
    with file.open("wb") as opened:
        dump_npz(opened, stack(runs))
    verdict = looked(folder)
    (fault,) = verdict.faults
    assert fault.startswith(f"{folder}/s/p.jsonl:7: the arrays of cafe")
    assert len(verdict.recounted) == 1
    stored = open_records(folder)
    assert [one.partition(": ")[0] for one in Evidence(stored.read()[0], stored).faults] == [f"{folder}/s/p.jsonl:7"]


@pytest.mark.parametrize("content", [b"", b"PK", None])
def test_a_damaged_or_missing_file_of_arrays_is_one_fault(folder: Path, content: bytes | None) -> None:
    file = folder / "s" / "p.npz"
    file.unlink() if content is None else file.write_bytes(content)
    faults = looked(folder).faults
    assert faults
    assert all(f"{file}: this file cannot be read" in fault for fault in faults)


def test_a_row_in_the_file_of_another_protocol_and_a_run_in_two_files_are_faults(folder: Path) -> None:
    for ending in (".jsonl", ".npz"):
        (folder / "s" / f"q{ending}").write_bytes((folder / "s" / f"p{ending}").read_bytes())
    faults = looked(folder).faults
    assert len(faults) == 2
    assert all(f"{folder}/s/q.jsonl" in fault and "has the same run" in fault for fault in faults)
    for ending in (".jsonl", ".npz"):
        (folder / "s" / f"p{ending}").unlink()
    assert f"{folder}/s/q.jsonl:7: this run belongs into s/p.jsonl" in looked(folder).faults


def test_names_in_an_archive_lead_nowhere(folder: Path) -> None:
    path = archive(folder, {"s/p.jsonl": "../../p.jsonl", "s/p.npz": "/p.npz"})
    assert open_records(path).read() == ([], [f"{path}: this archive has no packed records; name another file"])
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(BenchError, match="this archive cannot be read"):
        open_records(path).read()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as opened:
        opened.writestr("s/p.jsonl", "")
        with pytest.warns(UserWarning, match="Duplicate"):
            opened.writestr("s/p.jsonl", "")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(BenchError, match="a name twice"):
        open_records(path).read()


def test_the_files_depend_on_the_records_alone(tmp_path: Path) -> None:
    stored = results(tmp_path)
    runs = [(record, {"predictions/b": np.zeros(3, np.uint8)}) for record in stored.read()[0]]
    files = files_of(runs)
    assert [*files] == ["s/p.jsonl", "s/p.npz"]
    assert files == files_of(reversed(runs))
    assert digest(runs[0][1]).encode() in files["s/p.jsonl"]
