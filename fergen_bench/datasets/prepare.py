"""A listing → the prepared domain: decoded once, on several processes, in bounded memory, resumable after any end.

The faces go into a hidden draft beside the folder, in blocks. A journal beside the draft names the blocks whose pixels
are on the disk, each by a digest of all that its pixels depend on. So an unfinished draft serves whatever listing comes
next, as far as the digests agree, and a file that was mended costs one block.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import PIL

from fergen_bench.data.prepared import finish_prepared, is_prepared, read_about
from fergen_bench.datasets.check import counts_of, extras, identify, is_another, verdict
from fergen_bench.datasets.pixels import LARGEST_NATIVE, RESIZER, Depth, Source, Unreadable, decode_face, own_side
from fergen_bench.datasets.reader import Dataset, Face, Listing, read
from fergen_bench.datasets.statistics import (
    COLUMNS,
    VERSION,
    look,
    source_of,
    summary,
    unread,
    white_levels,
    white_notes,
)
from fergen_bench.error import FULL, BenchError, NeedsKey
from fergen_bench.files.bounded import printable_content
from fergen_bench.files.pool import worker_pool
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

BLOCK_BYTES = 1 << 23
"""Faces are decoded, written and journalled in blocks of about this size."""
DECODER = f"Pillow {PIL.__version__}"
NAMED = 20
"""How many unreadable files an error names."""
KEPT = 100
"""How many names of left-out files, and of lines with labels that disagree, domain.json holds."""

Task = TypeVar("Task")
Done = TypeVar("Done")
Unreadables = dict[int, str]
"""row → why it cannot be shown"""


@dataclass(frozen=True)
class Shape:
    """What decides how a file becomes a face, and where the face goes."""

    side: int
    margin: float
    emulate_bgr: bool
    white: float | None = None  # the level of deep images that the user gives

    @property
    def face_bytes(self) -> int:
        return self.side * self.side * 3

    def header(self, count: int) -> bytes:
        """How a faces.npy begins; of one length for all counts."""
        buffer = io.BytesIO()
        about = {"descr": "|u1", "fortran_order": False, "shape": (count, self.side, self.side, 3)}
        np.lib.format.write_array_header_1_0(buffer, about)
        return buffer.getvalue()


@dataclass(frozen=True)
class Block:
    """Consecutive faces of a listing."""

    start: int
    faces: Sequence[Face]
    shape: Shape
    path: Path  # faces.npy of the draft
    digest: str  # of all that the pixels depend on

    @property
    def rows(self) -> slice:
        """Where its faces are in the domain."""
        return slice(self.start, self.start + len(self.faces))


@dataclass(frozen=True)
class Decoded:
    """What a block turned out to hold."""

    unreadable: Unreadables
    table: np.ndarray  # statistics, a row for each face


def prepare(
    name: str,
    listing: Listing,
    about: Mapping[str, object],
    settings: DomainSettings,
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
) -> Path:
    """Decodes the faces of a listing into a prepared domain at `folder`. progress(done, total) counts faces.

    about: dataset, layout, and what else domain.json should say. Files that are missing or cannot be read are all found
    in one pass, and then refused, or left out where settings.allow_missing says so. Nothing is done where `folder` was
    prepared from the same files, labels and settings. Memory: the listing, and a few blocks for each process.
    """
    faces = listing.faces
    if folder.exists() and not is_prepared(folder) and (not folder.is_dir() or any(folder.iterdir())):
        raise BenchError(f"{folder} holds something else; name an empty place with --to")
    if not faces:
        raise BenchError(f"{name}: there is no face to prepare{_dropped(listing)}")
    from filelock import FileLock

    with _sentences(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_beside(folder, "lock")), worker_pool(processes) as pool:
            side = settings.size or _common_side(faces, pool, processes)
            shape = Shape(side, settings.margin, settings.emulate_bgr, settings.white)
            blocks = list(_blocks(faces, shape, _beside(folder, "draft") / "faces.npy"))
            columns = _columns(faces)
            described = {"synthetic": False, **about, **listing.about}
            notes = [*listing.notes, *extras(listing.faults)]
            described |= {"dropped": dict(listing.dropped), "notes": [*notes, *listing.passed_over.sentences()]}
            described |= {"resizer": RESIZER, "decoder": DECODER}
            if disagreeing := [fault.what for fault in listing.faults if fault.kind == "label"]:
                described["labels_disagree"] = {"total": len(disagreeing), "lines": disagreeing[:KEPT]}
            described = printable_content(described)
            rows = (repr(row) for row in zip(*columns.values(), strict=True))
            # Tools leave files at any time; those make no other domain.
            same = {**described, "notes": [*notes, *listing.passed_over.sentences(but="leftover")]}
            inputs = _digest([repr(same), repr(settings.allow_missing), *(b.digest for b in blocks)], rows)
            if is_prepared(folder) and read_about(folder).get("inputs") == inputs:
                progress(len(faces), len(faces))
                return folder
            with _sentences(folder, blocks):
                decoded = _decode_all(folder, blocks, pool, processes, progress)
                unreadable, pixels = decoded.unreadable, decoded.table
                left_out = _left_out(name, listing, unreadable, settings.allow_missing)
                whites = white_levels(faces, pixels, settings.white, name)
                _rescale(folder, blocks, pixels, whites, pool, processes)
                described |= printable_content(
                    {
                        "notes": [*described["notes"], *white_notes(faces, pixels, whites, settings.white)],
                        "pixels": summary(faces, pixels, str(about.get("dataset"))),
                    }
                )
                if left_out:
                    described["left_out"] = {"total": len(left_out), "files": left_out[:KEPT]}
                if unreadable:
                    keep = np.ones(len(faces), bool)
                    keep[list(unreadable)] = False
                    _close_up(folder, blocks[0], keep)
                    columns = {column: list(compress(values, keep)) for column, values in columns.items()}
                if "subject" in columns:
                    # Faces of nobody known stand there under their own names.
                    described["subjects"] = len(set(columns["subject"]) - set(columns["id"]))
                finish_prepared(blocks[0].path.parent, folder, name, columns, {**described, "inputs": inputs})
                _beside(folder, "journal").unlink(missing_ok=True)
    return folder


def prepare_dataset(
    name: str,
    kind: Dataset,
    settings: DomainSettings,
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
) -> Path:
    """Reads a copy of a dataset and prepares it as the domain `name`. A copy of another dataset is refused; what is not
    even a part of a copy is, too, under the dataset's own name, by which suites take it for the dataset.
    """
    layout, listing = read(kind, settings)
    found = counts_of(listing.faces)
    finding = verdict(kind, found, listing.expected, layout.official)
    if kind.expected and (other := identify(found, but=kind.name)) is not None:
        raise BenchError(
            f"{settings.path}: {finding.what}; prepare it as what it is: fergen-bench data prepare {other.name} "
            f"{settings.path}"
        )
    if name == kind.name and is_another(found, kind.expected if listing.expected is None else listing.expected):
        raise NeedsKey(
            f"{settings.path}: this is not {kind.title}: {finding.what}, and no split has half of its faces and some "
            f"of every expression; name the folder that holds it, or call this something else,",
            f'such as [domains.my-{kind.name}] with dataset = "{kind.name}"',
            f"such as --name my-{kind.name}",
        )
    about: dict[str, object] = {"dataset": kind.name, "layout": layout.name, "verdict": finding.what}
    if kind.expected:
        about |= {"official_split": layout.official, "whole": finding.level == "ok"}
    if kind.scored:
        about["scored"] = dict(kind.scored)
    if listing.expected is not None:
        about["expected"] = listing.expected
    if crop := layout.crop or _crop(listing.faces):
        about["crop"] = crop
    for choice in ("labels", "margin", "emulate_bgr", "white"):
        if getattr(settings, choice):
            about[choice] = getattr(settings, choice)
    return prepare(name, listing, about, settings, folder, processes, progress)


def _crop(faces: Sequence[Face]) -> str:
    """How the faces of a listing lie in their images, as far as boxes and names show it."""
    if any(face.box is not None for face in faces):
        return "box"
    named = ("" if face.file is None else "/".join(face.file.parts[-4:]) for face in faces)
    return "aligned" if all(re.search("(?<![a-z])aligned", name.casefold()) for name in named) else ""


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _columns(faces: Sequence[Face]) -> dict[str, list[str]]:
    """labels.csv, column by column."""
    columns = {
        "id": [face.id for face in faces],
        "expression": [face.expression for face in faces],
        "split": [face.split for face in faces],
    }
    if any(face.subject is not None for face in faces):
        # Faces of nobody known are their own subjects, not all of them one.
        columns["subject"] = [face.id if face.subject is None else face.subject for face in faces]
    if any(face.native_label for face in faces):
        columns["native_label"] = [face.native_label for face in faces]
    for name in dict.fromkeys(name for face in faces for name in face.extra or ()):
        columns[name] = [(face.extra or {}).get(name, "") for face in faces]
    return columns


def _left_out(name: str, listing: Listing, unreadable: Unreadables, allowed: bool) -> list[str]:
    """Names of what is missing or unreadable; refused unless that is allowed."""
    missing = [fault for fault in listing.faults if fault.kind in {"missing", "unreadable"}]
    total = len(missing) + len(unreadable)
    if total and not allowed:
        shown = [str(fault) for fault in missing[:NAMED]]
        shown += [f"{listing.faces[row].file or listing.faces[row].id}: {why}" for row, why in unreadable.items()]
        more = [f"and {total - NAMED:,} more"] if total > NAMED else []
        raise BenchError(
            f"{name}: {total:,} {'file is' if total == 1 else 'files are'} missing or cannot be read; mend them, or "
            f"leave them out with --allow-missing (allow_missing = true in bench.toml). What was decoded is kept for "
            f"the next time.\n  " + "\n  ".join(shown[:NAMED] + more)
        )
    if len(unreadable) == len(listing.faces):
        raise BenchError(f"{name}: not one of the {many(len(listing.faces), 'face')} can be read{_dropped(listing)}")
    return [fault.where for fault in missing] + [listing.faces[row].id for row in unreadable]


def _dropped(listing: Listing) -> str:
    counts = ", ".join(f"{count:,} {why}" for why, count in listing.dropped.items())
    return f" (left out: {counts})" if counts else ""


# --------------------------------------------------------------------------------------------------------------- blocks


def _blocks(faces: Sequence[Face], shape: Shape, path: Path) -> Iterator[Block]:
    step = max(1, BLOCK_BYTES // shape.face_bytes)
    for start in range(0, len(faces), step):
        some = faces[start : start + step]
        digest = _digest([repr((start, shape, RESIZER, DECODER, VERSION))], map(_origin, some))
        yield Block(start, some, shape, path, digest)


def _origin(face: Face) -> str:
    """What a face's pixels depend on."""
    if face.file is None:
        return f"{hashlib.sha256(face.pixels or b'').hexdigest()} {face.box}"
    try:
        state = face.file.stat()
    except OSError:
        return f"{face.file} missing"
    return f"{face.file} {state.st_size} {state.st_mtime_ns} {face.box}"


def _digest(*parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for text in part:
            digest.update(text.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()


def _decode_all(
    folder: Path, blocks: list[Block], pool: ProcessPoolExecutor, processes: int, progress: Callable[[int, int], None]
) -> Decoded:
    """Fills the draft's faces.npy, apart from blocks that are in it already."""
    total = blocks[-1].start + len(blocks[-1].faces)
    finished = _open_draft(folder, blocks, total)
    open_blocks = [block for block in blocks if block.digest not in finished]
    done = total - sum(len(block.faces) for block in open_blocks)
    progress(done, total)
    with blocks[0].path.open("r+b") as stored, _beside(folder, "journal").open("a", encoding="utf-8") as journal:
        for block, decoded in zip(open_blocks, _ahead(pool, _decode, open_blocks, processes), strict=True):
            os.fsync(stored.fileno())  # the journal never promises what is not on the disk
            journal.write(_line(block.digest, decoded))
            journal.flush()
            finished[block.digest] = decoded
            done += len(block.faces)
            progress(done, total)
    whole = Decoded({}, unread(total))
    for block in blocks:
        whole.unreadable.update(finished[block.digest].unreadable)
        whole.table[block.rows] = finished[block.digest].table
    return whole


def _rescale(
    folder: Path,
    blocks: list[Block],
    table: np.ndarray,
    whites: Mapping[Depth, float],
    pool: ProcessPoolExecutor,
    processes: int,
) -> None:
    """Decodes again, in place, the deep images whose own levels suggest another white than all of them together."""
    deep = np.flatnonzero(table[:, COLUMNS.index("depth")] > 0).tolist()
    sources = {row: source_of(table[row]) for row in deep}
    wrong = {row: whites[source.depth] for row, source in sources.items() if source.white != whites[source.depth]}
    if not wrong or blocks[0].shape.white is not None:
        return
    _beside(folder, "journal").unlink(missing_ok=True)  # from here on the draft serves nobody else
    tasks = [
        replace(block, start=row, faces=[block.faces[row - block.start]], shape=replace(block.shape, white=wrong[row]))
        for block in blocks
        for row in range(block.rows.start, block.rows.stop)
        if row in wrong
    ]
    for task, decoded in zip(tasks, _ahead(pool, _decode, tasks, processes), strict=True):
        table[task.start] = decoded.table[0]


def _open_draft(folder: Path, blocks: list[Block], total: int) -> dict[str, Decoded]:
    """Makes the draft, or takes up one that is there: digests of its finished blocks, with what they hold.

    The journal is cut down to them first, since all other blocks will be overwritten.
    """
    path, journal = blocks[0].path, _beside(folder, "journal")
    finished: dict[str, Decoded] = {}
    if path.is_file() and journal.is_file():
        wanted = {block.digest: len(block.faces) for block in blocks}
        finished = {
            digest: decoded for digest, decoded in _entries(journal) if len(decoded.table) == wanted.get(digest)
        }
    if not finished:
        shutil.rmtree(path.parent, ignore_errors=True)
    path.parent.mkdir(exist_ok=True)
    fresh = _beside(folder, "journal.new")
    fresh.write_text("".join(_line(digest, decoded) for digest, decoded in finished.items()), encoding="utf-8")
    os.replace(fresh, journal)
    whole = _whole(blocks)
    with path.open("r+b" if finished else "wb") as stored:
        stored.write(blocks[0].shape.header(total))
        if path.stat().st_size > whole:
            stored.truncate(whole)
    free, needed = shutil.disk_usage(folder.parent).free, _still_needed(blocks)
    if needed > free:
        raise BenchError(
            f"{folder}: preparing {many(total, 'face')} of {blocks[0].shape.side} × {blocks[0].shape.side} pixels "
            f"needs {needed:,} bytes more and the disk has {free:,}; free {needed - free:,} bytes there, or choose a "
            f"smaller size or another disk"
        )
    return finished


def _line(digest: str, decoded: Decoded) -> str:
    entry = {"digest": digest, "unreadable": list(decoded.unreadable.items()), "table": decoded.table.tolist()}
    return json.dumps(entry) + "\n"


def _entries(journal: Path) -> Iterator[tuple[str, Decoded]]:
    """Whole lines of a journal: the last one may have been cut short."""
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            table = np.array(entry["table"], np.float64).reshape(-1, len(COLUMNS))
            yield entry["digest"], Decoded(dict(entry["unreadable"]), table)
        except (ValueError, KeyError, TypeError):
            continue


def _close_up(folder: Path, block: Block, keep: np.ndarray) -> None:
    """Moves the faces that are kept together, in place. From here on the draft serves nobody else."""
    _beside(folder, "journal").unlink(missing_ok=True)
    faces = np.load(block.path, mmap_mode="r+")
    step, filled = max(1, BLOCK_BYTES // block.shape.face_bytes), 0
    for start in range(0, len(keep), step):
        some = faces[start : start + step][keep[start : start + step]]
        faces[filled : filled + len(some)] = some
        filled += len(some)
    faces.flush()
    del faces
    header = block.shape.header(filled)
    with block.path.open("r+b") as stored:
        stored.write(header)
        stored.truncate(len(header) + filled * block.shape.face_bytes)


def _whole(blocks: list[Block]) -> int:
    """Bytes of the finished faces.npy."""
    last = blocks[-1]
    total = last.start + len(last.faces)
    return len(last.shape.header(total)) + total * last.shape.face_bytes


def _still_needed(blocks: list[Block]) -> int:
    """Bytes that the draft does not occupy yet; labels.csv is taken as 256 a face."""
    path, rows = blocks[0].path, blocks[-1].start + len(blocks[-1].faces)
    occupied = path.stat().st_blocks * 512 if path.is_file() else 0
    return max(0, _whole(blocks) - occupied) + 256 * rows


@contextmanager
def _sentences(folder: Path, blocks: list[Block] | None = None) -> Iterator[None]:
    """What goes wrong while writing, said in one sentence."""
    try:
        yield
    except BrokenProcessPool:
        raise BenchError(
            f"{folder}: a process that decoded faces for it was ended from outside, probably for want of memory; run "
            f"the command again, with less beside it: it goes on where it stopped"
        ) from None
    except OSError as error:
        place = error.filename or folder
        if error.errno not in FULL:
            raise BenchError(f"{place}: cannot be written: {error.strerror or error}") from None
        needed = f"{_still_needed(blocks):,} bytes more" if blocks else "more bytes"
        raise BenchError(
            f"{place}: the disk or your quota is full ({error.strerror}): preparing {folder} needs {needed}; make room "
            f"there and run the command again: it goes on where it stopped"
        ) from None


# ------------------------------------------------------------------------------------------------------------ processes


def _common_side(faces: Sequence[Face], pool: ProcessPoolExecutor, processes: int) -> int:
    """The faces' own side where all are squares of one size that is at most LARGEST_NATIVE; else LARGEST_NATIVE."""
    sides: set[int] = set()
    for found in _ahead(pool, _own_sides, (faces[at : at + 500] for at in range(0, len(faces), 500)), processes):
        sides |= found
        if len(sides) > 1:
            break
    return sides.pop() if len(sides) == 1 else LARGEST_NATIVE


def _own_sides(faces: Sequence[Face]) -> set[int]:
    return {side for face in faces if (side := own_side(face)) is not None}


def _decode(block: Block) -> Decoded:
    """Decodes a block into its place in the file."""
    shape, unreadable = block.shape, {}
    pixels = np.zeros((len(block.faces), shape.side, shape.side, 3), np.uint8)
    sources: list[Source | None] = [None] * len(block.faces)
    for place, face in enumerate(block.faces):
        try:
            pixels[place], sources[place] = decode_face(face, shape.side, shape.margin, shape.emulate_bgr, shape.white)
        except Unreadable as fault:
            unreadable[block.start + place] = str(fault)
    try:
        with block.path.open("r+b") as stored:
            stored.seek(len(shape.header(0)) + block.start * shape.face_bytes)
            stored.write(pixels.data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(block.path)) from None
    return Decoded(unreadable, look(pixels, sources, shape.emulate_bgr))


def _ahead(
    pool: ProcessPoolExecutor, work: Callable[[Task], Done], tasks: Iterable[Task], processes: int
) -> Iterator[Done]:
    """Results in the order of the tasks, of which a few at a time are given out."""
    waiting: deque[Future[Done]] = deque()
    for task in tasks:
        waiting.append(pool.submit(work, task))
        if len(waiting) > 2 * max(1, processes):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
