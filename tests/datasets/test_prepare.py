"""From a listing to a prepared domain: complete, resumable and deterministic."""

from __future__ import annotations

import errno
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from squares import COUNT, SIDE, _small_and_fast, hidden, level, listing_of, processes, run  # noqa: F401  (fixtures)

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import is_prepared, write_prepared
from fergen_bench.datasets import prepare as module
from fergen_bench.datasets.reader import Face, Fault, Listing
from fergen_bench.error import BenchError


@pytest.fixture
def listing(tmp_path: Path) -> Listing:
    return listing_of(tmp_path / "files")


@pytest.mark.usefixtures("processes")
def test_faces_labels_and_facts_arrive(listing: Listing, tmp_path: Path) -> None:
    listing.faces[0] = replace(listing.faces[0], subject="anna", extra={"votes": "3 7"})
    listing.dropped, listing.notes, listing.about = Counter(contempt=5), ["One note."], {"label_rule": "majority"}
    seen: list[tuple[int, int]] = []
    domain = run(listing, tmp_path / "out", lambda done, total: seen.append((done, total)))
    assert domain.faces.shape == (COUNT, SIDE, SIDE, 3)
    assert [int(face[0, 0, 0]) for face in domain.faces] == [level(number) for number in range(COUNT)]
    assert domain.labels.tolist() == [number % 7 for number in range(COUNT)]
    lines = (tmp_path / "out" / "labels.csv").read_text().splitlines()
    assert lines[0] == "id,expression,split,subject,native_label,votes"
    assert lines[1:3] == ["000.png,surprise,train,anna,0,3 7", "001.png,fear,train,001.png,1,"]
    about = domain.about
    assert (about["dataset"], about["layout"], about["label_rule"]) == ("folder", "flat", "majority")
    assert (about["dropped"], about["notes"], about["resizer"]) == ({"contempt": 5}, ["One note."], "PIL bicubic")
    assert about["counts"]["test"] == dict(Counter(EXPRESSIONS[number % 7] for number in range(3, COUNT, 4)))
    assert seen[0] == (0, COUNT)
    assert seen[-1] == (COUNT, COUNT)
    assert hidden(tmp_path) == set()


def test_the_bytes_are_those_of_a_domain_written_at_once(listing: Listing, tmp_path: Path) -> None:
    domain = run(listing, tmp_path / "out")
    faces = [np.full((1, SIDE, SIDE, 3), level(number), np.uint8) for number in range(COUNT)]
    columns = {
        "id": [face.id for face in listing.faces],
        "expression": [face.expression for face in listing.faces],
        "split": [face.split for face in listing.faces],
        "native_label": [face.native_label for face in listing.faces],
    }
    other = Domain(write_prepared(tmp_path / "other", "other", faces, columns, {}))
    assert domain.fingerprint == other.fingerprint


@pytest.mark.parametrize(
    ("sides", "asked", "expected"),
    [([30, 30], None, 30), ([30, 31], None, 224), ([300, 300], None, 224), ([30, 31], 20, 20)],
)
def test_a_common_small_side_is_kept(tmp_path: Path, sides: list[int], asked: int | None, expected: int) -> None:
    faces = [listing_of(tmp_path / str(place), 2, side).faces[place] for place, side in enumerate(sides)]
    assert run(Listing(faces=faces), tmp_path / "out", size=asked).about["size"] == [expected, expected]


def test_boxes_give_224_and_tables_their_side(tmp_path: Path) -> None:
    face = listing_of(tmp_path / "files", 1).faces[0]
    boxed = run(Listing(faces=[replace(face, box=(2, 2, 4, 4))]), tmp_path / "boxed")
    assert boxed.about["size"] == [224, 224]
    table = run(Listing(faces=[replace(face, file=None, pixels=bytes([9] * 400))]), tmp_path / "table")
    assert table.faces.shape == (1, 20, 20, 3)
    assert (table.faces == 9).all()


def test_margin_and_bgr_reach_the_pixels(tmp_path: Path) -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    picture[8:24, 8:24] = (200, 100, 50)
    Image.fromarray(picture).save(tmp_path / "a.png")
    face = Face("a", "train", "fear", "1", file=tmp_path / "a.png", box=(8, 8, 16, 16))
    plain = run(Listing(faces=[face]), tmp_path / "plain", size=16).faces
    assert (plain == (200, 100, 50)).all()
    other = run(Listing(faces=[face]), tmp_path / "other", size=24, margin=0.25, emulate_bgr=True).faces[0]
    assert (other[4:20, 4:20] == (50, 100, 200)).all()
    assert not other[:4].any()


# -------------------------------------------------------------------------------- what cannot be read


def spoil(listing: Listing, *rows: int) -> None:
    for row in rows:
        path = listing.faces[row].file
        assert path is not None
        path.write_bytes(b"" if row % 2 else b"no image")


def test_all_unreadable_files_are_found_and_refused(listing: Listing, tmp_path: Path) -> None:
    spoil(listing, 1, 2, 39)
    listing.faults = [
        Fault("missing", "list.txt:7", "there is no lost.png"),
        Fault("extra", "x.png", "nobody lists it"),
    ]
    with pytest.raises(BenchError) as error:
        run(listing, tmp_path / "out")
    message = str(error.value)
    assert message.startswith(
        "grey: 4 files are missing or cannot be read. Repair them, or leave them out with --allow-m"
    )
    named = [line.strip().removeprefix(f"{tmp_path}/files/") for line in message.splitlines()[1:]]
    assert named == [
        "list.txt:7: there is no lost.png",
        "001.png: an empty file",
        "002.png: not an image of a known kind",
        "039.png: an empty file",
    ]
    assert not (tmp_path / "out").exists()


def test_only_the_first_twenty_are_named(listing: Listing, tmp_path: Path) -> None:
    spoil(listing, *range(25))
    with pytest.raises(BenchError, match="25 files are missing") as error:
        run(listing, tmp_path / "out")
    assert str(error.value).splitlines()[-1].strip() == "and 5 more"
    assert len(str(error.value).splitlines()) == 22


def test_unreadable_files_are_left_out_when_that_is_allowed(listing: Listing, tmp_path: Path) -> None:
    spoil(listing, 0, 5, 6, 39)
    listing.faults = [Fault("missing", "list.txt:7", "there is no lost.png")]
    with pytest.raises(BenchError):
        run(listing, tmp_path / "out")
    seen: list[int] = []
    domain = run(listing, tmp_path / "out", lambda done, total: seen.append(done), allow_missing=True)
    assert seen == [COUNT]  # the refused attempt had decoded everything
    kept = [number for number in range(COUNT) if number not in {0, 5, 6, 39}]
    assert [int(face[0, 0, 0]) for face in domain.faces] == [level(number) for number in kept]
    assert domain.labels.tolist() == [number % 7 for number in kept]
    assert domain.about["left_out"] == {"total": 5, "files": ["list.txt:7", "000.png", "005.png", "006.png", "039.png"]}
    assert sum(sum(part.values()) for part in domain.about["counts"].values()) == len(kept)
    rest = Listing(faces=[listing.faces[number] for number in kept])
    assert run(rest, tmp_path / "rest").fingerprint == domain.fingerprint
    with pytest.raises(BenchError, match="5 files are missing"):  # a later call without leave refuses again
        run(listing, tmp_path / "out")
    assert Domain(tmp_path / "out").fingerprint == domain.fingerprint


def test_nothing_left_is_refused(listing: Listing, tmp_path: Path) -> None:
    spoil(listing, *range(COUNT))
    with pytest.raises(BenchError, match="grey: not one of the 40 faces can be read"):
        run(listing, tmp_path / "out", allow_missing=True)
    with pytest.raises(BenchError, match=r"grey: there is no face to prepare \(left out: 3 contempt\)"):
        run(Listing(dropped=Counter(contempt=3)), tmp_path / "out")


def test_the_same_inputs_change_nothing_and_other_inputs_replace(listing: Listing, tmp_path: Path) -> None:
    first = run(listing, tmp_path / "out")
    written = (tmp_path / "out" / "faces.npy").stat().st_ino
    assert run(listing, tmp_path / "out").fingerprint == first.fingerprint
    assert (tmp_path / "out" / "faces.npy").stat().st_ino == written
    listing.faces[0] = replace(listing.faces[0], expression="anger")
    assert run(listing, tmp_path / "out").fingerprint != first.fingerprint


def test_a_full_disk_at_the_labels_leaves_the_old_state(
    listing: Listing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(draft: Path, *rest: object) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(draft / "labels.csv"))

    with monkeypatch.context() as patch:
        patch.setattr(module, "finish_prepared", full)
        with pytest.raises(
            BenchError, match=r"labels\.csv: the disk or your quota is full \(No space left on device\)"
        ):
            run(listing, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    seen: list[int] = []
    run(listing, tmp_path / "out", lambda done, total: seen.append(done))
    assert seen == [COUNT]


def test_a_folder_with_other_content_is_not_overwritten(listing: Listing, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(BenchError, match="has other content"):
        run(listing, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_a_place_that_cannot_be_written_is_named(listing: Listing, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BenchError, match=r"file: cannot be written: (File exists|Not a directory)"):
        run(listing, tmp_path / "file" / "out")


def test_half_a_domain_is_never_taken_for_a_whole(listing: Listing, tmp_path: Path) -> None:
    states: list[bool] = []
    run(listing, tmp_path / "out", lambda done, total: states.append((tmp_path / "out").exists()))
    assert not any(states)
    assert is_prepared(tmp_path / "out")
    assert json.loads((tmp_path / "out" / "domain.json").read_text())["fingerprint"]
