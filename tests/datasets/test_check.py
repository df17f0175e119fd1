"""Verdicts from counts, and the faults of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import NAMES, dataset
from fergen_bench.datasets.check import (
    Check,
    cautions,
    cautions_of,
    check_copy,
    check_prepared,
    identify,
    is_another,
    verdict,
)
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError

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


@pytest.mark.parametrize(
    ("name", "change", "another"),
    [
        ("rafdb", lambda found: found.pop("train"), False),  # whoever has the test part alone has a part
        ("affectnet", lambda found: found.pop("train"), False),
        ("rafdb", lambda found: [faces.update(happiness=900) for faces in found.values()], False),
        ("rafdb", lambda found: [faces.update(dict.fromkeys(EXPRESSIONS, 200)) for faces in found.values()], True),
        ("rafdb", lambda found: [faces.update(fear=0) for faces in found.values()], True),
        ("rafdb", lambda found: found["test"].update(fear=0), False),
        ("sfew", lambda found: found.update(train=dict.fromkeys(EXPRESSIONS, 60), test={}), True),
        ("sfew", lambda found: found.update(train=dict.fromkeys(EXPRESSIONS, 70), test={}), False),
        ("expw", lambda found: found.update(train=found.pop("all")), False),
    ],
)
def test_less_than_half_of_every_split_or_a_class_without_faces_is_another(
    name: str, change: Callable[[Any], object], another: bool
) -> None:
    found = known(name)
    change(found)
    assert is_another(found, dataset(name, "test").expected) is another


def test_what_nothing_is_known_of_is_never_another() -> None:
    assert not is_another({"train": {}}, {})


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
    assert faults["twin"].what == (
        "test/anger/1.png is the same image as train/fear/1.png, in train and test, labelled fear and anger"
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


def test_faces_that_nothing_is_wrong_with_are_ok(tmp_path: Path) -> None:
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
        (level, first), (_, twins), (_, copies) = said(check)
        assert (level, first[:9]) == ("note", "158 faces")
        assert ("warning", twins) in said(check)
        assert twins.startswith("3 images are in two splits, which would flatter scores (runs do not score such faces ")
        assert "audit has found them), such as: test/fear/copy0.png is the same image as" in twins
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


def test_what_profiles_score_is_looked_at_too() -> None:
    counts = {"train": dict.fromkeys(EXPRESSIONS, 19), "test": dict.fromkeys(EXPRESSIONS, 20)}
    assert cautions(counts, {}, None) == []
    (finding,) = cautions(counts, {"cafe": "train"}, None)
    assert finding.what.startswith("the train split, which is scored, has fewer than 20 faces of surprise (19), fear")
    (finding,) = cautions({"train": counts["train"]}, {}, None)
    assert finding.what == "the test split, which is scored, has no faces: this can be a source, but no target"


@pytest.mark.parametrize(
    ("few", "remedy"),
    [
        ({}, "its owner's copy has no more, so the recall of these expressions is that of a few faces"),
        ({"fear": 3}, "its owner's copy has 83 of fear; complete this one, or trust no score of these expressions"),
    ],
)
def test_nobody_is_told_to_add_faces_to_an_official_split(few: dict[str, int], remedy: str) -> None:
    counts = known("ferplus")
    counts["test"] |= few
    about = {"dataset": "ferplus", "counts": counts}
    (finding,) = cautions_of(about)
    shown = f"fear ({few['fear']}), disgust (18)" if few else "disgust (18)"
    assert finding.what == f"the test split, which is scored, has fewer than 20 faces of {shown}: {remedy}"
    (finding,) = cautions_of({**about, "expected": {}})
    assert finding.what.endswith(f"{shown}: trust no score of these expressions")
    counts["test"] = known("ferplus")["test"] | {"disgust": 20}
    counts["train"]["anger"] = 0
    (finding,) = cautions_of(about)
    assert finding.what.startswith("the train split has no faces of anger: complete this copy, or learn from it with")


def test_a_split_that_was_made_here_can_be_made_larger() -> None:
    counts = {"train": dict.fromkeys(EXPRESSIONS, 19), "test": dict.fromkeys(EXPRESSIONS, 19)}
    about = {"dataset": "folder", "counts": counts, "splits": "0.2 of each expression, seed 0"}
    (finding,) = cautions_of(about)
    assert finding.what.endswith("add some, or raise test_share in bench.toml, or trust no score of these expressions")
    (finding,) = cautions_of({"counts": counts, "synthetic": True})
    assert finding.what.endswith("neutral (19): trust no score of these expressions")


def test_the_number_of_subjects_is_said(tmp_path: Path) -> None:
    settings = drawn(tmp_path / "lab", 3, 20)
    for pattern, finding in (
        (r"^(p\d)_", ("note", "3 subjects were found")),
        (
            r"^(p)",
            ("warning", "1 subject was found, so none can be held out for validation: write a pattern that tells"),
        ),
    ):
        chosen = settings.model_copy(update={"subject": pattern})
        for check in both_ways(chosen, tmp_path / "prepared"):
            assert any((level, what[: len(finding[1])]) == finding for level, what in said(check))
