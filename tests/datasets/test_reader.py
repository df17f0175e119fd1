"""What all readers share: names and links in folders, labels, tables and lists, the choice of a layout."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import folder
from fergen_bench.datasets.faces import (
    SPLITS,
    class_folders,
    expression_of,
    list_layout,
    split_class_folders,
    split_named,
    with_splits,
)
from fergen_bench.datasets.files import Files, entries, images, inside, list_file, nearest, table, whole_number
from fergen_bench.datasets.reader import Dataset, Face, Layout, Listing, read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError, NeedsKey

few = settings(max_examples=100, deadline=None, derandomize=True)
TEXTS = some.one_of(
    some.binary(max_size=200),
    some.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    some.text(alphabet='a.jpg 1"\r\n,;\t\0', max_size=200).map(str.encode),
)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch") / "file.txt"


def outcome(call: Callable[[], object]) -> tuple[Any, str]:
    """What a call gives, or the sentence with which it refuses; any other exception fails the test."""
    try:
        return call(), ""
    except BenchError as error:
        return None, str(error)


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
@given(TEXTS)
def test_a_list_layout_of_anything_ends_in_a_listing_or_one_sentence(scratch: Path, content: bytes) -> None:
    scratch.write_bytes(b"a.jpg 1\n" + content)
    listing, refusal = outcome(lambda: list_layout({"1": "fear"}).read(scratch, DomainSettings(path=scratch)))
    assert listing is None  # nothing of it is there
    assert str(scratch.parent) in refusal


@few
@given(some.text(max_size=30))
def test_a_path_of_anything_is_below_the_root_or_refused(relative: str) -> None:
    path, refusal = outcome(lambda: inside(Path("/data"), relative, "list.txt:1"))
    if path is None:
        assert refusal.startswith("list.txt:1: ")
    else:
        assert Path("/data") in Path(os.path.normpath(path)).parents


@few
@given(some.text(max_size=10))
def test_a_number_of_anything_is_in_its_range_or_refused(text: str) -> None:
    number, refusal = outcome(lambda: whole_number(text, 0, 6, "a:1", "the label"))
    assert refusal.startswith("a:1: the label is ") if number is None else 0 <= number <= 6


def test_a_name_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    assert not Files(tmp_path).has(tmp_path / ("a" * 5000) / "b.jpg")


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
        (b"", r"file: is empty; expected a csv with the columns image, label"),
        (b"a.png,3\n", r"file:1: the first line must name the columns, and image, label is not among them"),
        (b"image\tlabel\n", r"file:1: columns are divided by '\\t' here; expected commas"),
        (b"image,label\na.png\n", r"file:2: has 1 columns where the first line has 2"),
        (b"image,label\n\xff\xff\n", r"file: is no text file"),
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


@pytest.mark.parametrize(
    "relative", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "C:\\a.jpg", "..\\a.jpg", " ", ".", "a\0b"]
)
def test_a_path_out_of_the_root_is_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(
        BenchError, match=r"list\.txt:3: (.* leads out|.* does not lie in|.* a drive of|there is no file name)"
    ):
        inside(tmp_path, relative, "list.txt:3")


def test_an_absolute_path_is_read_where_it_lies_in_the_root(tmp_path: Path) -> None:
    (tmp_path / "data" / "img").mkdir(parents=True)
    (tmp_path / "short").symlink_to("data")
    for root in (tmp_path / "data", tmp_path / "short"):
        for spelling in ("data/img/a.jpg", "short/img/a.jpg", "data/img/../img/a.jpg"):
            assert inside(root, str(tmp_path / spelling), "x:1") == root / "img" / "a.jpg"
        assert inside(root, "img/../img/a.jpg", "x:1") == root / "img" / "a.jpg"
    assert inside(Path("/"), "/any/a.jpg", "x:1") == Path("/any/a.jpg")
    with pytest.raises(NeedsKey) as caught:
        inside(tmp_path / "data", str(tmp_path / "a.jpg"), "x:1", movable=True)
    assert "is an absolute path that does not lie in" in str(caught.value)
    assert caught.value.on_command_line.endswith("or / for the whole disk: --images …")
    with pytest.raises(BenchError, match="paths must lie below it"):
        inside(tmp_path / "data", str(tmp_path / "a.jpg"), "x:1")


@pytest.mark.parametrize(
    ("listed", "there", "found"),
    [
        ("film.happy.001", "film.happy.001.png", "film.happy.001.png"),
        ("film.happy.001", "film.happy.png", None),  # another image
        ("film.happy.001.jpg", "film.happy.001.png", "film.happy.001.png"),
        ("film.happy.jpg", "film.happy.jpg.png", "film.happy.jpg.png"),
        ("a.png", "a.PNG", "a.PNG"),
        ("a", "a.jpeg", "a.jpeg"),
        ("cafe\u0301/e\u0301.png", "caf\xe9/\xe9.png", "caf\xe9/\xe9.png"),
        ("caf\xe9/\xe9.jpg", "cafe\u0301/e\u0301.png", "cafe\u0301/e\u0301.png"),
        ("caf\xe9/\xe9.1", "cafe\u0301/e\u0301.1.png", "cafe\u0301/e\u0301.1.png"),
        ("b.png", "a.png", None),
    ],
)
def test_a_listed_name_finds_its_file(tmp_path: Path, listed: str, there: str, found: str | None) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).touch()
    assert Files(tmp_path).image(tmp_path / listed) == (tmp_path / found if found else None)


def test_of_two_images_that_fit_a_name_none_is_taken(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.txt"):
        (tmp_path / name).touch()
    assert Files(tmp_path).image(tmp_path / "a.bmp") is None
    assert Files(tmp_path).image(tmp_path / "a") is None
    assert Files(tmp_path).image(tmp_path / "a.jpg") == tmp_path / "a.jpg"


def test_links_are_followed_where_the_user_says_so(tmp_path: Path) -> None:
    outside, inner = tmp_path / "store", tmp_path / "data"
    for number, name in enumerate(EXPRESSIONS):
        for image in range(5):
            path = outside / name / f"{number}{image}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    inner.mkdir()
    for name in EXPRESSIONS:
        (inner / name).symlink_to(outside / name)
    with pytest.raises(NeedsKey) as caught:
        read(folder.DATASET, DomainSettings(path=inner))
    assert caught.value.on_command_line.endswith("or allow such links with --follow-links")
    settings = DomainSettings(path=inner, follow_links=True)
    assert len(read(folder.DATASET, settings)[1].faces) == 35
    (outside / "fear" / "back").symlink_to(inner)
    with pytest.raises(BenchError, match=r"fear/back: this link leads back to where it stands; remove it"):
        read(folder.DATASET, settings)


@pytest.mark.parametrize("text", ["7", "-1", "1.5", "nan", "inf", "", "x"])
def test_a_label_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(BenchError, match=r"a:1: the label is .*; expected a whole number from 0 to 6"):
        whole_number(text, 0, 6, "a:1", "the label")
    assert whole_number("3.0", 0, 6, "a:1", "the label") == 3


# -------------------------------------------------------------------------------------------------------------- folders


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_images_are_found_by_their_suffix_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["b/z.PNG", "a.jpg", "b/a.jpeg", "notes.txt", ".hidden.jpg", "c.webp"]
    touch(*(tmp_path / name for name in names))
    found = [path.relative_to(tmp_path).as_posix() for path in images(tmp_path, tmp_path)]
    assert found == ["a.jpg", "b/a.jpeg", "b/z.PNG", "c.webp"]


def test_names_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "Happy" / "a.jpg", tmp_path / "happy" / "a.jpg")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    with pytest.raises(BenchError, match="Happy and happy differ only in case; rename or remove one"):
        entries(tmp_path, tmp_path)


def test_links_out_of_the_root_are_refused_and_links_inside_are_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root / "a.jpg", outside / "b.jpg")
    (root / "link.jpg").symlink_to(root / "a.jpg")
    assert len(images(root, root)) == 2
    (root / "out.jpg").symlink_to(outside / "b.jpg")
    with pytest.raises(BenchError, match=r"out\.jpg: this link leads out of .*; put the files themselves there"):
        images(root, root)
    (root / "out.jpg").unlink()
    (root / "Image").symlink_to(outside)
    with pytest.raises(BenchError, match=r"Image: this link leads out of"):
        images(root, root)
    with pytest.raises(BenchError, match=r"Image: a link on this path leads out of"):
        Files(root).has(root / "Image" / "b.jpg")


@pytest.mark.parametrize("target", [".", "loop", "../root"])
def test_links_in_a_circle_are_refused(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    touch(root / "a.jpg")
    (root / "loop").symlink_to(target)
    with pytest.raises(BenchError, match="loop: this link leads back to where it stands; remove it"):
        images(root, root)


def test_a_file_is_found_under_another_ending_if_only_one_has_it(tmp_path: Path) -> None:
    touch(tmp_path / "a.PNG", tmp_path / "a.txt", tmp_path / "b.png", tmp_path / "b.bmp")
    files = Files(tmp_path)
    assert files.image(tmp_path / "a.jpg") == tmp_path / "a.PNG"
    assert files.image(tmp_path / "b.jpg") is None
    assert files.image(tmp_path / "b.bmp") == tmp_path / "b.bmp"


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(BenchError, match="cannot be read: Permission denied; see to its permissions"):
        entries(tmp_path, tmp_path)
    layout = Layout("plain", "*.jpg", lambda path: bool(list(os.scandir(path))), lambda base, _: Listing())
    with pytest.raises(BenchError, match=f"^{tmp_path}: cannot be read: Permission denied"):
        Dataset("some", "Some", (layout,)).layout(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0)
    try:
        with pytest.raises(BenchError, match="cannot be read: Permission denied"):
            entries(tmp_path, tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_unknown_and_empty_class_folders_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "fear" / "a.jpg", tmp_path / "Contempt" / "b.jpg", tmp_path / "none" / "c.jpg")
    labels, listing = {"none": ""}, Listing()
    found = list(class_folders(tmp_path, tmp_path, "train", labels, listing))
    assert [(face.id, face.expression, face.native_label) for face in found] == [("fear/a.jpg", "fear", "fear")]
    assert listing.dropped == {"contempt": 1, "none": 1}
    (tmp_path / "suprise").mkdir()
    with pytest.raises(BenchError, match="suprise: this class folder holds no images"):
        list(class_folders(tmp_path, tmp_path, "train", labels, listing))
    (tmp_path / "suprise").rename(tmp_path / "joy")
    with pytest.raises(
        BenchError, match=r"""joy: 'joy' is no expression here; .* labels = \{ "joy" = "happiness" \}"""
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
    with pytest.raises(BenchError, match="train: Training stands beside it, and both mean train; remove one"):
        list(split_class_folders(tmp_path, {}, listing))


def test_the_users_map_comes_before_the_usual_names() -> None:
    assert expression_of("AF", {}, "a") == "fear"
    assert expression_of("AF", {"AF": "anger"}, "a") == "anger"
    assert expression_of("Contempt", {}, "a") == ""
    with pytest.raises(BenchError, match=r"labels\.csv:4: '7' is no expression here; .* every one of them means: 7=…"):
        expression_of("7", {"0": "anger", "1": "fear"}, "labels.csv:4")


@pytest.mark.parametrize(
    ("native", "in_toml", "on_command_line"),
    [
        (
            "Joy",
            'Say what it is with labels = { "Joy" = "happiness" }, or "" to leave it out',
            "--labels Joy=happiness",
        ),
        ("hapiness", 'labels = { "hapiness" = "happiness" }', "--labels hapiness=happiness, or --labels hapiness= to"),
        ("scared", 'labels = { "scared" = "fear" }', "--labels scared=fear"),
        ("bored", 'Say which of the seven it is with labels = { "bored" = "…" }', "--labels bored=…"),
        (
            "a,b",
            'labels = { "a,b" = "…" }',
            'labels = { "a,b" = "…" }, or "" to leave it out, in a table of bench.toml',
        ),
    ],
)
def test_an_unknown_label_is_advised_as_the_reader_can_write_it(
    native: str, in_toml: str, on_command_line: str
) -> None:
    with pytest.raises(NeedsKey) as caught:
        expression_of(native, {}, "a.csv:2")
    assert str(caught.value).startswith(f"a.csv:2: {native!r} is no expression here; expected surprise, fear")
    assert in_toml in str(caught.value)
    assert on_command_line in caught.value.on_command_line


def test_a_split_is_taken_where_there_is_none_and_people_stay_whole() -> None:
    faces = [Face(f"{n}", "", EXPRESSIONS[n % 7], "", subject=f"p{n // 7}") for n in range(70)]
    made = with_splits(faces, DomainSettings(path=Path(), test_share=0.3))
    assert [(face.id, face.expression) for face in made] == [(face.id, face.expression) for face in faces]
    test = {face.subject for face in made if face.split == "test"}
    assert len(test) == 3
    assert not test & {face.subject for face in made if face.split == "train"}


@pytest.mark.parametrize(
    ("people", "settings", "message"),
    [
        (
            1,
            {"subject": "^([^_]+)_"},
            r"lab: the test split would have no faces: the pattern subject = '\^\(\[\^_\]\+\)_' "
            r"finds 1 subject in 70 faces, and nobody may be in both splits; write one that tells people apart, or",
        ),
        (1, {}, "the test split would have no faces: there is 1 subject in 70 faces, .* splits; divide the faces into"),
        (7, {"test_share": 0.99}, "the train split would have no faces: there are 7 subjects .* test_share = 0.99, or"),
    ],
)
def test_a_generated_split_without_faces_is_refused(people: int, settings: dict[str, Any], message: str) -> None:
    faces = [Face(f"{n}", "", EXPRESSIONS[n % 7], "", subject=f"p{n % people}") for n in range(70)]
    with pytest.raises(BenchError, match=message):
        with_splits(faces, DomainSettings(path=Path("lab"), **settings))


# -------------------------------------------------------------------------------------------------------------- layouts


def folder_layout(name: str, label: str, asked_only: bool = False, official: bool = True) -> Layout:
    """One image per file of a folder, all of one label."""

    def read(base: Path, _: DomainSettings) -> Listing:
        return Listing([Face(f"{path.name}", "test", label, label, path) for path in images(base, base)])

    return Layout(name, f"{name}/*.jpg", lambda path: path.name == name, read, official, asked_only, roots=(name,))


@pytest.mark.parametrize(
    ("second", "official", "chosen"), [("fear", True, True), ("anger", True, False), ("fear", False, False)]
)
def test_of_two_layouts_the_first_is_taken_only_if_it_is_official_and_holds_all(
    tmp_path: Path, second: str, official: bool, chosen: bool
) -> None:
    touch(tmp_path / "one" / "a.jpg", tmp_path / "one" / "b.jpg", tmp_path / "two" / "a.jpg")
    layouts = folder_layout("one", "fear", official=official), folder_layout("two", second)
    dataset = Dataset("some", "Some", layouts)
    if chosen:
        assert dataset.layout(tmp_path)[0].name == "one"
        touch(tmp_path / "two" / "c.jpg")
    with pytest.raises(BenchError, match="holds 2 layouts of Some at once, one and two; say which with --layout"):
        dataset.layout(tmp_path)
    assert dataset.layout(tmp_path, "two")[1] == tmp_path / "two"


def test_no_layout_says_what_was_expected_and_what_was_found(tmp_path: Path) -> None:
    dataset = Dataset("some", "Some", (folder_layout("one", "fear"), folder_layout("two", "fear", asked_only=True)))
    with pytest.raises(BenchError, match=r"It holds nothing; expected one of\n  one: one/\*\.jpg\n  two: .* --layout"):
        dataset.layout(tmp_path)
    touch(tmp_path / "two" / "a.jpg")
    with pytest.raises(BenchError, match="It holds two/; expected"):
        dataset.layout(tmp_path)
    assert dataset.layout(tmp_path, "two")[0].name == "two"
    with pytest.raises(BenchError, match="some has no layout 'twoo'; did you mean two"):
        dataset.layout(tmp_path, "twoo")
    with pytest.raises(BenchError, match="absent: cannot be read: No such file"):
        dataset.layout(tmp_path / "absent")


def test_the_nearest_place_is_the_base_and_hidden_ones_are_none(tmp_path: Path) -> None:
    touch(tmp_path / ".old" / "list.txt", tmp_path / "a" / "b" / "list.txt")
    for place in (tmp_path / "a" / "b", tmp_path / "a", tmp_path):
        touch(place / "list.txt")
        assert nearest(tmp_path, lambda base: (base / "list.txt").is_file(), ["*/*"]) == place


def test_a_layout_is_found_in_the_only_folder_that_is_there(tmp_path: Path) -> None:
    touch(tmp_path / "archive" / "data" / "one" / "a.jpg")
    dataset = Dataset("some", "Some", (folder_layout("one", "fear"),))
    assert dataset.layout(tmp_path)[1] == tmp_path / "archive" / "data" / "one"
    touch(tmp_path / "archive" / "other" / "b.jpg")
    with pytest.raises(BenchError, match="holds no layout of Some"):
        dataset.layout(tmp_path)


def test_what_the_system_refuses_while_a_copy_is_read_is_named(tmp_path: Path) -> None:
    def refuse(base: Path, _: DomainSettings) -> Listing:
        raise PermissionError(errno.EACCES, "Permission denied", str(base / "a.jpg"))

    dataset = Dataset("some", "Some", (Layout("one", "*.jpg", Path.is_dir, refuse),))
    with pytest.raises(BenchError, match=r"a\.jpg: cannot be read: Permission denied"):
        read(dataset, DomainSettings(path=tmp_path))


def test_a_root_is_found_from_any_folder_on_the_way(tmp_path: Path) -> None:
    place = tmp_path / "RAF" / "basic"
    touch(place / "list.txt")
    for start in (tmp_path, tmp_path / "RAF", place):
        assert nearest(start, lambda base: (base / "list.txt").is_file(), ["RAF/basic"]) == place
    assert nearest(tmp_path, lambda base: (base / "list.txt").is_file(), ["basic"]) is None
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "basic").symlink_to(place)
    with pytest.raises(BenchError, match="basic: a link on this path leads out of"):
        nearest(tmp_path / "other", lambda base: (base / "list.txt").is_file(), ["basic"])


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
def test_a_split_stands_in_a_name_as_a_word(name: str, split: str | None) -> None:
    assert split_named(name, SPLITS) == split


def test_lists_of_which_only_some_say_the_split_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "train" / "a.jpg", tmp_path / "more" / "b.jpg")
    (tmp_path / "label.txt").write_text("train/a.jpg 0\nmore/b.jpg 0\n")
    layout = list_layout({"0": "anger"})
    assert layout.fits(tmp_path)
    with pytest.raises(
        BenchError, match=r"train/a\.jpg is of the train split, but nothing says of which more/b\.jpg is"
    ):
        layout.read(tmp_path, DomainSettings(path=tmp_path))


def test_a_text_file_that_is_no_list_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("Please cite us.\n")
    (tmp_path / "empty.txt").touch()
    assert not list_layout({}).fits(tmp_path)
    assert not list_layout({}).fits(tmp_path / "README.txt")
