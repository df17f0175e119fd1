"""Write and check the folder of a prepared domain: faces.npy, labels.csv and domain.json."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.files.bounded import MOST_SETTINGS, is_file_name, parse_json, read_bytes
from fergen_bench.wording import many

if TYPE_CHECKING:
    import numpy as np


def read_about(folder: Path) -> dict[str, Any]:
    """Return the content of domain.json of a prepared domain, checked.

    Raises:
        BenchError: The file is missing, cannot be read or has invalid values.
    """
    try:
        about = parse_json(read_bytes(folder / "domain.json", 16 * MOST_SETTINGS))
        if not isinstance(about, dict):
            raise ValueError("it is not a mapping")
        if absent := [key for key in ("name", "size", "counts", "fingerprint") if key not in about]:
            raise ValueError(f"it lacks {absent[0]}")
        sizes, counts = about["size"], about["counts"]
        if not is_file_name(about["name"]) or not is_file_name(about["fingerprint"]):
            raise ValueError("its name or its fingerprint is not a valid one")
        if not isinstance(sizes, list) or len(sizes) != 2 or any(type(side) is not int for side in sizes):
            raise ValueError("its size is not two whole numbers")
        if not all(set(faces) == set(EXPRESSIONS) for faces in counts.values()):
            raise ValueError("its counts are not of the seven expressions")
        if any(type(n) is not int or not 0 <= n < 1 << 40 for faces in counts.values() for n in faces.values()):
            raise ValueError("its counts contain a value that is not a number of images")
        if other := [
            key
            for key in ("scored", "labels", "left_out", "single_annotator")
            if not isinstance(about.get(key, {}), dict)
        ]:
            raise ValueError(f"its {other[0]} is not a mapping")
        if not isinstance(about.get("margin", 0.0), int | float):
            raise ValueError("its margin is not a number")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise BenchError(f"{folder} is not a prepared domain: its domain.json cannot be read ({error})") from None
    return about


def scored_part(about: Mapping[str, Any], profile: str, is_source: bool) -> str:
    """Return the part of a domain that is scored.

    It is "test", unless the split profile names another part for runs that do not learn from the domain.

    Args:
        about: The content of domain.json.
        profile: The split profile of the suite.
        is_source: The run learns from the domain.
    """
    part: str = "test" if is_source else about.get("scored", {}).get(profile, "test")
    return part


def is_prepared(folder: Path) -> bool:
    """Return True for the folder of a prepared domain."""
    return (folder / "domain.json").is_file()


def write_prepared(
    folder: Path, name: str, faces: Iterable[np.ndarray], columns: Mapping[str, Sequence[Any]], about: Mapping[str, Any]
) -> Path:
    """Write a prepared domain to a temporary folder and move it to its final path in one step.

    Args:
        folder: The final path.
        name: The name of the domain.
        faces: Blocks of images, uint8 (n, height, width, 3), in the order of the columns. One block is in memory at a
            time.
        columns: The columns of labels.csv; at least id, expression (names) and split.
        about: Further entries of domain.json.

    Returns:
        The final path.
    """
    import shutil
    import tempfile

    import numpy as np

    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        stored, done = None, 0
        for block in faces:
            if stored is None:
                shape = (len(columns["id"]), *block.shape[1:])
                stored = np.lib.format.open_memmap(draft / "faces.npy", "w+", np.uint8, shape)
            stored[done : done + len(block)] = block
            done += len(block)
        if stored is None or done != len(stored):
            raise ValueError(f"{many(done, 'image')} for {many(len(columns['id']), 'row')}")
        stored.flush()
        del stored
        return finish_prepared(draft, folder, name, columns, about)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def finish_prepared(
    draft: Path, folder: Path, name: str, columns: Mapping[str, Sequence[Any]], about: Mapping[str, Any]
) -> Path:
    """Add labels.csv and domain.json to a draft and move it to its final path.

    At every moment the final path contains either the old domain or the new one, each complete.

    Args:
        draft: A folder on the same file system that contains all images in faces.npy.
        folder: The final path.
        name: The name of the domain.
        columns: The columns of labels.csv.
        about: Further entries of domain.json.

    Returns:
        The final path.
    """
    import numpy as np

    from fergen_bench.files.atomic import exchange_folder

    with (draft / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    counts: dict[str, dict[str, int]] = {}
    for split, expression in zip(columns["split"], columns["expression"], strict=True):
        counts.setdefault(split, dict.fromkeys(EXPRESSIONS, 0))[expression] += 1
    size = list(np.load(draft / "faces.npy", mmap_mode="r").shape[1:3])
    described = {"name": name, **about, "size": size, "counts": counts, "fingerprint": fingerprint_of(draft)}
    (draft / "domain.json").write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    # All bytes reach the disk before the domain counts as prepared, so that a power failure leaves no partial domain.
    for path in draft.iterdir():
        with path.open("rb+") as stored:
            os.fsync(stored.fileno())
    exchange_folder(draft, folder)
    return folder


def fingerprint_of(folder: Path) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 over images and labels."""
    digest = hashlib.sha256()
    for name in ("faces.npy", "labels.csv"):
        with (folder / name).open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]
