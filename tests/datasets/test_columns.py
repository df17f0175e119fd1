"""The column of the label in lists with more columns than a path and a label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import affectnet, lists, mma, rafdb, sfew
from fergen_bench.datasets.reader import Dataset, Listing, read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError, NeedsKey

NUMBERS = {str(number): name for number, name in enumerate(EXPRESSIONS)}
DATASETS = {"list": lists.DATASET, "sfew": sfew.DATASET, "mma": mma.DATASET, "affectnet": affectnet.DATASET}
OWN = {"list": NUMBERS, "sfew": sfew.NUMBERS, "mma": mma.NUMBERS, "affectnet": affectnet.NATIVE}


def listed(root: Path, line: str, name: str = "test.txt", **options: Any) -> Path:
    """42 images of seven labels 0 to 6, six of each. line: how a path, its label and its number are written."""
    rows = []
    for number in range(42):
        path = root / "img" / f"a {number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        rows.append(line.format(path=f"img/a {number}.png", label=number // 6, n=number))
    (root / name).write_text("\n".join(rows))
    return root / name


def taken(kind: Dataset, path: Path, **options: Any) -> Listing:
    return read(kind, DomainSettings(path=path, **options))[1]


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize(
    ("line", "column"), [("{path} {label} 1", 2), ("{path} 1 {label}", 3), ("{path}\t{label}\t{n}\t1", 2)]
)
def test_the_column_of_known_labels_is_used_and_noted(tmp_path: Path, name: str, line: str, column: int) -> None:
    given = {"labels": NUMBERS} if name == "list" else {}
    listing = taken(DATASETS[name], listed(tmp_path, line), **given)
    expected = {OWN[name][str(label)]: 6 for label in range(7)}
    assert Counter(face.expression for face in listing.faces) == expected
    assert any(note.startswith(f"The label is column {column} of ") for note in listing.notes)


@pytest.mark.parametrize("name", DATASETS)
def test_where_two_columns_fit_the_user_chooses(tmp_path: Path, name: str) -> None:
    path = listed(tmp_path, "{path} {label} {label}")
    path.write_text("\n".join(f"img/a {n}.png {n // 6} {n % 7}" for n in range(42)))
    given = {"labels": NUMBERS} if name == "list" else {}
    with pytest.raises(BenchError, match=r"test\.txt: columns 2 and 3 may both be the label .* columns = \{ label"):
        taken(DATASETS[name], path, **given)
    for column, label in (("2", 0), ("3", 5)):
        listing = taken(DATASETS[name], path, columns={"label": column}, **given)
        assert next(face for face in listing.faces if face.id == "img/a 5.png").expression == OWN[name][str(label)]
    for column, why in (("1", "column 1 is the path"), ("4", "the list has 3 columns")):
        with pytest.raises(
            BenchError, match=f"cannot be in column '{column}', because {why}. Name one of the columns 2"
        ):
            taken(DATASETS[name], path, columns={"label": column}, **given)


def test_a_column_with_one_unknown_label_is_still_the_labels(tmp_path: Path) -> None:
    """The others have known labels only, and are none."""
    path = listed(tmp_path, "{path} {label} 1")
    path.write_text(path.read_text() + "\nimg/a 0.png 7 1")
    with pytest.raises(BenchError, match=r"test\.txt:43: '7' is not a known expression"):
        taken(sfew.DATASET, path)


def test_words_are_found_beside_numbers_in_names_without_an_ending(tmp_path: Path) -> None:
    path = listed(tmp_path, "")
    for image in (tmp_path / "img").iterdir():
        image.rename(image.with_name(image.name.replace("a ", "a.b.")))
    path.write_text("\n".join(f"img/a.b.{n} {n % 3} {EXPRESSIONS[n // 6]}" for n in range(42)))
    listing = taken(lists.DATASET, path)
    assert Counter(face.expression for face in listing.faces) == dict.fromkeys(EXPRESSIONS, 6)


@pytest.mark.parametrize("line", ["{stem}.jpg {label} {n}", "{stem}.jpg {n} {label}", "{stem} {label} 1 {n}"])
def test_the_list_of_raf_db_with_more_columns(tmp_path: Path, line: str) -> None:
    rows = []
    for number in range(42):
        stem = f"train_{number:05d}"
        path = tmp_path / "Image" / "aligned" / f"{stem}_aligned.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        rows.append(line.format(stem=stem, label=number // 6 + 1, n=number % 3 + 1))
    (tmp_path / "EmoLabel").mkdir()
    (tmp_path / "EmoLabel" / "list_patition_label.txt").write_text("\n".join(rows))
    assert Counter(face.expression for face in taken(rafdb.DATASET, tmp_path).faces) == dict.fromkeys(EXPRESSIONS, 6)


@pytest.mark.parametrize("line", ["{label} img/a{n}.png", "{label} a_{n}", "{expression} a{n}.png"])
def test_swapped_columns_are_named_as_such(tmp_path: Path, line: str) -> None:
    path = listed(tmp_path, "")
    path.write_text("\n".join(line.format(label=n // 6, expression=EXPRESSIONS[n // 6], n=n) for n in range(42)))
    with pytest.raises(BenchError, match=r"test\.txt:1: column 1 is '\w+' and '.*' comes after it: .* may be swapped"):
        taken(lists.DATASET, path, labels=NUMBERS)


@pytest.mark.parametrize("ending", [".jpg", ""])
def test_swapped_columns_of_the_list_of_raf_db(tmp_path: Path, ending: str) -> None:
    (tmp_path / "Image" / "aligned").mkdir(parents=True)
    (tmp_path / "EmoLabel").mkdir()
    path = tmp_path / "EmoLabel" / "list_patition_label.txt"
    path.write_text("\n".join(f"{number % 7 + 1} train_{number:05d}{ending}" for number in range(42)))
    for columns in ({}, {"label": "1"}):
        with pytest.raises(BenchError, match=r"column 1 is '1' and 'train_00000.*the columns may be swapped"):
            taken(rafdb.DATASET, tmp_path, columns=columns)


@pytest.mark.parametrize("line", ["{n:04d} 9 0.93", "{n:04d} contempt2", "7 -1", "7 1e-5"])
def test_numbers_and_words_with_a_digit_are_not_taken_for_swapped_columns(tmp_path: Path, line: str) -> None:
    path = listed(tmp_path, "")
    path.write_text("\n".join(line.format(n=n) for n in range(42)))
    with pytest.raises(BenchError) as raised:
        taken(lists.DATASET, path, labels=NUMBERS)
    assert "swapped" not in str(raised.value)


def test_one_line_does_not_make_columns_swapped(tmp_path: Path) -> None:
    path = listed(tmp_path, "img/{path} {label}")
    path.write_text("7 S_001\n" + path.read_text())
    with pytest.raises(BenchError, match=r"test\.txt:1: 'S_001' is not a known expression"):
        taken(lists.DATASET, path, labels=NUMBERS)


def test_a_number_is_the_name_of_an_image_where_a_label_follows(tmp_path: Path) -> None:
    path = listed(tmp_path, "")
    for image in (tmp_path / "img").iterdir():
        image.rename(tmp_path / image.name.removeprefix("a "))
    path.write_text("\n".join(f"{n} {n // 6} S{n % 5:03d}" for n in range(42)))
    listing = taken(lists.DATASET, path, labels=NUMBERS)
    assert Counter(face.expression for face in listing.faces) == dict.fromkeys(EXPRESSIONS, 6)


def test_a_role_that_lists_do_not_have_is_refused(tmp_path: Path) -> None:
    path = listed(tmp_path, "{path} {label}")
    with pytest.raises(NeedsKey, match=r"test\.txt: columns has no effect for image: .* Remove image from columns"):
        taken(lists.DATASET, path, labels=NUMBERS, columns={"image": "1"})
