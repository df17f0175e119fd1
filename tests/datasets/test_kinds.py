"""Images, leftovers of tools, packed archives, data and unknown files, distinguished once for every reader."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fergen_bench.data.domain import Domain
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.prepared import read_about
from fergen_bench.datasets import pixels, reader
from fergen_bench.datasets.affectnet import DATASET as AFFECTNET
from fergen_bench.datasets.check import check_copy, check_prepared
from fergen_bench.datasets.files import at, entries, images
from fergen_bench.datasets.folder import DATASET as FOLDER
from fergen_bench.datasets.jaffe import DATASET as JAFFE
from fergen_bench.datasets.kinds import PassedOver, is_leftover, kind_of
from fergen_bench.datasets.pixels import Unreadable, decode_face
from fergen_bench.datasets.prepare import prepare_dataset
from fergen_bench.datasets.rafdb import DATASET as RAFDB
from fergen_bench.datasets.reader import Face
from fergen_bench.datasets.settings import DomainSettings
from fergen_bench.datasets.sfew import DATASET as SFEW
from fergen_bench.error import BenchError, NeedsKey
from fergen_bench.files.bounded import printable
from greyfaces import draw, read


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "image") for name in ("a.jpg", "a.JFIF", "a.jpe", "a.jpg_large", "a.1.webp.jpg", "a.PPM", "a.pgm")),
        *((name, "image") for name in ("a.pnm", "a.tif", "a.jp2", "a.avif", "a.HEIC", "a.heif", "a.jxl", "a.nef")),
        *((name, "leftover") for name in (".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "a.xmp", ".picasa.ini")),
        *((name, "leftover") for name in ("a.sync-conflict-20260101-101010-ABCDEFG.png", "a.lrdata", "a.png~")),
        ("face (Ana's conflicted copy 2026-01-01).jpg", "leftover"),
        *((name, "archive") for name in ("a.zip", "a.tar.gz", "a.7z.001", "a.z01", "aligned.RAR", "a.tgz")),
        *((name, "data") for name in ("a.txt", "labels.csv", "0_exp.npy", "a.XML")),
        *((name, "unknown") for name in ("a.mp4", "a", "a.001", "a.html")),
    ],
)
def test_the_name_decides_the_kind(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / name).write_bytes(b"something")
    assert kind_of(tmp_path / name) == kind


@pytest.mark.parametrize(
    "name",
    [
        *("__MACOSX", "@eaDir", "#recycle", "@Recycle", "$RECYCLE.BIN", ".thumbnails", ".ipynb_checkpoints"),
        *(".Trash-1000", "System Volume Information", "Previews.lrdata", "__pycache__", "@__thumb"),
    ],
)
def test_folders_of_tools_are_leftovers(name: str) -> None:
    assert is_leftover(name)


@pytest.mark.parametrize("name", ["anger", "trash", "train", "S005", "0", "thumbs", "recycle"])
def test_folders_of_people_are_not_class_folders(name: str) -> None:
    assert not is_leftover(name)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("name", ["face", "film.happy.001", "face.png-large"])
def test_without_a_known_ending_the_content_decides_the_kind(tmp_path: Path, form: str, name: str) -> None:
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {form}")
    Image.new("RGB", (20, 20), "red").save(tmp_path / name, form)
    assert kind_of(tmp_path / name) == "image"


def test_a_file_that_only_begins_like_an_image_is_unknown(tmp_path: Path) -> None:
    for name, content in (("a", b"BMW is a car. It has four wheels, of course."), ("b", b"P6"), ("c", b"RIFF....AVI ")):
        (tmp_path / name).write_bytes(content)
        assert kind_of(tmp_path / name) == "unknown"
    os.mkfifo(tmp_path / "pipe")
    assert kind_of(tmp_path / "pipe") == "unknown"


def test_what_is_passed_over_is_counted_and_the_first_is_named(tmp_path: Path) -> None:
    draw(tmp_path / "a.png", "fear")
    for name in ("Thumbs.db", ".DS_Store", "more.zip", "film.mp4", "notes.txt", "__MACOSX/._a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    passed_over = PassedOver()
    for _ in range(2):  # a folder that is read twice is counted once
        assert images(tmp_path, tmp_path, passed_over) == [tmp_path / "a.png"]
    assert passed_over.sentences() == [
        f"Passed over: 1 packed archive, such as {tmp_path / 'more.zip'}; unpack it if it has faces.",
        f"Passed over: 3 leftover files of tools, such as {tmp_path / '.DS_Store'}.",
        f"Passed over: 1 file of an unknown kind, such as {tmp_path / 'film.mp4'}.",
    ]
    assert len(passed_over.sentences(but="leftover")) == 2


def test_tool_folders_are_neither_expressions_nor_splits_nor_faces(tmp_path: Path) -> None:
    for name in EXPRESSIONS:
        for number in range(5):
            draw(tmp_path / "zip" / "lab" / name / f"{number}.png", name, number)
        for tool in ("@eaDir", ".thumbnails", "__MACOSX"):
            draw(tmp_path / "zip" / "lab" / name / tool / "0.png", name)
    for tool in ("__MACOSX/lab", "lab/__MACOSX", "lab/#recycle", "lab/$RECYCLE.BIN", "lab/.ipynb_checkpoints"):
        draw(tmp_path / "zip" / tool / "anger" / "0.png", "anger")
    _, listing = read(FOLDER, tmp_path / "zip")
    assert len(listing.faces) == 35
    assert len(listing.passed_over.paths["leftover"]) == 4 + 3 * 7
    jaffe = tmp_path / "jaffe"
    for number in range(10):
        draw(jaffe / "jaffedbase" / f"K{'AB'[number % 2]}.AN1.{number}.tiff", "anger", mode="L")
    draw(jaffe / "__MACOSX" / "jaffedbase" / "KC.AN1.1.tiff", "anger")
    assert len(read(JAFFE, jaffe)[1].faces) == 10


def test_a_loose_image_beside_class_folders_or_splits_is_a_fault(tmp_path: Path) -> None:
    for part in ("train", "test"):
        for name in EXPRESSIONS:
            draw(tmp_path / part / name / "0.png", name)
    draw(tmp_path / "train" / "loose.png", "anger")
    draw(tmp_path / "looser.jfif", "anger")
    faults = [(fault.kind, fault.where) for fault in read(FOLDER, tmp_path)[1].faults]
    assert sorted(faults) == [("extra", "looser.jfif"), ("extra", "train/loose.png")]


def test_names_are_found_in_any_case_and_composition(tmp_path: Path) -> None:
    place = tmp_path / "IMAGE" / "Aligne\u0301"
    place.mkdir(parents=True)
    assert at(tmp_path, "Image/align\u00e9") == place
    assert at(tmp_path, "Image/original") == tmp_path / "IMAGE" / "original"
    (tmp_path / "Image").mkdir()
    assert at(tmp_path, "Image") == tmp_path / "Image"
    with pytest.raises(BenchError, match="IMAGE and Image differ only in case"):
        entries(tmp_path, tmp_path)


def test_files_that_are_not_read_are_noted_in_a_prepared_domain(tmp_path: Path) -> None:
    copy, folder = tmp_path / "lab", tmp_path / "data" / "lab"
    for name in EXPRESSIONS:
        for number in range(5):
            draw(copy / name / f"{number}.png", name, number)
    draw(copy / "loose.png", "fear")
    (copy / "more.zip").touch()
    settings = DomainSettings(path=copy)
    prepare_dataset("lab", FOLDER, settings, folder, 1, lambda *_: None)
    notes = [
        f"1 file is not listed, such as: {copy / 'loose.png'} is outside of the class folders.",
        f"Passed over: 1 packed archive, such as {copy / 'more.zip'}; unpack it if it has faces.",
    ]
    about = read_about(folder)
    assert about["notes"] == notes
    for check in (
        check_copy("lab", FOLDER, settings, 1, lambda *_: None),
        check_prepared("lab", FOLDER, folder, lambda *_: None),
    ):
        assert [finding.what.rstrip(".") for finding in check.findings if finding.level == "note"][-2:] == [
            note.rstrip(".") for note in notes
        ]
    (copy / "fear" / ".DS_Store").touch()  # comes and goes, and makes no other domain
    prepare_dataset("lab", FOLDER, settings, folder, 1, lambda *_: None)
    assert read_about(folder) == about


def test_an_image_that_cannot_be_decoded_is_refused_by_name_and_left_out_where_allowed(tmp_path: Path) -> None:
    copy, folder = tmp_path / "lab", tmp_path / "data" / "lab"
    for name in EXPRESSIONS:
        for number in range(5):
            draw(copy / name / f"{number}.png", name, number)
    for name in ("a.heic", "b.avif", "c.jxl", "d.nef"):
        (copy / "fear" / name).write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(BenchError, match="lab: 4 files are missing or cannot be read") as caught:
        prepare_dataset("lab", FOLDER, DomainSettings(path=copy), folder, 1, lambda *_: None)
    assert all(name in str(caught.value) for name in ("a.heic", "b.avif", "c.jxl", "d.nef"))
    prepare_dataset("lab", FOLDER, DomainSettings(path=copy, allow_missing=True), folder, 1, lambda *_: None)
    about = read_about(folder)
    assert about["left_out"] == {"total": 4, "files": ["fear/a.heic", "fear/b.avif", "fear/c.jxl", "fear/d.nef"]}
    assert sum(sum(counts.values()) for counts in about["counts"].values()) == 35


def test_names_that_are_not_utf8_or_hide_characters_are_read_and_written_readably(tmp_path: Path) -> None:
    copy, folder = tmp_path / os.fsdecode(b"l\xe4b"), tmp_path / "data" / "lab"
    for name in EXPRESSIONS:
        for number in range(5):
            draw(copy / name / f"{number}.png", name, number)
    try:
        (copy / "fear").rename(copy / os.fsdecode(b"ang\xfct"))
    except OSError:
        pytest.skip("this file system stores names in UTF-8 only")
    (copy / "anger" / "0.png").rename(copy / "anger" / os.fsdecode(b"gr\xfc\xdf.png"))
    (copy / "anger" / "1.png").rename(copy / "anger" / "new\nline\x1b[31m.png")
    (copy / os.fsdecode(b"\xff.zip")).touch()
    with pytest.raises(NeedsKey, match=r"ang\\xfct' is not a known expression") as caught:
        prepare_dataset("lab", FOLDER, DomainSettings(path=copy), folder, 1, lambda *_: None)
    assert "labels = { 'ang\\xfct' = \"…\" }" in str(caught.value)  # as TOML takes it
    assert "--labels 'ang\\xfct=…'" in caught.value.on_command_line  # and a shell
    for key in ("ang\\xfct", os.fsdecode(b"ang\xfct")):
        settings = DomainSettings(path=copy, labels={key: "fear"})
        prepare_dataset("lab", FOLDER, settings, folder, 1, lambda *_: None)
        domain = Domain(folder)
        named = {str(face): int(label) for face, label in zip(domain.ids, domain.labels, strict=True)}
        assert len(named) == 35
        assert named["anger/gr\\xfc\\xdf.png"] == named["anger/new\\x0aline\\x1b[31m.png"] == EXPRESSIONS.index("anger")
        assert named["ang\\xfct/0.png"] == EXPRESSIONS.index("fear")
        assert read_about(folder)["notes"][0].endswith("l\\xe4b/\\xff.zip; unpack it if it has faces.")
        assert not check_copy("lab", FOLDER, settings, 1, lambda *_: None).failed


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("grüß 1.png", "grüß 1.png"),
        ("a\udcfc", "a\\xfc"),
        ("a\x1b\n\t", "a\\x1b\\x0a\\x09"),
        ("\u202e", "\\u202e"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_cannot_be_printed_is_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown


def raf(root: Path) -> Path:
    """RAF-DB's folder without its faces."""
    (root / "EmoLabel").mkdir(parents=True)
    (root / "EmoLabel" / "list_patition_label.txt").write_text("train_00001.jpg 5\ntest_0001.jpg 5\n")
    return root


def test_what_is_missing_from_a_layout_is_named_alone(tmp_path: Path) -> None:
    base = raf(tmp_path / "RAF" / "basic")
    with pytest.raises(BenchError) as caught:
        RAFDB.layout(tmp_path)
    assert str(caught.value) == (
        f"{base}: Image/aligned is missing, without which it is not RAF-DB in the layout raf-official. Put it there"
    )
    draw(base / "Image" / "original" / "train_00001.jpg", "sadness")
    (base / "Image" / "aligned.zip").touch()
    with pytest.raises(BenchError) as caught:
        RAFDB.layout(tmp_path)
    assert "Image/aligned is missing" in str(caught.value)
    assert "or read Image/original/train_00001.jpg" in str(caught.value)
    assert str(caught.value).endswith(f"with --layout raf-original. Unpack {base / 'Image' / 'aligned.zip'} first")


def test_what_is_there_under_a_similar_name_is_named(tmp_path: Path) -> None:
    base = raf(tmp_path)
    draw(base / "images" / "aligned" / "train_00001_aligned.jpg", "sadness")
    with pytest.raises(
        BenchError, match=r"Image/aligned is missing, .* raf-official\. Rename images/aligned to Image/al"
    ):
        RAFDB.layout(tmp_path)
    (base / "images").rename(base / "Image")
    (base / "EmoLabel" / "list_patition_label.txt").rename(base / "EmoLabel" / "list_partition_label.txt")
    with pytest.raises(BenchError, match=r"\. Rename EmoLabel/list_partition_label\.txt to EmoLabel/list_patition_lab"):
        RAFDB.layout(tmp_path)


@pytest.mark.parametrize("other", ["list_train_label.txt", "list_patition_label.txt.gz"])
def test_another_list_and_a_packed_one_are_not_renamed(tmp_path: Path, other: str) -> None:
    base = raf(tmp_path)
    draw(base / "Image" / "aligned" / "train_00001_aligned.jpg", "sadness")
    (base / "EmoLabel" / "list_patition_label.txt").rename(base / "EmoLabel" / other)
    with pytest.raises(BenchError, match="Put it there") as caught:
        RAFDB.layout(tmp_path, "raf-official")
    assert "Rename" not in str(caught.value)


@pytest.mark.parametrize("part", ["Image", "Image/aligned", "EmoLabel", "EmoLabel/list_patition_label.txt"])
def test_a_part_of_a_copy_leads_to_the_folder_above(tmp_path: Path, part: str) -> None:
    base = raf(tmp_path / "RAF")
    draw(base / "Image" / "aligned" / "train_00001_aligned.jpg", "sadness")
    with pytest.raises(BenchError, match=rf"a part of a copy of RAF-DB in the layout raf-official\..* above, {base}$"):
        RAFDB.layout(base / part)


def test_a_folder_beside_a_copy_is_no_part_of_it(tmp_path: Path) -> None:
    base = raf(tmp_path)
    draw(base / "Image" / "aligned" / "train_00001_aligned.jpg", "sadness")
    (base / "mine").mkdir()
    with pytest.raises(BenchError, match=r"mine: this is not a known layout of RAF-DB\. The folder is empty"):
        RAFDB.layout(base / "mine")


def test_what_is_still_packed_is_named(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "basic.zip").touch()
    for path, shown in (
        (tmp_path, "The folder has pack/"),
        (tmp_path / "pack" / "basic.zip", "It is one file that is packed"),
    ):
        with pytest.raises(BenchError, match=rf"{shown}\. Unpack .*/basic\.zip first; expected one of"):
            RAFDB.layout(path)
    for name in EXPRESSIONS:
        (tmp_path / "lab" / name).mkdir(parents=True)
    (tmp_path / "lab" / "anger" / "anger.tar.gz").touch()
    with pytest.raises(BenchError, match=r"anger: this class folder does not contain images. Unpack .*anger\.tar\.gz"):
        read(FOLDER, tmp_path / "lab")


@pytest.mark.parametrize(("key", "value"), [("images", Path("/x")), ("label_rule", "argmax8"), ("subject", "(a)")])
def test_a_setting_that_the_layout_does_not_read_is_refused(tmp_path: Path, key: str, value: object) -> None:
    base = raf(tmp_path)
    draw(base / "Image" / "aligned" / "train_00001_aligned.jpg", "sadness")
    draw(base / "Image" / "aligned" / "test_0001_aligned.jpg", "sadness")
    assert len(reader.read(RAFDB, DomainSettings(path=tmp_path))[1].faces) == 2
    with pytest.raises(
        NeedsKey, match=f"{key} has no effect: RAF-DB in the layout raf-official does not use it. Remove {key} = …"
    ) as caught:
        reader.read(RAFDB, DomainSettings(path=tmp_path, **{key: value}))  # type: ignore[arg-type]
    assert caught.value.on_command_line.endswith(f"Remove --{key.replace('_', '-')}")


def test_sfew_is_read_whatever_the_case_of_its_folders(tmp_path: Path) -> None:
    for place in ("train/TRAIN_aligned_faces", "VAL/val_aligned_faces"):
        for name in ("angry", "DISGUST", "Fear", "happy", "neutral", "sad", "surprise"):
            expression = {"angry": "anger", "happy": "happiness", "sad": "sadness"}.get(name, name.lower())
            draw(tmp_path / place / name / "a.png", expression)
            draw(tmp_path / place / name / "__MACOSX" / "._a.png", expression)
    layout, listing = read(SFEW, tmp_path)
    assert layout == "sfew-official"
    assert {(face.split, face.expression) for face in listing.faces} == {
        (split, name) for split in ("train", "test") for name in EXPRESSIONS
    }
    assert not listing.faults


def test_every_annotation_that_cannot_be_read_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    for part in ("train_set", "val_set"):
        for native in range(7):
            draw(tmp_path / part / "images" / f"{native}.jpg", EXPRESSIONS[(6, 3, 4, 0, 1, 2, 5)[native]])
            (tmp_path / part / "annotations").mkdir(exist_ok=True)
            np.save(tmp_path / part / "annotations" / f"{native}_exp.npy", str(native))
    for native, content in ((0, b""), (3, b"\x93NUMPY nonsense"), (6, b"<html>")):
        (tmp_path / "train_set" / "annotations" / f"{native}_exp.npy").write_bytes(content)
    folder = tmp_path / "data" / "mine"
    with pytest.raises(BenchError, match="mine: 3 files are missing or cannot be read") as caught:
        prepare_dataset("mine", AFFECTNET, DomainSettings(path=tmp_path), folder, 1, lambda *_: None)
    assert all(f"{native}_exp.npy: this is not an npy file" in str(caught.value) for native in (0, 3, 6))
    settings = DomainSettings(path=tmp_path, allow_missing=True)
    prepare_dataset("mine", AFFECTNET, settings, folder, 1, lambda *_: None)
    about = read_about(folder)
    assert (sum(about["counts"]["train"].values()), sum(about["counts"]["test"].values())) == (4, 7)
    assert about["left_out"]["total"] == 3
    assert about["verdict"] == "train has 4 faces where 283,901 are expected; test has 7 faces where 3,500 are expected"


@pytest.mark.parametrize("form", ["JPEG2000", "AVIF", "PPM"])
def test_formats_that_pillow_has_are_decoded(tmp_path: Path, form: str) -> None:
    Image.init()
    if form not in Image.SAVE:
        pytest.skip(f"this Pillow cannot write {form}")
    Image.new("RGB", (20, 20), (200, 100, 50)).save(tmp_path / "a", form)
    shown = decode_face(Face("a", "test", "fear", "", tmp_path / "a"), 20)[0]
    assert np.abs(shown.astype(int) - (200, 100, 50)).max() < 8


def test_the_remedy_for_a_format_that_pillow_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixels, "_formats", lambda: ("JPEG",))
    for name, kind, advice in (
        ("a.heic", b"ftypheic", "HEIC, which .* cannot decode; install pillow-heif, or convert it"),
        ("b.jpg", b"ftypavif", "AVIF, which .* cannot decode; install Pillow 11.3 or newer"),
        ("c.nef", b"", "a camera's raw file; convert it"),
    ):
        (tmp_path / name).write_bytes(b"\0\0\0\x18" + kind)
        with pytest.raises(Unreadable, match=advice):
            decode_face(Face("a", "test", "fear", "", tmp_path / name), 20)


def test_files_with_several_pictures_are_counted_and_the_first_picture_is_read(tmp_path: Path) -> None:
    copy, folder = tmp_path / "lab", tmp_path / "data" / "lab"
    for name in EXPRESSIONS:
        for number in range(5):
            draw(copy / name / f"{number}.png", name, number)
    first, other = Image.new("RGB", (12, 12), (200, 100, 50)), Image.new("RGB", (12, 12), (0, 0, 255))
    for name in ("a.gif", "b.png", "c.webp", "d.tiff"):
        first.save(copy / "fear" / name, save_all=True, append_images=[other, other])
    prepare_dataset("lab", FOLDER, DomainSettings(path=copy), folder, 1, lambda *_: None)
    several = read_about(folder)["pixels"]["several"]
    assert several == {"count": 4, "such_as": ["fear/a.gif", "fear/b.png", "fear/c.webp"]}
    domain = Domain(folder)
    for row in [row for row, name in enumerate(domain.ids) if name[5:6].isalpha() and name.startswith("fear/")]:
        assert np.abs(domain.faces[row].astype(int) - (200, 100, 50)).max() < 12
    said = [
        finding.what for finding in check_copy("lab", FOLDER, DomainSettings(path=copy), 1, lambda *_: None).findings
    ]
    assert any(what.startswith("4 files contain several pictures, such as fear/a.gif, fear/b.png") for what in said)
