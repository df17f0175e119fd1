"""Checks of a copy and of the domain prepared from it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import dataset
from fergen_bench.datasets.check import Check, check_copy, check_prepared
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError


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
    assert faults["split-overlap"].what == (
        "test/anger/1.png is the same image as train/fear/1.png, in train and test, labelled fear and anger"
    )
    assert not check_copy("lab", dataset("folder", "test"), settings, 1, lambda at, total: None, decode=False).failed


def test_a_copy_in_no_layout_is_an_error_and_not_the_end(tmp_path: Path) -> None:
    check = check_copy("rafdb", dataset("rafdb", "test"), DomainSettings(path=tmp_path), 1, lambda at, total: None)
    assert check.failed
    assert "not a known layout of RAF-DB" in check.findings[0].what


def test_a_process_that_is_killed_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in EXPRESSIONS:
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("L", (20, 20)).save(tmp_path / "train" / name / "0.png")

    def broken(*_: object) -> None:
        raise BrokenProcessPool

    monkeypatch.setattr(ProcessPoolExecutor, "map", broken)
    with pytest.raises(BenchError, match="a process that decoded faces was killed"):
        check_copy("mine", dataset("folder", "test"), DomainSettings(path=tmp_path), 1, lambda done, total: None)


def test_a_damaged_prepared_folder_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "domain.json").write_text('{"name": "x"}')
    checked = check_prepared("mine", dataset("folder", "test"), tmp_path, lambda done, total: None)
    assert checked.failed
    assert "is not a prepared domain: its domain.json cannot be read (it lacks size)" in checked.findings[0].what


def drawn(root: Path, train: int, test: int) -> DomainSettings:
    """Class folders of images that all differ: so many of each expression."""
    for part, count, begin in (("train", train, 0), ("test", test, 100)):
        for label, name in enumerate(EXPRESSIONS):
            (root / part / name).mkdir(parents=True)
            for number in range(count):
                levels = np.random.default_rng([label, begin + number]).integers(0, 256, (20, 20, 1))
                image = Image.fromarray(
                    np.clip(levels + np.array([30, 0, -30]), 0, 255).astype(np.uint8)
                )  # reddish, as skin is
                image.save(root / part / name / f"p{number % 3}_{part}{number}.png")
    return DomainSettings(path=root)


def said(check: Check) -> list[tuple[str, str]]:
    return [(finding.level, finding.what) for finding in check.findings]


def both_ways(settings: DomainSettings, folder: Path) -> Iterator[Check]:
    """The check of a copy, and of what is prepared from it."""
    kind = dataset("folder", "test")
    yield check_copy("lab", kind, settings, 1, lambda done, total: None)
    prepare_dataset("lab", kind, settings, folder, 1, lambda done, total: None)
    yield check_prepared("lab", kind, folder, lambda done, total: None)


def test_faces_without_defects_are_ok(tmp_path: Path) -> None:
    for check in both_ways(drawn(tmp_path / "lab", 1, 20), tmp_path / "prepared"):
        assert said(check) == [("ok", "147 faces; there are no published counts to compare them with")]


def test_images_in_two_splits_are_warned_of_with_the_remedy(tmp_path: Path) -> None:
    settings = drawn(tmp_path / "lab", 2, 20)
    learned, scored = tmp_path / "lab/train/fear", tmp_path / "lab/test/fear"
    for number in range(3):
        (scored / f"copy{number}.png").write_bytes((learned / "p0_train0.png").read_bytes())
    (learned / "again.png").write_bytes((learned / "p0_train0.png").read_bytes())
    for check in both_ways(settings, tmp_path / "prepared"):
        assert not check.failed
        (level, first), (_, overlap), (_, copies) = said(check)
        assert (level, first[:9]) == ("note", "158 faces")
        assert ("warning", overlap) in said(check)
        assert overlap.startswith(
            "3 images are in two splits, which would raise scores (runs do not score such images "
        )
        assert "audit has found them), such as: test/fear/copy0.png is the same image as" in overlap
        assert copies.startswith("1 image is the same as another, such as: train/fear/p0_train0.png is the same image")


def test_expressions_with_few_scored_faces_are_warned_of(tmp_path: Path) -> None:
    settings = drawn(tmp_path / "lab", 1, 20)
    (tmp_path / "lab/test/disgust/p0_test0.png").unlink()
    for image in (tmp_path / "lab/test/fear").iterdir():
        image.unlink()
    (tmp_path / "lab/test/fear").rmdir()
    for check in both_ways(settings, tmp_path / "prepared"):
        assert not check.failed
        assert said(check)[0][0] == "note"
        assert said(check)[1:] == [
            (
                "warning",
                "the test split, which is scored, has fewer than 20 faces of fear (none), disgust (19): add some, or "
                "trust no score of these expressions",
            )
        ]


def test_the_number_of_subjects_is_reported(tmp_path: Path) -> None:
    settings = drawn(tmp_path / "lab", 3, 20)
    for pattern, finding in (
        (r"^(p\d)_", ("note", "3 subjects were found")),
        (
            r"^(p)",
            (
                "warning",
                "1 subject was found, so none can be held out for validation: write a pattern that distinguishes",
            ),
        ),
    ):
        chosen = settings.model_copy(update={"subject": pattern})
        for check in both_ways(chosen, tmp_path / "prepared"):
            assert any((level, what[: len(finding[1])]) == finding for level, what in said(check))
