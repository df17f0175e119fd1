"""FERPlus: the rules against the real label files, and every layout on a folder of exactly that form."""

from __future__ import annotations

import gzip
import os
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets.fer2013 import pixels_of
from fergen_bench.datasets.ferplus import DATASET, EXPECTED
from fergen_bench.datasets.reader import Listing
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.datasets.votes import COLUMNS, Ballot, ballots, part_ballots
from fergen_bench.error import BenchError

HEADER = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
PARTS = {
    "train": ("Training", "FER2013Train"),
    "val": ("PublicTest", "FER2013Valid"),
    "test": ("PrivateTest", "FER2013Test"),
}

# (split, name, votes): one clear face of every emotion, and every way to fall out
ROWS: list[tuple[str, str, tuple[int, ...]]] = [
    ("train", "fer0000000.png", (8, 0, 0, 1, 1, 0, 0, 0, 0, 0)),
    ("train", "fer0000001.png", (0, 9, 1, 0, 0, 0, 0, 0, 0, 0)),
    ("train", "", (0, 0, 0, 0, 0, 0, 0, 0, 0, 10)),
    ("train", "fer0000002.png", (1, 0, 8, 0, 0, 0, 1, 0, 0, 0)),
    ("train", "fer0000004.png", (0, 0, 0, 7, 0, 0, 0, 3, 0, 0)),
    ("train", "fer0000005.png", (0, 0, 0, 0, 9, 0, 0, 0, 1, 0)),
    ("train", "fer0000006.png", (0, 0, 0, 0, 1, 9, 0, 0, 0, 0)),
    ("train", "fer0000004.png", (0, 0, 0, 0, 0, 0, 10, 0, 0, 0)),
    ("val", "fer0028638.png", (0, 0, 0, 0, 0, 0, 8, 2, 0, 0)),
    ("val", "fer0028639.png", (0, 0, 0, 0, 0, 0, 0, 9, 1, 0)),
    ("val", "fer0028640.png", (3, 0, 0, 3, 4, 0, 0, 0, 0, 0)),
    ("test", "fer0032220.png", (0, 10, 0, 0, 0, 0, 0, 0, 0, 0)),
    ("test", "fer0032222.png", (0, 0, 0, 1, 0, 0, 0, 0, 9, 0)),
    ("test", "fer0032223.png", (6, 4, 0, 0, 0, 0, 0, 0, 0, 0)),
]
MAJORITY = {
    "fer0000000.png": ("train", "neutral"),
    "fer0000001.png": ("train", "happiness"),
    "fer0000002.png": ("train", "surprise"),
    "fer0000004.png": ("train", "sadness"),
    "fer0000005.png": ("train", "anger"),
    "fer0000006.png": ("train", "disgust"),
    "fer0028638.png": ("val", "fear"),
    "fer0032220.png": ("test", "happiness"),
    "fer0032223.png": ("test", "neutral"),
}


def grey(path: Path, level: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (48, 48), level).save(path)


def votes_csv(path: Path, end: str = "\n") -> None:
    lines = [HEADER, *(",".join([PARTS[split][0], name, *map(str, votes)]) for split, name, votes in ROWS)]
    path.write_bytes((end.join(lines) + end).encode())


def pixels_csv(path: Path, header: str = "emotion,pixels,Usage", rows: Iterable[Any] = ROWS) -> None:
    """The level of a row's face is its number."""
    lines = [header]
    for number, (split, _, _) in enumerate(rows):
        cells = {"emotion": "3", "pixels": " ".join([str(number)] * 2304), "usage": PARTS[split][0]}
        lines.append(",".join(cells[name.strip().lower()] for name in header.split(",")))
    path.write_text("\n".join(lines))


def label_csv(path: Path, split: str) -> None:
    rows = {name: votes for part, name, votes in reversed(ROWS) if part == split and name}  # the first of a name
    lines = [f'{name},"(0, 0, 48, 48)",{",".join(map(str, votes))}' for name, votes in sorted(rows.items())]
    path.write_text("\n".join(lines))


def part_images(root: Path) -> None:
    for number, (split, name, _) in enumerate(ROWS):
        if name:
            grey(root / PARTS[split][1] / name, number)


def read(path: Path, layout: str | None = None, **options: Any) -> Listing:
    found, base = DATASET.layout(path, layout)
    assert layout is None or found.name == layout
    return found.read(base, DomainSettings(path=path, **options))


def labels(listing: Listing) -> dict[str, tuple[str, str]]:
    assert len({face.id for face in listing.faces}) == len(listing.faces)
    return {face.id: (face.split, face.expression) for face in listing.faces}


# ----------------------------------------------------------------------------------------------------------- real files


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Ballot]]:
    """The official files of votes."""
    if not (folder := os.environ.get("FERGEN_LABELS")):
        pytest.skip("FERGEN_LABELS names no folder with fer2013new.csv.gz and ferplus_label_*.csv.gz")
    target = tmp_path_factory.mktemp("labels")
    for packed in Path(folder).glob("*.csv.gz"):
        (target / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    parts = {"train": "train", "val": "valid", "test": "test"}
    return {
        "fer2013new": list(ballots(target / "fer2013new.csv")),
        "label.csv": [
            ballot
            for split, word in parts.items()
            for ballot in part_ballots(target / f"ferplus_label_{word}.csv", split)
        ],
    }


def test_a_whole_copy_gives_the_published_counts(tmp_path: Path, real: dict[str, list[Ballot]]) -> None:
    """The official repository with a name for every image, and nothing in the files."""
    folder = Path(os.environ["FERGEN_LABELS"])
    (tmp_path / "fer2013new.csv").write_bytes(gzip.decompress((folder / "fer2013new.csv.gz").read_bytes()))
    for split, word in (("train", "train"), ("val", "valid"), ("test", "test")):
        part = tmp_path / "data" / PARTS[split][1]
        part.mkdir(parents=True)
        (part / "label.csv").write_bytes(gzip.decompress((folder / f"ferplus_label_{word}.csv.gz").read_bytes()))
    one = tmp_path / "one"
    one.touch()
    for ballot in real["label.csv"]:
        os.link(one, tmp_path / "data" / PARTS[ballot.split][1] / ballot.name)
    for source, total in (("fer2013new", (24938, 3186, 3136)), ("label.csv", (24925, 3175, 3122))):
        listing = read(tmp_path, "ferplus-ms-png", label_source=source)
        counts = Counter((face.split, face.expression) for face in listing.faces)
        assert listing.expected is not None
        assert counts == {(split, name): n for split, row in listing.expected.items() for name, n in row.items()}
        assert tuple(sum(row.values()) for row in listing.expected.values()) == total
        assert not listing.faults
    assert any("fer0033120.png does not show a face" in note for note in listing.notes)


# -------------------------------------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    ("name", "header"), [("fer2013.csv", "emotion,pixels,Usage"), ("icml_face_data.csv", "emotion, Usage, pixels")]
)
def test_the_csv_layout_joins_rows_and_keeps_both_of_one_name(tmp_path: Path, name: str, header: str) -> None:
    pixels_csv(tmp_path / name, header)
    votes_csv(tmp_path / "fer2013new.csv", end="\r\n")
    listing = read(tmp_path, "ferplus-csv")
    assert labels(listing) == MAJORITY | {"fer0000004.png#row7": ("train", "fear")}
    levels = {face.id: face.pixels[0] for face in listing.faces if face.pixels}
    assert levels == {
        f"{name}#row7" if number == 7 else name: number for number, (_, name, _) in enumerate(ROWS) if name in MAJORITY
    }
    assert all(len(face.pixels or b"") == 2304 and face.file is None for face in listing.faces)
    assert listing.dropped == {"no image name": 1, "no majority": 1, "unknown or not a face": 1, "contempt": 1}
    assert listing.about == {"label_rule": "majority", "label_source": "fer2013new"}
    assert [fault.kind for fault in listing.faults] == ["duplicate"]
    assert listing.expected == DATASET.expected


def test_votes_are_kept_as_columns(tmp_path: Path) -> None:
    pixels_csv(tmp_path / "fer2013.csv")
    votes_csv(tmp_path / "fer2013new.csv")
    face = next(face for face in read(tmp_path).faces if face.id == "fer0000002.png")
    columns = [*EXPRESSIONS, "contempt", "unknown", "NF"]
    assert face.extra == {
        f"votes_{name}": {"neutral": "1", "surprise": "8", "fear": "1"}.get(name, "0") for name in columns
    }


def test_the_csv_layout_with_the_votes_of_label_csv(tmp_path: Path) -> None:
    pixels_csv(tmp_path / "fer2013.csv")
    votes_csv(tmp_path / "fer2013new.csv")
    for split, (_, part) in PARTS.items():
        (tmp_path / "data" / part).mkdir(parents=True)
        label_csv(tmp_path / "data" / part / "label.csv", split)
    listing = read(tmp_path, label_source="label.csv")
    assert labels(listing) == MAJORITY
    assert listing.dropped["named like an earlier row"] == 1
    assert listing.about["label_source"] == "label.csv"


def test_the_rule_of_the_settings_counts(tmp_path: Path) -> None:
    pixels_csv(tmp_path / "fer2013.csv")
    votes_csv(tmp_path / "fer2013new.csv")
    listing = read(tmp_path, label_rule="argmax8")
    assert labels(listing)["fer0028640.png"] == ("val", "anger")
    assert labels(listing)["fer0032222.png"] == ("test", "sadness")
    assert listing.dropped == {"no image name": 1, "contempt": 1}


@pytest.mark.parametrize("nested", ["", "data"])
def test_the_png_layout_with_fer2013new(tmp_path: Path, nested: str) -> None:
    part_images(tmp_path / nested)
    votes_csv(tmp_path / "fer2013new.csv")
    listing = read(tmp_path, "ferplus-ms-png")
    # Of two rows of one name, the later one's image has overwritten the file.
    assert labels(listing) == MAJORITY | {"fer0000004.png": ("train", "fear")}
    assert listing.dropped["overwritten by a later row"] == 1
    assert not listing.faults
    face = next(face for face in listing.faces if face.id == "fer0028638.png")
    assert face.file == tmp_path / nested / "FER2013Valid" / "fer0028638.png"
    assert Image.open(face.file).getpixel((0, 0)) == 8
    assert face.extra is not None
    assert face.extra["votes_contempt"] == "2"


def test_the_png_layout_with_label_csv_is_noted(tmp_path: Path) -> None:
    part_images(tmp_path)
    for split, (_, part) in PARTS.items():
        label_csv(tmp_path / part / "label.csv", split)
    listing = read(tmp_path)
    assert labels(listing) == MAJORITY
    assert listing.about["label_source"] == "label.csv"
    assert any("fer2013new.csv is missing" in note for note in listing.notes)


def test_missing_and_unlisted_images_are_faults(tmp_path: Path) -> None:
    part_images(tmp_path)
    votes_csv(tmp_path / "fer2013new.csv")
    (tmp_path / "FER2013Train" / "fer0000001.png").rename(tmp_path / "FER2013Train" / "fer0000001_flip.png")
    listing = read(tmp_path)
    assert [(fault.kind, Path(fault.where).name) for fault in listing.faults] == [
        ("missing", "fer2013new.csv:3"),
        ("extra", "fer0000001_flip.png"),
    ]
    assert "fer0000001.png" not in labels(listing)


def test_the_kaggle_folders(tmp_path: Path) -> None:
    folders = {"anger": "angry", "happiness": "happy", "sadness": "sad", "surprise": "suprise"}
    for number, (name, (split, expression)) in enumerate(MAJORITY.items()):
        part = {"val": "validation"}.get(split, split)
        grey(tmp_path / "ferplus" / part / folders.get(expression, expression) / name, number)
    grey(tmp_path / "ferplus" / "validation" / "contempt" / "fer0028639.png", 0)
    listing = read(tmp_path, "ferplus-kaggle-folders")
    assert {Path(name).name: label for name, label in labels(listing).items()} == MAJORITY
    assert listing.dropped == {"contempt": 1}
    assert not listing.faults
    assert not listing.notes
    assert listing.expected == EXPECTED["label.csv", "argmax8"]
    # A file of votes, one label that contradicts it, one face in the wrong part, and one augmented face.
    base = tmp_path / "ferplus"
    label_csv(base / "test" / "label.csv", "test")
    (base / "test" / "sad").mkdir()
    (base / "test" / "neutral" / "fer0032223.png").rename(base / "test" / "sad" / "fer0032223.png")
    (base / "train" / "angry" / "fer0000005.png").rename(base / "test" / "neutral" / "fer0000005.png")
    grey(base / "train" / "angry" / "fer0000005_flip.png", 1)
    listing = read(base)
    assert [(fault.kind, fault.where) for fault in listing.faults] == [
        ("label", "test/neutral/fer0000005.png"),
        ("label", "test/sad/fer0032223.png"),
    ]
    assert "is sad here, and neutral by argmax8" in listing.faults[1].what
    assert "1 of 10 names is not FERPlus's own" in listing.notes[0]


def test_lists_with_canonical_ids(tmp_path: Path) -> None:
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name, (split, expression) in MAJORITY.items():
        grey(tmp_path / "img" / name, 1)
        lines[split].append(f"img/{name} {EXPRESSIONS.index(expression)}")
    (tmp_path / "train_new_fer.txt").write_text("\r\n".join(lines["train"]))
    (tmp_path / "val_new_fer.txt").write_text("\ufeff" + "\n".join(lines["val"]))
    (tmp_path / "test_new_fer.txt").write_text("\n".join(lines["test"]) + "\n")
    listing = read(tmp_path, "ferplus-list")
    assert {Path(name).name: label for name, label in labels(listing).items()} == MAJORITY
    assert not listing.faults
    elsewhere = tmp_path / "lists"
    elsewhere.mkdir()
    (tmp_path / "test_new_fer.txt").rename(elsewhere / "test_new_fer.txt")
    assert len(read(elsewhere, images=tmp_path).faces) == 2
    votes_csv(elsewhere / "fer2013new.csv")
    (elsewhere / "test_new_fer.txt").write_text("img/fer0032223.png 0")
    assert [fault.kind for fault in read(elsewhere, "ferplus-list", images=tmp_path).faults] == ["label"]


def test_a_ran_list_has_its_label_in_the_folder_and_counts_crops(tmp_path: Path) -> None:
    lines: dict[str, list[str]] = {"train": [], "val": []}
    for name, (split, expression) in [*MAJORITY.items(), ("fer0028639.png", ("val", "contempt"))]:
        stem = f"{COLUMNS.index(expression)}/{Path(name).stem}"
        grey(tmp_path / f"{stem}.png", 1)
        lines["val" if split == "test" else "train"].append(f"{stem} 6")
    for part, text in lines.items():
        (tmp_path / f"dlib_ferplus_{part}_center_crop_range_list.txt").write_text("\n".join(text))
    listing = read(tmp_path, "ferplus-ran-list")
    assert {Path(name).name: label for name, label in labels(listing).items()} == MAJORITY
    assert listing.dropped == {"contempt": 1}
    (tmp_path / "0" / "fer0000000.png").unlink()
    (tmp_path / "0" / "fer0000000").mkdir()
    assert [fault.kind for fault in read(tmp_path).faults] == ["missing"]


# ------------------------------------------------------------------------------------------------------------ bad input


def csv_copy(root: Path) -> None:
    pixels_csv(root / "fer2013.csv")
    votes_csv(root / "fer2013new.csv")


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda r: (r / "fer2013new.csv").unlink(), "without fer2013new.csv, which has their names. Put that file of"),
        (lambda r: pixels_csv(r / "fer2013.csv", rows=ROWS[:-1]), r"fer2013new.csv has more rows than the 13 of "),
        (lambda r: pixels_csv(r / "fer2013.csv", rows=[*ROWS, ROWS[-1]]), r"fer2013.csv has more rows than the 14 of "),
        (
            lambda r: pixels_csv(r / "fer2013.csv", rows=[ROWS[-1], *ROWS[1:]]),
            r"fer2013.csv:2: this row is of the test part, but .*fer2013new.csv:2 is of the train part, .* order",
        ),
        (lambda r: change(r / "fer2013.csv", "4 4 4", "4 4"), r"fer2013.csv:6: pixels must be 2,304 .* found 2,303"),
        (lambda r: change(r / "fer2013.csv", "4 4 4", "4 256 4"), r"fer2013.csv:6: pixels must be 2,304"),
        (lambda r: change(r / "fer2013.csv", "Training", "Train"), r"csv:2: Usage is 'Train'; expected Training, Pub"),
        (lambda r: change(r / "fer2013new.csv", "8,0,0,1,1", "8,0,0,1,x"), r"csv:2: the votes for anger is 'x'"),
        (lambda r: change(r / "fer2013new.csv", "8,0,0,1,1", "11,0,0,1,1"), r"csv:2: the votes for neutral is '11'"),
        (lambda r: change(r / "fer2013new.csv", HEADER + "\n", ""), r"fer2013new.csv:1: the first line must name the"),
        (
            lambda r: change(r / "fer2013new.csv", HEADER, HEADER.replace(",", ";")),
            r"csv:1: columns are divided by ';'",
        ),
        (lambda r: part_images(r), "2 layouts of FERPlus fit, ferplus-csv and ferplus-ms-png. Choose one"),
    ],
)
def test_a_csv_copy_that_is_not_whole_is_refused(tmp_path: Path, spoil: Any, message: str) -> None:
    csv_copy(tmp_path)
    spoil(tmp_path)
    with pytest.raises(BenchError, match=message):
        read(tmp_path)


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    csv_copy(tmp_path)
    with pytest.raises(
        BenchError, match=r"label_source is 'label\.csv', but that file is missing. .* label_source = .fer2013new"
    ):
        read(tmp_path, label_source="label.csv")
    part_images(tmp_path / "png")
    with pytest.raises(
        BenchError, match=r"the votes are missing, .* Put fer2013new.csv of github.com/microsoft/FERPlus there$"
    ):
        read(tmp_path / "png")
    (tmp_path / "png" / "fer2013new.csv.gz").touch()
    with pytest.raises(BenchError, match=r"the votes are missing, .* there\. Unpack .*/fer2013new\.csv\.gz first$"):
        read(tmp_path / "png")


def test_a_name_that_leads_out_is_refused(tmp_path: Path) -> None:
    part_images(tmp_path)
    votes_csv(tmp_path / "fer2013new.csv")
    change(tmp_path / "fer2013new.csv", "fer0000001.png", "../fer0000001.png")
    with pytest.raises(BenchError, match=r"fer2013new.csv:3: '\.\./fer0000001.png' leads out of "):
        read(tmp_path)


def test_a_pack_of_fer2013_is_refused(tmp_path: Path) -> None:
    grey(tmp_path / "train" / "happy" / "Training_10118481.jpg", 3)
    with pytest.raises(BenchError, match=r"Training_10118481.jpg: this is FER2013, .* Prepare it as fer2013"):
        read(tmp_path)


def test_an_empty_folder_names_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match=r"not a known layout of FERPlus.* The folder is empty; expected one of\n  ferplus-csv"
    ):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("test_new_fer.txt", "a/fer0032220.png 7", "test_new_fer.txt:1: '7' is not a known expression"),
        ("test_new_fer.txt", "../fer0032220.png 1", r"test_new_fer.txt:1: '\.\./fer0032220.png' leads out of "),
        ("ferplus_test.txt", "fer0032220.png 1", "the meaning of the numbers in this list was never published"),
        (
            "dlib_ferplus_train_center_crop_range_list.txt",
            "9/fer0000001 6",
            "list.txt:1: '9' is not a known expression",
        ),
        ("dlib_ferplus_train_center_crop_range_list.txt", "0/fer0000001", "list.txt:1: expected 2 columns"),
        ("dlib_ferplus_train_center_crop_range_list.txt", "0/one 6", "list.txt:1: 'one' is not a name of FERPlus"),
        (
            "dlib_ferplus_train_center_crop_range_list.txt",
            "0/fer0000001 6",
            "none of its faces can be used .*images = ",
        ),
    ],
)
def test_a_bad_list_is_refused(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BenchError, match=message):
        read(tmp_path)


@settings(max_examples=60, derandomize=True)
@given(begin=st.text(max_size=8), numbers=st.sampled_from([0, 2303, 2304, 2305]), end=st.text(max_size=4))
def test_any_text_as_pixels_gives_a_face_or_one_sentence(begin: str, numbers: int, end: str) -> None:
    text = begin + " 7" * numbers + end
    with suppress(BenchError):
        assert pixels_of(text, "a.csv:2") == bytes(map(int, text.split()))
