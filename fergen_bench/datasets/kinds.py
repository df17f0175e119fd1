"""Decide what a file in a dataset folder is: an image, a leftover of a tool, a packed archive, data, or unknown.

Every reader uses this module, so a folder has the same images for all readers, and every file that is not read is
counted.
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
"""Endings of cameras' raw files. Decoders return a small preview of them, or nothing."""
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
"""Endings of images, also of those that cannot be decoded here: such a file is unreadable, not absent."""
_DATA = frozenset(
    {
        *(".txt", ".csv", ".tsv", ".lst", ".list", ".md", ".rst", ".log"),
        *(".json", ".jsonl", ".xml", ".yaml", ".yml", ".toml", ".ini"),
        *(".npy", ".npz", ".mat", ".pts", ".pkl", ".h5", ".hdf5", ".db", ".sqlite"),
        *(".py", ".ipynb", ".m"),
    }
)
"""Endings of lists and annotations, which lie next to images by the hundred thousand and are not opened here."""
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
"""Names of files and folders, in lower case, that tools leave."""
_TOOL_ENDINGS = (".xmp", ".aae", ".thm", ".pp3", ".dop", ".lrdata", ".lrcat", ".lrcat-data", ".lrprev", ".!sync", "~")
_CONFLICT = re.compile(r"\.sync-conflict-\d|[( _-]conflicted copy|_conflict-\d{8}", re.IGNORECASE)
"""Copies of a file by a synchronising service: Syncthing, Dropbox, Nextcloud."""

_PNM = re.compile(rb"P[1-6][\s#]")
_BMP = re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}", re.DOTALL)
_STARTS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}


def is_leftover(name: str) -> bool:
    """Return True for the name of a file or folder that a tool or a system leaves, including hidden ones."""
    low = name.casefold()
    return (
        low.startswith((".", "~$")) or low in _TOOLS or low.endswith(_TOOL_ENDINGS) or _CONFLICT.search(low) is not None
    )


def has_image_ending(name: str) -> bool:
    """Return True for a name with the ending of an image."""
    return os.path.splitext(name)[1].lower() in IMAGES


def is_archive(name: str) -> bool:
    """Return True for the name of a packed archive."""
    return _ARCHIVE.fullmatch(name) is not None


def kind_of(path: str | Path) -> Kind:
    """Return the kind of a file by its name, or by its content where the ending is unknown or missing."""
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
    """Return True where the first bytes of a plain file are those of an image."""
    start = beginning(path)
    return (
        start.startswith(_STARTS)
        or (start.startswith(b"RIFF") and start[8:12] == b"WEBP")
        or brand(start) is not None
        or _BMP.match(start) is not None
        or _PNM.match(start) is not None
    )


def beginning(path: str | Path) -> bytes:
    """Return the first bytes of a plain file, or none where it cannot be read."""
    try:
        if os.path.isfile(path):
            with open(path, "rb") as file:
                return file.read(64)
    except OSError:
        pass
    return b""


def brand(start: bytes) -> Literal["AVIF", "HEIC"] | None:
    """Return the format of a file in the container that AVIF and HEIC share, from its first bytes, or None."""
    return _BRANDS.get(start[8:12]) if start[4:8] == b"ftyp" else None  # type: ignore[return-value]


@dataclass
class PassedOver:
    """The files of a dataset that are not read: kind → paths, each once."""

    paths: dict[Kind, dict[str, None]] = field(default_factory=dict)

    def add(self, path: str | Path, kind: Kind) -> None:
        """Record a file."""
        self.paths.setdefault(kind, {})[os.fspath(path)] = None

    def sentences(self, but: Kind | None = None) -> list[str]:
        """Return one sentence for each kind except one, with the first path of it."""
        return [
            f"Passed over: {many(len(paths), noun)}, such as {printable(next(iter(paths)))}{advice}."
            for kind, (noun, advice) in _PASSED_OVER.items()
            if kind != but and (paths := self.paths.get(kind))
        ]


_PASSED_OVER: dict[Kind, tuple[str, str]] = {
    "archive": ("packed archive", "; unpack it if it has faces"),
    "leftover": ("leftover file of tools", ""),
    "unknown": ("file of an unknown kind", ""),
}
"""Kind → a noun, and a remedy."""
