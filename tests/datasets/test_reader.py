"""The choice of a layout, and the errors of a copy that cannot be read."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from touched import touch

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.datasets import folder, tables
from fergen_bench.datasets.files import images
from fergen_bench.datasets.reader import Dataset, Face, Layout, Listing, read
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.error import BenchError, NeedsKey
from greyfaces import draw

# -------------------------------------------------------------------------------------------------------------- folders


# -------------------------------------------------------------------------------------------------------------- layouts


def folder_layout(name: str, label: str, asked_only: bool = False, official: bool = True) -> Layout:
    """One image per file of a folder, all of one label."""

    def read(base: Path, _: DomainSettings) -> Listing:
        return Listing([Face(f"{path.name}", "test", label, label, path) for path in images(base, base)])

    return Layout(name, f"{name}/*.jpg", lambda path: path.name == name, read, official, asked_only, roots=(name,))


@pytest.mark.parametrize(
    ("second", "official", "chosen"), [("fear", True, True), ("anger", True, False), ("fear", False, False)]
)
def test_the_first_of_two_layouts_must_be_official_and_have_all_faces(
    tmp_path: Path, second: str, official: bool, chosen: bool
) -> None:
    touch(tmp_path / "one" / "a.jpg", tmp_path / "one" / "b.jpg", tmp_path / "two" / "a.jpg")
    layouts = folder_layout("one", "fear", official=official), folder_layout("two", second)
    dataset = Dataset("some", "Some", layouts)
    if chosen:
        assert dataset.layout(tmp_path)[0].name == "one"
        touch(tmp_path / "two" / "c.jpg")
    with pytest.raises(BenchError, match=r"2 layouts of Some fit, one and two. Choose one with --layout"):
        dataset.layout(tmp_path)
    assert dataset.layout(tmp_path, "two")[1] == tmp_path / "two"


def test_the_error_without_a_layout_lists_what_was_expected_and_found(tmp_path: Path) -> None:
    dataset = Dataset("some", "Some", (folder_layout("one", "fear"), folder_layout("two", "fear", asked_only=True)))
    with pytest.raises(
        BenchError, match=r"The folder is empty; expected one of\n  one: one/\*\.jpg\n  two: .* --layout"
    ):
        dataset.layout(tmp_path)
    touch(tmp_path / "two" / "a.jpg")
    with pytest.raises(BenchError, match="The folder has two/; expected"):
        dataset.layout(tmp_path)
    assert dataset.layout(tmp_path, "two")[0].name == "two"
    with pytest.raises(BenchError, match="some does not have a layout 'twoo'; did you mean two"):
        dataset.layout(tmp_path, "twoo")
    with pytest.raises(BenchError, match="absent: cannot be read: No such file"):
        dataset.layout(tmp_path / "absent")


def test_a_layout_is_found_in_the_only_folder_that_is_there(tmp_path: Path) -> None:
    touch(tmp_path / "archive" / "data" / "one" / "a.jpg")
    dataset = Dataset("some", "Some", (folder_layout("one", "fear"),))
    assert dataset.layout(tmp_path)[1] == tmp_path / "archive" / "data" / "one"
    touch(tmp_path / "archive" / "other" / "b.jpg")
    with pytest.raises(BenchError, match="this is not a known layout of Some"):
        dataset.layout(tmp_path)


def test_what_the_system_refuses_while_a_copy_is_read_is_named(tmp_path: Path) -> None:
    def refuse(base: Path, _: DomainSettings) -> Listing:
        raise PermissionError(errno.EACCES, "Permission denied", str(base / "a.jpg"))

    dataset = Dataset("some", "Some", (Layout("one", "*.jpg", Path.is_dir, refuse),))
    with pytest.raises(BenchError, match=r"a\.jpg: cannot be read: Permission denied"):
        read(dataset, DomainSettings(path=tmp_path))


# --------------------------------------------------------------------------------------------- settings without effect


def class_folder(root: Path) -> Path:
    for name in EXPRESSIONS:
        for number in range(5):
            draw(root / name / f"{number}.png", name, number)
    return root


def split_folder(root: Path) -> Path:
    for part in ("train", "test"):
        class_folder(root / part)
    return root


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (class_folder, "margin", 0.1),
        (split_folder, "margin", 0.1),
        (split_folder, "test_share", 0.5),
        (split_folder, "split_seed", 1),
    ],
)
def test_a_setting_without_effect_is_refused(
    tmp_path: Path, make: Callable[[Path], Path], key: str, value: float
) -> None:
    root = make(tmp_path / "lab")
    assert read(folder.DATASET, DomainSettings(path=root))[1].faces
    with pytest.raises(NeedsKey, match=f"lab: {key} has no effect: .* Remove {key} = …") as caught:
        read(folder.DATASET, DomainSettings.model_validate({"path": root, key: value}))
    assert caught.value.on_command_line.endswith(f"Remove --{key.replace('_', '-')}")


def test_a_drawn_split_follows_its_settings(tmp_path: Path) -> None:
    root = class_folder(tmp_path / "lab")
    settings = DomainSettings(path=root, test_share=0.4, split_seed=3)
    _, listing = read(folder.DATASET, settings)
    assert sum(face.split == "test" for face in listing.faces) == 14
    assert listing.about["splits"] == "0.4 of each expression, seed 3"


def test_a_pattern_beside_a_column_of_subjects_is_refused(tmp_path: Path) -> None:
    rows = [f"{name}/{number}.png,{name},p{number}" for name in EXPRESSIONS for number in range(5)]
    path = class_folder(tmp_path / "lab") / "faces.csv"
    path.write_text("\n".join(["image,label,subject", *rows]))
    assert {face.subject for face in read(tables.DATASET, DomainSettings(path=path))[1].faces} == {
        f"p{number}" for number in range(5)
    }
    with pytest.raises(NeedsKey, match="subject has no effect: the column subject gives the subjects"):
        read(tables.DATASET, DomainSettings(path=path, subject="(.)"))
