"""The digest of a user's copy of a dataset, which names the prepared domain in the cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets import VERSION
from fergen_bench.datasets.kinds import is_leftover
from fergen_bench.datasets.reader import read

if TYPE_CHECKING:
    from fergen_bench.datasets.reader import Dataset
    from fergen_bench.datasets.settings import DomainSettings


def copy_digest(kind: Dataset, settings: DomainSettings) -> str:
    """Return a digest that changes when a file is added, removed or rewritten, or when a reading option changes.

    Args:
        kind: The dataset.
        settings: The table of the domain, with absolute paths.
    """
    # An absent crop is not part of the digest, so that earlier digests stay valid.
    said = settings.model_dump_json(exclude={"path", "images", *(("crop",) if settings.crop is None else ())})
    digest = hashlib.sha256(f"{VERSION} {kind.name} {said}\n".encode())
    for path, root in _files_of(kind, settings):
        try:
            state = os.stat(path)
            text = f"{os.path.relpath(path, root)}\x1f{state.st_size}\x1f{state.st_mtime_ns}\n"
        except OSError:
            text = f"{os.path.relpath(path, root)}\x1fmissing\n"  # such as a link to nowhere, which the reader names
        digest.update(text.encode(errors="surrogateescape"))
    return digest.hexdigest()[:12]


def _files_of(kind: Dataset, settings: DomainSettings) -> Iterator[tuple[str | Path, Path]]:
    """Yield every file of a copy, with the folder that its name is relative to."""
    path, images = settings.path, settings.images
    if path.is_file() or images is not None:
        if path.is_file():
            yield path, path.parent
        if kind.name != "fer2013":  # its table contains the images; other tables list files
            _, listing = read(kind, settings)
            yield from ((face.file, images or path.parent) for face in listing.faces if face.file is not None)
    if path.is_file():
        return
    seen: set[str] = set()  # a link to a parent folder would never end
    for folder, folders, names in os.walk(path, followlinks=True):
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not is_leftover(name))
        yield from ((os.path.join(folder, name), path) for name in sorted(names) if not is_leftover(name))
