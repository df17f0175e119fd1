"""Safe reading of untrusted files: size limits, checks before memory is allocated, and no execution of code.

Every fault of a file raises a ValueError or an OSError and nothing else. The caller adds the place and the next step.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from io import BufferedReader
from pathlib import Path, PureWindowsPath
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

    import numpy as np

MOST_TEXT = 64 << 20
"""The largest text file in bytes. A label file of a million images is smaller."""
MOST_SETTINGS = 1 << 20
"""The largest file in bytes that a person writes, such as a protocol or bench.toml."""
MOST_ARRAYS = 256 << 20
"""The largest total size in bytes of the arrays of a record. The logits of ten million images are smaller."""
MOST_NAMES = 10_000
"""The largest number of arrays in a file."""
_BOUNDED = {0, 8}  # stored and deflated: zipfile expands every other kind as a whole, whatever size it states

_FILE_NAME = re.compile(r"\w[\w.@-]{0,99}")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNPRINTABLE = re.compile(f"{_HIDDEN.pattern[:-1]}\t\n\ud800-\udfff]")


def printable(name: str) -> str:
    r"""Return a name with control characters and bytes that are not UTF-8 escaped, like \x1b and \xfc."""
    return name if name.isprintable() else _UNPRINTABLE.sub(_escaped, name)


def printable_content(content: Any) -> Any:
    """Return JSON-like content with every string made printable; see `printable`."""
    if isinstance(content, str):
        return printable(content)
    if isinstance(content, Mapping):
        return {printable_content(key): printable_content(value) for key, value in content.items()}
    return [printable_content(value) for value in content] if isinstance(content, list | tuple) else content


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code < 0xDD00:  # Python's surrogate escape of a byte that is not UTF-8 in a file name
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_path(value: str) -> bool:
    """Return whether the value of a parameter is an absolute path instead of the name of a network."""
    return value.startswith("/") or PureWindowsPath(value).is_absolute()


def is_file_name(name: Any) -> bool:
    """Return whether a name is a valid part of a file name on every system and cannot lead to another folder."""
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None and ".." not in name


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file, without waiting for a pipe or a device.

    Args:
        path: The file.
        limit: The largest accepted size in bytes.

    Raises:
        ValueError: The file is larger, or is not a regular file.
        OSError: The file cannot be read.
    """
    with _opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes, the limit for a file of this kind")
    return content


def read_text(path: Path, limit: int = MOST_TEXT) -> str:
    r"""Return the text of a UTF-8 file, without a byte order mark and with \n as line ending.

    Raises:
        ValueError: The file is larger than `limit` bytes, is not UTF-8 or is not a regular file.
        OSError: The file cannot be read.
    """
    text = read_bytes(path, limit).decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _opened(path: Path) -> BufferedReader:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("it is not a regular file")
    return os.fdopen(handle, "rb")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: The text is not JSON, has a duplicate key, is nested too deeply, or contains control characters,
            which could hide content in a terminal.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text), "surrogatepass")  # as json.loads decodes it
        content = json.loads(text, object_pairs_hook=_once)
        # In ASCII without escapes, one look at the text finds what a look at each string would, many times faster.
        if "\\" in text or not text.isascii() or _HIDDEN.search(text):
            _refuse_hidden(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("it contains a key twice")
    return content


def _refuse_hidden(content: Any) -> None:
    """Raise ValueError for control characters, which can move the cursor or change the direction of text."""
    if isinstance(content, str):
        if _HIDDEN.search(content):
            raise ValueError("it contains control characters")
        content.encode()  # raises UnicodeEncodeError, a ValueError, for a lone surrogate
    elif isinstance(content, dict):
        for key, value in content.items():
            _refuse_hidden(key)
            _refuse_hidden(value)
    elif isinstance(content, list):
        for value in content:
            _refuse_hidden(value)


def checksum(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits.

    Raises:
        ValueError: The file is not a regular file.
        OSError: The file cannot be read.
    """
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_of(content: Mapping[str, Any]) -> str:
    """Return the SHA-256 of JSON content, independent of the order of keys and of white space."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def map_array(path: Path) -> np.ndarray:
    """Return an .npy file as a read-only memory map.

    Raises:
        ValueError: The file is not an array of numbers or text, or its size differs from that in its header.
        OSError: The file cannot be read.
    """
    import numpy as np

    with _opened(path) as file:
        shape, dtype, fortran = _header(file)
        start, size = file.tell(), os.fstat(file.fileno()).st_size
    if size - start != _bytes(shape, dtype):
        raise ValueError(
            f"it contains {size - start:,} bytes of data, which does not match its header: {shape} of {dtype}"
        )
    if not _bytes(shape, dtype):  # an empty file cannot be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def read_arrays(path: Path, limit: int = MOST_ARRAYS) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz file by name.

    Args:
        path: The file.
        limit: The largest accepted total size of the arrays in bytes.

    Raises:
        ValueError: The file is damaged, exceeds the limits, or contains something other than numbers and text.
        OSError: The file cannot be read.
    """
    with _opened(path) as file:
        return parse_arrays(file, limit)


def parse_arrays(file: IO[bytes], limit: int = MOST_ARRAYS) -> dict[str, np.ndarray]:
    """Return the arrays of an open .npz file by name; see `read_arrays`."""
    import struct
    import zipfile
    import zlib

    import numpy as np

    found: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_NAMES or sum(entry.file_size for entry in entries) > limit:
                raise ValueError(f"its arrays exceed {limit:,} bytes or {MOST_NAMES:,} names")
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name in found or entry.compress_type not in _BOUNDED:
                    raise ValueError(f"it contains {name} twice, or with an unsupported compression")
                with archive.open(entry) as member:
                    shape, dtype, fortran = _header(member)
                    if member.tell() + (size := _bytes(shape, dtype)) != entry.file_size:
                        raise ValueError(f"the size of {name} does not match its header: {shape} of {dtype}")
                    if len(content := bytearray(member.read(size))) != size:
                        raise ValueError(f"{name} is shorter than its header states")
                    found[name] = np.ndarray(shape, dtype, content, order="F" if fortran else "C")
                    if member.read(1):  # reading to the end makes zipfile compare the checksum
                        raise ValueError(f"{name} is longer than its header allows")
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OverflowError) as error:
        raise ValueError(f"it is not a complete archive of arrays ({error})") from None
    return found


def read_archive(path: Path, wanted: Callable[[str], bool] | None = None) -> dict[str, bytes]:
    """Return the content of each file of a zip archive by its name. Nothing is extracted.

    Args:
        path: The archive.
        wanted: Returns whether a file with this name is read. Default: all are, and comments are refused.

    Raises:
        ValueError: The archive is damaged, contains a name twice, has bytes before, between or after the contents of
            its files, or exceeds the limits. Archives of arrays are examined too, and count with the size of their
            arrays. Extra fields, which zip allows beside each name, are not examined.
        OSError: The file cannot be read.
    """
    import struct
    import zipfile
    import zlib

    found: dict[str, bytes] = {}
    try:
        whole = read_bytes(path, MOST_ARRAYS)
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            entries = [entry for entry in archive.infolist() if wanted is None or wanted(entry.filename)]
            if len({entry.filename for entry in entries}) < len(entries) or len(entries) > MOST_NAMES:
                raise ValueError(f"it contains a name twice, or more than {MOST_NAMES:,} names")
            if odd := [entry.filename for entry in entries if entry.compress_type not in _BOUNDED]:
                raise ValueError(f"{printable(odd[0][:100])} has an unsupported compression; use deflate")
            room = _less(MOST_ARRAYS, entries)
            _refuse_other_bytes(whole, archive, entries, comments=wanted is not None)
            for entry in entries:
                content = found[entry.filename] = archive.read(entry)
                if entry.filename.endswith(".npz") and zipfile.is_zipfile(io.BytesIO(content)):
                    with zipfile.ZipFile(io.BytesIO(content)) as arrays:
                        room = _less(room, arrays.infolist())
                        _refuse_other_bytes(content, arrays, arrays.infolist(), comments=wanted is not None)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OverflowError) as error:
        raise ValueError(f"it is not a complete archive ({error})") from None
    return found


def archive_names(path: Path) -> list[str]:
    """Return the names of the files in a zip archive; none for another or a damaged file."""
    import struct
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    # zipfile raises these for damaged archives, and for names and versions that it cannot read
    except (OSError, ValueError, zipfile.BadZipFile, struct.error, RuntimeError, OverflowError):
        return []


def is_program(path: Path) -> bool:
    """Return True for a TorchScript program, an archive with code."""
    return any("/code/" in name for name in archive_names(path))


def _less(room: int, entries: Sequence[ZipInfo]) -> int:
    """Return the bytes that files leave of `room`, or raise ValueError where they have more."""
    room -= sum(entry.file_size for entry in entries)
    if room < 0:
        raise ValueError(f"its files have more than {MOST_ARRAYS:,} bytes")
    return room


def _span(whole: bytes, entry: ZipInfo) -> tuple[int, int]:
    """Return where the content of a file begins and ends in its archive: after its header, name and extra field."""
    import struct

    begin = entry.header_offset + 30 + sum(struct.unpack_from("<HH", whole, entry.header_offset + 26))
    return begin, begin + entry.compress_size


def _refuse_other_bytes(whole: bytes, archive: ZipFile, entries: Sequence[ZipInfo], comments: bool) -> None:
    """Raise ValueError for bytes before, between or after the contents of files, and for files that overlap.

    zipfile finds files by the offsets at the end of an archive, and ignores all other bytes.

    Args:
        whole: The archive.
        archive: The same, opened.
        entries: The files whose contents are examined, within the limits.
        comments: Whether comments are allowed.
    """
    import struct

    place = 0
    for entry in sorted(archive.infolist(), key=lambda entry: entry.header_offset):
        place = _span(whole, entry)[1] if entry.header_offset == place else len(whole)
        sizes = entry.CRC, entry.compress_size, entry.file_size
        if entry.flag_bits & 8:  # written to a stream: checksum and sizes follow the content
            ways = (mark + struct.pack(form, *sizes) for mark in (b"PK\7\10", b"") for form in ("<III", "<IQQ"))
            place += next((len(way) for way in ways if whole.startswith(way, place)), 0)
    end = len(whole) - 22 - len(archive.comment)
    if place != archive.start_dir or whole[max(end, 0) :][:4] != b"PK\5\6":
        raise ValueError("it has bytes that belong to no file of the archive: before, between or after them")
    if not comments and (archive.comment or any(entry.comment for entry in archive.infolist())):
        raise ValueError("it has a comment, which is part of no file; make the archive without comments")
    for entry in entries:
        if _has_more(whole[slice(*_span(whole, entry))], entry):
            raise ValueError(f"{printable(entry.filename[:100])} has bytes after its content")


def _has_more(stored: bytes, entry: ZipInfo) -> bool:
    """Return True where a file in an archive has bytes after its content, whose size its entry states."""
    import zipfile
    import zlib

    if entry.compress_type == zipfile.ZIP_STORED:
        return len(stored) != entry.file_size
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        return False  # no reader of this module accepts it
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    return len(stream.decompress(stored, entry.file_size + 1)) > entry.file_size or bool(stream.unused_data)


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """Return shape, dtype and whether an .npy file is in Fortran order; leave the file at its first number."""
    import numpy as np

    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
    except Exception as error:  # for a damaged header numpy raises any error of Python's parser
        raise ValueError(f"its header is not that of an array ({type(error).__name__})") from None
    if dtype.hasobject or dtype.kind not in "biufSU":
        raise ValueError(f"it contains {dtype}, and only numbers and text are supported")
    if len(shape) > 8 or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"its header has the invalid shape {str(shape)[:60]}")
    return shape, dtype, bool(fortran)


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    count = dtype.itemsize
    for side in shape:
        count *= side
    return count
