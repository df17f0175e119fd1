"""Find the face in every image of a listing, for datasets of whole photographs.

The images are searched in several processes. A hidden file next to the prepared folder stores what was found, so that
neither a preparation that continues nor one that is repeated searches an image again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from fergen_bench.datasets.detector import Detection, open_detector, square
from fergen_bench.datasets.draft import beside, origin, results_in_order
from fergen_bench.datasets.pixels import Unreadable, open_face
from fergen_bench.datasets.reader import Face, Listing
from fergen_bench.error import BenchError
from fergen_bench.files.pool import worker_pool

TOGETHER = 8
"""Images that a process searches at a time."""
MOST_LISTED = 1000
"""Largest number of images that domain.json lists."""
NO_FACE = "no face was found"


class Found(NamedTuple):
    """The faces in one image."""

    faces: int  # 0 also where the image cannot be read, which its preparation reports
    box: tuple[float, ...]  # the square crop of the largest: left, top, width and height; empty without a face
    readable: bool = True


class Search(NamedTuple):
    """A way to search images."""

    detector: str  # its name and version
    of: Callable[[Sequence[Face]], list[Found]]


def crop_faces(
    listing: Listing,
    name: str,
    folder: Path,
    processes: int,
    progress: Callable[[int, int], None],
    search: Search | None = None,
) -> None:
    """Give every face of a listing the box of the largest face in its image.

    Images without a face are left out, and listed under `faces` in domain.json with those that show several.

    Args:
        listing: The listing, which is updated.
        name: The name of the domain, for errors.
        folder: Folder of the prepared domain.
        processes: Number of worker processes.
        progress: Called with the number of images that were searched and the total.
        search: Searches images in a worker process; by default, with the detector of the extra `faces`.

    Raises:
        BenchError: Faces have boxes already, the detector is not installed, or no image shows a face.
    """
    if any(face.box is not None or face.file is None for face in listing.faces):
        raise BenchError(f"{name}: crop is ineffective: these faces are cropped, or have boxes already. Remove it")
    search = search or Search(open_detector().name, searched)
    results = _results(listing.faces, search, beside(folder, "faces"), processes, progress)
    kept, without, several = [], [], []
    for face, found in zip(listing.faces, results, strict=True):
        if found.faces or not found.readable:
            left, top, width, height = found.box or (0.0, 0.0, 1.0, 1.0)
            kept.append(replace(face, box=(left, top, width, height)))
        else:
            without.append(face.id)
        if found.faces > 1:
            several.append(face.id)
    if not any(found.faces for found in results):
        raise BenchError(f"{name}: no face was found in any of its images; leave crop out if they are cropped")
    if without:
        listing.dropped[NO_FACE] += len(without)
        listing.notes.append(
            f"{len(without):,} of {len(listing.faces):,} images are left out: {NO_FACE} in them, such as {without[0]}. "
            f"domain.json lists them under faces."
        )
    if several:
        listing.notes.append(
            f"{len(several):,} images show several faces, of which the largest is used, such as {several[0]}. "
            f"domain.json lists them under faces."
        )
    listing.faces = kept
    listing.about["detector"] = search.detector
    listing.about["faces"] = {
        "none": {"total": len(without), "files": without[:MOST_LISTED]},
        "several": {"total": len(several), "files": several[:MOST_LISTED]},
    }


def _results(
    faces: Sequence[Face], search: Search, journal: Path, processes: int, progress: Callable[[int, int], None]
) -> list[Found]:
    """Return what is found in each image, from the journal where it is known."""
    keys = [f"{search.detector} {origin(face)}" for face in faces]
    known = dict(_entries(journal))
    missing = [row for row, key in enumerate(keys) if key not in known]
    done = len(faces) - len(missing)
    progress(done, len(faces))
    journal.parent.mkdir(parents=True, exist_ok=True)
    tasks = [missing[start : start + TOGETHER] for start in range(0, len(missing), TOGETHER)]
    with journal.open("a", encoding="utf-8") as file, worker_pool(processes) as pool:
        batches = ([faces[row] for row in task] for task in tasks)
        file.write("\n")  # the last line may have been cut short
        for task, results in zip(tasks, results_in_order(pool, search.of, batches, processes), strict=True):
            for row, found in zip(task, results, strict=True):
                known[keys[row]] = found
                file.write(json.dumps([keys[row], *found]) + "\n")
            file.flush()
            done += len(task)
            progress(done, len(faces))
    return [known[key] for key in keys]


def _entries(journal: Path) -> Iterator[tuple[str, Found]]:
    """Yield the complete lines of a journal, whose last line may be cut short."""
    if not journal.is_file():
        return
    for line in journal.read_text(encoding="utf-8").splitlines():
        try:
            key, faces, box, readable = json.loads(line)
            if len(box) in (0, 4):
                yield str(key), Found(int(faces), tuple(map(float, box)), bool(readable))
        except (ValueError, TypeError):
            continue


def searched(faces: Sequence[Face]) -> list[Found]:
    """Search some images, in a worker process."""
    return [_in_image(face) for face in faces]


def _in_image(face: Face) -> Found:
    try:
        image, _ = open_face(face)
    except Unreadable:
        return Found(0, (), False)
    found: list[Detection] = open_detector()(image)
    return Found(len(found), square(found[0]) if found else ())
