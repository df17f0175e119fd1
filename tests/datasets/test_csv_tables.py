"""Csv files of any dataset."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from touched import read, touch

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import lists, tables
from fergen_bench.error import BenchError

NUMBERS = {str(number): name for number, name in enumerate(EXPRESSIONS)}


# ------------------------------------------------------------------------------------------------------------ csv files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten files called 0.png to 9.png in a folder img."""
    touch(*(tmp_path / "img" / f"{number}.png" for number in range(10)))
    return tmp_path


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_csv_with_usual_columns(root: Path, end: str, mark: str) -> None:
    lines = [
        "Path, Emotion ,Usage,Subject",
        "img/0.png,happy,Training,ann",
        '"img/1.png",SAD,PublicTest,bob',
        "img\\2.png,fear,test,",
    ]
    (root / "labels.csv").write_bytes((mark + end.join(lines)).encode())
    for path in (root, root / "labels.csv"):
        listing = read(tables.DATASET, path)
        assert [(face.id, face.split, face.expression, face.native_label, face.subject) for face in listing.faces] == [
            ("img/0.png", "train", "happiness", "happy", "ann"),
            ("img/1.png", "val", "sadness", "SAD", "bob"),
            ("img/2.png", "test", "fear", "fear", None),
        ]
        assert listing.faces[2].file == root / "img" / "2.png"
        assert listing.about == {"splits": "as given"}


def test_a_csv_with_columns_numbers_and_images_of_its_own(root: Path) -> None:
    (root / "lists").mkdir()
    lines = ["id,who,class,x,y,w,h"]
    lines += [f"{n}.png,p{n % 4},{n % 7},{n},{2 * n},3,4.5" for n in range(9)] + [
        "0.png,p0,0,9,9,9,9",
        "9.png,p0,9,1,1,1,1",
    ]
    (root / "lists" / "a.csv").write_text("\n".join(lines))
    columns = {"image": "ID", "label": "class", "subject": "who", "left": "x", "top": "y", "width": "w", "height": "h"}
    labels = NUMBERS | {"9": ""}
    listing = read(tables.DATASET, root / "lists", columns=columns, labels=labels, images=root / "img", test_share=0.3)
    assert [face.expression for face in listing.faces] == [EXPRESSIONS[n % 7] for n in [*range(9), 0]]
    assert [face.box for face in listing.faces] == [*((n, 2 * n, 3, 4.5) for n in range(9)), (9, 9, 9, 9)]
    assert [face.id for face in listing.faces if face.file == root / "img" / "0.png"] == ["0.png", "0.png#2"]
    assert listing.dropped == {"9": 1}
    people = [{face.subject for face in listing.faces if face.split == part} for part in ("train", "test")]
    assert all(people)
    assert not people[0] & people[1]


def test_width_and_height_alone_are_no_box(root: Path) -> None:
    (root / "a.csv").write_text("image,label,split,width,height\nimg/0.png,sad,test,100,90\n")
    assert read(tables.DATASET, root).faces[0].box is None


def test_missing_and_repeated_rows_are_faults(root: Path) -> None:
    (root / "a.csv").write_text("image,label,split\nimg/0.png,sad,train\nimg/x.png,sad,test\nimg/0.png,happy,test\n")
    listing = read(tables.DATASET, root)
    assert [(fault.kind, fault.where) for fault in listing.faults] == [
        ("missing", f"{root / 'a.csv'}:3"),
        ("label", f"{root / 'a.csv'}:4"),
    ]
    assert listing.dropped == {"listed twice, with two labels": 1}


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"a\.csv: this file is empty; expected a csv"),
        ("image,label\n", {}, r"a\.csv: the first line is the only one"),
        (
            "img/0.png,sad\nimg/1.png,sad\n",
            {},
            r"a\.csv: no column is named image or file or path; found 'img/0\.png, sad'",
        ),
        ("image,mood\nimg/0.png,sad\n", {}, "no column is named label or emotion or expression; found 'image, mood'"),
        (
            "image,label\nimg/0.png,sad\n",
            {"columns": {"label": "mood"}},
            "no column is named mood; found 'image, label'",
        ),
        (
            "image,label\nimg/0.png,sad\n",
            {"columns": {"lable": "x"}},
            "columns: 'lable' is not a role .* did you mean label",
        ),
        ("image;label\nimg/0.png;sad\n", {}, r"a\.csv:1: columns are divided by ';' here; expected commas"),
        ("image\tlabel\nimg/0.png\tsad\n", {}, r"a\.csv:1: columns are divided by '\\t' here; expected commas"),
        ("image,label,Label\nimg/0.png,sad,sad\n", {}, "two columns are named Label. Rename one"),
        ("image,label\nimg/0.png,sad,3\n", {}, r"a\.csv:2: has 3 columns where the first line has 2"),
        (
            "image,label\nimg/0.png,3\n",
            {},
            r"a\.csv:2: '3' is not a known expression; .* the meaning of every one of them: 3=…",
        ),
        ("image,label\nimg/0.png,\n", {}, r"a\.csv:2: '' is not a known expression"),
        ("image,label\n,sad\n", {}, r"a\.csv:2: the file name is missing"),
        ("image,label\n.,sad\n", {}, r"a\.csv:2: the file name is missing"),
        ("image,label\n../0.png,sad\n", {}, r"a\.csv:2: '\.\./0\.png' leads out of "),
        ("image,label\n/img/0.png,sad\n", {}, r"a\.csv:2: '/img/0\.png' is an absolute path that does not lie in"),
        ("image,label\nx/0.png,sad\n", {}, r"a\.csv: none of its faces can be used .*1 missing.* images = "),
        ("image,label\nimg/0.png,sad\n", {"images": Path("/nowhere")}, "/nowhere: this folder does not exist. Name"),
        (
            "image,label\nimg/0.png,dull\n",
            {"labels": {"dull": ""}},
            "none of its faces can be used .*1 left out: dull.. Check labels = ",
        ),
        ("image,label,split\nimg/0.png,sad,dev\n", {}, r"a\.csv:2: 'dev' is not a split; expected train, val or test"),
        ("image,label,split\nimg/0.png,sad,val\n", {}, "the column split has val in every row"),
        ("image,label,x\nimg/0.png,sad,1\n", {"columns": {"left": "x"}}, "a box needs four columns, and left lacks"),
        (
            "image,label,left,top,width,height\nimg/0.png,sad,1,1,0,5\n",
            {},
            r"a\.csv:2: width is '0'; expected a number",
        ),
        ("image,label,left,top,width,height\nimg/0.png,sad,nan,1,5,5\n", {}, r"a\.csv:2: left is 'nan'; expected a"),
        (
            "image,label\nout/0.png,sad\n",
            {},
            r"out: a link on this path leads out of .* Put the files themselves there",
        ),
    ],
)
def test_a_bad_csv_is_refused(root: Path, text: str, options: dict[str, Any], message: str) -> None:
    outside = root / "elsewhere"
    inner = root / "csv"
    touch(outside / "0.png", inner / "img" / "0.png")
    (inner / "out").symlink_to(outside)
    (inner / "a.csv").write_text(text)
    with pytest.raises(BenchError, match=message):
        read(tables.DATASET, inner / "a.csv", **options)


def test_which_csv_must_be_plain(root: Path) -> None:
    with pytest.raises(BenchError, match="not a known layout of a csv file"):
        read(tables.DATASET, root)
    touch(root / "a.csv", root / "b.csv")
    with pytest.raises(BenchError, match=r"this folder has 2 csv files, such as a\.csv. Name the one that is meant"):
        read(tables.DATASET, root)
    for text in ("image,label\nimg/0.png,sad\n", "\ufeffimage,label\n"):
        (root / "c.csv").write_bytes(text.encode("utf-16"))
        with pytest.raises(BenchError, match=r"c\.csv: this is text in UTF-16, .*. Save it as UTF-8"):
            read(tables.DATASET, root / "c.csv")
    (root / "c.csv").write_bytes(b"image,label\n\xff\xfe,sad\n")
    with pytest.raises(BenchError, match=r"c\.csv: this is not a text file"):
        read(tables.DATASET, root / "c.csv")


# ------------------------------------------------------------------------------------------------------------- any text


WILD = st.text(alphabet=st.one_of(st.sampled_from('img/0.png,sad "\n\r\\.;~'), st.characters(codec="utf-8")))


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wild")
    touch(place / "img" / "0.png")
    return place


@settings(max_examples=100, derandomize=True)
@given(text=WILD, header=st.sampled_from(["", "image,label\n", "image,label,split\nimg/0.png,sad,train\n"]))
def test_any_csv_gives_faces_or_one_sentence(wild: Path, text: str, header: str) -> None:
    (wild / "a.csv").write_text(header + text, encoding="utf-8")
    with suppress(BenchError):
        assert read(tables.DATASET, wild).faces


@pytest.mark.parametrize(
    "name", ["x" * 300, "x" * 300 + "/0.png", "a/" * 3000 + "0.png", "a\0b", "~", "img/0.png/1.png"]
)
def test_names_that_no_file_can_have_are_missing_or_refused(wild: Path, name: str) -> None:
    (wild / "a.txt").write_text(f"{name} sad")
    with pytest.raises(BenchError, match=r"none of its faces can be used|the file name is missing"):
        read(lists.DATASET, wild / "a.txt")
