"""Files that may come from strangers: read within bounds, checked before memory is taken for them, and never run.

Whatever is wrong with a file is a ValueError or an OSError, and nothing else; who reads it says the sentence, with the
place and the next step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Mapping
from io import BufferedReader
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

MOST_TEXT = 64 << 20
"""Bytes of a file of text that is read whole: a label file of a million faces is smaller."""
MOST_SETTINGS = 1 << 20
"""Bytes of a file that a person writes: a protocol, bench.toml."""
MOST_ARRAYS = 256 << 20
"""Bytes that the arrays beside a record come to: the logits of ten million faces are smaller."""
MOST_NAMES = 10_000
"""Arrays in one file."""

_FILE_NAME = re.compile(r"\w[\w.@-]{0,99}")
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_UNPRINTABLE = re.compile(f"{_HIDDEN.pattern[:-1]}\t\n\ud800-\udfff]")


def printable(name: str) -> str:
    """Return a name in which control characters, and bytes that are not UTF-8, are written like \\x1b and \\xfc."""
    return name if name.isprintable() else _UNPRINTABLE.sub(_escaped, name)


def printable_content(content: Any) -> Any:
    """Return the same of every text in a mapping or a list."""
    if isinstance(content, str):
        return printable(content)
    if isinstance(content, Mapping):
        return {printable_content(key): printable_content(value) for key, value in content.items()}
    return [printable_content(value) for value in content] if isinstance(content, list | tuple) else content


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code < 0xDD00:  # how Python keeps a byte that is not UTF-8 in the name of a file
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def is_path(value: str) -> bool:
    """Return whether the value of a parameter is an absolute path, as that of a File is, and not a network's name."""
    return value.startswith("/") or PureWindowsPath(value).is_absolute()


def is_file_name(name: Any) -> bool:
    """Whether a name can be part of a file's name on every machine, and leads nowhere else."""
    return isinstance(name, str) and _FILE_NAME.fullmatch(name) is not None and ".." not in name


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a plain file of at most so many bytes. No pipe or device is waited for."""
    with _opened(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it has more than {limit:,} bytes, which no such file has")
    return content


def read_text(path: Path, limit: int = MOST_TEXT) -> str:
    """UTF-8, with or without a byte order mark, its line ends as \\n."""
    text = read_bytes(path, limit).decode("utf-8-sig")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _opened(path: Path) -> BufferedReader:
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ValueError("it is no plain file")
    return os.fdopen(handle, "rb")


def parse_json(text: str | bytes) -> Any:
    """JSON whose keys stand once and whose strings hide nothing from the reader of a terminal."""
    try:
        content = json.loads(text, object_pairs_hook=_once)
        _refuse_hidden(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands twice in it")
    return content


def _refuse_hidden(content: Any) -> None:
    """Refuses control characters, with which text could move a cursor or turn its direction."""
    if isinstance(content, str):
        if _HIDDEN.search(content):
            raise ValueError("it holds control characters")
        content.encode()  # half a surrogate pair is no text: UnicodeEncodeError is a ValueError
    elif isinstance(content, dict):
        for key, value in content.items():
            _refuse_hidden(key)
            _refuse_hidden(value)
    elif isinstance(content, list):
        for value in content:
            _refuse_hidden(value)


def checksum(path: Path) -> str:
    """SHA-256 of a file."""
    with _opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def checksum_of(content: Mapping[str, Any]) -> str:
    """SHA-256 of what can be written as JSON, however it is laid out."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def map_array(path: Path) -> np.ndarray:
    """An .npy file as a memory map that cannot be written to. It holds numbers, as many as its header says."""
    import numpy as np

    with _opened(path) as file:
        shape, dtype, fortran = _header(file)
        start, size = file.tell(), os.fstat(file.fileno()).st_size
    if size - start != _bytes(shape, dtype):
        raise ValueError(f"it holds {size - start:,} bytes where its header says {shape} of {dtype}")
    if not _bytes(shape, dtype):  # nothing can be mapped
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def read_arrays(path: Path, limit: int = MOST_ARRAYS) -> dict[str, np.ndarray]:
    """The arrays of an .npz file, which all together have at most so many bytes."""
    import struct
    import zipfile
    import zlib

    import numpy as np

    found: dict[str, np.ndarray] = {}
    try:
        with _opened(path) as file, zipfile.ZipFile(file) as archive:
            entries = archive.infolist()
            if len(entries) > MOST_NAMES or sum(entry.file_size for entry in entries) > limit:
                raise ValueError(f"its arrays come to more than {limit:,} bytes, or {MOST_NAMES:,} names")
            for entry in entries:
                name = entry.filename.removesuffix(".npy")
                if name in found or entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                    raise ValueError(f"{name} stands twice in it, or is packed in an unusual way")
                with archive.open(entry) as member:
                    shape, dtype, _ = _header(member)
                    if member.tell() + _bytes(shape, dtype) != entry.file_size:
                        raise ValueError(f"{name} is not as large as its header says, {shape} of {dtype}")
                    member.seek(0)
                    found[name] = np.lib.format.read_array(member, allow_pickle=False)
                    if member.read(1):  # to the end, where the checksum is compared
                        raise ValueError(f"{name} is longer than its header says")
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, OverflowError) as error:
        raise ValueError(f"it is no whole archive of arrays ({error})") from None
    return found


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    """(shape, type, whether the first index varies fastest) of an .npy file, which is left where its numbers begin."""
    import numpy as np

    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(file)
    except Exception as error:  # a damaged header makes numpy raise whatever Python's own parser raises
        raise ValueError(f"its header is no header of an array ({type(error).__name__})") from None
    if dtype.hasobject or dtype.kind not in "biufSU":
        raise ValueError(f"it holds {dtype}, where only numbers and text are read")
    if len(shape) > 8 or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"its header says the shape {str(shape)[:60]}")
    return shape, dtype, bool(fortran)


def _bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    count = dtype.itemsize
    for side in shape:
        count *= side
    return count
