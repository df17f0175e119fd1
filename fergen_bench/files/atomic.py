"""Files that are there whole or not at all."""

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
    """A draft beside the file that takes its place only when all of it is on the disk. The folder must be there.

    A disk that is full is an OSError with the file's name, whatever the library that wrote calls it.
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
    """Puts a finished draft in a folder's place. Between two renamings there is no folder; the old one is removed only
    when the new one is there.
    """
    draft.chmod(0o755)
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    os.replace(draft, folder)
    shutil.rmtree(old, ignore_errors=True)


def _number(error: Exception) -> int | None:
    """The errno of a write that failed, or None where it was something else."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if found := re.search(r"\(os error (\d+)\)", str(error)):  # safetensors
        return int(found[1])
    # torch and numpy's tofile keep the reason to themselves; where a file could be begun and not ended, it is room.
    silent = "inline_container" in str(error) or re.search(r"\d requested and \d+ written", str(error))
    return errno.ENOSPC if silent else None


def sweep(path: Path) -> None:
    """Removes the drafts of a file that somebody was killed over. Only for whoever alone may write it."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}-*"):
        draft.unlink(missing_ok=True)
