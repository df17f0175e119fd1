"""Lists, tables and numbers of any content."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from touched import TEXTS, outcome

from fergen_bench.datasets.text_files import list_file, table, whole_number
from fergen_bench.error import BenchError

few = settings(max_examples=100, derandomize=True)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "file.txt"


# --------------------------------------------------------------------------------------------------------------- tables


@few
@given(TEXTS, some.integers(2, 4))
def test_a_list_of_anything_ends_in_rows_or_one_sentence(scratch: Path, content: bytes, columns: int) -> None:
    scratch.write_bytes(content)
    rows, refusal = outcome(lambda: list(list_file(scratch, columns)))
    if rows is None:
        assert str(scratch) in refusal
    else:
        assert rows
        assert all(name and len(others) == columns - 1 for _, name, others in rows)


@few
@given(TEXTS, some.booleans())
def test_a_table_of_anything_ends_in_rows_or_one_sentence(scratch: Path, content: bytes, bare: bool) -> None:
    scratch.write_bytes(content)
    rows, refusal = outcome(lambda: list(table(scratch, ["a", "1"], ["a", "1"] if bare else None)))
    if rows is None:
        assert str(scratch) in refusal
    else:
        assert all({"a", "1"} <= set(row) for _, row in rows)


@few
@given(some.text(max_size=10))
def test_a_number_of_anything_is_in_its_range_or_refused(text: str) -> None:
    number, refusal = outcome(lambda: whole_number(text, 0, 6, "a:1", "the label"))
    assert refusal.startswith("a:1: the label is ") if number is None else 0 <= number <= 6


def test_lists_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffone face.jpg  5\r\n\r\n  b.jpg\t6".encode())
    assert list(list_file(path)) == [(f"{path}:1", "one face.jpg", ["5"]), (f"{path}:3", "b.jpg", ["6"])]
    path.write_text("one face.jpg 5 2")
    assert list(list_file(path, 3)) == [(f"{path}:1", "one face.jpg", ["5", "2"])]


def test_tables_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(b'\xef\xbb\xbf Image ,LABEL,box\r\na.png, 3,"(0, 0, 48, 48)"\r\n')
    row = {"image": "a.png", "label": "3", "box": "(0, 0, 48, 48)"}
    assert list(table(path, ["image", "label"])) == [(f"{path}:2", row)]
    path.write_text("a.png,3")
    assert list(table(path, ["image", "label"], ["image", "label"])) == [
        (f"{path}:1", {"image": "a.png", "label": "3"})
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"file: this file is empty; expected a csv with the columns image, label"),
        (b"a.png,3\n", r"file:1: the first line must name the columns, and image, label is missing there"),
        (b"image\tlabel\n", r"file:1: columns are divided by '\\t' here; expected commas"),
        (b"image,label\na.png\n", r"file:2: has 1 columns where the first line has 2"),
        (b"image,label\n\xff\xff\n", r"file: this is not a text file"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(BenchError, match=message):
        list(table(path, ["image", "label"]))


@pytest.mark.parametrize("read", [list_file, lambda path: table(path, ["image"])])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, read: Callable[[Path], object]) -> None:
    with pytest.raises(BenchError, match=r"list\.txt: cannot be read: No such file"):
        list(read(tmp_path / "list.txt"))  # type: ignore[call-overload]


@pytest.mark.parametrize("text", ["7", "-1", "1.5", "nan", "inf", "", "x"])
def test_a_label_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match=r"a:1: the label is .*; expected a whole number from 0 to 6"):
        whole_number(text, 0, 6, "a:1", "the label")
    assert whole_number("3.0", 0, 6, "a:1", "the label") == 3
