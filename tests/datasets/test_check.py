"""Verdicts from counts, and the faults of files."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from PIL import Image

from fergen_bench.datasets import NAMES, dataset
from fergen_bench.datasets.check import check_copy, check_prepared, identify, verdict
from fergen_bench.domain import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.settings import DomainSettings

Counts = Mapping[str, Mapping[str, int]]


def known(name: str) -> dict[str, dict[str, int]]:
    return {split: dict(counts) for split, counts in dataset(name, "test").expected.items()}


@pytest.mark.parametrize("name", ["rafdb", "ferplus", "affectnet", "mma", "mma-expw", "fer2013"])
def test_the_owners_counts_are_recognised(name: str) -> None:
    assert verdict(dataset(name, "test"), known(name)).level == "ok"
    found = identify(known(name))
    assert found is not None
    assert found.name == name


def test_sfew_is_recognised_by_the_total_of_train_and_the_classes_of_val() -> None:
    train = dict.fromkeys(EXPRESSIONS, 127) | {"neutral": 129}
    found = {"train": train, "test": known("sfew")["test"]}
    assert verdict(dataset("sfew", "test"), found).level == "ok"
    train["fear"] -= 1
    assert "train has 890 faces where 891 are expected" in verdict(dataset("sfew", "test"), found).what


def test_a_pack_under_a_wrong_name_is_called_what_it_is() -> None:
    finding = verdict(dataset("ferplus", "test"), known("rafdb"))
    assert finding.level == "error"
    assert finding.what.startswith("this is RAF-DB, not FERPlus")


def test_an_augmented_training_split_is_called_so() -> None:
    found = known("ferplus")
    found["train"] = {name: 2 * count for name, count in found["train"].items()}
    assert verdict(dataset("ferplus", "test"), found).what == (
        "train looks augmented: 49,882 faces where 24,941 are expected"
    )


def test_the_same_number_of_faces_with_other_labels_is_called_so() -> None:
    found = known("rafdb")
    found["test"]["fear"] += 10
    found["test"]["anger"] -= 10
    assert "test has the expected 3,068 faces, but other labels" in verdict(dataset("rafdb", "test"), found).what


def test_what_is_missing_is_counted() -> None:
    found = known("mma")
    del found["val"]
    assert verdict(dataset("mma", "test"), found).what == "val is missing"
    found = known("rafdb")
    found["train"]["fear"] -= 1
    assert verdict(dataset("rafdb", "test"), found).what == "train has 12,270 faces where 12,271 are expected"


def test_a_split_that_the_dataset_has_not_is_said() -> None:
    found = known("rafdb") | {"val": dict.fromkeys(EXPRESSIONS, 1)}
    assert "there is a split val, which RAF-DB does not have" in verdict(dataset("rafdb", "test"), found).what


def test_a_dataset_without_its_owners_split_is_known_by_all_its_faces() -> None:
    whole = known("expw")["all"]
    train = {name: count // 2 for name, count in whole.items()}
    found = {"train": train, "test": {name: count - train[name] for name, count in whole.items()}}
    assert verdict(dataset("expw", "test"), found, official=False).level == "ok"


def test_every_dataset_has_counts_of_the_seven_expressions_or_of_all() -> None:
    for name in NAMES:
        for counts in dataset(name, "test").expected.values():
            assert set(counts) in ({"all"}, set(EXPRESSIONS)), name


def test_files_that_cannot_be_read_and_copies_are_found(tmp_path: Path) -> None:
    for part, level in (("train", 0), ("test", 100)):
        for label, name in enumerate(EXPRESSIONS):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(2):
                Image.new("L", (20, 20), level + 10 * label + number).save(tmp_path / part / name / f"{number}.png")
    (tmp_path / "test/fear/0.png").write_bytes(b"no image")
    (tmp_path / "test/anger/1.png").write_bytes((tmp_path / "train/fear/1.png").read_bytes())
    done: list[int] = []
    settings = DomainSettings(path=tmp_path)
    check = check_copy("lab", dataset("folder", "test"), settings, 1, lambda at, total: done.append(at))
    assert done[-1] == 28
    assert check.failed
    faults = {fault.kind: fault for fault in check.faults}
    assert faults["unreadable"].where.endswith("test/fear/0.png")
    assert faults["duplicate"].what == (
        "train/fear/1.png is the same image as test/anger/1.png, in test and train, labelled anger and fear"
    )
    assert not check_copy("lab", dataset("folder", "test"), settings, 1, lambda at, total: None, decode=False).failed


def test_a_copy_in_no_layout_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    check = check_copy("rafdb", dataset("rafdb", "test"), DomainSettings(path=tmp_path), 1, lambda at, total: None)
    assert check.failed
    assert "holds no layout of RAF-DB" in check.findings[0].what


def test_a_process_that_is_killed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXPRESSIONS:
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("L", (20, 20)).save(tmp_path / "train" / name / "0.png")

    def broken(*_: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(ProcessPoolExecutor, "map", broken)
    with pytest.raises(BenchError, match="a process that decoded faces was ended from outside"):
        check_copy("mine", dataset("folder", "test"), DomainSettings(path=tmp_path), 1, lambda done, total: None)


def test_a_damaged_prepared_folder_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "domain.json").write_text('{"name": "x"}')
    checked = check_prepared("mine", dataset("folder", "test"), tmp_path)
    assert checked.failed
    assert "is not a prepared domain: its domain.json cannot be read (it does not say size)" in checked.findings[0].what
