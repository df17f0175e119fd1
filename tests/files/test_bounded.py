"""Files of unknown origin: sizes, kinds and names are checked before their content is used."""

from __future__ import annotations

import io
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from fergen_bench.files import bounded


def test_text_has_no_byte_order_mark_and_one_line_ending(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert bounded.read_text(tmp_path / "a") == "one\ntwo\nthree\n"


def test_a_file_above_the_limit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert bounded.read_bytes(tmp_path / "a", 5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4 bytes"):
        bounded.read_bytes(tmp_path / "a", 4)


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a regular file"):
        bounded.read_bytes(tmp_path / "pipe", 5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": 1, "a": 2}', "a key twice"),
        ("[" * 100_000, "nested too deeply"),
        ('"\\u202e"', "control"),
        ('{"\\u001b[2J": 1}', "control"),
        ('"\u202e"', "control"),
        ('["\x7f"]', "control"),
        ('"\\ud800"', "surrogates"),
        ("{", "Expecting"),
    ],
)
def test_ambiguous_json_is_refused(text: str, message: str) -> None:
    for given in (text, text.encode()):
        with pytest.raises(ValueError, match=message):
            bounded.parse_json(given)


def test_json_with_line_breaks_and_other_letters_is_read() -> None:
    assert bounded.parse_json('{\r\n "a": "é\\n",\t"b": [1.5]}\n'.encode()) == {"a": "é\n", "b": [1.5]}


def test_the_checksum_of_content_ignores_order_and_spaces() -> None:
    assert bounded.checksum_of({"a": 1, "b": [2]}) == bounded.checksum_of(bounded.parse_json('{ "b": [2], "a": 1 }'))
    assert bounded.checksum_of({"a": 1}) != bounded.checksum_of({"a": 2})


@pytest.mark.parametrize(
    ("name", "valid"),
    [
        ("web", True),
        ("raf-db.v2", True),
        ("", False),
        ("a/b", False),
        ("..", False),
        ("a..b", False),
        ("a" * 101, False),
    ],
)
def test_file_names_cannot_lead_to_another_folder(name: str, valid: bool) -> None:
    assert bounded.is_file_name(name) is valid


def test_control_characters_and_bytes_are_escaped() -> None:
    assert bounded.printable("a\x1b[2J") == "a\\x1b[2J"
    assert bounded.printable(os.fsdecode(b"caf\xe9")) == "caf\\xe9"
    assert bounded.printable_content({"a\n": ["é", 1]}) == {"a\\x0a": ["é", 1]}


def test_arrays_are_mapped_or_read_and_objects_are_refused(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.int16).reshape(2, 3)
    np.save(tmp_path / "a.npy", values)
    np.testing.assert_array_equal(bounded.map_array(tmp_path / "a.npy"), values)
    np.savez(tmp_path / "a.npz", values=values)
    np.testing.assert_array_equal(bounded.read_arrays(tmp_path / "a.npz")["values"], values)
    others = {"columns": np.asfortranarray(values), "none": np.zeros((0, 7)), "one": np.array(3), "text": np.array("é")}
    np.savez_compressed(tmp_path / "b.npz", **others)
    for name, array in bounded.read_arrays(tmp_path / "b.npz").items():
        np.testing.assert_array_equal(array, others[name])
        assert (array.dtype, array.shape, array.flags.writeable) == (others[name].dtype, others[name].shape, True)
    with pytest.raises(ValueError, match="exceed 5 bytes"):
        bounded.read_arrays(tmp_path / "a.npz", limit=5)
    np.save(tmp_path / "b.npy", np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="only numbers and text"):
        bounded.map_array(tmp_path / "b.npy")
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-1])
    with pytest.raises(ValueError, match="11 bytes of data, which does not match its header"):
        bounded.map_array(tmp_path / "a.npy")


def zipped(files: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.comment = comment
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def test_an_archive_is_read_within_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_ARRAYS", 10_000)
    path = tmp_path / "a.zip"
    zeros = zipped({"a.npy": bytes(4_000)})
    path.write_bytes(zipped({"../a.npz": zeros, "b": b"b"}))
    assert bounded.read_archive(path) == {"../a.npz": zeros, "b": b"b"}
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]
    assert bounded.read_archive(path, lambda name: name == "b") == {"b": b"b"}
    for large in ({"b": bytes(10_001)}, {"b": bytes(9_000), "c": bytes(1_001)}, {f"{n}.npz": zeros for n in range(3)}):
        path.write_bytes(zipped(large))
        with pytest.raises(ValueError, match="more than 10,000 bytes"):
            bounded.read_archive(path)
    whole = zipped({"b": b"b"})
    for more in (whole + b"\0", b"#!" + whole, whole + whole[:-1]):
        path.write_bytes(more)
        with pytest.raises(ValueError, match=r"bytes that belong to no file of the archive|not a complete archive"):
            bounded.read_archive(path)
    path.write_bytes(zipped({"b": bytes(range(250))})[:-30])
    with pytest.raises(ValueError, match="not a complete archive"):
        bounded.read_archive(path)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def lengthened(archive: bytes, place: int, more: bytes, grown: bool = False) -> bytes:
    """Return an archive of two files with bytes at a place, which the offsets behind it allow for.

    Args:
        archive: The archive.
        place: Where its second file begins, or its directory.
        more: The bytes.
        grown: Whether the first file counts them as its own.
    """
    data = bytearray(archive[:place] + more + archive[place:])
    first = data.find(b"PK\1\2")
    second = data.find(b"PK\1\2", first + 1)
    spots = [data.find(b"PK\5\6") + 16]  # the offset of the directory
    spots += [second + 42] if struct.unpack_from("<I", data, second + 42)[0] >= place else []
    spots += [18, first + 20] if grown else []  # the compressed size of the first file
    for spot in spots:
        struct.pack_into("<I", data, spot, struct.unpack_from("<I", data, spot)[0] + len(more))
    return bytes(data)


def test_bytes_that_nobody_would_read_are_refused(tmp_path: Path) -> None:
    path, whole = tmp_path / "a.zip", zipped({"a": b"aaaa", "b": b"b"})
    second = whole.find(b"PK\3\4", 1)
    assert bounded.read_archive(written(path, lengthened(whole, second, b""))) == {"a": b"aaaa", "b": b"b"}
    for gap in (lengthened(whole, second, b"more"), lengthened(whole, whole.find(b"PK\1\2"), b"more")):
        with pytest.raises(ValueError, match=r"bytes that belong to no file of the archive|not a complete archive"):
            bounded.read_archive(written(path, gap))
    arrays = lengthened(whole, second, b"more")
    with pytest.raises(ValueError, match="bytes that belong to no file of the archive"):
        bounded.read_archive(written(path, zipped({"a.npz": arrays})))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_bytes_that_a_file_counts_as_its_own_are_refused(compression: int, nested: bool, tmp_path: Path) -> None:
    whole = zipped({"a": b"aaaa", "b": b"b"}, compression)
    grown = lengthened(whole, whole.find(b"PK\3\4", 1), b"more", grown=True)
    path = written(tmp_path / "a.zip", zipped({"a.npz": grown}) if nested else grown)
    for wanted in (None, lambda name: True):
        with pytest.raises(ValueError, match="a has bytes after its content"):
            bounded.read_archive(path, wanted)


def test_compressed_content_beyond_the_size_that_the_archive_states_is_refused(tmp_path: Path) -> None:
    data = bytearray(zipped({"a": b"aaaamore"}))
    for place in (14, data.find(b"PK\1\2") + 16):
        struct.pack_into("<I", data, place, zlib.crc32(b"aaaa"))
        struct.pack_into("<I", data, place + 8, 4)  # the size before compression
    with pytest.raises(ValueError, match="a has bytes after its content"):
        bounded.read_archive(written(tmp_path / "a.zip", bytes(data)))


@pytest.mark.parametrize("damage", ["version", "name", "cut"])
def test_an_archive_that_cannot_be_read_has_no_names(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é/code/x", "1")
    assert (bounded.archive_names(path), bounded.is_program(path)) == (["é/code/x"], True)
    whole = path.read_bytes()
    needed = whole.index(b"PK\1\2") + 6  # the version of zip that is needed to read the file
    damaged = {
        "version": whole[:needed] + b"\xff" + whole[needed + 1 :],
        "name": whole.replace("é".encode(), b"\xff\xfe"),
        "cut": whole[-40:],
    }
    path.write_bytes(damaged[damage])
    assert (bounded.archive_names(path), bounded.is_program(path)) == ([], False)


def test_comments_are_refused_where_every_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    entry = zipfile.ZipInfo("a")
    for comments in ((b"", b"of a file"), (b"of the archive", b"")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.comment, entry.comment = comments
            archive.writestr(entry, b"a")
        assert bounded.read_archive(path, lambda name: True) == {"a": b"a"}, "as in an archive that git makes"
        with pytest.raises(ValueError, match="it has a comment"):
            bounded.read_archive(path)
    path.write_bytes(zipped({"a.npz": (arrays := zipped({"a.npy": b"a"}, comment=b"of the archive"))}))
    assert bounded.read_archive(path, lambda name: True) == {"a.npz": arrays}
    with pytest.raises(ValueError, match="it has a comment"):
        bounded.read_archive(path)


@pytest.mark.parametrize("size", [0, 1, 5_000])
def test_an_archive_that_was_written_to_a_stream_is_read(size: int, tmp_path: Path) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

    stream = Pipe()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in "ab":
            archive.writestr(name, bytes(size))
    path = written(tmp_path / "a.zip", stream.getvalue())
    assert bounded.read_archive(path) == {"a": bytes(size), "b": bytes(size)}


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_an_archive_is_not_expanded_beyond_the_size_that_it_states(compression: int, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        archive.writestr("b", bytes(1 << 24))
    data = bytearray(stream.getvalue())
    for place in (22, data.find(b"PK\1\2") + 24):  # the size before compression
        data[place : place + 4] = (1).to_bytes(4, "little")
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="b has an unsupported compression"):
        bounded.read_archive(path)
    assert bounded.read_archive(path, lambda name: name != "b") == {}
