"""Names, links and paths in folders of any content."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from touched import outcome, touch

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import folder
from fergen_bench.datasets.files import Files, entries, images, inside, nearest, packed
from fergen_bench.datasets.reader import Dataset, Layout, Listing, read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError, NeedsKey

few = settings(max_examples=100, derandomize=True)


@few
@given(some.text(max_size=30))
def test_a_path_of_anything_is_below_the_root_or_refused(relative: str) -> None:
    path, refusal = outcome(lambda: inside(Path("/data"), relative, "list.txt:1"))
    if path is None:
        assert refusal.startswith("list.txt:1: ")
    else:
        assert Path("/data") in Path(os.path.normpath(path)).parents


def test_a_name_that_no_file_can_have_is_missing(tmp_path: Path) -> None:
    assert not Files(tmp_path).has(tmp_path / ("a" * 5000) / "b.jpg")


@pytest.mark.parametrize(
    "relative", ["../a.jpg", "a/../../b.jpg", "/etc/a.jpg", "C:\\a.jpg", "..\\a.jpg", " ", ".", "a\0b"]
)
def test_a_path_out_of_the_root_is_refused(tmp_path: Path, relative: str) -> None:
    with pytest.raises(
        BenchError, match=r"list\.txt:3: (.* leads out|.* does not lie in|.* a drive of|the file name is missing)"
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
    with pytest.raises(BenchError, match="Paths must lie below it"):
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


def test_the_case_of_an_ending_is_ignored_even_beside_another_image(tmp_path: Path) -> None:
    touch(tmp_path / "a.jpg", tmp_path / "a.png")
    files = Files(tmp_path)
    assert files.image(tmp_path / "a.JPG") == tmp_path / "a.jpg"
    assert files.image(tmp_path / "a.Png") == tmp_path / "a.png"
    assert files.image(tmp_path / "a.bmp") is None


def test_two_images_that_fit_a_name_are_not_used(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.txt"):
        (tmp_path / name).touch()
    assert Files(tmp_path).image(tmp_path / "a.bmp") is None
    assert Files(tmp_path).image(tmp_path / "a") is None
    assert Files(tmp_path).image(tmp_path / "a.jpg") == tmp_path / "a.jpg"


def test_links_are_followed_where_the_user_allows_it(tmp_path: Path) -> None:
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
    with pytest.raises(BenchError, match=r"fear/back: this link leads back to its own folder. Remove it"):
        read(folder.DATASET, settings)


# -------------------------------------------------------------------------------------------------------------- folders


def test_images_are_found_by_their_suffix_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["b/z.PNG", "a.jpg", "b/a.jpeg", "notes.txt", ".hidden.jpg", "c.webp"]
    touch(*(tmp_path / name for name in names))
    found = [path.relative_to(tmp_path).as_posix() for path in images(tmp_path, tmp_path)]
    assert found == ["a.jpg", "b/a.jpeg", "b/z.PNG", "c.webp"]


def test_names_that_differ_only_in_case_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "Happy" / "a.jpg", tmp_path / "happy" / "a.jpg")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    with pytest.raises(BenchError, match=r"Happy and happy differ only in case. Rename or remove one"):
        entries(tmp_path, tmp_path)


def test_links_out_of_the_root_are_refused_and_links_inside_are_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    touch(root / "a.jpg", outside / "b.jpg")
    (root / "link.jpg").symlink_to(root / "a.jpg")
    assert len(images(root, root)) == 2
    (root / "out.jpg").symlink_to(outside / "b.jpg")
    with pytest.raises(BenchError, match=r"out\.jpg: this link leads out of .*. Put the files themselves there"):
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
    with pytest.raises(BenchError, match=r"loop: this link leads back to its own folder. Remove it"):
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


def test_the_nearest_folder_is_the_base_and_hidden_ones_are_ignored(tmp_path: Path) -> None:
    touch(tmp_path / ".old" / "list.txt", tmp_path / "a" / "b" / "list.txt")
    for place in (tmp_path / "a" / "b", tmp_path / "a", tmp_path):
        touch(place / "list.txt")
        assert nearest(tmp_path, lambda base: (base / "list.txt").is_file(), ["*/*"]) == place


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


def test_archives_are_found_behind_links_inside_the_folder_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "faces.zip").touch()
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "images").symlink_to(tmp_path / "parts")
    assert packed(tmp_path / "copy", tmp_path) == [tmp_path / "copy" / "images" / "faces.zip"]
    with pytest.raises(NeedsKey, match=r"images: this link leads out of .*copy\."):
        packed(tmp_path / "copy", tmp_path / "copy")
    dataset = Dataset("some", "Some", (Layout("one", "one/a.jpg", lambda folder: False, lambda *_: Listing()),))
    with pytest.raises(BenchError, match=r"not a known layout of Some.*Unpack .*faces\.zip first"):
        dataset.layout(tmp_path)
