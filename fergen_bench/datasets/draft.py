"""Decode the images of a listing into a draft: an unfinished faces.npy in a hidden folder next to the prepared domain.

The draft is filled in blocks, on several processes and in bounded memory. A journal in the same folder lists the blocks
whose pixels are on the disk, each by a digest of everything that its pixels depend on. So a preparation that was killed
continues, a draft can serve another listing as far as the digests agree, and a repaired file costs one block.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL

from fergen_bench.datasets.pixels import LARGEST_NATIVE, RESIZER, Depth, Source, Unreadable, decode_face, own_side
from fergen_bench.datasets.reader import Face
from fergen_bench.datasets.statistics import COLUMNS, VERSION, look, source_of, unread
from fergen_bench.error import FULL, BenchError
from fergen_bench.wording import many

BLOCK_BYTES = 1 << 23
"""Approximate size of the blocks in which faces are decoded, written and journalled."""
DECODER = f"Pillow {PIL.__version__}"

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Shape:
    """The settings that determine the pixels of a face, and their size in faces.npy."""

    side: int
    margin: float
    emulate_bgr: bool
    white: float | None = None  # the white level of deep images, where the user gives it

    @property
    def face_bytes(self) -> int:
        """Bytes of one face."""
        return self.side * self.side * 3

    def header(self, count: int) -> bytes:
        """Return the header of a faces.npy of so many faces, which has the same length for all counts."""
        buffer = io.BytesIO()
        about = {"descr": "|u1", "fortran_order": False, "shape": (count, self.side, self.side, 3)}
        np.lib.format.write_array_header_1_0(buffer, about)
        return buffer.getvalue()


@dataclass(frozen=True)
class _Block:
    """Consecutive faces of a listing."""

    start: int
    faces: Sequence[Face]
    shape: Shape
    path: Path  # faces.npy of the draft
    digest: str  # of everything that the pixels depend on

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + len(self.faces))


@dataclass(frozen=True)
class Decoded:
    """The result of decoding faces.

    Attributes:
        unreadable: Row → the reason why its file cannot be decoded.
        table: Statistics of the pixels, a row per face.
    """

    unreadable: dict[int, str]
    table: np.ndarray


class Draft:
    """The draft of one prepared domain.

    Attributes:
        folder: The hidden folder of the draft, which becomes the domain.
        digests: A digest per block of everything that its pixels depend on.
    """

    def __init__(
        self, target: Path, faces: Sequence[Face], shape: Shape, pool: ProcessPoolExecutor, processes: int
    ) -> None:
        """Describe a draft, without creating it.

        Args:
            target: Folder of the domain.
            faces: The faces of a listing, at least one.
            shape: The settings that determine their pixels.
            pool: Worker processes.
            processes: Number of worker processes.
        """
        self.folder = beside(target, "draft")
        self._target, self._shape, self._count = target, shape, len(faces)
        self._path, self._journal = self.folder / "faces.npy", beside(target, "journal")
        self._pool, self._processes = pool, processes
        self._blocks = list(_cut(faces, shape, self._path))
        self.digests = [block.digest for block in self._blocks]

    def decode(self, progress: Callable[[int, int], None]) -> Decoded:
        """Decode all faces, except those of blocks that the draft contains already.

        Args:
            progress: Called with the number of decoded faces and the total.

        Raises:
            BenchError: The disk has too little space.
        """
        finished = self._open()
        missing = [block for block in self._blocks if block.digest not in finished]
        done = self._count - sum(len(block.faces) for block in missing)
        progress(done, self._count)
        with self._path.open("r+b") as stored, self._journal.open("a", encoding="utf-8") as journal:
            for block, decoded in zip(missing, self._in_order(_decode, missing), strict=True):
                os.fsync(stored.fileno())  # a block is on the disk before the journal lists it
                journal.write(_journal_line(block.digest, decoded))
                journal.flush()
                finished[block.digest] = decoded
                done += len(block.faces)
                progress(done, self._count)
        whole = Decoded({}, unread(self._count))
        for block in self._blocks:
            whole.unreadable.update(finished[block.digest].unreadable)
            whole.table[block.rows] = finished[block.digest].table
        return whole

    def rescale(self, table: np.ndarray, whites: Mapping[Depth, float]) -> None:
        """Decode again the deep images whose own levels suggest another white than all images together.

        Args:
            table: Statistics of the pixels, which are updated.
            whites: The white level of all images, by depth.
        """
        deep = np.flatnonzero(table[:, COLUMNS.index("depth")] > 0).tolist()
        sources = {row: source_of(table[row]) for row in deep}
        wrong = {row: whites[source.depth] for row, source in sources.items() if source.white != whites[source.depth]}
        if not wrong or self._shape.white is not None:
            return
        self._journal.unlink(missing_ok=True)  # from here on the draft cannot serve another listing
        tasks = [
            replace(block, start=row, faces=[block.faces[row - block.start]], shape=replace(block.shape, white=white))
            for block in self._blocks
            for row in range(block.rows.start, block.rows.stop)
            if (white := wrong.get(row)) is not None
        ]
        for task, decoded in zip(tasks, self._in_order(_decode, tasks), strict=True):
            table[task.start] = decoded.table[0]

    def keep(self, rows: np.ndarray) -> None:
        """Remove all but some faces, in place.

        Args:
            rows: bool (N,), True for the faces that remain.
        """
        self._journal.unlink(missing_ok=True)  # from here on the draft cannot serve another listing
        faces = np.load(self._path, mmap_mode="r+")
        step, filled = max(1, BLOCK_BYTES // self._shape.face_bytes), 0
        for start in range(0, len(rows), step):
            some = faces[start : start + step][rows[start : start + step]]
            faces[filled : filled + len(some)] = some
            filled += len(some)
        faces.flush()
        del faces
        header = self._shape.header(filled)
        with self._path.open("r+b") as stored:
            stored.write(header)
            stored.truncate(len(header) + filled * self._shape.face_bytes)

    def finish(self) -> None:
        """Remove the journal, once the draft has become the domain."""
        self._journal.unlink(missing_ok=True)

    def bytes_needed(self) -> int:
        """Return the bytes that the draft will still occupy; labels.csv counts as 256 bytes per face."""
        occupied = self._path.stat().st_blocks * 512 if self._path.is_file() else 0
        return max(0, self._size() - occupied) + 256 * self._count

    def _open(self) -> dict[str, Decoded]:
        """Create the draft or continue one, and return the results of its finished blocks by digest.

        The journal is first reduced to these blocks, since all other blocks will be overwritten.
        """
        finished: dict[str, Decoded] = {}
        if self._path.is_file() and self._journal.is_file():
            wanted = {block.digest: len(block.faces) for block in self._blocks}
            finished = {
                digest: decoded
                for digest, decoded in _journal_entries(self._journal)
                if len(decoded.table) == wanted.get(digest)
            }
        if not finished:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(exist_ok=True)
        fresh = beside(self._target, "journal.new")
        fresh.write_text("".join(_journal_line(digest, it) for digest, it in finished.items()), encoding="utf-8")
        os.replace(fresh, self._journal)
        with self._path.open("r+b" if finished else "wb") as stored:
            stored.write(self._shape.header(self._count))
            if self._path.stat().st_size > self._size():
                stored.truncate(self._size())
        self._require_space()
        return finished

    def _require_space(self) -> None:
        free, needed = shutil.disk_usage(self._target.parent).free, self.bytes_needed()
        if needed > free:
            side = self._shape.side
            raise BenchError(
                f"{self._target}: preparing {many(self._count, 'face')} of {side} × {side} pixels needs {needed:,} "
                f"bytes more and the disk has {free:,}. Free {needed - free:,} bytes there, or choose a smaller size "
                f"or another disk"
            )

    def _size(self) -> int:
        """Return the bytes of the finished faces.npy."""
        return len(self._shape.header(self._count)) + self._count * self._shape.face_bytes

    def _in_order(self, work: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        return results_in_order(self._pool, work, tasks, self._processes)


def beside(folder: Path, what: str) -> Path:
    """Return the path of a hidden file or folder that belongs to a folder and lies next to it."""
    return folder.with_name(f".{folder.name}.{what}")


@contextmanager
def write_errors(folder: Path, draft: Draft | None = None) -> Iterator[None]:
    """Turn failures to write a domain into one sentence.

    Args:
        folder: Folder of the domain.
        draft: The draft, for the number of bytes that are needed.
    """
    try:
        yield
    except BrokenProcessPool:
        raise BenchError(
            f"{folder}: a process that decoded faces for it was killed, probably because memory ran out. Run the "
            f"command again while fewer other programs run; it continues where it stopped"
        ) from None
    except OSError as error:
        place = error.filename or folder
        if error.errno not in FULL:
            raise BenchError(f"{place}: cannot be written: {error.strerror or error}") from None
        needed = f"{draft.bytes_needed():,} bytes more" if draft else "more bytes"
        raise BenchError(
            f"{place}: the disk or your quota is full ({error.strerror}): preparing {folder} needs {needed}. Free "
            f"space there and run the command again; it continues where it stopped"
        ) from None


def common_side(faces: Sequence[Face], pool: ProcessPoolExecutor, processes: int) -> int:
    """Return the side in pixels that all faces share, where it is at most LARGEST_NATIVE; else LARGEST_NATIVE."""
    sides: set[int] = set()
    chunks = (faces[start : start + 500] for start in range(0, len(faces), 500))
    for found in results_in_order(pool, _own_sides, chunks, processes):
        sides |= found
        if len(sides) > 1:
            break
    return sides.pop() if len(sides) == 1 else LARGEST_NATIVE


def _own_sides(faces: Sequence[Face]) -> set[int]:
    return {side for face in faces if (side := own_side(face)) is not None}


def results_in_order(
    pool: ProcessPoolExecutor, work: Callable[[Task], Result], tasks: Iterable[Task], processes: int
) -> Iterator[Result]:
    """Yield results in the order of the tasks, with only a few tasks submitted at a time."""
    waiting: deque[Future[Result]] = deque()
    for task in tasks:
        waiting.append(pool.submit(work, task))
        if len(waiting) > 2 * max(1, processes):
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def digest_of(*parts: Iterable[str]) -> str:
    """Return the SHA-256 digest of texts."""
    digest = hashlib.sha256()
    for part in parts:
        for text in part:
            digest.update(text.encode(errors="surrogateescape") + b"\n")
    return digest.hexdigest()


# --------------------------------------------------------------------------------------------------------------- blocks


def _cut(faces: Sequence[Face], shape: Shape, path: Path) -> Iterator[_Block]:
    """Cut faces into blocks."""
    step = max(1, BLOCK_BYTES // shape.face_bytes)
    for start in range(0, len(faces), step):
        some = faces[start : start + step]
        digest = digest_of([repr((start, shape, RESIZER, DECODER, VERSION))], map(origin, some))
        yield _Block(start, some, shape, path, digest)


def origin(face: Face) -> str:
    """Return everything that the pixels of a face depend on."""
    if face.file is None:
        return f"{hashlib.sha256(face.pixels or b'').hexdigest()} {face.box}"
    try:
        state = face.file.stat()
    except OSError:
        return f"{face.file} missing"
    return f"{face.file} {state.st_size} {state.st_mtime_ns} {face.box}"


def _decode(block: _Block) -> Decoded:
    """Decode a block into its position in the file."""
    shape, unreadable = block.shape, {}
    pixels = np.zeros((len(block.faces), shape.side, shape.side, 3), np.uint8)
    sources: list[Source | None] = [None] * len(block.faces)
    for row, face in enumerate(block.faces):
        try:
            pixels[row], sources[row] = decode_face(face, shape.side, shape.margin, shape.emulate_bgr, shape.white)
        except Unreadable as fault:
            unreadable[block.start + row] = str(fault)
    try:
        with block.path.open("r+b") as stored:
            stored.seek(len(shape.header(0)) + block.start * shape.face_bytes)
            stored.write(pixels.data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(block.path)) from None
    return Decoded(unreadable, look(pixels, sources, shape.emulate_bgr))


def _journal_line(digest: str, decoded: Decoded) -> str:
    entry = {"digest": digest, "unreadable": list(decoded.unreadable.items()), "table": decoded.table.tolist()}
    return json.dumps(entry) + "\n"


def _journal_entries(journal: Path) -> Iterator[tuple[str, Decoded]]:
    """Yield the complete lines of a journal, whose last line may be cut short."""
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            table = np.array(entry["table"], np.float64).reshape(-1, len(COLUMNS))
            yield entry["digest"], Decoded(dict(entry["unreadable"]), table)
        except (ValueError, KeyError, TypeError):
            continue
