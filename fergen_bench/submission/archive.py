"""Write and read a submission: a zip archive of packed records and of the method files that made them.

The archive has `submission.json`, which names every other file with its SHA-256; `methods/NAME.py`; and packed records
as `SUITE/PROTOCOL.jsonl` with `SUITE/PROTOCOL.npz`. Nothing is extracted to a path that the archive names.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fergen_bench.error import BenchError
from fergen_bench.files.atomic import atomically
from fergen_bench.files.bounded import archive_names, parse_json, read_archive
from fergen_bench.records.packed import PackedRecords, contents, files_of

if TYPE_CHECKING:
    from fergen_bench.records.collection import Records
    from fergen_bench.records.record import RunRecord

FORMAT = 1
MANIFEST = "submission.json"
_METHOD = re.compile(r"methods/(?P<name>\w[\w.@-]{0,99})\.py")
_RECORDS = re.compile(r"\w[\w.@-]{0,99}/\w[\w.@-]{0,99}\.(?:jsonl|npz)")
_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the oldest date of a zip archive: equal contents give equal bytes


@dataclass(frozen=True)
class Submission:
    """The content of a submission.

    Attributes:
        path: The archive.
        about: The content of its manifest.
        methods: The text of each method file by the name of the method.
        records: Its packed records.
    """

    path: Path
    about: Mapping[str, Any]
    methods: Mapping[str, bytes]
    records: PackedRecords


def is_submission(path: Path) -> bool:
    """Return whether a file is a zip archive with a manifest or method files, which packed records lack."""
    return any(name == MANIFEST or _METHOD.fullmatch(name) for name in archive_names(path))


def write_submission(
    path: Path, stored: Records, records: Iterable[RunRecord], methods: Mapping[str, bytes], about: Mapping[str, Any]
) -> int:
    """Write a submission, and return its size in bytes. Equal contents give equal bytes.

    Args:
        path: The archive.
        stored: The collection that contains the records.
        records: The records that are submitted.
        methods: The text of each method file by the name of the method.
        about: Further content of the manifest, for JSON.
    """
    files = files_of((record, contents(stored, record)) for record in records)
    files |= {f"methods/{name}.py": text for name, text in methods.items()}
    return write_archive(path, files, about)


def write_archive(path: Path, files: Mapping[str, bytes], about: Mapping[str, Any]) -> int:
    """Write files and their manifest to a zip archive, and return its size in bytes.

    Args:
        path: The archive.
        files: The content of each file by its name.
        about: Further content of the manifest.
    """
    digests = {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)}
    manifest = json.dumps({"format": FORMAT, **about, "files": digests}, indent=1, ensure_ascii=False) + "\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted({**files, MANIFEST: manifest.encode()}.items()):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.external_attr = 0o644 << 16
            # Arrays are compressed already.
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".npz") else zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    with atomically(path) as draft:
        draft.write_bytes(buffer.getvalue())
    return len(buffer.getvalue())


def read_submission(path: Path) -> Submission:
    """Read a submission into memory.

    Raises:
        BenchError: The file is not a submission, contains other files than submissions have, or differs from its
            manifest.
    """
    try:
        files = read_archive(path)
        about = parse_json(files.pop(MANIFEST))
        if not isinstance(about, dict) or not isinstance(about.get("files"), dict):
            raise ValueError(f"{MANIFEST} does not name the files")
        if about.get("format") != FORMAT:
            raise ValueError(f"it has format {str(about.get('format'))[:20]}, and this version reads {FORMAT}")
    except KeyError:
        raise BenchError(f"{path}: the archive lacks {MANIFEST}; make it with fergen-bench submit") from None
    except (OSError, ValueError) as error:
        raise BenchError(
            f"{path}: this submission cannot be read ({error}); make it with fergen-bench submit"
        ) from None
    if odd := sorted(name for name in files if not (_METHOD.fullmatch(name) or _RECORDS.fullmatch(name))):
        raise BenchError(f"{path}: {odd[0][:100]!r} is not a file of submissions; make it with fergen-bench submit")
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    if different := sorted(
        name for name in {**digests, **about["files"]} if digests.get(name) != about["files"].get(name)
    ):
        raise BenchError(
            f"{path}: {str(different[0])[:100]!r} is missing or differs from {MANIFEST}; make the submission again"
        )
    methods = {
        found["name"]: content for name, content in files.items() if (found := _METHOD.fullmatch(name)) is not None
    }
    return Submission(path, about, methods, PackedRecords(path, files))
