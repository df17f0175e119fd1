"""Read CK+ (Lucey et al., CVPR Workshops 2010): sequences from a neutral face to the peak of an expression, unsplit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.datasets.class_folders import class_folders, has_classes
from fergen_bench.datasets.files import at, entries, folders, images
from fergen_bench.datasets.gathering import expression_of
from fergen_bench.datasets.numbering import CONTEMPT, LEFT_OUT, label_map
from fergen_bench.datasets.reader import Dataset, Face, Fault, Layout, Listing
from fergen_bench.datasets.splits import draw_test_split
from fergen_bench.datasets.text_files import text_of, whole_number
from fergen_bench.error import BenchError
from fergen_bench.wording import many

if TYPE_CHECKING:
    from fergen_bench.datasets.settings import DomainSettings

NATIVE: Mapping[str, str] = {
    "0": "neutral",
    "1": "anger",
    "2": LEFT_OUT,  # contempt
    "3": "disgust",
    "4": "fear",
    "5": "happiness",
    "6": "sadness",
    "7": "surprise",
}
FRAMES, LABELS = "cohn-kanade-images", "Emotion"
SUBJECT = re.compile(r"(S\d{3})_", re.IGNORECASE)


def _below(base: Path, *places: str) -> Path | None:
    return next((place for place in (at(base, name) for name in places) if place.is_dir()), None)


def _frames(base: Path) -> Path | None:
    return _below(base, FRAMES, f"extended-{FRAMES}/{FRAMES}")


def _read_official(base: Path, settings: DomainSettings) -> Listing:
    """Read the last frame of every labelled sequence, and a neutral face of every subject.

    The neutral face is the first frame of the subject's first labelled sequence. A subject has one neutral face,
    because its sequences begin with the same face.
    """
    pictures, emotions = _frames(base), _below(base, LABELS, f"Emotion_labels/{LABELS}")
    if pictures is None or emotions is None:
        raise BenchError(f"{base}: expected {FRAMES}/ and {LABELS}/ (the labels) here. Unpack both archives of CK+")
    listing, with_neutral = Listing(), set[str]()
    for subject, sequence in _sequences(pictures, base):
        try:
            label = _label(at(emotions, f"{subject}/{sequence.name}"), base)
        except BenchError as error:
            listing.faults.append(Fault("unreadable", str(emotions / subject / sequence.name), str(error)))
            continue
        if label is None:
            listing.dropped["sequence without a label"] += 1
            continue
        native, place = label
        frames = images(sequence, base, listing.passed_over)
        if not frames:
            listing.faults.append(Fault("missing", place, f"labels a sequence without frames, {sequence}"))
            continue
        expression = expression_of(native, label_map(NATIVE, settings), place)
        if expression == LEFT_OUT:
            listing.dropped[CONTEMPT if NATIVE[native] == LEFT_OUT else native] += 1
        else:
            listing.faces.append(_face(frames[-1], base, expression, native, subject))
        if subject not in with_neutral and len(frames) > 1:
            with_neutral.add(subject)
            listing.faces.append(_face(frames[0], base, "neutral", "first frame", subject))
    labelled = [(subject, sequence) for subject, sequence in _sequences(emotions, base)]
    for subject, sequence in labelled:
        frames_of = at(pictures, f"{subject}/{sequence.name}")
        if not frames_of.is_dir() and entries(sequence, base, "_emotion.txt"):
            listing.faults.append(Fault("missing", str(frames_of), "is labelled, but missing"))
    listing.require_faces(emotions)
    draw_test_split(listing, settings)
    return listing


def _face(frame: Path, base: Path, expression: str, native: str, subject: str) -> Face:
    return Face(frame.relative_to(base).as_posix(), "train", expression, native, frame, subject=subject)


def _sequences(folder: Path, root: Path) -> Iterator[tuple[str, Path]]:
    """Yield (subject, folder of a sequence) of S005/001 and the like."""
    for subject in folders(folder, root):
        for sequence in folders(subject, root):
            yield subject.name, sequence


def _label(folder: Path, root: Path) -> tuple[str, str] | None:
    """Return (native label, file) of a sequence, or None without a label.

    The label is in a file of one number such as 3.0000000e+00.
    """
    found = entries(folder, root, "_emotion.txt")
    if not found:
        return None
    if len(found) > 1:
        raise BenchError(
            f"{folder}: this folder has {len(found)} labels of one sequence; expected one file *_emotion.txt"
        )
    path = found[0].path
    return str(whole_number(text_of(Path(path)).strip(), 0, 7, path, "the expression")), path


def _read_folders(base: Path, settings: DomainSettings) -> Listing:
    """Read the pack from Kaggle: crops of 48×48 in class folders, without neutral faces.

    File names begin with the subject.
    """
    listing, unknown = Listing(notes=["This pack lacks neutral faces chosen by its owner."]), 0
    for face in class_folders(base, base, "train", label_map({}, settings), listing):
        match = SUBJECT.match(face.id.rpartition("/")[2])
        unknown += match is None
        listing.faces.append(replace(face, subject=match[1].upper() if match else None))
    if unknown:
        listing.notes.append(
            f"{many(unknown, 'name', 'do')} not begin with a subject (S005_): one subject may be in two splits."
        )
    draw_test_split(listing, settings)
    return listing


DATASET = Dataset(
    name="ckplus",
    title="CK+",
    layouts=(
        Layout(
            "ckplus-official",
            f"{FRAMES}/S005/001/*.png, {LABELS}/S005/001/*_emotion.txt",
            lambda path: _frames(path) is not None,
            _read_official,
            official=False,
            parts=(FRAMES, LABELS),
        ),
        Layout(
            "ckplus48-kaggle",
            "{anger,contempt,disgust,fear,happy,sadness,surprise}/*.png",
            lambda path: has_classes(path, path),
            _read_folders,
            official=False,
        ),
    ),
    request="From its owners at the University of Pittsburgh, with a signed agreement; for research only.",
)
