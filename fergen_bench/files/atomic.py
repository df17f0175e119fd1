"""Atomic writes: a file or folder appears complete or not at all."""

from __future__ import annotations

import errno
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary file that replaces a file once it is completely on the disk.

    Args:
        path: The file to replace. Its folder must exist.

    Yields:
        The temporary file, in the same folder. An exception deletes it and leaves the file at `path` as it was.

    Raises:
        OSError: The disk is full, among other causes. The error contains the name of the file, whatever error the
            library that wrote the file raised.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        with draft.open("r+b") as file:
            os.fsync(file.fileno())
        draft.chmod(0o644)
        os.replace(draft, path)
    except Exception as error:
        named = isinstance(error, OSError) and error.filename is not None
        if not named and (number := _number(error)) is not None:
            raise OSError(number, os.strerror(number), str(path)) from error
        raise
    finally:
        draft.unlink(missing_ok=True)


def exchange_folder(draft: Path, folder: Path) -> None:
    """Replace a folder by a finished temporary folder.

    The folder does not exist for the moment between two renames; the old one is deleted after the new one is in place.

    Args:
        draft: The temporary folder, on the same file system.
        folder: The folder to replace; it may be missing.
    """
    draft.chmod(0o755)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old, ignore_errors=True)


def _number(error: Exception) -> int | None:
    """Return the errno of a failed write, or None if the error has another cause."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        return int(found[1])
    # torch and numpy's tofile do not report the reason. A file that could be begun but not finished means a full disk.
    silent = "inline_container" in str(error) or re.search(r"\d requested and \d+ written", str(error))
    return errno.ENOSPC if silent else None


def sweep(path: Path) -> None:
    """Delete temporary files that killed processes left of a file. Requires that no other process writes it."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}-*"):
        draft.unlink(missing_ok=True)
