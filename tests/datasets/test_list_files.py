"""Lists of paths and labels, and the splits that their names contain."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from touched import TEXTS, outcome, touch

from fergen_bench.datasets.class_folders import SPLITS
from fergen_bench.datasets.list_files import list_layout, split_named
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError

few = settings(max_examples=100, derandomize=True)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "file.txt"


@few
@given(TEXTS)
def test_a_list_layout_of_anything_ends_in_a_listing_or_one_sentence(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(b"a.jpg 1\n" + content)
    listing, refusal = outcome(lambda: list_layout({"1": "fear"}).read(scratch, DomainSettings(path=scratch)))
    assert listing is None  # nothing of it is there
    assert str(scratch.parent) in refusal


# -------------------------------------------------------------------------------------------------------------- folders


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("sfew_train", "train"),
        ("Val_Aligned_Faces", "val"),
        ("test_new_fer", "test"),
        ("SFEW2_label", None),
        ("trains", None),
    ],
)
def test_a_split_is_a_word_in_a_name(name: str, split: str | None) -> None:
    assert split_named(name, SPLITS) == split


def test_lists_of_which_only_some_name_a_split_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "a.jpg", tmp_path / "more" / "b.jpg")
    (tmp_path / "label.txt").write_text("train/a.jpg 0\nmore/b.jpg 0\n")
    layout = list_layout({"0": "anger"})
    assert layout.fits(tmp_path)
    with pytest.raises(
        BenchError, match=r"train/a\.jpg is of the train split, but the split of more/b\.jpg is unknown"
    ):
        layout.read(tmp_path, DomainSettings(path=tmp_path))


def test_a_text_file_that_is_no_list_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("Please cite us.\n")
    (tmp_path / "empty.txt").touch()
    assert not list_layout({}).fits(tmp_path)
    assert not list_layout({}).fits(tmp_path / "README.txt")
