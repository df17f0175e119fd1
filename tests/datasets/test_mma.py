"""MMA and its part from ExpW, with labels in the pixels."""

from __future__ import annotations

from pathlib import Path

import pytest

from fergen_bench.datasets.mma import DATASET, EXPW_PART, LABELS
from fergen_bench.error import BenchError
from greyfaces import counts, draw, each, faults, read

ALPHABETICAL = list(LABELS)
EXPW = {"angry": 0, "disgust": 1, "fear": 2, "happy": 3, "sad": 4, "surprise": 5, "neutral": 6}


def pack(root: Path, named: bool = True) -> None:
    """In each split, of each expression: two faces of the FER2013 part (three channels) and one of ExpW's (one)."""
    for split in ("train", "valid", "test"):
        for native, expression in LABELS.items():
            folder = root / split / native
            for number in range(2):
                draw(folder / f"{number}.jpg", expression, number)
            name = f"17Exp{EXPW[native]}angry_actor_195.jpg" if named else "2.jpg"
            draw(folder / name, expression, 2, mode="L")


@pytest.mark.parametrize("root", ["", "MMAFEDB", "archive/MMAFEDB", "mma-facial-expression/MMAFEDB"])
def test_the_pack_is_found_below_its_usual_folders(tmp_path: Path, root: str) -> None:
    pack(tmp_path / root)
    found, listing = read(DATASET, tmp_path)
    assert found == "mma-official"
    assert counts(listing) == {"train": each(3), "val": each(3), "test": each(3)}
    assert not listing.faults
    assert "test/angry/0.jpg" in {face.id for face in listing.faces}


@pytest.mark.parametrize(("named", "told"), [(True, {"name": 21, "channels": 42}), (False, {"channels": 63})])
def test_the_clean_part_is_recognised_by_name_or_by_channels(tmp_path: Path, named: bool, told: dict[str, int]) -> None:
    pack(tmp_path, named)
    found, listing = read(EXPW_PART, tmp_path)
    assert (found, counts(listing)) == ("mma-official", {"train": each(1), "val": each(1), "test": each(1)})
    assert listing.dropped == {"FER2013 part": 42}
    assert listing.about == {"part": "expw", "told apart by": told}


def test_a_face_whose_channels_cannot_be_read_is_a_fault_of_the_clean_part(tmp_path: Path) -> None:
    pack(tmp_path)
    (tmp_path / "test" / "sad" / "0.jpg").write_bytes(b"no image")
    _, listing = read(EXPW_PART, tmp_path)
    assert [kind for kind, _ in faults(listing)] == ["unreadable"]
    assert sum(listing.dropped.values()) == 41


def a_list(root: Path) -> None:
    rows = [
        f"{image.relative_to(root).as_posix()} {ALPHABETICAL.index(image.parent.name)}"
        for image in sorted(root.rglob("*.jpg"))
    ]
    (root / "mma_label.txt").write_text("\n".join(rows))


def test_a_list_counts_in_the_order_of_the_folders_names(tmp_path: Path) -> None:
    pack(tmp_path)
    for split in ("train", "valid", "test"):
        (tmp_path / "faces").mkdir(exist_ok=True)
        (tmp_path / split).rename(tmp_path / "faces" / split)
    a_list(tmp_path)
    found, listing = read(DATASET, tmp_path)
    assert (found, counts(listing)) == ("list-file", {"train": each(3), "val": each(3), "test": each(3)})
    assert counts(read(EXPW_PART, tmp_path)[1])["test"] == each(1)


def test_the_folders_win_over_a_list_of_their_own_faces(tmp_path: Path) -> None:
    pack(tmp_path, named=False)
    a_list(tmp_path)
    assert read(DATASET, tmp_path)[0] == "mma-official"
    path = tmp_path / "mma_label.txt"
    path.write_text(path.read_text().replace("test/sad/0.jpg 5", "test/sad/0.jpg 4"))
    with pytest.raises(BenchError, match="fit, mma-official and list-file"):
        read(DATASET, tmp_path)


def test_a_folder_next_to_the_splits_is_reported(tmp_path: Path) -> None:
    pack(tmp_path)
    draw(tmp_path / "more" / "x.jpg", "fear")
    assert (
        read(DATASET, tmp_path)[1].faults[0].what.startswith(f"{tmp_path / 'more'} is not a split with class folders")
    )


def test_the_counts_of_the_parts_add_up() -> None:
    assert {split: sum(per.values()) for split, per in DATASET.expected.items()} == {
        "train": 92_968,
        "val": 17_356,
        "test": 17_356,
    }
    assert sum(sum(per.values()) for per in EXPW_PART.expected.values()) == 91_793
