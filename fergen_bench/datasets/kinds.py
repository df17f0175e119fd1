"""Decide what a file in a dataset folder is: an image, a leftover of a tool, a packed archive, data, or unknown.

Every reader asks here, so that one folder holds the same images for all of them, and nothing is passed over uncounted.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from fergen_bench.files.bounded import printable
from fergen_bench.wording import many

Kind = Literal["image", "leftover", "archive", "data", "unknown"]

RAW = frozenset({".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".raf", ".pef", ".srw"})
"""Endings of cameras' raw files. Decoders show a small preview of them, or nothing."""
IMAGES = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".jfi", ".jpg_large"),
        *(".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff", ".tga", ".psd"),
        *(".ppm", ".pgm", ".pbm", ".pnm"),
        *(".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc"),
        *(".avif", ".heic", ".heif", ".hif", ".jxl"),
        *RAW,
    }
)
"""Endings of images, also of those that may not be decoded here: such a file is unreadable, not absent."""
_DATA = frozenset(
    {
        *(".txt", ".csv", ".tsv", ".lst", ".list", ".md", ".rst", ".log"),
        *(".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini"),
        *(".npy", ".npz", ".mat", ".pts", ".pkl", ".h5", ".hdf5", ".db", ".sqlite"),
        *(".py", ".ipynb", ".m"),
    }
)
"""Endings of lists and annotations, which stand beside images by the hundred thousand and are not opened here."""
_ARCHIVE = re.compile(r".*\.(zip|7z|rar|tar|tgz|tbz2?|txz|gz|bz2|xz|zst)(\.\d{2,3})?|.*\.[zr]\d\d", re.IGNORECASE)

_TOOLS = frozenset(
    {
        *("__macosx", "icon\r", "network trash folder", "temporary items"),  # macOS
        *("thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"),  # Windows
        *("$recycle.bin", "recycler", "system volume information", "lost+found"),  # file systems
        *("@eadir", "@tmp", "@sharebin", "#recycle", "#snapshot"),  # Synology
        *("@recycle", "@recently-snapshot", "@__thumb", "@transcode"),  # QNAP
        *("picasa.ini", "zbthumbnail.info", "captureone", "nksc_param"),  # photo managers
        "__pycache__",
    }
)
"""Names of files and folders (in lower case) that tools leave."""
_TOOL_ENDINGS = (".xmp", ".aae", ".thm", ".pp3", ".dop", ".lrdata", ".lrcat", ".lrcat-data", ".lrprev", ".!sync", "~")
_CONFLICT = re.compile(r"\.sync-conflict-\d|[( _-]conflicted copy|_conflict-\d{8}", re.IGNORECASE)
"""Copies that a synchronising service keeps beside a file: Syncthing, Dropbox, Nextcloud."""

_PNM = re.compile(rb"P[1-6][\s#]")
_BMP = re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}", re.DOTALL)
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}


def is_leftover(name: str) -> bool:
    """Return whether a tool or a system leaves files or folders of this name; hidden ones count."""
    low = name.casefold()
    return (
        low.startswith((".", "~$")) or low in _TOOLS or low.endswith(_TOOL_ENDINGS) or _CONFLICT.search(low) is not None
    )


def has_image_ending(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in IMAGES


def is_archive(name: str) -> bool:
    return _ARCHIVE.fullmatch(name) is not None


def kind_of(path: str | Path) -> Kind:
    """Return the kind of a file by its name; by its content where the ending is unknown or missing."""
    name = os.path.basename(path)
    if is_leftover(name):
        return "leftover"
    if has_image_ending(name):
        return "image"
    if is_archive(name):
        return "archive"
    if os.path.splitext(name)[1].lower() in _DATA:
        return "data"
    return "image" if holds_image(path) else "unknown"


def holds_image(path: str | Path) -> bool:
    """Return whether the first bytes of a plain file are those of an image."""
    start = beginning(path)
    return (
        start.startswith(_STARTS)
        or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")
        or brand(start) is not None
        or _BMP.match(start) is not None
        or _PNM.match(start) is not None
    )


def beginning(path: str | Path) -> bytes:
    """Return the first bytes of a plain file; none where it cannot be read."""
    try:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read(64)
    except OSError:
        pass
    return b""


def brand(start: bytes) -> Literal["AVIF", "HEIC"] | None:
    """Return which of the two formats that share a container a file has, by its first bytes."""
    return _BRANDS.get(start[8:12]) if start[4:8] == b"ftyp" else None  # type: ignore[return-value]


@dataclass
class PassedOver:
    """What stands in the folders of a dataset and is not read: kind → its paths, each once."""

    paths: dict[Kind, dict[str, None]] = field(default_factory=dict)

    def add(self, path: str | Path, kind: Kind) -> None:
        self.paths.setdefault(kind, {})[os.fspath(path)] = None

    def sentences(self, but: Kind | None = None) -> list[str]:
        """Return one sentence for each kind, with the first path of it. but: a kind to leave out."""
        return [
            f"Passed over: {many(len(paths), noun)}, such as {printable(next(iter(paths)))}{advice}."
            for kind, (noun, advice) in _PASSED_OVER.items()
            if kind != but and (paths := self.paths.get(kind))
        ]


_PASSED_OVER: dict[Kind, tuple[str, str]] = {
    "archive": ("packed archive", "; unpack it, in case faces are in it"),
    "leftover": ("leftover file of tools", ""),
    "unknown": ("file of an unknown kind", ""),
}
"""kind → a noun, and what to do"""
