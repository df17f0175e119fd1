"""All records below a folder, and the files there that are not records in their own place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

from fergen_bench.error import BenchError
from fergen_bench.records.record import RunRecord
from fergen_bench.records.store import load


def read_all(runs: Path) -> tuple[list[RunRecord], list[str]]:
    """Return every readable record below a folder, and a sentence for each problem.

    A record counts only at the path that its run would be written to. Copies that a sync service or a person left next
    to it, or in a copied folder, would otherwise count as further runs or hide newer ones.

    Args:
        runs: The folder of the records, such as results/runs.

    Returns:
        The records, sorted by path; and a sentence for each record that cannot be read, and one for all files that are
        not at the path of a record.
    """
    records, faults = [], []
    named, strays = candidates(runs)
    for path in named:
        try:
            record = load(path)
        except BenchError as error:
            faults.append(str(error))
            continue
        if is_in_place(record, path, runs):
            records.append(record)
        else:
            strays.append(path)
    return records, [*faults, *name_strays(strays, runs)]


def candidates(runs: Path) -> tuple[list[Path], list[Path]]:
    """Return the files below a folder that have the name of a record, and the other JSON files next to them."""
    named: list[Path] = []
    strays: list[Path] = []
    for path in sorted(runs.glob("*/*/*.json")):
        (named if _NAME.fullmatch(path.name) else strays).append(path)
    return named, strays


_NAME = re.compile(r"[^.].*-s\d+-[0-9a-f]{12}\.json")


def is_in_place(record: RunRecord, path: Path, runs: Path) -> bool:
    """Return whether a record was read from the path that its run would be written to."""
    # Some file systems decompose accents in names.
    return normalize("NFC", str(path)) == normalize("NFC", str(record.spec.path(runs)))


def name_strays(strays: Sequence[Path], runs: Path) -> list[str]:
    """Return a sentence about JSON files that are not at the path of a record, or an empty list without such files."""
    if not strays:
        return []
    inside = [path.relative_to(runs).as_posix() for path in sorted(strays)]
    shown = ["".join(letter if letter.isprintable() else "?" for letter in name) for name in inside[:3]]
    some = f"{', '.join(shown)}{f' and {len(strays) - 3:,} more' if len(strays) > 3 else ''}"
    if len(strays) == 1:
        return [f"{runs}: {some} is not a record in its own place and is ignored; delete it or move it elsewhere"]
    return [
        f"{runs}: {len(strays):,} files are not records in their own places and are ignored: {some}; delete or move "
        f"them"
    ]
