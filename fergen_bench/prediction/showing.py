"""Answer files, and write what shows the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fergen_bench.prediction.drawing import Film, annotated, save_picture, save_timeline
from fergen_bench.prediction.media import is_video

if TYPE_CHECKING:
    from fergen_bench.prediction.answer import Answer
    from fergen_bench.prediction.predictor import Predictor


@dataclass(frozen=True)
class Answered:
    """The answers for one file, and the files that show them."""

    answers: Sequence[Answer]
    shown: Sequence[Path] = ()


def answered(
    predictor: Predictor, file: Path, per_second: float, at_least: float, place: Path | None = None
) -> Answered:
    """Answer a photograph or a video, and show the answers.

    Args:
        predictor: Answers the file; it receives the remarks.
        file: The file.
        per_second: Most pictures of each second of a video.
        at_least: The lowest probability of an expression that is not shown as uncertain.
        place: Path without an ending of the files that show the answers: a picture with boxes; or a video with boxes
            and the expressions over time. None to write nothing.
    """
    if is_video(file):
        return _video(predictor, file, per_second, at_least, place)
    image, answers = predictor.photograph(file)
    if image is None or place is None:
        return Answered(answers)
    target = place.with_name(f"{place.name}.jpg")
    save_picture(annotated(image, answers, at_least), target)
    return Answered(answers, [target])


def _video(predictor: Predictor, file: Path, per_second: float, at_least: float, place: Path | None) -> Answered:
    answers: list[Answer] = []
    if place is None:
        for _, found in predictor.video(file, per_second):
            answers += found
        return Answered(answers)
    target, timeline = place.with_name(f"{place.name}.mp4"), place.with_name(f"{place.name}-time.png")
    with Film(target, per_second) as film:
        for image, found in predictor.video(file, per_second):
            answers += found
            film.add(annotated(image, found, at_least))
    if answers:
        save_timeline(answers, timeline)
    return Answered(answers, [path for path, there in ((target, film.pictures), (timeline, answers)) if there])


def places(folder: Path, files: Sequence[Path]) -> list[Path]:
    """Return the path without an ending of what shows each file: its own name, and a number where names repeat."""
    taken: set[str] = set()
    found = []
    for file in files:
        name, number = file.stem, 1
        while name.casefold() in taken:
            number += 1
            name = f"{file.stem}-{number}"
        taken.add(name.casefold())
        found.append(folder / name)
    return found
