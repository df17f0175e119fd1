"""Class folders below splits, and folders that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from touched import touch

from fergen_bench.datasets.class_folders import class_folders, split_class_folders
from fergen_bench.datasets.reader import Listing
from fergen_bench.error import BenchError

# -------------------------------------------------------------------------------------------------------------- folders


def test_unknown_and_empty_class_folders_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "fear" / "a.jpg", tmp_path / "Contempt" / "b.jpg", tmp_path / "none" / "c.jpg")
    labels, listing = {"none": ""}, Listing()
    found = list(class_folders(tmp_path, tmp_path, "train", labels, listing))
    assert [(face.id, face.expression, face.native_label) for face in found] == [("fear/a.jpg", "fear", "fear")]
    assert listing.dropped == {"contempt": 1, "none": 1}
    (tmp_path / "suprise").mkdir()
    with pytest.raises(BenchError, match="suprise: this class folder does not contain images"):
        list(class_folders(tmp_path, tmp_path, "train", labels, listing))
    (tmp_path / "suprise").rename(tmp_path / "joy")
    with pytest.raises(
        BenchError, match=r"""joy: 'joy' is not a known expression; .* labels = \{ "joy" = "happiness" \}"""
    ):
        list(class_folders(tmp_path, tmp_path, "train", labels, listing))


def test_class_folders_below_splits_and_what_lies_beside_them(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "fear" / "a.jpg", tmp_path / "train" / "b.jpg", tmp_path / "more" / "c.jpg")
    listing = Listing()
    (face,) = split_class_folders(tmp_path, {}, listing)
    assert (face.id, face.split) == ("train/fear/a.jpg", "train")
    extra = [(fault.kind, fault.where) for fault in listing.faults]
    assert extra == [("extra", str(tmp_path / "more")), ("extra", "train/b.jpg")]
    (tmp_path / "more").rename(tmp_path / "Training")
    with pytest.raises(BenchError, match=r"train: Training in the same folder also means train. Remove one"):
        list(split_class_folders(tmp_path, {}, listing))
