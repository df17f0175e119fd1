"""The generic readers: class folders, csv files and lists."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import read_about
from fergen_bench.datasets import folder, lists, tables
from fergen_bench.datasets.check import check_copy, check_prepared
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.reader import Dataset, Listing
from fergen_bench.datasets.reader import read as read_whole
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError
from greyfaces import draw

NUMBERS = {str(number): name for number, name in enumerate(EXPRESSIONS)}


def read(dataset: Dataset, path: Path, **options: Any) -> Listing:
    layout, base = dataset.layout(path)
    listing = layout.read(base, DomainSettings(path=path, **options))
    assert len({face.id for face in listing.faces}) == len(listing.faces)
    return listing


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Ten files of each expression, of five people, in class folders with usual names."""
    names = ("Suprise", "Afraid", "disgusted", "HA", "sad", "Angry", "NE")
    touch(*(tmp_path / "faces" / name / f"p{number % 5}_{number}.png" for name in names for number in range(10)))
    return tmp_path / "faces"


# -------------------------------------------------------------------------------------------------------- class folders


def test_class_folders_without_splits_get_one(faces: Path) -> None:
    listing = read(folder.DATASET, faces)
    assert Counter((face.split, face.expression) for face in listing.faces) == {
        **{("train", name): 8 for name in EXPRESSIONS},
        **{("test", name): 2 for name in EXPRESSIONS},
    }
    assert listing.about == {"splits": "0.2 of each expression, seed 0"}
    first = next(face for face in listing.faces if face.id == "Suprise/p0_0.png")
    assert (first.expression, first.native_label, first.file) == ("surprise", "Suprise", faces / "Suprise" / "p0_0.png")
    assert not folder.DATASET.layout(faces)[0].official
    other = read(folder.DATASET, faces, split_seed=1)
    assert [face.split for face in listing.faces] != [face.split for face in other.faces]
    assert listing.faces == read(folder.DATASET, faces).faces


def test_subjects_are_found_in_names_and_never_split(faces: Path) -> None:
    listing = read(folder.DATASET, faces, subject=r"^(p\d)_", test_share=0.4)
    people = {part: {face.subject for face in listing.faces if face.split == part} for part in ("train", "test")}
    assert people["test"]
    assert people["train"] | people["test"] == {f"p{number}" for number in range(5)}
    assert not people["train"] & people["test"]


def test_splits_that_are_there_are_kept(faces: Path, tmp_path: Path) -> None:
    for number, path in enumerate(sorted(faces.rglob("*.png"))):
        part = ("train", "Valid", "test")[number % 3]
        touch(tmp_path / "split" / part / path.parent.name / "inner" / path.name)
    listing = read(folder.DATASET, tmp_path / "split")
    assert Counter(face.split for face in listing.faces) == {"train": 24, "val": 23, "test": 23}
    assert listing.about == {"splits": "as given"}
    assert folder.DATASET.layout(tmp_path / "split")[0].official


def test_people_who_are_in_two_given_splits_are_said(faces: Path, tmp_path: Path) -> None:
    for path in sorted(faces.rglob("*.png")):
        part = "test" if path.name.startswith(("p0", "p1")) else "train"
        touch(tmp_path / "split" / part / path.parent.name / path.name)
    settings = DomainSettings(path=tmp_path / "split", subject=r"^(p\d)_")
    assert not read_whole(folder.DATASET, settings)[1].notes
    touch(tmp_path / "split" / "train" / "HA" / "p1_late.png")
    (note,) = read_whole(folder.DATASET, settings)[1].notes
    assert note.startswith("1 subject is in the test split and in what is learned from, such as p1")


def test_own_names_are_mapped_or_left_out_and_counted(faces: Path) -> None:
    (faces / "HA").rename(faces / "joy")
    (faces / "NE").rename(faces / "bored")
    (faces / "sad").rename(faces / "contempt")
    listing = read(folder.DATASET, faces, labels={"joy": "happiness", "bored": ""})
    assert Counter(face.expression for face in listing.faces)["happiness"] == 10
    assert not {"neutral", "sadness"} & {face.expression for face in listing.faces}
    assert listing.dropped == {"bored": 10, "contempt": 10}


def empty(path: Path) -> None:
    for file in path.iterdir():
        file.unlink()


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (
            lambda f: (f / "joy").mkdir(),
            {},
            r"faces/joy: 'joy' is no expression here; .* Say what it is with labels = ",
        ),
        (lambda f: empty(f / "HA"), {}, r"faces/HA: this class folder holds no images; remove it if"),
        (lambda f: (f / "train").mkdir(), {}, r"faces/Afraid: stands beside train, but is no split"),
        (lambda f: touch(f / "HA" / "P0_0.PNG"), {}, r"faces/HA: P0_0\.PNG and p0_0\.png differ only in case"),
        (lambda f: (f / "HA" / "p.png").symlink_to("/etc/hostname"), {}, r"HA/p\.png: this link leads out of "),
        (lambda f: None, {"subject": r"x(\d)"}, r"p0_0\.png: the pattern subject = .* finds no subject in this name"),
    ],
)
def test_bad_class_folders_are_refused(faces: Path, spoil: Any, options: dict[str, Any], message: str) -> None:
    spoil(faces)
    with pytest.raises(BenchError, match=message):
        read(folder.DATASET, faces, **options)


def test_folders_without_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there are no class folders; expected surprise, fear"):
        read(folder.DATASET, tmp_path)
    touch(tmp_path / "val" / "happy" / "1.png")
    with pytest.raises(BenchError, match="has val but neither train nor test"):
        read(folder.DATASET, tmp_path)
    touch(tmp_path / "train" / "1.png")
    (tmp_path / "val").rename(tmp_path / ".val")
    with pytest.raises(BenchError, match="there are no class folders"):
        read(folder.DATASET, tmp_path)


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
        ("", {}, r"a\.csv: is empty; expected a csv"),
        ("image,label\n", {}, r"a\.csv: has a first line and no rows"),
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
            "columns: 'lable' is nothing .* did you mean label",
        ),
        ("image;label\nimg/0.png;sad\n", {}, r"a\.csv:1: columns are divided by ';' here; expected commas"),
        ("image\tlabel\nimg/0.png\tsad\n", {}, r"a\.csv:1: columns are divided by '\\t' here; expected commas"),
        ("image,label,Label\nimg/0.png,sad,sad\n", {}, "two columns are named Label; rename one"),
        ("image,label\nimg/0.png,sad,3\n", {}, r"a\.csv:2: has 3 columns where the first line has 2"),
        ("image,label\nimg/0.png,3\n", {}, r"a\.csv:2: '3' is no expression here; .* every one of them means: 3=…"),
        ("image,label\nimg/0.png,\n", {}, r"a\.csv:2: '' is no expression here"),
        ("image,label\n,sad\n", {}, r"a\.csv:2: there is no file name where one is expected"),
        ("image,label\n.,sad\n", {}, r"a\.csv:2: there is no file name where one is expected"),
        ("image,label\n../0.png,sad\n", {}, r"a\.csv:2: '\.\./0\.png' leads out of "),
        ("image,label\n/img/0.png,sad\n", {}, r"a\.csv:2: '/img/0\.png' is an absolute path that does not lie in"),
        ("image,label\nx/0.png,sad\n", {}, r"a\.csv: none of its faces can be used .*1 missing.* images = "),
        ("image,label\nimg/0.png,sad\n", {"images": Path("/nowhere")}, "/nowhere: there is no such folder; say where"),
        (
            "image,label\nimg/0.png,dull\n",
            {"labels": {"dull": ""}},
            "none of its faces can be used .*1 left out: dull.; see to labels = ",
        ),
        ("image,label,split\nimg/0.png,sad,dev\n", {}, r"a\.csv:2: 'dev' is no split; expected train, val or test"),
        ("image,label,split\nimg/0.png,sad,val\n", {}, "the column split says val for every face"),
        (
            "image,label,x\nimg/0.png,sad,1\n",
            {"columns": {"left": "x"}},
            "a box needs four columns; left is there without",
        ),
        (
            "image,label,left,top,width,height\nimg/0.png,sad,1,1,0,5\n",
            {},
            r"a\.csv:2: width is '0'; expected a number",
        ),
        ("image,label,left,top,width,height\nimg/0.png,sad,nan,1,5,5\n", {}, r"a\.csv:2: left is 'nan'; expected a"),
        (
            "image,label\nout/0.png,sad\n",
            {},
            r"out: a link on this path leads out of .* put the files themselves there",
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
    with pytest.raises(BenchError, match="holds no layout of a csv file"):
        read(tables.DATASET, root)
    touch(root / "a.csv", root / "b.csv")
    with pytest.raises(BenchError, match=r"holds 2 csv files, such as a\.csv; name the one that is meant"):
        read(tables.DATASET, root)
    for text in ("image,label\nimg/0.png,sad\n", "\ufeffimage,label\n"):
        (root / "c.csv").write_bytes(text.encode("utf-16"))
        with pytest.raises(BenchError, match=r"c\.csv: is text in UTF-16, .*; save it as UTF-8"):
            read(tables.DATASET, root / "c.csv")
    (root / "c.csv").write_bytes(b"image,label\n\xff\xfe,sad\n")
    with pytest.raises(BenchError, match=r"c\.csv: is no text file"):
        read(tables.DATASET, root / "c.csv")


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
        ("", {}, r"a\.txt: is empty; expected lines such as"),
        ("img/0.png 3", {}, r"a\.txt:1: '3' is no expression here; .* numbering .* every one of them means: 3=…"),
        ("img/0.png 8", {"labels": NUMBERS}, r"a\.txt:1: '8' is no expression here"),
        ("img/0.png", {}, r"a\.txt:1: expected 2 columns with blanks between them"),
        ("img/0.png,sad", {}, r"a\.txt:1: expected 2 columns with blanks between them"),
        ("img/0.png joyous", {}, r"a\.txt:1: 'joyous' is no expression here"),
        ("img/../../0.png sad", {}, r"a\.txt:1: 'img/\.\./\.\./0\.png' leads out of "),
        ("C:\\img\\0.png sad", {}, r"a\.txt:1: .* begins with a drive of another machine"),
        ("x/0.png sad", {}, r"a\.txt: none of its faces can be used .*1 missing"),
        ("img/0.png sad", {"images": Path("/nowhere")}, "/nowhere: there is no such folder"),
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
        BenchError, match=r"notes\.txt: is one of 2 lists, but its name says neither train, val nor test"
    ):
        read(lists.DATASET, root)
    (root / "notes.txt").rename(root / "val.txt")
    (root / "train.txt").rename(root / "valid.txt")
    with pytest.raises(BenchError, match="has lists for val but for neither train nor test"):
        read(lists.DATASET, root)


# ------------------------------------------------------------------------------------------------------------- any text


WILD = st.text(alphabet=st.one_of(st.sampled_from('img/0.png,sad "\n\r\\.;~'), st.characters(codec="utf-8")))


@pytest.fixture(scope="module")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("wild")
    touch(place / "img" / "0.png")
    return place


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=WILD, header=st.sampled_from(["", "image,label\n", "image,label,split\nimg/0.png,sad,train\n"]))
def test_any_csv_gives_faces_or_one_sentence(wild: Path, text: str, header: str) -> None:
    (wild / "a.csv").write_text(header + text, encoding="utf-8")
    with suppress(BenchError):
        assert read(tables.DATASET, wild).faces


@settings(max_examples=100, deadline=None, derandomize=True)
@given(text=WILD, begin=st.sampled_from(["", "img/0.png sad\n"]), end=st.sampled_from(["", " happy"]))
def test_any_list_gives_faces_or_one_sentence(wild: Path, text: str, begin: str, end: str) -> None:
    (wild / "a.txt").write_text(begin + text + end, encoding="utf-8")
    with suppress(BenchError):
        assert read(lists.DATASET, wild).faces


@pytest.mark.parametrize(
    "name", ["x" * 300, "x" * 300 + "/0.png", "a/" * 3000 + "0.png", "a\0b", "~", "img/0.png/1.png"]
)
def test_names_that_no_file_can_have_are_missing_or_refused(wild: Path, name: str) -> None:
    (wild / "a.txt").write_text(f"{name} sad")
    with pytest.raises(BenchError, match=r"none of its faces can be used|there is no file name"):
        read(lists.DATASET, wild / "a.txt")
