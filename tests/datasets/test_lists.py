"""Lists of any dataset."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touched import read, touch

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import read_about
from fergen_bench.datasets import lists, tables
from fergen_bench.datasets.check import check_copy, check_prepared
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError
from greyfaces import draw

NUMBERS = {str(number): name for number, name in enumerate(EXPRESSIONS)}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten files called 0.png to 9.png in a folder img."""
    touch(*(tmp_path / "img" / f"{number}.png" for number in range(10)))
    return tmp_path


@pytest.mark.parametrize("form", ["csv", "list"])
def test_one_image_with_two_labels_is_an_error_before_and_after_it_is_prepared(tmp_path: Path, form: str) -> None:
    for number in range(14):
        draw(tmp_path / "img" / f"{number}.png", EXPRESSIONS[number % 7], number)
    comma, path = (",", tmp_path / "l.csv") if form == "csv" else (" ", tmp_path / "l.txt")
    rows = [f"img/{number}.png{comma}{EXPRESSIONS[number % 7]}" for number in range(14)]
    rows += [f"img/0.PNG{comma}anger", f"img/1.png{comma}fear"]
    path.write_text("\n".join(["image,label"] * (form == "csv") + rows))
    kind, line = (tables.DATASET, 16) if form == "csv" else (lists.DATASET, 15)
    given, what = (
        DomainSettings(path=path),
        f"{path}:{line}: img/0.png is listed twice, as anger here and as surprise at ",
    )
    raw = check_copy("two", kind, given, 1, lambda done, total: None)
    made = prepare_dataset("two", kind, given, tmp_path / "made", 1, lambda done, total: None)
    assert read_about(made)["labels_disagree"]["total"] == 1
    for copy in (raw, check_prepared("two", kind, made, lambda done, total: None)):
        assert copy.failed
        (finding,) = (finding for finding in copy.findings if finding.level == "error")
        assert finding.what.startswith(f"1 label disagrees, such as: {what}")
        assert copy.dropped == {"listed twice, with two labels": 1, "listed twice": 1}


# ---------------------------------------------------------------------------------------------------------------- lists


def test_a_list_of_words_gets_a_split(root: Path) -> None:
    touch(root / "img" / "a b.png")
    lines = [f"img/{number}.png {EXPRESSIONS[number % 2]}" for number in range(10)] + ["", "img/a b.png Happy"]
    (root / "faces.txt").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    for path in (root, root / "faces.txt"):
        listing = read(lists.DATASET, path)
        assert Counter((face.split, face.expression) for face in listing.faces) == {
            ("train", "surprise"): 4,
            ("train", "fear"): 4,
            ("train", "happiness"): 1,
            ("test", "surprise"): 1,
            ("test", "fear"): 1,
        }
        assert listing.faces[-1].id == "img/a b.png"


def test_a_list_for_training_alone_gets_a_split(root: Path) -> None:
    (root / "train.txt").write_text("".join(f"img/{number}.png sad\n" for number in range(10)))
    listing = read(lists.DATASET, root / "train.txt")
    assert Counter(face.split for face in listing.faces) == {"train": 8, "test": 2}
    assert listing.about["splits"] == "0.2 of each expression, seed 0"


def test_lists_of_numbers_for_each_split(root: Path) -> None:
    (root / "lists").mkdir()
    (root / "lists" / "list_train_label.txt").write_text("0.png 0\n1.png 6\n2.png 7\n")
    (root / "lists" / "list_test_label.txt").write_text("3.png 3\n4.png 4\n0.png 0\nx.png 1")
    listing = read(lists.DATASET, root / "lists", labels=NUMBERS | {"7": ""}, images=root / "img")
    assert [(face.id, face.split, face.expression) for face in listing.faces] == [
        ("3.png", "test", "happiness"),
        ("4.png", "test", "sadness"),
        ("0.png", "test", "surprise"),
        ("1.png", "train", "neutral"),
    ]
    assert listing.dropped == {"7": 1, "listed twice": 1}
    assert [fault.kind for fault in listing.faults] == ["missing", "duplicate"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"a\.txt: this file is empty; expected lines such as"),
        (
            "img/0.png 3",
            {},
            r"a\.txt:1: '3' is not a known expression; .* numbering .* the meaning of every one of them: 3=…",
        ),
        ("img/0.png 8", {"labels": NUMBERS}, r"a\.txt:1: '8' is not a known expression"),
        ("img/0.png", {}, r"a\.txt:1: expected 2 columns with blanks between them"),
        ("img/0.png,sad", {}, r"a\.txt:1: expected 2 columns with blanks between them"),
        ("img/0.png joyous", {}, r"a\.txt:1: 'joyous' is not a known expression"),
        ("img/../../0.png sad", {}, r"a\.txt:1: 'img/\.\./\.\./0\.png' leads out of "),
        ("C:\\img\\0.png sad", {}, r"a\.txt:1: .* begins with a drive of another machine"),
        ("x/0.png sad", {}, r"a\.txt: none of its faces can be used .*1 missing"),
        ("img/0.png sad", {"images": Path("/nowhere")}, "/nowhere: this folder does not exist"),
        ("img/0.png sad", {"subject": r"s(\d)"}, r"a\.txt:1: the pattern subject = "),
    ],
)
def test_a_bad_list_is_refused(root: Path, text: str, options: dict[str, Any], message: str) -> None:
    (root / "a.txt").write_text(text)
    with pytest.raises(BenchError, match=message):
        read(lists.DATASET, root, **options)


def test_which_list_must_be_plain(root: Path) -> None:
    (root / "train.txt").write_text("img/0.png sad")
    (root / "notes.txt").write_text("img/0.png sad")
    with pytest.raises(
        BenchError, match=r"notes\.txt: this is one of 2 lists, but its name contains neither train, val nor test"
    ):
        read(lists.DATASET, root)
    (root / "notes.txt").rename(root / "val.txt")
    (root / "train.txt").rename(root / "valid.txt")
    with pytest.raises(BenchError, match="there are lists for val but for neither train nor test"):
        read(lists.DATASET, root)


# ------------------------------------------------------------------------------------------------------------- any text


WILD = st.text(alphabet=st.one_of(st.sampled_from('img/0.png,sad "\n\r\\.;~'), st.characters(codec="utf-8")))


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wild")
    touch(place / "img" / "0.png")
    return place


@settings(max_examples=100, derandomize=True)
@given(text=WILD, begin=st.sampled_from(["", "img/0.png sad\n"]), end=st.sampled_from(["", " happy"]))
def test_any_list_gives_faces_or_one_sentence(wild: Path, text: str, begin: str, end: str) -> None:
    (wild / "a.txt").write_text(begin + text + end, encoding="utf-8")
    with suppress(BenchError):
        assert read(lists.DATASET, wild).faces
